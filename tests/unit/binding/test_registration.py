# SPDX-License-Identifier: Apache-2.0
"""The registration machine: every pair of its table, and what lies between the pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv6Address, IPv6Network
from itertools import product

import pytest

from control.binding.configuration import HomeAgentConfiguration
from control.binding.effects import EffectResult, RemoveBinding
from control.binding.events import BindingMoved, SignallingReason
from control.binding.registration import RegistrationInput, RegistrationMachine, RegistrationState
from control.wire.errors import InvariantError
from control.wire.mobility import BindingStatus
from tests.unit.binding.machine import (
    CARE_OF_ADDRESS,
    FIRST_SEQUENCE,
    HOME_ADDRESS,
    HOME_LINK,
    OTHER_CARE_OF_ADDRESS,
    SECOND_NS,
    Bench,
    Traced,
    request,
)

State, Input = RegistrationState, RegistrationInput

NEWER = FIRST_SEQUENCE + 10
RECEIVED = {
    Input.REGISTER: request(NEWER, care_of_address=OTHER_CARE_OF_ADDRESS),
    Input.DEREGISTER: request(NEWER, lifetime_units=0),
    Input.REGISTER_AS_CORRESPONDENT: request(NEWER, is_home_registration=False),
}


@dataclass(frozen=True)
class Outcome:
    """What a pair leads to, in the words of the RFC's sections; None in its place: it cannot happen."""

    state: RegistrationState
    effects: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    events: tuple[str, ...] = ()


REFUSED, DROPPED = ("RegistrationRefused",), ("SignallingDropped",)

EXPECTED: dict[tuple[RegistrationState, RegistrationInput], Outcome | None] = {
    # RFC 6275 section 10.3.1: duplicate address detection before anything else.
    (State.NO_BINDING, Input.REGISTER): Outcome(State.DETECTING, ("StartDad", "SendFrame")),
    # Section 10.3.2: no binding to take back.
    (State.NO_BINDING, Input.DEREGISTER): Outcome(State.NO_BINDING, (), (133,), REFUSED),
    # Section 9.5.1: what a correspondent would need is missing.
    (State.NO_BINDING, Input.REGISTER_AS_CORRESPONDENT): Outcome(State.NO_BINDING, (), (), DROPPED),
    (State.NO_BINDING, Input.ADDRESS_UNIQUE): None,
    (State.NO_BINDING, Input.ADDRESS_IN_USE): None,
    (State.NO_BINDING, Input.INSTALLED): None,
    (State.NO_BINDING, Input.INSTALL_FAILED): None,
    (State.NO_BINDING, Input.EXPIRED): None,
    # Neither a second detection nor an answer yet.
    (State.DETECTING, Input.REGISTER): Outcome(State.DETECTING),
    (State.DETECTING, Input.DEREGISTER): Outcome(State.NO_BINDING, ("StopDad",), (133,), REFUSED),
    (State.DETECTING, Input.REGISTER_AS_CORRESPONDENT): Outcome(State.DETECTING, (), (), DROPPED),
    # The map is written, and only its answer leads to an acknowledgement.
    (State.DETECTING, Input.ADDRESS_UNIQUE): Outcome(State.INSTALLING, ("InstallBinding", "StopDad")),
    (State.DETECTING, Input.ADDRESS_IN_USE): Outcome(State.NO_BINDING, ("StopDad",), (134,), REFUSED),
    (State.DETECTING, Input.INSTALLED): None,
    (State.DETECTING, Input.INSTALL_FAILED): None,
    (State.DETECTING, Input.EXPIRED): None,
    (State.INSTALLING, Input.REGISTER): Outcome(State.INSTALLING),
    (State.INSTALLING, Input.DEREGISTER): Outcome(State.INSTALLING),
    (State.INSTALLING, Input.REGISTER_AS_CORRESPONDENT): Outcome(State.INSTALLING, (), (), DROPPED),
    (State.INSTALLING, Input.ADDRESS_UNIQUE): None,
    (State.INSTALLING, Input.ADDRESS_IN_USE): None,
    # Section 10.4.1: the home link is told.
    (State.INSTALLING, Input.INSTALLED): Outcome(State.BOUND, ("SendFrame",), (0,), ("BindingRegistered",)),
    (State.INSTALLING, Input.INSTALL_FAILED): Outcome(State.NO_BINDING, (), (130,), REFUSED),
    (State.INSTALLING, Input.EXPIRED): None,
    # No detection for an address that is defended already.
    (State.BOUND, Input.REGISTER): Outcome(State.UPDATING, ("InstallBinding",)),
    (State.BOUND, Input.DEREGISTER): Outcome(State.NO_BINDING, ("RemoveBinding",), (0,), ("BindingDeregistered",)),
    (State.BOUND, Input.REGISTER_AS_CORRESPONDENT): Outcome(State.BOUND, (), (139,), REFUSED),
    (State.BOUND, Input.ADDRESS_UNIQUE): None,
    (State.BOUND, Input.ADDRESS_IN_USE): None,
    (State.BOUND, Input.INSTALLED): None,
    (State.BOUND, Input.INSTALL_FAILED): None,
    (State.BOUND, Input.EXPIRED): Outcome(State.NO_BINDING, ("RemoveBinding",), (), ("BindingExpired",)),
    (State.UPDATING, Input.REGISTER): Outcome(State.UPDATING),
    (State.UPDATING, Input.DEREGISTER): Outcome(State.UPDATING),
    (State.UPDATING, Input.REGISTER_AS_CORRESPONDENT): Outcome(State.UPDATING, (), (139,), REFUSED),
    (State.UPDATING, Input.ADDRESS_UNIQUE): None,
    (State.UPDATING, Input.ADDRESS_IN_USE): None,
    (State.UPDATING, Input.INSTALLED): Outcome(State.BOUND, (), (0,), ("BindingRefreshed",)),
    # The earlier binding stands.
    (State.UPDATING, Input.INSTALL_FAILED): Outcome(State.BOUND, (), (130,), REFUSED),
    (State.UPDATING, Input.EXPIRED): Outcome(State.UPDATING),
}

