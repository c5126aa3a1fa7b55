# SPDX-License-Identifier: Apache-2.0
"""RFC 6275 section 9.5.1: modulo 2^16, the 32767 numbers after the last one are newer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.binding.sequence import is_newer

UINT16 = st.integers(0, 0xFFFF)


@pytest.mark.parametrize(
    ("last", "newer", "older"),
    [
        # The pairs of the published conformance tests.
        (15, (16, 32782), (14, 15, 32783)),
        (32783, (32784, 14), (32782, 32783, 15)),
        (0xFFFF, (0, 32766), (0xFFFF, 0xFFFE, 32767)),
        (0, (1, 32767), (0, 0xFFFF, 32768)),
    ],
)
def test_window(last: int, newer: tuple[int, ...], older: tuple[int, ...]) -> None:
    assert [number for number in newer + older if is_newer(number, last)] == list(newer)


@given(UINT16, UINT16, UINT16)
def test_only_the_distance_counts(sequence: int, last: int, shift: int) -> None:
    assert is_newer(sequence, last) == is_newer((sequence + shift) & 0xFFFF, (last + shift) & 0xFFFF)


@given(UINT16, UINT16)
def test_never_newer_both_ways(one: int, other: int) -> None:
    assert not (is_newer(one, other) and is_newer(other, one))
    if (one - other) % 0x10000 not in (0, 0x8000):
        assert is_newer(one, other) or is_newer(other, one)
