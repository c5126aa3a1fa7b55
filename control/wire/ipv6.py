# SPDX-License-Identifier: Apache-2.0
"""IPv6 packets (RFC 8200) with the Home Address option and the type 2 routing header (RFC 6275 sections 6.3, 6.4).

The walk along the extension headers stops at the first header that is a payload to us: the Mobility Header and ESP are
destinations, never skipped, and so is a fragment, of which nobody may read on before it is reassembled. Reassembly,
jumbograms and source routing by other types are not here; neither is the question who may speak for a home address.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address
from struct import Struct
from typing import ClassVar

from control.wire.errors import MalformedReason, WireError
from control.wire.options import PAD_N, PAD_ONE, PadN, PadOne, pull_options, push_option, push_padding

IPV6_HEADER_LENGTH = 40
MINIMUM_MTU = 1280
"""Every IPv6 link carries this much (RFC 8200 section 5)."""
MAXIMUM_EXTENSION_HEADERS = 8
UNSPECIFIED_ADDRESS = IPv6Address("::")

_HEADER = Struct("!IHBB16s16s")
_FRAGMENT = Struct("!BxHI")


class NextHeader(IntEnum):
    """IP protocol numbers (IANA) that a home agent meets."""

    HOP_BY_HOP_OPTIONS = 0
    TCP = 6
    UDP = 17
    IPV6 = 41
    ROUTING = 43
    FRAGMENT = 44
    ESP = 50
    AH = 51
    ICMPV6 = 58
    NO_NEXT_HEADER = 59
    DESTINATION_OPTIONS = 60
    MOBILITY = 135


def is_unicast_routable(address: IPv6Address) -> bool:
    """Return whether an address may be a home or care-of address: unicast, and of more than link scope.

    Unique local addresses count as routable (RFC 6275 section 4.6). `ipaddress` would ask six networks for this.
    """
    bits = int(address)
    is_multicast = bits >> 120 == 0xFF
    is_link_local = bits >> 118 == 0x3FA
    # ::/96 has the unspecified address, loopback and the abandoned IPv4-compatible ones, ::ffff:0:0/96 those mapped.
    is_special = bits >> 32 in (0, 0xFFFF)
    return not (is_multicast or is_link_local or is_special)


# ---- options ----

HOME_ADDRESS_OPTION = 0xC9


class UnrecognizedOptionAction(IntEnum):
    """The two highest bits of an option's type: what to do if it is not known (RFC 8200 section 4.2)."""

    SKIP = 0
    DISCARD = 1
    DISCARD_AND_REPORT = 2
    DISCARD_AND_REPORT_UNLESS_MULTICAST = 3


@dataclass(frozen=True, slots=True)
class HomeAddressOption:
    """
    RFC 6275 section 6.3; alignment 8n+6

                                    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
                                    |  Type = 201   |  Length = 16  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                         Home Address (16)                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    type: ClassVar[int] = HOME_ADDRESS_OPTION

    home_address: IPv6Address
    """Takes the place of the source address in all that lies above this header."""

    @property
    def data(self) -> bytes:
        return self.home_address.packed


@dataclass(frozen=True, slots=True)
class UnknownOption:
    """An option kept as it came."""

    type: int
    data: bytes

    @property
    def action(self) -> UnrecognizedOptionAction:
        return UnrecognizedOptionAction(self.type >> 6)


DestinationOption = PadOne | PadN | HomeAddressOption | UnknownOption
HopByHopOption = PadOne | PadN | UnknownOption


# ---- extension headers ----


@dataclass(frozen=True, slots=True)
class HopByHopOptions:
    """RFC 8200 section 4.3; the format is that of `DestinationOptions`."""

    header_type: ClassVar[int] = NextHeader.HOP_BY_HOP_OPTIONS

    options: tuple[HopByHopOption, ...]

    @property
    def body(self) -> bytes:
        return _push_options(self.options)


@dataclass(frozen=True, slots=True)
class DestinationOptions:
    """
    RFC 8200 section 4.6

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Next Header  |  Hdr Ext Len  |  Options ...
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    header_type: ClassVar[int] = NextHeader.DESTINATION_OPTIONS

    options: tuple[DestinationOption, ...]
    """Padding included; what is missing to a multiple of 8 octets is added at the end."""

    @property
    def body(self) -> bytes:
        return _push_options(self.options)


