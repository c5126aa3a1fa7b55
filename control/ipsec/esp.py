# SPDX-License-Identifier: Apache-2.0
"""ESP in transport mode: sealing and opening one packet (RFC 4303 sections 2, 3.3 and 3.4).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ---
    |               Security Parameters Index (SPI)                 |  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+  |
    |                      Sequence Number                          |  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ integrity
    |                 IV (AES-CBC: 16 octets)                       |  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+  | ---
    |          payload, padding 1, 2, 3, ... (encrypted)            |  |  |
    +               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+  | encrypted
    |               |     ...       |  Pad Length   |  Next Header  |  |  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ --- ---
    |              Integrity Check Value (16 octets)                |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

Which association a packet belongs to, and what it may carry, is `association` and `policy`. Fragments, tunnel mode,
extended sequence numbers and traffic flow confidentiality are not here.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from control.ipsec.association import SecurityAssociation
from control.ipsec.replay import MAXIMUM_SEQUENCE
from control.ipsec.transform import ENCRYPTION_TRANSFORMS, ICV_LENGTH, integrity_check_value, integrity_holds
from control.wire.errors import InvariantError

HEADER_LENGTH: Final = 8
TRAILER_LENGTH: Final = 2
"""Pad Length and Next Header."""

_MONOTONE_PADDING: Final = bytes(range(1, 256))


class EspReason(StrEnum):
    """Why a packet was not opened, or could not be sealed."""

    TRUNCATED = "truncated"
    MISALIGNED = "misaligned"
    REPLAYED = "replayed"
    INTEGRITY = "integrity"
    PADDING = "padding"
    EXHAUSTED = "exhausted"


class EspError(Exception):
    """A packet that is to be dropped silently and counted by its reason."""

    def __init__(self, reason: EspReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def pull_spi(esp: bytes) -> int:
    """The SPI of an ESP packet, by which to look up its association."""
    if len(esp) < HEADER_LENGTH:
        raise EspError(EspReason.TRUNCATED)
    return int.from_bytes(esp[:4])


def open_esp(association: SecurityAssociation, esp: bytes) -> tuple[int, bytes]:
    """Verify and decrypt one packet; (next header, payload).

    Nothing of the association moves unless the integrity check value holds.
    """
    transform = ENCRYPTION_TRANSFORMS[association.encryption]
    ciphertext_start = HEADER_LENGTH + transform.iv_length
    icv_start = len(esp) - ICV_LENGTH
    if icv_start - ciphertext_start < transform.alignment:
        raise EspError(EspReason.TRUNCATED)
    if (icv_start - ciphertext_start) % transform.alignment:
        raise EspError(EspReason.MISALIGNED)
    sequence = int.from_bytes(esp[4:HEADER_LENGTH])
    if association.anti_replay and not association.window.check(sequence):
        raise EspError(EspReason.REPLAYED)
    # Covers the SPI too, so a packet offered to another association than its own fails here.
    if not integrity_holds(association.integrity_key, esp[:icv_start], esp[icv_start:]):
        raise EspError(EspReason.INTEGRITY)
    if association.anti_replay:
        association.window.commit(sequence)
    iv = esp[HEADER_LENGTH:ciphertext_start]
    plaintext = transform.decrypt(association.encryption_key, iv, esp[ciphertext_start:icv_start])
    pad_length = plaintext[-2]
    payload_length = len(plaintext) - TRAILER_LENGTH - pad_length
    # RFC 4303 section 2.4: the receiver inspects the padding. No oracle: the integrity of the ciphertext was checked.
    if payload_length < 0 or plaintext[payload_length:-TRAILER_LENGTH] != _MONOTONE_PADDING[:pad_length]:
        raise EspError(EspReason.PADDING)
    return plaintext[-1], plaintext[:payload_length]


def seal_esp(association: SecurityAssociation, next_header: int, payload: bytes, draw: Callable[[int], bytes]) -> bytes:
    """Encrypt and authenticate one payload under the association's next sequence number; the IV is drawn.

    DEVIATION RFC 4303 section 3.3.3: without anti-replay the counter might come round to zero; here it never does,
    since the sender cannot know what the other end checks. `EspReason.EXHAUSTED` asks for new keys.
    """
    sequence = association.next_sequence
    if sequence > MAXIMUM_SEQUENCE:
        raise EspError(EspReason.EXHAUSTED)
    if sequence > association.reserved_through:
        raise InvariantError(
            f"sequence number {sequence} of association {association.spi:#x} is reserved only through"
            f" {association.reserved_through}"
        )
    transform = ENCRYPTION_TRANSFORMS[association.encryption]
    iv = draw(transform.iv_length)
    if len(iv) != transform.iv_length:
        raise InvariantError(f"an IV of {len(iv)} octets was drawn, {transform.iv_length} asked for")
    pad_length = -(len(payload) + TRAILER_LENGTH) % transform.alignment
    plaintext = payload + _MONOTONE_PADDING[:pad_length] + bytes((pad_length, next_header))
    ciphertext = transform.encrypt(association.encryption_key, iv, plaintext)
    sealed = association.spi.to_bytes(4) + sequence.to_bytes(4) + iv + ciphertext
    association.next_sequence = sequence + 1
    return sealed + integrity_check_value(association.integrity_key, sealed)
