# SPDX-License-Identifier: Apache-2.0
"""What is shown of a running home agent, as data and as text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from control.binding.cache import BindingCache, BindingCacheEntry
from control.binding.events import SignallingReason
from control.binding.home_link import HomeLink
from ha_fastpath import tables
from ha_fastpath.report import Fixed, Report, forwarding_alarms

SECOND_NS = 1_000_000_000
NOW = 1000 * SECOND_NS
HOME_ADDRESS = IPv6Address("2001:db8:1::100")
HOME_LINK = HomeLink(1, "eth0", IPv6Network("2001:db8:1::/64"), IPv6Address("2001:db8:1::1"), bytes(6))


class Agent:
    def __init__(self) -> None:
        self.bindings = BindingCache()
        self.counters: Counter[SignallingReason] = Counter({SignallingReason.REGISTERED: 2})


class Interfaces:
    def describe(self) -> list[dict[str, object]]:
        return [{"name": "eth0", "state": "up"}]

    def alarms(self) -> Iterator[str]:
        yield "eth1 is away"

    def failures(self) -> Counter[str]:
        return Counter({"ENETDOWN": 1, "ENOBUFS": 2})


@dataclass(frozen=True)
class Count:
    packets: int
    octets: int


def report(agent: Agent) -> Report:
    return Report(
        Fixed(
            version="1.2.3",
            process=42,
            started_ns=NOW - 5 * SECOND_NS,
            maximum_bindings=10,
            security_associations=2,
            home_links=(HOME_LINK,),
            interfaces=(),
            pin_directory=Path("/pins"),
            state_file=Path("/state"),
        ),
        agent,
        Interfaces(),
        data_path=lambda: {"forward_tunnelled": Count(3, 300), "pass_not_ours": Count(0, 0)},
        packets_not_sent=lambda: Counter({"ENETDOWN": 4}),
        alarms=lambda: ["the disk is full"],
        now_ns=lambda: NOW,
    )


def bound(number: int) -> BindingCacheEntry:
    return BindingCacheEntry(
        HOME_ADDRESS + number,
        IPv6Address("2001:db8:99::1"),
        HOME_LINK.home_agent_address,
        1,
        7,
        100,
        NOW - 10 * SECOND_NS,
        NOW + 390 * SECOND_NS,
        False,
        False,
    )


def test_bindings_are_told_with_what_is_left_of_them() -> None:
    agent = Agent()
    agent.bindings.put(bound(0))
    (told,) = report(agent).bindings()
    assert told == {
        "home_address": "2001:db8:1::100",
        "care_of_address": "2001:db8:99::1",
        "home_agent_address": "2001:db8:1::1",
        "interface": "eth0",
        "sequence": 7,
        "lifetime_s": 400,
        "remaining_s": 390,
        "registered_s_ago": 10,
        "link_local_compatible": False,
        "key_management_mobility": False,
    }


def test_bindings_may_come_and_go_while_they_are_told() -> None:
    agent = Agent()
    for number in range(3):
        agent.bindings.put(bound(number))
    telling = report(agent).bindings()
    next(telling)
    agent.bindings.remove(HOME_ADDRESS + 1)
    agent.bindings.put(bound(9))
    assert [told["home_address"] for told in telling] == [str(HOME_ADDRESS + 2)]


def test_counters_and_status_are_json() -> None:
    made = report(Agent())
    made.notes.append("a note")
    assert json.loads(json.dumps(made.counters())) == {
        "data_path": {
            "forward_tunnelled": {"packets": 3, "octets": 300},
            "pass_not_ours": {"packets": 0, "octets": 0},
        },
        "signalling": {"registered": 2},
        "not_sent": {"ENETDOWN": 5, "ENOBUFS": 2},
    }
    status = json.loads(json.dumps(made.status()))
    assert (status["version"], status["pid"], status["uptime_s"]) == ("1.2.3", 42, 5)
    assert status["bindings"] == {"count": 0, "maximum": 10}
    assert status["home_links"] == [{"interface": "eth0", "prefix": "2001:db8:1::/64", "address": "2001:db8:1::1"}]
    assert status["alarms"] == ["eth1 is away", "the disk is full"]
    assert status["notes"] == ["a note"]


def test_a_kernel_that_does_not_forward_is_an_alarm(tmp_path: Path) -> None:
    for name, value in (("eth0", "1\n"), ("eth1", "0\n"), ("eth2", "2\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "forwarding").write_text(value, encoding="ascii")
    assert list(forwarding_alarms(("eth0", "eth2", "eth9"), tmp_path)) == []
    (alarm,) = forwarding_alarms(("eth0", "eth1"), tmp_path)
    assert "on eth1" in alarm
    assert "sysctl -w net.ipv6.conf.all.forwarding=1" in alarm


def test_a_pipe_gets_plain_columns(capsys: pytest.CaptureFixture[str]) -> None:
    agent = Agent()
    agent.bindings.put(bound(0))
    made = report(agent)
    tables.show("bindings", list(made.bindings()))
    title, row, caption = capsys.readouterr().out.splitlines()
    assert title.split("  ")[0] == "home address"
    assert row.split() == ["2001:db8:1::100", "2001:db8:99::1", "eth0", "400", "s", "390", "s", "7"]
    assert caption == "1 binding"
    tables.show("bindings", [])
    assert capsys.readouterr().out.splitlines()[-1] == "0 bindings"
    tables.show("counters", [made.counters()])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["data_path.forward_tunnelled", "3", "300"] in rows
    assert ["signalling.registered", "2"] in rows
    # What never happened says nothing.
    assert not any(row[0] == "data_path.pass_not_ours" for row in rows)
    tables.show("status", [made.status()])
    shown = capsys.readouterr().out
    assert "bindings: maximum" in shown
    assert "the disk is full" in shown


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    agent = Agent()
    agent.bindings.put(bound(0))
    tables.show("bindings", list(report(agent).bindings()))
    shown = capsys.readouterr().out
    assert "2001:db8:1::100" in shown
    assert "─" in shown
    tables.show("status", [report(agent).status()])
    assert "1.2.3" in capsys.readouterr().out
