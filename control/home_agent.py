# SPDX-License-Identifier: Apache-2.0
"""The home agent without its sockets: frames and a time go in, effects and events come out.

A Binding Update's way can be read from `receive_frame` downwards: IPv6 and extension headers, security association by
SPI, ESP, whether that association may speak for this home address, Mobility Header, registration machine, effects
(RFC 6275 sections 5.1, 9.2, 9.3, 9.5 and 10.3). No state is made, looked up or advanced before the ICV holds.

Forwards nothing, answers no solicitation (the data path does), and serves no correspondent.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv6Address

from control.binding.cache import BindingCache, BindingCacheEntry
from control.binding.care_of_address import leads_back
from control.binding.configuration import HomeAgentConfiguration
from control.binding.effects import (
    Effect,
    EffectResult,
    InstallBinding,
    ReserveSequenceNumbers,
    SendFrame,
    SendPacket,
)
from control.binding.events import DadConflict, Event, SignallingReason
from control.binding.outbox import Outbox
from control.binding.rate_limit import RateLimit
from control.binding.registration import RegistrationMachine, RegistrationState, Trace
from control.binding.request import Acknowledgement, BindingRequest, ReplyPath
from control.ipsec.association import AssociationLookup, Purpose, SecurityAssociation
from control.ipsec.esp import EspError, open_esp, pull_spi, seal_esp
from control.ipsec.policy import PolicyError, check_message, check_next_header
from control.wire.errors import WireError
from control.wire.ethernet import EthernetHeader, EtherType, pull_ethernet, push_ethernet
from control.wire.icmpv6 import Icmpv6Type, ParameterProblem, pull_icmpv6, push_icmpv6
from control.wire.ipv6 import (
    IPV6_HEADER_LENGTH,
    UNSPECIFIED_ADDRESS,
    IPv6Packet,
    NextHeader,
    Type2RoutingHeader,
    UnknownRoutingHeader,
    check_unrecognized_options,
    is_unicast_routable,
    pull_packet,
    push_packet,
)
from control.wire.mobility import (
    BindingAcknowledgement,
    BindingError,
    BindingErrorStatus,
    BindingUpdate,
    MobilityMessage,
    UnknownMobilityMessage,
    pull_mobility_header,
    push_mobility_header,
)
from control.wire.mobility_options import BindingRefreshAdvice
from control.wire.neighbor import NeighborAdvertisement, NeighborSolicitation, check_neighbor_discovery

__all__ = ["HomeAgent", "HomeAgentConfiguration"]

_NEIGHBOR_DISCOVERY = {
    bytes((message_type,))
    for message_type in (
        Icmpv6Type.ROUTER_SOLICITATION,
        Icmpv6Type.ROUTER_ADVERTISEMENT,
        Icmpv6Type.NEIGHBOR_SOLICITATION,
        Icmpv6Type.NEIGHBOR_ADVERTISEMENT,
    )
}
"""What an ICMPv6 message of Neighbor Discovery begins with."""


class HomeAgent:
    """One home agent: any number of home links, and the bindings of their mobile nodes."""

    def __init__(
        self,
        configuration: HomeAgentConfiguration,
        associations: AssociationLookup,
        draw: Callable[[int], bytes],
        trace: Trace | None = None,
    ) -> None:
        """`draw(n)` returns n unpredictable octets; `trace` is told of every step of every registration."""
        self._associations = associations
        self._draw = draw
        self._outbox = Outbox()
        self._machine = RegistrationMachine(configuration, self._outbox, self._acknowledge, trace)
        self._configuration = configuration
        self._errors = RateLimit(configuration.errors_per_s)
        # Each address by itself, so that 100,000 bindings share one object instead of keeping one for each packet.
        self._own_addresses = {link.home_agent_address: link.home_agent_address for link in configuration.home_links}
        self._own_macs = {link.interface: link.mac for link in configuration.home_links if not link.is_virtual}

    # ---- the face ----

    @property
    def bindings(self) -> BindingCache:
        """All bindings in force; for reading."""
        return self._machine.cache

    @property
    def counters(self) -> Counter[SignallingReason]:
        """How often what came of a frame, a registration or a binding."""
        return self._outbox.counters

    def state(self, home_address: IPv6Address) -> RegistrationState:
        """Where `home_address` stands."""
        return self._machine.state(home_address)

    def take_effects(self) -> list[Effect]:
        """What the service has to do, in this order."""
        return self._outbox.take_effects()

    def next_event(self) -> Event | None:
        """The oldest thing to tell that was not told yet."""
        return self._outbox.next_event()

    def next_deadline(self) -> int | None:
        """When to call `handle_timer`, by CLOCK_MONOTONIC in ns."""
        return self._machine.next_deadline()

    def handle_timer(self, now: int) -> None:
        """Do what is due; harmless when nothing is."""
        self._machine.handle_timer(now)

    def effect_done(self, effect: Effect, result: EffectResult, now: int) -> None:
        """The service has executed `effect`, the very object that it took."""
        if isinstance(effect, InstallBinding):
            self._machine.written(effect.entry, result, now)

    def restore(
        self, entries: Iterable[BindingCacheEntry], remembered_sequences: Mapping[IPv6Address, int], now: int
    ) -> None:
        """Take up bindings and sequence numbers from before a restart; what has expired since is removed at once."""
        for entry in entries:
            self._machine.restore(entry)
        for home_address, sequence in remembered_sequences.items():
            self._machine.remember_sequence(home_address, sequence)
        self._machine.handle_timer(now)

    # ---- a frame's way: each step returns why the frame ends there, or None where it has been taken in ----

    def receive_frame(self, frame: bytes, interface: str, now: int) -> None:
        """Take in one Ethernet frame that came by `interface`."""
        try:
            reason = self._receive(frame, interface, now)
        except WireError as error:
            reason = SignallingReason(error.reason.value)
        except EspError as error:
            reason = SignallingReason(f"esp_{error.reason.value}")
        except PolicyError as error:
            reason = SignallingReason(error.reason.value)
        if reason is not None:
            self._outbox.drop(reason, interface)

    def _receive(self, frame: bytes, interface: str, now: int) -> SignallingReason | None:
        header, data = pull_ethernet(frame)
        if header.ether_type != EtherType.IPV6:
            return SignallingReason.NOT_IPV6
        if header.source in self._own_macs.values():
            # A solicitation of ours that a switch sends back is no other node's.
            return SignallingReason.OWN_FRAME
        try:
            return self._receive_packet(pull_packet(data), header, interface, now)
        except WireError as error:
            self._report_problem(error, data, header, interface, now)
            raise

    def _receive_packet(
        self, packet: IPv6Packet, header: EthernetHeader, interface: str, now: int
    ) -> SignallingReason | None:
        if _is_neighbor_discovery(packet):
            return self._receive_neighbor_discovery(packet, header, interface, now)
        own_address = self._own_addresses.get(packet.destination)
        if own_address is None:
            return SignallingReason.NOT_FOR_US
        if _has_further_destination(packet):
            return SignallingReason.ROUTING_HEADER
        check_unrecognized_options(packet)
        path = self._reply_path(own_address, packet.source, header, interface)
        match packet.next_header:
            case NextHeader.ESP:
                return self._receive_protected(packet, path, now)
            case NextHeader.MOBILITY:
                return self._receive_unprotected(packet, path, now)
            case NextHeader.FRAGMENT:
                return SignallingReason.FRAGMENT
        if packet.home_address_option is not None:
            return self._receive_home_address_option(packet.home_address_option, path, now)
        return SignallingReason.NOT_SIGNALLING

    def _receive_protected(self, packet: IPv6Packet, path: ReplyPath, now: int) -> SignallingReason | None:
        association = self._associations.by_spi(pull_spi(packet.payload))
        if association is None:
            return SignallingReason.UNKNOWN_SPI
        next_header, payload = open_esp(association, packet.payload)
        check_next_header(next_header)
        home_address = packet.effective_source
        message = _pull_mobility_header(payload, home_address, packet.destination, None)
        # RFC 6275 section 5.1: one mobile node's association must not speak for another's home address.
        check_message(association, home_address, message.type)
        if not isinstance(message, BindingUpdate):
            return SignallingReason.MOBILITY_MESSAGE_NOT_SERVED
        return self._receive_binding_update(message, association, path, now)

    def _receive_binding_update(
        self, update: BindingUpdate, association: SecurityAssociation, path: ReplyPath, now: int
    ) -> SignallingReason | None:
        """RFC 6275 section 9.5.1: what fails these tests is dropped silently; all else is answered."""
        home_address = association.home_address
        care_of_address = update.alternate_care_of_address or path.destination
        if update.home_registration and update.nonce_indices is not None:
            return SignallingReason.NONCE_INDICES
        if not is_unicast_routable(home_address):
            return SignallingReason.HOME_ADDRESS_NOT_ROUTABLE
        if home_address in self._own_addresses:
            return SignallingReason.HOME_ADDRESS_IS_HOME_AGENT
        if not is_unicast_routable(care_of_address):
            return SignallingReason.CARE_OF_ADDRESS_NOT_ROUTABLE
        if care_of_address != home_address and leads_back(care_of_address, self._configuration, self.bindings):
            return SignallingReason.CARE_OF_ADDRESS_LOOPS
        if self._associations.outbound(home_address, Purpose.BINDING_ACKNOWLEDGEMENT) is None:
            return SignallingReason.NO_ACKNOWLEDGEMENT_ASSOCIATION
        request = BindingRequest(
            home_address=home_address,
            care_of_address=care_of_address,
            sequence=update.sequence,
            lifetime_units=update.lifetime_units,
            is_home_registration=update.home_registration,
            link_local_compatible=update.link_local_compatible,
            sequence_is_only_guard=not association.anti_replay,
            reply_path=path,
        )
        self._machine.receive(request, now)
        return None

    def _receive_unprotected(self, packet: IPv6Packet, path: ReplyPath, now: int) -> SignallingReason | None:
        """Nothing but an error can come of it: a home registration must be protected (RFC 6275 section 5.1)."""
        message = _pull_mobility_header(
            packet.payload, packet.effective_source, packet.destination, packet.upper_layer_offset
        )
        if isinstance(message, UnknownMobilityMessage):
            return self._refuse_mobility_type(packet, path, now)
        check_message(None, packet.effective_source, message.type)
        # A Binding Error is never answered, nor a test init with a Home Address option (RFC 6275 sections 9.3, 9.4).
        return SignallingReason.MOBILITY_MESSAGE_NOT_SERVED

    def _receive_home_address_option(
        self, home_address: IPv6Address, path: ReplyPath, now: int
    ) -> SignallingReason | None:
        """RFC 6275 section 9.3.1: the option needs a binding of that home address at the packet's source."""
        if not is_unicast_routable(home_address):
            return SignallingReason.HOME_ADDRESS_NOT_ROUTABLE
        entry = self.bindings.get(home_address)
        if entry is not None and entry.care_of_address == path.destination and now < entry.expires_ns:
            return SignallingReason.HOME_ADDRESS_OPTION_NOT_SERVED
        status = BindingErrorStatus.UNKNOWN_BINDING_FOR_HOME_ADDRESS_OPTION
        self._send_binding_error(BindingError(status, home_address), path, now)
        return SignallingReason.HOME_ADDRESS_WITHOUT_BINDING

    def _refuse_mobility_type(self, packet: IPv6Packet, path: ReplyPath, now: int) -> SignallingReason:
        status = BindingErrorStatus.UNRECOGNIZED_MOBILITY_HEADER_TYPE
        home_address = packet.home_address_option or UNSPECIFIED_ADDRESS
        self._send_binding_error(BindingError(status, home_address), path, now)
        return SignallingReason.UNKNOWN_MOBILITY_TYPE

    def _receive_neighbor_discovery(
        self, packet: IPv6Packet, header: EthernetHeader, interface: str, now: int
    ) -> SignallingReason | None:
        """RFC 4862 section 5.4.3 and 5.4.4: who else has, or wants, an address that is tentative here?"""
        message = pull_icmpv6(packet.payload, packet.source, packet.destination)
        if not isinstance(message, NeighborSolicitation | NeighborAdvertisement):
            return SignallingReason.NEIGHBOR_DISCOVERY_IGNORED
        check_neighbor_discovery(packet, message)
        if isinstance(message, NeighborSolicitation) and packet.source != UNSPECIFIED_ADDRESS:
            # Whoever solicits from an address of its own only looks for the target.
            return SignallingReason.NEIGHBOR_DISCOVERY_IGNORED
        home_addresses = self._machine.detection.home_addresses_of(message.target, interface)
        if not home_addresses:
            return SignallingReason.NEIGHBOR_DISCOVERY_IGNORED
        self._outbox.count(SignallingReason.DETECTION_CONFLICT)
        for home_address in home_addresses:
            self._outbox.report(DadConflict(message.target, home_address, interface, header.source))
            self._machine.address_in_use(home_address, now)
        return None

    # ---- what leaves ----

    def _acknowledge(self, acknowledgement: Acknowledgement) -> None:
        """Seal a Binding Acknowledgement, a refusal too, and send it to where the Binding Update came from."""
        request = acknowledgement.request
        path = request.reply_path
        association = self._associations.outbound(request.home_address, Purpose.BINDING_ACKNOWLEDGEMENT)
        if association is None:
            self._outbox.drop(SignallingReason.NO_ACKNOWLEDGEMENT_ASSOCIATION, path.interface)
            return
        interval_units = acknowledgement.refresh_interval_units
        message = BindingAcknowledgement(
            status=acknowledgement.status,
            key_management_mobility=False,
            sequence=acknowledgement.sequence,
            lifetime_units=acknowledgement.lifetime_units,
            options=() if interval_units is None else (BindingRefreshAdvice(interval_units),),
        )
        payload = push_mobility_header(message, path.home_agent_address, request.home_address)
        through = association.reservation_due()
        if through is not None:
            self._outbox.emit(ReserveSequenceNumbers(association.spi, through))
            association.reserve(through)
        try:
            esp = seal_esp(association, NextHeader.MOBILITY, payload, self._draw)
        except EspError as error:
            self._outbox.drop(SignallingReason(f"esp_{error.reason.value}"), path.interface)
            return
        is_at_home = path.destination == request.home_address
        packet = IPv6Packet(
            source=path.home_agent_address,
            destination=path.destination,
            next_header=NextHeader.ESP,
            payload=esp,
            extension_headers=() if is_at_home else (Type2RoutingHeader(request.home_address),),
        )
        self._send(packet, path, on_link=is_at_home)

    def _send_binding_error(self, message: BindingError, path: ReplyPath, now: int) -> None:
        """RFC 6275 section 9.3.3: to the packet's source, whatever binding there is, and not too often."""
        if not self._may_send_error(path.destination, now):
            return
        payload = push_mobility_header(message, path.home_agent_address, path.destination)
        packet = IPv6Packet(path.home_agent_address, path.destination, NextHeader.MOBILITY, payload)
        self._outbox.count(SignallingReason.BINDING_ERROR_SENT)
        self._send(packet, path)

    def _report_problem(self, error: WireError, data: bytes, header: EthernetHeader, interface: str, now: int) -> None:
        """Send the ICMPv6 Parameter Problem that the fault in `data`, an IPv6 packet, asks for."""
        if error.pointer is None:
            return
        source, destination = IPv6Address(data[8:24]), IPv6Address(data[24:40])
        own_address = self._own_addresses.get(destination)
        if own_address is None or not self._may_send_error(source, now):
            return
        path = self._reply_path(own_address, source, header, interface)
        # Without the padding of a short frame.
        length = IPV6_HEADER_LENGTH + int.from_bytes(data[4:6])
        message = ParameterProblem.quoting(error.code, error.pointer, data[:length])
        payload = push_icmpv6(message, own_address, source)
        self._outbox.count(SignallingReason.PARAMETER_PROBLEM_SENT)
        self._send(IPv6Packet(own_address, source, NextHeader.ICMPV6, payload), path)

    def _may_send_error(self, destination: IPv6Address, now: int) -> bool:
        if destination.is_multicast or destination.is_unspecified:
            return False
        if self._errors.allow(now):
            return True
        self._outbox.count(SignallingReason.ERROR_RATE_LIMITED)
        return False

    def _reply_path(
        self, own_address: IPv6Address, source: IPv6Address, header: EthernetHeader, interface: str
    ) -> ReplyPath:
        own_mac = self._own_macs.get(interface, header.destination)
        return ReplyPath(own_address, source, interface, header.source, own_mac, header.vlan_tags)

    def _send(self, packet: IPv6Packet, path: ReplyPath, on_link: bool = False) -> None:
        """By the kernel's routes, or as a frame to where the question came from.

        A mobile node that is at home is answered at its MAC address: routes and neighbor caches may still say that it
        is away (RFC 6275 section 10.3.2). A link-local address says nothing without its link.
        """
        data = push_packet(packet)
        if not on_link and not packet.destination.is_link_local:
            self._outbox.emit(SendPacket(data))
            return
        header = EthernetHeader(path.link_layer_address, path.own_link_layer_address, EtherType.IPV6, path.vlan_tags)
        self._outbox.emit(SendFrame(path.interface, push_ethernet(header, data)))


def _is_neighbor_discovery(packet: IPv6Packet) -> bool:
    return (
        packet.next_header == NextHeader.ICMPV6
        and packet.payload[:1] in _NEIGHBOR_DISCOVERY
        and packet.home_address_option is None
    )


def _has_further_destination(packet: IPv6Packet) -> bool:
    """A home agent is no mobile node: it forwards nothing by a routing header (RFC 6275 section 8.2)."""
    return any(
        isinstance(header, Type2RoutingHeader)
        or (isinstance(header, UnknownRoutingHeader) and header.segments_left > 0)
        for header in packet.extension_headers
    )


def _pull_mobility_header(
    payload: bytes, source: IPv6Address, destination: IPv6Address, offset: int | None
) -> MobilityMessage:
    """The message, or an error whose pointer counts from the IPv6 header.

    `offset` is where the payload begins in the packet; None where ESP hid it, so that no pointer could be right.
    """
    try:
        return pull_mobility_header(payload, source, destination)
    except WireError as error:
        pointer = None if error.pointer is None or offset is None else offset + error.pointer
        raise WireError(error.reason, error.detail, pointer=pointer, code=error.code) from error
