# SPDX-License-Identifier: Apache-2.0
"""The lab's network as data, and the iproute2 commands that make it.

Three links (home and two foreign ones) are bridges in the namespace `fabric`, where a move of the mobile node is a
change of its port's bridge. Every address is `nodad`, except those that the mobile node takes by itself. Nothing
outside the lab's own namespaces and directory is touched; `keeper.py` removes both.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path

from ha_fastpath.lab.children import LabError, child_environment, die_with_parent

NAMESPACE_DIRECTORY = Path("/run/netns")
RUN_DIRECTORY = Path("/run")

FABRIC = "fabric"
ROUTER = "router"
HOME_AGENT = "home-agent"
CORRESPONDENT = "correspondent"
MOBILE_NODE = "mobile-node"
NAMESPACES = (FABRIC, ROUTER, HOME_AGENT, CORRESPONDENT, MOBILE_NODE)

HOME = "home"
FOREIGN_1 = "foreign1"
FOREIGN_2 = "foreign2"
LINKS = {
    HOME: IPv6Network("2001:db8:1::/64"),
    FOREIGN_1: IPv6Network("2001:db8:2::/64"),
    FOREIGN_2: IPv6Network("2001:db8:3::/64"),
}
CORE_PREFIX = IPv6Network("2001:db8:c::/64")

HOME_AGENT_ADDRESS = IPv6Address("2001:db8:1::1")
HOME_ROUTER_ADDRESS = IPv6Address("2001:db8:1::2")
HOME_ADDRESS = IPv6Address("2001:db8:1::100")
CORRESPONDENT_ADDRESS = IPv6Address("2001:db8:c::2")
CORE_ROUTER_ADDRESS = IPv6Address("2001:db8:c::1")

PORT_OF_HOME_AGENT = "home-agent"
PORT_OF_MOBILE_NODE = "mobile-node"

# How long the mobile node is without any link when it moves. The kernel coalesces a loss and a return of carrier that
# follow each other at once, and no radio changes its cell in no time.
LINK_GAP_S = 0.03


@dataclass(frozen=True, slots=True)
class End:
    """One end of a virtual Ethernet cable."""

    namespace: str
    name: str
    addresses: tuple[IPv6Interface, ...] = ()
    bridge: str | None = None
    xdp_pass: bool = False
    """Whether it holds the empty XDP program without which the other end's XDP_TX vanishes in native mode."""


@dataclass(frozen=True, slots=True)
class Cable:
    left: End
    right: End


def _on(address: IPv6Address, prefix: IPv6Network) -> tuple[IPv6Interface, ...]:
    return (IPv6Interface((int(address), prefix.prefixlen)),)


CABLES = (
    Cable(
        End(FABRIC, "router-home", bridge=HOME),
        End(ROUTER, "home", _on(HOME_ROUTER_ADDRESS, LINKS[HOME])),
    ),
    Cable(
        End(FABRIC, "router-foreign1", bridge=FOREIGN_1),
        End(ROUTER, "foreign1", _on(LINKS[FOREIGN_1][1], LINKS[FOREIGN_1])),
    ),
    Cable(
        End(FABRIC, "router-foreign2", bridge=FOREIGN_2),
        End(ROUTER, "foreign2", _on(LINKS[FOREIGN_2][1], LINKS[FOREIGN_2])),
    ),
    Cable(
        End(FABRIC, PORT_OF_HOME_AGENT, bridge=HOME, xdp_pass=True),
        End(HOME_AGENT, "eth0", _on(HOME_AGENT_ADDRESS, LINKS[HOME])),
    ),
    Cable(
        End(FABRIC, PORT_OF_MOBILE_NODE, bridge=HOME, xdp_pass=True),
        End(MOBILE_NODE, "eth0", _on(HOME_ADDRESS, LINKS[HOME])),
    ),
    Cable(
        End(ROUTER, "core", _on(CORE_ROUTER_ADDRESS, CORE_PREFIX)),
        End(CORRESPONDENT, "eth0", _on(CORRESPONDENT_ADDRESS, CORE_PREFIX)),
    ),
)

