# SPDX-License-Identifier: Apache-2.0
"""The operator's TOML files, as frozen dataclasses.

Every problem names its file, key, value and remedy, and all problems of a file are told at once. What the machine has
(interfaces, groups, kernels) is not looked at here: that is for the preflight and the daemon.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Final, NoReturn, TypeVar

DEFAULT_PATH: Final = Path("/etc/ha-fastpath/ha-fastpath.toml")
DEFAULT_MOBILE_NODE_PATH: Final = Path("/etc/ha-fastpath/mobile-node.toml")
DEFAULT_SPI_RANGE: Final = (0x100, 0xBFFFFFFF)

MAXIMUM_HOME_LINKS: Final = 15
"""Index 0 of the data path's sixteen means "no home link" (bpf/ha_abi.h, HA_MAX_HOME_LINKS)."""
MAXIMUM_INTERFACES: Final = 64
INTERFACE_NAME_OCTETS: Final = 15
LARGEST_LIFETIME_S: Final = 65535 * 4
"""What the 16 bits of a Binding Acknowledgement can say, in units of 4 s (RFC 6275 section 6.1.8)."""

_REQUIRED: Final = object()
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file, and what to do about it."""

    file: Path
    key: str
    value: str
    """As it stands in the file; empty where the key is missing or the file cannot be read."""
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}: {self.key}" if self.key else f"{self.file}"
        return f"{place} = {self.value}: {self.remedy}" if self.value else f"{place}: {self.remedy}"


class ConfigurationError(Exception):
    """All that is wrong in one file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class HomeLinkSettings:
    """One link that mobile nodes are at home on."""

    interface: str
    prefix: IPv6Network
    address: IPv6Address
    """The home agent's own address on the link, which mobile nodes register with."""
    dad_retransmit_timer_ms: int


@dataclass(frozen=True, slots=True)
class Configuration:
    """What ha-fastpath.toml says."""

    path: Path
    keys_file: Path
    state_file: Path
    pin_directory: Path
    management_socket: Path
    management_group: str | None
    maximum_bindings: int
    maximum_lifetime_s: int
    spi_range: tuple[int, int]
    """First and last, both included: ESP with such an SPI is signalling, any other is the kernel's."""
    home_links: tuple[HomeLinkSettings, ...]
    interfaces: tuple[str, ...]
    """Those of the home links first, then the further ones."""


@dataclass(frozen=True, slots=True)
class MobileNodeSettings:
    """What mobile-node.toml says."""

    path: Path
    interface: str
    home_address: IPv6Address
    home_prefix: IPv6Network
    home_agent_address: IPv6Address
    lifetime_s: int
    keys_file: Path
    state_file: Path
    pin_directory: Path
    spi_range: tuple[int, int]


class _RefusedError(Exception):
    """A value that will not do; the text is the remedy."""


def _refuse(remedy: str) -> NoReturn:
    raise _RefusedError(remedy)


