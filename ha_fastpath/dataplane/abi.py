# SPDX-License-Identifier: Apache-2.0
"""The mirror of bpf/ha_abi.h: every key, value, enum and limit that the data path shares with Python.

The header is the original. tests/bpf/test_abi.py compares each member's name, offset and size with the BTF of the
compiled header; the loader compares the maps that it finds pinned with `MAPS`. Nothing is computed here.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from ipaddress import IPv6Address

ABI_VERSION = 1


class Limit(IntEnum):
    """enum ha_limit."""

    MAC_LENGTH = 6
    MAX_ADJACENCIES = 1024
    MAX_INTERFACES = 64
    MAX_HOME_LINKS = 16
    MAX_TENTATIVE = 16384
    MAX_HOME_AGENT_ADDRESSES = 64
    MAX_CARE_OF_ADDRESSES = 16


class BindingFlag(IntFlag):
    """enum ha_binding_flag."""

    LINK_LOCAL = 1


class MobileNodeFlag(IntFlag):
    """enum ha_mobile_node_flag."""

    TUNNEL = 1


class Reason(IntEnum):
    """enum ha_reason: what became of a packet; the index into `counters`."""

    FORWARD_TUNNELLED = 0
    FORWARD_REVERSE_TUNNELLED = 1
    FORWARD_TUNNEL_TO_TUNNEL = 2
    FORWARD_SOLICITATION_ANSWERED = 3
    FORWARD_PACKET_TOO_BIG = 4
    STEER_MOBILITY_HEADER = 5
    STEER_ESP = 6
    STEER_HOME_ADDRESS_OPTION = 7
    STEER_TENTATIVE = 8
    PASS_NOT_SERVED = 9
    PASS_NOT_IPV6 = 10
    PASS_NOT_OURS = 11
    PASS_MALFORMED = 12
    PASS_HOP_LIMIT = 13
    PASS_TUNNELLED_NO_NEIGHBOR = 14
    PASS_REVERSE_TUNNELLED = 15
    PASS_SLOW_PATH = 16
    DROP_TUNNEL_SOURCE_NOT_CARE_OF = 17
    DROP_TUNNEL_NO_BINDING = 18
    DROP_TUNNEL_BINDING_EXPIRED = 19
    DROP_TUNNEL_INNER_MALFORMED = 20
    DROP_TUNNEL_INNER_SCOPE = 21
    DROP_TUNNEL_CONGESTION = 22
    DROP_SCOPE = 23
    DROP_NO_TAP = 24
    DROP_NO_PORT = 25
    DROP_TOO_BIG_UNANSWERED = 26
    DROP_ADJUST_FAILED = 27


class HostReason(IntEnum):
    """enum ha_host_reason: what became of a mobile node's packet; the index into `host_counters`."""

    TUNNELLED = 0
    DETUNNELLED = 1
    STEERED_SIGNALLING = 2
    STEERED_ROUTER_ADVERTISEMENT = 3
    STEERED_NEIGHBOR_ADVERTISEMENT = 4
    PASSED_IN = 5
    PASSED_OUT = 6
    DROP_TUNNEL_SOURCE = 7
    DROP_TUNNEL_INNER = 8
    DROP_CONGESTION = 9
    DROP_NO_TAP = 10
    DROP_ADJUST_FAILED = 11


# Network order, as on the wire: `IPv6Address.packed` goes in as it is.
In6Address = ctypes.c_uint8 * 16
MacAddress = ctypes.c_uint8 * Limit.MAC_LENGTH


def in6_address(address: IPv6Address) -> ctypes.Array[ctypes.c_uint8]:
    """The struct in6_addr of an address."""
    return In6Address.from_buffer_copy(address.packed)


def ipv6_address(octets: ctypes.Array[ctypes.c_uint8]) -> IPv6Address:
    """The address that a struct in6_addr holds."""
    return IPv6Address(bytes(octets))


def mac_address(octets: bytes) -> ctypes.Array[ctypes.c_uint8]:
    """The array that holds a MAC address; ValueError for any other length."""
    if len(octets) != Limit.MAC_LENGTH:
        raise ValueError(f"a MAC address has 6 octets, not {len(octets)}")
    return MacAddress.from_buffer_copy(octets)