PAIRS = list(product(RegistrationState, RegistrationInput))


def test_no_pair_is_forgotten() -> None:
    assert set(EXPECTED) == set(PAIRS)
    assert set(RegistrationMachine.TRANSITIONS) == set(PAIRS)


def _give(bench: Bench, input_: RegistrationInput) -> None:
    """The input as the world gives it; where the world cannot, past the door that keeps it out."""
    state = bench.state()
    if input_ in RECEIVED:
        bench.machine.receive(RECEIVED[input_], bench.now)
    elif EXPECTED[state, input_] is None:
        bench.machine._feed(input_, HOME_ADDRESS, bench.now)
    elif input_ is Input.ADDRESS_IN_USE:
        bench.machine.address_in_use(HOME_ADDRESS, bench.now)
    elif input_ is Input.ADDRESS_UNIQUE:
        bench.pass_time(1)
    elif input_ is Input.EXPIRED:
        # Announcements are over by then.
        bench.machine.announcement.stop(HOME_ADDRESS)
        bench.pass_time(60)
    else:
        bench.answer(EffectResult.DONE if input_ is Input.INSTALLED else EffectResult.FAILED)


@pytest.mark.parametrize(("state", "input_"), PAIRS, ids=lambda value: value.value)
def test_pair(state: RegistrationState, input_: RegistrationInput) -> None:
    bench = Bench()
    bench.bring_to(state)
    expected = EXPECTED[state, input_]
    if expected is None:
        with pytest.raises(InvariantError):
            _give(bench, input_)
        assert bench.take() == []
        assert bench.state() is state
        return
    _give(bench, input_)
    assert bench.state() is expected.state
    assert tuple(bench.take_kinds()) == expected.effects
    assert tuple(bench.statuses()) == expected.statuses
    assert tuple(bench.events()) == expected.events
    assert bench.trace == [Traced(state, input_, expected.state)]


def test_a_machine_needs_no_observer() -> None:
    bench = Bench()
    machine = RegistrationMachine(HomeAgentConfiguration((HOME_LINK,)), bench.outbox, bench.acknowledgements.append)
    machine.receive(request(lifetime_units=0), 0)
    assert bench.statuses() == [133]


def test_handlers_notice_a_missing_request() -> None:
    bench = Bench()
    with pytest.raises(InvariantError):
        bench.machine._feed(Input.REGISTER, HOME_ADDRESS, 0)


# ---- answers of the data path ----


def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    bench = Bench()
    bench.bring_to(State.BOUND)
    entry = bench.writes[0].entry
    bench.machine.written(entry, EffectResult.FAILED, bench.now)
    assert bench.state() is State.BOUND
    bench.machine.receive(request(NEWER), bench.now)
    bench.take()
    bench.machine.written(entry, EffectResult.FAILED, bench.now)
    assert bench.state() is State.UPDATING
    assert bench.statuses() == []


