# SPDX-License-Identifier: Apache-2.0
"""A whole journey that another implementation's mobile node made, under ESP, replayed to this home agent.

The frames of tests/vectors/captures/esp that the captured home agent received, by both its interfaces and at their
times, are given to ours; what ours sends is compared with what that one sent, wherever an RFC leaves no choice.

Differences, each asserted below:

- The captured mobile node began by registering, from its home link, an address of the home prefix as care-of address.
  That home agent made a binding of it; ours refuses it with 174, since such a binding becomes a circle as soon as that
  address is bound itself. So the two de-registrations that follow find no binding here: 133 (RFC 6275 section 10.3.2).
- That home agent announced a new binding once, ours does so three times (RFC 6275 section 10.4.1 allows both).
- IPv6 headers differ in the flow label only, which is the sender's own.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from control.binding.effects import Effect, EffectResult, InstallBinding, SendFrame, SendPacket
from control.binding.events import SignallingReason
from control.binding.home_link import HomeLink
from control.home_agent import HomeAgent, HomeAgentConfiguration
from control.ipsec.association import Purpose, Role, SecurityAssociation, SecurityAssociationDatabase
from control.ipsec.esp import open_esp, pull_spi
from control.ipsec.transform import EncryptionAlgorithm, IntegrityAlgorithm
from control.wire.ethernet import EtherType, pull_ethernet
from control.wire.ipv6 import IPV6_HEADER_LENGTH, IPv6Packet, NextHeader, pull_packet
from control.wire.mobility import BindingAcknowledgement, MobilityMessage, pull_mobility_header

DIRECTORY = Path(__file__).parents[1] / "vectors" / "captures" / "esp"
INTERFACES = ("ha-core", "ha-home")
HOME_ADDRESS = IPv6Address("2001:db8:1::100")
HOME_AGENT = IPv6Address("2001:db8:1::1")
HOME_MAC, CORE_MAC = bytes.fromhex("020000000101"), bytes.fromhex("020000000c01")
MOBILE_NODE_MAC = bytes.fromhex("02000000aa01")
UPDATE_SPI, ACKNOWLEDGEMENT_SPI = 0x7D0, 0x7D1
SECOND_NS = 1_000_000_000

# Sequence numbers of the captured Binding Updates: at home, and from the departure on.
AT_HOME = (40481, 40482, 40483)
JOURNEY = (48743, 48744, 48745, 48746, 48747, 48748)


@dataclass(frozen=True)
class Captured:
    at_ns: int
    interface: str
    frame: bytes

    @property
    def source_mac(self) -> bytes:
        return self.frame[6:12]

    @property
    def packet(self) -> IPv6Packet | None:
        header, data = pull_ethernet(self.frame)
        return pull_packet(data) if header.ether_type == EtherType.IPV6 else None


def read() -> list[Captured]:
    captured = []
    for interface in INTERFACES:
        data = (DIRECTORY / f"{interface}.pcap").read_bytes()
        offset = 24
        while offset < len(data):
            seconds, microseconds, length, _ = struct.unpack_from("<IIII", data, offset)
            frame = data[offset + 16 : offset + 16 + length]
            captured.append(Captured(seconds * SECOND_NS + microseconds * 1000, interface, frame))
            offset += 16 + length
    return sorted(captured, key=lambda frame: frame.at_ns)


def association(spi: int, purpose: Purpose, *, anti_replay: bool = True) -> SecurityAssociation:
    return SecurityAssociation(
        spi=spi,
        home_address=HOME_ADDRESS,
        purpose=purpose,
        encryption=EncryptionAlgorithm.AES_CBC,
        encryption_key=b"abcdefghijklmnop",
        integrity=IntegrityAlgorithm.HMAC_SHA_256_128,
        integrity_key=bytes(range(32)),
        anti_replay=anti_replay,
    )


READERS = {
    UPDATE_SPI: association(UPDATE_SPI, Purpose.BINDING_UPDATE, anti_replay=False),
    ACKNOWLEDGEMENT_SPI: association(ACKNOWLEDGEMENT_SPI, Purpose.BINDING_ACKNOWLEDGEMENT, anti_replay=False),
}


def signalling(packet: IPv6Packet | None) -> MobilityMessage | None:
    """The Binding Update or Acknowledgement inside, if it is one."""
    if packet is None or packet.next_header != NextHeader.ESP or pull_spi(packet.payload) not in READERS:
        return None
    _, payload = open_esp(READERS[pull_spi(packet.payload)], packet.payload)
    return pull_mobility_header(payload, packet.effective_source, packet.effective_destination)


@dataclass(frozen=True)
class Sent:
    """An acknowledgement, whoever sent it."""

    at_ns: int
    octets: bytes
    "The IPv6 packet."
    destination_mac: bytes | None
    "None where the kernel finds it."

    @property
    def packet(self) -> IPv6Packet:
        return pull_packet(self.octets)

    @property
    def message(self) -> BindingAcknowledgement:
        message = signalling(self.packet)
        assert isinstance(message, BindingAcknowledgement)
        return message


def captured_acknowledgements(frames: list[Captured]) -> dict[int, Sent]:
    acknowledgements = {}
    for frame in frames:
        message = signalling(frame.packet)
        if isinstance(message, BindingAcknowledgement):
            header, octets = pull_ethernet(frame.frame)
            acknowledgements[message.sequence] = Sent(frame.at_ns, octets, header.destination)
    return acknowledgements


class Replay:
    """Our home agent, in the captured one's place."""

    def __init__(self, draw: Callable[[int], bytes] = bytes, next_sequence: int = 1) -> None:
        self.acknowledgement = association(ACKNOWLEDGEMENT_SPI, Purpose.BINDING_ACKNOWLEDGEMENT)
        self.acknowledgement.next_sequence = next_sequence
        database = SecurityAssociationDatabase(Role.HOME_AGENT)
        database.add(association(UPDATE_SPI, Purpose.BINDING_UPDATE))
        database.add(self.acknowledgement)
        link = HomeLink(1, "ha-home", IPv6Network("2001:db8:1::/64"), HOME_AGENT, HOME_MAC)
        self.agent = HomeAgent(HomeAgentConfiguration((link,)), database, draw)
        self.effects: list[Effect] = []
        self.acknowledgements: dict[int, Sent] = {}
        self.frames: list[bytes] = []

    def run(self, frames: list[Captured]) -> Replay:
        for frame in frames:
            while (deadline_ns := self.agent.next_deadline()) is not None and deadline_ns <= frame.at_ns:
                self.agent.handle_timer(deadline_ns)
                self._perform(deadline_ns)
            if frame.source_mac not in (HOME_MAC, CORE_MAC):
                self.agent.receive_frame(frame.frame, frame.interface, frame.at_ns)
                self._perform(frame.at_ns)
        return self

    def _perform(self, now: int) -> None:
        effects = self.agent.take_effects()
        for effect in effects:
            self.effects.append(effect)
            if isinstance(effect, InstallBinding):
                self.agent.effect_done(effect, EffectResult.DONE, now)
                effects.extend(self.agent.take_effects())
            elif isinstance(effect, SendPacket):
                self._sent(Sent(now, effect.packet, None))
            elif isinstance(effect, SendFrame):
                header, octets = pull_ethernet(effect.frame)
                if signalling(pull_packet(octets)) is None:
                    self.frames.append(effect.frame)
                else:
                    self._sent(Sent(now, octets, header.destination))

    def _sent(self, sent: Sent) -> None:
        self.acknowledgements[sent.message.sequence] = sent


