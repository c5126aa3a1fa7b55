# SPDX-License-Identifier: Apache-2.0
"""The frames that a home agent sends on a home link in a mobile node's stead (RFC 6275 sections 10.3.1 and 10.4.1).

Solicitations of duplicate address detection, and unsolicited advertisements. Solicited advertisements are the data
path's (nd_proxy.h).
"""

from ipaddress import IPv6Address

from control.binding.home_link import HomeLink
from control.wire.ethernet import EthernetHeader, EtherType, push_ethernet
from control.wire.icmpv6 import Icmpv6Message, push_icmpv6
from control.wire.ipv6 import UNSPECIFIED_ADDRESS, IPv6Packet, NextHeader, push_packet
from control.wire.neighbor import (
    ALL_NODES_MULTICAST,
    NEIGHBOR_DISCOVERY_HOP_LIMIT,
    NeighborAdvertisement,
    NeighborSolicitation,
    TargetLinkLayerAddress,
    multicast_mac,
    solicited_node_multicast,
)


def duplicate_address_solicitation(home_link: HomeLink, target: IPv6Address) -> bytes:
    """Ask whether any node on the link uses `target` (RFC 4862 section 5.4.2)."""
    solicitation = NeighborSolicitation(target)
    return _frame(home_link, UNSPECIFIED_ADDRESS, solicited_node_multicast(target), solicitation)


def unsolicited_advertisement(home_link: HomeLink, target: IPv6Address) -> bytes:
    """Tell all nodes on the link that packets for `target` go to the home agent.

    Override is set, so that neighbors forget the mobile node's own MAC address; Router is not, whatever the home agent
    is: the address is a mobile node's.
    """
    advertisement = NeighborAdvertisement(
        target, router=False, solicited=False, override=True, options=(TargetLinkLayerAddress(home_link.mac),)
    )
    return _frame(home_link, home_link.home_agent_address, ALL_NODES_MULTICAST, advertisement)


def _frame(home_link: HomeLink, source: IPv6Address, destination: IPv6Address, message: Icmpv6Message) -> bytes:
    packet = IPv6Packet(
        source=source,
        destination=destination,
        next_header=NextHeader.ICMPV6,
        payload=push_icmpv6(message, source, destination),
        hop_limit=NEIGHBOR_DISCOVERY_HOP_LIMIT,
    )
    header = EthernetHeader(multicast_mac(destination), home_link.mac, EtherType.IPV6)
    return push_ethernet(header, push_packet(packet))
