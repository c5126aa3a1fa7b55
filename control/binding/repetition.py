# SPDX-License-Identifier: Apache-2.0
"""Something that is sent a few times, an interval apart: solicitations until they are answered, announcements."""

from dataclasses import dataclass


@dataclass(slots=True)
class Repetition:
    """At rest until `start`."""

    interval_ns: int
    left: int = 0
    deadline_ns: int | None = None

    def start(self, times: int, now: int) -> None:
        """Send `times` times, first now; one under way begins anew."""
        self.left, self.deadline_ns = times, now

    def stop(self) -> None:
        """Send no more."""
        self.left, self.deadline_ns = 0, None

    def take(self, now: int) -> bool:
        """True if it is to be sent now, which counts as having been."""
        if self.deadline_ns is None or now < self.deadline_ns:
            return False
        self.left -= 1
        self.deadline_ns = now + self.interval_ns if self.left > 0 else None
        return True
