# SPDX-License-Identifier: Apache-2.0
"""The demonstration: a mobile node leaves home, moves, and returns, under traffic; judged at the end.

The order of events is here; the network is `topology`'s, the processes `cast`'s, the judgement `outcome`'s, and the
removal `keeper`'s. What is shown happens in network namespaces alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from rich.text import Text

from ha_fastpath.dataplane import preflight
from ha_fastpath.dataplane.loader import LoaderError, object_path
from ha_fastpath.lab.cast import Cast, arrived, ha_fastpath
from ha_fastpath.lab.children import LabError, decode
from ha_fastpath.lab.keeper import Keeper
from ha_fastpath.lab.outcome import LONGEST_HANDOVER_MS, REGISTRATIONS, Handover
from ha_fastpath.lab.picture import Picture, named
from ha_fastpath.lab.scenario import DAD_RETRANSMIT_TIMER_MS, LIFETIME_S, Files, write_files
from ha_fastpath.lab.timeline import Timeline, summary, timeline
from ha_fastpath.lab.topology import (
    CORRESPONDENT,
    FABRIC,
    FOREIGN_1,
    FOREIGN_2,
    HOME,
    HOME_ADDRESS,
    HOME_AGENT,
    LINK_GAP_S,
    MOBILE_NODE,
    PORT_OF_MOBILE_NODE,
    Lab,
    run_directory,
)
from ha_fastpath.lab.topology import run as run_command

GOOD = 0
FAILED = 1
MISUSED = 2
INTERRUPTED = 130

TOOLS = ("ethtool", "ip", "mount", "nsenter", "radvd", "sysctl", "umount")
OBJECTS = ("ha_xdp", "ha_host", "xdp_pass")
CAP_SYS_ADMIN = 21

READY_TIMEOUT_S = 15.0
ACKNOWLEDGEMENT_TIMEOUT_S = 8.0
STAY_AT_HOME_S = 3.5
STAY_ABROAD_S = 5.0
AFTER_REFRESH_S = 2.5
REFRESH_INTERVAL_S = 0.1


def run(*, hold: bool, json_output: Path | None) -> int:
    """Make the network, watch the run, judge it, remove everything; the exit status."""
    problems = machine_problems()
    if problems:
        for problem in problems:
            print(f"ha-fastpath: {problem}", file=sys.stderr)
        return MISUSED
    return asyncio.run(_interruptible(hold, json_output))


def machine_problems() -> list[str]:
    """What this machine lacks, each with its remedy; nothing has been changed yet."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = [preflight.kernel_problem(os.uname().release), preflight.bcc_problem()]
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff"))
    if not effective >> CAP_SYS_ADMIN & 1:
        found.insert(0, "network namespaces and a bpffs of its own need root: run it as root, or with sudo")
    if "bpf" not in Path("/proc/filesystems").read_text(encoding="ascii").split():
        found.append("the kernel has no bpffs: boot one with CONFIG_BPF_SYSCALL, as Debian 12's is")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        found.append(f"{', '.join(missing)} not found: apt-get install ethtool iproute2 procps radvd util-linux")
    for name in OBJECTS:
        try:
            object_path(name)
        except LoaderError as error:
            found.append(str(error))
    return [problem for problem in found if problem is not None]


async def _interruptible(hold: bool, json_output: Path | None) -> int:
    """The run, which SIGTERM ends as Ctrl-C does: by cancellation, and so by way of every `finally`."""
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
        loop.add_signal_handler(signal.SIGHUP, task.cancel)
    lab = Lab()
    keeper = Keeper(lab.prefix)
    try:
        keeper.wait_ready()
        return await Demo(lab, hold, json_output).run()
    except LabError as error:
        print(f"ha-fastpath: {error}", file=sys.stderr)
        return FAILED
    except asyncio.CancelledError:
        print("ha-fastpath: interrupted; everything that was made is being removed", file=sys.stderr)
        return INTERRUPTED
    finally:
        left = keeper.remove()
        if left:
            print(f"ha-fastpath: not everything could be removed: {left}", file=sys.stderr)