@pytest.mark.parametrize("result", [EffectResult.TABLE_FULL, EffectResult.FAILED])
def test_every_failed_write_is_status_130(result: EffectResult) -> None:
    bench = Bench()
    bench.bring_to(State.INSTALLING)
    bench.answer(result)
    assert bench.statuses() == [BindingStatus.INSUFFICIENT_RESOURCES]


def test_newest_waiting_request_has_its_turn_after_a_failure() -> None:
    bench = Bench()
    bench.bring_to(State.INSTALLING)
    bench.machine.receive(request(NEWER + 1, care_of_address=OTHER_CARE_OF_ADDRESS), bench.now)
    bench.machine.receive(request(NEWER), bench.now)
    bench.machine.receive(request(FIRST_SEQUENCE), bench.now)
    assert bench.outbox.counters[SignallingReason.WRITE_UNDERWAY] == 3
    bench.answer(EffectResult.FAILED)
    assert bench.statuses() == [130]
    # The failure ended the first registration, so that the second begins with detection.
    assert bench.state() is State.DETECTING
    bench.pass_time(1)
    bench.answer(EffectResult.DONE)
    assert [acknowledgement.sequence for acknowledgement in bench.acknowledgements] == [NEWER + 1]


# ---- room ----


def test_maximum_bindings_counts_those_on_their_way_and_spares_refreshes() -> None:
    bench = Bench(HomeAgentConfiguration((HOME_LINK,), maximum_bindings=2))
    bench.bring_to(State.BOUND)
    others = [HOME_LINK.prefix[number] for number in (0x200, 0x300)]
    for home_address in others:
        bench.machine.receive(request(home_address=home_address), bench.now)
    assert bench.statuses() == [130]
    bench.machine.receive(request(NEWER), bench.now)
    assert bench.state() is State.UPDATING
    bench.answer(EffectResult.DONE)
    assert bench.statuses() == [0]
    # The one on its way gives up its place, and the other can have it.
    bench.machine.address_in_use(others[0], bench.now)
    bench.machine.receive(request(home_address=others[1]), bench.now)
    assert bench.machine.state(others[1]) is State.DETECTING


def test_detections_are_bounded() -> None:
    bench = Bench(HomeAgentConfiguration((HOME_LINK,), maximum_detections=1))
    bench.bring_to(State.DETECTING)
    bench.machine.receive(request(home_address=HOME_LINK.prefix[0x200]), bench.now)
    assert bench.statuses() == [130]


# ---- lifetimes ----


def test_prefix_that_ends_during_detection_is_refused() -> None:
    bench = Bench(HomeAgentConfiguration((replace(HOME_LINK, valid_until_ns=4 * SECOND_NS),)))
    bench.bring_to(State.DETECTING)
    bench.pass_time(1)
    assert bench.statuses() == [BindingStatus.NOT_HOME_SUBNET]
    assert bench.state() is State.NO_BINDING
    assert bench.take_kinds() == ["StopDad"]


def test_acknowledged_lifetime_is_that_of_the_binding() -> None:
    bench = Bench(HomeAgentConfiguration((HOME_LINK,), maximum_lifetime_s=43))
    bench.bring_to(State.INSTALLING)
    bench.answer(EffectResult.DONE)
    (acknowledgement,) = bench.acknowledgements
    entry = bench.machine.cache.get(HOME_ADDRESS)
    assert entry is not None
    assert acknowledgement.lifetime_units == entry.lifetime_units == 10
    assert entry.expires_ns - entry.registered_ns == 40 * SECOND_NS


# ---- sequence numbers remembered ----


def test_sequence_numbers_are_remembered_only_where_nothing_else_guards() -> None:
    for only_guard, expected in ((True, [135]), (False, [])):
        bench = Bench()
        bench.machine.remember_sequence(HOME_ADDRESS, NEWER)
        bench.machine.receive(request(NEWER, sequence_is_only_guard=only_guard), 0)
        assert bench.statuses() == expected


def test_first_registration_without_memory_takes_any_sequence_number() -> None:
    bench = Bench()
    bench.machine.receive(request(0, sequence_is_only_guard=True), 0)
    assert bench.state() is State.DETECTING


