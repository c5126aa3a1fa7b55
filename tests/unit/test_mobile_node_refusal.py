# SPDX-License-Identifier: Apache-2.0
"""What a mobile node does not believe, and what it cannot send (RFC 6275 sections 5.1, 11.3.3 and 11.7.3)."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any

import pytest

from control.binding.effects import ReserveSequenceNumbers, SendPacket
from control.binding.mobile_node_frames import returning_solicitation
from control.ipsec.association import Role, SecurityAssociationDatabase
from control.mobile_node import (
    Away,
    MobileNodeReason,
    SignallingDropped,
)
from control.wire.errors import MalformedReason
from control.wire.ipv6 import pull_packet
from tests.scenarios import octets
from tests.unit.mobile_node_stage import (
    ABROAD,
    ACKNOWLEDGEMENT_SPI,
    CARE_OF_ADDRESS,
    FOREIGN_PREFIX,
    HOME_ADDRESS,
    HOME_AGENT,
    LIFETIME_UNITS,
    MAC,
    NOW,
    ROUTER_MAC,
    SECOND,
    UPDATE_SPI,
    Node,
    acknowledgement,
    associations,
    protected,
    router_advertisement,
)


@pytest.fixture
def node() -> Node:
    return Node()


def assert_dropped(node: Node, frame: bytes, reason: str) -> None:
    node.effects()
    node.events()
    node.receive(frame)
    assert node.effects() == []
    assert node.events() == [SignallingDropped(reason)]
    assert {str(each): count for each, count in node.agent.counters.items()}[reason] == 1


def message(kind: int = 6, sequence: int = 1, *, source: IPv6Address = HOME_AGENT) -> bytes:
    body = octets.binding_acknowledgement_body(0, sequence, LIFETIME_UNITS, None)
    if kind == 5:
        body = octets.binding_update_body(1, "AH", 1, None, nonce_indices=False)
    if kind == 7:
        body = octets.binding_error_body(1, HOME_ADDRESS)
    return octets.mobility(kind, body, source, HOME_ADDRESS)


def routed(payload: bytes, protocol: int = octets.MOBILITY) -> bytes:
    packet = octets.ipv6(HOME_AGENT, CARE_OF_ADDRESS, protocol, payload, routing_header=HOME_ADDRESS)
    return octets.ethernet(MAC, ROUTER_MAC, packet)


def tampered(frame: bytes, at: int = -1) -> bytes:
    changed = bytearray(frame)
    changed[at] ^= 1
    return bytes(changed)


UNBELIEVED: dict[str, tuple[bytes, str]] = {
    "clear": (routed(message()), "unprotected"),
    "clear and a Binding Error": (routed(message(7)), "mobility_message_not_served"),
    "another sequence number": (acknowledgement(2, esp=1), "not_outstanding"),
    "bad integrity": (tampered(acknowledgement(1, esp=1)), "esp_integrity"),
    "cut short": (routed(b"\0\0\7\xd1" + bytes(20), octets.ESP), "esp_truncated"),
    "no whole block": (routed(b"\0\0\7\xd1" + bytes(61), octets.ESP), "esp_misaligned"),
    "unknown SPI": (protected(message(), esp=1, spi=0x7D9), "unknown_spi"),
    "our own association": (protected(message(), esp=1, spi=UPDATE_SPI), "unknown_spi"),
    "another source": (protected(message(), esp=1, source=IPv6Address("2001:db8:1::2")), "wrong_source"),
    "another home address": (
        protected(message(), esp=1, routing_header=IPv6Address("2001:db8:1::101")),
        "wrong_home_address",
    ),
    "no routing header": (protected(message(), esp=1, routing_header=None), "wrong_home_address"),
    "a care-of address never held": (
        protected(message(), IPv6Address("2001:db8:9::1"), esp=1),
        "wrong_home_address",
    ),
    "a Binding Update": (protected(message(5), esp=1), "wrong_purpose"),
    "a Binding Error": (protected(message(7), esp=1), "wrong_purpose"),
    "no Mobility Header": (protected(message(), esp=1, protocol=octets.NO_NEXT_HEADER), "wrong_protocol"),
    "checksum over the care-of address": (
        protected(
            octets.mobility(6, octets.binding_acknowledgement_body(0, 1, 1, None), HOME_AGENT, CARE_OF_ADDRESS), esp=1
        ),
        "checksum",
    ),
    "UDP": (routed(bytes(8), 17), "not_for_us"),
    "ARP": (MAC + ROUTER_MAC + b"\x08\x06" + bytes(46), "not_ipv6"),
    "a short frame": (bytes(10), "truncated"),
    "Router Advertisement from afar": (router_advertisement(FOREIGN_PREFIX, hop_limit=254), "neighbor_hop_limit"),
    "bad ICMPv6 checksum": (tampered(ABROAD), "checksum"),
}


@pytest.mark.parametrize("case", UNBELIEVED)
def test_what_is_not_believed_is_dropped_by_reason(node: Node, case: str) -> None:
    node.receive(ABROAD)
    frame, reason = UNBELIEVED[case]
    assert_dropped(node, frame, reason)
    # And the true acknowledgement is believed after it.
    node.receive(acknowledgement(1, esp=9))
    assert node.events_of(Away) == [Away(CARE_OF_ADDRESS)]


def test_a_replayed_acknowledgement_is_dropped(node: Node) -> None:
    node.receive(ABROAD)
    node.receive(acknowledgement(1, esp=1))
    assert_dropped(node, acknowledgement(1, esp=1), "esp_replayed")


def test_a_home_address_option_is_not_the_home_agents(node: Node) -> None:
    node.receive(ABROAD)
    sealed = octets.seal(ACKNOWLEDGEMENT_SPI, 1, bytes(16), bytes(32), bytes(16), octets.MOBILITY, message())
    packet = octets.ipv6(HOME_AGENT, CARE_OF_ADDRESS, octets.ESP, sealed, home_address_option=HOME_AGENT)
    assert_dropped(node, octets.ethernet(MAC, ROUTER_MAC, packet), "wrong_source")


def test_an_association_of_another_home_address_does_not_speak_for_ours() -> None:
    other = associations(Role.MOBILE_NODE, IPv6Address("2001:db8:1::101"))
    node = Node(other)
    node.receive(ABROAD)
    assert node.agent.counters[MobileNodeReason.NO_ASSOCIATION] == 1
    node.receive(acknowledgement(1, esp=1))
    assert node.agent.counters[MobileNodeReason.WRONG_HOME_ADDRESS] == 1


def test_a_frame_of_another_interface_is_not_ours(node: Node) -> None:
    node.agent.receive_frame(ABROAD, "eth1", NOW)
    assert node.effects() == []
    assert node.events() == [SignallingDropped("not_for_us")]


def test_a_router_that_offers_nothing_is_counted(node: Node) -> None:
    node.receive(router_advertisement(FOREIGN_PREFIX, valid_lifetime_s=0))
    assert node.agent.counters[MobileNodeReason.ROUTER_NOT_USED] == 1


def test_a_solicitation_is_none_of_ours(node: Node) -> None:
    node.receive(returning_solicitation(b"\2\0\0\0\0\x77", HOME_ADDRESS))
    assert node.agent.counters[MobileNodeReason.NEIGHBOR_DISCOVERY_IGNORED] == 1
    assert node.effects() == []


# ---- what cannot be sent ----


def test_without_an_association_nothing_is_sent() -> None:
    node = Node(SecurityAssociationDatabase(Role.MOBILE_NODE))
    node.receive(ABROAD)
    assert node.effects_of(SendPacket) == []
    assert node.agent.counters[MobileNodeReason.NO_ASSOCIATION] == 1
    node.wait(NOW + 100 * SECOND)
    assert node.agent.counters[MobileNodeReason.NO_ASSOCIATION] == 1


def test_an_association_that_is_used_up_sends_nothing(node: Node) -> None:
    for association in node.database:
        association.resume_sending(0xFFFF_FFFF)
    node.receive(ABROAD)
    assert node.effects_of(SendPacket) == []
    assert node.agent.counters[MobileNodeReason.ESP_EXHAUSTED] == 1


def test_sequence_numbers_are_reserved_before_they_are_used(node: Node) -> None:
    for association in node.database:
        association.resume_sending(4096)
    node.receive(ABROAD)
    kinds: list[Any] = [type(effect) for effect in node.effects()]
    assert kinds.index(ReserveSequenceNumbers) < kinds.index(SendPacket)


def test_every_reason_of_the_wire_is_told_by_its_own_name() -> None:
    assert not {reason.value for reason in MalformedReason} & {reason.value for reason in MobileNodeReason}


def test_the_packet_says_what_the_home_agent_needs(node: Node) -> None:
    node.receive(ABROAD)
    (sent,) = node.effects_of(SendPacket)
    packet = pull_packet(sent.packet)
    assert (packet.source, packet.effective_source) == (CARE_OF_ADDRESS, HOME_ADDRESS)
    assert packet.destination == HOME_AGENT
