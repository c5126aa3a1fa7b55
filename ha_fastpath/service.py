# SPDX-License-Identifier: Apache-2.0
"""The loop between a protocol that does no I/O and the machine: frame -> agent -> effects in order -> one timer.

The only reader of the clock (`monotonic_ns`) and of the random source (`draw`). What is decided is `control`'s; how a
map, socket or file is written is theirs who own it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv6Address
from typing import Final, Generic, Protocol, TypeVar

from control.binding.cache import BindingCacheEntry
from control.binding.effects import (
    Effect,
    EffectResult,
    InstallBinding,
    RemoveBinding,
    ReserveSequenceNumbers,
    SendFrame,
    SendPacket,
    StartDad,
    StopDad,
)
from control.binding.events import (
    BindingDeregistered,
    BindingExpired,
    BindingMoved,
    BindingRefreshed,
    BindingRegistered,
    DadConflict,
    Event,
    RegistrationRefused,
    SignallingDropped,
)
from control.ipsec.association import AssociationLookup, Purpose, SecurityAssociation
from control.wire.errors import InvariantError

RESERVATION_PATIENCE_S: Final = 1.0
"""A disk that takes longer to record a reservation is one that has failed: service goes on without it."""

monotonic_ns: Final[Callable[[], int]] = time.monotonic_ns
draw: Final[Callable[[int], bytes]] = os.urandom

_LOG: Final = logging.getLogger("ha_fastpath.service")
_NS: Final = 1_000_000_000

EffectT = TypeVar("EffectT")
EventT = TypeVar("EventT")
EventT_co = TypeVar("EventT_co", covariant=True)


class Agent(Protocol[EffectT, EventT_co]):
    """The sans-IO face that all roles share."""

    def receive_frame(self, frame: bytes, interface: str, now: int) -> None: ...
    def handle_timer(self, now: int) -> None: ...
    def next_deadline(self) -> int | None: ...
    def take_effects(self) -> list[EffectT]: ...
    def next_event(self) -> EventT_co | None: ...


class FrameSource(Protocol):
    """A TAP."""

    interface: str

    def fileno(self) -> int: ...
    def drain(self, receive: Callable[[bytes], None], limit: int = ...) -> int: ...


class AgentLoop(Generic[EffectT, EventT]):
    """Drives one agent on the running asyncio loop; of any role.

    `perform` does one effect, `observe` hears one event, `settled` is called after all of them. `hold` stops effects
    after the present one until `release`; input goes on meanwhile, and what it asks for waits its turn.
    """

    def __init__(
        self,
        agent: Agent[EffectT, EventT],
        perform: Callable[[EffectT], None],
        observe: Callable[[EventT], None],
        settled: Callable[[], None] = lambda: None,
        *,
        now_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._agent = agent
        self._perform = perform
        self._observe = observe
        self._settled = settled
        self._now_ns = now_ns
        self._loop = asyncio.get_running_loop()
        self._effects: deque[EffectT] = deque()
        self._held = False
        self._performing = False
        self._timer: asyncio.TimerHandle | None = None
        self._armed_ns: int | None = None
        self.invariants_broken = 0
        """Faults of ours that a frame or a deadline brought to light; each is in the log."""

    def add_source(self, source: FrameSource) -> None:
        """Take frames from a TAP as they come."""

        def read() -> None:
            frames: list[bytes] = []
            try:
                source.drain(frames.append)
            except OSError as error:
                # Somebody has removed the TAP; the network's events tell whoever can make it again.
                _LOG.error("signalling of %s cannot be read: %s", source.interface, error.strerror)
                self.remove_source(source)
            # Outside, so that what fails in performing an effect is not taken for a TAP that fails.
            for frame in frames:
                self.receive_frame(frame, source.interface)

        self._loop.add_reader(source.fileno(), read)

    def remove_source(self, source: FrameSource) -> None:
        self._loop.remove_reader(source.fileno())

    def receive_frame(self, frame: bytes, interface: str) -> None:
        """One frame, and all that follows from it."""
        with self._invariants(f"a frame of {len(frame)} octets on {interface}"):
            self._agent.receive_frame(frame, interface, self._now_ns())
        self.settle()

    def settle(self) -> None:
        """Perform what the agent asks for, tell its events, and arm the one timer."""
        self._effects.extend(self._agent.take_effects())
        # What performing an effect leads to is appended by the loop that is running already.
        if not self._performing:
            self._performing = True
            try:
                while self._effects and not self._held:
                    effect = self._effects.popleft()
                    with self._invariants(type(effect).__name__):
                        self._perform(effect)
                    self._effects.extend(self._agent.take_effects())
            finally:
                self._performing = False
        while (event := self._agent.next_event()) is not None:
            self._observe(event)
        self._settled()
        self._arm()

    def hold(self) -> None:
        """No further effect until `release`."""
        self._held = True

    def release(self) -> None:
        self._held = False
        self.settle()

    def close(self) -> None:
        """Stop the timer; sources are the caller's to remove."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed_ns = None

    def _arm(self) -> None:
        deadline_ns = self._agent.next_deadline()
        if deadline_ns == self._armed_ns:
            return
        self.close()
        if deadline_ns is not None:
            self._armed_ns = deadline_ns
            # asyncio's clock is CLOCK_MONOTONIC in seconds.
            self._timer = self._loop.call_at(deadline_ns / _NS, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._armed_ns = None
        with self._invariants("a deadline"):
            self._agent.handle_timer(self._now_ns())
        self.settle()

    @contextmanager
    def _invariants(self, what: str) -> Iterator[None]:
        """A fault of ours harms the one whom it met; others are served on."""
        try:
            yield
        except InvariantError:
            self.invariants_broken += 1
            _LOG.exception("%s met a fault of ours", what)


class WatchedAssociations:
    """The associations, and a note of which anti-replay windows were at stake since it was last read.

    Every change of a window begins with a look-up by SPI, so that nothing else needs to tell.
    """

    def __init__(self, associations: AssociationLookup) -> None:
        self._associations = associations
        self._looked_up: list[tuple[SecurityAssociation, tuple[int, int]]] = []

    def by_spi(self, spi: int) -> SecurityAssociation | None:
        association = self._associations.by_spi(spi)
        if association is not None and association.anti_replay:
            self._looked_up.append((association, association.window.state))
        return association

    def outbound(self, home_address: IPv6Address, purpose: Purpose) -> SecurityAssociation | None:
        return self._associations.outbound(home_address, purpose)

    def take_moved(self) -> list[SecurityAssociation]:
        """The associations whose windows have moved."""
        if not self._looked_up:
            return []
        moved = [association for association, before in self._looked_up if association.window.state != before]
        self._looked_up.clear()
        return moved


class BindingMap(Protocol):
    """Bindings as the data path has them, next hops included."""

    def install(self, entry: BindingCacheEntry, previous: BindingCacheEntry | None) -> EffectResult: ...
    def remove(self, entry: BindingCacheEntry) -> None: ...
    def start_dad(self, address: IPv6Address, home_link: int) -> None: ...
    def stop_dad(self, address: IPv6Address) -> None: ...


class BindingRecord(Protocol):
    """Bindings and counters as the disk has them."""

    def record_binding(self, entry: BindingCacheEntry, now: int) -> None: ...
    def record_removal(self, home_address: IPv6Address, sequence: int) -> None: ...
    def record_window(self, spi: int, window: tuple[int, int]) -> None: ...
    def reserve(self, reserved: Mapping[int, int], done: Callable[[], None]) -> None: ...


class PacketSender(Protocol):
    def send(self, packet: bytes, /) -> bool: ...


class BindingCache(Protocol):
    """The bindings in force, to read."""

    def get(self, home_address: IPv6Address) -> BindingCacheEntry | None: ...


class RegisteringAgent(Agent[Effect, Event], Protocol):
    """control.home_agent.HomeAgent, as far as it is used here."""

    @property
    def bindings(self) -> BindingCache: ...
    def effect_done(self, effect: InstallBinding, result: EffectResult, now: int) -> None: ...


class HomeAgentService:
    """Performs a home agent's effects and tells its events to the log."""

    def __init__(
        self,
        agent: RegisteringAgent,
        watched: WatchedAssociations,
        bindings: BindingMap,
        record: BindingRecord,
        packets: PacketSender,
        frames: Mapping[str, PacketSender],
        *,
        now_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._agent = agent
        self._watched = watched
        self._bindings = bindings
        self._record = record
        self._packets = packets
        self._frames = frames
        self._now_ns = now_ns
        self._loop = asyncio.get_running_loop()
        self._waiting_for_disk: asyncio.TimerHandle | None = None
        self.events: Counter[str] = Counter()
        """How many of each kind were told."""
        self.slow_reservations = 0
        self.agent_loop: AgentLoop[Effect, Event] = AgentLoop(
            agent, self._perform, self._observe, self._record_windows, now_ns=now_ns
        )

    def close(self) -> None:
        if self._waiting_for_disk is not None:
            self._waiting_for_disk.cancel()
            self._waiting_for_disk = None
        self.agent_loop.close()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case SendPacket():
                self._packets.send(effect.packet)
            case SendFrame():
                # An interface that has vanished has no socket, and its frames no way.
                if (sender := self._frames.get(effect.interface)) is not None:
                    sender.send(effect.frame)
            case InstallBinding():
                self._install(effect)
            case RemoveBinding():
                self._bindings.remove(effect.entry)
                self._record.record_removal(effect.entry.home_address, effect.entry.sequence)
            case ReserveSequenceNumbers():
                self._reserve(effect)
            case StartDad():
                self._bindings.start_dad(effect.address, effect.home_link)
            case StopDad():
                self._bindings.stop_dad(effect.address)

    def _install(self, effect: InstallBinding) -> None:
        # The cache has the new entry only once it is known to be in the map.
        try:
            result = self._bindings.install(effect.entry, self._agent.bindings.get(effect.entry.home_address))
        except OSError as error:
            # Answered all the same: who waits for the answer takes no other Binding Update meanwhile.
            _LOG.error("the data path's maps cannot be written: %s", error.strerror)
            result = EffectResult.FAILED
        if result is EffectResult.DONE:
            self._record.record_binding(effect.entry, self._now_ns())
        self._agent.effect_done(effect, result, self._now_ns())

    def _reserve(self, effect: ReserveSequenceNumbers) -> None:
        self.agent_loop.hold()
        self._waiting_for_disk = self._loop.call_later(RESERVATION_PATIENCE_S, self._give_up_on_disk, effect)
        waiting = self._waiting_for_disk

        def recorded() -> None:
            self._loop.call_soon_threadsafe(self._reserved, waiting)

        self._record.reserve({effect.spi: effect.through}, recorded)

    def _reserved(self, waiting: asyncio.TimerHandle) -> None:
        # One that comes after patience ended is not the one that is waited for now.
        if self._waiting_for_disk is waiting:
            waiting.cancel()
            self._waiting_for_disk = None
            self.agent_loop.release()

    def _give_up_on_disk(self, effect: ReserveSequenceNumbers) -> None:
        self._waiting_for_disk = None
        self.slow_reservations += 1
        _LOG.warning(
            "the disk did not record within %.0f s that SPI %#x uses sequence numbers through %d: service goes on, and"
            " mobile nodes may take acknowledgements after a restart for replays",
            RESERVATION_PATIENCE_S,
            effect.spi,
            effect.through,
        )
        self.agent_loop.release()

    def _record_windows(self) -> None:
        for association in self._watched.take_moved():
            self._record.record_window(association.spi, association.window.state)

    def _observe(self, event: Event) -> None:
        self.events[type(event).__name__] += 1
        match event:
            case BindingRegistered(entry):
                _LOG.info("%s is at %s for %d s", entry.home_address, entry.care_of_address, entry.lifetime_units * 4)
            case BindingMoved(entry, previous):
                _LOG.info("%s has moved from %s to %s", entry.home_address, previous, entry.care_of_address)
            case BindingRefreshed(entry):
                _LOG.debug("%s is still at %s", entry.home_address, entry.care_of_address)
            case BindingDeregistered(entry):
                _LOG.info("%s is home again", entry.home_address)
            case BindingExpired(entry):
                _LOG.info("%s has not refreshed its binding to %s", entry.home_address, entry.care_of_address)
            case RegistrationRefused(home_address, care_of_address, status):
                _LOG.info("%s at %s was refused with status %d", home_address, care_of_address, status)
            case DadConflict(address, home_address, interface, link_layer_address):
                _LOG.warning(
                    "%s cannot be defended for %s: %s on %s holds it",
                    address,
                    home_address,
                    link_layer_address.hex(":"),
                    interface,
                )
            case SignallingDropped(reason, interface):
                _LOG.debug("a frame on %s was dropped: %s", interface, reason)
