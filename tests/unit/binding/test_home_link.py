# SPDX-License-Identifier: Apache-2.0
"""Home links and the configuration that holds them: what they refuse to be."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from typing import Any

import pytest

from control.binding.configuration import MAXIMUM_LIFETIME_S, HomeAgentConfiguration
from control.binding.home_link import VIRTUAL_HOME_LINK, link_local_address
from tests.unit.binding.machine import HOME_ADDRESS, HOME_LINK


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"prefix": IPv6Network("2001:db8::/48")}, "2001:db8::/48 has 48 bits; it must have 64"),
        ({"home_agent_address": IPv6Address("2001:db8:2::1")}, "2001:db8:2::1 is not within 2001:db8:1::/64"),
        ({"dad_retransmit_timer_ms": 0}, "dad_retransmit_timer_ms 0"),
    ],
)
def test_impossible_home_link(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(HOME_LINK, **changes)


def test_virtual() -> None:
    assert not HOME_LINK.is_virtual
    assert replace(HOME_LINK, index=VIRTUAL_HOME_LINK).is_virtual


def test_link_local_address() -> None:
    assert link_local_address(IPv6Address("2001:db8:1:2:a:b:c:d")) == IPv6Address("fe80::a:b:c:d")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"maximum_lifetime_s": 3}, "maximum_lifetime_s 3"),
        ({"maximum_lifetime_s": MAXIMUM_LIFETIME_S + 1}, "maximum_lifetime_s 262141"),
        ({"announcements": 0}, "announcements 0"),
        ({"announcements": 4}, "announcements 4"),
        ({"maximum_bindings": 0}, "maximum_bindings 0"),
        ({"maximum_detections": 0}, "maximum_detections 0"),
        ({"dad_transmits": 0}, "dad_transmits 0"),
        ({"errors_per_s": 0}, "errors_per_s 0"),
    ],
)
def test_impossible_configuration(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(HomeAgentConfiguration((HOME_LINK,)), **changes)


def test_home_link_of() -> None:
    other = replace(
        HOME_LINK, prefix=IPv6Network("2001:db8:9::/64"), home_agent_address=IPv6Address("2001:db8:9::1"), index=2
    )
    configuration = HomeAgentConfiguration((other, HOME_LINK))
    assert configuration.home_link_of(HOME_ADDRESS) is HOME_LINK
    assert configuration.home_link_of(IPv6Address("2001:db8:9::7")) is other
    assert configuration.home_link_of(IPv6Address("2001:db8:8::7")) is None
