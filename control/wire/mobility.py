# SPDX-License-Identifier: Apache-2.0
"""The Mobility Header and its messages (RFC 6275 section 6.1).

All messages begin alike:

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    | Payload Proto |  Header Len   |   MH Type     |   Reserved    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |           Checksum            |  Message Data ...
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

Offsets in the diagrams below go on from there. Reserved fields are sent as 0 and ignored on receipt. Whether a message
is authorized, in order or allowed to carry its options is not asked here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address
from struct import Struct
from typing import ClassVar

from control.wire.checksum import pseudo_header_checksum
from control.wire.errors import MalformedReason, WireError
from control.wire.ipv6 import NextHeader
from control.wire.mobility_options import (
    LIFETIME_UNIT_S,
    AlternateCareOfAddress,
    BindingAuthorizationData,
    BindingRefreshAdvice,
    MobilityOption,
    NonceIndices,
    pull_mobility_options,
    push_mobility_options,
)

MOBILITY_HEADER_FIXED_LENGTH = 6
"""Octets before the Message Data."""

_COMMON = Struct("!BBBxH")
_RESERVED = bytes(2)
_COOKIE = Struct("!2x8s")
_TEST = Struct("!H8s8s")
_BINDING_UPDATE = Struct("!HHH")
_BINDING_ACKNOWLEDGEMENT = Struct("!BBHH")
_BINDING_ERROR = Struct("!Bx16s")


class MobilityHeaderType(IntEnum):
    """RFC 6275 section 6.1.1; numbers assigned by IANA."""

    BINDING_REFRESH_REQUEST = 0
    HOME_TEST_INIT = 1
    CARE_OF_TEST_INIT = 2
    HOME_TEST = 3
    CARE_OF_TEST = 4
    BINDING_UPDATE = 5
    BINDING_ACKNOWLEDGEMENT = 6
    BINDING_ERROR = 7


class BindingStatus(IntEnum):
    """Status of a Binding Acknowledgement (RFC 6275 section 6.1.8); from 128 on a refusal."""

    ACCEPTED = 0
    ACCEPTED_BUT_PREFIX_DISCOVERY_NECESSARY = 1
    REASON_UNSPECIFIED = 128
    ADMINISTRATIVELY_PROHIBITED = 129
    INSUFFICIENT_RESOURCES = 130
    HOME_REGISTRATION_NOT_SUPPORTED = 131
    NOT_HOME_SUBNET = 132
    NOT_HOME_AGENT_FOR_THIS_MOBILE_NODE = 133
    DUPLICATE_ADDRESS_DETECTION_FAILED = 134
    SEQUENCE_NUMBER_OUT_OF_WINDOW = 135
    EXPIRED_HOME_NONCE_INDEX = 136
    EXPIRED_CARE_OF_NONCE_INDEX = 137
    EXPIRED_NONCES = 138
    REGISTRATION_TYPE_CHANGE_DISALLOWED = 139
    MOBILE_ROUTER_OPERATION_NOT_PERMITTED = 140
    """This and the next three: RFC 3963 section 4.2."""
    INVALID_PREFIX = 141
    NOT_AUTHORIZED_FOR_PREFIX = 142
    FORWARDING_SETUP_FAILED = 143
    INVALID_CARE_OF_ADDRESS = 174

    @property
    def is_accepted(self) -> bool:
        return self < BindingStatus.REASON_UNSPECIFIED


class BindingErrorStatus(IntEnum):
    """Status of a Binding Error (RFC 6275 section 6.1.9)."""

    UNKNOWN_BINDING_FOR_HOME_ADDRESS_OPTION = 1
    UNRECOGNIZED_MOBILITY_HEADER_TYPE = 2


@dataclass(frozen=True, slots=True)
class BindingRefreshRequest:
    """
    RFC 6275 section 6.1.2

                                    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
                                    |           Reserved            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Mobility Options ...
    """

    type: ClassVar[int] = MobilityHeaderType.BINDING_REFRESH_REQUEST

    options: tuple[MobilityOption, ...] = ()

    @property
    def fixed_part(self) -> bytes:
        return _RESERVED


@dataclass(frozen=True, slots=True)
class HomeTestInit:
    """
    RFC 6275 section 6.1.3

                                    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
                                    |           Reserved            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                      Home Init Cookie (8)                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Mobility Options ...
    """

    type: ClassVar[int] = MobilityHeaderType.HOME_TEST_INIT

    home_init_cookie: bytes
    options: tuple[MobilityOption, ...] = ()

    @property
    def fixed_part(self) -> bytes:
        return _RESERVED + self.home_init_cookie


@dataclass(frozen=True, slots=True)
class CareOfTestInit:
    """RFC 6275 section 6.1.4; the format is that of `HomeTestInit`."""

    type: ClassVar[int] = MobilityHeaderType.CARE_OF_TEST_INIT

    care_of_init_cookie: bytes
    options: tuple[MobilityOption, ...] = ()

    @property
    def fixed_part(self) -> bytes:
        return _RESERVED + self.care_of_init_cookie


@dataclass(frozen=True, slots=True)
class HomeTest:
    """
    RFC 6275 section 6.1.5

                                    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
                                    |       Home Nonce Index        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                      Home Init Cookie (8)                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                      Home Keygen Token (8)                    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Mobility Options ...
    """

    type: ClassVar[int] = MobilityHeaderType.HOME_TEST

    home_nonce_index: int
    home_init_cookie: bytes
    home_keygen_token: bytes
    options: tuple[MobilityOption, ...] = ()

    @property
    def fixed_part(self) -> bytes:
        return _TEST.pack(self.home_nonce_index, self.home_init_cookie, self.home_keygen_token)


@dataclass(frozen=True, slots=True)
class CareOfTest:
    """RFC 6275 section 6.1.6; the format is that of `HomeTest`."""

    type: ClassVar[int] = MobilityHeaderType.CARE_OF_TEST

    care_of_nonce_index: int
    care_of_init_cookie: bytes
    care_of_keygen_token: bytes
    options: tuple[MobilityOption, ...] = ()

    @property
    def fixed_part(self) -> bytes:
        return _TEST.pack(self.care_of_nonce_index, self.care_of_init_cookie, self.care_of_keygen_token)


BINDING_UPDATE_ACKNOWLEDGE = 0x8000
BINDING_UPDATE_HOME_REGISTRATION = 0x4000
BINDING_UPDATE_LINK_LOCAL_COMPATIBLE = 0x2000
BINDING_UPDATE_KEY_MANAGEMENT_MOBILITY = 0x1000


@dataclass(frozen=True, slots=True)
class BindingUpdate:
    """
    RFC 6275 section 6.1.7

                                    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
                                    |          Sequence #           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |A|H|L|K|        Reserved       |           Lifetime            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Mobility Options ...
    """

    type: ClassVar[int] = MobilityHeaderType.BINDING_UPDATE

    sequence: int
    acknowledge: bool
    home_registration: bool
    link_local_compatible: bool
    """The interface identifiers of the home address and of the mobile node's link-local address are the same."""
    key_management_mobility: bool
    lifetime_units: int
    """Units of 4 s; 0 asks to delete the binding."""
    options: tuple[MobilityOption, ...] = ()

    @property
    def lifetime_s(self) -> int:
        return self.lifetime_units * LIFETIME_UNIT_S

    @property
    def alternate_care_of_address(self) -> IPv6Address | None:
        for option in self.options:
            if isinstance(option, AlternateCareOfAddress):
                return option.address
        return None

    @property
    def nonce_indices(self) -> NonceIndices | None:
        for option in self.options:
            if isinstance(option, NonceIndices):
                return option
        return None

    @property
    def binding_authorization_data(self) -> BindingAuthorizationData | None:
        return _binding_authorization_data(self.options)

    @property
    def fixed_part(self) -> bytes:
        return _BINDING_UPDATE.pack(
            self.sequence,
            self.acknowledge * BINDING_UPDATE_ACKNOWLEDGE
            | self.home_registration * BINDING_UPDATE_HOME_REGISTRATION
            | self.link_local_compatible * BINDING_UPDATE_LINK_LOCAL_COMPATIBLE
            | self.key_management_mobility * BINDING_UPDATE_KEY_MANAGEMENT_MOBILITY,
            self.lifetime_units,
        )


