/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Packet Too Big to the source of a packet that does not fit, and when not to send it (RFC 4443 sections 2.4 and 3.2,
 * RFC 2473 section 7.1). Time Exceeded and Destination Unreachable are the kernel's, which gets such packets whole.
 */
#ifndef HA_ICMPV6_ERROR_H
#define HA_ICMPV6_ERROR_H

#include <linux/icmpv6.h>

#include "checksum.h"
#include "frame.h"
#include "verdict.h"

enum ha_icmpv6_error_limit {
	HA_MINIMUM_MTU = 1280,
	/* Who is told has sent more than the minimum MTU, so that there is always this much to quote. */
	HA_QUOTE_LENGTH = HA_MINIMUM_MTU - sizeof(struct ipv6hdr) - sizeof(struct icmp6hdr),
	/* RFC 4443 section 2.4 (f): errors a second, and in one burst. */
	HA_ERROR_INTERVAL_NS = 1000000,
	HA_ERROR_BURST = 64,
	/* Types below are errors (RFC 4443 section 2.1). */
	HA_FIRST_INFORMATIONAL_TYPE = 128,
	HA_ND_REDIRECT = 137,
};

/* When the burst that is allowed will be whole again. CPUs that race for it make the limit inexact, not absent. */
static volatile __u64 ha_errors_allowed_from_ns;

static __always_inline bool ha_error_is_allowed(void)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	__u64 from = ha_errors_allowed_from_ns;

	if (from < now)
		from = now;
	if (from - now > (__u64)HA_ERROR_INTERVAL_NS * HA_ERROR_BURST)
		return false;
	ha_errors_allowed_from_ns = from + HA_ERROR_INTERVAL_NS;
	return true;
}

/* Nothing is said about an error or a Redirect; scope has been checked, so that the source is a unicast address. */
static __always_inline bool ha_may_be_answered(const struct ha_packet *packet)
{
	__u8 type = bpf_ntohl(packet->upper_word) >> 24;

	if (packet->upper_protocol != IPPROTO_ICMPV6 || packet->flags & HA_PACKET_LATER_FRAGMENT)
		return true;
	return packet->flags & HA_PACKET_UPPER_WORD && type >= HA_FIRST_INFORMATIONAL_TYPE && type != HA_ND_REDIRECT;
}

/*
 * Turn a packet that does not fit into its Packet Too Big, back out by the interface and to the station that it came
 * from; through the tunnel again if that is how it came.
 * DEVIATION RFC 2473 section 7.1 (b): a packet of no more than the minimum MTU is dropped where it should be tunnelled
 * in fragments. XDP makes one frame of one, and the kernel, given the outer packet, would call it too big to ourselves.
 */
static __noinline int ha_answer_too_big(struct xdp_md *ctx, const struct ha_packet *packet,
					const struct in6_addr *source, int mtu)
{
	struct {
		struct ha_pseudo_header pseudo;
		struct icmp6hdr header;
	} summed = {
		.pseudo =
			{
				.source = *source,
				.destination = packet->source,
				.length = bpf_htonl(sizeof(struct icmp6hdr) + HA_QUOTE_LENGTH),
				.next_header = bpf_htonl(IPPROTO_ICMPV6),
			},
		.header =
			{
				.icmp6_type = ICMPV6_PKT_TOOBIG,
				.icmp6_mtu = bpf_htonl(mtu > HA_MINIMUM_MTU ? mtu : HA_MINIMUM_MTU),
			},
	};
	bool is_tunnelled = packet->offset != packet->link_length;
	__u32 growth = HA_MINIMUM_MTU - HA_QUOTE_LENGTH;
	/* Source and destination of the tunnel that it came by. */
	struct in6_addr tunnel[2];
	struct ha_link_header link;
	struct ipv6hdr *header;
	__u32 link_length;
	__s64 sum;

	if (packet->length <= HA_MINIMUM_MTU || !ha_may_be_answered(packet) || !ha_error_is_allowed())
		return ha_drop(packet, HA_DROP_TOO_BIG_UNANSWERED);

	sum = bpf_csum_diff(NULL, 0, (__be32 *)&summed, sizeof(summed), 0);
	sum = ha_checksum_add(ctx, packet->offset, HA_QUOTE_LENGTH, sum);
	if (sum < 0)
		return ha_drop(packet, HA_DROP_TOO_BIG_UNANSWERED);
	summed.header.icmp6_cksum = ha_checksum_fold(sum);

	if (is_tunnelled) {
		if (bpf_xdp_load_bytes(ctx, packet->link_length + offsetof(struct ipv6hdr, saddr), tunnel,
				       sizeof(tunnel)))
			return ha_drop(packet, HA_DROP_ADJUST_FAILED);
		growth += sizeof(*header);
	}
	if (!ha_load_link_header(ctx, packet, &link) ||
	    bpf_xdp_adjust_tail(ctx, (int)(packet->offset + HA_QUOTE_LENGTH) - (int)packet->frame_length) ||
	    bpf_xdp_adjust_head(ctx, (int)(packet->offset - packet->link_length) - (int)growth))
		return ha_drop(packet, HA_DROP_ADJUST_FAILED);
	ha_turn_round(&link);
	if (!ha_store_link_header(ctx, packet, &link))
		return ha_drop(packet, HA_DROP_ADJUST_FAILED);

	link_length = packet->link_length;
	if (link_length > sizeof(link))
		return ha_drop(packet, HA_DROP_ADJUST_FAILED);
	header = (void *)(long)ctx->data + link_length;
	if (is_tunnelled) {
		if ((void *)(header + 1) > (void *)(long)ctx->data_end)
			return ha_drop(packet, HA_DROP_ADJUST_FAILED);
		ha_write_header(header, 0, HA_MINIMUM_MTU, IPPROTO_IPV6, HA_HOP_LIMIT, &tunnel[1], &tunnel[0]);
		header++;
	}
	if ((void *)(header + 1) + sizeof(summed.header) > (void *)(long)ctx->data_end)
		return ha_drop(packet, HA_DROP_ADJUST_FAILED);
	ha_write_header(header, 0, sizeof(summed.header) + HA_QUOTE_LENGTH, IPPROTO_ICMPV6, HA_HOP_LIMIT,
			&summed.pseudo.source, &summed.pseudo.destination);
	__builtin_memcpy(header + 1, &summed.header, sizeof(summed.header));
	return ha_transmit(packet, HA_FORWARD_PACKET_TOO_BIG);
}

#endif
