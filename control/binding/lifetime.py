# SPDX-License-Identifier: Apache-2.0
"""How long a binding is granted for (RFC 6275 section 10.3.1), in the wire's units of 4 s.

Lifetimes are compared in whole units: the two least significant bits of a prefix's remaining seconds are ignored.
"""

from dataclasses import dataclass

from control.binding.home_link import HomeLink
from control.binding.refusal import Refusal
from control.wire.mobility import BindingStatus
from control.wire.mobility_options import LIFETIME_UNIT_S

UNIT_NS = LIFETIME_UNIT_S * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Grant:
    """A lifetime, and how the acknowledgement names it."""

    lifetime_units: int
    status: BindingStatus


def grant_lifetime(requested_units: int, maximum_lifetime_s: int, home_link: HomeLink, now: int) -> Grant:
    """The shortest of what was asked, what the operator allows and what is left of the prefix."""
    valid_units = _units_until(home_link.valid_until_ns, now)
    if valid_units == 0:
        raise Refusal(BindingStatus.NOT_HOME_SUBNET)
    granted = min(requested_units, maximum_lifetime_s // LIFETIME_UNIT_S)
    status = BindingStatus.ACCEPTED
    if valid_units is not None and valid_units <= granted:
        granted = valid_units
        status = BindingStatus.ACCEPTED_BUT_PREFIX_DISCOVERY_NECESSARY
    # The remaining preferred lifetime never shortens the binding: it only tells the mobile node to look for prefixes.
    preferred_units = _units_until(home_link.preferred_until_ns, now)
    if preferred_units is not None and preferred_units < granted:
        status = BindingStatus.ACCEPTED_BUT_PREFIX_DISCOVERY_NECESSARY
    return Grant(granted, status)


def _units_until(instant_ns: int | None, now: int) -> int | None:
    return None if instant_ns is None else max(0, instant_ns - now) // UNIT_NS
