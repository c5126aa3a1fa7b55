/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The contract between the data path and ha_fastpath/dataplane/abi.py: keys and values of every map, the reasons that
 * packets are counted by, and limits. A test compares this file's BTF with abi.py; the loader compares it with the
 * maps that it finds pinned.
 *
 * Rules: no implicit padding (asserted below); addresses and MAC addresses in network order, all other integers in host
 * order unless they are __be16 or __be32; whoever changes a layout raises HA_ABI_VERSION.
 */
#ifndef HA_ABI_H
#define HA_ABI_H

#include <linux/in6.h>
#include <linux/types.h>

#define HA_ABI_VERSION 1

enum ha_limit {
	HA_MAC_LENGTH = 6,
	/* Slots of the adjacency map; slot 0 is never filled and means "none cached". */
	HA_MAX_ADJACENCIES = 1024,
	/* Interfaces that one data path serves, home links and others together. */
	HA_MAX_INTERFACES = 64,
	/* Home links; index 0 means "not a home link". */
	HA_MAX_HOME_LINKS = 16,
	/* Addresses under duplicate address detection at one time. */
	HA_MAX_TENTATIVE = 16384,
	/* Addresses that are the home agent's own. */
	HA_MAX_HOME_AGENT_ADDRESSES = 64,
	/* Care-of addresses at which one mobile node takes tunnelled packets. */
	HA_MAX_CARE_OF_ADDRESSES = 16,
};

/* What `.rodata` of ha_xdp.bpf.o holds; written by the loader before the program is loaded. */
struct ha_configuration {
	__u32 abi_version;
	/* ESP with an SPI in [spi_first, spi_last] is signalling; any other is the kernel's. */
	__u32 spi_first;
	__u32 spi_last;
	__u32 reserved;
};

/* bindings: hash, written by the daemon, read by XDP. Key: the home address. */
struct ha_binding_key {
	struct in6_addr home_address;
};

enum ha_binding_flag {
	/* The L bit: the link-local address of the same interface identifier is defended too. */
	HA_BINDING_LINK_LOCAL = 1,
};

/* All that the data path needs of one binding. */
struct ha_binding {
	/*
	 * The key again, and first: a preallocated hash hands a removed element to the next insertion at once, under
	 * the eyes of a reader. Who reads this value checks the home address last; see binding.h.
	 */
	struct in6_addr home_address;
	struct in6_addr care_of_address;
	/* The address that the mobile node registered with: our end of the tunnel. */
	struct in6_addr home_agent_address;
	/* CLOCK_MONOTONIC; from this instant on there is no binding. */
	__u64 expires_ns;
	/* Slot of adjacencies that leads to the care-of address; 0: none cached. */
	__u32 adjacency;
	/* Index into home_links of the link that this binding is defended on; 0: a virtual home link, no ND. */
	__u16 home_link;
	/* enum ha_binding_flag */
	__u16 flags;
};

/* adjacencies: hash, so that readers see a slot whole. Key: __u32 slot. Absent: not known, ask the FIB. */
struct ha_adjacency {
	__u32 interface_index;
	/* The largest IPv6 packet, in octets, that the interface sends. */
	__u32 mtu;
	__u8 destination[HA_MAC_LENGTH];
	__u8 source[HA_MAC_LENGTH];
};

/* interfaces: hash. Key: __u32 interface index. An interface that is absent is not served: all passes. */
struct ha_interface {
	__u8 mac[HA_MAC_LENGTH];
	/* Index into home_links, 0 where the interface leads to no home link. */
	__u16 home_link;
	__u32 mtu;
};

/* home_links: array, index 1 and up. One home prefix, always of 64 bits. */
struct ha_home_link {
	struct in6_addr prefix;
	struct in6_addr home_agent_address;
};

/* home_agent_addresses: hash. Key: struct in6_addr. Value: __u32 index into home_links. */
/* tentative: hash. Key: struct in6_addr under duplicate address detection. Value: __u32 index into home_links. */
/* taps: devmap hash. Key: __u32 index of the interface a frame came by. Value: __u32 index of its TAP. */
/* ports: devmap hash. Key and value: __u32 index of an interface that may be sent to. */

/*
 * counters: per-CPU array of struct ha_counter, by enum ha_reason. Each packet is counted once, so that their sum is
 * the packets seen. Names: HA_FORWARD_* were handed to the driver or the redirect (which may still lose them in its
 * flush), HA_STEER_* likewise to the control plane, HA_PASS_* went to the kernel, HA_DROP_* went nowhere.
 */
