# SPDX-License-Identifier: Apache-2.0
"""Deadlines come up in order and none is lost, however they are moved; compared with a plain dictionary."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from control.binding.deadline_queue import SPARE_ITEMS, DeadlineQueue


class Owner:
    """A dictionary that tells its queue of what it does, as the queue asks."""

    def __init__(self) -> None:
        self.deadlines: dict[int, int] = {}
        self.queue = DeadlineQueue(self.deadlines.get)

    def set(self, key: int, deadline_ns: int) -> None:
        previous = self.deadlines.get(key)
        self.deadlines[key] = deadline_ns
        self.queue.scheduled(key, deadline_ns, previous)

    def pop_due(self, now: int) -> list[int]:
        due = []
        for key in self.queue.pop_due(now):
            del self.deadlines[key]
            due.append(key)
        return due


STEPS = st.lists(st.tuples(st.sampled_from(["set", "remove", "pop"]), st.integers(0, 5), st.integers(0, 40)))


@given(STEPS)
def test_same_as_a_search_through_all(steps: list[tuple[str, int, int]]) -> None:
    owner = Owner()
    for what, key, deadline_ns in steps:
        if what == "set":
            owner.set(key, deadline_ns)
        elif what == "remove":
            owner.deadlines.pop(key, None)
        else:
            due = {other for other, at in owner.deadlines.items() if at <= deadline_ns}
            times = dict(owner.deadlines)
            popped = owner.pop_due(deadline_ns)
            assert set(popped) == due
            assert [times[other] for other in popped] == sorted(times[other] for other in popped)
        assert owner.queue.next_deadline() == min(owner.deadlines.values(), default=None)


def test_later_deadlines_cost_no_items() -> None:
    owner = Owner()
    for deadline_ns in range(1000):
        owner.set(1, deadline_ns)
    assert len(owner.queue) == 1
    assert owner.queue.next_deadline() == 999


def test_what_comes_and_goes_does_not_pile_up() -> None:
    owner = Owner()
    owner.set(0, 5)
    for deadline_ns in range(10 * SPARE_ITEMS):
        owner.set(1, deadline_ns + 10)
        owner.deadlines.pop(1)
    assert len(owner.queue) <= SPARE_ITEMS + 2
    assert owner.queue.next_deadline() == 5
    assert owner.pop_due(10**9) == [0]
