# SPDX-License-Identifier: Apache-2.0
"""Associations and their database: one for each home address and purpose (RFC 6275 section 5.1)."""

from __future__ import annotations

from dataclasses import fields

import pytest

from control.ipsec.association import (
    AssociationLookup,
    Purpose,
    Role,
    SecurityAssociation,
    SecurityAssociationDatabase,
)
from control.ipsec.errors import AssociationError, TransformError
from control.ipsec.replay import MAXIMUM_SEQUENCE
from control.wire.errors import InvariantError
from tests.unit.ipsec.associations import (
    AES_KEY,
    HOME_ADDRESS,
    INTEGRITY_KEY,
    OTHER_HOME_ADDRESS,
    association,
    null_association,
)

UPDATE, ACKNOWLEDGEMENT = Purpose.BINDING_UPDATE, Purpose.BINDING_ACKNOWLEDGEMENT
OTHER_AES_KEY = bytes(range(16))
OTHER_INTEGRITY_KEY = bytes(range(32))


def pair() -> tuple[SecurityAssociation, SecurityAssociation]:
    return association(0x7D0, purpose=UPDATE), association(0x7D1, purpose=ACKNOWLEDGEMENT)


def others() -> SecurityAssociation:
    return association(0x7D2, OTHER_HOME_ADDRESS, encryption_key=OTHER_AES_KEY, integrity_key=OTHER_INTEGRITY_KEY)


def test_begins_at_1_with_nothing_reserved_and_anti_replay_off() -> None:
    made = SecurityAssociation(
        0x7D0, HOME_ADDRESS, UPDATE, null_association().encryption, b"", association().integrity, INTEGRITY_KEY
    )
    assert (made.next_sequence, made.reserved_through, made.window.highest) == (1, 0, 0)
    assert made.anti_replay is False


def test_repr_shows_no_key() -> None:
    made = association()
    shown = repr(made)
    assert "0x40" not in shown
    assert "key" not in shown
    assert AES_KEY.hex() not in shown
    assert repr(AES_KEY) not in shown
    assert "BINDING_UPDATE" in shown
    # Nor do its fields, when a debugger or a traceback shows them one by one.
    assert repr(made.encryption_key) == "<secret key of 16 octets>"
    assert repr(made.integrity_key) == "<secret key of 32 octets>"
    every_field = str({each.name: getattr(made, each.name) for each in fields(made)})
    assert repr(AES_KEY) not in every_field
    assert repr(INTEGRITY_KEY) not in every_field


@pytest.mark.parametrize("spi", [-1, 0, 1, 255, 2**32])
def test_spis_that_are_not_an_operators_are_refused(spi: int) -> None:
    with pytest.raises(AssociationError, match=r"RFC 4303 section 2\.1"):
        association(spi)


@pytest.mark.parametrize("spi", [256, 2**32 - 1])
def test_spis_at_the_ends_of_the_range_are_taken(spi: int) -> None:
    assert association(spi).spi == spi


def test_keys_are_checked_against_their_algorithms() -> None:
    with pytest.raises(TransformError, match="encryption_key: 8 octets"):
        association(encryption_key=bytes(8))
    with pytest.raises(TransformError, match="integrity_key: 16 octets"):
        association(integrity_key=bytes(16))


def test_sequence_numbers_are_reserved_in_blocks_of_4096() -> None:
    made = association(reserved_through=0)
    assert made.reservation_due() == 4096
    assert made.reservation_due() == 4096, "asking reserved"
    made.reserve(4096)
    assert made.reservation_due() is None
    made.next_sequence = 4096
    assert made.reservation_due() is None
    made.next_sequence = 4097
    assert made.reservation_due() == 8192


def test_the_last_block_ends_with_the_numbers() -> None:
    made = association(reserved_through=0)
    made.resume_sending(MAXIMUM_SEQUENCE - 10)
    assert made.next_sequence == MAXIMUM_SEQUENCE - 9
    assert made.reservation_due() == MAXIMUM_SEQUENCE
    made.resume_sending(MAXIMUM_SEQUENCE)
    assert made.next_sequence == MAXIMUM_SEQUENCE + 1
    assert made.reservation_due() is None, "nothing is left to reserve"


@pytest.mark.parametrize("through", [4095, 2**32])
def test_a_reservation_neither_shrinks_nor_passes_the_last_number(through: int) -> None:
    made = association(reserved_through=4096)
    with pytest.raises(InvariantError):
        made.reserve(through)
    assert made.reserved_through == 4096


def test_after_a_restart_sending_begins_past_all_that_was_reserved() -> None:
    made = association(reserved_through=0)
    made.resume_sending(4096)
    assert (made.next_sequence, made.reserved_through) == (4097, 4096)
    assert made.reservation_due() == 8192


def test_after_a_restart_the_window_stands_where_it_stood() -> None:
    before, after, cautious = association(), association(), association()
    for sequence in (3, 5):
        before.window.commit(sequence)
    after.resume_receiving(*before.window.state)
    assert [sequence for sequence in range(8) if after.window.check(sequence)] == [1, 2, 4, 6, 7]
    cautious.resume_receiving(before.window.highest)
    assert [sequence for sequence in range(8) if cautious.window.check(sequence)] == [6, 7]


