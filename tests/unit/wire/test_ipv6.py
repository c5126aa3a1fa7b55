# SPDX-License-Identifier: Apache-2.0
"""IPv6 headers written out by hand from the RFCs' diagrams, and every way they can be wrong."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from control.wire.errors import MalformedReason, WireError
from control.wire.ipv6 import (
    DestinationOptions,
    ExtensionHeader,
    FragmentHeader,
    HomeAddressOption,
    HopByHopOptions,
    IPv6Packet,
    NextHeader,
    Type2RoutingHeader,
    UnknownOption,
    UnknownRoutingHeader,
    UnrecognizedOptionAction,
    check_unrecognized_options,
    home_address_destination_options,
    is_unicast_routable,
    pull_packet,
    push_packet,
)
from control.wire.options import PadN, PadOne

SOURCE = IPv6Address("2001:db8:2::2")
DESTINATION = IPv6Address("2001:db8:1::1")
HOME_ADDRESS = IPv6Address("2001:db8:1::100")
HOME_ADDRESS_HEX = "20010db8000100000000000000000100"

# RFC 6275 section 6.3: after PadN of 4 octets the option begins at 8n+6 and its address at a multiple of 8.
HOME_ADDRESS_HEADER = f"02 01020000 c910{HOME_ADDRESS_HEX}"
# RFC 6275 section 6.4.
TYPE_2_HEADER = f"02 02 01 00000000 {HOME_ADDRESS_HEX}"


def packet_of(next_header: int, after_header: str | bytes, destination: IPv6Address = DESTINATION) -> bytes:
    """An IPv6 packet whose header says `next_header`, laid out as RFC 8200 section 3 draws it."""
    octets = bytes.fromhex(after_header) if isinstance(after_header, str) else after_header
    return (
        bytes.fromhex("6a312345")
        + len(octets).to_bytes(2, "big")
        + bytes((next_header, 17))
        + SOURCE.packed
        + destination.packed
        + octets
    )


def refusal(data: bytes) -> WireError:
    with pytest.raises(WireError) as refused:
        pull_packet(data)
    return refused.value


def test_the_fixed_header() -> None:
    data = packet_of(6, "0102030405")
    packet = pull_packet(data)
    assert packet == IPv6Packet(
        source=SOURCE,
        destination=DESTINATION,
        next_header=6,
        payload=bytes.fromhex("0102030405"),
        traffic_class=0xA3,
        flow_label=0x12345,
        hop_limit=17,
    )
    assert push_packet(packet) == data
    assert packet.upper_layer_offset == 40
    assert packet.effective_source == SOURCE
    assert packet.effective_destination == DESTINATION


def test_padding_of_short_frames_is_cut() -> None:
    assert pull_packet(packet_of(6, "0102") + bytes(4)).payload == bytes.fromhex("0102")


@pytest.mark.parametrize(
    ("next_header", "octets", "header"),
    [
        pytest.param(
            60,
            "3b" + HOME_ADDRESS_HEADER,
            DestinationOptions((PadN(bytes(2)), HomeAddressOption(HOME_ADDRESS))),
            id="Home Address option",
        ),
        pytest.param(
            60,
            f"3b 02 c910{HOME_ADDRESS_HEX} 00 01 01 ff",
            DestinationOptions((HomeAddressOption(HOME_ADDRESS), PadOne(), PadN(b"\xff"))),
            id="Home Address option elsewhere, odd padding",
        ),
        pytest.param(
            60,
            "3b 00 1e 04 01020304",
            DestinationOptions((UnknownOption(0x1E, bytes.fromhex("01020304")),)),
            id="unknown destination option",
        ),
        pytest.param(
            0,
            "3b 00 05020000 00 00",
            HopByHopOptions((UnknownOption(5, bytes(2)), PadOne(), PadOne())),
            id="hop-by-hop router alert",
        ),
        pytest.param(0, "3b 00 01 04 00000000", HopByHopOptions((PadN(bytes(4)),)), id="hop-by-hop padding"),
        pytest.param(
            0,
            f"3b 02 01020000 c910{HOME_ADDRESS_HEX}",
            HopByHopOptions((PadN(bytes(2)), UnknownOption(0xC9, HOME_ADDRESS.packed))),
            id="a Home Address option means nothing hop by hop",
        ),
        pytest.param(43, "3b" + TYPE_2_HEADER, Type2RoutingHeader(HOME_ADDRESS), id="type 2 routing header"),
        pytest.param(
            43, "3b 00 04 01 00000000", UnknownRoutingHeader(4, 1, bytes(4)), id="routing header of another type"
        ),
        pytest.param(44, "3b 00 0000 12345678", FragmentHeader(0x1234_5678), id="atomic fragment"),
    ],
)
def test_one_extension_header(next_header: int, octets: str, header: ExtensionHeader) -> None:
    data = packet_of(next_header, bytes.fromhex(octets) + b"payload")
    packet = pull_packet(data)
    assert packet.extension_headers == (header,)
    assert packet.next_header == NextHeader.NO_NEXT_HEADER
    assert packet.payload == b"payload"
    assert packet.upper_layer_offset == 40 + len(bytes.fromhex(octets))
    assert push_packet(packet) == data


def test_reserved_fields_are_ignored() -> None:
    # RFC 6275 section 6.4: 32 reserved bits; RFC 8200 section 4.5: 8 and 2 of them.
    data = packet_of(43, f"2c 02 02 01 ffffffff {HOME_ADDRESS_HEX} 3b ff 0006 00000001")
    assert pull_packet(data).extension_headers == (Type2RoutingHeader(HOME_ADDRESS), FragmentHeader(1))


def test_routing_header_and_home_address_option_together() -> None:
    other = IPv6Address("2001:db8:1::200")
    packet = IPv6Packet(
        SOURCE,
        DESTINATION,
        NextHeader.ESP,
        b"esp",
        (HopByHopOptions(()), Type2RoutingHeader(other), home_address_destination_options(HOME_ADDRESS)),
    )
    data = push_packet(packet)
    # RFC 6275 section 6.3: the option's header comes after the routing header and before ESP.
    assert data[6] == 0
    assert data[40:48] == bytes.fromhex("2b00 010400000000")
    assert data[48:72] == bytes.fromhex("3c 02 02 01 00000000") + other.packed
    assert data[72:96] == bytes.fromhex("32" + HOME_ADDRESS_HEADER)
    pulled = pull_packet(data)
    assert pulled.effective_source == HOME_ADDRESS
    assert pulled.effective_destination == other
    assert pulled.upper_layer_offset == 96
    assert (pulled.source, pulled.destination, pulled.next_header) == (SOURCE, DESTINATION, NextHeader.ESP)


@pytest.mark.parametrize("payload_type", [6, 17, 41, 50, 51, 58, 59, 135, 255])
def test_the_walk_ends_at_every_payload(payload_type: int) -> None:
    data = packet_of(60, bytes((payload_type, 0)) + bytes.fromhex("0104 00000000") + bytes(8))
    packet = pull_packet(data)
    assert packet.next_header == payload_type
    assert packet.payload == bytes(8)


@pytest.mark.parametrize(
    ("offset_and_flags", "header"),
    [(0x0001, FragmentHeader(7, 0, more_fragments=True)), (0x0010, FragmentHeader(7, 16))],
    ids=["first", "last"],
)
def test_nobody_reads_on_in_a_fragment(offset_and_flags: int, header: FragmentHeader) -> None:
    """Fragments of a Mobility Header are not mistaken for one, nor their octets for extension headers."""
    fragment = bytes.fromhex("3c00") + offset_and_flags.to_bytes(2, "big") + bytes.fromhex("00000007 ffffffff")
    data = packet_of(60, bytes.fromhex("2c" + HOME_ADDRESS_HEADER) + fragment)
    packet = pull_packet(data)
    assert packet.next_header == NextHeader.FRAGMENT
    assert packet.payload == fragment
    assert packet.home_address_option == HOME_ADDRESS
    assert not header.is_atomic
    assert bytes((60, 0)) + header.body == fragment[:8]
    assert push_packet(packet) == data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(bytes(39), MalformedReason.TRUNCATED, id="no whole header"),
        pytest.param(b"\x45" + packet_of(59, "")[1:], MalformedReason.IP_VERSION, id="version 4"),
        pytest.param(packet_of(6, bytes(5))[:-1], MalformedReason.TRUNCATED, id="payload length beyond the packet"),
        pytest.param(packet_of(60, "3b"), MalformedReason.TRUNCATED, id="extension header of one octet"),
        pytest.param(packet_of(44, bytes(7)), MalformedReason.TRUNCATED, id="fragment header of seven octets"),
        pytest.param(packet_of(60, "3b01 010400000000"), MalformedReason.TRUNCATED, id="header beyond the packet"),
        pytest.param(packet_of(60, "3b00 010500000000"), MalformedReason.OPTION_LENGTH, id="option beyond its header"),
        pytest.param(packet_of(60, "3b00 010300000001"), MalformedReason.OPTION_LENGTH, id="option without length"),
        pytest.param(
            packet_of(60, "3b02 c90f" + "20" * 15 + "0103000000"),
            MalformedReason.OPTION_LENGTH,
            id="Home Address option of 15 octets",
        ),
        pytest.param(
            packet_of(60, f"3b04 c910{HOME_ADDRESS_HEX} c910{HOME_ADDRESS_HEX} 0000"),
            MalformedReason.DUPLICATE_HOME_ADDRESS_OPTION,
            id="two Home Address options in one header",
        ),
        pytest.param(
            packet_of(60, "3c" + HOME_ADDRESS_HEADER + "3b" + HOME_ADDRESS_HEADER),
            MalformedReason.DUPLICATE_HOME_ADDRESS_OPTION,
            id="two Home Address options in two headers",
        ),
        pytest.param(
            packet_of(43, "2b" + TYPE_2_HEADER + "3b" + TYPE_2_HEADER),
            MalformedReason.DUPLICATE_ROUTING_HEADER,
            id="two type 2 routing headers",
        ),
        pytest.param(
            packet_of(43, "3b 02 02 00 00000000" + HOME_ADDRESS_HEX),
            MalformedReason.ROUTING_HEADER,
            id="no segment left",
        ),
        pytest.param(
            packet_of(43, "3b 02 02 02 00000000" + HOME_ADDRESS_HEX),
            MalformedReason.ROUTING_HEADER,
            id="two segments left",
        ),
        pytest.param(
            packet_of(43, "3b 00 02 01 00000000"), MalformedReason.ROUTING_HEADER, id="routing header without address"
        ),
        pytest.param(
            packet_of(43, "3b 04 02 01 00000000" + 2 * HOME_ADDRESS_HEX),
            MalformedReason.ROUTING_HEADER,
            id="routing header with two addresses",
        ),
        pytest.param(packet_of(60, "3c00010400000000" * 9), MalformedReason.HEADER_CHAIN, id="nine headers"),
    ],
)
def test_refused_in_silence(data: bytes, reason: MalformedReason) -> None:
    error = refusal(data)
    assert error.reason is reason
    assert error.pointer is None
    assert str(error).startswith(f"{reason.value}: ")


def test_no_header_reaches_into_the_padding_of_a_frame() -> None:
    # The header announces 16 octets; the packet has 8, the frame 16.
    assert refusal(packet_of(60, "3b01 010400000000") + bytes(8)).reason is MalformedReason.TRUNCATED


def test_eight_headers_are_read() -> None:
    octets = "3c00010400000000" * 7 + "3b00010400000000"
    assert len(pull_packet(packet_of(60, octets)).extension_headers) == 8


def test_hop_by_hop_elsewhere_than_first_is_an_unrecognized_next_header() -> None:
    # RFC 8200 section 4: Parameter Problem code 1, pointing at the Next Header field that named it.
    error = refusal(packet_of(60, "3c00010400000000 0000010400000000 3b00010400000000"))
    assert error.reason is MalformedReason.HEADER_ORDER
    assert (error.code, error.pointer) == (1, 48)


@pytest.mark.parametrize(
    ("option_type", "multicast", "pointer"),
    [(0x4A, False, None), (0x8A, False, 60), (0x8A, True, 60), (0xCA, False, 60), (0xCA, True, None)],
)
def test_unrecognized_options(option_type: int, multicast: bool, pointer: int | None) -> None:
    """RFC 8200 section 4.2, by the two highest bits: 01 silence, 10 report, 11 report unless to multicast."""
    destination = IPv6Address("ff02::1") if multicast else DESTINATION
    octets = f"3c00 010400000000  3c00 1e0400000000  3b00 1e00 {option_type:02x}00 0000"
    packet = pull_packet(packet_of(0, octets, destination))
    with pytest.raises(WireError) as refused:
        check_unrecognized_options(packet)
    assert refused.value.reason is MalformedReason.UNRECOGNIZED_OPTION
    assert refused.value.code == 2
    assert refused.value.pointer == pointer


def test_recognized_and_skippable_options_pass() -> None:
    octets = "2b00 1e0400000000" + "3c" + TYPE_2_HEADER + "3b" + HOME_ADDRESS_HEADER
    check_unrecognized_options(pull_packet(packet_of(60, octets)))


def test_what_to_do_with_an_unknown_option() -> None:
    assert [UnknownOption(bits << 6 | 9, b"").action for bits in range(4)] == list(UnrecognizedOptionAction)


@pytest.mark.parametrize(
    ("address", "routable"),
    [
        ("2001:db8:1::100", True),
        ("fd00:1234::1", True),  # RFC 6275 section 4.6: unique local counts as global
        ("64:ff9b::c000:201", True),
        ("::", False),
        ("::1", False),
        ("::192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("fe80::1", False),
        ("febf::1", False),
        ("ff02::1", False),
        ("ff0e::1", False),
    ],
)
def test_unicast_routable(address: str, routable: bool) -> None:
    assert is_unicast_routable(IPv6Address(address)) is routable
