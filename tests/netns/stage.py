# SPDX-License-Identifier: Apache-2.0
"""What the namespace tests of the daemon play on: a home agent's namespace, the world around it, a daemon as a process,
and a mobile node whose packets scapy makes and reads.

        world                      home agent
    2001:db8:1::2  p-home ======== eth0  2001:db8:1::1     the home link
    2001:db8:f::2  p-world ======= eth1  2001:db8:f::1     to everywhere else

Nothing is named, so a killed run leaves no namespace behind; the daemon dies with the test.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, TypeVar

from scapy.layers.inet6 import (
    HAO,
    MIP6MH_BA,
    MIP6MH_BU,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrRouting,
    MIP6OptAltCoA,
    in6_chksum,
)
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Raw

from ha_fastpath.dataplane.loader import object_path
from ha_fastpath.management import ask

REPOSITORY = Path(__file__).resolve().parents[2]
HOME_AGENT_ADDRESS = IPv6Address("2001:db8:1::1")
GATEWAY = IPv6Address("2001:db8:f::2")
MOBILITY_HEADER = 135
ROUTING_HEADER = 43
BINDING_ACKNOWLEDGEMENT_TYPE = 6
UPDATE_SPI = 0x1000
ACKNOWLEDGEMENT_SPI = 0x1000000

_CLONE_NEWNET = 0x4000_0000
_PR_SET_PDEATHSIG = 1
_ETH_P_IPV6 = 0x86DD
Result = TypeVar("Result")

_libc = ctypes.CDLL(None, use_errno=True)


def wait_until(condition: Callable[[], Result], what: str, deadline_s: float = 5.0) -> Result:
    """The first true value of a condition that is polled."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        select.select([], [], [], 0.01)


class Namespace:
    """A network namespace that lives as long as its descriptor."""

    def __init__(self) -> None:
        self._before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _check(_libc.unshare(_CLONE_NEWNET))
        self._own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _check(_libc.setns(self._before, _CLONE_NEWNET))
        self.run("ip link set dev lo up")

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self._own}"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and the processes that it starts, are in the namespace."""
        _check(_libc.setns(self._own, _CLONE_NEWNET))
        try:
            yield
        finally:
            _check(_libc.setns(self._before, _CLONE_NEWNET))

    def run(self, command: str) -> str:
        with self.entered():
            return subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout

    def close(self) -> None:
        os.close(self._own)
        os.close(self._before)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Stage:
    """The two namespaces and the cables between them, a bpffs and the daemon's files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bpffs = directory / "bpf"
        self.bpffs.mkdir()
        subprocess.run(["mount", "-t", "bpf", "bpf", str(self.bpffs)], check=True)
        self.home_agent = Namespace()
        self.world = Namespace()
        for namespace in (self.home_agent, self.world):
            # Or link-local addresses are tentative for a second or two, in which the kernel solicits nobody.
            namespace.run("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.dad_transmits=0")
        self.cable("eth0", "p-home", "2001:db8:1::1/64", "2001:db8:1::2/64")
        self.home_agent.run("sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.forwarding=1")
        self.cable_to_world()
        self.configuration = directory / "ha-fastpath.toml"
        self.socket_path = directory / "management.sock"
        self.state_file = directory / "state.sqlite"
        self.pin_directory = self.bpffs / "home-agent"

    def cable_to_world(self) -> None:
        self.cable("eth1", "p-world", "2001:db8:f::1/64", f"{GATEWAY}/64")
        self.home_agent.run(f"ip -6 route add default via {GATEWAY}")

    def cable(self, here: str, there: str, address_here: str, address_there: str) -> None:
        """A cable from the home agent to the world, whose end runs XDP: without that, XDP_TX from here vanishes."""
        self.home_agent.run(f"ip link add {here} type veth peer name {there} netns {self.world.path}")
        self.world.run(f"ethtool -K {there} tx off")
        self.world.run(f"ip link set dev {there} xdpdrv object {object_path('xdp_pass')} section xdp.frags")
        self.home_agent.run(f"ip address add {address_here} dev {here} nodad")
        self.world.run(f"ip address add {address_there} dev {there} nodad")
        self.home_agent.run(f"ip link set dev {here} up")
        self.world.run(f"ip link set dev {there} up")

    def write_files(
        self, mobile_nodes: int, *, maximum_bindings: int = 1000, interfaces: tuple[str, ...] = ("eth1",)
    ) -> None:
        """Configuration and keys, for mobile nodes numbered from 0."""
        further = "".join(f'[[interface]]\nname = "{name}"\n' for name in interfaces)
        self.configuration.write_text(
            f"""[home_agent]
