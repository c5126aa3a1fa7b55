# SPDX-License-Identifier: Apache-2.0
"""RFC 6275 section 10.4.1: a new binding is announced up to three times, until it is gone."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from control.binding.effects import SendFrame
from control.binding.home_link import link_local_address
from control.binding.neighbor_frames import unsolicited_advertisement
from control.binding.outbox import Outbox
from control.binding.proxy_announcement import ProxyAnnouncement
from tests.unit.binding.machine import HOME_ADDRESS, HOME_LINK, SECOND_NS


def frames(*targets: IPv6Address) -> list[SendFrame]:
    return [SendFrame("eth0", unsolicited_advertisement(HOME_LINK, target)) for target in targets]


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_copies_a_second_apart(copies: int) -> None:
    outbox = Outbox()
    announcement = ProxyAnnouncement(outbox, copies)
    announcement.start(HOME_ADDRESS, HOME_LINK, True, 0)
    sent = []
    now = 0
    while True:
        effects = outbox.take_effects()
        assert effects == frames(HOME_ADDRESS, link_local_address(HOME_ADDRESS))
        sent.append(now)
        deadline_ns = announcement.next_deadline()
        if deadline_ns is None:
            break
        now = deadline_ns
        announcement.handle_timer(now - 1)
        assert outbox.take_effects() == []
        announcement.handle_timer(now)
    assert sent == [number * SECOND_NS for number in range(copies)]
    assert len(announcement) == 0


def test_stop() -> None:
    outbox = Outbox()
    announcement = ProxyAnnouncement(outbox, 3)
    announcement.start(HOME_ADDRESS, HOME_LINK, False, 0)
    outbox.take_effects()
    announcement.stop(HOME_ADDRESS)
    announcement.stop(HOME_ADDRESS)
    assert announcement.next_deadline() is None
    announcement.handle_timer(10 * SECOND_NS)
    assert outbox.take_effects() == []


def test_starting_anew_forgets_what_was_under_way() -> None:
    outbox = Outbox()
    announcement = ProxyAnnouncement(outbox, 2)
    announcement.start(HOME_ADDRESS, HOME_LINK, False, 0)
    announcement.start(HOME_ADDRESS, HOME_LINK, False, SECOND_NS // 2)
    outbox.take_effects()
    announcement.handle_timer(SECOND_NS)
    assert outbox.take_effects() == []
    announcement.handle_timer(3 * SECOND_NS // 2)
    assert outbox.take_effects() == frames(HOME_ADDRESS)
    assert announcement.next_deadline() is None
