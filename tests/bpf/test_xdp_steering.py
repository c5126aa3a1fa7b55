# SPDX-License-Identifier: Apache-2.0
"""Signalling goes to the control plane's TAP, whole and unaltered; what is not ours goes to the kernel."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import (
    HAO,
    MIP6MH_BU,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    Pad1,
    PadN,
)
from scapy.layers.ipsec import ESP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from ha_fastpath.dataplane.abi import Reason
from tests.bpf.home_agent_network import (
    CARE_OF_ADDRESS,
    HOME_ADDRESS,
    HOME_AGENT,
    HOME_LINK,
    HOME_MAC,
    NEIGHBOR,
    NEIGHBOR_MAC,
    SPI_FIRST,
    SPI_LAST,
    HomeAgentNetwork,
    Verdict,
    ethernet_to_home_agent,
)

pytestmark = pytest.mark.bpf

TENTATIVE = "2001:db8:1::300"
BASE = ethernet_to_home_agent("far0") / IPv6(src=CARE_OF_ADDRESS, dst=HOME_AGENT)
HOME_ADDRESS_OPTION = IPv6ExtHdrDestOpt(options=[HAO(hoa=HOME_ADDRESS)])
BINDING_UPDATE = MIP6MH_BU(seq=1, mhtime=3600, flags=0xD0)


def esp(spi: int) -> Any:
    return ESP(spi=spi, seq=1, data=b"\x5a" * 48)


def assert_steered(network: HomeAgentNetwork, frame: Any, reason: Reason, interface: str = "far0") -> None:
    outcome = network.run(frame, interface)
    assert outcome.frame == bytes(frame)
    assert (outcome.verdict, outcome.reason) == (Verdict.REDIRECT, reason)
    network.maps.taps.remove(network.interfaces[interface])
    outcome = network.run(frame, interface)
    assert (outcome.verdict, outcome.reason) == (Verdict.DROP, Reason.DROP_NO_TAP)


def assert_passed(network: HomeAgentNetwork, frame: Any, reason: Reason, interface: str = "far0") -> None:
    outcome = network.run(frame, interface)
    assert outcome.frame == bytes(frame)
    assert (outcome.verdict, outcome.reason) == (Verdict.PASS, reason)


STEERED = {
    "mobility header": (BASE / BINDING_UPDATE, Reason.STEER_MOBILITY_HEADER),
    "mobility header behind a home address option": (
        BASE / HOME_ADDRESS_OPTION / BINDING_UPDATE,
        Reason.STEER_MOBILITY_HEADER,
    ),
    "mobility header of one word": (BASE / Raw(b"\x3b\0\5\0"), Reason.STEER_MOBILITY_HEADER),
    "first SPI": (BASE / HOME_ADDRESS_OPTION / esp(SPI_FIRST), Reason.STEER_ESP),
    "last SPI": (BASE / esp(SPI_LAST), Reason.STEER_ESP),
    "tagged": (
        ethernet_to_home_agent("far0")
        / Dot1Q(vlan=0, prio=5)
        / IPv6(src=CARE_OF_ADDRESS, dst=HOME_AGENT)
        / esp(SPI_LAST),
        Reason.STEER_ESP,
    ),
    "whole fragment": (BASE / HOME_ADDRESS_OPTION / IPv6ExtHdrFragment() / esp(SPI_LAST), Reason.STEER_ESP),
    "behind hop-by-hop": (BASE / IPv6ExtHdrHopByHop() / HOME_ADDRESS_OPTION / esp(SPI_LAST), Reason.STEER_ESP),
    "behind a routing header that has ended": (
        BASE / IPv6ExtHdrRouting(type=2, segleft=0, addresses=[HOME_ADDRESS]) / BINDING_UPDATE,
        Reason.STEER_MOBILITY_HEADER,
    ),
    "home address option, foreign SPI": (
        BASE / HOME_ADDRESS_OPTION / esp(SPI_LAST + 1),
        Reason.STEER_HOME_ADDRESS_OPTION,
    ),
    "home address option, data": (BASE / HOME_ADDRESS_OPTION / UDP(), Reason.STEER_HOME_ADDRESS_OPTION),
    "home address option, fragment": (
        BASE / HOME_ADDRESS_OPTION / IPv6ExtHdrFragment(m=1) / BINDING_UPDATE,
        Reason.STEER_HOME_ADDRESS_OPTION,
    ),
    "home address option behind Pad1": (
        BASE / IPv6ExtHdrDestOpt(options=[Pad1()] * 6 + [HAO(hoa=HOME_ADDRESS)], autopad=0, len=2) / UDP(),
        Reason.STEER_HOME_ADDRESS_OPTION,
    ),
    "home address option behind one Pad1": (
        # Read as an option with a length, the Pad1 would swallow it: the octet after it is the option's type, 0xC9.
        BASE / Raw(bytes([59, 2, 0, 0xC9, 16]) + IPv6Address(HOME_ADDRESS).packed + bytes([1, 1, 0])),
        Reason.STEER_HOME_ADDRESS_OPTION,
    ),
    "home address option in a second header": (
        BASE / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]) / HOME_ADDRESS_OPTION / UDP(),
        Reason.STEER_HOME_ADDRESS_OPTION,
    ),
    "home address option, endless chain": (
        BASE / HOME_ADDRESS_OPTION / Raw(bytes([60, 0, 1, 4, 0, 0, 0, 0]) * 9),
        Reason.STEER_HOME_ADDRESS_OPTION,
    ),
}
STEERED["home address option behind one Pad1"][0][IPv6].nh = 60
STEERED["mobility header of one word"][0][IPv6].nh = 135
STEERED["home address option, endless chain"][0][IPv6ExtHdrDestOpt].nh = 60

PASSED = {
    "SPI before ours": (BASE / esp(SPI_FIRST - 1), Reason.PASS_NOT_OURS),
    "SPI behind ours": (BASE / esp(SPI_LAST + 1), Reason.PASS_NOT_OURS),
    "other destination options": (
        BASE / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]) / UDP(),
        Reason.PASS_NOT_OURS,
    ),
    "an option that is no home address": (
        # Its data look like one.
        BASE / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\xc9\x10" * 6)]) / UDP(),
        Reason.PASS_NOT_OURS,
    ),
    "first fragment of a mobility header": (BASE / IPv6ExtHdrFragment(m=1) / BINDING_UPDATE, Reason.PASS_SLOW_PATH),
    "later fragment of a mobility header": (
        BASE / IPv6ExtHdrFragment(offset=1, nh=135) / Raw(b"x" * 8),
        Reason.PASS_SLOW_PATH,
    ),
    "first fragment of ESP": (BASE / IPv6ExtHdrFragment(m=1) / esp(SPI_FIRST), Reason.PASS_SLOW_PATH),
    "later fragment of ESP": (
        # Its payload looks like an SPI of ours.
        BASE / IPv6ExtHdrFragment(offset=1, nh=50) / Raw(b"\0\0\1\0" * 4),
        Reason.PASS_SLOW_PATH,
    ),
    "later fragment of UDP": (BASE / IPv6ExtHdrFragment(offset=1, nh=17) / Raw(b"x" * 8), Reason.PASS_NOT_OURS),
    "nine extension headers": (BASE / Raw(bytes([60, 0, 1, 4, 0, 0, 0, 0]) * 9), Reason.PASS_SLOW_PATH),
    "a source route that has not ended": (
        BASE / IPv6ExtHdrRouting(type=2, segleft=1, addresses=[HOME_ADDRESS]) / BINDING_UPDATE,
        Reason.PASS_SLOW_PATH,
    ),
    "somebody else's mobility header": (
        ethernet_to_home_agent("far0") / IPv6(src=CARE_OF_ADDRESS, dst=NEIGHBOR) / BINDING_UPDATE,
        Reason.PASS_NOT_OURS,
    ),
    "somebody else's home address option": (
        ethernet_to_home_agent("far0") / IPv6(src=CARE_OF_ADDRESS, dst=NEIGHBOR) / HOME_ADDRESS_OPTION / UDP(),
        Reason.PASS_NOT_OURS,
    ),
    "for the kernel itself": (BASE / UDP(), Reason.PASS_NOT_OURS),
}
PASSED["nine extension headers"][0][IPv6].nh = 60


@pytest.mark.parametrize("kind", STEERED)
def test_it_is_steered(network: HomeAgentNetwork, kind: str) -> None:
    assert_steered(network, *STEERED[kind])


@pytest.mark.parametrize("kind", PASSED)
def test_it_is_passed(network: HomeAgentNetwork, kind: str) -> None:
    assert_passed(network, *PASSED[kind])


def neighbor_discovery(message: Any, source: str = NEIGHBOR, destination: str = "ff02::1", hop_limit: int = 255) -> Any:
    link = Ether(src=NEIGHBOR_MAC, dst="33:33:00:00:00:01" if destination.startswith("ff") else HOME_MAC)
    return link / IPv6(src=source, dst=destination, hlim=hop_limit) / message


ABOUT_TENTATIVE = {
    "advertisement": neighbor_discovery(
        ICMPv6ND_NA(tgt=TENTATIVE, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=NEIGHBOR_MAC)
    ),
    "unicast advertisement": neighbor_discovery(ICMPv6ND_NA(tgt=TENTATIVE), destination=HOME_AGENT),
    "another's duplicate address detection": neighbor_discovery(
        ICMPv6ND_NS(tgt=TENTATIVE), source="::", destination="ff02::1:ff00:300"
    ),
    "one that the control plane will refuse": neighbor_discovery(ICMPv6ND_NA(tgt=TENTATIVE), hop_limit=254),
}


@pytest.mark.parametrize("kind", ABOUT_TENTATIVE)
def test_neighbor_discovery_about_a_tentative_address_is_steered(network: HomeAgentNetwork, kind: str) -> None:
    network.maps.tentative.add(IPv6Address(TENTATIVE), HOME_LINK)
    assert_steered(network, ABOUT_TENTATIVE[kind], Reason.STEER_TENTATIVE, "home0")


@pytest.mark.parametrize("kind", ABOUT_TENTATIVE)
def test_neighbor_discovery_is_the_kernels_otherwise(network: HomeAgentNetwork, kind: str) -> None:
    assert_passed(network, ABOUT_TENTATIVE[kind], Reason.PASS_NOT_OURS, "home0")
    network.maps.tentative.add(IPv6Address(TENTATIVE), HOME_LINK + 1)
    assert_passed(network, ABOUT_TENTATIVE[kind], Reason.PASS_NOT_OURS, "home0")


def test_other_traffic_about_a_tentative_address_is_the_kernels(network: HomeAgentNetwork) -> None:
    network.maps.tentative.add(IPv6Address(TENTATIVE), HOME_LINK)
    frame = ethernet_to_home_agent("home0") / IPv6(src=NEIGHBOR, dst=TENTATIVE) / UDP()
    assert_passed(network, frame, Reason.PASS_NOT_OURS, "home0")


def test_a_link_local_address_is_tentative_by_its_own_entry(network: HomeAgentNetwork) -> None:
    frame = neighbor_discovery(ICMPv6ND_NA(tgt="fe80::300"))
    network.maps.tentative.add(IPv6Address(TENTATIVE), HOME_LINK)
    assert_passed(network, frame, Reason.PASS_NOT_OURS, "home0")
    network.maps.tentative.add(IPv6Address("fe80::300"), HOME_LINK)
    assert_steered(network, frame, Reason.STEER_TENTATIVE, "home0")
