# SPDX-License-Identifier: Apache-2.0
"""A home agent's data path in a network namespace, to which whole frames are given by BPF_PROG_TEST_RUN.

home0 is the home link, far0 leads to the world by one router, other0 is an interface that the data path may not send
by, idle0 one that it does not serve. Routes, neighbors and maps are those below; every test starts from them. Nothing
leaves: what is judged is the verdict, the frame, and the one counter that moved.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from control.binding.cache import BindingCacheEntry
from control.binding.effects import EffectResult
from ha_fastpath.dataplane import abi, libbpf
from ha_fastpath.dataplane.abi import Reason
from ha_fastpath.dataplane.counters import home_agent_counters
from ha_fastpath.dataplane.loader import BpfObject, object_path
from ha_fastpath.dataplane.maps import HomeAgentMaps
from tests.bpf.namespace import ip, network_namespace

_CLONE_NEWNET = 0x4000_0000
_libc = ctypes.CDLL(None, use_errno=True)

HOME_PREFIX = "2001:db8:1::/64"
HOME_AGENT = "2001:db8:1::1"
HOME_LINK = 1
HOME_ADDRESS = "2001:db8:1::100"
LINK_LOCAL = "fe80::100"
CARE_OF_ADDRESS = "2001:db8:f1::100"
OTHER_HOME_ADDRESS = "2001:db8:1::200"
OTHER_CARE_OF_ADDRESS = "2001:db8:f2::200"
NEIGHBOR = "2001:db8:1::50"
CORRESPONDENT = "2001:db8:c::1"

# Care-of addresses that the FIB leads elsewhere than by far0 and its router with an MTU of 1500. Forwarding heeds a
# route's MTU only if it is locked, in the kernel as in bpf_fib_lookup.
NO_NEIGHBOR_CARE_OF_ADDRESS = "2001:db8:f9::100"
SMALL_MTU_CARE_OF_ADDRESS = "2001:db8:f8::100"
NOT_A_PORT_CARE_OF_ADDRESS = "2001:db8:fa::100"
SMALL_MTU = 1400

HOME_MAC = "02:00:00:00:01:01"
FAR_MAC = "02:00:00:00:02:01"
OTHER_MAC = "02:00:00:00:03:01"
IDLE_MAC = "02:00:00:00:04:01"
NEIGHBOR_MAC = "02:00:00:00:01:50"
ROUTER_MAC = "02:00:00:00:02:fe"
CACHED_ROUTER_MAC = "02:00:00:00:02:fd"

SPI_FIRST, SPI_LAST = 0x100, 0x1FF
ADJACENCY = 7
HOUR_NS = 3600 * 10**9
# The clock of the data path is a tick late at most.
EXPIRED_NS = -(10**9)

_SETUP = f"""
link add home0 address {HOME_MAC} type veth peer name home0peer
link add far0 address {FAR_MAC} type veth peer name far0peer
link add other0 address {OTHER_MAC} type veth peer name other0peer
link add idle0 address {IDLE_MAC} type veth peer name idle0peer
tuntap add mode tap name tap0
link set home0 up
link set home0peer up
link set far0 up
link set far0peer up
link set other0 up
link set other0peer up
link set idle0 up
link set idle0peer up
address add {HOME_AGENT}/64 dev home0 nodad
address add 2001:db8:2::1/64 dev far0 nodad
address add 2001:db8:3::1/64 dev other0 nodad
neighbor add {NEIGHBOR} lladdr {NEIGHBOR_MAC} dev home0 nud permanent
neighbor add 2001:db8:2::fe lladdr {ROUTER_MAC} dev far0 nud permanent
neighbor add 2001:db8:3::fe lladdr 02:00:00:00:03:fe dev other0 nud permanent
route add default via 2001:db8:2::fe dev far0
route add 2001:db8:f8::/64 via 2001:db8:2::fe dev far0 mtu lock {SMALL_MTU}
route add 2001:db8:f9::/64 via 2001:db8:2::99 dev far0
route add 2001:db8:fa::/64 via 2001:db8:3::fe dev other0
"""


class Verdict(IntEnum):
    """enum xdp_action of linux/bpf.h."""

    ABORTED = 0
    DROP = 1
    PASS = 2
    TX = 3
    REDIRECT = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one frame."""

    verdict: Verdict
    reason: Reason
    frame: bytes


