# SPDX-License-Identifier: Apache-2.0
"""A MobileNode and a HomeAgent, both without I/O, with a network of a few lines and a clock of its own between them.

Whatever moves and losses there were: when they end, both agree on where the mobile node is.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from ipaddress import IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.binding.effects import EffectResult, InstallBinding, SendFrame, SendPacket
from control.binding.events import SignallingReason
from control.binding.home_link import HomeLink
from control.home_agent import HomeAgent, HomeAgentConfiguration
from control.ipsec.association import Role
from control.mobile_node import BindingAcknowledged, Location, MobileNode, MobileNodeReason, SetTunnel
from control.wire.ethernet import pull_ethernet
from control.wire.icmpv6 import pull_icmpv6
from control.wire.ipv6 import NextHeader, pull_packet
from control.wire.neighbor import NeighborSolicitation
from tests.scenarios import octets
from tests.unit.mobile_node_stage import (
    ABROAD,
    ABROAD_ELSEWHERE,
    AT_HOME,
    CARE_OF_ADDRESS,
    HOME_ADDRESS,
    HOME_AGENT,
    HOME_AGENT_MAC,
    HOME_PREFIX,
    INTERFACE,
    MAC,
    MILLISECOND,
    NOW,
    OTHER_CARE_OF_ADDRESS,
    ROUTER_MAC,
    SECOND,
    associations,
    configuration,
    neighbor_advertisement,
)

HOME_INTERFACE = "home0"
CORE_INTERFACE = "core0"
HOP_NS = 2 * MILLISECOND
ADVERTISEMENT_INTERVAL_NS = 50 * MILLISECOND
LINK_GAP_NS = 30 * MILLISECOND

HOME, FOREIGN, OTHER_FOREIGN = "home", "foreign", "other foreign"
ADVERTISEMENTS = {HOME: AT_HOME, FOREIGN: ABROAD, OTHER_FOREIGN: ABROAD_ELSEWHERE}
CARE_OF_ADDRESSES = {FOREIGN: CARE_OF_ADDRESS, OTHER_FOREIGN: OTHER_CARE_OF_ADDRESS}


class Network:
    """Three links with a router each; signalling takes HOP_NS a way, and `loses` says which of it is lost."""

    def __init__(
        self, loses: Callable[[int], bool] = lambda _number: False, dad_retransmit_timer_ms: int = 1000
    ) -> None:
        self.now = NOW
        self.place: str | None = HOME
        self.tunnel: IPv6Address | None = None
        self.acknowledged: list[BindingAcknowledged] = []
        self.acknowledged_ns: list[int] = []
        self._loses = loses
        self._sent = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        home_link = HomeLink(1, HOME_INTERFACE, HOME_PREFIX, HOME_AGENT, HOME_AGENT_MAC, dad_retransmit_timer_ms)
        self.agent = HomeAgent(HomeAgentConfiguration((home_link,)), associations(Role.HOME_AGENT), bytes)
        self.node = MobileNode(configuration(), associations(Role.MOBILE_NODE), bytes)
        self.node.start(self.now)
        self._advertise()

    # ---- moving ----

    def move(self, place: str) -> None:
        """Take the carrier away, and give another link's after a while."""
        self.place = None
        self.node.link_lost(INTERFACE, self.now)
        self.run(LINK_GAP_NS)
        self.place = place
        self.node.link_found(INTERFACE, self.now)
        self._settle()

    def run(self, duration_ns: int) -> None:
        """Let time pass, with all that falls due."""
        end = self.now + duration_ns
        while True:
            due = [at for at in (self._next_delivery(), self.node.next_deadline(), self.agent.next_deadline()) if at]
            at = min(due)
            if at > end:
                break
            self.now = max(self.now, at)
            while self._queue and self._queue[0][0] <= self.now:
                heapq.heappop(self._queue)[2]()
            self.node.handle_timer(self.now)
            self.agent.handle_timer(self.now)
            self._settle()
        self.now = end

    # ---- the wires ----

    def _next_delivery(self) -> int:
        return self._queue[0][0]

    def _after(self, delay_ns: int, deliver: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._queue, (self.now + delay_ns, self._number, deliver))

    def _advertise(self) -> None:
        if self.place is not None:
            self._to_node(ADVERTISEMENTS[self.place])
        self._after(ADVERTISEMENT_INTERVAL_NS, self._advertise)

    def _to_node(self, frame: bytes) -> None:
        self.node.receive_frame(frame, INTERFACE, self.now)
        self._settle()

    def _to_agent(self, frame: bytes, interface: str) -> None:
        self.agent.receive_frame(frame, interface, self.now)
        self._settle()

    def _settle(self) -> None:
        """Carry out what both ask for."""
        for asked in self.node.take_effects():
            match asked:
                case SendPacket(packet):
                    self._send(partial(self._to_agent, _routed(packet, HOME_AGENT_MAC), CORE_INTERFACE))
                case SendFrame(_, frame):
                    self._send_at_home(frame)
                case SetTunnel(care_of_address):
                    self.tunnel = care_of_address
        for effect in self.agent.take_effects():
            match effect:
                case SendPacket(packet):
                    self._send_to_care_of_address(packet)
                case SendFrame(interface, frame):
                    if interface == HOME_INTERFACE:
                        self._send(partial(self._heard_at_home, frame))
                case InstallBinding():
                    self.agent.effect_done(effect, EffectResult.DONE, self.now)
                    self._settle()
        while (event := self.node.next_event()) is not None:
            if isinstance(event, BindingAcknowledged):
                self.acknowledged.append(event)
                self.acknowledged_ns.append(self.now)

    def _send(self, deliver: Callable[[], None]) -> None:
        self._sent += 1
        if not self._loses(self._sent):
            self._after(HOP_NS, deliver)

    def _send_at_home(self, frame: bytes) -> None:
        """What the mobile node sends by its interface is heard by the home agent, if it is on the home link."""
        if self.place != HOME:
            return
        _, data = pull_ethernet(frame)
        packet = pull_packet(data)
        if packet.next_header == NextHeader.ESP:
            self._send(lambda: self._to_agent(frame, HOME_INTERFACE))
            return
        message = pull_icmpv6(packet.payload, packet.source, packet.destination)
        # The data path's part: it answers for bound home addresses, and the kernel for the home agent's own.
        if isinstance(message, NeighborSolicitation):
            is_bound = self.agent.bindings.get(HOME_ADDRESS) is not None
            if message.target == HOME_AGENT or (message.target == HOME_ADDRESS and is_bound):
                self._send(lambda: self._heard_at_home(neighbor_advertisement(message.target)))

    def _heard_at_home(self, frame: bytes) -> None:
        header, data = pull_ethernet(frame)
        is_signalling = pull_packet(data).next_header == NextHeader.ESP
        is_heard = self.place == HOME and (header.destination == MAC or header.destination[0] & 1)
        # Of neighbor discovery, XDP hands over advertisements alone.
        if is_heard and (is_signalling or data[40] == 136):
            self._to_node(frame)

    def _send_to_care_of_address(self, packet: bytes) -> None:
        destination = IPv6Address(packet[24:40])

        def deliver() -> None:
            if self.place is not None and CARE_OF_ADDRESSES.get(self.place) == destination:
                self._to_node(_routed(packet, MAC))

        self._send(deliver)

    # ---- what must be ----

    def assert_agreed(self, place: str) -> None:
        entry = self.agent.bindings.get(HOME_ADDRESS)
        if place == HOME:
            assert self.node.location is Location.HOME
            assert entry is None
            assert self.tunnel is None
        else:
            assert self.node.location is Location.AWAY
            assert entry is not None
            assert entry.care_of_address == self.tunnel == CARE_OF_ADDRESSES[place]


