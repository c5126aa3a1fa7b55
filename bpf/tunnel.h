/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The bidirectional tunnel between home agent and mobile node (RFC 2473; RFC 6275 sections 10.4.2 and 10.4.5), with ECN
 * by RFC 6040 and the outer flow label by RFC 6438. Outer fragments and outer extension headers are not opened here.
 */
#ifndef HA_TUNNEL_H
#define HA_TUNNEL_H

#include "adjacency.h"
#include "binding.h"
#include "congestion.h"
#include "frame.h"
#include "icmpv6_error.h"
#include "verdict.h"

enum ha_first_word {
	HA_FLOW_LABEL_MASK = 0xfffff,
};

static __always_inline bool ha_is_tunnelled(const struct ha_packet *packet)
{
	return packet->offset != packet->link_length;
}

static __always_inline __u64 ha_mix(__u64 hash, __u32 high, __u32 low)
{
	hash = (hash ^ ((__u64)high << 32 | low)) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 32;
}

/*
 * The outer flow label: one for each inner flow, so that routers spread flows and keep each in order. Ports count only
 * in whole packets, so that all fragments of a packet go one way.
 */
static __always_inline __u32 ha_flow_label(const struct ha_packet *packet)
{
	bool has_ports = packet->flags & HA_PACKET_UPPER_WORD && !(packet->flags & HA_PACKET_FRAGMENT) &&
			 (packet->upper_protocol == IPPROTO_TCP || packet->upper_protocol == IPPROTO_UDP);
	const __u32 *source = packet->source.in6_u.u6_addr32;
	const __u32 *destination = packet->destination.in6_u.u6_addr32;
	__u64 hash = ha_mix(0, packet->first_word & HA_FLOW_LABEL_MASK, has_ports ? packet->upper_word : 0);

	hash = ha_mix(hash, source[0], source[1]);
	hash = ha_mix(hash, source[2], source[3]);
	hash = ha_mix(hash, destination[0], destination[1]);
	hash = ha_mix(hash, destination[2], destination[3]) & HA_FLOW_LABEL_MASK;
	/* 0 would mean that there is none. */
	return hash ? hash : 1;
}

/* The IPv6 header of a packet as it stands. */
static __always_inline struct ipv6hdr ha_header_of(const struct ha_packet *packet)
{
	struct ipv6hdr header = {
		.payload_len = bpf_htons(packet->length - sizeof(header)),
		.nexthdr = packet->upper_protocol,
	};

	*(__be32 *)&header = bpf_htonl(packet->first_word);
	__builtin_memcpy(&header.saddr, &packet->source, sizeof(header.saddr));
	__builtin_memcpy(&header.daddr, &packet->destination, sizeof(header.daddr));
	return header;
}

/* The outer header for a packet on its way to the mobile node: ECN in normal mode (RFC 6040 section 4.1). */
static __always_inline struct ipv6hdr ha_outer_header(const struct ha_packet *packet, const struct ha_binding *binding)
{
	struct ipv6hdr outer = {
		.payload_len = bpf_htons(packet->length),
		.nexthdr = IPPROTO_IPV6,
		.hop_limit = HA_HOP_LIMIT,
	};

	*(__be32 *)&outer = bpf_htonl((packet->first_word & ~(__u32)HA_FLOW_LABEL_MASK) | ha_flow_label(packet));
	__builtin_memcpy(&outer.saddr, &binding->home_agent_address, sizeof(outer.saddr));
	__builtin_memcpy(&outer.daddr, &binding->care_of_address, sizeof(outer.daddr));
	return outer;
}

static __noinline int ha_check_reverse_tunnel(struct xdp_md *ctx, struct ha_packet *packet)
{
	struct in6_addr tunnel_source = packet->source;
	struct in6_addr tunnel_destination = packet->destination;
	__u32 tunnel_first_word = packet->first_word;
	struct ha_binding binding;
	enum ha_binding_state state;

	if (!ha_is_home_agent_address(&packet->destination))
		return HA_CONTINUE;
	/* The kernel has no tunnel of ours, so that what it makes of these is reassembly and Parameter Problem. */
	if (packet->flags & HA_PACKET_FRAGMENT || packet->upper_offset != packet->offset + sizeof(struct ipv6hdr))
		return ha_pass(packet, HA_PASS_SLOW_PATH);
	packet->offset += sizeof(struct ipv6hdr);
	if (!ha_read_packet(ctx, packet, packet->length - sizeof(struct ipv6hdr)))
		return ha_drop(packet, HA_DROP_TUNNEL_INNER_MALFORMED);
	if (!ha_address_is_forwardable(&packet->source) || !ha_address_is_forwardable(&packet->destination))
		return ha_drop(packet, HA_DROP_TUNNEL_INNER_SCOPE);

	state = ha_find_binding(&packet->source, &binding);
	if (state == HA_BINDING_NONE || !ha_address_equal(&binding.home_agent_address, &tunnel_destination))
		return ha_drop(packet, HA_DROP_TUNNEL_NO_BINDING);
	if (state == HA_BINDING_EXPIRED)
		return ha_drop(packet, HA_DROP_TUNNEL_BINDING_EXPIRED);
	if (!ha_address_equal(&binding.care_of_address, &tunnel_source))
		return ha_drop(packet, HA_DROP_TUNNEL_SOURCE_NOT_CARE_OF);
	if (!ha_take_congestion_out(&packet->first_word, tunnel_first_word))
		return ha_drop(packet, HA_DROP_TUNNEL_CONGESTION);
	return HA_CONTINUE;
}

