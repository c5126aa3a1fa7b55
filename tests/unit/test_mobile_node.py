# SPDX-License-Identifier: Apache-2.0
"""What a mobile node does as it leaves and moves (RFC 6275 sections 11.5 and 11.7), octet by octet."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest

from control.binding.effects import ReserveSequenceNumbers, SendFrame, SendPacket
from control.binding.mobile_node_frames import home_advertisement, router_solicitation
from control.mobile_node import (
    AttachHome,
    Away,
    BindingAcknowledged,
    BindingLost,
    BindingUpdateSent,
    CareOfAddressConflict,
    ConfigureCareOfAddress,
    Home,
    LinkFound,
    LinkLost,
    Location,
    MobileNodeReason,
    RecordBindingUpdate,
    ReleaseCareOfAddress,
    RouterFound,
    SetTunnel,
)
from control.wire.mobility import BindingStatus
from tests.unit.mobile_node_stage import (
    ABROAD,
    ABROAD_ELSEWHERE,
    AT_HOME,
    CARE_OF_ADDRESS,
    FOREIGN_PREFIX,
    HOME_ADDRESS,
    HOME_PREFIX,
    INTERFACE,
    LIFETIME_UNITS,
    MAC,
    MILLISECOND,
    NOW,
    OTHER_CARE_OF_ADDRESS,
    ROUTER_MAC,
    SECOND,
    UPDATE_SPI,
    Node,
    acknowledgement,
    binding_update,
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


# ---- leaving ----


def test_at_home_without_a_binding_nothing_is_sent_to_the_home_agent(node: Node) -> None:
    node.receive(AT_HOME)
    assert node.effects() == [
        SetTunnel(None),
        AttachHome(INTERFACE, ROUTER, ROUTER_MAC),
        SendFrame(INTERFACE, home_advertisement(MAC, HOME_ADDRESS)),
    ]
    assert node.events() == [RouterFound(ROUTER, HOME_PREFIX, is_home=True), Home()]
    assert node.agent.location is Location.HOME


def test_a_foreign_router_makes_a_care_of_address_a_tunnel_and_a_binding_update_in_this_order(node: Node) -> None:
    node.receive(ABROAD)
    assert node.effects() == [
        ConfigureCareOfAddress(INTERFACE, CARE_OF_ADDRESS, 64, ROUTER, ROUTER_MAC, 7200),
        SetTunnel(CARE_OF_ADDRESS),
        ReserveSequenceNumbers(UPDATE_SPI, 4096),
        SendPacket(binding_update(1, CARE_OF_ADDRESS, esp=1)),
        RecordBindingUpdate(HOME_ADDRESS, CARE_OF_ADDRESS, sequence=1, bound_for_s=600),
    ]
    assert node.events() == [
        RouterFound(ROUTER, IPv6Network("2001:db8:2::/64"), is_home=False),
        BindingUpdateSent(1, CARE_OF_ADDRESS, LIFETIME_UNITS),
    ]
    assert node.agent.location is Location.REGISTERING


def test_the_acknowledgement_makes_it_away(node: Node) -> None:
    node.receive(ABROAD)
    node.effects()
    node.events()
    node.acknowledge()
    assert node.effects() == [RecordBindingUpdate(HOME_ADDRESS, CARE_OF_ADDRESS, sequence=1, bound_for_s=600)]
    assert node.events() == [BindingAcknowledged(0, 1, LIFETIME_UNITS, CARE_OF_ADDRESS), Away(CARE_OF_ADDRESS)]
    assert node.agent.location is Location.AWAY
    assert node.agent.counters[MobileNodeReason.ACKNOWLEDGED] == 1


def test_the_l_bit_is_set_where_the_interface_identifiers_are_the_same() -> None:
    node = Node(interface_identifier=HOME_ADDRESS.packed[8:])
    node.receive(ABROAD)
    (sent,) = node.effects_of(SendPacket)
    care_of_address = IPv6Address("2001:db8:2::100")
    assert sent.packet == binding_update(1, care_of_address, flags="AHL", esp=1)


def test_the_lifetime_asked_for_is_no_longer_than_the_care_of_address_is_valid(node: Node) -> None:
    node.receive(router_advertisement(FOREIGN_PREFIX, valid_lifetime_s=59))
    assert node.effects_of(SendPacket) == [SendPacket(binding_update(1, CARE_OF_ADDRESS, lifetime_units=14, esp=1))]


def test_a_care_of_address_that_ends_at_once_is_not_mistaken_for_a_return_home(node: Node) -> None:
    node.receive(router_advertisement(FOREIGN_PREFIX, valid_lifetime_s=3))
    assert node.effects_of(SendPacket) == [SendPacket(binding_update(1, CARE_OF_ADDRESS, lifetime_units=1, esp=1))]


def test_a_care_of_address_valid_for_ever_is_held_for_ever(node: Node) -> None:
    node.go_abroad(router_advertisement(FOREIGN_PREFIX, valid_lifetime_s=0xFFFF_FFFF))
    node.receive(ABROAD_ELSEWHERE)
    node.wait(NOW + 100_000 * SECOND)
    assert ReleaseCareOfAddress(CARE_OF_ADDRESS) not in node.effects()


# ---- repeating ----


def test_the_first_registration_is_repeated_after_a_second_and_a_half_and_so_on(node: Node) -> None:
    node.receive(ABROAD)
    node.events()
    sent: list[tuple[float, int]] = []
    while len(sent) < 5:
        deadline = node.agent.next_deadline()
        assert deadline is not None
        node.wait(deadline)
        sent += [((node.now - NOW) / SECOND, each.sequence) for each in node.events_of(BindingUpdateSent)]
    assert sent == [(1.5, 2), (4.5, 3), (10.5, 4), (22.5, 5), (46.5, 6)]
    packets = node.effects_of(SendPacket)
    assert packets[1].packet == binding_update(2, CARE_OF_ADDRESS, esp=2)


def test_the_binding_is_refreshed_before_it_ends(away: Node) -> None:
    away.wait(NOW + 449 * SECOND)
    assert away.effects_of(SendPacket) == []
    away.wait(NOW + 450 * SECOND)
    assert away.effects_of(SendPacket) == [SendPacket(binding_update(2, CARE_OF_ADDRESS, esp=2))]
    away.acknowledge()
    # Away goes on, and is not told again.
    assert away.events_of(Away) == []


def test_what_was_granted_and_advised_decides_when(node: Node) -> None:
    node.receive(ABROAD)
    node.acknowledge(lifetime_units=100, refresh_units=10)
    assert node.agent.next_deadline() == NOW + 40 * SECOND


def test_a_binding_that_is_not_refreshed_is_lost_and_still_asked_for(away: Node) -> None:
    away.wait(NOW + 600 * SECOND)
    assert BindingLost() in away.events()
    assert away.agent.location is Location.REGISTERING
    away.effects()
    away.wait(NOW + 640 * SECOND)
    assert away.effects_of(SendPacket) != []
    away.acknowledge()
    assert Away(CARE_OF_ADDRESS) in away.events()


def test_a_lost_carrier_before_the_binding_ends_leaves_it_to_end(away: Node) -> None:
    away.agent.link_lost(INTERFACE, away.now)
    away.wait(NOW + 600 * SECOND)
    assert BindingLost() in away.events()
    assert away.effects() == []


def test_status_135_brings_the_next_sequence_number_at_once(node: Node) -> None:
    node.receive(ABROAD)
    node.effects()
    node.acknowledge(sequence=700, status=BindingStatus.SEQUENCE_NUMBER_OUT_OF_WINDOW, lifetime_units=0)
    assert node.effects_of(SendPacket) == [SendPacket(binding_update(701, CARE_OF_ADDRESS, esp=2))]
    assert node.agent.counters[MobileNodeReason.SEQUENCE_OUT_OF_WINDOW] == 1


def test_a_home_agent_that_says_135_for_ever_gets_three_a_second(node: Node) -> None:
    node.receive(ABROAD)
    for last in range(100, 120):
        node.acknowledge(sequence=last, status=BindingStatus.SEQUENCE_NUMBER_OUT_OF_WINDOW, lifetime_units=0)
    assert len(node.effects_of(SendPacket)) == 3
    node.wait(NOW + SECOND - 1)
    assert node.effects_of(SendPacket) == []
    node.wait(NOW + SECOND)
    assert len(node.effects_of(SendPacket)) == 1


@pytest.mark.parametrize(
    "status",
    [
        BindingStatus.REASON_UNSPECIFIED,
        BindingStatus.ADMINISTRATIVELY_PROHIBITED,
        BindingStatus.INSUFFICIENT_RESOURCES,
        BindingStatus.DUPLICATE_ADDRESS_DETECTION_FAILED,
        200,
    ],
)
def test_a_refusal_is_told_and_asked_again_only_later(node: Node, status: int) -> None:
    node.receive(ABROAD)
    node.effects()
    node.acknowledge(status=status, lifetime_units=0)
    assert BindingAcknowledged(status, 1, 0, CARE_OF_ADDRESS) in node.events()
    assert node.agent.location is Location.REGISTERING
    node.wait(NOW + 31 * SECOND)
    assert node.effects_of(SendPacket) == []
    node.wait(NOW + 32 * SECOND)
    assert len(node.effects_of(SendPacket)) == 1


def test_status_1_is_an_acceptance(node: Node) -> None:
    node.receive(ABROAD)
    node.acknowledge(status=1)
    assert node.agent.location is Location.AWAY


# ---- moving ----


def test_a_move_registers_the_next_care_of_address_and_goes_on_holding_the_previous(away: Node) -> None:
    away.agent.link_lost(INTERFACE, away.now)
    away.agent.link_found(INTERFACE, away.now)
    away.receive(ABROAD_ELSEWHERE)
    assert away.effects() == [
        ConfigureCareOfAddress(INTERFACE, OTHER_CARE_OF_ADDRESS, 64, ROUTER, ROUTER_MAC, 7200),
        SetTunnel(OTHER_CARE_OF_ADDRESS),
        SendPacket(binding_update(2, OTHER_CARE_OF_ADDRESS, esp=2)),
        RecordBindingUpdate(HOME_ADDRESS, OTHER_CARE_OF_ADDRESS, sequence=2, bound_for_s=600),
    ]
    away.acknowledge(OTHER_CARE_OF_ADDRESS)
    assert away.events_of(Away) == [Away(OTHER_CARE_OF_ADDRESS)]
    away.wait(NOW + 7200 * SECOND - 1)
    assert away.effects_of(ReleaseCareOfAddress) == []
    away.wait(NOW + 7200 * SECOND)
    assert ReleaseCareOfAddress(CARE_OF_ADDRESS) in away.effects()


def test_an_acknowledgement_by_way_of_the_previous_care_of_address_still_counts(away: Node) -> None:
    away.receive(router_advertisement(FOREIGN_PREFIX, valid_lifetime_s=100))
    away.agent.link_lost(INTERFACE, away.now)
    away.agent.link_found(INTERFACE, away.now)
    away.receive(ABROAD_ELSEWHERE)
    away.receive(acknowledgement(2, CARE_OF_ADDRESS, esp=2))
    assert away.events_of(BindingAcknowledged) == [BindingAcknowledged(0, 2, LIFETIME_UNITS, OTHER_CARE_OF_ADDRESS)]


def test_as_many_care_of_addresses_are_held_as_the_data_path_takes(away: Node) -> None:
    for number in range(1, 20):
        away.agent.link_lost(INTERFACE, away.now)
        away.agent.link_found(INTERFACE, away.now)
        away.receive(router_advertisement(f"2001:db8:f{number:02x}::"), SECOND)
    released = away.effects_of(ReleaseCareOfAddress)
    # The oldest first; the one in use is the sixteenth.
    assert len(released) == 4
    assert released[0] == ReleaseCareOfAddress(CARE_OF_ADDRESS)


def test_nothing_is_sent_without_a_carrier(node: Node) -> None:
    node.receive(ABROAD)
    node.effects()
    node.agent.link_lost(INTERFACE, node.now)
    node.wait(NOW + 20 * SECOND)
    assert node.effects() == []
    assert node.agent.next_deadline() == NOW + 7200 * SECOND
    # Nor on a link that may be another one.
    node.agent.link_found(INTERFACE, node.now)
    assert node.effects() == []
    node.receive(ABROAD)
    assert len(node.effects_of(SendPacket)) == 1


def test_the_same_link_again_is_set_up_again_and_not_registered_again(away: Node) -> None:
    away.agent.link_lost(INTERFACE, away.now)
    away.agent.link_found(INTERFACE, away.now)
    assert away.events() == [LinkLost(INTERFACE), LinkFound(INTERFACE)]
    away.receive(ABROAD)
    assert away.effects() == [
        ConfigureCareOfAddress(INTERFACE, CARE_OF_ADDRESS, 64, ROUTER, ROUTER_MAC, 7200),
        SetTunnel(CARE_OF_ADDRESS),
    ]
    assert away.agent.location is Location.AWAY


def test_carrier_changes_are_told_once_and_those_of_others_not_at_all(node: Node) -> None:
    node.agent.link_found(INTERFACE, NOW)
    node.agent.link_lost("eth1", NOW)
    assert node.events() == []
    node.agent.link_lost(INTERFACE, NOW)
    node.agent.link_lost(INTERFACE, NOW)
    node.agent.link_found("eth1", NOW)
    assert node.events() == [LinkLost(INTERFACE)]


def test_a_router_is_solicited_when_none_advertises_by_itself(node: Node) -> None:
    node.agent.start(NOW)
    node.wait(NOW + 149 * MILLISECOND)
    assert node.effects() == []
    node.wait(NOW + 20 * SECOND)
    assert node.effects() == [SendFrame(INTERFACE, router_solicitation(MAC))] * 3
    node.receive(ABROAD)


def test_a_router_that_advertises_is_not_solicited(node: Node) -> None:
    node.agent.start(NOW)
    node.receive(AT_HOME, 50 * MILLISECOND)
    node.effects()
    node.wait(NOW + 500 * MILLISECOND)
    assert node.effects() == []


def test_another_router_on_the_foreign_link_takes_over_without_a_binding_update(away: Node) -> None:
    other = IPv6Address("fe80::99")
    away.receive(router_advertisement(FOREIGN_PREFIX, router=str(other)), SECOND)
    assert away.effects() == [ConfigureCareOfAddress(INTERFACE, CARE_OF_ADDRESS, 64, other, ROUTER_MAC, 7200)]


def test_another_router_on_the_home_link_takes_over(node: Node) -> None:
    node.receive(AT_HOME)
    node.effects()
    other = IPv6Address("fe80::99")
    node.receive(router_advertisement(str(HOME_PREFIX.network_address), router=str(other)), 500 * MILLISECOND)
    assert node.effects_of(AttachHome) == [AttachHome(INTERFACE, other, ROUTER_MAC)]


def test_another_router_on_the_home_link_waits_for_the_return(away: Node) -> None:
    away.receive(AT_HOME)
    away.effects()
    away.receive(router_advertisement(str(HOME_PREFIX.network_address), router="fe80::99"), 500 * MILLISECOND)
    assert away.effects_of(AttachHome) == []


def test_advertisements_prolong_the_care_of_address(away: Node) -> None:
    away.receive(ABROAD, 1000 * SECOND)
    away.wait(NOW + 8199 * SECOND)
    assert away.effects_of(ReleaseCareOfAddress) == []


def test_a_care_of_address_that_is_valid_no_more_is_released_and_a_router_looked_for(node: Node) -> None:
    node.go_abroad(router_advertisement(FOREIGN_PREFIX, valid_lifetime_s=20))
    node.agent.link_lost(INTERFACE, node.now)
    node.agent.link_found(INTERFACE, node.now)
    node.wait(NOW + 30 * SECOND)
    effects = node.effects()
    assert ReleaseCareOfAddress(CARE_OF_ADDRESS) in effects
    assert SendFrame(INTERFACE, router_solicitation(MAC)) in effects
    assert node.agent.location is Location.UNKNOWN
    # Nobody is asked to forward to an address that is not held.
    node.wait(NOW + 120 * SECOND)
    assert node.effects_of(SendPacket) == []
    node.receive(ABROAD)
    assert len(node.effects_of(SendPacket)) == 1


def test_a_conflict_makes_another_interface_identifier(away: Node) -> None:
    away.agent.care_of_address_conflict(CARE_OF_ADDRESS, away.now)
    released, configured, tunnel, sent, _ = away.effects()
    assert released == ReleaseCareOfAddress(CARE_OF_ADDRESS)
    assert isinstance(configured, ConfigureCareOfAddress)
    assert configured.address in IPv6Network("2001:db8:2::/64")
    assert configured.address != CARE_OF_ADDRESS
    assert tunnel == SetTunnel(configured.address)
    assert isinstance(sent, SendPacket)
    assert sent.packet == binding_update(2, configured.address, esp=2)
    assert CareOfAddressConflict(CARE_OF_ADDRESS) in away.events()
    # It stays that one on this link.
    away.agent.link_lost(INTERFACE, away.now)
    away.agent.link_found(INTERFACE, away.now)
    away.receive(ABROAD)
    assert away.effects_of(SetTunnel) == [SetTunnel(configured.address)]


def test_a_conflict_about_a_previous_care_of_address_only_releases_it(away: Node) -> None:
    away.agent.link_lost(INTERFACE, away.now)
    away.agent.link_found(INTERFACE, away.now)
    away.receive(ABROAD_ELSEWHERE)
    away.effects()
    away.agent.care_of_address_conflict(CARE_OF_ADDRESS, away.now)
    assert away.effects() == [ReleaseCareOfAddress(CARE_OF_ADDRESS)]


def test_a_conflict_about_another_address_is_none_of_ours(away: Node) -> None:
    away.agent.care_of_address_conflict(IPv6Address("fe80::1"), away.now)
    assert away.effects() == []
    assert away.events() == []
