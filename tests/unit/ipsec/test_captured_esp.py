# SPDX-License-Identifier: Apache-2.0
"""Every ESP packet that another implementation sent (tests/vectors/README.md): opened, read, and sealed again alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP
from scapy.layers.ipsec import SecurityAssociation as ScapyAssociation
from scapy.packet import Raw
from scapy.utils import RawPcapReader

from control.ipsec.association import Purpose, SecurityAssociation
from control.ipsec.esp import EspError, EspReason, open_esp, pull_spi, seal_esp
from control.ipsec.policy import check_message, check_next_header
from control.ipsec.replay import MAXIMUM_SEQUENCE
from control.ipsec.transform import EncryptionAlgorithm, IntegrityAlgorithm
from control.wire.ethernet import pull_ethernet
from control.wire.ipv6 import pull_packet
from control.wire.mobility import BindingAcknowledgement, BindingUpdate, MobilityHeaderType, pull_mobility_header

CAPTURES = Path(__file__).parents[2] / "vectors" / "captures" / "esp"
HOME_ADDRESS = IPv6Address("2001:db8:1::100")
HOME_AGENT_ADDRESS = IPv6Address("2001:db8:1::1")
ENCRYPTION_KEY = b"abcdefghijklmnop"
INTEGRITY_KEY = bytes(range(32))
BINDING_UPDATE_SPI, BINDING_ACKNOWLEDGEMENT_SPI = 0x7D0, 0x7D1
UPPER_LAYERS = {0x7D0: 135, 0x7D1: 135, 0x7D2: 58, 0x7D3: 58, 0x7D4: 41}
"""Next Header under each SPI: Mobility Header, ICMPv6, IPv6 in tunnel mode."""


@dataclass(frozen=True)
class Captured:
    """One ESP packet, and who it is from and to once options and routing header are counted in."""

    source: IPv6Address
    destination: IPv6Address
    esp: bytes


@cache
def captured(name: str) -> tuple[Captured, ...]:
    found = []
    for frame, _ in RawPcapReader(str(CAPTURES / f"{name}.pcap")):
        header, data = pull_ethernet(frame)
        if header.ether_type != 0x86DD:
            continue
        packet = pull_packet(data)
        if packet.next_header == 50:
            found.append(Captured(packet.effective_source, packet.effective_destination, packet.payload))
    return tuple(found)


def own(spi: int) -> SecurityAssociation:
    return SecurityAssociation(
        spi=spi,
        home_address=HOME_ADDRESS,
        purpose=Purpose.BINDING_ACKNOWLEDGEMENT if spi == BINDING_ACKNOWLEDGEMENT_SPI else Purpose.BINDING_UPDATE,
        encryption=EncryptionAlgorithm.AES_CBC,
        encryption_key=ENCRYPTION_KEY,
        integrity=IntegrityAlgorithm.HMAC_SHA_256_128,
        integrity_key=INTEGRITY_KEY,
        anti_replay=True,
        reserved_through=MAXIMUM_SEQUENCE,
    )


def iv_of(esp: bytes) -> Callable[[int], bytes]:
    return lambda length: esp[8 : 8 + length]


PLACES = pytest.mark.parametrize("place", ["mn0", "ha-home", "ha-core"])


def test_the_captures_hold_what_is_tested() -> None:
    counted = Counter(pull_spi(each.esp) for each in captured("mn0"))
    assert counted == {0x7D0: 9, 0x7D1: 8, 0x7D2: 1, 0x7D3: 1, 0x7D4: 3}
    assert Counter(pull_spi(each.esp) for each in captured("ha-home")) == {0x7D0: 4, 0x7D1: 3}
    assert Counter(pull_spi(each.esp) for each in captured("ha-core")) == {
        0x7D0: 5, 0x7D1: 5, 0x7D2: 1, 0x7D3: 1, 0x7D4: 3,
    }  # fmt: skip


@PLACES
def test_every_packet_opens_once_and_seals_again_byte_for_byte(place: str) -> None:
    receivers = {spi: own(spi) for spi in UPPER_LAYERS}
    for each in captured(place):
        spi = pull_spi(each.esp)
        next_header, payload = open_esp(receivers[spi], each.esp)
        assert next_header == UPPER_LAYERS[spi]
        with pytest.raises(EspError) as refused:
            open_esp(receivers[spi], each.esp)
        assert refused.value.reason is EspReason.REPLAYED
        sender = own(spi)
        sender.next_sequence = int.from_bytes(each.esp[4:8])
        assert seal_esp(sender, next_header, payload, iv_of(each.esp)) == each.esp


@PLACES
def test_scapy_opens_them_to_the_same(place: str) -> None:
    for each in captured(place):
        spi = pull_spi(each.esp)
        theirs = ScapyAssociation(
            ESP,
            spi=spi,
            crypt_algo="AES-CBC",
            crypt_key=ENCRYPTION_KEY,
            auth_algo="SHA2-256-128",
            auth_key=INTEGRITY_KEY,
        )
        next_header, payload = open_esp(own(spi), each.esp)
        opened = theirs.decrypt(IPv6(bytes(IPv6(src="::1", dst="::2", nh=50) / Raw(each.esp))))
        assert (opened.nh, bytes(opened.payload)) == (next_header, payload)


@PLACES
def test_updates_and_acknowledgements_are_whose_the_policy_says(place: str) -> None:
    for each in captured(place):
        spi = pull_spi(each.esp)
        if UPPER_LAYERS[spi] != 135:
            continue
        association = own(spi)
        next_header, payload = open_esp(association, each.esp)
        check_next_header(next_header)
        # Its checksum is over the home address, not the care-of address (RFC 6275 section 6.1.1).
        message = pull_mobility_header(payload, each.source, each.destination)
        if spi == BINDING_UPDATE_SPI:
            assert isinstance(message, BindingUpdate)
            assert (each.source, each.destination) == (HOME_ADDRESS, HOME_AGENT_ADDRESS)
            check_message(association, each.source, MobilityHeaderType.BINDING_UPDATE)
        else:
            assert isinstance(message, BindingAcknowledgement)
            assert (each.source, each.destination) == (HOME_AGENT_ADDRESS, HOME_ADDRESS)
            check_message(association, each.destination, MobilityHeaderType.BINDING_ACKNOWLEDGEMENT)


def test_with_another_key_none_opens() -> None:
    for each in captured("mn0"):
        wrong = own(pull_spi(each.esp))
        wrong.integrity_key = bytes(32)
        with pytest.raises(EspError) as refused:
            open_esp(wrong, each.esp)
        assert refused.value.reason is EspReason.INTEGRITY
        assert wrong.window.highest == 0
