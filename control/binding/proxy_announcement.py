# SPDX-License-Identifier: Apache-2.0
"""Unsolicited Neighbor Advertisements for new bindings, repeated a second apart (RFC 6275 section 10.4.1)."""

from dataclasses import dataclass
from ipaddress import IPv6Address

from control.binding.deadline_queue import DeadlineQueue
from control.binding.effects import SendFrame
from control.binding.home_link import HomeLink, link_local_address
from control.binding.neighbor_frames import unsolicited_advertisement
from control.binding.outbox import Outbox

REPEAT_INTERVAL_NS = 1_000_000_000
"""RetransTimer of RFC 4861, the least that section 7.2.6 has between two unsolicited advertisements."""


@dataclass(slots=True)
class _Announcement:
    home_link: HomeLink
    targets: tuple[IPv6Address, ...]
    copies_left: int
    deadline_ns: int


class ProxyAnnouncement:
    """The bindings that the home links are being told of."""

    def __init__(self, outbox: Outbox, copies: int) -> None:
        self._outbox = outbox
        self._copies = copies
        self._announcements: dict[int, _Announcement] = {}
        self._queue = DeadlineQueue(self._deadline_of)

    def __len__(self) -> int:
        return len(self._announcements)

    def start(self, home_address: IPv6Address, home_link: HomeLink, link_local_compatible: bool, now: int) -> None:
        """Announce `home_address` now and a few times more; an announcement under way begins anew."""
        targets = (home_address, link_local_address(home_address)) if link_local_compatible else (home_address,)
        self.stop(home_address)
        self._announce(int(home_address), _Announcement(home_link, targets, self._copies, now), now)

    def stop(self, home_address: IPv6Address) -> None:
        """Say no more of `home_address`: the mobile node is back, or its binding gone."""
        self._announcements.pop(int(home_address), None)

    def next_deadline(self) -> int | None:
        """When the first repetition is due."""
        return self._queue.next_deadline()

    def handle_timer(self, now: int) -> None:
        """Repeat what is due."""
        for key in self._queue.pop_due(now):
            self._announce(key, self._announcements.pop(key), now)

    def _announce(self, key: int, announcement: _Announcement, now: int) -> None:
        for target in announcement.targets:
            frame = unsolicited_advertisement(announcement.home_link, target)
            self._outbox.emit(SendFrame(announcement.home_link.interface, frame))
        announcement.copies_left -= 1
        if announcement.copies_left > 0:
            announcement.deadline_ns = now + REPEAT_INTERVAL_NS
            self._announcements[key] = announcement
            self._queue.scheduled(key, announcement.deadline_ns, None)

    def _deadline_of(self, key: int) -> int | None:
        announcement = self._announcements.get(key)
        return None if announcement is None else announcement.deadline_ns
