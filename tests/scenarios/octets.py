# SPDX-License-Identifier: Apache-2.0
"""Packets put together octet by octet from the RFCs' diagrams, with nothing of `control`.

What a scenario sends is made here, and what it expects is made here and compared with what the home agent sent: two
implementations of every format have to agree.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from ipaddress import IPv6Address

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

ETHERNET_IPV6 = b"\x86\xdd"
ESP, ICMPV6, NO_NEXT_HEADER, DESTINATION_OPTIONS, ROUTING, MOBILITY = 50, 58, 59, 60, 43, 135


def mac(text: str) -> bytes:
    """The octets of a MAC address."""
    return bytes.fromhex(text.replace(":", ""))


def ethernet(destination: bytes, source: bytes, payload: bytes) -> bytes:
    return destination + source + ETHERNET_IPV6 + payload


def ipv6(
    source: IPv6Address,
    destination: IPv6Address,
    next_header: int,
    payload: bytes,
    hop_limit: int = 64,
    home_address_option: IPv6Address | None = None,
    routing_header: IPv6Address | None = None,
) -> bytes:
    """A packet with a Home Address option or a type 2 routing header, or neither."""
    if home_address_option is not None:
        # PadN of 4 octets brings the option to 8n+6 (RFC 6275 section 6.3).
        payload = struct.pack("!BB4sBB", next_header, 2, b"\1\2\0\0", 0xC9, 16) + home_address_option.packed + payload
        next_header = DESTINATION_OPTIONS
    if routing_header is not None:
        payload = struct.pack("!BBBB4x", next_header, 2, 2, 1) + routing_header.packed + payload
        next_header = ROUTING
    header = struct.pack("!IHBB", 0x6000_0000, len(payload), next_header, hop_limit)
    return header + source.packed + destination.packed + payload


def with_checksum(data: bytes, at: int, protocol: int, source: IPv6Address, destination: IPv6Address) -> bytes:
    """Fill in the checksum at offset `at` (RFC 8200 section 8.1, RFC 1071)."""
    covered = source.packed + destination.packed + struct.pack("!II", len(data), protocol) + data
    covered += bytes(len(covered) % 2)
    total = sum(struct.unpack(f"!{len(covered) // 2}H", covered))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return data[:at] + struct.pack("!H", ~total & 0xFFFF) + data[at + 2 :]


def mobility(kind: int, body: bytes, source: IPv6Address, destination: IPv6Address) -> bytes:
    """A Mobility Header; `body` is what follows the checksum (RFC 6275 section 6.1.1)."""
    header = struct.pack("!BBBxH", NO_NEXT_HEADER, (6 + len(body)) // 8 - 1, kind, 0)
    return with_checksum(header + body, 4, MOBILITY, source, destination)


def binding_update_body(
    sequence: int, flags: str, lifetime_units: int, alternate_care_of_address: IPv6Address | None, nonce_indices: bool
) -> bytes:
    """RFC 6275 section 6.1.7; the options' own alignments are met by PadN."""
    bits = sum({"A": 0x8000, "H": 0x4000, "L": 0x2000, "K": 0x1000}[flag] for flag in flags)
    body = struct.pack("!HHH", sequence, bits, lifetime_units)
    if nonce_indices:
        return body + struct.pack("!BBHH", 4, 4, 1, 1) + b"\1\4\0\0\0\0"
    if alternate_care_of_address is None:
        return body + b"\1\2\0\0"
    return body + b"\1\0" + struct.pack("!BB", 3, 16) + alternate_care_of_address.packed


def binding_acknowledgement_body(status: int, sequence: int, lifetime_units: int, refresh_units: int | None) -> bytes:
    """RFC 6275 section 6.1.8."""
    option = b"\1\2\0\0" if refresh_units is None else struct.pack("!BBH", 2, 2, refresh_units)
    return struct.pack("!BBHH", status, 0, sequence, lifetime_units) + option


def binding_error_body(status: int, home_address: IPv6Address) -> bytes:
    """RFC 6275 section 6.1.9."""
    return struct.pack("!Bx", status) + home_address.packed


def icmpv6(kind: int, code: int, body: bytes, source: IPv6Address, destination: IPv6Address) -> bytes:
    return with_checksum(struct.pack("!BBH", kind, code, 0) + body, 2, ICMPV6, source, destination)


def seal(
    spi: int, sequence: int, encryption_key: bytes, integrity_key: bytes, iv: bytes, next_header: int, payload: bytes
) -> bytes:
    """ESP with AES-CBC and HMAC-SHA-256-128 (RFC 4303 section 2, RFC 3602, RFC 4868)."""
    pad_length = -(len(payload) + 2) % 16
    plaintext = payload + bytes(range(1, pad_length + 1)) + bytes((pad_length, next_header))
    encryptor = Cipher(AES(encryption_key), CBC(iv)).encryptor()
    sealed = struct.pack("!II", spi, sequence) + iv + encryptor.update(plaintext) + encryptor.finalize()
    return sealed + hmac.digest(integrity_key, sealed, hashlib.sha256)[:16]
