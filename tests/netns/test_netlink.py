# SPDX-License-Identifier: Apache-2.0
"""What netlink.py makes of a live namespace that iproute2 changes."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from ha_fastpath.net import netlink
from ha_fastpath.net.netlink import (
    InterfaceMissingError,
    NetworkMonitor,
    find_link,
    read_network_state,
    set_allmulti,
    wake_neighbors,
)
from ha_fastpath.net.network_state import (
    EventsLost,
    LinkChanged,
    LinkRemoved,
    Neighbor,
    NeighborChanged,
    NeighborRemoved,
    NeighborState,
    NetworkEvent,
    NextHop,
    Route,
    RouteAdded,
    RouteRemoved,
)
from tests.bpf.namespace import ip, network_namespace

pytestmark = pytest.mark.netns

INDEX = 70
MAC = bytes.fromhex("020000000001")
ROUTER = IPv6Address("fe80::1")
OTHER_ROUTER = IPv6Address("fe80::2")
PREFIX = IPv6Network("2001:db8:5::/48")
PATIENCE_S = 10


@pytest.fixture(autouse=True)
def interface() -> Iterator[None]:
    """`up`, of a fixed index and MAC address, in a namespace of its own."""
    with network_namespace():
        ip(f"link add dev up index {INDEX} address 02:00:00:00:00:01 type veth peer name peer")
        ip("link set dev up up")
        ip("link set dev peer up")
        ip("address add 2001:db8::1/64 dev up nodad")
        yield


def hear(commands: list[str], until: Callable[[list[NetworkEvent]], bool]) -> list[NetworkEvent]:
    """The events that iproute2's commands cause, up to the last one that is waited for."""
    heard: list[NetworkEvent] = []

    async def listen() -> None:
        enough = asyncio.Event()

        def deliver(event: NetworkEvent) -> None:
            heard.append(event)
            if until(heard):
                enough.set()

        monitor = NetworkMonitor(deliver)
        try:
            # What is heard before the start is delivered after it.
            for command in commands:
                ip(command)
            monitor.start(asyncio.get_running_loop())
            await asyncio.wait_for(enough.wait(), PATIENCE_S)
        finally:
            monitor.close()

    asyncio.run(listen())
    return heard


def of_prefix(events: list[NetworkEvent]) -> list[RouteAdded | RouteRemoved]:
    return [event for event in events if isinstance(event, RouteAdded | RouteRemoved) and event.route.prefix == PREFIX]


def route(*gateways: IPv6Address | None, metric: int = 100) -> Route:
    return Route(PREFIX, metric, tuple(NextHop(INDEX, gateway) for gateway in gateways))


def test_a_link_is_found_by_its_name() -> None:
    link = find_link("up")
    assert (link.index, link.name, link.mac, link.mtu, link.is_up) == (INDEX, "up", MAC, 1500, True)


def test_a_missing_interface_is_named() -> None:
    with pytest.raises(InterfaceMissingError, match="there is no interface `gone`"):
        find_link("gone")


def test_allmulti_is_set_and_taken_back() -> None:
    for on in (True, False):
        set_allmulti(INDEX, on)
        shown = subprocess.run(["ip", "-j", "link", "show", "dev", "up"], check=True, capture_output=True).stdout
        flags = json.loads(shown)[0]["flags"]
        assert ("ALLMULTI" in flags) is on
        assert "UP" in flags
    with pytest.raises(OSError, match="No such device"):
        set_allmulti(4711, True)


def test_the_state_is_read_whole() -> None:
    ip(f"-6 route add {PREFIX} via fe80::1 dev up metric 100")
    ip("-6 route add default metric 5 nexthop via fe80::1 dev up nexthop via fe80::2 dev up")
    ip("-6 route add unreachable 2001:db8:6::/48 metric 7")
    ip("-6 route add 2001:db8:7::/48 via fe80::1 dev up table 200")
    ip("neigh replace fe80::1 dev up lladdr 02:00:00:00:00:09 nud permanent")
    ip("neigh add proxy 2001:db8::55 dev up")
    state = read_network_state()

    assert {link.name for link in state.links} == {"lo", "up", "peer"}
    routes = {found.prefix: found for found in state.routes if found.prefix != IPv6Network("fe80::/64")}
    both = (NextHop(INDEX, ROUTER), NextHop(INDEX, OTHER_ROUTER))
    assert routes == {
        IPv6Network("2001:db8::/64"): Route(IPv6Network("2001:db8::/64"), 256, (NextHop(INDEX, None),)),
        PREFIX: route(ROUTER),
        IPv6Network("::/0"): Route(IPv6Network("::/0"), 5, both),
        IPv6Network("2001:db8:6::/48"): Route(IPv6Network("2001:db8:6::/48"), 7, ()),
    }
    unicast = [neighbor for neighbor in state.neighbors if not neighbor.address.is_multicast]
    assert unicast == [Neighbor(INDEX, ROUTER, bytes.fromhex("020000000009"), NeighborState.PERMANENT)]


