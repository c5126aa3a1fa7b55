/* SPDX-License-Identifier: GPL-2.0-only */
/* Congestion marks across the tunnel, at either end of it (RFC 6040). In normal mode they go in as they are. */
#ifndef HA_CONGESTION_H
#define HA_CONGESTION_H

#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

/* The two bits of RFC 3168 section 5, in a header's first word. */
enum ha_ecn {
	HA_ECN_NOT_CAPABLE = 0 << 20,
	HA_ECN_CAPABLE_1 = 1 << 20,
	HA_ECN_CAPABLE_0 = 2 << 20,
	HA_ECN_CONGESTION = 3 << 20,
	HA_ECN_MASK = 3 << 20,
};

/*
 * RFC 6040 section 4.2: what the first word of the inner packet says of congestion once it is out; false if the packet
 * may not go on.
 */
static __always_inline bool ha_take_congestion_out(__u32 *inner_first_word, __u32 outer_first_word)
{
	__u32 outer = outer_first_word & HA_ECN_MASK;
	__u32 inner = *inner_first_word & HA_ECN_MASK;

	if (inner == HA_ECN_NOT_CAPABLE)
		return outer != HA_ECN_CONGESTION;
	if (outer == HA_ECN_CONGESTION)
		*inner_first_word |= HA_ECN_CONGESTION;
	else if (outer == HA_ECN_CAPABLE_1 && inner == HA_ECN_CAPABLE_0)
		*inner_first_word = (*inner_first_word & ~(__u32)HA_ECN_MASK) | HA_ECN_CAPABLE_1;
	return true;
}

#endif
