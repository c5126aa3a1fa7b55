# SPDX-License-Identifier: Apache-2.0
"""Who takes part in a run: the processes, and what their lines mean for its outcome and its picture.

The home agent and the mobile node are the real commands; nothing here knows more of them than they tell anyone.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address
from typing import Any

from ha_fastpath.lab.children import Child, LabError, decode
from ha_fastpath.lab.outcome import SMALLEST_TRANSFER, Handover, Wire, tally
from ha_fastpath.lab.picture import Binding, Picture, move, named
from ha_fastpath.lab.scenario import BINDING_ACKNOWLEDGEMENT_SPI, BINDING_UPDATE_SPI, Files
from ha_fastpath.lab.topology import (
    CORRESPONDENT,
    FABRIC,
    HOME,
    HOME_ADDRESS,
    HOME_AGENT,
    HOME_AGENT_ADDRESS,
    LINKS,
    MOBILE_NODE,
    PORT_OF_HOME_AGENT,
    Lab,
)
from ha_fastpath.management import ManagementError, ask

TCP_PORT = 5001
# The smallest transfer takes about as long as the run; if some is missing at the end, it goes at once.
TCP_OCTETS_PER_S = 760_000
COUNTERS_INTERVAL_S = 0.25
STOP_TIMEOUT_S = 3.0
UNIT_S = 4

Tell = Callable[[str, str], None]


def ha_fastpath(*arguments: str) -> list[str]:
    """The project's own command, by the interpreter that runs us."""
    return [sys.executable, "-m", "ha_fastpath", *arguments]


