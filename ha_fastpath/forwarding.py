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
    sequences: dict[IPv6Address, int] = field(default_factory=dict)
    """The last sequence numbers of those of the file that do not go on."""


class Forwarding:
    """The data path's bindings; the one who writes them."""

    def __init__(self, bindings: BindingTable, tentative: TentativeTable, adjacencies: Adjacencies) -> None:
        self._bindings = bindings
        self._tentative = tentative
        self._adjacencies = adjacencies
        self.tentative_failures = 0
        """Addresses that duplicate address detection could not be steered for."""

    def install(self, entry: BindingCacheEntry, previous: BindingCacheEntry | None = None) -> EffectResult:
        """Write a binding, new or in place of a previous one; each holds one claim on its care-of address's slot."""
        slot = self._adjacencies.acquire(entry.care_of_address)
        result = self._bindings.install(entry, slot)
        if result is not EffectResult.DONE:
            self._adjacencies.release(entry.care_of_address)
            return result
        if previous is not None:
            self._adjacencies.release(previous.care_of_address)
        return result

    def remove(self, entry: BindingCacheEntry) -> None:
        """Take out a binding that was installed."""
        self._bindings.remove(entry.home_address)
        self._adjacencies.release(entry.care_of_address)

    def start_dad(self, address: IPv6Address, home_link: int) -> None:
        """Have Neighbor Discovery about an address handed over."""
        try:
            self._tentative.add(address, home_link)
        except OSError:
            # The map holds more than the agent has in flight; without its entry, a conflict may go unheard.
            self.tentative_failures += 1

    def stop_dad(self, address: IPv6Address) -> None:
        self._tentative.remove(address)

    def follow(self, repointed: Mapping[IPv6Address, int], entries: Iterable[BindingCacheEntry]) -> None:
        """Point those of the bindings that have these care-of addresses at other slots."""
        if not repointed:
            return
        for entry in entries:
            slot = repointed.get(entry.care_of_address)
            if slot is not None:
                self._bindings.point(entry.home_address, slot)

    def reconcile(
        self,
        stored: dict[IPv6Address, BindingCacheEntry],
        admit: Callable[[BindingCacheEntry], BindingCacheEntry | None],
        now: int,
    ) -> Reconciled:
        """Make one of what the file and the pinned map hold, at the start; `stored` is empty afterwards.

        In both: kept, as the map has it, which is written first. In the map alone: removed, since without its sequence
        number an old Binding Update could take its place. In the file alone: installed. `admit` gives an
        entry as it may go on, with the home link of now, or None if it may not (its home link or its keys are gone).
        """
        # Those who were under detection have nobody who waits for the outcome any more.
        self._tentative.clear()
        outcome = Reconciled()
        for found in self._bindings.items():
            entry = stored.pop(found.home_address, None)
            admitted = None if entry is None or found.expires_ns <= now else admit(_merge(entry, found))
            if admitted is None or not self._keep(admitted, found):
                outcome.removed.append(found.home_address)
                if entry is not None:
                    outcome.sequences[entry.home_address] = entry.sequence
                continue
            outcome.entries.append(admitted)
        for home_address in outcome.removed:
            self._bindings.remove(home_address)
        outcome.kept = len(outcome.entries)
        while stored:
            home_address, entry = stored.popitem()
            admitted = admit(entry)
            if admitted is None or self.install(admitted) is not EffectResult.DONE:
                outcome.sequences[home_address] = entry.sequence
                continue
            outcome.entries.append(admitted)
            outcome.installed += 1
        return outcome

    def _keep(self, entry: BindingCacheEntry, found: InstalledBinding) -> bool:
        """Whether the map has the binding as it goes on."""
        slot = self._adjacencies.acquire(entry.care_of_address)
        if entry.home_link != found.home_link:
            is_kept = self._bindings.install(entry, slot) is EffectResult.DONE
        else:
            is_kept = slot == found.adjacency or self._bindings.point(entry.home_address, slot)
        if not is_kept:
            self._adjacencies.release(entry.care_of_address)
        return is_kept


def _merge(entry: BindingCacheEntry, found: InstalledBinding) -> BindingCacheEntry:
    """The file's entry with what the map knows better: the map is written before the file is."""
    # Of equal addresses the file's: there its objects are shared, and a hundred thousand others are not kept.
    has_moved = entry.care_of_address != found.care_of_address
    return replace(
        entry,
        care_of_address=found.care_of_address if has_moved else entry.care_of_address,
        home_agent_address=(
            entry.home_agent_address
            if entry.home_agent_address == found.home_agent_address
            else found.home_agent_address
        ),
        expires_ns=found.expires_ns,
        link_local_compatible=found.link_local_compatible,
    )