@pytest.mark.parametrize(
    ("role", "inbound", "outbound"),
    [(Role.HOME_AGENT, UPDATE, ACKNOWLEDGEMENT), (Role.MOBILE_NODE, ACKNOWLEDGEMENT, UPDATE)],
)
def test_direction_follows_from_the_role(role: Role, inbound: Purpose, outbound: Purpose) -> None:
    database = SecurityAssociationDatabase(role)
    lookup: AssociationLookup = database
    by_purpose = {each.purpose: each for each in pair()}
    for each in by_purpose.values():
        database.add(each)
    assert (role.inbound_purpose, role.outbound_purpose) == (inbound, outbound)
    assert lookup.by_spi(by_purpose[inbound].spi) is by_purpose[inbound]
    # One's own packet, reflected, finds no association.
    assert lookup.by_spi(by_purpose[outbound].spi) is None
    assert lookup.by_spi(0x7FF) is None
    assert lookup.outbound(HOME_ADDRESS, outbound) is by_purpose[outbound]
    assert lookup.outbound(HOME_ADDRESS, inbound) is None
    assert lookup.outbound(OTHER_HOME_ADDRESS, outbound) is None
    assert list(database) == list(by_purpose.values())
    assert len(database) == 2


def test_one_spi_is_one_association() -> None:
    database = SecurityAssociationDatabase(Role.HOME_AGENT)
    first, _ = pair()
    database.add(first)
    with pytest.raises(AssociationError, match=f"0x7d0: already that of binding_update for {HOME_ADDRESS}") as refused:
        database.add(association(0x7D0, purpose=ACKNOWLEDGEMENT))
    assert refused.value.key == "spi"
    assert list(database) == [first]


def test_one_home_address_and_purpose_is_one_association() -> None:
    database = SecurityAssociationDatabase(Role.HOME_AGENT)
    first, _ = pair()
    database.add(first)
    with pytest.raises(AssociationError, match=r"RFC 6275 section 5\.1") as refused:
        database.add(association(0x7D1, purpose=UPDATE))
    assert refused.value.key == "home_address"
    assert list(database) == [first]


@pytest.mark.parametrize(
    ("encryption_key", "integrity_key", "name"),
    [
        (AES_KEY, OTHER_INTEGRITY_KEY, "encryption_key"),
        (OTHER_AES_KEY, INTEGRITY_KEY, "integrity_key"),
        # Used for two different things, and still one key in two hands.
        (INTEGRITY_KEY, OTHER_INTEGRITY_KEY, "encryption_key"),
    ],
)
def test_mobile_nodes_share_no_key(encryption_key: bytes, integrity_key: bytes, name: str) -> None:
    database = SecurityAssociationDatabase(Role.HOME_AGENT)
    first, second = pair()
    database.add(first)
    database.add(second)
    shared = association(0x7D2, OTHER_HOME_ADDRESS, encryption_key=encryption_key, integrity_key=integrity_key)
    with pytest.raises(AssociationError, match=f"the same for {HOME_ADDRESS} and {OTHER_HOME_ADDRESS}") as refused:
        database.add(shared)
    assert refused.value.key == name
    for key in (encryption_key, integrity_key):
        assert key.hex() not in str(refused.value)
    assert list(database) == [first, second]
    # Refused whole: no key of the refused one was noted as somebody's.
    database.add(others())


def test_null_encryption_shares_its_empty_key() -> None:
    database = SecurityAssociationDatabase(Role.HOME_AGENT)
    database.add(null_association())
    other = others()
    database.add(
        SecurityAssociation(
            other.spi, OTHER_HOME_ADDRESS, UPDATE, null_association().encryption, b"", other.integrity, bytes(32)
        )
    )
    assert len(database) == 2


def test_a_removed_association_leaves_its_keys_to_the_nodes_other_one() -> None:
    database = SecurityAssociationDatabase(Role.HOME_AGENT)
    first, second = pair()
    database.add(first)
    database.add(second)
    database.add(others())
    thief = association(0x7D3, OTHER_HOME_ADDRESS, ACKNOWLEDGEMENT)
    database.remove(first)
    assert database.by_spi(first.spi) is None
    with pytest.raises(AssociationError, match="encryption_key"):
        database.add(thief)
    database.remove(second)
    assert database.outbound(HOME_ADDRESS, ACKNOWLEDGEMENT) is None
    database.add(thief)
    assert len(database) == 2


def test_removing_what_is_not_there_is_a_bug() -> None:
    database = SecurityAssociationDatabase(Role.HOME_AGENT)
    first, _ = pair()
    database.add(first)
    with pytest.raises(InvariantError, match="0x7d0"):
        database.remove(association(0x7D0))
    assert list(database) == [first]


def test_a_frozen_database_only_shrinks() -> None:
    database = SecurityAssociationDatabase(Role.HOME_AGENT)
    update, acknowledgement = pair()
    database.add(update)
    database.add(acknowledgement)
    database.freeze()
    with pytest.raises(InvariantError, match="frozen"):
        database.add(others())
    assert database.by_spi(0x7D0) is update
    assert database.outbound(HOME_ADDRESS, ACKNOWLEDGEMENT) is acknowledgement
    database.remove(update)
    assert list(database) == [acknowledgement]
