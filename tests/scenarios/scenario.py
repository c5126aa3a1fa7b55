# SPDX-License-Identifier: Apache-2.0
"""Runs a scenario file: what a home agent receives, and everything that it does about it, on a clock of its own.

A file is lines of words and `key=value`; `#` begins a comment.

    include FILE                     lines shared by scenarios
    name NAME VALUE                  NAME stands for VALUE wherever an address or a MAC address is due
    home-link eth0 prefix= address= mac= [index=] [valid=SECONDS] [preferred=SECONDS]
    mobile-node ADDRESS update-spi= acknowledgement-spi= [anti-replay=off]
    configure maximum-bindings=1     a field of HomeAgentConfiguration
    remember ADDRESS sequence=       a sequence number from before a restart
    restore home= at= sequence= lifetime= [link-local]

    SECONDS receive WHAT ...         a frame comes
    SECONDS answer done|table_full|failed|later
                                     how writes to the data path end from now on; after `later`, all held ones too
    SECONDS expect WHAT ...          the next thing that the home agent does, at this very instant
    SECONDS expect nothing           up to here, it does nothing more
    SECONDS check counter NAME=N     how often something happened so far
    SECONDS check state ADDRESS STATE

Time passes between lines: every deadline of the home agent is kept to the nanosecond. Each effect must be expected, in
its order and at its time, and frames are compared octet for octet with those of `octets`.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

from control.binding.cache import BindingCacheEntry
from control.binding.configuration import HomeAgentConfiguration
from control.binding.effects import (
    Effect,
    EffectResult,
    InstallBinding,
    RemoveBinding,
    ReserveSequenceNumbers,
    SendFrame,
    SendPacket,
    StartDad,
    StopDad,
)
from control.binding.events import SignallingReason
from control.binding.home_link import HomeLink
from control.home_agent import HomeAgent
from control.ipsec.association import Purpose, Role, SecurityAssociation, SecurityAssociationDatabase
from control.ipsec.transform import EncryptionAlgorithm, IntegrityAlgorithm
from control.wire.ethernet import pull_ethernet
from control.wire.ipv6 import pull_packet
from tests.scenarios import octets

SECOND_NS = 1_000_000_000
IV_OCTET = b"\xa5"
"""What every IV of the home agent consists of, so that its ESP packets can be foretold."""

ALL_NODES = IPv6Address("ff02::1")
UNSPECIFIED = IPv6Address("::")


class ScenarioError(AssertionError):
    """The home agent did something else, or the file is wrong; says which line."""


@dataclass(frozen=True)
class Line:
    """One line, taken apart."""

    place: str
    time_ns: int
    words: tuple[str, ...]
    values: dict[str, str]


@dataclass
class MobileNode:
    """What the scenario's side of the associations needs."""

    home_address: IPv6Address
    update_spi: int
    acknowledgement_spi: int
    encryption_key: bytes
    integrity_key: bytes
    anti_replay: bool
    next_sequence: int = 1
    acknowledgements: int = 0
    associations: list[SecurityAssociation] = field(default_factory=list)


