# SPDX-License-Identifier: Apache-2.0
"""abi.py against ha_abi.h, by the BTF that clang makes of the header and that bpftool reads.

bpftool is the oracle: the loader's own reader of BTF is not used here.
"""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any

import pytest

from ha_fastpath.dataplane import abi
from ha_fastpath.dataplane.loader import object_path
from tests.bpf.compiler import HEADERS, compile_bpf

STRUCTURES: dict[str, type[ctypes.Structure]] = {
    "ha_configuration": abi.HaConfiguration,
    "ha_binding_key": abi.HaBindingKey,
    "ha_binding": abi.HaBinding,
    "ha_adjacency": abi.HaAdjacency,
    "ha_interface": abi.HaInterface,
    "ha_home_link": abi.HaHomeLink,
    "ha_counter": abi.HaCounter,
    "ha_mobile_node": abi.HaMobileNode,
}

# The mirror, the prefix that Python's names lack, and the enumerator that only counts the others.
ENUMS: dict[str, tuple[type[IntEnum | IntFlag], str, str | None]] = {
    "ha_limit": (abi.Limit, "HA_", None),
    "ha_binding_flag": (abi.BindingFlag, "HA_BINDING_", None),
    "ha_reason": (abi.Reason, "HA_", "HA_REASON_COUNT"),
    "ha_mobile_node_flag": (abi.MobileNodeFlag, "HA_MOBILE_NODE_", None),
    "ha_host_reason": (abi.HostReason, "HA_HOST_", "HA_HOST_REASON_COUNT"),
}

HEADER = (HEADERS / "ha_abi.h").read_text(encoding="ascii")

Types = dict[int, dict[str, Any]]


def read_btf(path: Path) -> Types:
    """The types of an object file, by number."""
    dump = subprocess.run(
        ["bpftool", "btf", "dump", "file", str(path), "-j"], check=True, capture_output=True, text=True
    )
    return {described["id"]: described for described in json.loads(dump.stdout)["types"]}


def size_of(types: Types, type_id: int) -> int:
    described = types[type_id]
    match described["kind"]:
        case "ARRAY":
            return int(described["nr_elems"]) * size_of(types, described["type_id"])
        case "TYPEDEF" | "CONST" | "VOLATILE":
            return size_of(types, described["type_id"])
        case _:
            return int(described["size"])


def named(types: Types, kind: str, name: str) -> dict[str, Any] | None:
    return next((found for found in types.values() if found["kind"] == kind and found["name"] == name), None)


def members(types: Types, name: str) -> list[tuple[str, int, int]] | None:
    """Name, offset and size of each member of a struct; None if the object has no such struct."""
    found = named(types, "STRUCT", name)
    if found is None:
        return None
    return [
        (member["name"], member["bits_offset"] // 8, size_of(types, member["type_id"])) for member in found["members"]
    ]


def mirrored_members(structure: type[ctypes.Structure]) -> list[tuple[str, int, int]]:
    names = [field[0] for field in structure._fields_]
    return [(name, getattr(structure, name).offset, getattr(structure, name).size) for name in names]


@pytest.fixture(scope="module")
def header_types(tmp_path_factory: pytest.TempPathFactory) -> Types:
    """The types of an object that uses all of the header."""
    source = ['#include "ha_abi.h"']
    source += [f"struct {name} probe_{name};" for name in STRUCTURES]
    source += [f"enum {name} probe_{name};" for name in ENUMS]
    return read_btf(compile_bpf("\n".join(source) + "\n", tmp_path_factory.mktemp("abi")))


def test_every_struct_and_enum_of_the_header_is_mirrored() -> None:
    assert set(re.findall(r"^struct (\w+) \{", HEADER, re.MULTILINE)) == set(STRUCTURES)
    assert set(re.findall(r"^enum (\w+) \{", HEADER, re.MULTILINE)) == set(ENUMS)


def test_the_version_is_the_headers() -> None:
    match = re.search(r"^#define HA_ABI_VERSION (\d+)$", HEADER, re.MULTILINE)
    assert match is not None
    assert int(match.group(1)) == abi.ABI_VERSION


@pytest.mark.parametrize("name", STRUCTURES)
def test_struct(header_types: Types, name: str) -> None:
    described = named(header_types, "STRUCT", name)
    assert described is not None
    assert members(header_types, name) == mirrored_members(STRUCTURES[name])
    assert described["size"] == ctypes.sizeof(STRUCTURES[name])


@pytest.mark.parametrize("name", ENUMS)
def test_enum(header_types: Types, name: str) -> None:
    mirror, prefix, count = ENUMS[name]
    described = named(header_types, "ENUM", name)
    assert described is not None
    values = {value["name"]: value["val"] for value in described["values"]}
    if count is not None:
        assert values.pop(count) == len(mirror)
    # Two limits of one value are aliases to Python, which iteration leaves out.
    assert values == {prefix + member: int(value) for member, value in mirror.__members__.items()}


@pytest.mark.parametrize("name", ["ha_xdp", "ha_host"])
def test_built_objects_are_of_this_header(header_types: Types, name: str) -> None:
    types = read_btf(object_path(name))
    shared = [structure for structure in STRUCTURES if members(types, structure) is not None]
    assert shared
    for structure in shared:
        assert members(types, structure) == members(header_types, structure)
    for enum in ENUMS:
        built = named(types, "ENUM", enum)
        if built is not None:
            original = named(header_types, "ENUM", enum)
            assert original is not None
            assert built["values"] == original["values"]


def test_every_map_of_the_objects_is_known_with_its_sizes() -> None:
    found = {}
    for name in ("ha_xdp", "ha_host"):
        types = read_btf(object_path(name))
        section = named(types, "DATASEC", ".maps")
        assert section is not None
        for variable in (types[part["type_id"]] for part in section["vars"]):
            definition = {member["name"]: member["type_id"] for member in types[variable["type_id"]]["members"]}
            pointed = {part: types[definition[part]]["type_id"] for part in ("key", "value")}
            found[variable["name"]] = {part: size_of(types, type_id) for part, type_id in pointed.items()}
    assert found == {
        name: {"key": ctypes.sizeof(layout.key), "value": ctypes.sizeof(layout.value)}
        for name, layout in abi.MAPS.items()
    }
