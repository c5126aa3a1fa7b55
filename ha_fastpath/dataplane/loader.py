# SPDX-License-Identifier: Apache-2.0
"""Loads an object file of bpf/ into the kernel: configuration, sizes of maps, pins that are found; attaches nothing.

A map that is found pinned is taken over only if it is what this object and abi.py want; otherwise nothing is changed.
Who owns the pins, and what is attached where, is pins.py's.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ha_fastpath.dataplane import abi, libbpf
from ha_fastpath.dataplane.btf import Btf, Member, kernel_btf, structure_members
from ha_fastpath.dataplane.libbpf import check, check_pointer, library

CONFIGURATION = "ha_configuration"
RODATA = ".rodata"
CONFIGURATION_PIN = "configuration-abi-"
"What `.rodata` is pinned as, before the ABI version: a name is read without any right to read BTF."

_BTF_FREE_TYPES = frozenset({abi.MapType.DEVMAP_HASH, abi.MapType.PROGRAM_ARRAY})
# Set by the kernel itself on devmaps.
_BPF_F_RDONLY_PROG = 1 << 7
_LOG_LINES_SHOWN = 40
_INSTALLED = Path("/usr/lib/ha-fastpath")
_BUILT = Path(__file__).resolve().parents[2] / "build" / "bpf"


class LoaderError(Exception):
    """The data path cannot be loaded or attached; the message says why, and the remedy. `log` is all libbpf said."""

    def __init__(self, message: str, log: tuple[str, ...] = ()) -> None:
        shown = "\n".join(log[-_LOG_LINES_SHOWN:])
        super().__init__(f"{message}\n{shown}" if shown else message)
        self.log = log


def object_path(name: str) -> Path:
    """Where an object file lies, by its name without `.bpf.o`: $HA_FASTPATH_BPF_DIRECTORY, the build, or installed."""
    chosen = os.environ.get("HA_FASTPATH_BPF_DIRECTORY")
    candidates = [Path(chosen)] if chosen else [_BUILT, _INSTALLED]
    for directory in candidates:
        path = directory / f"{name}.bpf.o"
        if path.is_file():
            return path
    searched = " and ".join(str(directory) for directory in candidates)
    raise LoaderError(f"no {name}.bpf.o in {searched}; run `make build`, or set HA_FASTPATH_BPF_DIRECTORY")


class BpfObject:
    """One object file in the kernel: file descriptors of its maps and programs, by name, until `close`."""

    def __init__(self, pointer: int, path: Path) -> None:
        self._pointer: int | None = pointer
        self.path = path
        self.log: tuple[str, ...] = ()
        self.map_fds: dict[str, int] = {}
        self.program_fds: dict[str, int] = {}

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        configuration: abi.HaConfiguration | None = None,
        max_entries: Mapping[str, int] | None = None,
        pin_directory: Path | None = None,
        verifier_log_level: int = 0,
    ) -> Self:
        """Load an object file; with a pin directory, every map is pinned there, or taken from there.

        `configuration` is written into `.rodata` with the ABI version set; `max_entries` is by name of map. Raises
        LoaderError.
        """
        with libbpf.captured_log() as log:
            pointer: int | None = library().bpf_object__open_file(os.fsencode(path), None)
        if pointer is None:
            raise LoaderError(f"{path} is not a BPF object that libbpf can read; run `make build`", tuple(log))
        opened = cls(pointer, path)
        with ExitStack() as undo:
            undo.callback(opened.close)
            opened._prepare(configuration, max_entries or {}, pin_directory, verifier_log_level)
            opened._load()
            if pin_directory is not None:
                opened._pin_configuration(pin_directory)
            undo.pop_all()
        return opened

    def map_fd(self, name: str) -> int:
        """The file descriptor of a map; LoaderError if the object has none of this name."""
        return self._named(self.map_fds, name, "map")

    def program_fd(self, name: str) -> int:
        """The file descriptor of a program; LoaderError if the object has none of this name."""
        return self._named(self.program_fds, name, "program")

    def close(self) -> None:
        """Give back the file descriptors; what is pinned or attached stays."""
        if self._pointer is not None:
            library().bpf_object__close(self._pointer)
            self._pointer = None
            self.map_fds.clear()
            self.program_fds.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _named(self, fds: dict[str, int], name: str, what: str) -> int:
        try:
            return fds[name]
        except KeyError:
            known = ", ".join(sorted(fds)) or "none"
            raise LoaderError(f"{self.path} has no {what} `{name}` (it has: {known}); run `make build`") from None

    def _maps(self) -> Iterator[tuple[str, int]]:
        pointer: int | None = library().bpf_object__next_map(self._pointer, None)
        while pointer is not None:
            yield library().bpf_map__name(pointer).decode(), pointer
            pointer = library().bpf_object__next_map(self._pointer, pointer)

    def _programs(self) -> Iterator[tuple[str, int]]:
        pointer: int | None = library().bpf_object__next_program(self._pointer, None)
        while pointer is not None:
            yield library().bpf_program__name(pointer).decode(), pointer
            pointer = library().bpf_object__next_program(self._pointer, pointer)

    def _prepare(
        self,
        configuration: abi.HaConfiguration | None,
        max_entries: Mapping[str, int],
        pin_directory: Path | None,
        verifier_log_level: int,
    ) -> None:
        maps = {name: pointer for name, pointer in self._maps() if not library().bpf_map__is_internal(pointer)}
        unknown = sorted(max_entries.keys() - maps.keys())
        if unknown:
            raise LoaderError(f"{self.path} has no map `{unknown[0]}` to give a size to; run `make build`")
        for name, pointer in maps.items():
            if name in max_entries:
                check(library().bpf_map__set_max_entries(pointer, max_entries[name]), f"set the size of {name}")
            self._check_built(name, pointer)
        if configuration is not None:
            self._write_configuration(configuration)
        if pin_directory is not None:
            _check_pinned_version(pin_directory)
        for name, pointer in maps.items():
            if pin_directory is not None and name not in abi.MAPS:
                raise LoaderError(f"{self.path} has a map `{name}` that abi.py does not know; add it to `abi.MAPS`")
            pin = None if pin_directory is None else pin_directory / name
            if pin is not None and pin.exists():
                _take_over_map(name, pointer, pin)
                pin = None
            # Without a directory nothing is pinned, whatever the object asks for by LIBBPF_PIN_BY_NAME.
            check(library().bpf_map__set_pin_path(pointer, None if pin is None else os.fsencode(pin)), f"pin {name}")
        for name, pointer in self._programs():
            check(library().bpf_program__set_log_level(pointer, verifier_log_level), f"set the log level of {name}")

    def _check_built(self, name: str, pointer: int) -> None:
        """The object and abi.py must be of one ha_abi.h."""
        layout = abi.MAPS.get(name)
        if layout is None:
            return
        wanted = (layout.type, ctypes.sizeof(layout.key), ctypes.sizeof(layout.value))
        found = (
            library().bpf_map__type(pointer),
            library().bpf_map__key_size(pointer),
            library().bpf_map__value_size(pointer),
        )
        if found != wanted:
            raise LoaderError(
                f"{self.path} was built from another ha_abi.h: its map `{name}` has type, key size and value size "
                f"{_numbers(found)}, wanted are {_numbers(wanted)}; run `make build`"
            )

    def _write_configuration(self, configuration: abi.HaConfiguration) -> None:
        variable = Btf(check_pointer(library().bpf_object__btf(self._pointer), "read BTF")).variable(
            RODATA, CONFIGURATION
        )
        rodata = next((pointer for _, pointer in self._maps() if _is_rodata(pointer)), None)
        if variable is None or rodata is None:
            raise LoaderError(f"{self.path} has no `{CONFIGURATION}` in {RODATA}; run `make build`")
        size = ctypes.c_size_t()
        start = check_pointer(library().bpf_map__initial_value(rodata, ctypes.byref(size)), f"read {RODATA}")
        if variable.size != ctypes.sizeof(configuration) or variable.offset + variable.size > size.value:
            raise LoaderError(
                f"{self.path} was built from another ha_abi.h: `{CONFIGURATION}` has {variable.size} octets, wanted "
                f"are {ctypes.sizeof(configuration)}; run `make build`"
            )
        built_version = abi.HaConfiguration.from_address(start + variable.offset).abi_version
        if built_version not in (0, abi.ABI_VERSION):
            raise LoaderError(
                f"{self.path} has ABI version {built_version}, wanted is {abi.ABI_VERSION}: it is of another "
                f"version than this program; run `make build`"
            )
        written = abi.HaConfiguration.from_buffer_copy(configuration)
        written.abi_version = abi.ABI_VERSION
        ctypes.memmove(start + variable.offset, ctypes.byref(written), variable.size)

    def _load(self) -> None:
        with libbpf.captured_log() as log:
            result = library().bpf_object__load(self._pointer)
        self.log = tuple(log)
        if result < 0:
            raise LoaderError(f"the kernel refused {self.path}: {os.strerror(-result)}", self.log)
        for name, pointer in self._maps():
            self.map_fds[RODATA if _is_rodata(pointer) else name] = library().bpf_map__fd(pointer)
        for name, pointer in self._programs():
            self.program_fds[name] = library().bpf_program__fd(pointer)

    def _pin_configuration(self, pin_directory: Path) -> None:
        """Pin `.rodata` beside the maps: by its name the next start, and anyone who looks, learns the ABI version."""
        fd = self.map_fds.get(RODATA)
        if fd is None:
            return
        pin = pin_directory / f"{CONFIGURATION_PIN}{abi.ABI_VERSION}"
        pin.unlink(missing_ok=True)
        libbpf.pin(fd, pin)


def _is_rodata(pointer: int) -> bool:
    # The name in the kernel is the object's, cut to 8 octets, with the section's.
    name: bytes = library().bpf_map__name(pointer)
    return bool(library().bpf_map__is_internal(pointer)) and name.endswith(RODATA.encode())


def _numbers(values: tuple[int, ...]) -> str:
    return "/".join(str(int(value)) for value in values)


def _foreign(name: str, pin: Path, what: str, found: object, wanted: object) -> LoaderError:
    return LoaderError(
        f"the map `{name}` pinned at {pin} has {what} {found}, wanted is {wanted}: it is another version's, or another "
        f"configuration's; run `ha-fastpath detach` (it ends forwarding and forgets the bindings) and start again"
    )


def _take_over_map(name: str, pointer: int, pin: Path) -> None:
    """Have the object use the map that is pinned, instead of a new one, if it is what the object would make.

    libbpf has the same by bpf_map__set_pin_path, but its 1.1 refuses every devmap: the kernel adds a flag to those.
    """
    fd = libbpf.open_pin(pin)
    try:
        if not libbpf.is_map(fd):
            raise LoaderError(f"what is pinned at {pin} is not a map; remove it and start again")
        _compare_map(name, pointer, pin, libbpf.map_information(fd))
        check(library().bpf_map__reuse_fd(pointer, fd), f"reuse {pin}")
    finally:
        os.close(fd)


def _compare_map(name: str, pointer: int, pin: Path, found: libbpf.MapInformation) -> None:
    """Sizes by the kernel's word, members by BTF where it may be read. Raises LoaderError."""
    for what, is_found, is_wanted in (
        ("type", found.type, library().bpf_map__type(pointer)),
        ("key size", found.key_size, library().bpf_map__key_size(pointer)),
        ("value size", found.value_size, library().bpf_map__value_size(pointer)),
        ("max_entries", found.max_entries, library().bpf_map__max_entries(pointer)),
        ("flags", found.flags & ~_BPF_F_RDONLY_PROG, library().bpf_map__map_flags(pointer) & ~_BPF_F_RDONLY_PROG),
    ):
        if is_found != is_wanted:
            raise _foreign(name, pin, what, is_found, is_wanted)
    layout = abi.MAPS[name]
    # libbpf gives the kernel no BTF for these kinds.
    if layout.type in _BTF_FREE_TYPES:
        return
    if found.btf_id == 0:
        raise _foreign(name, pin, "BTF", "none", "that of ha_abi.h")
    # The kernel shows BTF to CAP_SYS_ADMIN alone, which a daemon should not have; sizes and ABI version hold without.
    with suppress(PermissionError):
        _compare_members(name, pin, found, layout)


