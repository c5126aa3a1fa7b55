# SPDX-License-Identifier: Apache-2.0
"""Security associations between mobile nodes and their home agent, and the database of them.

RFC 4301 section 4.4.2, RFC 6275 section 5.1.
An association belongs to one home address, one purpose and so one direction. Both sides make theirs from one keys file;
which of them are inbound follows from the `Role`. Nothing here reads a file or opens a packet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv6Address
from typing import Final, Protocol

from control.ipsec.errors import AssociationError
from control.ipsec.replay import MAXIMUM_SEQUENCE, ReplayWindow
from control.ipsec.transform import (
    EncryptionAlgorithm,
    IntegrityAlgorithm,
    SecretKey,
    check_encryption_key,
    check_integrity_key,
)
from control.wire.errors import InvariantError

SEQUENCE_BLOCK: Final = 4096
"""Sequence numbers reserved on disk at a time: how many a crash may leave unused."""

FIRST_SPI: Final = 0x100
"""0 is never sent and 1 to 255 are IANA's (RFC 4303 section 2.1)."""
LAST_SPI: Final = 0xFFFF_FFFF


class Purpose(StrEnum):
    """The one message that an association protects."""

    BINDING_UPDATE = "binding_update"
    BINDING_ACKNOWLEDGEMENT = "binding_acknowledgement"


class Role(StrEnum):
    """Whose associations a database holds."""

    HOME_AGENT = "home_agent"
    MOBILE_NODE = "mobile_node"

    @property
    def inbound_purpose(self) -> Purpose:
        return Purpose.BINDING_UPDATE if self is Role.HOME_AGENT else Purpose.BINDING_ACKNOWLEDGEMENT

    @property
    def outbound_purpose(self) -> Purpose:
        return Purpose.BINDING_ACKNOWLEDGEMENT if self is Role.HOME_AGENT else Purpose.BINDING_UPDATE


@dataclass(slots=True, eq=False)
class SecurityAssociation:
    """One manually keyed ESP association in transport mode, with the counters of whichever end holds it."""

    spi: int
    home_address: IPv6Address
    """The only home address that it may speak for."""
    purpose: Purpose
    encryption: EncryptionAlgorithm
    encryption_key: bytes = field(repr=False)
    """Empty for NULL."""
    integrity: IntegrityAlgorithm
    integrity_key: bytes = field(repr=False)
    anti_replay: bool = False
    """Off unless asked for: a sender with manual keys may begin anew at 1 (RFC 4303 section 3.3.3)."""
    next_sequence: int = 1
    """Outbound: what the next sealed packet bears."""
    reserved_through: int = 0
    """Outbound: the highest sequence number that is on disk as used."""
    window: ReplayWindow = field(default_factory=ReplayWindow)
    """Inbound: kept only with `anti_replay`."""

    def __post_init__(self) -> None:
        if not FIRST_SPI <= self.spi <= LAST_SPI:
            raise AssociationError(
                "spi", f"{self.spi:#x}", f"use {FIRST_SPI:#x} to {LAST_SPI:#x} (RFC 4303 section 2.1)"
            )
        check_encryption_key(self.encryption, self.encryption_key)
        check_integrity_key(self.integrity, self.integrity_key)
        self.encryption_key = SecretKey(self.encryption_key)
        self.integrity_key = SecretKey(self.integrity_key)

    def reservation_due(self) -> int | None:
        """Through which sequence number to reserve before the next packet is sealed; None if enough are reserved."""
        if self.next_sequence <= self.reserved_through or self.next_sequence > MAXIMUM_SEQUENCE:
            return None
        return min(self.next_sequence + SEQUENCE_BLOCK - 1, MAXIMUM_SEQUENCE)

    def reserve(self, through: int) -> None:
        """Allow sealing up to `through`, which is recorded on disk or whose record precedes the packet's leaving."""
        if not self.reserved_through <= through <= MAXIMUM_SEQUENCE:
            raise InvariantError(f"reservation through {through} after {self.reserved_through}")
        self.reserved_through = through

    def resume_sending(self, reserved_through: int) -> None:
        """After a restart: begin past every sequence number that may have been used before it."""
        self.reserve(reserved_through)
        self.next_sequence = reserved_through + 1

    def resume_receiving(self, highest: int, seen: int | None = None) -> None:
        """After a restart: take up the window's `state`; without `seen`, all up to `highest` counts as received."""
        self.window = ReplayWindow(self.window.size, highest=highest, seen=seen)