BINDING_ACKNOWLEDGEMENT_KEY_MANAGEMENT_MOBILITY = 0x80


@dataclass(frozen=True, slots=True)
class BindingAcknowledgement:
    """
    RFC 6275 section 6.1.8

                                    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
                                    |    Status     |K|  Reserved   |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |           Sequence #          |           Lifetime            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Mobility Options ...
    """

    type: ClassVar[int] = MobilityHeaderType.BINDING_ACKNOWLEDGEMENT

    status: int
    """A BindingStatus, or a number that a newer RFC has given a meaning."""
    key_management_mobility: bool
    sequence: int
    lifetime_units: int
    """Units of 4 s: what was granted."""
    options: tuple[MobilityOption, ...] = ()

    @property
    def lifetime_s(self) -> int:
        return self.lifetime_units * LIFETIME_UNIT_S

    @property
    def is_accepted(self) -> bool:
        return self.status < BindingStatus.REASON_UNSPECIFIED

    @property
    def binding_refresh_advice(self) -> BindingRefreshAdvice | None:
        for option in self.options:
            if isinstance(option, BindingRefreshAdvice):
                return option
        return None

    @property
    def binding_authorization_data(self) -> BindingAuthorizationData | None:
        return _binding_authorization_data(self.options)

    @property
    def fixed_part(self) -> bytes:
        return _BINDING_ACKNOWLEDGEMENT.pack(
            self.status,
            self.key_management_mobility * BINDING_ACKNOWLEDGEMENT_KEY_MANAGEMENT_MOBILITY,
            self.sequence,
            self.lifetime_units,
        )


