# SPDX-License-Identifier: Apache-2.0
"""Duplicate address detection for home addresses, many at a time (RFC 4862 section 5.4, RFC 6275 section 10.3.1).

A scheduler, not a thread: one deadline for each home address, with its link-local address when the L bit asks for it.
It sends solicitations and knows which addresses are tentative; registration.py decides what an answer means.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address

from control.binding.deadline_queue import DeadlineQueue
from control.binding.effects import SendFrame, StartDad, StopDad
from control.binding.home_link import HomeLink, link_local_address
from control.binding.neighbor_frames import duplicate_address_solicitation
from control.binding.outbox import Outbox
from control.binding.refusal import Refusal
from control.wire.mobility import BindingStatus


@dataclass(slots=True)
class _Detection:
    home_address: IPv6Address
    home_link: HomeLink
    targets: tuple[IPv6Address, ...]
    transmits_left: int
    deadline_ns: int


class DuplicateAddressDetection:
    """The home addresses whose uniqueness is being found out."""

    def __init__(self, outbox: Outbox, maximum: int, transmits: int) -> None:
        self._outbox = outbox
        self._maximum = maximum
        self._transmits = transmits
        self._detections: dict[int, _Detection] = {}
        # By tentative address: whose detections it belongs to. Home addresses on two links can share a link-local one.
        self._tentative: dict[int, set[int]] = {}
        self._queue = DeadlineQueue(self._deadline_of)

    def __len__(self) -> int:
        return len(self._detections)

    def start(self, home_address: IPv6Address, home_link: HomeLink, link_local_compatible: bool, now: int) -> None:
        """Begin with `home_address`, which is not under way yet; status 130 where too many are."""
        if len(self._detections) >= self._maximum:
            raise Refusal(BindingStatus.INSUFFICIENT_RESOURCES)
        targets = (home_address, link_local_address(home_address)) if link_local_compatible else (home_address,)
        key = int(home_address)
        for target in targets:
            self._tentative.setdefault(int(target), set()).add(key)
            self._outbox.emit(StartDad(target, home_link.index))
        detection = _Detection(home_address, home_link, targets, self._transmits, now)
        self._detections[key] = detection
        self._solicit(detection, now)
        self._queue.scheduled(key, detection.deadline_ns, None)

    def stop(self, home_address: IPv6Address) -> None:
        """End the detection of `home_address`, which is under way, whatever came of it."""
        key = int(home_address)
        for target in self._detections.pop(key).targets:
            holders = self._tentative[int(target)]
            holders.discard(key)
            if not holders:
                del self._tentative[int(target)]
                self._outbox.emit(StopDad(target))

    def home_addresses_of(self, target: IPv6Address, interface: str) -> list[IPv6Address]:
        """The home addresses that `target`, seen on `interface`, is tentative for."""
        detections = [self._detections[key] for key in self._tentative.get(int(target), ())]
        return [detection.home_address for detection in detections if detection.home_link.interface == interface]

    def next_deadline(self) -> int | None:
        """When the first detection goes on."""
        return self._queue.next_deadline()

    def unanswered(self, now: int) -> Iterator[IPv6Address]:
        """Solicit again what is due for it; the home addresses that nobody else claimed, which the caller stops."""
        for key in self._queue.pop_due(now):
            detection = self._detections[key]
            if detection.transmits_left == 0:
                yield detection.home_address
            else:
                self._solicit(detection, now)
                self._queue.scheduled(key, detection.deadline_ns, None)

    def _solicit(self, detection: _Detection, now: int) -> None:
        detection.transmits_left -= 1
        detection.deadline_ns = now + detection.home_link.dad_retransmit_timer_ms * 1_000_000
        for target in detection.targets:
            frame = duplicate_address_solicitation(detection.home_link, target)
            self._outbox.emit(SendFrame(detection.home_link.interface, frame))

    def _deadline_of(self, key: int) -> int | None:
        detection = self._detections.get(key)
        return None if detection is None else detection.deadline_ns
