# SPDX-License-Identifier: Apache-2.0
"""What comes out of a mobile node's tunnel, and who may speak in it (RFC 6275 section 10.4.5, RFC 2473, RFC 6040)."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import HBHOptUnknown, ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Raw

from ha_fastpath.dataplane.abi import Reason
from tests.bpf.home_agent_network import (
    ADJACENCY,
    CACHED_ROUTER_MAC,
    CARE_OF_ADDRESS,
    CORRESPONDENT,
    EXPIRED_NS,
    FAR_MAC,
    HOME_ADDRESS,
    HOME_AGENT,
    HOME_MAC,
    LINK_LOCAL,
    NEIGHBOR,
    NEIGHBOR_MAC,
    NO_NEIGHBOR_CARE_OF_ADDRESS,
    OTHER_CARE_OF_ADDRESS,
    OTHER_HOME_ADDRESS,
    ROUTER_MAC,
    HomeAgentNetwork,
    Outcome,
    Verdict,
    ethernet_to_home_agent,
    flow_label,
    tunnelled,
)
from tests.bpf.namespace import ip

pytestmark = pytest.mark.bpf

OUT_BY_FAR = Ether(src=FAR_MAC, dst=ROUTER_MAC)
OUT_BY_HOME = Ether(src=HOME_MAC, dst=NEIGHBOR_MAC)
TAGS = [[], [Dot1Q(vlan=0, prio=5)], [Dot1AD(vlan=0, prio=5), Dot1Q(vlan=0, prio=5)]]
TAG_NAMES = ["untagged", "priority", "two priorities"]


def from_home_address(destination: str = CORRESPONDENT, hop_limit: int = 64, **fields: Any) -> Any:
    return IPv6(src=HOME_ADDRESS, dst=destination, hlim=hop_limit, **fields) / UDP(sport=1, dport=2) / Raw(b"x" * 30)


def one_hop_on(inner: Any) -> Any:
    inner = inner.copy()
    inner.hlim -= 1
    return inner


def tagged(frame: Any, tags: list[Any]) -> bytes:
    """A frame's octets with VLAN tags put in."""
    link = frame.copy()
    packet = link.payload
    link.remove_payload()
    for tag in tags:
        link = link / tag
    return bytes(link / packet)


def assert_outcome(outcome: Outcome, verdict: Verdict, reason: Reason, frame: Any) -> None:
    assert outcome.frame == bytes(frame)
    assert (outcome.verdict, outcome.reason) == (verdict, reason)


def assert_dropped(outcome: Outcome, reason: Reason) -> None:
    assert (outcome.verdict, outcome.reason) == (Verdict.DROP, reason)


@pytest.mark.parametrize("tags", TAGS, ids=TAG_NAMES)
def test_a_packet_is_forwarded_to_the_world(network: HomeAgentNetwork, tags: list[Any]) -> None:
    inner = from_home_address(tc=0xB8, fl=0x12345)
    outcome = network.run(tagged(tunnelled(inner), tags), "far0")
    assert_outcome(outcome, Verdict.TX, Reason.FORWARD_REVERSE_TUNNELLED, OUT_BY_FAR / one_hop_on(inner))


def test_a_packet_is_forwarded_to_the_home_link(network: HomeAgentNetwork) -> None:
    inner = from_home_address(NEIGHBOR)
    outcome = network.run(tunnelled(inner), "far0")
    assert_outcome(outcome, Verdict.REDIRECT, Reason.FORWARD_REVERSE_TUNNELLED, OUT_BY_HOME / one_hop_on(inner))


def test_the_source_has_a_say_in_the_route(network: HomeAgentNetwork) -> None:
    inner = from_home_address()
    with network.inside():
        ip(f"-6 route add {CORRESPONDENT} via {NEIGHBOR} dev home0 table 100")
        ip(f"-6 rule add from {HOME_ADDRESS} lookup 100")
    try:
        outcome = network.run(tunnelled(inner), "far0")
    finally:
        with network.inside():
            ip(f"-6 rule del from {HOME_ADDRESS} lookup 100")
            ip("-6 route flush table 100")
    assert_outcome(outcome, Verdict.REDIRECT, Reason.FORWARD_REVERSE_TUNNELLED, OUT_BY_HOME / one_hop_on(inner))


def test_octets_behind_the_packets_are_cut_off(network: HomeAgentNetwork) -> None:
    inner = from_home_address()
    frame = bytes(tunnelled(Raw(bytes(inner) + b"inner trailer"))) + b"outer trailer"
    outcome = network.run(frame, "far0")
    assert_outcome(outcome, Verdict.TX, Reason.FORWARD_REVERSE_TUNNELLED, OUT_BY_FAR / one_hop_on(inner))


