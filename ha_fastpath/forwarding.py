# SPDX-License-Identifier: Apache-2.0
"""Bindings as the data path has them, next hops included; and what becomes of them at a start.

A binding's map value names the slot of its next hop. Which slot that is belongs to the adjacency table; that a binding
follows when its slot changes is seen to here. What a binding is was decided by `control`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from typing import Protocol

from control.binding.cache import BindingCacheEntry
from control.binding.effects import EffectResult


class InstalledBinding(Protocol):
    """A binding as the map has it."""

    @property
    def home_address(self) -> IPv6Address: ...
    @property
    def care_of_address(self) -> IPv6Address: ...
    @property
    def home_agent_address(self) -> IPv6Address: ...
    @property
    def expires_ns(self) -> int: ...
    @property
    def adjacency(self) -> int: ...
    @property
    def home_link(self) -> int: ...
    @property
    def link_local_compatible(self) -> bool: ...


class BindingTable(Protocol):
    """The bindings map."""

    def install(self, entry: BindingCacheEntry, adjacency: int) -> EffectResult: ...
    def remove(self, home_address: IPv6Address) -> bool: ...
    def point(self, home_address: IPv6Address, adjacency: int) -> bool: ...
    def items(self) -> Iterable[InstalledBinding]: ...


class TentativeTable(Protocol):
    """The addresses under duplicate address detection."""

    def add(self, address: IPv6Address, home_link: int) -> None: ...
    def remove(self, address: IPv6Address) -> bool: ...
    def clear(self) -> None: ...


class Adjacencies(Protocol):
    """Slots by care-of address."""

    def acquire(self, care_of_address: IPv6Address) -> int: ...
    def release(self, care_of_address: IPv6Address) -> None: ...


@dataclass(slots=True)
class Reconciled:
    """What became of the bindings of before."""

    entries: list[BindingCacheEntry] = field(default_factory=list)
    """All that are in force now."""
    kept: int = 0
    installed: int = 0
    """Of the file, and not in the map: after a boot, all of them."""
    removed: list[IPv6Address] = field(default_factory=list)
    """No longer in the map."""
    refused: int = 0
    """Not taken by the map."""


class Forwarding:
    """The data path's bindings; the one who writes them."""

    def __init__(self, bindings: BindingTable, tentative: TentativeTable, adjacencies: Adjacencies) -> None:
        self._bindings = bindings
        self._tentative = tentative
        self._adjacencies = adjacencies
        # Each binding in the map holds one claim on the slot of this care-of address.
        self._claims: dict[IPv6Address, IPv6Address] = {}
        self.tentative_failures = 0
        """Addresses that duplicate address detection could not be steered for."""

    def install(self, entry: BindingCacheEntry) -> EffectResult:
        """Write a binding, new or in place of an earlier one."""
        previous = self._claims.get(entry.home_address)
        slot = self._adjacencies.acquire(entry.care_of_address)
        result = self._bindings.install(entry, slot)
        if result is not EffectResult.DONE:
            self._adjacencies.release(entry.care_of_address)
            return result
        self._claims[entry.home_address] = entry.care_of_address
        if previous is not None:
            self._adjacencies.release(previous)
        return result

    def remove(self, home_address: IPv6Address) -> None:
        """Take a binding out; nothing happens if there is none."""
        self._bindings.remove(home_address)
        previous = self._claims.pop(home_address, None)
        if previous is not None:
            self._adjacencies.release(previous)

    def start_dad(self, address: IPv6Address, home_link: int) -> None:
        """Have Neighbor Discovery about an address handed over."""
        try:
            self._tentative.add(address, home_link)
        except OSError:
            # The map holds more than the agent has in flight; without its entry, a conflict may go unheard.
            self.tentative_failures += 1

    def stop_dad(self, address: IPv6Address) -> None:
        self._tentative.remove(address)

    def follow(self, repointed: Mapping[IPv6Address, int]) -> None:
        """Point the bindings of these care-of addresses at other slots."""
        if not repointed:
            return
        for home_address, care_of_address in self._claims.items():
            slot = repointed.get(care_of_address)
            if slot is not None:
                self._bindings.point(home_address, slot)

    def reconcile(
        self,
        stored: Mapping[IPv6Address, BindingCacheEntry],
        admit: Callable[[BindingCacheEntry], int | None],
        now: int,
    ) -> Reconciled:
        """Make one of what the file and the pinned map hold, at the start.

        In both: kept, as the map has it, which is written first. In the map alone: removed, since without its sequence
        number an old Binding Update could take its place. In the file alone: installed. `admit` gives the home link
        that a binding belongs to, or None if it may not go on (its home link or its keys are gone).
        """
        # Those who were under detection have nobody who waits for the outcome any more.
        self._tentative.clear()
        outcome = Reconciled()
        met: set[IPv6Address] = set()
        for found in self._bindings.items():
            entry = stored.get(found.home_address)
            merged = None if entry is None else _merge(entry, found)
            home_link = None if merged is None or found.expires_ns <= now else admit(merged)
            if merged is None or home_link is None:
                outcome.removed.append(found.home_address)
                continue
            met.add(merged.home_address)
            slot = self._adjacencies.acquire(merged.care_of_address)
            self._claims[merged.home_address] = merged.care_of_address
            if home_link != found.home_link:
                merged = replace(merged, home_link=home_link)
                self._bindings.install(merged, slot)
            elif slot != found.adjacency:
                self._bindings.point(merged.home_address, slot)
            outcome.entries.append(merged)
            outcome.kept += 1
        for home_address in outcome.removed:
            self._bindings.remove(home_address)
        gone = set(outcome.removed)
        for home_address, entry in stored.items():
            if home_address in met or home_address in gone:
                continue
            home_link = admit(entry)
            if home_link is None:
                outcome.refused += 1
                continue
            admitted = entry if entry.home_link == home_link else replace(entry, home_link=home_link)
            if self.install(admitted) is EffectResult.DONE:
                outcome.entries.append(admitted)
                outcome.installed += 1
            else:
                outcome.refused += 1
        return outcome


def _merge(entry: BindingCacheEntry, found: InstalledBinding) -> BindingCacheEntry:
    """The file's entry with what the map knows better: the map is written before the file is."""
    return BindingCacheEntry(
        home_address=entry.home_address,
        care_of_address=entry.care_of_address
        if entry.care_of_address == found.care_of_address
        else found.care_of_address,
        home_agent_address=found.home_agent_address,
        home_link=found.home_link,
        sequence=entry.sequence,
        lifetime_units=entry.lifetime_units,
        registered_ns=entry.registered_ns,
        expires_ns=found.expires_ns,
        link_local_compatible=found.link_local_compatible,
        key_management_mobility=entry.key_management_mobility,
    )
