# SPDX-License-Identifier: Apache-2.0
"""ICMPv6 (RFC 4443): the header that all messages share, and Parameter Problem.

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     Type      |     Code      |          Checksum             |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Message Body ...

Neighbor Discovery is in `neighbor`, home agent and prefix discovery in `discovery`. Whether an
error may be sent at all (RFC 4443 section 2.4) and how often is policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address
from struct import Struct
from typing import ClassVar

from control.wire.checksum import pseudo_header_checksum
from control.wire.discovery import (
    DiscoveryMessage,
    HomeAgentAddressDiscoveryReply,
    HomeAgentAddressDiscoveryRequest,
    MobilePrefixAdvertisement,
    MobilePrefixSolicitation,
    pull_home_agent_address_discovery_reply,
    pull_home_agent_address_discovery_request,
    pull_mobile_prefix_advertisement,
    pull_mobile_prefix_solicitation,
)
from control.wire.errors import MalformedReason, WireError
from control.wire.ipv6 import IPV6_HEADER_LENGTH, MINIMUM_MTU, NextHeader
from control.wire.neighbor import (
    NeighborAdvertisement,
    NeighborMessage,
    NeighborSolicitation,
    RouterAdvertisement,
    RouterSolicitation,
    pull_neighbor_advertisement,
    pull_neighbor_solicitation,
    pull_router_advertisement,
    pull_router_solicitation,
)

ICMPV6_HEADER_LENGTH = 4
MAXIMUM_QUOTED_LENGTH = MINIMUM_MTU - IPV6_HEADER_LENGTH - 8
"""An error quotes as much of its cause as fits into 1280 octets (RFC 4443 section 2.4 (c))."""

_HEADER = Struct("!BBH")


class Icmpv6Type(IntEnum):
    DESTINATION_UNREACHABLE = 1
    PACKET_TOO_BIG = 2
    TIME_EXCEEDED = 3
    PARAMETER_PROBLEM = 4
    ECHO_REQUEST = 128
    ECHO_REPLY = 129
    ROUTER_SOLICITATION = 133
    ROUTER_ADVERTISEMENT = 134
    NEIGHBOR_SOLICITATION = 135
    NEIGHBOR_ADVERTISEMENT = 136
    HOME_AGENT_ADDRESS_DISCOVERY_REQUEST = 144
    HOME_AGENT_ADDRESS_DISCOVERY_REPLY = 145
    MOBILE_PREFIX_SOLICITATION = 146
    MOBILE_PREFIX_ADVERTISEMENT = 147

    @property
    def is_error(self) -> bool:
        """Whether the message reports a fault, and so must never cause another (RFC 4443 section 2.1)."""
        return self < 128


class ParameterProblemCode(IntEnum):
    """RFC 4443 section 3.4."""

    ERRONEOUS_HEADER_FIELD = 0
    UNRECOGNIZED_NEXT_HEADER = 1
    UNRECOGNIZED_OPTION = 2


@dataclass(frozen=True, slots=True)
class ParameterProblem:
    """
    RFC 4443 section 3.4

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                            Pointer                            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  As much of the invoking packet as fits into 1280 octets ...
    """

    type: ClassVar[int] = Icmpv6Type.PARAMETER_PROBLEM

    code: int
    pointer: int
    """Octet of the quoted packet at which the fault was found, from the start of its IPv6 header."""
    quoted: bytes

    @classmethod
    def quoting(cls, code: int, pointer: int, packet: bytes) -> ParameterProblem:
        """Return the message about `packet`, with as much of it as is allowed."""
        return cls(code, pointer, packet[:MAXIMUM_QUOTED_LENGTH])

    @property
    def body(self) -> bytes:
        return self.pointer.to_bytes(4, "big") + self.quoted


@dataclass(frozen=True, slots=True)
class UnknownIcmpv6Message:
    """A message kept as it came."""

    type: int
    code: int
    body: bytes
    """All after the checksum."""


Icmpv6Message = NeighborMessage | DiscoveryMessage | ParameterProblem | UnknownIcmpv6Message


def _pull_parameter_problem(data: bytes) -> ParameterProblem:
    return ParameterProblem(data[1], int.from_bytes(data[4:8], "big"), data[8:])


_PULL_MESSAGE: dict[int, tuple[int, bool, Callable[[bytes], Icmpv6Message]]] = {
    ParameterProblem.type: (8, False, _pull_parameter_problem),
    RouterSolicitation.type: (8, True, pull_router_solicitation),
    RouterAdvertisement.type: (16, True, pull_router_advertisement),
    NeighborSolicitation.type: (24, True, pull_neighbor_solicitation),
    NeighborAdvertisement.type: (24, True, pull_neighbor_advertisement),
    HomeAgentAddressDiscoveryRequest.type: (8, True, pull_home_agent_address_discovery_request),
    HomeAgentAddressDiscoveryReply.type: (8, True, pull_home_agent_address_discovery_reply),
    MobilePrefixSolicitation.type: (8, True, pull_mobile_prefix_solicitation),
    MobilePrefixAdvertisement.type: (8, True, pull_mobile_prefix_advertisement),
}
"""By type: the least length in octets, whether the code must be 0, and the function."""


def pull_icmpv6(data: bytes, source: IPv6Address, destination: IPv6Address) -> Icmpv6Message:
    """Return the message in `data`, an IPv6 payload of protocol 58, between the effective addresses."""
    if len(data) < ICMPV6_HEADER_LENGTH:
        raise WireError(MalformedReason.TRUNCATED, f"ICMPv6 header needs 4 octets of {len(data)}")
    if pseudo_header_checksum(source, destination, NextHeader.ICMPV6, data):
        raise WireError(MalformedReason.CHECKSUM, "ICMPv6 checksum")
    message_type, code = data[0], data[1]
    known = _PULL_MESSAGE.get(message_type)
    if known is None:
        return UnknownIcmpv6Message(message_type, code, data[ICMPV6_HEADER_LENGTH:])
    least_length, code_is_zero, pull = known
    if len(data) < least_length:
        raise WireError(
            MalformedReason.TRUNCATED, f"ICMPv6 type {message_type} needs {least_length} octets of {len(data)}"
        )
    if code and code_is_zero:
        raise WireError(MalformedReason.ICMPV6_CODE, f"ICMPv6 type {message_type} with code {code}")
    return pull(data)


def push_icmpv6(message: Icmpv6Message, source: IPv6Address, destination: IPv6Address) -> bytes:
    """Return the message's octets, with the checksum over the effective `source` and `destination`."""
    body = message.body
    header = _HEADER.pack(message.type, message.code, 0)
    checksum = pseudo_header_checksum(source, destination, NextHeader.ICMPV6, header + body)
    return header[:2] + checksum.to_bytes(2, "big") + body
