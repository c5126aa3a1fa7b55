# SPDX-License-Identifier: Apache-2.0
"""The state file: what outlives the process, through restarts, reboots, damage and full disks."""

from __future__ import annotations

import sqlite3
import threading
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from control.binding.cache import BindingCacheEntry
from ha_fastpath.state import State, StateError

SECOND_NS = 1_000_000_000
HOME_ADDRESS = IPv6Address("2001:db8:1::100")
OTHER_HOME_ADDRESS = IPv6Address("2001:db8:1::200")


class WallClock:
    """Wall-clock time that the test sets."""

    def __init__(self) -> None:
        self.now_ns = 1_700_000_000 * SECOND_NS

    def __call__(self) -> int:
        return self.now_ns


def entry(
    home_address: IPv6Address = HOME_ADDRESS, *, now: int, sequence: int = 7, lifetime_units: int = 100
) -> BindingCacheEntry:
    return BindingCacheEntry(
        home_address=home_address,
        care_of_address=IPv6Address("2001:db8:99::1"),
        home_agent_address=IPv6Address("2001:db8:1::1"),
        home_link=1,
        sequence=sequence,
        lifetime_units=lifetime_units,
        registered_ns=now,
        expires_ns=now + lifetime_units * 4 * SECOND_NS,
        link_local_compatible=True,
        key_management_mobility=False,
    )


def test_a_binding_goes_on_after_a_boot_for_what_is_left_of_its_lifetime(tmp_path: Path) -> None:
    clock = WallClock()
    path = tmp_path / "state.sqlite"
    with State(path, wall_clock_ns=clock) as state:
        state.load(1000 * SECOND_NS)
        state.record_binding(entry(now=1000 * SECOND_NS), 1000 * SECOND_NS)
    clock.now_ns += 60 * SECOND_NS
    # CLOCK_MONOTONIC has begun anew.
    with State(path, wall_clock_ns=clock) as state:
        stored = state.load(5 * SECOND_NS)
    found = stored.bindings[HOME_ADDRESS]
    assert found.expires_ns == (5 + 400 - 60) * SECOND_NS
    assert found.registered_ns == (5 - 60) * SECOND_NS
    assert (found.sequence, found.lifetime_units, found.link_local_compatible) == (7, 100, True)
    assert found.care_of_address == IPv6Address("2001:db8:99::1")
    assert stored.sequences == {}


def test_an_expired_binding_leaves_its_sequence_number(tmp_path: Path) -> None:
    clock = WallClock()
    path = tmp_path / "state.sqlite"
    with State(path, wall_clock_ns=clock) as state:
        state.load(0)
        state.record_binding(entry(now=0), 0)
    clock.now_ns += 400 * SECOND_NS
    for _ in range(2):
        with State(path, wall_clock_ns=clock) as state:
            stored = state.load(0)
        assert stored.bindings == {}
        assert stored.sequences == {HOME_ADDRESS: 7}
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM binding").fetchone() == (0,)


def test_a_clock_set_back_does_not_lengthen_a_lifetime(tmp_path: Path) -> None:
    clock = WallClock()
    path = tmp_path / "state.sqlite"
    with State(path, wall_clock_ns=clock) as state:
        state.load(0)
        state.record_binding(entry(now=0), 0)
    clock.now_ns -= 100_000 * SECOND_NS
    with State(path, wall_clock_ns=clock) as state:
        found = state.load(50).bindings[HOME_ADDRESS]
    assert found.expires_ns == 50 + 400 * SECOND_NS
    assert found.registered_ns == 50


