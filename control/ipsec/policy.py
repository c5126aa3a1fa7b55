# SPDX-License-Identifier: Apache-2.0
"""Which message must come under which association, and for whom that association may speak.

The selectors that RFC 4877 section 4 gives the home agent's and the mobile node's policy databases, applied after a
packet was opened (RFC 4301 section 5.2): protocol, Mobility Header type and home address. The home address is what the
Home Address option, the type 2 routing header or, at home, the IPv6 header itself says (RFC 6275 section 5.1). Return
routability messages are the tunnel's matter (RFC 6275 section 10.4.6), and not here.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv6Address

from control.ipsec.association import Purpose, SecurityAssociation
from control.wire.ipv6 import NextHeader
from control.wire.mobility import MobilityHeaderType


class PolicyReason(StrEnum):
    """Why a message may not be acted on, well formed and authentic as it may be."""

    UNPROTECTED = "unprotected"
    """Came in clear, and must not."""
    WRONG_HOME_ADDRESS = "wrong_home_address"
    """One mobile node speaks for another's home address."""
    WRONG_PROTOCOL = "wrong_protocol"
    """Something other than a Mobility Header under a signalling association."""
    WRONG_PURPOSE = "wrong_purpose"
    """A Mobility Header of another type than the association is for."""


class PolicyError(Exception):
    """A message that is to be dropped silently and counted by its reason."""

    def __init__(self, reason: PolicyReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def required_purpose(mobility_header_type: int) -> Purpose | None:
    """What a message between mobile node and home agent has to be protected by; None for any that may be clear."""
    match mobility_header_type:
        case MobilityHeaderType.BINDING_UPDATE:
            return Purpose.BINDING_UPDATE
        case MobilityHeaderType.BINDING_ACKNOWLEDGEMENT:
            return Purpose.BINDING_ACKNOWLEDGEMENT
        case _:
            return None


def check_next_header(next_header: int) -> None:
    """Refuse what an association for signalling never carries, dummy packets (RFC 4303 section 2.6) included."""
    if next_header != NextHeader.MOBILITY:
        raise PolicyError(PolicyReason.WRONG_PROTOCOL)


def check_message(
    association: SecurityAssociation | None, home_address: IPv6Address, mobility_header_type: int
) -> None:
    """Refuse a message whose association, or lack of one, does not entitle it; `association` is what opened it."""
    required = required_purpose(mobility_header_type)
    if association is None:
        if required is not None:
            raise PolicyError(PolicyReason.UNPROTECTED)
        return
    if association.purpose is not required:
        raise PolicyError(PolicyReason.WRONG_PURPOSE)
    if association.home_address != home_address:
        raise PolicyError(PolicyReason.WRONG_HOME_ADDRESS)
