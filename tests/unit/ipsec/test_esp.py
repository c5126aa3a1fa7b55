# SPDX-License-Identifier: Apache-2.0
"""ESP against RFC 3602's packets and scapy's implementation, and against everything that may be wrong with a packet."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP
from scapy.layers.ipsec import SecurityAssociation as ScapyAssociation
from scapy.packet import Raw

from control.ipsec.association import SecurityAssociation
from control.ipsec.esp import EspError, EspReason, open_esp, pull_spi, seal_esp
from control.ipsec.replay import MAXIMUM_SEQUENCE
from control.ipsec.transform import EncryptionAlgorithm
from control.wire.errors import InvariantError
from tests.unit.ipsec.associations import AES_KEY, INTEGRITY_KEY, association, null_association

MOBILITY = 135
IV = bytes(range(0xF0, 0x100))
BOTH_TRANSFORMS = pytest.mark.parametrize("make", [association, null_association])


def draw(length: int) -> bytes:
    """The IV of every packet here: what is tested does not hang on its randomness."""
    return IV[:length]


def icv_of(data: bytes, key: bytes = INTEGRITY_KEY) -> bytes:
    """The integrity check value by Python's own hmac."""
    return hmac.new(key, data, hashlib.sha256).digest()[:16]


def movable(made: SecurityAssociation) -> object:
    """Everything of an association that a packet could move."""
    return made.next_sequence, made.reserved_through, made.window.state


def refusal(made: SecurityAssociation, esp: bytes) -> EspReason:
    with pytest.raises(EspError) as refused:
        open_esp(made, esp)
    assert str(refused.value) == refused.value.reason.value
    return refused.value.reason


class Published(NamedTuple):
    """A packet of RFC 3602 section 4, from the ESP header on; these are without authentication."""

    spi: int
    sequence: int
    key: str
    next_header: int
    payload: str
    esp: str


PUBLISHED = {
    "case 5, transport mode, ping": Published(
        0x4321,
        1,
        "90d382b410eeba7ad938c46cec1a82bf",
        1,
        "08000ebda70a00008e9c083db95b0700" + bytes(range(8, 0x38)).hex(),
        "0000432100000001e96e8c08ab465763fd098d45dd3ff893"
        "f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856"
        "a4699e523a55db080b59ec3a8e4b7e52775b07d1db34ed9c538ab50c551b874a"
        "a269add047ad2d5913ac19b7cfbad4a6",
    ),
    "case 6, transport mode, ping": Published(
        0x4321,
        8,
        "90d382b410eeba7ad938c46cec1a82bf",
        1,
        "0800b5e8a80a0500a69c083d0b660e00777777777777777777777777",
        "000043210000000869d08df7d203329db093fc4924e5bd80"
        "f51995881ec4e0c4488987ce742e8109689bb379d2d750c0d915dca346a89f75",
    ),
    "case 7, tunnel mode, ping": Published(
        0x8765,
        2,
        "0123456789abcdef0123456789abcdef",
        4,
        "45000054090400004001f988c0a87b03c0a87bc808009f76a90a0100b49c083d02a20400" + bytes(range(8, 0x38)).hex(),
        "0000876500000002f4e765244f6407adf13dc1380f673f37"
        "773b5241a4c449225e4f3ce5ed611b0c237ca96cf74a93013c1b0ea1a0cf70f8"
        "e4ecaec78ac53aad7a0f022b859243c647752e94a859352b8a4d4d2decd136e5"
        "c177f132ad3fbfb2201ac9904c74ee0a109e0ca1e4dfe9d5a100b842f1c22f0d",
    ),
    "case 8, tunnel mode, ping": Published(
        0x8765,
        5,
        "0123456789abcdef0123456789abcdef",
        4,
        "45000044090c00004001f990c0a87b03c0a87bc80800d63caa0a0200c69c083da3de0300" + "ff" * 32,
        "000087650000000585d47224b5f3dd5d2101d4ea8dffab22"
        "15b92683819596a8047232cc00f7048fe45318e11f8a0f62ede3c3fc61203bb5"
        "0f980a08c9843fd3a1b06d5c07ff9639b7eb7dfb3512e5de435e7207ed971ef3"
        "d2726d9b5ef6affc6d17a0decbb13892",
    ),
}


