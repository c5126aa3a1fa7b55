/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A mobile node's own packets: ha_host_ingress at XDP of the interface that moves, ha_host_egress at its tc egress. All
 * that is not the tunnel's or the signalling's goes by untouched.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "host_steer.h"
#include "host_tunnel.h"
#include "host_verdict.h"
#include "parse.h"

enum ha_host_pull {
	/* Ethernet, IPv6, one extension header of some length, and the upper layer's first word. */
	HA_HOST_PULLED_OCTETS = 128,
};

/* Step over the link's headers; false if what follows is no IPv6, or another link's. */
static __always_inline bool ha_host_enter_frame(void *data, void *end, struct ha_packet *packet)
{
	struct ha_cursor cursor = {.position = data, .end = end};
	struct ethhdr *ethernet;
	__be16 ether_type;
	bool is_of_vlan;

	if (!ha_parse_ethernet(&cursor, &ethernet, &ether_type, &packet->link_length, &is_of_vlan))
		return false;
	packet->offset = packet->link_length;
	return !is_of_vlan && ether_type == bpf_htons(ETH_P_IPV6);
}

static __always_inline int ha_host_parse(void *data, void *end, struct ha_packet *packet)
{
	struct ha_cursor cursor = {.end = end};

	if (!packet || packet->offset > HA_HOST_MAX_LINK_LENGTH)
		return 0;
	cursor.position = data + packet->offset;
	return ha_parse_ipv6(&cursor, packet->frame_length - packet->offset, packet);
}

/*
 * Read the IPv6 packet at packet->offset; 0 if it is not whole. Global, and not static, so that the verifier looks at
 * the chain of headers by itself (see ha_read_packet in frame.h); that is also why a null pointer is expected.
 */
__noinline int ha_host_read(struct xdp_md *ctx, struct ha_packet *packet)
{
	return ha_host_parse((void *)(long)ctx->data, (void *)(long)ctx->data_end, packet);
}

__noinline int ha_host_read_buffer(struct __sk_buff *skb, struct ha_packet *packet)
{
	return ha_host_parse((void *)(long)skb->data, (void *)(long)skb->data_end, packet);
}

SEC("xdp.frags")
int ha_host_ingress(struct xdp_md *ctx)
{
	struct ha_packet packet = {.frame_length = bpf_xdp_get_buff_len(ctx)};
	int verdict;

	if (!ha_host_enter_frame((void *)(long)ctx->data, (void *)(long)ctx->data_end, &packet) ||
	    !ha_host_read(ctx, &packet))
		return ha_host_pass_in(&packet, HA_HOST_PASSED_IN);
	verdict = ha_host_open_tunnel(ctx, &packet);
	if (verdict == HA_HOST_CONTINUE)
		verdict = ha_host_steer_neighbor_discovery(ctx, &packet);
	if (verdict == HA_HOST_CONTINUE)
		verdict = ha_host_steer_signalling(ctx, &packet);
	if (verdict == HA_HOST_CONTINUE)
		verdict = ha_host_pass_in(&packet, HA_HOST_PASSED_IN);
	return verdict;
}

SEC("tc")
int ha_host_egress(struct __sk_buff *skb)
{
	struct ha_packet packet = {.frame_length = skb->len};
	int verdict;

	/* Headers may still lie in pages. Failure is for a packet that is shorter, which is read as far as it goes. */
	if (skb->data_end - skb->data < HA_HOST_PULLED_OCTETS)
		bpf_skb_pull_data(skb, skb->len < HA_HOST_PULLED_OCTETS ? skb->len : HA_HOST_PULLED_OCTETS);
	if (!ha_host_enter_frame((void *)(long)skb->data, (void *)(long)skb->data_end, &packet) ||
	    !ha_host_read_buffer(skb, &packet))
		return ha_host_pass_out(&packet, HA_HOST_PASSED_OUT);
	verdict = ha_host_enter_tunnel(skb, &packet);
	if (verdict == HA_HOST_CONTINUE)
		verdict = ha_host_pass_out(&packet, HA_HOST_PASSED_OUT);
	return verdict;
}

char LICENSE[] SEC("license") = "GPL";
