# SPDX-License-Identifier: Apache-2.0
"""The anti-replay window against a model that remembers every number (RFC 4303 section 3.4.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.ipsec.replay import MAXIMUM_SEQUENCE, ReplayWindow
from control.wire.errors import InvariantError


class EveryNumber:
    """The window's rule said as naively as the RFC's prose allows."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.received: set[int] = set()

    def acceptable(self, sequence: int) -> bool:
        highest = max(self.received, default=0)
        return 1 <= sequence <= 2**32 - 1 and sequence > highest - self.size and sequence not in self.received


# Near one another, so that most land within the window; and leaps across all 32 bits.
arrivals = st.lists(
    st.one_of(
        st.integers(0, 300), st.integers(2**32 - 200, 2**32 + 1), st.integers(0, 2**32 + 5), st.integers(1000, 1100)
    ),
    max_size=120,
)


@given(arrivals, st.sampled_from([1, 2, 32, 64, 65, 1024]))
def test_agrees_with_a_model_that_remembers_everything(sequences: list[int], size: int) -> None:
    window, model = ReplayWindow(size), EveryNumber(size)
    for sequence in sequences:
        acceptable = model.acceptable(sequence)
        before = window.state
        assert window.check(sequence) is acceptable
        assert window.state == before, "checking moved the window"
        if acceptable:
            window.commit(sequence)
            model.received.add(sequence)
        assert window.highest == max(model.received, default=0)
        assert window.state[1] < 1 << size, "the window holds more than its size"


@given(arrivals)
def test_state_makes_the_same_window_again(sequences: list[int]) -> None:
    window = ReplayWindow()
    for sequence in filter(window.check, sequences):
        window.commit(sequence)
    highest, seen = window.state
    again = ReplayWindow(highest=highest, seen=seen)
    assert again.state == window.state
    for sequence in range(max(highest - 70, 0), highest + 70):
        assert again.check(sequence) is window.check(sequence)


def test_size_is_64_unless_asked_otherwise() -> None:
    window = ReplayWindow()
    window.commit(1000)
    assert not window.check(936)
    assert window.check(937)
    assert window.check(999)
    assert not window.check(1000)


def test_first_number_is_1_and_last_is_all_ones() -> None:
    window = ReplayWindow()
    assert not window.check(0)
    assert window.check(1)
    window.commit(MAXIMUM_SEQUENCE)
    assert not window.check(MAXIMUM_SEQUENCE)
    assert not window.check(MAXIMUM_SEQUENCE + 1)
    assert not window.check(0)


def test_where_only_the_highest_is_known_all_before_counts_as_received() -> None:
    window = ReplayWindow(highest=500)
    assert not any(window.check(sequence) for sequence in range(501))
    assert window.check(501)


def test_committing_what_is_not_acceptable_is_a_bug() -> None:
    window = ReplayWindow()
    window.commit(7)
    with pytest.raises(InvariantError, match="7"):
        window.commit(7)


@pytest.mark.parametrize(("size", "highest"), [(0, 0), (64, -1), (64, 2**32)])
def test_refuses_a_window_that_cannot_be(size: int, highest: int) -> None:
    with pytest.raises(InvariantError):
        ReplayWindow(size, highest=highest)


def test_repr_names_size_and_highest() -> None:
    assert repr(ReplayWindow(32, highest=9)) == "ReplayWindow(size=32, highest=9)"