@dataclass(frozen=True, slots=True)
class BindingError:
    """
    RFC 6275 section 6.1.9

                                    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
                                    |    Status     |   Reserved    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                         Home Address (16)                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Mobility Options ...
    """

    type: ClassVar[int] = MobilityHeaderType.BINDING_ERROR

    status: int
    """A BindingErrorStatus, or a number that a newer RFC has given a meaning."""
    home_address: IPv6Address
    """From the Home Address option of the packet at fault; unspecified if it had none."""
    options: tuple[MobilityOption, ...] = ()

    @property
    def fixed_part(self) -> bytes:
        return _BINDING_ERROR.pack(self.status, self.home_address.packed)


@dataclass(frozen=True, slots=True)
class UnknownMobilityMessage:
    """A message whose type RFC 6275 does not know: answered by Binding Error 2 (RFC 6275 section 9.2)."""

    type: int
    data: bytes
    """All after the checksum: 2 octets more than a multiple of 8."""


KnownMobilityMessage = (
    BindingRefreshRequest
    | HomeTestInit
    | CareOfTestInit
    | HomeTest
    | CareOfTest
    | BindingUpdate
    | BindingAcknowledgement
    | BindingError
)
MobilityMessage = KnownMobilityMessage | UnknownMobilityMessage


def _binding_authorization_data(options: tuple[MobilityOption, ...]) -> BindingAuthorizationData | None:
    """Return the authenticator, which can only be the last option."""
    return options[-1] if options and isinstance(options[-1], BindingAuthorizationData) else None


# ---- each message from its octets; their number was checked ----


def _pull_binding_refresh_request(data: bytes) -> BindingRefreshRequest:
    return BindingRefreshRequest(pull_mobility_options(data, 8))


def _pull_home_test_init(data: bytes) -> HomeTestInit:
    (cookie,) = _COOKIE.unpack_from(data, MOBILITY_HEADER_FIXED_LENGTH)
    return HomeTestInit(cookie, pull_mobility_options(data, 16))


def _pull_care_of_test_init(data: bytes) -> CareOfTestInit:
    (cookie,) = _COOKIE.unpack_from(data, MOBILITY_HEADER_FIXED_LENGTH)
    return CareOfTestInit(cookie, pull_mobility_options(data, 16))


def _pull_home_test(data: bytes) -> HomeTest:
    nonce_index, cookie, keygen_token = _TEST.unpack_from(data, MOBILITY_HEADER_FIXED_LENGTH)
    return HomeTest(nonce_index, cookie, keygen_token, pull_mobility_options(data, 24))


def _pull_care_of_test(data: bytes) -> CareOfTest:
    nonce_index, cookie, keygen_token = _TEST.unpack_from(data, MOBILITY_HEADER_FIXED_LENGTH)
    return CareOfTest(nonce_index, cookie, keygen_token, pull_mobility_options(data, 24))


def _pull_binding_update(data: bytes) -> BindingUpdate:
    sequence, flags, lifetime_units = _BINDING_UPDATE.unpack_from(data, MOBILITY_HEADER_FIXED_LENGTH)
    return BindingUpdate(
        sequence=sequence,
        acknowledge=bool(flags & BINDING_UPDATE_ACKNOWLEDGE),
        home_registration=bool(flags & BINDING_UPDATE_HOME_REGISTRATION),
        link_local_compatible=bool(flags & BINDING_UPDATE_LINK_LOCAL_COMPATIBLE),
        key_management_mobility=bool(flags & BINDING_UPDATE_KEY_MANAGEMENT_MOBILITY),
        lifetime_units=lifetime_units,
        options=pull_mobility_options(data, 12),
    )


