# SPDX-License-Identifier: Apache-2.0
"""Watches the home agent's cable from outside, and tells what the home agent cannot tell about itself.

`wire_watch INTERFACE HOME_AGENT_ADDRESS` counts, at the fabric's end of the cable, the packets in the tunnel each way
and those of the signalling: each ESP packet (RFC 4303) by SPI, and each Mobility Header (RFC 6275 section 6.1) in the
clear. It decrypts nothing: what is in an ESP packet is for the home agent's and the mobile node's own counts. Runs
until its standard input closes; one line of JSON five times a second.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from control.wire.errors import WireError
from control.wire.ethernet import EtherType, pull_ethernet
from control.wire.ipv6 import NextHeader, pull_packet

REPORT_INTERVAL_S = 0.2
# What arrives in a tenth of a second when the machine stands still, and more.
RECEIVE_BUFFER = 1 << 23
LARGEST_FRAME = 1 << 16

ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_STATISTICS = 6
SO_RCVBUFFORCE = 33


@dataclass(slots=True)
class WireCounts:
    """What has passed on the cable."""

    home_agent_address: IPv6Address
    tunnelled: int = 0
    """Packets in IPv6 that the home agent sent."""
    reverse_tunnelled: int = 0
    """Packets in IPv6 that were sent to it."""
    esp: Counter[int] = field(default_factory=Counter)
    clear_mobility_headers: int = 0
    malformed: int = 0

    def count(self, frame: bytes) -> None:
        """Take one frame into account."""
        try:
            header, payload = pull_ethernet(frame)
            if header.ether_type != EtherType.IPV6:
                return
            packet = pull_packet(payload)
        except WireError:
            self.malformed += 1
            return
        if packet.next_header == NextHeader.IPV6:
            if packet.source == self.home_agent_address:
                self.tunnelled += 1
            elif packet.destination == self.home_agent_address:
                self.reverse_tunnelled += 1
        elif packet.next_header == NextHeader.ESP and len(packet.payload) >= 4:
            self.esp[int.from_bytes(packet.payload[:4], "big")] += 1
        elif packet.next_header == NextHeader.MOBILITY:
            self.clear_mobility_headers += 1


def watch(interface: str, home_agent_address: IPv6Address) -> None:
    """Count until standard input closes."""
    counts = WireCounts(home_agent_address)
    lost = 0
    # ETH_P_ALL, since a socket for one protocol is not shown what the interface sends.
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as raw:
        raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        raw.bind((interface, ETH_P_ALL))
        raw.setblocking(False)
        report_at = time.monotonic()
        ending = False
        while True:
            if ending or time.monotonic() >= report_at:
                _, dropped = struct.unpack("II", raw.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
                lost += dropped
                _report(counts, lost)
                report_at = time.monotonic() + REPORT_INTERVAL_S
            if ending:
                return
            readable, _, _ = select.select([raw, sys.stdin], [], [], max(0.0, report_at - time.monotonic()))
            if raw in readable:
                _drain(raw, counts)
            # Whatever else would come on this input, its end does.
            ending = sys.stdin in readable


def _drain(raw: socket.socket, counts: WireCounts) -> None:
    while True:
        try:
            counts.count(raw.recv(LARGEST_FRAME))
        except BlockingIOError:
            return


def _report(counts: WireCounts, lost: int) -> None:
    message = {
        "tunnelled": counts.tunnelled,
        "reverse_tunnelled": counts.reverse_tunnelled,
        "esp": {f"{spi:#x}": number for spi, number in counts.esp.items()},
        "clear_mobility_headers": counts.clear_mobility_headers,
        "malformed": counts.malformed,
        "not_seen": lost,
    }
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    watch(sys.argv[1], IPv6Address(sys.argv[2]))
