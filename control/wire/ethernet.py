# SPDX-License-Identifier: Apache-2.0
"""Ethernet II frames, with up to two VLAN tags (IEEE 802.1Q). Not 802.3 length frames, and no frame check sequence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

from control.wire.errors import MalformedReason, WireError

ETHERNET_HEADER_LENGTH = 14
VLAN_TAG_LENGTH = 4
MAXIMUM_VLAN_TAGS = 2

BROADCAST_MAC = b"\xff" * 6

_HEADER = Struct("!6s6sH")
_TAG_AND_TYPE = Struct("!IH")


class EtherType(IntEnum):
    VLAN = 0x8100
    """IEEE 802.1Q customer tag."""
    IPV6 = 0x86DD
    SERVICE_VLAN = 0x88A8
    """IEEE 802.1ad service tag."""


_TAGS = frozenset((EtherType.VLAN, EtherType.SERVICE_VLAN))


@dataclass(frozen=True, slots=True)
class EthernetHeader:
    """
    +--------------------+--------------------+- - - - - - -+-----------+
    |   Destination (6)  |     Source (6)     |  tags (0-8) | type (2)  |
    +--------------------+--------------------+- - - - - - -+-----------+
    """

    destination: bytes
    source: bytes
    ether_type: int
    """Of the payload, after all tags."""
    vlan_tags: tuple[int, ...] = ()
    """Outermost first, each the four octets of the frame: the tag's own EtherType above, priority and VLAN below."""


def pull_ethernet(frame: bytes) -> tuple[EthernetHeader, bytes]:
    """Return a frame's header and payload; the payload still has the padding of a short frame."""
    if len(frame) < ETHERNET_HEADER_LENGTH:
        raise WireError(MalformedReason.TRUNCATED, f"Ethernet header needs 14 octets of {len(frame)}")
    destination, source, ether_type = _HEADER.unpack_from(frame)
    if ether_type not in _TAGS:
        return EthernetHeader(destination, source, ether_type), frame[ETHERNET_HEADER_LENGTH:]
    offset = ETHERNET_HEADER_LENGTH
    tags: list[int] = []
    while ether_type in _TAGS:
        if len(tags) == MAXIMUM_VLAN_TAGS:
            raise WireError(MalformedReason.VLAN_TAGS, f"more than {MAXIMUM_VLAN_TAGS} VLAN tags")
        if len(frame) < offset + VLAN_TAG_LENGTH:
            raise WireError(MalformedReason.TRUNCATED, f"VLAN tag at {offset - 2} exceeds {len(frame)} octets")
        tag, ether_type = _TAG_AND_TYPE.unpack_from(frame, offset - 2)
        tags.append(tag)
        offset += VLAN_TAG_LENGTH
    return EthernetHeader(destination, source, ether_type, tuple(tags)), frame[offset:]


def push_ethernet(header: EthernetHeader, payload: bytes) -> bytes:
    """Return a frame, without padding to Ethernet's minimum: drivers do that."""
    if not header.vlan_tags:
        return _HEADER.pack(header.destination, header.source, header.ether_type) + payload
    tags = b"".join(tag.to_bytes(VLAN_TAG_LENGTH, "big") for tag in header.vlan_tags)
    return header.destination + header.source + tags + header.ether_type.to_bytes(2, "big") + payload
