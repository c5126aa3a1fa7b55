# SPDX-License-Identifier: Apache-2.0
"""Packets that do not fit are answered with Packet Too Big (RFC 4443 sections 2.4 and 3.2, RFC 2473 section 7.1)."""

from __future__ import annotations

import time
from typing import Any

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_Redirect,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Raw

from ha_fastpath.dataplane import libbpf
from ha_fastpath.dataplane.abi import Reason
from tests.bpf.home_agent_network import (
    ADJACENCY,
    CARE_OF_ADDRESS,
    CORRESPONDENT,
    FAR_MAC,
    HOME_ADDRESS,
    HOME_AGENT,
    HOME_MAC,
    NEIGHBOR_MAC,
    OTHER_CARE_OF_ADDRESS,
    OTHER_HOME_ADDRESS,
    ROUTER_MAC,
    SMALL_MTU,
    SMALL_MTU_CARE_OF_ADDRESS,
    HomeAgentNetwork,
    Outcome,
    Verdict,
    ethernet_to_home_agent,
    tunnelled,
)

pytestmark = pytest.mark.bpf

TUNNEL_HEADER = 40
QUOTE = 1280 - 40 - 8
BACK_BY_HOME = Ether(src=HOME_MAC, dst=NEIGHBOR_MAC)
BACK_BY_FAR = Ether(src=FAR_MAC, dst=ROUTER_MAC)


