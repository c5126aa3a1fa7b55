# SPDX-License-Identifier: Apache-2.0
"""Two other dissectors about the same octets: scapy builds what we push, tshark reads the captures as we do.

Neither is an oracle. Known faults of both are in tests/vectors/README.md: scapy's Mobility Header checksum is asked for
without any destination options header, and its lengths of Nonce Indices and Binding Authorization Data are set by hand;
tshark never checks the Mobility Header's checksum.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from scapy.layers import inet6
from scapy.layers.l2 import Ether

from control.wire.discovery import (
    HomeAgentAddressDiscoveryReply,
    HomeAgentAddressDiscoveryRequest,
    MobilePrefixAdvertisement,
    MobilePrefixSolicitation,
)
from control.wire.ethernet import EthernetHeader, EtherType, push_ethernet
from control.wire.icmpv6 import Icmpv6Message, ParameterProblem, pull_icmpv6, push_icmpv6
from control.wire.ipv6 import (
    IPv6Packet,
    NextHeader,
    Type2RoutingHeader,
    home_address_destination_options,
    pull_packet,
    push_packet,
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
    pull_mobility_header,
    push_mobility_header,
)
from control.wire.mobility_options import (
    AlternateCareOfAddress,
    BindingAuthorizationData,
    BindingRefreshAdvice,
    NonceIndices,
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
    multicast_mac,
)
from tests.unit.wire.captures import (
    CAPTURES,
    CARE_OF_ADDRESS,
    HOME_ADDRESS,
    HOME_AGENT,
    path_of,
    read_packets,
)

TSHARK = shutil.which("tshark")
needs_tshark = pytest.mark.skipif(TSHARK is None, reason="tshark is not installed")

MAC = bytes.fromhex("02000000aa01")
MAC_TEXT = "02:00:00:00:aa:01"
COOKIE = bytes(range(0xC0, 0xC8))
TOKEN = bytes(range(0x70, 0x78))
AUTHENTICATOR = bytes(range(0xA0, 0xAC))

# Each with scapy's own way to say the same.
MOBILITY_MESSAGES: list[Any] = [
    pytest.param(BindingRefreshRequest(), inet6.MIP6MH_BRR(), id="Binding Refresh Request"),
    pytest.param(HomeTestInit(COOKIE), inet6.MIP6MH_HoTI(cookie=COOKIE), id="Home Test Init"),
    pytest.param(CareOfTestInit(COOKIE), inet6.MIP6MH_CoTI(cookie=COOKIE), id="Care-of Test Init"),
    pytest.param(HomeTest(7, COOKIE, TOKEN), inet6.MIP6MH_HoT(index=7, cookie=COOKIE, token=TOKEN), id="Home Test"),
    pytest.param(
        CareOfTest(8, COOKIE, TOKEN), inet6.MIP6MH_CoT(index=8, cookie=COOKIE, token=TOKEN), id="Care-of Test"
    ),
    pytest.param(
        BindingUpdate(14777, True, True, False, False, 1798, (AlternateCareOfAddress(CARE_OF_ADDRESS),)),
        inet6.MIP6MH_BU(seq=14777, flags="AH", mhtime=1798, options=[inet6.MIP6OptAltCoA(acoa=str(CARE_OF_ADDRESS))]),
        id="Binding Update to a home agent",
    ),
    pytest.param(
        BindingUpdate(
            65535, True, False, True, True, 105, (NonceIndices(3, 4), BindingAuthorizationData(AUTHENTICATOR))
        ),
        inet6.MIP6MH_BU(
            seq=65535,
            flags="ALK",
            mhtime=105,
            options=[
                inet6.MIP6OptNonceIndices(olen=4, hni=3, coni=4),
                inet6.MIP6OptBindingAuthData(olen=12, authenticator=int.from_bytes(AUTHENTICATOR, "big")),
            ],
        ),
        id="Binding Update to a correspondent",
    ),
    pytest.param(
        BindingUpdate(0, False, False, False, False, 0),
        inet6.MIP6MH_BU(seq=0, flags=0, mhtime=0),
        id="Binding Update of 16 octets",
    ),
    pytest.param(
        BindingAcknowledgement(0, False, 14777, 1798, (BindingRefreshAdvice(900),)),
        inet6.MIP6MH_BA(status=0, flags=0, seq=14777, mhtime=1798, options=[inet6.MIP6OptBRAdvice(rinter=900)]),
        id="Binding Acknowledgement",
    ),
    pytest.param(
        BindingAcknowledgement(135, True, 1, 0),
        inet6.MIP6MH_BA(status=135, flags="K", seq=1, mhtime=0),
        id="Binding Acknowledgement of 16 octets",
    ),
    pytest.param(BindingError(2, HOME_ADDRESS), inet6.MIP6MH_BE(status=2, ha=str(HOME_ADDRESS)), id="Binding Error"),
]

PREFIX = PrefixInformation(IPv6Address("2001:db8:1::"), 64, True, True, False, 86400, 14400)
SCAPY_PREFIX = inet6.ICMPv6NDOptPrefixInfo(
    prefix="2001:db8:1::", prefixlen=64, L=1, A=1, R=0, validlifetime=86400, preferredlifetime=14400
)

ICMPV6_MESSAGES: list[Any] = [
    pytest.param(
        RouterSolicitation((SourceLinkLayerAddress(MAC),)),
        inet6.ICMPv6ND_RS() / inet6.ICMPv6NDOptSrcLLAddr(lladdr=MAC_TEXT),
        id="Router Solicitation",
    ),
    pytest.param(
        RouterAdvertisement(
            router_lifetime_s=1800,
            current_hop_limit=64,
            managed=True,
            home_agent=True,
            preference=RouterPreference.LOW,
            reachable_time_ms=30000,
            retransmit_timer_ms=1000,
            options=(
                PREFIX,
                SourceLinkLayerAddress(MAC),
                MaximumTransmissionUnit(1460),
                AdvertisementInterval(3000),
                HomeAgentInformation(5, 1800),
            ),
        ),
        inet6.ICMPv6ND_RA(chlim=64, M=1, O=0, H=1, prf=3, routerlifetime=1800, reachabletime=30000, retranstimer=1000)
        / SCAPY_PREFIX
        / inet6.ICMPv6NDOptSrcLLAddr(lladdr=MAC_TEXT)
        / inet6.ICMPv6NDOptMTU(mtu=1460)
        / inet6.ICMPv6NDOptAdvInterval(advint=3000)
        / inet6.ICMPv6NDOptHAInfo(pref=5, lifetime=1800),
        id="Router Advertisement",
    ),
    pytest.param(
        NeighborSolicitation(HOME_ADDRESS, (SourceLinkLayerAddress(MAC),)),
        inet6.ICMPv6ND_NS(tgt=str(HOME_ADDRESS)) / inet6.ICMPv6NDOptSrcLLAddr(lladdr=MAC_TEXT),
        id="Neighbor Solicitation",
    ),
    pytest.param(
        NeighborAdvertisement(HOME_ADDRESS, False, False, True, (TargetLinkLayerAddress(MAC),)),
        inet6.ICMPv6ND_NA(tgt=str(HOME_ADDRESS), R=0, S=0, O=1) / inet6.ICMPv6NDOptDstLLAddr(lladdr=MAC_TEXT),
        id="Neighbor Advertisement",
    ),
    pytest.param(
        ParameterProblem(2, 46, bytes(48)), inet6.ICMPv6ParamProblem(code=2, ptr=46) / bytes(48), id="Parameter Problem"
    ),
    pytest.param(
        HomeAgentAddressDiscoveryRequest(0x1234),
        inet6.ICMPv6HAADRequest(id=0x1234, R=0),
        id="Home Agent Address Discovery Request",
    ),
    pytest.param(
        HomeAgentAddressDiscoveryReply(0x1234, (HOME_AGENT,)),
        inet6.ICMPv6HAADReply(id=0x1234, R=0, addresses=[str(HOME_AGENT)]),
        id="Home Agent Address Discovery Reply",
    ),
    pytest.param(MobilePrefixSolicitation(0x1234), inet6.ICMPv6MPSol(id=0x1234), id="Mobile Prefix Solicitation"),
    pytest.param(
        MobilePrefixAdvertisement(0x1234, managed=True, options=(PREFIX,)),
        inet6.ICMPv6MPAdv(id=0x1234, flags=2, res=0) / SCAPY_PREFIX,
        id="Mobile Prefix Advertisement",
    ),
]


def built_by_scapy(layers: Any) -> bytes:
    """The upper-layer octets, with the checksum scapy makes between home address and home agent."""
    return bytes(inet6.IPv6(src=str(HOME_ADDRESS), dst=str(HOME_AGENT)) / layers)[40:]


@pytest.mark.parametrize(("message", "scapy_layers"), MOBILITY_MESSAGES)
def test_mobility_messages_are_scapys(message: MobilityMessage, scapy_layers: Any) -> None:
    assert push_mobility_header(message, HOME_ADDRESS, HOME_AGENT) == built_by_scapy(scapy_layers)


@pytest.mark.parametrize(("message", "scapy_layers"), ICMPV6_MESSAGES)
def test_icmpv6_messages_are_scapys(message: Icmpv6Message, scapy_layers: Any) -> None:
    assert push_icmpv6(message, HOME_ADDRESS, HOME_AGENT) == built_by_scapy(scapy_layers)


def test_extension_headers_are_scapys() -> None:
    update = IPv6Packet(
        CARE_OF_ADDRESS,
        HOME_AGENT,
        NextHeader.NO_NEXT_HEADER,
        b"",
        (home_address_destination_options(HOME_ADDRESS),),
        traffic_class=0xB8,
        flow_label=0x12345,
        hop_limit=63,
    )
    ipv6 = inet6.IPv6(src=str(CARE_OF_ADDRESS), dst=str(HOME_AGENT), tc=0xB8, fl=0x12345, hlim=63)
    option = inet6.IPv6ExtHdrDestOpt(nh=59, options=[inet6.HAO(hoa=str(HOME_ADDRESS))])
    assert push_packet(update) == bytes(ipv6 / option)

    acknowledgement = IPv6Packet(
        HOME_AGENT, CARE_OF_ADDRESS, NextHeader.NO_NEXT_HEADER, b"", (Type2RoutingHeader(HOME_ADDRESS),)
    )
    ipv6 = inet6.IPv6(src=str(HOME_AGENT), dst=str(CARE_OF_ADDRESS))
    routing = inet6.IPv6ExtHdrRouting(nh=59, type=2, segleft=1, addresses=[str(HOME_ADDRESS)])
    assert push_packet(acknowledgement) == bytes(ipv6 / routing)


def test_ethernet_is_scapys() -> None:
    header = EthernetHeader(bytes.fromhex("333300000001"), MAC, EtherType.IPV6)
    assert push_ethernet(header, b"payload") == bytes(Ether(dst="33:33:00:00:00:01", src=MAC_TEXT, type=0x86DD)) + (
        b"payload"
    )


# ---- tshark ----


def fields_of(path: Path, *fields: str, options: tuple[str, ...] = ()) -> list[list[str]]:
    """What tshark says of every frame of a file, one list a frame; the innermost packet's value where there are two."""
    assert TSHARK is not None
    arguments = [argument for field in fields for argument in ("-e", field)]
    finished = subprocess.run(
        [TSHARK, "-r", str(path), *options, "-T", "fields", "-E", "occurrence=l", *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return [line.split("\t") for line in finished.stdout.splitlines()]


MOBILITY_FIELDS = (
    "mip6.mhtype",
    "mip6.csum",
    "mip6.bu.seqnr",
    "mip6.bu.a_flag",
    "mip6.bu.h_flag",
    "mip6.bu.l_flag",
    "mip6.bu.k_flag",
    "mip6.bu.lifetime",
    "mip6.acoa.acoa",
    "mip6.ni.hni",
    "mip6.ni.cni",
    "mip6.bad.auth",
    "mip6.ba.status",
    "mip6.ba.k_flag",
    "mip6.ba.seqnr",
    "mip6.ba.lifetime",
    "mip6.hoti.cookie",
    "mip6.coti.cookie",
    "mip6.hot.nindex",
    "mip6.hot.cookie",
    "mip6.hot.token",
    "mip6.cot.nindex",
    "mip6.cot.cookie",
)


def mobility_fields_of(packet: IPv6Packet) -> dict[str, str]:
    """Those fields as we read them, in tshark's spelling; one that a packet has not is not there."""
    message = pull_mobility_header(packet.payload, packet.effective_source, packet.effective_destination)
    fields: dict[str, object] = {"mip6.mhtype": message.type, "mip6.csum": f"0x{packet.payload[4:6].hex()}"}
    match message:
        case BindingUpdate():
            fields |= {
                "mip6.bu.seqnr": message.sequence,
                "mip6.bu.a_flag": int(message.acknowledge),
                "mip6.bu.h_flag": int(message.home_registration),
                "mip6.bu.l_flag": int(message.link_local_compatible),
                "mip6.bu.k_flag": int(message.key_management_mobility),
                "mip6.bu.lifetime": message.lifetime_units,
            }
            if message.alternate_care_of_address is not None:
                fields["mip6.acoa.acoa"] = message.alternate_care_of_address
            if message.nonce_indices is not None:
                fields["mip6.ni.hni"] = message.nonce_indices.home_nonce_index
                fields["mip6.ni.cni"] = message.nonce_indices.care_of_nonce_index
            if message.binding_authorization_data is not None:
                fields["mip6.bad.auth"] = message.binding_authorization_data.authenticator.hex()
        case BindingAcknowledgement():
            fields |= {
                "mip6.ba.status": message.status,
                "mip6.ba.k_flag": int(message.key_management_mobility),
                "mip6.ba.seqnr": message.sequence,
                "mip6.ba.lifetime": message.lifetime_units,
            }
            if message.binding_authorization_data is not None:
                fields["mip6.bad.auth"] = message.binding_authorization_data.authenticator.hex()
        case HomeTestInit():
            fields["mip6.hoti.cookie"] = f"0x{message.home_init_cookie.hex()}"
        case CareOfTestInit():
            fields["mip6.coti.cookie"] = f"0x{message.care_of_init_cookie.hex()}"
        case HomeTest():
            fields |= {
                "mip6.hot.nindex": message.home_nonce_index,
                "mip6.hot.cookie": f"0x{message.home_init_cookie.hex()}",
                "mip6.hot.token": f"0x{message.home_keygen_token.hex()}",
            }
        case CareOfTest():
            # tshark shows the token of a Care-of Test under the Home Test's name.
            fields |= {
                "mip6.cot.nindex": message.care_of_nonce_index,
                "mip6.cot.cookie": f"0x{message.care_of_init_cookie.hex()}",
                "mip6.hot.token": f"0x{message.care_of_keygen_token.hex()}",
            }
    return {name: str(value) for name, value in fields.items()}


@needs_tshark
@pytest.mark.parametrize("capture", CAPTURES)
def test_tshark_reads_mobility_headers_as_we_do(capture: str) -> None:
    ours: dict[int, dict[str, str]] = {}
    for number, packet in read_packets(capture):
        if packet.next_header == NextHeader.MOBILITY:
            ours[number] = mobility_fields_of(packet)
    theirs: dict[int, dict[str, str]] = {}
    for number, values in enumerate(fields_of(path_of(capture), *MOBILITY_FIELDS), 1):
        if values[0]:
            named = zip(MOBILITY_FIELDS, values, strict=True)
            theirs[number] = {name: value for name, value in named if value}
    assert ours == theirs


NEIGHBOR_FIELDS = (
    "icmpv6.nd.ns.target_address",
    "icmpv6.nd.na.target_address",
    "icmpv6.nd.na.flag.r",
    "icmpv6.nd.na.flag.s",
    "icmpv6.nd.na.flag.o",
    "icmpv6.nd.ra.router_lifetime",
    "icmpv6.nd.ra.flag.h",
    "icmpv6.opt.prefix",
    "icmpv6.opt.prefix.valid_lifetime",
    "icmpv6.opt.src_linkaddr",
    "icmpv6.opt.target_linkaddr",
    "icmpv6.mip6.identifier",
    "icmpv6.mip6.home_agent_address",
)


def neighbor_fields_of(packet: IPv6Packet) -> dict[str, str]:
    message = pull_icmpv6(packet.payload, packet.effective_source, packet.effective_destination)
    fields: dict[str, object] = {}
    match message:
        case NeighborSolicitation(target=target):
            fields["icmpv6.nd.ns.target_address"] = target
        case NeighborAdvertisement(target=target):
            fields |= {
                "icmpv6.nd.na.target_address": target,
                "icmpv6.nd.na.flag.r": int(message.router),
                "icmpv6.nd.na.flag.s": int(message.solicited),
                "icmpv6.nd.na.flag.o": int(message.override),
            }
        case RouterAdvertisement(router_lifetime_s=lifetime_s):
            fields |= {"icmpv6.nd.ra.router_lifetime": lifetime_s, "icmpv6.nd.ra.flag.h": int(message.home_agent)}
            for prefix in message.prefixes:
                fields |= {
                    "icmpv6.opt.prefix": prefix.prefix,
                    "icmpv6.opt.prefix.valid_lifetime": prefix.valid_lifetime_s,
                }
        case HomeAgentAddressDiscoveryRequest(identifier=identifier):
            fields["icmpv6.mip6.identifier"] = identifier
        case HomeAgentAddressDiscoveryReply(identifier=identifier):
            fields["icmpv6.mip6.identifier"] = identifier
            fields["icmpv6.mip6.home_agent_address"] = message.home_agent_addresses[-1]
    match message:
        case NeighborSolicitation() | RouterAdvertisement() if message.source_link_layer_address is not None:
            fields["icmpv6.opt.src_linkaddr"] = message.source_link_layer_address.hex(":")
        case NeighborAdvertisement() if message.target_link_layer_address is not None:
            fields["icmpv6.opt.target_linkaddr"] = message.target_link_layer_address.hex(":")
        case RouterSolicitation(options=(SourceLinkLayerAddress(address=address),)):
            fields["icmpv6.opt.src_linkaddr"] = address.hex(":")
    return {name: str(value) for name, value in fields.items()}


@needs_tshark
@pytest.mark.parametrize("capture", ["noipsec/mn0", "noipsec/ha-home", "ro-dhaad/mn0", "ro-dhaad/ha-core"])
def test_tshark_reads_neighbor_discovery_as_we_do(capture: str) -> None:
    ours: dict[int, dict[str, str]] = {}
    for number, packet in read_packets(capture):
        if packet.next_header == NextHeader.ICMPV6 and (fields := neighbor_fields_of(packet)):
            ours[number] = fields
    theirs: dict[int, dict[str, str]] = {}
    for number, values in enumerate(fields_of(path_of(capture), *NEIGHBOR_FIELDS), 1):
        named = zip(NEIGHBOR_FIELDS, values, strict=True)
        if fields := {name: value for name, value in named if value}:
            theirs[number] = fields
    assert ours
    assert ours == theirs


def write_frames(path: Path, frames: list[bytes]) -> None:
    file_header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    path.write_bytes(
        file_header + b"".join(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame for frame in frames)
    )


@needs_tshark
def test_tshark_finds_no_fault_with_what_we_push(tmp_path: Path) -> None:
    """All messages in the packets that carry them: not malformed, and the checksums that tshark checks are good."""
    group = IPv6Address("ff02::1")
    link_local = IPv6Address("fe80::1")
    header = EthernetHeader(multicast_mac(group), MAC, EtherType.IPV6)
    frames: list[bytes] = []
    for parameters in MOBILITY_MESSAGES:
        message = parameters.values[0]
        for packet in (
            IPv6Packet(
                CARE_OF_ADDRESS,
                HOME_AGENT,
                NextHeader.MOBILITY,
                push_mobility_header(message, HOME_ADDRESS, HOME_AGENT),
                (home_address_destination_options(HOME_ADDRESS),),
            ),
            IPv6Packet(
                HOME_AGENT,
                CARE_OF_ADDRESS,
                NextHeader.MOBILITY,
                push_mobility_header(message, HOME_AGENT, HOME_ADDRESS),
                (Type2RoutingHeader(HOME_ADDRESS),),
            ),
        ):
            assert pull_packet(push_packet(packet)) == packet
            frames.append(push_ethernet(header, push_packet(packet)))
    for parameters in ICMPV6_MESSAGES:
        packet = IPv6Packet(
            link_local,
            group,
            NextHeader.ICMPV6,
            push_icmpv6(parameters.values[0], link_local, group),
            hop_limit=255,
        )
        frames.append(push_ethernet(header, push_packet(packet)))
    path = tmp_path / "pushed.pcap"
    write_frames(path, frames)

    rows = fields_of(
        path, "mip6.mhtype", "icmpv6.type", "icmpv6.checksum.status", "_ws.malformed", "_ws.expert.message"
    )
    kinds = [int(mobility or icmpv6) for mobility, icmpv6, *_ in rows]
    assert kinds == [
        *(parameters.values[0].type for parameters in MOBILITY_MESSAGES for _ in range(2)),
        *(parameters.values[0].type for parameters in ICMPV6_MESSAGES),
    ]
    assert {status for _, icmpv6, status, *_ in rows if icmpv6} == {"1"}
    assert [row for row in rows if row[3]] == []