@dataclass(frozen=True, slots=True)
class Type2RoutingHeader:
    """
    RFC 6275 section 6.4

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Next Header  | Hdr Ext Len=2 | Routing Type=2|Segments Left=1|
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                            Reserved                           |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                         Home Address (16)                     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    header_type: ClassVar[int] = NextHeader.ROUTING

    home_address: IPv6Address
    """The packet's final destination."""

    @property
    def body(self) -> bytes:
        return _TYPE_2_PREFIX + self.home_address.packed


@dataclass(frozen=True, slots=True)
class UnknownRoutingHeader:
    """A routing header of another type, kept as it came (RFC 8200 section 4.4)."""

    header_type: ClassVar[int] = NextHeader.ROUTING

    routing_type: int
    segments_left: int
    data: bytes
    """4 octets more than a multiple of 8."""

    @property
    def body(self) -> bytes:
        return bytes((self.routing_type, self.segments_left)) + self.data


@dataclass(frozen=True, slots=True)
class FragmentHeader:
    """
    RFC 8200 section 4.5

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |  Next Header  |   Reserved    |      Fragment Offset    |Res|M|
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                         Identification                        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    header_type: ClassVar[int] = NextHeader.FRAGMENT

    identification: int
    offset: int = 0
    """In octets, a multiple of 8."""
    more_fragments: bool = False

    @property
    def is_atomic(self) -> bool:
        """Whether the packet is whole after all (RFC 6946)."""
        return not (self.offset or self.more_fragments)

    @property
    def body(self) -> bytes:
        return (self.offset | self.more_fragments).to_bytes(2, "big") + self.identification.to_bytes(4, "big")


ExtensionHeader = HopByHopOptions | DestinationOptions | Type2RoutingHeader | UnknownRoutingHeader | FragmentHeader

TYPE_2_ROUTING = 2
_TYPE_2_PREFIX = bytes((TYPE_2_ROUTING, 1)) + bytes(4)


def home_address_destination_options(home_address: IPv6Address) -> DestinationOptions:
    """Return the 24 octets that carry a Home Address option alone, aligned to 8n+6."""
    return DestinationOptions((PadN(bytes(2)), HomeAddressOption(home_address)))


def _push_options(options: tuple[DestinationOption, ...]) -> bytes:
    body = b"".join(map(push_option, options))
    return body + push_padding(-(len(body) + 2) % 8)


# ---- the packet ----


@dataclass(frozen=True, slots=True)
class IPv6Packet:
    """
    RFC 8200 section 3

    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |Version| Traffic Class |           Flow Label                  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |         Payload Length        |  Next Header  |   Hop Limit   |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                        Source Address (16)                    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |                      Destination Address (16)                 |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    source: IPv6Address
    destination: IPv6Address
    next_header: int
    """Of the payload, after all extension headers; FRAGMENT if the packet is a fragment, whose Fragment header then
    begins the payload."""
    payload: bytes
    extension_headers: tuple[ExtensionHeader, ...] = ()
    traffic_class: int = 0
    flow_label: int = 0
    hop_limit: int = 64

    @property
    def home_address_option(self) -> IPv6Address | None:
        """The Home Address option's address, if there is one."""
        for header in self.extension_headers:
            if isinstance(header, DestinationOptions):
                for option in header.options:
                    if isinstance(option, HomeAddressOption):
                        return option.home_address
        return None

    @property
    def type_2_routing_header(self) -> IPv6Address | None:
        """The type 2 routing header's address, if there is one."""
        for header in self.extension_headers:
            if isinstance(header, Type2RoutingHeader):
                return header.home_address
        return None

    @property
    def effective_source(self) -> IPv6Address:
        """The source as upper layers, checksums and security associations know it."""
        return self.home_address_option or self.source

    @property
    def effective_destination(self) -> IPv6Address:
        """The destination as upper layers, checksums and security associations know it."""
        return self.type_2_routing_header or self.destination

    @property
    def upper_layer_offset(self) -> int:
        """Where the payload begins, in octets from the start of the IPv6 header."""
        return IPV6_HEADER_LENGTH + sum(len(header.body) + 2 for header in self.extension_headers)


