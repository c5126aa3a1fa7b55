# SPDX-License-Identifier: Apache-2.0
"""The Internet checksum (RFC 1071), and the one over the IPv6 pseudo-header (RFC 8200 section 8.1).

65,536 leaves 1 when divided by 65,535, so that a number and the sum of its 16-bit digits leave the same: the
one's-complement sum of any octets is one division of one large integer, about 0.3 us for a signalling message.
"""

from __future__ import annotations

from ipaddress import IPv6Address


def _fold(total: int) -> int:
    """Return the checksum of 16-bit digits whose sum, however grouped, is `total`."""
    # A sum that 65,535 divides is 0xFFFF in one's complement, and 0 only if every digit was 0.
    return 0xFFFF - (total % 0xFFFF or 0xFFFF) if total else 0xFFFF


def _digits(data: bytes) -> int:
    """Return `data` as one number, an odd last octet padded with zero to a whole 16-bit digit."""
    return int.from_bytes(data, "big") << 8 if len(data) & 1 else int.from_bytes(data, "big")


def internet_checksum(data: bytes) -> int:
    """Return the checksum to store in `data`; 0 if `data` includes a correct one already."""
    return _fold(_digits(data))


def pseudo_header_checksum(source: IPv6Address, destination: IPv6Address, next_header: int, payload: bytes) -> int:
    """Return the checksum of an upper-layer packet; 0 if `payload` includes a correct one already.

    With a Home Address option or a type 2 routing header, its address takes the place of `source` or `destination`
    (RFC 6275 sections 6.1.1 and 11.3.1): `IPv6Packet.effective_source` and `.effective_destination`.
    """
    return _fold(int(source) + int(destination) + len(payload) + next_header + _digits(payload))
