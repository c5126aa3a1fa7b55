# SPDX-License-Identifier: Apache-2.0
"""The mobile node as a process: one interface that moves, and what control.mobile_node decides about it.

XDP hands frames to a TAP, netlink tells of the carrier; effects become addresses, routes, map entries and packets.
Unlike the home agent's, this data path ends with the process: at its end the interface is as it was. Events go to
stdout, one line each, for people or as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import signal
import sys
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network
from typing import Final, Protocol

from control.binding.cache import BindingCacheEntry
from control.binding.effects import ReserveSequenceNumbers, SendFrame, SendPacket
from control.ipsec.association import Role, SecurityAssociationDatabase
from control.mobile_node import (
    AttachHome,
    ConfigureCareOfAddress,
    MobileNode,
    MobileNodeConfiguration,
    MobileNodeEffect,
    MobileNodeEvent,
    RecordBindingUpdate,
    ReleaseCareOfAddress,
    SetTunnel,
)
from control.wire.mobility_options import LIFETIME_UNIT_S
from ha_fastpath import keys
from ha_fastpath.config import MobileNodeSettings
from ha_fastpath.dataplane import abi, preflight, tc
from ha_fastpath.dataplane.loader import BpfObject, LoaderError, object_path
from ha_fastpath.dataplane.pins import PinDirectory
from ha_fastpath.net import netlink
from ha_fastpath.net.host import Host, HostMonitor
from ha_fastpath.net.raw import FrameSocket, RawIPv6Socket, RawSocketError
from ha_fastpath.net.tap import Tap, TapError
from ha_fastpath.service import AgentLoop, WatchedAssociations, draw, monotonic_ns
from ha_fastpath.state import State, StateError, Stored

OBJECT: Final = "ha_host"
INGRESS: Final = "ha_host_ingress"
EGRESS: Final = "ha_host_egress"

GOOD: Final = 0
MISUSED: Final = 2

_NS: Final = 1_000_000_000
_UNSPECIFIED: Final = IPv6Address("::")
_LOG: Final = logging.getLogger("ha_fastpath.mobile_node")
_REFUSALS: Final = (LoaderError, TapError, RawSocketError, StateError, netlink.InterfaceMissingError)


def run(settings: MobileNodeSettings, *, verbose: bool = False, json_events: bool = False) -> int:
    """Be the mobile node until SIGTERM or SIGINT; the exit status. Raises ConfigurationError for the keys."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.DEBUG if verbose else logging.INFO, format="%(levelname)s %(message)s"
    )
    logging.getLogger("asyncio").setLevel(logging.INFO)
    problems = preflight.problems(settings.pin_directory)
    if not problems:
        associations = keys.load(settings.keys_file, Role.MOBILE_NODE, settings.spi_range)
        try:
            return asyncio.run(_serve(settings, associations, json_events))
        except _REFUSALS as error:
            problems = [str(error)]
        except OSError as error:
            problems = [f"{settings.interface} cannot be set up for moving ({error.strerror}): see `ip link`"]
    for problem in problems:
        print(f"ha-fastpath: {problem}", file=sys.stderr)
    return MISUSED


class HomeAddressHost(Protocol):
    """ha_fastpath.net.host.Host, as far as effects need it."""

    def attach_abroad(
        self, care_of_address: IPv6Address, prefix_length: int, router: IPv6Address, router_mac: bytes | None
    ) -> None: ...
    def attach_home(self, router: IPv6Address | None, router_mac: bytes | None) -> None: ...
    def release(self, care_of_address: IPv6Address) -> None: ...


class Tunnel(Protocol):
    """The data path's end of the tunnel."""

    def set(self, care_of_address: IPv6Address | None) -> None: ...
    def release(self, care_of_address: IPv6Address) -> None: ...


class Record(Protocol):
    """What must outlive the process."""

    def record_binding(self, entry: BindingCacheEntry, now: int) -> None: ...
    def record_removal(self, home_address: IPv6Address, sequence: int) -> None: ...
    def record_window(self, spi: int, window: tuple[int, int]) -> None: ...
    def reserve_now(self, reserved: dict[int, int]) -> None: ...


class Sender(Protocol):
    def send(self, octets: bytes, /) -> bool: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Means:
    """By what effects are performed."""

    host: HomeAddressHost
    tunnel: Tunnel
    record: Record
    packets: Sender
    frames: Sender
    tell: Callable[[str, dict[str, object]], None]


