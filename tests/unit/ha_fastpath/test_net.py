# SPDX-License-Identifier: Apache-2.0
"""What of TAPs, raw sockets and readiness can be seen without rights: names, refusals, the notification."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha_fastpath.net.readiness import notify
from ha_fastpath.net.tap import INTERFACE_NAME_OCTETS, Tap, tap_name


@pytest.mark.parametrize(
    "interface", ["eth0", "a", "enp3s0f1.100", "exactly-15-octe", "exactly-15-octf", "größer-als-zwölf"]
)
def test_a_taps_name_fits_and_shows_whose_it_is(interface: str) -> None:
    name = tap_name(interface)
    assert len(name.encode()) <= INTERFACE_NAME_OCTETS
    assert name.startswith("ha-" + interface[:3])


def test_long_names_that_begin_alike_have_taps_of_their_own() -> None:
    assert tap_name("exactly-15-octe") != tap_name("exactly-15-octf")
    assert tap_name("eth0") == "ha-eth0"
    assert tap_name("twelve-octet") == "ha-twelve-octet"


class Pipe(Tap):
    """A TAP that is a pipe: each write is one read."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor


@pytest.fixture
def pipe() -> Iterator[tuple[Pipe, int]]:
    # Packet mode: reads give back what was written, piece by piece.
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_DIRECT)
    tap = Pipe(reading)
    yield tap, writing
    tap.close()
    tap.close()
    os.close(writing)


def test_all_that_has_arrived_is_read(pipe: tuple[Pipe, int]) -> None:
    tap, writing = pipe
    frames: list[bytes] = []
    assert tap.drain(frames.append) == 0
    for frame in (b"one", b"two", b"three"):
        os.write(writing, frame)
    assert tap.drain(frames.append) == 3
    assert frames == [b"one", b"two", b"three"]


def test_a_flood_leaves_room_for_others(pipe: tuple[Pipe, int]) -> None:
    tap, writing = pipe
    for _ in range(5):
        os.write(writing, b"x")
    assert tap.drain(lambda _frame: None, limit=3) == 3
    assert tap.drain(lambda _frame: None, limit=3) == 2


def test_nobody_is_told_where_nobody_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "absent"))
    assert not notify("READY=1")


def test_whoever_asked_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for address, name in (
        (str(tmp_path / "notify"),) * 2,
        (f"\0ha-fastpath-{os.getpid()}", f"@ha-fastpath-{os.getpid()}"),
    ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(address)
            manager.settimeout(5)
            monkeypatch.setenv("NOTIFY_SOCKET", name)
            assert notify("READY=1")
            assert manager.recv(100) == b"READY=1"
