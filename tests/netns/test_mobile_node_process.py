# SPDX-License-Identifier: Apache-2.0
"""`ha-fastpath mobile-node` as a process on a cable whose other end is this test: routers, home agent and all others.

What the test sends is scapy's, or put together from the RFCs' diagrams; what it receives is a frame on a wire.
"""

from __future__ import annotations

import contextlib
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
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import HAO, IPv6, IPv6ExtHdrDestOpt, in6_chksum
from scapy.layers.ipsec import ESP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from control.ipsec.association import Role
from control.ipsec.esp import open_esp
from control.wire.mobility import BindingUpdate, pull_mobility_header
from ha_fastpath.dataplane.loader import object_path
from tests.netns.stage import REPOSITORY, Namespace, wait_until
from tests.unit.mobile_node_stage import (
    ABROAD,
    ACKNOWLEDGEMENT_KEYS,
    ACKNOWLEDGEMENT_SPI,
    AT_HOME,
    CARE_OF_ADDRESS,
    HOME_ADDRESS,
    HOME_AGENT,
    HOME_AGENT_MAC,
    HOME_PREFIX,
    MAC,
    ROUTER_MAC,
    UPDATE_KEYS,
    UPDATE_SPI,
    acknowledgement,
    associations,
    neighbor_advertisement,
)

pytestmark = pytest.mark.netns

CORRESPONDENT = "2001:db8:c::2"
ETH_P_IPV6 = 0x86DD
MOBILITY = 135
PATIENCE_S = 10.0
PR_SET_PDEATHSIG = 1


class Node:
    """The mobile node's namespace, its files, and the wire that its interface is on."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bpffs = directory / "bpf"
        self.bpffs.mkdir()
        subprocess.run(["mount", "-t", "bpf", "bpf", str(self.bpffs)], check=True)
        self.namespace, self.world = Namespace(), Namespace()
        self.namespace.run(
            f"ip link add mn0 address {MAC.hex(':')} type veth peer name wire address {ROUTER_MAC.hex(':')}"
            f" netns {self.world.path}"
        )
        self.namespace.run("ethtool -K mn0 tx off")
        self.world.run("sysctl -qw net.ipv6.conf.wire.disable_ipv6=1")
        self.world.run(f"ip link set dev wire xdpdrv object {object_path('xdp_pass')} section xdp.frags")
        self.namespace.run("ip link set dev mn0 up")
        self.world.run("ip link set dev wire up")
        with self.world.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IPV6))
            self._socket.bind(("wire", ETH_P_IPV6))
        self.configuration = directory / "mobile-node.toml"
        self.write_files()
        self._home_agents = associations(Role.HOME_AGENT)
        self._answered = 0
        self._lines = b""
        self.process: subprocess.Popen[bytes] | None = None
        self.log = directory / "log"

    def write_files(self, interface: str = "mn0") -> None:
        self.configuration.write_text(
            f"""[mobile_node]
interface = "{interface}"
home_address = "{HOME_ADDRESS}"
home_prefix = "{HOME_PREFIX}"
home_agent_address = "{HOME_AGENT}"
keys_file = "keys.toml"
state_file = "state.sqlite"
pin_directory = "{self.bpffs / "mobile-node"}"
""",
            encoding="ascii",
        )
        keys = self.directory / "keys.toml"
        keys.touch(mode=0o600)
        tables = "".join(
            f"""[mobile_node.{purpose}]