class AssociationLookup(Protocol):
    """How a role finds its associations."""

    def by_spi(self, spi: int) -> SecurityAssociation | None:
        """The inbound association of this SPI."""

    def outbound(self, home_address: IPv6Address, purpose: Purpose) -> SecurityAssociation | None:
        """The association by which to send what serves `purpose` for `home_address`."""


class SecurityAssociationDatabase:
    """All associations of one role, so that each home address and purpose has exactly one (RFC 6275 section 5.1).

    `by_spi` finds inbound associations only: a home agent's own acknowledgement, reflected to it, meets none.
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self._by_spi: dict[int, SecurityAssociation] = {}
        # Two dictionaries keyed by address rather than one keyed by pairs: no tuple for each of 200,000 associations.
        self._by_home_address: dict[Purpose, dict[IPv6Address, SecurityAssociation]] = {
            purpose: {} for purpose in Purpose
        }
        self._key_owners: dict[bytes, IPv6Address] = {}
        self._is_frozen = False

    def by_spi(self, spi: int) -> SecurityAssociation | None:
        """The inbound association of this SPI."""
        association = self._by_spi.get(spi)
        if association is None or association.purpose is not self.role.inbound_purpose:
            return None
        return association

    def outbound(self, home_address: IPv6Address, purpose: Purpose) -> SecurityAssociation | None:
        """The association by which to send for `purpose`; None where this role only receives."""
        if purpose is not self.role.outbound_purpose:
            return None
        return self._by_home_address[purpose].get(home_address)

    def add(self, association: SecurityAssociation) -> None:
        """Take in one association, or refuse it whole."""
        if self._is_frozen:
            raise InvariantError(f"association {association.spi:#x} added to a database that is frozen")
        home_address = association.home_address
        other = self._by_spi.get(association.spi)
        if other is not None:
            raise AssociationError(
                "spi",
                f"{association.spi:#x}",
                f"already that of {other.purpose} for {other.home_address}; give each association an SPI of its own",
            )
        if home_address in self._by_home_address[association.purpose]:
            raise AssociationError(
                "home_address",
                str(home_address),
                f"has an association for {association.purpose} already; keep one (RFC 6275 section 5.1)",
            )
        for name, key in _named_keys(association):
            owner = self._key_owners.get(key, home_address)
            if owner != home_address:
                raise AssociationError(
                    name,
                    f"the same for {owner} and {home_address}",
                    "draw a random key of its own for each mobile node (RFC 6275 section 5.1)",
                )
        self._by_spi[association.spi] = association
        self._by_home_address[association.purpose][home_address] = association
        for _, key in _named_keys(association):
            self._key_owners[key] = home_address

    def freeze(self) -> None:
        """No association comes any more: forget what only `add` needs, 20 MB for 100,000 mobile nodes."""
        self._is_frozen = True
        self._key_owners = {}

    def remove(self, association: SecurityAssociation) -> None:
        """Forget one association, its keys with it unless the same mobile node's other association has them too."""
        if self._by_spi.get(association.spi) is not association:
            raise InvariantError(f"association {association.spi:#x} removed, but not in the database")
        del self._by_spi[association.spi]
        del self._by_home_address[association.purpose][association.home_address]
        for _, key in _named_keys(association):
            self._key_owners.pop(key, None)
        for remaining in self._by_home_address.values():
            if (other := remaining.get(association.home_address)) is not None:
                self._key_owners.update({key: association.home_address for _, key in _named_keys(other)})

    def __iter__(self) -> Iterator[SecurityAssociation]:
        """All associations, inbound and outbound, in the order of their arrival."""
        return iter(self._by_spi.values())

    def __len__(self) -> int:
        return len(self._by_spi)


def _named_keys(association: SecurityAssociation) -> Iterator[tuple[str, bytes]]:
    if association.encryption_key:
        yield "encryption_key", association.encryption_key
    yield "integrity_key", association.integrity_key
