# SPDX-License-Identifier: Apache-2.0
"""MobileNode: the other end of a home registration, without I/O (RFC 6275 section 11).

Frames, carrier changes and the time go in; effects and events come out. Router Advertisements say where the node is
(11.5.1); away from home it forms a care-of address and registers it (11.7.1), back at home it takes the binding back
before it uses the home address there (11.5.5). Acknowledgements are believed only under ESP and for a Binding Update
that is outstanding (11.7.3).

Not here: route optimization, dynamic home agent address discovery, mobile prefix discovery, and duplicate address
detection for the home address after all bindings have run out abroad.
"""

from collections import Counter, deque
from collections.abc import Callable
from hashlib import sha256
from ipaddress import IPv6Address, IPv6Network

from control.binding.binding_update_list import Answer, BindingUpdateListEntry
from control.binding.effects import ReserveSequenceNumbers, SendFrame, SendPacket
from control.binding.home_link import link_local_address
from control.binding.lifetime import UNIT_NS
from control.binding.mobile_node_configuration import MobileNodeConfiguration
from control.binding.mobile_node_effects import (
    AttachHome,
    Away,
    BindingAcknowledged,
    BindingLost,
    BindingUpdateSent,
    CareOfAddressConflict,
    ConfigureCareOfAddress,
    Home,
    LinkFound,
    LinkLost,
    Location,
    MobileNodeEffect,
    MobileNodeEvent,
    MobileNodeReason,
    RecordBindingUpdate,
    ReleaseCareOfAddress,
    RouterFound,
    SetTunnel,
    SignallingDropped,
)
from control.binding.mobile_node_frames import home_advertisement, returning_solicitation, router_solicitation
from control.binding.movement import Attachment, Movement, Observation
from control.binding.repetition import Repetition
from control.ipsec.association import AssociationLookup, Purpose, SecurityAssociation
from control.ipsec.esp import EspError, open_esp, pull_spi, seal_esp
from control.ipsec.policy import PolicyError, check_message, check_next_header
from control.wire.errors import MalformedReason, WireError
from control.wire.ethernet import EthernetHeader, EtherType, pull_ethernet, push_ethernet
from control.wire.icmpv6 import pull_icmpv6
from control.wire.ipv6 import (
    IPv6Packet,
    NextHeader,
    home_address_destination_options,
    pull_packet,
    push_packet,
)
from control.wire.mobility import (
    BindingAcknowledgement,
    BindingStatus,
    BindingUpdate,
    pull_mobility_header,
    push_mobility_header,
)
from control.wire.mobility_options import AlternateCareOfAddress
from control.wire.neighbor import (
    NeighborAdvertisement,
    RouterAdvertisement,
    TargetLinkLayerAddress,
    check_neighbor_discovery,
)

__all__ = [
    "AttachHome",
    "Away",
    "BindingAcknowledged",
    "BindingLost",
    "BindingUpdateSent",
    "CareOfAddressConflict",
    "ConfigureCareOfAddress",
    "Home",
    "LinkFound",
    "LinkLost",
    "Location",
    "MobileNode",
    "MobileNodeConfiguration",
    "MobileNodeEffect",
    "MobileNodeEvent",
    "MobileNodeReason",
    "RecordBindingUpdate",
    "ReleaseCareOfAddress",
    "RouterFound",
    "SetTunnel",
    "SignallingDropped",
]

SECOND_NS = 1_000_000_000
RETRANS_TIMER_NS = SECOND_NS
"""RetransTimer of RFC 4861: between two solicitations, and between two unsolicited advertisements."""
MAX_NEIGHBOR_ADVERTISEMENT = 3
ROUTER_SOLICITATION_INTERVAL_NS = 4 * SECOND_NS
MAX_ROUTER_SOLICITATIONS = 3
ROUTER_SOLICITATION_DELAY_NS = 150_000_000
"""Before the first, and at random up to twice that (RFC 4861 section 6.3.7 allows 1 s): a router for mobile nodes
advertises by itself every 70 ms at most, and radvd puts that off by up to 500 ms when it is solicited."""
MAXIMUM_CARE_OF_ADDRESSES = 16
"""HA_MAX_CARE_OF_ADDRESSES: the one in use and previous ones."""
UNTIL_ANSWERED = 1 << 32
MAXIMUM_EVENTS = 65_536
"""Oldest events are forgotten beyond: a service that does not read them must not run out of memory."""


