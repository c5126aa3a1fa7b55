# SPDX-License-Identifier: Apache-2.0
"""Interfaces that are served, vanish, return, change and refuse; without any of the kernel's."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

import pytest

from ha_fastpath import interfaces
from ha_fastpath.interfaces import FrameSender, Interfaces, Maps, Means
from ha_fastpath.net.network_state import Link, LinkChanged, LinkRemoved

MAC = bytes.fromhex("020000000001")
OTHER_MAC = bytes.fromhex("020000000002")
ETH0 = Link(10, "eth0", MAC, 1500, is_up=True, has_carrier=True)
ETH1 = Link(11, "eth1", OTHER_MAC, 1500, is_up=True, has_carrier=True)


class Mode(Enum):
    NATIVE = 1
    GENERIC = 2


@dataclass(frozen=True)
class Attachment:
    mode: Mode = Mode.NATIVE
    taken_over: bool = False
    native_refusal: str | None = None


class Tap:
    def __init__(self, interface: str, index: int) -> None:
        self.interface, self.name, self.index = interface, f"ha-{interface}", index
        self.is_closed = False

    def fileno(self) -> int:
        return -1 if self.is_closed else 0

    def drain(self, _receive: Callable[[bytes], None], _limit: int = 1) -> int:
        return 0

    def close(self) -> None:
        self.is_closed = True


class Sender:
    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self.is_open = True

    def send(self, _frame: bytes) -> bool:
        return self.is_open

    def reopen(self) -> bool:
        self.is_open = True
        return True

    def close(self) -> None:
        self.is_open = False


class RefusedError(Exception):
    """What an attachment may raise."""


class Machine:
    """Maps and means in one: what a test looks at afterwards."""

    def __init__(self) -> None:
        self.served: dict[int, tuple[bytes, int, int]] = {}
        self.taps: dict[int, int] = {}
        self.ports: dict[int, int] = {}
        self.neighbors: dict[int, tuple[bytes, int]] = {}
        self.attached: list[tuple[str, int]] = []
        self.allmulti: list[int] = []
        self.made: list[Tap] = []
        self.listening: list[interfaces.Tap] = []
        self.senders: dict[str, FrameSender] = {}
        self.refusal: Exception | None = None
        self.attachment = Attachment()
        self.without_native: set[str] = set()
        self.without_generic: set[str] = set()
        self.attached_before: set[str] | None = None
        self.write_refusal: Exception | None = None

    def interfaces(self, **home_links: int) -> Interfaces:
        return Interfaces(
            home_links,
            Maps(
                _InterfaceMap(self.served),
                _Devmap(self.taps, self),
                _Devmap(self.ports, self),
                _Neighbors(self.neighbors),
            ),
            Means(
                make_tap=self._make_tap,
                make_sender=lambda _name: Sender(),
                attach=self._attach,
                set_allmulti=lambda index, on: self.allmulti.append(index) if on else None,
                listen=self.listening.append,
                forget=self.listening.remove,
                failures=(RefusedError, OSError),
            ),
            self.senders,
        )

    def _make_tap(self, name: str) -> Tap:
        if self.refusal is not None:
            raise self.refusal
        tap = Tap(name, 100 + len(self.made))
        self.made.append(tap)
        return tap

    def _attach(self, name: str, index: int, is_generic: bool) -> Attachment:
        if self.refusal is not None:
            raise self.refusal
        if is_generic and name in self.without_generic:
            raise RefusedError(f"{name} takes no other program")
        self.attached.append((name, index))
        if is_generic or name in self.without_native:
            return replace(self._attachment(name), mode=Mode.GENERIC)
        return self._attachment(name)

    def _attachment(self, name: str) -> Attachment:
        if self.attached_before is None:
            return self.attachment
        return replace(self.attachment, taken_over=name in self.attached_before)

    def refuse_write(self) -> None:
        if self.write_refusal is not None:
            raise self.write_refusal


class _InterfaceMap:
    def __init__(self, content: dict[int, tuple[bytes, int, int]]) -> None:
        self._content = content

    def put(self, interface_index: int, mac: bytes, home_link: int, mtu: int) -> None:
        self._content[interface_index] = (mac, home_link, mtu)

    def remove(self, interface_index: int) -> bool:
        return self._content.pop(interface_index, None) is not None

    def indices(self) -> list[int]:
        return list(self._content)


class _Devmap:
    def __init__(self, content: dict[int, int], machine: Machine) -> None:
        self._content = content
        self._machine = machine

    def put(self, key: int, interface_index: int) -> None:
        self._machine.refuse_write()
        self._content[key] = interface_index

    def add(self, interface_index: int) -> None:
        self._content[interface_index] = interface_index

    def remove(self, key: int) -> bool:
        return self._content.pop(key, None) is not None

    def items(self) -> dict[int, int]:
        return dict(self._content)


class _Neighbors:
    def __init__(self, content: dict[int, tuple[bytes, int]]) -> None:
        self._content = content

    def serve_interface(self, interface_index: int, mac: bytes, mtu: int) -> None:
        self._content[interface_index] = (mac, mtu)

    def forsake_interface(self, interface_index: int) -> None:
        self._content.pop(interface_index, None)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def started(machine: Machine) -> Interfaces:
    built = machine.interfaces(eth0=1, eth1=0)
    built.start([ETH0, ETH1, Link(1, "lo", b"", 65536, is_up=True, has_carrier=True)])
    return built


def test_all_is_written_before_anything_is_attached(machine: Machine, started: Interfaces) -> None:
    assert machine.served == {10: (MAC, 1, 1500), 11: (OTHER_MAC, 0, 1500)}
    assert machine.taps == {10: 100, 11: 101}
    assert machine.ports == {10: 10, 11: 11}
    assert machine.neighbors == {10: (MAC, 1500), 11: (OTHER_MAC, 1500)}
    assert machine.attached == [("eth0", 10), ("eth1", 11)]
    assert machine.allmulti == [10]
    assert [tap.name for tap in machine.listening] == ["ha-eth0", "ha-eth1"]
    assert list(started.alarms()) == []
    assert started.attached_anew() == ["eth0", "eth1"]
    assert [(each["name"], each["state"], each["mode"]) for each in started.describe()] == [
        ("eth0", "up", "native"),
        ("eth1", "up", "native"),
    ]


def test_what_a_predecessor_served_is_withdrawn(machine: Machine) -> None:
    machine.served[77] = (MAC, 1, 1500)
    machine.taps[77] = machine.ports[77] = 77
    machine.attachment = Attachment(taken_over=True)
    built = machine.interfaces(eth0=1)
    built.start([ETH0])
    assert (list(machine.served), list(machine.taps), list(machine.ports)) == ([10], [10], [10])
    assert built.attached_anew() == []


def test_one_that_vanishes_is_waited_for_and_served_when_it_returns(machine: Machine, started: Interfaces) -> None:
    started.handle(LinkRemoved(11, "eth1"))
    assert (list(machine.served), list(machine.taps), list(machine.ports)) == ([10], [10], [10])
    assert list(machine.neighbors) == [10]
    (alarm,) = started.alarms()
    assert alarm.startswith("eth1 is away")
    assert not machine.senders["eth1"].send(b"")
    assert started.describe()[1]["state"] == "away"

    started.handle(LinkRemoved(11, "eth1"))
    started.handle(LinkChanged(replace(ETH1, index=12)))
    assert machine.served[12] == (OTHER_MAC, 0, 1500)
    # The same TAP: it is the interface's by name.
    assert machine.taps[12] == 101
    assert machine.attached[-1] == ("eth1", 12)
    assert machine.senders["eth1"].send(b"")
    assert list(started.alarms()) == []


def test_one_that_is_renamed_is_away(machine: Machine, started: Interfaces) -> None:
    started.handle(LinkChanged(replace(ETH0, name="wan0")))
    assert list(machine.served) == [11]
    started.handle(LinkChanged(ETH0))
    assert machine.served[10] == (MAC, 1, 1500)


def test_another_that_takes_its_name_is_served(machine: Machine, started: Interfaces) -> None:
    started.handle(LinkChanged(replace(ETH1, index=20)))
    assert set(machine.served) == {10, 20}
    assert machine.attached[-1] == ("eth1", 20)


def test_a_change_is_written(machine: Machine, started: Interfaces) -> None:
    started.handle(LinkChanged(replace(ETH1, mtu=9000)))
    assert machine.served[11] == (OTHER_MAC, 0, 9000)
    assert machine.neighbors[11] == (OTHER_MAC, 9000)
    assert len(machine.attached) == 2
    started.handle(LinkChanged(replace(ETH0, mac=OTHER_MAC)))
    (alarm,) = started.alarms()
    assert "another MAC address" in alarm


def test_down_and_without_carrier_are_told_apart(started: Interfaces) -> None:
    started.handle(LinkChanged(replace(ETH1, is_up=False)))
    (alarm,) = started.alarms()
    assert "ip link set dev eth1 up" in alarm
    assert started.describe()[1]["state"] == "down"
    started.handle(LinkChanged(replace(ETH1, has_carrier=False)))
    assert started.describe()[1]["state"] == "no carrier"
    assert list(started.alarms()) == []


def test_one_that_returns_and_cannot_be_served_is_told(machine: Machine, started: Interfaces) -> None:
    started.handle(LinkRemoved(11, "eth1"))
    machine.refusal = RefusedError("another XDP program runs on eth1")
    started.handle(LinkChanged(ETH1))
    (alarm,) = started.alarms()
    assert "another XDP program runs on eth1" in alarm
    assert started.describe()[1]["state"] == "not served"
    machine.refusal = None
    started.handle(LinkChanged(ETH1))
    assert list(started.alarms()) == []


def test_after_lost_events_all_links_are_gone_through(machine: Machine, started: Interfaces) -> None:
    started.resynchronize([replace(ETH1, mtu=1400)])
    assert machine.served == {11: (OTHER_MAC, 0, 1400)}
    started.resynchronize([])
    assert machine.served == {}
    assert len(list(started.alarms())) == 2


def test_a_tap_that_was_removed_is_made_again(machine: Machine, started: Interfaces) -> None:
    first = machine.made[0]
    started.handle(LinkRemoved(first.index, first.name))
    assert first.is_closed
    assert machine.taps[10] == 102
    assert machine.made[2] in machine.listening
    machine.refusal = OSError(errno.EPERM, "Operation not permitted")
    started.handle(LinkRemoved(102, first.name))
    (alarm,) = started.alarms()
    assert "eth0 is not served" in alarm


def test_a_start_that_fails_closes_what_it_made(machine: Machine) -> None:
    machine.refusal = RefusedError("no TAP")
    with pytest.raises(RefusedError):
        machine.interfaces(eth0=1).start([ETH0])


def test_closing_gives_all_back(machine: Machine, started: Interfaces) -> None:
    machine.senders["eth0"].failures["ENETDOWN"] += 2
    machine.senders["eth1"].failures["ENETDOWN"] += 1
    assert started.failures() == {"ENETDOWN": 3}
    started.close()
    assert all(tap.is_closed for tap in machine.made)
    assert machine.listening == []
    # What is attached and written stays.
    assert list(machine.served) == [10, 11]


@pytest.mark.parametrize("without_native", ["eth0", "eth1"])
def test_one_interface_without_native_mode_makes_all_generic(machine: Machine, without_native: str) -> None:
    machine.without_native = {without_native}
    built = machine.interfaces(eth0=1, eth1=0)
    built.start([ETH0, ETH1])
    assert [each["mode"] for each in built.describe()] == ["generic", "generic"]
    # It stays so: a mixture loses what one redirects to the other.
    machine.without_native = set()
    built.handle(LinkRemoved(11, "eth1"))
    built.handle(LinkChanged(replace(ETH1, index=20)))
    assert [each["mode"] for each in built.describe()] == ["generic", "generic"]


def test_a_tap_that_could_not_be_made_again_is_made_when_its_link_changes(
    machine: Machine, started: Interfaces
) -> None:
    machine.refusal = OSError(errno.EMFILE, "Too many open files")
    started.handle(LinkRemoved(machine.made[0].index, "ha-eth0"))
    assert "Too many open files" in "".join(started.alarms())
    machine.refusal = None
    started.handle(LinkChanged(replace(ETH0, mtu=1600)))
    assert list(started.alarms()) == []
    assert machine.taps[10] == machine.made[-1].index
    assert machine.made[-1] in machine.listening


def test_a_tap_that_could_not_be_made_again_is_no_hindrance_to_a_stop(machine: Machine, started: Interfaces) -> None:
    machine.refusal = OSError(errno.EMFILE, "Too many open files")
    started.handle(LinkRemoved(machine.made[0].index, "ha-eth0"))
    started.close()
    assert machine.listening == []


def test_one_that_cannot_be_made_generic_fails_the_start(machine: Machine) -> None:
    machine.without_native, machine.without_generic = {"eth1"}, {"eth0"}
    with pytest.raises(RefusedError, match="eth0"):
        machine.interfaces(eth0=1, eth1=0).start([ETH0, ETH1])


def test_one_that_returns_without_native_mode_makes_all_generic(machine: Machine, started: Interfaces) -> None:
    machine.without_native, machine.without_generic = {"eth1"}, {"eth0"}
    started.handle(LinkRemoved(11, "eth1"))
    started.handle(LinkChanged(replace(ETH1, index=20)))
    # The trouble is that of the one that could not be changed.
    assert [each["state"] for each in started.describe()] == ["not served", "up"]
    assert [each["generic_for"] for each in started.describe()] == ["eth1", None]
    machine.without_generic = set()
    started.handle(LinkChanged(ETH0))
    assert [each["mode"] for each in started.describe()] == ["generic", "generic"]
    assert list(started.alarms()) == []


def test_what_was_attached_before_is_not_taken_for_new_when_its_mode_changes(machine: Machine) -> None:
    machine.without_native = {"eth1"}
    machine.attachment = Attachment(taken_over=True)
    built = machine.interfaces(eth0=1, eth1=0)
    machine.attached_before = {"eth0"}
    built.start([ETH0, ETH1])
    assert built.attached_anew() == ["eth1"]


def test_a_tap_that_could_not_be_written_is_heard_once(machine: Machine, started: Interfaces) -> None:
    machine.write_refusal = OSError(errno.E2BIG, "Argument list too long")
    started.handle(LinkRemoved(machine.made[0].index, "ha-eth0"))
    assert "Argument list too long" in "".join(started.alarms())
    machine.write_refusal = None
    started.handle(LinkChanged(ETH0))
    assert list(started.alarms()) == []
    assert machine.taps[10] == machine.made[-1].index
    assert machine.listening.count(machine.made[-1]) == 1
    # Once more, by the old number that another link may have by now.
    started.handle(LinkRemoved(machine.made[0].index, "else"))
    started.close()
    assert machine.listening == []
