# SPDX-License-Identifier: Apache-2.0
"""A restart over the maps of a predecessor that numbered its slots otherwise: no binding names a wrong next hop."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from time import monotonic_ns

import pytest

from control.binding.cache import BindingCacheEntry
from ha_fastpath.dataplane.adjacency import AdjacencyTable
from ha_fastpath.dataplane.loader import BpfObject, object_path
from ha_fastpath.dataplane.maps import HomeAgentMaps
from ha_fastpath.forwarding import Forwarding
from ha_fastpath.net.network_state import Neighbor, NeighborState, NextHop, Route

pytestmark = pytest.mark.bpf

INTERFACE = 1
OWN_MAC = bytes.fromhex("020000000001")
ROUTES = {
    IPv6Network("2001:db8:a::/48"): (IPv6Address("fe80::a"), bytes.fromhex("0200000000aa")),
    IPv6Network("2001:db8:b::/48"): (IPv6Address("fe80::b"), bytes.fromhex("0200000000bb")),
}
BINDINGS = 64


def adjacencies(maps: HomeAgentMaps, *, is_settled: bool) -> AdjacencyTable:
    table = AdjacencyTable(maps.adjacencies, is_settled=is_settled)
    table.serve_interface(INTERFACE, OWN_MAC, 1500)
    table.resynchronize(
        [Route(prefix, 1024, (NextHop(INTERFACE, gateway),)) for prefix, (gateway, _) in ROUTES.items()],
        [Neighbor(INTERFACE, gateway, mac, NeighborState.REACHABLE) for gateway, mac in ROUTES.values()],
    )
    return table


def entry(number: int, expires_ns: int) -> BindingCacheEntry:
    return BindingCacheEntry(
        home_address=IPv6Address("2001:db8:1::1:0") + number,
        care_of_address=list(ROUTES)[number % 2][number + 1],
        home_agent_address=IPv6Address("2001:db8:1::1"),
        home_link=1,
        sequence=0,
        lifetime_units=100,
        registered_ns=0,
        expires_ns=expires_ns,
        link_local_compatible=False,
        key_management_mobility=False,
    )


def next_hops(maps: HomeAgentMaps) -> list[tuple[bytes, bytes]]:
    """Of each binding whose slot is filled, the MAC address that it leads to, and the one that it should."""
    found = []
    for binding in maps.bindings.items():
        adjacency = maps.adjacencies.get(binding.adjacency)
        if adjacency is not None:
            right = next(mac for prefix, (_, mac) in ROUTES.items() if binding.care_of_address in prefix)
            found.append((bytes(adjacency.destination), right))
    return found


# The map gives its entries in an order of its own: one of the two numberings is the other way round.
@pytest.mark.parametrize("first", [0, 1])
def test_no_binding_names_a_wrong_next_hop_while_a_successor_takes_over(first: int) -> None:
    now = monotonic_ns()
    entries = [entry(number, now + 10**12) for number in range(BINDINGS)]
    with BpfObject.load(object_path("ha_xdp"), max_entries={"bindings": BINDINGS}) as loaded:
        maps = HomeAgentMaps.of(loaded)
        predecessor = Forwarding(maps.bindings, maps.tentative, adjacencies(maps, is_settled=True))
        for each in entries[first:] + entries[:first]:
            predecessor.install(each)
        assert len(next_hops(maps)) == BINDINGS

        table = adjacencies(maps, is_settled=False)
        successor = Forwarding(maps.bindings, maps.tentative, table)
        looked = 0

        def admit(kept: BindingCacheEntry) -> BindingCacheEntry:
            nonlocal looked
            looked += 1
            assert [found for found, right in next_hops(maps) if found != right] == []
            return kept

        outcome = successor.reconcile({each.home_address: each for each in entries}, admit, now)
        assert (outcome.kept, looked) == (BINDINGS, BINDINGS)
        table.settle()
        after = next_hops(maps)
    assert len(after) == BINDINGS
    assert all(found == right for found, right in after)
