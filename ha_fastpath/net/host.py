# SPDX-License-Identifier: Apache-2.0
"""What a mobile node does to the interface that moves: its addresses, routes and settings, and what it hears of it.

The home address stays on the interface wherever that is, without a prefix route; the routes are of a protocol and a
metric of their own, before those of others, which are left alone. All that was set is put back by `close`. Always of
the network namespace that the calling thread is in.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any, Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ha_fastpath.net.network_state import Link

ROUTE_PROTOCOL: Final = 213
"""Of our routes, one that nobody in rt_protos has: by it they are found again after a crash."""
ROUTE_METRIC: Final = 128
"""Before what operators and the kernel itself add: 256 and 1024."""
OUTER_HEADER_LENGTH: Final = 40
"""Less than the link's MTU are the routes' while away: what does not fit is refused before it is tunnelled, not lost
after."""
MINIMUM_MTU: Final = 1280

# linux/rtnetlink.h, linux/if.h, linux/if_addr.h, linux/neighbour.h
_GROUP_LINK: Final = 0x1
_GROUP_IPV6_ADDRESS: Final = 0x100
_IFF_UP: Final = 0x1
_IFF_LOWER_UP: Final = 0x10000
_IFA_F_NODAD: Final = 0x02
_IFA_F_OPTIMISTIC: Final = 0x04
_IFA_F_DADFAILED: Final = 0x08
_IFA_F_NOPREFIXROUTE: Final = 0x200
_NUD_REACHABLE: Final = 0x02
_DEFAULT: Final = IPv6Network("::/0")
_HOST_LENGTH: Final = 128
_CARE_OF_PREFIX_LENGTH: Final = 64

_SETTINGS: Final = {
    # XDP hands Router Advertisements to the protocol; the kernel must not follow any that slips by.
    "accept_ra": "0",
    # RFC 4429: a care-of address is of use at once.
    "optimistic_dad": "1",
    "use_optimistic": "1",
}
_CONF: Final = Path("/proc/sys/net/ipv6/conf")
_LOG: Final = logging.getLogger("ha_fastpath.net.host")


@dataclass(frozen=True, slots=True)
class _Found:
    """The home address as it was before."""

    prefix_length: int
    flags: int


class Host:
    """One interface and the home address on it, ours until `close`."""

    def __init__(self, link: Link, home_address: IPv6Address, home_prefix: IPv6Network) -> None:
        self._interface = link.name
        self._index = link.index
        self._tunnel_mtu = max(link.mtu - OUTER_HEADER_LENGTH, MINIMUM_MTU)
        self._home_address = home_address
        self._home_prefix = home_prefix
        self._found: _Found | None = None
        self._settings_before: dict[str, str] = {}
        self._care_of_addresses: dict[IPv6Address, int] = {}

    def open(self, left: Iterable[IPv6Address] = ()) -> None:
        """Set the interface up for moving, at home so far; `left` are care-of addresses of a process before.

        Raises OSError.
        """
        for name, value in _SETTINGS.items():
            setting = _CONF / self._interface / name
            # A kernel without CONFIG_IPV6_OPTIMISTIC_DAD lacks two of them, and detects before it uses.
            with suppress(FileNotFoundError):
                self._settings_before[name] = setting.read_text(encoding="ascii").strip()
                setting.write_text(value, encoding="ascii")
        with _requests() as route_socket:
            self._remove_routes(route_socket)
            for address in left:
                self._delete_address(route_socket, address, _CARE_OF_PREFIX_LENGTH)
            self._found = self._find_home_address(route_socket)
            prefix_length = self._found.prefix_length if self._found is not None else _HOST_LENGTH
            # In place of the one that was found, whose prefix route ends by that; connections from it go on.
            self._put_address(route_socket, self._home_address, prefix_length, _IFA_F_NODAD | _IFA_F_NOPREFIXROUTE)
            self._route(route_socket, self._home_prefix)

    def close(self) -> None:
        """Put back what was there before; what cannot be is told in the log."""
        for name, value in self._settings_before.items():
            with suppress(OSError):
                (_CONF / self._interface / name).write_text(value, encoding="ascii")
        try:
            with _requests() as route_socket:
                self._remove_routes(route_socket)
                for address, prefix_length in self._care_of_addresses.items():
                    self._delete_address(route_socket, address, prefix_length)
                self._care_of_addresses.clear()
                if self._found is None:
                    self._delete_address(route_socket, self._home_address, _HOST_LENGTH)
                else:
                    flags = self._found.flags & _IFA_F_NOPREFIXROUTE | _IFA_F_NODAD
                    self._put_address(route_socket, self._home_address, self._found.prefix_length, flags)
        except OSError as error:
            _LOG.warning("%s is not as it was before: %s", self._interface, error.strerror)

    def attach_abroad(
        self,
        care_of_address: IPv6Address,
        prefix_length: int,
        router: IPv6Address,
        router_mac: bytes | None,
    ) -> None:
        """Hold a care-of address until its release, and send everything by the foreign router. Raises OSError."""
        with _requests() as route_socket:
            # No prefix route: what the home address sends to neighbors here goes through the tunnel like all else.
            flags = _IFA_F_NOPREFIXROUTE | (0 if care_of_address in self._care_of_addresses else _IFA_F_OPTIMISTIC)
            self._put_address(route_socket, care_of_address, prefix_length, flags)
            self._care_of_addresses[care_of_address] = prefix_length
            self._use_router(route_socket, router, router_mac, self._tunnel_mtu)
            self._delete_route(route_socket, self._home_prefix)

    def attach_home(self, router: IPv6Address | None, router_mac: bytes | None) -> None:
        """Have the home prefix on the link, and send the rest by the home router. Raises OSError."""
        with _requests() as route_socket:
            self._route(route_socket, self._home_prefix)
            if router is None:
                self._delete_route(route_socket, _DEFAULT)
            else:
                self._use_router(route_socket, router, router_mac, None)

    def release(self, care_of_address: IPv6Address) -> None:
        """Hold a care-of address no longer. Raises OSError."""
        prefix_length = self._care_of_addresses.pop(care_of_address, None)
        if prefix_length is not None:
            with _requests() as route_socket:
                self._delete_address(route_socket, care_of_address, prefix_length)

    # ---- requests ----

    def _find_home_address(self, route_socket: Any) -> _Found | None:
        for message in route_socket.get_addr(family=socket.AF_INET6, index=self._index):
            if message.get_attr("IFA_ADDRESS") == str(self._home_address):
                return _Found(message["prefixlen"], message.get_attr("IFA_FLAGS") or 0)
        return None

    def _put_address(self, route_socket: Any, address: IPv6Address, prefix_length: int, flags: int) -> None:
        route_socket.addr(
            "replace",
            index=self._index,
            family=socket.AF_INET6,
            address=str(address),
            prefixlen=prefix_length,
            IFA_FLAGS=flags,
        )

    def _delete_address(self, route_socket: Any, address: IPv6Address, prefix_length: int) -> None:
        with _absence_suppressed():
            route_socket.addr(
                "del", index=self._index, family=socket.AF_INET6, address=str(address), prefixlen=prefix_length
            )

    def _use_router(self, route_socket: Any, router: IPv6Address, router_mac: bytes | None, mtu: int | None) -> None:
        if router_mac is not None:
            # Solicited otherwise, with the home address as source: it was the router's own word a moment ago.
            route_socket.neigh(
                "replace",
                family=socket.AF_INET6,
                ifindex=self._index,
                dst=str(router),
                lladdr=router_mac.hex(":"),
                state=_NUD_REACHABLE,
            )
        self._route(route_socket, _DEFAULT, router, mtu)

    def _route(
        self, route_socket: Any, prefix: IPv6Network, gateway: IPv6Address | None = None, mtu: int | None = None
    ) -> None:
        request: dict[str, object] = {
            "family": socket.AF_INET6,
            "dst": str(prefix),
            "oif": self._index,
            "priority": ROUTE_METRIC,
            "proto": ROUTE_PROTOCOL,
            "prefsrc": str(self._home_address),
        }
        if gateway is not None:
            request["gateway"] = str(gateway)
        if mtu is not None:
            request["metrics"] = {"mtu": mtu}
        route_socket.route("replace", **request)

    def _delete_route(self, route_socket: Any, prefix: IPv6Network) -> None:
        with _absence_suppressed():
            route_socket.route(
                "del",
                family=socket.AF_INET6,
                dst=str(prefix),
                oif=self._index,
                priority=ROUTE_METRIC,
                proto=ROUTE_PROTOCOL,
            )

    def _remove_routes(self, route_socket: Any) -> None:
        for prefix in (_DEFAULT, self._home_prefix):
            self._delete_route(route_socket, prefix)


class HostMonitor:
    """Tells, on an asyncio loop, when the interface loses or finds its carrier, and of addresses that others have."""

    def __init__(
        self,
        interface_index: int,
        carrier: Callable[[bool], None],
        conflict: Callable[[IPv6Address], None],
    ) -> None:
        """Hears from now on, delivers from `start` on."""
        self._index = interface_index
        self._carrier = carrier
        self._conflict = conflict
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket = IPRoute()
        with ExitStack() as undo:
            undo.callback(self._socket.close)
            self._socket.bind(groups=_GROUP_LINK | _GROUP_IPV6_ADDRESS)
            undo.pop_all()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say how the carrier is now, deliver what was heard already, and all that follows."""
        self._loop = loop
        self._ask()
        loop.add_reader(self._socket.fileno(), self._read)

    def close(self) -> None:
        """Stop listening."""
        if self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop = None
        self._socket.close()

    def _ask(self) -> None:
        with _requests() as route_socket:
            for message in route_socket.get_links(self._index):
                self._tell(message)

    def _read(self) -> None:
        try:
            messages = list(self._socket.get())
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            # Events were lost, but the carrier can be asked for.
            self._ask()
            return
        for message in messages:
            self._tell(message)

    def _tell(self, message: Any) -> None:
        match message["event"]:
            case "RTM_NEWLINK" if message["index"] == self._index:
                wanted = _IFF_UP | _IFF_LOWER_UP
                self._carrier(message["flags"] & wanted == wanted)
            case "RTM_DELLINK" if message["index"] == self._index:
                self._carrier(False)
            case "RTM_NEWADDR" if message["index"] == self._index:
                address = message.get_attr("IFA_ADDRESS")
                if address is not None and (message.get_attr("IFA_FLAGS") or 0) & _IFA_F_DADFAILED:
                    self._conflict(IPv6Address(address))


@contextmanager
def _requests() -> Iterator[Any]:
    """A socket for a few requests, with OSError for what the kernel refuses."""
    with IPRoute() as route_socket:
        try:
            yield route_socket
        except NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code)) from error


@contextmanager
def _absence_suppressed() -> Iterator[None]:
    """What is gone already needs no removal."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in (errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL, errno.ENODEV):
            raise
