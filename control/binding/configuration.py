# SPDX-License-Identifier: Apache-2.0
"""What an operator decides about registrations, as the protocol needs it. Reads no file: the service does."""

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from control.binding.home_link import HomeLink
from control.wire.mobility_options import LIFETIME_UNIT_S

MAXIMUM_LIFETIME_S = 0xFFFF * LIFETIME_UNIT_S
"""The longest lifetime that a Binding Acknowledgement can carry."""


@dataclass(frozen=True, slots=True)
class HomeAgentConfiguration:
    """Home links, limits and policy of one home agent."""

    home_links: tuple[HomeLink, ...]
    maximum_bindings: int = 100_000
    "Bindings, and registrations on their way to becoming one; status 130 for a new one beyond."
    maximum_lifetime_s: int = 3600
    maximum_detections: int = 4096
    "Home addresses under duplicate address detection at one time; status 130 beyond."
    dad_transmits: int = 1
    "DupAddrDetectTransmits of RFC 4862 section 5.1."
    announcements: int = 3
    "Unsolicited Neighbor Advertisements for a new binding, MAX_NEIGHBOR_ADVERTISEMENT at most."
    allowed_care_of_prefixes: tuple[IPv6Network, ...] = ()
    "Where mobile nodes may roam; status 129 elsewhere. Empty: anywhere."
    refresh_interval_s: int | None = None
    "Advised where it is shorter than the lifetime. None: no advice, as is right for bindings that are kept on disk."
    errors_per_s: int = 10
    "Binding Errors and ICMPv6 errors sent at most, together, on average and at once."

    def __post_init__(self) -> None:
        if not LIFETIME_UNIT_S <= self.maximum_lifetime_s <= MAXIMUM_LIFETIME_S:
            raise ValueError(
                f"maximum_lifetime_s {self.maximum_lifetime_s} is not within {LIFETIME_UNIT_S}..{MAXIMUM_LIFETIME_S}"
            )
        if not 1 <= self.announcements <= 3:
            raise ValueError(f"announcements {self.announcements} is not within 1..3 (MAX_NEIGHBOR_ADVERTISEMENT)")
        for name in ("maximum_bindings", "maximum_detections", "dad_transmits", "errors_per_s"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is less than 1")

    def home_link_of(self, home_address: IPv6Address) -> HomeLink | None:
        """The home link whose prefix `home_address` is within."""
        for home_link in self.home_links:
            if home_address in home_link.prefix:
                return home_link
        return None
