# SPDX-License-Identifier: Apache-2.0
"""Neighbor Discovery written out by hand from RFC 4861, and its rules of validity one by one."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from control.wire.checksum import pseudo_header_checksum
from control.wire.errors import MalformedReason, WireError
from control.wire.icmpv6 import Icmpv6Message, pull_icmpv6, push_icmpv6
from control.wire.ipv6 import IPv6Packet, NextHeader
from control.wire.neighbor import (
    ALL_NODES_MULTICAST,
    ALL_ROUTERS_MULTICAST,
    AdvertisementInterval,
    HomeAgentInformation,
    MaximumTransmissionUnit,
    NeighborAdvertisement,
    NeighborMessage,
    NeighborSolicitation,
    PrefixInformation,
    RouterAdvertisement,
    RouterPreference,
    RouterSolicitation,
    SourceLinkLayerAddress,
    TargetLinkLayerAddress,
    UnknownNeighborOption,
    check_neighbor_discovery,
    multicast_mac,
    solicited_node_multicast,
)

UNSPECIFIED = IPv6Address("::")
LINK_LOCAL = IPv6Address("fe80::1")
TARGET = IPv6Address("2001:db8:1::100")
TARGET_HEX = "20010db8000100000000000000000100"
TARGET_GROUP = IPv6Address("ff02::1:ff00:100")
MAC = bytes.fromhex("02000000aa01")
DESTINATION = IPv6Address("2001:db8:1::1")


def summed(octets: str) -> bytes:
    data = bytes.fromhex(octets)
    checksum = pseudo_header_checksum(LINK_LOCAL, DESTINATION, 58, data)
    return data[:2] + checksum.to_bytes(2, "big") + data[4:]


def pull(octets: str) -> Icmpv6Message:
    return pull_icmpv6(summed(octets), LINK_LOCAL, DESTINATION)


@pytest.mark.parametrize(
    ("octets", "message"),
    [
        pytest.param(
            "8500 0000 00000000 0101 02000000aa01",
            RouterSolicitation((SourceLinkLayerAddress(MAC),)),
            id="Router Solicitation",
        ),
        pytest.param(
            # hop limit 64; O, H, preference high; 1800 s; 30 s; 1 s
            "8600 0000 40 68 0708 00007530 000003e8"
            # A /64 that is on-link and for addresses, with the router's own address in it (RFC 6275 section 7.2).
            f"0304 40 e0 00015180 00003840 00000000 {TARGET_HEX}"
            "0101 02000000aa01  0501 0000 000005dc  0701 0000 00000bb8  0801 0000 0005 0708",
            RouterAdvertisement(
                router_lifetime_s=1800,
                current_hop_limit=64,
                managed=False,
                other_configuration=True,
                home_agent=True,
                preference=RouterPreference.HIGH,
                reachable_time_ms=30_000,
                retransmit_timer_ms=1000,
                options=(
                    PrefixInformation(TARGET, 64, True, True, True, 86_400, 14_400),
                    SourceLinkLayerAddress(MAC),
                    MaximumTransmissionUnit(1500),
                    AdvertisementInterval(3000),
                    HomeAgentInformation(5, 1800),
                ),
            ),
            id="Router Advertisement",
        ),
        pytest.param(
            f"8600 0000 00 98 0000 00000000 00000000 0304 30 00 ffffffff 00000000 00000000 {TARGET_HEX}",
            RouterAdvertisement(
                router_lifetime_s=0,
                managed=True,
                preference=RouterPreference.LOW,
                options=(PrefixInformation(TARGET, 48, False, False, False, 0xFFFF_FFFF, 0),),
            ),
            id="Router Advertisement, the other flags",
        ),
        pytest.param(
            f"8700 0000 00000000 {TARGET_HEX} 0101 02000000aa01",
            NeighborSolicitation(TARGET, (SourceLinkLayerAddress(MAC),)),
            id="Neighbor Solicitation",
        ),
        pytest.param(
            f"8800 0000 e0000000 {TARGET_HEX} 0201 02000000aa01",
            NeighborAdvertisement(TARGET, True, True, True, (TargetLinkLayerAddress(MAC),)),
            id="Neighbor Advertisement",
        ),
        pytest.param(
            f"8800 0000 20000000 {TARGET_HEX}",
            NeighborAdvertisement(TARGET, False, False, True),
            id="Neighbor Advertisement, override alone",
        ),
        pytest.param(
            f"8700 0000 00000000 {TARGET_HEX} 0e01 010203040506 fd02 0102030405060708090a0b0c0d0e",
            NeighborSolicitation(
                TARGET,
                (UnknownNeighborOption(14, bytes(range(1, 7))), UnknownNeighborOption(253, bytes(range(1, 15)))),
            ),
            id="unknown options",
        ),
    ],
)
def test_messages(octets: str, message: NeighborMessage) -> None:
    assert pull(octets) == message
    assert push_icmpv6(message, LINK_LOCAL, DESTINATION) == summed(octets)


def test_what_messages_say_of_themselves() -> None:
    prefix = PrefixInformation(TARGET, 64, True, True, False, 1, 1)
    source = SourceLinkLayerAddress(MAC)
    assert RouterAdvertisement(1, options=(source, prefix)).prefixes == (prefix,)
    assert RouterAdvertisement(1, options=(prefix, source)).source_link_layer_address == MAC
    assert RouterAdvertisement(1).source_link_layer_address is None
    assert NeighborSolicitation(TARGET, (source,)).source_link_layer_address == MAC
    assert NeighborSolicitation(TARGET).source_link_layer_address is None
    advertisement = NeighborAdvertisement(TARGET, False, False, True)
    assert advertisement.target_link_layer_address is None
    # A source's address in an advertisement is no target's (RFC 4861 section 4.4).
    advertisement = replace(advertisement, options=(source, TargetLinkLayerAddress(MAC[::-1])))
    assert advertisement.target_link_layer_address == MAC[::-1]


def test_an_odd_link_layer_address_is_padded() -> None:
    pushed = push_icmpv6(RouterSolicitation((SourceLinkLayerAddress(bytes(8)),)), LINK_LOCAL, DESTINATION)
    assert pushed[8:] == bytes.fromhex("0102") + bytes(14)


def test_group_addresses() -> None:
    # RFC 4291 section 2.7.1 has this example; RFC 2464 section 7 the mapping.
    assert solicited_node_multicast(IPv6Address("4037::1:800:200e:8c6c")) == IPv6Address("ff02::1:ff0e:8c6c")
    assert multicast_mac(IPv6Address("ff02::1:ff0e:8c6c")) == bytes.fromhex("3333ff0e8c6c")
    assert multicast_mac(ALL_NODES_MULTICAST) == bytes.fromhex("333300000001")
    assert multicast_mac(ALL_ROUTERS_MULTICAST) == bytes.fromhex("333300000002")


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        ("8701 0000 00000000" + TARGET_HEX, MalformedReason.ICMPV6_CODE),
        ("8500 0000 000000", MalformedReason.TRUNCATED),
        ("8600 0000 40 00 0708 00000000 000000", MalformedReason.TRUNCATED),
        ("8700 0000 00000000" + TARGET_HEX[:-2], MalformedReason.TRUNCATED),
        ("8800 0000 00000000" + TARGET_HEX[:-2], MalformedReason.TRUNCATED),
        (f"8700 0000 00000000 {TARGET_HEX} 0101 02", MalformedReason.TRUNCATED),
        (f"8700 0000 00000000 {TARGET_HEX} 0100 02000000aa01", MalformedReason.OPTION_LENGTH),
        (f"8700 0000 00000000 {TARGET_HEX} 0102 02000000aa01", MalformedReason.OPTION_LENGTH),
        (f"8700 0000 00000000 {TARGET_HEX} 0502 0000 00000500 0000000000000000", MalformedReason.OPTION_LENGTH),
        (f"8700 0000 00000000 {TARGET_HEX} 0301 000000000000", MalformedReason.OPTION_LENGTH),
    ],
)
def test_refused(octets: str, reason: MalformedReason) -> None:
    with pytest.raises(WireError) as refused:
        pull(octets)
    assert refused.value.reason is reason
    assert refused.value.pointer is None


def packet_of(source: IPv6Address, destination: IPv6Address, hop_limit: int = 255) -> IPv6Packet:
    return IPv6Packet(source, destination, NextHeader.ICMPV6, b"", hop_limit=hop_limit)


SOLICITATION = NeighborSolicitation(TARGET)
SOLICITATION_WITH_ADDRESS = NeighborSolicitation(TARGET, (SourceLinkLayerAddress(MAC),))
SOLICITED = NeighborAdvertisement(TARGET, False, True, False)
UNSOLICITED = NeighborAdvertisement(TARGET, False, False, True)
ROUTER_SOLICITATION = RouterSolicitation((SourceLinkLayerAddress(MAC),))


@pytest.mark.parametrize(
    ("packet", "message"),
    [
        (packet_of(LINK_LOCAL, TARGET_GROUP), SOLICITATION_WITH_ADDRESS),
        (packet_of(LINK_LOCAL, TARGET), SOLICITATION),
        (packet_of(UNSPECIFIED, TARGET_GROUP), SOLICITATION),
        (packet_of(TARGET, LINK_LOCAL), SOLICITED),
        (packet_of(TARGET, ALL_NODES_MULTICAST), UNSOLICITED),
        (packet_of(LINK_LOCAL, ALL_NODES_MULTICAST), RouterAdvertisement(1800)),
        (packet_of(LINK_LOCAL, ALL_ROUTERS_MULTICAST), ROUTER_SOLICITATION),
        (packet_of(UNSPECIFIED, ALL_ROUTERS_MULTICAST), RouterSolicitation()),
    ],
)
def test_valid(packet: IPv6Packet, message: NeighborMessage) -> None:
    check_neighbor_discovery(packet, message)
    with pytest.raises(WireError) as refused:
        check_neighbor_discovery(replace(packet, hop_limit=254), message)
    assert refused.value.reason is MalformedReason.NEIGHBOR_HOP_LIMIT


@pytest.mark.parametrize(
    ("packet", "message"),
    [
        pytest.param(
            packet_of(LINK_LOCAL, TARGET_GROUP), NeighborSolicitation(ALL_NODES_MULTICAST), id="multicast target"
        ),
        pytest.param(packet_of(UNSPECIFIED, TARGET), SOLICITATION, id="from :: to a unicast address"),
        pytest.param(packet_of(UNSPECIFIED, ALL_NODES_MULTICAST), SOLICITATION, id="from :: to another group"),
        pytest.param(packet_of(UNSPECIFIED, TARGET_GROUP), SOLICITATION_WITH_ADDRESS, id="from :: with an address"),
        pytest.param(
            packet_of(LINK_LOCAL, ALL_NODES_MULTICAST),
            NeighborAdvertisement(ALL_NODES_MULTICAST, False, False, True),
            id="multicast target advertised",
        ),
        pytest.param(packet_of(LINK_LOCAL, ALL_NODES_MULTICAST), SOLICITED, id="solicited, to all nodes"),
        pytest.param(packet_of(TARGET, ALL_NODES_MULTICAST), RouterAdvertisement(1), id="router of a global address"),
        pytest.param(
            packet_of(UNSPECIFIED, ALL_ROUTERS_MULTICAST), ROUTER_SOLICITATION, id="router wanted, from :: with address"
        ),
    ],
)
def test_invalid(packet: IPv6Packet, message: NeighborMessage) -> None:
    with pytest.raises(WireError) as refused:
        check_neighbor_discovery(packet, message)
    assert refused.value.reason is MalformedReason.NEIGHBOR_DISCOVERY
    assert refused.value.pointer is None
