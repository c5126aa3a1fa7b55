# SPDX-License-Identifier: Apache-2.0
"""What is known of a run at one moment, in the form that a person is shown.

Pure: times come in as CLOCK_MONOTONIC, and nothing is drawn here. What a run is judged by is in `outcome`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ha_fastpath.lab.outcome import SMALLEST_TRANSFER, Handover, Outcome

RATE_WINDOW_NS = 1_000_000_000
HISTORY = 40
# A ping younger than this may still be answered, and is not shown yet.
PENDING_NS = 100_000_000


@dataclass(slots=True)
class Meter:
    """A counter that only grows, and its rate over the last second."""

    total: int = 0
    history: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    _samples: deque[tuple[int, int]] = field(default_factory=deque)

    def add(self, total: int, now_ns: int) -> None:
        """Take a reading."""
        self.total = total
        self._samples.append((now_ns, total))
        while self._samples[0][0] < now_ns - RATE_WINDOW_NS and len(self._samples) > 2:
            self._samples.popleft()
        self.history.append(self.rate)

    @property
    def rate(self) -> float:
        """A second's worth of the counter."""
        if len(self._samples) < 2:
            return 0.0
        (began_ns, first), (ended_ns, last) = self._samples[0], self._samples[-1]
        return (last - first) * 1e9 / max(1, ended_ns - began_ns)


@dataclass(frozen=True, slots=True)
class Binding:
    """What the home agent has granted."""

    care_of_address: str
    granted_ns: int
    lifetime_s: int

    def left_s(self, now_ns: int) -> float:
        return max(0.0, self.lifetime_s - (now_ns - self.granted_ns) / 1e9)


@dataclass(slots=True)
class Picture:
    """Where everything is, and what has been counted."""

    began_ns: int
    outcome: Outcome = field(default_factory=Outcome)
    stays: list[tuple[int, str | None]] = field(default_factory=list)
    """Since when the mobile node's port is on which link; None between two."""
    binding: Binding | None = None
    tunnelled: Meter = field(default_factory=Meter)
    reverse_tunnelled: Meter = field(default_factory=Meter)
    solicitations_answered: int = 0
    said: str = ""
    """What happens now, in words."""

    @property
    def place(self) -> str | None:
        return self.stays[-1][1] if self.stays else None

    def place_at(self, at_ns: int) -> str | None:
        """Where the mobile node was."""
        place = None
        for since_ns, at in self.stays:
            if since_ns > at_ns:
                break
            place = at
        return place

    def transferred(self) -> float:
        """How much of the smallest transfer has arrived, up to 1."""
        return min(1.0, self.outcome.transfer.received_octets / SMALLEST_TRANSFER)

    def answered_shares(self, cell_ns: int, cells: int, now_ns: int) -> list[float | None]:
        """For each stretch of the run, the share of its pings that were answered; None where none was due yet."""
        sent = [0] * cells
        answered = [0] * cells
        pings = self.outcome.pings
        for number, at_ns in pings.sent.items():
            cell = (at_ns - self.began_ns) // cell_ns
            if 0 <= cell < cells and (number in pings.received or at_ns < now_ns - PENDING_NS):
                sent[cell] += 1
                answered[cell] += number in pings.received
        return [part / whole if whole else None for part, whole in zip(answered, sent, strict=True)]


def named(place: str | None) -> str:
    """A link as a person writes it."""
    return {"foreign1": "foreign 1", "foreign2": "foreign 2", None: "no link"}.get(place, place or "")


def move(handover: Handover) -> str:
    """From where to where."""
    return f"{named(handover.origin)} → {named(handover.destination)}"
