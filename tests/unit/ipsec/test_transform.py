# SPDX-License-Identifier: Apache-2.0
"""Transforms against published vectors, and what is refused of algorithms and keys."""

from __future__ import annotations

import pytest

from control.ipsec.errors import TransformError
from control.ipsec.transform import (
    ENCRYPTION_TRANSFORMS,
    EncryptionAlgorithm,
    IntegrityAlgorithm,
    SecretKey,
    check_encryption_key,
    check_integrity_key,
    encryption_algorithm,
    integrity_algorithm,
    integrity_check_value,
    integrity_holds,
)

# RFC 4868 section 2.7.2.1: AUTH256-1 to AUTH256-4.
AUTHENTICATION_VECTORS = [
    (b"\x0b" * 32, b"Hi There", "198a607eb44bfbc69903a0f1cf2bbdc5"),
    (b"Jefe" * 8, b"what do ya want for nothing?", "167f928588c5cc2eef8e3093caa0e87c"),
    (b"\xaa" * 32, b"\xdd" * 50, "cdcb1220d1ecccea91e53aba3092f962"),
    (bytes(range(1, 33)), b"\xcd" * 50, "372efcf9b40b35c2115b1346903d2ef4"),
]

# RFC 3602 section 4: cases 1 to 3, (key, IV, plaintext, ciphertext).
CIPHER_VECTORS = [
    (
        "06a9214036b8a15b512e03d534120006",
        "3dafba429d9eb430b422da802c9fac41",
        b"Single block msg".hex(),
        "e353779c1079aeb82708942dbe77181a",
    ),
    (
        "c286696d887c9aa0611bbb3e2025a45a",
        "562e17996d093d28ddb3ba695a2e6f58",
        bytes(range(32)).hex(),
        "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
    ),
    (
        "6c3ea0477630ce21a2ce334aa746c2cd",
        "c782dc4c098c66cbd9cd27d825682c81",
        b"This is a 48-byte message (exactly 3 AES blocks)".hex(),
        "d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5021c19216bad525c8579695d83ba2684",
    ),
]


@pytest.mark.parametrize(("key", "data", "icv"), AUTHENTICATION_VECTORS)
def test_hmac_sha_256_128_of_rfc_4868(key: bytes, data: bytes, icv: str) -> None:
    assert integrity_check_value(key, data).hex() == icv
    assert integrity_holds(key, data, bytes.fromhex(icv))
    assert not integrity_holds(key, data + b"\0", bytes.fromhex(icv))
    assert not integrity_holds(key, data, bytes.fromhex(icv)[:-1])


@pytest.mark.parametrize(("key", "iv", "plaintext", "ciphertext"), CIPHER_VECTORS)
def test_aes_cbc_of_rfc_3602(key: str, iv: str, plaintext: str, ciphertext: str) -> None:
    transform = ENCRYPTION_TRANSFORMS[EncryptionAlgorithm.AES_CBC]
    key_octets, iv_octets = bytes.fromhex(key), bytes.fromhex(iv)
    assert transform.encrypt(key_octets, iv_octets, bytes.fromhex(plaintext)).hex() == ciphertext
    assert transform.decrypt(key_octets, iv_octets, bytes.fromhex(ciphertext)).hex() == plaintext


def test_names_of_the_keys_file() -> None:
    assert encryption_algorithm("aes-cbc") is EncryptionAlgorithm.AES_CBC
    assert encryption_algorithm("null") is EncryptionAlgorithm.NULL
    assert integrity_algorithm("hmac-sha-256-128") is IntegrityAlgorithm.HMAC_SHA_256_128


@pytest.mark.parametrize("name", ["aes-gcm", "AES-GCM-16", "aes-ccm", "aes-gmac", "chacha20-poly1305", "aes-ctr"])
def test_counter_based_algorithms_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(TransformError, match=r"RFC 8221 section 3.*\"aes-cbc\"") as refused:
        encryption_algorithm(name)
    assert (refused.value.key, refused.value.value) == ("encryption", repr(name))


@pytest.mark.parametrize("name", ["3des-cbc", "aes_cbc", "", "AES-CBC"])
def test_an_unknown_encryption_is_refused_with_those_known(name: str) -> None:
    with pytest.raises(TransformError, match='use "null" or "aes-cbc"'):
        encryption_algorithm(name)


@pytest.mark.parametrize("name", ["null", "none", ""])
def test_authentication_is_never_null(name: str) -> None:
    with pytest.raises(TransformError, match=r"RFC 6275 section 5\.1"):
        integrity_algorithm(name)


def test_an_unknown_integrity_is_refused_with_those_known() -> None:
    with pytest.raises(TransformError, match="use") as refused:
        integrity_algorithm("hmac-md5")
    assert str(refused.value) == "integrity: 'hmac-md5': use \"hmac-sha-256-128\""


def test_a_key_in_a_names_place_is_not_repeated() -> None:
    key = "6162636465666768696a6b6c6d6e6f70"
    for parse in (encryption_algorithm, integrity_algorithm):
        with pytest.raises(TransformError, match="a name of 32 characters") as refused:
            parse(key)
        assert key not in str(refused.value)


@pytest.mark.parametrize("length", [16, 24, 32])
def test_lengths_of_aes_keys(length: int) -> None:
    check_encryption_key(EncryptionAlgorithm.AES_CBC, bytes(length))


@pytest.mark.parametrize("length", [0, 15, 17, 64])
def test_other_lengths_of_aes_keys_are_refused(length: int) -> None:
    with pytest.raises(TransformError, match=f"^encryption_key: {length} octets: aes-cbc takes 16, 24, 32 octets$"):
        check_encryption_key(EncryptionAlgorithm.AES_CBC, bytes(length))


def test_null_takes_no_key() -> None:
    check_encryption_key(EncryptionAlgorithm.NULL, b"")
    with pytest.raises(TransformError, match="null takes no key"):
        check_encryption_key(EncryptionAlgorithm.NULL, bytes(16))


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_the_integrity_key_has_32_octets(length: int) -> None:
    check_integrity_key(IntegrityAlgorithm.HMAC_SHA_256_128, bytes(32))
    with pytest.raises(TransformError, match=f"^integrity_key: {length} octets: hmac-sha-256-128 takes 32 octets$"):
        check_integrity_key(IntegrityAlgorithm.HMAC_SHA_256_128, bytes(length))


def test_a_key_does_not_show_itself() -> None:
    key = SecretKey(b"attack at dawn!!")
    for shown in (repr(key), str(key), f"{key}", f"{key!r}", f"{[key]}", format(key)):
        assert "attack" not in shown
        assert "<secret key of 16 octets>" in shown
    assert key == b"attack at dawn!!"
    assert hash(key) == hash(b"attack at dawn!!")
