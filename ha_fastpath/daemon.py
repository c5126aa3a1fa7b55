# SPDX-License-Identifier: Apache-2.0
"""The home agent as a process: it starts whole or not at all, serves, and leaves the data path behind when it stops.

Whatever is attached and pinned forwards on while this process is stopped, killed or replaced, by the bindings that it
has; at the next start the pinned map and the state file become one again (forwarding.py). Only `detach` ends that.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import grp
import logging
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import metadata
from types import TracebackType
from typing import TYPE_CHECKING, Final

from control.binding.cache import BindingCacheEntry
from control.binding.home_link import HomeLink
from control.home_agent import HomeAgent, HomeAgentConfiguration
from control.ipsec.association import Purpose, Role, SecurityAssociationDatabase
from ha_fastpath import footprint, keys
from ha_fastpath.config import Configuration
from ha_fastpath.dataplane import abi, preflight
from ha_fastpath.dataplane.loader import BpfObject, LoaderError, object_path
from ha_fastpath.dataplane.pins import PinDirectory
from ha_fastpath.forwarding import Forwarding
from ha_fastpath.interfaces import FrameSender, Interfaces, Maps, Means
from ha_fastpath.management import ManagementError, ManagementServer
from ha_fastpath.net import netlink, readiness
from ha_fastpath.net.network_state import Link
from ha_fastpath.net.raw import FrameSocket, RawIPv6Socket, RawSocketError
from ha_fastpath.net.tap import Tap, TapError
from ha_fastpath.network import NetworkFollower
from ha_fastpath.report import Fixed, Report
from ha_fastpath.service import HomeAgentService, WatchedAssociations, draw, monotonic_ns
from ha_fastpath.state import State, StateError, Stored

if TYPE_CHECKING:
    from ha_fastpath.dataplane.maps import HomeAgentAddresses, HomeLinkMap

OBJECT: Final = "ha_xdp"
PROGRAM: Final = "ha_xdp"

_PR_SET_DUMPABLE: Final = 4
_LOG: Final = logging.getLogger("ha_fastpath.daemon")
_REFUSALS: Final = (LoaderError, TapError, RawSocketError, StateError, ManagementError, netlink.InterfaceMissingError)


class StartError(Exception):
    """The daemon does not start; the text says why, and what to do."""


def run(configuration: Configuration, *, verbose: bool) -> int:
    """Be the home agent until SIGTERM or SIGINT. Raises ConfigurationError for the keys, and StartError."""
    # What is read at a start is kept: collecting would only walk over it, again and again.
    gc.disable()
    _keep_keys_out_of_cores()
    logging.basicConfig(
        stream=sys.stderr, level=logging.DEBUG if verbose else logging.INFO, format="%(levelname)s %(message)s"
    )
    # It tells of every selector that it makes.
    logging.getLogger("asyncio").setLevel(logging.INFO)
    problems = preflight.problems(configuration.pin_directory)
    if problems:
        raise StartError("\nha-fastpath: ".join(problems))
    associations = keys.load(
        configuration.keys_file,
        Role.HOME_AGENT,
        configuration.spi_range,
        [link.address for link in configuration.home_links],
    )
    associations.freeze()
    return asyncio.run(_serve(configuration, associations))


def check_machine(configuration: Configuration) -> list[str]:
    """What of this machine stands against a start; changes nothing."""
    problems = preflight.problems(configuration.pin_directory)
    present = {link.name for link in netlink.read_links()}
    problems += [str(netlink.InterfaceMissingError(name)) for name in configuration.interfaces if name not in present]
    group = configuration.management_group
    if group is not None and group not in {each.gr_name for each in grp.getgrall()}:
        problems.append(f"there is no group {group}: groupadd --system {group}, or leave management_group out")
    try:
        object_path(OBJECT)
    except LoaderError as error:
        problems.append(str(error))
    return problems


def detach(configuration: Configuration) -> str:
    """End forwarding; says what was done. Raises StartError."""
    directory = configuration.pin_directory
    if not directory.exists():
        return f"nothing is pinned at {directory}"
    try:
        with PinDirectory.claim(directory) as pins:
            interfaces = pins.attached_interfaces()
            left = pins.detach()
        home_interfaces = {link.interface for link in configuration.home_links}
        for link in netlink.read_links():
            if link.name in home_interfaces and link.name in interfaces:
                netlink.set_allmulti(link.index, on=False)
    except (LoaderError, OSError) as error:
        raise StartError(str(error)) from error
    said = f"the data path is off {', '.join(interfaces) or 'every interface'}"
    return f"{said}; in {directory} is left what is not ours: {', '.join(left)}" if left else said


def _keep_keys_out_of_cores() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


async def _serve(configuration: Configuration, associations: SecurityAssociationDatabase) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    # From now on a signal stops in order, also while the start is under way.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as opened:
        try:
            ready = await _start(configuration, associations, opened)
        except _REFUSALS as error:
            raise StartError(str(error)) from error
        except PermissionError as error:
            raise StartError(
                f"{error}: a right is missing; run it as root, or by deploy/ha-fastpath.service"
            ) from error
        gc.freeze()
        gc.enable()
        footprint.shrink()
        with contextlib.suppress(BrokenPipeError):
            print(f"ready: {ready}", flush=True)
        readiness.notify(f"READY=1\nSTATUS={ready}")
        await stop.wait()
        readiness.notify("STOPPING=1")
        _LOG.info("stopping: the data path stays attached, and bindings go on until they expire")
    return 0


async def _start(
    configuration: Configuration, associations: SecurityAssociationDatabase, opened: contextlib.AsyncExitStack
) -> str:
    """Open everything, each to be closed by `opened`, and what goes on the wire last; says what there is."""
    # Imported here: they bring bcc, which the preflight says more kindly is missing.
    from ha_fastpath.dataplane.adjacency import AdjacencyTable
    from ha_fastpath.dataplane.counters import home_agent_counters
    from ha_fastpath.dataplane.maps import HomeAgentMaps

    started_ns = monotonic_ns()
    links = {name: netlink.find_link(name) for name in configuration.interfaces}
    pins = opened.enter_context(PinDirectory.claim(configuration.pin_directory))
    undo = _Undo(pins)
    opened.push(undo)
    state = opened.enter_context(State(configuration.state_file))
    stored = state.load(monotonic_ns())
    resume_associations(associations, state, stored)

    loaded = opened.enter_context(
        BpfObject.load(
            object_path(OBJECT),
            configuration=abi.HaConfiguration(0, *configuration.spi_range, 0),
            max_entries={"bindings": configuration.maximum_bindings},
            pin_directory=configuration.pin_directory,
        )
    )
    maps = HomeAgentMaps.of(loaded)
    home_links = home_links_of(configuration, links)
    _write_home_links(maps.home_links, maps.home_agent_addresses, home_links)

    adjacencies = AdjacencyTable(maps.adjacencies, is_settled=False)
    for link in links.values():
        adjacencies.serve_interface(link.index, link.mac, link.mtu)
    forwarding = Forwarding(maps.bindings, maps.tentative, adjacencies)
    packets = RawIPv6Socket()
    opened.callback(packets.close)
    agent_configuration = HomeAgentConfiguration(
        home_links=home_links,
        maximum_bindings=configuration.maximum_bindings,
        maximum_lifetime_s=configuration.maximum_lifetime_s,
    )
    watched = WatchedAssociations(associations)
    agent = HomeAgent(agent_configuration, watched, draw)
    senders: dict[str, FrameSender] = {}
    service = HomeAgentService(agent, watched, forwarding, state, packets, senders)
    opened.callback(service.close)

    home_link_indices = {link.interface: link.index for link in home_links}
    interfaces = Interfaces(
        {name: home_link_indices.get(name, 0) for name in configuration.interfaces},
        Maps(maps.interfaces, maps.taps, maps.ports, adjacencies),
        Means(
            make_tap=Tap,
            make_sender=FrameSocket,
            attach=lambda name, index, is_generic: pins.attach_xdp(
                loaded.program_fd(PROGRAM), name, index, is_generic=is_generic
            ),
            set_allmulti=netlink.set_allmulti,
            listen=service.agent_loop.add_source,
            forget=service.agent_loop.remove_source,
            failures=(LoaderError, TapError, RawSocketError, OSError),
        ),
        senders,
    )
    follower = NetworkFollower(
        adjacencies,
        interfaces,
        lambda repointed: forwarding.follow(repointed, agent.bindings),
        netlink.read_network_state,
        netlink.wake_neighbors,
    )
    monitor = netlink.NetworkMonitor(follower.deliver)
    opened.callback(monitor.close)
    network = netlink.read_network_state()
    adjacencies.resynchronize(network.routes, network.neighbors)

    now = monotonic_ns()
    reconciled = forwarding.reconcile(
        stored.bindings, lambda entry: admitted(entry, agent_configuration, associations), now
    )
    adjacencies.settle()
    # Of the bindings that do not go on, only the sequence number stays.
    for home_address, sequence in reconciled.sequences.items():
        state.record_removal(home_address, sequence)
    agent.restore(reconciled.entries, stored.sequences | reconciled.sequences, now)
    reconciled.entries.clear()

    counters = home_agent_counters(loaded.map_fd("counters"))
    report = Report(
        Fixed(
            version=_version(),
            process=os.getpid(),
            started_ns=started_ns,
            maximum_bindings=configuration.maximum_bindings,
            security_associations=len(associations),
            home_links=home_links,
            interfaces=configuration.interfaces,
            pin_directory=configuration.pin_directory,
            state_file=configuration.state_file,
        ),
        agent,
        interfaces,
        data_path=counters.read,
        packets_not_sent=lambda: packets.failures,
        alarms=lambda: _alarms(state, service, forwarding),
        now_ns=monotonic_ns,
    )
    report.notes += state.notes
    server = ManagementServer(report, configuration.management_socket, configuration.management_group)
    await server.start()
    opened.push_async_callback(server.close)

    opened.callback(interfaces.close)
    undo.interfaces = interfaces
    try:
        interfaces.start(links.values())
    except OSError as error:
        raise StartError(f"an interface cannot be served ({error.strerror}): see `ip link`") from error
    for name in pins.detach_others(configuration.interfaces):
        report.notes.append(f"{name} is not configured any more, and the data path is off it")
    for each in interfaces.describe():
        if each["native_refusal"]:
            report.notes.append(f"{each['name']} runs in generic mode, since its driver said: {each['native_refusal']}")
        elif each["generic_for"]:
            report.notes.append(f"{each['name']} runs in generic mode, since {each['generic_for']} does")
    monitor.start(asyncio.get_running_loop())
    follower.start()
    opened.callback(follower.close)
    service.agent_loop.settle()
    undo.is_armed = False
    for sentence in (*report.notes, *report.alarms()):
        _LOG.warning("%s", sentence)
    served = ", ".join(f"{each['name']} ({each['mode']})" for each in interfaces.describe())
    return (
        f"{served}; {reconciled.kept} bindings kept, {reconciled.installed} installed,"
        f" {len(reconciled.removed)} removed"
    )


class _Undo:
    """Takes back what a start that failed has put on the wire, and nothing that was there before."""

    def __init__(self, pins: PinDirectory) -> None:
        self._pins = pins
        self._was_empty = not any(pins.path.iterdir())
        self.interfaces: Interfaces | None = None
        self.is_armed = True

    def __call__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        if kind is None or not self.is_armed:
            return False
        if self._was_empty:
            self._pins.detach()
        elif self.interfaces is not None:
            for name in self.interfaces.attached_anew():
                self._pins.detach_xdp(name)
        return False


def resume_associations(associations: SecurityAssociationDatabase, state: State, stored: Stored) -> None:
    """Take up the ESP counters, and reserve ahead, so that the first acknowledgements wait for no disk."""
    outbound = []
    due: dict[int, int] = {}
    for association in associations:
        if association.purpose is Purpose.BINDING_UPDATE:
            window = stored.windows.get(association.spi)
            if window is not None:
                association.resume_receiving(*window)
            continue
        association.resume_sending(stored.reserved_through.get(association.spi, 0))
        through = association.reservation_due()
        if through is not None:
            due[association.spi] = through
            outbound.append(association)
    state.reserve_now(due)
    for association in outbound:
        association.reserve(due[association.spi])


def home_links_of(configuration: Configuration, links: Mapping[str, Link]) -> tuple[HomeLink, ...]:
    """The home links as the protocol needs them: numbered from 1, with their interfaces' MAC addresses."""
    return tuple(
        HomeLink(
            index=index,
            interface=settings.interface,
            prefix=settings.prefix,
            home_agent_address=settings.address,
            mac=links[settings.interface].mac,
            dad_retransmit_timer_ms=settings.dad_retransmit_timer_ms,
        )
        for index, settings in enumerate(configuration.home_links, start=1)
    )


