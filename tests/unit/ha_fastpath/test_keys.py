# SPDX-License-Identifier: Apache-2.0
"""The keys file: what is read from it, from which files it is read, and that no error shows a key."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from control.ipsec.association import Purpose, Role, SecurityAssociationDatabase
from control.ipsec.esp import open_esp, seal_esp
from control.ipsec.transform import EncryptionAlgorithm
from ha_fastpath import keys
from ha_fastpath.config import ConfigurationError, Problem

SPI_RANGE = (0x100, 0xBFFF_FFFF)
HOME_ADDRESS = IPv6Address("2001:db8:1::100")
UPDATE, ACKNOWLEDGEMENT = Purpose.BINDING_UPDATE, Purpose.BINDING_ACKNOWLEDGEMENT
ENCRYPTION_KEY = "8f0b6d2c4e1a93757f21c05ab3d9e648"
INTEGRITY_KEY = "c4b1f05e7a6d3928e0174cb52fa8963dd1620e9b74f83a5c06ed97b12c5f4a80"

TEXT = f"""
[[mobile_node]]
home_address = "2001:db8:1::100"

[mobile_node.binding_update]
spi = "0x7d0"
encryption = "aes-cbc"
encryption_key = "{ENCRYPTION_KEY}"
integrity = "hmac-sha-256-128"
integrity_key = "{INTEGRITY_KEY}"
anti_replay = true

[mobile_node.binding_acknowledgement]
spi = "0x7d1"
encryption = "null"
integrity = "hmac-sha-256-128"
integrity_key = "{INTEGRITY_KEY}"
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(text: str) -> Path:
        path = tmp_path / "keys.toml"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        return path

    return make


def load(path: Path, role: Role = Role.HOME_AGENT) -> SecurityAssociationDatabase:
    return keys.load(path, role, SPI_RANGE)


