# SPDX-License-Identifier: Apache-2.0
"""The lab's network as data: what the table must hold for the run to mean anything."""

from __future__ import annotations

import stat
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from control.ipsec.association import Role
from control.wire.ethernet import EthernetHeader, EtherType, push_ethernet
from control.wire.ipv6 import IPv6Packet, NextHeader, home_address_destination_options, push_packet
from ha_fastpath import config, keys
from ha_fastpath.lab import scenario
from ha_fastpath.lab.cast import TCP_OCTETS_PER_S
from ha_fastpath.lab.outcome import SMALLEST_TRANSFER
from ha_fastpath.lab.topology import (
    CABLES,
    HOME_ADDRESS,
    HOME_AGENT_ADDRESS,
    LINKS,
    NAMESPACES,
    ends_in,
    fabric_commands,
    interface_commands,
    radvd_configuration,
)
from ha_fastpath.lab.wire_watch import WireCounts


def test_every_end_is_in_a_namespace_of_the_lab_and_its_name_fits() -> None:
    ends = [end for cable in CABLES for end in (cable.left, cable.right)]
    assert {end.namespace for end in ends} == set(NAMESPACES)
    assert all(len(end.name) <= 15 for end in ends)
    assert len({(end.namespace, end.name) for end in ends}) == len(ends)
    assert all(end.bridge in LINKS for end in ends if end.bridge)


def test_no_two_interfaces_share_an_index() -> None:
    words = " ".join(fabric_commands("p")).split()
    indices = [words[position + 1] for position, word in enumerate(words) if word == "index"]
    assert len(indices) == len(set(indices)) == len(LINKS) + 2 * len(CABLES)


def test_every_address_is_free_of_duplicate_address_detection() -> None:
    for namespace in NAMESPACES:
        for command in interface_commands(namespace):
            assert not command.startswith("address") or command.endswith("nodad")


def test_the_peers_of_interfaces_that_run_xdp_hold_a_program() -> None:
    assert {end.name for end in ends_in("fabric") if end.xdp_pass} == {"home-agent", "mobile-node"}


def test_routers_advertise_each_link_by_its_own_prefix() -> None:
    text = radvd_configuration()
    for link, prefix in LINKS.items():
        block = text.split(f"interface {link} ")[1].split("interface ")[0]
        assert f"prefix {prefix} " in block


def test_the_files_are_what_the_programs_read(tmp_path: Path) -> None:
    files = scenario.write_files(tmp_path, tmp_path / "bpf")
    home_agent = config.load(files.home_agent)
    mobile_node = config.load_mobile_node(files.mobile_node)
    assert home_agent.home_links[0].dad_retransmit_timer_ms == scenario.DAD_RETRANSMIT_TIMER_MS
    assert mobile_node.home_address == HOME_ADDRESS
    assert mobile_node.keys_file == home_agent.keys_file
    assert stat.S_IMODE(home_agent.keys_file.stat().st_mode) == 0o600
    for role in Role:
        assert len(keys.load(home_agent.keys_file, role, home_agent.spi_range)) == 2


def test_keys_are_drawn_anew_for_each_run(tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        scenario.write_files(tmp_path / name, tmp_path / "bpf")
        texts.append((tmp_path / name / "keys.toml").read_text(encoding="ascii"))
    assert texts[0] != texts[1]


def test_the_transfer_lasts_about_as_long_as_the_run() -> None:
    assert 25 < SMALLEST_TRANSFER / TCP_OCTETS_PER_S < 40


def frame(next_header: int, source: IPv6Address, destination: IPv6Address, payload: bytes, hao: bool = False) -> bytes:
    extension_headers = (home_address_destination_options(HOME_ADDRESS),) if hao else ()
    packet = push_packet(IPv6Packet(source, destination, next_header, payload, extension_headers))
    return push_ethernet(EthernetHeader(bytes(6), bytes(6), EtherType.IPV6), packet)


CARE_OF_ADDRESS = IPv6Address("2001:db8:2::1234")
INNER = push_packet(IPv6Packet(HOME_ADDRESS, CARE_OF_ADDRESS, NextHeader.MOBILITY, bytes(16)))
ESP = (0x7D0).to_bytes(4, "big") + bytes(60)


@pytest.mark.parametrize(
    ("octets", "field", "value"),
    [
        (frame(NextHeader.IPV6, HOME_AGENT_ADDRESS, CARE_OF_ADDRESS, INNER), "tunnelled", 1),
        (frame(NextHeader.IPV6, CARE_OF_ADDRESS, HOME_AGENT_ADDRESS, INNER), "reverse_tunnelled", 1),
        (frame(NextHeader.ESP, CARE_OF_ADDRESS, HOME_AGENT_ADDRESS, ESP, hao=True), "esp", {0x7D0: 1}),
        (
            frame(NextHeader.MOBILITY, CARE_OF_ADDRESS, HOME_AGENT_ADDRESS, bytes(16), hao=True),
            "clear_mobility_headers",
            1,
        ),
        (frame(NextHeader.TCP, CARE_OF_ADDRESS, HOME_AGENT_ADDRESS, bytes(20))[:-1], "malformed", 1),
    ],
)
def test_the_watch_on_the_wire_counts_a_frame_once(octets: bytes, field: str, value: object) -> None:
    counts = WireCounts(HOME_AGENT_ADDRESS)
    counts.count(octets)
    assert getattr(counts, field) == value
    others = {"tunnelled", "reverse_tunnelled", "clear_mobility_headers", "malformed", "esp"} - {field}
    assert not any(getattr(counts, other) for other in others)