def _write_home_links(
    home_link_map: HomeLinkMap, addresses: HomeAgentAddresses, home_links: tuple[HomeLink, ...]
) -> None:
    """Tell XDP the home links; never with a moment in between in which there are none."""
    for link in home_links:
        home_link_map.put(link.index, link.prefix, link.home_agent_address)
        addresses.add(link.home_agent_address, link.index)
    # A link that nothing refers to is as good as gone.
    for address in set(addresses.addresses()) - {link.home_agent_address for link in home_links}:
        addresses.remove(address)


def admitted(
    entry: BindingCacheEntry, configuration: HomeAgentConfiguration, associations: SecurityAssociationDatabase
) -> BindingCacheEntry | None:
    """A binding from before as it goes on now; None if its home link, address or keys are no longer ours."""
    home_link = configuration.home_link_of(entry.home_address)
    if home_link is None or home_link.home_agent_address != entry.home_agent_address:
        return None
    association = associations.outbound(entry.home_address, Purpose.BINDING_ACKNOWLEDGEMENT)
    if association is None:
        return None
    # The association's own address object: of a hundred thousand, one each is enough.
    return replace(entry, home_address=association.home_address, home_link=home_link.index)


def _version() -> str:
    try:
        return metadata.version("ha-fastpath")
    except metadata.PackageNotFoundError:
        return "not installed: run from its source"


def _alarms(state: State, service: HomeAgentService, forwarding: Forwarding) -> Iterator[str]:
    if state.alarm is not None:
        yield state.alarm
    if service.slow_reservations:
        yield (
            f"{service.slow_reservations} times the disk of {state.path} did not record within a second what"
            " acknowledgements use: see to it, or mobile nodes may take them for replays after a restart"
        )
    if forwarding.tentative_failures:
        yield (
            f"{forwarding.tentative_failures} addresses were not defended against duplicates, since the data path's"
            " table of them was full"
        )
    if service.agent_loop.invariants_broken:
        yield f"{service.agent_loop.invariants_broken} times a frame met a fault of ours: see the log, and report it"
