/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Answers Neighbor Solicitations for home addresses whose mobile nodes are away, and defends these addresses against
 * whoever would take one (RFC 6275 section 10.4.1, RFC 4861 section 7.2). The unsolicited advertisement that draws the
 * traffic in the first place is the control plane's.
 */
#ifndef HA_ND_PROXY_H
#define HA_ND_PROXY_H

#include "binding.h"
#include "checksum.h"
#include "steer.h"
#include "verdict.h"

enum ha_nd_proxy_limit {
	HA_MAX_SOLICITATION_OPTIONS = 8,
	HA_NEIGHBOR_DISCOVERY_HOP_LIMIT = 255,
};

enum ha_neighbor_discovery_option {
	HA_OPTION_SOURCE_LINK_LAYER_ADDRESS = 1,
	HA_OPTION_TARGET_LINK_LAYER_ADDRESS = 2,
};

/* RFC 4861 section 4.4, with the only option that ours carries. */
struct ha_advertisement {
	struct icmp6hdr header;
	struct in6_addr target;
	__u8 option_type;
	__u8 option_units;
	__u8 mac[HA_MAC_LENGTH];
};

_Static_assert(sizeof(struct ha_advertisement) == 32, "ha_advertisement has a hole");

static __always_inline bool ha_is_solicited_node_multicast(const struct in6_addr *address)
{
	const __u32 *a = address->in6_u.u6_addr32;

	return a[0] == bpf_htonl(0xff020000) && a[1] == 0 && a[2] == bpf_htonl(1) &&
	       (a[3] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

/* Whether a solicitation's options are well-formed, and whether they fit its source (RFC 4861 section 7.1.1). */
__noinline bool ha_solicitation_options_are_valid(struct xdp_md *ctx, __u32 offset, __u32 length,
						  bool source_is_unspecified)
{
	for (int i = 0; i < HA_MAX_SOLICITATION_OPTIONS && length; i++) {
		__u8 option[2];
		__u32 size;

		if (length < 8 || bpf_xdp_load_bytes(ctx, offset, option, sizeof(option)))
			return false;
		size = option[1] * 8;
		if (!size || size > length)
			return false;
		if (source_is_unspecified && option[0] == HA_OPTION_SOURCE_LINK_LAYER_ADDRESS)
			return false;
		offset += size;
		length -= size;
	}
	return !length;
}

/*
 * RFC 4861 section 7.1.1, all of it: a host must discard what fails, so we must not answer it. Nor does an answer go to
 * a loopback address (RFC 4291 section 2.5.3), or to a group of stations.
 */
static __always_inline bool ha_solicitation_is_valid(struct xdp_md *ctx, const struct ha_packet *packet,
						     const struct ha_neighbor_message *solicitation)
{
	__u32 length = packet->length - sizeof(struct ipv6hdr);
	struct ha_pseudo_header pseudo = {
		.source = packet->source,
		.destination = packet->destination,
		.length = bpf_htonl(length),
		.next_header = bpf_htonl(IPPROTO_ICMPV6),
	};
	bool source_is_unspecified = ha_address_is_unspecified(&packet->source);
	__u8 station;
	__s64 sum;

	if (bpf_xdp_load_bytes(ctx, offsetof(struct ethhdr, h_source), &station, sizeof(station)) || station & 1)
		return false;
	if (packet->hop_limit != HA_NEIGHBOR_DISCOVERY_HOP_LIMIT || solicitation->header.icmp6_code != 0)
		return false;
	if (ha_address_is_multicast(&solicitation->target) || ha_address_is_multicast(&packet->source) ||
	    ha_address_is_loopback(&packet->source))
		return false;
	if (source_is_unspecified && !ha_is_solicited_node_multicast(&packet->destination))
		return false;
	if (!ha_address_is_multicast(&packet->destination) &&
	    !ha_address_equal(&packet->destination, &solicitation->target))
		return false;
	if (!ha_solicitation_options_are_valid(ctx, packet->upper_offset + sizeof(*solicitation),
					       length - sizeof(*solicitation), source_is_unspecified))
		return false;
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&pseudo, sizeof(pseudo), 0);
	if (sum >= 0)
		sum = ha_checksum_add(ctx, packet->upper_offset, length, sum);
	return sum >= 0 && ha_checksum_fold(sum) == 0;
}

/* Whether a target is defended on a home link: by a live binding, its link-local address only by one with the L bit. */
static __always_inline bool ha_is_defended(const struct in6_addr *target, __u32 index,
					   const struct ha_home_link *home_link)
{
	bool is_link_local = target->in6_u.u6_addr32[0] == bpf_htonl(0xfe800000) && target->in6_u.u6_addr32[1] == 0;
	struct in6_addr home_address = *target;
	struct ha_binding binding;

	if (is_link_local) {
		home_address.in6_u.u6_addr32[0] = home_link->prefix.in6_u.u6_addr32[0];
		home_address.in6_u.u6_addr32[1] = home_link->prefix.in6_u.u6_addr32[1];
	}
	if (ha_find_binding(&home_address, &binding) != HA_BINDING_LIVE || binding.home_link != index)
		return false;
	return !is_link_local || binding.flags & HA_BINDING_LINK_LOCAL;
}

/*
 * Rewrite the solicitation in place into its answer. Not a router, and not overriding, so that the mobile node's own
 * word would win (RFC 4861 section 7.2.8); to all nodes where the solicitor has no address yet.
 */
static __noinline int ha_advertise(struct xdp_md *ctx, const struct ha_packet *packet,
				   const struct ha_interface *interface, const struct ha_home_link *home_link,
				   const struct in6_addr *target)
{
	bool is_for_all = ha_address_is_unspecified(&packet->source);
	struct {
		struct ha_pseudo_header pseudo;
		struct ha_advertisement advertisement;
	} summed = {
		.pseudo =
			{
				.source = home_link->home_agent_address,
				.destination = packet->source,
				.length = bpf_htonl(sizeof(struct ha_advertisement)),
				.next_header = bpf_htonl(IPPROTO_ICMPV6),
			},
		.advertisement =
			{
				.header = {.icmp6_type = HA_NEIGHBOR_ADVERTISEMENT},
				.target = *target,
				.option_type = HA_OPTION_TARGET_LINK_LAYER_ADDRESS,
				.option_units = 1,
			},
	};
	struct ipv6hdr header = {
		.payload_len = bpf_htons(sizeof(struct ha_advertisement)),
		.nexthdr = IPPROTO_ICMPV6,
		.hop_limit = HA_NEIGHBOR_DISCOVERY_HOP_LIMIT,
	};
	__u8 macs[2][HA_MAC_LENGTH];
	__s64 sum;
	int growth;

	if (is_for_all) {
		summed.pseudo.destination.in6_u.u6_addr32[0] = bpf_htonl(0xff020000);
		summed.pseudo.destination.in6_u.u6_addr32[3] = bpf_htonl(1);
	}
	summed.advertisement.header.icmp6_solicited = !is_for_all;
	__builtin_memcpy(summed.advertisement.mac, interface->mac, HA_MAC_LENGTH);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&summed, sizeof(summed), 0);
	summed.advertisement.header.icmp6_cksum = ha_checksum_fold(sum);

	*(__be32 *)&header = bpf_htonl(6U << 28);
	__builtin_memcpy(&header.saddr, &summed.pseudo.source, sizeof(header.saddr));
	__builtin_memcpy(&header.daddr, &summed.pseudo.destination, sizeof(header.daddr));

	if (bpf_xdp_load_bytes(ctx, 0, macs, sizeof(macs)))
		return ha_drop(packet, HA_DROP_ADJUST_FAILED);
	if (is_for_all) {
		*(__be16 *)&macs[0][0] = bpf_htons(0x3333);
		*(__be16 *)&macs[0][2] = 0;
		*(__be16 *)&macs[0][4] = bpf_htons(1);
	} else {
		__builtin_memcpy(macs[0], macs[1], HA_MAC_LENGTH);
	}
	__builtin_memcpy(macs[1], interface->mac, HA_MAC_LENGTH);

	growth = packet->link_length + sizeof(header) + sizeof(summed.advertisement) - packet->frame_length;
	if ((growth && bpf_xdp_adjust_tail(ctx, growth)) || bpf_xdp_store_bytes(ctx, 0, macs, sizeof(macs)) ||
	    bpf_xdp_store_bytes(ctx, packet->link_length, &header, sizeof(header)) ||
	    bpf_xdp_store_bytes(ctx, packet->upper_offset, &summed.advertisement, sizeof(summed.advertisement)))
		return ha_drop(packet, HA_DROP_ADJUST_FAILED);
	return ha_transmit(packet, HA_FORWARD_SOLICITATION_ANSWERED);
}

