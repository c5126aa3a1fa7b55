# SPDX-License-Identifier: Apache-2.0
"""The Internet checksum against RFC 1071's example and against the sum as that RFC writes it down."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.wire.checksum import internet_checksum, pseudo_header_checksum


def sum_of_words(data: bytes) -> int:
    """RFC 1071 section 4.1, in its own order: add up 16-bit words, fold the carries, complement."""
    total = 0
    for offset in range(0, len(data), 2):
        total += int.from_bytes(data[offset : offset + 2].ljust(2, b"\x00"), "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def test_the_example_of_rfc_1071() -> None:
    # Section 3: the words 0001 f203 f4f5 f6f7 add up to ddf2.
    assert internet_checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


@pytest.mark.parametrize(
    ("data", "checksum"),
    [(b"", 0xFFFF), (bytes(8), 0xFFFF), (b"\xff\xff", 0), (b"\xff\xff\x00\x01", 0xFFFE), (b"\x12", 0xEDFF)],
)
def test_edges(data: bytes, checksum: int) -> None:
    assert internet_checksum(data) == checksum


@given(st.binary(max_size=64))
def test_one_division_is_the_sum_of_words(data: bytes) -> None:
    assert internet_checksum(data) == sum_of_words(data)


@given(st.binary(min_size=2, max_size=64))
def test_a_correct_checksum_sums_to_zero(data: bytes) -> None:
    data = data[: len(data) & ~1]
    assert internet_checksum(data + internet_checksum(data).to_bytes(2, "big")) == 0


@given(st.ip_addresses(v=6), st.ip_addresses(v=6), st.integers(min_value=1, max_value=255), st.binary(max_size=65))
def test_the_pseudo_header(source: IPv6Address, destination: IPv6Address, next_header: int, payload: bytes) -> None:
    pseudo_header = (
        source.packed + destination.packed + len(payload).to_bytes(4, "big") + bytes(3) + bytes((next_header,))
    )
    assert pseudo_header_checksum(source, destination, next_header, payload) == sum_of_words(pseudo_header + payload)
