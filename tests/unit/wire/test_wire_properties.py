# SPDX-License-Identifier: Apache-2.0
"""What holds for all messages, and for all octets: nothing is lost on the way there and back, nothing but WireError is
raised."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address
from typing import TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from control.wire.checksum import pseudo_header_checksum
from control.wire.errors import MalformedReason, WireError
from control.wire.ethernet import EthernetHeader, pull_ethernet, push_ethernet
from control.wire.icmpv6 import Icmpv6Message, pull_icmpv6, push_icmpv6
from control.wire.ipv6 import (
    DestinationOptions,
    HopByHopOptions,
    IPv6Packet,
    check_unrecognized_options,
    pull_packet,
    push_packet,
)
from control.wire.mobility import (
    MobilityMessage,
    UnknownMobilityMessage,
    pull_mobility_header,
    push_mobility_header,
)
from control.wire.neighbor import NeighborMessage, check_neighbor_discovery
from control.wire.options import Option, PadN, PadOne
from tests.unit.wire.captures import CAPTURES, read_frames
from tests.unit.wire.strategies import addresses, ethernet_headers, icmpv6_messages, mobility_messages, packets

HERE = IPv6Address("2001:db8:1::1")
THERE = IPv6Address("2001:db8:2::2")

Pulled = TypeVar("Pulled")


def without_padding(options: tuple[Option, ...]) -> list[Option]:
    return [option for option in options if not isinstance(option, PadOne | PadN)]


def pull_everything(frame: bytes) -> None:
    """Read a frame as far as it can be read, through all tunnels."""
    payload = pull_ethernet(frame)[1]
    packet = pull_packet(payload)
    for _ in range(8):
        if packet.next_header != 41:
            break
        packet = pull_packet(packet.payload)
    check_unrecognized_options(packet)
    source, destination = packet.effective_source, packet.effective_destination
    if packet.next_header == 135:
        pull_mobility_header(packet.payload, source, destination)
    elif packet.next_header == 58:
        message = pull_icmpv6(packet.payload, source, destination)
        if isinstance(message, NeighborMessage):
            check_neighbor_discovery(packet, message)


def with_checksum(data: bytes, at: int, next_header: int) -> bytes:
    """`data` with a correct checksum at an offset, so that what lies behind the checksum is reached."""
    data = data[:at] + bytes(2) + data[at + 2 :]
    checksum = pseudo_header_checksum(THERE, HERE, next_header, data)
    return data[:at] + checksum.to_bytes(2, "big") + data[at + 2 :]


# ---- there and back ----


@given(ethernet_headers, st.binary(max_size=64))
def test_ethernet_round_trip(header: EthernetHeader, payload: bytes) -> None:
    assert pull_ethernet(push_ethernet(header, payload)) == (header, payload)


@given(packets(), st.binary(max_size=9))
def test_packet_round_trip(packet: IPv6Packet, trailer: bytes) -> None:
    data = push_packet(packet)
    pulled = pull_packet(data + trailer)
    assert push_packet(pulled) == data
    assert (pulled.source, pulled.destination) == (packet.source, packet.destination)
    assert (pulled.next_header, pulled.payload) == (packet.next_header, packet.payload)
    assert (pulled.traffic_class, pulled.flow_label, pulled.hop_limit) == (
        packet.traffic_class,
        packet.flow_label,
        packet.hop_limit,
    )
    assert pulled.home_address_option == packet.home_address_option
    assert pulled.type_2_routing_header == packet.type_2_routing_header
    assert pulled.upper_layer_offset == packet.upper_layer_offset == len(data) - len(packet.payload)
    assert len(pulled.extension_headers) == len(packet.extension_headers)
    for ours, theirs in zip(packet.extension_headers, pulled.extension_headers, strict=True):
        if isinstance(ours, HopByHopOptions | DestinationOptions):
            assert isinstance(theirs, type(ours))
            # What was pushed is there, in order; padding to 8 octets may follow.
            assert theirs.options[: len(ours.options)] == ours.options
            assert not without_padding(theirs.options[len(ours.options) :])
        else:
            assert theirs == ours


@given(mobility_messages, addresses, addresses)
def test_mobility_round_trip(message: MobilityMessage, source: IPv6Address, destination: IPv6Address) -> None:
    data = push_mobility_header(message, source, destination)
    assert len(data) % 8 == 0
    assert len(data) == 8 + 8 * data[1]
    pulled = pull_mobility_header(data, source, destination)
    assert push_mobility_header(pulled, source, destination) == data
    assert type(pulled) is type(message)
    if isinstance(message, UnknownMobilityMessage) or isinstance(pulled, UnknownMobilityMessage):
        assert pulled == message
    else:
        assert pulled.fixed_part == message.fixed_part
        assert without_padding(pulled.options) == without_padding(message.options)


@given(icmpv6_messages, addresses, addresses)
def test_icmpv6_round_trip(message: Icmpv6Message, source: IPv6Address, destination: IPv6Address) -> None:
    data = push_icmpv6(message, source, destination)
    assert pull_icmpv6(data, source, destination) == message


@given(mobility_messages, st.integers(min_value=1))
def test_a_flipped_bit_is_noticed(message: MobilityMessage, where: int) -> None:
    data = bytearray(push_mobility_header(message, THERE, HERE))
    bit = where % (len(data) * 8)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(WireError) as refused:
        pull_mobility_header(bytes(data), THERE, HERE)
    # A longer Header Len runs off the end; whatever else, the sum is wrong.
    assert refused.value.reason in (MalformedReason.CHECKSUM, MalformedReason.TRUNCATED)


# ---- nothing but WireError ----


def attempt(pull: Callable[[], Pulled]) -> Pulled | WireError:
    """What a pull function returns or, of all exceptions, the one it may raise."""
    try:
        return pull()
    except WireError as error:
        return error


@given(st.binary(max_size=128))
def test_any_octets(data: bytes) -> None:
    attempt(lambda: pull_ethernet(data))
    attempt(lambda: pull_packet(data))
    attempt(lambda: pull_mobility_header(data, THERE, HERE))
    attempt(lambda: pull_icmpv6(data, THERE, HERE))


@given(st.sampled_from([0, 43, 44, 60]), st.binary(max_size=128))
@example(60, bytes.fromhex("3b00 0000 0000 00c9"))
def test_any_extension_headers(next_header: int, data: bytes) -> None:
    header = bytes((0x60, 0, 0, 0)) + len(data).to_bytes(2, "big") + bytes((next_header, 64)) + bytes(32)
    packet = attempt(lambda: pull_packet(header + data))
    if isinstance(packet, WireError):
        assert packet.pointer is None or 0 <= packet.pointer < 40 + len(data)
    else:
        assert packet.payload == data[packet.upper_layer_offset - 40 :]


@given(st.integers(0, 9), st.integers(0, 3), st.binary(max_size=64))
def test_any_mobility_header_behind_a_correct_checksum(message_type: int, units_less: int, data: bytes) -> None:
    data = data[: len(data) & ~7].ljust(8, b"\x00")
    data = with_checksum(bytes((59, max(len(data) // 8 - 1 - units_less, 0), message_type)) + data[3:], 4, 135)
    message = attempt(lambda: pull_mobility_header(data, THERE, HERE))
    if isinstance(message, WireError):
        assert message.reason is not MalformedReason.CHECKSUM
    else:
        # What is accepted loses its reserved fields and what follows it, and nothing else.
        again = push_mobility_header(message, THERE, HERE)
        assert pull_mobility_header(again, THERE, HERE) == message


@given(st.sampled_from([4, *range(133, 137), *range(144, 148)]), st.binary(max_size=96))
def test_any_icmpv6_behind_a_correct_checksum(message_type: int, data: bytes) -> None:
    data = with_checksum(bytes((message_type, 0, 0, 0)) + data, 2, 58)
    message = attempt(lambda: pull_icmpv6(data, THERE, HERE))
    if isinstance(message, WireError):
        assert message.reason is not MalformedReason.CHECKSUM
    else:
        assert pull_icmpv6(push_icmpv6(message, THERE, HERE), THERE, HERE) == message


@pytest.mark.parametrize("capture", CAPTURES)
@settings(max_examples=25)
@given(data=st.data())
def test_damaged_captures(capture: str, data: st.DataObject) -> None:
    """A frame that was once right, with some octets changed and perhaps its end cut off."""
    damaged = bytearray(data.draw(st.sampled_from(read_frames(capture))))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.just(len(damaged)) | st.integers(0, len(damaged)))
    attempt(lambda: pull_everything(bytes(damaged[:length])))
