# SPDX-License-Identifier: Apache-2.0
"""Duplicate address detection as a scheduler: many at a time, one deadline each, bounded."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import pytest

from control.binding.duplicate_address_detection import DuplicateAddressDetection
from control.binding.effects import Effect, SendFrame, StartDad, StopDad
from control.binding.home_link import link_local_address
from control.binding.neighbor_frames import duplicate_address_solicitation
from control.binding.outbox import Outbox
from control.binding.refusal import Refusal
from control.wire.mobility import BindingStatus
from tests.unit.binding.machine import HOME_ADDRESS, HOME_LINK, SECOND_NS

LINK_LOCAL = link_local_address(HOME_ADDRESS)
OTHER_LINK = replace(
    HOME_LINK,
    index=2,
    interface="eth2",
    prefix=IPv6Network("2001:db8:9::/64"),
    home_agent_address=IPv6Address("2001:db8:9::1"),
)
# The same interface identifier, on another link and on the same one.
ELSEWHERE = IPv6Address("2001:db8:9::100")


class Bench:
    def __init__(self, maximum: int = 10, transmits: int = 1) -> None:
        self.outbox = Outbox()
        self.detection = DuplicateAddressDetection(self.outbox, maximum, transmits)

    def take(self) -> list[Effect]:
        return self.outbox.take_effects()

    def unanswered(self, now: int) -> list[IPv6Address]:
        return list(self.detection.unanswered(now))


def test_one_solicitation_and_one_second() -> None:
    bench = Bench()
    bench.detection.start(HOME_ADDRESS, HOME_LINK, False, 5)
    assert bench.take() == [
        StartDad(HOME_ADDRESS, 1),
        SendFrame("eth0", duplicate_address_solicitation(HOME_LINK, HOME_ADDRESS)),
    ]
    assert bench.detection.next_deadline() == SECOND_NS + 5
    assert bench.unanswered(SECOND_NS + 4) == []
    assert bench.unanswered(SECOND_NS + 5) == [HOME_ADDRESS]
    assert bench.unanswered(SECOND_NS + 6) == []
    assert bench.detection.next_deadline() is None
    bench.detection.stop(HOME_ADDRESS)
    assert bench.take() == [StopDad(HOME_ADDRESS)]
    assert len(bench.detection) == 0


def test_as_many_solicitations_as_configured_each_with_its_timer() -> None:
    """RFC 4862 section 5.1: DupAddrDetectTransmits; RetransTimer is the link's own."""
    bench = Bench(transmits=3)
    link = replace(HOME_LINK, dad_retransmit_timer_ms=200)
    bench.detection.start(HOME_ADDRESS, link, True, 0)
    bench.take()
    for number in (1, 2):
        assert bench.unanswered(number * SECOND_NS // 5) == []
        assert bench.take() == [
            SendFrame("eth0", duplicate_address_solicitation(link, target)) for target in (HOME_ADDRESS, LINK_LOCAL)
        ]
    assert bench.unanswered(3 * SECOND_NS // 5) == [HOME_ADDRESS]
    assert bench.take() == []


def test_bounded() -> None:
    bench = Bench(maximum=1)
    bench.detection.start(HOME_ADDRESS, HOME_LINK, False, 0)
    with pytest.raises(Refusal) as refusal:
        bench.detection.start(HOME_ADDRESS + 1, HOME_LINK, False, 0)
    assert refusal.value.status is BindingStatus.INSUFFICIENT_RESOURCES
    bench.detection.stop(HOME_ADDRESS)
    bench.detection.start(HOME_ADDRESS + 1, HOME_LINK, False, 0)
    assert len(bench.detection) == 1


def test_tentative_addresses_are_those_of_their_link() -> None:
    bench = Bench()
    bench.detection.start(HOME_ADDRESS, HOME_LINK, True, 0)
    bench.detection.start(ELSEWHERE, OTHER_LINK, True, 0)
    assert bench.detection.home_addresses_of(HOME_ADDRESS, "eth0") == [HOME_ADDRESS]
    assert bench.detection.home_addresses_of(HOME_ADDRESS, "eth2") == []
    assert bench.detection.home_addresses_of(LINK_LOCAL, "eth0") == [HOME_ADDRESS]
    assert bench.detection.home_addresses_of(LINK_LOCAL, "eth2") == [ELSEWHERE]
    assert bench.detection.home_addresses_of(HOME_ADDRESS + 1, "eth0") == []


def test_shared_link_local_address_is_tentative_until_the_last_has_done_with_it() -> None:
    bench = Bench()
    bench.detection.start(HOME_ADDRESS, HOME_LINK, True, 0)
    bench.detection.start(ELSEWHERE, OTHER_LINK, True, 0)
    bench.take()
    bench.detection.stop(HOME_ADDRESS)
    assert bench.take() == [StopDad(HOME_ADDRESS)]
    bench.detection.stop(ELSEWHERE)
    assert bench.take() == [StopDad(ELSEWHERE), StopDad(LINK_LOCAL)]


def test_stopped_ones_leave_no_deadline() -> None:
    bench = Bench()
    bench.detection.start(HOME_ADDRESS, HOME_LINK, False, 0)
    bench.detection.start(HOME_ADDRESS + 1, HOME_LINK, False, 10)
    bench.detection.stop(HOME_ADDRESS)
    assert bench.detection.next_deadline() == SECOND_NS + 10
    assert bench.unanswered(SECOND_NS + 10) == [HOME_ADDRESS + 1]
