# SPDX-License-Identifier: Apache-2.0
"""Care-of addresses that are refused, and those that lead back."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest

from control.binding.cache import BindingCache
from control.binding.care_of_address import check_policy, leads_back
from control.binding.configuration import HomeAgentConfiguration
from control.binding.refusal import Refusal
from tests.unit.binding.machine import CARE_OF_ADDRESS, HOME_AGENT_ADDRESS, HOME_LINK
from tests.unit.binding.test_cache import entry

CONFIGURATION = HomeAgentConfiguration(
    (HOME_LINK,), allowed_care_of_prefixes=(IPv6Network("2001:db8:7::/48"), IPv6Network("2001:db8:2::/64"))
)


def test_leads_back() -> None:
    cache = BindingCache()
    bound = HOME_LINK.prefix[7]
    assert not leads_back(bound, CONFIGURATION, cache)
    cache.put(entry(bound))
    assert leads_back(bound, CONFIGURATION, cache)
    assert leads_back(HOME_AGENT_ADDRESS, CONFIGURATION, cache)
    assert not leads_back(CARE_OF_ADDRESS, CONFIGURATION, cache)


@pytest.mark.parametrize(
    ("care_of_address", "status"),
    [("2001:db8:1::77", 174), ("2001:db8:3::1", 129), ("2001:db8:2:1::1", 129)],
)
def test_refused(care_of_address: str, status: int) -> None:
    with pytest.raises(Refusal) as refusal:
        check_policy(IPv6Address(care_of_address), CONFIGURATION)
    assert refusal.value.status == status
    assert refusal.value.last_sequence is None


def test_allowed() -> None:
    check_policy(CARE_OF_ADDRESS, CONFIGURATION)
    check_policy(IPv6Address("2001:db8:7:ffff::1"), CONFIGURATION)
    check_policy(IPv6Address("2001:db8:3::1"), HomeAgentConfiguration((HOME_LINK,)))
