# SPDX-License-Identifier: Apache-2.0
"""libbpf.so.1 through ctypes: prototypes, what it logs, and one function for each thing that is asked of the kernel.

File descriptors and plain data go in and out; OSError is the only failure, besides LibraryMissingError. Which maps are
wanted, and what is pinned where, is loader.py's.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path

BPF_LINK_TYPE_XDP = 6
BPF_ATTACH_TYPE_XDP = 37

# uapi/linux/if_link.h
XDP_FLAGS_GENERIC = 1 << 1
XDP_FLAGS_NATIVE = 1 << 2

# More than any frame of a test; the kernel itself refuses long before.
TEST_RUN_FRAME_MAXIMUM = 65536

_LOG_LINES_MAXIMUM = 20_000
_LEVEL_DEBUG = 2
_IF_NAMESIZE = 16
_BPFFS_MAGIC = 0xCAFE4A11


class LibraryMissingError(Exception):
    """libbpf.so.1 is not on this machine."""


class AttachMode(IntEnum):
    """Where XDP runs: enum XDP_ATTACHED_* of linux/if_link.h."""

    NATIVE = 1
    GENERIC = 2


class _TestRunOptions(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


class _XdpContext(ctypes.Structure):
    """struct xdp_md."""

    _fields_ = (
        ("data", ctypes.c_uint32),
        ("data_end", ctypes.c_uint32),
        ("data_meta", ctypes.c_uint32),
        ("ingress_ifindex", ctypes.c_uint32),
        ("rx_queue_index", ctypes.c_uint32),
        ("egress_ifindex", ctypes.c_uint32),
    )


class _PacketContext(ctypes.Structure):
    """struct __sk_buff; the kernel refuses a test run where one of the other members is not zero."""

    _fields_ = (
        ("before", ctypes.c_uint32 * 10),
        ("ifindex", ctypes.c_uint32),
        ("after", ctypes.c_uint32 * 37),
    )


class _LinkCreateOptions(ctypes.Structure):
    """struct bpf_link_create_opts up to the members that other kinds of link have."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
        ("iter_info", ctypes.c_void_p),
        ("iter_info_len", ctypes.c_uint32),
        ("target_btf_id", ctypes.c_uint32),
    )


class _XdpQueryOptions(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("prog_id", ctypes.c_uint32),
        ("drv_prog_id", ctypes.c_uint32),
        ("hw_prog_id", ctypes.c_uint32),
        ("skb_prog_id", ctypes.c_uint32),
        ("attach_mode", ctypes.c_uint8),
    )


class _MapInformation(ctypes.Structure):
    """struct bpf_map_info."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("name", ctypes.c_char * 16),
        ("ifindex", ctypes.c_uint32),
        ("btf_vmlinux_value_type_id", ctypes.c_uint32),
        ("netns_dev", ctypes.c_uint64),
        ("netns_ino", ctypes.c_uint64),
        ("btf_id", ctypes.c_uint32),
        ("btf_key_type_id", ctypes.c_uint32),
        ("btf_value_type_id", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("map_extra", ctypes.c_uint64),
    )


class _LinkInformation(ctypes.Structure):
    """struct bpf_link_info, its union as XDP has it."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("xdp_ifindex", ctypes.c_uint32),
        ("rest", ctypes.c_uint32 * 11),
    )


