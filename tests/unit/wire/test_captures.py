# SPDX-License-Identifier: Apache-2.0
"""All that another implementation sent: decoded, and encoded again octet for octet."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from control.wire.discovery import MobilePrefixAdvertisement, MobilePrefixSolicitation
from control.wire.errors import MalformedReason, WireError
from control.wire.ethernet import EthernetHeader, EtherType, pull_ethernet, push_ethernet
from control.wire.icmpv6 import Icmpv6Message, pull_icmpv6, push_icmpv6
from control.wire.ipv6 import HomeAddressOption, IPv6Packet, NextHeader, pull_packet, push_packet
from control.wire.mobility import (
    BindingAcknowledgement,
    BindingUpdate,
    MobilityMessage,
    pull_mobility_header,
    push_mobility_header,
)
from control.wire.mobility_options import (
    AlternateCareOfAddress,
    BindingAuthorizationData,
    MobilityOption,
    NonceIndices,
)
from control.wire.neighbor import NeighborMessage, PrefixInformation, check_neighbor_discovery
from control.wire.options import PadN
from tests.unit.wire.captures import (
    CAPTURES,
    CARE_OF_ADDRESS,
    CORRESPONDENT,
    HOME_ADDRESS,
    HOME_AGENT,
    read_frames,
    read_packets,
)

ESP_KEY = bytes.fromhex("6162636465666768696a6b6c6d6e6f70")

# Counted by tshark 4.0: -T fields -e mip6.mhtype -e icmpv6.type -e esp.spi -e ipv6.nxt over all twelve files.
COUNTS = {
    "BindingUpdate": 36,
    "BindingAcknowledgement": 34,
    "HomeTestInit": 11,
    "CareOfTestInit": 8,
    "HomeTest": 8,
    "CareOfTest": 8,
    "RouterSolicitation": 55,
    "RouterAdvertisement": 400,
    "NeighborSolicitation": 128,
    "NeighborAdvertisement": 104,
    "HomeAgentAddressDiscoveryRequest": 2,
    "HomeAgentAddressDiscoveryReply": 2,
    "UnknownIcmpv6Message": 160 + 160 + 551,  # echo requests, replies, multicast listener reports
    "IPV6": 84,
    "ESP": 44,
}
COUNTS_UNDER_ESP = {
    "BindingUpdate": 9,  # SPI 0x7d0
    "BindingAcknowledgement": 8,  # 0x7d1
    "MobilePrefixSolicitation": 1,  # 0x7d2
    "MobilePrefixAdvertisement": 1,  # 0x7d3
    "HomeTestInit": 3,  # 0x7d4
}


def decode(next_header: int, payload: bytes, packet: IPv6Packet) -> MobilityMessage | Icmpv6Message | None:
    """What a payload says, encoded again on the way; None for what is not ours to read."""
    source, destination = packet.effective_source, packet.effective_destination
    if next_header == NextHeader.MOBILITY:
        mobility_message = pull_mobility_header(payload, source, destination)
        assert push_mobility_header(mobility_message, source, destination) == payload
        return mobility_message
    if next_header == NextHeader.ICMPV6:
        icmpv6_message = pull_icmpv6(payload, source, destination)
        assert push_icmpv6(icmpv6_message, source, destination) == payload
        return icmpv6_message
    return None


def open_without_checking(esp: bytes) -> tuple[int, bytes]:
    """The protocol and payload inside a captured ESP packet, after SPI, sequence and IV and before 16 octets of ICV."""
    decryptor = Cipher(algorithms.AES(ESP_KEY), modes.CBC(esp[8:24])).decryptor()
    plain = decryptor.update(esp[24:-16]) + decryptor.finalize()
    return plain[-1], plain[: -2 - plain[-2]]


def frame_of(capture: str, number: int) -> tuple[EthernetHeader, IPv6Packet]:
    header, payload = pull_ethernet(read_frames(capture)[number - 1])
    return header, pull_packet(payload)


@pytest.mark.parametrize("capture", CAPTURES)
def test_every_frame_is_encoded_again_as_it_was(capture: str) -> None:
    for frame in read_frames(capture):
        header, payload = pull_ethernet(frame)
        assert push_ethernet(header, payload) == frame
        assert header.ether_type == EtherType.IPV6
        assert push_packet(pull_packet(payload)) == payload


@pytest.mark.parametrize("capture", CAPTURES)
def test_every_message_is_encoded_again_as_it_was(capture: str) -> None:
    for _, packet in read_packets(capture):
        message = decode(packet.next_header, packet.payload, packet)
        if isinstance(message, NeighborMessage):
            check_neighbor_discovery(packet, message)
        assert push_packet(packet)[packet.upper_layer_offset :] == packet.payload


def test_nothing_was_overlooked() -> None:
    counts: Counter[str] = Counter()
    for capture in CAPTURES:
        for _, packet in read_packets(capture):
            message = decode(packet.next_header, packet.payload, packet)
            counts[type(message).__name__ if message else NextHeader(packet.next_header).name] += 1
    assert counts == COUNTS


def test_everything_under_esp_is_encoded_again_as_it_was() -> None:
    counts: Counter[str] = Counter()
    prefixes: set[PrefixInformation] = set()
    for _, packet in read_packets("esp/mn0"):
        if packet.next_header != NextHeader.ESP:
            continue
        next_header, payload = open_without_checking(packet.payload)
        if next_header == NextHeader.IPV6:
            packet = pull_packet(payload)
            assert push_packet(packet) == payload
            next_header, payload = packet.next_header, packet.payload
        message = decode(next_header, payload, packet)
        counts[type(message).__name__] += 1
        if isinstance(message, MobilePrefixSolicitation):
            assert packet.home_address_option == HOME_ADDRESS
        if isinstance(message, MobilePrefixAdvertisement):
            assert packet.type_2_routing_header == HOME_ADDRESS
            prefixes.update(option for option in message.options if isinstance(option, PrefixInformation))
    assert counts == COUNTS_UNDER_ESP
    assert {prefix.prefix_length for prefix in prefixes} == {64}


def test_binding_update_in_full() -> None:
    header, packet = frame_of("noipsec/mn0", 56)
    assert header == EthernetHeader(bytes.fromhex("020000000201"), bytes.fromhex("02000000aa01"), EtherType.IPV6)
    assert (packet.source, packet.destination) == (CARE_OF_ADDRESS, HOME_AGENT)
    assert packet.home_address_option == packet.effective_source == HOME_ADDRESS
    assert packet.effective_destination == HOME_AGENT
    assert packet.type_2_routing_header is None
    assert [header.options for header in packet.extension_headers if hasattr(header, "options")] == [
        (PadN(bytes(2)), HomeAddressOption(HOME_ADDRESS))
    ]
    assert packet.upper_layer_offset == 64
    message = pull_mobility_header(packet.payload, HOME_ADDRESS, HOME_AGENT)
    assert message == BindingUpdate(
        sequence=14777,
        acknowledge=True,
        home_registration=True,
        link_local_compatible=False,
        key_management_mobility=False,
        lifetime_units=1798,
        options=(PadN(), AlternateCareOfAddress(CARE_OF_ADDRESS)),
    )
    assert isinstance(message, BindingUpdate)
    assert message.lifetime_s == 7192
    assert message.alternate_care_of_address == CARE_OF_ADDRESS
    assert message.nonce_indices is None
    assert message.binding_authorization_data is None


def test_binding_acknowledgement_in_full() -> None:
    _, packet = frame_of("noipsec/mn0", 64)
    assert (packet.source, packet.destination) == (HOME_AGENT, CARE_OF_ADDRESS)
    assert packet.type_2_routing_header == packet.effective_destination == HOME_ADDRESS
    assert packet.home_address_option is None
    message = pull_mobility_header(packet.payload, HOME_AGENT, HOME_ADDRESS)
    assert message == BindingAcknowledgement(
        status=0, key_management_mobility=False, sequence=14777, lifetime_units=1798, options=(PadN(bytes(2)),)
    )
    assert isinstance(message, BindingAcknowledgement)
    assert message.lifetime_s == 7192
    assert message.is_accepted


def test_correspondent_registration_in_full() -> None:
    _, packet = frame_of("ro-dhaad/mn0", 90)
    message = pull_mobility_header(packet.payload, HOME_ADDRESS, CORRESPONDENT)
    assert isinstance(message, BindingUpdate)
    expected: tuple[MobilityOption, ...] = (
        NonceIndices(home_nonce_index=1, care_of_nonce_index=1),
        BindingAuthorizationData(bytes.fromhex("aae9bb76b5ca132eb283ae9a")),
    )
    assert message.options == expected
    assert (message.nonce_indices, message.binding_authorization_data) == expected
    assert message.alternate_care_of_address is None
    assert not message.home_registration


@pytest.mark.parametrize(
    ("capture", "number", "source", "destination"),
    [
        pytest.param("noipsec/mn0", 56, CARE_OF_ADDRESS, HOME_AGENT, id="update summed with the care-of address"),
        pytest.param("noipsec/mn0", 64, HOME_AGENT, CARE_OF_ADDRESS, id="acknowledgement the same"),
        pytest.param("noipsec/mn0", 56, HOME_ADDRESS, CORRESPONDENT, id="another destination"),
    ],
)
def test_the_checksum_covers_the_effective_addresses(
    capture: str, number: int, source: IPv6Address, destination: IPv6Address
) -> None:
    _, packet = frame_of(capture, number)
    with pytest.raises(WireError) as refused:
        pull_mobility_header(packet.payload, source, destination)
    assert refused.value.reason is MalformedReason.CHECKSUM
    assert refused.value.pointer is None


@pytest.mark.parametrize("capture", CAPTURES)
def test_cut_anywhere_a_packet_is_refused(capture: str) -> None:
    seen: set[tuple[int, int]] = set()
    for frame in read_frames(capture):
        payload = pull_ethernet(frame)[1]
        # One packet of each shape is enough.
        shape = (payload[6], len(payload))
        if shape in seen:
            continue
        seen.add(shape)
        for length in range(len(payload)):
            with pytest.raises(WireError) as refused:
                pull_packet(payload[:length])
            assert refused.value.reason is MalformedReason.TRUNCATED