@pytest.mark.parametrize("published", PUBLISHED.values(), ids=PUBLISHED.keys())
def test_seals_and_opens_the_packets_of_rfc_3602(published: Published) -> None:
    def own() -> SecurityAssociation:
        made = association(published.spi, encryption_key=bytes.fromhex(published.key))
        made.next_sequence = published.sequence
        return made

    esp = bytes.fromhex(published.esp)
    payload = bytes.fromhex(published.payload)
    sealed = seal_esp(own(), published.next_header, payload, lambda _: esp[8:24])
    # Authentication is ours to add: RFC 3602's examples have none, and nothing here is sent without.
    assert sealed == esp + icv_of(esp)
    assert open_esp(own(), sealed) == (published.next_header, payload)
    assert pull_spi(sealed) == published.spi


def scapy_association(made: SecurityAssociation) -> ScapyAssociation:
    encrypted = made.encryption is EncryptionAlgorithm.AES_CBC
    return ScapyAssociation(
        ESP,
        spi=made.spi,
        seq_num=made.next_sequence,
        crypt_algo="AES-CBC" if encrypted else "NULL",
        crypt_key=bytes(made.encryption_key) if encrypted else None,
        auth_algo="SHA2-256-128",
        auth_key=bytes(made.integrity_key),
    )


class Sample(NamedTuple):
    """Two ends of an association with arbitrary keys and numbers, and something to send."""

    sender: SecurityAssociation
    receiver: SecurityAssociation
    payload: bytes
    iv: bytes


@st.composite
def samples(draw_from: st.DrawFn) -> Sample:
    key_length = draw_from(st.sampled_from([0, 16, 24, 32]))
    encryption_key = draw_from(st.binary(min_size=key_length, max_size=key_length))
    integrity_key = draw_from(st.binary(min_size=32, max_size=32))
    spi = draw_from(st.integers(0x100, 2**32 - 1))
    sender, receiver = (
        association(
            spi,
            encryption=EncryptionAlgorithm.AES_CBC if key_length else EncryptionAlgorithm.NULL,
            encryption_key=encryption_key,
            integrity_key=integrity_key,
            reserved_through=MAXIMUM_SEQUENCE,
        )
        for _ in range(2)
    )
    sender.next_sequence = draw_from(st.integers(1, MAXIMUM_SEQUENCE))
    iv_length = 16 if key_length else 0
    iv = draw_from(st.binary(min_size=iv_length, max_size=iv_length))
    return Sample(sender, receiver, draw_from(st.binary(max_size=200)), iv)


@given(samples())
def test_scapy_opens_what_we_seal(sample: Sample) -> None:
    theirs = scapy_association(sample.sender)
    sealed = seal_esp(sample.sender, 253, sample.payload, lambda _: sample.iv)
    opened = theirs.decrypt(IPv6(bytes(IPv6(dst="::1", src="::2", nh=50) / Raw(sealed))))
    assert opened.nh == 253
    assert bytes(opened.payload) == sample.payload


@given(samples())
def test_we_open_what_scapy_seals(sample: Sample) -> None:
    theirs = scapy_association(sample.sender)
    packet = theirs.encrypt(IPv6(dst="::1", src="::2", nh=253) / Raw(sample.payload), iv=sample.iv)
    sealed = bytes(packet[ESP])
    assert open_esp(sample.receiver, sealed) == (253, sample.payload)
    assert sample.receiver.window.highest == sample.sender.next_sequence
    assert seal_esp(sample.sender, 253, sample.payload, lambda _: sample.iv) == sealed


def test_scapy_opens_the_same_over_ipv4() -> None:
    sender = association()
    theirs = scapy_association(sender)
    opened = theirs.decrypt(IP(bytes(IP(proto=50) / Raw(seal_esp(sender, 253, b"payload", draw)))))
    assert bytes(opened.payload) == b"payload"


@given(payload=st.binary(max_size=300), next_header=st.integers(0, 255), iv=st.binary(min_size=16, max_size=16))
@BOTH_TRANSFORMS
def test_what_was_sealed_opens(
    make: Callable[[], SecurityAssociation], payload: bytes, next_header: int, iv: bytes
) -> None:
    sender, receiver = make(), make()
    for sequence in (1, 2):
        sealed = seal_esp(sender, next_header, payload, lambda length: iv[:length])
        assert int.from_bytes(sealed[4:8]) == sequence
        assert open_esp(receiver, sealed) == (next_header, payload)
        assert receiver.window.highest == sequence
    assert sender.next_sequence == 3
    assert sender.window.state == make().window.state


