# SPDX-License-Identifier: Apache-2.0
"""Where decisions are put until the service takes them: effects in order, events, and a counter for every ending."""

from collections import Counter, deque

from control.binding.effects import Effect
from control.binding.events import Event, SignallingDropped, SignallingReason

MAXIMUM_EVENTS = 65_536
"""Oldest events are forgotten beyond: a service that does not read them must not run out of memory."""


class Outbox:
    """Shared by the parts of one home agent."""

    def __init__(self) -> None:
        self.counters: Counter[SignallingReason] = Counter()
        self._effects: list[Effect] = []
        self._events: deque[Event] = deque(maxlen=MAXIMUM_EVENTS)

    def emit(self, effect: Effect) -> None:
        """Ask the service for `effect`, after those asked for before."""
        self._effects.append(effect)

    def report(self, event: Event) -> None:
        """Tell of `event`."""
        self._events.append(event)

    def count(self, reason: SignallingReason) -> None:
        """Count one ending."""
        self.counters[reason] += 1

    def drop(self, reason: SignallingReason, interface: str) -> None:
        """Count and tell of a frame that ends here."""
        self.counters[reason] += 1
        self._events.append(SignallingDropped(reason, interface))

    def take_effects(self) -> list[Effect]:
        """Hand over all effects asked for since the last call."""
        effects, self._effects = self._effects, []
        return effects

    def next_event(self) -> Event | None:
        """Hand over the oldest event."""
        return self._events.popleft() if self._events else None