@pytest.mark.parametrize("tags", TAGS, ids=TAG_NAMES)
def test_the_home_agents_own_packets_go_to_the_kernel(network: HomeAgentNetwork, tags: list[Any]) -> None:
    inner = IPv6(src=HOME_ADDRESS, dst=HOME_AGENT, hlim=1) / ICMPv6EchoRequest()
    outcome = network.run(tagged(tunnelled(inner), tags), "far0")
    expected = tagged(ethernet_to_home_agent("far0") / inner, tags)
    assert_outcome(outcome, Verdict.PASS, Reason.PASS_REVERSE_TUNNELLED, expected)


def test_the_kernel_gets_what_has_no_next_hop_here_with_all_its_hops(network: HomeAgentNetwork) -> None:
    inner = from_home_address("2001:db8:1::77")
    outcome = network.run(tunnelled(inner), "far0")
    assert_outcome(outcome, Verdict.PASS, Reason.PASS_REVERSE_TUNNELLED, ethernet_to_home_agent("far0") / inner)


@pytest.mark.parametrize("hop_limit", [0, 1])
@pytest.mark.parametrize("destination", [CORRESPONDENT, OTHER_HOME_ADDRESS])
def test_the_kernel_reports_that_there_are_no_hops_left(
    network: HomeAgentNetwork, hop_limit: int, destination: str
) -> None:
    network.bind(OTHER_HOME_ADDRESS, OTHER_CARE_OF_ADDRESS)
    inner = from_home_address(destination, hop_limit)
    outcome = network.run(tunnelled(inner), "far0")
    assert_outcome(outcome, Verdict.PASS, Reason.PASS_HOP_LIMIT, ethernet_to_home_agent("far0") / inner)


def test_the_outer_hop_limit_does_not_count(network: HomeAgentNetwork) -> None:
    inner = from_home_address()
    outcome = network.run(tunnelled(inner, hlim=1), "far0")
    assert_outcome(outcome, Verdict.TX, Reason.FORWARD_REVERSE_TUNNELLED, OUT_BY_FAR / one_hop_on(inner))


@pytest.mark.parametrize("tags", TAGS, ids=TAG_NAMES)
def test_from_one_mobile_node_to_another_in_one_pass(network: HomeAgentNetwork, tags: list[Any]) -> None:
    network.bind(OTHER_HOME_ADDRESS, OTHER_CARE_OF_ADDRESS)
    inner = from_home_address(OTHER_HOME_ADDRESS)
    outcome = network.run(tagged(tunnelled(inner), tags), "far0")
    outer = IPv6(src=HOME_AGENT, dst=OTHER_CARE_OF_ADDRESS, hlim=64, nh=41, fl=flow_label(outcome.frame))
    expected = OUT_BY_FAR / outer / one_hop_on(inner)
    assert_outcome(outcome, Verdict.TX, Reason.FORWARD_TUNNEL_TO_TUNNEL, expected)


def test_each_tunnel_has_the_home_agent_address_that_its_mobile_node_knows(network: HomeAgentNetwork) -> None:
    network.cache_adjacency()
    network.bind(OTHER_HOME_ADDRESS, OTHER_CARE_OF_ADDRESS, home_agent_address="2001:db8:1::2", adjacency=ADJACENCY)
    inner = from_home_address(OTHER_HOME_ADDRESS)
    outcome = network.run(tunnelled(inner), "far0")
    outer = IPv6(src="2001:db8:1::2", dst=OTHER_CARE_OF_ADDRESS, hlim=64, nh=41, fl=flow_label(outcome.frame))
    expected = Ether(src=FAR_MAC, dst=CACHED_ROUTER_MAC) / outer / one_hop_on(inner)
    assert_outcome(outcome, Verdict.TX, Reason.FORWARD_TUNNEL_TO_TUNNEL, expected)


def test_tunnel_to_tunnel_without_a_next_hop_goes_to_the_kernel_in_its_tunnel(network: HomeAgentNetwork) -> None:
    network.bind(OTHER_HOME_ADDRESS, NO_NEIGHBOR_CARE_OF_ADDRESS)
    inner = from_home_address(OTHER_HOME_ADDRESS)
    outcome = network.run(tunnelled(inner), "far0")
    outer = IPv6(src=HOME_AGENT, dst=NO_NEIGHBOR_CARE_OF_ADDRESS, hlim=64, nh=41, fl=flow_label(outcome.frame))
    expected = ethernet_to_home_agent("far0") / outer / one_hop_on(inner)
    assert_outcome(outcome, Verdict.PASS, Reason.PASS_TUNNELLED_NO_NEIGHBOR, expected)


