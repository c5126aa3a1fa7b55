# SPDX-License-Identifier: Apache-2.0
"""The Neighbor Discovery frames that a mobile node sends itself, past its kernel's neighbor discovery.

Router Solicitations on a link that may be new (RFC 4861 section 6.3.7), and on the return home what RFC 6275 section
11.5.5 asks for: solicitations from the unspecified address, and unsolicited advertisements of the home address.
"""

from ipaddress import IPv6Address

from control.wire.ethernet import EthernetHeader, EtherType, push_ethernet
from control.wire.icmpv6 import push_icmpv6
from control.wire.ipv6 import UNSPECIFIED_ADDRESS, IPv6Packet, NextHeader, push_packet
from control.wire.neighbor import (
    ALL_NODES_MULTICAST,
    ALL_ROUTERS_MULTICAST,
    NEIGHBOR_DISCOVERY_HOP_LIMIT,
    NeighborAdvertisement,
    NeighborMessage,
    NeighborSolicitation,
    RouterSolicitation,
    TargetLinkLayerAddress,
    multicast_mac,
    solicited_node_multicast,
)


def router_solicitation(mac: bytes) -> bytes:
    """Ask for a Router Advertisement, without any address of our own."""
    return _frame(mac, UNSPECIFIED_ADDRESS, ALL_ROUTERS_MULTICAST, RouterSolicitation())


def returning_solicitation(mac: bytes, target: IPv6Address) -> bytes:
    """Ask who holds `target`, without using the home address, which the home agent still defends."""
    return _frame(mac, UNSPECIFIED_ADDRESS, solicited_node_multicast(target), NeighborSolicitation(target))


def home_advertisement(mac: bytes, target: IPv6Address) -> bytes:
    """Tell all nodes on the home link that `target` is at the mobile node's own MAC address again."""
    advertisement = NeighborAdvertisement(
        target, router=False, solicited=False, override=True, options=(TargetLinkLayerAddress(mac),)
    )
    return _frame(mac, target, ALL_NODES_MULTICAST, advertisement)


def _frame(mac: bytes, source: IPv6Address, destination: IPv6Address, message: NeighborMessage) -> bytes:
    packet = IPv6Packet(
        source=source,
        destination=destination,
        next_header=NextHeader.ICMPV6,
        payload=push_icmpv6(message, source, destination),
        hop_limit=NEIGHBOR_DISCOVERY_HOP_LIMIT,
    )
    return push_ethernet(EthernetHeader(multicast_mac(destination), mac, EtherType.IPV6), push_packet(packet))
