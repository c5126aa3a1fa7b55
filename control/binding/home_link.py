# SPDX-License-Identifier: Apache-2.0
"""A home link as the home agent knows it: its prefix, the home agent's address on it, and its timers.

RFC 6275 sections 10.1 and 10.3.1. Does not read the link's state: the service builds one of these from configuration
and netlink.
"""

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

VIRTUAL_HOME_LINK = 0
"""The index of a home link that is no physical one: nothing is solicited, advertised or defended on it."""

_LINK_LOCAL_PREFIX = 0xFE80 << 112
_INTERFACE_IDENTIFIER_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class HomeLink:
    """One home prefix and the interface that leads to it."""

    index: int
    "Index into the data path's home_links map; 0: a virtual home link."
    interface: str
    "Name of the interface; empty for a virtual home link."
    prefix: IPv6Network
    "Always of 64 bits."
    home_agent_address: IPv6Address
    mac: bytes
    "The home agent's MAC address on the link, 6 octets."
    dad_retransmit_timer_ms: int = 1000
    "RetransTimer of RFC 4861, which duplicate address detection waits for after each solicitation."
    valid_until_ns: int | None = None
    "CLOCK_MONOTONIC instant at which the prefix stops being valid; None: never."
    preferred_until_ns: int | None = None
    "CLOCK_MONOTONIC instant at which the prefix becomes deprecated; None: never."

    def __post_init__(self) -> None:
        if self.prefix.prefixlen != 64:
            raise ValueError(f"home prefix {self.prefix} has {self.prefix.prefixlen} bits; it must have 64")
        if self.home_agent_address not in self.prefix:
            raise ValueError(f"home agent address {self.home_agent_address} is not within {self.prefix}")
        if self.dad_retransmit_timer_ms < 1:
            raise ValueError(f"dad_retransmit_timer_ms {self.dad_retransmit_timer_ms} is less than 1")

    @property
    def is_virtual(self) -> bool:
        """True where there is no link to do neighbor discovery on."""
        return self.index == VIRTUAL_HOME_LINK


def link_local_address(home_address: IPv6Address) -> IPv6Address:
    """The link-local address with the home address's interface identifier, which the L bit asks to defend as well."""
    return IPv6Address(_LINK_LOCAL_PREFIX | int(home_address) & _INTERFACE_IDENTIFIER_MASK)