def test_to_a_home_address_whose_binding_has_expired(network: HomeAgentNetwork) -> None:
    network.bind(OTHER_HOME_ADDRESS, OTHER_CARE_OF_ADDRESS, lasts_ns=EXPIRED_NS)
    inner = from_home_address(OTHER_HOME_ADDRESS)
    outcome = network.run(tunnelled(inner), "far0")
    # The mobile node may be at home; the kernel asks for it there.
    assert_outcome(outcome, Verdict.PASS, Reason.PASS_REVERSE_TUNNELLED, ethernet_to_home_agent("far0") / inner)


def test_another_outer_source(network: HomeAgentNetwork) -> None:
    outcome = network.run(tunnelled(from_home_address(), source=OTHER_CARE_OF_ADDRESS), "far0")
    assert_dropped(outcome, Reason.DROP_TUNNEL_SOURCE_NOT_CARE_OF)


def test_the_previous_care_of_address_is_refused_after_a_handover(network: HomeAgentNetwork) -> None:
    network.bind(care_of_address=OTHER_CARE_OF_ADDRESS)
    outcome = network.run(tunnelled(from_home_address()), "far0")
    assert_dropped(outcome, Reason.DROP_TUNNEL_SOURCE_NOT_CARE_OF)


@pytest.mark.parametrize("source", ["2001:db8:1::101", CORRESPONDENT, CARE_OF_ADDRESS])
def test_an_inner_source_that_is_not_bound(network: HomeAgentNetwork, source: str) -> None:
    inner = IPv6(src=source, dst=CORRESPONDENT) / UDP()
    assert_dropped(network.run(tunnelled(inner), "far0"), Reason.DROP_TUNNEL_NO_BINDING)


def test_an_inner_source_that_is_bound_to_another_mobile_node(network: HomeAgentNetwork) -> None:
    network.bind(OTHER_HOME_ADDRESS, OTHER_CARE_OF_ADDRESS)
    inner = IPv6(src=OTHER_HOME_ADDRESS, dst=CORRESPONDENT) / UDP()
    assert_dropped(network.run(tunnelled(inner), "far0"), Reason.DROP_TUNNEL_SOURCE_NOT_CARE_OF)


def test_another_home_agent_address_than_the_registered(network: HomeAgentNetwork) -> None:
    network.bind(home_agent_address="2001:db8:1::2")
    assert_dropped(network.run(tunnelled(from_home_address()), "far0"), Reason.DROP_TUNNEL_NO_BINDING)


def test_an_expired_binding(network: HomeAgentNetwork) -> None:
    network.bind(lasts_ns=EXPIRED_NS)
    assert_dropped(network.run(tunnelled(from_home_address()), "far0"), Reason.DROP_TUNNEL_BINDING_EXPIRED)


@pytest.mark.parametrize("source", [LINK_LOCAL, "::", "::1", "ff02::1"])
def test_an_inner_source_of_no_scope_to_speak_of(network: HomeAgentNetwork, source: str) -> None:
    network.bind(link_local=True)
    inner = IPv6(src=source, dst=CORRESPONDENT) / UDP()
    assert_dropped(network.run(tunnelled(inner), "far0"), Reason.DROP_TUNNEL_INNER_SCOPE)


@pytest.mark.parametrize("destination", ["fe80::50", "::", "::1", "ff02::1", "ff0e::1"])
def test_an_inner_destination_that_is_not_forwarded_to(network: HomeAgentNetwork, destination: str) -> None:
    assert_dropped(network.run(tunnelled(from_home_address(destination)), "far0"), Reason.DROP_TUNNEL_INNER_SCOPE)


