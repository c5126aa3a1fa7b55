# SPDX-License-Identifier: Apache-2.0
"""Deadlines in order: a heap whose items are checked against their owner when they come up, and never searched for.

The owner keeps the truth (its own dictionary of what is due when), so that a deadline moved to a later instant, as
every refreshed binding's is, costs nothing here until the earlier instant has come.
"""

import heapq
from collections.abc import Callable, Iterator

SPARE_ITEMS = 1024
"""Outdated items that are always tolerated before the heap is built again."""


class DeadlineQueue:
    """For every key that its owner has a deadline for, there is an item in the heap that is due no later."""

    def __init__(self, deadline_of: Callable[[int], int | None]) -> None:
        self._deadline_of = deadline_of
        self._heap: list[tuple[int, int]] = []
        self._rebuild_at = SPARE_ITEMS

    def __len__(self) -> int:
        return len(self._heap)

    def scheduled(self, key: int, deadline_ns: int, previous_ns: int | None) -> None:
        """The owner has set the deadline of `key`, which was `previous_ns` before, or None."""
        if previous_ns is None or deadline_ns < previous_ns:
            heapq.heappush(self._heap, (deadline_ns, key))
            if len(self._heap) > self._rebuild_at:
                self._rebuild()

    def next_deadline(self) -> int | None:
        """The earliest deadline that the owner still holds."""
        heap = self._heap
        while heap:
            queued_ns, key = heap[0]
            deadline_ns = self._deadline_of(key)
            if deadline_ns is None:
                heapq.heappop(heap)
            elif deadline_ns > queued_ns:
                heapq.heapreplace(heap, (deadline_ns, key))
            else:
                return deadline_ns
        return None

    def pop_due(self, now: int) -> Iterator[int]:
        """Keys whose deadline is `now` or past, each leaving the queue; the owner may change deadlines meanwhile."""
        while (deadline_ns := self.next_deadline()) is not None and deadline_ns <= now:
            yield heapq.heappop(self._heap)[1]

    def _rebuild(self) -> None:
        """Drop what is outdated, so that a binding registered and removed a million times takes one place."""
        deadlines = {key: self._deadline_of(key) for _, key in self._heap}
        self._heap = [(deadline_ns, key) for key, deadline_ns in deadlines.items() if deadline_ns is not None]
        heapq.heapify(self._heap)
        self._rebuild_at = 2 * len(self._heap) + SPARE_ITEMS
