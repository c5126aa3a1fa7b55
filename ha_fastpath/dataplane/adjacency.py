# SPDX-License-Identifier: Apache-2.0
"""Which adjacency leads to a care-of address: one slot for each route that care-of addresses use.

Fed by plain events, of the main table's routes, of neighbors (RFC 4861 section 7.3.2), and of the interfaces that the
data path serves; writes slots and does no other I/O. A slot is filled while its route has one gateway, with a known
link-layer address, on a served interface; whoever finds it empty asks the kernel's FIB. Slot 0 is never filled:
destinations on the link itself, several next hops, routes that a gateway does not tell all of (one for some sources, or
with an MTU of its own), and whatever there is no slot left for. Policy rules are not known here: a network that routes
by more than the main table must not cache.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Protocol

from ha_fastpath.dataplane.abi import Limit
from ha_fastpath.net.network_state import (
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

_ADDRESS_BITS = 128

NO_SLOT = 0

# Care-of addresses whose bindings are to be pointed at another slot, before the next call.
Repointed = dict[IPv6Address, int]


class Slots(Protocol):
    """The adjacencies map, as far as it is needed here."""

    def write(self, slot: int, interface_index: int, mtu: int, destination: bytes, source: bytes) -> None: ...

    def delete(self, slot: int) -> None: ...

    def clear(self) -> None: ...


@dataclass(slots=True)
class _Prefix:
    """A prefix with routes, and the care-of addresses for which it is the longest match."""

    network: int
    length: int
    next_hops: dict[int, list[NextHop]] = field(default_factory=dict)
    "By metric."
    members: set[int] = field(default_factory=set)
    slot: int = NO_SLOT

    def gateway(self) -> tuple[int, IPv6Address] | None:
        """Interface index and address of the one next hop, if it is that."""
        if not self.next_hops:
            return None
        best = self.next_hops[min(self.next_hops)]
        if len(best) != 1 or best[0].gateway is None:
            return None
        return best[0].interface_index, best[0].gateway


@dataclass(frozen=True, slots=True)
class _Interface:
    mac: bytes
    mtu: int


class AdjacencyTable:
    """Slots by care-of address, kept right by what happens in the network."""

    def __init__(self, slots: Slots, *, is_settled: bool = True) -> None:
        """With `is_settled` false, slots are given but none is filled until `settle`.

        A predecessor numbered them otherwise: while there are bindings that name its slots, all must be empty, and
        these bindings' next hops are asked of the FIB.
        """
        self._slots = slots
        self._is_settled = is_settled
        slots.clear()
        self._filled: dict[int, tuple[int, int, bytes, bytes]] = {}
        self._free = deque(range(1, Limit.MAX_ADJACENCIES))
        # Emptied, but bindings may name them until the caller has followed what it was told.
        self._retired: list[int] = []
        self._root = _Prefix(0, 0)
        self._prefixes: dict[int, dict[int, _Prefix]] = {0: {0: self._root}}
        self._lengths = [0]
        self._tracked: dict[int, int] = {}
        self._neighbors: dict[tuple[int, IPv6Address], Neighbor] = {}
        self._interfaces: dict[int, _Interface] = {}
        # Prefixes with a slot by their gateway: those that an event of a neighbor or of an interface concerns.
        self._users: dict[tuple[int, IPv6Address], set[tuple[int, int]]] = {}

    def settle(self) -> None:
        """Fill the slots: each binding names its own by now."""
        self._is_settled = True
        for prefix in self._all():
            self._fill(prefix)

    @property
    def slots_in_use(self) -> int:
        """How many routes have a slot."""
        return Limit.MAX_ADJACENCIES - 1 - len(self._free) - len(self._retired)

    def acquire(self, care_of_address: IPv6Address) -> int:
        """The slot for a binding that is about to be installed; each call is undone by one `release`."""
        self._reclaim()
        address = int(care_of_address)
        self._tracked[address] = self._tracked.get(address, 0) + 1
        prefix = self._longest_match(address)
        prefix.members.add(address)
        self._assign_slot(prefix)
        return prefix.slot

    def release(self, care_of_address: IPv6Address) -> None:
        """A binding no longer has this care-of address; call it once the map says so."""
        self._reclaim()
        address = int(care_of_address)
        uses = self._tracked[address] - 1
        if uses:
            self._tracked[address] = uses
            return
        del self._tracked[address]
        prefix = self._longest_match(address)
        prefix.members.discard(address)
        if not prefix.members:
            self._retire_slot(prefix)

    def slot(self, care_of_address: IPv6Address) -> int:
        """The slot of a care-of address that was acquired."""
        return self._longest_match(int(care_of_address)).slot

    def serve_interface(self, interface_index: int, mac: bytes, mtu: int) -> None:
        """The data path sends by this interface, which has come or has changed."""
        self._interfaces[interface_index] = _Interface(mac, mtu)
        self._refill_interface(interface_index)

    def forsake_interface(self, interface_index: int) -> None:
        """The data path sends by this interface no longer."""
        self._interfaces.pop(interface_index, None)
        self._refill_interface(interface_index)

    def handle(self, event: NetworkEvent) -> Repointed:
        """Take in what happened to a route or a neighbor; other events are the caller's to translate."""
        self._reclaim()
        match event:
            case RouteAdded(route, replaces):
                return self._add_route(route, replaces)
            case RouteRemoved(route):
                return self._remove_route(route)
            case NeighborChanged(neighbor):
                self._neighbors[neighbor.interface_index, neighbor.address] = neighbor
                self._refill_gateway((neighbor.interface_index, neighbor.address))
            case NeighborRemoved(interface_index, address):
                self._neighbors.pop((interface_index, address), None)
                self._refill_gateway((interface_index, address))
        return {}

    def resynchronize(self, routes: Iterable[Route], neighbors: Iterable[Neighbor]) -> Repointed:
        """Take in all routes and neighbors at once: at the start, and after events were lost."""
        self._reclaim()
        wanted: dict[tuple[int, int], dict[int, list[NextHop]]] = {}
        for route in routes:
            by_metric = wanted.setdefault(_key(route), {})
            by_metric.setdefault(route.metric, []).extend(route.next_hops)
        self._neighbors = {(neighbor.interface_index, neighbor.address): neighbor for neighbor in neighbors}
        repointed: Repointed = {}
        gone = [prefix for prefix in self._all() if prefix.next_hops and (prefix.length, prefix.network) not in wanted]
        for prefix in gone:
            repointed |= self._set_next_hops(prefix.length, prefix.network, {})
        for (length, network), next_hops in wanted.items():
            repointed |= self._set_next_hops(length, network, next_hops)
        for prefix in self._all():
            self._fill(prefix)
        return repointed

    def neighbors_to_wake(self) -> list[tuple[int, IPv6Address]]:
        """Gateways in use that the kernel would let grow old, since it does not see them used: index and address."""
        found = []
        for interface_index, address in self._users:
            neighbor = self._neighbors.get((interface_index, address))
            asleep = neighbor is None or neighbor.state in (NeighborState.STALE, NeighborState.FAILED)
            if asleep and interface_index in self._interfaces:
                found.append((interface_index, address))
        return found

    # ---- routes ----

    def _add_route(self, route: Route, replaces: bool) -> Repointed:
        length, network = _key(route)
        next_hops = self._next_hops(length, network)
        present = [] if replaces else next_hops.get(route.metric, [])
        next_hops[route.metric] = present + [hop for hop in route.next_hops if hop not in present]
        return self._set_next_hops(length, network, next_hops)

    def _remove_route(self, route: Route) -> Repointed:
        length, network = _key(route)
        next_hops = self._next_hops(length, network)
        if route.metric not in next_hops:
            return {}
        left = [hop for hop in next_hops.pop(route.metric) if hop not in route.next_hops]
        if left:
            next_hops[route.metric] = left
        return self._set_next_hops(length, network, next_hops)

    def _next_hops(self, length: int, network: int) -> dict[int, list[NextHop]]:
        prefix = self._prefixes.get(length, {}).get(network)
        return {} if prefix is None else dict(prefix.next_hops)

    def _set_next_hops(self, length: int, network: int, next_hops: dict[int, list[NextHop]]) -> Repointed:
        """The one place where a prefix comes, goes or leads elsewhere."""
        prefix = self._prefixes.get(length, {}).get(network)
        if prefix is None:
            if not next_hops:
                return {}
            return self._insert(_Prefix(network, length, next_hops))
        if not next_hops and prefix is not self._root:
            return self._withdraw(prefix)
        gateway = prefix.gateway()
        prefix.next_hops = next_hops
        if prefix.gateway() != gateway and prefix.slot:
            self._unuse(gateway, prefix)
            self._use(prefix)
        slot = prefix.slot
        self._assign_slot(prefix)
        self._fill(prefix)
        if prefix.slot == slot:
            return {}
        return {IPv6Address(member): prefix.slot for member in prefix.members}

    def _insert(self, prefix: _Prefix) -> Repointed:
        covering = self._longest_match(prefix.network, shorter_than=prefix.length)
        same_length = self._prefixes.setdefault(prefix.length, {})
        same_length[prefix.network] = prefix
        if len(same_length) == 1:
            self._lengths = sorted(self._prefixes, reverse=True)
        shift = _ADDRESS_BITS - prefix.length
        moved = {member for member in covering.members if member >> shift == prefix.network >> shift}
        prefix.members |= moved
        covering.members -= moved
        self._assign_slot(prefix)
        if not covering.members:
            self._retire_slot(covering)
        return {IPv6Address(member): prefix.slot for member in moved}

    def _withdraw(self, prefix: _Prefix) -> Repointed:
        same_length = self._prefixes[prefix.length]
        del same_length[prefix.network]
        if not same_length:
            del self._prefixes[prefix.length]
            self._lengths = sorted(self._prefixes, reverse=True)
        self._retire_slot(prefix)
        covering = self._longest_match(prefix.network, shorter_than=prefix.length)
        covering.members |= prefix.members
        self._assign_slot(covering)
        return {IPv6Address(member): covering.slot for member in prefix.members}

    def _longest_match(self, address: int, shorter_than: int = _ADDRESS_BITS + 1) -> _Prefix:
        for length in self._lengths:
            if length < shorter_than:
                shift = _ADDRESS_BITS - length
                found = self._prefixes[length].get(address >> shift << shift)
                if found is not None:
                    return found
        return self._root

    def _all(self) -> Iterator[_Prefix]:
        for same_length in self._prefixes.values():
            yield from same_length.values()

    # ---- slots ----

    def _assign_slot(self, prefix: _Prefix) -> None:
        # Once given it stays, full or empty, so that bindings need not follow each change of the route.
        if prefix.slot or not prefix.members or prefix.gateway() is None or not self._free:
            return
        prefix.slot = self._free.popleft()
        self._use(prefix)
        self._fill(prefix)

    def _retire_slot(self, prefix: _Prefix) -> None:
        if not prefix.slot:
            return
        self._unuse(prefix.gateway(), prefix)
        self._empty(prefix.slot)
        self._retired.append(prefix.slot)
        prefix.slot = NO_SLOT

    def _reclaim(self) -> None:
        self._free.extend(self._retired)
        self._retired.clear()

    def _use(self, prefix: _Prefix) -> None:
        gateway = prefix.gateway()
        if gateway is not None:
            self._users.setdefault(gateway, set()).add((prefix.length, prefix.network))

    def _unuse(self, gateway: tuple[int, IPv6Address] | None, prefix: _Prefix) -> None:
        if gateway is None:
            return
        users = self._users.get(gateway, set())
        users.discard((prefix.length, prefix.network))
        if not users:
            self._users.pop(gateway, None)

    def _refill_gateway(self, gateway: tuple[int, IPv6Address]) -> None:
        for length, network in self._users.get(gateway, ()):
            self._fill(self._prefixes[length][network])

    def _refill_interface(self, interface_index: int) -> None:
        for gateway in self._users:
            if gateway[0] == interface_index:
                self._refill_gateway(gateway)

    def _fill(self, prefix: _Prefix) -> None:
        """Write or empty a slot, as what is known of its next hop demands; nothing where that has not changed."""
        if not prefix.slot or not self._is_settled:
            return
        content = self._content(prefix.gateway())
        if content is None:
            self._empty(prefix.slot)
        elif self._filled.get(prefix.slot) != content:
            self._slots.write(prefix.slot, *content)
            self._filled[prefix.slot] = content

    def _empty(self, slot: int) -> None:
        if self._filled.pop(slot, None) is not None:
            self._slots.delete(slot)

    def _content(self, gateway: tuple[int, IPv6Address] | None) -> tuple[int, int, bytes, bytes] | None:
        if gateway is None:
            return None
        interface, neighbor = self._interfaces.get(gateway[0]), self._neighbors.get(gateway)
        if interface is None or neighbor is None or not neighbor.state.is_usable or not neighbor.mac:
            return None
        return gateway[0], interface.mtu, neighbor.mac, interface.mac


def _key(route: Route) -> tuple[int, int]:
    return route.prefix.prefixlen, int(route.prefix.network_address)