DEFAULT_ROUTES = {
    HOME_AGENT: HOME_ROUTER_ADDRESS,
    CORRESPONDENT: CORE_ROUTER_ADDRESS,
    MOBILE_NODE: HOME_ROUTER_ADDRESS,
}

_NO_DAD = ("net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.default.dad_transmits=0")
_NO_AUTOCONFIGURATION = ("net.ipv6.conf.default.accept_ra=0", "net.ipv6.conf.all.accept_ra=0")
_FORWARDING = ("net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.forwarding=1")
SYSCTLS = {
    # A bridge port has no business with addresses, and its chatter is only noise in a capture.
    FABRIC: ("net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.disable_ipv6=1"),
    ROUTER: (*_NO_DAD, *_FORWARDING),
    HOME_AGENT: (*_NO_DAD, *_NO_AUTOCONFIGURATION, *_FORWARDING),
    CORRESPONDENT: (*_NO_DAD, *_NO_AUTOCONFIGURATION),
    # The mobile node forms its care-of addresses itself, with optimistic duplicate address detection.
    MOBILE_NODE: _NO_AUTOCONFIGURATION,
}

OFFLOADS_OFF = ("tx", "off", "rx", "off", "tso", "off", "gso", "off")


def namespace_commands(prefix: str) -> list[str]:
    """The batch that makes the namespaces, for `ip -batch`."""
    return [f"netns add {prefix}-{name}" for name in NAMESPACES]


def fabric_commands(prefix: str) -> list[str]:
    """The batch that makes bridges and cables, for `ip -batch` in the fabric; ends go straight to their namespaces."""
    commands = []
    for index, link in enumerate(LINKS, 2):
        # Named for their links, so prefixed: the port of the home agent on the home link is called home-agent.
        commands += [
            f"link add name br-{link} index {index} type bridge stp_state 0 mcast_snooping 0",
            f"link set dev br-{link} up",
        ]
    # Interface indices are unique in the whole lab: where a veth's equals its peer's, the kernel takes it for an
    # ordinary device and announces a loss of carrier up to a second late.
    for number, cable in enumerate(CABLES):
        commands.append(
            "link add"
            f" name {cable.left.name} index {100 + 2 * number} address 02:00:00:00:{number:02x}:01"
            f" netns {prefix}-{cable.left.namespace} type veth"
            f" peer name {cable.right.name} index {101 + 2 * number} address 02:00:00:00:{number:02x}:02"
            f" netns {prefix}-{cable.right.namespace}"
        )
    return commands


def interface_commands(namespace: str) -> list[str]:
    """The batch that configures one namespace's interfaces, for `ip -batch` in it."""
    commands = ["link set dev lo up"]
    for end in ends_in(namespace):
        commands += [f"address add {address} dev {end.name} nodad" for address in end.addresses]
        master = f" master br-{end.bridge}" if end.bridge else ""
        commands.append(f"link set dev {end.name}{master} up")
    if namespace in DEFAULT_ROUTES:
        commands.append(f"route add default via {DEFAULT_ROUTES[namespace]}")
    return commands


def ends_in(namespace: str) -> list[End]:
    """Every interface of one namespace."""
    return [end for cable in CABLES for end in (cable.left, cable.right) if end.namespace == namespace]


def radvd_configuration() -> str:
    """Router Advertisements as often as Mobile IPv6 allows, and saying so (RFC 6275 sections 7.3 and 7.5)."""
    return "".join(
        f"""interface {link} {{
  AdvSendAdvert on;
  IgnoreIfMissing on;
  UnicastOnly off;
  MinRtrAdvInterval 0.03;
  MaxRtrAdvInterval 0.07;
  MinDelayBetweenRAs 0.03;
  AdvIntervalOpt on;
  AdvDefaultLifetime 1800;
  prefix {prefix} {{
    AdvOnLink on;
    AdvAutonomous on;
    AdvValidLifetime 7200;
    AdvPreferredLifetime 3600;
  }};
}};
"""
        for link, prefix in LINKS.items()
    )


