/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Signalling to the control plane, whole and unaltered, by the TAP of the interface that it came by. The kernel must
 * not see it: without Mobile IPv6 of its own it answers Mobility Headers and Home Address options with Parameter
 * Problem. What is not ours, as ESP with another SPI, is the kernel's. Nothing is judged here that the control plane
 * judges.
 */
#ifndef HA_STEER_H
#define HA_STEER_H

#include <linux/icmpv6.h>

#include "binding.h"
#include "verdict.h"

enum ha_steer_limit {
	/* Pad1 makes an option of each octet, and seven are as many as alignment needs. */
	HA_MAX_DESTINATION_OPTIONS = 16,
};

enum ha_destination_option {
	HA_OPTION_PAD1 = 0,
	/* RFC 6275 section 6.3 */
	HA_OPTION_HOME_ADDRESS = 0xc9,
};

enum ha_neighbor_discovery_type {
	HA_NEIGHBOR_SOLICITATION = 135,
	HA_NEIGHBOR_ADVERTISEMENT = 136,
};

/* RFC 4861 sections 4.3 and 4.4: as far as the two messages are alike. */
struct ha_neighbor_message {
	struct icmp6hdr header;
	struct in6_addr target;
};

/* The type of a solicitation or advertisement right behind the IPv6 header, unfragmented (RFC 6980); else 0. */
static __always_inline __u8 ha_neighbor_discovery_type(const struct ha_packet *packet)
{
	__u8 type = bpf_ntohl(packet->upper_word) >> 24;

	if (packet->upper_protocol != IPPROTO_ICMPV6 || packet->upper_offset != packet->offset + sizeof(struct ipv6hdr))
		return 0;
	return type == HA_NEIGHBOR_SOLICITATION || type == HA_NEIGHBOR_ADVERTISEMENT ? type : 0;
}

static __always_inline int ha_to_control_plane(struct xdp_md *ctx, const struct ha_packet *packet,
					       enum ha_reason reason)
{
	if (bpf_redirect_map(&taps, ctx->ingress_ifindex, XDP_ABORTED) != XDP_REDIRECT)
		return ha_drop(packet, HA_DROP_NO_TAP);
	return ha_redirect(packet, reason);
}

/* Whether a Destination Options header holds a Home Address option; one that is malformed is the kernel's to refuse. */
__noinline bool ha_has_home_address_option(struct xdp_md *ctx, __u32 offset)
{
	struct ipv6_opt_hdr header;
	__u32 end;

	if (bpf_xdp_load_bytes(ctx, offset, &header, sizeof(header)))
		return false;
	end = offset + (header.hdrlen + 1) * 8;
	offset += sizeof(header);
	for (int i = 0; i < HA_MAX_DESTINATION_OPTIONS && offset + 2 <= end; i++) {
		__u8 option[2];

		if (bpf_xdp_load_bytes(ctx, offset, option, sizeof(option)))
			return false;
		if (option[0] == HA_OPTION_HOME_ADDRESS)
			return true;
		offset += option[0] == HA_OPTION_PAD1 ? 1 : 2 + option[1];
	}
	return false;
}

static __noinline int ha_consider_tentative(struct xdp_md *ctx, const struct ha_packet *packet,
					    const struct ha_interface *interface)
{
	struct ha_neighbor_message message;
	const __u32 *home_link;

	if (packet->length < sizeof(struct ipv6hdr) + sizeof(message) ||
	    bpf_xdp_load_bytes(ctx, packet->upper_offset, &message, sizeof(message)))
		return HA_CONTINUE;
	home_link = bpf_map_lookup_elem(&tentative, &message.target);
	if (!home_link || *home_link != interface->home_link)
		return HA_CONTINUE;
	return ha_to_control_plane(ctx, packet, HA_STEER_TENTATIVE);
}

/* Neighbor discovery about an address under duplicate address detection: whoever else claims it must be heard. */
static __always_inline int ha_steer_tentative(struct xdp_md *ctx, const struct ha_packet *packet,
					      const struct ha_interface *interface)
{
	if (!interface->home_link || !ha_neighbor_discovery_type(packet))
		return HA_CONTINUE;
	return ha_consider_tentative(ctx, packet, interface);
}

/* Mobility Headers, ESP of ours and Home Address options that are addressed to the home agent. */
static __always_inline int ha_steer_signalling(struct xdp_md *ctx, const struct ha_packet *packet)
{
	bool is_mobility = packet->upper_protocol == IPPROTO_MH;
	bool is_esp = packet->upper_protocol == IPPROTO_ESP;
	bool is_fragment = packet->flags & HA_PACKET_FRAGMENT;
	__u32 spi = bpf_ntohl(packet->upper_word);

	if (!is_mobility && !is_esp && !packet->options_offset &&
	    !(packet->flags & (HA_PACKET_CHAIN_CUT | HA_PACKET_CHAIN_UNFOLLOWED)))
		return HA_CONTINUE;
	if (!ha_is_home_agent_address(&packet->destination))
		return HA_CONTINUE;

	if (is_mobility && !is_fragment)
		return ha_to_control_plane(ctx, packet, HA_STEER_MOBILITY_HEADER);
	if (is_esp && !is_fragment && packet->flags & HA_PACKET_UPPER_WORD && spi >= ha_configuration.spi_first &&
	    spi <= ha_configuration.spi_last)
		return ha_to_control_plane(ctx, packet, HA_STEER_ESP);
	if ((packet->options_offset && ha_has_home_address_option(ctx, packet->options_offset)) ||
	    (packet->second_options_offset && ha_has_home_address_option(ctx, packet->second_options_offset)))
		return ha_to_control_plane(ctx, packet, HA_STEER_HOME_ADDRESS_OPTION);

	if (packet->flags & HA_PACKET_CHAIN_CUT || (is_esp && !is_fragment && !(packet->flags & HA_PACKET_UPPER_WORD)))
		return ha_pass(packet, HA_PASS_MALFORMED);
	if (packet->flags & HA_PACKET_CHAIN_UNFOLLOWED || ((is_mobility || is_esp) && is_fragment))
		return ha_pass(packet, HA_PASS_SLOW_PATH);
	return HA_CONTINUE;
}

#endif