def _written(value: object) -> str:
    """A value about as the file has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return "[" + ", ".join(_written(each) for each in value) + "]"
    if isinstance(value, dict):
        return "{ ... }"
    return str(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        _refuse("write a text in double quotes")
    return value


def _count(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        # TOML keeps true and 1 apart; Python does not.
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            _refuse(f"write a whole number from {low} to {high}, without quotes")
        return value

    return parse


def _interface_name(value: object) -> str:
    name = _text(value)
    if len(name.encode()) > INTERFACE_NAME_OCTETS or "/" in name or name in {".", ".."} or not name.isprintable():
        _refuse(f"write an interface's name as `ip link` shows it, at most {INTERFACE_NAME_OCTETS} characters")
    if " " in name or "%" in name:
        _refuse("write an interface's name as `ip link` shows it, without blanks")
    return name


def _address(value: object) -> IPv6Address:
    try:
        address = IPv6Address(_text(value))
    except ValueError:
        _refuse('write an IPv6 address, like "2001:db8:1::1"')
    if address.is_multicast or address.is_link_local or address.is_loopback or address.is_unspecified:
        _refuse("write a global unicast address: mobile nodes reach it from other links")
    if address.scope_id is not None:
        _refuse("write the address without a zone (%...)")
    return address


def _prefix(value: object) -> IPv6Network:
    text = _text(value)
    try:
        prefix = IPv6Network(text)
    except ValueError:
        try:
            remedy = f'bits are set beyond the prefix length; write "{IPv6Network(text, strict=False)}"'
        except ValueError:
            remedy = 'write an IPv6 prefix, like "2001:db8:1::/64"'
        _refuse(remedy)
    if prefix.prefixlen != 64:
        _refuse("write a prefix of 64 bits: home links have no others")
    if prefix.is_multicast or prefix.is_link_local:
        _refuse("write a global prefix: mobile nodes take their home addresses from it")
    return prefix


def _path(directory: Path) -> Callable[[object], Path]:
    def parse(value: object) -> Path:
        path = directory / _text(value)
        if "\0" in str(path):
            _refuse("write the path of a file")
        return path

    return parse


def _socket_path(directory: Path) -> Callable[[object], Path]:
    parse_path = _path(directory)

    def parse(value: object) -> Path:
        path = parse_path(value)
        # sun_path of struct sockaddr_un has 108 octets, with the final zero.
        if len(str(path).encode()) > 107:
            _refuse("write a shorter path: a Unix socket's has at most 107 characters")
        return path

    return parse


def _security_parameters_index(value: object) -> int:
    number = value
    if isinstance(value, str):
        try:
            number = int(value, 0)
        except ValueError:
            number = None
    # RFC 4303 section 2.1: 0 is for local use and 1 to 255 are reserved.
    if not isinstance(number, int) or isinstance(number, bool) or not 0x100 <= number <= 0xFFFFFFFF:
        _refuse('write an SPI from "0x100" to "0xffffffff"')
    return number


def _spi_range(value: object) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        _refuse('write the first and the last SPI, like ["0x100", "0xbfffffff"]')
    first, last = (_security_parameters_index(each) for each in value)
    if first > last:
        _refuse("write the smaller SPI first")
    return first, last


class _Table:
    """A table of the file: hands out values, and gathers what is wrong with them."""

    def __init__(self, file: Path, name: str, content: dict[str, object], problems: list[Problem]) -> None:
        self._file = file
        self._name = name
        self._content = content
        self._problems = problems
        self._known: list[str] = []

    def refuse(self, key: str, remedy: str) -> None:
        value = _written(self._content[key]) if key in self._content else ""
        self._problems.append(Problem(self._file, f"{self._name}.{key}" if self._name else key, value, remedy))

    def take(self, key: str, parse: Callable[[object], _Value], default: object = _REQUIRED) -> _Value | None:
        """The value of a key; None where it is refused, which is told already, or where None is the default."""
        self._known.append(key)
        if key not in self._content:
            if default is _REQUIRED:
                self.refuse(key, "it is missing: write it")
                return None
            return default  # type: ignore[return-value]  # the caller gives a default of the parser's type
        try:
            return parse(self._content[key])
        except _RefusedError as refused:
            self.refuse(key, str(refused))
            return None

    def table(self, key: str, *, required: bool = True) -> _Table:
        self._known.append(key)
        content = self._content.get(key)
        name = f"{self._name}.{key}" if self._name else key
        if isinstance(content, dict):
            return _Table(self._file, name, content, self._problems)
        if required or content is not None:
            self.refuse(key, f"it is missing: write a table [{name}]" if content is None else f"write a table [{name}]")
        # Its keys are not each told as missing: the table is.
        return _Table(self._file, name, {}, [])

    def tables(self, key: str, limit: int) -> list[_Table]:
        self._known.append(key)
        content = self._content.get(key, [])
        if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
            self.refuse(key, f"write [[{key}]], with two brackets, above each")
            return []
        if len(content) > limit:
            self._problems.append(Problem(self._file, key, f"{len(content)} of them", f"write at most {limit}"))
        return [
            _Table(self._file, f"{key}[{number}]", each, self._problems) for number, each in enumerate(content, start=1)
        ]

    def finish(self) -> None:
        """Refuse the keys that nobody asked for."""
        for key in self._content:
            if key in self._known:
                continue
            near = difflib.get_close_matches(key, self._known, n=1, cutoff=0.5)
            known = ", ".join(self._known)
            self.refuse(key, f"unknown key; did you mean {near[0]}?" if near else f"unknown key; there are: {known}")


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        remedy = f"it cannot be read ({error.strerror}): write it, or name another with -c"
    except UnicodeDecodeError:
        remedy = "it is not UTF-8 text: write it anew"
    except tomllib.TOMLDecodeError as error:
        remedy = f"it is not TOML: {error}"
    raise ConfigurationError([Problem(path, "", "", remedy)])


def _home_link(table: _Table) -> HomeLinkSettings | None:
    interface = table.take("interface", _interface_name)
    prefix = table.take("prefix", _prefix)
    address = table.take("address", _address)
    timer = table.take("dad_retransmit_timer_ms", _count(1, 10_000), 1000)
    table.finish()
    if prefix is not None and address is not None:
        if address not in prefix:
            table.refuse("address", f"write an address in the prefix {prefix}")
        elif address == prefix.network_address:
            # RFC 4291 section 2.6.1
            table.refuse("address", "it is the Subnet-Router anycast address: write a unicast address")
        elif int(address) & 0xFFFFFFFFFFFFFFFF == 0xFDFFFFFFFFFFFFFE:
            # RFC 2526 section 2, RFC 6275 section 8.4
            table.refuse("address", "it is the Mobile IPv6 Home-Agents anycast address: write a unicast address")
    if interface is None or prefix is None or address is None or timer is None:
        return None
    return HomeLinkSettings(interface, prefix, address, timer)


def _tell_twins(tables: list[_Table], links: list[HomeLinkSettings | None]) -> None:
    """Two home links share neither an interface nor a prefix."""
    for number, (table, link) in enumerate(zip(tables, links, strict=True)):
        for other_number, other in enumerate(links[:number], start=1):
            if link is None or other is None:
                continue
            if link.interface == other.interface:
                table.refuse("interface", f"home_link[{other_number}] has it already: an interface has one home link")
            if link.prefix == other.prefix:
                table.refuse("prefix", f"home_link[{other_number}] has it already: write each prefix once")


def load(path: Path) -> Configuration:
    """Read the home agent's file; raises ConfigurationError with all that is wrong in it."""
    problems: list[Problem] = []
    root = _Table(path, "", _read(path), problems)
    directory = path.absolute().parent

    table = root.table("home_agent")
    keys_file = table.take("keys_file", _path(directory))
    state_file = table.take("state_file", _path(directory), Path("/var/lib/ha-fastpath/state.sqlite"))
    pin_directory = table.take("pin_directory", _path(directory), Path("/sys/fs/bpf/ha-fastpath"))
    socket = table.take("management_socket", _socket_path(directory), Path("/run/ha-fastpath/management.sock"))
    group = table.take("management_group", _text, None)
    maximum_bindings = table.take("maximum_bindings", _count(1, 10_000_000), 100_000)
    maximum_lifetime_s = table.take("maximum_lifetime_s", _count(4, LARGEST_LIFETIME_S), 3600)
    spi_range = table.take("spi_range", _spi_range, DEFAULT_SPI_RANGE)
    table.finish()

    link_tables = root.tables("home_link", MAXIMUM_HOME_LINKS)
    if not link_tables and not any(problem.key == "home_link" for problem in problems):
        problems.append(Problem(path, "home_link", "", "there is none: write a [[home_link]]"))
    links = [_home_link(each) for each in link_tables]
    _tell_twins(link_tables, links)

    names = [link.interface for link in links if link is not None]
    for each in root.tables("interface", MAXIMUM_INTERFACES - len(link_tables)):
        name = each.take("name", _interface_name)
        each.finish()
        if name is not None and name in names:
            each.refuse("name", "it is named already, here or in a [[home_link]]: write each interface once")
        elif name is not None:
            names.append(name)
    root.finish()

    if (
        problems
        or keys_file is None
        or state_file is None
        or pin_directory is None
        or socket is None
        or maximum_bindings is None
        or maximum_lifetime_s is None
        or spi_range is None
    ):
        raise ConfigurationError(problems)
    return Configuration(
        path=path,
        keys_file=keys_file,
        state_file=state_file,
        pin_directory=pin_directory,
        management_socket=socket,
        management_group=group,
        maximum_bindings=maximum_bindings,
        maximum_lifetime_s=maximum_lifetime_s,
        spi_range=spi_range,
        home_links=tuple(link for link in links if link is not None),
        interfaces=tuple(names),
    )


