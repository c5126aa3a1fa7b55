# SPDX-License-Identifier: Apache-2.0
"""The counters of the data path: packets and octets by reason, summed over the CPUs.

A packet is counted once, so the sum over all reasons is the packets seen. The kernel counts on while they are read.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from bcc.table import PerCpuArray
from bcc.utils import get_possible_cpus

from ha_fastpath.dataplane import abi
from ha_fastpath.dataplane.maps import bcc_table


class Count(NamedTuple):
    """What was counted for one reason."""

    packets: int
    octets: int


class CounterMap:
    """A per-CPU array of struct ha_counter, one for each member of an enum."""

    def __init__(self, fd: int, reasons: type[IntEnum]) -> None:
        self._reasons: Iterable[IntEnum] = reasons
        self._table = bcc_table(PerCpuArray, fd, ctypes.c_uint32, abi.HaCounter)
        # As its constructor would: a read brings the values of all possible CPUs, each rounded up to 8 octets.
        self._table.reducer = None
        self._table.sLeaf = abi.HaCounter
        self._table.total_cpu = len(get_possible_cpus())
        self._table.alignment = 0
        self._table.Leaf = abi.HaCounter * self._table.total_cpu

    def read(self) -> dict[str, Count]:
        """Packets and octets by the reason's name, in lower case; every reason is in it."""
        return {reason.name.lower(): self._sum(reason) for reason in self._reasons}

    def _sum(self, reason: IntEnum) -> Count:
        by_cpu = self._table[ctypes.c_uint32(reason)]
        return Count(sum(counter.packets for counter in by_cpu), sum(counter.octets for counter in by_cpu))


def home_agent_counters(fd: int) -> CounterMap:
    """Those of ha_xdp.bpf.o."""
    return CounterMap(fd, abi.Reason)


def mobile_node_counters(fd: int) -> CounterMap:
    """Those of ha_host.bpf.o."""
    return CounterMap(fd, abi.HostReason)