@pytest.fixture(scope="module")
def frames() -> list[Captured]:
    return read()


@pytest.fixture(scope="module")
def theirs(frames: list[Captured]) -> dict[int, Sent]:
    return captured_acknowledgements(frames)


@pytest.fixture(scope="module")
def replay(frames: list[Captured]) -> Replay:
    return Replay().run(frames)


def test_every_binding_update_is_acknowledged(replay: Replay, theirs: dict[int, Sent]) -> None:
    assert tuple(replay.acknowledgements) == AT_HOME + JOURNEY
    # The captured one swallowed a retransmission.
    assert set(replay.acknowledgements) - set(theirs) == {40482}


@pytest.mark.parametrize("sequence", JOURNEY)
def test_same_acknowledgement(replay: Replay, theirs: dict[int, Sent], sequence: int) -> None:
    ours, other = replay.acknowledgements[sequence], theirs[sequence]
    assert ours.message == other.message
    assert ours.packet.source == other.packet.source == HOME_AGENT
    assert ours.packet.destination == other.packet.destination
    assert ours.packet.type_2_routing_header == other.packet.type_2_routing_header
    assert ours.packet.extension_headers == other.packet.extension_headers
    # As quick as the other at least; both wait a second for the first one.
    assert ours.at_ns <= other.at_ns