def test_a_removed_binding_leaves_its_sequence_number_until_the_next(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with State(path) as state:
        state.load(0)
        state.record_binding(entry(now=0), 0)
        state.record_removal(HOME_ADDRESS, 8)
    with State(path) as state:
        stored = state.load(0)
        assert (stored.bindings, stored.sequences) == ({}, {HOME_ADDRESS: 8})
        state.record_binding(entry(now=0, sequence=9), 0)
    with State(path) as state:
        stored = state.load(0)
    assert stored.bindings[HOME_ADDRESS].sequence == 9
    assert stored.sequences == {}


def test_esp_counters_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    wide = (1 << 64) - 1
    with State(path) as state:
        state.load(0)
        state.reserve_now({0x100: 4096, 0x101: 0xFFFFFFFF})
        state.record_window(0x200, (77, wide))
        state.record_window(0x201, (1, 0))
    with State(path) as state:
        stored = state.load(0)
    assert stored.reserved_through == {0x100: 4096, 0x101: 0xFFFFFFFF}
    assert stored.windows == {0x200: (77, wide), 0x201: (1, 0)}


def test_a_reservation_is_on_disk_when_it_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with State(path) as state:
        state.load(0)
        state.reserve_now({0x100: 4096})
        # As a kill would leave them; the file itself is locked.
        for suffix in ("", "-wal"):
            path.with_name(f"copy{suffix}").write_bytes(path.with_name(path.name + suffix).read_bytes())
    with State(tmp_path / "copy") as copy:
        assert copy.load(0).reserved_through == {0x100: 4096}


def test_many_changes_make_few_commits(tmp_path: Path) -> None:
    with State(tmp_path / "state.sqlite") as state:
        state.load(0)
        for number in range(5000):
            state.record_binding(entry(IPv6Address(0x20010DB8 << 96 | number), now=0), 0)
    assert state.commits < 100
    with State(tmp_path / "state.sqlite") as state:
        assert len(state.load(0).bindings) == 5000


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "made" / "state.sqlite"
    with State(path) as state:
        state.load(0)
        state.reserve_now({0x100: 1})
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.with_name("state.sqlite-wal").stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("at", [0, 4096 + 20])
def test_a_damaged_file_is_set_aside_and_said(tmp_path: Path, at: int) -> None:
    path = tmp_path / "state.sqlite"
    with State(path) as state:
        state.load(0)
        for number in range(500):
            state.record_binding(entry(IPv6Address(0x20010DB8 << 96 | number), now=0), 0)
    damaged = bytearray(path.read_bytes())
    damaged[at : at + 3000] = b"\xa5" * 3000
    path.write_bytes(damaged)
    clock = WallClock()
    with State(path, wall_clock_ns=clock) as state:
        assert state.load(0).bindings == {}
        (note,) = state.notes
        assert "damaged" in note
        assert str(tmp_path / "state.sqlite.damaged-1700000000") in note
        state.reserve_now({0x100: 1})
        assert state.alarm is None
    assert (tmp_path / "state.sqlite.damaged-1700000000").read_bytes() == damaged


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(StateError, match=r"of version 9.*move the file away"):
        State(path)


def test_a_second_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with State(path) as state:
        state.load(0)
        with pytest.raises(StateError, match="another ha-fastpath has this state file"):
            State(path)


def test_a_directory_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="see to its directory"):
        State(tmp_path / "file" / "state.sqlite")


def test_a_full_disk_raises_an_alarm_and_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with State(path) as state:
        # SQLite says the same of a full disk and of a file that may not grow.
        (pages,) = state._connection.execute("PRAGMA page_count").fetchone()
        state._connection.execute(f"PRAGMA max_page_count = {pages}")
        state.load(0)
        for number in range(500):
            state.record_binding(entry(IPv6Address(0x20010DB8 << 96 | number), now=0), 0)
        # Whoever waits for a reservation is not kept waiting.
        state.reserve_now({0x100: 1})
        alarm = state.alarm
        assert alarm is not None
        assert "full" in alarm
        assert "service goes on" in alarm
        state._connection.execute("PRAGMA max_page_count = 100000")
        state.record_binding(entry(OTHER_HOME_ADDRESS, now=0), 0)
        state.reserve_now({0x100: 2})
        assert state.alarm is None
    with State(path) as state:
        stored = state.load(0)
    assert len(stored.bindings) == 501
    assert stored.reserved_through == {0x100: 2}


def test_what_is_newer_than_a_failed_commit_wins(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with State(path) as state:
        (pages,) = state._connection.execute("PRAGMA page_count").fetchone()
        state._connection.execute(f"PRAGMA max_page_count = {pages}")
        state.load(0)
        for number in range(500):
            state.record_binding(entry(IPv6Address(0x20010DB8 << 96 | number), now=0, sequence=1), 0)
        state.reserve_now({0x100: 1})
        assert state.alarm is not None
        state.record_binding(entry(IPv6Address(0x20010DB8 << 96), now=0, sequence=2), 0)
        state._connection.execute("PRAGMA max_page_count = 100000")
    with State(path) as state:
        assert state.load(0).bindings[IPv6Address(0x20010DB8 << 96)].sequence == 2


def test_closing_gives_up_on_a_disk_that_stays_full(tmp_path: Path) -> None:
    state = State(tmp_path / "state.sqlite")
    (pages,) = state._connection.execute("PRAGMA page_count").fetchone()
    state._connection.execute(f"PRAGMA max_page_count = {pages}")
    state.load(0)
    for number in range(500):
        state.record_binding(entry(IPv6Address(0x20010DB8 << 96 | number), now=0), 0)
    closing = threading.Thread(target=state.close)
    closing.start()
    closing.join(timeout=10)
    assert not closing.is_alive()
    state.close()
