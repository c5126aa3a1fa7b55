# SPDX-License-Identifier: Apache-2.0
"""Type, length and data: the shape that IPv6 options (RFC 8200 section 4.2) and mobility options (RFC 6275 section
6.2.1) share, and their common padding.

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-
    |  Option Type  | Option Length |  Option Data ...
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-

What a type means, and where it may stand, is said in `ipv6` and `mobility_options`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

from control.wire.errors import MalformedReason, WireError

PAD_ONE = 0
PAD_N = 1


class Option(Protocol):
    """What every option, known or not, can say of itself."""

    @property
    def type(self) -> int:
        """Option Type."""

    @property
    def data(self) -> bytes:
        """Option Data, as on the wire."""


@dataclass(frozen=True, slots=True)
class PadOne:
    """One octet of padding: a type with neither length nor data."""

    type: ClassVar[int] = PAD_ONE
    data: ClassVar[bytes] = b""


@dataclass(frozen=True, slots=True)
class PadN:
    """Two octets of padding or more."""

    type: ClassVar[int] = PAD_N

    data: bytes = b""
    """Zeros from an honest sender; what a receiver found is kept, and ignored."""


def pull_options(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield (offset, type, data) of each option between `begin` and `end` of `data`, Pad1 with empty data."""
    offset = begin
    while offset < end:
        option_type = data[offset]
        if option_type == PAD_ONE:
            yield offset, PAD_ONE, b""
            offset += 1
            continue
        if offset + 1 == end:
            raise WireError(MalformedReason.OPTION_LENGTH, f"option type {option_type} at {offset} has no length octet")
        next_offset = offset + 2 + data[offset + 1]
        if next_offset > end:
            raise WireError(
                MalformedReason.OPTION_LENGTH,
                f"option type {option_type} at {offset} announces {data[offset + 1]} octets of {end - offset - 2}",
            )
        yield offset, option_type, data[offset + 2 : next_offset]
        offset = next_offset


def push_option(option: Option) -> bytes:
    """Return one option's octets."""
    if option.type == PAD_ONE:
        return b"\x00"
    data = option.data
    return bytes((option.type, len(data))) + data


def push_padding(length: int) -> bytes:
    """Return `length` octets of padding as one option, or none."""
    if length < 2:
        return bytes(length)
    return bytes((PAD_N, length - 2)) + bytes(length - 2)
