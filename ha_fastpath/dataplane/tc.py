# SPDX-License-Identifier: Apache-2.0
"""Programs at the egress of an interface, by tc's clsact and a filter of a fixed handle.

It outlives the process, and attaching again replaces the program at once; `detach_egress` ends it. Filters of others
are left alone.
"""

from __future__ import annotations

import ctypes
import errno

from ha_fastpath.dataplane.libbpf import captured_log, check, library

_BPF_TC_EGRESS = 1 << 1
_BPF_TC_F_REPLACE = 1 << 0
_HANDLE = 1
# Early, so that what others do sees the packets as they leave.
_PRIORITY = 1


class _Hook(ctypes.Structure):
    """struct bpf_tc_hook."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("ifindex", ctypes.c_int),
        ("attach_point", ctypes.c_int),
        ("parent", ctypes.c_uint32),
    )


class _Options(ctypes.Structure):
    """struct bpf_tc_opts."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("prog_fd", ctypes.c_int),
        ("flags", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("handle", ctypes.c_uint32),
        ("priority", ctypes.c_uint32),
    )


def attach_egress(program_fd: int, interface_index: int) -> None:
    """Run a program on what leaves by an interface, in place of the one that ran there before. Raises OSError."""
    hook = _hook(interface_index)
    with captured_log():
        created: int = library().bpf_tc_hook_create(ctypes.byref(hook))
        if created != -errno.EEXIST:
            check(created, "make tc's clsact")
        options = _Options(ctypes.sizeof(_Options), program_fd, _BPF_TC_F_REPLACE, 0, _HANDLE, _PRIORITY)
        check(library().bpf_tc_attach(ctypes.byref(hook), ctypes.byref(options)), "attach to tc's egress")


def detach_egress(interface_index: int) -> None:
    """Take the program off; nothing happens where there is none, or no interface any more. Raises OSError."""
    hook = _hook(interface_index)
    options = _Options(ctypes.sizeof(_Options), 0, 0, 0, _HANDLE, _PRIORITY)
    with captured_log():
        result: int = library().bpf_tc_detach(ctypes.byref(hook), ctypes.byref(options))
    if result not in (-errno.ENOENT, -errno.EINVAL, -errno.ENODEV):
        check(result, "detach from tc's egress")


def _hook(interface_index: int) -> _Hook:
    return _Hook(ctypes.sizeof(_Hook), interface_index, _BPF_TC_EGRESS, 0)
