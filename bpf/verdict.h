/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The only ways out of the program. Each counts the packet once, with the octets of the frame as it arrived; nothing
 * else may return XDP_*, so that the counters' sum is the packets seen.
 */
#ifndef HA_VERDICT_H
#define HA_VERDICT_H

#include "maps.h"
#include "parse.h"

/* What a step returns that has not decided: the next one goes on. No XDP verdict is negative. */
#define HA_CONTINUE (-1)

static __always_inline void ha_count(const struct ha_packet *packet, enum ha_reason reason)
{
	__u32 index = reason;
	struct ha_counter *counter = bpf_map_lookup_elem(&counters, &index);

	if (!counter)
		return;
	counter->packets++;
	counter->octets += packet->frame_length;
}

/* To the kernel, as the frame stands. */
static __always_inline int ha_pass(const struct ha_packet *packet, enum ha_reason reason)
{
	ha_count(packet, reason);
	return XDP_PASS;
}

/* Nowhere. */
static __always_inline int ha_drop(const struct ha_packet *packet, enum ha_reason reason)
{
	ha_count(packet, reason);
	return XDP_DROP;
}

/* Out by the interface that it came by. */
static __always_inline int ha_transmit(const struct ha_packet *packet, enum ha_reason reason)
{
	ha_count(packet, reason);
	return XDP_TX;
}

/* To where a bpf_redirect_map that has succeeded said. */
static __always_inline int ha_redirect(const struct ha_packet *packet, enum ha_reason reason)
{
	ha_count(packet, reason);
	return XDP_REDIRECT;
}

#endif