class _ProgramInformation(ctypes.Structure):
    """struct bpf_prog_info."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("jited_prog_len", ctypes.c_uint32),
        ("xlated_prog_len", ctypes.c_uint32),
        ("jited_prog_insns", ctypes.c_uint64),
        ("xlated_prog_insns", ctypes.c_uint64),
        ("load_time", ctypes.c_uint64),
        ("created_by_uid", ctypes.c_uint32),
        ("nr_map_ids", ctypes.c_uint32),
        ("map_ids", ctypes.c_uint64),
        ("name", ctypes.c_char * 16),
        ("ifindex", ctypes.c_uint32),
        ("gpl_compatible", ctypes.c_uint32),
        ("netns_dev", ctypes.c_uint64),
        ("netns_ino", ctypes.c_uint64),
        ("nr_jited_ksyms", ctypes.c_uint32),
        ("nr_jited_func_lens", ctypes.c_uint32),
        ("jited_ksyms", ctypes.c_uint64),
        ("jited_func_lens", ctypes.c_uint64),
        ("btf_id", ctypes.c_uint32),
        ("func_info_rec_size", ctypes.c_uint32),
        ("func_info", ctypes.c_uint64),
        ("nr_func_info", ctypes.c_uint32),
        ("nr_line_info", ctypes.c_uint32),
        ("line_info", ctypes.c_uint64),
        ("jited_line_info", ctypes.c_uint64),
        ("nr_jited_line_info", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32),
        ("jited_line_info_rec_size", ctypes.c_uint32),
        ("nr_prog_tags", ctypes.c_uint32),
        ("prog_tags", ctypes.c_uint64),
        ("run_time_ns", ctypes.c_uint64),
        ("run_cnt", ctypes.c_uint64),
        ("recursion_misses", ctypes.c_uint64),
        ("verified_insns", ctypes.c_uint32),
        ("attach_btf_obj_id", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
    )


@dataclass(frozen=True, slots=True)
class MapInformation:
    """What the kernel says of a map."""

    id: int
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    btf_id: int
    btf_key_type_id: int
    btf_value_type_id: int


@dataclass(frozen=True, slots=True)
class LinkInformation:
    """What the kernel says of a bpf_link; `interface_index` is 0 once the interface is gone."""

    id: int
    type: int
    program_id: int
    interface_index: int


@dataclass(frozen=True, slots=True)
class ProgramInformation:
    """What the kernel says of a program; `verified_instructions` is the verifier's work, of a million allowed."""

    id: int
    name: str
    tag: str
    verified_instructions: int
    translated_octets: int


_FD, _INT, _U32, _STR, _PTR, _SIZE = (
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_uint32,
    ctypes.c_char_p,
    ctypes.c_void_p,
    ctypes.c_size_t,
)
# name: (result, arguments)
_PROTOTYPES: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "libbpf_set_print": (_PTR, (_PTR,)),
    "bpf_object__open_file": (_PTR, (_STR, _PTR)),
    "bpf_object__load": (_INT, (_PTR,)),
    "bpf_object__close": (None, (_PTR,)),
    "bpf_object__btf": (_PTR, (_PTR,)),
    "bpf_object__next_map": (_PTR, (_PTR, _PTR)),
    "bpf_object__next_program": (_PTR, (_PTR, _PTR)),
    "bpf_map__name": (_STR, (_PTR,)),
    "bpf_map__fd": (_FD, (_PTR,)),
    "bpf_map__type": (_U32, (_PTR,)),
    "bpf_map__key_size": (_U32, (_PTR,)),
    "bpf_map__value_size": (_U32, (_PTR,)),
    "bpf_map__max_entries": (_U32, (_PTR,)),
    "bpf_map__set_max_entries": (_INT, (_PTR, _U32)),
    "bpf_map__is_internal": (ctypes.c_bool, (_PTR,)),
    "bpf_map__map_flags": (_U32, (_PTR,)),
    "bpf_map__reuse_fd": (_INT, (_PTR, _FD)),
    "bpf_map__set_pin_path": (_INT, (_PTR, _STR)),
    "bpf_map__initial_value": (_PTR, (_PTR, ctypes.POINTER(_SIZE))),
    "bpf_program__name": (_STR, (_PTR,)),
    "bpf_program__fd": (_FD, (_PTR,)),
    "bpf_program__set_log_level": (_INT, (_PTR, _U32)),
    "bpf_map_create": (_FD, (_INT, _STR, _U32, _U32, _U32, _PTR)),
    "bpf_obj_pin": (_INT, (_FD, _STR)),
    "bpf_obj_get": (_FD, (_STR,)),
    "bpf_obj_get_info_by_fd": (_INT, (_FD, _PTR, ctypes.POINTER(_U32))),
    "bpf_map_lookup_elem": (_INT, (_FD, _PTR, _PTR)),
    "bpf_link_create": (_FD, (_FD, _FD, _INT, _PTR)),
    "bpf_link_update": (_INT, (_FD, _FD, _PTR)),
    "bpf_link_detach": (_INT, (_FD,)),
    "bpf_xdp_query": (_INT, (_INT, _INT, _PTR)),
    "bpf_tc_hook_create": (_INT, (_PTR,)),
    "bpf_tc_attach": (_INT, (_PTR, _PTR)),
    "bpf_tc_detach": (_INT, (_PTR, _PTR)),
    "bpf_prog_test_run_opts": (_INT, (_FD, _PTR)),
    "btf__load_from_kernel_by_id": (_PTR, (_U32,)),
    "btf__free": (None, (_PTR,)),
    "btf__type_by_id": (_PTR, (_PTR, _U32)),
    "btf__name_by_offset": (_STR, (_PTR, _U32)),
    "btf__resolve_size": (ctypes.c_int64, (_PTR, _U32)),
    "btf__find_by_name_kind": (ctypes.c_int32, (_PTR, _STR, _U32)),
}

_PrintFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_log: deque[str] = deque(maxlen=_LOG_LINES_MAXIMUM)


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.vasprintf.argtypes = (ctypes.POINTER(ctypes.c_void_p), ctypes.c_char_p, ctypes.c_void_p)
    libc.if_indextoname.restype = ctypes.c_void_p
    libc.free.argtypes = (ctypes.c_void_p,)
    libc.free.restype = None
    return libc


def _keep_message(level: int, text_format: bytes, arguments: int) -> int:
    """Take one message of libbpf; a va_list is a pointer to the callee on x86-64 and on arm64 alike."""
    if level >= _LEVEL_DEBUG and b"PROG LOAD LOG" not in text_format:
        return 0
    text = ctypes.c_void_p()
    length: int = _libc().vasprintf(ctypes.byref(text), text_format, arguments)
    if length >= 0 and text.value is not None:
        _log.extend(ctypes.string_at(text.value, length).decode(errors="replace").splitlines())
        _libc().free(text)
    return 0


# Held here for as long as the library may call it.
_keep = _PrintFunction(_keep_message)


@cache
def library() -> ctypes.CDLL:
    """libbpf.so.1, with its prototypes set and its messages kept here instead of on stderr."""
    try:
        loaded = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise LibraryMissingError(
            f"libbpf.so.1 cannot be loaded ({error}); install Debian's package libbpf1"
        ) from error
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(loaded, name)
        function.restype = result
        function.argtypes = arguments
    loaded.libbpf_set_print(_keep)
    return loaded


@contextmanager
def captured_log() -> Iterator[list[str]]:
    """Collect what libbpf says meanwhile; the list is filled when the block ends."""
    library()
    _log.clear()
    lines: list[str] = []
    try:
        yield lines
    finally:
        lines.extend(_log)
        _log.clear()


def check(result: int, what: str) -> int:
    """Turn the -errno of libbpf 1.x into OSError; any other result is handed back."""
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result


def check_pointer(pointer: int | None, what: str) -> int:
    """Turn a null pointer and its errno into OSError."""
    if pointer is None:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return pointer


def pin(fd: int, path: Path) -> None:
    """Pin what a file descriptor stands for."""
    check(library().bpf_obj_pin(fd, os.fsencode(path)), f"pin {path}")


def open_pin(path: Path) -> int:
    """A file descriptor of its own for what is pinned at a path."""
    fd = check(library().bpf_obj_get(os.fsencode(path)), f"open the pin {path}")
    os.set_inheritable(fd, False)
    return fd