class HomeAgentNetwork:
    """The program, its maps and the namespace that it runs in."""

    def __init__(self, namespace: int, loaded: BpfObject) -> None:
        self._namespace = namespace
        self._program = loaded.program_fd("ha_xdp")
        self._counters = home_agent_counters(loaded.map_fd("counters"))
        self.maps = HomeAgentMaps.of(loaded)
        with self.inside():
            self.interfaces = {name: _interface_index(name) for name in ("home0", "far0", "other0", "idle0", "tap0")}

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Run the calling thread in the namespace."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(self._namespace)
            try:
                yield
            finally:
                _enter(before)
        finally:
            os.close(before)

    def reset(self) -> None:
        """Write the maps as every test finds them: one binding, all else empty but what the home agent is."""
        maps = self.maps
        for item in list(maps.bindings.items()):
            maps.bindings.remove(item.home_address)
        maps.tentative.clear()
        maps.adjacencies.clear()
        maps.interfaces.clear()
        maps.home_links.clear()
        maps.home_agent_addresses.clear()
        maps.home_links.put(HOME_LINK, IPv6Network(HOME_PREFIX), IPv6Address(HOME_AGENT))
        maps.home_agent_addresses.add(IPv6Address(HOME_AGENT), HOME_LINK)
        with self.inside():
            maps.taps.clear()
            maps.ports.clear()
            maps.interfaces.put(self.interfaces["home0"], mac(HOME_MAC), HOME_LINK, 1500)
            maps.interfaces.put(self.interfaces["far0"], mac(FAR_MAC), 0, 1500)
            for name in ("home0", "far0"):
                maps.taps.put(self.interfaces[name], self.interfaces["tap0"])
                maps.ports.add(self.interfaces[name])
        self.bind()

    def bind(
        self,
        home_address: str = HOME_ADDRESS,
        care_of_address: str = CARE_OF_ADDRESS,
        *,
        home_agent_address: str = HOME_AGENT,
        home_link: int = HOME_LINK,
        link_local: bool = False,
        adjacency: int = 0,
        lasts_ns: int = HOUR_NS,
    ) -> None:
        """Install a binding, in place of any earlier one of this home address."""
        now = time.monotonic_ns()
        entry = BindingCacheEntry(
            home_address=IPv6Address(home_address),
            care_of_address=IPv6Address(care_of_address),
            home_agent_address=IPv6Address(home_agent_address),
            home_link=home_link,
            sequence=1,
            lifetime_units=900,
            registered_ns=now,
            expires_ns=now + lasts_ns,
            link_local_compatible=link_local,
            key_management_mobility=False,
        )
        assert self.maps.bindings.install(entry, adjacency) is EffectResult.DONE

    def cache_adjacency(self, interface: str = "far0", mtu: int = 1500) -> None:
        """Fill the slot ADJACENCY with a next hop that the FIB does not know, so that the two can be told apart."""
        self.maps.adjacencies.write(ADJACENCY, self.interfaces[interface], mtu, mac(CACHED_ROUTER_MAC), mac(FAR_MAC))

    def run(self, frame: Any, interface: str) -> Outcome:
        """Give the program a frame; exactly one counter moves, by one packet and by the frame's octets."""
        octets = bytes(frame)
        before = self._counters.read()
        with self.inside():
            verdict, left = libbpf.prog_test_run(self._program, octets, self.interfaces[interface])
        after = self._counters.read()
        moved = {name: count for name, count in after.items() if count != before[name]}
        assert len(moved) == 1, f"a packet is counted once, not as {sorted(moved)}"
        ((name, count),) = moved.items()
        assert count.packets - before[name].packets == 1
        assert count.octets - before[name].octets == len(octets)
        return Outcome(Verdict(verdict), Reason[name.upper()], left)


@contextmanager
def home_agent_network() -> Iterator[HomeAgentNetwork]:
    """Make the namespace, load the program, and take both away at the end."""
    with ExitStack() as stack:
        with network_namespace():
            namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, namespace)
            for line in _SETUP.strip().splitlines():
                ip(f"-6 {line}" if line.startswith("route") else line)
            for setting in ("all", "default"):
                Path(f"/proc/sys/net/ipv6/conf/{setting}/forwarding").write_text("1", encoding="ascii")
            # The kernel takes a frame for an interface only where one of its receive queues runs native XDP.
            passing = stack.enter_context(BpfObject.load(object_path("xdp_pass")))
            for name in ("home0", "far0", "other0", "idle0"):
                link = libbpf.create_xdp_link(
                    passing.program_fd("xdp_pass"), _interface_index(name), libbpf.AttachMode.NATIVE
                )
                stack.callback(os.close, link)
        configuration = abi.HaConfiguration(spi_first=SPI_FIRST, spi_last=SPI_LAST)
        loaded = stack.enter_context(BpfObject.load(object_path("ha_xdp"), configuration=configuration))
        yield HomeAgentNetwork(namespace, loaded)


def mac(text: str) -> bytes:
    """The six octets of a MAC address."""
    return bytes.fromhex(text.replace(":", ""))


def ethernet_to_home_agent(interface: str) -> Any:
    """The Ethernet header of a frame that a station on an interface's link sends to the home agent."""
    if interface == "home0":
        return Ether(src=NEIGHBOR_MAC, dst=HOME_MAC)
    return Ether(src=ROUTER_MAC, dst=FAR_MAC)


def tunnelled(inner: Any, source: str = CARE_OF_ADDRESS, destination: str = HOME_AGENT, **fields: Any) -> Any:
    """A packet in the reverse tunnel, as it arrives on far0."""
    return ethernet_to_home_agent("far0") / IPv6(src=source, dst=destination, nh=41, **fields) / inner


def flow_label(frame: bytes) -> int:
    """That of an untagged frame's first IPv6 header."""
    return int.from_bytes(frame[14:18], "big") & 0xFFFFF


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def _interface_index(name: str) -> int:
    # /sys shows the namespace that it was mounted in; this call, the thread's.
    index: int = _libc.if_nametoindex(name.encode())
    assert index, f"no interface {name}"
    return index
