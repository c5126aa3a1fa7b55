# SPDX-License-Identifier: Apache-2.0
"""What the home agent tells of: what happened to bindings, and why signalling was dropped or refused.

Nothing depends on an event being read. `SignallingReason` names the counters, one for every way a frame can end.
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address

from control.binding.cache import BindingCacheEntry


class SignallingReason(StrEnum):
    """Why the processing of a frame ended where it did; each value is a counter's name."""

    # Accepted.
    REGISTERED = "registered"
    REFRESHED = "refreshed"
    MOVED = "moved"
    DEREGISTERED = "deregistered"
    # Taken in, and nothing else to be done.
    DETECTION_STARTED = "detection_started"
    DETECTION_UNDERWAY = "detection_underway"
    WRITE_UNDERWAY = "write_underway"
    DETECTION_CONFLICT = "detection_conflict"
    NEIGHBOR_DISCOVERY_IGNORED = "neighbor_discovery_ignored"
    # Refused, by the status of the acknowledgement.
    REFUSED_UNSPECIFIED = "refused_unspecified"
    REFUSED_PROHIBITED = "refused_prohibited"
    REFUSED_RESOURCES = "refused_resources"
    REFUSED_NOT_HOME_SUBNET = "refused_not_home_subnet"
    REFUSED_NOT_HOME_AGENT = "refused_not_home_agent"
    REFUSED_DUPLICATE_ADDRESS = "refused_duplicate_address"
    REFUSED_SEQUENCE = "refused_sequence"
    REFUSED_TYPE_CHANGE = "refused_type_change"
    REFUSED_CARE_OF_ADDRESS = "refused_care_of_address"
    # Dropped: not ours, or not protected as it must be.
    NOT_IPV6 = "not_ipv6"
    NOT_FOR_US = "not_for_us"
    OWN_FRAME = "own_frame"
    UNPROTECTED = "unprotected"
    UNKNOWN_SPI = "unknown_spi"
    ESP_TRUNCATED = "esp_truncated"
    ESP_REPLAYED = "esp_replayed"
    ESP_INTEGRITY = "esp_integrity"
    ESP_PADDING = "esp_padding"
    WRONG_HOME_ADDRESS = "wrong_home_address"
    NOT_MOBILITY_HEADER = "not_mobility_header"
    NO_ACKNOWLEDGEMENT_ASSOCIATION = "no_acknowledgement_association"
    SEQUENCE_NUMBERS_EXHAUSTED = "sequence_numbers_exhausted"
    # Dropped: malformed.
    TRUNCATED = "truncated"
    CHECKSUM = "checksum"
    PAYLOAD_PROTO = "payload_proto"
    HEADER_LENGTH = "header_length"
    MALFORMED_HEADER = "malformed_header"
    MALFORMED_OPTION = "malformed_option"
    MALFORMED_NEIGHBOR_DISCOVERY = "malformed_neighbor_discovery"
    # Dropped: well formed, and nothing that is served here.
    UNKNOWN_MOBILITY_TYPE = "unknown_mobility_type"
    MOBILITY_MESSAGE_NOT_SERVED = "mobility_message_not_served"
    NOT_HOME_REGISTRATION = "not_home_registration"
    NONCE_INDICES = "nonce_indices"
    HOME_ADDRESS_WITHOUT_BINDING = "home_address_without_binding"
    HOME_ADDRESS_OPTION_NOT_SERVED = "home_address_option_not_served"
    HOME_ADDRESS_NOT_ROUTABLE = "home_address_not_routable"
    CARE_OF_ADDRESS_NOT_ROUTABLE = "care_of_address_not_routable"
    CARE_OF_ADDRESS_LOOPS = "care_of_address_loops"
    # Errors that were not sent, since too many were.
    ERROR_RATE_LIMITED = "error_rate_limited"


@dataclass(frozen=True, slots=True)
class BindingRegistered:
    """A first registration is in the data path."""

    entry: BindingCacheEntry


@dataclass(frozen=True, slots=True)
class BindingMoved:
    """The mobile node is at another care-of address."""

    entry: BindingCacheEntry
    previous_care_of_address: IPv6Address


@dataclass(frozen=True, slots=True)
class BindingRefreshed:
    """The binding goes on, at the same care-of address."""

    entry: BindingCacheEntry


@dataclass(frozen=True, slots=True)
class BindingDeregistered:
    """The mobile node has taken its binding back."""

    entry: BindingCacheEntry


@dataclass(frozen=True, slots=True)
class BindingExpired:
    """The binding's lifetime ended without a refresh."""

    entry: BindingCacheEntry


@dataclass(frozen=True, slots=True)
class RegistrationRefused:
    """A protected Binding Update was answered with a status of 128 or more."""

    home_address: IPv6Address
    care_of_address: IPv6Address
    status: int


@dataclass(frozen=True, slots=True)
class DadConflict:
    """Another node on the home link holds, or wants, an address that was to be defended."""

    address: IPv6Address
    home_address: IPv6Address
    interface: str
    link_layer_address: bytes
    "Source MAC address of the frame that told so."


@dataclass(frozen=True, slots=True)
class SignallingDropped:
    """A frame ended without an acknowledgement."""

    reason: SignallingReason
    interface: str


Event = (
    BindingRegistered
    | BindingMoved
    | BindingRefreshed
    | BindingDeregistered
    | BindingExpired
    | RegistrationRefused
    | DadConflict
    | SignallingDropped
)
