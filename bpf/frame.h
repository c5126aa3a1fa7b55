/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What surrounds the IPv6 packet that counts: taking an outer header off, putting one on, and the link's header before
 * it. A frame that we forward leaves untagged, for the next hop that we know; one that we pass or turn round keeps its
 * priority tags.
 */
#ifndef HA_FRAME_H
#define HA_FRAME_H

#include "ha_abi.h"
#include "parse.h"
#include "verdict.h"

enum ha_frame_limit {
	/* What a packet of our own making starts with (RFC 2473 section 6.3 leaves it to the node). */
	HA_HOP_LIMIT = 64,
};

/* Ethernet and VLAN tags, as long as packet->link_length says. */
struct ha_link_header {
	__u8 destination[HA_MAC_LENGTH];
	__u8 source[HA_MAC_LENGTH];
	__be16 rest[1 + HA_MAX_VLAN_TAGS * sizeof(struct ha_vlan_tag) / sizeof(__be16)];
};

/*
 * Read the IPv6 packet at packet->offset, of which the frame can hold `available` octets; 0 if it is none. Global, and
 * not static, so that the verifier looks at the chain of headers once, by itself, and not again for each way here
 * (Linux 6.1 to 6.18: 800,000 instructions of a million otherwise). That is also why it must expect a null pointer.
 */
__noinline int ha_read_packet(struct xdp_md *ctx, struct ha_packet *packet, __u32 available)
{
	struct ha_cursor cursor = {.end = (void *)(long)ctx->data_end};

	if (!packet || packet->offset > sizeof(struct ha_link_header) + sizeof(struct ipv6hdr))
		return 0;
	cursor.position = (void *)(long)ctx->data + packet->offset;
	return ha_parse_ipv6(&cursor, available, packet);
}

static __always_inline bool ha_load_link_header(struct xdp_md *ctx, const struct ha_packet *packet,
						struct ha_link_header *link)
{
	__u32 length = packet->link_length;

	return length >= ETH_HLEN && length <= sizeof(*link) && !bpf_xdp_load_bytes(ctx, 0, link, length);
}

static __always_inline bool ha_store_link_header(struct xdp_md *ctx, const struct ha_packet *packet,
						 struct ha_link_header *link)
{
	__u32 length = packet->link_length;

	return length >= ETH_HLEN && length <= sizeof(*link) && !bpf_xdp_store_bytes(ctx, 0, link, length);
}

/* Write a whole IPv6 header: `length` is that of the payload. */
static __always_inline void ha_write_header(struct ipv6hdr *header, __u32 traffic_class_and_flow_label, __u16 length,
					    __u8 protocol, __u8 hop_limit, const struct in6_addr *source,
					    const struct in6_addr *destination)
{
	*(__be32 *)header = bpf_htonl(6U << 28 | traffic_class_and_flow_label);
	header->payload_len = bpf_htons(length);
	header->nexthdr = protocol;
	header->hop_limit = hop_limit;
	__builtin_memcpy(&header->saddr, source, sizeof(header->saddr));
	__builtin_memcpy(&header->daddr, destination, sizeof(header->daddr));
}

/* Back to the station that it came from; only what is addressed to our MAC address is turned round. */
static __always_inline void ha_turn_round(struct ha_link_header *link)
{
	__u8 mac[HA_MAC_LENGTH];

	__builtin_memcpy(mac, link->destination, HA_MAC_LENGTH);
	__builtin_memcpy(link->destination, link->source, HA_MAC_LENGTH);
	__builtin_memcpy(link->source, mac, HA_MAC_LENGTH);
}

/*
 * Make the frame an untagged Ethernet header, `outer` if there is one, and the packet with its hop limit decremented;
 * octets behind the packet are cut off. False if there was no room: the frame is then of no use.
 */
static __always_inline bool ha_reframe(struct xdp_md *ctx, const struct ha_packet *packet, const struct ipv6hdr *outer,
				       const struct ha_adjacency *next_hop)
{
	__u32 head_length = ETH_HLEN + (outer ? sizeof(*outer) : 0);
	__u32 end = packet->offset + packet->length;
	struct ethhdr *ethernet;
	struct ipv6hdr *inner;

	if (end < packet->frame_length && bpf_xdp_adjust_tail(ctx, (int)end - (int)packet->frame_length))
		return false;
	if (packet->offset != head_length && bpf_xdp_adjust_head(ctx, (int)packet->offset - (int)head_length))
		return false;

	ethernet = (void *)(long)ctx->data;
	inner = (void *)ethernet + head_length;
	if ((void *)(inner + 1) > (void *)(long)ctx->data_end)
		return false;
	__builtin_memcpy(ethernet->h_dest, next_hop->destination, HA_MAC_LENGTH);
	__builtin_memcpy(ethernet->h_source, next_hop->source, HA_MAC_LENGTH);
	ethernet->h_proto = bpf_htons(ETH_P_IPV6);
	if (outer)
		__builtin_memcpy(ethernet + 1, outer, sizeof(*outer));
	*(__be32 *)inner = bpf_htonl(packet->first_word);
	inner->hop_limit = packet->hop_limit - 1;
	return true;
}

/*
 * Give the kernel the packet with `outer` before it, or without any outer header, behind the link header it came with.
 * Its hop limit is decremented here only where the kernel will not do it.
 */
static __noinline int ha_pass_reframed(struct xdp_md *ctx, const struct ha_packet *packet, const struct ipv6hdr *outer,
				       enum ha_reason reason)
{
	__u32 offset = packet->link_length + (outer ? sizeof(*outer) : 0);
	__be32 first_word = bpf_htonl(packet->first_word);
	__u8 hop_limit = packet->hop_limit - (outer ? 1 : 0);
	struct ha_link_header link;

	if (!ha_load_link_header(ctx, packet, &link) ||
	    (packet->offset != offset && bpf_xdp_adjust_head(ctx, (int)packet->offset - (int)offset)) ||
	    !ha_store_link_header(ctx, packet, &link) ||
	    (outer && bpf_xdp_store_bytes(ctx, packet->link_length, (void *)outer, sizeof(*outer))) ||
	    bpf_xdp_store_bytes(ctx, offset, &first_word, sizeof(first_word)) ||
	    bpf_xdp_store_bytes(ctx, offset + offsetof(struct ipv6hdr, hop_limit), &hop_limit, sizeof(hop_limit)))
		return ha_drop(packet, HA_DROP_ADJUST_FAILED);
	return ha_pass(packet, reason);
}

#endif
