# SPDX-License-Identifier: Apache-2.0
"""The loop: input, effects in order, events, one timer; and what a slow disk or a fault of ours does to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from ipaddress import IPv6Address

import pytest

from control.binding.cache import BindingCache, BindingCacheEntry
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
    SignallingReason,
)
from control.ipsec.association import Purpose, SecurityAssociation
from control.ipsec.transform import EncryptionAlgorithm, IntegrityAlgorithm
from control.wire.errors import InvariantError
from ha_fastpath import service
from ha_fastpath.service import AgentLoop, HomeAgentService, WatchedAssociations

HOME_ADDRESS = IPv6Address("2001:db8:1::100")
CARE_OF_ADDRESS = IPv6Address("2001:db8:99::1")
ENTRY = BindingCacheEntry(
    HOME_ADDRESS, CARE_OF_ADDRESS, IPv6Address("2001:db8:1::1"), 1, 7, 100, 0, 400_000_000_000, False, False
)


class Agent:
    """Asks for what the test puts in."""

    def __init__(self) -> None:
        self.on_frame: Callable[[bytes], None] = lambda _frame: None
        self.effects: list[Effect] = []
        self.events: list[Event] = []
        self.deadline_ns: int | None = None
        self.done: list[tuple[InstallBinding, EffectResult]] = []
        self.timers = 0
        self.bindings = BindingCache()

    def receive_frame(self, frame: bytes, interface: str, now: int) -> None:
        assert interface == "eth0"
        assert now > 0
        self.on_frame(frame)

    def handle_timer(self, now: int) -> None:
        if self.deadline_ns is not None and now >= self.deadline_ns:
            self.timers += 1
            self.deadline_ns = None

    def next_deadline(self) -> int | None:
        return self.deadline_ns

    def take_effects(self) -> list[Effect]:
        taken, self.effects = self.effects, []
        return taken

    def next_event(self) -> Event | None:
        return self.events.pop(0) if self.events else None

    def effect_done(self, effect: InstallBinding, result: EffectResult, now: int) -> None:
        assert now > 0
        self.done.append((effect, result))
        if result is EffectResult.DONE:
            self.effects.append(SendPacket(b"acknowledgement"))


class Machine:
    """Maps, sockets and disk: writes down what is done with them, in one list."""

    def __init__(self) -> None:
        self.log: list[object] = []
        self.result = EffectResult.DONE
        self.reservations: list[Callable[[], None]] = []

    def install(self, entry: BindingCacheEntry, previous: BindingCacheEntry | None) -> EffectResult:
        assert previous is None
        self.log.append(("install", entry.home_address))
        return self.result

    def remove(self, entry: BindingCacheEntry) -> None:
        self.log.append(("remove", entry.home_address))

    def start_dad(self, address: IPv6Address, home_link: int) -> None:
        self.log.append(("start_dad", address, home_link))

    def stop_dad(self, address: IPv6Address) -> None:
        self.log.append(("stop_dad", address))

    def record_binding(self, entry: BindingCacheEntry, now: int) -> None:
        assert now > 0
        self.log.append(("record", entry.home_address))

    def record_removal(self, home_address: IPv6Address, sequence: int) -> None:
        self.log.append(("record_removal", home_address, sequence))

    def record_window(self, spi: int, window: tuple[int, int]) -> None:
        self.log.append(("window", spi, window[0]))

    def reserve(self, reserved: Mapping[int, int], done: Callable[[], None]) -> None:
        self.log.append(("reserve", dict(reserved)))
        self.reservations.append(done)

    def send(self, packet: bytes) -> bool:
        self.log.append(packet)
        return True


class Associations:
    """One inbound association with anti-replay, and one without."""

    def __init__(self) -> None:
        self.guarded = association(0x100, anti_replay=True)
        self.unguarded = association(0x101, anti_replay=False)

    def by_spi(self, spi: int) -> SecurityAssociation | None:
        return {0x100: self.guarded, 0x101: self.unguarded}.get(spi)

    def outbound(self, _home_address: IPv6Address, _purpose: Purpose) -> SecurityAssociation | None:
        return self.unguarded


def association(spi: int, *, anti_replay: bool) -> SecurityAssociation:
    return SecurityAssociation(
        spi=spi,
        home_address=HOME_ADDRESS,
        purpose=Purpose.BINDING_UPDATE,
        encryption=EncryptionAlgorithm.NULL,
        encryption_key=b"",
        integrity=IntegrityAlgorithm.HMAC_SHA_256_128,
        integrity_key=spi.to_bytes(32),
        anti_replay=anti_replay,
    )


def play(scene: Callable[[Agent, Machine, WatchedAssociations, HomeAgentService], Coroutine[None, None, None]]) -> None:
    """Run a scene on a loop of its own."""

    async def stage() -> None:
        agent, machine, watched = Agent(), Machine(), WatchedAssociations(Associations())
        built = HomeAgentService(agent, watched, machine, machine, machine, {"eth0": machine})
        try:
            await scene(agent, machine, watched, built)
        finally:
            built.close()

    asyncio.run(stage())


def test_effects_are_performed_in_order_and_the_map_before_the_acknowledgement() -> None:
    async def scene(agent: Agent, machine: Machine, _: WatchedAssociations, built: HomeAgentService) -> None:
        agent.on_frame = lambda frame: agent.effects.extend(
            [
                StopDad(HOME_ADDRESS),
                InstallBinding(ENTRY),
                SendFrame("eth0", frame),
                SendFrame("eth9", b"an interface that is away"),
                StartDad(HOME_ADDRESS, 1),
                RemoveBinding(ENTRY),
            ]
        )
        built.agent_loop.receive_frame(b"frame", "eth0")
        assert machine.log == [
            ("stop_dad", HOME_ADDRESS),
            ("install", HOME_ADDRESS),
            ("record", HOME_ADDRESS),
            b"frame",
            ("start_dad", HOME_ADDRESS, 1),
            ("remove", HOME_ADDRESS),
            ("record_removal", HOME_ADDRESS, 7),
            b"acknowledgement",
        ]

    play(scene)


@pytest.mark.parametrize("result", [EffectResult.TABLE_FULL, EffectResult.FAILED])
def test_a_write_that_failed_is_told_and_not_recorded(result: EffectResult) -> None:
    async def scene(agent: Agent, machine: Machine, _: WatchedAssociations, built: HomeAgentService) -> None:
        machine.result = result
        effect = InstallBinding(ENTRY)
        agent.effects.append(effect)
        built.agent_loop.settle()
        assert agent.done == [(effect, result)]
        assert machine.log == [("install", HOME_ADDRESS)]

    play(scene)


def test_a_reservation_holds_what_follows_until_it_is_on_disk() -> None:
    async def scene(agent: Agent, machine: Machine, _: WatchedAssociations, built: HomeAgentService) -> None:
        agent.effects += [ReserveSequenceNumbers(0x200, 4096), SendPacket(b"first")]
        built.agent_loop.settle()
        # Input goes on, and what it asks for waits its turn.
        agent.on_frame = lambda _frame: agent.effects.append(SendPacket(b"second"))
        built.agent_loop.receive_frame(b"", "eth0")
        assert machine.log == [("reserve", {0x200: 4096})]
        await asyncio.to_thread(machine.reservations.pop())
        await asyncio.sleep(0)
        assert machine.log[1:] == [b"first", b"second"]
        assert built.slow_reservations == 0

    play(scene)


def test_a_disk_that_hangs_does_not_stop_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "RESERVATION_PATIENCE_S", 0.01)

    async def scene(agent: Agent, machine: Machine, _: WatchedAssociations, built: HomeAgentService) -> None:
        agent.effects += [ReserveSequenceNumbers(0x200, 4096), SendPacket(b"first")]
        built.agent_loop.settle()
        async with asyncio.timeout(2):
            while b"first" not in machine.log:
                await asyncio.sleep(0.005)
        assert built.slow_reservations == 1
        # Late, and when another is waited for: it must not let that one's packets go.
        agent.effects += [ReserveSequenceNumbers(0x200, 8192), SendPacket(b"second")]
        monkeypatch.setattr(service, "RESERVATION_PATIENCE_S", 5)
        built.agent_loop.settle()
        machine.reservations[0]()
        await asyncio.sleep(0.01)
        assert b"second" not in machine.log

    play(scene)


def test_windows_that_moved_are_recorded_and_no_others() -> None:
    async def scene(agent: Agent, machine: Machine, watched: WatchedAssociations, built: HomeAgentService) -> None:
        def look_up(spi: int, sequence: int | None) -> Callable[[bytes], None]:
            def receive(_frame: bytes) -> None:
                found = watched.by_spi(spi)
                if found is not None and sequence is not None:
                    found.window.commit(sequence)

            return receive

        for spi, sequence in ((0x100, 5), (0x100, None), (0x101, 9), (0x102, None), (0x100, 6)):
            agent.on_frame = look_up(spi, sequence)
            built.agent_loop.receive_frame(b"", "eth0")
        assert machine.log == [("window", 0x100, 5), ("window", 0x100, 6)]

    play(scene)


def test_the_outbound_association_is_found_through_the_watch() -> None:
    associations = Associations()
    watched = WatchedAssociations(associations)
    assert watched.outbound(HOME_ADDRESS, Purpose.BINDING_ACKNOWLEDGEMENT) is associations.unguarded
    assert watched.take_moved() == []


def test_a_fault_of_ours_harms_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(agent: Agent, machine: Machine, _: WatchedAssociations, built: HomeAgentService) -> None:
        def fail(frame: bytes) -> None:
            agent.effects.append(SendPacket(b"other"))
            raise InvariantError(f"met by {frame!r}")

        agent.on_frame = fail
        built.agent_loop.receive_frame(b"bad", "eth0")
        assert machine.log == [b"other"]
        assert built.agent_loop.invariants_broken == 1

    play(scene)
    assert "met a fault of ours" in caplog.text


def test_one_timer_follows_the_earliest_deadline() -> None:
    async def scene(agent: Agent, _machine: Machine, __: WatchedAssociations, built: HomeAgentService) -> None:
        now = service.monotonic_ns()
        agent.deadline_ns = now + 3_600_000_000_000
        built.agent_loop.settle()
        agent.deadline_ns = now + 10_000_000
        built.agent_loop.settle()
        built.agent_loop.settle()
        async with asyncio.timeout(2):
            while not agent.timers:
                await asyncio.sleep(0.002)
        assert service.monotonic_ns() >= now + 10_000_000
        assert agent.timers == 1

    play(scene)


class Source:
    """A pipe in place of a TAP."""

    interface = "eth0"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.failing = False

    def fileno(self) -> int:
        return self._descriptor

    def drain(self, receive: Callable[[bytes], None], _limit: int = 256) -> int:
        if self.failing:
            raise OSError(77, "File descriptor in bad state")
        receive(os.read(self._descriptor, 100))
        return 1


def test_frames_are_read_until_the_source_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    reading, writing = os.pipe()

    async def scene(agent: Agent, _machine: Machine, __: WatchedAssociations, built: HomeAgentService) -> None:
        frames: list[bytes] = []
        agent.on_frame = frames.append
        source = Source(reading)
        built.agent_loop.add_source(source)
        os.write(writing, b"one")
        async with asyncio.timeout(2):
            while not frames:
                await asyncio.sleep(0.002)
        source.failing = True
        os.write(writing, b"two")
        async with asyncio.timeout(2):
            while "cannot be read" not in caplog.text:
                await asyncio.sleep(0.002)
        assert frames == [b"one"]
        assert not asyncio.get_running_loop().remove_reader(reading)

    play(scene)
    os.close(reading)
    os.close(writing)


def test_every_event_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "ha_fastpath.service")
    mac = bytes.fromhex("020000000001")
    events: list[tuple[Event, str]] = [
        (BindingRegistered(ENTRY), "is at 2001:db8:99::1 for 400 s"),
        (BindingMoved(ENTRY, IPv6Address("2001:db8:77::1")), "has moved from 2001:db8:77::1 to 2001:db8:99::1"),
        (BindingRefreshed(ENTRY), "is still at"),
        (BindingDeregistered(ENTRY), "is home again"),
        (BindingExpired(ENTRY), "has not refreshed"),
        (RegistrationRefused(HOME_ADDRESS, CARE_OF_ADDRESS, 130), "was refused with status 130"),
        (DadConflict(HOME_ADDRESS, HOME_ADDRESS, "eth0", mac), "02:00:00:00:00:01 on eth0 holds it"),
        (SignallingDropped(SignallingReason.UNPROTECTED, "eth0"), "was dropped: unprotected"),
    ]

    async def scene(agent: Agent, _machine: Machine, __: WatchedAssociations, built: HomeAgentService) -> None:
        agent.events += [event for event, _ in events]
        built.agent_loop.settle()
        assert built.events.total() == len(events)

    play(scene)
    for _, said in events:
        assert said in caplog.text


def test_a_loop_of_any_role_needs_no_hook() -> None:
    async def scene() -> None:
        agent = Agent()
        performed: list[Effect] = []
        loop: AgentLoop[Effect, Event] = AgentLoop(agent, performed.append, lambda _event: None)
        agent.effects.append(SendPacket(b"x"))
        loop.settle()
        assert performed == [SendPacket(b"x")]
        loop.close()

    asyncio.run(scene())
