# SPDX-License-Identifier: Apache-2.0
"""Every reason by which a packet may be counted is reached, each with the verdict that its name promises."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Any

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import (
    HAO,
    MIP6MH_BU,
    ICMPv6DestUnreach,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.ipsec import ESP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from ha_fastpath.dataplane.abi import Reason
from tests.bpf.home_agent_network import (
    CARE_OF_ADDRESS,
    CORRESPONDENT,
    EXPIRED_NS,
    HOME_ADDRESS,
    HOME_AGENT,
    HOME_LINK,
    HOME_MAC,
    NEIGHBOR,
    NEIGHBOR_MAC,
    NO_NEIGHBOR_CARE_OF_ADDRESS,
    OTHER_CARE_OF_ADDRESS,
    OTHER_HOME_ADDRESS,
    SPI_FIRST,
    HomeAgentNetwork,
    Verdict,
    ethernet_to_home_agent,
    tunnelled,
)

pytestmark = pytest.mark.bpf

# BPF_PROG_TEST_RUN always gives head and tail room enough, and no port goes between the choice of it and the redirect.
NOT_REACHED_HERE = {Reason.DROP_ADJUST_FAILED, Reason.DROP_NO_PORT}

TO_NODE = ethernet_to_home_agent("home0") / IPv6(src=CORRESPONDENT, dst=HOME_ADDRESS)
FROM_NODE = IPv6(src=HOME_ADDRESS, dst=CORRESPONDENT) / UDP()
TO_AGENT = ethernet_to_home_agent("far0") / IPv6(src=CARE_OF_ADDRESS, dst=HOME_AGENT)
NEIGHBOR_DISCOVERY = Ether(src=NEIGHBOR_MAC, dst=HOME_MAC) / IPv6(src=NEIGHBOR, dst=HOME_ADDRESS, hlim=255)


def nothing(network: HomeAgentNetwork) -> None:
    """The maps are right as they are."""


Prepare = Callable[[HomeAgentNetwork], object]
WAYS: dict[Reason, tuple[Prepare, Any, str]] = {
    Reason.FORWARD_TUNNELLED: (nothing, TO_NODE / UDP(), "home0"),
    Reason.FORWARD_REVERSE_TUNNELLED: (nothing, tunnelled(FROM_NODE), "far0"),
    Reason.FORWARD_TUNNEL_TO_TUNNEL: (
        lambda network: network.bind(OTHER_HOME_ADDRESS, OTHER_CARE_OF_ADDRESS),
        tunnelled(IPv6(src=HOME_ADDRESS, dst=OTHER_HOME_ADDRESS) / UDP()),
        "far0",
    ),
    Reason.FORWARD_SOLICITATION_ANSWERED: (nothing, NEIGHBOR_DISCOVERY / ICMPv6ND_NS(tgt=HOME_ADDRESS), "home0"),
    Reason.FORWARD_PACKET_TOO_BIG: (nothing, TO_NODE / UDP() / Raw(bytes(1450)), "home0"),
    Reason.STEER_MOBILITY_HEADER: (nothing, TO_AGENT / MIP6MH_BU(), "far0"),
    Reason.STEER_ESP: (nothing, TO_AGENT / ESP(spi=SPI_FIRST, data=b"\0" * 16), "far0"),
    Reason.STEER_HOME_ADDRESS_OPTION: (
        nothing,
        TO_AGENT / IPv6ExtHdrDestOpt(options=[HAO(hoa=HOME_ADDRESS)]) / UDP(),
        "far0",
    ),
    Reason.STEER_TENTATIVE: (
        lambda network: network.maps.tentative.add(IPv6Address("2001:db8:1::300"), HOME_LINK),
        NEIGHBOR_DISCOVERY / ICMPv6ND_NA(tgt="2001:db8:1::300"),
        "home0",
    ),
    Reason.PASS_NOT_SERVED: (nothing, TO_NODE / UDP(), "idle0"),
    Reason.PASS_NOT_IPV6: (nothing, Ether(src=NEIGHBOR_MAC, dst=HOME_MAC, type=0x0806) / Raw(bytes(46)), "home0"),
    Reason.PASS_NOT_OURS: (nothing, TO_AGENT / UDP(), "far0"),
    Reason.PASS_MALFORMED: (nothing, bytes(TO_NODE / UDP())[:-1], "home0"),
    Reason.PASS_HOP_LIMIT: (
        nothing,
        ethernet_to_home_agent("home0") / IPv6(src=CORRESPONDENT, dst=HOME_ADDRESS, hlim=1) / UDP(),
        "home0",
    ),
    Reason.PASS_TUNNELLED_NO_NEIGHBOR: (
        lambda network: network.bind(care_of_address=NO_NEIGHBOR_CARE_OF_ADDRESS),
        TO_NODE / UDP(),
        "home0",
    ),
    Reason.PASS_REVERSE_TUNNELLED: (nothing, tunnelled(IPv6(src=HOME_ADDRESS, dst=HOME_AGENT) / UDP()), "far0"),
    Reason.PASS_SLOW_PATH: (nothing, TO_AGENT / IPv6ExtHdrFragment(m=1, nh=41) / FROM_NODE, "far0"),
    Reason.DROP_TUNNEL_SOURCE_NOT_CARE_OF: (nothing, tunnelled(FROM_NODE, source=OTHER_CARE_OF_ADDRESS), "far0"),
    Reason.DROP_TUNNEL_NO_BINDING: (nothing, tunnelled(IPv6(src=CORRESPONDENT, dst=NEIGHBOR) / UDP()), "far0"),
    Reason.DROP_TUNNEL_BINDING_EXPIRED: (
        lambda network: network.bind(lasts_ns=EXPIRED_NS),
        tunnelled(FROM_NODE),
        "far0",
    ),
    Reason.DROP_TUNNEL_INNER_MALFORMED: (nothing, tunnelled(Raw(b"\x60")), "far0"),
    Reason.DROP_TUNNEL_INNER_SCOPE: (nothing, tunnelled(IPv6(src=HOME_ADDRESS, dst="ff02::1") / UDP()), "far0"),
    Reason.DROP_TUNNEL_CONGESTION: (nothing, tunnelled(FROM_NODE, tc=3), "far0"),
    Reason.DROP_SCOPE: (nothing, ethernet_to_home_agent("home0") / IPv6(src="fe80::1", dst=HOME_ADDRESS), "home0"),
    Reason.DROP_NO_TAP: (lambda network: network.maps.taps.clear(), TO_AGENT / MIP6MH_BU(), "far0"),
    Reason.DROP_TOO_BIG_UNANSWERED: (nothing, TO_NODE / ICMPv6DestUnreach() / Raw(bytes(1450)), "home0"),
}


# Passed on a VLAN too, by these names or before its tag is looked at.
UNSERVED = {Reason.PASS_NOT_SERVED, Reason.PASS_NOT_OURS}
VLANS = {
    "802.1Q": "8100a007",
    "802.1ad": "88a80009 81000007",
    "priority, then a VLAN": "88a8a000 81000fff",
    "a VLAN, then priority": "88a80100 8100a000",
}


def verdicts(reason: Reason) -> set[Verdict]:
    """What a reason's name promises."""
    if reason.name.startswith("FORWARD_"):
        return {Verdict.TX, Verdict.REDIRECT}
    return {{"STEER": Verdict.REDIRECT, "PASS": Verdict.PASS, "DROP": Verdict.DROP}[reason.name.split("_")[0]]}


def test_every_reason_has_a_way_to_it() -> None:
    assert WAYS.keys() | NOT_REACHED_HERE == set(Reason)


@pytest.mark.parametrize("reason", WAYS, ids=lambda reason: reason.name.lower())
def test_a_reason_is_reached_and_keeps_its_promise(network: HomeAgentNetwork, reason: Reason) -> None:
    prepare, frame, interface = WAYS[reason]
    prepare(network)
    outcome = network.run(frame, interface)
    assert outcome.reason is reason
    assert outcome.verdict in verdicts(reason)


@pytest.mark.parametrize("tags", VLANS)
@pytest.mark.parametrize("reason", sorted(WAYS.keys() - UNSERVED), ids=lambda reason: reason.name.lower())
def test_a_vlan_is_another_link(network: HomeAgentNetwork, reason: Reason, tags: str) -> None:
    prepare, frame, interface = WAYS[reason]
    prepare(network)
    octets = bytes(frame)
    tagged = octets[:12] + bytes.fromhex(VLANS[tags]) + octets[12:]
    outcome = network.run(tagged, interface)
    assert outcome.frame == tagged
    assert (outcome.verdict, outcome.reason) == (Verdict.PASS, Reason.PASS_NOT_OURS)