@given(payload=st.binary(max_size=100), data=st.data())
@BOTH_TRANSFORMS
def test_any_flipped_bit_is_refused_and_moves_nothing(
    make: Callable[[], SecurityAssociation], payload: bytes, data: st.DataObject
) -> None:
    sender, receiver = make(), make()
    open_esp(receiver, seal_esp(sender, MOBILITY, payload, draw))
    sender.next_sequence = 30
    sealed = seal_esp(sender, MOBILITY, payload, draw)
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    forged = bytearray(sealed)
    forged[bit // 8] ^= 0x80 >> bit % 8
    before = movable(receiver)
    assert refusal(receiver, bytes(forged)) in {EspReason.INTEGRITY, EspReason.REPLAYED}
    assert movable(receiver) == before
    # The forgery has not taken the genuine packet's place.
    assert open_esp(receiver, sealed) == (MOBILITY, payload)


@BOTH_TRANSFORMS
def test_every_single_bit_of_one_packet(make: Callable[[], SecurityAssociation]) -> None:
    receiver = make()
    sealed = seal_esp(make(), MOBILITY, b"Binding Update", draw)
    before = movable(receiver)
    for bit in range(len(sealed) * 8):
        forged = bytearray(sealed)
        forged[bit // 8] ^= 0x80 >> bit % 8
        refusal(receiver, bytes(forged))
    assert movable(receiver) == before
    assert open_esp(receiver, sealed) == (MOBILITY, b"Binding Update")


@BOTH_TRANSFORMS
def test_every_truncation_and_extension(make: Callable[[], SecurityAssociation]) -> None:
    receiver = make()
    sealed = seal_esp(make(), MOBILITY, bytes(100), draw)
    before = movable(receiver)
    for length in range(len(sealed)):
        assert refusal(receiver, sealed[:length]) in {
            EspReason.TRUNCATED,
            EspReason.MISALIGNED,
            EspReason.INTEGRITY,
        }
    for length in range(1, 40):
        assert refusal(receiver, sealed + bytes(length)) in {EspReason.MISALIGNED, EspReason.INTEGRITY}
    assert movable(receiver) == before


@pytest.mark.parametrize(("make", "shortest", "step"), [(association, 8 + 16 + 16 + 16, 16), (null_association, 28, 4)])
def test_lengths_that_no_packet_has(make: Callable[[], SecurityAssociation], shortest: int, step: int) -> None:
    for length in range(shortest):
        assert refusal(make(), bytes(length)) is EspReason.TRUNCATED
    for excess in range(1, step):
        assert refusal(make(), b"\xff" * (shortest + excess)) is EspReason.MISALIGNED
    assert refusal(make(), b"\xff" * shortest) is EspReason.INTEGRITY


@given(order=st.lists(st.integers(0, 15), max_size=60))
def test_a_packet_opens_once_in_whatever_order(order: list[int]) -> None:
    sender, receiver = association(), association()
    packets = [seal_esp(sender, MOBILITY, bytes([number]), draw) for number in range(16)]
    opened: set[int] = set()
    for number in order:
        if number in opened:
            before = movable(receiver)
            assert refusal(receiver, packets[number]) is EspReason.REPLAYED
            assert movable(receiver) == before
        else:
            assert open_esp(receiver, packets[number]) == (MOBILITY, bytes([number]))
            opened.add(number)


def test_without_anti_replay_a_packet_opens_again_and_no_window_is_kept() -> None:
    receiver = association(anti_replay=False)
    sealed = seal_esp(association(), MOBILITY, b"again", draw)
    before = movable(receiver)
    for _ in range(3):
        assert open_esp(receiver, sealed) == (MOBILITY, b"again")
    assert movable(receiver) == before


def test_a_replayed_number_is_refused_before_its_integrity_is_computed() -> None:
    receiver = association()
    sealed = seal_esp(association(), MOBILITY, b"first", draw)
    open_esp(receiver, sealed)
    assert refusal(receiver, sealed[:8] + bytes(len(sealed) - 8)) is EspReason.REPLAYED


def test_another_associations_packet_does_not_open() -> None:
    sealed = seal_esp(association(0x7D0), MOBILITY, b"mine", draw)
    assert refusal(association(0x7D0, integrity_key=bytes(32)), sealed) is EspReason.INTEGRITY
    # The same keys under another SPI: the integrity check covers the SPI as well.
    renumbered = (0x7D1).to_bytes(4) + sealed[4:]
    assert refusal(association(0x7D1), renumbered) is EspReason.INTEGRITY


@pytest.mark.parametrize(
    "plaintext",
    [
        b"body" + bytes([1, 2, 3, 4, 5, MOBILITY]),
        bytes(10) + bytes([0, 0, 0, 0, 4, MOBILITY]),
        bytes(10) + bytes([4, 3, 2, 1, 4, MOBILITY]),
        bytes(10) + bytes([1, 2, 3, 5, 4, MOBILITY]),
        bytes(14) + bytes([15, MOBILITY]),
        bytes(14) + bytes([255, MOBILITY]),
    ],
)
def test_padding_is_1_2_3_or_refused(plaintext: bytes) -> None:
    body = plaintext.rjust(-(-len(plaintext) // 4) * 4, b"\0")
    data = (0x7D0).to_bytes(4) + (1).to_bytes(4) + body
    receiver = null_association()
    assert refusal(receiver, data + icv_of(data)) is EspReason.PADDING
    # It was authentic: its number is spent (RFC 4303 section 3.4.3).
    assert receiver.window.highest == 1


def test_padding_may_be_longer_than_needed() -> None:
    plaintext = b"four" + bytes(range(1, 255)) + bytes([254, MOBILITY])
    assert len(plaintext) % 4 == 0
    data = (0x7D0).to_bytes(4) + (1).to_bytes(4) + plaintext
    assert open_esp(null_association(), data + icv_of(data)) == (MOBILITY, b"four")


@pytest.mark.parametrize(("length", "pad_length"), [(0, 14), (1, 13), (13, 1), (14, 0), (15, 15), (16, 14), (30, 0)])
def test_padding_is_the_least_that_fills_a_block(length: int, pad_length: int) -> None:
    sealed = seal_esp(association(), MOBILITY, bytes(length), draw)
    assert len(sealed) == 8 + 16 + length + pad_length + 2 + 16
    null_pad_length = -(length + 2) % 4
    sealed = seal_esp(null_association(), MOBILITY, bytes(length), draw)
    assert sealed[8:-16] == bytes(length) + bytes(range(1, null_pad_length + 1)) + bytes([null_pad_length, MOBILITY])


def test_nothing_is_sealed_past_the_reservation() -> None:
    sender = association(reserved_through=2)
    for _ in range(2):
        seal_esp(sender, MOBILITY, b"", draw)
    with pytest.raises(InvariantError, match="0x7d0 is reserved only through 2"):
        seal_esp(sender, MOBILITY, b"", draw)
    assert sender.next_sequence == 3
    due = sender.reservation_due()
    assert due == 4098
    sender.reserve(due)
    assert seal_esp(sender, MOBILITY, b"", draw)[4:8] == bytes([0, 0, 0, 3])


@pytest.mark.parametrize("anti_replay", [True, False])
def test_the_sequence_number_never_comes_round(anti_replay: bool) -> None:
    sender = association(anti_replay=anti_replay, reserved_through=MAXIMUM_SEQUENCE)
    sender.next_sequence = MAXIMUM_SEQUENCE
    assert seal_esp(sender, MOBILITY, b"", draw)[4:8] == b"\xff" * 4
    with pytest.raises(EspError) as refused:
        seal_esp(sender, MOBILITY, b"", draw)
    assert refused.value.reason is EspReason.EXHAUSTED


def test_an_iv_of_another_length_is_a_bug_and_spends_no_number() -> None:
    sender = association()
    with pytest.raises(InvariantError, match="15 octets"):
        seal_esp(sender, MOBILITY, b"", lambda _: bytes(15))
    assert sender.next_sequence == 1


def test_each_packet_draws_an_iv_of_its_own() -> None:
    drawn: list[bytes] = []

    def counting(length: int) -> bytes:
        drawn.append(len(drawn).to_bytes(length))
        return drawn[-1]

    sender = association()
    packets = [seal_esp(sender, MOBILITY, b"the same", counting) for _ in range(2)]
    assert [packet[8:24] for packet in packets] == drawn
    assert packets[0][24:] != packets[1][24:]


def test_the_spi_of_a_packet_too_short_for_one() -> None:
    for length in range(8):
        with pytest.raises(EspError) as refused:
            pull_spi(bytes(length))
        assert refused.value.reason is EspReason.TRUNCATED
    assert pull_spi(bytes([0, 0, 7, 0xD0, 0, 0, 0, 1])) == 0x7D0


def test_keys_of_the_fixtures_are_not_one_another() -> None:
    assert len({AES_KEY, INTEGRITY_KEY[:16], INTEGRITY_KEY[16:]}) == 3
