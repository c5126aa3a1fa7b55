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

    # What became of bindings.
    REGISTERED = "registered"
    REFRESHED = "refreshed"
    MOVED = "moved"
    DEREGISTERED = "deregistered"
    EXPIRED = "expired"
    # Taken in; the answer comes later, or is on its way.
    DETECTION_STARTED = "detection_started"
    DETECTION_UNDERWAY = "detection_underway"
    WRITE_UNDERWAY = "write_underway"
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
    # Neighbor Discovery for an address under duplicate address detection.
    DETECTION_CONFLICT = "detection_conflict"
    NEIGHBOR_DISCOVERY_IGNORED = "neighbor_discovery_ignored"
    # Dropped: not ours, or no association for it.
    NOT_IPV6 = "not_ipv6"
    OWN_FRAME = "own_frame"
    NOT_FOR_US = "not_for_us"
    NOT_SIGNALLING = "not_signalling"
    FRAGMENT = "fragment"
    UNKNOWN_SPI = "unknown_spi"
    NO_ACKNOWLEDGEMENT_ASSOCIATION = "no_acknowledgement_association"
    # Dropped by policy: the reasons of control.ipsec.policy.
    UNPROTECTED = "unprotected"
    WRONG_HOME_ADDRESS = "wrong_home_address"
    WRONG_PROTOCOL = "wrong_protocol"
    WRONG_PURPOSE = "wrong_purpose"
    # Dropped by ESP: the reasons of control.ipsec.esp, with "esp_" before them.
    ESP_TRUNCATED = "esp_truncated"
    ESP_MISALIGNED = "esp_misaligned"
    ESP_REPLAYED = "esp_replayed"
    ESP_INTEGRITY = "esp_integrity"
    ESP_PADDING = "esp_padding"
    ESP_EXHAUSTED = "esp_exhausted"
    # Dropped as malformed: the reasons of control.wire.errors.
    CHECKSUM = "checksum"
    DUPLICATE_HOME_ADDRESS_OPTION = "duplicate_home_address_option"
    DUPLICATE_ROUTING_HEADER = "duplicate_routing_header"
    HEADER_CHAIN = "header_chain"
    HEADER_LENGTH = "header_length"
    HEADER_ORDER = "header_order"
    ICMPV6_CODE = "icmpv6_code"
    IP_VERSION = "ip_version"
    NEIGHBOR_DISCOVERY = "neighbor_discovery"
    NEIGHBOR_HOP_LIMIT = "neighbor_hop_limit"
    OPTION_ALIGNMENT = "option_alignment"
    OPTION_LENGTH = "option_length"
    OPTION_ORDER = "option_order"
    PAYLOAD_PROTO = "payload_proto"
    ROUTING_HEADER = "routing_header"
    TRUNCATED = "truncated"
    UNRECOGNIZED_OPTION = "unrecognized_option"
    VLAN_TAGS = "vlan_tags"
    # Dropped: well formed, and nothing that is served here.
    UNKNOWN_MOBILITY_TYPE = "unknown_mobility_type"
    MOBILITY_MESSAGE_NOT_SERVED = "mobility_message_not_served"
    NOT_HOME_REGISTRATION = "not_home_registration"
    NONCE_INDICES = "nonce_indices"
    HOME_ADDRESS_WITHOUT_BINDING = "home_address_without_binding"
    HOME_ADDRESS_OPTION_NOT_SERVED = "home_address_option_not_served"
    HOME_ADDRESS_NOT_ROUTABLE = "home_address_not_routable"
    HOME_ADDRESS_IS_HOME_AGENT = "home_address_is_home_agent"
    CARE_OF_ADDRESS_NOT_ROUTABLE = "care_of_address_not_routable"
    CARE_OF_ADDRESS_LOOPS = "care_of_address_loops"
    # Errors sent, and not sent since too many were.
    BINDING_ERROR_SENT = "binding_error_sent"
    PARAMETER_PROBLEM_SENT = "parameter_problem_sent"
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
