# SPDX-License-Identifier: Apache-2.0
"""Mobility options (RFC 6275 section 6.2).

Unknown options are kept and skipped, known ones are kept wherever they stand: which message may carry which is policy.
A known option's length and every alignment are format, and checked here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address
from struct import Struct
from typing import ClassVar

from control.wire.errors import MalformedReason, WireError
from control.wire.options import PadN, PadOne, pull_options, push_option, push_padding

LIFETIME_UNIT_S = 4
"""Lifetimes and intervals of the Mobility Header count in units of 4 seconds."""

_UINT16 = Struct("!H")
_NONCE_INDICES = Struct("!HH")


class MobilityOptionType(IntEnum):
    PAD_ONE = 0
    PAD_N = 1
    BINDING_REFRESH_ADVICE = 2
    ALTERNATE_CARE_OF_ADDRESS = 3
    NONCE_INDICES = 4
    BINDING_AUTHORIZATION_DATA = 5


@dataclass(frozen=True, slots=True)
class BindingRefreshAdvice:
    """
    RFC 6275 section 6.2.4; alignment 2n

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |   Type = 2    |   Length = 2  |       Refresh Interval        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    type: ClassVar[int] = MobilityOptionType.BINDING_REFRESH_ADVICE

    interval_units: int
    """When the home agent would like the next Binding Update, in units of 4 s."""

    @property
    def interval_s(self) -> int:
        return self.interval_units * LIFETIME_UNIT_S

    @property
    def data(self) -> bytes:
        return _UINT16.pack(self.interval_units)


@dataclass(frozen=True, slots=True)
class AlternateCareOfAddress:
    """
    RFC 6275 section 6.2.5; alignment 8n+6

                                    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
                                    |   Type = 3    |  Length = 16  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                   Alternate Care-of Address (16)              |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    type: ClassVar[int] = MobilityOptionType.ALTERNATE_CARE_OF_ADDRESS

    address: IPv6Address
    """The care-of address, in place of the packet's source, which ESP in transport mode does not protect."""

    @property
    def data(self) -> bytes:
        return self.address.packed


@dataclass(frozen=True, slots=True)
class NonceIndices:
    """
    RFC 6275 section 6.2.6; alignment 2n

                                    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
                                    |   Type = 4    |   Length = 4  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |       Home Nonce Index        |     Care-of Nonce Index       |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    type: ClassVar[int] = MobilityOptionType.NONCE_INDICES

    home_nonce_index: int
    care_of_nonce_index: int

    @property
    def data(self) -> bytes:
        return _NONCE_INDICES.pack(self.home_nonce_index, self.care_of_nonce_index)


@dataclass(frozen=True, slots=True)
class BindingAuthorizationData:
    """
    RFC 6275 section 6.2.7; alignment 8n+2, which follows from its being the last option

                                    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
                                    |   Type = 5    |  Length = 12  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                       Authenticator (12)                      |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    type: ClassVar[int] = MobilityOptionType.BINDING_AUTHORIZATION_DATA

    authenticator: bytes
    """First 96 bits of a MAC over care-of address, correspondent and message."""

    @property
    def data(self) -> bytes:
        return self.authenticator


@dataclass(frozen=True, slots=True)
class UnknownMobilityOption:
    """An option kept as it came."""

    type: int
    data: bytes


MobilityOption = (
    PadOne
    | PadN
    | BindingRefreshAdvice
    | AlternateCareOfAddress
    | NonceIndices
    | BindingAuthorizationData
    | UnknownMobilityOption
)


@dataclass(frozen=True, slots=True)
class _Format:
    """What the RFC fixes of a known option."""

    length: int
    modulus: int
    """The option begins at a multiple of `modulus`, plus `remainder`, from the start of the Mobility Header."""
    remainder: int
    pull: Callable[[bytes], MobilityOption]


_FORMATS: dict[int, _Format] = {
    MobilityOptionType.BINDING_REFRESH_ADVICE: _Format(
        2, 2, 0, lambda data: BindingRefreshAdvice(int.from_bytes(data, "big"))
    ),
    MobilityOptionType.ALTERNATE_CARE_OF_ADDRESS: _Format(
        16, 8, 6, lambda data: AlternateCareOfAddress(IPv6Address(data))
    ),
    MobilityOptionType.NONCE_INDICES: _Format(4, 2, 0, lambda data: NonceIndices(*_NONCE_INDICES.unpack(data))),
    MobilityOptionType.BINDING_AUTHORIZATION_DATA: _Format(12, 8, 2, BindingAuthorizationData),
}


def pull_mobility_options(data: bytes, begin: int) -> tuple[MobilityOption, ...]:
    """Return the options from `begin` to the end of a Mobility Header."""
    options: list[MobilityOption] = []
    end = len(data)
    for offset, option_type, option_data in pull_options(data, begin, end):
        if option_type == MobilityOptionType.PAD_N:
            options.append(PadN(option_data))
            continue
        if option_type == MobilityOptionType.PAD_ONE:
            options.append(PadOne())
            continue
        known = _FORMATS.get(option_type)
        if known is None:
            # RFC 6275 section 6.2.1: skipped over, and the rest is processed.
            options.append(UnknownMobilityOption(option_type, option_data))
            continue
        if len(option_data) != known.length:
            raise WireError(
                MalformedReason.OPTION_LENGTH,
                f"mobility option {option_type} at {offset} has {len(option_data)} octets instead of {known.length}",
            )
        # RFC 6275 section 6.2.7: nothing follows the authenticator, not even padding. This comes before alignment,
        # which it implies.
        if option_type == MobilityOptionType.BINDING_AUTHORIZATION_DATA and offset + 2 + known.length != end:
            raise WireError(
                MalformedReason.OPTION_ORDER, f"Binding Authorization Data at {offset} is not the last option"
            )
        if offset % known.modulus != known.remainder:
            raise WireError(
                MalformedReason.OPTION_ALIGNMENT,
                f"mobility option {option_type} at {offset}, not {known.modulus}n+{known.remainder}",
            )
        options.append(known.pull(option_data))
    return tuple(options)


def push_mobility_options(options: Iterable[MobilityOption], begin: int) -> bytes:
    """Return options for a Mobility Header from offset `begin`, padded to their alignments and to 8 octets."""
    pushed = bytearray()
    for option in options:
        known = _FORMATS.get(option.type)
        if known is not None:
            pushed += push_padding((known.remainder - begin - len(pushed)) % known.modulus)
        pushed += push_option(option)
    pushed += push_padding(-(begin + len(pushed)) % 8)
    return bytes(pushed)