def test_same_octets_given_the_same_initialization_vectors(frames: list[Captured], theirs: dict[int, Sent]) -> None:
    """From the departure on, with the captured IVs drawn in turn: routing header and ESP agree to the last octet."""
    packets = [theirs[sequence].packet for sequence in JOURNEY]
    vectors = [packet.payload[8:24] for packet in packets]
    first_sequence = int.from_bytes(packets[0].payload[4:8])
    departure_ns = theirs[AT_HOME[-1]].at_ns

    def draw(length: int) -> bytes:
        vector = vectors.pop(0)
        assert len(vector) == length
        return vector

    replay = Replay(draw, first_sequence).run([frame for frame in frames if frame.at_ns > departure_ns])
    assert tuple(replay.acknowledgements) == JOURNEY
    for sequence in JOURNEY:
        ours, other = replay.acknowledgements[sequence], theirs[sequence]
        assert ours.octets[IPV6_HEADER_LENGTH:] == other.octets[IPV6_HEADER_LENGTH:]
        assert replace(ours.packet, flow_label=0) == replace(other.packet, flow_label=0)


def test_at_home_it_is_answered_at_its_own_mac_address(replay: Replay, theirs: dict[int, Sent]) -> None:
    """RFC 6275 section 10.3.2; the other one first looked for that address by a solicitation."""
    last = JOURNEY[-1]
    assert theirs[last].destination_mac == MOBILE_NODE_MAC
    assert replay.acknowledgements[last].destination_mac == MOBILE_NODE_MAC
    assert replay.acknowledgements[last].packet.type_2_routing_header is None


def test_difference_care_of_address_of_the_home_prefix(replay: Replay, theirs: dict[int, Sent]) -> None:
    assert [replay.acknowledgements[sequence].message.status for sequence in AT_HOME] == [174, 133, 133]
    assert [theirs[sequence].message.status for sequence in AT_HOME if sequence in theirs] == [0, 0]


@pytest.mark.parametrize(("kind", "copies"), [(135, 1), (136, 3)], ids=["solicitation", "advertisement"])
def test_same_neighbor_discovery(frames: list[Captured], replay: Replay, kind: int, copies: int) -> None:
    """The solicitation of duplicate address detection and the unsolicited advertisement, but for the flow label."""
    captured = {
        frame.frame[:14] + bytes.fromhex("60000000") + frame.frame[18:]
        for frame in frames
        if frame.source_mac == HOME_MAC and frame.frame[54] == kind and HOME_ADDRESS.packed in frame.frame[62:78]
    }
    # The other one also looked for the returned mobile node, from an address of its own.
    captured = {frame for frame in captured if kind == 136 or frame[22:38] == bytes(16)}
    ours = [frame for frame in replay.frames if frame[54] == kind]
    assert len(ours) == copies
    assert set(ours) == captured


def test_everything_else_on_the_wire_is_counted_and_leads_to_nothing(replay: Replay) -> None:
    bindings = {
        SignallingReason.REGISTERED: 1,
        SignallingReason.REFRESHED: 3,
        SignallingReason.MOVED: 1,
        SignallingReason.DEREGISTERED: 1,
        SignallingReason.DETECTION_STARTED: 1,
        SignallingReason.REFUSED_CARE_OF_ADDRESS: 1,
        SignallingReason.REFUSED_NOT_HOME_AGENT: 2,
    }
    dropped = {
        SignallingReason.NOT_FOR_US,
        SignallingReason.NEIGHBOR_DISCOVERY_IGNORED,
        SignallingReason.NOT_SIGNALLING,
        # Mobile prefix discovery, and Home Test Inits in an ESP tunnel.
        SignallingReason.UNKNOWN_SPI,
        SignallingReason.NOT_IPV6,
    }
    counted = replay.agent.counters
    assert {reason: counted[reason] for reason in bindings} == bindings
    assert set(counted) - set(bindings) <= dropped
    assert Counter(type(effect).__name__ for effect in replay.effects) == {
        "StartDad": 1,
        "StopDad": 1,
        "InstallBinding": 5,
        "RemoveBinding": 1,
        "ReserveSequenceNumbers": 1,
        # Three advertisements, one solicitation, three answers to the node at home.
        "SendFrame": 7,
        "SendPacket": 6,
    }
