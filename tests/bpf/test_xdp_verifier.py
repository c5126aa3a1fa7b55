# SPDX-License-Identifier: Apache-2.0
"""What the verifier makes of the program, and what the sources promise it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ha_fastpath.dataplane import abi, libbpf
from ha_fastpath.dataplane.loader import BpfObject, object_path
from tests.bpf.compiler import HEADERS

# Of a million that the kernel allows; twice what 6.18 takes, since others prune less.
INSTRUCTION_CEILING = 150_000
MAXIMUM_BINDINGS = 100_000


@pytest.mark.bpf
def test_the_verifiers_work_is_bounded() -> None:
    configuration = abi.HaConfiguration(spi_first=0x100, spi_last=0xBFFFFFFF)
    sizes = {"bindings": MAXIMUM_BINDINGS}
    with BpfObject.load(object_path("ha_xdp"), configuration=configuration, max_entries=sizes) as loaded:
        information = libbpf.program_information(loaded.program_fd("ha_xdp"))
    assert information.verified_instructions < INSTRUCTION_CEILING


def included(name: str, seen: set[Path]) -> set[Path]:
    """A source file and all of ours that it includes."""
    path = HEADERS / name
    if path not in seen:
        seen.add(path)
        for header in re.findall(r'^#include "([^"]+)"', path.read_text(encoding="ascii"), re.MULTILINE):
            included(header, seen)
    return seen


def test_verdict_h_alone_says_how_a_packet_leaves() -> None:
    sources = included("ha_xdp.bpf.c", set())
    assert HEADERS / "verdict.h" in sources
    saying = {path.name for path in sources if re.search(r"return[^;]*\bXDP_", path.read_text(encoding="ascii"))}
    assert saying == {"verdict.h"}
