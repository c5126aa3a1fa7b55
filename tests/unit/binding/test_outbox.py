# SPDX-License-Identifier: Apache-2.0
"""Decisions wait in order; unread events are bounded; every reason that other parts name has a counter here."""

from __future__ import annotations

from control.binding.effects import StopDad
from control.binding.events import SignallingDropped, SignallingReason
from control.binding.outbox import MAXIMUM_EVENTS, Outbox
from control.ipsec.esp import EspReason
from control.ipsec.policy import PolicyReason
from control.wire.errors import MalformedReason
from tests.unit.binding.machine import HOME_ADDRESS


def test_effects_are_handed_over_once_and_in_order() -> None:
    outbox = Outbox()
    first, second = StopDad(HOME_ADDRESS), StopDad(HOME_ADDRESS + 1)
    outbox.emit(first)
    outbox.emit(second)
    assert outbox.take_effects() == [first, second]
    assert outbox.take_effects() == []


def test_drop_is_counted_and_told() -> None:
    outbox = Outbox()
    outbox.drop(SignallingReason.UNPROTECTED, "eth1")
    outbox.count(SignallingReason.UNPROTECTED)
    assert outbox.counters == {SignallingReason.UNPROTECTED: 2}
    assert outbox.next_event() == SignallingDropped(SignallingReason.UNPROTECTED, "eth1")
    assert outbox.next_event() is None


def test_unread_events_are_bounded_and_the_newest_stay() -> None:
    outbox = Outbox()
    for number in range(MAXIMUM_EVENTS + 1):
        outbox.drop(SignallingReason.UNPROTECTED, f"eth{number}")
    assert outbox.next_event() == SignallingDropped(SignallingReason.UNPROTECTED, "eth1")
    assert outbox.counters[SignallingReason.UNPROTECTED] == MAXIMUM_EVENTS + 1


def test_every_reason_of_wire_and_ipsec_has_a_counter() -> None:
    names = {reason.value for reason in SignallingReason}
    assert {reason.value for reason in MalformedReason} <= names
    assert {f"esp_{reason.value}" for reason in EspReason} <= names
    assert {reason.value for reason in PolicyReason} <= names
