# SPDX-License-Identifier: Apache-2.0
"""The keys file: security associations that operators agree on off-line (RFC 6275 section 5.1, RFC 3776).

One file serves both ends. The home agent receives by `binding_update` and sends by `binding_acknowledgement`, the
mobile node the other way round; which end reads is the `Role`. The file must be a secret: it is opened once, and what
was opened, not what a name may lead to later, has to be a regular file of ours that nobody else may read. What is
wrong in it is told without any key: not by value, and not as a name in the wrong place.

Sequence numbers that survive a restart are `state`'s.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Collection, Iterator
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final, NoReturn

from control.ipsec.association import Purpose, Role, SecurityAssociation, SecurityAssociationDatabase
from control.ipsec.errors import SecurityParameterError
from control.ipsec.transform import EncryptionAlgorithm, SecretKey, encryption_algorithm, integrity_algorithm
from control.wire.ipv6 import is_unicast_routable
from ha_fastpath.config import ConfigurationError, Problem

MODE: Final = 0o600
LONGEST_SHOWN_VALUE: Final = 24
"""Characters; the shortest key has 32. What is longer may be a key that stands where it should not."""

_MOBILE_NODE_KEYS: Final = ("home_address", *Purpose)
_ASSOCIATION_KEYS: Final = ("spi", "encryption", "encryption_key", "integrity", "integrity_key", "anti_replay")
_POSITION: Final = re.compile(r"\(at [a-z0-9, ]+\)$")
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f]{0,4}(:[0-9A-Fa-f]{0,4}){2,7}")


def load(
    path: Path, role: Role, spi_range: tuple[int, int], home_agent_addresses: Collection[IPv6Address] = ()
) -> SecurityAssociationDatabase:
    """Read the keys file for one end; raises ConfigurationError with all that is wrong in it.

    No mobile node's home address may be one of `home_agent_addresses`: its packets would go into the tunnel.
    """
    content = _parse(path, _read(path))
    database = SecurityAssociationDatabase(role)
    problems = [
        Problem(path, _shown_name(key), "", "unknown key; there is only [[mobile_node]]")
        for key in content
        if key != "mobile_node"
    ]
    mobile_nodes = content.get("mobile_node")
    if not isinstance(mobile_nodes, list) or not all(isinstance(each, dict) for each in mobile_nodes):
        problems.append(Problem(path, "mobile_node", "", "write [[mobile_node]], with two brackets, above each"))
        mobile_nodes = []
    for number, each in enumerate(mobile_nodes, start=1):
        table = _Table(path, f"mobile_node[{number}]", each, problems)
        if table.is_one_of(home_agent_addresses):
            table.refuse("home_address", _shown(each["home_address"]), "write another: this is the home agent's own")
            continue
        for association_table, association in _mobile_node(table, spi_range):
            try:
                database.add(association)
            except SecurityParameterError as error:
                association_table.refuse_parameter(error)
    if problems:
        raise ConfigurationError(problems)
    return database


def _read(path: Path) -> bytes:
    def refuse(key: str, value: str, remedy: str) -> NoReturn:
        raise ConfigurationError([Problem(path, key, value, remedy)])

    try:
        # Not blocking, or a FIFO in the file's place would hold the daemon up.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        refuse("", "", f"it cannot be opened ({error.strerror}): write it, or name another as keys_file")
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            refuse("type", _file_type(status.st_mode), "it must be a regular file: keys are read from no other")
        if status.st_uid != os.geteuid():
            refuse("owner", f"user {status.st_uid}", f"it must be ours: chown {os.geteuid()} {path}")
        if stat.S_IMODE(status.st_mode) != MODE:
            mode = f"{stat.S_IMODE(status.st_mode):04o}"
            refuse("mode", mode, f"nobody else may read or write keys: chmod {MODE:04o} {path}")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def _file_type(mode: int) -> str:
    for name, matches in (("directory", stat.S_ISDIR), ("FIFO", stat.S_ISFIFO), ("character device", stat.S_ISCHR)):
        if matches(mode):
            return name
    return "special file"


def _parse(path: Path, data: bytes) -> dict[str, object]:
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError:
        remedy = "it is not UTF-8 text: write it anew"
    except ValueError as error:
        # Only the place: the parser's own words may quote from the file. ValueError: an integer of too many digits.
        place = _POSITION.search(str(error))
        remedy = f"it is not TOML {place[0]}" if place else "it is not TOML"
    except RecursionError:
        remedy = "it is not TOML that this program reads: brackets are nested too deep"
    raise ConfigurationError([Problem(path, "", "", remedy)])


def _mobile_node(table: _Table, spi_range: tuple[int, int]) -> Iterator[tuple[_Table, SecurityAssociation]]:
    """The associations of one mobile node that are whole, each with where it stands."""
    table.refuse_unknown(_MOBILE_NODE_KEYS)
    home_address = table.home_address()
    for purpose in Purpose:
        content = table.content.get(purpose)
        if not isinstance(content, dict):
            table.refuse(purpose, "", f"write [mobile_node.{purpose}] with {', '.join(_ASSOCIATION_KEYS)}")
            continue
        inner = _Table(table.file, f"{table.name}.{purpose}", content, table.problems)
        association = _association(inner, home_address, purpose, spi_range)
        if association is not None:
            yield inner, association


def _association(
    table: _Table, home_address: IPv6Address | None, purpose: Purpose, spi_range: tuple[int, int]
) -> SecurityAssociation | None:
    table.refuse_unknown(_ASSOCIATION_KEYS)
    spi = table.security_parameters_index(spi_range)
    encryption_name = table.text("encryption")
    integrity_name = table.text("integrity")
    # Whether a key is missing cannot be said where the algorithm's name is missing too.
    needs_none = encryption_name in (EncryptionAlgorithm.NULL, None) and "encryption_key" not in table.content
    encryption_key = SecretKey() if needs_none else table.secret("encryption_key")
    integrity_key = table.secret("integrity_key")
    anti_replay = table.content.get("anti_replay", False)
    if not isinstance(anti_replay, bool):
        table.refuse("anti_replay", _shown(anti_replay), "write true or false, without quotes")
    if (
        home_address is None
        or spi is None
        or encryption_name is None
        or integrity_name is None
        or encryption_key is None
        or integrity_key is None
        or not isinstance(anti_replay, bool)
    ):
        return None
    try:
        return SecurityAssociation(
            spi=spi,
            home_address=home_address,
            purpose=purpose,
            encryption=encryption_algorithm(encryption_name),
            encryption_key=encryption_key,
            integrity=integrity_algorithm(integrity_name),
            integrity_key=integrity_key,
            anti_replay=anti_replay,
        )
    except SecurityParameterError as error:
        table.refuse_parameter(error)
        return None


class _Table:
    """A table of the file: hands out values, and gathers what is wrong with them."""

    def __init__(self, file: Path, name: str, content: dict[str, object], problems: list[Problem]) -> None:
        self.file = file
        self.name = name
        self.content = content
        self.problems = problems

    def refuse(self, key: str, value: str, remedy: str) -> None:
        self.problems.append(Problem(self.file, f"{self.name}.{key}", value, remedy))

    def refuse_parameter(self, error: SecurityParameterError) -> None:
        self.refuse(error.key, error.value, error.remedy)

    def refuse_unknown(self, known: tuple[str, ...]) -> None:
        for key in self.content:
            if key not in known:
                self.refuse(_shown_name(key), "", f"unknown key; there are: {', '.join(known)}")

    def text(self, key: str) -> str | None:
        value = self.content.get(key)
        if isinstance(value, str):
            return value
        self._refuse_absent_or_else(key, _shown(value), "write a text in double quotes")
        return None

    def secret(self, key: str) -> SecretKey | None:
        value = self.content.get(key)
        if isinstance(value, str):
            try:
                return SecretKey.fromhex(value.removeprefix("0x"))
            except ValueError:
                pass
        described = f"a text of {len(value)} characters" if isinstance(value, str) else "not a text"
        self._refuse_absent_or_else(
            key, described, "write the key in hexadecimal, two digits an octet, in double quotes"
        )
        return None

    def home_address(self) -> IPv6Address | None:
        value = self.content.get("home_address")
        if isinstance(value, str):
            try:
                address = IPv6Address(value)
            except ValueError:
                pass
            else:
                if is_unicast_routable(address) and address.scope_id is None:
                    return address
                self.refuse("home_address", str(address), "write a global unicast address, without a zone (%...)")
                return None
        self._refuse_absent_or_else("home_address", _shown(value), 'write an IPv6 address, like "2001:db8:1::100"')
        return None

    def is_one_of(self, addresses: Collection[IPv6Address]) -> bool:
        """Whether its home address is among these; one that is not written well is not."""
        try:
            return IPv6Address(str(self.content.get("home_address"))) in addresses
        except ValueError:
            return False

    def security_parameters_index(self, spi_range: tuple[int, int]) -> int | None:
        value = self.content.get("spi")
        number = value
        if isinstance(value, str):
            try:
                number = int(value, 0)
            except ValueError:
                number = None
        first, last = spi_range
        if isinstance(number, int) and not isinstance(number, bool) and first <= number <= last:
            return number
        self._refuse_absent_or_else(
            "spi", _shown(value), f'write an SPI of spi_range: from "{first:#x}" to "{last:#x}"'
        )
        return None

    def _refuse_absent_or_else(self, key: str, value: str, remedy: str) -> None:
        if key in self.content:
            self.refuse(key, value, remedy)
        else:
            self.refuse(key, "", f"it is missing: {remedy}")


def _shown(value: object) -> str:
    """A value about as the file has it, unless it could be a key."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        value = f"{value:#x}"
    elif isinstance(value, str):
        value = f'"{value}"'
    else:
        return "neither text nor number"
    if len(value) <= LONGEST_SHOWN_VALUE or (":" in value and _ADDRESS.fullmatch(value.strip('"'))):
        return value
    return f"a value of {len(value)} characters"


def _shown_name(key: str) -> str:
    return key if len(key) <= LONGEST_SHOWN_VALUE else f"(a name of {len(key)} characters)"
