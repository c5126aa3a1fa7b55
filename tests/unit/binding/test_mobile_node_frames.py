# SPDX-License-Identifier: Apache-2.0
"""The frames that a mobile node makes past its kernel, as scapy would make them."""

from __future__ import annotations

from ipaddress import IPv6Address

from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import Ether

from control.binding.mobile_node_frames import home_advertisement, returning_solicitation, router_solicitation

MAC_TEXT = "02:00:00:00:04:02"
MAC = bytes.fromhex("020000000402")
HOME_ADDRESS = "2001:db8:1::12:3456"


def test_router_solicitation_has_no_address_of_ours() -> None:
    expected = Ether(src=MAC_TEXT, dst="33:33:00:00:00:02") / IPv6(src="::", dst="ff02::2", hlim=255) / ICMPv6ND_RS()
    assert router_solicitation(MAC) == bytes(expected)


def test_returning_solicitation_is_from_the_unspecified_address() -> None:
    expected = (
        Ether(src=MAC_TEXT, dst="33:33:ff:12:34:56")
        / IPv6(src="::", dst="ff02::1:ff12:3456", hlim=255)
        / ICMPv6ND_NS(tgt=HOME_ADDRESS)
    )
    assert returning_solicitation(MAC, IPv6Address(HOME_ADDRESS)) == bytes(expected)


def test_home_advertisement_overrides_and_answers_nobody() -> None:
    expected = (
        Ether(src=MAC_TEXT, dst="33:33:00:00:00:01")
        / IPv6(src=HOME_ADDRESS, dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(tgt=HOME_ADDRESS, R=0, S=0, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=MAC_TEXT)
    )
    assert home_advertisement(MAC, IPv6Address(HOME_ADDRESS)) == bytes(expected)
