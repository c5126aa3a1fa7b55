# SPDX-License-Identifier: Apache-2.0
"""A mobile node's entry for its home agent: what it has asked for, what was granted, and when to ask again.

RFC 6275 sections 11.1 (the list), 11.7.3 (lifetimes), 11.8 (retransmission and rate). One entry, since a mobile node
without route optimization has one home agent and no correspondents to bind to. Encodes nothing and sends nothing.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv6Address

from control.binding.lifetime import UNIT_NS
from control.wire.mobility import BindingStatus

SECOND_NS = 1_000_000_000
INITIAL_BINDACK_TIMEOUT_NS = 1 * SECOND_NS
FIRST_REGISTRATION_TIMEOUT_NS = 3 * SECOND_NS // 2
"""InitialBindackTimeoutFirstReg: the home agent spends a second of it on duplicate address detection."""
MAX_BINDACK_TIMEOUT_NS = 32 * SECOND_NS
MAX_UPDATE_RATE = 3
"""Binding Updates to one node within a second, retransmissions and corrections included."""

FIRST_REFUSED_STATUS = 128
_SEQUENCE_MODULUS = 1 << 16
_REFRESH_NUMERATOR, _REFRESH_DENOMINATOR = 3, 4
"""A refresh is due when three quarters of the lifetime are over: the last quarter is for retransmissions."""


class Answer(Enum):
    """What a Binding Acknowledgement means for the entry."""

    ACCEPTED = auto()
    OUT_OF_WINDOW = auto()
    "Status 135: the same again, with a sequence number that the home agent will take."
    REFUSED = auto()
    NOT_OUTSTANDING = auto()
    "No Binding Update that still waits had this sequence number: to be ignored (RFC 6275 section 11.7.3)."


@dataclass(frozen=True, slots=True)
class _OutstandingUpdate:
    sent_ns: int
    lifetime_units: int


class BindingUpdateListEntry:
    """The registration of one home address with one home agent, as the mobile node knows it."""

    def __init__(self, home_address: IPv6Address) -> None:
        self.home_address = home_address
        self.sequence = 0
        "Of the last Binding Update sent; a restart goes on from the one on disk."
        self.care_of_address: IPv6Address | None = None
        "What is, or is being, registered; the home address while de-registering, None before anything is."
        self.registered_care_of_address: IPv6Address | None = None
        "What the home agent has acknowledged last."
        self.expires_ns: int | None = None
        "End of the acknowledged lifetime; None without a binding."
        self._may_be_bound_until_ns = 0
        self._lifetime_units = 0
        self._outstanding: dict[int, _OutstandingUpdate] = {}
        self._timeout_ns = INITIAL_BINDACK_TIMEOUT_NS
        self._due_ns: int | None = None
        self._refresh_ns: int | None = None
        self._recently_sent: deque[int] = deque(maxlen=MAX_UPDATE_RATE)

    @property
    def is_deregistering(self) -> bool:
        """True from the return home until its acknowledgement."""
        return self._due_ns is not None and self.care_of_address == self.home_address

    @property
    def lifetime_units(self) -> int:
        """What the Binding Updates being sent ask for."""
        return self._lifetime_units

    def is_bound(self, now: int) -> bool:
        """True while the home agent has acknowledged a binding that has not run out."""
        return self.expires_ns is not None and now < self.expires_ns

    def may_be_bound(self, now: int) -> bool:
        """True while the home agent may hold a binding, acknowledged or not."""
        return now < self._may_be_bound_until_ns

    def may_be_bound_for_s(self, now: int) -> int:
        """How much longer `may_be_bound` holds at most, in whole seconds."""
        return max(0, -((now - self._may_be_bound_until_ns) // SECOND_NS))

    def resume(self, sequence: int, bound_until_ns: int) -> None:
        """After a restart: go on from `sequence`, with a binding that may last until `bound_until_ns`."""
        self.sequence = sequence
        self._may_be_bound_until_ns = bound_until_ns

    def begin(self, care_of_address: IPv6Address, lifetime_units: int, now: int) -> None:
        """Register `care_of_address` from now on; whatever was outstanding for another is given up."""
        if care_of_address != self.care_of_address:
            self._outstanding.clear()
        self.care_of_address = care_of_address
        self._lifetime_units = lifetime_units
        # Without a binding of its own the home agent detects duplicates before it answers.
        is_first = lifetime_units > 0 and not self.may_be_bound(now)
        self._timeout_ns = FIRST_REGISTRATION_TIMEOUT_NS if is_first else INITIAL_BINDACK_TIMEOUT_NS
        self._refresh_ns = None
        self._due_ns = now

    def abandon(self) -> None:
        """Send nothing more for now."""
        self._outstanding.clear()
        self._due_ns = None
        self._refresh_ns = None

    def next_deadline(self) -> int | None:
        """When a Binding Update is to be sent, or a refresh begun."""
        if self._due_ns is not None:
            return max(self._due_ns, self._rate_allows_from_ns())
        return self._refresh_ns

    def is_update_due(self, now: int) -> bool:
        """True if a Binding Update is to be sent now, and may be by the rate."""
        return self._due_ns is not None and max(self._due_ns, self._rate_allows_from_ns()) <= now

    def is_refresh_due(self, now: int) -> bool:
        """True if the binding should be asked for anew."""
        return self._refresh_ns is not None and self._refresh_ns <= now

    def transmit(self, now: int) -> int:
        """One Binding Update leaves now; its sequence number. Each retransmission has one of its own."""
        self.sequence = (self.sequence + 1) % _SEQUENCE_MODULUS
        self._outstanding[self.sequence] = _OutstandingUpdate(now, self._lifetime_units)
        self._recently_sent.append(now)
        self._may_be_bound_until_ns = max(self._may_be_bound_until_ns, now + self._lifetime_units * UNIT_NS)
        self._due_ns = now + self._timeout_ns
        self._timeout_ns = min(2 * self._timeout_ns, MAX_BINDACK_TIMEOUT_NS)
        return self.sequence

    def acknowledge(
        self, sequence: int, status: int, lifetime_units: int, now: int, refresh_units: int | None = None
    ) -> Answer:
        """Take in an acknowledgement whose protection holds; `refresh_units` is its Binding Refresh Advice."""
        if status == BindingStatus.SEQUENCE_NUMBER_OUT_OF_WINDOW:
            # Its number is the last one that was accepted, not that of what it answers.
            if not self._outstanding:
                return Answer.NOT_OUTSTANDING
            self._outstanding.clear()
            self.sequence = sequence
            self._due_ns = now
            return Answer.OUT_OF_WINDOW
        update = self._outstanding.get(sequence)
        if update is None:
            return Answer.NOT_OUTSTANDING
        self._outstanding.clear()
        if status >= FIRST_REFUSED_STATUS:
            # What was refused would be refused again at once (RFC 6275 section 11.7.3).
            self._due_ns = now + MAX_BINDACK_TIMEOUT_NS
            return Answer.REFUSED
        self._due_ns = None
        if update.lifetime_units == 0:
            self.forget()
            return Answer.ACCEPTED
        # RFC 6275 section 11.7.3: what remains of the lifetime asked for, less the difference to the one granted.
        granted_units = min(lifetime_units, update.lifetime_units)
        self.registered_care_of_address = self.care_of_address
        self.expires_ns = update.sent_ns + granted_units * UNIT_NS
        self._may_be_bound_until_ns = self.expires_ns
        refresh_ns = granted_units * UNIT_NS * _REFRESH_NUMERATOR // _REFRESH_DENOMINATOR
        if refresh_units is not None and 0 < refresh_units < granted_units:
            refresh_ns = min(refresh_ns, refresh_units * UNIT_NS)
        self._refresh_ns = update.sent_ns + refresh_ns
        return Answer.ACCEPTED

    def forget(self) -> None:
        """There is no binding any more, by the home agent's word."""
        self.abandon()
        self.care_of_address = self.registered_care_of_address = None
        self.expires_ns = None
        self._may_be_bound_until_ns = 0

    def expire(self) -> None:
        """The acknowledged lifetime is over; what is being asked for goes on being asked for."""
        self.expires_ns = None
        self.registered_care_of_address = None

    def _rate_allows_from_ns(self) -> int:
        if len(self._recently_sent) < MAX_UPDATE_RATE:
            return 0
        return self._recently_sent[0] + SECOND_NS
