# SPDX-License-Identifier: Apache-2.0
"""The TAP that one interface's signalling arrives on: XDP redirects whole frames to it, and they are read here.

The kernel's own stack sees none of them: IPv6 is off on the TAP and nothing is ever written to it. It lives as long as
its file descriptor, so a daemon that dies takes it along and the data path counts HA_DROP_NO_TAP meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

NAME_PREFIX: Final = "ha-"
"""Of every TAP of ours, so that `ip link` shows whose they are."""
INTERFACE_NAME_OCTETS: Final = 15

QUEUE_FRAMES: Final = 16_384
"""The default of 1,000 overflows under a burst of registrations."""

# linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
# linux/sockios.h
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFMTU: Final = 0x8922
_SIOCSIFTXQLEN: Final = 0x8943
_IFF_UP: Final = 0x1

# struct ifreq: the name, then a union of 24 octets.
_REQUEST_FLAGS: Final = struct.Struct("16sh22x")
_REQUEST_INTEGER: Final = struct.Struct("16si20x")

_LARGEST_FRAME: Final = 65_535
_LARGEST_MTU: Final = 65_521
"""That the tun driver takes: _LARGEST_FRAME without an Ethernet header."""
_TUN_DEVICE: Final = "/dev/net/tun"


class TapError(Exception):
    """A TAP that cannot be made; the text says why, and what to do."""


def tap_name(interface: str) -> str:
    """The name of an interface's TAP: `ha-eth0`, and for a long name its beginning and a hash of the whole."""
    name = NAME_PREFIX + interface
    if len(name.encode()) <= INTERFACE_NAME_OCTETS:
        return name
    digest = f"-{zlib.crc32(interface.encode()) & 0xFFFFFF:06x}"
    room = INTERFACE_NAME_OCTETS - len(NAME_PREFIX) - len(digest)
    return NAME_PREFIX + interface.encode()[:room].decode(errors="ignore") + digest


class Tap:
    """One interface's TAP, up, with IPv6 off, owned by this process."""

    def __init__(self, interface: str) -> None:
        self.interface = interface
        self.name = tap_name(interface)
        self._descriptor = self._open()
        try:
            self._configure()
            self.index = socket.if_nametoindex(self.name)
        except OSError as error:
            self.close()
            raise TapError(f"cannot set up the TAP {self.name} of {interface}: {error.strerror}") from error

    def _open(self) -> int:
        try:
            descriptor = os.open(_TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise TapError(
                f"cannot open {_TUN_DEVICE} ({error.strerror}): load the tun module and run as root"
            ) from error
        try:
            fcntl.ioctl(descriptor, _TUNSETIFF, _REQUEST_FLAGS.pack(self.name.encode(), _IFF_TAP | _IFF_NO_PI))
        except OSError as error:
            os.close(descriptor)
            if error.errno == errno.EBUSY:
                raise TapError(
                    f"the TAP {self.name} is in use: another ha-fastpath serves {self.interface}; stop that one first"
                ) from error
            raise TapError(f"cannot make the TAP {self.name} of {self.interface}: {error.strerror}") from error
        return descriptor

    def _configure(self) -> None:
        # Before it is up, or the kernel solicits and reports groups on it.
        # A kernel with IPv6 off has no such file, and needs none.
        with contextlib.suppress(FileNotFoundError):
            Path("/proc/sys/net/ipv6/conf", self.name, "disable_ipv6").write_text("1", encoding="ascii")
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
            name = self.name.encode()
            # A frame larger than the target's MTU vanishes in the redirect, and nobody is told.
            fcntl.ioctl(control, _SIOCSIFMTU, _REQUEST_INTEGER.pack(name, _LARGEST_MTU))
            fcntl.ioctl(control, _SIOCSIFTXQLEN, _REQUEST_INTEGER.pack(name, QUEUE_FRAMES))
            _, flags = _REQUEST_FLAGS.unpack(fcntl.ioctl(control, _SIOCGIFFLAGS, _REQUEST_FLAGS.pack(name, 0)))
            fcntl.ioctl(control, _SIOCSIFFLAGS, _REQUEST_FLAGS.pack(name, flags | _IFF_UP))

    def fileno(self) -> int:
        return self._descriptor

    def drain(self, receive: Callable[[bytes], None], limit: int = 256) -> int:
        """Hand over what has arrived, `limit` frames at most, so that a flood leaves room for others; how many."""
        for count in range(limit):
            try:
                frame = os.read(self._descriptor, _LARGEST_FRAME)
            except BlockingIOError:
                return count
            receive(frame)
        return limit

    def close(self) -> None:
        """Give the TAP back; the kernel removes it, and its entry in the data path's map with it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
