# SPDX-License-Identifier: Apache-2.0
"""What a mobile node asks of the service, what it tells of, and how its frames end.

Effects are executed in the order in which they were taken; none is answered. Nothing depends on an event being read.
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address, IPv6Network

from control.binding.effects import ReserveSequenceNumbers, SendFrame, SendPacket


@dataclass(frozen=True, slots=True)
class ConfigureCareOfAddress:
    """Be on a foreign link: hold `address` there, and send by `router`; may come again for an address that is held.

    The address is used at once, while duplicate address detection is still under way (RFC 4429).
    """

    interface: str
    address: IPv6Address
    prefix_length: int
    router: IPv6Address
    "Link-local."
    router_mac: bytes | None
    "None: to be found by neighbor discovery."
    valid_lifetime_s: int | None
    "None: for ever."


@dataclass(frozen=True, slots=True)
class ReleaseCareOfAddress:
    """Hold the care-of address no more, and accept nothing tunnelled to it."""

    address: IPv6Address


@dataclass(frozen=True, slots=True)
class SetTunnel:
    """Tunnel by `care_of_address` what the home address sends, and take in what is tunnelled to it; None: no tunnel."""

    care_of_address: IPv6Address | None


@dataclass(frozen=True, slots=True)
class AttachHome:
    """Be on the home link: the home prefix is on-link, and the rest is sent by `router`, if there is one."""

    interface: str
    router: IPv6Address | None
    router_mac: bytes | None


@dataclass(frozen=True, slots=True)
class RecordBindingUpdate:
    """Commit to disk that `sequence` was used last, and that a binding may last for `bound_for_s` from now on."""

    home_address: IPv6Address
    care_of_address: IPv6Address
    "The home address where none is bound."
    sequence: int
    bound_for_s: int


MobileNodeEffect = (
    ConfigureCareOfAddress
    | ReleaseCareOfAddress
    | SetTunnel
    | AttachHome
    | RecordBindingUpdate
    | ReserveSequenceNumbers
    | SendFrame
    | SendPacket
)


class Location(StrEnum):
    """Where the mobile node knows itself to be."""

    UNKNOWN = "unknown"
    HOME = "home"
    RETURNING = "returning"
    "On the home link, with a binding that is to be taken back."
    REGISTERING = "registering"
    "On a foreign link, whose care-of address is not acknowledged."
    AWAY = "away"


class MobileNodeReason(StrEnum):
    """Why the processing of a frame, or a sending, ended where it did; each value is a counter's name."""

    # Taken in.
    ROUTER_ADVERTISEMENT = "router_advertisement"
    HOME_AGENT_ADVERTISEMENT = "home_agent_advertisement"
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    SEQUENCE_OUT_OF_WINDOW = "sequence_out_of_window"
    # Well formed, and of no use.
    ROUTER_NOT_USED = "router_not_used"
    NEIGHBOR_DISCOVERY_IGNORED = "neighbor_discovery_ignored"
    NOT_IPV6 = "not_ipv6"
    NOT_FOR_US = "not_for_us"
    NOT_OUTSTANDING = "not_outstanding"
    MOBILITY_MESSAGE_NOT_SERVED = "mobility_message_not_served"
    # Dropped: not protected as it must be, or not for this mobile node.
    UNPROTECTED = "unprotected"
    UNKNOWN_SPI = "unknown_spi"
    WRONG_SOURCE = "wrong_source"
    WRONG_HOME_ADDRESS = "wrong_home_address"
    WRONG_PROTOCOL = "wrong_protocol"
    WRONG_PURPOSE = "wrong_purpose"
    ESP_TRUNCATED = "esp_truncated"
    ESP_MISALIGNED = "esp_misaligned"
    ESP_REPLAYED = "esp_replayed"
    ESP_INTEGRITY = "esp_integrity"
    ESP_PADDING = "esp_padding"
    # Not sent.
    ESP_EXHAUSTED = "esp_exhausted"
    NO_ASSOCIATION = "no_association"


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The interface has no carrier any more."""

    interface: str


@dataclass(frozen=True, slots=True)
class LinkFound:
    """The interface has a carrier again, of whichever link."""

    interface: str


@dataclass(frozen=True, slots=True)
class RouterFound:
    """A router was heard that makes this another link, or the same one with another router."""

    router: IPv6Address
    prefix: IPv6Network
    is_home: bool


@dataclass(frozen=True, slots=True)
class BindingUpdateSent:
    """A Binding Update has left; lifetime 0 de-registers."""

    sequence: int
    care_of_address: IPv6Address
    "The home address in a de-registration."
    lifetime_units: int


@dataclass(frozen=True, slots=True)
class BindingAcknowledged:
    """The home agent has answered; a status of 128 or more is a refusal."""

    status: int
    sequence: int
    lifetime_units: int
    care_of_address: IPv6Address | None
    "None: the answer to a de-registration."


@dataclass(frozen=True, slots=True)
class Away:
    """The home agent forwards to this care-of address."""

    care_of_address: IPv6Address


@dataclass(frozen=True, slots=True)
class Home:
    """On the home link, and no binding is left."""


@dataclass(frozen=True, slots=True)
class BindingLost:
    """The binding ran out before it was refreshed."""


@dataclass(frozen=True, slots=True)
class CareOfAddressConflict:
    """Another node on the foreign link has the care-of address; another one is formed."""

    address: IPv6Address


@dataclass(frozen=True, slots=True)
class SignallingDropped:
    """A frame was not taken in; `reason` is a counter's name."""

    reason: str


MobileNodeEvent = (
    LinkLost
    | LinkFound
    | RouterFound
    | BindingUpdateSent
    | BindingAcknowledged
    | Away
    | Home
    | BindingLost
    | CareOfAddressConflict
    | SignallingDropped
)
