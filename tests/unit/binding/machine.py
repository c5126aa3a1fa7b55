# SPDX-License-Identifier: Apache-2.0
"""A registration machine with one home link, brought to any state, and what it was seen to do."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from control.binding.configuration import HomeAgentConfiguration
from control.binding.effects import Effect, EffectResult, InstallBinding
from control.binding.home_link import HomeLink
from control.binding.outbox import Outbox
from control.binding.registration import RegistrationInput, RegistrationMachine, RegistrationState
from control.binding.request import Acknowledgement, BindingRequest, ReplyPath

SECOND_NS = 1_000_000_000
HOME_ADDRESS = IPv6Address("2001:db8:1::100")
HOME_AGENT_ADDRESS = IPv6Address("2001:db8:1::1")
CARE_OF_ADDRESS = IPv6Address("2001:db8:2::aa")
OTHER_CARE_OF_ADDRESS = IPv6Address("2001:db8:3::aa")
MAC = bytes.fromhex("020000000001")
HOME_LINK = HomeLink(1, "eth0", IPv6Network("2001:db8:1::/64"), HOME_AGENT_ADDRESS, MAC)
FIRST_SEQUENCE = 100


def reply_path(destination: IPv6Address = CARE_OF_ADDRESS) -> ReplyPath:
    return ReplyPath(HOME_AGENT_ADDRESS, destination, "eth1", bytes(6), MAC)


def request(
    sequence: int = FIRST_SEQUENCE,
    *,
    care_of_address: IPv6Address = CARE_OF_ADDRESS,
    lifetime_units: int = 15,
    home_address: IPv6Address = HOME_ADDRESS,
    is_home_registration: bool = True,
    link_local_compatible: bool = False,
    sequence_is_only_guard: bool = False,
) -> BindingRequest:
    return BindingRequest(
        home_address=home_address,
        care_of_address=care_of_address,
        sequence=sequence,
        lifetime_units=lifetime_units,
        is_home_registration=is_home_registration,
        link_local_compatible=link_local_compatible,
        sequence_is_only_guard=sequence_is_only_guard,
        reply_path=reply_path(),
    )


@dataclass(frozen=True)
class Traced:
    before: RegistrationState
    input_: RegistrationInput
    after: RegistrationState


class Bench:
    """The machine, and everything that came of it since it was last asked."""

    def __init__(self, configuration: HomeAgentConfiguration | None = None) -> None:
        self.outbox = Outbox()
        self.acknowledgements: list[Acknowledgement] = []
        self.trace: list[Traced] = []
        self.machine = RegistrationMachine(
            configuration or HomeAgentConfiguration((HOME_LINK,)),
            self.outbox,
            self.acknowledgements.append,
            lambda _home_address, before, input_, after: self.trace.append(Traced(before, input_, after)),
        )
        self.now = 0
        self.writes: list[InstallBinding] = []

    def take(self) -> list[Effect]:
        effects = self.outbox.take_effects()
        self.writes.extend(effect for effect in effects if isinstance(effect, InstallBinding))
        return effects

    def take_kinds(self) -> list[str]:
        return [type(effect).__name__ for effect in self.take()]

    def events(self) -> list[str]:
        names = []
        while (event := self.outbox.next_event()) is not None:
            names.append(type(event).__name__)
        return names

    def statuses(self) -> list[int]:
        statuses: list[int] = [acknowledgement.status for acknowledgement in self.acknowledgements]
        self.acknowledgements.clear()
        return statuses

    def answer(self, result: EffectResult) -> None:
        """Of the newest write."""
        self.take()
        self.machine.written(self.writes[-1].entry, result, self.now)

    def pass_time(self, seconds: int) -> None:
        self.now += seconds * SECOND_NS
        self.machine.handle_timer(self.now)

    def state(self) -> RegistrationState:
        return self.machine.state(HOME_ADDRESS)

    def bring_to(self, state: RegistrationState) -> None:
        """From the start to `state`, by the shortest way, with all that came of it forgotten."""
        if state is not RegistrationState.NO_BINDING:
            self.machine.receive(request(), self.now)
        if state in (RegistrationState.INSTALLING, RegistrationState.BOUND, RegistrationState.UPDATING):
            self.pass_time(1)
        if state in (RegistrationState.BOUND, RegistrationState.UPDATING):
            self.answer(EffectResult.DONE)
        if state is RegistrationState.UPDATING:
            self.machine.receive(request(FIRST_SEQUENCE + 1), self.now)
        assert self.state() is state
        self.take()
        self.events()
        self.statuses()
        self.trace.clear()
