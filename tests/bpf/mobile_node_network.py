# SPDX-License-Identifier: Apache-2.0
"""A mobile node's data path in a network namespace, to which whole frames are given by BPF_PROG_TEST_RUN.

mn0 is the interface that moves, with a TAP behind it; bare0 has none. The maps are those below: HOME_ADDRESS is away at
CARE_OF_ADDRESS, and still takes what comes to PREVIOUS_CARE_OF_ADDRESS. Nothing leaves: what is judged is the verdict,
the frame, and the one counter that moved.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any

from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from ha_fastpath.dataplane import libbpf
from ha_fastpath.dataplane.abi import HostReason, MobileNodeFlag
from ha_fastpath.dataplane.counters import mobile_node_counters
from ha_fastpath.dataplane.loader import BpfObject, object_path
from ha_fastpath.dataplane.maps import CareOfAddresses, MobileNodeMap, Taps
from ha_fastpath.net.netlink import find_link
from tests.bpf.namespace import ip, network_namespace

HOME_ADDRESS = "2001:db8:1::100"
HOME_AGENT = "2001:db8:1::1"
CARE_OF_ADDRESS = "2001:db8:2::100"
PREVIOUS_CARE_OF_ADDRESS = "2001:db8:3::100"
CORRESPONDENT = "2001:db8:c::2"
MAC = "02:00:00:00:04:02"
ROUTER_MAC = "02:00:00:00:01:02"
SPI_FIRST, SPI_LAST = 0x100, 0x1FF

_SETUP = f"""
link add mn0 address {MAC} type veth peer name mn0peer
link add bare0 type veth peer name bare0peer
tuntap add mode tap name tap0
link set mn0 up
link set mn0peer up
link set bare0 up
link set bare0peer up
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one frame."""

    verdict: int
    reason: HostReason
    frame: bytes


class MobileNodeNetwork:
    """The programs, their maps and the namespace's interfaces; the calling thread is in the namespace."""

    def __init__(self, loaded: BpfObject) -> None:
        self.loaded = loaded
        self.mobile_node = MobileNodeMap(loaded.map_fd("mobile_node"))
        self.care_of_addresses = CareOfAddresses(loaded.map_fd("care_of_addresses"))
        self.taps = Taps(loaded.map_fd("taps"))
        self._counters = mobile_node_counters(loaded.map_fd("host_counters"))
        self._interfaces = {name: find_link(name).index for name in ("mn0", "bare0", "tap0")}

    def reset(self) -> None:
        """Write the maps as every test finds them."""
        self.care_of_addresses.clear()
        for address in (CARE_OF_ADDRESS, PREVIOUS_CARE_OF_ADDRESS):
            self.care_of_addresses.add(IPv6Address(address), IPv6Address(HOME_ADDRESS))
        self.set_tunnel(on=True)
        self.taps.clear()
        self.taps.put(self._interfaces["mn0"], self._interfaces["tap0"])

    def set_tunnel(self, *, on: bool) -> None:
        self.mobile_node.clear()
        self.mobile_node.put(
            IPv6Address(HOME_ADDRESS),
            IPv6Address(CARE_OF_ADDRESS),
            IPv6Address(HOME_AGENT),
            (SPI_FIRST, SPI_LAST),
            MobileNodeFlag.TUNNEL if on else MobileNodeFlag(0),
        )

    def receive(self, frame: Any, interface: str = "mn0") -> Outcome:
        """Give XDP a frame that comes in."""
        return self._run("ha_host_ingress", frame, self._interfaces[interface])

    def send(self, frame: Any) -> Outcome:
        """Give tc a frame that goes out."""
        return self._run("ha_host_egress", frame, 0)

    def _run(self, program: str, frame: Any, interface_index: int) -> Outcome:
        octets = bytes(frame)
        before = self._counters.read()
        verdict, left = libbpf.prog_test_run(self.loaded.program_fd(program), octets, interface_index)
        after = self._counters.read()
        moved = {name: count for name, count in after.items() if count != before[name]}
        assert len(moved) == 1, f"a packet is counted once, not as {sorted(moved)}"
        ((name, count),) = moved.items()
        assert count.packets - before[name].packets == 1
        assert count.octets - before[name].octets == len(octets)
        return Outcome(verdict, HostReason[name.upper()], left)


@contextmanager
def mobile_node_network() -> Iterator[MobileNodeNetwork]:
    """Make the namespace, load the programs, and take both away at the end."""
    with ExitStack() as stack:
        stack.enter_context(network_namespace())
        for line in _SETUP.strip().splitlines():
            ip(line)
        # The kernel takes a frame for an interface only where one of its receive queues runs native XDP.
        passing = stack.enter_context(BpfObject.load(object_path("xdp_pass")))
        for name in ("mn0", "bare0"):
            link = libbpf.create_xdp_link(
                passing.program_fd("xdp_pass"), find_link(name).index, libbpf.AttachMode.NATIVE
            )
            stack.callback(os.close, link)
        loaded = stack.enter_context(BpfObject.load(object_path("ha_host")))
        yield MobileNodeNetwork(loaded)


def arriving(packet: Any) -> Any:
    """A packet in a frame from the router."""
    return Ether(src=ROUTER_MAC, dst=MAC) / packet


def leaving(packet: Any) -> Any:
    """A packet in a frame to the router."""
    return Ether(src=MAC, dst=ROUTER_MAC) / packet


def tunnelled(inner: Any, source: str = HOME_AGENT, destination: str = CARE_OF_ADDRESS, **fields: Any) -> Any:
    """A packet that the home agent has put into the tunnel."""
    return IPv6(src=source, dst=destination, nh=41, **fields) / inner


def to_home_address(payload: Any, **fields: Any) -> Any:
    return IPv6(src=CORRESPONDENT, dst=HOME_ADDRESS, hlim=57, **fields) / payload


def from_home_address(payload: Any, **fields: Any) -> Any:
    return IPv6(**({"src": HOME_ADDRESS, "dst": CORRESPONDENT, "hlim": 64} | fields)) / payload
