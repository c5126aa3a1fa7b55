# SPDX-License-Identifier: Apache-2.0
"""Frames sent in a mobile node's stead, octet for octet as scapy makes them from the RFCs' words."""

from __future__ import annotations

from ipaddress import IPv6Address

from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import Ether

from control.binding.neighbor_frames import duplicate_address_solicitation, unsolicited_advertisement
from tests.unit.binding.machine import HOME_LINK

TARGET = IPv6Address("2001:db8:1::1234:5678")
MAC = "02:00:00:00:00:01"


def test_solicitation() -> None:
    """RFC 4862 section 5.4.2: from ::, to the solicited-node group, without a link-layer address option."""
    expected = (
        Ether(dst="33:33:ff:34:56:78", src=MAC)
        / IPv6(src="::", dst="ff02::1:ff34:5678", hlim=255)
        / ICMPv6ND_NS(tgt=str(TARGET))
    )
    assert duplicate_address_solicitation(HOME_LINK, TARGET) == bytes(expected)


def test_advertisement() -> None:
    """RFC 6275 section 10.4.1: Router and Solicited clear, Override set, with the home agent's MAC address."""
    expected = (
        Ether(dst="33:33:00:00:00:01", src=MAC)
        / IPv6(src="2001:db8:1::1", dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(tgt=str(TARGET), R=0, S=0, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=MAC)
    )
    assert unsolicited_advertisement(HOME_LINK, TARGET) == bytes(expected)
