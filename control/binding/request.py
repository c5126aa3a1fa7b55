# SPDX-License-Identifier: Apache-2.0
"""A Binding Update that came protected and well formed, as the registration machine takes it in, and its answer."""

from dataclasses import dataclass
from ipaddress import IPv6Address

from control.wire.mobility import BindingStatus


@dataclass(frozen=True, slots=True)
class ReplyPath:
    """Where the acknowledgement goes: back where the Binding Update came from (RFC 6275 section 9.5.4)."""

    home_agent_address: IPv6Address
    "The Binding Update's destination, and the acknowledgement's source."
    destination: IPv6Address
    "The Binding Update's IPv6 source, whatever care-of address it names."
    interface: str
    "Where the frame came by."
    link_layer_address: bytes
    "Source MAC address of the frame."
    own_link_layer_address: bytes
    vlan_tags: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BindingRequest:
    """What the mobile node asks for."""

    home_address: IPv6Address
    care_of_address: IPv6Address
    sequence: int
    lifetime_units: int
    is_home_registration: bool
    "The H bit."
    link_local_compatible: bool
    "The L bit."
    sequence_is_only_guard: bool
    "ESP keeps no replay window for this mobile node: an old Binding Update is told by its sequence number alone."
    reply_path: ReplyPath

    @property
    def is_deregistration(self) -> bool:
        """A lifetime of 0, or the home address as care-of address, takes the binding back (RFC 6275 section 9.5.1)."""
        return self.lifetime_units == 0 or self.care_of_address == self.home_address


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What the mobile node is told."""

    request: BindingRequest
    status: BindingStatus
    sequence: int
    lifetime_units: int = 0
    refresh_interval_units: int | None = None