class Scenario:
    """One file on its way from first to last line."""

    def __init__(self, path: Path) -> None:
        self._names: dict[str, str] = {}
        self._home_links: list[HomeLink] = []
        self._mobile_nodes: dict[IPv6Address, MobileNode] = {}
        self._configuration: dict[str, Any] = {}
        self._remembered: dict[IPv6Address, int] = {}
        self._restored: list[BindingCacheEntry] = []
        self._now = 0
        self._done: deque[tuple[int, Effect]] = deque()
        self._result: EffectResult | None = EffectResult.DONE
        self._held: list[InstallBinding] = []
        self._last_packet = b""
        self._agent: HomeAgent | None = None
        self._lines = list(_read(path))

    def run(self) -> None:
        for line in self._lines:
            try:
                self._execute(line)
            except ScenarioError as error:
                raise ScenarioError(f"{line.place}: {error}") from None
        self._nothing_left()

    @property
    def agent(self) -> HomeAgent:
        if self._agent is None:
            self._agent = self._make_agent()
            self._agent.restore(self._restored, self._remembered, self._now)
            self._perform()
        return self._agent

    # ---- lines ----

    def _execute(self, line: Line) -> None:
        match line.words:
            case ["name", name, value]:
                self._names[name] = value
            case ["home-link", interface]:
                self._home_links.append(self._home_link(interface, line))
            case ["mobile-node", address]:
                self._add_mobile_node(self._address(address), line)
            case ["configure"]:
                for key, value in line.values.items():
                    prefixes = key == "allowed-care-of-prefixes"
                    self._configuration[key.replace("-", "_")] = (IPv6Network(value),) if prefixes else int(value)
            case ["remember", address]:
                self._remembered[self._address(address)] = int(line.values["sequence"])
            case ["restore", *flags]:
                self._restored.append(self._entry(line, flags))
            case ["receive", what, *flags]:
                self._advance(line.time_ns)
                self._nothing_left()
                self._receive(what, flags, line)
            case ["answer", result]:
                self._advance(line.time_ns)
                self._answer(result)
            case ["expect", "nothing"]:
                self._advance(line.time_ns)
                self._nothing_left()
            case ["expect", what, *flags]:
                self._advance(line.time_ns)
                self._expect(self._expected(what, flags, line), line)
            case ["check", "counter"]:
                self._advance(line.time_ns)
                for name, value in line.values.items():
                    found = self.agent.counters[SignallingReason(name)]
                    _require(found == int(value), f"{name} is {found}, not {value}")
            case ["check", "state", address, state]:
                self._advance(line.time_ns)
                found_state = self.agent.state(self._address(address)).value
                _require(found_state == state, f"{address} is {found_state}, not {state}")
            case _:
                raise ScenarioError(f"not understood: {' '.join(line.words)}")

    def _home_link(self, interface: str, line: Line) -> HomeLink:
        values = line.values
        return HomeLink(
            index=int(values.get("index", "1")),
            interface=interface,
            prefix=IPv6Network(values["prefix"]),
            home_agent_address=self._address(values["address"]),
            mac=self._mac(values["mac"]),
            valid_until_ns=_seconds(values["valid"]) if "valid" in values else None,
            preferred_until_ns=_seconds(values["preferred"]) if "preferred" in values else None,
        )

    def _add_mobile_node(self, home_address: IPv6Address, line: Line) -> None:
        number = len(self._mobile_nodes)
        self._mobile_nodes[home_address] = MobileNode(
            home_address,
            int(line.values["update-spi"], 0),
            int(line.values["acknowledgement-spi"], 0),
            encryption_key=bytes((number + 1,)) * 16,
            integrity_key=bytes((number + 1,)) * 32,
            anti_replay=line.values.get("anti-replay") != "off",
        )

    def _make_agent(self) -> HomeAgent:
        database = SecurityAssociationDatabase(Role.HOME_AGENT)
        for node in self._mobile_nodes.values():
            for purpose, spi in (
                (Purpose.BINDING_UPDATE, node.update_spi),
                (Purpose.BINDING_ACKNOWLEDGEMENT, node.acknowledgement_spi),
            ):
                database.add(
                    SecurityAssociation(
                        spi=spi,
                        home_address=node.home_address,
                        purpose=purpose,
                        encryption=EncryptionAlgorithm.AES_CBC,
                        encryption_key=node.encryption_key,
                        integrity=IntegrityAlgorithm.HMAC_SHA_256_128,
                        integrity_key=node.integrity_key,
                        anti_replay=node.anti_replay,
                    )
                )
        configuration = replace(HomeAgentConfiguration(home_links=tuple(self._home_links)), **self._configuration)
        return HomeAgent(configuration, database, draw=lambda length: IV_OCTET * length)

    # ---- time and effects ----

    def _advance(self, time_ns: int) -> None:
        _require(time_ns >= self._now, "time does not go back")
        while (deadline_ns := self.agent.next_deadline()) is not None and deadline_ns <= time_ns:
            _require(deadline_ns >= self._now, f"a deadline of {_text(deadline_ns)} was left behind")
            self._now = deadline_ns
            self.agent.handle_timer(self._now)
            self._perform()
        self._now = time_ns

    def _perform(self) -> None:
        """Do as the service does: each effect in its order, and answer a write at once unless told otherwise."""
        effects = deque(self.agent.take_effects())
        while effects:
            effect = effects.popleft()
            self._done.append((self._now, effect))
            if isinstance(effect, InstallBinding):
                if self._result is None:
                    self._held.append(effect)
                else:
                    self.agent.effect_done(effect, self._result, self._now)
                effects.extend(self.agent.take_effects())

    def _answer(self, result: str) -> None:
        if result == "later":
            self._result = None
            return
        self._result = EffectResult(result)
        held, self._held = self._held, []
        for effect in held:
            self.agent.effect_done(effect, self._result, self._now)
        self._perform()

    def _nothing_left(self) -> None:
        if self._done:
            at_ns, effect = self._done[0]
            raise ScenarioError(f"not expected, at {_text(at_ns)}: {_describe(effect)}")

    def _expect(self, expected: Effect, line: Line) -> None:
        _require(bool(self._done), f"nothing was done; expected {_describe(expected)}")
        at_ns, effect = self._done.popleft()
        _require(
            effect == expected and at_ns == line.time_ns,
            f"expected at {_text(line.time_ns)}: {_describe(expected)}\n"
            f"     done at {_text(at_ns)}: {_describe(effect)}",
        )

    # ---- what comes ----

    def _receive(self, what: str, flags: list[str], line: Line) -> None:
        values = line.values
        makers: dict[str, Callable[[list[str], Line], bytes]] = {
            "binding-update": self._binding_update,
            "mobility": self._mobility,
            "udp": self._udp,
            "neighbor-solicitation": self._neighbor_message,
            "neighbor-advertisement": self._neighbor_message,
        }
        _require(what in makers, f"cannot receive {what}")
        packet = makers[what](flags, line)
        if "truncate" in values:
            packet = packet[: -int(values["truncate"])]
        self._last_packet = packet
        # What a sender's link layer says matters where the home agent answers on link.
        source = self._mac(values.get("mac", "02:00:00:00:aa:aa"))
        own_mac = self._home_links[0].mac
        frame = octets.ethernet(own_mac, source, packet)
        self.agent.receive_frame(frame, values.get("by", "eth1"), self._now)
        self._perform()

    def _binding_update(self, flags: list[str], line: Line) -> bytes:
        values = line.values
        home_address = self._address(values["home"])
        node = self._mobile_nodes[self._address(values.get("signed-by", values["home"]))]
        source = self._address(values["from"])
        home_agent = self._address(values.get("to", "agent"))
        alternate = self._address(values["alternate"]) if "alternate" in values else None
        body = octets.binding_update_body(
            int(values["sequence"]),
            values.get("flags", "AH"),
            int(values["lifetime"]) // 4,
            alternate,
            "nonce-indices" in flags,
        )
        body += bytes.fromhex(values.get("options", ""))
        message = octets.mobility(int(values.get("type", "5")), body, home_address, home_agent)
        if "bad-checksum" in flags:
            message = message[:4] + bytes((message[4] ^ 1,)) + message[5:]
        option = None if source == home_address else home_address
        if "unprotected" in flags:
            return octets.ipv6(source, home_agent, octets.MOBILITY, message, home_address_option=option)
        sequence = int(values["esp-sequence"]) if "esp-sequence" in values else node.next_sequence
        node.next_sequence = max(node.next_sequence, sequence + 1)
        esp = octets.seal(
            int(values["spi"], 0) if "spi" in values else node.update_spi,
            sequence,
            node.encryption_key,
            node.integrity_key,
            bytes(16),
            octets.MOBILITY,
            message,
        )
        if "bad-icv" in flags:
            esp = esp[:-1] + bytes((esp[-1] ^ 1,))
        return octets.ipv6(source, home_agent, octets.ESP, esp, home_address_option=option)

    def _mobility(self, _flags: list[str], line: Line) -> bytes:
        """Any Mobility Header, in clear."""
        values = line.values
        source, destination = self._address(values["from"]), self._address(values.get("to", "agent"))
        home_address = self._address(values["home"]) if "home" in values else None
        body = bytes.fromhex(values.get("body", "0000" * 5))
        header = struct.pack(
            "!BBBxH",
            int(values.get("proto", "59")),
            int(values.get("units", (len(body) - 2) // 8)),
            int(values["type"]),
            0,
        )
        message = octets.with_checksum(header + body, 4, octets.MOBILITY, home_address or source, destination)
        return octets.ipv6(source, destination, octets.MOBILITY, message, home_address_option=home_address)

    def _udp(self, _flags: list[str], line: Line) -> bytes:
        source, destination = self._address(line.values["from"]), self._address(line.values.get("to", "agent"))
        datagram = struct.pack("!HHHH", 9, 9, 8, 0)
        return octets.ipv6(source, destination, 17, datagram, home_address_option=self._address(line.values["home"]))

    def _neighbor_message(self, _flags: list[str], line: Line) -> bytes:
        target = self._address(line.values["target"])
        if line.words[1] == "neighbor-advertisement":
            return _advertisement(self._address(line.values["from"]), ALL_NODES, target, 0x20, None)
        return _solicitation(self._address(line.values["from"]), target, int(line.values.get("hop-limit", "255")))

    # ---- what is done ----

    def _expected(self, what: str, flags: list[str], line: Line) -> Effect:
        values = line.values
        match what:
            case "start-dad":
                return StartDad(self._address(flags[0]), int(values.get("link", "1")))
            case "stop-dad":
                return StopDad(self._address(flags[0]))
            case "install":
                return InstallBinding(self._entry(line, flags))
            case "remove":
                return RemoveBinding(self._entry(line, flags))
            case "reserve":
                return ReserveSequenceNumbers(int(values["spi"], 0), int(values["through"]))
            case "neighbor-solicitation":
                return self._link_frame(_solicitation(UNSPECIFIED, self._address(values["target"]), 255), values)
            case "neighbor-advertisement":
                link = self._link(values)
                target = self._address(values["target"])
                packet = _advertisement(link.home_agent_address, ALL_NODES, target, 0x20, link.mac)
                return self._link_frame(packet, values)
            case "acknowledgement":
                return self._acknowledgement(values)
            case "binding-error":
                return self._binding_error(values)
            case "parameter-problem":
                return self._parameter_problem(values)
        raise ScenarioError(f"cannot expect {what}")

    def _entry(self, line: Line, flags: list[str]) -> BindingCacheEntry:
        """`since` is when the binding was last registered, if not at the line's own time."""
        values = line.values
        home_address = self._address(values["home"])
        since_ns = _seconds(values["since"]) if "since" in values else line.time_ns
        lifetime_units = int(values["lifetime"]) // 4
        index = next((link.index for link in self._home_links if home_address in link.prefix), 0)
        return BindingCacheEntry(
            home_address=home_address,
            care_of_address=self._address(values["at"]),
            home_agent_address=self._address(values.get("agent", "agent")),
            home_link=index,
            sequence=int(values["sequence"]),
            lifetime_units=lifetime_units,
            registered_ns=since_ns,
            expires_ns=since_ns + lifetime_units * 4 * SECOND_NS,
            link_local_compatible="link-local" in flags,
            key_management_mobility=False,
        )

    def _link(self, values: dict[str, str]) -> HomeLink:
        return next(
            link for link in self._home_links if link.interface == values.get("by", self._home_links[0].interface)
        )

    def _link_frame(self, packet: bytes, values: dict[str, str]) -> SendFrame:
        link = self._link(values)
        group = b"\x33\x33" + packet[36:40]
        return SendFrame(link.interface, octets.ethernet(group, link.mac, packet))

    def _acknowledgement(self, values: dict[str, str]) -> SendFrame | SendPacket:
        node = self._mobile_nodes[self._address(values["home"])]
        source, destination = self._address(values.get("from", "agent")), self._address(values["to"])
        node.acknowledgements += 1
        body = octets.binding_acknowledgement_body(
            int(values["status"]),
            int(values["sequence"]),
            int(values.get("lifetime", "0")) // 4,
            int(values["advice"]) // 4 if "advice" in values else None,
        )
        esp = octets.seal(
            node.acknowledgement_spi,
            node.acknowledgements,
            node.encryption_key,
            node.integrity_key,
            IV_OCTET * 16,
            octets.MOBILITY,
            octets.mobility(6, body, source, node.home_address),
        )
        away = None if destination == node.home_address else node.home_address
        packet = octets.ipv6(source, destination, octets.ESP, esp, routing_header=away)
        if away is not None:
            return SendPacket(packet)
        link = self._link(values)
        return SendFrame(link.interface, octets.ethernet(self._mac(values["mac"]), link.mac, packet))

    def _binding_error(self, values: dict[str, str]) -> SendPacket:
        source, destination = self._address(values.get("from", "agent")), self._address(values["to"])
        home_address = self._address(values["home"]) if "home" in values else UNSPECIFIED
        body = octets.binding_error_body(int(values["status"]), home_address)
        message = octets.mobility(7, body, source, destination)
        return SendPacket(octets.ipv6(source, destination, octets.MOBILITY, message))

    def _parameter_problem(self, values: dict[str, str]) -> SendPacket:
        source, destination = self._address(values.get("from", "agent")), self._address(values["to"])
        body = struct.pack("!I", int(values["pointer"])) + self._last_packet
        message = octets.icmpv6(4, int(values.get("code", "0")), body, source, destination)
        return SendPacket(octets.ipv6(source, destination, octets.ICMPV6, message))

    # ---- values ----

    def _address(self, text: str) -> IPv6Address:
        return IPv6Address(self._names.get(text, text))

    def _mac(self, text: str) -> bytes:
        return octets.mac(self._names.get(text, text))


def _solicitation(source: IPv6Address, target: IPv6Address, hop_limit: int) -> bytes:
    group = IPv6Address(bytes.fromhex("ff0200000000000000000001ff") + target.packed[13:])
    message = octets.icmpv6(135, 0, bytes(4) + target.packed, source, group)
    return octets.ipv6(source, group, octets.ICMPV6, message, hop_limit)


def _advertisement(
    source: IPv6Address, destination: IPv6Address, target: IPv6Address, flags: int, link_layer_address: bytes | None
) -> bytes:
    option = b"" if link_layer_address is None else b"\2\1" + link_layer_address
    message = octets.icmpv6(136, 0, struct.pack("!B3x", flags) + target.packed + option, source, destination)
    return octets.ipv6(source, destination, octets.ICMPV6, message, 255)


def _read(path: Path) -> Iterator[Line]:
    for number, text in enumerate(path.read_text(encoding="ascii").splitlines(), 1):
        tokens = text.split("#", 1)[0].split()
        if not tokens:
            continue
        if tokens[0] == "include":
            yield from _read(path.parent / tokens[1])
            continue
        time_ns = 0
        if tokens[0][0].isdigit():
            time_ns = _seconds(tokens.pop(0))
        words = tuple(token for token in tokens if "=" not in token)
        values = dict(token.split("=", 1) for token in tokens if "=" in token)
        yield Line(f"{path.name}:{number}", time_ns, words, values)


def _seconds(text: str) -> int:
    """Nanoseconds, without the rounding of a float."""
    whole, _, fraction = text.partition(".")
    return int(whole) * SECOND_NS + int(fraction.ljust(9, "0"))


def _text(time_ns: int) -> str:
    return f"{time_ns // SECOND_NS}.{time_ns % SECOND_NS:09d}"


def _describe(effect: Effect) -> str:
    if isinstance(effect, SendFrame):
        header, data = pull_ethernet(effect.frame)
        return f"frame by {effect.interface} {header} {pull_packet(data)}\n       {effect.frame.hex()}"
    if isinstance(effect, SendPacket):
        return f"{pull_packet(effect.packet)}\n       {effect.packet.hex()}"
    return str(effect)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ScenarioError(otherwise)
