# SPDX-License-Identifier: Apache-2.0
"""Tells the service manager that the daemon is ready, or stopping: sd_notify(3) without libsystemd."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> bool:
    """Send `READY=1` and the like to $NOTIFY_SOCKET; False where nobody asked, or nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        # The abstract namespace is spelled with a zero octet.
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto(state.encode(), address)
        except OSError:
            return False
    return True
