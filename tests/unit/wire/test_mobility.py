# SPDX-License-Identifier: Apache-2.0
"""Mobility Headers written out by hand from RFC 6275 section 6, and every way they can be wrong."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from control.wire.errors import MalformedReason, WireError
from control.wire.mobility import (
    BindingAcknowledgement,
    BindingError,
    BindingErrorStatus,
    BindingRefreshRequest,
    BindingStatus,
    BindingUpdate,
    CareOfTest,
    CareOfTestInit,
    HomeTest,
    HomeTestInit,
    MobilityMessage,
    UnknownMobilityMessage,
    pull_mobility_header,
    push_mobility_header,
)
from control.wire.mobility_options import (
    AlternateCareOfAddress,
    BindingAuthorizationData,
    BindingRefreshAdvice,
    MobilityOption,
    NonceIndices,
    UnknownMobilityOption,
)
from control.wire.options import PadN, PadOne

HOME_ADDRESS = IPv6Address("2001:db8:1::100")
HOME_AGENT = IPv6Address("2001:db8:1::1")
CARE_OF_ADDRESS = IPv6Address("2001:db8:2::2")
CARE_OF_ADDRESS_HEX = "20010db8000200000000000000000002"
COOKIE = bytes.fromhex("c0c1c2c3c4c5c6c7")
TOKEN = bytes.fromhex("7071727374757677")
AUTHENTICATOR = bytes(range(0xA0, 0xAC))

REGISTRATION = BindingUpdate(
    sequence=0x1234,
    acknowledge=True,
    home_registration=True,
    link_local_compatible=False,
    key_management_mobility=False,
    lifetime_units=0x0384,
)


def summed(octets: bytes, over: bytes | None = None) -> bytes:
    """`octets` with the checksum of RFC 6275 section 6.1.1 filled in, made over `over` if that is not the same."""
    over = octets if over is None else over
    pseudo_header = HOME_ADDRESS.packed + HOME_AGENT.packed + len(over).to_bytes(4, "big") + bytes((0, 0, 0, 135))
    total = 0
    for offset in range(0, len(pseudo_header + over), 2):
        total += int.from_bytes((pseudo_header + over)[offset : offset + 2], "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return octets[:4] + (~total & 0xFFFF).to_bytes(2, "big") + octets[6:]


def header(octets: str) -> bytes:
    return summed(bytes.fromhex(octets))


def pull(data: bytes) -> MobilityMessage:
    return pull_mobility_header(data, HOME_ADDRESS, HOME_AGENT)


def refusal(data: bytes) -> WireError:
    with pytest.raises(WireError) as refused:
        pull(data)
    return refused.value


def update(*options: MobilityOption) -> BindingUpdate:
    return BindingUpdate(0x1234, True, True, False, False, 0x0384, options)


UPDATE = "3b{:02x} 0500 0000 1234 c000 0384"


@pytest.mark.parametrize(
    ("octets", "message"),
    [
        pytest.param("3b00 0000 0000 0000", BindingRefreshRequest(), id="Binding Refresh Request"),
        pytest.param("3b01 0100 0000 0000" + COOKIE.hex(), HomeTestInit(COOKIE), id="Home Test Init"),
        pytest.param("3b01 0200 0000 0000" + COOKIE.hex(), CareOfTestInit(COOKIE), id="Care-of Test Init"),
        pytest.param(
            "3b02 0300 0000 0102" + COOKIE.hex() + TOKEN.hex(), HomeTest(0x0102, COOKIE, TOKEN), id="Home Test"
        ),
        pytest.param(
            "3b02 0400 0000 0102" + COOKIE.hex() + TOKEN.hex(), CareOfTest(0x0102, COOKIE, TOKEN), id="Care-of Test"
        ),
        pytest.param(
            "3b01 0500 0000 1234 c000 0384 0102 0000",
            BindingUpdate(0x1234, True, True, False, False, 0x0384, (PadN(bytes(2)),)),
            id="Binding Update",
        ),
        pytest.param(
            "3b01 0500 0000 ffff 3000 ffff 0102 0000",
            BindingUpdate(0xFFFF, False, False, True, True, 0xFFFF, (PadN(bytes(2)),)),
            id="Binding Update, the other flags",
        ),
        pytest.param(
            "3b01 0600 0000 8780 1234 0384 0102 0000",
            BindingAcknowledgement(135, True, 0x1234, 0x0384, (PadN(bytes(2)),)),
            id="Binding Acknowledgement",
        ),
        pytest.param("3b02 0700 0000 0200" + CARE_OF_ADDRESS_HEX, BindingError(2, CARE_OF_ADDRESS), id="Binding Error"),
        pytest.param(
            "3b01 ff00 0000 0102 0304 0506 0708 090a",
            UnknownMobilityMessage(255, bytes(range(1, 11))),
            id="unknown type",
        ),
    ],
)
def test_messages(octets: str, message: MobilityMessage) -> None:
    data = header(octets)
    assert pull(data) == message
    assert push_mobility_header(message, HOME_ADDRESS, HOME_AGENT) == data


@pytest.mark.parametrize(
    ("message", "octets"),
    [
        pytest.param(update(), UPDATE.format(1) + "01020000", id="a bare update is 16 octets long"),
        pytest.param(
            update(AlternateCareOfAddress(CARE_OF_ADDRESS)),
            UPDATE.format(3) + "0100 0310" + CARE_OF_ADDRESS_HEX,
            id="8n+6",
        ),
        pytest.param(
            update(NonceIndices(1, 2), BindingAuthorizationData(AUTHENTICATOR)),
            UPDATE.format(3) + "0404 0001 0002 050c" + AUTHENTICATOR.hex(),
            id="2n, then 8n+2",
        ),
        pytest.param(
            update(PadOne(), NonceIndices(1, 2)), UPDATE.format(2) + "00 00 0404 0001 0002 0102 0000", id="2n"
        ),
        pytest.param(
            update(
                NonceIndices(1, 2), AlternateCareOfAddress(CARE_OF_ADDRESS), BindingAuthorizationData(AUTHENTICATOR)
            ),
            UPDATE.format(6)
            + "0404 0001 0002 0102 0000 0310"
            + CARE_OF_ADDRESS_HEX
            + "0100 050c"
            + AUTHENTICATOR.hex(),
            id="all three",
        ),
        pytest.param(
            BindingAcknowledgement(0, False, 1, 900, (BindingRefreshAdvice(450),)),
            "3b01 0600 0000 0000 0001 0384 0202 01c2",
            id="refresh advice",
        ),
        pytest.param(
            update(UnknownMobilityOption(250, b"\x01")), UPDATE.format(1) + "fa01 01 00", id="one octet of padding"
        ),
    ],
)
def test_padding_is_added_where_alignment_asks_for_it(message: MobilityMessage, octets: str) -> None:
    data = push_mobility_header(message, HOME_ADDRESS, HOME_AGENT)
    assert data == header(octets)
    pulled = pull(data)
    assert push_mobility_header(pulled, HOME_ADDRESS, HOME_AGENT) == data


def test_reserved_fields_are_ignored() -> None:
    # RFC 6275 sections 6.1.1, 6.1.7 and 6.1.8: the octet after the type, the flags' lower bits.
    assert pull(header("3b01 05ff 0000 1234 cfff 0384 01020000")) == update(PadN(bytes(2)))
    expected = BindingAcknowledgement(0, False, 1, 2, (PadN(bytes(2)),))
    assert pull(header("3b01 06ff 0000 007f 0001 0002 01020000")) == expected
    assert pull(header("3b00 00ff 0000 ffff")) == BindingRefreshRequest()
    assert pull(header("3b02 07ff 0000 02ff" + CARE_OF_ADDRESS_HEX)) == BindingError(2, CARE_OF_ADDRESS)


def test_unknown_options_are_kept_and_the_rest_is_read() -> None:
    message = pull(header(UPDATE.format(4) + "fa02 abcd 0104 0000 0000 0310" + CARE_OF_ADDRESS_HEX))
    assert isinstance(message, BindingUpdate)
    assert UnknownMobilityOption(250, bytes.fromhex("abcd")) in message.options
    assert message.alternate_care_of_address == CARE_OF_ADDRESS


@pytest.mark.parametrize(
    ("octets", "option"),
    [
        pytest.param(UPDATE.format(1) + "0202 0005", BindingRefreshAdvice(5), id="refresh advice in an update"),
        pytest.param(
            "3b02 0100 0000 0000" + COOKIE.hex() + "0404 0001 0002 0100",
            NonceIndices(1, 2),
            id="nonce indices in a Home Test Init",
        ),
        pytest.param(
            "3b03 0600 0000 0000 0001 0002 0100 0310" + CARE_OF_ADDRESS_HEX,
            AlternateCareOfAddress(CARE_OF_ADDRESS),
            id="care-of address in an acknowledgement",
        ),
    ],
)
def test_known_options_out_of_place_are_kept(octets: str, option: MobilityOption) -> None:
    message = pull(header(octets))
    assert not isinstance(message, UnknownMobilityMessage)
    assert option in message.options


@pytest.mark.parametrize(
    ("data", "reason", "pointer"),
    [
        pytest.param(bytes(7), MalformedReason.TRUNCATED, None, id="seven octets"),
        pytest.param(header(UPDATE.format(2) + "01020000"), MalformedReason.TRUNCATED, None, id="beyond the packet"),
        pytest.param(
            header(UPDATE.format(1) + "01020000")[:-1] + b"\x01", MalformedReason.CHECKSUM, None, id="checksum"
        ),
        pytest.param(
            header("3a01 0500 0000 1234 c000 0384 01020000"), MalformedReason.PAYLOAD_PROTO, 0, id="payload proto"
        ),
        pytest.param(
            header(UPDATE.format(1) + "01030000"), MalformedReason.OPTION_LENGTH, None, id="option beyond the header"
        ),
        pytest.param(
            header(UPDATE.format(1) + "000000fa"), MalformedReason.OPTION_LENGTH, None, id="option without a length"
        ),
        pytest.param(
            header(UPDATE.format(1) + "0201 0500"), MalformedReason.OPTION_LENGTH, None, id="refresh advice too short"
        ),
        pytest.param(
            header(UPDATE.format(3) + "0100 030f" + CARE_OF_ADDRESS_HEX),
            MalformedReason.OPTION_LENGTH,
            None,
            id="care-of address too short",
        ),
        pytest.param(
            header(UPDATE.format(3) + "0410" + bytes(16).hex() + "0100"),
            MalformedReason.OPTION_LENGTH,
            None,
            id="nonce indices of 16 octets",
        ),
        pytest.param(
            header(UPDATE.format(3) + "0104 00000000 0510" + bytes(16).hex()),
            MalformedReason.OPTION_LENGTH,
            None,
            id="authenticator of 16 octets",
        ),
        pytest.param(
            header(UPDATE.format(3) + "0310" + CARE_OF_ADDRESS_HEX + "0100"),
            MalformedReason.OPTION_ALIGNMENT,
            None,
            id="care-of address at 8n+4",
        ),
        pytest.param(
            header(UPDATE.format(2) + "00 0404 0001 0002 00 0102 0000"),
            MalformedReason.OPTION_ALIGNMENT,
            None,
            id="nonce indices at an odd offset",
        ),
        pytest.param(
            header(UPDATE.format(3) + "050c" + AUTHENTICATOR.hex() + "0104 00000000"),
            MalformedReason.OPTION_ORDER,
            None,
            id="padding after the authenticator",
        ),
        pytest.param(
            header(
                UPDATE.format(5) + "0104 00000000 050c" + AUTHENTICATOR.hex() + "0404 0001 0002 0108" + bytes(8).hex()
            ),
            MalformedReason.OPTION_ORDER,
            None,
            id="nonce indices after the authenticator",
        ),
    ],
)
def test_refused(data: bytes, reason: MalformedReason, pointer: int | None) -> None:
    error = refusal(data)
    assert error.reason is reason
    assert error.pointer == pointer
    assert error.code == 0


@pytest.mark.parametrize(
    ("message_type", "least_units"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (5, 1), (6, 1), (7, 2)]
)
def test_least_header_length(message_type: int, least_units: int) -> None:
    """RFC 6275 section 9.2: too short for its type is a Parameter Problem at the Header Len field."""
    for units in range(least_units):
        error = refusal(summed(bytes((59, units, message_type)) + bytes(5 + 8 * units)))
        assert (error.reason, error.pointer, error.code) == (MalformedReason.HEADER_LENGTH, 1, 0)
    assert not isinstance(
        pull(summed(bytes((59, least_units, message_type)) + bytes(5 + 8 * least_units))), UnknownMobilityMessage
    )


def test_a_header_length_that_understates_what_was_summed() -> None:
    """The sender of an update with Header Len 0 summed all 16 octets: it is told where the fault is."""
    octets = bytes.fromhex("3b00 0500 0000 1234 c000 0384 01020000")
    for data in (summed(octets), summed(octets, over=octets[:8])):
        error = refusal(data)
        assert (error.reason, error.pointer) == (MalformedReason.HEADER_LENGTH, 1)


def test_octets_after_the_message_are_not_read() -> None:
    message = bytes.fromhex("3b01 0500 0000 1234 c000 0384 01020000")
    trailing = bytes.fromhex("0310deadbeef0000")
    assert pull(summed(message) + trailing) == update(PadN(bytes(2)))
    assert pull(summed(message + trailing)) == update(PadN(bytes(2)))
    unknown = bytes.fromhex("3b00 0800 0000 0102")
    assert pull(summed(unknown) + trailing) == UnknownMobilityMessage(8, bytes((1, 2)))
    assert refusal(summed(message, over=message[:8]) + trailing).reason is MalformedReason.CHECKSUM


def test_the_order_of_checks_decides_the_answer() -> None:
    """RFC 6275 section 9.2: checksum, type, Payload Proto, Header Len."""
    all_wrong = bytes.fromhex("3a00 0800 ffff 0000")
    assert refusal(all_wrong).reason is MalformedReason.CHECKSUM
    assert pull(summed(bytes.fromhex("3a00 0800 0000 0000"))) == UnknownMobilityMessage(8, bytes(2))
    assert refusal(summed(bytes.fromhex("3a00 0500 0000 0000"))).reason is MalformedReason.PAYLOAD_PROTO
    assert refusal(summed(bytes.fromhex("3b00 0500 0000 0000"))).reason is MalformedReason.HEADER_LENGTH


def test_what_messages_say_of_themselves() -> None:
    authenticated = (NonceIndices(1, 2), BindingAuthorizationData(AUTHENTICATOR))
    assert update(*authenticated).nonce_indices == NonceIndices(1, 2)
    assert update(*authenticated).binding_authorization_data == BindingAuthorizationData(AUTHENTICATOR)
    assert REGISTRATION.lifetime_s == 3600
    assert (REGISTRATION.nonce_indices, REGISTRATION.binding_authorization_data) == (None, None)
    assert REGISTRATION.alternate_care_of_address is None

    refused = BindingAcknowledgement(BindingStatus.NOT_HOME_SUBNET, False, 1, 0)
    assert not refused.is_accepted
    assert refused.binding_refresh_advice is None
    accepted = BindingAcknowledgement(1, False, 1, 10, (PadOne(), BindingRefreshAdvice(5)))
    assert accepted.is_accepted
    assert accepted.lifetime_s == 40
    assert accepted.binding_authorization_data is None
    assert accepted.binding_refresh_advice is not None
    assert accepted.binding_refresh_advice.interval_s == 20


def test_numbers_of_the_rfc() -> None:
    """RFC 6275 sections 6.1.8 and 6.1.9, RFC 3963 section 4.2."""
    assert [int(status) for status in BindingStatus] == [0, 1, *range(128, 144), 174]
    assert [status.is_accepted for status in BindingStatus] == [True, True] + 17 * [False]
    assert [int(status) for status in BindingErrorStatus] == [1, 2]