class HaConfiguration(ctypes.Structure):
    """struct ha_configuration: `.rodata`, written before the program is loaded."""

    _fields_ = (
        ("abi_version", ctypes.c_uint32),
        ("spi_first", ctypes.c_uint32),
        ("spi_last", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )
    abi_version: int
    spi_first: int
    spi_last: int
    reserved: int


class HaBindingKey(ctypes.Structure):
    """struct ha_binding_key."""

    _fields_ = (("home_address", In6Address),)
    home_address: ctypes.Array[ctypes.c_uint8]


class HaBinding(ctypes.Structure):
    """struct ha_binding: all that the data path needs of one binding."""

    _fields_ = (
        ("home_address", In6Address),
        ("care_of_address", In6Address),
        ("home_agent_address", In6Address),
        ("expires_ns", ctypes.c_uint64),
        ("adjacency", ctypes.c_uint32),
        ("home_link", ctypes.c_uint16),
        ("flags", ctypes.c_uint16),
    )
    home_address: ctypes.Array[ctypes.c_uint8]
    care_of_address: ctypes.Array[ctypes.c_uint8]
    home_agent_address: ctypes.Array[ctypes.c_uint8]
    expires_ns: int
    adjacency: int
    home_link: int
    flags: int


class HaAdjacency(ctypes.Structure):
    """struct ha_adjacency: one next hop, ready to be written into a frame."""

    _fields_ = (
        ("interface_index", ctypes.c_uint32),
        ("mtu", ctypes.c_uint32),
        ("destination", MacAddress),
        ("source", MacAddress),
    )
    interface_index: int
    mtu: int
    destination: ctypes.Array[ctypes.c_uint8]
    source: ctypes.Array[ctypes.c_uint8]


class HaInterface(ctypes.Structure):
    """struct ha_interface: an interface that the data path serves."""

    _fields_ = (
        ("mac", MacAddress),
        ("home_link", ctypes.c_uint16),
        ("mtu", ctypes.c_uint32),
    )
    mac: ctypes.Array[ctypes.c_uint8]
    home_link: int
    mtu: int


class HaHomeLink(ctypes.Structure):
    """struct ha_home_link: one home prefix, of 64 bits, and the home agent's address on it."""

    _fields_ = (
        ("prefix", In6Address),
        ("home_agent_address", In6Address),
    )
    prefix: ctypes.Array[ctypes.c_uint8]
    home_agent_address: ctypes.Array[ctypes.c_uint8]


class HaCounter(ctypes.Structure):
    """struct ha_counter, once for each CPU."""

    _fields_ = (
        ("packets", ctypes.c_uint64),
        ("octets", ctypes.c_uint64),
    )
    packets: int
    octets: int


class HaMobileNode(ctypes.Structure):
    """struct ha_mobile_node: where a mobile node's own packets go."""

    _fields_ = (
        ("care_of_address", In6Address),
        ("home_agent_address", In6Address),
        ("spi_first", ctypes.c_uint32),
        ("spi_last", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )
    care_of_address: ctypes.Array[ctypes.c_uint8]
    home_agent_address: ctypes.Array[ctypes.c_uint8]
    spi_first: int
    spi_last: int
    flags: int
    reserved: int


class MapType(IntEnum):
    """enum bpf_map_type of linux/bpf.h, as far as it is used here."""

    HASH = 1
    ARRAY = 2
    PROGRAM_ARRAY = 3
    PER_CPU_ARRAY = 6
    DEVMAP_HASH = 25


MapData = type[ctypes.Structure] | type[ctypes.Array[ctypes.c_uint8]] | type[ctypes.c_uint32]


@dataclass(frozen=True, slots=True)
class MapLayout:
    """What one map holds. How many is the object's to say, or the loader's."""

    type: MapType
    key: MapData
    value: MapData


# Every map that Python reaches, of both objects, by the name that it is pinned by.
MAPS: dict[str, MapLayout] = {
    "bindings": MapLayout(MapType.HASH, HaBindingKey, HaBinding),
    "adjacencies": MapLayout(MapType.HASH, ctypes.c_uint32, HaAdjacency),
    "interfaces": MapLayout(MapType.HASH, ctypes.c_uint32, HaInterface),
    "home_links": MapLayout(MapType.ARRAY, ctypes.c_uint32, HaHomeLink),
    "home_agent_addresses": MapLayout(MapType.HASH, In6Address, ctypes.c_uint32),
    "tentative": MapLayout(MapType.HASH, In6Address, ctypes.c_uint32),
    "taps": MapLayout(MapType.DEVMAP_HASH, ctypes.c_uint32, ctypes.c_uint32),
    "ports": MapLayout(MapType.DEVMAP_HASH, ctypes.c_uint32, ctypes.c_uint32),
    "counters": MapLayout(MapType.PER_CPU_ARRAY, ctypes.c_uint32, HaCounter),
    "mobile_node": MapLayout(MapType.HASH, In6Address, HaMobileNode),
    "care_of_addresses": MapLayout(MapType.HASH, In6Address, In6Address),
    "host_counters": MapLayout(MapType.PER_CPU_ARRAY, ctypes.c_uint32, HaCounter),
}
