# SPDX-License-Identifier: Apache-2.0
"""Associations that the tests of this package share."""

from __future__ import annotations

from ipaddress import IPv6Address

from control.ipsec.association import Purpose, SecurityAssociation
from control.ipsec.transform import EncryptionAlgorithm, IntegrityAlgorithm

HOME_ADDRESS = IPv6Address("2001:db8:1::100")
OTHER_HOME_ADDRESS = IPv6Address("2001:db8:1::101")
AES_KEY = bytes(range(0x40, 0x50))
INTEGRITY_KEY = bytes(range(0x80, 0xA0))


def association(
    spi: int = 0x7D0,
    home_address: IPv6Address = HOME_ADDRESS,
    purpose: Purpose = Purpose.BINDING_UPDATE,
    *,
    encryption: EncryptionAlgorithm = EncryptionAlgorithm.AES_CBC,
    encryption_key: bytes = AES_KEY,
    integrity_key: bytes = INTEGRITY_KEY,
    anti_replay: bool = True,
    reserved_through: int = 4096,
) -> SecurityAssociation:
    """One end of an association; two calls make both ends."""
    return SecurityAssociation(
        spi=spi,
        home_address=home_address,
        purpose=purpose,
        encryption=encryption,
        encryption_key=encryption_key,
        integrity=IntegrityAlgorithm.HMAC_SHA_256_128,
        integrity_key=integrity_key,
        anti_replay=anti_replay,
        reserved_through=reserved_through,
    )


def null_association(spi: int = 0x7D0, *, anti_replay: bool = True) -> SecurityAssociation:
    """The same without encryption."""
    return association(spi, encryption=EncryptionAlgorithm.NULL, encryption_key=b"", anti_replay=anti_replay)