class Demo:
    """One run."""

    def __init__(self, lab: Lab, hold: bool, json_output: Path | None) -> None:
        self._lab = lab
        self._hold = hold
        self._json_output = json_output
        self._picture = Picture(time.monotonic_ns())
        self._timeline: Timeline = timeline()
        self._is_over = False

    async def run(self) -> int:
        """All of it, but for the removal."""
        picture, outcome = self._picture, self._picture.outcome
        self._lab.make(object_path("xdp_pass"))
        files = write_files(self._lab.directory, self._lab.bpffs)
        cast = Cast(self._lab, files, picture, self._tell)
        self._timeline.start()
        drawing = asyncio.get_running_loop().create_task(self._draw())
        try:
            try:
                await self._play(cast, files)
            except LabError as error:
                outcome.troubles.append(_sentence(str(error)))
            finally:
                drawing.cancel()
                self._is_over = True
                self._refresh()
                self._timeline.stop()
            status = self._judge()
            if self._hold:
                # Ctrl-C is how this is meant to end.
                with contextlib.suppress(asyncio.CancelledError):
                    await self._hold_up(files)
            return status
        finally:
            await cast.stop()

    # ---- the play ----

    async def _play(self, cast: Cast, files: Files) -> None:
        picture, outcome = self._picture, self._picture.outcome
        self._say("the network is up; the home agent and the mobile node start")
        picture.stays.append((picture.began_ns, HOME))
        cast.start_router()
        cast.start_wire_watch()
        cast.start_home_agent()
        cast.start_mobile_node()
        cast.start_receiver()
        await cast.until(
            lambda: cast.home_agent_ready and cast.mobile_node_at_home and cast.receiver_ready and cast.wire_watched,
            READY_TIMEOUT_S,
            "the home agent, the mobile node and the end hosts were not all ready in time",
        )
        counting = asyncio.get_running_loop().create_task(cast.read_counters())
        try:
            cast.start_sender()
            cast.start_pings()
            await cast.until(lambda: cast.sender_connected, 5.0, "the TCP transfer did not begin")
            self._say("at home, with a ping each 10 ms and a TCP transfer")
            await cast.stay(STAY_AT_HOME_S)

            await self._move(cast, FOREIGN_1)
            await self._be_solicited_for(cast)
            await self._move(cast, FOREIGN_2)
            self._say(f"waiting for the refresh of the binding, of {LIFETIME_S} s")
            registrations = outcome.acknowledged
            await self._be_solicited_for(cast)
            await cast.until(
                lambda: outcome.acknowledged > registrations, LIFETIME_S + 2.0, "the binding was not refreshed in time"
            )
            await cast.stay(AFTER_REFRESH_S)
            await self._move(cast, HOME)
            await cast.stay(STAY_AT_HOME_S)

            self._say("the end hosts finish")
            await cast.finish_traffic()
        finally:
            counting.cancel()
        await cast.finish("the capture", timeout_s=5.0)
        command = self._lab.entering(HOME_AGENT, ha_fastpath("show", "counters", "--json", "-c", str(files.home_agent)))
        cast.take_counters(decode(run_command(command, self._lab.prefix)))
        self._say("done")

    async def _be_solicited_for(self, cast: Cast) -> None:
        await cast.stay(STAY_ABROAD_S / 2)
        self._lab.make_router_forget()
        self._say(f"the router has forgotten its neighbors, and asks who has {HOME_ADDRESS}")
        await cast.stay(STAY_ABROAD_S / 2)

    async def _move(self, cast: Cast, place: str) -> None:
        picture, outcome = self._picture, self._picture.outcome
        origin = picture.place or ""
        lost_ns = self._lab.take_link_away()
        if picture.binding is not None:
            began_ns, _ = outcome.away[-1]
            outcome.away[-1] = (began_ns, lost_ns)
        outcome.handovers.append(Handover(origin, place, lost_ns))
        picture.stays.append((lost_ns, None))
        self._say(f"the mobile node leaves {named(origin)}")
        await asyncio.sleep(LINK_GAP_S)
        self._lab.give_link(place)
        picture.stays.append((time.monotonic_ns(), place))
        self._say(arrived(place))
        await cast.until(
            lambda: outcome.handovers[-1].acknowledged_ns is not None,
            ACKNOWLEDGEMENT_TIMEOUT_S,
            f"no acknowledgement came within {ACKNOWLEDGEMENT_TIMEOUT_S:.0f} s of the move to {place}",
        )

    # ---- telling ----

    def _tell(self, sentence: str, style: str) -> None:
        # What is said while everybody goes is not part of the run: radvd's farewell, for one.
        if not self._is_over:
            self._timeline.tell(self._picture, time.monotonic_ns(), sentence, style)

    def _say(self, sentence: str) -> None:
        """Something that we do ourselves."""
        self._picture.said = sentence
        self._tell(sentence, "")

    def _refresh(self) -> None:
        self._timeline.refresh(self._picture, time.monotonic_ns())

    async def _draw(self) -> None:
        while True:
            self._refresh()
            await asyncio.sleep(REFRESH_INTERVAL_S)

    # ---- the end ----

    def _judge(self) -> int:
        outcome = self._picture.outcome
        self._timeline.show(summary(outcome))
        if self._json_output is not None:
            self._json_output.parent.mkdir(parents=True, exist_ok=True)
            self._json_output.write_text(json.dumps(outcome.record(), indent=2) + "\n", encoding="ascii")
            self._timeline.show(f"Written to {self._json_output}.")
        self._timeline.show(
            f"RetransTimer of the home link was {DAD_RETRANSMIT_TIMER_MS} ms here; with the default of 1000 ms a first"
            f" registration takes 0.8 s longer. The mobile node was without any link for {LINK_GAP_S * 1000:.0f} ms in"
            " each handover."
        )
        failures = outcome.failures()
        for failure in failures:
            self._timeline.show(Text(f"FAILED: {failure}", "bold red"))
        if not failures:
            passed = (
                f"PASSED: {REGISTRATIONS} registrations, nothing lost outside handovers of at most"
                f" {LONGEST_HANDOVER_MS} ms, the transfer whole, all by XDP."
            )
            self._timeline.show(Text(passed, "bold green"))
        return FAILED if failures else GOOD

    async def _hold_up(self, files: Files) -> None:
        self._timeline.show(how_to_look(self._lab, files, os.getpid()))
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        if sys.stdin.isatty():
            loop.add_reader(sys.stdin, ended.set)
        try:
            await ended.wait()
        finally:
            if sys.stdin.isatty():
                loop.remove_reader(sys.stdin)


