# SPDX-License-Identifier: Apache-2.0
"""Home agent address discovery and mobile prefix discovery (RFC 6275 sections 6.5 to 6.8), bodies of ICMPv6 messages.

As in `neighbor`, the ICMPv6 header and its checksum are read and written by `icmpv6`. Matching an answer to its
question by the identifier, and asking for IPsec around the prefixes, is up to the roles.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from struct import Struct
from typing import ClassVar

from control.wire.errors import MalformedReason, WireError
from control.wire.neighbor import NeighborOption, pull_neighbor_options, push_neighbor_options

_IDENTIFIER = Struct("!H2x")
_IDENTIFIER_AND_FLAGS = Struct("!HH")


@dataclass(frozen=True, slots=True)
class HomeAgentAddressDiscoveryRequest:
    """
    RFC 6275 section 6.5

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |          Identifier           |            Reserved           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    type: ClassVar[int] = 144
    code: ClassVar[int] = 0

    identifier: int

    @property
    def body(self) -> bytes:
        return _IDENTIFIER.pack(self.identifier)


@dataclass(frozen=True, slots=True)
class HomeAgentAddressDiscoveryReply:
    """
    RFC 6275 section 6.6

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |          Identifier           |            Reserved           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                    Home Agent Addresses (16 each)             |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    type: ClassVar[int] = 145
    code: ClassVar[int] = 0

    identifier: int
    """That of the request."""
    home_agent_addresses: tuple[IPv6Address, ...] = ()
    """In order of decreasing preference."""

    @property
    def body(self) -> bytes:
        return _IDENTIFIER.pack(self.identifier) + b"".join(address.packed for address in self.home_agent_addresses)


@dataclass(frozen=True, slots=True)
class MobilePrefixSolicitation:
    """RFC 6275 section 6.7; the format is that of `HomeAgentAddressDiscoveryRequest`, then options."""

    type: ClassVar[int] = 146
    code: ClassVar[int] = 0

    identifier: int
    options: tuple[NeighborOption, ...] = ()
    """None are defined; whatever comes is kept, and ignored."""

    @property
    def body(self) -> bytes:
        return _IDENTIFIER.pack(self.identifier) + push_neighbor_options(self.options)


MOBILE_PREFIX_MANAGED = 0x8000
MOBILE_PREFIX_OTHER_CONFIGURATION = 0x4000


@dataclass(frozen=True, slots=True)
class MobilePrefixAdvertisement:
    """
    RFC 6275 section 6.8

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |          Identifier           |M|O|        Reserved           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Options ...
    """

    type: ClassVar[int] = 147
    code: ClassVar[int] = 0

    identifier: int
    """That of the solicitation; a fresh one if there was none."""
    managed: bool = False
    other_configuration: bool = False
    options: tuple[NeighborOption, ...] = ()

    @property
    def body(self) -> bytes:
        flags = self.managed * MOBILE_PREFIX_MANAGED | self.other_configuration * MOBILE_PREFIX_OTHER_CONFIGURATION
        return _IDENTIFIER_AND_FLAGS.pack(self.identifier, flags) + push_neighbor_options(self.options)


DiscoveryMessage = (
    HomeAgentAddressDiscoveryRequest
    | HomeAgentAddressDiscoveryReply
    | MobilePrefixSolicitation
    | MobilePrefixAdvertisement
)


def pull_home_agent_address_discovery_request(data: bytes) -> HomeAgentAddressDiscoveryRequest:
    return HomeAgentAddressDiscoveryRequest(*_IDENTIFIER.unpack_from(data, 4))


def pull_home_agent_address_discovery_reply(data: bytes) -> HomeAgentAddressDiscoveryReply:
    if len(data) % 16 != 8:
        raise WireError(MalformedReason.TRUNCATED, f"home agent addresses in {len(data) - 8} octets")
    (identifier,) = _IDENTIFIER.unpack_from(data, 4)
    addresses = tuple(IPv6Address(data[offset : offset + 16]) for offset in range(8, len(data), 16))
    return HomeAgentAddressDiscoveryReply(identifier, addresses)


def pull_mobile_prefix_solicitation(data: bytes) -> MobilePrefixSolicitation:
    (identifier,) = _IDENTIFIER.unpack_from(data, 4)
    return MobilePrefixSolicitation(identifier, pull_neighbor_options(data, 8))


def pull_mobile_prefix_advertisement(data: bytes) -> MobilePrefixAdvertisement:
    identifier, flags = _IDENTIFIER_AND_FLAGS.unpack_from(data, 4)
    return MobilePrefixAdvertisement(
        identifier=identifier,
        managed=bool(flags & MOBILE_PREFIX_MANAGED),
        other_configuration=bool(flags & MOBILE_PREFIX_OTHER_CONFIGURATION),
        options=pull_neighbor_options(data, 8),
    )