class Cast:
    """Every process of one run."""

    def __init__(self, lab: Lab, files: Files, picture: Picture, tell: Tell) -> None:
        self._lab = lab
        self._files = files
        self._picture = picture
        self._tell = tell
        self._children: dict[str, Child] = {}
        self._readers: dict[str, asyncio.Task[int]] = {}
        self._changed = asyncio.Event()
        self._failure: str | None = None
        self.home_agent_ready = False
        self.receiver_ready = False
        self.sender_connected = False
        self.mobile_node_at_home = False
        self.wire_watched = False

    # ---- entrances ----

    def start_router(self) -> None:
        self._start("radvd", self._lab.radvd(), lambda _line: None)

    def start_wire_watch(self) -> None:
        command = [*_module("wire_watch"), PORT_OF_HOME_AGENT, str(HOME_AGENT_ADDRESS)]
        self._start("the capture", self._lab.entering(FABRIC, command), self._hear_wire)

    def start_home_agent(self) -> None:
        command = ha_fastpath("run", "-c", str(self._files.home_agent))
        self._start("the home agent", self._lab.entering(HOME_AGENT, command), self._hear_home_agent)

    def start_mobile_node(self) -> None:
        command = ha_fastpath("mobile-node", "-c", str(self._files.mobile_node), "--json")
        self._start("the mobile node", self._lab.entering(MOBILE_NODE, command), self.hear_mobile_node)

    def start_receiver(self) -> None:
        command = [*_module("end_host"), "receive", str(HOME_ADDRESS), str(TCP_PORT)]
        self._start("the TCP receiver", self._lab.entering(MOBILE_NODE, command), self._hear_receiver)

    def start_sender(self) -> None:
        what = [str(HOME_ADDRESS), str(TCP_PORT), str(TCP_OCTETS_PER_S), str(SMALLEST_TRANSFER)]
        command = [*_module("end_host"), "send", *what]
        self._start("the TCP sender", self._lab.entering(CORRESPONDENT, command), self._hear_sender)

    def start_pings(self) -> None:
        command = [*_module("end_host"), "ping", str(HOME_ADDRESS)]
        self._start("the pings", self._lab.entering(CORRESPONDENT, command), self._hear_pings)

    # ---- exits ----

    async def finish(self, *names: str, timeout_s: float) -> None:
        """Have our own end hosts come to an end and say the last they have to say."""
        for name in names:
            self._children[name].finish()
        await self._await_end(names, timeout_s)

    async def finish_traffic(self) -> None:
        """The sender first: its last octets are the receiver's end, and pings are to last longer than both."""
        self._children["the TCP receiver"].stopping = True
        await self.finish("the TCP sender", timeout_s=15.0)
        await self._await_end(("the TCP receiver",), 5.0)
        await self.finish("the pings", timeout_s=5.0)

    async def stop(self) -> None:
        """End everybody in order; whoever does not is left to the keeper."""
        for child in self._children.values():
            child.terminate()
        if self._readers:
            await asyncio.wait(self._readers.values(), timeout=STOP_TIMEOUT_S)
        for reader in self._readers.values():
            reader.cancel()

    async def _await_end(self, names: Sequence[str], timeout_s: float) -> None:
        tasks = {name: self._readers[name] for name in names}
        await asyncio.wait(tasks.values(), timeout=timeout_s)
        late = [name for name, task in tasks.items() if not task.done()]
        if late:
            raise LabError(f"{' and '.join(late)} did not come to an end within {timeout_s:.0f} s")

    # ---- waiting ----

    async def until(self, condition: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        """Return when the condition holds; LabError with `otherwise` after the time, or if somebody fails."""
        deadline = time.monotonic() + timeout_s
        while True:
            if self._failure is not None:
                raise LabError(self._failure)
            if condition():
                return
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise LabError(otherwise)
            self._changed.clear()
            # Not wait_for: in Python 3.11 it swallows a cancellation, Ctrl-C for one, that meets a line.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, 0.25)):
                    await self._changed.wait()

    def heard(self) -> None:
        """Something was said: who waits looks again."""
        self._changed.set()

    async def stay(self, duration_s: float) -> None:
        """Let time pass; LabError if somebody fails meanwhile."""
        end = time.monotonic() + duration_s
        await self.until(lambda: time.monotonic() >= end, duration_s + 1.0, "the clock stands still")

    # ---- the home agent's own account ----

    async def read_counters(self) -> None:
        """Bring the picture's counters up to date from the management socket, again and again."""
        while True:
            try:
                async for counters in ask(self._files.management_socket, "counters"):
                    self.take_counters(counters)
            except ManagementError as error:
                self._fail(f"the home agent does not answer on its management socket: {error}")
                return
            await asyncio.sleep(COUNTERS_INTERVAL_S)

    def take_counters(self, counters: dict[str, Any]) -> None:
        """Take in what `ha-fastpath show counters --json` shows."""
        picture, outcome, now_ns = self._picture, self._picture.outcome, time.monotonic_ns()
        packets = {reason: count["packets"] for reason, count in counters["data_path"].items()}
        outcome.tunnelled = packets["forward_tunnelled"]
        outcome.reverse_tunnelled = packets["forward_reverse_tunnelled"]
        outcome.tunnelled_by_kernel = packets["pass_tunnelled_no_neighbor"]
        outcome.reverse_tunnelled_by_kernel = packets["pass_reverse_tunnelled"]
        outcome.solicitations_answered = packets["forward_solicitation_answered"]
        picture.tunnelled.add(outcome.tunnelled, now_ns)
        picture.reverse_tunnelled.add(outcome.reverse_tunnelled, now_ns)
        picture.solicitations_answered = outcome.solicitations_answered

    # ---- what they say ----

    def _hear_home_agent(self, line: str) -> None:
        if line.startswith("ready"):
            self.home_agent_ready = True
            self._tell(f"the home agent is {line}", "")

    def _hear_wire(self, line: str) -> None:
        message = decode(line)
        esp = message["esp"]
        updates, acknowledgements = tally(esp, BINDING_UPDATE_SPI), tally(esp, BINDING_ACKNOWLEDGEMENT_SPI)
        self._picture.outcome.wire = Wire(
            tunnelled=message["tunnelled"],
            reverse_tunnelled=message["reverse_tunnelled"],
            binding_updates=updates,
            binding_acknowledgements=acknowledgements,
            other_esp=sum(esp.values()) - updates - acknowledgements,
            clear_mobility_headers=message["clear_mobility_headers"],
            not_seen=message["not_seen"],
        )
        self.wire_watched = True

    def _hear_receiver(self, line: str) -> None:
        message, transfer = decode(line), self._picture.outcome.transfer
        self.receiver_ready = self.receiver_ready or "listening" in message
        transfer.received_octets = message.get("octets", transfer.received_octets)
        transfer.received_sha256 = message.get("sha256")

    def _hear_sender(self, line: str) -> None:
        message, transfer = decode(line), self._picture.outcome.transfer
        self.sender_connected = self.sender_connected or "connected" in message
        transfer.sent_octets = message.get("octets", transfer.sent_octets)
        transfer.sent_sha256 = message.get("sha256")

    def _hear_pings(self, line: str) -> None:
        message = decode(line)
        self._picture.outcome.pings.add(message["sent"], message["received"])

    def hear_mobile_node(self, line: str) -> None:
        message = decode(line)
        match message["event"]:
            case "home":
                self.mobile_node_at_home = True
            case "link_lost":
                self._tell("the mobile node notices that its link is gone", "dim")
            case "router_found":
                place = "home" if message["is_home"] else message["prefix"]
                self._tell(f"the mobile node hears a router: {place}", "dim")
            case "binding_update_sent":
                self._picture.outcome.binding_updates_sent += 1
                self._tell(f"Binding Update {message['sequence']} for {_lifetime(message)} leaves, under ESP", "dim")
            case "binding_acknowledged":
                self._acknowledged(message)
            case "binding_lost":
                self._picture.binding = None
                self._tell("the binding has run out", "red")
            case "care_of_address_conflict":
                self._tell(f"another node has the care-of address {message['address']}", "red")

    def _acknowledged(self, message: dict[str, Any]) -> None:
        picture, outcome = self._picture, self._picture.outcome
        at_ns = message["time_ns"]
        status, care_of_address = message["status"], message["care_of_address"]
        if status != 0:
            outcome.refused.append(f"Binding Update {message['sequence']} was answered with status {status}")
            self._tell(f"the home agent refuses: status {status}", "red")
            return
        outcome.acknowledged += 1
        was_bound = picture.binding is not None
        picture.binding = Binding(care_of_address, at_ns, _lifetime_s(message)) if care_of_address else None
        handover = self._awaited(care_of_address)
        if handover is None:
            self._tell(f"refreshed: the binding is good for {_lifetime(message)} again", "bold cyan")
            return
        handover.acknowledged_ns = at_ns
        if care_of_address:
            outcome.away.append((at_ns, at_ns))
        word = "registered" if not was_bound else "moved" if care_of_address else "de-registered"
        self._tell(f"{word}: {move(handover)} in {handover.interruption_ms:.0f} ms", "bold green")

    def _awaited(self, care_of_address: str | None) -> Handover | None:
        """The handover that an acknowledgement ends, if it ends one."""
        handovers = self._picture.outcome.handovers
        if not handovers or handovers[-1].acknowledged_ns is not None:
            return None
        place = HOME if care_of_address is None else _link_of(care_of_address)
        return handovers[-1] if place == handovers[-1].destination else None

    # ---- processes ----

    def _start(self, name: str, command: Sequence[str], hear: Callable[[str], None]) -> None:
        log = self._lab.directory / f"{name.removeprefix('the ').replace(' ', '-').lower()}.log"
        child = Child(name, self._lab.prefix, command, log)
        self._children[name] = child
        self._readers[name] = asyncio.get_running_loop().create_task(self._follow(child, hear))

    async def _follow(self, child: Child, hear: Callable[[str], None]) -> int:
        def receive(line: str) -> None:
            try:
                hear(line)
            except LabError as error:
                self._fail(f"{child.name}: {error}")
            self.heard()

        status = await child.read_lines(receive)
        if not child.stopping or status > 0:
            self._fail(child.complaint(status))
        return status

    def _fail(self, sentence: str) -> None:
        self._failure = self._failure or sentence
        self.heard()


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", f"ha_fastpath.lab.{name}"]


def _lifetime_s(message: dict[str, Any]) -> int:
    return int(message["lifetime_units"]) * UNIT_S


def _lifetime(message: dict[str, Any]) -> str:
    seconds = _lifetime_s(message)
    return f"{seconds} s" if seconds else "no time (de-registration)"


def _link_of(care_of_address: str) -> str | None:
    """The link whose prefix an address has."""
    address = IPv6Address(care_of_address)
    return next((link for link, prefix in LINKS.items() if address in prefix), None)


def arrived(place: str) -> str:
    """A sentence on where the mobile node's port has been put."""
    return f"the mobile node's cable is moved to {named(place)}"