/*
 * Open the tunnel from a mobile node, after the checks of RFC 6275 section 10.4.5: `packet` is the inner one from there
 * on, its octets are where they were. Only the home address that is bound to the outer source may speak.
 */
static __always_inline int ha_open_reverse_tunnel(struct xdp_md *ctx, struct ha_packet *packet)
{
	return packet->upper_protocol == IPPROTO_IPV6 ? ha_check_reverse_tunnel(ctx, packet) : HA_CONTINUE;
}

/* Tunnel a packet for a bound home address to its care-of address; it may have come by another's tunnel. */
static __noinline int ha_tunnel_to_care_of_address(struct xdp_md *ctx, const struct ha_packet *packet)
{
	struct ha_adjacency next_hop = {};
	struct ha_binding binding;
	struct ipv6hdr outer;

	if (ha_address_is_multicast(&packet->destination) ||
	    ha_find_binding(&packet->destination, &binding) != HA_BINDING_LIVE)
		return HA_CONTINUE;
	if (!ha_address_is_forwardable(&packet->source))
		return ha_drop(packet, HA_DROP_SCOPE);
	if (packet->hop_limit <= 1)
		return ha_pass_reframed(ctx, packet, NULL, HA_PASS_HOP_LIMIT);
	if (packet->length > 0xffff)
		return ha_drop(packet, HA_DROP_TOO_BIG_UNANSWERED);

	outer = ha_outer_header(packet, &binding);
	switch (ha_find_next_hop(ctx, binding.adjacency, &outer, &next_hop)) {
	case HA_NEXT_HOP_TOO_BIG:
		return ha_answer_too_big(ctx, packet, &binding.home_agent_address, next_hop.mtu - sizeof(outer));
	case HA_NEXT_HOP_UNKNOWN:
		return ha_pass_reframed(ctx, packet, &outer, HA_PASS_TUNNELLED_NO_NEIGHBOR);
	case HA_NEXT_HOP_FOUND:
		break;
	}
	return ha_forward(ctx, packet, &outer, &next_hop,
			  ha_is_tunnelled(packet) ? HA_FORWARD_TUNNEL_TO_TUNNEL : HA_FORWARD_TUNNELLED);
}

static __noinline int ha_forward_inner(struct xdp_md *ctx, const struct ha_packet *packet)
{
	struct ha_adjacency next_hop = {};
	struct in6_addr home_agent_address;
	struct ipv6hdr header;

	if (ha_is_home_agent_address(&packet->destination))
		return ha_pass_reframed(ctx, packet, NULL, HA_PASS_REVERSE_TUNNELLED);
	if (packet->hop_limit <= 1)
		return ha_pass_reframed(ctx, packet, NULL, HA_PASS_HOP_LIMIT);
	header = ha_header_of(packet);
	switch (ha_ask_fib(ctx, &header, &next_hop)) {
	case HA_NEXT_HOP_TOO_BIG:
		if (bpf_xdp_load_bytes(ctx, packet->link_length + offsetof(struct ipv6hdr, daddr), &home_agent_address,
				       sizeof(home_agent_address)))
			return ha_drop(packet, HA_DROP_ADJUST_FAILED);
		return ha_answer_too_big(ctx, packet, &home_agent_address, next_hop.mtu);
	case HA_NEXT_HOP_UNKNOWN:
		return ha_pass_reframed(ctx, packet, NULL, HA_PASS_REVERSE_TUNNELLED);
	case HA_NEXT_HOP_FOUND:
		break;
	}
	return ha_forward(ctx, packet, NULL, &next_hop, HA_FORWARD_REVERSE_TUNNELLED);
}

/* Send on what came out of a tunnel and goes into none. */
static __always_inline int ha_forward_reverse_tunnelled(struct xdp_md *ctx, const struct ha_packet *packet)
{
	return ha_is_tunnelled(packet) ? ha_forward_inner(ctx, packet) : HA_CONTINUE;
}

#endif