def is_bpffs(path: Path) -> bool:
    """Whether what lies at a path is kept by a BPF file system."""
    # struct statfs begins with f_type, a long on both architectures; Python's os.statvfs leaves it out.
    buffer = (ctypes.c_long * 64)()
    if _libc().statfs(os.fsencode(path), ctypes.byref(buffer)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    return buffer[0] == _BPFFS_MAGIC


def _information(fd: int, into: ctypes.Structure) -> None:
    size = ctypes.c_uint32(ctypes.sizeof(into))
    check(library().bpf_obj_get_info_by_fd(fd, ctypes.byref(into), ctypes.byref(size)), "ask for BPF object info")


def is_map(fd: int) -> bool:
    """Whether a file descriptor is of a map: info is handed out for a program or a link just as well."""
    return os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:bpf-map"


def map_information(fd: int) -> MapInformation:
    """What the kernel says of a map."""
    info = _MapInformation()
    _information(fd, info)
    return MapInformation(
        id=info.id,
        type=info.type,
        key_size=info.key_size,
        value_size=info.value_size,
        max_entries=info.max_entries,
        flags=info.map_flags,
        btf_id=info.btf_id,
        btf_key_type_id=info.btf_key_type_id,
        btf_value_type_id=info.btf_value_type_id,
    )


def link_information(fd: int) -> LinkInformation:
    """What the kernel says of a bpf_link."""
    info = _LinkInformation()
    _information(fd, info)
    # For any other kind these octets mean something else.
    interface_index = info.xdp_ifindex if info.type == BPF_LINK_TYPE_XDP else 0
    return LinkInformation(info.id, info.type, info.prog_id, interface_index)


def program_information(fd: int) -> ProgramInformation:
    """What the kernel says of a program."""
    info = _ProgramInformation()
    _information(fd, info)
    return ProgramInformation(
        id=info.id,
        name=info.name.decode(),
        tag=bytes(info.tag).hex(),
        verified_instructions=info.verified_insns,
        translated_octets=info.xlated_prog_len,
    )


def create_xdp_link(program_fd: int, interface_index: int, mode: AttachMode) -> int:
    """Attach a program to an interface of this network namespace; the link lives as long as its fd or its pin."""
    options = _LinkCreateOptions(sz=ctypes.sizeof(_LinkCreateOptions))
    options.flags = XDP_FLAGS_NATIVE if mode is AttachMode.NATIVE else XDP_FLAGS_GENERIC
    fd = library().bpf_link_create(program_fd, interface_index, BPF_ATTACH_TYPE_XDP, ctypes.byref(options))
    return check(fd, f"attach XDP ({mode.name.lower()})")


def update_link(link_fd: int, program_fd: int) -> None:
    """Put another program in a link's place, with no packet between the two."""
    check(library().bpf_link_update(link_fd, program_fd, None), "update the XDP link")


def detach_link(link_fd: int) -> None:
    """Take a link off its interface, whoever else still holds it."""
    check(library().bpf_link_detach(link_fd), "detach the XDP link")


def require_interface(interface_index: int) -> None:
    """OSError (ENODEV) where there is no such interface; attaching says EINVAL to that, as to much else."""
    if not _libc().if_indextoname(interface_index, ctypes.create_string_buffer(_IF_NAMESIZE)):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))


def xdp_attach_mode(interface_index: int) -> AttachMode | None:
    """How the XDP program of an interface runs; None if it has none."""
    options = _XdpQueryOptions(sz=ctypes.sizeof(_XdpQueryOptions))
    check(library().bpf_xdp_query(interface_index, 0, ctypes.byref(options)), "ask for the XDP program")
    return AttachMode(options.attach_mode) if options.attach_mode in tuple(AttachMode) else None


def prog_test_run(program_fd: int, frame: bytes, ingress_ifindex: int = 0, repeat: int = 1) -> tuple[int, bytes]:
    """Run an XDP program on a frame by BPF_PROG_TEST_RUN: its verdict, and the frame as it left it.

    The frame comes in by receive queue 0 of `ingress_ifindex`, an interface of this network namespace (0: the loopback
    device of the kernel's choice). With `repeat` above 1 the frame is not restored between runs.
    """
    verdict, frame_out, _ = prog_test_run_timed(program_fd, frame, ingress_ifindex, repeat)
    return verdict, frame_out


def prog_test_run_timed(
    program_fd: int, frame: bytes, ingress_ifindex: int = 0, repeat: int = 1
) -> tuple[int, bytes, int]:
    """As `prog_test_run`, and the mean nanoseconds of one run."""
    context = _XdpContext(data=0, data_end=len(frame), ingress_ifindex=ingress_ifindex)
    return _test_run(program_fd, frame, context if ingress_ifindex else None, repeat)


def prog_test_run_egress(program_fd: int, frame: bytes, interface_index: int = 0) -> tuple[int, bytes]:
    """As `prog_test_run`, for a tc program at the egress of an interface."""
    context = _PacketContext(ifindex=interface_index)
    verdict, frame_out, _ = _test_run(program_fd, frame, context if interface_index else None, 1)
    return verdict, frame_out


def _test_run(program_fd: int, frame: bytes, context: ctypes.Structure | None, repeat: int) -> tuple[int, bytes, int]:
    frame_in = ctypes.create_string_buffer(frame, len(frame))
    frame_out = ctypes.create_string_buffer(TEST_RUN_FRAME_MAXIMUM)
    options = _TestRunOptions(sz=ctypes.sizeof(_TestRunOptions))
    options.data_in = ctypes.addressof(frame_in)
    options.data_size_in = len(frame)
    options.data_out = ctypes.addressof(frame_out)
    options.data_size_out = len(frame_out)
    options.repeat = repeat
    if context is not None:
        options.ctx_in = ctypes.addressof(context)
        options.ctx_size_in = ctypes.sizeof(context)
    check(library().bpf_prog_test_run_opts(program_fd, ctypes.byref(options)), "BPF_PROG_TEST_RUN")
    return options.retval, frame_out.raw[: options.data_size_out], options.duration