def packet(size: int, payload: Any = None, source: str = CORRESPONDENT, destination: str = HOME_ADDRESS) -> Any:
    """An IPv6 packet of so many octets, all told apart by their values."""
    payload = TCP(sport=80, dport=4000) if payload is None else payload
    header = IPv6(src=source, dst=destination, hlim=57) / payload
    room = size - len(bytes(header))
    return header / Raw((bytes(range(251)) * (room // 251 + 1))[:room])


def too_big(quoted: Any, mtu: int, source: str = HOME_AGENT, destination: str = CORRESPONDENT) -> Any:
    """The answer about a packet, of 1280 octets."""
    answer = IPv6(src=source, dst=destination, hlim=64, nh=58) / ICMPv6PacketTooBig(mtu=mtu)
    return answer / Raw(bytes(quoted)[:QUOTE])


def assert_answered(outcome: Outcome, expected: Any) -> None:
    assert outcome.frame == bytes(expected)
    assert (outcome.verdict, outcome.reason) == (Verdict.TX, Reason.FORWARD_PACKET_TOO_BIG)


def assert_unanswered(outcome: Outcome) -> None:
    assert (outcome.verdict, outcome.reason) == (Verdict.DROP, Reason.DROP_TOO_BIG_UNANSWERED)


@pytest.mark.parametrize(
    "payload",
    [
        TCP(),
        UDP(),
        ICMPv6EchoRequest(),
        IPv6ExtHdrHopByHop() / UDP(),
        IPv6ExtHdrFragment(m=1) / UDP(),
        IPv6ExtHdrFragment(offset=9, nh=58) / Raw(b"\1\0\0\0"),
    ],
    ids=["tcp", "udp", "echo", "hop-by-hop", "first fragment", "later fragment"],
)
def test_a_packet_that_does_not_fit_is_answered(network: HomeAgentNetwork, payload: Any) -> None:
    inner = packet(1500, payload)
    outcome = network.run(ethernet_to_home_agent("home0") / inner, "home0")
    assert len(outcome.frame) == 14 + 1280
    assert_answered(outcome, BACK_BY_HOME / too_big(inner, 1500 - TUNNEL_HEADER))


def test_a_packet_that_just_fits_is_tunnelled_and_one_more_octet_is_not(network: HomeAgentNetwork) -> None:
    network.cache_adjacency(mtu=1450)
    for slot, mtu in ((0, 1500), (ADJACENCY, 1450)):
        network.bind(adjacency=slot)
        fits = network.run(ethernet_to_home_agent("home0") / packet(mtu - TUNNEL_HEADER), "home0")
        assert fits.reason is Reason.FORWARD_TUNNELLED
        assert len(fits.frame) == 14 + mtu
        inner = packet(mtu - TUNNEL_HEADER + 1)
        outcome = network.run(ethernet_to_home_agent("home0") / inner, "home0")
        assert_answered(outcome, BACK_BY_HOME / too_big(inner, mtu - TUNNEL_HEADER))


def test_a_routes_own_mtu_counts(network: HomeAgentNetwork) -> None:
    network.bind(care_of_address=SMALL_MTU_CARE_OF_ADDRESS)
    inner = packet(SMALL_MTU)
    outcome = network.run(ethernet_to_home_agent("home0") / inner, "home0")
    assert_answered(outcome, BACK_BY_HOME / too_big(inner, SMALL_MTU - TUNNEL_HEADER))


@pytest.mark.parametrize(
    "tags",
    [[Dot1Q(vlan=0, prio=5)], [Dot1AD(vlan=0, prio=5), Dot1Q(vlan=0, prio=5)]],
    ids=["priority", "two priorities"],
)
def test_the_answer_has_the_tags_of_the_frame(network: HomeAgentNetwork, tags: list[Any]) -> None:
    inner, link, back = packet(1500), ethernet_to_home_agent("home0"), BACK_BY_HOME
    for tag in tags:
        link, back = link / tag, back / tag
    outcome = network.run(link / inner, "home0")
    assert_answered(outcome, back / too_big(inner, 1460))


def test_a_jumbo_frame_is_answered(network: HomeAgentNetwork) -> None:
    inner = packet(8900)
    assert_answered(network.run(ethernet_to_home_agent("home0") / inner, "home0"), BACK_BY_HOME / too_big(inner, 1460))


def test_the_smallest_mtu_that_is_told_is_1280(network: HomeAgentNetwork) -> None:
    network.cache_adjacency(mtu=1290)
    network.bind(adjacency=ADJACENCY)
    inner = packet(1281)
    assert_answered(network.run(ethernet_to_home_agent("home0") / inner, "home0"), BACK_BY_HOME / too_big(inner, 1280))
    # It would have to be fragmented in its tunnel (RFC 2473 section 7.1 (b)), which neither XDP nor the kernel does.
    assert_unanswered(network.run(ethernet_to_home_agent("home0") / packet(1280), "home0"))


def test_an_octet_behind_the_packet_is_not_quoted(network: HomeAgentNetwork) -> None:
    inner = packet(1500)
    outcome = network.run(bytes(ethernet_to_home_agent("home0") / inner) + b"trailer", "home0")
    assert_answered(outcome, BACK_BY_HOME / too_big(inner, 1460))


@pytest.mark.parametrize(
    "payload",
    [
        ICMPv6DestUnreach(),
        ICMPv6PacketTooBig(),
        ICMPv6ND_Redirect(),
        IPv6ExtHdrHopByHop() / ICMPv6DestUnreach(),
        IPv6ExtHdrFragment(m=1) / ICMPv6DestUnreach(),
    ],
    ids=["unreachable", "too big", "redirect", "unreachable behind hop-by-hop", "unreachable, first fragment"],
)
def test_nothing_is_said_about_errors(network: HomeAgentNetwork, payload: Any) -> None:
    assert_unanswered(network.run(ethernet_to_home_agent("home0") / packet(1500, payload), "home0"))


def test_a_flood_is_not_answered_with_a_flood(network: HomeAgentNetwork) -> None:
    frame = bytes(ethernet_to_home_agent("home0") / packet(1500))
    # 1,000 a second after a burst of 64: this machine would have to be slower than that to be answered each time.
    reasons = [network.run(frame, "home0").reason for _ in range(400)]
    assert reasons.count(Reason.DROP_TOO_BIG_UNANSWERED) > 0
    assert reasons[0] is Reason.FORWARD_PACKET_TOO_BIG
    deadline = time.monotonic() + 2
    while network.run(frame, "home0").reason is not Reason.FORWARD_PACKET_TOO_BIG:
        assert time.monotonic() < deadline


def test_a_mobile_node_is_answered_through_its_tunnel(network: HomeAgentNetwork) -> None:
    # From one tunnel into a narrower one.
    network.cache_adjacency(mtu=1400)
    network.bind(OTHER_HOME_ADDRESS, OTHER_CARE_OF_ADDRESS, home_agent_address="2001:db8:1::2", adjacency=ADJACENCY)
    inner = packet(1400, source=HOME_ADDRESS, destination=OTHER_HOME_ADDRESS)
    outcome = network.run(tunnelled(inner), "far0")
    tunnel = IPv6(src=HOME_AGENT, dst=CARE_OF_ADDRESS, hlim=64, nh=41)
    answer = too_big(inner, 1360, source="2001:db8:1::2", destination=HOME_ADDRESS)
    assert_answered(outcome, BACK_BY_FAR / tunnel / answer)


@pytest.mark.parametrize("tags", [[], [Dot1Q(vlan=0, prio=5)]], ids=["untagged", "tagged"])
def test_a_mobile_node_is_answered_about_what_leaves_its_tunnel(network: HomeAgentNetwork, tags: list[Any]) -> None:
    # A jumbo frame in, by a route that takes 1400.
    inner = packet(3000, source=HOME_ADDRESS, destination=SMALL_MTU_CARE_OF_ADDRESS)
    link, back = ethernet_to_home_agent("far0"), BACK_BY_FAR
    for tag in tags:
        link, back = link / tag, back / tag
    outcome = network.run(link / IPv6(src=CARE_OF_ADDRESS, dst=HOME_AGENT, nh=41) / inner, "far0")
    tunnel = IPv6(src=HOME_AGENT, dst=CARE_OF_ADDRESS, hlim=64, nh=41)
    assert_answered(outcome, back / tunnel / too_big(inner, SMALL_MTU, destination=HOME_ADDRESS))


def test_a_packet_too_long_for_the_outer_header_is_dropped(
    network: HomeAgentNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libbpf, "TEST_RUN_FRAME_MAXIMUM", 0x11000)
    network.cache_adjacency(mtu=70_000)
    network.bind(adjacency=ADJACENCY)
    assert_unanswered(network.run(ethernet_to_home_agent("home0") / packet(0x10000), "home0"))
