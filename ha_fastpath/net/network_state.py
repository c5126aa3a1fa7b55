# SPDX-License-Identifier: Apache-2.0
"""Links, routes and neighbors of this network namespace as plain data, and what happens to them.

Made by netlink.py, used by whoever must not know of netlink. Nothing is kept here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv6Address, IPv6Network


class NeighborState(Enum):
    """NUD_* of linux/neighbour.h, as far as RFC 4861 section 7.3.2 and the kernel tell them apart."""

    INCOMPLETE = 0x01
    REACHABLE = 0x02
    STALE = 0x04
    DELAY = 0x08
    PROBE = 0x10
    FAILED = 0x20
    NO_ARP = 0x40
    PERMANENT = 0x80
    NONE = 0x00

    @property
    def is_usable(self) -> bool:
        """Whether packets may be sent to the link-layer address that is known."""
        return self in _USABLE


_USABLE = frozenset(
    {
        NeighborState.REACHABLE,
        NeighborState.STALE,
        NeighborState.DELAY,
        NeighborState.PROBE,
        NeighborState.PERMANENT,
    }
)


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface."""

    index: int
    name: str
    mac: bytes
    "6 octets; empty where the interface has no such address."
    mtu: int
    is_up: bool
    "Set up by the operator."
    has_carrier: bool


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where a route leads."""

    interface_index: int
    gateway: IPv6Address | None
    "None: the destination itself is on the link."


@dataclass(frozen=True, slots=True)
class Route:
    """A unicast route of the main table; several next hops share the traffic. None: it refuses packets."""

    prefix: IPv6Network
    metric: int
    next_hops: tuple[NextHop, ...]


@dataclass(frozen=True, slots=True)
class Neighbor:
    """An entry of the kernel's neighbor cache."""

    interface_index: int
    address: IPv6Address
    mac: bytes
    "Empty while it is not known."
    state: NeighborState


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """A link came, or is different now."""

    link: Link


@dataclass(frozen=True, slots=True)
class LinkRemoved:
    """A link is gone."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class RouteAdded:
    """A route came."""

    route: Route
    replaces: bool
    "In place of what its prefix and metric had; otherwise its next hops are added to those."


@dataclass(frozen=True, slots=True)
class RouteRemoved:
    """These next hops of a prefix and metric are gone."""

    route: Route


@dataclass(frozen=True, slots=True)
class NeighborChanged:
    """A neighbor came, or is different now."""

    neighbor: Neighbor


@dataclass(frozen=True, slots=True)
class NeighborRemoved:
    """A neighbor was forgotten."""

    interface_index: int
    address: IPv6Address


@dataclass(frozen=True, slots=True)
class EventsLost:
    """The kernel had more to tell than its buffer holds: what is known may be wrong, and must be asked for anew."""


NetworkEvent = LinkChanged | LinkRemoved | RouteAdded | RouteRemoved | NeighborChanged | NeighborRemoved | EventsLost


@dataclass(frozen=True, slots=True)
class NetworkState:
    """All of it at one time."""

    links: tuple[Link, ...]
    routes: tuple[Route, ...]
    neighbors: tuple[Neighbor, ...]