def _compare_members(name: str, pin: Path, found: libbpf.MapInformation, layout: abi.MapLayout) -> None:
    with kernel_btf(found.btf_id) as btf:
        for what, type_id, data in (
            ("key", found.btf_key_type_id, layout.key),
            ("value", found.btf_value_type_id, layout.value),
        ):
            if not issubclass(data, ctypes.Structure):
                continue
            members = btf.members(type_id)
            wanted = structure_members(data)
            if members != wanted:
                raise _foreign(name, pin, f"the {what} layout", _layout(members), _layout(wanted))


def _layout(members: tuple[Member, ...] | None) -> str:
    if members is None:
        return "{no struct}"
    return "{" + ", ".join(f"{member.name} at {member.offset}+{member.size}" for member in members) + "}"


def _check_pinned_version(pin_directory: Path) -> None:
    """Refuse pins of another ABI version, which may differ where no layout shows it, as in the order of reasons."""
    for pin in configuration_pins(pin_directory):
        found = pin.name.removeprefix(CONFIGURATION_PIN)
        if found != str(abi.ABI_VERSION):
            raise _foreign(CONFIGURATION, pin, "ABI version", found, abi.ABI_VERSION)


def configuration_pins(pin_directory: Path) -> list[Path]:
    """The pins that tell which ABI version the data path pinned in a directory has; one, or none."""
    return sorted(pin_directory.glob(f"{CONFIGURATION_PIN}*"))