spi = "{spi:#x}"
encryption = "aes-cbc"
encryption_key = "{encryption_key.hex()}"
integrity = "hmac-sha-256-128"
integrity_key = "{integrity_key.hex()}"
anti_replay = true
"""
            for purpose, spi, (encryption_key, integrity_key) in (
                ("binding_update", UPDATE_SPI, UPDATE_KEYS),
                ("binding_acknowledgement", ACKNOWLEDGEMENT_SPI, ACKNOWLEDGEMENT_KEYS),
            )
        )
        keys.write_text(f'[[mobile_node]]\nhome_address = "{HOME_ADDRESS}"\n{tables}', encoding="ascii")

    # ---- the process ----

    def launch(self, *options: str) -> subprocess.Popen[bytes]:
        parent, libc = os.getpid(), ctypes.CDLL(None)

        def die_with_parent() -> None:
            libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        with self.namespace.entered(), self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "ha_fastpath", "mobile-node", "-c", str(self.configuration), *options],
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                stderr=log,
                preexec_fn=die_with_parent,
            )

    def start(self) -> None:
        self.process = self.launch("--json")
        self._lines = b""
        assert self.event("ready")["mode"] == "native"

    def event(self, name: str, **expected: object) -> dict[str, Any]:
        """The next event of a name and these values; others before it are passed over."""
        assert self.process is not None
        assert self.process.stdout is not None
        end = time.monotonic() + PATIENCE_S
        while True:
            while b"\n" not in self._lines:
                ready, _, _ = select.select([self.process.stdout], [], [], max(end - time.monotonic(), 0))
                assert ready, f"no {name}; the log: {self.log.read_text(encoding='utf-8')}"
                read = os.read(self.process.stdout.fileno(), 65536)
                assert read, f"it has ended; the log: {self.log.read_text(encoding='utf-8')}"
                self._lines += read
            line, self._lines = self._lines.split(b"\n", 1)
            told: dict[str, Any] = json.loads(line)
            if told["event"] == name and expected.items() <= told.items():
                return told

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(timeout=PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return status

    def close(self) -> None:
        if self.process is not None:
            self.end(signal.SIGKILL)
        self._socket.close()
        self.namespace.close()
        self.world.close()
        subprocess.run(["umount", "--lazy", str(self.bpffs)], check=True)

    # ---- the wire ----

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def receive(self, matches: Callable[[Any], bool]) -> Any:
        """The next frame from the mobile node that matches."""
        end = time.monotonic() + PATIENCE_S
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            with contextlib.suppress(TimeoutError):
                frame, address = self._socket.recvfrom(65535)
                if address[2] != socket.PACKET_OUTGOING and matches(layers := Ether(frame)):
                    return layers
        raise AssertionError(f"no such frame; the log: {self.log.read_text(encoding='utf-8')}")

    def move(self, frame: bytes) -> None:
        """Away from one link and onto another, whose router advertises."""
        self.set_carrier(on=False)
        self.event("link_lost")
        self.set_carrier(on=True)
        self.event("link_found")
        self.send(frame)

    def set_carrier(self, *, on: bool) -> None:
        self.world.run(f"ip link set dev wire {'up' if on else 'down'}")
        # That the interface was down is told on the next call otherwise.
        self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def binding_update(self) -> tuple[Any, BindingUpdate]:
        """The next Binding Update: its frame, and what the home agent finds under ESP."""
        frame = self.receive(lambda layers: ESP in layers)
        association = self._home_agents.by_spi(frame[ESP].spi)
        assert association is not None
        next_header, message = open_esp(association, bytes(frame[ESP]))
        assert next_header == MOBILITY
        update = pull_mobility_header(message, HOME_ADDRESS, HOME_AGENT)
        assert isinstance(update, BindingUpdate)
        return frame, update

    def acknowledge(self, update: BindingUpdate, destination: IPv6Address) -> None:
        self._answered += 1
        self.send(
            acknowledgement(update.sequence, destination, lifetime_units=update.lifetime_units, esp=self._answered)
        )

    def go_abroad(self) -> None:
        """Be registered at CARE_OF_ADDRESS."""
        self.send(ABROAD)
        _, update = self.binding_update()
        self.acknowledge(update, CARE_OF_ADDRESS)
        self.event("away", care_of_address=str(CARE_OF_ADDRESS))

    # ---- looking ----

    def addresses(self) -> set[str]:
        (link,) = json.loads(self.namespace.run("ip -6 -json address show dev mn0"))
        return {each["local"] for each in link["addr_info"] if each["scope"] == "global"}

    def state(self) -> tuple[object, ...]:
        """All that the process could leave behind."""
        link = json.loads(self.namespace.run("ip -json link show dev mn0"))[0]
        return (
            "xdp" in link,
            self.namespace.run("tc filter show dev mn0 egress"),
            self.addresses(),
            self.namespace.run("ip -6 route show dev mn0"),
            self.namespace.run("cat /proc/sys/net/ipv6/conf/mn0/accept_ra /proc/sys/net/ipv6/conf/mn0/optimistic_dad"),
            self.namespace.run("ip -brief link show type tun"),
            sorted(self.bpffs.iterdir()),
        )


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.close()


def test_from_home_abroad_and_back_and_nothing_left_at_the_end(node: Node) -> None:
    # Its link-local address is no news to the kernel any more, and its routes stay as they are.
    wait_until(lambda: "tentative" not in node.namespace.run("ip -6 address show dev mn0"), "no link-local address")
    before = node.state()
    node.start()
    node.send(AT_HOME)
    node.event("home")
    assert node.addresses() == {str(HOME_ADDRESS)}

    node.move(ABROAD)
    frame, update = node.binding_update()
    assert (frame.src, frame.dst) == (MAC.hex(":"), ROUTER_MAC.hex(":"))
    assert (frame[IPv6].src, frame[IPv6].dst) == (str(CARE_OF_ADDRESS), str(HOME_AGENT))
    (option,) = [each for each in frame[IPv6ExtHdrDestOpt].options if isinstance(each, HAO)]
    assert option.hoa == str(HOME_ADDRESS)
    assert update.alternate_care_of_address == CARE_OF_ADDRESS
    node.acknowledge(update, CARE_OF_ADDRESS)
    node.event("binding_acknowledged", status=0, care_of_address=str(CARE_OF_ADDRESS))
    assert node.addresses() == {str(HOME_ADDRESS), str(CARE_OF_ADDRESS)}

    node.move(AT_HOME)
    node.send(neighbor_advertisement(HOME_ADDRESS))
    frame, update = node.binding_update()
    assert (frame.dst, frame[IPv6].src) == (HOME_AGENT_MAC.hex(":"), str(HOME_ADDRESS))
    assert update.lifetime_units == 0
    node.acknowledge(update, HOME_ADDRESS)
    node.event("home")
    assert node.addresses() == {str(HOME_ADDRESS)}

    assert node.end() == 0
    assert node.state() == before


def test_datagrams_go_there_and_back_by_the_tunnel(node: Node) -> None:
    node.start()
    node.go_abroad()
    with node.namespace.entered():
        application = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with contextlib.closing(application):
        application.connect((CORRESPONDENT, 9))
        # Of all addresses of the node, the one that stays.
        assert application.getsockname()[0] == str(HOME_ADDRESS)
        application.send(b"there")
        frame = node.receive(lambda layers: UDP in layers)
        outer, inner = frame[IPv6], frame[IPv6].payload
        assert frame.dst == ROUTER_MAC.hex(":")
        assert (outer.src, outer.dst, outer.nh) == (str(CARE_OF_ADDRESS), str(HOME_AGENT), socket.IPPROTO_IPV6)
        assert (inner.src, inner.dst, inner[UDP].load) == (str(HOME_ADDRESS), CORRESPONDENT, b"there")
        assert outer.plen == len(bytes(inner))
        assert in6_chksum(socket.IPPROTO_UDP, inner, bytes(inner.payload)) == 0
        back = (
            IPv6(src=str(HOME_AGENT), dst=str(CARE_OF_ADDRESS))
            / IPv6(src=CORRESPONDENT, dst=str(HOME_ADDRESS))
            / UDP(sport=9, dport=inner[UDP].sport)
            / Raw(b"and back")
        )
        node.send(bytes(Ether(src=ROUTER_MAC.hex(":"), dst=MAC.hex(":")) / back))
        application.settimeout(PATIENCE_S)
        assert application.recv(100) == b"and back"


def test_a_restart_goes_on_where_it_was(node: Node) -> None:
    node.start()
    node.go_abroad()
    assert node.end() == 0
    node.start()
    node.send(ABROAD)
    frame, update = node.binding_update()
    # Past every number that may have been used: the home agent's window takes it.
    assert (update.sequence, frame[ESP].seq) == (2, 4097)


def test_after_a_kill_it_starts_again_and_takes_over_what_is_there(node: Node) -> None:
    node.start()
    node.go_abroad()
    node.end(signal.SIGKILL)
    assert node.addresses() == {str(HOME_ADDRESS), str(CARE_OF_ADDRESS)}
    node.start()
    assert node.addresses() == {str(HOME_ADDRESS)}
    node.go_abroad()


def test_without_a_carrier_it_waits_for_one(node: Node) -> None:
    node.set_carrier(on=False)
    node.start()
    node.event("link_lost")
    node.set_carrier(on=True)
    node.event("link_found")
    node.go_abroad()


def test_a_router_is_solicited_when_none_is_heard(node: Node) -> None:
    node.start()
    frame = node.receive(lambda layers: layers.dst == "33:33:00:00:00:02" and layers[IPv6].src == "::")
    assert frame[IPv6].hlim == 255


def refusal(node: Node) -> str:
    """What it says when it does not start; the exit status is that of a wrong configuration."""
    process = node.launch()
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    return node.log.read_text(encoding="utf-8")


def test_a_second_one_is_refused_and_the_first_goes_on(node: Node) -> None:
    node.start()
    assert "another process owns the data path pinned at" in refusal(node)
    node.go_abroad()


def test_an_interface_that_is_not_there_is_refused(node: Node) -> None:
    before = node.state()
    node.write_files(interface="mn1")
    assert "there is no interface `mn1`" in refusal(node)
    assert node.state() == before


def test_keys_that_others_may_read_are_refused(node: Node) -> None:
    (node.directory / "keys.toml").chmod(0o644)
    assert "chmod 0600" in refusal(node)


def test_what_it_says_to_a_person_is_a_line_each(node: Node) -> None:
    node.process = node.launch()
    assert node.process.stdout is not None
    assert node.process.stdout.readline() == b"ready: mode native\n"
    node.send(AT_HOME)
    assert node.process.stdout.readline().startswith(b"router found: router fe80::")
    assert node.process.stdout.readline() == b"home\n"