static __noinline int ha_consider_solicitation(struct xdp_md *ctx, const struct ha_packet *packet,
					       const struct ha_interface *interface)
{
	struct ha_neighbor_message solicitation;
	__u32 index = interface->home_link;
	const struct ha_home_link *home_link;

	if (packet->length < sizeof(struct ipv6hdr) + sizeof(solicitation) ||
	    bpf_xdp_load_bytes(ctx, packet->upper_offset, &solicitation, sizeof(solicitation)))
		return ha_pass(packet, HA_PASS_MALFORMED);
	home_link = bpf_map_lookup_elem(&home_links, &index);
	if (!home_link || !ha_is_defended(&solicitation.target, index, home_link))
		return HA_CONTINUE;
	if (!ha_solicitation_is_valid(ctx, packet, &solicitation))
		return ha_pass(packet, HA_PASS_MALFORMED);
	return ha_advertise(ctx, packet, interface, home_link, &solicitation.target);
}

/* Answer a valid solicitation for an address that is defended on the link that it came by; leave any other alone. */
static __always_inline int ha_answer_solicitation(struct xdp_md *ctx, const struct ha_packet *packet,
						  const struct ha_interface *interface)
{
	if (!interface->home_link || ha_neighbor_discovery_type(packet) != HA_NEIGHBOR_SOLICITATION)
		return HA_CONTINUE;
	return ha_consider_solicitation(ctx, packet, interface);
}

static __noinline int ha_consider_link_local(const struct ha_packet *packet, const struct ha_interface *interface)
{
	__u32 index = interface->home_link;
	const struct ha_home_link *home_link = bpf_map_lookup_elem(&home_links, &index);

	if (!home_link || !ha_is_defended(&packet->destination, index, home_link))
		return HA_CONTINUE;
	return ha_drop(packet, HA_DROP_SCOPE);
}

/*
 * What comes for a defended link-local address may not leave the link.
 * DEVIATION RFC 6275 section 10.4.2: no Destination Unreachable is sent about it, as it should be.
 */
static __always_inline int ha_refuse_link_local(const struct ha_packet *packet, const struct ha_interface *interface)
{
	if (!interface->home_link || !ha_address_is_link_local(&packet->destination))
		return HA_CONTINUE;
	return ha_consider_link_local(packet, interface);
}

#endif
