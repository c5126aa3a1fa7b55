# SPDX-License-Identifier: Apache-2.0
"""A MobileNode without I/O, the routers around it, and a home agent whose packets are put together from the RFCs.

What the mobile node sends is compared with octets that nothing of `control` has made.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from typing import Any, TypeVar

from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_RA,
    ICMPv6NDOptAdvInterval,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import Ether

from control.ipsec.association import Purpose, Role, SecurityAssociation, SecurityAssociationDatabase
from control.ipsec.transform import EncryptionAlgorithm, IntegrityAlgorithm
from control.mobile_node import MobileNode, MobileNodeConfiguration, MobileNodeEffect, MobileNodeEvent
from tests.scenarios import octets

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
NOW = 10_000 * SECOND

INTERFACE = "eth0"
MAC = bytes.fromhex("020000000402")
HOME_PREFIX = IPv6Network("2001:db8:1::/64")
HOME_ADDRESS = IPv6Address("2001:db8:1::100")
HOME_AGENT = IPv6Address("2001:db8:1::1")
HOME_AGENT_MAC = bytes.fromhex("020000000302")
FOREIGN_PREFIX = "2001:db8:2::"
CARE_OF_ADDRESS = IPv6Address("2001:db8:2::ff:fe00:402")
OTHER_FOREIGN_PREFIX = "2001:db8:3::"
OTHER_CARE_OF_ADDRESS = IPv6Address("2001:db8:3::ff:fe00:402")
ROUTER_MAC = bytes.fromhex("020000000102")
ALL_NODES = IPv6Address("ff02::1")

UPDATE_SPI, ACKNOWLEDGEMENT_SPI = 0x7D0, 0x7D1
UPDATE_KEYS = (bytes(range(16)), bytes(range(32)))
ACKNOWLEDGEMENT_KEYS = (bytes(range(100, 116)), bytes(range(100, 132)))
LIFETIME_S = 600
LIFETIME_UNITS = 150

T = TypeVar("T")


def associations(role: Role, home_address: IPv6Address = HOME_ADDRESS) -> SecurityAssociationDatabase:
    """Both associations of the mobile node, as one end has them."""
    database = SecurityAssociationDatabase(role)
    for spi, purpose, keys in (
        (UPDATE_SPI, Purpose.BINDING_UPDATE, UPDATE_KEYS),
        (ACKNOWLEDGEMENT_SPI, Purpose.BINDING_ACKNOWLEDGEMENT, ACKNOWLEDGEMENT_KEYS),
    ):
        database.add(
            SecurityAssociation(
                spi=spi,
                home_address=home_address,
                purpose=purpose,
                encryption=EncryptionAlgorithm.AES_CBC,
                encryption_key=keys[0],
                integrity=IntegrityAlgorithm.HMAC_SHA_256_128,
                integrity_key=keys[1],
                anti_replay=True,
            )
        )
    return database


def configuration(**changes: Any) -> MobileNodeConfiguration:
    values: dict[str, Any] = {
        "home_address": HOME_ADDRESS,
        "home_agent_address": HOME_AGENT,
        "home_prefix": HOME_PREFIX,
        "interface": INTERFACE,
        "mac": MAC,
        "lifetime_s": LIFETIME_S,
    }
    return MobileNodeConfiguration(**(values | changes))


def router_advertisement(
    prefix: str,
    *,
    router: str = "fe80::ff:fe00:102",
    router_mac: bytes = ROUTER_MAC,
    valid_lifetime_s: int = 7200,
    interval_ms: int = 70,
    router_address: bool = False,
    hop_limit: int = 255,
) -> bytes:
    """What radvd sends, as scapy makes it."""
    return bytes(
        Ether(src=router_mac.hex(":"), dst="33:33:00:00:00:01")
        / IPv6(src=router, dst="ff02::1", hlim=hop_limit)
        / ICMPv6ND_RA(routerlifetime=1800)
        / ICMPv6NDOptPrefixInfo(
            prefix=prefix,
            prefixlen=64,
            L=1,
            A=1,
            R=int(router_address),
            validlifetime=valid_lifetime_s,
            preferredlifetime=min(valid_lifetime_s, 3600),
        )
        / ICMPv6NDOptAdvInterval(advint=interval_ms)
        / ICMPv6NDOptSrcLLAddr(lladdr=router_mac.hex(":"))
    )


AT_HOME = router_advertisement(str(HOME_PREFIX.network_address))
ABROAD = router_advertisement(FOREIGN_PREFIX)
ABROAD_ELSEWHERE = router_advertisement(OTHER_FOREIGN_PREFIX)


def neighbor_advertisement(target: IPv6Address, mac: bytes | None = HOME_AGENT_MAC) -> bytes:
    """The answer to a solicitation from the unspecified address."""
    message = ICMPv6ND_NA(tgt=str(target), R=0, S=0, O=0)
    if mac is not None:
        message /= ICMPv6NDOptDstLLAddr(lladdr=mac.hex(":"))
    source = mac or HOME_AGENT_MAC
    return bytes(
        Ether(src=source.hex(":"), dst="33:33:00:00:00:01")
        / IPv6(src=str(HOME_AGENT), dst="ff02::1", hlim=255)
        / message
    )


def binding_update(
    sequence: int, care_of_address: IPv6Address, *, flags: str = "AH", lifetime_units: int = LIFETIME_UNITS, esp: int
) -> bytes:
    """The packet that has to leave; `esp` is the ESP sequence number."""
    body = octets.binding_update_body(sequence, flags, lifetime_units, care_of_address, nonce_indices=False)
    message = octets.mobility(5, body, HOME_ADDRESS, HOME_AGENT)
    sealed = octets.seal(UPDATE_SPI, esp, *UPDATE_KEYS, bytes(16), octets.MOBILITY, message)
    is_home = care_of_address == HOME_ADDRESS
    return octets.ipv6(
        care_of_address, HOME_AGENT, octets.ESP, sealed, home_address_option=None if is_home else HOME_ADDRESS
    )


def acknowledgement(
    sequence: int,
    care_of_address: IPv6Address = CARE_OF_ADDRESS,
    *,
    status: int = 0,
    lifetime_units: int = LIFETIME_UNITS,
    refresh_units: int | None = None,
    esp: int,
) -> bytes:
    """The home agent's answer, by a router of the link that the mobile node is on."""
    body = octets.binding_acknowledgement_body(status, sequence, lifetime_units, refresh_units)
    return protected(octets.mobility(6, body, HOME_AGENT, HOME_ADDRESS), care_of_address, esp=esp)


