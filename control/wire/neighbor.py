# SPDX-License-Identifier: Apache-2.0
"""Neighbor Discovery messages and options (RFC 4861), with the additions of RFC 6275 section 7 and RFC 4191.

Bodies only, without the ICMPv6 header's four octets: `icmpv6` reads and writes those, and the checksum. Redirects are
not here. Whether an address is ours to advertise is asked elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address
from struct import Struct
from typing import ClassVar

from control.wire.errors import MalformedReason, WireError
from control.wire.ipv6 import UNSPECIFIED_ADDRESS, IPv6Packet

ALL_NODES_MULTICAST = IPv6Address("ff02::1")
ALL_ROUTERS_MULTICAST = IPv6Address("ff02::2")
NEIGHBOR_DISCOVERY_HOP_LIMIT = 255
"""A router would have lowered it, so that the sender is on the link (RFC 4861 section 3.1)."""
INFINITE_LIFETIME_S = 0xFFFF_FFFF

_SOLICITED_NODE_PREFIX = int(IPv6Address("ff02::1:ff00:0"))

_TARGET = Struct("!4x16s")
_FLAGS_AND_TARGET = Struct("!B3x16s")
_ROUTER_ADVERTISEMENT = Struct("!BBHII")
_PREFIX_INFORMATION = Struct("!BBII4x16s")
_MTU = Struct("!2xI")
_HOME_AGENT_INFORMATION = Struct("!2xHH")


def solicited_node_multicast(address: IPv6Address) -> IPv6Address:
    """Return the multicast group on which a node hears solicitations for `address` (RFC 4291 section 2.7.1)."""
    return IPv6Address(_SOLICITED_NODE_PREFIX | int(address) & 0xFF_FFFF)


def multicast_mac(address: IPv6Address) -> bytes:
    """Return the Ethernet address of an IPv6 multicast group (RFC 2464 section 7)."""
    return b"\x33\x33" + address.packed[12:]


# ---- options ----


class NeighborOptionType(IntEnum):
    SOURCE_LINK_LAYER_ADDRESS = 1
    TARGET_LINK_LAYER_ADDRESS = 2
    PREFIX_INFORMATION = 3
    MTU = 5
    ADVERTISEMENT_INTERVAL = 7
    HOME_AGENT_INFORMATION = 8


@dataclass(frozen=True, slots=True)
class SourceLinkLayerAddress:
    """
    RFC 4861 section 4.6.1

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |   Type = 1    |    Length     |    Link-Layer Address ...
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    type: ClassVar[int] = NeighborOptionType.SOURCE_LINK_LAYER_ADDRESS

    address: bytes
    """6 octets on Ethernet."""

    @property
    def data(self) -> bytes:
        return self.address


@dataclass(frozen=True, slots=True)
class TargetLinkLayerAddress:
    """RFC 4861 section 4.6.1, type 2; the format is that of `SourceLinkLayerAddress`."""

    type: ClassVar[int] = NeighborOptionType.TARGET_LINK_LAYER_ADDRESS

    address: bytes
    """6 octets on Ethernet."""

    @property
    def data(self) -> bytes:
        return self.address


PREFIX_ON_LINK = 0x80
PREFIX_AUTONOMOUS = 0x40
PREFIX_ROUTER_ADDRESS = 0x20


@dataclass(frozen=True, slots=True)
class PrefixInformation:
    """
    RFC 4861 section 4.6.2, RFC 6275 section 7.2

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |   Type = 3    |  Length = 4   | Prefix Length |L|A|R|Reserved1|
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                         Valid Lifetime                        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                       Preferred Lifetime                      |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                           Reserved2                           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                           Prefix (16)                         |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    type: ClassVar[int] = NeighborOptionType.PREFIX_INFORMATION

    prefix: IPv6Address
    """With `router_address` the router's whole address, else a prefix whose other bits mean nothing."""
    prefix_length: int
    on_link: bool
    autonomous: bool
    router_address: bool
    valid_lifetime_s: int
    """All ones: INFINITE_LIFETIME_S."""
    preferred_lifetime_s: int

    @property
    def data(self) -> bytes:
        return _PREFIX_INFORMATION.pack(
            self.prefix_length,
            self.on_link * PREFIX_ON_LINK
            | self.autonomous * PREFIX_AUTONOMOUS
            | self.router_address * PREFIX_ROUTER_ADDRESS,
            self.valid_lifetime_s,
            self.preferred_lifetime_s,
            self.prefix.packed,
        )


