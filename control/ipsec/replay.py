# SPDX-License-Identifier: Apache-2.0
"""The receiver's anti-replay window over 32-bit sequence numbers (RFC 4303 section 3.4.3, appendix A).

Extended sequence numbers are not here: they are negotiated, and manual keys negotiate nothing.
"""

from __future__ import annotations

from typing import Final

from control.wire.errors import InvariantError

MAXIMUM_SEQUENCE: Final = 0xFFFF_FFFF
DEFAULT_WINDOW_SIZE: Final = 64
"""Packets; RFC 4303 section 3.4.3 asks 32 at least and prefers 64."""


class ReplayWindow:
    """Which of the last `size` sequence numbers were received; checking and committing are told apart.

    `check` is asked before the integrity check, `commit` told after it, so that a forged packet moves nothing.
    """

    __slots__ = ("_seen", "highest", "size")

    def __init__(self, size: int = DEFAULT_WINDOW_SIZE, *, highest: int = 0, seen: int | None = None) -> None:
        """Begin anew, or where an earlier window stood.

        `seen` is what that one's `state` gave; without it, everything up to `highest` counts as received: what must be
        assumed where only the highest number was kept.
        """
        if size < 1 or not 0 <= highest <= MAXIMUM_SEQUENCE:
            raise InvariantError(f"replay window of size {size} at sequence number {highest}")
        self.size = size
        self.highest = highest
        """The highest sequence number committed; 0: none yet."""
        # Bit n stands for sequence number highest - n. Nothing lies before 0, so a new window needs no bit.
        every = (1 << size) - 1 if highest else 0
        self._seen = every if seen is None else seen & every

    def check(self, sequence: int) -> bool:
        """Whether a packet of this sequence number may still be taken; changes nothing."""
        # The first packet bears 1 (RFC 4303 section 3.3.3); 0 would mean that the sender's counter has come round.
        if not 0 < sequence <= MAXIMUM_SEQUENCE:
            return False
        behind = self.highest - sequence
        if behind < 0:
            return True
        return behind < self.size and not self._seen >> behind & 1

    def commit(self, sequence: int) -> None:
        """Record that a packet of this sequence number was received and its integrity held."""
        if not self.check(sequence):
            raise InvariantError(f"sequence number {sequence} committed, but not acceptable at {self.highest}")
        ahead = sequence - self.highest
        if ahead <= 0:
            self._seen |= 1 << -ahead
            return
        # A leap beyond the window leaves nothing in it; shifting by the leap itself could ask for 2^32 bits.
        self._seen = 1 if ahead >= self.size else (self._seen << ahead | 1) & ((1 << self.size) - 1)
        self.highest = sequence

    @property
    def state(self) -> tuple[int, int]:
        """(highest, seen), from which a constructor makes the same window again."""
        return self.highest, self._seen

    def __repr__(self) -> str:
        return f"ReplayWindow(size={self.size}, highest={self.highest})"
