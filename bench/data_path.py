# SPDX-License-Identifier: Apache-2.0
"""Nanoseconds a packet of each path through the home agent's XDP program, beside a bare XDP_TX program.

Every run gets a fresh packet from bench/restore.bpf.c, whose own cost is the bare program's row: once with one address,
once with the list of them. Rows are measured in turn, so that the machine's drift meets all alike, and the counters
must show that every packet took the path meant. BPF_PROG_TEST_RUN runs the program without a NIC and a driver: these
are figures of the program, not of a link.
"""

from __future__ import annotations

import ctypes
import os
import platform
import random
import socket
import statistics
import struct
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from control.binding.cache import BindingCacheEntry
from control.binding.effects import EffectResult
from control.wire.icmpv6 import push_icmpv6
from control.wire.ipv6 import IPv6Packet, NextHeader, push_packet
from control.wire.neighbor import NeighborSolicitation, SourceLinkLayerAddress, solicited_node_multicast
from ha_fastpath.dataplane import abi, libbpf
from ha_fastpath.dataplane.counters import home_agent_counters
from ha_fastpath.dataplane.loader import BpfObject, object_path
from ha_fastpath.dataplane.maps import HomeAgentMaps

ROUNDS = 15
REPEAT = 200_000
SPREAD = 100_000
"How many bindings the spread rows take their turns over."

XDP_TX = 3
CLONE_NEWNET = 0x4000_0000
FRAME_LENGTH_MAX = 256
ETHERNET_LENGTH = 14
IPV6_LENGTH = 40
NEVER_NS = (1 << 63) - 1

INTERFACE = "home0"
HOME_LINK = 1
ADJACENCY = 1
PREFIX = IPv6Network("2001:db8:1::/64")
HOME_AGENT = IPv6Address("2001:db8:1::1")
CARE_OF_ADDRESS = IPv6Address("2001:db8:2::100")
CORRESPONDENT = IPv6Address("2001:db8:c::3")
NEIGHBOR = IPv6Address("2001:db8:1::2")
MAC_OURS = bytes.fromhex("020000000001")
MAC_PEER = bytes.fromhex("020000000002")


class BenchFrame(ctypes.Structure):
    """struct bench_frame of restore.bpf.c."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("address_offset", ctypes.c_uint32),
        ("address_count", ctypes.c_uint32),
        ("next", ctypes.c_uint32),
        ("octets", ctypes.c_uint8 * FRAME_LENGTH_MAX),
    )


@dataclass(frozen=True)
class Row:
    """One line of the table: a frame, and the counter that each run must move."""

    title: str
    frame: bytes
    reason: abi.Reason | None
    "None: the bare program."
    address_offset: int = 0
    address_count: int = 0


def home_address(index: int) -> IPv6Address:
    """A home address of the bench; spread over the prefix, as interface identifiers are."""
    return PREFIX[(index * 0x9E37_79B9_7F4A_7C15 + 0x100) % (1 << 64)]


def ethernet(packet: bytes) -> bytes:
    """A frame to the home agent."""
    return MAC_OURS + MAC_PEER + b"\x86\xdd" + packet


def rows() -> list[Row]:
    """What is measured, the baseline first."""
    # A UDP datagram of 8 octets: minimum frames are the hard case.
    datagram = struct.pack("!HHHH", 40000, 40001, 16, 0) + bytes(8)
    inward = push_packet(IPv6Packet(CORRESPONDENT, home_address(0), NextHeader.UDP, datagram))
    outward = push_packet(IPv6Packet(home_address(0), NEIGHBOR, NextHeader.UDP, datagram))
    tunnelled = push_packet(IPv6Packet(CARE_OF_ADDRESS, HOME_AGENT, NextHeader.IPV6, outward))
    group = solicited_node_multicast(home_address(0))
    question = NeighborSolicitation(home_address(0), (SourceLinkLayerAddress(MAC_PEER),))
    solicitation = push_packet(
        IPv6Packet(NEIGHBOR, group, NextHeader.ICMPV6, push_icmpv6(question, NEIGHBOR, group), hop_limit=255)
    )
    destination = ETHERNET_LENGTH + 24
    inner_source = ETHERNET_LENGTH + IPV6_LENGTH + 8
    encapsulated, opened = abi.Reason.FORWARD_TUNNELLED, abi.Reason.FORWARD_REVERSE_TUNNELLED
    return [
        Row("bare XDP_TX", ethernet(inward), None),
        Row(f"bare XDP_TX, {SPREAD:,} addresses", ethernet(inward), None, destination, SPREAD),
        Row("encapsulate, one binding", ethernet(inward), encapsulated),
        Row(f"encapsulate, {SPREAD:,} bindings", ethernet(inward), encapsulated, destination, SPREAD),
        Row("decapsulate, one binding", ethernet(tunnelled), opened),
        Row(f"decapsulate, {SPREAD:,} bindings", ethernet(tunnelled), opened, inner_source, SPREAD),
        Row("answer a solicitation", ethernet(solicitation), abi.Reason.FORWARD_SOLICITATION_ANSWERED),
    ]


def enter_namespace() -> int:
    """A network namespace of this process's own, which goes with it; returns the index of the interface in it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot make a network namespace; run the bench as root")
    commands = (
        f"link add {INTERFACE} address {MAC_OURS.hex(':')} type veth peer name peer0 address {MAC_PEER.hex(':')}",
        f"link set {INTERFACE} up",
        "link set peer0 up",
        f"addr add {HOME_AGENT}/64 dev {INTERFACE} nodad",
        f"neigh add {NEIGHBOR} lladdr {MAC_PEER.hex(':')} dev {INTERFACE} nud permanent",
    )
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)
    # bpf_fib_lookup answers only where packets are forwarded.
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1", encoding="ascii")
    return socket.if_nametoindex(INTERFACE)


