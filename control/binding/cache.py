# SPDX-License-Identifier: Apache-2.0
"""The binding cache: which care-of address each home address is at, and until when (RFC 6275 sections 9.1 and 10.1).

Holds home registrations only. Knows nothing of messages, states or the data path; registration.py decides what is in
here. Made for 100,000 entries: keyed by the address's integer, which the address object holds already.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address

from control.binding.deadline_queue import DeadlineQueue


@dataclass(frozen=True, slots=True)
class BindingCacheEntry:
    """One accepted home registration, as the data path enforces it."""

    home_address: IPv6Address
    care_of_address: IPv6Address
    home_agent_address: IPv6Address
    "The address that the mobile node registered with: the home agent's end of the tunnel."
    home_link: int
    "Index of the home link; 0: a virtual one."
    sequence: int
    "Of the last accepted Binding Update."
    lifetime_units: int
    "As granted, in the wire's units of 4 s."
    registered_ns: int
    "When the last accepted Binding Update took effect, by CLOCK_MONOTONIC."
    expires_ns: int
    "From this instant of CLOCK_MONOTONIC on there is no binding."
    link_local_compatible: bool
    "The L bit: the link-local address of the same interface identifier is defended too."
    key_management_mobility: bool
    "The K bit as granted; always False with manual keys."


class BindingCache:
    """Bindings by home address, with their expiry in order."""

    def __init__(self) -> None:
        self._entries: dict[int, BindingCacheEntry] = {}
        self._expiry = DeadlineQueue(self._expires_ns)
        # Expired, told to the caller, and kept by it: no longer in the queue.
        self._overdue: set[int] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[BindingCacheEntry]:
        return iter(self._entries.values())

    def __contains__(self, home_address: IPv6Address) -> bool:
        return int(home_address) in self._entries

    def get(self, home_address: IPv6Address) -> BindingCacheEntry | None:
        """The binding of `home_address`, if there is one; one past its expiry may be returned until it is taken out."""
        return self._entries.get(int(home_address))

    def put(self, entry: BindingCacheEntry) -> None:
        """Add `entry`, in place of an earlier binding of the same home address."""
        key = int(entry.home_address)
        previous = self._entries.get(key)
        self._entries[key] = entry
        if previous is None or key in self._overdue:
            self._overdue.discard(key)
            self._expiry.scheduled(key, entry.expires_ns, None)
        else:
            self._expiry.scheduled(key, entry.expires_ns, previous.expires_ns)

    def remove(self, home_address: IPv6Address) -> BindingCacheEntry:
        """Take out the binding of `home_address`, which must be there."""
        key = int(home_address)
        self._overdue.discard(key)
        return self._entries.pop(key)

    def next_expiry_ns(self) -> int | None:
        """The instant at which the first binding expires."""
        return self._expiry.next_deadline()

    def expired(self, now: int) -> Iterator[IPv6Address]:
        """Home addresses whose bindings have expired, each told once; the caller removes them, or puts newer ones."""
        for key in self._expiry.pop_due(now):
            self._overdue.add(key)
            yield self._entries[key].home_address

    def _expires_ns(self, key: int) -> int | None:
        entry = self._entries.get(key)
        return None if entry is None else entry.expires_ns