def load_mobile_node(path: Path) -> MobileNodeSettings:
    """Read a mobile node's file; raises ConfigurationError with all that is wrong in it."""
    problems: list[Problem] = []
    root = _Table(path, "", _read(path), problems)
    directory = path.absolute().parent

    table = root.table("mobile_node")
    interface = table.take("interface", _interface_name)
    home_address = table.take("home_address", _address)
    home_prefix = table.take("home_prefix", _prefix)
    home_agent_address = table.take("home_agent_address", _address)
    lifetime_s = table.take("lifetime_s", _count(4, LARGEST_LIFETIME_S), 600)
    keys_file = table.take("keys_file", _path(directory))
    state_file = table.take("state_file", _path(directory), Path("/var/lib/ha-fastpath/mobile-node.sqlite"))
    pin_directory = table.take("pin_directory", _path(directory), Path("/sys/fs/bpf/ha-fastpath-mobile-node"))
    spi_range = table.take("spi_range", _spi_range, DEFAULT_SPI_RANGE)
    table.finish()
    root.finish()
    if home_address is not None and home_prefix is not None and home_address not in home_prefix:
        table.refuse("home_address", f"write an address in the home prefix {home_prefix}")
    if home_address is not None and home_address == home_agent_address:
        table.refuse("home_address", "it is the home agent's: write the mobile node's own")

    if (
        problems
        or interface is None
        or home_address is None
        or home_prefix is None
        or home_agent_address is None
        or lifetime_s is None
        or keys_file is None
        or state_file is None
        or pin_directory is None
        or spi_range is None
    ):
        raise ConfigurationError(problems)
    return MobileNodeSettings(
        path=path,
        interface=interface,
        home_address=home_address,
        home_prefix=home_prefix,
        home_agent_address=home_agent_address,
        lifetime_s=lifetime_s,
        keys_file=keys_file,
        state_file=state_file,
        pin_directory=pin_directory,
        spi_range=spi_range,
    )