@dataclass(frozen=True, slots=True)
class MaximumTransmissionUnit:
    """
    RFC 4861 section 4.6.4

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |   Type = 5    |  Length = 1   |           Reserved            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                              MTU                              |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    type: ClassVar[int] = NeighborOptionType.MTU

    mtu: int

    @property
    def data(self) -> bytes:
        return _MTU.pack(self.mtu)


@dataclass(frozen=True, slots=True)
class AdvertisementInterval:
    """
    RFC 6275 section 7.3

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |   Type = 7    |  Length = 1   |           Reserved            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                     Advertisement Interval                    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    type: ClassVar[int] = NeighborOptionType.ADVERTISEMENT_INTERVAL

    interval_ms: int
    """The longest time between two unsolicited Router Advertisements."""

    @property
    def data(self) -> bytes:
        return _MTU.pack(self.interval_ms)


@dataclass(frozen=True, slots=True)
class HomeAgentInformation:
    """
    RFC 6275 section 7.4

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |   Type = 8    |  Length = 1   |           Reserved            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |     Home Agent Preference     |      Home Agent Lifetime      |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    type: ClassVar[int] = NeighborOptionType.HOME_AGENT_INFORMATION

    preference: int
    """The higher, the better."""
    lifetime_s: int

    @property
    def data(self) -> bytes:
        return _HOME_AGENT_INFORMATION.pack(self.preference, self.lifetime_s)


@dataclass(frozen=True, slots=True)
class UnknownNeighborOption:
    """An option kept as it came."""

    type: int
    data: bytes
    """6 octets more than a multiple of 8."""


NeighborOption = (
    SourceLinkLayerAddress
    | TargetLinkLayerAddress
    | PrefixInformation
    | MaximumTransmissionUnit
    | AdvertisementInterval
    | HomeAgentInformation
    | UnknownNeighborOption
)


def _pull_prefix_information(data: bytes) -> PrefixInformation:
    prefix_length, flags, valid_lifetime_s, preferred_lifetime_s, prefix = _PREFIX_INFORMATION.unpack(data)
    return PrefixInformation(
        prefix=IPv6Address(prefix),
        prefix_length=prefix_length,
        on_link=bool(flags & PREFIX_ON_LINK),
        autonomous=bool(flags & PREFIX_AUTONOMOUS),
        router_address=bool(flags & PREFIX_ROUTER_ADDRESS),
        valid_lifetime_s=valid_lifetime_s,
        preferred_lifetime_s=preferred_lifetime_s,
    )


_PULL_OPTION: dict[int, tuple[int | None, Callable[[bytes], NeighborOption]]] = {
    NeighborOptionType.SOURCE_LINK_LAYER_ADDRESS: (None, SourceLinkLayerAddress),
    NeighborOptionType.TARGET_LINK_LAYER_ADDRESS: (None, TargetLinkLayerAddress),
    NeighborOptionType.PREFIX_INFORMATION: (30, _pull_prefix_information),
    NeighborOptionType.MTU: (6, lambda data: MaximumTransmissionUnit(*_MTU.unpack(data))),
    NeighborOptionType.ADVERTISEMENT_INTERVAL: (6, lambda data: AdvertisementInterval(*_MTU.unpack(data))),
    NeighborOptionType.HOME_AGENT_INFORMATION: (
        6,
        lambda data: HomeAgentInformation(*_HOME_AGENT_INFORMATION.unpack(data)),
    ),
}
"""By type: the length of the data, if the RFC fixes it, and the function."""


def pull_neighbor_options(data: bytes, begin: int) -> tuple[NeighborOption, ...]:
    """Return the options from `begin` to the end of a message."""
    options: list[NeighborOption] = []
    offset, end = begin, len(data)
    while offset < end:
        if end - offset < 8:
            raise WireError(MalformedReason.TRUNCATED, f"neighbor option at {offset} needs 8 of {end - offset} octets")
        option_type, length = data[offset], data[offset + 1] * 8
        if length == 0:
            # RFC 4861 section 4.6: the whole packet is discarded.
            raise WireError(MalformedReason.OPTION_LENGTH, f"neighbor option {option_type} at {offset} of length 0")
        if length > end - offset:
            raise WireError(
                MalformedReason.OPTION_LENGTH,
                f"neighbor option {option_type} at {offset} announces {length} octets of {end - offset}",
            )
        option_data = data[offset + 2 : offset + length]
        fixed_length, pull = _PULL_OPTION.get(option_type, (None, None))
        if pull is None:
            options.append(UnknownNeighborOption(option_type, option_data))
        elif fixed_length is not None and len(option_data) != fixed_length:
            raise WireError(
                MalformedReason.OPTION_LENGTH, f"neighbor option {option_type} at {offset} of {length} octets"
            )
        else:
            options.append(pull(option_data))
        offset += length
    return tuple(options)


def push_neighbor_options(options: tuple[NeighborOption, ...]) -> bytes:
    """Return the options' octets, each padded to a multiple of 8."""
    pushed = bytearray()
    for option in options:
        data = option.data
        padding = -(len(data) + 2) % 8
        pushed += bytes((option.type, (len(data) + 2 + padding) // 8)) + data + bytes(padding)
    return bytes(pushed)


# ---- messages ----


@dataclass(frozen=True, slots=True)
class RouterSolicitation:
    """
    RFC 4861 section 4.1

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                            Reserved                           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Options ...
    """

    type: ClassVar[int] = 133
    code: ClassVar[int] = 0

    options: tuple[NeighborOption, ...] = ()

    @property
    def body(self) -> bytes:
        return bytes(4) + push_neighbor_options(self.options)


class RouterPreference(IntEnum):
    """Two bits of the flags (RFC 4191 section 2.1); whoever reads RESERVED takes it as MEDIUM."""

    MEDIUM = 0
    HIGH = 1
    RESERVED = 2
    LOW = 3


ROUTER_MANAGED = 0x80
ROUTER_OTHER_CONFIGURATION = 0x40
ROUTER_HOME_AGENT = 0x20


@dataclass(frozen=True, slots=True)
class RouterAdvertisement:
    """
    RFC 4861 section 4.2, RFC 6275 section 7.1, RFC 4191 section 2.2

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    | Cur Hop Limit |M|O|H|Prf|Resvd|       Router Lifetime         |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                         Reachable Time                        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                          Retrans Timer                        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Options ...
    """

    type: ClassVar[int] = 134
    code: ClassVar[int] = 0

    router_lifetime_s: int
    """0: not a default router."""
    current_hop_limit: int = 0
    """0: unspecified, as with the two times below."""
    managed: bool = False
    other_configuration: bool = False
    home_agent: bool = False
    preference: RouterPreference = RouterPreference.MEDIUM
    reachable_time_ms: int = 0
    retransmit_timer_ms: int = 0
    options: tuple[NeighborOption, ...] = ()

    @property
    def prefixes(self) -> tuple[PrefixInformation, ...]:
        return tuple(option for option in self.options if isinstance(option, PrefixInformation))

    @property
    def source_link_layer_address(self) -> bytes | None:
        return _source_link_layer_address(self.options)

    @property
    def body(self) -> bytes:
        flags = (
            self.managed * ROUTER_MANAGED
            | self.other_configuration * ROUTER_OTHER_CONFIGURATION
            | self.home_agent * ROUTER_HOME_AGENT
            | self.preference << 3
        )
        return _ROUTER_ADVERTISEMENT.pack(
            self.current_hop_limit, flags, self.router_lifetime_s, self.reachable_time_ms, self.retransmit_timer_ms
        ) + push_neighbor_options(self.options)


@dataclass(frozen=True, slots=True)
class NeighborSolicitation:
    """
    RFC 4861 section 4.3

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                            Reserved                           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                       Target Address (16)                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Options ...
    """

    type: ClassVar[int] = 135
    code: ClassVar[int] = 0

    target: IPv6Address
    options: tuple[NeighborOption, ...] = ()

    @property
    def source_link_layer_address(self) -> bytes | None:
        return _source_link_layer_address(self.options)

    @property
    def body(self) -> bytes:
        return _TARGET.pack(self.target.packed) + push_neighbor_options(self.options)


NEIGHBOR_ROUTER = 0x80
NEIGHBOR_SOLICITED = 0x40
NEIGHBOR_OVERRIDE = 0x20


@dataclass(frozen=True, slots=True)
class NeighborAdvertisement:
    """
    RFC 4861 section 4.4

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |R|S|O|                     Reserved                            |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                       Target Address (16)                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Options ...
    """

    type: ClassVar[int] = 136
    code: ClassVar[int] = 0

    target: IPv6Address
    router: bool
    solicited: bool
    override: bool
    options: tuple[NeighborOption, ...] = ()

    @property
    def target_link_layer_address(self) -> bytes | None:
        for option in self.options:
            if isinstance(option, TargetLinkLayerAddress):
                return option.address
        return None

    @property
    def body(self) -> bytes:
        flags = self.router * NEIGHBOR_ROUTER | self.solicited * NEIGHBOR_SOLICITED | self.override * NEIGHBOR_OVERRIDE
        return _FLAGS_AND_TARGET.pack(flags, self.target.packed) + push_neighbor_options(self.options)


NeighborMessage = RouterSolicitation | RouterAdvertisement | NeighborSolicitation | NeighborAdvertisement


def _source_link_layer_address(options: tuple[NeighborOption, ...]) -> bytes | None:
    for option in options:
        if isinstance(option, SourceLinkLayerAddress):
            return option.address
    return None


def pull_router_solicitation(data: bytes) -> RouterSolicitation:
    return RouterSolicitation(pull_neighbor_options(data, 8))


def pull_router_advertisement(data: bytes) -> RouterAdvertisement:
    current_hop_limit, flags, router_lifetime_s, reachable_time_ms, retransmit_timer_ms = (
        _ROUTER_ADVERTISEMENT.unpack_from(data, 4)
    )
    return RouterAdvertisement(
        router_lifetime_s=router_lifetime_s,
        current_hop_limit=current_hop_limit,
        managed=bool(flags & ROUTER_MANAGED),
        other_configuration=bool(flags & ROUTER_OTHER_CONFIGURATION),
        home_agent=bool(flags & ROUTER_HOME_AGENT),
        preference=RouterPreference(flags >> 3 & 3),
        reachable_time_ms=reachable_time_ms,
        retransmit_timer_ms=retransmit_timer_ms,
        options=pull_neighbor_options(data, 16),
    )


def pull_neighbor_solicitation(data: bytes) -> NeighborSolicitation:
    (target,) = _TARGET.unpack_from(data, 4)
    return NeighborSolicitation(IPv6Address(target), pull_neighbor_options(data, 24))


def pull_neighbor_advertisement(data: bytes) -> NeighborAdvertisement:
    flags, target = _FLAGS_AND_TARGET.unpack_from(data, 4)
    return NeighborAdvertisement(
        target=IPv6Address(target),
        router=bool(flags & NEIGHBOR_ROUTER),
        solicited=bool(flags & NEIGHBOR_SOLICITED),
        override=bool(flags & NEIGHBOR_OVERRIDE),
        options=pull_neighbor_options(data, 24),
    )


def check_neighbor_discovery(packet: IPv6Packet, message: NeighborMessage) -> None:
    """Raise WireError unless the packet around `message` makes it valid (RFC 4861 sections 6.1.1-2 and 7.1.1-2).

    Checksum, code and all lengths were checked when it was pulled.
    """
    if packet.hop_limit != NEIGHBOR_DISCOVERY_HOP_LIMIT:
        raise WireError(MalformedReason.NEIGHBOR_HOP_LIMIT, f"hop limit {packet.hop_limit} instead of 255")
    problem = _problem(packet, message)
    if problem is not None:
        raise WireError(MalformedReason.NEIGHBOR_DISCOVERY, problem)


def _problem(packet: IPv6Packet, message: NeighborMessage) -> str | None:
    """Return the rule about addresses, flags and options that is broken, if one is."""
    from_unspecified = packet.source == UNSPECIFIED_ADDRESS
    if isinstance(message, NeighborSolicitation):
        if message.target.is_multicast:
            return f"solicitation for multicast target {message.target}"
        # A node that is still testing an address has none to be answered at.
        if from_unspecified and packet.destination != solicited_node_multicast(message.target):
            return f"solicitation from :: to {packet.destination}"
        if from_unspecified and message.source_link_layer_address is not None:
            return "solicitation from :: with a link-layer address"
    elif isinstance(message, NeighborAdvertisement):
        if message.target.is_multicast:
            return f"advertisement of multicast target {message.target}"
        if packet.destination.is_multicast and message.solicited:
            return "solicited advertisement to a multicast address"
    elif isinstance(message, RouterAdvertisement):
        if not packet.source.is_link_local:
            return f"router advertisement from {packet.source}"
    elif from_unspecified and _source_link_layer_address(message.options) is not None:
        return "router solicitation from :: with a link-layer address"
    return None