keys_file = "keys.toml"
state_file = "{self.state_file}"
pin_directory = "{self.pin_directory}"
management_socket = "{self.socket_path}"
maximum_bindings = {maximum_bindings}

[[home_link]]
interface = "eth0"
prefix = "2001:db8:1::/64"
address = "{HOME_AGENT_ADDRESS}"
{further}""",
            encoding="ascii",
        )
        keys = self.directory / "keys.toml"
        keys.touch(mode=0o600)
        keys.write_text("".join(MobileNode(number).keys() for number in range(mobile_nodes)), encoding="ascii")

    def close(self) -> None:
        self.home_agent.close()
        self.world.close()
        subprocess.run(["umount", "--lazy", str(self.bpffs)], check=True)


class Daemon:
    """`ha-fastpath run` on a stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.log = stage.directory / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, environment: dict[str, str] | None = None) -> float:
        """Start it and wait until it is ready; how long that took, in seconds."""
        begun = time.monotonic()
        self.process = self._launch(environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(b"ready: "), self.log.read_text(encoding="utf-8")
        return time.monotonic() - begun

    def _launch(self, environment: dict[str, str] | None) -> subprocess.Popen[bytes]:
        parent = os.getpid()

        def die_with_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        with self._stage.home_agent.entered(), self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "ha_fastpath", "run", "-v", "-c", str(self._stage.configuration)],
                cwd=REPOSITORY,
                env={**os.environ, **(environment or {})},
                stdout=subprocess.PIPE,
                stderr=log,
                preexec_fn=die_with_parent,
            )

    def command(
        self, *arguments: str, directory: Path = REPOSITORY, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Another `ha-fastpath` beside it."""
        with self._stage.home_agent.entered():
            return subprocess.run(
                [sys.executable, "-m", "ha_fastpath", *arguments, "-c", str(self._stage.configuration)],
                cwd=directory,
                env={**os.environ, **(environment or {})},
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )

    def show(self, subject: str) -> list[dict[str, Any]]:
        async def gather() -> list[dict[str, Any]]:
            return [answer async for answer in ask(self._stage.socket_path, subject)]

        return asyncio.run(gather())

    def resident_octets(self) -> int:
        assert self.process is not None
        pages = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGESIZE")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(timeout=10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return status

    def close(self) -> None:
        if self.process is not None:
            self.end(signal.SIGKILL)


@dataclass(slots=True)
class MobileNode:
    """One mobile node, as another implementation would have it: scapy makes its packets and reads the answers."""

    number: int
    sequence: int = 0
    esp_sequence: int = 0

    @property
    def home_address(self) -> IPv6Address:
        return IPv6Address("2001:db8:1::1:0") + self.number

    def care_of_address(self, network: int = 0x99) -> IPv6Address:
        return IPv6Address(f"2001:db8:{network:x}::1:0") + self.number

    def _key(self, salt: int, length: int) -> bytes:
        return (self.number * 4 + salt + 1).to_bytes(4) * (length // 4)

    def _association(self, spi: int, salt: int) -> Any:
        return SecurityAssociation(
            ESP,
            spi=spi + self.number,
            crypt_algo="AES-CBC",
            crypt_key=self._key(salt, 16),
            auth_algo="SHA2-256-128",
            auth_key=self._key(salt + 1, 32),
        )

    def keys(self) -> str:
        """Its part of the keys file."""
        tables = "".join(
            f"""
[mobile_node.{purpose}]
spi = "{spi + self.number:#x}"
encryption = "aes-cbc"
encryption_key = "{self._key(salt, 16).hex()}"
integrity = "hmac-sha-256-128"
integrity_key = "{self._key(salt + 1, 32).hex()}"
anti_replay = true
"""
            for purpose, spi, salt in (
                ("binding_update", UPDATE_SPI, 0),
                ("binding_acknowledgement", ACKNOWLEDGEMENT_SPI, 2),
            )
        )
        return f'[[mobile_node]]\nhome_address = "{self.home_address}"\n{tables}\n'

    def binding_update(self, lifetime_units: int = 150, network: int = 0x99) -> bytes:
        """The next Binding Update, as an IPv6 packet under ESP."""
        self.sequence = (self.sequence + 1) % 0x10000
        self.esp_sequence += 1
        care_of_address = str(self.care_of_address(network))
        packet = (
            IPv6(src=care_of_address, dst=str(HOME_AGENT_ADDRESS), hlim=64)
            / IPv6ExtHdrDestOpt(options=[HAO(hoa=str(self.home_address))])
            / MIP6MH_BU(
                seq=self.sequence,
                flags="AH",
                mhtime=lifetime_units,
                options=[MIP6OptAltCoA(acoa=care_of_address)],
            )
        )
        association = self._association(UPDATE_SPI, 0)
        return bytes(association.encrypt(IPv6(bytes(packet)), seq_num=self.esp_sequence))

    def is_answered_by(self, packet: bytes) -> bool:
        """Whether a packet is ESP behind a routing header, under our SPI: cheap, to be timed by."""
        spi = ACKNOWLEDGEMENT_SPI + self.number
        return packet[6] == ROUTING_HEADER and packet[40] == socket.IPPROTO_ESP and packet[64:68] == spi.to_bytes(4)

    def acknowledgement(self, packet: bytes) -> Any:
        """The Binding Acknowledgement in an IPv6 packet: opened by scapy, and all of it checked."""
        layers = IPv6(packet)
        routing = layers[IPv6ExtHdrRouting]
        assert (routing.type, routing.segleft, routing.addresses) == (2, 1, [str(self.home_address)])
        # As the routing header's processing leaves it; scapy cannot open what stands behind an extension header.
        arrived = IPv6(src=layers.src, dst=str(self.home_address), nh=socket.IPPROTO_ESP) / Raw(bytes(layers[ESP]))
        opened = self._association(ACKNOWLEDGEMENT_SPI, 2).decrypt(IPv6(bytes(arrived)))
        message = bytes(opened.payload)
        assert opened.nh == MOBILITY_HEADER
        assert in6_chksum(MOBILITY_HEADER, arrived, message) == 0
        acknowledgement = MIP6MH_BA(message)
        assert acknowledgement.mhtype == BINDING_ACKNOWLEDGEMENT_TYPE
        return acknowledgement


class Port:
    """The world's end of a cable: whole frames in and out."""

    def __init__(self, namespace: Namespace, name: str, home_agent: Namespace, peer: str) -> None:
        with namespace.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_IPV6))
            self._socket.bind((name, _ETH_P_IPV6))
            self.mac = self._socket.getsockname()[4]
        link = json.loads(home_agent.run(f"ip -json link show dev {peer}"))
        self.peer_mac = bytes.fromhex(link[0]["address"].replace(":", ""))

    def send(self, packet: bytes) -> None:
        self._socket.send(self.peer_mac + self.mac + _ETH_P_IPV6.to_bytes(2) + packet)

    def receive(self, matches: Callable[[bytes], bool], deadline_s: float = 3.0) -> bytes | None:
        """The first IPv6 packet arriving here that matches."""
        end = time.monotonic() + deadline_s
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                frame, address = self._socket.recvfrom(65535)
            except TimeoutError:
                break
            if address[2] == socket.PACKET_OUTGOING:
                continue
            if matches(frame[14:]):
                return frame[14:]
        return None

    def register(self, mobile_node: MobileNode, **update: int) -> tuple[Any, float]:
        """Send a Binding Update and wait for its acknowledgement; that, and how long it took in seconds."""
        packet = mobile_node.binding_update(**update)
        begun = time.monotonic()
        self.send(packet)
        answer = self.receive(mobile_node.is_answered_by)
        took = time.monotonic() - begun
        assert answer is not None, "no Binding Acknowledgement"
        return mobile_node.acknowledgement(answer), took

    def close(self) -> None:
        self._socket.close()


def encapsulated(inner_destination: IPv6Address, outer_destination: IPv6Address) -> Callable[[bytes], bool]:
    """A condition on packets: IPv6 in IPv6 to a care-of address, for a home address."""

    def matches(packet: bytes) -> bool:
        return (
            packet[6] == socket.IPPROTO_IPV6
            and packet[24:40] == outer_destination.packed
            and packet[40 + 24 : 40 + 40] == inner_destination.packed
        )

    return matches
