# SPDX-License-Identifier: Apache-2.0
"""What `ha-fastpath show` is told: bindings, counters and the state of a running home agent, as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final, Protocol

from control.binding.cache import BindingCacheEntry
from control.binding.events import SignallingReason
from control.binding.home_link import HomeLink

LIFETIME_UNIT_S: Final = 4
_NS: Final = 1_000_000_000

Json = Mapping[str, object]


class Bindings(Protocol):
    """The binding cache, to read."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[BindingCacheEntry]: ...
    def get(self, home_address: IPv6Address) -> BindingCacheEntry | None: ...


class Agent(Protocol):
    """The home agent, to read."""

    @property
    def bindings(self) -> Bindings: ...
    @property
    def counters(self) -> Mapping[SignallingReason, int]: ...


class Interfaces(Protocol):
    """The interfaces, to read."""

    def describe(self) -> list[dict[str, object]]: ...
    def alarms(self) -> Iterable[str]: ...
    def failures(self) -> Mapping[str, int]: ...


class Count(Protocol):
    """Packets and octets."""

    @property
    def packets(self) -> int: ...
    @property
    def octets(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """What does not change while the daemon runs."""

    version: str
    process: int
    started_ns: int
    maximum_bindings: int
    security_associations: int
    home_links: tuple[HomeLink, ...]
    interfaces: tuple[str, ...]
    pin_directory: Path
    state_file: Path


class Report:
    """Answers the three questions of the management socket."""

    def __init__(
        self,
        fixed: Fixed,
        agent: Agent,
        interfaces: Interfaces,
        data_path: Callable[[], Mapping[str, Count]],
        packets_not_sent: Callable[[], Mapping[str, int]],
        alarms: Callable[[], Iterable[str]],
        now_ns: Callable[[], int],
    ) -> None:
        self._fixed = fixed
        self._agent = agent
        self._interfaces = interfaces
        self._data_path = data_path
        self._packets_not_sent = packets_not_sent
        self._alarms = alarms
        self._now_ns = now_ns
        self.notes: list[str] = []
        """What was found at the start and does not pass."""

    def bindings(self) -> Iterator[Json]:
        """Each binding that is there when its turn comes."""
        cache = self._agent.bindings
        interfaces = {link.index: link.interface for link in self._fixed.home_links}
        # Addresses first: bindings come and go while they are told.
        for home_address in [entry.home_address for entry in cache]:
            entry = cache.get(home_address)
            if entry is not None:
                yield _binding(entry, interfaces.get(entry.home_link), self._now_ns())

    def counters(self) -> Json:
        not_sent = Counter(self._packets_not_sent()) + Counter(self._interfaces.failures())
        return {
            "data_path": {
                reason: {"packets": count.packets, "octets": count.octets}
                for reason, count in self._data_path().items()
            },
            "signalling": {str(reason): count for reason, count in sorted(self._agent.counters.items())},
            "not_sent": dict(sorted(not_sent.items())),
        }

    def status(self) -> Json:
        fixed = self._fixed
        return {
            "version": fixed.version,
            "pid": fixed.process,
            "uptime_s": (self._now_ns() - fixed.started_ns) // _NS,
            "bindings": {"count": len(self._agent.bindings), "maximum": fixed.maximum_bindings},
            "security_associations": fixed.security_associations,
            "interfaces": self._interfaces.describe(),
            "home_links": [
                {"interface": link.interface, "prefix": str(link.prefix), "address": str(link.home_agent_address)}
                for link in fixed.home_links
            ],
            "pin_directory": str(fixed.pin_directory),
            "state_file": str(fixed.state_file),
            "alarms": list(self.alarms()),
            "notes": list(self.notes),
        }

    def alarms(self) -> Iterator[str]:
        """What the operator should see to, now."""
        yield from self._interfaces.alarms()
        yield from self._alarms()
        yield from forwarding_alarms(self._fixed.interfaces)


def forwarding_alarms(interfaces: Iterable[str], directory: Path = Path("/proc/sys/net/ipv6/conf")) -> Iterator[str]:
    """Whether the kernel forwards what XDP leaves to it: the first packets to a next hop, and all that is too large."""
    off = []
    for name in interfaces:
        try:
            forwards = (directory / name / "forwarding").read_text(encoding="ascii").strip() != "0"
        except OSError:
            continue  # the interface is away, or has no IPv6, and that is told elsewhere
        if not forwards:
            off.append(name)
    if off:
        yield (
            f"the kernel does not forward IPv6 on {', '.join(off)}, so what XDP leaves to it is lost:"
            " sysctl -w net.ipv6.conf.all.forwarding=1"
        )


def _binding(entry: BindingCacheEntry, interface: str | None, now: int) -> Json:
    return {
        "home_address": str(entry.home_address),
        "care_of_address": str(entry.care_of_address),
        "home_agent_address": str(entry.home_agent_address),
        "interface": interface,
        "sequence": entry.sequence,
        "lifetime_s": entry.lifetime_units * LIFETIME_UNIT_S,
        "remaining_s": max(entry.expires_ns - now, 0) // _NS,
        "registered_s_ago": max(now - entry.registered_ns, 0) // _NS,
        "link_local_compatible": entry.link_local_compatible,
        "key_management_mobility": entry.key_management_mobility,
    }