@pytest.mark.parametrize("end", ["conflict", "abandoned", "superseded", "removed", "expired"])
def test_old_request_is_refused_whatever_ended_the_registration(end: str) -> None:
    bench = Bench()
    last = FIRST_SEQUENCE
    bench.machine.receive(request(sequence_is_only_guard=True), 0)
    if end == "abandoned":
        last += 1
        bench.machine.receive(request(last, lifetime_units=0, sequence_is_only_guard=True), 0)
    elif end == "superseded":
        last += 1
        bench.machine.receive(request(last, sequence_is_only_guard=True), 0)
        bench.machine.address_in_use(HOME_ADDRESS, 0)
    elif end == "conflict":
        bench.machine.address_in_use(HOME_ADDRESS, 0)
    else:
        bench.pass_time(1)
        bench.answer(EffectResult.DONE)
        last += 1
        bench.machine.receive(request(last, sequence_is_only_guard=True), bench.now)
        bench.answer(EffectResult.DONE)
        if end == "removed":
            last += 1
            bench.machine.receive(request(last, lifetime_units=0, sequence_is_only_guard=True), bench.now)
        else:
            bench.pass_time(60)
    assert bench.state() is State.NO_BINDING
    bench.acknowledgements.clear()
    bench.machine.receive(request(last, sequence_is_only_guard=True), bench.now)
    (acknowledgement,) = bench.acknowledgements
    assert (acknowledgement.status, acknowledgement.sequence) == (135, last)


def test_removal_bears_the_sequence_number_of_the_deregistration() -> None:
    bench = Bench()
    bench.bring_to(State.BOUND)
    bench.machine.receive(request(NEWER, care_of_address=HOME_ADDRESS), bench.now)
    (effect,) = bench.take()
    assert isinstance(effect, RemoveBinding)
    assert effect.entry.sequence == NEWER
    assert effect.entry.care_of_address == CARE_OF_ADDRESS


# ---- restart ----


def test_restored_bindings_expire_in_their_time_and_are_not_announced() -> None:
    bench = Bench()
    bench.bring_to(State.BOUND)
    entry = bench.writes[0].entry
    restarted = Bench()
    restarted.machine.restore(entry)
    assert restarted.take() == []
    assert restarted.machine.next_deadline() == entry.expires_ns
    restarted.machine.handle_timer(entry.expires_ns - 1)
    assert restarted.state() is State.BOUND
    restarted.machine.handle_timer(entry.expires_ns)
    assert restarted.state() is State.NO_BINDING
    assert restarted.machine.next_deadline() is None


def test_refresh_of_a_prefix_that_the_configuration_lost_is_refused() -> None:
    bench = Bench()
    bench.bring_to(State.BOUND)
    other_link = replace(
        HOME_LINK,
        prefix=IPv6Network("2001:db8:9::/64"),
        home_agent_address=IPv6Address("2001:db8:9::1"),
    )
    restarted = Bench(HomeAgentConfiguration((other_link,)))
    restarted.machine.restore(bench.writes[0].entry)
    restarted.machine.receive(request(NEWER), bench.now)
    assert restarted.statuses() == [BindingStatus.NOT_HOME_SUBNET]
    assert restarted.state() is State.BOUND


def test_newest_write_wins_over_an_unanswered_expiry() -> None:
    """A binding whose time came while its refresh was being written expires again, in its new time."""
    bench = Bench()
    bench.bring_to(State.UPDATING)
    bench.pass_time(60)
    assert bench.state() is State.UPDATING
    bench.answer(EffectResult.DONE)
    assert bench.state() is State.BOUND
    # Written at 1 s with 60 s to live.
    assert bench.machine.next_deadline() == 61 * SECOND_NS
    bench.machine.handle_timer(61 * SECOND_NS)
    assert bench.state() is State.NO_BINDING


# ---- the pairs' other cases ----


def test_virtual_home_link_needs_neither_detection_nor_announcement() -> None:
    bench = Bench(HomeAgentConfiguration((replace(HOME_LINK, index=0),)))
    bench.machine.receive(request(), 0)
    assert bench.state() is State.INSTALLING
    bench.answer(EffectResult.DONE)
    assert bench.take() == []
    assert bench.statuses() == [0]
    assert bench.state() is State.BOUND


@pytest.mark.parametrize("lifetime_units", [0, 15])
def test_older_request_during_detection_changes_nothing(lifetime_units: int) -> None:
    bench = Bench()
    bench.bring_to(State.DETECTING)
    bench.machine.receive(request(FIRST_SEQUENCE - 1, lifetime_units=lifetime_units), 0)
    bench.machine.receive(request(FIRST_SEQUENCE, lifetime_units=lifetime_units), 0)
    assert bench.state() is State.DETECTING
    assert bench.take() == []
    assert bench.statuses() == []
    bench.pass_time(1)
    bench.answer(EffectResult.DONE)
    assert bench.acknowledgements[0].sequence == FIRST_SEQUENCE


