# SPDX-License-Identifier: Apache-2.0
"""The bucket for errors: so many at once, so many a second, whatever the pace of those who provoke them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from control.binding.rate_limit import RateLimit
from tests.unit.binding.machine import SECOND_NS


def test_burst_then_one_at_a_time() -> None:
    limit = RateLimit(10)
    assert [limit.allow(0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert not limit.allow(SECOND_NS // 10 - 1)
    assert limit.allow(SECOND_NS // 10)
    assert not limit.allow(SECOND_NS // 10)
    # Rest fills the bucket, and no further.
    assert [limit.allow(100 * SECOND_NS) for _ in range(12)].count(True) == 10


def test_one_a_second() -> None:
    limit = RateLimit(1)
    assert [limit.allow(second * SECOND_NS // 2) for second in range(6)] == [True, False, True, False, True, False]


@given(st.integers(1, 50), st.lists(st.integers(0, SECOND_NS // 5), max_size=200))
def test_never_more_than_a_burst_and_the_rate(per_s: int, gaps: list[int]) -> None:
    limit = RateLimit(per_s)
    now = allowed = 0
    for gap in gaps:
        now += gap
        allowed += limit.allow(now)
    assert allowed <= per_s + now * per_s // SECOND_NS + 1
