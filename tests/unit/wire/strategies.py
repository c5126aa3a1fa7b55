# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for all that `control.wire` can say."""

from __future__ import annotations

from ipaddress import IPv6Address

from hypothesis import strategies as st

from control.wire.discovery import (
    HomeAgentAddressDiscoveryReply,
    HomeAgentAddressDiscoveryRequest,
    MobilePrefixAdvertisement,
    MobilePrefixSolicitation,
)
from control.wire.ethernet import EthernetHeader
from control.wire.icmpv6 import Icmpv6Message, ParameterProblem, UnknownIcmpv6Message
from control.wire.ipv6 import (
    DestinationOptions,
    ExtensionHeader,
    FragmentHeader,
    HomeAddressOption,
    HopByHopOptions,
    IPv6Packet,
    Type2RoutingHeader,
    UnknownOption,
    UnknownRoutingHeader,
)
from control.wire.mobility import (
    BindingAcknowledgement,
    BindingError,
    BindingRefreshRequest,
    BindingUpdate,
    CareOfTest,
    CareOfTestInit,
    HomeTest,
    HomeTestInit,
    MobilityMessage,
    UnknownMobilityMessage,
)
from control.wire.mobility_options import (
    AlternateCareOfAddress,
    BindingAuthorizationData,
    BindingRefreshAdvice,
    MobilityOption,
    NonceIndices,
    UnknownMobilityOption,
)
from control.wire.neighbor import (
    AdvertisementInterval,
    HomeAgentInformation,
    MaximumTransmissionUnit,
    NeighborAdvertisement,
    NeighborSolicitation,
    PrefixInformation,
    RouterAdvertisement,
    RouterPreference,
    RouterSolicitation,
    SourceLinkLayerAddress,
    TargetLinkLayerAddress,
    UnknownNeighborOption,
)
from control.wire.options import PadN, PadOne

uint8 = st.integers(0, 0xFF)
uint16 = st.integers(0, 0xFFFF)
uint32 = st.integers(0, 0xFFFF_FFFF)
addresses = st.binary(min_size=16, max_size=16).map(IPv6Address)
macs = st.binary(min_size=6, max_size=6)
eight_octets = st.binary(min_size=8, max_size=8)

paddings: st.SearchStrategy[PadOne | PadN] = st.one_of(
    st.just(PadOne()), st.builds(PadN, st.binary(max_size=7) | st.integers(0, 7).map(bytes))
)

# ---- Ethernet and IPv6 ----

ethernet_headers = st.builds(
    EthernetHeader,
    macs,
    macs,
    uint16.filter(lambda ether_type: ether_type not in (0x8100, 0x88A8)),
    st.lists(st.builds(int.__or__, st.sampled_from([0x8100_0000, 0x88A8_0000]), uint16), max_size=2).map(tuple),
)

unknown_options = st.builds(UnknownOption, st.integers(2, 255).filter(lambda kind: kind != 0xC9), st.binary(max_size=9))
hop_by_hop_options = st.builds(HopByHopOptions, st.lists(paddings | unknown_options, max_size=4).map(tuple))
unknown_routing_headers = st.builds(
    UnknownRoutingHeader,
    uint8.filter(lambda routing_type: routing_type != 2),
    uint8,
    st.integers(0, 3).flatmap(lambda units: st.binary(min_size=4 + 8 * units, max_size=4 + 8 * units)),
)


@st.composite
def packets(draw: st.DrawFn) -> IPv6Packet:
    """Valid packets: at most one Home Address option, one type 2 routing header, hop-by-hop options in front."""
    headers: list[ExtensionHeader] = draw(
        st.lists(
            st.builds(DestinationOptions, st.lists(paddings | unknown_options, max_size=4).map(tuple))
            | unknown_routing_headers
            | st.builds(FragmentHeader, uint32),
            max_size=4,
        )
    )
    if draw(st.booleans()):
        option = HomeAddressOption(draw(addresses))
        around = draw(st.lists(paddings | unknown_options, max_size=2))
        headers.insert(draw(st.integers(0, len(headers))), DestinationOptions((*around, option, *around)))
    if draw(st.booleans()):
        headers.insert(draw(st.integers(0, len(headers))), Type2RoutingHeader(draw(addresses)))
    first = (draw(hop_by_hop_options),) if draw(st.booleans()) else ()
    return IPv6Packet(
        source=draw(addresses),
        destination=draw(addresses),
        next_header=draw(uint8.filter(lambda number: number not in (0, 43, 44, 60))),
        payload=draw(st.binary(max_size=64)),
        extension_headers=(*first, *headers),
        traffic_class=draw(uint8),
        flow_label=draw(st.integers(0, 0xFFFFF)),
        hop_limit=draw(uint8),
    )


