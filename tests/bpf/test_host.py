# SPDX-License-Identifier: Apache-2.0
"""A mobile node's packets through its two programs, whole frames compared (RFC 6275 section 11.3, RFC 2473)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    MIP6MH_BA,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from ha_fastpath.dataplane import libbpf
from ha_fastpath.dataplane.abi import HostReason
from tests.bpf.mobile_node_network import (
    CARE_OF_ADDRESS,
    CORRESPONDENT,
    HOME_ADDRESS,
    HOME_AGENT,
    MAC,
    PREVIOUS_CARE_OF_ADDRESS,
    ROUTER_MAC,
    SPI_FIRST,
    SPI_LAST,
    MobileNodeNetwork,
    Outcome,
    arriving,
    from_home_address,
    leaving,
    mobile_node_network,
    to_home_address,
    tunnelled,
)

pytestmark = pytest.mark.bpf

XDP_DROP, XDP_PASS, XDP_REDIRECT = 1, 2, 4
TC_ACT_OK, TC_ACT_SHOT = 0, 2
HOP_LIMIT = 64
NOT_ECT, ECT_1, ECT_0, CONGESTION = range(4)
MOST_INSTRUCTIONS = 100_000


@pytest.fixture(scope="module")
def _network() -> Iterator[MobileNodeNetwork]:
    with mobile_node_network() as made:
        yield made


@pytest.fixture
def network(_network: MobileNodeNetwork) -> MobileNodeNetwork:
    _network.reset()
    return _network


def assert_outcome(outcome: Outcome, verdict: int, reason: HostReason, frame: Any) -> None:
    assert (outcome.verdict, outcome.reason) == (verdict, reason)
    assert outcome.frame == bytes(frame)


def assert_passed_in(network: MobileNodeNetwork, frame: Any) -> None:
    assert_outcome(network.receive(frame), XDP_PASS, HostReason.PASSED_IN, frame)


def assert_passed_out(network: MobileNodeNetwork, frame: Any) -> None:
    assert_outcome(network.send(frame), TC_ACT_OK, HostReason.PASSED_OUT, frame)


def test_the_verifier_is_done_with_both_programs_soon(network: MobileNodeNetwork) -> None:
    for fd in network.loaded.program_fds.values():
        assert libbpf.program_information(fd).verified_instructions < MOST_INSTRUCTIONS


# ---- out of the tunnel ----

PAYLOADS: dict[str, Callable[[], Any]] = {
    "tcp": lambda: TCP(sport=80, dport=4000, flags="PA") / Raw(b"x" * 1200),
    "udp": lambda: UDP(sport=53, dport=5353) / Raw(b"x"),
    "echo": lambda: ICMPv6EchoRequest(id=1, seq=2, data=b"y" * 56),
    "first fragment": lambda: IPv6ExtHdrFragment(id=7, m=1) / UDP(sport=1, dport=2) / Raw(b"z" * 64),
    "later fragment": lambda: IPv6ExtHdrFragment(id=7, offset=8, nh=17) / Raw(b"z" * 64),
    "another tunnel": lambda: IPv6(src=CORRESPONDENT, dst=HOME_ADDRESS) / UDP(),
    "no payload": lambda: Raw(b""),
}


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("care_of_address", [CARE_OF_ADDRESS, PREVIOUS_CARE_OF_ADDRESS])
def test_what_the_home_agent_tunnels_comes_out_as_it_went_in(
    network: MobileNodeNetwork, payload: str, care_of_address: str
) -> None:
    inner = to_home_address(PAYLOADS[payload](), tc=0x28, fl=0x12345)
    outcome = network.receive(arriving(tunnelled(inner, destination=care_of_address, fl=0x777)))
    assert_outcome(outcome, XDP_PASS, HostReason.DETUNNELLED, arriving(inner))


def test_it_comes_out_at_home_too_for_as_long_as_the_care_of_address_is_held(network: MobileNodeNetwork) -> None:
    network.set_tunnel(on=False)
    inner = to_home_address(UDP())
    outcome = network.receive(arriving(tunnelled(inner)))
    assert_outcome(outcome, XDP_PASS, HostReason.DETUNNELLED, arriving(inner))


def test_priority_tags_stay_before_what_comes_out(network: MobileNodeNetwork) -> None:
    inner = to_home_address(UDP())
    link = Ether(src=ROUTER_MAC, dst=MAC) / Dot1Q(vlan=0, prio=5) / Dot1Q(vlan=0)
    outcome = network.receive(link / tunnelled(inner))
    assert_outcome(outcome, XDP_PASS, HostReason.DETUNNELLED, link / inner)


def test_a_vlan_is_another_link(network: MobileNodeNetwork) -> None:
    link = Ether(src=ROUTER_MAC, dst=MAC) / Dot1Q(vlan=5)
    assert_passed_in(network, link / tunnelled(to_home_address(UDP())))
    assert_passed_in(network, link / router_advertisement().payload)


def test_an_encapsulation_limit_goes_with_the_tunnel(network: MobileNodeNetwork) -> None:
    inner = to_home_address(UDP())
    # RFC 2473 section 5.1: option 4.
    outer = IPv6(src=HOME_AGENT, dst=CARE_OF_ADDRESS, nh=60) / Raw(bytes((41, 0, 4, 1, 4, 1, 1, 0)))
    outcome = network.receive(arriving(outer / inner))
    assert_outcome(outcome, XDP_PASS, HostReason.DETUNNELLED, arriving(inner))


def test_the_padding_of_a_short_frame_is_left_behind_it(network: MobileNodeNetwork) -> None:
    inner = to_home_address(Raw(b""))
    outcome = network.receive(bytes(arriving(tunnelled(inner))) + bytes(9))
    assert_outcome(outcome, XDP_PASS, HostReason.DETUNNELLED, bytes(arriving(inner)) + bytes(9))


# RFC 6040 section 4.2, figure 4: the inner packet's code point, by its own and the outer one's; None drops it.
DECAPSULATION = {
    (NOT_ECT, NOT_ECT): NOT_ECT,
    (NOT_ECT, ECT_0): NOT_ECT,
    (NOT_ECT, ECT_1): NOT_ECT,
    (NOT_ECT, CONGESTION): None,
    (ECT_0, NOT_ECT): ECT_0,
    (ECT_0, ECT_0): ECT_0,
    (ECT_0, ECT_1): ECT_1,
    (ECT_0, CONGESTION): CONGESTION,
    (ECT_1, NOT_ECT): ECT_1,
    (ECT_1, ECT_0): ECT_1,
    (ECT_1, ECT_1): ECT_1,
    (ECT_1, CONGESTION): CONGESTION,
    (CONGESTION, NOT_ECT): CONGESTION,
    (CONGESTION, ECT_0): CONGESTION,
    (CONGESTION, ECT_1): CONGESTION,
    (CONGESTION, CONGESTION): CONGESTION,
}


@pytest.mark.parametrize(("inner_ecn", "outer_ecn"), DECAPSULATION)
def test_congestion_on_the_way_is_told(network: MobileNodeNetwork, inner_ecn: int, outer_ecn: int) -> None:
    expected = DECAPSULATION[inner_ecn, outer_ecn]
    inner = to_home_address(UDP(), tc=0xB8 | inner_ecn, fl=0xABCDE)
    outcome = network.receive(arriving(tunnelled(inner, tc=0x28 | outer_ecn)))
    if expected is None:
        assert (outcome.verdict, outcome.reason) == (XDP_DROP, HostReason.DROP_CONGESTION)
    else:
        told = to_home_address(UDP(), tc=0xB8 | expected, fl=0xABCDE)
        assert_outcome(outcome, XDP_PASS, HostReason.DETUNNELLED, arriving(told))


def test_only_the_home_agent_may_tunnel_to_a_care_of_address(network: MobileNodeNetwork) -> None:
    outcome = network.receive(arriving(tunnelled(to_home_address(UDP()), source=CORRESPONDENT)))
    assert (outcome.verdict, outcome.reason) == (XDP_DROP, HostReason.DROP_TUNNEL_SOURCE)


INNER: dict[str, Callable[[], Any]] = {
    "for another": lambda: IPv6(src=CORRESPONDENT, dst="2001:db8:1::101") / UDP(),
    "for a link-local address": lambda: IPv6(src=CORRESPONDENT, dst="fe80::100") / UDP(),
    "for a group": lambda: IPv6(src=CORRESPONDENT, dst="ff0e::1") / UDP(),
    "not IPv6": lambda: Raw(b"\x45" + bytes(59)),
    "cut in its header": lambda: Raw(bytes(to_home_address(UDP()))[:39]),
    "longer than the outer packet": lambda: Raw(bytes(to_home_address(UDP() / Raw(b"x" * 40)))[:-1]),
}


@pytest.mark.parametrize("inner", INNER)
def test_nothing_else_comes_out_of_the_tunnel(network: MobileNodeNetwork, inner: str) -> None:
    outcome = network.receive(arriving(tunnelled(INNER[inner]())))
    assert (outcome.verdict, outcome.reason) == (XDP_DROP, HostReason.DROP_TUNNEL_INNER)


def test_tunnels_to_other_addresses_and_their_fragments_are_the_kernels(network: MobileNodeNetwork) -> None:
    inner = to_home_address(UDP())
    assert_passed_in(network, arriving(tunnelled(inner, destination="2001:db8:2::101")))
    fragment = IPv6(src=HOME_AGENT, dst=CARE_OF_ADDRESS) / IPv6ExtHdrFragment(nh=41, m=1, id=3) / inner
    assert_passed_in(network, arriving(fragment))


def test_a_frame_cut_at_any_octet_is_the_kernels(network: MobileNodeNetwork) -> None:
    frame = bytes(arriving(tunnelled(to_home_address(UDP() / Raw(b"x" * 8)))))
    for length in range(14, len(frame)):
        assert_passed_in(network, frame[:length])


# ---- to the daemon ----


def advertised(target: str, destination: str = "ff02::1") -> Any:
    message = ICMPv6ND_NA(tgt=target, R=0, S=0, O=0) / ICMPv6NDOptDstLLAddr(lladdr=ROUTER_MAC)
    return arriving(IPv6(src=HOME_AGENT, dst=destination, hlim=255) / message)


def router_advertisement() -> Any:
    message = ICMPv6ND_RA() / ICMPv6NDOptPrefixInfo(prefix="2001:db8:2::", prefixlen=64)
    return arriving(IPv6(src="fe80::1", dst="ff02::1", hlim=255) / message)


def esp(spi: int) -> Raw:
    return Raw(spi.to_bytes(4, "big") + bytes(60))


def protected(spi: int, destination: str = CARE_OF_ADDRESS) -> Any:
    return arriving(IPv6(src=HOME_AGENT, dst=destination, nh=50) / esp(spi))


def routed(payload: Any, protocol: int, *, home_address: str = HOME_ADDRESS, **fields: Any) -> Any:
    values: dict[str, Any] = {"type": 2, "segleft": 1, "nh": protocol, "addresses": [home_address]}
    header = IPv6ExtHdrRouting(**(values | fields))
    return arriving(IPv6(src=HOME_AGENT, dst=CARE_OF_ADDRESS) / header / payload)


STEERED: dict[str, tuple[Callable[[], Any], HostReason]] = {
    "router advertisement": (router_advertisement, HostReason.STEERED_ROUTER_ADVERTISEMENT),
    "advertisement of the home address": (
        lambda: advertised(HOME_ADDRESS),
        HostReason.STEERED_NEIGHBOR_ADVERTISEMENT,
    ),
    "advertisement of the home agent": (lambda: advertised(HOME_AGENT), HostReason.STEERED_NEIGHBOR_ADVERTISEMENT),
    "ESP after a routing header": (lambda: routed(esp(SPI_FIRST), 50), HostReason.STEERED_SIGNALLING),
    "Mobility Header after a routing header": (
        lambda: routed(MIP6MH_BA(), 135),
        HostReason.STEERED_SIGNALLING,
    ),
    "ESP to the home address": (lambda: protected(SPI_LAST, HOME_ADDRESS), HostReason.STEERED_SIGNALLING),
    "ESP to a care-of address": (lambda: protected(SPI_FIRST), HostReason.STEERED_SIGNALLING),
    "Mobility Header to a care-of address": (
        lambda: arriving(IPv6(src=CORRESPONDENT, dst=CARE_OF_ADDRESS) / MIP6MH_BA()),
        HostReason.STEERED_SIGNALLING,
    ),
}


@pytest.mark.parametrize("case", STEERED)
def test_what_the_daemon_decides_on_goes_there_whole(network: MobileNodeNetwork, case: str) -> None:
    make, reason = STEERED[case]
    assert_outcome(network.receive(make()), XDP_REDIRECT, reason, make())


@pytest.mark.parametrize("case", STEERED)
def test_without_a_tap_the_kernel_does_not_see_it_either(network: MobileNodeNetwork, case: str) -> None:
    outcome = network.receive(STEERED[case][0](), "bare0")
    assert (outcome.verdict, outcome.reason) == (XDP_DROP, HostReason.DROP_NO_TAP)


def test_at_home_neighbor_advertisements_are_the_kernels(network: MobileNodeNetwork) -> None:
    network.set_tunnel(on=False)
    assert_passed_in(network, advertised(HOME_AGENT))
    assert_passed_in(network, advertised(HOME_ADDRESS))


KERNELS: dict[str, Callable[[], Any]] = {
    "solicited advertisement": lambda: advertised(HOME_AGENT, CARE_OF_ADDRESS),
    "advertisement of another": lambda: advertised("2001:db8:1::2"),
    "advertisement cut short": lambda: arriving(
        IPv6(src="fe80::1", dst="ff02::1", hlim=255, nh=58) / Raw(b"\x88" + bytes(22))
    ),
    "advertisement after an extension header": lambda: arriving(
        IPv6(src="fe80::1", dst="ff02::1", hlim=255) / IPv6ExtHdrDestOpt() / ICMPv6ND_NA(tgt=HOME_AGENT)
    ),
    "solicitation": lambda: arriving(IPv6(src="fe80::1", dst="ff02::1:ff00:100") / ICMPv6ND_NS(tgt=HOME_ADDRESS)),
    "ESP below the range": lambda: protected(SPI_FIRST - 1),
    "ESP above the range": lambda: protected(SPI_LAST + 1),
    "ESP to another address": lambda: protected(SPI_FIRST, "2001:db8:2::101"),
    "ESP cut before its SPI": lambda: arriving(IPv6(src=HOME_AGENT, dst=CARE_OF_ADDRESS, nh=50) / Raw(b"\0\0\1")),
    "fragment of ESP": lambda: arriving(
        IPv6(src=HOME_AGENT, dst=CARE_OF_ADDRESS) / IPv6ExtHdrFragment(nh=50, m=1) / esp(SPI_FIRST)
    ),
    "routed ESP of another range": lambda: routed(esp(SPI_LAST + 1), 50),
    "routed to another home address": lambda: routed(esp(SPI_FIRST), 50, home_address="2001:db8:1::101"),
    "routed data": lambda: routed(UDP(), 17),
    "a routing header of another type": lambda: routed(esp(SPI_FIRST), 50, type=0),
    "a routing header with further segments": lambda: routed(esp(SPI_FIRST), 50, segleft=2),
    # The first word of its second address looks like an SPI of ours.
    "a routing header of another length": lambda: routed(esp(SPI_FIRST), 50, addresses=[HOME_ADDRESS, "0:100::1"]),
    "a routing header with nothing behind": lambda: routed(Raw(b"\0\0"), 50),
    "echo": lambda: arriving(IPv6(src=CORRESPONDENT, dst=CARE_OF_ADDRESS) / ICMPv6EchoRequest()),
    "ARP": lambda: Ether(src=ROUTER_MAC, dst=MAC) / ARP(),
}


@pytest.mark.parametrize("case", KERNELS)
def test_all_else_is_the_kernels(network: MobileNodeNetwork, case: str) -> None:
    assert_passed_in(network, KERNELS[case]())


# ---- into the tunnel ----


def flow_label(frame: bytes) -> int:
    return int.from_bytes(frame[14:18], "big") & 0xFFFFF


def assert_tunnelled(outcome: Outcome, inner: Any, traffic_class: int = 0) -> None:
    outer = IPv6(
        src=CARE_OF_ADDRESS,
        dst=HOME_AGENT,
        nh=41,
        hlim=HOP_LIMIT,
        tc=traffic_class,
        fl=flow_label(outcome.frame),
    )
    assert_outcome(outcome, TC_ACT_OK, HostReason.TUNNELLED, leaving(outer / inner))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_the_home_address_sends_goes_into_the_tunnel(network: MobileNodeNetwork, payload: str) -> None:
    inner = from_home_address(PAYLOADS[payload](), tc=0x2A, fl=0x54321, hlim=1)
    assert_tunnelled(network.send(leaving(inner)), inner, traffic_class=0x2A)


def test_each_flow_has_a_label_of_its_own(network: MobileNodeNetwork) -> None:
    def label(port: int) -> int:
        return flow_label(network.send(leaving(from_home_address(UDP(sport=port, dport=53)))).frame)

    assert label(1000) == label(1000)
    assert len({label(port) for port in range(1000, 1020)}) > 15


@pytest.mark.parametrize("spi", [SPI_FIRST - 1, SPI_LAST + 1])
def test_esp_that_is_no_signalling_goes_into_the_tunnel(network: MobileNodeNetwork, spi: int) -> None:
    inner = from_home_address(esp(spi), dst=HOME_AGENT, nh=50)
    assert_tunnelled(network.send(leaving(inner)), inner)


def test_esp_to_another_than_the_home_agent_goes_into_the_tunnel(network: MobileNodeNetwork) -> None:
    inner = from_home_address(esp(SPI_FIRST), nh=50)
    assert_tunnelled(network.send(leaving(inner)), inner)


def test_an_echo_to_the_home_agent_goes_into_the_tunnel(network: MobileNodeNetwork) -> None:
    inner = from_home_address(ICMPv6EchoReply(), dst=HOME_AGENT)
    assert_tunnelled(network.send(leaving(inner)), inner)


UNTUNNELLED: dict[str, Callable[[], Any]] = {
    "de-registration": lambda: leaving(from_home_address(esp(SPI_FIRST), dst=HOME_AGENT, nh=50)),
    "from the care-of address": lambda: leaving(IPv6(src=CARE_OF_ADDRESS, dst=HOME_AGENT) / UDP()),
    "to a link-local address": lambda: leaving(from_home_address(UDP(), dst="fe80::1")),
    "to a group": lambda: leaving(from_home_address(UDP(), dst="ff0e::1")),
    "group membership": lambda: leaving(IPv6(src="fe80::2", dst="ff02::16") / ICMPv6MLReport2()),
    "router solicitation": lambda: leaving(from_home_address(ICMPv6ND_RS())),
    "solicitation": lambda: leaving(from_home_address(ICMPv6ND_NS(tgt=CORRESPONDENT))),
    "advertisement": lambda: leaving(from_home_address(ICMPv6ND_NA(tgt=HOME_ADDRESS))),
    "redirect": lambda: leaving(from_home_address(ICMPv6ND_Redirect())),
    "behind a VLAN tag": lambda: Ether(src=MAC, dst=ROUTER_MAC) / Dot1Q(vlan=0, prio=5) / from_home_address(UDP()),
    "ARP": lambda: Ether(src=MAC, dst=ROUTER_MAC) / ARP(),
}


@pytest.mark.parametrize("case", UNTUNNELLED)
def test_what_belongs_to_the_link_goes_without_the_tunnel(network: MobileNodeNetwork, case: str) -> None:
    assert_passed_out(network, UNTUNNELLED[case]())


def test_at_home_nothing_goes_into_a_tunnel(network: MobileNodeNetwork) -> None:
    network.set_tunnel(on=False)
    assert_passed_out(network, leaving(from_home_address(UDP())))


def test_what_is_cut_short_goes_as_it_is(network: MobileNodeNetwork) -> None:
    frame = bytes(leaving(from_home_address(UDP() / Raw(b"x" * 8))))
    # BPF_PROG_TEST_RUN takes no packet without a whole IPv6 header.
    for length in range(14 + 40, len(frame)):
        assert_passed_out(network, frame[:length])


def test_what_went_in_comes_out(network: MobileNodeNetwork) -> None:
    """The two programs undo each other, the addresses of the tunnel turned round."""
    inner = to_home_address(UDP(sport=1, dport=2) / Raw(b"payload"))
    sent = network.send(leaving(from_home_address(UDP(sport=1, dport=2) / Raw(b"payload"))))
    turned = IPv6(src=HOME_AGENT, dst=CARE_OF_ADDRESS, nh=41) / inner
    outcome = network.receive(arriving(turned))
    assert outcome.frame[54:] == sent.frame[94:]
