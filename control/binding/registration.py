# SPDX-License-Identifier: Apache-2.0
"""The registration machine: what a Binding Update, an answer or the clock does to a home address's binding.

RFC 6275 sections 9.5.1 (sequence numbers, deletion), 10.3.1 (registration) and 10.3.2 (de-registration); RFC 4862
section 5.4 for what duplicate address detection finds. One machine serves all home addresses: a home address at rest
(no binding, or bound) has no object here, its state is read off the cache.

Does not look at octets, protection or checksums, and does not seal acknowledgements: home_agent.py does.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv6Address
from typing import ClassVar, TypeVar

from control.binding.cache import BindingCache, BindingCacheEntry
from control.binding.care_of_address import check_policy
from control.binding.configuration import HomeAgentConfiguration
from control.binding.duplicate_address_detection import DuplicateAddressDetection
from control.binding.effects import EffectResult, InstallBinding, RemoveBinding
from control.binding.events import (
    BindingDeregistered,
    BindingExpired,
    BindingMoved,
    BindingRefreshed,
    BindingRegistered,
    RegistrationRefused,
    SignallingReason,
)
from control.binding.home_link import HomeLink
from control.binding.lifetime import UNIT_NS, Grant, grant_lifetime
from control.binding.outbox import Outbox
from control.binding.proxy_announcement import ProxyAnnouncement
from control.binding.refusal import Refusal
from control.binding.request import Acknowledgement, BindingRequest
from control.binding.sequence import is_newer
from control.wire.errors import InvariantError
from control.wire.mobility import BindingStatus
from control.wire.mobility_options import LIFETIME_UNIT_S


class RegistrationState(Enum):
    """Where a home address stands."""

    NO_BINDING = "no_binding"
    DETECTING = "detecting"
    "Duplicate address detection is under way."
    INSTALLING = "installing"
    "The first write to the data path is not answered yet."
    BOUND = "bound"
    UPDATING = "updating"
    "A binding is in force, and the write that changes it is not answered yet."


class RegistrationInput(Enum):
    """What can happen to a home address."""

    REGISTER = "register"
    "A home registration: lifetime and care-of address of one who is away."
    DEREGISTER = "deregister"
    REGISTER_AS_CORRESPONDENT = "register_as_correspondent"
    "A Binding Update with the H bit clear."
    ADDRESS_UNIQUE = "address_unique"
    ADDRESS_IN_USE = "address_in_use"
    INSTALLED = "installed"
    INSTALL_FAILED = "install_failed"
    EXPIRED = "expired"


_REFUSED = {
    BindingStatus.REASON_UNSPECIFIED: SignallingReason.REFUSED_UNSPECIFIED,
    BindingStatus.ADMINISTRATIVELY_PROHIBITED: SignallingReason.REFUSED_PROHIBITED,
    BindingStatus.INSUFFICIENT_RESOURCES: SignallingReason.REFUSED_RESOURCES,
    BindingStatus.NOT_HOME_SUBNET: SignallingReason.REFUSED_NOT_HOME_SUBNET,
    BindingStatus.NOT_HOME_AGENT_FOR_THIS_MOBILE_NODE: SignallingReason.REFUSED_NOT_HOME_AGENT,
    BindingStatus.DUPLICATE_ADDRESS_DETECTION_FAILED: SignallingReason.REFUSED_DUPLICATE_ADDRESS,
    BindingStatus.SEQUENCE_NUMBER_OUT_OF_WINDOW: SignallingReason.REFUSED_SEQUENCE,
    BindingStatus.REGISTRATION_TYPE_CHANGE_DISALLOWED: SignallingReason.REFUSED_TYPE_CHANGE,
    BindingStatus.INVALID_CARE_OF_ADDRESS: SignallingReason.REFUSED_CARE_OF_ADDRESS,
}


@dataclass(slots=True)
class _Registration:
    """A home address that waits for something: detection, or the data path."""

    state: RegistrationState
    request: BindingRequest
    "The one that the acknowledgement will answer."
    entry: BindingCacheEntry | None = None
    "What has been asked to be written."
    status: BindingStatus = BindingStatus.ACCEPTED
    "What the acknowledgement says once that is written."
    waiting: BindingRequest | None = None
    "The newest Binding Update that came while the write was not answered."


@dataclass(slots=True)
class _Step:
    """One input on its way through the machine, and what handlers read and leave."""

    home_address: IPv6Address
    now: int
    received: BindingRequest | None
    "The Binding Update, where the input is one."
    pending: _Registration | None
    "What the home address waits for; a handler that makes it wait sets this."

    @property
    def request(self) -> BindingRequest:
        return _present(self.received)

    @property
    def registration(self) -> _Registration:
        return _present(self.pending)


_T = TypeVar("_T")

Trace = Callable[[IPv6Address, RegistrationState, RegistrationInput, RegistrationState], None]
"""Told of every input: home address, state before, input, state after."""


def _ignore_trace(
    _home_address: IPv6Address, _before: RegistrationState, _input: RegistrationInput, _after: RegistrationState
) -> None:
    """What a machine without an observer calls."""


def _check_sequence(request: BindingRequest, last: int) -> None:
    if not is_newer(request.sequence, last):
        raise Refusal(BindingStatus.SEQUENCE_NUMBER_OUT_OF_WINDOW, last_sequence=last)


def _present(value: _T | None) -> _T:
    if value is None:
        raise InvariantError("the registration machine misses what its state promises")
    return value


_AT_REST = frozenset({RegistrationState.NO_BINDING, RegistrationState.BOUND})
_ARRIVING = frozenset({RegistrationState.DETECTING, RegistrationState.INSTALLING})


class RegistrationMachine:
    """All registrations of one home agent."""

    def __init__(
        self,
        configuration: HomeAgentConfiguration,
        outbox: Outbox,
        acknowledge: Callable[[Acknowledgement], None],
        trace: Trace | None = None,
    ) -> None:
        self.cache = BindingCache()
        self.detection = DuplicateAddressDetection(
            outbox, configuration.maximum_detections, configuration.dad_transmits
        )
        self.announcement = ProxyAnnouncement(outbox, configuration.announcements)
        self._configuration = configuration
        self._outbox = outbox
        self._acknowledge = acknowledge
        self._trace = trace or _ignore_trace
        self._registrations: dict[int, _Registration] = {}
        self._arriving = 0
        # Of mobile nodes whose sequence numbers are the only guard; outlives their bindings.
        self._last_sequences: dict[int, int] = {}

    # ---- inputs ----

    def receive(self, request: BindingRequest, now: int) -> None:
        """Take in a Binding Update."""
        if not request.is_home_registration:
            input_ = RegistrationInput.REGISTER_AS_CORRESPONDENT
        elif request.is_deregistration:
            input_ = RegistrationInput.DEREGISTER
        else:
            input_ = RegistrationInput.REGISTER
        self._feed(input_, request.home_address, now, request)

    def address_in_use(self, home_address: IPv6Address, now: int) -> None:
        """Another node on the home link has or wants an address that is tentative for `home_address`."""
        self._feed(RegistrationInput.ADDRESS_IN_USE, home_address, now)

    def written(self, entry: BindingCacheEntry, result: EffectResult, now: int) -> None:
        """The data path answers; an answer that nobody waits for changes nothing."""
        registration = self._registrations.get(int(entry.home_address))
        if registration is None or registration.entry is not entry:
            return
        succeeded = result is EffectResult.DONE
        input_ = RegistrationInput.INSTALLED if succeeded else RegistrationInput.INSTALL_FAILED
        self._feed(input_, entry.home_address, now)

    def handle_timer(self, now: int) -> None:
        """Do what is due."""
        for home_address in self.cache.expired(now):
            self._feed(RegistrationInput.EXPIRED, home_address, now)
        for home_address in self.detection.unanswered(now):
            self._feed(RegistrationInput.ADDRESS_UNIQUE, home_address, now)
        self.announcement.handle_timer(now)

    def next_deadline(self) -> int | None:
        """When `handle_timer` has something to do next."""
        deadlines = (
            self.cache.next_expiry_ns(),
            self.detection.next_deadline(),
            self.announcement.next_deadline(),
        )
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def restore(self, entry: BindingCacheEntry) -> None:
        """Put in a binding from before a restart."""
        self.cache.put(entry)

    def remember_sequence(self, home_address: IPv6Address, sequence: int) -> None:
        """Put in the last sequence number of a home address from before a restart."""
        self._last_sequences[int(home_address)] = sequence

    def state(self, home_address: IPv6Address) -> RegistrationState:
        """Where `home_address` stands."""
        registration = self._registrations.get(int(home_address))
        if registration is not None:
            return registration.state
        return RegistrationState.BOUND if home_address in self.cache else RegistrationState.NO_BINDING

    # ---- the one way to another state ----

    def _feed(
        self, input_: RegistrationInput, home_address: IPv6Address, now: int, request: BindingRequest | None = None
    ) -> None:
        before = self.state(home_address)
        waited_for = self._registrations.get(int(home_address))
        step = _Step(home_address, now, request, waited_for)
        try:
            after = self.TRANSITIONS[before, input_](self, step)
        except Refusal as refusal:
            self._refuse(step.request, refusal)
            after = before
        self._enter(before, after, step)
        self._trace(home_address, before, input_, after)
        # The Binding Update that came while the data path was being asked has its turn now.
        if waited_for is not None and waited_for.waiting is not None and after in _AT_REST:
            self.receive(waited_for.waiting, now)

    def _enter(self, before: RegistrationState, after: RegistrationState, step: _Step) -> None:
        self._arriving += (after in _ARRIVING) - (before in _ARRIVING)
        if after in _AT_REST:
            self._registrations.pop(int(step.home_address), None)
        else:
            step.registration.state = after
            self._registrations[int(step.home_address)] = step.registration

    # ---- handlers: each does what its pair asks for, and returns the state that follows ----

    def _begin(self, step: _Step) -> RegistrationState:
        """A first registration: is the address unique on the home link?"""
        request = step.request
        last_sequence = self._last_sequences.get(int(step.home_address))
        if request.sequence_is_only_guard and last_sequence is not None:
            _check_sequence(request, last_sequence)
        home_link, grant = self._admit(request, step.now)
        if len(self.cache) + self._arriving >= self._configuration.maximum_bindings:
            raise Refusal(BindingStatus.INSUFFICIENT_RESOURCES)
        if home_link.is_virtual:
            self._remember(request)
            step.pending = self._write(request, home_link, grant, step.now)
            return RegistrationState.INSTALLING
        self.detection.start(request.home_address, home_link, request.link_local_compatible, step.now)
        self._remember(request)
        self._outbox.count(SignallingReason.DETECTION_STARTED)
        step.pending = _Registration(RegistrationState.DETECTING, request)
        return RegistrationState.DETECTING

    def _refuse_unbound(self, _step: _Step) -> RegistrationState:
        raise Refusal(BindingStatus.NOT_HOME_AGENT_FOR_THIS_MOBILE_NODE)

    def _ignore_correspondent(self, step: _Step) -> RegistrationState:
        """Nobody is a correspondent here without return routability (RFC 6275 section 9.5.1)."""
        self._outbox.drop(SignallingReason.NOT_HOME_REGISTRATION, step.request.reply_path.interface)
        return self.state(step.home_address)

    def _refuse_type_change(self, step: _Step) -> RegistrationState:
        _check_sequence(step.request, self._bound(step).sequence)
        raise Refusal(BindingStatus.REGISTRATION_TYPE_CHANGE_DISALLOWED)

    def _supersede(self, step: _Step) -> RegistrationState:
        """A retransmission does not begin detection anew; a newer one changes what will be written and acknowledged."""
        request, detecting = step.request, step.registration.request
        self._outbox.count(SignallingReason.DETECTION_UNDERWAY)
        if not is_newer(request.sequence, detecting.sequence):
            return RegistrationState.DETECTING
        home_link, _ = self._admit(request, step.now)
        if request.link_local_compatible != detecting.link_local_compatible:
            # Not the same addresses have to be unique any more.
            self.detection.stop(step.home_address)
            self.detection.start(step.home_address, home_link, request.link_local_compatible, step.now)
        self._remember(request)
        step.registration.request = request
        return RegistrationState.DETECTING

    def _abandon(self, step: _Step) -> RegistrationState:
        """The mobile node went home before there was a binding to take back."""
        if not is_newer(step.request.sequence, step.registration.request.sequence):
            self._outbox.count(SignallingReason.DETECTION_UNDERWAY)
            return RegistrationState.DETECTING
        self.detection.stop(step.home_address)
        self._remember(step.request)
        self._refuse(step.request, Refusal(BindingStatus.NOT_HOME_AGENT_FOR_THIS_MOBILE_NODE))
        return RegistrationState.NO_BINDING

    def _accept_unique(self, step: _Step) -> RegistrationState:
        request = step.registration.request
        try:
            home_link, grant = self._admit(request, step.now)
        except Refusal as refusal:
            # The home prefix has ceased to be valid meanwhile.
            self.detection.stop(step.home_address)
            self._refuse(request, refusal)
            return RegistrationState.NO_BINDING
        step.pending = self._write(request, home_link, grant, step.now)
        # After the write, so that what defends the address takes over before the watch on it ends.
        self.detection.stop(step.home_address)
        return RegistrationState.INSTALLING

    def _refuse_duplicate(self, step: _Step) -> RegistrationState:
        self.detection.stop(step.home_address)
        self._refuse(step.registration.request, Refusal(BindingStatus.DUPLICATE_ADDRESS_DETECTION_FAILED))
        return RegistrationState.NO_BINDING

    def _hold(self, step: _Step) -> RegistrationState:
        """The data path is about to answer: keep the newest Binding Update until then."""
        registration = step.registration
        newest = registration.waiting or registration.request
        if is_newer(step.request.sequence, newest.sequence):
            registration.waiting = step.request
        self._outbox.count(SignallingReason.WRITE_UNDERWAY)
        return registration.state

    def _complete_first(self, step: _Step) -> RegistrationState:
        entry = _present(step.registration.entry)
        self.cache.put(entry)
        self._announce(entry, step.now)
        self._outbox.report(BindingRegistered(entry))
        self._outbox.count(SignallingReason.REGISTERED)
        self._accept(step.registration, entry)
        return RegistrationState.BOUND

    def _refuse_first(self, step: _Step) -> RegistrationState:
        self._refuse(step.registration.request, Refusal(BindingStatus.INSUFFICIENT_RESOURCES))
        return RegistrationState.NO_BINDING

    def _update(self, step: _Step) -> RegistrationState:
        """A refresh or a handover: no detection, for the address is defended already."""
        _check_sequence(step.request, self._bound(step).sequence)
        home_link, grant = self._admit(step.request, step.now)
        self._remember(step.request)
        step.pending = self._write(step.request, home_link, grant, step.now)
        return RegistrationState.UPDATING

    def _complete_update(self, step: _Step) -> RegistrationState:
        entry, previous = _present(step.registration.entry), self._bound(step)
        self.cache.put(entry)
        if entry.link_local_compatible and not previous.link_local_compatible:
            self._announce(entry, step.now)
        if entry.care_of_address == previous.care_of_address:
            self._outbox.report(BindingRefreshed(entry))
            self._outbox.count(SignallingReason.REFRESHED)
        else:
            self._outbox.report(BindingMoved(entry, previous.care_of_address))
            self._outbox.count(SignallingReason.MOVED)
        self._accept(step.registration, entry)
        return RegistrationState.BOUND

    def _refuse_update(self, step: _Step) -> RegistrationState:
        """The earlier binding stands, unless its time came while the data path was being asked."""
        self._refuse(step.registration.request, Refusal(BindingStatus.INSUFFICIENT_RESOURCES))
        if self._bound(step).expires_ns <= step.now:
            return self._expire(step)
        return RegistrationState.BOUND

    def _await_answer(self, _step: _Step) -> RegistrationState:
        """Whether the binding goes on is known when the data path has answered."""
        return RegistrationState.UPDATING

    def _deregister(self, step: _Step) -> RegistrationState:
        request, bound = step.request, self._bound(step)
        _check_sequence(request, bound.sequence)
        self._remember(request)
        entry = self._remove(replace(bound, sequence=request.sequence))
        self._outbox.report(BindingDeregistered(entry))
        self._outbox.count(SignallingReason.DEREGISTERED)
        self._acknowledge(Acknowledgement(request, BindingStatus.ACCEPTED, request.sequence))
        return RegistrationState.NO_BINDING

    def _expire(self, step: _Step) -> RegistrationState:
        entry = self._remove(self._bound(step))
        self._outbox.report(BindingExpired(entry))
        self._outbox.count(SignallingReason.EXPIRED)
        return RegistrationState.NO_BINDING

    def _impossible(self, step: _Step) -> RegistrationState:
        raise InvariantError(f"nothing of the kind can happen to {step.home_address} now")

    # ---- what handlers share ----

    def _bound(self, step: _Step) -> BindingCacheEntry:
        return _present(self.cache.get(step.home_address))

    def _admit(self, request: BindingRequest, now: int) -> tuple[HomeLink, Grant]:
        """RFC 6275 section 10.3.1: an address of a home prefix, a place where it may be, and for how long."""
        home_link = self._configuration.home_link_of(request.home_address)
        if home_link is None:
            raise Refusal(BindingStatus.NOT_HOME_SUBNET)
        check_policy(request.care_of_address, self._configuration)
        grant = grant_lifetime(request.lifetime_units, self._configuration.maximum_lifetime_s, home_link, now)
        return home_link, grant

    def _write(self, request: BindingRequest, home_link: HomeLink, grant: Grant, now: int) -> _Registration:
        entry = BindingCacheEntry(
            home_address=request.home_address,
            care_of_address=request.care_of_address,
            home_agent_address=request.reply_path.home_agent_address,
            home_link=home_link.index,
            sequence=request.sequence,
            lifetime_units=grant.lifetime_units,
            registered_ns=now,
            expires_ns=now + grant.lifetime_units * UNIT_NS,
            link_local_compatible=request.link_local_compatible,
            key_management_mobility=False,
        )
        self._outbox.emit(InstallBinding(entry))
        return _Registration(RegistrationState.INSTALLING, request, entry, grant.status)

    def _remove(self, entry: BindingCacheEntry) -> BindingCacheEntry:
        self.announcement.stop(entry.home_address)
        self.cache.remove(entry.home_address)
        # One that was restored has not been remembered yet; whether it counts is asked when a Binding Update comes.
        self._last_sequences[int(entry.home_address)] = entry.sequence
        self._outbox.emit(RemoveBinding(entry))
        return entry

    def _announce(self, entry: BindingCacheEntry, now: int) -> None:
        home_link = _present(self._configuration.home_link_of(entry.home_address))
        if not home_link.is_virtual:
            self.announcement.start(entry.home_address, home_link, entry.link_local_compatible, now)

    def _remember(self, request: BindingRequest) -> None:
        """From here on, older Binding Updates of this home address are refused, binding or none."""
        if request.sequence_is_only_guard:
            self._last_sequences[int(request.home_address)] = request.sequence

    def _accept(self, registration: _Registration, entry: BindingCacheEntry) -> None:
        interval_s = self._configuration.refresh_interval_s
        advice = None
        if interval_s is not None and interval_s // LIFETIME_UNIT_S < entry.lifetime_units:
            advice = interval_s // LIFETIME_UNIT_S
        self._acknowledge(
            Acknowledgement(registration.request, registration.status, entry.sequence, entry.lifetime_units, advice)
        )

    def _refuse(self, request: BindingRequest, refusal: Refusal) -> None:
        sequence = request.sequence if refusal.last_sequence is None else refusal.last_sequence
        self._outbox.report(RegistrationRefused(request.home_address, request.care_of_address, refusal.status))
        self._outbox.count(_REFUSED[refusal.status])
        self._acknowledge(Acknowledgement(request, refusal.status, sequence))

    # ---- the table: a `Refusal` leaves the state as it was; what cannot happen is named as well ----

    TRANSITIONS: ClassVar[dict[tuple[RegistrationState, RegistrationInput], "Handler"]] = {
        (RegistrationState.NO_BINDING, RegistrationInput.REGISTER): _begin,
        (RegistrationState.NO_BINDING, RegistrationInput.DEREGISTER): _refuse_unbound,
        (RegistrationState.NO_BINDING, RegistrationInput.REGISTER_AS_CORRESPONDENT): _ignore_correspondent,
        (RegistrationState.NO_BINDING, RegistrationInput.ADDRESS_UNIQUE): _impossible,
        (RegistrationState.NO_BINDING, RegistrationInput.ADDRESS_IN_USE): _impossible,
        (RegistrationState.NO_BINDING, RegistrationInput.INSTALLED): _impossible,
        (RegistrationState.NO_BINDING, RegistrationInput.INSTALL_FAILED): _impossible,
        (RegistrationState.NO_BINDING, RegistrationInput.EXPIRED): _impossible,
        (RegistrationState.DETECTING, RegistrationInput.REGISTER): _supersede,
        (RegistrationState.DETECTING, RegistrationInput.DEREGISTER): _abandon,
        (RegistrationState.DETECTING, RegistrationInput.REGISTER_AS_CORRESPONDENT): _ignore_correspondent,
        (RegistrationState.DETECTING, RegistrationInput.ADDRESS_UNIQUE): _accept_unique,
        (RegistrationState.DETECTING, RegistrationInput.ADDRESS_IN_USE): _refuse_duplicate,
        (RegistrationState.DETECTING, RegistrationInput.INSTALLED): _impossible,
        (RegistrationState.DETECTING, RegistrationInput.INSTALL_FAILED): _impossible,
        (RegistrationState.DETECTING, RegistrationInput.EXPIRED): _impossible,
        (RegistrationState.INSTALLING, RegistrationInput.REGISTER): _hold,
        (RegistrationState.INSTALLING, RegistrationInput.DEREGISTER): _hold,
        (RegistrationState.INSTALLING, RegistrationInput.REGISTER_AS_CORRESPONDENT): _ignore_correspondent,
        (RegistrationState.INSTALLING, RegistrationInput.ADDRESS_UNIQUE): _impossible,
        (RegistrationState.INSTALLING, RegistrationInput.ADDRESS_IN_USE): _impossible,
        (RegistrationState.INSTALLING, RegistrationInput.INSTALLED): _complete_first,
        (RegistrationState.INSTALLING, RegistrationInput.INSTALL_FAILED): _refuse_first,
        (RegistrationState.INSTALLING, RegistrationInput.EXPIRED): _impossible,
        (RegistrationState.BOUND, RegistrationInput.REGISTER): _update,
        (RegistrationState.BOUND, RegistrationInput.DEREGISTER): _deregister,
        (RegistrationState.BOUND, RegistrationInput.REGISTER_AS_CORRESPONDENT): _refuse_type_change,
        (RegistrationState.BOUND, RegistrationInput.ADDRESS_UNIQUE): _impossible,
        (RegistrationState.BOUND, RegistrationInput.ADDRESS_IN_USE): _impossible,
        (RegistrationState.BOUND, RegistrationInput.INSTALLED): _impossible,
        (RegistrationState.BOUND, RegistrationInput.INSTALL_FAILED): _impossible,
        (RegistrationState.BOUND, RegistrationInput.EXPIRED): _expire,
        (RegistrationState.UPDATING, RegistrationInput.REGISTER): _hold,
        (RegistrationState.UPDATING, RegistrationInput.DEREGISTER): _hold,
        (RegistrationState.UPDATING, RegistrationInput.REGISTER_AS_CORRESPONDENT): _refuse_type_change,
        (RegistrationState.UPDATING, RegistrationInput.ADDRESS_UNIQUE): _impossible,
        (RegistrationState.UPDATING, RegistrationInput.ADDRESS_IN_USE): _impossible,
        (RegistrationState.UPDATING, RegistrationInput.INSTALLED): _complete_update,
        (RegistrationState.UPDATING, RegistrationInput.INSTALL_FAILED): _refuse_update,
        (RegistrationState.UPDATING, RegistrationInput.EXPIRED): _await_answer,
    }


Handler = Callable[[RegistrationMachine, _Step], RegistrationState]
