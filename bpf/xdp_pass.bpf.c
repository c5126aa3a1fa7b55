/* SPDX-License-Identifier: GPL-2.0-only */
/* For the far end of a veth pair: native XDP_TX and redirects arrive only where the peer runs native XDP itself. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp.frags")
int xdp_pass(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
