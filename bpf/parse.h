/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From octets to struct ha_packet: Ethernet, VLAN tags, IPv6 and its extension headers (RFC 8200 section 4), followed
 * as far as a bound. The Mobility Header (RFC 6275 section 6.1) and ESP are destinations, not headers to skip, and the
 * payload of a fragment that is not the first is never looked at. For XDP and tc alike; it changes no octet.
 *
 * A cursor stands in the part of the frame that can be reached by pointers. Every check against its end comes with one
 * against the length that the IPv6 header claims, so that Ethernet padding is never taken for a header.
 */
#ifndef HA_PARSE_H
#define HA_PARSE_H

#include <linux/bpf.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

enum ha_parse_limit {
	HA_MAX_VLAN_TAGS = 2,
	/* Of a tag's control field, beside priority and drop eligibility (IEEE 802.1Q). */
	HA_VLAN_MASK = 0xfff,
	/* As many as control/wire/ipv6.py follows. */
	HA_MAX_EXTENSION_HEADERS = 8,
};

enum ha_packet_flag {
	/* A part of a packet (a Fragment header that says "whole" makes none, RFC 6946). */
	HA_PACKET_FRAGMENT = 1,
	/* A part without the upper layer's header. */
	HA_PACKET_LATER_FRAGMENT = 2,
	/* An extension header runs past the end of the packet. */
	HA_PACKET_CHAIN_CUT = 4,
	/* More headers than are followed here, or a source route that has not ended. */
	HA_PACKET_CHAIN_UNFOLLOWED = 8,
	/* The first four octets of the upper layer are in upper_word. */
	HA_PACKET_UPPER_WORD = 16,
};

struct ha_cursor {
	void *position;
	void *end;
};

/* One IPv6 packet in a frame. Offsets count from the start of the frame; all integers but upper_word in host order. */
struct ha_packet {
	struct in6_addr source;
	struct in6_addr destination;
	/* The whole frame, as it arrived. */
	__u32 frame_length;
	/* Ethernet header and VLAN tags. */
	__u32 link_length;
	/* The IPv6 header; beyond link_length where it lies in a tunnel. */
	__u32 offset;
	/* The IPv6 packet, by its own word: 40 and the payload length. */
	__u32 length;
	/* Version, traffic class and flow label. */
	__u32 first_word;
	__u32 upper_offset;
	/* TCP and UDP: ports; ESP: SPI; ICMPv6: type, code, checksum. */
	__be32 upper_word;
	/* The first two Destination Options headers; 0: none. */
	__u16 options_offset;
	__u16 second_options_offset;
	__u8 upper_protocol;
	__u8 hop_limit;
	/* enum ha_packet_flag */
	__u16 flags;
};

struct ha_vlan_tag {
	__be16 control;
	__be16 ether_type;
};

static __always_inline bool ha_address_equal(const struct in6_addr *one, const struct in6_addr *other)
{
	const __u32 *a = one->in6_u.u6_addr32;
	const __u32 *b = other->in6_u.u6_addr32;

	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]));
}

static __always_inline bool ha_address_is_multicast(const struct in6_addr *address)
{
	return address->in6_u.u6_addr8[0] == 0xff;
}

static __always_inline bool ha_address_is_link_local(const struct in6_addr *address)
{
	return (address->in6_u.u6_addr16[0] & bpf_htons(0xffc0)) == bpf_htons(0xfe80);
}

static __always_inline bool ha_address_is_unspecified(const struct in6_addr *address)
{
	const __u32 *a = address->in6_u.u6_addr32;

	return !(a[0] | a[1] | a[2] | a[3]);
}

static __always_inline bool ha_address_is_loopback(const struct in6_addr *address)
{
	const __u32 *a = address->in6_u.u6_addr32;

	return !(a[0] | a[1] | a[2] | (a[3] ^ bpf_htonl(1)));
}

/* Whether an address may stand in a packet that leaves its link (RFC 4291 sections 2.5.2, 2.5.3, 2.5.6 and 2.7). */
static __always_inline bool ha_address_is_forwardable(const struct in6_addr *address)
{
	return !ha_address_is_multicast(address) && !ha_address_is_link_local(address) &&
	       !ha_address_is_unspecified(address) && !ha_address_is_loopback(address);
}

/*
 * Step over Ethernet and its VLAN tags; false if the frame ends before. A tag that names a VLAN makes the frame one of
 * another link, whose own interface the kernel knows; one that is for the priority alone does not (VLAN 0).
 */
