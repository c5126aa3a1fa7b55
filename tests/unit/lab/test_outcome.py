# SPDX-License-Identifier: Apache-2.0
"""The judgement of a run, on runs made by hand: each condition of the demonstration fails alone, with its sentence."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ha_fastpath.lab.outcome import IN_FLIGHT_NS, Handover, Outcome, Pings, Transfer, Wire

MS = 1_000_000
S = 1_000_000_000


def good_outcome() -> Outcome:
    """Thirty seconds of pings: home, 10 s, foreign1, 15 s, foreign2, 25 s, home; 20 pings lost in each handover."""
    handovers = [
        Handover("home", "foreign1", 10 * S, 10 * S + 300 * MS),
        Handover("foreign1", "foreign2", 15 * S, 15 * S + 150 * MS),
        Handover("foreign2", "home", 25 * S, 25 * S + 200 * MS),
    ]
    pings = Pings()
    sent = [(number, number * 10 * MS) for number in range(3000)]
    lost = (
        {1000 + each for each in range(20)} | {1500 + each for each in range(15)} | {2500 + each for each in range(20)}
    )
    pings.add(sent, [(number, at_ns + MS) for number, at_ns in sent if number not in lost])
    return Outcome(
        handovers=handovers,
        pings=pings,
        transfer=Transfer(20_000_000, 20_000_000, "ab", "ab"),
        wire=Wire(tunnelled=20_000, reverse_tunnelled=10_000, binding_updates=4, binding_acknowledgements=4),
        acknowledged=4,
        binding_updates_sent=4,
        away=[(10 * S + 300 * MS, 15 * S), (15 * S + 150 * MS, 25 * S)],
        tunnelled=19_998,
        reverse_tunnelled=9_999,
        tunnelled_by_kernel=2,
        reverse_tunnelled_by_kernel=1,
        solicitations_answered=3,
    )


def test_a_run_in_order_has_no_failures() -> None:
    assert good_outcome().failures() == []


def test_the_record_has_the_fields_promised_and_is_json() -> None:
    record = json.loads(json.dumps(good_outcome().record()))
    assert list(record) == [
        "registrations",
        "handovers",
        "packets_sent",
        "packets_received",
        "lost_outside_handover",
        "tunnelled",
        "reverse_tunnelled",
        "solicitations_answered",
        "tcp_bytes",
        "tcp_sha256_ok",
        "esp_protected",
    ]
    assert record["registrations"] == 4
    assert record["handovers"][0] == {
        "from": "home",
        "to": "foreign1",
        "interruption_ms": 300.0,
        # From the reply to ping 999 to that to ping 1020.
        "ping_silence_ms": 210.0,
        "packets_lost": 20,
    }
    assert (record["packets_sent"], record["packets_received"]) == (3000, 2945)
    assert record["lost_outside_handover"] == 0
    assert record["tcp_sha256_ok"] is True
    assert record["esp_protected"] is True


def lose(at_ns: int) -> Callable[[Outcome], None]:
    def change(outcome: Outcome) -> None:
        outcome.pings.received.pop(at_ns // (10 * MS))

    return change


def change_handover(outcome: Outcome) -> None:
    outcome.handovers[1].acknowledged_ns = 15 * S + 501 * MS


def forget_handover(outcome: Outcome) -> None:
    outcome.handovers[2].acknowledged_ns = None


def setting(**values: object) -> Callable[[Outcome], None]:
    def change(outcome: Outcome) -> None:
        for name, value in values.items():
            setattr(outcome, name, value)

    return change


def on_wire(**values: int) -> Callable[[Outcome], None]:
    def change(outcome: Outcome) -> None:
        for name, value in values.items():
            setattr(outcome.wire, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lose(5 * S), "1 of 3000 pings were lost outside handovers"),
        (change_handover, "foreign1 -> foreign2 took 501 ms, more than 500 ms"),
        (forget_handover, "foreign2 -> home was never acknowledged"),
        (setting(acknowledged=3), "3 registrations were acknowledged with status 0, not 4"),
        (setting(handovers=[]), "moved 0 times, not 3"),
        (setting(refused=["Binding Update 7 was answered with status 135"]), "status 135"),
        (setting(troubles=["The mobile node ended with status 1."]), "ended with status 1"),
        (setting(transfer=Transfer(20_000_000, 20_000_000, "ab", "cd")), "sums differ"),
        (setting(transfer=Transfer(20_000_000, 19_000_000, "ab", None)), "sums missing"),
        (setting(transfer=Transfer(19_999_999, 19_999_999, "ab", "ab")), "fewer than 20000000"),
        (setting(away=[]), "No ping was answered through the tunnel"),
        (setting(pings=Pings()), "No ping was sent"),
        (setting(tunnelled=1_000), "XDP tunnelled 1000 packets, fewer than the 1455 pings"),
        (setting(reverse_tunnelled=1_000), "XDP reverse-tunnelled 1000 packets, fewer than"),
        (setting(tunnelled_by_kernel=300), "The kernel tunnelled 300 packets"),
        (setting(reverse_tunnelled_by_kernel=300), "The kernel reverse-tunnelled 300 packets"),
        (on_wire(tunnelled=21_000), "Of 21000 packets in the tunnel on the home agent's cable, XDP tunnelled only"),
        (setting(solicitations_answered=0), "answered no solicitation"),
        (on_wire(clear_mobility_headers=1), "1 Mobility Headers went in the clear"),
        (on_wire(other_esp=1), "1 packets by another SPI"),
        (on_wire(not_seen=1), "1 frames were missed"),
        (on_wire(binding_updates=3), "3 Binding Updates"),
        (on_wire(binding_acknowledgements=3), "3 acknowledgements"),
        (on_wire(binding_updates=5), "5 Binding Updates"),
    ],
)
def test_each_condition_fails_with_its_sentence(change: Callable[[Outcome], None], words: str) -> None:
    outcome = good_outcome()
    change(outcome)
    failures = outcome.failures()
    assert any(words in failure for failure in failures), failures


@pytest.mark.parametrize(
    ("sent_ns", "is_covered"),
    [
        (10 * S - IN_FLIGHT_NS - 1, False),
        (10 * S - IN_FLIGHT_NS, True),
        (10 * S, True),
        (10 * S + 300 * MS, True),
        (10 * S + 300 * MS + 1, False),
    ],
)
def test_a_handover_covers_what_was_sent_or_in_flight_in_it(sent_ns: int, is_covered: bool) -> None:
    assert Handover("home", "foreign1", 10 * S, 10 * S + 300 * MS).covers(sent_ns) is is_covered


def test_a_handover_without_an_end_covers_all_that_follows() -> None:
    handover = Handover("home", "foreign1", 10 * S)
    assert handover.covers(20 * S)
    assert not handover.covers(9 * S)
    assert handover.interruption_ms is None


def test_a_second_reply_to_a_ping_does_not_move_the_first() -> None:
    pings = Pings()
    pings.add([(1, 10)], [(1, 20)])
    pings.add([], [(1, 30)])
    assert pings.received == {1: 20}


def test_a_ping_answered_after_the_link_was_lost_proves_no_tunnel() -> None:
    pings = Pings()
    pings.add([(1, 100), (2, 190), (3, 90)], [(1, 110), (2, 210), (3, 120)])
    assert pings.answered_while(100, 200) == 1
