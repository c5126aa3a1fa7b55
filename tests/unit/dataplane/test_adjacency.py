# SPDX-License-Identifier: Apache-2.0
"""The adjacency table over a map that is a dict, and against a naive longest-prefix match."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_fastpath.dataplane.abi import Limit
from ha_fastpath.dataplane.adjacency import NO_SLOT, AdjacencyTable
from ha_fastpath.net.network_state import (
    EventsLost,
    Neighbor,
    NeighborChanged,
    NeighborRemoved,
    NeighborState,
    NextHop,
    Route,
    RouteAdded,
    RouteRemoved,
)

ROUTER = IPv6Address("fe80::1")
OTHER_ROUTER = IPv6Address("fe80::2")
ROUTER_MAC = bytes.fromhex("020000000001")
OTHER_ROUTER_MAC = bytes.fromhex("020000000002")
OWN_MAC = bytes.fromhex("0200000000aa")
INTERFACE = 7
MTU = 1500

NEAR = IPv6Address("2001:db8:1::1")
NEAR_TOO = IPv6Address("2001:db8:1::2")
FAR = IPv6Address("2001:db8:2::1")

DEFAULT = "::/0"


@dataclass
class FakeSlots:
    """The adjacencies map as a dict, with how often it was written."""

    content: dict[int, tuple[int, int, bytes, bytes]] = field(default_factory=dict)
    writes: int = 0
    clears: int = 0

    def write(self, slot: int, interface_index: int, mtu: int, destination: bytes, source: bytes) -> None:
        self.content[slot] = (interface_index, mtu, destination, source)
        self.writes += 1

    def delete(self, slot: int) -> None:
        self.content.pop(slot, None)

    def clear(self) -> None:
        self.content.clear()
        self.clears += 1


def route(prefix: str, *gateways: IPv6Address | None, metric: int = 1024) -> Route:
    return Route(IPv6Network(prefix), metric, tuple(NextHop(INTERFACE, gateway) for gateway in gateways))


def added(prefix: str, *gateways: IPv6Address | None, metric: int = 1024, replaces: bool = False) -> RouteAdded:
    return RouteAdded(route(prefix, *gateways, metric=metric), replaces)


def removed(prefix: str, *gateways: IPv6Address | None, metric: int = 1024) -> RouteRemoved:
    return RouteRemoved(route(prefix, *gateways, metric=metric))


def neighbor(
    address: IPv6Address = ROUTER, mac: bytes = ROUTER_MAC, state: NeighborState = NeighborState.REACHABLE
) -> NeighborChanged:
    return NeighborChanged(Neighbor(INTERFACE, address, mac, state))


@pytest.fixture
def slots() -> FakeSlots:
    return FakeSlots()


@pytest.fixture
def table(slots: FakeSlots) -> AdjacencyTable:
    """A table that knows the interface and both routers, and no route."""
    table = AdjacencyTable(slots)
    table.serve_interface(INTERFACE, OWN_MAC, MTU)
    table.handle(neighbor())
    table.handle(neighbor(OTHER_ROUTER, OTHER_ROUTER_MAC))
    return table


VIA_ROUTER = (INTERFACE, MTU, ROUTER_MAC, OWN_MAC)
VIA_OTHER_ROUTER = (INTERFACE, MTU, OTHER_ROUTER_MAC, OWN_MAC)


def test_a_predecessors_slots_are_emptied_at_the_start() -> None:
    slots = FakeSlots({3: VIA_ROUTER})
    AdjacencyTable(slots)
    assert (slots.content, slots.clears) == ({}, 1)


def test_care_of_addresses_of_one_route_share_a_slot(table: AdjacencyTable, slots: FakeSlots) -> None:
    table.handle(added(DEFAULT, ROUTER))
    first = table.acquire(NEAR)
    assert first != NO_SLOT
    assert {table.acquire(NEAR_TOO), table.acquire(FAR), table.slot(FAR)} == {first}
    assert slots.content == {first: VIA_ROUTER}
    assert (slots.writes, table.slots_in_use) == (1, 1)


def test_a_route_that_nobody_uses_has_no_slot(table: AdjacencyTable, slots: FakeSlots) -> None:
    table.handle(added(DEFAULT, ROUTER))
    assert (slots.content, table.slots_in_use) == ({}, 0)


def test_the_slot_goes_with_its_last_care_of_address(table: AdjacencyTable, slots: FakeSlots) -> None:
    table.handle(added(DEFAULT, ROUTER))
    table.acquire(NEAR)
    table.acquire(NEAR)
    table.acquire(FAR)
    table.release(NEAR)
    table.release(FAR)
    assert table.slots_in_use == 1
    table.release(NEAR)
    assert (slots.content, table.slots_in_use) == ({}, 0)
    assert table.neighbors_to_wake() == []


@pytest.mark.parametrize(
    "event",
    [
        added("2001:db8:1::/48", None),
        added("2001:db8:1::/48", ROUTER, OTHER_ROUTER, replaces=True),
        added("2001:db8:1::/48"),
    ],
    ids=["on the link", "several next hops", "unreachable"],
)
def test_routes_that_are_the_fibs(table: AdjacencyTable, slots: FakeSlots, event: RouteAdded) -> None:
    table.handle(added(DEFAULT, ROUTER))
    table.handle(event)
    assert table.acquire(NEAR) == NO_SLOT
    assert slots.content == {}


def test_no_route_at_all(table: AdjacencyTable) -> None:
    assert table.acquire(NEAR) == NO_SLOT
    table.release(NEAR)


def test_the_lowest_metric_counts(table: AdjacencyTable, slots: FakeSlots) -> None:
    table.handle(added(DEFAULT, ROUTER, metric=100))
    table.handle(added(DEFAULT, OTHER_ROUTER, metric=50))
    slot = table.acquire(NEAR)
    assert slots.content == {slot: VIA_OTHER_ROUTER}
    # The slot stays, and leads elsewhere: no binding has to follow.
    assert table.handle(removed(DEFAULT, OTHER_ROUTER, metric=50)) == {}
    assert slots.content == {slot: VIA_ROUTER}


def test_a_route_is_replaced_in_its_slot(table: AdjacencyTable, slots: FakeSlots) -> None:
    table.handle(added(DEFAULT, ROUTER))
    slot = table.acquire(NEAR)
    assert table.handle(added(DEFAULT, OTHER_ROUTER, replaces=True)) == {}
    assert slots.content == {slot: VIA_OTHER_ROUTER}
    # The neighbor of before concerns it no longer.
    table.handle(NeighborRemoved(INTERFACE, ROUTER))
    assert slots.content == {slot: VIA_OTHER_ROUTER}


def test_a_second_next_hop_empties_the_slot_until_it_goes(table: AdjacencyTable, slots: FakeSlots) -> None:
    table.handle(added(DEFAULT, ROUTER))
    slot = table.acquire(NEAR)
    assert table.handle(added(DEFAULT, OTHER_ROUTER, ROUTER, replaces=True)) == {}
    assert slots.content == {}
    assert table.handle(removed(DEFAULT, ROUTER)) == {}
    assert slots.content == {slot: VIA_OTHER_ROUTER}


def test_a_route_told_twice_is_one(table: AdjacencyTable, slots: FakeSlots) -> None:
    table.handle(added(DEFAULT, ROUTER))
    table.handle(added(DEFAULT, ROUTER))
    slot = table.acquire(NEAR)
    assert slots.content == {slot: VIA_ROUTER}


def test_a_gateway_that_comes_later_repoints(table: AdjacencyTable, slots: FakeSlots) -> None:
    table.handle(added(DEFAULT, None))
    assert table.acquire(NEAR) == NO_SLOT
    repointed = table.handle(added(DEFAULT, ROUTER, replaces=True))
    assert set(repointed) == {NEAR}
    assert slots.content == {repointed[NEAR]: VIA_ROUTER}


def test_a_more_specific_route_takes_its_own_and_gives_them_back(table: AdjacencyTable, slots: FakeSlots) -> None:
    table.handle(added(DEFAULT, ROUTER))
    common = table.acquire(NEAR)
    table.acquire(FAR)
    repointed = table.handle(added("2001:db8:1::/48", OTHER_ROUTER))
    assert set(repointed) == {NEAR}
    own = repointed[NEAR]
    assert own not in (common, NO_SLOT)
    assert slots.content == {common: VIA_ROUTER, own: VIA_OTHER_ROUTER}

    assert table.handle(removed("2001:db8:1::/48", OTHER_ROUTER)) == {NEAR: common}
    assert slots.content == {common: VIA_ROUTER}
    assert table.slots_in_use == 1


def test_an_on_link_route_takes_its_own_to_the_fib(table: AdjacencyTable, slots: FakeSlots) -> None:
    table.handle(added(DEFAULT, ROUTER))
    table.acquire(NEAR)
    assert table.handle(added("2001:db8:1::/64", None)) == {NEAR: NO_SLOT}
    assert slots.content == {}


def test_a_slot_is_not_reused_before_bindings_have_followed(table: AdjacencyTable) -> None:
    """All slots but one are in use: what becomes free is given again by the next call, and not by the same one."""
    routes = [f"2001:db8:{number:x}::/48" for number in range(1, Limit.MAX_ADJACENCIES)]
    addresses = [IPv6Network(prefix).network_address for prefix in routes]
    for prefix, address in zip(routes, addresses, strict=True):
        table.handle(added(prefix, ROUTER))
        assert table.acquire(address) != NO_SLOT
    assert table.slots_in_use == Limit.MAX_ADJACENCIES - 1

    table.handle(added(DEFAULT, OTHER_ROUTER))
    freed = table.slot(addresses[0])
    # Its route goes, and the default route that takes over wants a slot in the same call.
    assert table.handle(removed(routes[0], ROUTER)) == {addresses[0]: NO_SLOT}
    assert table.acquire(IPv6Address("2001:db9::1")) == freed


def test_more_routes_than_slots(table: AdjacencyTable, slots: FakeSlots) -> None:
    for number in range(1, Limit.MAX_ADJACENCIES + 10):
        table.handle(added(f"2001:db8:{number:x}::/48", ROUTER))
        table.acquire(IPv6Network(f"2001:db8:{number:x}::/48").network_address)
    assert table.slots_in_use == len(slots.content) == Limit.MAX_ADJACENCIES - 1
    assert NO_SLOT not in slots.content
    assert max(slots.content) == Limit.MAX_ADJACENCIES - 1


@pytest.mark.parametrize("state", NeighborState)
def test_only_usable_neighbors_fill_a_slot(table: AdjacencyTable, slots: FakeSlots, state: NeighborState) -> None:
    table.handle(added(DEFAULT, ROUTER))
    slot = table.acquire(NEAR)
    table.handle(neighbor(state=state))
    usable = {
        NeighborState.REACHABLE,
        NeighborState.STALE,
        NeighborState.DELAY,
        NeighborState.PROBE,
        NeighborState.PERMANENT,
    }
    assert slots.content == ({slot: VIA_ROUTER} if state in usable else {})


def test_a_neighbor_without_an_address_fills_nothing(table: AdjacencyTable, slots: FakeSlots) -> None:
    table.handle(added(DEFAULT, ROUTER))
    table.acquire(NEAR)
    table.handle(neighbor(mac=b""))
    assert slots.content == {}


def test_a_neighbor_moves_comes_and_goes(table: AdjacencyTable, slots: FakeSlots) -> None:
    table.handle(added(DEFAULT, ROUTER))
    slot = table.acquire(NEAR)
    writes = slots.writes
    table.handle(neighbor(state=NeighborState.STALE))
    assert slots.writes == writes
    table.handle(neighbor(mac=OTHER_ROUTER_MAC))
    assert slots.content == {slot: VIA_OTHER_ROUTER}
    table.handle(NeighborRemoved(INTERFACE, ROUTER))
    assert slots.content == {}
    table.handle(neighbor())
    assert slots.content == {slot: VIA_ROUTER}


def test_an_interface_changes_goes_and_comes(table: AdjacencyTable, slots: FakeSlots) -> None:
    table.handle(added(DEFAULT, ROUTER))
    slot = table.acquire(NEAR)
    table.serve_interface(INTERFACE, OWN_MAC, 9000)
    assert slots.content == {slot: (INTERFACE, 9000, ROUTER_MAC, OWN_MAC)}
    table.forsake_interface(INTERFACE)
    assert slots.content == {}
    table.serve_interface(INTERFACE + 1, OWN_MAC, MTU)
    assert slots.content == {}
    table.serve_interface(INTERFACE, OWN_MAC, MTU)
    assert slots.content == {slot: VIA_ROUTER}


def test_gateways_that_the_kernel_does_not_see_used_are_to_be_woken(table: AdjacencyTable) -> None:
    table.handle(added(DEFAULT, ROUTER))
    assert table.neighbors_to_wake() == []
    table.acquire(NEAR)
    assert table.neighbors_to_wake() == []
    table.handle(neighbor(state=NeighborState.STALE))
    assert table.neighbors_to_wake() == [(INTERFACE, ROUTER)]
    table.handle(NeighborRemoved(INTERFACE, ROUTER))
    assert table.neighbors_to_wake() == [(INTERFACE, ROUTER)]
    table.forsake_interface(INTERFACE)
    assert table.neighbors_to_wake() == []


def test_other_events_and_unknown_routes_change_nothing(table: AdjacencyTable) -> None:
    assert table.handle(EventsLost()) == {}
    assert table.handle(removed("2001:db8:1::/48", ROUTER)) == {}
    table.handle(added(DEFAULT, ROUTER))
    table.acquire(NEAR)
    assert table.handle(removed(DEFAULT, ROUTER, metric=1)) == {}
    assert table.slots_in_use == 1


def test_resynchronizing_forgets_what_is_gone(table: AdjacencyTable, slots: FakeSlots) -> None:
    table.handle(added(DEFAULT, ROUTER))
    table.handle(added("2001:db8:1::/48", OTHER_ROUTER))
    own = table.acquire(NEAR)
    common = table.acquire(FAR)
    known = [event.neighbor for event in (neighbor(), neighbor(OTHER_ROUTER, OTHER_ROUTER_MAC))]

    assert table.resynchronize([route(DEFAULT, ROUTER), route("2001:db8:1::/48", OTHER_ROUTER)], known) == {}
    assert slots.content == {own: VIA_OTHER_ROUTER, common: VIA_ROUTER}

    assert table.resynchronize([route(DEFAULT, OTHER_ROUTER)], known) == {NEAR: common}
    assert slots.content == {common: VIA_OTHER_ROUTER}

    table.resynchronize([route(DEFAULT, OTHER_ROUTER)], [])
    assert slots.content == {}


def test_resynchronizing_takes_next_hops_told_one_by_one_together(table: AdjacencyTable) -> None:
    table.resynchronize([route(DEFAULT, ROUTER), route(DEFAULT, OTHER_ROUTER)], [])
    assert table.acquire(NEAR) == NO_SLOT


# ---- against a naive model ----

PREFIXES = [DEFAULT, "2001:db8::/32", "2001:db8:1::/48", "2001:db8:1::/64", "2001:db8:1::1/128", "2001:db8:2::/48"]
ADDRESSES = [NEAR, NEAR_TOO, FAR, IPv6Address("2001:db9::1")]
GATEWAYS = [ROUTER, OTHER_ROUTER, None]

Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["acquire", "release", "add", "remove", "resynchronize"]),
        st.integers(0, len(PREFIXES) - 1),
        st.integers(0, len(GATEWAYS) - 1),
    ),
    max_size=40,
)


@given(steps)
def test_every_binding_is_led_as_the_longest_match_says(sequence: list[Step]) -> None:
    slots = FakeSlots()
    table = AdjacencyTable(slots)
    table.serve_interface(INTERFACE, OWN_MAC, MTU)
    known = [event.neighbor for event in (neighbor(), neighbor(OTHER_ROUTER, OTHER_ROUTER_MAC))]
    table.resynchronize([], known)
    routes: dict[str, IPv6Address | None] = {}
    # Care-of address to slot, as the bindings map would have it.
    bindings: dict[IPv6Address, int] = {}

    for verb, which, gateway in sequence:
        address, prefix = ADDRESSES[which % len(ADDRESSES)], PREFIXES[which]
        if verb == "acquire" and address not in bindings:
            bindings[address] = table.acquire(address)
        elif verb == "release" and address in bindings:
            del bindings[address]
            table.release(address)
        elif verb == "add":
            routes[prefix] = GATEWAYS[gateway]
            bindings |= table.handle(added(prefix, GATEWAYS[gateway], replaces=True))
        elif verb == "remove" and prefix in routes:
            bindings |= table.handle(removed(prefix, routes.pop(prefix)))
        elif verb == "resynchronize":
            now = [route(present, towards) for present, towards in routes.items()]
            bindings |= table.resynchronize(now, known)

        assert set(bindings) <= set(ADDRESSES)
        for care_of_address, slot in bindings.items():
            matching = [IPv6Network(present) for present in routes if care_of_address in IPv6Network(present)]
            longest = max(matching, key=lambda network: network.prefixlen, default=None)
            towards = None if longest is None else routes[str(longest)]
            expected = {ROUTER: VIA_ROUTER, OTHER_ROUTER: VIA_OTHER_ROUTER, None: None}[towards]
            assert slots.content.get(slot) == expected
        assert NO_SLOT not in slots.content
        assert len(slots.content) <= table.slots_in_use


def test_no_slot_is_filled_before_every_binding_names_its_own() -> None:
    slots = FakeSlots()
    table = AdjacencyTable(slots, is_settled=False)
    table.serve_interface(INTERFACE, OWN_MAC, MTU)
    table.resynchronize([route(DEFAULT, ROUTER)], [neighbor().neighbor])
    slot = table.acquire(FAR)
    table.handle(neighbor(mac=OTHER_ROUTER_MAC))
    assert slot != NO_SLOT
    assert slots.writes == 0
    table.settle()
    assert slots.content == {slot: (INTERFACE, MTU, OTHER_ROUTER_MAC, OWN_MAC)}


def test_a_route_for_some_sources_leaves_its_prefix_to_the_kernel() -> None:
    table = AdjacencyTable(FakeSlots())
    table.serve_interface(INTERFACE, OWN_MAC, MTU)
    table.resynchronize([route(DEFAULT, ROUTER, metric=10), route(DEFAULT, None, metric=-5)], [neighbor().neighbor])
    assert table.acquire(FAR) == NO_SLOT
    assert table.handle(removed(DEFAULT, None, metric=-5)) == {FAR: table.slot(FAR)}
    assert table.slot(FAR) != NO_SLOT