def test_newer_request_during_detection_is_the_one_acknowledged() -> None:
    bench = Bench()
    bench.bring_to(State.DETECTING)
    bench.machine.receive(request(NEWER, care_of_address=OTHER_CARE_OF_ADDRESS), SECOND_NS // 2)
    bench.pass_time(1)
    bench.answer(EffectResult.DONE)
    entry = bench.machine.cache.get(HOME_ADDRESS)
    assert entry is not None
    assert (entry.sequence, entry.care_of_address) == (NEWER, OTHER_CARE_OF_ADDRESS)
    assert bench.acknowledgements[0].request.sequence == NEWER


def test_newer_request_during_detection_that_is_refused_leaves_the_first_one_standing() -> None:
    bench = Bench()
    bench.bring_to(State.DETECTING)
    bench.machine.receive(request(NEWER, care_of_address=HOME_LINK.prefix[0x999]), 0)
    assert bench.statuses() == [BindingStatus.INVALID_CARE_OF_ADDRESS]
    bench.pass_time(1)
    bench.answer(EffectResult.DONE)
    assert bench.acknowledgements[0].sequence == FIRST_SEQUENCE


def test_newer_request_with_another_l_bit_begins_detection_anew() -> None:
    bench = Bench()
    bench.bring_to(State.DETECTING)
    bench.machine.receive(request(NEWER, link_local_compatible=True), SECOND_NS // 2)
    assert bench.take_kinds() == ["StopDad", "StartDad", "StartDad", "SendFrame", "SendFrame"]
    bench.pass_time(1)
    assert bench.state() is State.DETECTING
    bench.machine.handle_timer(3 * SECOND_NS // 2)
    assert bench.state() is State.INSTALLING


def test_handover_is_told_with_the_previous_care_of_address() -> None:
    bench = Bench()
    bench.bring_to(State.BOUND)
    bench.machine.receive(request(NEWER, care_of_address=OTHER_CARE_OF_ADDRESS), bench.now)
    bench.answer(EffectResult.DONE)
    event = bench.outbox.next_event()
    assert isinstance(event, BindingMoved)
    assert event.previous_care_of_address == CARE_OF_ADDRESS
    assert event.entry.care_of_address == OTHER_CARE_OF_ADDRESS
    assert bench.outbox.counters[SignallingReason.MOVED] == 1


def test_refresh_that_sets_the_l_bit_is_announced() -> None:
    bench = Bench()
    bench.bring_to(State.BOUND)
    bench.machine.receive(request(NEWER, link_local_compatible=True), bench.now)
    bench.answer(EffectResult.DONE)
    assert bench.take_kinds() == ["SendFrame", "SendFrame"]
    bench.machine.receive(request(NEWER + 1, link_local_compatible=True), bench.now)
    bench.answer(EffectResult.DONE)
    assert bench.take() == []


def test_failed_refresh_of_a_binding_past_its_time_ends_it() -> None:
    bench = Bench()
    bench.bring_to(State.UPDATING)
    bench.machine.announcement.stop(HOME_ADDRESS)
    bench.pass_time(60)
    bench.answer(EffectResult.FAILED)
    assert bench.state() is State.NO_BINDING
    assert bench.take_kinds() == ["RemoveBinding"]
    assert bench.statuses() == [130]


@pytest.mark.parametrize(("interval_s", "advice"), [(None, None), (20, 5), (23, 5), (59, 14), (60, None)])
def test_refresh_advice_is_less_than_the_lifetime(interval_s: int | None, advice: int | None) -> None:
    bench = Bench(HomeAgentConfiguration((HOME_LINK,), refresh_interval_s=interval_s))
    bench.bring_to(State.INSTALLING)
    bench.answer(EffectResult.DONE)
    assert bench.acknowledgements[0].refresh_interval_units == advice
    bench.machine.receive(request(NEWER, lifetime_units=0), bench.now)
    assert bench.acknowledgements[1].refresh_interval_units is None


@pytest.mark.parametrize("lifetime_units", [0, 15])
@pytest.mark.parametrize("sequence", [FIRST_SEQUENCE, FIRST_SEQUENCE - 1, FIRST_SEQUENCE + 0x8000])
def test_out_of_window_is_refused_with_the_last_accepted(sequence: int, lifetime_units: int) -> None:
    bench = Bench()
    bench.bring_to(State.BOUND)
    before = bench.machine.cache.get(HOME_ADDRESS)
    bench.machine.receive(request(sequence, lifetime_units=lifetime_units), bench.now)
    (acknowledgement,) = bench.acknowledgements
    assert (acknowledgement.status, acknowledgement.sequence) == (135, FIRST_SEQUENCE)
    assert bench.machine.cache.get(HOME_ADDRESS) is before
    assert bench.take() == []