def pull_packet(data: bytes) -> IPv6Packet:
    """Return the packet that begins `data`; octets past its payload length (Ethernet's padding) are cut off."""
    if len(data) < IPV6_HEADER_LENGTH:
        raise WireError(MalformedReason.TRUNCATED, f"IPv6 header needs 40 octets of {len(data)}")
    first_word, payload_length, next_header, hop_limit, source, destination = _HEADER.unpack_from(data)
    if first_word >> 28 != 6:
        raise WireError(MalformedReason.IP_VERSION, f"IP version {first_word >> 28}")
    end = IPV6_HEADER_LENGTH + payload_length
    if end > len(data):
        raise WireError(MalformedReason.TRUNCATED, f"payload of {payload_length} octets, {len(data) - 40} are there")

    extension_headers: tuple[ExtensionHeader, ...] = ()
    offset = IPV6_HEADER_LENGTH
    if next_header in _PULL_EXTENSION_HEADER:
        extension_headers, next_header, offset = _pull_extension_headers(data, next_header, end)
    return IPv6Packet(
        source=IPv6Address(source),
        destination=IPv6Address(destination),
        next_header=next_header,
        payload=data[offset:end],
        extension_headers=extension_headers,
        traffic_class=first_word >> 20 & 0xFF,
        flow_label=first_word & 0xFFFFF,
        hop_limit=hop_limit,
    )


def push_packet(packet: IPv6Packet) -> bytes:
    """Return the packet's octets."""
    chain: list[bytes] = [packet.payload]
    next_header = packet.next_header
    for header in reversed(packet.extension_headers):
        body = header.body
        # The Fragment header's second octet is reserved: it has no length field.
        length_units = 0 if isinstance(header, FragmentHeader) else (len(body) + 2) // 8 - 1
        chain.append(bytes((next_header, length_units)) + body)
        next_header = header.header_type
    chain.reverse()
    after_header = b"".join(chain)
    return (
        _HEADER.pack(
            6 << 28 | packet.traffic_class << 20 | packet.flow_label,
            len(after_header),
            next_header,
            packet.hop_limit,
            packet.source.packed,
            packet.destination.packed,
        )
        + after_header
    )


# ---- the walk along the extension headers ----


def _pull_extension_headers(data: bytes, next_header: int, end: int) -> tuple[tuple[ExtensionHeader, ...], int, int]:
    """Return the extension headers, the payload's protocol and its offset."""
    headers: list[ExtensionHeader] = []
    offset = IPV6_HEADER_LENGTH
    # Where the octet stands that named the header we are at.
    next_header_offset = 6
    home_address_seen = routing_header_seen = False
    while (pull := _PULL_EXTENSION_HEADER.get(next_header)) is not None:
        if len(headers) == MAXIMUM_EXTENSION_HEADERS:
            raise WireError(MalformedReason.HEADER_CHAIN, f"more than {MAXIMUM_EXTENSION_HEADERS} extension headers")
        if next_header == NextHeader.HOP_BY_HOP_OPTIONS and headers:
            # RFC 8200 section 4: elsewhere than first it counts as an unrecognized Next Header.
            raise WireError(
                MalformedReason.HEADER_ORDER, "Hop-by-Hop Options not first", pointer=next_header_offset, code=1
            )
        if offset + 8 > end:
            raise WireError(
                MalformedReason.TRUNCATED,
                f"extension header {next_header} at {offset} needs 8 of {end - offset} octets",
            )
        header_end = offset + 8
        if next_header != NextHeader.FRAGMENT:
            header_end += data[offset + 1] * 8
            if header_end > end:
                raise WireError(
                    MalformedReason.TRUNCATED,
                    f"extension header {next_header} at {offset} announces {header_end - offset} octets "
                    f"of {end - offset}",
                )
        header = pull(data, offset, header_end)
        if isinstance(header, FragmentHeader) and not header.is_atomic:
            break
        if isinstance(header, DestinationOptions):
            for option in header.options:
                if isinstance(option, HomeAddressOption):
                    if home_address_seen:
                        raise WireError(
                            MalformedReason.DUPLICATE_HOME_ADDRESS_OPTION, f"second Home Address option after {offset}"
                        )
                    home_address_seen = True
        elif isinstance(header, Type2RoutingHeader):
            if routing_header_seen:
                raise WireError(MalformedReason.DUPLICATE_ROUTING_HEADER, f"second type 2 routing header at {offset}")
            routing_header_seen = True
        headers.append(header)
        next_header = data[offset]
        next_header_offset = offset
        offset = header_end
    return tuple(headers), next_header, offset


