# SPDX-License-Identifier: Apache-2.0
"""Layouts read from BTF: what an object file, or a map in the kernel, says of its types.

Only structs and the variables of a data section are understood, which is all that ha_abi.h needs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ha_fastpath.dataplane.libbpf import check_pointer, library

_KIND_STRUCT = 4
_KIND_TYPEDEF = 8
_KIND_VOLATILE = 9
_KIND_CONST = 10
_KIND_DATASEC = 15
_TRANSPARENT = (_KIND_TYPEDEF, _KIND_VOLATILE, _KIND_CONST)


class _Type(ctypes.Structure):
    """struct btf_type."""

    _fields_ = (("name_off", ctypes.c_uint32), ("info", ctypes.c_uint32), ("size_or_type", ctypes.c_uint32))


class _Part(ctypes.Structure):
    """struct btf_member is {name, type, offset in bits}; struct btf_var_secinfo is {type, offset, size}."""

    _fields_ = (("first", ctypes.c_uint32), ("second", ctypes.c_uint32), ("third", ctypes.c_uint32))


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a struct, or a variable of a section; offset and size in octets."""

    name: str
    offset: int
    size: int


class Btf:
    """The types of one BTF blob that libbpf holds; it lives no longer than its owner."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    def members(self, type_id: int) -> tuple[Member, ...] | None:
        """The members of a struct; None for a type of any other kind."""
        address, kind, count = self._type(type_id)
        if kind != _KIND_STRUCT:
            return None
        return tuple(
            Member(self._name(part.first), part.third // 8, library().btf__resolve_size(self._pointer, part.second))
            for part in self._parts(address, count)
        )

    def variable(self, section: str, name: str) -> Member | None:
        """Where a variable lies in a data section; None if it has none of this name."""
        section_id = library().btf__find_by_name_kind(self._pointer, section.encode(), _KIND_DATASEC)
        if section_id < 0:
            return None
        address, _, count = self._type(section_id)
        for part in self._parts(address, count):
            variable = _Type.from_address(library().btf__type_by_id(self._pointer, part.first))
            if self._name(variable.name_off) == name:
                return Member(name, part.second, part.third)
        return None

    def _type(self, type_id: int) -> tuple[int, int, int]:
        """Address, kind and number of parts of a type, looked at through typedefs and qualifiers."""
        while True:
            address: int = check_pointer(library().btf__type_by_id(self._pointer, type_id), "read BTF")
            described = _Type.from_address(address)
            kind, count = (described.info >> 24) & 0x1F, described.info & 0xFFFF
            if kind not in _TRANSPARENT:
                return address, kind, count
            type_id = described.size_or_type

    def _name(self, offset: int) -> str:
        name: bytes | None = library().btf__name_by_offset(self._pointer, offset)
        return "" if name is None else name.decode()

    @staticmethod
    def _parts(address: int, count: int) -> list[_Part]:
        return list((_Part * count).from_address(address + ctypes.sizeof(_Type)))


@contextmanager
def kernel_btf(btf_id: int) -> Iterator[Btf]:
    """The BTF that a map in the kernel was made with."""
    pointer = check_pointer(library().btf__load_from_kernel_by_id(btf_id), f"load BTF {btf_id}")
    try:
        yield Btf(pointer)
    finally:
        library().btf__free(pointer)


def structure_members(structure: type[ctypes.Structure]) -> tuple[Member, ...]:
    """The members of a ctypes structure, to compare with `Btf.members`."""
    found = []
    for field in structure._fields_:
        descriptor = structure.__dict__[field[0]]
        found.append(Member(field[0], descriptor.offset, descriptor.size))
    return tuple(found)
