/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a mobile node's daemon decides on, whole and unaltered: Router Advertisements (movement detection, RFC 6275
 * section 11.5.1), what the home agent answers while the node returns (section 11.5.5), and Mobility Headers, in the
 * clear or under ESP with an SPI of ours, with or without a type 2 routing header (section 11.3.3). Nothing is judged
 * here that the daemon judges.
 */
#ifndef HA_HOST_STEER_H
#define HA_HOST_STEER_H

#include "host_verdict.h"

enum ha_host_neighbor_discovery {
	HA_HOST_ROUTER_SOLICITATION = 133,
	HA_HOST_ROUTER_ADVERTISEMENT = 134,
	HA_HOST_NEIGHBOR_ADVERTISEMENT = 136,
	HA_HOST_REDIRECT = 137,
};

/* RFC 4861 section 4.4 */
struct ha_host_neighbor_message {
	struct icmp6hdr header;
	struct in6_addr target;
};

/* RFC 6275 section 6.4, and the first word of what follows it. */
struct ha_host_routing_header {
	__u8 next_header;
	__u8 length;
	__u8 type;
	__u8 segments_left;
	__u32 reserved;
	struct in6_addr home_address;
	__be32 upper_word;
};

/* The type of an ICMPv6 message right behind the IPv6 header, unfragmented (RFC 6980); else 0. */
static __always_inline __u8 ha_host_icmpv6_type(const struct ha_packet *packet)
{
	if (packet->upper_protocol != IPPROTO_ICMPV6 || !(packet->flags & HA_PACKET_UPPER_WORD) ||
	    packet->upper_offset != packet->offset + sizeof(struct ipv6hdr))
		return 0;
	return bpf_ntohl(packet->upper_word) >> 24;
}

static __always_inline bool ha_host_is_ours(const struct ha_mobile_node *node, __u32 spi)
{
	return spi >= node->spi_first && spi <= node->spi_last;
}

struct ha_host_search {
	const struct in6_addr *target;
	bool found;
};

static long ha_host_match(void *map __attribute__((unused)), const void *home_address, struct ha_mobile_node *node,
			  struct ha_host_search *search)
{
	if (!(node->flags & HA_MOBILE_NODE_TUNNEL))
		return 0;
	search->found = ha_address_equal(search->target, home_address) ||
			ha_address_equal(search->target, &node->home_agent_address);
	return search->found;
}

/*
 * Advertisements to all nodes of the two addresses that the home agent answers for. Only while there is a tunnel: at
 * home they are the kernel's, as solicited ones always are.
 */
static __always_inline int ha_host_steer_neighbor_advertisement(struct xdp_md *ctx, const struct ha_packet *packet)
{
	struct ha_host_neighbor_message message;
	struct ha_host_search search = {.target = &message.target};

	if (!ha_address_is_multicast(&packet->destination) ||
	    packet->length < sizeof(struct ipv6hdr) + sizeof(message) ||
	    bpf_xdp_load_bytes(ctx, packet->upper_offset, &message, sizeof(message)))
		return HA_HOST_CONTINUE;
	bpf_for_each_map_elem(&mobile_node, ha_host_match, &search, 0);
	if (!search.found)
		return HA_HOST_CONTINUE;
	return ha_host_steer(ctx, packet, HA_HOST_STEERED_NEIGHBOR_ADVERTISEMENT);
}

static __always_inline int ha_host_steer_neighbor_discovery(struct xdp_md *ctx, const struct ha_packet *packet)
{
	switch (ha_host_icmpv6_type(packet)) {
	case HA_HOST_ROUTER_ADVERTISEMENT:
		return ha_host_steer(ctx, packet, HA_HOST_STEERED_ROUTER_ADVERTISEMENT);
	case HA_HOST_NEIGHBOR_ADVERTISEMENT:
		return ha_host_steer_neighbor_advertisement(ctx, packet);
	default:
		return HA_HOST_CONTINUE;
	}
}

/* Signalling that a type 2 routing header brings; any other routing header is the kernel's. */
static __always_inline int ha_host_steer_routed(struct xdp_md *ctx, const struct ha_packet *packet)
{
	struct ha_host_routing_header routing;
	const struct ha_mobile_node *node;

	if (packet->upper_offset - packet->offset + sizeof(routing) > packet->length ||
	    bpf_xdp_load_bytes(ctx, packet->upper_offset, &routing, sizeof(routing)))
		return HA_HOST_CONTINUE;
	if (routing.type != 2 || routing.length != 2 || routing.segments_left != 1)
		return HA_HOST_CONTINUE;
	node = bpf_map_lookup_elem(&mobile_node, &routing.home_address);
	if (!node)
		return HA_HOST_CONTINUE;
	if (routing.next_header == IPPROTO_MH ||
	    (routing.next_header == IPPROTO_ESP && ha_host_is_ours(node, bpf_ntohl(routing.upper_word))))
		return ha_host_steer(ctx, packet, HA_HOST_STEERED_SIGNALLING);
	return HA_HOST_CONTINUE;
}

static __always_inline int ha_host_steer_signalling(struct xdp_md *ctx, const struct ha_packet *packet)
{
	const struct in6_addr *home_address = &packet->destination;
	const struct ha_mobile_node *node;

	if (packet->upper_protocol == IPPROTO_ROUTING && packet->flags & HA_PACKET_CHAIN_UNFOLLOWED)
		return ha_host_steer_routed(ctx, packet);
	if ((packet->upper_protocol != IPPROTO_ESP && packet->upper_protocol != IPPROTO_MH) ||
	    packet->flags & HA_PACKET_FRAGMENT || !(packet->flags & HA_PACKET_UPPER_WORD))
		return HA_HOST_CONTINUE;
	node = bpf_map_lookup_elem(&mobile_node, home_address);
	if (!node) {
		home_address = bpf_map_lookup_elem(&care_of_addresses, &packet->destination);
		if (!home_address)
			return HA_HOST_CONTINUE;
		node = bpf_map_lookup_elem(&mobile_node, home_address);
		if (!node)
			return HA_HOST_CONTINUE;
	}
	if (packet->upper_protocol == IPPROTO_MH || ha_host_is_ours(node, bpf_ntohl(packet->upper_word)))
		return ha_host_steer(ctx, packet, HA_HOST_STEERED_SIGNALLING);
	return HA_HOST_CONTINUE;
}

#endif
