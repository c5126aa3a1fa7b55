# SPDX-License-Identifier: Apache-2.0
"""Gives back, once the daemon has started, the memory that only starting needed.

libbcc brings a whole compiler, none of which runs here, yet loading it touches some 60 MB of its files. The kernel maps
a page again at its next use, so nothing is lost but that use's microsecond.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MADV_DONTNEED: Final = 4
_MAPPING: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \S+ +(/.*)")
_ANONYMOUS: Final = re.compile(r"Anonymous: +(\d+) kB")


def shrink(mappings: Path = Path("/proc/self/smaps")) -> int:
    """Give back file pages and free heap; how many mappings were given back."""
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = [ctypes.c_ulong, ctypes.c_ulong, ctypes.c_int]
    count = 0
    for start, length in clean_file_mappings(mappings.read_text(encoding="utf-8", errors="replace")):
        # Refused, for one that is locked, the pages merely stay.
        count += libc.madvise(start, length, _MADV_DONTNEED) == 0
    libc.malloc_trim(0)
    return count


def clean_file_mappings(smaps: str) -> Iterator[tuple[int, int]]:
    """Start and length of each mapping of a file that is read-only and holds nothing but what the file has.

    What the dynamic linker wrote before it made a mapping read-only (RELRO) counts as anonymous, and must stay.
    """
    candidate: tuple[int, int] | None = None
    for line in smaps.splitlines():
        if (mapping := _MAPPING.match(line)) is not None:
            start, end = int(mapping[1], 16), int(mapping[2], 16)
            candidate = None if "w" in mapping[3] or "s" in mapping[3] else (start, end - start)
        elif (anonymous := _ANONYMOUS.match(line)) is not None:
            if candidate is not None and anonymous[1] == "0":
                yield candidate
            candidate = None
