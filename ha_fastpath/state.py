# SPDX-License-Identifier: Apache-2.0
"""What must outlive the process, in a SQLite file: bindings, sequence numbers and ESP counters.

Without the sequence numbers an old Binding Update replays after a restart (RFC 6275 section 15.3, RFC 3776 section 3).
Changes are gathered and committed by a thread of their own, every 10 ms at most, so that no acknowledgement waits for
the disk; only a reservation of ESP sequence numbers has to be on disk before what it is for. A disk that fails raises
an alarm and is tried again; it never stops the service.

On disk is wall-clock time, since CLOCK_MONOTONIC begins anew with each boot. No other module reads that clock.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from control.binding.cache import BindingCacheEntry

SCHEMA_VERSION: Final = 1
GROUP_COMMIT_S: Final = 0.010
RETRY_S: Final = 1.0
LIFETIME_UNIT_NS: Final = 4_000_000_000

_SCHEMA: Final = """
BEGIN;
CREATE TABLE IF NOT EXISTS binding (
    home_address BLOB PRIMARY KEY CHECK (length(home_address) = 16),
    care_of_address BLOB NOT NULL CHECK (length(care_of_address) = 16),
    home_agent_address BLOB NOT NULL CHECK (length(home_agent_address) = 16),
    home_link INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    lifetime_units INTEGER NOT NULL,
    registered_unix_ns INTEGER NOT NULL,
    expires_unix_ns INTEGER NOT NULL,
    link_local_compatible INTEGER NOT NULL,
    key_management_mobility INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS last_sequence (
    home_address BLOB PRIMARY KEY CHECK (length(home_address) = 16),
    sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reserved (spi INTEGER PRIMARY KEY, through INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS replay_window (
    spi INTEGER PRIMARY KEY, highest INTEGER NOT NULL, seen BLOB NOT NULL
) STRICT;
PRAGMA user_version = 1;
COMMIT;
"""

WindowState = tuple[int, int]
"""The highest sequence number received, and which ones before it: what ReplayWindow.state gives."""


class StateError(Exception):
    """A state file that cannot be used; the text says why, and what to do."""


@dataclass(slots=True)
class Stored:
    """What the file held, in this boot's time."""

    bindings: dict[IPv6Address, BindingCacheEntry] = field(default_factory=dict)
    """Unexpired ones, by home address."""
    sequences: dict[IPv6Address, int] = field(default_factory=dict)
    """The last sequence number of home addresses that have no binding."""
    reserved_through: dict[int, int] = field(default_factory=dict)
    """By SPI: the highest ESP sequence number that may have been sent."""
    windows: dict[int, WindowState] = field(default_factory=dict)
    """By SPI."""


@dataclass(frozen=True, slots=True)
class _Removed:
    """A binding that is no more; its sequence number stays."""

    sequence: int


@dataclass(slots=True)
class _Changes:
    """What is not on disk yet; a later change of the same thing takes the earlier one's place."""

    bindings: dict[IPv6Address, tuple[BindingCacheEntry, int] | _Removed] = field(default_factory=dict)
    """A binding comes with the distance from CLOCK_MONOTONIC to wall-clock time, in ns."""
    reserved: dict[int, int] = field(default_factory=dict)
    windows: dict[int, WindowState] = field(default_factory=dict)
    done: list[Callable[[], None]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.bindings or self.reserved or self.windows or self.done)

    def put_below(self, newer: _Changes) -> None:
        """Become what `newer` is on top of this."""
        self.bindings.update(newer.bindings)
        self.reserved.update(newer.reserved)
        self.windows.update(newer.windows)
        self.done.extend(newer.done)


class State:
    """One state file, open and locked for this process."""

    def __init__(self, path: Path, *, wall_clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.path = path
        self.notes: list[str] = []
        """What the operator should hear once, about how the file was found."""
        self.commits = 0
        self._alarm: str | None = None
        self._wall_clock_ns = wall_clock_ns
        self._changed = threading.Condition()
        self._changes = _Changes()
        self._closing = False
        self._schema_made = False
        self._connection = self._open()
        # Started by `load`: the connection is the loader's first, and then the writer's.
        self._writer = threading.Thread(target=self._write, name="state", daemon=True)

    @property
    def alarm(self) -> str | None:
        """Why the file is behind; None while all is well."""
        return self._alarm

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    # ---- opening ----

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made here, so that it and the log beside it, which takes its mode, are never readable by others.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            self.path.chmod(0o600)
        except OSError as error:
            raise StateError(
                f"{self.path}: the state file cannot be opened ({error.strerror}):"
                " see to its directory, or set state_file"
            ) from error
        try:
            return self._connect()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise StateError(
                    f"{self.path}: another ha-fastpath has this state file: stop that one first"
                ) from error
            raise StateError(
                f"{self.path}: the state file cannot be opened ({error}): see to its file system"
            ) from error
        except sqlite3.DatabaseError as error:
            aside = self._set_aside()
            self.notes.append(
                f"the state file was damaged ({error}) and is kept as {aside}; bindings and sequence numbers begin"
                " anew, and Binding Updates from before may be replayed until each mobile node has registered again"
            )
        try:
            return self._connect()
        except sqlite3.Error as error:
            raise StateError(
                f"{self.path}: a new state file cannot be made ({error}): see to its file system"
            ) from error

    def _connect(self) -> sqlite3.Connection:
        # One thread at a time uses it: the one that opens and loads, then the writer.
        connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            # Exclusive: a second daemon is refused, and there is no shared memory file that a full disk could not hold.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, SCHEMA_VERSION):
                raise StateError(
                    f"{self.path}: the state file is of version {version}, this program's is {SCHEMA_VERSION}:"
                    " run the program that wrote it, or move the file away"
                )
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            self._make_schema(connection)
        except (sqlite3.Error, StateError):
            connection.close()
            raise
        return connection

    def _make_schema(self, connection: sqlite3.Connection) -> None:
        try:
            connection.executescript(_SCHEMA)
        except sqlite3.OperationalError as error:
            if connection.in_transaction:
                connection.rollback()
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            self._raise_alarm(error)
            return
        self._schema_made = True

    def _set_aside(self) -> Path:
        aside = self.path.with_name(f"{self.path.name}.damaged-{self._wall_clock_ns() // 1_000_000_000}")
        self.path.rename(aside)
        for suffix in ("-wal", "-shm"):
            log = self.path.with_name(self.path.name + suffix)
            if log.exists():
                log.rename(aside.with_name(aside.name + suffix))
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return aside

    # ---- reading, once, before anything is recorded ----

    def load(self, now: int) -> Stored:
        """What the file holds, `now` being CLOCK_MONOTONIC; then, and not before, changes are committed.

        What has expired leaves only its sequence number.
        """
        stored = Stored()
        if self._schema_made:
            self._read(stored, now)
        self._writer.start()
        return stored

    def _read(self, stored: Stored, now: int) -> None:
        connection = self._connection
        wall = self._wall_clock_ns()
        # A hundred thousand bindings have a handful of home agents and lifetimes: one object each, not one a binding.
        home_agents: dict[bytes, IPv6Address] = {}
        lifetimes: dict[int, int] = {}
        for packed, sequence in connection.execute("SELECT home_address, sequence FROM last_sequence"):
            stored.sequences[IPv6Address(packed)] = sequence
        for row in connection.execute("SELECT * FROM binding"):
            home_address = IPv6Address(row[0])
            lifetime_units = lifetimes.setdefault(row[5], row[5])
            # A wall clock set back must not lengthen a binding's life.
            remaining_ns = min(row[7] - wall, lifetime_units * LIFETIME_UNIT_NS)
            if remaining_ns <= 0:
                stored.sequences[home_address] = row[4]
                self.record_removal(home_address, row[4])
                continue
            stored.sequences.pop(home_address, None)
            stored.bindings[home_address] = BindingCacheEntry(
                home_address=home_address,
                care_of_address=IPv6Address(row[1]),
                home_agent_address=home_agents.get(row[2]) or home_agents.setdefault(row[2], IPv6Address(row[2])),
                home_link=row[3],
                sequence=row[4],
                lifetime_units=lifetime_units,
                registered_ns=now - max(wall - row[6], 0),
                expires_ns=now + remaining_ns,
                link_local_compatible=bool(row[8]),
                key_management_mobility=bool(row[9]),
            )
        stored.reserved_through.update(connection.execute("SELECT spi, through FROM reserved"))
        for spi, highest, seen in connection.execute("SELECT spi, highest, seen FROM replay_window"):
            stored.windows[spi] = (highest, int.from_bytes(seen))

    # ---- recording ----

    def record_binding(self, entry: BindingCacheEntry, now: int) -> None:
        """The binding is in force."""
        distance_ns = self._wall_clock_ns() - now
        with self._changed:
            self._changes.bindings[entry.home_address] = (entry, distance_ns)
            self._changed.notify()

    def record_removal(self, home_address: IPv6Address, sequence: int) -> None:
        """There is no binding any more; the last sequence number stays."""
        with self._changed:
            self._changes.bindings[home_address] = _Removed(sequence)
            self._changed.notify()

    def record_window(self, spi: int, window: WindowState) -> None:
        """The anti-replay window of an inbound association has moved."""
        with self._changed:
            self._changes.windows[spi] = window
            self._changed.notify()

    def reserve(self, reserved: Mapping[int, int], done: Callable[[], None]) -> None:
        """Commit, ahead of anything else, that ESP sequence numbers may be used up to those given, by SPI.

        `done` is called from another thread once that is on disk, or once the disk has failed and the alarm is raised.
        """
        with self._changed:
            self._changes.reserved.update(reserved)
            self._changes.done.append(done)
            self._changed.notify()

    def reserve_now(self, reserved: Mapping[int, int]) -> None:
        """The same, waiting for the disk: for the start, before the loop runs."""
        committed = threading.Event()
        self.reserve(reserved, committed.set)
        committed.wait()

    def close(self) -> None:
        """Commit what is left and close the file; a second call does nothing."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify()
        if self._writer.ident is not None:
            self._writer.join()
        self._connection.close()

    # ---- the writer's thread ----

    def _write(self) -> None:
        while (changes := self._gather()) is not None:
            is_last_try = self._closing
            failed = not self._commit(changes)
            for done in changes.done:
                done()
            changes.done.clear()
            if not failed:
                continue
            if is_last_try:
                return
            with self._changed:
                changes.put_below(self._changes)
                self._changes = changes
                # A reservation is worth a try at once: somebody waits for it.
                self._changed.wait_for(lambda: self._closing or self._changes.done, RETRY_S)

    def _gather(self) -> _Changes | None:
        """The next group to commit; None when there is none and there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._changes)
            if not self._changes:
                return None
            self._changed.wait_for(lambda: self._closing or self._changes.done, GROUP_COMMIT_S)
            changes, self._changes = self._changes, _Changes()
            return changes

    def _commit(self, changes: _Changes) -> bool:
        connection = self._connection
        try:
            if not self._schema_made:
                connection.executescript(_SCHEMA)
                self._schema_made = True
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO reserved VALUES (?, ?)", changes.reserved.items())
            connection.executemany(
                "INSERT OR REPLACE INTO replay_window VALUES (?, ?, ?)",
                ((spi, highest, _octets(seen)) for spi, (highest, seen) in changes.windows.items()),
            )
            self._write_bindings(changes.bindings.items())
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.rollback()
            self._raise_alarm(error)
            return False
        self.commits += 1
        self._alarm = None
        return True

    def _write_bindings(self, changes: Iterable[tuple[IPv6Address, tuple[BindingCacheEntry, int] | _Removed]]) -> None:
        present: list[tuple[object, ...]] = []
        removed: list[tuple[bytes, int]] = []
        for home_address, change in changes:
            if isinstance(change, _Removed):
                removed.append((home_address.packed, change.sequence))
                continue
            entry, distance_ns = change
            present.append(
                (
                    home_address.packed,
                    entry.care_of_address.packed,
                    entry.home_agent_address.packed,
                    entry.home_link,
                    entry.sequence,
                    entry.lifetime_units,
                    entry.registered_ns + distance_ns,
                    entry.expires_ns + distance_ns,
                    entry.link_local_compatible,
                    entry.key_management_mobility,
                )
            )
        connection = self._connection
        connection.executemany("INSERT OR REPLACE INTO binding VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", present)
        connection.executemany("DELETE FROM binding WHERE home_address = ?", ((packed,) for packed, _ in removed))
        connection.executemany("INSERT OR REPLACE INTO last_sequence VALUES (?, ?)", removed)

    def _raise_alarm(self, error: sqlite3.Error) -> None:
        self._alarm = (
            f"{self.path} cannot be written ({error}): service goes on, but what changes now is lost if the daemon"
            " stops; see to its file system"
        )


def _octets(number: int) -> bytes:
    """A bitmap of any width; SQLite's integers have 63 bits and a sign."""
    return number.to_bytes((number.bit_length() + 7) // 8)