def how_to_look(lab: Lab, files: Files, pid: int) -> str:
    """What to type to look into a network that is held up."""

    def inside(namespace: str, command: str) -> str:
        return f"  nsenter --net=/run/netns/{lab.namespace(namespace)} {command}"

    show = f"  {sys.executable} -m ha_fastpath show {{}} -c {files.home_agent}"
    port = f"ip -n {lab.namespace(FABRIC)} link set dev {PORT_OF_MOBILE_NODE}"
    return "\n".join(
        [
            "",
            "The network is held up. To look into it:",
            *(show.format(subject) for subject in ("bindings", "counters", "status")),
            inside(HOME_AGENT, "ip -details link show dev eth0"),
            inside(FABRIC, "tcpdump -ni home-agent 'ip6 and not icmp6'"),
            inside(CORRESPONDENT, f"{sys.executable} -m ha_fastpath.lab.end_host ping {HOME_ADDRESS}"),
            inside(MOBILE_NODE, "ip -6 address show dev eth0"),
            f"  ip netns list; bpftool map show; ls {lab.bpffs}/*; ls {run_directory(lab.prefix)}",
            "To move the mobile node, to home, foreign1 or foreign2:",
            f"  {port} down; sleep 0.03; {port} master br-{FOREIGN_1} up",
            f"To remove everything: Enter or Ctrl-C here, or from elsewhere: kill {pid}",
            "",
        ]
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
