# SPDX-License-Identifier: Apache-2.0
"""Who a mobile node is, and what cannot be."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from typing import Any

import pytest

from control.binding.mobile_node_configuration import MobileNodeConfiguration, modified_eui_64

MAC = bytes.fromhex("020000000402")


def configuration(**changes: Any) -> MobileNodeConfiguration:
    values: dict[str, Any] = {
        "home_address": IPv6Address("2001:db8:1::100"),
        "home_agent_address": IPv6Address("2001:db8:1::1"),
        "home_prefix": IPv6Network("2001:db8:1::/64"),
        "interface": "eth0",
        "mac": MAC,
    }
    return MobileNodeConfiguration(**(values | changes))


def test_the_interface_identifier_of_rfc_2464_appendix_a() -> None:
    assert modified_eui_64(bytes.fromhex("34567890abcd")) == bytes.fromhex("365678fffe90abcd")


def test_the_interface_identifier_is_the_macs_unless_another_is_given() -> None:
    assert configuration().effective_interface_identifier == bytes.fromhex("000000fffe000402")
    assert configuration(interface_identifier=b"\1" * 8).effective_interface_identifier == b"\1" * 8


@pytest.mark.parametrize(
    ("home_address", "is_compatible"), [("2001:db8:1::ff:fe00:402", True), ("2001:db8:1::100", False)]
)
def test_the_l_bit_says_that_interface_identifiers_are_the_same(home_address: str, is_compatible: bool) -> None:
    assert configuration(home_address=IPv6Address(home_address)).is_link_local_compatible is is_compatible


@pytest.mark.parametrize(
    "changes",
    [
        {"home_address": IPv6Address("2001:db8:2::100")},
        {"mac": b"\2" * 5},
        {"interface_identifier": b"\1" * 7},
        {"lifetime_s": 3},
        {"lifetime_s": 4 * 65_536},
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not within|octets"):
        configuration(**changes)
