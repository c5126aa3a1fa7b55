# SPDX-License-Identifier: Apache-2.0
"""Configuration files: what a good one gives, and what each kind of mistake is answered with."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from ha_fastpath import config

EXAMPLES = Path(__file__).resolve().parents[3] / "deploy" / "examples"

HOME_AGENT = """[home_agent]
keys_file = "keys.toml"
"""
HOME_LINK = """[[home_link]]
interface = "eth0"
prefix = "2001:db8:1::/64"
address = "2001:db8:1::1"
"""


def write(directory: Path, text: str) -> Path:
    path = directory / "ha-fastpath.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(directory: Path, text: str) -> list[str]:
    with pytest.raises(config.ConfigurationError) as refused:
        config.load(write(directory, text))
    return [str(problem) for problem in refused.value.problems]


def mobile_node_problems(directory: Path, text: str) -> list[str]:
    with pytest.raises(config.ConfigurationError) as refused:
        config.load_mobile_node(write(directory, text))
    return [str(problem) for problem in refused.value.problems]


def test_the_example_is_what_its_comments_say() -> None:
    loaded = config.load(EXAMPLES / "ha-fastpath.toml")
    assert loaded.home_links == (
        config.HomeLinkSettings("eth0", IPv6Network("2001:db8:1::/64"), IPv6Address("2001:db8:1::1"), 1000),
    )
    assert loaded.interfaces == ("eth0", "eth1")
    assert loaded.spi_range == (0x100, 0xBFFFFFFF)
    assert loaded.management_group is None
    assert (loaded.maximum_bindings, loaded.maximum_lifetime_s) == (100_000, 3600)
    assert loaded.keys_file == Path("/etc/ha-fastpath/keys.toml")


def test_the_mobile_node_example_fits_the_home_agents() -> None:
    loaded = config.load_mobile_node(EXAMPLES / "mobile-node.toml")
    (link,) = config.load(EXAMPLES / "ha-fastpath.toml").home_links
    assert loaded.home_agent_address == link.address
    assert loaded.home_address in link.prefix
    assert loaded.lifetime_s == 600


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path, HOME_AGENT + HOME_LINK))
    assert loaded.state_file == Path("/var/lib/ha-fastpath/state.sqlite")
    assert loaded.pin_directory == Path("/sys/fs/bpf/ha-fastpath")
    assert loaded.management_socket == Path("/run/ha-fastpath/management.sock")
    assert loaded.home_links[0].dad_retransmit_timer_ms == 1000


def test_a_relative_path_is_beside_the_file(tmp_path: Path) -> None:
    assert config.load(write(tmp_path, HOME_AGENT + HOME_LINK)).keys_file == tmp_path / "keys.toml"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("maximum_bindings = 0", "= 0: write a whole number from 1 to"),
        ("maximum_bindings = true", "= true: write a whole number"),
        ('maximum_lifetime_s = "3600"', '= "3600": write a whole number from 4 to 262140'),
        ("maximum_lifetime_s = 262141", "write a whole number from 4 to 262140"),
        ('spi_range = ["0x100"]', "write the first and the last SPI"),
        ('spi_range = ["0x200", "0x100"]', "write the smaller SPI first"),
        ('spi_range = ["0x1", "0x100"]', 'write an SPI from "0x100"'),
        ('spi_range = ["many", "0x100"]', 'write an SPI from "0x100"'),
        ("state_file = 7", "= 7: write a text in double quotes"),
        ('management_group = ""', "write a text in double quotes"),
        (f'management_socket = "/{"x" * 120}"', "write a shorter path"),
        ('state_fiel = "/x"', "unknown key; did you mean state_file?"),
        ("zzz = {}", "unknown key; there are: keys_file, state_file"),
    ],
)
def test_a_value_is_refused_by_file_key_value_and_remedy(tmp_path: Path, line: str, said: str) -> None:
    (problem,) = problems(tmp_path, f"{HOME_AGENT}{line}\n{HOME_LINK}")
    assert problem.startswith(f"{tmp_path / 'ha-fastpath.toml'}: home_agent.{line.split(' ')[0]} = ")
    assert said in problem


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("prefix", '"2001:db8:1::/48"', "write a prefix of 64 bits"),
        ("prefix", '"2001:db8:1::7/64"', 'write "2001:db8:1::/64"'),
        ("prefix", '"fe80::/64"', "write a global prefix"),
        ("prefix", '"10.0.0.0/8"', 'like "2001:db8:1::/64"'),
        ("address", '"2001:db8:2::1"', "write an address in the prefix 2001:db8:1::/64"),
        ("address", '"2001:db8:1::"', "Subnet-Router anycast"),
        ("address", '"2001:db8:1:0:fdff:ffff:ffff:fffe"', "Home-Agents anycast"),
        ("address", '"fe80::1"', "write a global unicast address"),
        ("address", '"2001:db8:1::1%eth0"', "without a zone"),
        ("address", '"nowhere"', 'like "2001:db8:1::1"'),
        ("interface", '"a-name-of-16-oct"', "at most 15 characters"),
        ("interface", '"eth 0"', "without blanks"),
        ("interface", '"../etc"', "as `ip link` shows it"),
        ("dad_retransmit_timer_ms", "0", "from 1 to 10000"),
    ],
)
def test_a_home_link_is_refused(tmp_path: Path, key: str, value: str, said: str) -> None:
    lines = [line for line in HOME_LINK.splitlines() if not line.startswith(key)]
    (problem,) = problems(tmp_path, "\n".join([HOME_AGENT, *lines, f"{key} = {value}"]))
    assert f"home_link[1].{key} = {value}: " in problem
    assert said in problem


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    told = problems(tmp_path, "[home_agent]\nmaximum_bindings = -1\n[[home_link]]\ninterface = 3\ntypo = 1\n")
    assert len(told) == 6
    for key in ("keys_file", "maximum_bindings", "interface", "prefix", "address", "typo"):
        assert any(key in problem for problem in told)


def test_home_links_do_not_share(tmp_path: Path) -> None:
    told = problems(tmp_path, HOME_AGENT + HOME_LINK + HOME_LINK)
    assert any("home_link[2].interface" in problem and "home_link[1] has it already" in problem for problem in told)
    assert any("home_link[2].prefix" in problem for problem in told)


def test_an_interface_is_named_once(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, f'{HOME_AGENT}{HOME_LINK}[[interface]]\nname = "eth0"\n')
    assert 'interface[1].name = "eth0": it is named already' in problem


def test_what_is_missing_whole_is_told_once(tmp_path: Path) -> None:
    assert problems(tmp_path, HOME_LINK) == [
        f"{tmp_path / 'ha-fastpath.toml'}: home_agent: it is missing: write a table [home_agent]"
    ]
    (problem,) = problems(tmp_path, HOME_AGENT)
    assert "home_link: there is none" in problem
    (problem,) = problems(tmp_path, f"home_link = 3\n{HOME_AGENT}")
    assert "with two brackets" in problem
    (problem,) = problems(tmp_path, f"home_agent = 3\n{HOME_LINK}")
    assert "write a table [home_agent]" in problem


def test_there_are_no_more_home_links_than_the_data_path_has_room_for(tmp_path: Path) -> None:
    links = "".join(
        f'[[home_link]]\ninterface = "eth{number}"\nprefix = "2001:db8:{number:x}::/64"\n'
        f'address = "2001:db8:{number:x}::1"\n'
        for number in range(16)
    )
    (problem,) = problems(tmp_path, HOME_AGENT + links)
    assert "home_link = 16 of them: write at most 15" in problem


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigurationError, match=r"No such file or directory.*-c"):
        config.load(tmp_path / "absent.toml")
    (problem,) = problems(tmp_path, "[home_agent")
    assert "it is not TOML" in problem
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(config.ConfigurationError, match="not UTF-8"):
        config.load(path)


def test_a_mobile_node_is_refused_what_does_not_fit(tmp_path: Path) -> None:
    good = (EXAMPLES / "mobile-node.toml").read_text(encoding="utf-8")
    (problem,) = mobile_node_problems(tmp_path, good.replace('"2001:db8:1::100"', '"2001:db8:2::100"'))
    assert "write an address in the home prefix" in problem
    (problem,) = mobile_node_problems(tmp_path, good.replace('"2001:db8:1::100"', '"2001:db8:1::1"'))
    assert "it is the home agent's" in problem
    told = mobile_node_problems(tmp_path, "[mobile_node]\n")
    assert len(told) == 5
