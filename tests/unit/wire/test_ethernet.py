# SPDX-License-Identifier: Apache-2.0
"""Ethernet frames, tagged and not, and cut short."""

from __future__ import annotations

import pytest

from control.wire.errors import MalformedReason, WireError
from control.wire.ethernet import EthernetHeader, EtherType, pull_ethernet, push_ethernet

DESTINATION = bytes.fromhex("333300000001")
SOURCE = bytes.fromhex("02000000aa01")


@pytest.mark.parametrize(
    ("between", "tags"),
    [
        ("", ()),
        ("8100 2064", (0x8100_2064,)),
        ("88a8 0007 8100 2064", (0x88A8_0007, 0x8100_2064)),
        ("8100 0007 8100 0008", (0x8100_0007, 0x8100_0008)),
    ],
    ids=["untagged", "802.1Q", "802.1ad", "stacked 802.1Q"],
)
def test_tags(between: str, tags: tuple[int, ...]) -> None:
    frame = DESTINATION + SOURCE + bytes.fromhex(between) + bytes.fromhex("86dd") + b"payload"
    header, payload = pull_ethernet(frame)
    assert header == EthernetHeader(DESTINATION, SOURCE, EtherType.IPV6, tags)
    assert payload == b"payload"
    assert push_ethernet(header, payload) == frame


@pytest.mark.parametrize("between", ["", "8100 2064", "88a8 0007 8100 2064"])
def test_cut_within_the_header(between: str) -> None:
    frame = DESTINATION + SOURCE + bytes.fromhex(between) + bytes.fromhex("86dd")
    for length in range(len(frame)):
        with pytest.raises(WireError) as refused:
            pull_ethernet(frame[:length])
        assert refused.value.reason is MalformedReason.TRUNCATED


def test_a_third_tag_is_refused() -> None:
    frame = DESTINATION + SOURCE + bytes.fromhex("88a80001 81000002 81000003 86dd")
    with pytest.raises(WireError) as refused:
        pull_ethernet(frame)
    assert refused.value.reason is MalformedReason.VLAN_TAGS
