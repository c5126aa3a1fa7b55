# SPDX-License-Identifier: Apache-2.0
"""Frames cut off at every octet: nothing is read past the end, nothing that is not whole is forwarded or answered."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import (
    HAO,
    MIP6MH_BU,
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import ESP
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether

from ha_fastpath.dataplane.abi import Reason
from tests.bpf.home_agent_network import (
    CARE_OF_ADDRESS,
    CORRESPONDENT,
    HOME_ADDRESS,
    HOME_AGENT,
    HOME_MAC,
    NEIGHBOR,
    NEIGHBOR_MAC,
    SPI_FIRST,
    HomeAgentNetwork,
    Verdict,
    ethernet_to_home_agent,
    tunnelled,
)

pytestmark = pytest.mark.bpf

TO_HOME_AGENT = IPv6(src=CARE_OF_ADDRESS, dst=HOME_AGENT)
CHAIN = (
    IPv6ExtHdrHopByHop()
    / IPv6ExtHdrRouting(type=2, segleft=0, addresses=[HOME_ADDRESS])
    / IPv6ExtHdrDestOpt(options=[HAO(hoa=HOME_ADDRESS)])
    / IPv6ExtHdrFragment()
)

# Frame, interface, and what a whole one comes to.
FRAMES: dict[str, tuple[Any, str, Reason]] = {
    "solicitation": (
        Ether(src=NEIGHBOR_MAC, dst=HOME_MAC)
        / IPv6(src=NEIGHBOR, dst=HOME_ADDRESS, hlim=255)
        / ICMPv6ND_NS(tgt=HOME_ADDRESS)
        / ICMPv6NDOptSrcLLAddr(lladdr=NEIGHBOR_MAC),
        "home0",
        Reason.FORWARD_SOLICITATION_ANSWERED,
    ),
    "to the mobile node": (
        ethernet_to_home_agent("home0") / IPv6(src=CORRESPONDENT, dst=HOME_ADDRESS) / UDP(),
        "home0",
        Reason.FORWARD_TUNNELLED,
    ),
    "to the mobile node, tagged": (
        ethernet_to_home_agent("home0")
        / Dot1AD(vlan=0, prio=5)
        / Dot1Q(vlan=0, prio=5)
        / IPv6(src=CORRESPONDENT, dst=HOME_ADDRESS)
        / CHAIN
        / UDP(),
        "home0",
        Reason.FORWARD_TUNNELLED,
    ),
    "from the mobile node": (
        tunnelled(IPv6(src=HOME_ADDRESS, dst=CORRESPONDENT) / CHAIN / UDP()),
        "far0",
        Reason.FORWARD_REVERSE_TUNNELLED,
    ),
    "mobility header": (
        ethernet_to_home_agent("far0") / TO_HOME_AGENT / CHAIN / MIP6MH_BU(),
        "far0",
        Reason.STEER_MOBILITY_HEADER,
    ),
    "esp": (
        ethernet_to_home_agent("far0") / TO_HOME_AGENT / CHAIN / ESP(spi=SPI_FIRST, seq=1, data=b"\0" * 16),
        "far0",
        Reason.STEER_ESP,
    ),
}


def link_length(octets: bytes) -> int:
    """That of the Ethernet header and its tags."""
    length = 14
    while octets[length - 2 : length] in (b"\x81\x00", b"\x88\xa8"):
        length += 4
    return length


@pytest.mark.parametrize("kind", FRAMES)
def test_a_frame_cut_off_anywhere_goes_to_the_kernel_as_it_is(network: HomeAgentNetwork, kind: str) -> None:
    whole, interface, reason = FRAMES[kind]
    octets = bytes(whole)
    assert network.run(octets, interface).reason is reason
    # BPF_PROG_TEST_RUN takes no frame that is shorter than an Ethernet header.
    for length in range(14, len(octets)):
        outcome = network.run(octets[:length], interface)
        assert outcome.frame == octets[:length]
        assert outcome.verdict is Verdict.PASS
        assert outcome.reason is Reason.PASS_MALFORMED


@pytest.mark.parametrize("kind", FRAMES)
def test_a_payload_length_cut_off_anywhere_is_believed(network: HomeAgentNetwork, kind: str) -> None:
    """The octets are all there, as Ethernet padding: they must not be taken for headers."""
    whole, interface, _ = FRAMES[kind]
    octets = bytes(whole)
    field = link_length(octets) + 4
    for length in range(int.from_bytes(octets[field : field + 2], "big")):
        outcome = network.run(octets[:field] + length.to_bytes(2, "big") + octets[field + 2 :], interface)
        assert (
            outcome.reason
            in {
                "solicitation": {Reason.PASS_MALFORMED, Reason.FORWARD_TUNNELLED},
                "to the mobile node": {Reason.FORWARD_TUNNELLED},
                "to the mobile node, tagged": {Reason.FORWARD_TUNNELLED},
                "from the mobile node": {Reason.DROP_TUNNEL_INNER_MALFORMED},
                "mobility header": {
                    Reason.PASS_MALFORMED,
                    Reason.STEER_HOME_ADDRESS_OPTION,
                    Reason.STEER_MOBILITY_HEADER,
                },
                "esp": {Reason.PASS_MALFORMED, Reason.STEER_HOME_ADDRESS_OPTION, Reason.STEER_ESP},
            }[kind]
        ), length
