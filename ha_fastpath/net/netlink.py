# SPDX-License-Identifier: Apache-2.0
"""Links, routes and neighbors from the kernel, by pyroute2: asked for all at once, or told as they change.

Always of the network namespace that the calling thread is in. A socket of pyroute2 grows with every request made on it:
the monitor makes none, and whatever asks opens a socket of its own and closes it. None of this is done once per
binding.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv6Address, IPv6Network
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ha_fastpath.net.network_state import (
    EventsLost,
    Link,
    LinkChanged,
    LinkRemoved,
    Neighbor,
    NeighborChanged,
    NeighborRemoved,
    NeighborState,
    NetworkEvent,
    NetworkState,
    NextHop,
    Route,
    RouteAdded,
    RouteRemoved,
)

# linux/rtnetlink.h, asm-generic/socket.h, linux/if.h, linux/neighbour.h, linux/netlink.h
_GROUP_LINK = 0x1
_GROUP_NEIGHBOR = 0x4
_GROUP_IPV6_ROUTE = 0x400
_SO_RCVBUFFORCE = 33
_IFF_UP = 0x1
_IFF_LOWER_UP = 0x10000
_IFF_ALLMULTI = 0x200
_NTF_USE = 0x1
_NTF_PROXY = 0x8
_NLM_F_REPLACE = 0x100
_RTM_F_CLONED = 0x200
_RT_TABLE_MAIN = 254
_RTN_UNICAST = 1
_RTNH_F_DEAD = 0x1

# A burst of routes fits; beyond it the kernel says that events were lost.
_RECEIVE_BUFFER_OCTETS = 8 * 1024 * 1024
_MAC_OCTETS = 6

_log = logging.getLogger(__name__)


class InterfaceMissingError(Exception):
    """There is no interface of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no interface `{name}`; `ip link` lists those that there are")
        self.name = name


def read_links() -> list[Link]:
    """All interfaces."""
    with _requests() as route_socket:
        return [_link(message) for message in route_socket.get_links()]


def find_link(name: str) -> Link:
    """The interface of a name. Raises InterfaceMissingError."""
    for link in read_links():
        if link.name == name:
            return link
    raise InterfaceMissingError(name)


def read_network_state() -> NetworkState:
    """All links, IPv6 routes of the main table and IPv6 neighbors; pyroute2 takes 0.2 ms a route.

    Whoever wants to miss nothing opens a NetworkMonitor before: an event that is in both is harmless.
    """
    with _requests() as route_socket:
        links = tuple(_link(message) for message in route_socket.get_links())
        routes = tuple(_routes(route_socket.get_routes(family=socket.AF_INET6)))
        neighbors = tuple(_neighbors(route_socket.get_neighbours(family=socket.AF_INET6)))
    return NetworkState(links, routes, neighbors)


def set_allmulti(interface_index: int, on: bool) -> None:
    """Have an interface take every multicast frame: a solicitation is sent to the group of its target."""
    with _requests() as route_socket:
        route_socket.link("set", index=interface_index, flags=_IFF_ALLMULTI if on else 0, change=_IFF_ALLMULTI)


def wake_neighbors(neighbors: Iterable[tuple[int, IPv6Address]]) -> None:
    """Have the kernel verify neighbors that it does not see used, by interface index and address (NTF_USE).

    A neighbor whose interface has gone meanwhile is passed over.
    """
    with _requests() as route_socket:
        for interface_index, address in neighbors:
            try:
                route_socket.neigh(
                    "replace",
                    family=socket.AF_INET6,
                    dst=str(address),
                    ifindex=interface_index,
                    state=NeighborState.NONE.value,
                    flags=_NTF_USE,
                )
            except NetlinkError as error:
                if error.code not in (errno.ENODEV, errno.ENETDOWN, errno.EINVAL):
                    raise OSError(error.code, os.strerror(error.code)) from error


