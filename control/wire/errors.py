# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with received bytes, and with ourselves.

A `WireError` says where the fault is. Whether anybody is told (RFC 4443 section 3.4, RFC 6275 section 9.2) is decided
by the caller, for only it knows whether the packet was authenticated and how many errors it has sent lately.
"""

from __future__ import annotations

from enum import StrEnum


class MalformedReason(StrEnum):
    """Why bytes were refused; each value is the name of a counter."""

    CHECKSUM = "checksum"
    """The ICMPv6 or Mobility Header checksum does not hold."""
    DUPLICATE_HOME_ADDRESS_OPTION = "duplicate_home_address_option"
    """Two Home Address options in one packet (RFC 6275 section 6.3)."""
    DUPLICATE_ROUTING_HEADER = "duplicate_routing_header"
    """Two type 2 routing headers in one packet (RFC 6275 section 6.4)."""
    HEADER_CHAIN = "header_chain"
    """More extension headers than any honest packet has."""
    HEADER_LENGTH = "header_length"
    """A length field states less than its format needs."""
    HEADER_ORDER = "header_order"
    """Hop-by-Hop Options elsewhere than first (RFC 8200 section 4.1)."""
    ICMPV6_CODE = "icmpv6_code"
    """A message whose code must be 0 has another."""
    IP_VERSION = "ip_version"
    """Not version 6."""
    NEIGHBOR_DISCOVERY = "neighbor_discovery"
    """A rule of RFC 4861 sections 6.1 and 7.1 about addresses, flags and options is broken."""
    NEIGHBOR_HOP_LIMIT = "neighbor_hop_limit"
    """Neighbor Discovery that has crossed a router: hop limit below 255."""
    OPTION_ALIGNMENT = "option_alignment"
    """A mobility option off its alignment (RFC 6275 section 6.2)."""
    OPTION_LENGTH = "option_length"
    """An option that overruns its header, or a known one of another length than its format has."""
    OPTION_ORDER = "option_order"
    """Something after the Binding Authorization Data option (RFC 6275 section 6.2.7)."""
    PAYLOAD_PROTO = "payload_proto"
    """A Mobility Header that is not the last header (RFC 6275 section 9.2)."""
    ROUTING_HEADER = "routing_header"
    """A type 2 routing header of another length than 2, or other segments left than 1 (RFC 6275 section 11.3.3)."""
    TRUNCATED = "truncated"
    """A length field states more than there are octets."""
    UNRECOGNIZED_OPTION = "unrecognized_option"
    """An unknown IPv6 option whose type forbids skipping it (RFC 8200 section 4.2)."""
    VLAN_TAGS = "vlan_tags"
    """More VLAN tags than two."""


class WireError(Exception):
    """Received bytes break their format."""

    __slots__ = ("code", "detail", "pointer", "reason")

    def __init__(self, reason: MalformedReason, detail: str = "", *, pointer: int | None = None, code: int = 0) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        """For a log: offset, announced and available octets."""
        self.pointer = pointer
        """Offset of the octet at fault from the start of what the pull function was given; None where no ICMPv6
        Parameter Problem is due."""
        self.code = code
        """Code of that Parameter Problem (RFC 4443 section 3.4)."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else str(self.reason)


class InvariantError(Exception):
    """A bug of ours, not the peer's."""