def test_routes_are_told_as_they_change() -> None:
    heard = hear(
        [
            f"-6 route add {PREFIX} via fe80::1 dev up metric 100",
            f"-6 route append {PREFIX} via fe80::2 dev up metric 100",
            f"-6 route del {PREFIX} via fe80::1 dev up metric 100",
            f"-6 route replace {PREFIX} via fe80::1 dev up metric 100",
            f"-6 route del {PREFIX} metric 100",
        ],
        lambda events: len(of_prefix(events)) == 5,
    )
    told = of_prefix(heard)
    # The kernel tells of both next hops after the append, in an order of its own.
    assert isinstance(told[1], RouteAdded)
    assert set(told[1].route.next_hops) == {NextHop(INDEX, ROUTER), NextHop(INDEX, OTHER_ROUTER)}
    assert told[1].replaces
    assert [told[0], *told[2:]] == [
        RouteAdded(route(ROUTER), replaces=False),
        RouteRemoved(route(ROUTER)),
        RouteAdded(route(ROUTER), replaces=True),
        RouteRemoved(route(ROUTER)),
    ]


def test_routes_of_other_tables_and_of_ipv4_are_not_told() -> None:
    heard = hear(
        [
            f"-6 route add {PREFIX} via fe80::1 dev up table 200",
            "route add 192.0.2.0/24 dev up",
            f"-6 route add {PREFIX} dev up metric 100",
        ],
        lambda events: len(of_prefix(events)) == 1,
    )
    assert of_prefix(heard) == [RouteAdded(route(None), replaces=False)]


def test_neighbors_are_told_as_they_change() -> None:
    def concerning(events: list[NetworkEvent]) -> list[NetworkEvent]:
        return [
            event
            for event in events
            if (isinstance(event, NeighborChanged) and event.neighbor.address == ROUTER)
            or (isinstance(event, NeighborRemoved) and event.address == ROUTER)
        ]

    heard = hear(
        [
            "neigh replace fe80::1 dev up lladdr 02:00:00:00:00:09 nud stale",
            "neigh del fe80::1 dev up",
        ],
        lambda events: any(isinstance(event, NeighborRemoved) for event in concerning(events)),
    )
    told = concerning(heard)
    assert told[0] == NeighborChanged(Neighbor(INDEX, ROUTER, bytes.fromhex("020000000009"), NeighborState.STALE))
    assert told[-1] == NeighborRemoved(INDEX, ROUTER)


def test_links_are_told_as_they_change() -> None:
    heard = hear(
        ["link set dev up mtu 1400", "link set dev up down", "link del dev up"],
        lambda events: LinkRemoved(INDEX, "up") in events,
    )
    links = [event.link for event in heard if isinstance(event, LinkChanged) and event.link.name == "up"]
    assert any(link.mtu == 1400 and link.is_up for link in links)
    assert any(link.mtu == 1400 and not link.is_up for link in links)


def test_a_stale_neighbor_is_woken() -> None:
    ip("neigh replace fe80::1 dev up lladdr 02:00:00:00:00:09 nud stale")
    # One whose interface is gone meanwhile, and one that the kernel does not know yet.
    wake_neighbors([(4711, ROUTER), (INDEX, OTHER_ROUTER), (INDEX, ROUTER)])
    states = {neighbor.address: neighbor.state for neighbor in read_network_state().neighbors}
    assert states[ROUTER] in (NeighborState.DELAY, NeighborState.PROBE)
    assert states[OTHER_ROUTER] is NeighborState.INCOMPLETE


def test_lost_events_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink, "_RECEIVE_BUFFER_OCTETS", 4096)
    batch = tmp_path / "routes"
    lines = [f"route add 2001:db8:{number:x}::/48 via fe80::1 dev up\n" for number in range(0x100, 0x200)]
    batch.write_text("".join(lines), encoding="ascii")
    heard = hear([f"-6 -batch {batch}"], lambda events: EventsLost() in events)
    # What came before is delivered, and it is not all.
    assert sum(isinstance(event, RouteAdded) for event in heard) < len(lines)


def test_a_gateway_that_is_not_all_of_a_route_is_not_told() -> None:
    other = IPv6Network("2001:db8:6::/48")
    ip(f"-6 route add {PREFIX} via fe80::1 dev up metric 100 mtu lock 1400")
    ip(f"-6 route add {other} from 2001:db8:77::/48 via fe80::2 dev up metric 100")
    ip(f"-6 route add {other} via fe80::1 dev up metric 10")
    routes = read_network_state().routes
    assert [found.next_hops for found in routes if found.prefix == PREFIX] == [(NextHop(INDEX, None),)]
    # The route for some sources comes first, whatever its metric: the kernel is asked about the prefix.
    first, second = sorted((found for found in routes if found.prefix == other), key=lambda found: found.metric)
    assert (first.next_hops, second.next_hops) == ((NextHop(INDEX, None),), (NextHop(INDEX, ROUTER),))
    assert first.metric < 0