class NetworkMonitor:
    """Tells, on an asyncio loop, what happens to links, IPv6 routes and neighbors.

    Hears from `__init__` on, delivers from `start` on; ends by `close`.
    """

    def __init__(self, deliver: Callable[[NetworkEvent], None]) -> None:
        self._deliver = deliver
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket = IPRoute()
        with ExitStack() as undo:
            undo.callback(self._socket.close)
            # Past net.core.rmem_max, as CAP_NET_ADMIN allows, which whoever runs the data path has.
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_OCTETS)
            self._socket.bind(groups=_GROUP_LINK | _GROUP_NEIGHBOR | _GROUP_IPV6_ROUTE)
            undo.pop_all()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Deliver what was heard already, and all that follows."""
        self._loop = loop
        loop.add_reader(self._socket.fileno(), self._read)

    def close(self) -> None:
        """Stop listening."""
        if self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop = None
        self._socket.close()

    def _read(self) -> None:
        try:
            messages = list(self._socket.get())
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            _log.warning("the kernel had more news of the network than it could keep; asking for all of it again")
            self._deliver(EventsLost())
            return
        for message in messages:
            for event in _events(message):
                self._deliver(event)


@contextmanager
def _requests() -> Iterator[Any]:
    """A socket for a few requests, with OSError for what the kernel refuses."""
    with IPRoute() as route_socket:
        try:
            yield route_socket
        except NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code)) from error


def _events(message: Any) -> Iterator[NetworkEvent]:
    match message["event"]:
        case "RTM_NEWLINK":
            # Bridges tell of their ports by messages of another family, which say less.
            if message["family"] == socket.AF_UNSPEC:
                yield LinkChanged(_link(message))
        case "RTM_DELLINK":
            if message["family"] == socket.AF_UNSPEC:
                yield LinkRemoved(message["index"], message.get_attr("IFLA_IFNAME"))
        case "RTM_NEWROUTE":
            # What the kernel tells of several next hops is all of them, also after an append.
            whole = message.get_attr("RTA_MULTIPATH") is not None
            replaces = whole or bool(message["header"]["flags"] & _NLM_F_REPLACE)
            for route in _routes((message,)):
                yield RouteAdded(route, replaces)
        case "RTM_DELROUTE":
            for route in _routes((message,)):
                yield RouteRemoved(route)
        case "RTM_NEWNEIGH":
            for neighbor in _neighbors((message,)):
                yield NeighborChanged(neighbor)
        case "RTM_DELNEIGH":
            for neighbor in _neighbors((message,)):
                yield NeighborRemoved(neighbor.interface_index, neighbor.address)


def _mac(text: str | None) -> bytes:
    if text is None:
        return b""
    octets = bytes.fromhex(text.replace(":", ""))
    return octets if len(octets) == _MAC_OCTETS else b""


def _link(message: Any) -> Link:
    flags = message["flags"]
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        mac=_mac(message.get_attr("IFLA_ADDRESS")),
        mtu=message.get_attr("IFLA_MTU"),
        is_up=bool(flags & _IFF_UP),
        has_carrier=bool(flags & _IFF_LOWER_UP),
    )


def _routes(messages: Iterable[Any]) -> Iterator[Route]:
    """Those of the main table, without what the kernel keeps for one destination."""
    for message in messages:
        table = message.get_attr("RTA_TABLE") or message["table"]
        if message["family"] != socket.AF_INET6 or table != _RT_TABLE_MAIN or message["flags"] & _RTM_F_CLONED:
            continue
        destination = message.get_attr("RTA_DST") or "::"
        next_hops = tuple(_next_hops(message)) if message["type"] == _RTN_UNICAST else ()
        prefix = IPv6Network((destination, message["dst_len"]), strict=False)
        yield Route(prefix, _metric(message), next_hops)


def _metric(message: Any) -> int:
    """Its metric; of a route for some sources only, a number of that source's that comes before every metric.

    The kernel looks at sources before it looks at metrics, whereas a care-of address has one next hop here. Such a
    route has no gateway here, so that the kernel is asked about the whole prefix.
    """
    if not message["src_len"]:
        return int(message.get_attr("RTA_PRIORITY") or 0)
    return -1 - (int(IPv6Address(message.get_attr("RTA_SRC"))) << 8 | int(message["src_len"]))


def _next_hops(message: Any) -> Iterator[NextHop]:
    several = message.get_attr("RTA_MULTIPATH")
    if several is None:
        is_plain = not message["src_len"] and _is_plain(message)
        yield _next_hop(message.get_attr("RTA_OIF"), message.get_attr("RTA_GATEWAY") if is_plain else None)
        return
    for part in several:
        if not part["flags"] & _RTNH_F_DEAD:
            gateway = part.get_attr("RTA_GATEWAY") if _is_plain(message) and _is_plain(part) else None
            yield _next_hop(part["oif"], gateway)


def _is_plain(route: Any) -> bool:
    """Whether a gateway's address is all that there is to a route, or to a part of it: no MTU, no encapsulation."""
    metrics = route.get_attr("RTA_METRICS")
    has_mtu = metrics is not None and metrics.get_attr("RTAX_MTU") is not None
    return not has_mtu and route.get_attr("RTA_ENCAP_TYPE") is None


def _next_hop(interface_index: int | None, gateway: str | None) -> NextHop:
    return NextHop(interface_index or 0, None if gateway is None else IPv6Address(gateway))


def _neighbors(messages: Iterable[Any]) -> Iterator[Neighbor]:
    for message in messages:
        address = message.get_attr("NDA_DST")
        if message["family"] != socket.AF_INET6 or address is None or message["flags"] & _NTF_PROXY:
            continue
        yield Neighbor(
            interface_index=message["ifindex"],
            address=IPv6Address(address),
            mac=_mac(message.get_attr("NDA_LLADDR")),
            state=NeighborState(message["state"]),
        )
