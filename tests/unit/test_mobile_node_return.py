# SPDX-License-Identifier: Apache-2.0
"""What a mobile node does as it comes home (RFC 6275 section 11.5.5), octet by octet."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from control.binding.effects import SendFrame, SendPacket
from control.binding.mobile_node_frames import home_advertisement, returning_solicitation
from control.mobile_node import (
    AttachHome,
    Away,
    BindingAcknowledged,
    BindingUpdateSent,
    Home,
    Location,
    MobileNodeReason,
    RecordBindingUpdate,
    ReleaseCareOfAddress,
    SetTunnel,
)
from control.wire.mobility import BindingStatus
from tests.scenarios import octets
from tests.unit.mobile_node_stage import (
    ABROAD,
    AT_HOME,
    CARE_OF_ADDRESS,
    HOME_ADDRESS,
    HOME_AGENT,
    HOME_AGENT_MAC,
    INTERFACE,
    MAC,
    MILLISECOND,
    NOW,
    ROUTER_MAC,
    SECOND,
    Node,
    acknowledgement,
    binding_update,
    neighbor_advertisement,
    router_advertisement,
)

ROUTER = IPv6Address("fe80::ff:fe00:102")


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def away() -> Node:
    """Registered at CARE_OF_ADDRESS by Binding Update 1, at NOW."""
    made = Node()
    made.go_abroad()
    return made


def returned(node: Node) -> None:
    node.agent.link_lost(INTERFACE, node.now)
    node.agent.link_found(INTERFACE, node.now)
    node.receive(AT_HOME)


def de_registration(sequence: int, esp: int) -> SendFrame:
    packet = binding_update(sequence, HOME_ADDRESS, lifetime_units=0, esp=esp)
    return SendFrame(INTERFACE, octets.ethernet(HOME_AGENT_MAC, MAC, packet))


def test_on_the_home_link_the_home_agent_is_looked_for_from_the_unspecified_address(away: Node) -> None:
    returned(away)
    assert away.effects() == [
        SendFrame(INTERFACE, returning_solicitation(MAC, HOME_ADDRESS)),
        SendFrame(INTERFACE, returning_solicitation(MAC, HOME_AGENT)),
    ]
    assert away.agent.location is Location.RETURNING
    # Again and again: there is no other way back.
    away.wait(NOW + 10 * SECOND)
    assert len(away.effects_of(SendFrame)) == 2 * 10


@pytest.mark.parametrize("target", [HOME_ADDRESS, HOME_AGENT])
def test_whichever_answer_comes_first_brings_the_de_registration(away: Node, target: IPv6Address) -> None:
    returned(away)
    away.effects()
    away.receive(neighbor_advertisement(target))
    assert away.effects() == [
        de_registration(2, esp=2),
        RecordBindingUpdate(HOME_ADDRESS, HOME_ADDRESS, sequence=2, bound_for_s=600),
    ]
    assert away.events_of(BindingUpdateSent) == [BindingUpdateSent(2, HOME_ADDRESS, 0)]


def test_after_the_acknowledgement_the_home_address_is_used_at_home(away: Node) -> None:
    returned(away)
    away.receive(neighbor_advertisement(HOME_ADDRESS))
    away.effects()
    away.events()
    away.acknowledge(HOME_ADDRESS, lifetime_units=0)
    advertisement = SendFrame(INTERFACE, home_advertisement(MAC, HOME_ADDRESS))
    assert away.effects() == [
        SetTunnel(None),
        ReleaseCareOfAddress(CARE_OF_ADDRESS),
        AttachHome(INTERFACE, ROUTER, ROUTER_MAC),
        RecordBindingUpdate(HOME_ADDRESS, HOME_ADDRESS, sequence=2, bound_for_s=0),
        advertisement,
    ]
    assert away.events() == [BindingAcknowledged(0, 2, 0, None), Home()]
    away.wait(NOW + 100 * SECOND)
    assert away.effects() == [advertisement] * 2
    assert away.agent.next_deadline() is None


def test_the_link_local_address_is_advertised_too_if_the_home_agent_has_defended_it() -> None:
    node = Node(interface_identifier=HOME_ADDRESS.packed[8:])
    node.receive(AT_HOME)
    assert node.effects_of(SendFrame) == [
        SendFrame(INTERFACE, home_advertisement(MAC, HOME_ADDRESS)),
        SendFrame(INTERFACE, home_advertisement(MAC, IPv6Address("fe80::100"))),
    ]


def test_the_home_agents_own_advertisement_spares_the_solicitation(away: Node) -> None:
    away.agent.link_lost(INTERFACE, away.now)
    away.agent.link_found(INTERFACE, away.now)
    away.receive(router_advertisement(str(HOME_AGENT), router_mac=HOME_AGENT_MAC, router_address=True))
    assert away.effects_of(SendFrame) == [de_registration(2, esp=2)]


def test_the_home_agents_own_advertisement_counts_beside_another_routers(away: Node) -> None:
    returned(away)
    away.effects()
    own = router_advertisement(str(HOME_AGENT), router="fe80::99", router_mac=HOME_AGENT_MAC, router_address=True)
    away.receive(own)
    assert away.effects_of(SendFrame) == [de_registration(2, esp=2)]
    assert away.agent.counters[MobileNodeReason.ROUTER_NOT_USED] == 1


def test_the_de_registration_is_repeated_until_it_is_acknowledged(away: Node) -> None:
    returned(away)
    away.receive(neighbor_advertisement(HOME_ADDRESS))
    away.effects()
    away.wait(NOW + 3 * SECOND)
    assert away.effects_of(SendFrame) == [de_registration(3, esp=3), de_registration(4, esp=4)]


def test_the_answer_for_the_home_agents_address_is_believed_over_that_for_the_home_address(away: Node) -> None:
    returned(away)
    impostor = b"\2\0\0\0\0\x99"
    away.receive(neighbor_advertisement(HOME_ADDRESS, impostor))
    away.receive(neighbor_advertisement(HOME_AGENT))
    away.receive(neighbor_advertisement(HOME_ADDRESS, impostor))
    away.effects()
    away.wait(NOW + SECOND)
    assert away.effects_of(SendFrame) == [de_registration(3, esp=3)]


@pytest.mark.parametrize(
    "frame",
    [
        neighbor_advertisement(HOME_ADDRESS, MAC),
        neighbor_advertisement(HOME_ADDRESS, None),
        neighbor_advertisement(IPv6Address("2001:db8:1::2")),
    ],
)
def test_other_advertisements_say_nothing_of_the_home_agent(away: Node, frame: bytes) -> None:
    returned(away)
    away.effects()
    away.receive(frame)
    assert away.effects() == []
    assert away.agent.counters[MobileNodeReason.NEIGHBOR_DISCOVERY_IGNORED] == 1


def test_without_a_return_advertisements_are_ignored(away: Node) -> None:
    away.receive(neighbor_advertisement(HOME_AGENT))
    assert away.effects() == []


def test_status_133_means_that_there_was_nothing_to_take_back(away: Node) -> None:
    returned(away)
    away.receive(neighbor_advertisement(HOME_ADDRESS))
    away.acknowledge(HOME_ADDRESS, status=BindingStatus.NOT_HOME_AGENT_FOR_THIS_MOBILE_NODE, lifetime_units=0)
    assert away.agent.location is Location.HOME


def test_another_refusal_leaves_it_returning(away: Node) -> None:
    returned(away)
    away.receive(neighbor_advertisement(HOME_ADDRESS))
    away.effects()
    away.acknowledge(HOME_ADDRESS, status=BindingStatus.REASON_UNSPECIFIED, lifetime_units=0)
    assert away.agent.location is Location.RETURNING
    away.wait(NOW + 32 * SECOND)
    assert away.effects_of(SendFrame) == [de_registration(3, esp=3)]


def test_a_binding_that_ends_by_itself_needs_no_de_registration(away: Node) -> None:
    returned(away)
    away.wait(NOW + 601 * SECOND)
    assert away.agent.location is Location.HOME
    assert AttachHome(INTERFACE, ROUTER, ROUTER_MAC) in away.effects()


def test_an_unacknowledged_registration_is_taken_back_too(node: Node) -> None:
    node.receive(ABROAD)
    returned(node)
    assert node.agent.location is Location.RETURNING


def test_leaving_again_before_the_return_is_acknowledged_registers_anew(away: Node) -> None:
    returned(away)
    away.receive(neighbor_advertisement(HOME_ADDRESS))
    away.effects()
    away.agent.link_lost(INTERFACE, away.now)
    away.agent.link_found(INTERFACE, away.now)
    away.receive(ABROAD)
    assert away.effects_of(SendPacket) == [SendPacket(binding_update(3, CARE_OF_ADDRESS, esp=3))]
    # The answer to the de-registration comes too late to mean anything.
    away.receive(acknowledgement(2, HOME_ADDRESS, lifetime_units=0, esp=2))
    assert away.events_of(Away) == []
    away.receive(acknowledgement(3, CARE_OF_ADDRESS, esp=3))
    assert away.events_of(Away) == [Away(CARE_OF_ADDRESS)]


def test_what_belongs_to_the_home_link_is_not_said_on_another(away: Node) -> None:
    returned(away)
    away.agent.link_lost(INTERFACE, away.now)
    away.agent.link_found(INTERFACE, away.now)
    away.effects()
    away.wait(NOW + 100 * MILLISECOND)
    assert away.effects() == []
    away.receive(AT_HOME)
    assert len(away.effects_of(SendFrame)) == 2


def test_a_restart_at_home_takes_back_what_was_registered_before(node: Node) -> None:
    node.agent.restore(41, NOW + 100 * SECOND)
    node.receive(AT_HOME)
    node.receive(neighbor_advertisement(HOME_ADDRESS))
    assert de_registration(42, esp=1) in node.effects()


def test_a_restart_abroad_goes_on_from_the_sequence_number_on_disk(node: Node) -> None:
    node.agent.restore(41, 0)
    node.receive(ABROAD)
    assert node.effects_of(SendPacket) == [SendPacket(binding_update(42, CARE_OF_ADDRESS, esp=1))]
