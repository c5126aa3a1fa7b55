# SPDX-License-Identifier: Apache-2.0
"""The steps of a start that touch no kernel: ESP counters taken up, bindings admitted, home links numbered."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from control.binding.cache import BindingCacheEntry
from control.home_agent import HomeAgentConfiguration
from control.ipsec.association import SEQUENCE_BLOCK, Purpose, Role, SecurityAssociation, SecurityAssociationDatabase
from control.ipsec.transform import EncryptionAlgorithm, IntegrityAlgorithm
from ha_fastpath import config, daemon
from ha_fastpath.net.network_state import Link
from ha_fastpath.state import State

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = REPOSITORY / "deploy" / "examples" / "ha-fastpath.toml"
HOME_ADDRESS = IPv6Address("2001:db8:1::100")
LINKS = {"eth0": Link(10, "eth0", bytes.fromhex("020000000001"), 1500, is_up=True, has_carrier=True)}


def association(spi: int, purpose: Purpose) -> SecurityAssociation:
    return SecurityAssociation(
        spi=spi,
        home_address=HOME_ADDRESS,
        purpose=purpose,
        encryption=EncryptionAlgorithm.NULL,
        encryption_key=b"",
        integrity=IntegrityAlgorithm.HMAC_SHA_256_128,
        integrity_key=spi.to_bytes(32),
        anti_replay=True,
    )


@pytest.fixture
def associations() -> SecurityAssociationDatabase:
    database = SecurityAssociationDatabase(Role.HOME_AGENT)
    database.add(association(0x7D0, Purpose.BINDING_UPDATE))
    database.add(association(0x7D1, Purpose.BINDING_ACKNOWLEDGEMENT))
    return database


def acknowledging(database: SecurityAssociationDatabase) -> SecurityAssociation:
    found = database.outbound(HOME_ADDRESS, Purpose.BINDING_ACKNOWLEDGEMENT)
    assert found is not None
    return found


def test_no_sequence_number_is_sent_twice_over_restarts(
    tmp_path: Path, associations: SecurityAssociationDatabase
) -> None:
    for start in range(3):
        sending = acknowledging(associations)
        with State(tmp_path / "state.sqlite") as state:
            stored = state.load(0)
            sending.next_sequence, sending.reserved_through = 1, 0
            daemon.resume_associations(associations, state, stored)
        assert sending.next_sequence == start * SEQUENCE_BLOCK + 1
        assert sending.reserved_through == (start + 1) * SEQUENCE_BLOCK
        assert sending.reservation_due() is None


def test_what_was_received_stays_received(tmp_path: Path, associations: SecurityAssociationDatabase) -> None:
    with State(tmp_path / "state.sqlite") as state:
        state.load(0)
        state.record_window(0x7D0, (77, 0b101))
    with State(tmp_path / "state.sqlite") as state:
        daemon.resume_associations(associations, state, state.load(0))
    receiving = associations.by_spi(0x7D0)
    assert receiving is not None
    assert [sequence for sequence in (74, 75, 76, 77, 78) if receiving.window.check(sequence)] == [74, 76, 78]


def test_home_links_are_numbered_from_1() -> None:
    (link,) = daemon.home_links_of(config.load(EXAMPLE), LINKS)
    assert (link.index, link.interface, link.mac) == (1, "eth0", LINKS["eth0"].mac)
    assert (str(link.prefix), str(link.home_agent_address)) == ("2001:db8:1::/64", "2001:db8:1::1")


def test_a_binding_goes_on_while_its_link_address_and_keys_are_ours(associations: SecurityAssociationDatabase) -> None:
    configuration = HomeAgentConfiguration(home_links=daemon.home_links_of(config.load(EXAMPLE), LINKS))
    entry = BindingCacheEntry(
        HOME_ADDRESS, IPv6Address("2001:db8:99::1"), IPv6Address("2001:db8:1::1"), 4, 7, 100, 0, 1, False, False
    )
    assert daemon.admitted(entry, configuration, associations) == replace(entry, home_link=1)
    for change in (
        {"home_address": IPv6Address("2001:db8:1::101")},
        {"home_address": IPv6Address("2001:db8:2::100")},
        {"home_agent_address": IPv6Address("2001:db8:1::2")},
    ):
        assert daemon.admitted(replace(entry, **change), configuration, associations) is None  # type: ignore[arg-type]


def test_keys_are_kept_out_of_cores() -> None:
    # In a process of its own: neither can be taken back.
    program = (
        "import ctypes, resource; from ha_fastpath import daemon; daemon._keep_keys_out_of_cores();"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    told = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert told.stdout == "(0, 0) 0\n"