def _routed(packet: bytes, destination: bytes) -> bytes:
    return octets.ethernet(destination, ROUTER_MAC, packet)


def test_leaving_moving_staying_and_returning() -> None:
    network = Network()
    network.run(SECOND)
    network.assert_agreed(HOME)
    network.move(FOREIGN)
    network.run(2 * SECOND)
    network.assert_agreed(FOREIGN)
    network.move(OTHER_FOREIGN)
    network.run(500 * SECOND)
    network.assert_agreed(OTHER_FOREIGN)
    network.move(HOME)
    network.run(SECOND)
    network.assert_agreed(HOME)
    # The first, the move, the refresh and the return: nothing was repeated, and nothing refused.
    assert [(each.status, each.sequence) for each in network.acknowledged] == [(0, 1), (0, 2), (0, 3), (0, 4)]
    assert network.agent.counters[SignallingReason.REGISTERED] == 1
    assert network.node.counters[MobileNodeReason.ACKNOWLEDGED] == 4


@pytest.mark.parametrize("place", [OTHER_FOREIGN, HOME])
def test_a_handover_takes_no_longer_than_the_next_advertisement_and_its_ways(place: str) -> None:
    network = Network()
    network.move(FOREIGN)
    network.run(2 * SECOND)
    lost_ns = network.now
    network.move(place)
    network.run(SECOND)
    network.assert_agreed(place)
    ways = 2 if place == OTHER_FOREIGN else 4
    assert network.acknowledged_ns[-1] - lost_ns <= LINK_GAP_NS + ADVERTISEMENT_INTERVAL_NS + ways * HOP_NS