def _pull_hop_by_hop_options(data: bytes, begin: int, end: int) -> HopByHopOptions:
    options: list[HopByHopOption] = []
    for _, option_type, option_data in pull_options(data, begin + 2, end):
        if option_type == PAD_N:
            options.append(PadN(option_data))
        elif option_type == PAD_ONE:
            options.append(PadOne())
        else:
            options.append(UnknownOption(option_type, option_data))
    return HopByHopOptions(tuple(options))


def _pull_destination_options(data: bytes, begin: int, end: int) -> DestinationOptions:
    options: list[DestinationOption] = []
    for offset, option_type, option_data in pull_options(data, begin + 2, end):
        if option_type == HOME_ADDRESS_OPTION:
            if len(option_data) != 16:
                raise WireError(
                    MalformedReason.OPTION_LENGTH,
                    f"Home Address option at {offset} has {len(option_data)} octets instead of 16",
                )
            options.append(HomeAddressOption(IPv6Address(option_data)))
        elif option_type == PAD_N:
            options.append(PadN(option_data))
        elif option_type == PAD_ONE:
            options.append(PadOne())
        else:
            options.append(UnknownOption(option_type, option_data))
    return DestinationOptions(tuple(options))


def _pull_routing_header(data: bytes, begin: int, end: int) -> Type2RoutingHeader | UnknownRoutingHeader:
    routing_type, segments_left = data[begin + 2], data[begin + 3]
    if routing_type != TYPE_2_ROUTING:
        return UnknownRoutingHeader(routing_type, segments_left, data[begin + 4 : end])
    # RFC 6275 section 11.3.3: silently discarded unless the length is exactly 2 and the segments left are 1.
    if end - begin != 24 or segments_left != 1:
        raise WireError(
            MalformedReason.ROUTING_HEADER,
            f"type 2 routing header at {begin} of {end - begin} octets, {segments_left} segments left",
        )
    return Type2RoutingHeader(IPv6Address(data[begin + 8 : end]))


def _pull_fragment_header(data: bytes, begin: int, _end: int) -> FragmentHeader:
    _, offset_and_flags, identification = _FRAGMENT.unpack_from(data, begin)
    return FragmentHeader(identification, offset_and_flags & 0xFFF8, bool(offset_and_flags & 1))


_PULL_EXTENSION_HEADER: dict[int, Callable[[bytes, int, int], ExtensionHeader]] = {
    NextHeader.HOP_BY_HOP_OPTIONS: _pull_hop_by_hop_options,
    NextHeader.ROUTING: _pull_routing_header,
    NextHeader.FRAGMENT: _pull_fragment_header,
    NextHeader.DESTINATION_OPTIONS: _pull_destination_options,
}


def check_unrecognized_options(packet: IPv6Packet) -> None:
    """Raise WireError for the first unknown option that its type forbids to skip (RFC 8200 section 4.2).

    For packets addressed to this node; who merely forwards looks at no destination option.
    """
    offset = IPV6_HEADER_LENGTH
    for header in packet.extension_headers:
        if isinstance(header, HopByHopOptions | DestinationOptions):
            option_offset = offset + 2
            for option in header.options:
                if isinstance(option, UnknownOption) and option.action is not UnrecognizedOptionAction.SKIP:
                    silent = option.action is UnrecognizedOptionAction.DISCARD or (
                        option.action is UnrecognizedOptionAction.DISCARD_AND_REPORT_UNLESS_MULTICAST
                        and packet.destination.is_multicast
                    )
                    raise WireError(
                        MalformedReason.UNRECOGNIZED_OPTION,
                        f"option type {option.type} at {option_offset}",
                        pointer=None if silent else option_offset,
                        code=2,
                    )
                option_offset += len(push_option(option))
        offset += len(header.body) + 2