class MobileNodeService:
    """Performs a mobile node's effects and tells its events."""

    def __init__(
        self,
        agent: MobileNode,
        settings: MobileNodeSettings,
        watched: WatchedAssociations,
        means: Means,
        *,
        now_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._agent = agent
        self._settings = settings
        self._watched = watched
        self._means = means
        self._now_ns = now_ns
        self.agent_loop: AgentLoop[MobileNodeEffect, MobileNodeEvent] = AgentLoop(
            agent, self._perform, self._observe, self._record_windows, now_ns=now_ns
        )

    def start(self) -> None:
        """Look for a router."""
        self._agent.start(self._now_ns())
        self.agent_loop.settle()

    def carrier_changed(self, is_there: bool) -> None:
        """The interface has a carrier, or has none; telling it again changes nothing."""
        tell = self._agent.link_found if is_there else self._agent.link_lost
        tell(self._settings.interface, self._now_ns())
        self.agent_loop.settle()

    def address_conflict(self, address: IPv6Address) -> None:
        """Another node on the link has an address of ours."""
        self._agent.care_of_address_conflict(address, self._now_ns())
        self.agent_loop.settle()

    def _perform(self, effect: MobileNodeEffect) -> None:
        means = self._means
        match effect:
            case SendPacket():
                means.packets.send(effect.packet)
            case SendFrame():
                means.frames.send(effect.frame)
            case ReserveSequenceNumbers():
                # Once in 4,096 Binding Updates; nobody else is served meanwhile.
                means.record.reserve_now({effect.spi: effect.through})
            case RecordBindingUpdate():
                self._record(effect)
            case SetTunnel(care_of_address):
                means.tunnel.set(care_of_address)
            case ConfigureCareOfAddress() | AttachHome() | ReleaseCareOfAddress():
                self._configure(effect)

    def _configure(self, effect: ConfigureCareOfAddress | AttachHome | ReleaseCareOfAddress) -> None:
        host = self._means.host
        try:
            match effect:
                case ConfigureCareOfAddress():
                    host.attach_abroad(effect.address, effect.prefix_length, effect.router, effect.router_mac)
                case AttachHome():
                    host.attach_home(effect.router, effect.router_mac)
                case ReleaseCareOfAddress(address):
                    self._means.tunnel.release(address)
                    host.release(address)
        except OSError as error:
            # The interface may be going this moment; the next Router Advertisement brings the next attempt.
            _LOG.warning("%s could not be set up: %s", self._settings.interface, error.strerror)

    def _record(self, effect: RecordBindingUpdate) -> None:
        if effect.bound_for_s == 0:
            self._means.record.record_removal(effect.home_address, effect.sequence)
            return
        now = self._now_ns()
        entry = BindingCacheEntry(
            home_address=effect.home_address,
            care_of_address=effect.care_of_address,
            home_agent_address=self._settings.home_agent_address,
            home_link=0,
            sequence=effect.sequence,
            lifetime_units=-(-effect.bound_for_s // LIFETIME_UNIT_S),
            registered_ns=now,
            expires_ns=now + effect.bound_for_s * _NS,
            link_local_compatible=False,
            key_management_mobility=False,
        )
        self._means.record.record_binding(entry, now)

    def _record_windows(self) -> None:
        for association in self._watched.take_moved():
            self._means.record.record_window(association.spi, association.window.state)

    def _observe(self, event: MobileNodeEvent) -> None:
        told: dict[str, object] = {"time_ns": self._now_ns(), "event": event_name(event)}
        for field in dataclasses.fields(event):
            value = getattr(event, field.name)
            told[field.name] = str(value) if isinstance(value, IPv6Address | IPv6Network) else value
        if "lifetime_units" in told:
            told["lifetime_s"] = event.lifetime_units * LIFETIME_UNIT_S  # type: ignore[union-attr]
        self._means.tell(event_name(event), told)


class MappedTunnel:
    """The maps of ha_host.bpf.o."""

    def __init__(self, loaded: BpfObject, settings: MobileNodeSettings) -> None:
        # Imported here: they bring bcc, which the preflight says more kindly is missing.
        from ha_fastpath.dataplane.maps import CareOfAddresses, MobileNodeMap

        self._settings = settings
        self._mobile_node = MobileNodeMap(loaded.map_fd("mobile_node"))
        self._care_of_addresses = CareOfAddresses(loaded.map_fd("care_of_addresses"))

    def reset(self) -> list[IPv6Address]:
        """Begin without a tunnel; the care-of addresses that a process before has left."""
        left = self._care_of_addresses.addresses()
        self._care_of_addresses.clear()
        self._mobile_node.clear()
        self.set(None)
        return left

    def set(self, care_of_address: IPv6Address | None) -> None:
        """Tunnel from a care-of address, and take what is tunnelled to it; None: no tunnel."""
        settings = self._settings
        if care_of_address is not None:
            self._care_of_addresses.add(care_of_address, settings.home_address)
        self._mobile_node.put(
            settings.home_address,
            care_of_address or _UNSPECIFIED,
            settings.home_agent_address,
            settings.spi_range,
            abi.MobileNodeFlag(0) if care_of_address is None else abi.MobileNodeFlag.TUNNEL,
        )

    def release(self, care_of_address: IPv6Address) -> None:
        """Take nothing more at a care-of address."""
        self._care_of_addresses.remove(care_of_address)


def event_name(event: MobileNodeEvent) -> str:
    """`BindingUpdateSent` is told as `binding_update_sent`."""
    name = type(event).__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def print_json(_name: str, told: dict[str, object]) -> None:
    """One JSON document a line."""
    print(json.dumps(told), flush=True)


def print_text(name: str, told: dict[str, object]) -> None:
    """One line for a person."""
    details = ", ".join(f"{key} {value}" for key, value in told.items() if key not in ("time_ns", "event"))
    print(f"{name.replace('_', ' ')}: {details}" if details else name.replace("_", " "), flush=True)


def resume_associations(associations: SecurityAssociationDatabase, state: State, stored: Stored) -> None:
    """Take up the ESP counters, and reserve ahead, so that no Binding Update waits for the disk."""
    for association in associations:
        if association.purpose is associations.role.inbound_purpose:
            window = stored.windows.get(association.spi)
            if window is not None:
                association.resume_receiving(*window)
            continue
        association.resume_sending(stored.reserved_through.get(association.spi, 0))
        through = association.reservation_due()
        if through is not None:
            state.reserve_now({association.spi: through})
            association.reserve(through)


def restore(agent: MobileNode, stored: Stored, home_address: IPv6Address) -> None:
    """Tell the agent what was registered before."""
    entry = stored.bindings.get(home_address)
    if entry is not None:
        agent.restore(entry.sequence, entry.expires_ns)
    else:
        agent.restore(stored.sequences.get(home_address, 0), 0)


async def _serve(settings: MobileNodeSettings, associations: SecurityAssociationDatabase, json_events: bool) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def tell(name: str, told: dict[str, object]) -> None:
        try:
            (print_json if json_events else print_text)(name, told)
        except BrokenPipeError:
            # Whoever started us has gone.
            stop.set()

    with contextlib.ExitStack() as opened:
        _start(settings, associations, opened, tell)
        await stop.wait()
    return GOOD


def _start(
    settings: MobileNodeSettings,
    associations: SecurityAssociationDatabase,
    opened: contextlib.ExitStack,
    tell: Callable[[str, dict[str, object]], None],
) -> None:
    """Open everything, each to be closed by `opened`, and begin."""
    from ha_fastpath.dataplane.maps import Taps

    link = netlink.find_link(settings.interface)
    pins = opened.enter_context(PinDirectory.claim(settings.pin_directory))
    opened.callback(pins.detach)
    state = opened.enter_context(State(settings.state_file))
    stored = state.load(monotonic_ns())
    for note in state.notes:
        _LOG.warning("%s", note)
    resume_associations(associations, state, stored)

    loaded = opened.enter_context(BpfObject.load(object_path(OBJECT), pin_directory=settings.pin_directory))
    tunnel = MappedTunnel(loaded, settings)
    left = tunnel.reset()
    host = Host(link, settings.home_address, settings.home_prefix)
    opened.callback(host.close)
    host.open(left)
    packets = RawIPv6Socket()
    opened.callback(packets.close)
    frames = FrameSocket(settings.interface)
    opened.callback(frames.close)
    tap = Tap(settings.interface)
    opened.callback(tap.close)
    Taps(loaded.map_fd("taps")).put(link.index, tap.index)

    watched = WatchedAssociations(associations)
    agent = MobileNode(
        MobileNodeConfiguration(
            home_address=settings.home_address,
            home_agent_address=settings.home_agent_address,
            home_prefix=settings.home_prefix,
            interface=settings.interface,
            mac=link.mac,
            lifetime_s=settings.lifetime_s,
        ),
        watched,
        draw,
    )
    restore(agent, stored, settings.home_address)
    service = MobileNodeService(agent, settings, watched, Means(host, tunnel, state, packets, frames, tell))
    opened.callback(service.agent_loop.close)
    monitor = HostMonitor(link.index, service.carrier_changed, service.address_conflict)
    opened.callback(monitor.close)

    opened.callback(tc.detach_egress, link.index)
    tc.attach_egress(loaded.program_fd(EGRESS), link.index)
    attachment = pins.attach_xdp(loaded.program_fd(INGRESS), settings.interface, link.index)
    service.agent_loop.add_source(tap)
    opened.callback(service.agent_loop.remove_source, tap)
    tell("ready", {"time_ns": monotonic_ns(), "event": "ready", "mode": attachment.mode.name.lower()})
    monitor.start(asyncio.get_running_loop())
    service.start()
