# SPDX-License-Identifier: Apache-2.0
"""Compiles BPF sources of a test's own, with the flags of the Makefile."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
HEADERS = REPOSITORY / "bpf"


def compile_bpf(source: str, directory: Path, name: str = "object", headers: Path = HEADERS) -> Path:
    """The object file of a C source; `headers` is where it finds ha_abi.h."""
    source_path, object_path = directory / f"{name}.bpf.c", directory / f"{name}.bpf.o"
    source_path.write_text(source, encoding="ascii")
    flags = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror"]
    includes = [f"-I{headers}", f"-I/usr/include/{platform.machine()}-linux-gnu"]
    subprocess.run(
        ["clang-19", *flags, *includes, "-c", str(source_path), "-o", str(object_path)],
        check=True,
    )
    return object_path
