/* SPDX-License-Identifier: GPL-2.0-only */
/* The internet checksum of ICMPv6 (RFC 4443 section 2.3), over octets of a frame that may lie in several buffers. */
#ifndef HA_CHECKSUM_H
#define HA_CHECKSUM_H

#include "parse.h"

enum ha_checksum_limit {
	/* A power of two. bpf_csum_diff would take 512 octets at a time; the stack has less to spare. */
	HA_CHECKSUM_CHUNK = 32,
	/* Enough for the minimum MTU, 1280 octets. */
	HA_CHECKSUM_CHUNKS = 40,
};

/* RFC 8200 section 8.1 */
struct ha_pseudo_header {
	struct in6_addr source;
	struct in6_addr destination;
	__be32 length;
	__be32 next_header;
};

/* Add `length` octets of the frame to a sum; negative if they are not there, or too many. */
__noinline __s64 ha_checksum_add(struct xdp_md *ctx, __u32 offset, __u32 length, __u32 seed)
{
	__be32 chunk[HA_CHECKSUM_CHUNK / sizeof(__be32)];
	__s64 sum = seed;
	__u32 last;

	for (int i = 0; i < HA_CHECKSUM_CHUNKS && length >= sizeof(chunk); i++) {
		if (bpf_xdp_load_bytes(ctx, offset, chunk, sizeof(chunk)))
			return -1;
		sum = bpf_csum_diff(NULL, 0, chunk, sizeof(chunk), sum);
		if (sum < 0)
			return -1;
		offset += sizeof(chunk);
		length -= sizeof(chunk);
	}
	if (!length)
		return sum;
	if (length > sizeof(chunk))
		return -1;

	/*
	 * A verifier before Linux 6.8 learns nothing from `length != 0`, and refuses a size that may be 0: the mask
	 * tells it. With 6.8 as the oldest kernel, `length` itself will do.
	 */
	last = length - 1;
	barrier_var(last);
	/* Zeros behind the last octets leave the sum as it is. */
	__builtin_memset(chunk, 0, sizeof(chunk));
	if (bpf_xdp_load_bytes(ctx, offset, chunk, (last & (sizeof(chunk) - 1)) + 1))
		return -1;
	return bpf_csum_diff(NULL, 0, chunk, sizeof(chunk), sum);
}

/* What goes into the checksum field; 0 if what was summed had a right checksum in it. */
static __always_inline __sum16 ha_checksum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

#endif