def refused(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(ConfigurationError) as error:
        load(path)
    shown = str(error.value)
    assert ENCRYPTION_KEY not in shown
    assert INTEGRITY_KEY not in shown
    assert all(problem.file == path and problem.remedy for problem in error.value.problems)
    return error.value.problems


def only(path: Path) -> Problem:
    problems = refused(path)
    assert len(problems) == 1, problems
    return problems[0]


def test_one_file_serves_both_ends(write: Write) -> None:
    path = write(TEXT)
    home_agent, mobile_node = load(path), load(path, Role.MOBILE_NODE)
    update, acknowledgement = home_agent.by_spi(0x7D0), home_agent.outbound(HOME_ADDRESS, ACKNOWLEDGEMENT)
    assert update is not None
    assert acknowledgement is not None
    assert (update.home_address, update.purpose, update.spi) == (HOME_ADDRESS, UPDATE, 0x7D0)
    assert (update.encryption, update.encryption_key) == (EncryptionAlgorithm.AES_CBC, bytes.fromhex(ENCRYPTION_KEY))
    assert update.integrity_key == bytes.fromhex(INTEGRITY_KEY)
    assert update.anti_replay is True
    assert (acknowledgement.encryption, acknowledgement.encryption_key) == (EncryptionAlgorithm.NULL, b"")
    assert acknowledgement.anti_replay is False
    # The other way round at the mobile node.
    assert home_agent.by_spi(0x7D1) is None
    assert mobile_node.by_spi(0x7D0) is None
    sending, receiving = mobile_node.outbound(HOME_ADDRESS, UPDATE), mobile_node.by_spi(0x7D1)
    assert sending is not None
    assert receiving is not None
    sending.reserve(4096)
    acknowledgement.reserve(4096)
    assert open_esp(update, seal_esp(sending, 135, b"update", bytes)) == (135, b"update")
    assert open_esp(receiving, seal_esp(acknowledgement, 135, b"answer", bytes)) == (135, b"answer")


def test_ways_to_write_the_same(write: Write) -> None:
    text = TEXT.replace('"0x7d0"', "2000").replace('"0x7d1"', '"2001"')
    text = text.replace(ENCRYPTION_KEY, f"0x{ENCRYPTION_KEY.upper()}")
    text = text.replace('encryption = "null"', 'encryption = "null"\nencryption_key = ""')
    database = load(write(text))
    assert [each.spi for each in database] == [0x7D0, 0x7D1]
    assert [each.encryption_key for each in database] == [bytes.fromhex(ENCRYPTION_KEY), b""]


def test_the_mode_is_0600_and_no_other(write: Write) -> None:
    path = write(TEXT)
    for mode in (0o640, 0o604, 0o644, 0o660, 0o700, 0o400, 0o4600):
        path.chmod(mode)
        problem = only(path)
        assert (problem.key, problem.value) == ("mode", f"{mode:04o}")
        assert problem.remedy.endswith(f"chmod 0600 {path}")
    path.chmod(0o600)
    assert len(load(path)) == 2


def test_the_file_is_ours(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(TEXT)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    problem = only(path)
    assert (problem.key, problem.value) == ("owner", f"user {os.getuid()}")
    assert problem.remedy.endswith(f"chown 4242 {path}")


@pytest.mark.parametrize("kind", ["directory", "FIFO", "character device"])
def test_the_file_is_regular(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    if kind == "directory":
        path.mkdir(mode=0o600)
    elif kind == "FIFO":
        os.mkfifo(path, 0o600)
    else:
        path.symlink_to("/dev/null")
    problem = only(path)
    assert (problem.key, problem.value) == ("type", kind)


def test_a_socket_cannot_even_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        assert "cannot be opened" in only(path).remedy


def test_other_kinds_of_file_are_special() -> None:
    assert keys._file_type(0o060600) == "special file"


def test_a_link_is_judged_by_what_it_leads_to(write: Write, tmp_path: Path) -> None:
    path, link = write(TEXT), tmp_path / "link.toml"
    link.symlink_to(path)
    assert len(load(link)) == 2
    path.chmod(0o644)
    assert only(link).key == "mode"


def test_what_was_opened_is_judged_and_read(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(TEXT)
    opened: list[str] = []
    true_open = os.open

    def swapping_open(name: Path, flags: int) -> int:
        opened.append(str(name))
        descriptor = true_open(name, flags)
        # Whoever may write the directory puts another file in its place, between opening and judging.
        other = tmp_path / "other"
        other.write_text("not keys")
        other.rename(name)
        return descriptor

    monkeypatch.setattr(os, "open", swapping_open)
    assert len(load(path)) == 2
    assert opened == [str(path)]


def test_no_descriptor_is_left_open(write: Write) -> None:
    path = write(TEXT)
    before = len(os.listdir("/proc/self/fd"))
    load(path)
    path.chmod(0o644)
    refused(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_missing_file(tmp_path: Path) -> None:
    problem = only(tmp_path / "keys.toml")
    assert "No such file or directory" in problem.remedy
    assert "keys_file" in problem.remedy


@pytest.mark.parametrize(
    "text",
    [
        f'[[mobile_node]]\nencryption_key = "{ENCRYPTION_KEY}',
        f"[[mobile_node]]\nencryption_key = {ENCRYPTION_KEY}",
        f"{INTEGRITY_KEY}",
        f"[[mobile_node]]\nkey = 1\n[mobile_node]\n{INTEGRITY_KEY}",
    ],
)
def test_what_is_not_toml_is_told_by_its_place(write: Write, text: str) -> None:
    problem = only(write(text))
    assert problem.remedy.startswith("it is not TOML (at ")


def test_what_no_parser_reads(write: Write, tmp_path: Path) -> None:
    assert only(write("spi = " + "9" * 5000)).remedy == "it is not TOML"
    assert "nested" in only(write("spi = " + "[" * 100_000)).remedy
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# \xff")
    path.chmod(0o600)
    assert "UTF-8" in only(path).remedy


@pytest.mark.parametrize("text", ["", "mobile_node = 1", "[mobile_node]", "mobile_node = [1]"])
def test_mobile_nodes_are_an_array_of_tables(write: Write, text: str) -> None:
    assert "[[mobile_node]]" in only(write(text)).remedy


def test_unknown_keys(write: Write) -> None:
    text = f"mobile_nodes = 1\n{TEXT}".replace("anti_replay", "antireplay").replace(
        'home_address = "2001', 'name = "x"\nhome_address = "2001'
    )
    assert [(problem.key, problem.remedy.partition(":")[0]) for problem in refused(write(text))] == [
        ("mobile_nodes", "unknown key; there is only [[mobile_node]]"),
        ("mobile_node[1].name", "unknown key; there are"),
        ("mobile_node[1].binding_update.antireplay", "unknown key; there are"),
    ]


@pytest.mark.parametrize("line", [line for line in TEXT.splitlines() if " = " in line])
def test_every_line_is_needed_or_may_go(write: Write, line: str) -> None:
    """One line gone is refused with its key, or it is one that need not stand."""
    key = line.partition(" ")[0]
    path = write(TEXT.replace(f"{line}\n", "", 1))
    if key == "anti_replay":
        assert [each.anti_replay for each in load(path)] == [False, False]
        return
    problem = only(path)
    assert problem.key.endswith(f".{key}") or problem.key == f"mobile_node[1].{key}"
    assert problem.value == ""
    assert "it is missing" in problem.remedy


def test_a_missing_association(write: Write) -> None:
    problem = only(write(TEXT.partition("[mobile_node.binding_acknowledgement]")[0]))
    assert problem.key == "mobile_node[1].binding_acknowledgement"
    assert "[mobile_node.binding_acknowledgement]" in problem.remedy


@pytest.mark.parametrize(
    ("old", "new", "key", "value", "remedy"),
    [
        ('"0x7d0"', '"0xff"', "binding_update.spi", '"0xff"', '"0x100" to "0xbfffffff"'),
        ('"0x7d0"', '"0xc0000000"', "binding_update.spi", '"0xc0000000"', "spi_range"),
        ('"0x7d0"', '"7d0"', "binding_update.spi", '"7d0"', "spi_range"),
        ('"0x7d0"', "true", "binding_update.spi", "true", "spi_range"),
        ('"0x7d0"', "99", "binding_update.spi", "0x63", "spi_range"),
        ('"0x7d0"', "[1]", "binding_update.spi", "neither text nor number", "spi_range"),
        ('"0x7d0"', '"0x7d1"', "binding_acknowledgement.spi", "0x7d1", "already that of binding_update"),
        ('"aes-cbc"', '"aes-gcm"', "binding_update.encryption", "'aes-gcm'", "RFC 8221 section 3"),
        ('"aes-cbc"', "false", "binding_update.encryption", "false", "text in double quotes"),
        ('"hmac-sha-256-128"', '"null"', "binding_update.integrity", "'null'", "must not be NULL"),
        ("= true", "= 1", "binding_update.anti_replay", "0x1", "true or false"),
        (ENCRYPTION_KEY, ENCRYPTION_KEY[:-2], "binding_update.encryption_key", "15 octets", "16, 24, 32"),
        (
            ENCRYPTION_KEY,
            ENCRYPTION_KEY[:-1],
            "binding_update.encryption_key",
            "a text of 31 characters",
            "hexadecimal",
        ),
        (ENCRYPTION_KEY, "secret", "binding_update.encryption_key", "a text of 6 characters", "hexadecimal"),
        (f'"{ENCRYPTION_KEY}"', "12345", "binding_update.encryption_key", "not a text", "hexadecimal"),
        (INTEGRITY_KEY, INTEGRITY_KEY[:-2], "binding_update.integrity_key", "31 octets", "takes 32"),
        ("2001:db8:1::100", "2001:db8:1::g", "home_address", '"2001:db8:1::g"', "write an IPv6 address"),
        ("2001:db8:1::100", "192.0.2.1", "home_address", '"192.0.2.1"', "write an IPv6 address"),
        ("2001:db8:1::100", "fe80::1", "home_address", "fe80::1", "global unicast"),
        ("2001:db8:1::100", "ff02::1", "home_address", "ff02::1", "global unicast"),
        ("2001:db8:1::100", "::", "home_address", "::", "global unicast"),
        ("2001:db8:1::100", "::1", "home_address", "::1", "global unicast"),
        ("2001:db8:1::100", "2001:db8:1::100%e", "home_address", "2001:db8:1::100%e", "global unicast"),
    ],
)
def test_each_value_that_will_not_do(write: Write, old: str, new: str, key: str, value: str, remedy: str) -> None:
    path = write(TEXT.replace(old, new, 1))
    problem = only(path)
    assert problem.key == f"mobile_node[1].{key}"
    assert problem.value == value
    assert remedy in problem.remedy
    assert str(problem).startswith(f"{path}: mobile_node[1].{key} = {value}: ")


@pytest.mark.parametrize("place", ["2001:db8:1::100", "0x7d0", "aes-cbc", "hmac-sha-256-128"])
@pytest.mark.parametrize("key", [ENCRYPTION_KEY, INTEGRITY_KEY, ":".join(INTEGRITY_KEY[i : i + 2] for i in range(64))])
def test_a_key_where_it_should_not_stand_is_not_shown(write: Write, place: str, key: str) -> None:
    path = write(TEXT.replace(place, key, 1))
    problem = refused(path)[0]
    assert "characters" in problem.value
    assert key[:16] not in str(problem)


def test_nor_is_one_as_a_name_or_a_number(write: Write) -> None:
    problems = refused(write(TEXT.replace("anti_replay = true", f"{ENCRYPTION_KEY} = 1", 1)))
    assert "a name of 32 characters" in str(problems[0])
    number = int(ENCRYPTION_KEY, 16)
    problem = only(write(TEXT.replace('"0x7d0"', str(number), 1)))
    assert problem.value == "a value of 34 characters"
    assert str(number) not in str(problem)


def test_all_that_is_wrong_is_told_at_once(write: Write) -> None:
    text = TEXT.replace('"0x7d0"', '"0xff"').replace('"0x7d1"', '"0xfe"').replace("= true", '= "yes"')
    assert [problem.key for problem in refused(write(text))] == [
        "mobile_node[1].binding_update.spi",
        "mobile_node[1].binding_update.anti_replay",
        "mobile_node[1].binding_acknowledgement.spi",
    ]


def test_mobile_nodes_share_nothing(write: Write) -> None:
    same_address = TEXT + TEXT.replace("0x7d0", "0x7d2").replace("0x7d1", "0x7d3")
    assert [problem.key for problem in refused(write(same_address))] == [
        "mobile_node[2].binding_update.home_address",
        "mobile_node[2].binding_acknowledgement.home_address",
    ]
    same_keys = TEXT + TEXT.replace("0x7d0", "0x7d2").replace("0x7d1", "0x7d3").replace("::100", "::101")
    problems = refused(write(same_keys))
    assert [problem.key for problem in problems] == [
        "mobile_node[2].binding_update.encryption_key",
        "mobile_node[2].binding_acknowledgement.integrity_key",
    ]
    assert problems[0].value == "the same for 2001:db8:1::100 and 2001:db8:1::101"
    own_keys = same_keys[: len(TEXT)] + same_keys[len(TEXT) :].replace(ENCRYPTION_KEY, ENCRYPTION_KEY[::-1]).replace(
        INTEGRITY_KEY, INTEGRITY_KEY[::-1]
    )
    assert len(load(write(own_keys))) == 4


def test_the_home_agents_own_address_is_nobodys_home_address(write: Write) -> None:
    path = write(TEXT)
    with pytest.raises(ConfigurationError) as error:
        keys.load(path, Role.HOME_AGENT, SPI_RANGE, [HOME_ADDRESS])
    (problem,) = error.value.problems
    assert (problem.key, problem.value) == ("mobile_node[1].home_address", f'"{HOME_ADDRESS}"')
    assert len(keys.load(path, Role.HOME_AGENT, SPI_RANGE, [HOME_ADDRESS + 1])) == 2
    text = TEXT.replace(f'"{HOME_ADDRESS}"', '"nonsense"')
    with pytest.raises(ConfigurationError):
        keys.load(write(text), Role.HOME_AGENT, SPI_RANGE, [HOME_ADDRESS])
