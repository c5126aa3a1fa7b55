# SPDX-License-Identifier: Apache-2.0
"""Which care-of addresses a home agent takes (RFC 6275 section 6.1.7), and which would send packets in circles."""

from ipaddress import IPv6Address

from control.binding.cache import BindingCache
from control.binding.configuration import HomeAgentConfiguration
from control.binding.refusal import Refusal
from control.wire.mobility import BindingStatus


def leads_back(care_of_address: IPv6Address, configuration: HomeAgentConfiguration, cache: BindingCache) -> bool:
    """True where tunnelled packets would come back to the home agent: its own address, or an absent node's."""
    return care_of_address in cache or any(
        care_of_address == home_link.home_agent_address for home_link in configuration.home_links
    )


def check_policy(care_of_address: IPv6Address, configuration: HomeAgentConfiguration) -> None:
    """Refuse care-of addresses that are no foreign ones, or not where the operator lets mobile nodes roam."""
    # An address of a home prefix may become another mobile node's home address, and the binding a circle, later.
    if configuration.home_link_of(care_of_address) is not None:
        raise Refusal(BindingStatus.INVALID_CARE_OF_ADDRESS)
    allowed = configuration.allowed_care_of_prefixes
    if allowed and not any(care_of_address in prefix for prefix in allowed):
        raise Refusal(BindingStatus.ADMINISTRATIVELY_PROHIBITED)