struct ha_counter {
	__u64 packets;
	__u64 octets;
};

enum ha_reason {
	HA_FORWARD_TUNNELLED = 0,
	HA_FORWARD_REVERSE_TUNNELLED,
	/* From one mobile node's tunnel into another's, in one pass. */
	HA_FORWARD_TUNNEL_TO_TUNNEL,
	HA_FORWARD_SOLICITATION_ANSWERED,
	HA_FORWARD_PACKET_TOO_BIG,

	HA_STEER_MOBILITY_HEADER,
	HA_STEER_ESP,
	HA_STEER_HOME_ADDRESS_OPTION,
	HA_STEER_TENTATIVE,

	HA_PASS_NOT_SERVED,
	HA_PASS_NOT_IPV6,
	HA_PASS_NOT_OURS,
	HA_PASS_MALFORMED,
	HA_PASS_HOP_LIMIT,
	/* Tunnelled, but the next hop is not known here: the kernel forwards the outer packet. */
	HA_PASS_TUNNELLED_NO_NEIGHBOR,
	/* Taken out of its tunnel; the kernel forwards it, or it is for the home agent itself. */
	HA_PASS_REVERSE_TUNNELLED,
	/* Something that the slow path must do: an outer fragment, a chain too long to follow here. */
	HA_PASS_SLOW_PATH,

	HA_DROP_TUNNEL_SOURCE_NOT_CARE_OF,
	HA_DROP_TUNNEL_NO_BINDING,
	HA_DROP_TUNNEL_BINDING_EXPIRED,
	HA_DROP_TUNNEL_INNER_MALFORMED,
	HA_DROP_TUNNEL_INNER_SCOPE,
	/* Congestion marked on the way, within a transport that cannot be told (RFC 6040 section 4.2). */
	HA_DROP_TUNNEL_CONGESTION,
	HA_DROP_SCOPE,
	HA_DROP_NO_TAP,
	HA_DROP_NO_PORT,
	HA_DROP_TOO_BIG_UNANSWERED,
	HA_DROP_ADJUST_FAILED,

	HA_REASON_COUNT,
};

/* ---- ha_host.bpf.o: a mobile node's own packets ---- */

enum ha_mobile_node_flag {
	/* Away from home: what the home address sends goes through the tunnel. */
	HA_MOBILE_NODE_TUNNEL = 1,
};

/* mobile_node: hash. Key: struct in6_addr home address. */
struct ha_mobile_node {
	struct in6_addr care_of_address;
	struct in6_addr home_agent_address;
	__u32 spi_first;
	__u32 spi_last;
	__u32 flags;
	__u32 reserved;
};

/* care_of_addresses: hash. Key: struct in6_addr, current and previous ones. Value: struct in6_addr home address. */

/* host_counters: per-CPU array of struct ha_counter, by enum ha_host_reason. */
enum ha_host_reason {
	HA_HOST_TUNNELLED = 0,
	HA_HOST_DETUNNELLED,
	HA_HOST_STEERED_SIGNALLING,
	HA_HOST_STEERED_ROUTER_ADVERTISEMENT,
	HA_HOST_STEERED_NEIGHBOR_ADVERTISEMENT,
	HA_HOST_PASSED_IN,
	HA_HOST_PASSED_OUT,
	HA_HOST_DROP_TUNNEL_SOURCE,
	HA_HOST_DROP_TUNNEL_INNER,
	/* Congestion marked on the way, within a transport that cannot be told (RFC 6040 section 4.2). */
	HA_HOST_DROP_CONGESTION,
	HA_HOST_DROP_NO_TAP,
	HA_HOST_DROP_ADJUST_FAILED,
	HA_HOST_REASON_COUNT,
};

_Static_assert(sizeof(struct ha_configuration) == 16, "ha_configuration has a hole");
_Static_assert(sizeof(struct ha_binding_key) == 16, "ha_binding_key has a hole");
_Static_assert(sizeof(struct ha_binding) == 64, "ha_binding has a hole, or is more than a cache line");
_Static_assert(sizeof(struct ha_adjacency) == 20, "ha_adjacency has a hole");
_Static_assert(sizeof(struct ha_interface) == 12, "ha_interface has a hole");
_Static_assert(sizeof(struct ha_home_link) == 32, "ha_home_link has a hole");
_Static_assert(sizeof(struct ha_counter) == 16, "ha_counter has a hole");
_Static_assert(sizeof(struct ha_mobile_node) == 48, "ha_mobile_node has a hole");

#endif
