# SPDX-License-Identifier: Apache-2.0
"""What a run has shown: which pings a handover cost and which were lost otherwise, the record, and every failure.

Pure: what end hosts, counters and wire said comes in, sentences and the record go out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

REGISTRATIONS = 4
"""The first registration, the handover, the refresh and the de-registration."""
HANDOVERS = 3
LONGEST_HANDOVER_MS = 500
SMALLEST_TRANSFER = 20_000_000
IN_FLIGHT_NS = 20_000_000
"""A ping sent so shortly before the loss of the link, or its reply, was still under way then."""
KERNEL_SHARE = 0.01
"""Of the packets in the tunnel, those that may have gone by the kernel: the first to a next hop not resolved yet."""


@dataclass(slots=True)
class Handover:
    """One move of the mobile node, by CLOCK_MONOTONIC."""

    origin: str
    destination: str
    link_lost_ns: int
    acknowledged_ns: int | None = None

    def covers(self, sent_ns: int) -> bool:
        """Whether a ping sent then was sent or in flight between the loss of the link and the acknowledgement."""
        if self.acknowledged_ns is None:
            return sent_ns >= self.link_lost_ns - IN_FLIGHT_NS
        return self.link_lost_ns - IN_FLIGHT_NS <= sent_ns <= self.acknowledged_ns

    @property
    def interruption_ms(self) -> float | None:
        """From the loss of the link to the acknowledgement; None if there was none."""
        if self.acknowledged_ns is None:
            return None
        return (self.acknowledged_ns - self.link_lost_ns) / 1e6


@dataclass(slots=True)
class Pings:
    """What the correspondent sent and what came back to it, by number."""

    sent: dict[int, int] = field(default_factory=dict)
    received: dict[int, int] = field(default_factory=dict)

    def add(self, sent: Iterable[Sequence[int]], received: Iterable[Sequence[int]]) -> None:
        """Take one report of the end host in."""
        self.sent.update((number, at_ns) for number, at_ns in sent)
        for number, at_ns in received:
            self.received.setdefault(number, at_ns)

    def lost(self) -> list[int]:
        """When each ping that was never answered was sent."""
        return [at_ns for number, at_ns in self.sent.items() if number not in self.received]

    def lost_in(self, handover: Handover) -> int:
        return sum(map(handover.covers, self.lost()))

    def lost_outside(self, handovers: Sequence[Handover]) -> list[int]:
        """When each ping was sent that was lost without a handover's being the cause."""
        return [at_ns for at_ns in self.lost() if not any(handover.covers(at_ns) for handover in handovers)]

    def silence_ms(self, handover: Handover) -> float:
        """The longest time without a reply around a handover, as the correspondent had it."""
        times = sorted(self.received.values())
        longest = 0
        for earlier, later in pairwise(times):
            if later >= handover.link_lost_ns and earlier <= (handover.acknowledged_ns or later):
                longest = max(longest, later - earlier)
        return longest / 1e6

    def answered_while(self, begin_ns: int, end_ns: int) -> int:
        """How many pings were both sent and answered between two instants."""
        return sum(
            begin_ns <= at_ns and number in self.received and self.received[number] <= end_ns
            for number, at_ns in self.sent.items()
        )


@dataclass(slots=True)
class Transfer:
    """The TCP transfer, as its two ends had it."""

    sent_octets: int = 0
    received_octets: int = 0
    sent_sha256: str | None = None
    received_sha256: str | None = None

    @property
    def is_whole(self) -> bool:
        return (
            self.sent_sha256 is not None
            and self.sent_sha256 == self.received_sha256
            and self.sent_octets == self.received_octets
        )


@dataclass(slots=True)
class Wire:
    """What was seen on the home agent's cable."""

    tunnelled: int = 0
    reverse_tunnelled: int = 0
    binding_updates: int = 0
    """ESP packets by the SPI of Binding Updates."""
    binding_acknowledgements: int = 0
    other_esp: int = 0
    clear_mobility_headers: int = 0
    not_seen: int = 0
    """Frames that the capture had no room for."""


