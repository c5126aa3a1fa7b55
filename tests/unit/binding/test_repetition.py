# SPDX-License-Identifier: Apache-2.0
"""Something that is sent a few times, an interval apart."""

from __future__ import annotations

from control.binding.repetition import Repetition


def test_at_rest_nothing_is_sent() -> None:
    assert not Repetition(10).take(100)


def test_it_is_sent_as_often_as_it_was_started_for() -> None:
    repetition = Repetition(10)
    repetition.start(3, 100)
    assert [now for now in range(99, 160) if repetition.take(now)] == [100, 110, 120]
    assert repetition.deadline_ns is None


def test_a_late_one_puts_off_the_next() -> None:
    repetition = Repetition(10)
    repetition.start(2, 100)
    assert repetition.take(107)
    assert repetition.deadline_ns == 117


def test_it_can_be_stopped() -> None:
    repetition = Repetition(10)
    repetition.start(3, 100)
    repetition.stop()
    assert not repetition.take(100)
    assert (repetition.left, repetition.deadline_ns) == (0, None)
