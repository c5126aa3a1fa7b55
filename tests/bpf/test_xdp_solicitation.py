# SPDX-License-Identifier: Apache-2.0
"""Neighbor Solicitations for home addresses whose mobile nodes are away (RFC 6275 section 10.4.1, RFC 4861)."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Raw

from ha_fastpath.dataplane.abi import Reason
from tests.bpf.home_agent_network import (
    EXPIRED_NS,
    HOME_ADDRESS,
    HOME_AGENT,
    HOME_MAC,
    LINK_LOCAL,
    NEIGHBOR,
    NEIGHBOR_MAC,
    HomeAgentNetwork,
    Outcome,
    Verdict,
)

pytestmark = pytest.mark.bpf

SOLICITED_NODE = "ff02::1:ff00:100"
SOLICITED_NODE_MAC = "33:33:ff:00:01:00"
MULTICAST = Ether(src=NEIGHBOR_MAC, dst=SOLICITED_NODE_MAC)
UNICAST = Ether(src=NEIGHBOR_MAC, dst=HOME_MAC)
SOURCE_OPTION = ICMPv6NDOptSrcLLAddr(lladdr=NEIGHBOR_MAC)


def solicitation(source: str = NEIGHBOR, destination: str = SOLICITED_NODE, target: str = HOME_ADDRESS) -> Any:
    return IPv6(src=source, dst=destination, hlim=255) / ICMPv6ND_NS(tgt=target)


def answer(target: str = HOME_ADDRESS, link: Any = None) -> bytes:
    """The advertisement that a solicitor is sent."""
    advertisement = ICMPv6ND_NA(tgt=target, R=0, S=1, O=0) / ICMPv6NDOptDstLLAddr(lladdr=HOME_MAC)
    link = Ether(src=HOME_MAC, dst=NEIGHBOR_MAC) if link is None else link
    return bytes(link / IPv6(src=HOME_AGENT, dst=NEIGHBOR, hlim=255) / advertisement)


def assert_answered(outcome: Outcome, expected: bytes) -> None:
    assert outcome.frame == expected
    assert outcome.verdict is Verdict.TX
    assert outcome.reason is Reason.FORWARD_SOLICITATION_ANSWERED


def assert_left_alone(outcome: Outcome, frame: Any, reason: Reason) -> None:
    assert outcome.frame == bytes(frame)
    assert outcome.verdict is Verdict.PASS
    assert outcome.reason is reason


@pytest.mark.parametrize("option", [SOURCE_OPTION, None], ids=["source-option", "no-option"])
@pytest.mark.parametrize(
    "frame",
    [MULTICAST / solicitation(), UNICAST / solicitation(destination=HOME_ADDRESS)],
    ids=["multicast", "unicast"],
)
def test_it_is_answered(network: HomeAgentNetwork, frame: Any, option: Any) -> None:
    asked = frame / option if option else frame
    outcome = network.run(asked, "home0")
    assert len(outcome.frame) == 86
    assert_answered(outcome, answer())


def test_what_follows_the_packet_is_cut_off(network: HomeAgentNetwork) -> None:
    asked = bytes(MULTICAST / solicitation() / SOURCE_OPTION) + bytes(40)
    assert_answered(network.run(asked, "home0"), answer())


def test_a_nonce_option_is_no_obstacle(network: HomeAgentNetwork) -> None:
    # RFC 7527 section 4: type 14.
    asked = MULTICAST / solicitation() / SOURCE_OPTION / Raw(bytes([14, 1, 1, 2, 3, 4, 5, 6]))
    assert_answered(network.run(asked, "home0"), answer())


def test_a_long_solicitation_is_answered(network: HomeAgentNetwork) -> None:
    # As with the options of RFC 3971.
    asked = MULTICAST / solicitation() / SOURCE_OPTION / Raw(bytes([12, 63, *([7] * 502)]))
    assert_answered(network.run(asked, "home0"), answer())


@pytest.mark.parametrize(
    ("asked", "link"),
    [
        (MULTICAST / Dot1Q(vlan=0, prio=5), Ether(src=HOME_MAC, dst=NEIGHBOR_MAC) / Dot1Q(vlan=0, prio=5)),
        (
            MULTICAST / Dot1AD(vlan=0, prio=5) / Dot1Q(vlan=0, prio=5),
            Ether(src=HOME_MAC, dst=NEIGHBOR_MAC) / Dot1AD(vlan=0, prio=5) / Dot1Q(vlan=0, prio=5),
        ),
    ],
    ids=["priority", "two priorities"],
)
def test_priority_tags_are_kept(network: HomeAgentNetwork, asked: Any, link: Any) -> None:
    assert_answered(network.run(asked / solicitation() / SOURCE_OPTION, "home0"), answer(link=link))


def test_duplicate_address_detection_is_told_to_all_nodes(network: HomeAgentNetwork) -> None:
    outcome = network.run(MULTICAST / solicitation(source="::"), "home0")
    expected = (
        Ether(src=HOME_MAC, dst="33:33:00:00:00:01")
        / IPv6(src=HOME_AGENT, dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(tgt=HOME_ADDRESS, R=0, S=0, O=0)
        / ICMPv6NDOptDstLLAddr(lladdr=HOME_MAC)
    )
    assert_answered(outcome, bytes(expected))


BAD_CHECKSUM = MULTICAST / IPv6(src=NEIGHBOR, dst=SOLICITED_NODE, hlim=255) / ICMPv6ND_NS(tgt=HOME_ADDRESS, cksum=1)
INVALID = {
    "hop limit 254": MULTICAST
    / IPv6(src=NEIGHBOR, dst=SOLICITED_NODE, hlim=254)
    / ICMPv6ND_NS(tgt=HOME_ADDRESS)
    / SOURCE_OPTION,
    "checksum": BAD_CHECKSUM,
    "code": MULTICAST / IPv6(src=NEIGHBOR, dst=SOLICITED_NODE, hlim=255) / ICMPv6ND_NS(tgt=HOME_ADDRESS, code=1),
    "source ::, unicast destination": UNICAST / solicitation(source="::", destination=HOME_ADDRESS),
    "source ::, all-nodes destination": Ether(src=NEIGHBOR_MAC, dst="33:33:00:00:00:01")
    / solicitation(source="::", destination="ff02::1"),
    "source :: with source option": MULTICAST / solicitation(source="::") / SOURCE_OPTION,
    "multicast source": MULTICAST / solicitation(source="ff02::5"),
    "loopback source": MULTICAST / solicitation(source="::1"),
    "from a group of stations": Ether(src="33:33:00:00:00:01", dst=SOLICITED_NODE_MAC) / solicitation(),
    "from all stations": Ether(src="ff:ff:ff:ff:ff:ff", dst=SOLICITED_NODE_MAC) / solicitation(source="::"),
    "another's unicast address": UNICAST / solicitation(destination=HOME_AGENT),
    "option of length 0": MULTICAST / solicitation() / Raw(bytes([1, 0, 2, 0, 0, 0, 0, 1])),
    "option past the end": MULTICAST / solicitation() / Raw(bytes([1, 2, 2, 0, 0, 0, 0, 1])),
    "half an option": MULTICAST / solicitation() / SOURCE_OPTION / Raw(bytes([14, 1, 0, 0])),
    "more options than are looked at": MULTICAST / solicitation() / Raw(bytes([14, 1, 0, 0, 0, 0, 0, 0]) * 9),
    "half a target": MULTICAST
    / IPv6(src=NEIGHBOR, dst=SOLICITED_NODE, hlim=255, nh=58)
    / Raw(bytes(ICMPv6ND_NS(tgt=HOME_ADDRESS))[:16]),
}


@pytest.mark.parametrize("fault", INVALID)
def test_an_invalid_one_is_left_to_the_kernel(network: HomeAgentNetwork, fault: str) -> None:
    assert_left_alone(network.run(INVALID[fault], "home0"), INVALID[fault], Reason.PASS_MALFORMED)


@pytest.mark.parametrize("source", [NEIGHBOR, "::"])
def test_an_unknown_target_is_left_to_the_kernel(network: HomeAgentNetwork, source: str) -> None:
    frame = MULTICAST / solicitation(source=source, target="2001:db8:1::7:100")
    assert_left_alone(network.run(frame, "home0"), frame, Reason.PASS_NOT_OURS)


def test_an_expired_binding_is_not_defended(network: HomeAgentNetwork) -> None:
    network.bind(lasts_ns=EXPIRED_NS)
    frame = MULTICAST / solicitation()
    assert_left_alone(network.run(frame, "home0"), frame, Reason.PASS_NOT_OURS)


def test_a_home_address_is_defended_on_its_own_link_only(network: HomeAgentNetwork) -> None:
    frame = MULTICAST / solicitation()
    assert_left_alone(network.run(frame, "far0"), frame, Reason.PASS_NOT_OURS)
    network.bind(home_link=2)
    assert_left_alone(network.run(frame, "home0"), frame, Reason.PASS_NOT_OURS)
    network.bind(home_link=0)
    assert_left_alone(network.run(frame, "home0"), frame, Reason.PASS_NOT_OURS)


def test_the_link_local_address_is_defended_with_the_l_bit_only(network: HomeAgentNetwork) -> None:
    frame = MULTICAST / solicitation(target=LINK_LOCAL) / SOURCE_OPTION
    assert_left_alone(network.run(frame, "home0"), frame, Reason.PASS_NOT_OURS)
    network.bind(link_local=True)
    assert_answered(network.run(frame, "home0"), answer(target=LINK_LOCAL))


def test_a_link_local_target_has_zeros_behind_its_prefix(network: HomeAgentNetwork) -> None:
    network.bind(link_local=True)
    frame = MULTICAST / solicitation(target="fe80:0:0:1::100") / SOURCE_OPTION
    assert_left_alone(network.run(frame, "home0"), frame, Reason.PASS_NOT_OURS)


def test_a_group_is_no_target(network: HomeAgentNetwork) -> None:
    network.bind("ff02::1:ff00:100")
    frame = MULTICAST / solicitation(target="ff02::1:ff00:100") / SOURCE_OPTION
    assert_left_alone(network.run(frame, "home0"), frame, Reason.PASS_MALFORMED)


def test_what_is_not_right_behind_the_ipv6_header_is_left_to_the_kernel(network: HomeAgentNetwork) -> None:
    # RFC 6980 for fragments; hosts send no solicitation behind other headers.
    asked = ICMPv6ND_NS(tgt=HOME_ADDRESS)
    for extension in (IPv6ExtHdrFragment(m=1), IPv6ExtHdrDestOpt()):
        frame = MULTICAST / IPv6(src=NEIGHBOR, dst=SOLICITED_NODE, hlim=255) / extension / asked
        assert_left_alone(network.run(frame, "home0"), frame, Reason.PASS_NOT_OURS)


def test_an_advertisement_is_not_answered(network: HomeAgentNetwork) -> None:
    frame = Ether(src=NEIGHBOR_MAC, dst="33:33:00:00:00:01") / (
        IPv6(src=NEIGHBOR, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=HOME_ADDRESS, S=0)
    )
    assert_left_alone(network.run(frame, "home0"), frame, Reason.PASS_NOT_OURS)


def test_a_frame_for_another_station_is_left_alone(network: HomeAgentNetwork) -> None:
    frame = Ether(src=NEIGHBOR_MAC, dst="02:00:00:00:01:77") / solicitation(destination=HOME_ADDRESS)
    assert_left_alone(network.run(frame, "home0"), frame, Reason.PASS_NOT_OURS)


def test_a_packet_for_a_defended_link_local_address_stays_on_the_link(network: HomeAgentNetwork) -> None:
    network.bind(link_local=True)
    outcome = network.run(UNICAST / IPv6(src="fe80::50", dst=LINK_LOCAL) / Raw(b"x"), "home0")
    assert (outcome.verdict, outcome.reason) == (Verdict.DROP, Reason.DROP_SCOPE)
    network.bind(link_local=False)
    frame = UNICAST / IPv6(src="fe80::50", dst=LINK_LOCAL) / Raw(b"x")
    assert_left_alone(network.run(frame, "home0"), frame, Reason.PASS_NOT_OURS)
