# SPDX-License-Identifier: Apache-2.0
"""RFC 6275 section 10.3.1: what bounds a lifetime, and when the acknowledgement says status 1."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control.binding.lifetime import grant_lifetime
from control.binding.refusal import Refusal
from control.wire.mobility import BindingStatus
from tests.unit.binding.machine import HOME_LINK, SECOND_NS

NOW = 1000 * SECOND_NS


@pytest.mark.parametrize(
    ("requested_units", "maximum_s", "valid_s", "preferred_s", "granted_units", "status"),
    [
        (15, 3600, None, None, 15, 0),
        (0xFFFF, 3600, None, None, 900, 0),
        (0xFFFF, 3603, None, None, 900, 0),
        (0xFFFF, 0xFFFF * 4, None, None, 0xFFFF, 0),
        # The prefix outlives the binding by less than a unit: to the protocol they end together.
        (15, 3600, 60, None, 15, 1),
        (15, 3600, 63, None, 15, 1),
        (15, 3600, 64, None, 15, 0),
        # The prefix ends first.
        (15, 3600, 59, None, 14, 1),
        (15, 3600, 4, None, 1, 1),
        # A deprecated prefix, or one to be, shortens nothing.
        (15, 3600, None, 0, 15, 1),
        (15, 3600, None, 59, 15, 1),
        (15, 3600, None, 60, 15, 0),
        (15, 3600, 1000, 30, 15, 1),
        # It counts what is granted, not what was asked for.
        (0xFFFF, 40, None, 60, 10, 0),
    ],
)
def test_grant(
    requested_units: int,
    maximum_s: int,
    valid_s: int | None,
    preferred_s: int | None,
    granted_units: int,
    status: int,
) -> None:
    link = replace(
        HOME_LINK,
        valid_until_ns=None if valid_s is None else NOW + valid_s * SECOND_NS,
        preferred_until_ns=None if preferred_s is None else NOW + preferred_s * SECOND_NS,
    )
    grant = grant_lifetime(requested_units, maximum_s, link, NOW)
    assert (grant.lifetime_units, grant.status) == (granted_units, status)


@pytest.mark.parametrize("valid_s", [3, 0, -100])
def test_prefix_that_is_not_valid_is_no_home_subnet(valid_s: int) -> None:
    with pytest.raises(Refusal) as refusal:
        grant_lifetime(15, 3600, replace(HOME_LINK, valid_until_ns=NOW + valid_s * SECOND_NS), NOW)
    assert refusal.value.status is BindingStatus.NOT_HOME_SUBNET
