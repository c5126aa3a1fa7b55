/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The next hop of a packet: a cached adjacency, else bpf_fib_lookup, else the kernel's business. It decides before the
 * frame is touched, so that a packet that is too big can still be quoted.
 */
#ifndef HA_ADJACENCY_H
#define HA_ADJACENCY_H

#include "frame.h"
#include "maps.h"
#include "verdict.h"

#ifndef AF_INET6
#define AF_INET6 10
#endif

enum ha_next_hop_state {
	HA_NEXT_HOP_FOUND,
	/* Not known here: the kernel resolves it, or reports it. */
	HA_NEXT_HOP_UNKNOWN,
	/* The packet does not fit; `mtu` of the next hop says what would. */
	HA_NEXT_HOP_TOO_BIG,
};

/* An interface that is not ours to send by (a VLAN device, say) the kernel can still send by. */
static __always_inline bool ha_may_send_by(struct xdp_md *ctx, __u32 index)
{
	return index == ctx->ingress_ifindex || bpf_map_lookup_elem(&ports, &index);
}

/* The next hop of an IPv6 packet by the kernel's routes and neighbors, as for a packet that came by this interface. */
static __noinline enum ha_next_hop_state ha_ask_fib(struct xdp_md *ctx, const struct ipv6hdr *header,
						    struct ha_adjacency *next_hop)
{
	__u32 length = sizeof(*header) + bpf_ntohs(header->payload_len);
	struct bpf_fib_lookup query = {};
	long result;

	if (length > 0xffff)
		return HA_NEXT_HOP_UNKNOWN;
	query.family = AF_INET6;
	query.l4_protocol = header->nexthdr;
	query.tot_len = length;
	query.ifindex = ctx->ingress_ifindex;
	query.flowinfo = *(const __be32 *)header & bpf_htonl(0x0fffffff);
	__builtin_memcpy(query.ipv6_src, &header->saddr, sizeof(query.ipv6_src));
	__builtin_memcpy(query.ipv6_dst, &header->daddr, sizeof(query.ipv6_dst));
	result = bpf_fib_lookup(ctx, &query, sizeof(query), 0);

	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED) {
		next_hop->mtu = query.mtu_result;
		return HA_NEXT_HOP_TOO_BIG;
	}
	if (result != BPF_FIB_LKUP_RET_SUCCESS)
		return HA_NEXT_HOP_UNKNOWN;
	if (!ha_may_send_by(ctx, query.ifindex))
		return HA_NEXT_HOP_UNKNOWN;
	next_hop->interface_index = query.ifindex;
	__builtin_memcpy(next_hop->destination, query.dmac, HA_MAC_LENGTH);
	__builtin_memcpy(next_hop->source, query.smac, HA_MAC_LENGTH);
	return HA_NEXT_HOP_FOUND;
}

/* The next hop of an IPv6 packet by the adjacency in a slot, if there is one to send by, else by the kernel's word. */
static __always_inline enum ha_next_hop_state
ha_find_next_hop(struct xdp_md *ctx, __u32 slot, const struct ipv6hdr *header, struct ha_adjacency *next_hop)
{
	const struct ha_adjacency *cached = slot ? bpf_map_lookup_elem(&adjacencies, &slot) : NULL;

	if (cached)
		*next_hop = *cached;
	if (!cached || !ha_may_send_by(ctx, next_hop->interface_index))
		return ha_ask_fib(ctx, header, next_hop);
	if (sizeof(*header) + bpf_ntohs(header->payload_len) > next_hop->mtu)
		return HA_NEXT_HOP_TOO_BIG;
	return HA_NEXT_HOP_FOUND;
}

/* Send the packet to its next hop, with `outer` before it if there is one. */
static __always_inline int ha_forward(struct xdp_md *ctx, const struct ha_packet *packet, const struct ipv6hdr *outer,
				      const struct ha_adjacency *next_hop, enum ha_reason reason)
{
	bool is_redirected = next_hop->interface_index != ctx->ingress_ifindex;

	if (is_redirected && bpf_redirect_map(&ports, next_hop->interface_index, XDP_ABORTED) != XDP_REDIRECT)
		return ha_drop(packet, HA_DROP_NO_PORT);
	if (!ha_reframe(ctx, packet, outer, next_hop))
		return ha_drop(packet, HA_DROP_ADJUST_FAILED);
	return is_redirected ? ha_redirect(packet, reason) : ha_transmit(packet, reason);
}

#endif
