# SPDX-License-Identifier: Apache-2.0
"""When a mobile node asks, asks again, and asks anew (RFC 6275 sections 11.7.3 and 11.8)."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.binding.binding_update_list import MAX_UPDATE_RATE, Answer, BindingUpdateListEntry
from control.wire.mobility import BindingStatus

HOME_ADDRESS = IPv6Address("2001:db8:1::100")
CARE_OF_ADDRESS = IPv6Address("2001:db8:2::100")
OTHER_CARE_OF_ADDRESS = IPv6Address("2001:db8:3::100")
SECOND = 1_000_000_000
NOW = 5_000 * SECOND


def entry() -> BindingUpdateListEntry:
    return BindingUpdateListEntry(HOME_ADDRESS)


def registered(lifetime_units: int = 150, granted_units: int = 150) -> BindingUpdateListEntry:
    """An entry whose first Binding Update was sent at NOW, and answered at once."""
    made = entry()
    made.begin(CARE_OF_ADDRESS, lifetime_units, NOW)
    assert made.acknowledge(made.transmit(NOW), 0, granted_units, NOW) is Answer.ACCEPTED
    return made


def transmissions(made: BindingUpdateListEntry, now: int, count: int) -> list[float]:
    """Send `count` Binding Updates, each when it is due; the seconds after `now` at which they left."""
    sent = []
    at = now
    for _ in range(count):
        at = max(at, made.next_deadline() or 0)
        assert made.is_update_due(at)
        made.transmit(at)
        sent.append((at - now) / SECOND)
    return sent


def test_first_registration_leaves_time_for_duplicate_address_detection() -> None:
    made = entry()
    made.begin(CARE_OF_ADDRESS, 150, NOW)
    assert transmissions(made, NOW, 7) == [0, 1.5, 4.5, 10.5, 22.5, 46.5, 78.5]


def test_later_registrations_are_repeated_from_one_second_on() -> None:
    made = registered()
    made.begin(OTHER_CARE_OF_ADDRESS, 150, NOW + 10 * SECOND)
    assert transmissions(made, NOW + 10 * SECOND, 7) == [0, 1, 3, 7, 15, 31, 63]


def test_each_retransmission_has_a_sequence_number_of_its_own_modulo_two_to_the_sixteenth() -> None:
    made = entry()
    made.resume(65534, 0)
    made.begin(CARE_OF_ADDRESS, 150, NOW)
    assert [made.transmit(NOW), made.transmit(NOW), made.transmit(NOW)] == [65535, 0, 1]


@given(st.lists(st.integers(0, 2 * SECOND), min_size=MAX_UPDATE_RATE + 1, max_size=12))
def test_no_more_than_three_leave_within_a_second(gaps: list[int]) -> None:
    made = entry()
    sent = []
    now = NOW
    for gap in gaps:
        now += gap
        made.begin(CARE_OF_ADDRESS, 150, now)
        now = max(now, made.next_deadline() or 0)
        assert made.is_update_due(now)
        made.transmit(now)
        sent.append(now)
    for first, later in zip(sent, sent[MAX_UPDATE_RATE:], strict=False):
        assert later - first >= SECOND


def test_an_acknowledgement_of_any_outstanding_retransmission_counts() -> None:
    made = entry()
    made.begin(CARE_OF_ADDRESS, 150, NOW)
    first = made.transmit(NOW)
    made.transmit(NOW + 2 * SECOND)
    assert made.acknowledge(first, 0, 150, NOW + 3 * SECOND) is Answer.ACCEPTED
    # The lifetime runs from the one that was answered.
    assert made.expires_ns == NOW + 600 * SECOND
    assert made.acknowledge(first, 0, 150, NOW + 4 * SECOND) is Answer.NOT_OUTSTANDING


def test_an_acknowledgement_for_another_care_of_address_is_not_outstanding() -> None:
    made = entry()
    made.begin(CARE_OF_ADDRESS, 150, NOW)
    sequence = made.transmit(NOW)
    made.begin(OTHER_CARE_OF_ADDRESS, 150, NOW)
    assert made.acknowledge(sequence, 0, 150, NOW) is Answer.NOT_OUTSTANDING
    assert made.registered_care_of_address is None


def test_beginning_anew_for_the_same_care_of_address_keeps_what_is_outstanding() -> None:
    made = entry()
    made.begin(CARE_OF_ADDRESS, 150, NOW)
    sequence = made.transmit(NOW)
    made.begin(CARE_OF_ADDRESS, 150, NOW + SECOND)
    assert made.acknowledge(sequence, 0, 150, NOW + SECOND) is Answer.ACCEPTED


@pytest.mark.parametrize(
    ("asked", "granted", "lasts_units"), [(150, 150, 150), (150, 75, 75), (150, 200, 150), (1, 1, 1)]
)
def test_lifetime_is_corrected_by_what_was_granted(asked: int, granted: int, lasts_units: int) -> None:
    made = entry()
    made.begin(CARE_OF_ADDRESS, asked, NOW)
    made.acknowledge(made.transmit(NOW), 0, granted, NOW + SECOND)
    end = NOW + 4 * lasts_units * SECOND
    assert made.expires_ns == end
    assert made.is_bound(end - 1)
    assert not made.is_bound(end)
    assert made.may_be_bound(end - 1)
    assert not made.may_be_bound(end)
    assert made.registered_care_of_address == CARE_OF_ADDRESS


def test_refresh_is_due_after_three_quarters_of_the_lifetime() -> None:
    made = registered(granted_units=100)
    due = NOW + 300 * SECOND
    assert made.next_deadline() == due
    assert not made.is_refresh_due(due - 1)
    assert made.is_refresh_due(due)
    assert not made.is_update_due(due)


@pytest.mark.parametrize(("advised_units", "due_s"), [(10, 40), (90, 300), (100, 300), (0, 300)])
def test_refresh_advice_brings_the_refresh_forward_and_never_back(advised_units: int, due_s: int) -> None:
    made = entry()
    made.begin(CARE_OF_ADDRESS, 150, NOW)
    made.acknowledge(made.transmit(NOW), 0, 100, NOW, refresh_units=advised_units)
    assert made.next_deadline() == NOW + due_s * SECOND


def test_status_135_takes_up_the_home_agents_sequence_number_at_once() -> None:
    made = entry()
    made.begin(CARE_OF_ADDRESS, 150, NOW)
    made.transmit(NOW)
    answer = made.acknowledge(40_000, BindingStatus.SEQUENCE_NUMBER_OUT_OF_WINDOW, 0, NOW)
    assert answer is Answer.OUT_OF_WINDOW
    assert made.is_update_due(NOW)
    assert made.transmit(NOW) == 40_001


def test_status_135_to_nothing_is_ignored() -> None:
    made = registered()
    answer = made.acknowledge(40_000, BindingStatus.SEQUENCE_NUMBER_OUT_OF_WINDOW, 0, NOW)
    assert answer is Answer.NOT_OUTSTANDING
    assert made.sequence == 1


def test_a_refusal_is_not_answered_by_asking_again_at_once() -> None:
    made = entry()
    made.begin(CARE_OF_ADDRESS, 150, NOW)
    answer = made.acknowledge(made.transmit(NOW), BindingStatus.ADMINISTRATIVELY_PROHIBITED, 0, NOW)
    assert answer is Answer.REFUSED
    assert made.next_deadline() == NOW + 32 * SECOND
    assert made.registered_care_of_address is None


def test_de_registration_ends_the_binding() -> None:
    made = registered()
    made.begin(HOME_ADDRESS, 0, NOW + SECOND)
    assert made.is_deregistering
    assert made.may_be_bound(NOW + SECOND)
    assert made.acknowledge(made.transmit(NOW + SECOND), 0, 0, NOW + SECOND) is Answer.ACCEPTED
    assert not made.is_deregistering
    assert not made.may_be_bound(NOW + SECOND)
    assert (made.care_of_address, made.registered_care_of_address, made.expires_ns) == (None, None, None)
    assert made.next_deadline() is None


def test_the_home_agent_may_hold_a_binding_whose_acknowledgement_was_lost() -> None:
    made = entry()
    made.begin(CARE_OF_ADDRESS, 150, NOW)
    assert not made.may_be_bound(NOW)
    made.transmit(NOW)
    assert not made.is_bound(NOW)
    assert made.may_be_bound(NOW)
    assert made.may_be_bound_for_s(NOW) == 600
    assert made.may_be_bound_for_s(NOW + SECOND + 1) == 599
    assert made.may_be_bound_for_s(NOW + 900 * SECOND) == 0


def test_a_restart_goes_on_from_what_was_recorded() -> None:
    made = entry()
    made.resume(77, NOW + SECOND)
    assert made.may_be_bound(NOW)
    made.begin(CARE_OF_ADDRESS, 150, NOW)
    assert made.transmit(NOW) == 78
    # The home agent knows the address: no second is lost on duplicate address detection.
    assert made.next_deadline() == NOW + SECOND


def test_an_expired_binding_goes_on_being_asked_for() -> None:
    made = registered(granted_units=1)
    made.begin(CARE_OF_ADDRESS, 150, NOW + 3 * SECOND)
    made.transmit(NOW + 3 * SECOND)
    made.expire()
    assert made.expires_ns is None
    assert made.registered_care_of_address is None
    assert made.next_deadline() == NOW + 4 * SECOND


def test_what_is_abandoned_is_neither_sent_nor_answered() -> None:
    made = entry()
    made.begin(CARE_OF_ADDRESS, 150, NOW)
    sequence = made.transmit(NOW)
    made.abandon()
    assert made.next_deadline() is None
    assert made.acknowledge(sequence, 0, 150, NOW) is Answer.NOT_OUTSTANDING
    assert made.lifetime_units == 150
