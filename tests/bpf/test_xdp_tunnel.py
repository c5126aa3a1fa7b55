# SPDX-License-Identifier: Apache-2.0
"""Packets for a bound home address go to its care-of address, whole (RFC 6275 section 10.4.2, RFC 2473)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
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
    NEIGHBOR,
    NEIGHBOR_MAC,
    NO_NEIGHBOR_CARE_OF_ADDRESS,
    NOT_A_PORT_CARE_OF_ADDRESS,
    ROUTER_MAC,
    HomeAgentNetwork,
    Outcome,
    Verdict,
    ethernet_to_home_agent,
    flow_label,
)

pytestmark = pytest.mark.bpf

HOP_LIMIT = 64


def encapsulated(
    inner: Any,
    label: int,
    *,
    care_of_address: str = CARE_OF_ADDRESS,
    link: Any = None,
    outer_class: int = 0,
) -> bytes:
    """The frame that leaves for the mobile node; the inner packet has lost one of its hops."""
    inner = inner.copy()
    inner.hlim -= 1
    link = Ether(src=FAR_MAC, dst=ROUTER_MAC) if link is None else link
    outer = IPv6(src=HOME_AGENT, dst=care_of_address, hlim=HOP_LIMIT, nh=41, fl=label, tc=outer_class)
    return bytes(link / outer / inner)


def to_home_address(payload: Any, **fields: Any) -> Any:
    return IPv6(src=CORRESPONDENT, dst=HOME_ADDRESS, hlim=57, **fields) / payload


def assert_tunnelled(outcome: Outcome, verdict: Verdict, inner: Any, **expected: Any) -> None:
    label = flow_label(outcome.frame)
    assert outcome.frame == encapsulated(inner, label, **expected)
    assert label != 0
    assert (outcome.verdict, outcome.reason) == (verdict, Reason.FORWARD_TUNNELLED)


PAYLOADS: dict[str, Callable[[], Any]] = {
    "tcp": lambda: to_home_address(TCP(sport=80, dport=4000, flags="PA") / Raw(b"x" * 100)),
    "udp": lambda: to_home_address(UDP(sport=53, dport=5353) / Raw(b"x")),
    "echo": lambda: to_home_address(ICMPv6EchoRequest(id=1, seq=2, data=b"ping")),
    "no payload": lambda: IPv6(src=CORRESPONDENT, dst=HOME_ADDRESS, hlim=57, nh=59),
    "class and label": lambda: to_home_address(UDP() / Raw(b"x"), tc=0xB8, fl=0x12345),
    "first fragment": lambda: to_home_address(IPv6ExtHdrFragment(m=1, id=9) / UDP() / Raw(b"x" * 64)),
    "later fragment": lambda: to_home_address(IPv6ExtHdrFragment(offset=9, id=9, nh=17) / Raw(b"x" * 64)),
    "hop-by-hop": lambda: to_home_address(IPv6ExtHdrHopByHop() / UDP() / Raw(b"x")),
    "destination options": lambda: to_home_address(IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]) / UDP()),
    "nine extension headers": lambda: to_home_address(Raw((bytes([60, 0, 1, 4, 0, 0, 0, 0])) * 9), nh=60),
    "chain past the end": lambda: to_home_address(Raw(bytes([17, 9, 1, 4, 0, 0, 0, 0])), nh=60),
    "source route not ended": lambda: to_home_address(
        IPv6ExtHdrRouting(type=4, segleft=1, addresses=["2001:db8::9"]) / UDP()
    ),
    "mobility header": lambda: to_home_address(Raw(bytes([59, 0, 3, 0, 0, 0, 0, 0])), nh=135),
    "unknown protocol": lambda: to_home_address(Raw(b"xyz"), nh=253),
    "a tunnel of its own": lambda: to_home_address(IPv6(src="2001:db8::1", dst="2001:db8::2", nh=59), nh=41),
}


@pytest.mark.parametrize("kind", PAYLOADS)
def test_a_packet_is_redirected_in_the_tunnel(network: HomeAgentNetwork, kind: str) -> None:
    inner = PAYLOADS[kind]()
    outcome = network.run(ethernet_to_home_agent("home0") / inner, "home0")
    assert_tunnelled(outcome, Verdict.REDIRECT, inner, outer_class=inner.tc)


def test_a_packet_goes_back_by_the_interface_that_it_came_by(network: HomeAgentNetwork) -> None:
    inner = PAYLOADS["udp"]()
    assert_tunnelled(network.run(ethernet_to_home_agent("far0") / inner, "far0"), Verdict.TX, inner)


def test_a_cached_adjacency_goes_before_the_fib(network: HomeAgentNetwork) -> None:
    network.cache_adjacency()
    network.bind(adjacency=ADJACENCY)
    inner = PAYLOADS["udp"]()
    outcome = network.run(ethernet_to_home_agent("home0") / inner, "home0")
    assert_tunnelled(outcome, Verdict.REDIRECT, inner, link=Ether(src=FAR_MAC, dst=CACHED_ROUTER_MAC))


def test_an_empty_slot_asks_the_fib(network: HomeAgentNetwork) -> None:
    network.bind(adjacency=ADJACENCY)
    inner = PAYLOADS["udp"]()
    outcome = network.run(ethernet_to_home_agent("home0") / inner, "home0")
    assert_tunnelled(outcome, Verdict.REDIRECT, inner)


@pytest.mark.parametrize(
    "care_of_address", [NO_NEIGHBOR_CARE_OF_ADDRESS, NOT_A_PORT_CARE_OF_ADDRESS], ids=["no-neighbor", "not-a-port"]
)
@pytest.mark.parametrize("tags", [[], [Dot1Q(vlan=0, prio=5)]], ids=["untagged", "tagged"])
def test_the_kernel_gets_what_has_no_next_hop_here(
    network: HomeAgentNetwork, care_of_address: str, tags: list[Any]
) -> None:
    network.bind(care_of_address=care_of_address)
    inner, link = PAYLOADS["udp"](), ethernet_to_home_agent("home0")
    for tag in tags:
        link = link / tag
    outcome = network.run(link / inner, "home0")
    label = int.from_bytes(outcome.frame[14 + 4 * len(tags) : 18 + 4 * len(tags)], "big") & 0xFFFFF
    assert outcome.frame == encapsulated(inner, label, care_of_address=care_of_address, link=link)
    assert (outcome.verdict, outcome.reason) == (Verdict.PASS, Reason.PASS_TUNNELLED_NO_NEIGHBOR)


# An MTU that the packet exceeds is not asked of an interface that is not sent by.
@pytest.mark.parametrize("mtu", [1500, 60])
def test_a_cached_adjacency_that_is_no_port_asks_the_fib(network: HomeAgentNetwork, mtu: int) -> None:
    network.cache_adjacency("other0", mtu)
    network.bind(adjacency=ADJACENCY)
    inner, link = PAYLOADS["udp"](), ethernet_to_home_agent("home0")
    assert_tunnelled(network.run(link / inner, "home0"), Verdict.REDIRECT, inner)

    network.bind(care_of_address=NOT_A_PORT_CARE_OF_ADDRESS, adjacency=ADJACENCY)
    outcome = network.run(link / inner, "home0")
    label = flow_label(outcome.frame)
    assert outcome.frame == encapsulated(inner, label, care_of_address=NOT_A_PORT_CARE_OF_ADDRESS, link=link)
    assert (outcome.verdict, outcome.reason) == (Verdict.PASS, Reason.PASS_TUNNELLED_NO_NEIGHBOR)


def test_a_cached_adjacency_by_the_interface_that_a_packet_came_by_needs_no_port(network: HomeAgentNetwork) -> None:
    with network.inside():
        network.maps.ports.clear()
    network.cache_adjacency("far0")
    network.bind(adjacency=ADJACENCY)
    inner = PAYLOADS["udp"]()
    outcome = network.run(ethernet_to_home_agent("far0") / inner, "far0")
    assert_tunnelled(outcome, Verdict.TX, inner, link=Ether(src=FAR_MAC, dst=CACHED_ROUTER_MAC))


@pytest.mark.parametrize(
    "tags",
    [[Dot1Q(vlan=0, prio=5)], [Dot1AD(vlan=0, prio=5), Dot1Q(vlan=0, prio=5)]],
    ids=["priority", "two priorities"],
)
def test_a_priority_tagged_frame_leaves_untagged(network: HomeAgentNetwork, tags: list[Any]) -> None:
    inner, link = PAYLOADS["udp"](), ethernet_to_home_agent("home0")
    for tag in tags:
        link = link / tag
    assert_tunnelled(network.run(link / inner, "home0"), Verdict.REDIRECT, inner)


def test_ethernet_padding_is_not_tunnelled(network: HomeAgentNetwork) -> None:
    inner = PAYLOADS["no payload"]()
    padded = bytes(ethernet_to_home_agent("home0") / inner) + bytes(6)
    assert_tunnelled(network.run(padded, "home0"), Verdict.REDIRECT, inner)


def test_a_jumbo_frame_is_tunnelled(network: HomeAgentNetwork) -> None:
    network.cache_adjacency(mtu=9000)
    network.bind(adjacency=ADJACENCY)
    inner = to_home_address(UDP() / Raw(bytes(range(250)) * 35))
    outcome = network.run(ethernet_to_home_agent("home0") / inner, "home0")
    assert_tunnelled(outcome, Verdict.REDIRECT, inner, link=Ether(src=FAR_MAC, dst=CACHED_ROUTER_MAC))


@pytest.mark.parametrize("ecn", range(4))
def test_ecn_is_copied_to_the_outer_header(network: HomeAgentNetwork, ecn: int) -> None:
    # RFC 6040 section 4.1, normal mode.
    inner = to_home_address(UDP() / Raw(b"x"), tc=0x28 | ecn)
    outcome = network.run(ethernet_to_home_agent("home0") / inner, "home0")
    assert_tunnelled(outcome, Verdict.REDIRECT, inner, outer_class=0x28 | ecn)


def label_of(network: HomeAgentNetwork, inner: Any) -> int:
    outcome = network.run(ethernet_to_home_agent("home0") / inner, "home0")
    assert outcome.reason is Reason.FORWARD_TUNNELLED
    return flow_label(outcome.frame)


def test_a_flow_keeps_its_label_and_flows_have_labels_of_their_own(network: HomeAgentNetwork) -> None:
    flows = [
        to_home_address(UDP(sport=sport, dport=dport) / Raw(b"x")) for sport in range(1000, 1016) for dport in (53, 443)
    ]
    labels = [label_of(network, flow) for flow in flows]
    assert labels == [label_of(network, flow) for flow in flows]
    # Of 32 labels out of 2^20, a hash that is any good has no two alike but once in 2,000.
    assert len(set(labels)) == len(flows)


def test_the_label_depends_on_addresses_ports_and_inner_label_and_on_nothing_else(network: HomeAgentNetwork) -> None:
    network.bind("2001:db8:1::101")
    base = label_of(network, to_home_address(TCP(sport=1, dport=2)))
    same = {
        "sequence number": to_home_address(TCP(sport=1, dport=2, seq=77)),
        "payload": to_home_address(TCP(sport=1, dport=2) / Raw(b"data")),
        "traffic class": to_home_address(TCP(sport=1, dport=2), tc=3),
        "hop limit": IPv6(src=CORRESPONDENT, dst=HOME_ADDRESS, hlim=9) / TCP(sport=1, dport=2),
    }
    other = {
        "source port": to_home_address(TCP(sport=3, dport=2)),
        "destination port": to_home_address(TCP(sport=1, dport=3)),
        "inner label": to_home_address(TCP(sport=1, dport=2), fl=1),
        "source": IPv6(src="2001:db8:c::2", dst=HOME_ADDRESS) / TCP(sport=1, dport=2),
        "destination": IPv6(src=CORRESPONDENT, dst="2001:db8:1::101") / TCP(sport=1, dport=2),
    }
    assert {what for what, inner in same.items() if label_of(network, inner) != base} == set()
    assert {what for what, inner in other.items() if label_of(network, inner) == base} == set()


def test_all_fragments_of_a_packet_have_one_label(network: HomeAgentNetwork) -> None:
    first = to_home_address(IPv6ExtHdrFragment(m=1, id=9) / UDP(sport=1, dport=2, len=72, chksum=1) / Raw(b"x" * 56))
    later = to_home_address(IPv6ExtHdrFragment(offset=8, id=9, nh=17) / Raw(b"y" * 8))
    assert label_of(network, first) == label_of(network, later)


def assert_untouched(network: HomeAgentNetwork, frame: Any, interface: str, reason: Reason) -> None:
    outcome = network.run(frame, interface)
    assert outcome.frame == bytes(frame)
    assert (outcome.verdict, outcome.reason) == (Verdict.PASS, reason)


@pytest.mark.parametrize("hop_limit", [0, 1])
def test_a_packet_without_hops_is_the_kernels_to_report(network: HomeAgentNetwork, hop_limit: int) -> None:
    inner = IPv6(src=CORRESPONDENT, dst=HOME_ADDRESS, hlim=hop_limit) / UDP()
    assert_untouched(network, ethernet_to_home_agent("home0") / inner, "home0", Reason.PASS_HOP_LIMIT)


def test_a_packet_with_two_hops_has_one_left(network: HomeAgentNetwork) -> None:
    inner = IPv6(src=CORRESPONDENT, dst=HOME_ADDRESS, hlim=2) / UDP()
    assert_tunnelled(network.run(ethernet_to_home_agent("home0") / inner, "home0"), Verdict.REDIRECT, inner)


def test_an_expired_binding_is_none(network: HomeAgentNetwork) -> None:
    network.bind(lasts_ns=EXPIRED_NS)
    assert_untouched(network, ethernet_to_home_agent("home0") / PAYLOADS["udp"](), "home0", Reason.PASS_NOT_OURS)


def test_no_binding(network: HomeAgentNetwork) -> None:
    frame = ethernet_to_home_agent("home0") / IPv6(src=CORRESPONDENT, dst="2001:db8:1::101") / UDP()
    assert_untouched(network, frame, "home0", Reason.PASS_NOT_OURS)


def test_an_interface_that_is_not_served(network: HomeAgentNetwork) -> None:
    assert_untouched(network, ethernet_to_home_agent("home0") / PAYLOADS["udp"](), "idle0", Reason.PASS_NOT_SERVED)


def test_other_protocols(network: HomeAgentNetwork) -> None:
    frame = Ether(src=NEIGHBOR_MAC, dst=HOME_MAC, type=0x0800) / Raw(bytes(46))
    assert_untouched(network, frame, "home0", Reason.PASS_NOT_IPV6)


@pytest.mark.parametrize("station", ["02:00:00:00:01:77", "33:33:00:00:00:01", "ff:ff:ff:ff:ff:ff"])
def test_a_frame_that_is_not_for_our_station(network: HomeAgentNetwork, station: str) -> None:
    frame = Ether(src=NEIGHBOR_MAC, dst=station) / PAYLOADS["udp"]()
    assert_untouched(network, frame, "home0", Reason.PASS_NOT_OURS)


@pytest.mark.parametrize("source", ["fe80::50", "febf::50", "::", "::1", "ff02::1", "ff0e::1"])
def test_a_source_that_may_not_leave_its_link(network: HomeAgentNetwork, source: str) -> None:
    outcome = network.run(ethernet_to_home_agent("home0") / IPv6(src=source, dst=HOME_ADDRESS) / UDP(), "home0")
    assert (outcome.verdict, outcome.reason) == (Verdict.DROP, Reason.DROP_SCOPE)


def test_a_source_beside_the_link_local_ones(network: HomeAgentNetwork) -> None:
    inner = IPv6(src="fec0::50", dst=HOME_ADDRESS) / UDP()
    assert_tunnelled(network.run(ethernet_to_home_agent("home0") / inner, "home0"), Verdict.REDIRECT, inner)


def test_a_neighbor_of_the_home_link_reaches_the_mobile_node(network: HomeAgentNetwork) -> None:
    inner = IPv6(src=NEIGHBOR, dst=HOME_ADDRESS) / UDP()
    assert_tunnelled(network.run(ethernet_to_home_agent("home0") / inner, "home0"), Verdict.REDIRECT, inner)