# ---- Mobility Header ----

free_mobility_options: st.SearchStrategy[MobilityOption] = st.one_of(
    paddings,
    st.builds(BindingRefreshAdvice, uint16),
    st.builds(AlternateCareOfAddress, addresses),
    st.builds(NonceIndices, uint16, uint16),
    st.builds(UnknownMobilityOption, st.integers(6, 255), st.binary(max_size=9)),
)


@st.composite
def mobility_options(draw: st.DrawFn) -> tuple[MobilityOption, ...]:
    """Options in any order, an authenticator last if at all."""
    options = draw(st.lists(free_mobility_options, max_size=5))
    if draw(st.booleans()):
        options.append(BindingAuthorizationData(draw(st.binary(min_size=12, max_size=12))))
    return tuple(options)


mobility_messages: st.SearchStrategy[MobilityMessage] = st.one_of(
    st.builds(BindingRefreshRequest, mobility_options()),
    st.builds(HomeTestInit, eight_octets, mobility_options()),
    st.builds(CareOfTestInit, eight_octets, mobility_options()),
    st.builds(HomeTest, uint16, eight_octets, eight_octets, mobility_options()),
    st.builds(CareOfTest, uint16, eight_octets, eight_octets, mobility_options()),
    st.builds(
        BindingUpdate,
        uint16,
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        uint16,
        mobility_options(),
    ),
    st.builds(BindingAcknowledgement, uint8, st.booleans(), uint16, uint16, mobility_options()),
    st.builds(BindingError, uint8, addresses, mobility_options()),
    st.builds(
        UnknownMobilityMessage,
        st.integers(8, 255),
        st.integers(0, 4).flatmap(lambda units: st.binary(min_size=2 + 8 * units, max_size=2 + 8 * units)),
    ),
)

# ---- ICMPv6 ----

neighbor_options = st.lists(
    st.one_of(
        st.builds(SourceLinkLayerAddress, macs),
        st.builds(TargetLinkLayerAddress, macs),
        st.builds(PrefixInformation, addresses, uint8, st.booleans(), st.booleans(), st.booleans(), uint32, uint32),
        st.builds(MaximumTransmissionUnit, uint32),
        st.builds(AdvertisementInterval, uint32),
        st.builds(HomeAgentInformation, uint16, uint16),
        st.builds(
            UnknownNeighborOption,
            st.integers(9, 255),
            st.integers(0, 3).flatmap(lambda units: st.binary(min_size=6 + 8 * units, max_size=6 + 8 * units)),
        ),
    ),
    max_size=4,
).map(tuple)

icmpv6_messages: st.SearchStrategy[Icmpv6Message] = st.one_of(
    st.builds(RouterSolicitation, neighbor_options),
    st.builds(
        RouterAdvertisement,
        uint16,
        uint8,
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.sampled_from(RouterPreference),
        uint32,
        uint32,
        neighbor_options,
    ),
    st.builds(NeighborSolicitation, addresses, neighbor_options),
    st.builds(NeighborAdvertisement, addresses, st.booleans(), st.booleans(), st.booleans(), neighbor_options),
    st.builds(HomeAgentAddressDiscoveryRequest, uint16),
    st.builds(HomeAgentAddressDiscoveryReply, uint16, st.lists(addresses, max_size=3).map(tuple)),
    st.builds(MobilePrefixSolicitation, uint16, neighbor_options),
    st.builds(MobilePrefixAdvertisement, uint16, st.booleans(), st.booleans(), neighbor_options),
    st.builds(ParameterProblem, uint8, uint32, st.binary(max_size=64)),
    st.builds(UnknownIcmpv6Message, st.sampled_from([1, 2, 3, 128, 129, 143, 200]), uint8, st.binary(max_size=64)),
)
