/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The home agent's data path (RFC 6275 section 10.4): each step of a packet's way is one line of ha_xdp, which decides
 * or lets it go on. What it cannot do, it passes to the kernel whole.
 */
#include "maps.h"
#include "nd_proxy.h"
#include "parse.h"
#include "steer.h"
#include "tunnel.h"
#include "verdict.h"

/* Read the frame; what is of no interface of ours, of a VLAN, no IPv6, or for another station, is not our business. */
static __always_inline int ha_read(struct xdp_md *ctx, struct ha_packet *packet, const struct ha_interface **interface)
{
	struct ha_cursor cursor = {.position = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end};
	__u32 index = ctx->ingress_ifindex;
	struct ethhdr *ethernet;
	__be16 ether_type;
	bool is_of_vlan;

	packet->frame_length = bpf_xdp_get_buff_len(ctx);
	*interface = bpf_map_lookup_elem(&interfaces, &index);
	if (!*interface)
		return ha_pass(packet, HA_PASS_NOT_SERVED);
	if (!ha_parse_ethernet(&cursor, &ethernet, &ether_type, &packet->link_length, &is_of_vlan))
		return ha_pass(packet, HA_PASS_MALFORMED);
	if (is_of_vlan)
		return ha_pass(packet, HA_PASS_NOT_OURS);
	if (ether_type != bpf_htons(ETH_P_IPV6))
		return ha_pass(packet, HA_PASS_NOT_IPV6);
	packet->offset = packet->link_length;
	if (!ha_read_packet(ctx, packet, packet->frame_length - packet->link_length))
		return ha_pass(packet, HA_PASS_MALFORMED);
	/* A unicast packet to a group of stations is not to be forwarded, as in the kernel (RFC 1122 section 3.3.6). */
	if (__builtin_memcmp(ethernet->h_dest, (*interface)->mac, HA_MAC_LENGTH) &&
	    !(ethernet->h_dest[0] & 1 && ha_address_is_multicast(&packet->destination)))
		return ha_pass(packet, HA_PASS_NOT_OURS);
	return HA_CONTINUE;
}

SEC("xdp.frags")
int ha_xdp(struct xdp_md *ctx)
{
	const struct ha_interface *interface;
	struct ha_packet packet = {};
	int verdict = ha_read(ctx, &packet, &interface);

	if (verdict == HA_CONTINUE)
		verdict = ha_answer_solicitation(ctx, &packet, interface);
	if (verdict == HA_CONTINUE)
		verdict = ha_steer_tentative(ctx, &packet, interface);
	if (verdict == HA_CONTINUE)
		verdict = ha_steer_signalling(ctx, &packet);
	if (verdict == HA_CONTINUE)
		verdict = ha_open_reverse_tunnel(ctx, &packet);
	if (verdict == HA_CONTINUE)
		verdict = ha_refuse_link_local(&packet, interface);
	if (verdict == HA_CONTINUE)
		verdict = ha_tunnel_to_care_of_address(ctx, &packet);
	if (verdict == HA_CONTINUE)
		verdict = ha_forward_reverse_tunnelled(ctx, &packet);
	if (verdict == HA_CONTINUE)
		verdict = ha_pass(&packet, HA_PASS_NOT_OURS);
	return verdict;
}

char LICENSE[] SEC("license") = "GPL";
