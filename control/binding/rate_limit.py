# SPDX-License-Identifier: Apache-2.0
"""A token bucket over the clock that callers hand in, for errors that anybody can provoke (RFC 6275 section 9.3.3)."""

_SECOND_NS = 1_000_000_000


class RateLimit:
    """Allows `per_s` occurrences a second on average, and as many at once."""

    def __init__(self, per_s: int) -> None:
        self._interval_ns = _SECOND_NS // per_s
        self._full_at_ns: int | None = None
        "When the bucket will be full again; the tokens missing are the intervals until then."

    def allow(self, now: int) -> bool:
        """Take one token, if there is one."""
        full_at_ns = now if self._full_at_ns is None else max(self._full_at_ns, now)
        if full_at_ns - now > _SECOND_NS - self._interval_ns:
            return False
        self._full_at_ns = full_at_ns + self._interval_ns
        return True
