// SPDX-License-Identifier: GPL-2.0-only
/*
 * The bench's wrapper. BPF_PROG_TEST_RUN with `repeat` hands a program the packet that its last run left behind, so
 * that a program that tunnels would time its miss path. This one puts the frame back first, gives it the next address
 * of a list, and tail-calls the program under test. What it costs itself is measured with bare_tx in the program's
 * place.
 */
#include <linux/bpf.h>
#include <linux/in6.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#define BENCH_FRAME_LENGTH_MAX 256

char LICENSE[] SEC("license") = "GPL";

struct bench_frame {
	/* In octets, of `octets`; at most BENCH_FRAME_LENGTH_MAX. */
	__u32 length;
	/* Where in the frame the next address of the list goes. */
	__u32 address_offset;
	/* Addresses in the list; 0: leave the frame as it is. */
	__u32 address_count;
	__u32 next;
	__u8 octets[BENCH_FRAME_LENGTH_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bench_frame);
} frame SEC(".maps");

/* In the order that they are used in, shuffled by the bench. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct in6_addr);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} program_under_test SEC(".maps");

SEC("xdp.frags")
int restore(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct bench_frame *wanted = bpf_map_lookup_elem(&frame, &zero);

	if (!wanted)
		return XDP_ABORTED;

	__u32 length = wanted->length;

	if (length < 1 || length > BENCH_FRAME_LENGTH_MAX)
		return XDP_ABORTED;

	int grown = (int)bpf_xdp_get_buff_len(ctx) - (int)length;

	if (grown && bpf_xdp_adjust_head(ctx, grown))
		return XDP_ABORTED;
	if (bpf_xdp_store_bytes(ctx, 0, wanted->octets, length))
		return XDP_ABORTED;

	if (wanted->address_count) {
		__u32 index = wanted->next;
		struct in6_addr *address = bpf_map_lookup_elem(&addresses, &index);

		if (!address || bpf_xdp_store_bytes(ctx, wanted->address_offset, address, sizeof(*address)))
			return XDP_ABORTED;
		wanted->next = index + 1 < wanted->address_count ? index + 1 : 0;
	}

	bpf_tail_call(ctx, &program_under_test, 0);
	return XDP_ABORTED;
}

SEC("xdp.frags")
int bare_tx(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_TX;
}