def _pull_binding_acknowledgement(data: bytes) -> BindingAcknowledgement:
    status, flags, sequence, lifetime_units = _BINDING_ACKNOWLEDGEMENT.unpack_from(data, MOBILITY_HEADER_FIXED_LENGTH)
    return BindingAcknowledgement(
        status=status,
        key_management_mobility=bool(flags & BINDING_ACKNOWLEDGEMENT_KEY_MANAGEMENT_MOBILITY),
        sequence=sequence,
        lifetime_units=lifetime_units,
        options=pull_mobility_options(data, 12),
    )


def _pull_binding_error(data: bytes) -> BindingError:
    status, home_address = _BINDING_ERROR.unpack_from(data, MOBILITY_HEADER_FIXED_LENGTH)
    return BindingError(status, IPv6Address(home_address), pull_mobility_options(data, 24))


_PULL_MESSAGE: dict[int, tuple[int, Callable[[bytes], KnownMobilityMessage]]] = {
    MobilityHeaderType.BINDING_REFRESH_REQUEST: (8, _pull_binding_refresh_request),
    MobilityHeaderType.HOME_TEST_INIT: (16, _pull_home_test_init),
    MobilityHeaderType.CARE_OF_TEST_INIT: (16, _pull_care_of_test_init),
    MobilityHeaderType.HOME_TEST: (24, _pull_home_test),
    MobilityHeaderType.CARE_OF_TEST: (24, _pull_care_of_test),
    MobilityHeaderType.BINDING_UPDATE: (16, _pull_binding_update),
    MobilityHeaderType.BINDING_ACKNOWLEDGEMENT: (16, _pull_binding_acknowledgement),
    MobilityHeaderType.BINDING_ERROR: (24, _pull_binding_error),
}
"""By type: the least length in octets, and the function."""


def pull_mobility_header(data: bytes, source: IPv6Address, destination: IPv6Address) -> MobilityMessage:
    """Return the message in `data`, an IPv6 payload of protocol 135.

    `source` and `destination` are the effective ones: a Home Address option and a type 2 routing header count. The
    order of the checks is that of RFC 6275 section 9.2, whose answers it decides.
    """
    if len(data) < 8:
        raise WireError(MalformedReason.TRUNCATED, f"Mobility Header needs 8 octets of {len(data)}")
    payload_proto, length_units, message_type, _ = _COMMON.unpack_from(data)
    length = 8 + length_units * 8
    if length > len(data):
        raise WireError(MalformedReason.TRUNCATED, f"Mobility Header announces {length} octets of {len(data)}")
    message = data[:length]
    # The header ends where it says (RFC 8200 section 8.1: a length field of its own wins). But a sender that states too
    # little has summed all it sent, and is owed the Parameter Problem below, not silence.
    if pseudo_header_checksum(source, destination, NextHeader.MOBILITY, message) and (
        length == len(data) or pseudo_header_checksum(source, destination, NextHeader.MOBILITY, data)
    ):
        raise WireError(MalformedReason.CHECKSUM, "Mobility Header checksum")
    known = _PULL_MESSAGE.get(message_type)
    if known is None:
        return UnknownMobilityMessage(message_type, message[MOBILITY_HEADER_FIXED_LENGTH:])
    if payload_proto != NextHeader.NO_NEXT_HEADER:
        raise WireError(MalformedReason.PAYLOAD_PROTO, f"Payload Proto {payload_proto} instead of 59", pointer=0)
    least_length, pull = known
    if length < least_length:
        raise WireError(
            MalformedReason.HEADER_LENGTH,
            f"Mobility Header type {message_type} of {length} octets needs {least_length}",
            pointer=1,
        )
    return pull(message)


def push_mobility_header(message: MobilityMessage, source: IPv6Address, destination: IPv6Address) -> bytes:
    """Return the message's octets, padded, with the checksum over the effective `source` and `destination`."""
    if isinstance(message, UnknownMobilityMessage):
        body = message.data
    else:
        fixed_part = message.fixed_part
        body = fixed_part + push_mobility_options(message.options, MOBILITY_HEADER_FIXED_LENGTH + len(fixed_part))
    length_units = (len(body) + MOBILITY_HEADER_FIXED_LENGTH) // 8 - 1
    header = _COMMON.pack(NextHeader.NO_NEXT_HEADER, length_units, message.type, 0)
    checksum = pseudo_header_checksum(source, destination, NextHeader.MOBILITY, header + body)
    return header[:4] + checksum.to_bytes(2, "big") + body
