# SPDX-License-Identifier: Apache-2.0
"""A network namespace for the calling thread, and a BPF file system of its own, both gone at the end.

Nothing is named, so that a killed run leaves no namespace behind.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x4000_0000

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


@contextmanager
def network_namespace() -> Iterator[None]:
    """Run the calling thread, and the processes that it starts, in an empty namespace with loopback up."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.unshare(_CLONE_NEWNET), "unshare")
        try:
            ip("link set dev lo up")
            yield
        finally:
            _check(_libc.setns(before, _CLONE_NEWNET), "setns")
    finally:
        os.close(before)


@contextmanager
def bpf_file_system(mount_point: Path) -> Iterator[Path]:
    """A BPF file system mounted on an existing directory."""
    subprocess.run(["mount", "-t", "bpf", "bpf", str(mount_point)], check=True)
    try:
        yield mount_point
    finally:
        subprocess.run(["umount", str(mount_point)], check=True)


def ip(command: str) -> None:
    """Run iproute2's `ip` in the calling thread's namespace."""
    subprocess.run(["ip", *command.split()], check=True)
