/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A mobile node's end of the tunnel to its home agent (RFC 2473, RFC 6275 sections 11.3.1 and 11.3.3). Hop limits stay
 * as they are: the node is source and destination of what is tunnelled, and no router. Not here: outer fragments, and
 * the translation of ICMPv6 errors about the outer packet.
 */
#ifndef HA_HOST_TUNNEL_H
#define HA_HOST_TUNNEL_H

#include "congestion.h"
#include "host_steer.h"

enum ha_host_tunnel_constant {
	HA_HOST_OUTER_HOP_LIMIT = 64,
	HA_HOST_FLOW_LABEL_MASK = 0xfffff,
	HA_HOST_TRAFFIC_CLASS_SHIFT = 20,
	/* Ethernet and two VLAN tags. */
	HA_HOST_MAX_LINK_LENGTH = 22,
};

/* Ethernet and VLAN tags move up to the inner packet; `opened` octets between go. */
static __always_inline bool ha_host_strip(struct xdp_md *ctx, __u32 link_length, __u32 opened)
{
	__u8 link[HA_HOST_MAX_LINK_LENGTH];

	if (link_length < sizeof(struct ethhdr) || link_length > sizeof(link))
		return false;
	return !bpf_xdp_load_bytes(ctx, 0, link, link_length) && !bpf_xdp_adjust_head(ctx, opened) &&
	       !bpf_xdp_store_bytes(ctx, 0, link, link_length);
}

/* What the home agent tunnels to a care-of address of ours, for the home address. */
static __always_inline int ha_host_open_tunnel(struct xdp_md *ctx, const struct ha_packet *packet)
{
	const struct in6_addr *home_address;
	const struct ha_mobile_node *node;
	struct ipv6hdr inner;
	__u32 headers = packet->upper_offset - packet->offset;
	__u32 first_word;

	if (packet->upper_protocol != IPPROTO_IPV6 || packet->flags & HA_PACKET_FRAGMENT)
		return HA_HOST_CONTINUE;
	home_address = bpf_map_lookup_elem(&care_of_addresses, &packet->destination);
	if (!home_address)
		return HA_HOST_CONTINUE;
	node = bpf_map_lookup_elem(&mobile_node, home_address);
	if (!node)
		return HA_HOST_CONTINUE;
	/* Anybody else could otherwise send into the node as if from within its home network. */
	if (!ha_address_equal(&packet->source, &node->home_agent_address))
		return ha_host_drop_in(packet, HA_HOST_DROP_TUNNEL_SOURCE);

	if (headers + sizeof(inner) > packet->length ||
	    bpf_xdp_load_bytes(ctx, packet->upper_offset, &inner, sizeof(inner)))
		return ha_host_drop_in(packet, HA_HOST_DROP_TUNNEL_INNER);
	first_word = bpf_ntohl(*(__be32 *)&inner);
	if (first_word >> 28 != 6 || headers + sizeof(inner) + bpf_ntohs(inner.payload_len) > packet->length ||
	    !ha_address_equal((const struct in6_addr *)&inner.daddr, home_address))
		return ha_host_drop_in(packet, HA_HOST_DROP_TUNNEL_INNER);

	if (!ha_take_congestion_out(&first_word, packet->first_word))
		return ha_host_drop_in(packet, HA_HOST_DROP_CONGESTION);
	*(__be32 *)&inner = bpf_htonl(first_word);
	if (bpf_xdp_store_bytes(ctx, packet->upper_offset, &inner, sizeof(__be32)))
		return ha_host_drop_in(packet, HA_HOST_DROP_ADJUST_FAILED);
	if (!ha_host_strip(ctx, packet->link_length, headers))
		return ha_host_drop_in(packet, HA_HOST_DROP_ADJUST_FAILED);
	return ha_host_pass_in(packet, HA_HOST_DETUNNELLED);
}

/* Whether a packet of the home address's goes without the tunnel, as what belongs to the link does. */
static __always_inline bool ha_host_is_link_traffic(const struct ha_packet *packet)
{
	__u8 type = ha_host_icmpv6_type(packet);

	return !ha_address_is_forwardable(&packet->destination) ||
	       (type >= HA_HOST_ROUTER_SOLICITATION && type <= HA_HOST_REDIRECT);
}

/* A Binding Update from the home address itself is the end of the tunnel, not for it (RFC 6275 section 11.5.5). */
static __always_inline bool ha_host_is_signalling(const struct ha_packet *packet, const struct ha_mobile_node *node)
{
	return packet->upper_protocol == IPPROTO_ESP && packet->flags & HA_PACKET_UPPER_WORD &&
	       ha_host_is_ours(node, bpf_ntohl(packet->upper_word)) &&
	       ha_address_equal(&packet->destination, &node->home_agent_address);
}

/* What the home address sends while it is away. The next hop's MAC address stays: all goes by one router. */
static __always_inline int ha_host_enter_tunnel(struct __sk_buff *skb, const struct ha_packet *packet)
{
	const struct ha_mobile_node *node = bpf_map_lookup_elem(&mobile_node, &packet->source);
	struct ipv6hdr outer = {
		.nexthdr = IPPROTO_IPV6,
		.hop_limit = HA_HOST_OUTER_HOP_LIMIT,
	};
	__u32 traffic_class;

	if (!node || !(node->flags & HA_MOBILE_NODE_TUNNEL) || packet->link_length != sizeof(struct ethhdr) ||
	    ha_host_is_link_traffic(packet) || ha_host_is_signalling(packet, node))
		return HA_HOST_CONTINUE;
	traffic_class = packet->first_word & 0xffu << HA_HOST_TRAFFIC_CLASS_SHIFT;
	*(__be32 *)&outer = bpf_htonl(6u << 28 | traffic_class | (bpf_get_hash_recalc(skb) & HA_HOST_FLOW_LABEL_MASK));
	/* One that is too long for the field is cut into segments yet, each of which gets a length of its own. */
	if (packet->length <= 0xffff)
		outer.payload_len = bpf_htons(packet->length);
	__builtin_memcpy(&outer.saddr, &node->care_of_address, sizeof(outer.saddr));
	__builtin_memcpy(&outer.daddr, &node->home_agent_address, sizeof(outer.daddr));

	if (bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6) ||
	    bpf_skb_store_bytes(skb, sizeof(struct ethhdr), &outer, sizeof(outer), 0))
		return ha_host_drop_out(packet, HA_HOST_DROP_ADJUST_FAILED);
	return ha_host_pass_out(packet, HA_HOST_TUNNELLED);
}

#endif