static __always_inline bool ha_parse_ethernet(struct ha_cursor *cursor, struct ethhdr **ethernet, __be16 *ether_type,
					      __u32 *link_length, bool *is_of_vlan)
{
	struct ethhdr *header = cursor->position;

	if ((void *)(header + 1) > cursor->end)
		return false;
	*ethernet = header;
	*ether_type = header->h_proto;
	*link_length = sizeof(*header);
	*is_of_vlan = false;
	cursor->position = header + 1;

	for (int i = 0; i < HA_MAX_VLAN_TAGS; i++) {
		struct ha_vlan_tag *tag = cursor->position;

		if (*ether_type != bpf_htons(ETH_P_8021Q) && *ether_type != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > cursor->end)
			return false;
		*is_of_vlan |= (tag->control & bpf_htons(HA_VLAN_MASK)) != 0;
		*ether_type = tag->ether_type;
		*link_length += sizeof(*tag);
		cursor->position = tag + 1;
	}
	return true;
}

/*
 * Follow the extension headers of a packet whose fixed header has been read into `packet`: the cursor stands behind
 * that header, `remaining` octets of the packet are left. Sets upper_protocol, upper_offset, upper_word, the offsets of
 * Destination Options, and flags.
 */
static __always_inline void ha_parse_chain(struct ha_cursor *cursor, __u8 protocol, __u32 remaining,
					   struct ha_packet *packet)
{
	__u32 offset = packet->offset + sizeof(struct ipv6hdr);

	for (int i = 0; i <= HA_MAX_EXTENSION_HEADERS; i++) {
		struct ipv6_opt_hdr *header = cursor->position;
		__u32 length;

		packet->upper_protocol = protocol;
		packet->upper_offset = offset;
		if (protocol != IPPROTO_HOPOPTS && protocol != IPPROTO_ROUTING && protocol != IPPROTO_FRAGMENT &&
		    protocol != IPPROTO_DSTOPTS) {
			if (remaining < sizeof(__be32) || cursor->position + sizeof(__be32) > cursor->end)
				return;
			packet->upper_word = *(__be32 *)cursor->position;
			packet->flags |= HA_PACKET_UPPER_WORD;
			return;
		}
		if (i == HA_MAX_EXTENSION_HEADERS)
			break;
		/* All four kinds are 8 octets at least. */
		if (remaining < 8) {
			packet->flags |= HA_PACKET_CHAIN_CUT;
			return;
		}
		if (cursor->position + 8 > cursor->end)
			break;
		if (protocol == IPPROTO_FRAGMENT) {
			__be16 fragment = ((__be16 *)header)[1];

			length = 8;
			if (fragment & bpf_htons(0xfff9))
				packet->flags |= HA_PACKET_FRAGMENT;
			if (fragment & bpf_htons(0xfff8)) {
				packet->upper_protocol = header->nexthdr;
				packet->upper_offset = offset + length;
				packet->flags |= HA_PACKET_LATER_FRAGMENT;
				return;
			}
		} else {
			length = (header->hdrlen + 1) * 8;
		}
		if (remaining < length) {
			packet->flags |= HA_PACKET_CHAIN_CUT;
			return;
		}
		/* Segments left: this packet goes elsewhere first. */
		if (protocol == IPPROTO_ROUTING && ((__u8 *)header)[3])
			break;
		if (protocol == IPPROTO_DSTOPTS) {
			if (!packet->options_offset)
				packet->options_offset = offset;
			else if (!packet->second_options_offset)
				packet->second_options_offset = offset;
			else
				break;
		}
		protocol = header->nexthdr;
		remaining -= length;
		offset += length;
		cursor->position += length;
	}
	packet->flags |= HA_PACKET_CHAIN_UNFOLLOWED;
}

/*
 * Read the IPv6 packet that the cursor stands on into `packet`, whose offset and frame_length are set; `available`
 * octets of the frame are left. False if there is no whole IPv6 packet: the rest of `packet` is then undefined.
 */
static __always_inline bool ha_parse_ipv6(struct ha_cursor *cursor, __u32 available, struct ha_packet *packet)
{
	struct ipv6hdr *header = cursor->position;
	__u32 payload_length;

	if ((void *)(header + 1) > cursor->end)
		return false;
	packet->first_word = bpf_ntohl(*(__be32 *)header);
	payload_length = bpf_ntohs(header->payload_len);
	packet->length = sizeof(*header) + payload_length;
	if (packet->first_word >> 28 != 6 || packet->length > available)
		return false;
	packet->source = *(struct in6_addr *)&header->saddr;
	packet->destination = *(struct in6_addr *)&header->daddr;
	packet->hop_limit = header->hop_limit;
	packet->upper_word = 0;
	packet->options_offset = 0;
	packet->second_options_offset = 0;
	packet->flags = 0;
	cursor->position = header + 1;
	ha_parse_chain(cursor, header->nexthdr, payload_length, packet);
	return true;
}

#endif