def protected(
    message: bytes,
    destination: IPv6Address = CARE_OF_ADDRESS,
    *,
    esp: int,
    protocol: int = octets.MOBILITY,
    source: IPv6Address = HOME_AGENT,
    routing_header: IPv6Address | None = HOME_ADDRESS,
    spi: int = ACKNOWLEDGEMENT_SPI,
) -> bytes:
    """A frame with something under the association of acknowledgements."""
    sealed = octets.seal(spi, esp, *ACKNOWLEDGEMENT_KEYS, bytes(16), protocol, message)
    header = None if destination == HOME_ADDRESS else routing_header
    packet = octets.ipv6(source, destination, octets.ESP, sealed, routing_header=header)
    return octets.ethernet(MAC, ROUTER_MAC, packet)


class Node:
    """A mobile node, and what it asked for and told since it was last looked at."""

    def __init__(self, database: SecurityAssociationDatabase | None = None, **changes: Any) -> None:
        self.database = associations(Role.MOBILE_NODE) if database is None else database
        # Octets of zero: IVs that are known, and the shortest delay before a solicitation.
        self.agent = MobileNode(configuration(**changes), self.database, bytes)
        self.now = NOW

    def receive(self, frame: bytes, after_ns: int = 0) -> None:
        self.now += after_ns
        self.agent.receive_frame(frame, INTERFACE, self.now)

    def wait(self, until_ns: int) -> None:
        """Let the timer run as the service would, up to an instant."""
        while (deadline := self.agent.next_deadline()) is not None and deadline <= until_ns:
            self.now = max(self.now, deadline)
            self.agent.handle_timer(self.now)
        self.now = until_ns

    def effects(self) -> list[MobileNodeEffect]:
        return self.agent.take_effects()

    def effects_of(self, kind: type[T]) -> list[T]:
        """Of what was asked for, that of one kind; the rest is gone too."""
        return [effect for effect in self.effects() if isinstance(effect, kind)]

    def events(self) -> list[MobileNodeEvent]:
        told = []
        while (event := self.agent.next_event()) is not None:
            told.append(event)
        return told

    def events_of(self, kind: type[T]) -> list[T]:
        """Of what was told, that of one kind; the rest is gone too."""
        return [event for event in self.events() if isinstance(event, kind)]

    def go_abroad(self, frame: bytes = ABROAD) -> None:
        """Be registered at the care-of address of a foreign link, with nothing left to look at."""
        self.receive(frame)
        care_of_address = CARE_OF_ADDRESS if frame == ABROAD else OTHER_CARE_OF_ADDRESS
        self.acknowledge(care_of_address)
        self.effects()
        self.events()

    def acknowledge(self, care_of_address: IPv6Address = CARE_OF_ADDRESS, **fields: Any) -> None:
        """The home agent answers the last Binding Update; each ESP packet of its has a number of its own."""
        self._answered = getattr(self, "_answered", 0) + 1
        sequence = fields.pop("sequence", self._sequence())
        self.receive(acknowledgement(sequence, care_of_address, esp=self._answered, **fields))

    def _sequence(self) -> int:
        return self.agent._entry.sequence