@dataclass(slots=True)
class Outcome:
    """Everything that a run is judged by."""

    handovers: list[Handover] = field(default_factory=list)
    pings: Pings = field(default_factory=Pings)
    transfer: Transfer = field(default_factory=Transfer)
    wire: Wire = field(default_factory=Wire)
    acknowledged: int = 0
    """Binding Acknowledgements with status 0 that the mobile node accepted."""
    refused: list[str] = field(default_factory=list)
    binding_updates_sent: int = 0
    """As the mobile node counts them, with retransmissions."""
    away: list[tuple[int, int]] = field(default_factory=list)
    """Each stay with a binding: from the acknowledgement to the next loss of the link."""
    tunnelled: int = 0
    reverse_tunnelled: int = 0
    tunnelled_by_kernel: int = 0
    reverse_tunnelled_by_kernel: int = 0
    solicitations_answered: int = 0
    troubles: list[str] = field(default_factory=list)
    """Sentences on what went wrong while it ran."""

    @property
    def pings_through_tunnel(self) -> int:
        """Pings that cannot have been answered but through the tunnel, both ways."""
        return sum(self.pings.answered_while(begin_ns, end_ns) for begin_ns, end_ns in self.away)

    @property
    def is_esp_protected(self) -> bool:
        """Whether all signalling seen on the home agent's cable was ESP, and was as much as its two ends count."""
        return (
            self.wire.not_seen == 0
            and self.wire.clear_mobility_headers == 0
            and self.wire.other_esp == 0
            # One sent as the link went has not come this far.
            and 0 < self.acknowledged <= self.wire.binding_updates <= self.binding_updates_sent
            and self.wire.binding_acknowledgements >= self.acknowledged
        )

    def failures(self) -> list[str]:
        """A sentence for each condition that does not hold; none if the run has passed."""
        return [
            *self.troubles,
            *self._signalling_failures(),
            *self._traffic_failures(),
            *self._data_path_failures(),
        ]

    def record(self) -> dict[str, object]:
        """What build/demo.json holds."""
        return {
            "registrations": self.acknowledged,
            "handovers": [
                {
                    "from": handover.origin,
                    "to": handover.destination,
                    "interruption_ms": _rounded(handover.interruption_ms),
                    "ping_silence_ms": _rounded(self.pings.silence_ms(handover)),
                    "packets_lost": self.pings.lost_in(handover),
                }
                for handover in self.handovers
            ],
            "packets_sent": len(self.pings.sent),
            "packets_received": len(self.pings.received),
            "lost_outside_handover": len(self.pings.lost_outside(self.handovers)),
            "tunnelled": self.tunnelled,
            "reverse_tunnelled": self.reverse_tunnelled,
            "solicitations_answered": self.solicitations_answered,
            "tcp_bytes": self.transfer.received_octets,
            "tcp_sha256_ok": self.transfer.is_whole,
            "esp_protected": self.is_esp_protected,
        }

    def _signalling_failures(self) -> list[str]:
        failures = [f"The home agent refused a registration: {refusal}." for refusal in self.refused]
        if self.acknowledged != REGISTRATIONS:
            failures.append(f"{self.acknowledged} registrations were acknowledged with status 0, not {REGISTRATIONS}.")
        if len(self.handovers) != HANDOVERS:
            failures.append(f"The mobile node moved {len(self.handovers)} times, not {HANDOVERS}.")
        for handover in self.handovers:
            move = f"The handover {handover.origin} -> {handover.destination}"
            if handover.interruption_ms is None:
                failures.append(f"{move} was never acknowledged.")
            elif handover.interruption_ms > LONGEST_HANDOVER_MS:
                failures.append(f"{move} took {handover.interruption_ms:.0f} ms, more than {LONGEST_HANDOVER_MS} ms.")
        if not self.is_esp_protected:
            failures.append(
                f"Signalling was not proved to be under ESP alone: on the home agent's cable"
                f" {self.wire.clear_mobility_headers} Mobility Headers went in the clear,"
                f" {self.wire.binding_updates} Binding Updates and {self.wire.binding_acknowledgements}"
                f" acknowledgements as ESP, {self.wire.other_esp} packets by another SPI, and {self.wire.not_seen}"
                f" frames were missed; the mobile node sent {self.binding_updates_sent} Binding Updates and accepted"
                f" {self.acknowledged} acknowledgements."
            )
        return failures

    def _traffic_failures(self) -> list[str]:
        failures = []
        outside = self.pings.lost_outside(self.handovers)
        if outside:
            failures.append(f"{len(outside)} of {len(self.pings.sent)} pings were lost outside handovers.")
        if not self.pings.sent:
            failures.append("No ping was sent.")
        if not self.transfer.is_whole:
            failures.append(
                f"The TCP transfer is not whole: {self.transfer.sent_octets} octets sent,"
                f" {self.transfer.received_octets} received, sums"
                f" {'differ' if self.transfer.received_sha256 else 'missing'}."
            )
        if self.transfer.received_octets < SMALLEST_TRANSFER:
            failures.append(
                f"The TCP transfer brought {self.transfer.received_octets} octets, fewer than {SMALLEST_TRANSFER}."
            )
        return failures

    def _data_path_failures(self) -> list[str]:
        """XDP carried the traffic if its counters cover what end hosts and wire saw go through the tunnel."""
        failures = []
        needed = self.pings_through_tunnel
        if needed == 0:
            failures.append("No ping was answered through the tunnel.")
        for name, by_xdp, by_kernel, on_wire in (
            ("tunnelled", self.tunnelled, self.tunnelled_by_kernel, self.wire.tunnelled),
            (
                "reverse-tunnelled",
                self.reverse_tunnelled,
                self.reverse_tunnelled_by_kernel,
                self.wire.reverse_tunnelled,
            ),
        ):
            if by_xdp < needed:
                failures.append(f"XDP {name} {by_xdp} packets, fewer than the {needed} pings that needed it.")
            if on_wire - by_xdp > KERNEL_SHARE * on_wire:
                failures.append(
                    f"Of {on_wire} packets in the tunnel on the home agent's cable, XDP {name} only {by_xdp}."
                )
            if by_kernel > KERNEL_SHARE * (by_xdp + by_kernel):
                failures.append(f"The kernel {name} {by_kernel} packets, XDP {by_xdp}: more than 1 % by the kernel.")
        if self.solicitations_answered == 0:
            failures.append("XDP answered no solicitation for the home address.")
        return failures


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 1)


def tally(esp: Mapping[str, int], spi: int) -> int:
    """The number of ESP packets by an SPI in a report of the wire."""
    return esp.get(f"{spi:#x}", 0)
