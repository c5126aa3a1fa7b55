# SPDX-License-Identifier: Apache-2.0
"""The frames of the captures in tests/vectors, read by a pcap reader of our own."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

from control.wire.ethernet import EtherType, pull_ethernet
from control.wire.ipv6 import IPv6Packet, NextHeader, pull_packet

DIRECTORY = Path(__file__).parents[2] / "vectors" / "captures"
CAPTURES = sorted(f"{path.parent.name}/{path.stem}" for path in DIRECTORY.glob("*/*.pcap"))

HOME_AGENT = IPv6Address("2001:db8:1::1")
HOME_ADDRESS = IPv6Address("2001:db8:1::100")
CORRESPONDENT = IPv6Address("2001:db8:c::3")
CARE_OF_ADDRESS = IPv6Address("2001:db8:2::ff:fe00:aa01")


def path_of(capture: str) -> Path:
    return DIRECTORY / f"{capture}.pcap"


def read_frames(capture: str) -> list[bytes]:
    """Every frame of one file: little-endian classic pcap with the Ethernet link type."""
    data = path_of(capture).read_bytes()
    magic, _, _, _, _, _, link_type = struct.unpack_from("<IHHiIII", data)
    assert (magic, link_type) == (0xA1B2C3D4, 1)
    frames = []
    offset = 24
    while offset < len(data):
        _, _, captured_length, original_length = struct.unpack_from("<IIII", data, offset)
        assert captured_length == original_length
        frames.append(data[offset + 16 : offset + 16 + captured_length])
        offset += 16 + captured_length
    return frames


def read_packets(capture: str) -> Iterator[tuple[int, IPv6Packet]]:
    """The IPv6 packets of one file with their frame numbers, which count from 1 as tshark's do, those in a tunnel
    right after the one around them."""
    for number, frame in enumerate(read_frames(capture), 1):
        header, payload = pull_ethernet(frame)
        if header.ether_type == EtherType.IPV6:
            packet = pull_packet(payload)
            yield number, packet
            while packet.next_header == NextHeader.IPV6:
                packet = pull_packet(packet.payload)
                yield number, packet