INNER = bytes(from_home_address())
MALFORMED = {
    "version 4": b"\x45" + INNER[1:],
    "shorter than it says": INNER[:-1],
    "no whole header": INNER[:39],
    "nothing": b"",
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_an_inner_packet_that_is_none(network: HomeAgentNetwork, fault: str) -> None:
    outcome = network.run(tunnelled(Raw(MALFORMED[fault])), "far0")
    assert_dropped(outcome, Reason.DROP_TUNNEL_INNER_MALFORMED)


def test_an_inner_packet_that_ethernet_padding_completes_is_none(network: HomeAgentNetwork) -> None:
    frame = bytes(tunnelled(Raw(INNER[:-1]))) + INNER[-1:]
    assert_dropped(network.run(frame, "far0"), Reason.DROP_TUNNEL_INNER_MALFORMED)


@pytest.mark.parametrize(
    "outer",
    [
        IPv6(src=CARE_OF_ADDRESS, dst=HOME_AGENT) / IPv6ExtHdrFragment(m=1, nh=41),
        IPv6(src=CARE_OF_ADDRESS, dst=HOME_AGENT) / IPv6ExtHdrFragment(offset=8, nh=41),
        IPv6(src=CARE_OF_ADDRESS, dst=HOME_AGENT) / IPv6ExtHdrFragment(nh=41),
        # The Tunnel Encapsulation Limit of RFC 2473 section 4.1.1.
        IPv6(src=CARE_OF_ADDRESS, dst=HOME_AGENT)
        / IPv6ExtHdrDestOpt(nh=41, options=[HBHOptUnknown(otype=4, optdata=b"\4")]),
    ],
    ids=["first fragment", "later fragment", "whole fragment", "encapsulation limit"],
)
def test_outer_headers_that_are_not_opened_here(network: HomeAgentNetwork, outer: Any) -> None:
    frame = ethernet_to_home_agent("far0") / outer / from_home_address()
    assert_outcome(network.run(frame, "far0"), Verdict.PASS, Reason.PASS_SLOW_PATH, frame)


def test_a_tunnel_to_somebody_else(network: HomeAgentNetwork) -> None:
    frame = tunnelled(from_home_address(), destination="2001:db8:1::2")
    assert_outcome(network.run(frame, "far0"), Verdict.PASS, Reason.PASS_NOT_OURS, frame)


# RFC 6040 section 4.2, figure 4, by the names of the code points 0 to 3.
NOT_ECT, ECT_1, ECT_0, CE = range(4)
DECAPSULATION = {
    (NOT_ECT, NOT_ECT): NOT_ECT,
    (NOT_ECT, ECT_0): NOT_ECT,
    (NOT_ECT, ECT_1): NOT_ECT,
    (NOT_ECT, CE): None,
    (ECT_0, NOT_ECT): ECT_0,
    (ECT_0, ECT_0): ECT_0,
    (ECT_0, ECT_1): ECT_1,
    (ECT_0, CE): CE,
    (ECT_1, NOT_ECT): ECT_1,
    (ECT_1, ECT_0): ECT_1,
    (ECT_1, ECT_1): ECT_1,
    (ECT_1, CE): CE,
    (CE, NOT_ECT): CE,
    (CE, ECT_0): CE,
    (CE, ECT_1): CE,
    (CE, CE): CE,
}


@pytest.mark.parametrize(("inner_ecn", "outer_ecn"), DECAPSULATION)
def test_congestion_on_the_way_is_told(network: HomeAgentNetwork, inner_ecn: int, outer_ecn: int) -> None:
    expected = DECAPSULATION[inner_ecn, outer_ecn]
    outcome = network.run(tunnelled(from_home_address(tc=0x28 | inner_ecn), tc=outer_ecn), "far0")
    if expected is None:
        assert_dropped(outcome, Reason.DROP_TUNNEL_CONGESTION)
    else:
        inner = one_hop_on(from_home_address(tc=0x28 | expected))
        assert_outcome(outcome, Verdict.TX, Reason.FORWARD_REVERSE_TUNNELLED, OUT_BY_FAR / inner)


def test_congestion_goes_from_tunnel_to_tunnel_and_to_the_kernel(network: HomeAgentNetwork) -> None:
    network.bind(OTHER_HOME_ADDRESS, OTHER_CARE_OF_ADDRESS)
    outcome = network.run(tunnelled(from_home_address(OTHER_HOME_ADDRESS, tc=ECT_0), tc=CE), "far0")
    outer = IPv6(src=HOME_AGENT, dst=OTHER_CARE_OF_ADDRESS, hlim=64, nh=41, tc=CE, fl=flow_label(outcome.frame))
    inner = one_hop_on(from_home_address(OTHER_HOME_ADDRESS, tc=CE))
    assert_outcome(outcome, Verdict.TX, Reason.FORWARD_TUNNEL_TO_TUNNEL, OUT_BY_FAR / outer / inner)

    outcome = network.run(tunnelled(from_home_address(HOME_AGENT, tc=ECT_0), tc=CE), "far0")
    expected = ethernet_to_home_agent("far0") / from_home_address(HOME_AGENT, tc=CE)
    assert_outcome(outcome, Verdict.PASS, Reason.PASS_REVERSE_TUNNELLED, expected)
