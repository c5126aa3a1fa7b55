# SPDX-License-Identifier: Apache-2.0
"""Bindings and their next hops in the map, and how map and file become one at a start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv6Address

import pytest

from control.binding.cache import BindingCacheEntry
from control.binding.effects import EffectResult
from ha_fastpath.forwarding import Forwarding

NOW = 1_000
HOME_AGENT_ADDRESS = IPv6Address("2001:db8:1::1")


def home(number: int) -> IPv6Address:
    return IPv6Address("2001:db8:1::1:0") + number


def care_of(number: int) -> IPv6Address:
    return IPv6Address("2001:db8:99::") + number


def entry(number: int, care_of_address: IPv6Address | None = None, **changes: int) -> BindingCacheEntry:
    made = BindingCacheEntry(
        home(number), care_of_address or care_of(number), HOME_AGENT_ADDRESS, 1, 7, 100, 0, NOW + 100, False, False
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # integers only, as annotated


@dataclass(frozen=True)
class Installed:
    home_address: IPv6Address
    care_of_address: IPv6Address
    home_agent_address: IPv6Address
    expires_ns: int
    adjacency: int
    home_link: int
    link_local_compatible: bool


class Table:
    """The bindings map."""

    def __init__(self, room: int = 100) -> None:
        self.room = room
        self.content: dict[IPv6Address, Installed] = {}
        self.writes = 0

    def install(self, added: BindingCacheEntry, adjacency: int) -> EffectResult:
        if added.home_address not in self.content and len(self.content) >= self.room:
            return EffectResult.TABLE_FULL
        self.writes += 1
        self.content[added.home_address] = Installed(
            added.home_address,
            added.care_of_address,
            added.home_agent_address,
            added.expires_ns,
            adjacency,
            added.home_link,
            added.link_local_compatible,
        )
        return EffectResult.DONE

    def remove(self, home_address: IPv6Address) -> bool:
        return self.content.pop(home_address, None) is not None

    def point(self, home_address: IPv6Address, adjacency: int) -> bool:
        self.writes += 1
        self.content[home_address] = replace(self.content[home_address], adjacency=adjacency)
        return True

    def items(self) -> Iterator[Installed]:
        yield from list(self.content.values())


class Tentative:
    def __init__(self) -> None:
        self.content: dict[IPv6Address, int] = {}
        self.is_full = False

    def add(self, address: IPv6Address, home_link: int) -> None:
        if self.is_full:
            raise OSError(7, "Argument list too long")
        self.content[address] = home_link

    def remove(self, address: IPv6Address) -> bool:
        return self.content.pop(address, None) is not None

    def clear(self) -> None:
        self.content.clear()


class Adjacencies:
    """Slot 3 leads everywhere; counts the claims on it."""

    def __init__(self) -> None:
        self.claims: Counter[IPv6Address] = Counter()
        self.slot = 3

    def acquire(self, care_of_address: IPv6Address) -> int:
        self.claims[care_of_address] += 1
        return self.slot

    def release(self, care_of_address: IPv6Address) -> None:
        assert self.claims[care_of_address] > 0
        self.claims[care_of_address] -= 1


class Scene:
    def __init__(self, room: int = 100) -> None:
        self.table, self.tentative, self.adjacencies = Table(room), Tentative(), Adjacencies()
        self.forwarding = Forwarding(self.table, self.tentative, self.adjacencies)

    def claims(self) -> dict[IPv6Address, int]:
        return {address: count for address, count in self.adjacencies.claims.items() if count}


def admit(found: BindingCacheEntry) -> BindingCacheEntry | None:
    return replace(found, home_link=1)


def test_a_binding_holds_one_claim_through_refresh_and_move() -> None:
    scene = Scene()
    previous = None
    for care_of_address in (care_of(1), care_of(1), care_of(2)):
        present = entry(0, care_of_address)
        assert scene.forwarding.install(present, previous) is EffectResult.DONE
        assert scene.claims() == {care_of_address: 1}
        previous = present
    assert scene.table.content[home(0)].adjacency == 3
    scene.forwarding.remove(entry(0, care_of(2)))
    assert scene.claims() == {}
    assert scene.table.content == {}


def test_a_write_that_failed_leaves_no_claim() -> None:
    scene = Scene(room=1)
    scene.forwarding.install(entry(0))
    assert scene.forwarding.install(entry(1)) is EffectResult.TABLE_FULL
    assert scene.claims() == {care_of(0): 1}


def test_bindings_follow_their_slots() -> None:
    scene = Scene()
    entries = [entry(number, care_of_address) for number, care_of_address in enumerate(map(care_of, (1, 2, 1)))]
    for each in entries:
        scene.forwarding.install(each)
    scene.forwarding.follow({}, entries)
    scene.forwarding.follow({care_of(1): 9}, entries)
    assert [scene.table.content[home(number)].adjacency for number in range(3)] == [9, 3, 9]


def test_detection_is_steered() -> None:
    scene = Scene()
    scene.forwarding.start_dad(home(0), 1)
    assert scene.tentative.content == {home(0): 1}
    scene.forwarding.stop_dad(home(0))
    assert scene.tentative.content == {}
    scene.tentative.is_full = True
    scene.forwarding.start_dad(home(0), 1)
    assert scene.forwarding.tentative_failures == 1


def test_what_map_and_file_both_have_is_kept_as_the_map_has_it() -> None:
    scene = Scene()
    scene.table.install(entry(0, care_of(5), expires_ns=NOW + 77), 3)
    scene.tentative.content[home(9)] = 1
    writes = scene.table.writes
    outcome = scene.forwarding.reconcile({home(0): entry(0)}, admit, NOW)
    (kept,) = outcome.entries
    # The file was written before the last move was: the sequence number is its, the rest the map's.
    assert (kept.care_of_address, kept.expires_ns, kept.sequence) == (care_of(5), NOW + 77, 7)
    assert (outcome.kept, outcome.installed, outcome.removed, outcome.sequences) == (1, 0, [], {})
    assert scene.table.writes == writes
    assert scene.claims() == {care_of(5): 1}
    assert scene.tentative.content == {}


def test_a_kept_binding_is_pointed_at_its_slot_of_now() -> None:
    scene = Scene()
    scene.table.install(entry(0), 8)
    scene.forwarding.reconcile({home(0): entry(0)}, admit, NOW)
    assert scene.table.content[home(0)].adjacency == 3


def test_a_kept_binding_follows_its_home_link() -> None:
    scene = Scene()
    scene.table.install(entry(0, home_link=2), 3)
    outcome = scene.forwarding.reconcile({home(0): entry(0, home_link=2)}, admit, NOW)
    assert outcome.entries[0].home_link == 1
    assert scene.table.content[home(0)].home_link == 1


@pytest.mark.parametrize("expires_ns", [NOW - 1, NOW])
def test_what_has_expired_in_the_map_is_removed(expires_ns: int) -> None:
    scene = Scene()
    scene.table.install(entry(0, expires_ns=expires_ns), 3)
    outcome = scene.forwarding.reconcile({home(0): entry(0)}, admit, NOW)
    assert outcome.removed == [home(0)]
    assert (outcome.entries, outcome.sequences) == ([], {home(0): 7})
    assert scene.table.content == {}


def test_what_only_the_map_has_is_removed() -> None:
    scene = Scene()
    scene.table.install(entry(0), 3)
    outcome = scene.forwarding.reconcile({}, admit, NOW)
    assert outcome.removed == [home(0)]
    assert scene.table.content == {}
    assert scene.claims() == {}


def test_what_only_the_file_has_is_installed() -> None:
    scene = Scene()
    outcome = scene.forwarding.reconcile({home(0): entry(0), home(1): entry(1, home_link=4)}, admit, NOW)
    assert (outcome.kept, outcome.installed) == (0, 2)
    assert [each.home_link for each in outcome.entries] == [1, 1]
    assert set(scene.table.content) == {home(0), home(1)}
    assert scene.claims() == {care_of(0): 1, care_of(1): 1}


def test_what_may_not_go_on_does_not() -> None:
    scene = Scene()
    scene.table.install(entry(0), 3)
    outcome = scene.forwarding.reconcile({home(0): entry(0), home(1): entry(1)}, lambda _entry: None, NOW)
    assert (outcome.removed, outcome.entries) == ([home(0)], [])
    # What stays of them is what keeps old Binding Updates out.
    assert outcome.sequences == {home(0): 7, home(1): 7}
    assert scene.table.content == {}


def test_more_than_the_table_holds_is_refused() -> None:
    scene = Scene(room=1)
    outcome = scene.forwarding.reconcile({home(0): entry(0), home(1): entry(1)}, admit, NOW)
    assert (outcome.installed, len(outcome.entries), len(outcome.sequences)) == (1, 1, 1)


def test_a_kept_binding_that_cannot_be_written_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    scene.table.install(entry(0, home_link=2), 3)
    monkeypatch.setattr(scene.table, "install", lambda *_: EffectResult.FAILED)
    outcome = scene.forwarding.reconcile({home(0): entry(0, home_link=2)}, admit, NOW)
    assert (outcome.entries, outcome.removed, outcome.sequences) == ([], [home(0)], {home(0): 7})
    assert scene.table.content == {}
    assert scene.claims() == {}


def test_whether_a_binding_may_go_on_is_asked_of_what_the_map_has() -> None:
    scene = Scene()
    scene.table.install(entry(0, care_of(5)), 3)
    asked: list[IPv6Address] = []
    scene.forwarding.reconcile({home(0): entry(0)}, lambda found: asked.append(found.care_of_address), NOW)
    assert asked == [care_of(5)]
