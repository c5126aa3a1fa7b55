# SPDX-License-Identifier: Apache-2.0
"""The ICMPv6 envelope, Parameter Problem, and RFC 6275's home agent and prefix discovery, written out by hand."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from control.wire.checksum import pseudo_header_checksum
from control.wire.discovery import (
    HomeAgentAddressDiscoveryReply,
    HomeAgentAddressDiscoveryRequest,
    MobilePrefixAdvertisement,
    MobilePrefixSolicitation,
)
from control.wire.errors import InvariantError, MalformedReason, WireError
from control.wire.icmpv6 import (
    Icmpv6Message,
    Icmpv6Type,
    ParameterProblem,
    ParameterProblemCode,
    UnknownIcmpv6Message,
    pull_icmpv6,
    push_icmpv6,
)
from control.wire.ipv6 import IPv6Packet, NextHeader, push_packet
from control.wire.neighbor import PrefixInformation, UnknownNeighborOption

SOURCE = IPv6Address("2001:db8:2::2")
DESTINATION = IPv6Address("2001:db8:1::1")
ONE = IPv6Address("2001:db8:1::1")
TWO = IPv6Address("2001:db8:1::2")


def summed(octets: str) -> bytes:
    data = bytes.fromhex(octets)
    checksum = pseudo_header_checksum(SOURCE, DESTINATION, 58, data)
    return data[:2] + checksum.to_bytes(2, "big") + data[4:]


@pytest.mark.parametrize(
    ("octets", "message"),
    [
        pytest.param("8000 0000 0001 0002 ff", UnknownIcmpv6Message(128, 0, bytes.fromhex("00010002ff")), id="echo"),
        pytest.param("c80a 0000", UnknownIcmpv6Message(200, 10, b""), id="header alone"),
        pytest.param(
            "0402 0000 0000002e 60000000", ParameterProblem(2, 46, bytes.fromhex("60000000")), id="Parameter Problem"
        ),
        pytest.param("9000 0000 1234 0000", HomeAgentAddressDiscoveryRequest(0x1234), id="discovery request"),
        pytest.param(
            "9100 0000 1234 0000" + ONE.packed.hex() + TWO.packed.hex(),
            HomeAgentAddressDiscoveryReply(0x1234, (ONE, TWO)),
            id="discovery reply",
        ),
        pytest.param("9100 0000 1234 0000", HomeAgentAddressDiscoveryReply(0x1234), id="discovery reply, nobody"),
        pytest.param("9200 0000 1234 0000", MobilePrefixSolicitation(0x1234), id="prefix solicitation"),
        pytest.param(
            "9200 0000 1234 0000 fd01 010203040506",
            MobilePrefixSolicitation(0x1234, (UnknownNeighborOption(253, bytes(range(1, 7))),)),
            id="prefix solicitation with an option",
        ),
        pytest.param(
            "9300 0000 1234 8000 0304 40 e0 00000e10 00000708 00000000" + ONE.packed.hex(),
            MobilePrefixAdvertisement(
                0x1234, managed=True, options=(PrefixInformation(ONE, 64, True, True, True, 3600, 1800),)
            ),
            id="prefix advertisement",
        ),
        pytest.param(
            "9300 0000 1234 4000",
            MobilePrefixAdvertisement(0x1234, other_configuration=True),
            id="prefix advertisement, the other flag",
        ),
    ],
)
def test_messages(octets: str, message: Icmpv6Message) -> None:
    data = summed(octets)
    assert pull_icmpv6(data, SOURCE, DESTINATION) == message
    assert push_icmpv6(message, SOURCE, DESTINATION) == data


@pytest.mark.parametrize(
    ("octets", "message"),
    [
        ("9000 0000 1234 ffff", HomeAgentAddressDiscoveryRequest(0x1234)),
        ("9100 0000 1234 ffff", HomeAgentAddressDiscoveryReply(0x1234)),
        ("9200 0000 1234 ffff", MobilePrefixSolicitation(0x1234)),
        ("9300 0000 1234 3fff", MobilePrefixAdvertisement(0x1234)),
    ],
)
def test_reserved_fields_are_ignored(octets: str, message: Icmpv6Message) -> None:
    assert pull_icmpv6(summed(octets), SOURCE, DESTINATION) == message


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bytes(3), MalformedReason.TRUNCATED),
        (summed("8000 0000 0001 0002")[:-1] + b"\x03", MalformedReason.CHECKSUM),
        (summed("0400 0000 000000"), MalformedReason.TRUNCATED),
        (summed("9001 0000 1234 0000"), MalformedReason.ICMPV6_CODE),
        (summed("9000 0000 1234"), MalformedReason.TRUNCATED),
        (summed("9100 0000 1234 0000 20010db8"), MalformedReason.TRUNCATED),
        (summed("9300 0000 1234"), MalformedReason.TRUNCATED),
    ],
)
def test_refused(data: bytes, reason: MalformedReason) -> None:
    with pytest.raises(WireError) as refused:
        pull_icmpv6(data, SOURCE, DESTINATION)
    assert refused.value.reason is reason
    assert refused.value.pointer is None


@pytest.mark.parametrize("length", [48, 1231, 1232, 1233, 1500])
def test_an_error_with_its_quotation_fits_into_1280_octets(length: int) -> None:
    cause = push_packet(IPv6Packet(SOURCE, DESTINATION, NextHeader.MOBILITY, bytes(length - 40)))
    problem = ParameterProblem.quoting(ParameterProblemCode.ERRONEOUS_HEADER_FIELD, 41, cause)
    payload = push_icmpv6(problem, DESTINATION, SOURCE)
    packet = push_packet(IPv6Packet(DESTINATION, SOURCE, NextHeader.ICMPV6, payload))
    assert len(packet) == min(1280, 48 + length)
    assert packet[48:] == cause[: len(packet) - 48]
    assert packet[40:48] == payload[:4] + (41).to_bytes(4, "big")


def test_errors_are_told_from_answers() -> None:
    # RFC 4443 section 2.1: the highest bit.
    assert [message_type.is_error for message_type in Icmpv6Type] == [int(kind) < 128 for kind in Icmpv6Type]
    assert Icmpv6Type.PARAMETER_PROBLEM.is_error
    assert not Icmpv6Type.ECHO_REQUEST.is_error


def test_what_errors_say() -> None:
    bare = WireError(MalformedReason.CHECKSUM)
    assert str(bare) == "checksum"
    assert (bare.pointer, bare.code, bare.detail) == (None, 0, "")
    located = WireError(MalformedReason.PAYLOAD_PROTO, "Payload Proto 6 instead of 59", pointer=0, code=0)
    assert str(located) == "payload_proto: Payload Proto 6 instead of 59"
    assert not issubclass(InvariantError, WireError)
