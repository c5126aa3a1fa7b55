# SPDX-License-Identifier: Apache-2.0
"""Sequence numbers of Binding Updates, compared modulo 2^16 (RFC 6275 section 9.5.1)."""

_MODULUS = 1 << 16
_NEWER = _MODULUS // 2 - 1


def is_newer(sequence: int, last: int) -> bool:
    """True where `sequence` is one of the 32767 numbers that follow `last`."""
    return 1 <= (sequence - last) % _MODULUS <= _NEWER