def test_the_first_registration_fits_the_first_timer_with_the_default_retransmission_timer() -> None:
    network = Network()
    network.run(SECOND)
    network.move(FOREIGN)
    network.run(5 * SECOND)
    assert [each.sequence for each in network.acknowledged] == [1]


def test_a_home_agent_that_has_forgotten_all_is_caught_up_with() -> None:
    network = Network()
    network.move(FOREIGN)
    network.run(2 * SECOND)
    home_link = HomeLink(1, HOME_INTERFACE, HOME_PREFIX, HOME_AGENT, HOME_AGENT_MAC)
    for association in (database := associations(Role.HOME_AGENT)):
        association.resume_sending(4096)
    network.agent = HomeAgent(HomeAgentConfiguration((home_link,)), database, bytes)
    network.move(HOME)
    network.run(3 * SECOND)
    # Status 133: there was nothing to take back.
    network.assert_agreed(HOME)


MOVES = st.lists(st.tuples(st.sampled_from([HOME, FOREIGN, OTHER_FOREIGN]), st.integers(0, 4000)), max_size=6)


@settings(max_examples=60, deadline=None)
@given(MOVES, st.sets(st.integers(1, 40)), st.sampled_from([HOME, FOREIGN, OTHER_FOREIGN]))
def test_both_agree_when_moves_and_losses_have_ended(moves: list[tuple[str, int]], lost: set[int], last: str) -> None:
    network = Network(lambda number: number in lost)
    for place, stay_ms in moves:
        network.move(place)
        network.run(stay_ms * MILLISECOND)
    network.move(last)
    # Two retransmissions of the longest interval, and what comes between.
    # Each loss may double the time to the next retransmission, up to 32 s.
    network.run((100 + 32 * len(lost)) * SECOND)
    network.assert_agreed(last)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([HOME, FOREIGN, OTHER_FOREIGN]), min_size=4, max_size=12))
def test_no_more_than_three_binding_updates_leave_within_a_second(places: list[str]) -> None:
    network = Network(dad_retransmit_timer_ms=10)
    sent: list[int] = []
    receive = network.agent.receive_frame

    def counted(frame: bytes, interface: str, now: int) -> None:
        if pull_packet(pull_ethernet(frame)[1]).next_header == NextHeader.ESP:
            sent.append(now)
        receive(frame, interface, now)

    network.agent.receive_frame = counted  # type: ignore[method-assign]
    for place in places:
        network.move(place)
        network.run(60 * MILLISECOND)
    network.run(3 * SECOND)
    network.assert_agreed(places[-1])
    for first, fourth in zip(sent, sent[3:], strict=False):
        assert fourth - first >= SECOND