def fill(maps: HomeAgentMaps, interface_index: int) -> None:
    """The maps as a daemon with `SPREAD` bindings would have written them."""
    maps.interfaces.put(interface_index, MAC_OURS, HOME_LINK, 1500)
    maps.ports.add(interface_index)
    maps.home_links.put(HOME_LINK, PREFIX, HOME_AGENT)
    maps.home_agent_addresses.add(HOME_AGENT, HOME_LINK)
    maps.adjacencies.write(ADJACENCY, interface_index, 1500, MAC_PEER, MAC_OURS)
    for index in range(SPREAD):
        entry = BindingCacheEntry(
            home_address=home_address(index),
            care_of_address=CARE_OF_ADDRESS,
            home_agent_address=HOME_AGENT,
            home_link=HOME_LINK,
            sequence=0,
            lifetime_units=1,
            registered_ns=0,
            expires_ns=NEVER_NS,
            link_local_compatible=False,
            key_management_mobility=False,
        )
        if maps.bindings.install(entry, ADJACENCY) is not EffectResult.DONE:
            raise SystemExit("bench: the bindings map does not take the bench's bindings")


def write(map_fd: int, key: int, value: bytes) -> None:
    """Write one element of a map of the wrapper's; OSError if the kernel refuses."""
    index = ctypes.c_uint32(key)
    libbpf.check(
        libbpf.library().bpf_map_update_elem(map_fd, ctypes.byref(index), value, 0), "write a map of the bench"
    )


class Bench:
    """The wrapper and the program under test, ready to run any row."""

    def __init__(self, home_agent: BpfObject, wrapper: BpfObject, interface_index: int) -> None:
        self._home_agent = home_agent
        self._wrapper = wrapper
        self._interface_index = interface_index
        self._counters = home_agent_counters(home_agent.map_fd("counters"))

    def addresses(self, addresses: Iterable[IPv6Address]) -> None:
        """Fill the list that the spread rows take their turns over."""
        fd = self._wrapper.map_fd("addresses")
        for index, address in enumerate(addresses):
            write(fd, index, address.packed)

    def measure(self, row: Row) -> float:
        """Mean ns of one run of the wrapper and the program; SystemExit if a packet took another path."""
        frame = BenchFrame(len(row.frame), row.address_offset, row.address_count, 0)
        frame.octets[: len(row.frame)] = row.frame
        write(self._wrapper.map_fd("frame"), 0, bytes(frame))
        program = self._wrapper.program_fd("bare_tx") if row.reason is None else self._home_agent.program_fd("ha_xdp")
        write(self._wrapper.map_fd("program_under_test"), 0, struct.pack("=I", program))
        before = self._counters.read()
        verdict, _, duration_ns = libbpf.prog_test_run_timed(
            self._wrapper.program_fd("restore"), row.frame, self._interface_index, REPEAT
        )
        after = self._counters.read()
        moved = {name: after[name].packets - before[name].packets for name in after}
        taken = {name: count for name, count in moved.items() if count}
        meant = {} if row.reason is None else {row.reason.name.lower(): REPEAT}
        if verdict != XDP_TX or taken != meant:
            raise SystemExit(f"bench: {row.title}: verdict {verdict}, counters {taken}, meant {meant}")
        return float(duration_ns)


def processor() -> str:
    """The processor's own name."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def main() -> int:
    """Measure, and print one table."""
    interface_index = enter_namespace()
    with (
        BpfObject.load(
            object_path("ha_xdp"),
            configuration=abi.HaConfiguration(spi_first=0x100, spi_last=0xBFFF_FFFF),
            max_entries={"bindings": SPREAD},
        ) as home_agent,
        BpfObject.load(object_path("restore"), max_entries={"addresses": SPREAD}) as wrapper,
    ):
        fill(HomeAgentMaps.of(home_agent), interface_index)
        bench = Bench(home_agent, wrapper, interface_index)
        order = [home_address(index) for index in range(SPREAD)]
        random.Random(6275).shuffle(order)  # noqa: S311 - an order, not a secret
        bench.addresses(order)

        table = rows()
        for row in table:
            bench.measure(row)
        readings: dict[str, list[float]] = {row.title: [] for row in table}
        for _ in range(ROUNDS):
            for row in table:
                readings[row.title].append(bench.measure(row))

    print(f"{processor()}, {os.cpu_count()} CPUs, Linux {platform.release()}")
    print(f"{ROUNDS} rounds of {REPEAT:,} packets a row, in turn; ns/packet.")
    print("Net: less the median of the bare program's row with the same addresses.\n")
    medians = {title: statistics.median(values) for title, values in readings.items()}
    baselines = {row.address_count: medians[row.title] for row in table if row.reason is None}
    print(f"{'path':<32}{'median':>8}{'min':>8}{'max':>8}{'net':>8}")
    for row in table:
        values = readings[row.title]
        median = medians[row.title]
        net = median - baselines[row.address_count]
        print(f"{row.title:<32}{median:>8.0f}{min(values):>8.0f}{max(values):>8.0f}{net:>8.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
