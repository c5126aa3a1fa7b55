# SPDX-License-Identifier: Apache-2.0
"""The ways out for what the home agent itself sends: IPv6 packets by the kernel's routes, and whole frames.

A raw socket with IPV6_HDRINCL carries a type 2 routing header (RFC 6275 section 6.4), which the kernel's own option
refuses. A frame that cannot be sent is lost, as on any link: the reason is counted, and signalling is repeated by those
who need it.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from ipaddress import IPv6Address
from typing import Final

# linux/in6.h; Python's socket module does not have it.
_IPV6_HDRINCL: Final = 36
_IPV6_HEADER_LENGTH: Final = 40
_DESTINATION: Final = slice(24, 40)


class RawSocketError(Exception):
    """A socket that cannot be opened; the text says why, and what to do."""


class RawIPv6Socket:
    """Sends IPv6 packets that are whole, header and all."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        """What could not be sent, by the name of the errno."""
        try:
            self._socket = socket.socket(
                socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW
            )
        except OSError as error:
            raise RawSocketError(f"cannot open a raw IPv6 socket ({error.strerror}): CAP_NET_RAW is needed") from error
        self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)

    def send(self, packet: bytes) -> bool:
        """Send a packet to the destination that its header names; False if the kernel would not."""
        if len(packet) < _IPV6_HEADER_LENGTH:
            raise ValueError(f"an IPv6 packet has 40 octets at least, not {len(packet)}")
        try:
            self._socket.sendto(packet, (str(IPv6Address(packet[_DESTINATION])), 0))
        except OSError as error:
            self.failures[errno.errorcode.get(error.errno or 0, "unknown")] += 1
            return False
        return True

    def close(self) -> None:
        self._socket.close()


class FrameSocket:
    """Sends whole Ethernet frames by one interface; receives nothing."""

    def __init__(self, interface: str) -> None:
        self.interface = interface
        self.failures: Counter[str] = Counter()
        """What could not be sent, by the name of the errno."""
        self._socket: socket.socket | None = None
        try:
            self._socket = self._open()
        except OSError as error:
            raise RawSocketError(
                f"cannot open a packet socket on {interface} ({error.strerror}): CAP_NET_RAW is needed"
            ) from error

    def _open(self) -> socket.socket:
        # Protocol 0: bound to no protocol, it takes no copy of what arrives.
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        try:
            opened.bind((self.interface, 0))
        except OSError:
            opened.close()
            raise
        return opened

    def reopen(self) -> bool:
        """Bind anew after the interface has gone and returned, with another index; False if it is not there."""
        self.close()
        try:
            self._socket = self._open()
        except OSError:
            return False
        return True

    def send(self, frame: bytes) -> bool:
        """Send a frame; False if the kernel would not."""
        if self._socket is None:
            self.failures["ENODEV"] += 1
            return False
        try:
            self._socket.send(frame)
        except OSError as error:
            self.failures[errno.errorcode.get(error.errno or 0, "unknown")] += 1
            return False
        return True

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