class MobileNode:
    """One home address on one interface."""

    def __init__(
        self, configuration: MobileNodeConfiguration, associations: AssociationLookup, draw: Callable[[int], bytes]
    ) -> None:
        self.location = Location.UNKNOWN
        self.counters: Counter[MobileNodeReason | MalformedReason] = Counter()
        self._configuration = configuration
        self._associations = associations
        self._draw = draw
        self._interface_identifier = configuration.effective_interface_identifier
        self._movement = Movement(configuration.home_prefix, configuration.home_agent_address)
        self._entry = BindingUpdateListEntry(configuration.home_address)
        self._link_is_up = True
        self._held: dict[IPv6Address, int | None] = {}
        "Care-of addresses, the one in use last, each with the end of its validity."
        self._conflicts: Counter[IPv6Network] = Counter()
        self._home_agent_mac: bytes | None = None
        self._solicitation = Repetition(RETRANS_TIMER_NS)
        self._advertisement = Repetition(RETRANS_TIMER_NS)
        self._router_solicitation = Repetition(ROUTER_SOLICITATION_INTERVAL_NS)
        self._effects: list[MobileNodeEffect] = []
        self._events: deque[MobileNodeEvent] = deque(maxlen=MAXIMUM_EVENTS)

    # ---- inputs ----

    def restore(self, sequence: int, bound_until_ns: int) -> None:
        """After a restart: the last sequence number used, and how long what was registered then may last."""
        self._entry.resume(sequence, bound_until_ns)

    def start(self, now: int) -> None:
        """Look for a router; the link is taken to be up until `link_lost`."""
        self._look_for_router(now)
        self.handle_timer(now)

    def link_lost(self, interface: str, now: int) -> None:
        """The carrier is gone: nothing is sent until it is back."""
        if interface != self._configuration.interface or not self._link_is_up:
            return
        self._link_is_up = False
        self._movement.link_changed()
        # What is said about the home link must not be said on another.
        self._solicitation.stop()
        self._advertisement.stop()
        self._report(LinkLost(interface))
        self.handle_timer(now)

    def link_found(self, interface: str, now: int) -> None:
        """The carrier is back, of whichever link: the next Router Advertisement tells."""
        if interface != self._configuration.interface or self._link_is_up:
            return
        self._link_is_up = True
        self._movement.link_changed()
        self._report(LinkFound(interface))
        self._look_for_router(now)
        self.handle_timer(now)

    def care_of_address_conflict(self, address: IPv6Address, now: int) -> None:
        """Duplicate address detection has failed for `address` (RFC 4862 section 5.4.5): go on with another one."""
        attachment = self._movement.attachment
        if address not in self._held:
            return
        self._report(CareOfAddressConflict(address))
        is_in_use = attachment is not None and address == self._care_of_address_on(attachment)
        self._release(address)
        if attachment is not None and is_in_use:
            self._conflicts[attachment.prefix] += 1
            self._arrive_abroad(attachment, now)
            self.handle_timer(now)

    def receive_frame(self, frame: bytes, interface: str, now: int) -> None:
        """Take in a frame that the data path handed over."""
        if interface != self._configuration.interface:
            self._drop(MobileNodeReason.NOT_FOR_US)
            return
        try:
            header, data = pull_ethernet(frame)
            if header.ether_type != EtherType.IPV6:
                self._drop(MobileNodeReason.NOT_IPV6)
                return
            packet = pull_packet(data)
            match packet.next_header:
                case NextHeader.ICMPV6:
                    self._receive_neighbor_discovery(packet, now)
                case NextHeader.ESP:
                    self._receive_esp(packet, now)
                case NextHeader.MOBILITY:
                    self._receive_unprotected(packet)
                case _:
                    self._drop(MobileNodeReason.NOT_FOR_US)
        except WireError as error:
            self._drop(error.reason)
        except EspError as error:
            self._drop(MobileNodeReason(f"esp_{error.reason}"))
        except PolicyError as error:
            self._drop(MobileNodeReason(error.reason.value))
        self.handle_timer(now)

    def handle_timer(self, now: int) -> None:
        """Do what is due."""
        for address, valid_until_ns in list(self._held.items()):
            if valid_until_ns is not None and valid_until_ns <= now:
                self._care_of_address_expired(address, now)
        self._handle_binding_expiry(now)
        if not self._link_is_up:
            return
        mac, interface = self._configuration.mac, self._configuration.interface
        if self._router_solicitation.take(now):
            self._emit(SendFrame(interface, router_solicitation(mac)))
        if self._solicitation.take(now):
            self._solicit_home_agent()
        if self._advertisement.take(now):
            for target in self._advertised_addresses():
                self._emit(SendFrame(interface, home_advertisement(mac, target)))
        if self._may_send():
            care_of_address = self._entry.care_of_address
            if self._entry.is_refresh_due(now) and care_of_address is not None:
                self._entry.begin(care_of_address, self._lifetime_units(care_of_address, now), now)
            if self._entry.is_update_due(now):
                self._send_binding_update(now)

    # ---- outputs ----

    def next_deadline(self) -> int | None:
        """When `handle_timer` is to be called at the latest."""
        deadlines = [self._entry.expires_ns, *self._held.values()]
        if self._link_is_up:
            deadlines += [
                self._router_solicitation.deadline_ns,
                self._solicitation.deadline_ns,
                self._advertisement.deadline_ns,
            ]
            if self._may_send():
                deadlines.append(self._entry.next_deadline())
        return min((deadline_ns for deadline_ns in deadlines if deadline_ns is not None), default=None)

    def take_effects(self) -> list[MobileNodeEffect]:
        """Hand over all effects asked for since the last call, in order."""
        effects, self._effects = self._effects, []
        return effects

    def next_event(self) -> MobileNodeEvent | None:
        """Hand over the oldest event."""
        return self._events.popleft() if self._events else None

    # ---- neighbor discovery ----

    def _receive_neighbor_discovery(self, packet: IPv6Packet, now: int) -> None:
        message = pull_icmpv6(packet.payload, packet.source, packet.destination)
        match message:
            case RouterAdvertisement():
                check_neighbor_discovery(packet, message)
                self._receive_router_advertisement(message, packet.source, now)
            case NeighborAdvertisement():
                check_neighbor_discovery(packet, message)
                self._receive_neighbor_advertisement(message)
            case _:
                self._count(MobileNodeReason.NEIGHBOR_DISCOVERY_IGNORED)

    def _receive_router_advertisement(self, advertisement: RouterAdvertisement, router: IPv6Address, now: int) -> None:
        observation = self._movement.observe(advertisement, router, now)
        attachment = self._movement.attachment
        if attachment is not None and attachment.home_agent_mac is not None:
            self._home_agent_found(attachment.home_agent_mac)
        if attachment is None or observation is Observation.IGNORED:
            self._count(MobileNodeReason.ROUTER_NOT_USED)
            return
        self._count(MobileNodeReason.ROUTER_ADVERTISEMENT)
        self._router_solicitation.stop()
        if observation is Observation.CONFIRMED:
            self._hold(attachment, now)
            return
        self._report(RouterFound(attachment.router, attachment.prefix, attachment.is_home))
        if observation is Observation.ROUTER_CHANGED:
            self._change_router(attachment, now)
        elif attachment.is_home:
            self._arrive_home(attachment, now)
        else:
            self._arrive_abroad(attachment, now)

    def _receive_neighbor_advertisement(self, advertisement: NeighborAdvertisement) -> None:
        configuration = self._configuration
        mac = next((each.address for each in advertisement.options if isinstance(each, TargetLinkLayerAddress)), None)
        # While the binding lasts, the home agent answers for the home address as well (RFC 6275 section 11.5.5).
        is_home_agents = advertisement.target in (configuration.home_agent_address, configuration.home_address)
        if self.location is not Location.RETURNING or not is_home_agents or mac is None or mac == configuration.mac:
            self._count(MobileNodeReason.NEIGHBOR_DISCOVERY_IGNORED)
            return
        # Its own address is the better witness: any duplicate of the home address would answer for that one.
        if self._home_agent_mac is None or advertisement.target == configuration.home_agent_address:
            self._count(MobileNodeReason.HOME_AGENT_ADVERTISEMENT)
            self._home_agent_found(mac)

    def _home_agent_found(self, mac: bytes) -> None:
        self._home_agent_mac = mac
        self._solicitation.stop()

    def _solicit_home_agent(self) -> None:
        """Ask for both of the addresses that the home agent answers for: RFC 6275 section 11.5.5 names the first."""
        configuration = self._configuration
        for target in (configuration.home_address, configuration.home_agent_address):
            self._emit(SendFrame(configuration.interface, returning_solicitation(configuration.mac, target)))

    # ---- movement ----

    def _arrive_abroad(self, attachment: Attachment, now: int) -> None:
        self._solicitation.stop()
        self._advertisement.stop()
        care_of_address = self._care_of_address_on(attachment)
        # Last, as the one in use: what is released for lack of room is the oldest.
        self._held.pop(care_of_address, None)
        while len(self._held) >= MAXIMUM_CARE_OF_ADDRESSES:
            self._release(next(iter(self._held)))
        self._hold(attachment, now)
        self._configure(attachment)
        self._emit(SetTunnel(care_of_address))
        entry = self._entry
        if entry.is_bound(now) and entry.registered_care_of_address == care_of_address == entry.care_of_address:
            # The same link after a loss of its carrier: what was acknowledged goes on.
            self._locate_away(care_of_address)
            return
        self.location = Location.REGISTERING
        entry.begin(care_of_address, self._lifetime_units(care_of_address, now), now)

    def _arrive_home(self, attachment: Attachment, now: int) -> None:
        self._home_agent_mac = attachment.home_agent_mac
        if not self._entry.may_be_bound(now):
            self._settle_at_home(attachment, now)
            return
        # No duplicate address detection: the home agent would defend the address (RFC 6275 section 11.5.5).
        self.location = Location.RETURNING
        self._entry.begin(self._configuration.home_address, 0, now)
        if self._home_agent_mac is None:
            # As often as needed: without an answer there is no way back.
            self._solicitation.start(UNTIL_ANSWERED, now)

    def _settle_at_home(self, attachment: Attachment, now: int) -> None:
        """The home address is ours to use on the home link again."""
        self.location = Location.HOME
        self._solicitation.stop()
        self._entry.forget()
        self._emit(SetTunnel(None))
        for address in list(self._held):
            self._release(address)
        self._emit(AttachHome(self._configuration.interface, attachment.default_router, attachment.router_mac))
        self._advertisement.start(MAX_NEIGHBOR_ADVERTISEMENT, now)
        self._report(Home())

    def _look_for_router(self, now: int) -> None:
        delay_ns = ROUTER_SOLICITATION_DELAY_NS * (256 + self._draw(1)[0]) // 256
        self._router_solicitation.start(MAX_ROUTER_SOLICITATIONS, now + delay_ns)

    def _change_router(self, attachment: Attachment, now: int) -> None:
        self._hold(attachment, now)
        if not attachment.is_home:
            self._configure(attachment)
        elif self.location is Location.HOME:
            self._emit(AttachHome(self._configuration.interface, attachment.default_router, attachment.router_mac))

    def _configure(self, attachment: Attachment) -> None:
        self._emit(
            ConfigureCareOfAddress(
                self._configuration.interface,
                self._care_of_address_on(attachment),
                attachment.prefix.prefixlen,
                attachment.router,
                attachment.router_mac,
                attachment.valid_lifetime_s,
            )
        )

    def _locate_away(self, care_of_address: IPv6Address) -> None:
        if self.location is not Location.AWAY:
            self.location = Location.AWAY
            self._report(Away(care_of_address))

    def _care_of_address_on(self, attachment: Attachment) -> IPv6Address:
        """The prefix with the interface identifier, or with another one for each conflict that there was."""
        identifier = self._interface_identifier
        if conflicts := self._conflicts[attachment.prefix]:
            seed = attachment.prefix.network_address.packed + self._configuration.mac + bytes((conflicts & 0xFF,))
            identifier = sha256(seed).digest()[:8]
        return IPv6Address(attachment.prefix.network_address.packed[:8] + identifier)

    def _hold(self, attachment: Attachment, now: int) -> None:
        """The care-of address is good for as long as the advertisement says."""
        if attachment.is_home:
            return
        valid_s = attachment.valid_lifetime_s
        self._held[self._care_of_address_on(attachment)] = None if valid_s is None else now + valid_s * SECOND_NS

    def _release(self, address: IPv6Address) -> None:
        del self._held[address]
        self._emit(ReleaseCareOfAddress(address))

    def _care_of_address_expired(self, address: IPv6Address, now: int) -> None:
        self._release(address)
        attachment = self._movement.attachment
        if attachment is not None and not attachment.is_home and address == self._care_of_address_on(attachment):
            self._movement.leave()
            self.location = Location.UNKNOWN
            self._look_for_router(now)

    # ---- binding ----

    def _may_send(self) -> bool:
        """Whether there is a way for a Binding Update."""
        attachment = self._movement.attachment
        if not self._link_is_up or attachment is None or not self._movement.is_certain:
            return False
        if self._entry.is_deregistering:
            return attachment.is_home and self._home_agent_mac is not None
        return not attachment.is_home

    def _lifetime_units(self, care_of_address: IPv6Address, now: int) -> int:
        """What to ask for: no longer than the care-of address is valid (RFC 6275 section 11.7.1), and never 0."""
        lifetime_units = self._configuration.lifetime_s * SECOND_NS // UNIT_NS
        valid_until_ns = self._held.get(care_of_address)
        if valid_until_ns is not None:
            lifetime_units = min(lifetime_units, (valid_until_ns - now) // UNIT_NS)
        return max(lifetime_units, 1)

    def _send_binding_update(self, now: int) -> None:
        configuration, entry = self._configuration, self._entry
        association = self._associations.outbound(configuration.home_address, Purpose.BINDING_UPDATE)
        if association is None or entry.care_of_address is None:
            self._count(MobileNodeReason.NO_ASSOCIATION)
            entry.abandon()
            return
        sequence = entry.transmit(now)
        packet = self._binding_update(sequence, entry.care_of_address, association)
        if packet is None:
            entry.abandon()
            return
        if entry.is_deregistering and self._home_agent_mac is not None:
            # Past the kernel, which would solicit for the home agent with the home address as source.
            header = EthernetHeader(self._home_agent_mac, configuration.mac, EtherType.IPV6)
            self._emit(SendFrame(configuration.interface, push_ethernet(header, packet)))
        else:
            self._emit(SendPacket(packet))
        self._record(now)
        self._report(BindingUpdateSent(sequence, entry.care_of_address, entry.lifetime_units))

    def _binding_update(
        self, sequence: int, care_of_address: IPv6Address, association: SecurityAssociation
    ) -> bytes | None:
        """The packet of RFC 6275 section 11.7.1, or of 11.5.5 at home; None when the association is used up."""
        configuration = self._configuration
        home_address, home_agent_address = configuration.home_address, configuration.home_agent_address
        update = BindingUpdate(
            sequence=sequence,
            acknowledge=True,
            home_registration=True,
            link_local_compatible=configuration.is_link_local_compatible,
            key_management_mobility=False,
            lifetime_units=self._entry.lifetime_units,
            # Always: ESP in transport mode leaves the packet's source unprotected.
            options=(AlternateCareOfAddress(care_of_address),),
        )
        if (through := association.reservation_due()) is not None:
            self._emit(ReserveSequenceNumbers(association.spi, through))
            association.reserve(through)
        message = push_mobility_header(update, home_address, home_agent_address)
        try:
            payload = seal_esp(association, NextHeader.MOBILITY, message, self._draw)
        except EspError as error:
            self._count(MobileNodeReason(f"esp_{error.reason}"))
            return None
        is_at_home = care_of_address == home_address
        return push_packet(
            IPv6Packet(
                source=care_of_address,
                destination=home_agent_address,
                next_header=NextHeader.ESP,
                payload=payload,
                extension_headers=() if is_at_home else (home_address_destination_options(home_address),),
            )
        )

    def _receive_esp(self, packet: IPv6Packet, now: int) -> None:
        configuration = self._configuration
        if packet.source != configuration.home_agent_address or packet.home_address_option is not None:
            self._drop(MobileNodeReason.WRONG_SOURCE)
            return
        # RFC 6275 section 11.3.3: a type 2 routing header names our home address, and leads to a care-of address.
        # At home there is none (section 9.5.4).
        if packet.effective_destination != configuration.home_address or (
            packet.type_2_routing_header is not None and packet.destination not in self._held
        ):
            self._drop(MobileNodeReason.WRONG_HOME_ADDRESS)
            return
        association = self._associations.by_spi(pull_spi(packet.payload))
        if association is None:
            self._drop(MobileNodeReason.UNKNOWN_SPI)
            return
        next_header, payload = open_esp(association, packet.payload)
        check_next_header(next_header)
        message = pull_mobility_header(payload, packet.effective_source, packet.effective_destination)
        check_message(association, configuration.home_address, message.type)
        if isinstance(message, BindingAcknowledgement):
            self._receive_acknowledgement(message, now)

    def _receive_unprotected(self, packet: IPv6Packet) -> None:
        """Nothing comes of it: what the home agent sends is protected, and there is no route optimization."""
        message = pull_mobility_header(packet.payload, packet.effective_source, packet.effective_destination)
        check_message(None, packet.effective_destination, message.type)
        self._drop(MobileNodeReason.MOBILITY_MESSAGE_NOT_SERVED)

    def _receive_acknowledgement(self, acknowledgement: BindingAcknowledgement, now: int) -> None:
        entry = self._entry
        was_deregistering, care_of_address = entry.is_deregistering, entry.care_of_address
        advice = acknowledgement.binding_refresh_advice
        answer = entry.acknowledge(
            acknowledgement.sequence,
            acknowledgement.status,
            acknowledgement.lifetime_units,
            now,
            refresh_units=None if advice is None else advice.interval_units,
        )
        if answer is Answer.NOT_OUTSTANDING:
            self._drop(MobileNodeReason.NOT_OUTSTANDING)
            return
        self._report(
            BindingAcknowledged(
                acknowledgement.status,
                acknowledgement.sequence,
                acknowledgement.lifetime_units,
                None if was_deregistering else care_of_address,
            )
        )
        if answer is Answer.OUT_OF_WINDOW:
            self._count(MobileNodeReason.SEQUENCE_OUT_OF_WINDOW)
            return
        self._count(MobileNodeReason.ACKNOWLEDGED if answer is Answer.ACCEPTED else MobileNodeReason.REFUSED)
        attachment = self._movement.attachment
        if was_deregistering:
            # 133: there was nothing to take back.
            is_free = acknowledgement.status == BindingStatus.NOT_HOME_AGENT_FOR_THIS_MOBILE_NODE
            if attachment is not None and (answer is Answer.ACCEPTED or is_free):
                self._settle_at_home(attachment, now)
                self._record(now)
        elif answer is Answer.ACCEPTED and care_of_address is not None:
            self._record(now)
            self._locate_away(care_of_address)

    def _handle_binding_expiry(self, now: int) -> None:
        entry = self._entry
        if entry.expires_ns is not None and entry.expires_ns <= now:
            entry.expire()
            self._report(BindingLost())
            if self.location is Location.AWAY:
                self.location = Location.REGISTERING
        attachment = self._movement.attachment
        if self.location is Location.RETURNING and attachment is not None and not entry.may_be_bound(now):
            # Nothing is left to take back: the home agent's lifetime ends no later than ours.
            self._settle_at_home(attachment, now)

    def _record(self, now: int) -> None:
        entry = self._entry
        care_of_address = entry.care_of_address or entry.home_address
        bound_for_s = entry.may_be_bound_for_s(now)
        self._emit(RecordBindingUpdate(entry.home_address, care_of_address, entry.sequence, bound_for_s))

    # ---- small things ----

    def _advertised_addresses(self) -> tuple[IPv6Address, ...]:
        home_address = self._configuration.home_address
        if self._configuration.is_link_local_compatible:
            return (home_address, link_local_address(home_address))
        return (home_address,)

    def _emit(self, effect: MobileNodeEffect) -> None:
        self._effects.append(effect)

    def _report(self, event: MobileNodeEvent) -> None:
        self._events.append(event)

    def _count(self, reason: MobileNodeReason | MalformedReason) -> None:
        self.counters[reason] += 1

    def _drop(self, reason: MobileNodeReason | MalformedReason) -> None:
        self.counters[reason] += 1
        self._events.append(SignallingDropped(reason))
