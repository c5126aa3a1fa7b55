# SPDX-License-Identifier: Apache-2.0
"""Who a mobile node is and who serves it, as the protocol needs it. Reads no file: the service does."""

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from control.binding.configuration import MAXIMUM_LIFETIME_S

LEAST_LIFETIME_S = 4
"""One unit of the wire's: 0 would de-register."""


def modified_eui_64(mac: bytes) -> bytes:
    """The interface identifier of an Ethernet interface (RFC 2464 section 4)."""
    return bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]


@dataclass(frozen=True, slots=True)
class MobileNodeConfiguration:
    """One home address on one interface."""

    home_address: IPv6Address
    home_agent_address: IPv6Address
    home_prefix: IPv6Network
    interface: str
    mac: bytes
    lifetime_s: int = 600
    "Asked for; what is granted may be less."
    interface_identifier: bytes = b""
    "Of the link-local address and of care-of addresses, 8 octets; by default made from the MAC address."

    def __post_init__(self) -> None:
        if self.home_address not in self.home_prefix:
            raise ValueError(f"home address {self.home_address} is not within {self.home_prefix}")
        if len(self.mac) != 6:
            raise ValueError(f"a MAC address has 6 octets, not {len(self.mac)}")
        if len(self.interface_identifier) not in (0, 8):
            raise ValueError(f"an interface identifier has 8 octets, not {len(self.interface_identifier)}")
        if not LEAST_LIFETIME_S <= self.lifetime_s <= MAXIMUM_LIFETIME_S:
            raise ValueError(f"lifetime_s {self.lifetime_s} is not within {LEAST_LIFETIME_S}..{MAXIMUM_LIFETIME_S}")

    @property
    def effective_interface_identifier(self) -> bytes:
        """The one given, or that of the MAC address."""
        return self.interface_identifier or modified_eui_64(self.mac)

    @property
    def is_link_local_compatible(self) -> bool:
        """The L bit: the link-local address has the home address's interface identifier."""
        return self.home_address.packed[8:] == self.effective_interface_identifier
