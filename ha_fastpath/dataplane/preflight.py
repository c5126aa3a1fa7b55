# SPDX-License-Identifier: Apache-2.0
"""What the machine must have before the data path is loaded: rights, kernel, bpf(), bpffs, libbpf and bcc.

Nothing is changed. Each thing that is missing is one sentence with its remedy; interfaces are not looked at here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from pathlib import Path

from ha_fastpath.dataplane import abi, libbpf

_MINIMUM_KERNEL = (6, 1)

# linux/capability.h
_CAP_NET_ADMIN = 12
_CAP_NET_RAW = 13
_CAP_PERFMON = 38
_CAP_BPF = 39
_CAPABILITIES = {
    "CAP_BPF": _CAP_BPF,
    "CAP_NET_ADMIN": _CAP_NET_ADMIN,
    # Without it the verifier applies its rules against Spectre, by which the program does not pass.
    "CAP_PERFMON": _CAP_PERFMON,
    "CAP_NET_RAW": _CAP_NET_RAW,
}


def problems(pin_directory: Path) -> list[str]:
    """What hinders the data path on this machine; empty when nothing does."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = [
        capability_problem(status),
        kernel_problem(os.uname().release),
        bcc_problem(),
        _libbpf_problem(),
    ]
    if not any(found):
        # These two ask through libbpf, with the rights that are known by now.
        found += [_bpf_problem(), bpffs_problem(pin_directory)]
    return [problem for problem in found if problem is not None]


def capability_problem(status: str) -> str | None:
    """Which capabilities are missing, by the text of /proc/self/status."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    effective = int(match.group(1), 16) if match else 0
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if not missing:
        return None
    return f"this process lacks {' and '.join(missing)}; run it as root, or let systemd give it AmbientCapabilities"


def kernel_problem(release: str) -> str | None:
    """Whether a kernel, by what uname calls its release, is too old."""
    match = re.match(r"(\d+)\.(\d+)", release)
    if match and (int(match.group(1)), int(match.group(2))) >= _MINIMUM_KERNEL:
        return None
    wanted = ".".join(str(part) for part in _MINIMUM_KERNEL)
    return f"the kernel is {release}, and {wanted} or later is needed; Debian 12 has 6.1"


def bcc_problem() -> str | None:
    """Whether Debian's bcc is there; the package of that name on PyPI is a crystal lattice."""
    remedy = "install Debian's python3-bpfcc and run `make`, which links it into the virtual environment"
    try:
        from bcc import libbcc, table  # noqa: F401
    except (ImportError, OSError) as error:
        return f"bcc's Python module cannot be imported ({error}); {remedy}"
    return None


def bpffs_problem(pin_directory: Path) -> str | None:
    """Whether the pin directory is, or can be made, in a BPF file system."""
    existing = next(path for path in (pin_directory, *pin_directory.parents) if path.exists())
    if libbpf.is_bpffs(existing):
        return None
    return (
        f"no bpffs is mounted at {pin_directory}; run `mount -t bpf bpf /sys/fs/bpf`, or set pin_directory to a place "
        f"in one that is"
    )


def _libbpf_problem() -> str | None:
    try:
        libbpf.library()
    except libbpf.LibraryMissingError as error:
        return str(error)
    return None


def _bpf_problem() -> str | None:
    fd: int = libbpf.library().bpf_map_create(
        abi.MapType.ARRAY, b"preflight", ctypes.sizeof(ctypes.c_uint32), ctypes.sizeof(ctypes.c_uint32), 1, None
    )
    if fd >= 0:
        os.close(fd)
        return None
    if fd == -errno.ENOSYS:
        return "this kernel has no bpf(); use one built with CONFIG_BPF_SYSCALL"
    return (
        f"the kernel refuses bpf() ({os.strerror(-fd)}); let the container or the service call it (seccomp, lockdown), "
        f"or run on the host"
    )