@dataclass(slots=True)
class Lab:
    """The network of one run: names, making it, moving the mobile node. Removing it is the keeper's work."""

    prefix: str = field(default_factory=lambda: f"hafp-{os.getpid()}")

    @property
    def directory(self) -> Path:
        """Configuration, keys, sockets, state and the private bpffs of this run."""
        return run_directory(self.prefix)

    @property
    def bpffs(self) -> Path:
        return self.directory / "bpf"

    def namespace(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def entering(self, namespace: str, command: Iterable[str]) -> list[str]:
        """`command` inside a namespace; not by `ip netns exec`, whose fresh /sys hides the pinned maps."""
        return ["nsenter", f"--net={NAMESPACE_DIRECTORY / self.namespace(namespace)}", *command]

    def make(self, xdp_pass: Path) -> None:
        """Make everything but the processes; `xdp_pass` is the BPF object for the peers of XDP interfaces."""
        self.bpffs.mkdir(mode=0o700)
        run(["mount", "-t", "bpf", "bpf", str(self.bpffs)], self.prefix)
        self._ip(None, namespace_commands(self.prefix))
        for namespace in NAMESPACES:
            self._run_in(namespace, ["sysctl", "-q", "-w", *SYSCTLS[namespace]])
        self._ip(FABRIC, fabric_commands(self.prefix))
        for namespace in NAMESPACES:
            for end in ends_in(namespace):
                self._run_in(namespace, ["ethtool", "-K", end.name, *OFFLOADS_OFF])
        self._ip(
            FABRIC,
            [
                f"link set dev {end.name} xdpdrv object {xdp_pass} section xdp.frags"
                for end in ends_in(FABRIC)
                if end.xdp_pass
            ],
        )
        for namespace in NAMESPACES:
            self._ip(namespace, interface_commands(namespace))
        (self.directory / "radvd.conf").write_text(radvd_configuration(), encoding="ascii")

    def radvd(self) -> list[str]:
        """The command that advertises on every link, in the foreground."""
        return self.entering(
            ROUTER,
            [
                "radvd",
                "--nodaemon",
                f"--config={self.directory / 'radvd.conf'}",
                f"--pidfile={self.directory / 'radvd.pid'}",
                "--logmethod=stderr",
            ],
        )

    def take_link_away(self) -> int:
        """The mobile node loses its carrier; CLOCK_MONOTONIC of just before."""
        lost_ns = time.monotonic_ns()
        self._ip(FABRIC, [f"link set dev {PORT_OF_MOBILE_NODE} down"])
        return lost_ns

    def give_link(self, link: str) -> None:
        """The mobile node's port is up again, on `link`."""
        self._ip(FABRIC, [f"link set dev {PORT_OF_MOBILE_NODE} master br-{link} up"])

    def make_router_forget(self) -> None:
        """The router loses its neighbor cache of the home link, and has to solicit for whom it sends to there.

        It would hardly do so in so short a run: a packet carries the confirmation of TCP, which is the correspondent's
        own, across veth into the router's namespace.
        """
        self._ip(ROUTER, [f"neighbor flush dev {HOME}"])

    def _ip(self, namespace: str | None, commands: Sequence[str]) -> None:
        inside = ["-n", self.namespace(namespace)] if namespace else []
        run(["ip", *inside, "-batch", "-"], self.prefix, "\n".join(commands) + "\n")

    def _run_in(self, namespace: str, command: Sequence[str]) -> None:
        run(self.entering(namespace, command), self.prefix)


def run_directory(prefix: str) -> Path:
    """Where the run with this prefix keeps its files."""
    return RUN_DIRECTORY / f"ha-fastpath-lab-{prefix.removeprefix('hafp-')}"


def run(command: Sequence[str], prefix: str, text: str | None = None) -> str:
    """Run a command to its end and give what it printed; LabError says what it complained of."""
    completed = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env=child_environment(prefix),
        preexec_fn=die_with_parent(os.getpid()),
    )
    if completed.returncode:
        shown = " ".join(command) if text is None else f"{' '.join(command)} ({text.strip()})"
        raise LabError(f"the lab could not be made: '{shown}' said: {completed.stderr.strip()}")
    return completed.stdout
