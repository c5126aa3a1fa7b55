# SPDX-License-Identifier: Apache-2.0
"""Which memory is given back after the start, and that the process lives on."""

from __future__ import annotations

from ha_fastpath.footprint import clean_file_mappings, shrink

SMAPS = """\
10000-12000 r-xp 00000000 08:01 77                       /usr/lib/libLLVM-14.so.1
Rss:                   8 kB
Anonymous:             0 kB
20000-21000 r--p 00001000 08:01 77                       /usr/lib/libLLVM-14.so.1
Anonymous:             4 kB
30000-31000 rw-p 00002000 08:01 77                       /usr/lib/libLLVM-14.so.1
Anonymous:             0 kB
40000-41000 r--s 00000000 08:01 78                       /shared
Anonymous:             0 kB
50000-51000 r--p 00000000 00:00 0
Anonymous:             0 kB
60000-61000 r-xp 00000000 00:00 0                        [vdso]
Anonymous:             0 kB
70000-73000 r--p 00000000 08:01 79                       /a file with blanks
Anonymous:             0 kB
"""


def test_only_what_the_file_still_has_is_given_back() -> None:
    assert list(clean_file_mappings(SMAPS)) == [(0x10000, 0x2000), (0x70000, 0x3000)]


def test_the_process_lives_on() -> None:
    assert shrink() > 0
    assert sum(range(1000)) == 499_500
