# SPDX-License-Identifier: Apache-2.0
"""Which link a mobile node believes to be on, by what routers say (RFC 6275 section 11.5.1)."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from typing import Any

import pytest

from control.binding.movement import Movement, Observation
from control.wire.neighbor import (
    INFINITE_LIFETIME_S,
    AdvertisementInterval,
    NeighborOption,
    PrefixInformation,
    RouterAdvertisement,
    SourceLinkLayerAddress,
)

HOME_PREFIX = IPv6Network("2001:db8:1::/64")
HOME_AGENT = IPv6Address("2001:db8:1::1")
ROUTER = IPv6Address("fe80::1")
OTHER_ROUTER = IPv6Address("fe80::2")
MAC = b"\2\0\0\0\0\1"
OTHER_MAC = b"\2\0\0\0\0\2"
MILLISECOND = 1_000_000
NOW = 10**12


def prefix(text: str = "2001:db8:2::", **changes: Any) -> PrefixInformation:
    values: dict[str, Any] = {
        "prefix": IPv6Address(text),
        "prefix_length": 64,
        "on_link": True,
        "autonomous": True,
        "router_address": False,
        "valid_lifetime_s": 7200,
        "preferred_lifetime_s": 3600,
    }
    return PrefixInformation(**(values | changes))


def advertisement(
    *prefixes: PrefixInformation, lifetime_s: int = 1800, mac: bytes | None = MAC, interval_ms: int | None = 70
) -> RouterAdvertisement:
    options: list[NeighborOption] = list(prefixes)
    if mac is not None:
        options.append(SourceLinkLayerAddress(mac))
    if interval_ms is not None:
        options.append(AdvertisementInterval(interval_ms))
    return RouterAdvertisement(router_lifetime_s=lifetime_s, options=tuple(options))


FOREIGN = advertisement(prefix())
OTHER_FOREIGN = advertisement(prefix("2001:db8:3::"), mac=OTHER_MAC)
AT_HOME = advertisement(prefix("2001:db8:1::"))


@pytest.fixture
def movement() -> Movement:
    return Movement(HOME_PREFIX, HOME_AGENT)


def test_the_first_router_says_where_the_node_is(movement: Movement) -> None:
    assert movement.observe(FOREIGN, ROUTER, NOW) is Observation.MOVED
    attachment = movement.attachment
    assert attachment is not None
    assert (attachment.prefix, attachment.is_home) == (IPv6Network("2001:db8:2::/64"), False)
    assert (attachment.router, attachment.router_mac) == (ROUTER, MAC)
    assert (attachment.router_lifetime_s, attachment.valid_lifetime_s) == (1800, 7200)
    assert movement.observe(FOREIGN, ROUTER, NOW + 50 * MILLISECOND) is Observation.CONFIRMED


def test_the_home_prefix_means_home_at_once(movement: Movement) -> None:
    movement.observe(FOREIGN, ROUTER, NOW)
    assert movement.observe(AT_HOME, OTHER_ROUTER, NOW + 1) is Observation.MOVED
    assert movement.attachment is not None
    assert movement.attachment.is_home


def test_the_home_prefix_wins_over_others_in_the_same_advertisement(movement: Movement) -> None:
    for both in ((prefix("2001:db8:1::"), prefix()), (prefix(), prefix("2001:db8:1::"))):
        movement.leave()
        movement.observe(advertisement(*both), ROUTER, NOW)
        assert movement.attachment is not None
        assert movement.attachment.is_home


def test_a_second_router_moves_nothing_while_the_first_is_heard(movement: Movement) -> None:
    movement.observe(FOREIGN, ROUTER, NOW)
    assert movement.observe(OTHER_FOREIGN, OTHER_ROUTER, NOW + 210 * MILLISECOND) is Observation.IGNORED
    movement.observe(AT_HOME, ROUTER, NOW)
    assert movement.observe(OTHER_FOREIGN, OTHER_ROUTER, NOW + 210 * MILLISECOND) is Observation.IGNORED


def test_a_router_that_has_missed_three_of_its_advertisements_is_gone(movement: Movement) -> None:
    movement.observe(FOREIGN, ROUTER, NOW)
    assert movement.observe(OTHER_FOREIGN, OTHER_ROUTER, NOW + 211 * MILLISECOND) is Observation.MOVED


def test_without_the_interval_option_the_longest_gap_seen_counts(movement: Movement) -> None:
    silent = advertisement(prefix(), interval_ms=None)
    for at in (0, 40, 140, 180):
        movement.observe(silent, ROUTER, NOW + at * MILLISECOND)
    assert movement.observe(OTHER_FOREIGN, OTHER_ROUTER, NOW + 480 * MILLISECOND) is Observation.IGNORED
    assert movement.observe(OTHER_FOREIGN, OTHER_ROUTER, NOW + 481 * MILLISECOND) is Observation.MOVED


def test_a_router_heard_once_counts_for_its_lifetime(movement: Movement) -> None:
    movement.observe(advertisement(prefix(), lifetime_s=10, interval_ms=0), ROUTER, NOW)
    assert movement.observe(OTHER_FOREIGN, OTHER_ROUTER, NOW + 9_999 * MILLISECOND) is Observation.IGNORED
    assert movement.observe(OTHER_FOREIGN, OTHER_ROUTER, NOW + 10_000 * MILLISECOND) is Observation.MOVED


def test_after_a_loss_of_the_carrier_whoever_is_heard_first_decides(movement: Movement) -> None:
    movement.observe(FOREIGN, ROUTER, NOW)
    movement.link_changed()
    assert movement.observe(OTHER_FOREIGN, OTHER_ROUTER, NOW + 1) is Observation.MOVED
    movement.link_changed()
    # The same link again: to be set up again, for the kernel has forgotten its neighbors.
    assert movement.observe(OTHER_FOREIGN, OTHER_ROUTER, NOW + 2) is Observation.MOVED


def test_what_is_left_is_forgotten(movement: Movement) -> None:
    movement.observe(FOREIGN, ROUTER, NOW)
    movement.leave()
    assert movement.attachment is None
    assert movement.observe(OTHER_FOREIGN, OTHER_ROUTER, NOW) is Observation.MOVED


def test_another_router_of_the_same_prefix_takes_over_when_the_first_is_gone(movement: Movement) -> None:
    movement.observe(FOREIGN, ROUTER, NOW)
    twin = advertisement(prefix(), mac=OTHER_MAC)
    assert movement.observe(twin, OTHER_ROUTER, NOW + 210 * MILLISECOND) is Observation.IGNORED
    assert movement.observe(twin, OTHER_ROUTER, NOW + 211 * MILLISECOND) is Observation.ROUTER_CHANGED
    assert movement.attachment is not None
    assert (movement.attachment.router, movement.attachment.router_mac) == (OTHER_ROUTER, OTHER_MAC)


def test_a_router_with_another_mac_address_has_changed(movement: Movement) -> None:
    movement.observe(FOREIGN, ROUTER, NOW)
    assert movement.observe(advertisement(prefix(), mac=OTHER_MAC), ROUTER, NOW) is Observation.ROUTER_CHANGED


def test_an_advertisement_without_a_mac_address_takes_nothing_back(movement: Movement) -> None:
    movement.observe(FOREIGN, ROUTER, NOW)
    assert movement.observe(advertisement(prefix(), mac=None), ROUTER, NOW) is Observation.CONFIRMED
    assert movement.attachment is not None
    assert movement.attachment.router_mac == MAC


def test_at_home_a_default_router_takes_the_place_of_one_that_is_none(movement: Movement) -> None:
    movement.observe(advertisement(prefix("2001:db8:1::"), lifetime_s=0), ROUTER, NOW)
    assert movement.attachment is not None
    assert movement.attachment.default_router is None
    assert movement.observe(AT_HOME, OTHER_ROUTER, NOW + 1) is Observation.ROUTER_CHANGED
    assert movement.attachment.default_router == OTHER_ROUTER
    none = advertisement(prefix("2001:db8:1::"), lifetime_s=0)
    assert movement.observe(none, ROUTER, NOW + 2) is Observation.IGNORED
    assert movement.observe(none, OTHER_ROUTER, NOW + 3) is Observation.ROUTER_CHANGED


def test_the_home_agents_own_advertisement_tells_its_mac_address(movement: Movement) -> None:
    own = advertisement(prefix(str(HOME_AGENT), router_address=True, on_link=False), mac=OTHER_MAC, lifetime_s=0)
    movement.observe(AT_HOME, ROUTER, NOW)
    assert movement.attachment is not None
    assert movement.attachment.home_agent_mac is None
    assert movement.observe(own, OTHER_ROUTER, NOW + 1) is Observation.IGNORED
    assert movement.attachment.home_agent_mac == OTHER_MAC
    assert movement.observe(own, OTHER_ROUTER, NOW + 2) is Observation.IGNORED
    # It stays known when the other router speaks, and when another one takes over.
    movement.observe(AT_HOME, ROUTER, NOW + 3)
    assert movement.attachment.home_agent_mac == OTHER_MAC
    third = IPv6Address("fe80::3")
    assert movement.observe(AT_HOME, third, NOW + 999 * MILLISECOND) is Observation.ROUTER_CHANGED
    assert movement.attachment.home_agent_mac == OTHER_MAC


def test_another_routers_address_is_not_the_home_agents(movement: Movement) -> None:
    movement.observe(advertisement(prefix("2001:db8:1::9", router_address=True)), ROUTER, NOW)
    assert movement.attachment is not None
    assert movement.attachment.prefix == HOME_PREFIX
    assert movement.attachment.home_agent_mac is None


@pytest.mark.parametrize(
    "useless",
    [
        advertisement(),
        advertisement(prefix(), lifetime_s=0),
        advertisement(prefix(prefix_length=56)),
        advertisement(prefix(autonomous=False)),
        advertisement(prefix(valid_lifetime_s=0, preferred_lifetime_s=0)),
        advertisement(prefix(preferred_lifetime_s=7201)),
        advertisement(prefix("fe80::")),
        advertisement(prefix("ff02::")),
        # Neither on-link nor a router's address: not the home link.
        advertisement(prefix("2001:db8:1::", on_link=False)),
    ],
)
def test_what_offers_nothing_is_ignored(movement: Movement, useless: RouterAdvertisement) -> None:
    assert movement.observe(useless, ROUTER, NOW) is Observation.IGNORED
    assert movement.attachment is None


def chosen(movement: Movement, *prefixes: PrefixInformation) -> str:
    movement.observe(advertisement(*prefixes), ROUTER, NOW)
    assert movement.attachment is not None
    return str(movement.attachment.prefix.network_address)


def test_of_two_prefixes_the_first_that_is_not_deprecated_is_taken(movement: Movement) -> None:
    deprecated = prefix("2001:db8:4::", preferred_lifetime_s=0)
    assert chosen(movement, deprecated, prefix("2001:db8:5::"), prefix("2001:db8:6::")) == "2001:db8:5::"


def test_of_two_prefixes_the_one_in_use_stays(movement: Movement) -> None:
    assert chosen(movement, prefix("2001:db8:5::")) == "2001:db8:5::"
    assert chosen(movement, prefix("2001:db8:6::"), prefix("2001:db8:5::")) == "2001:db8:5::"
    assert chosen(movement, prefix("2001:db8:5::"), prefix("2001:db8:6::")) == "2001:db8:5::"


def test_a_prefix_may_be_valid_for_ever(movement: Movement) -> None:
    movement.observe(advertisement(prefix(valid_lifetime_s=INFINITE_LIFETIME_S)), ROUTER, NOW)
    assert movement.attachment is not None
    assert movement.attachment.valid_lifetime_s is None
