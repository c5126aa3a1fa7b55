/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The maps of ha_host.bpf.o, and the only ways out of its programs. Each counts the packet once, with the octets of the
 * frame as it came; nothing else may return XDP_* or TC_ACT_*, so that the counters' sum is the packets seen.
 */
#ifndef HA_HOST_VERDICT_H
#define HA_HOST_VERDICT_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "ha_abi.h"
#include "parse.h"

/* What a step returns that has not decided: the next one goes on. TC_ACT_UNSPEC is -1 too, and is never returned. */
#define HA_HOST_CONTINUE (-1)

enum ha_host_limit {
	/* Home addresses of one node. */
	HA_HOST_MAX_HOME_ADDRESSES = 16,
};

/* Only for its ABI version, which is pinned beside the maps: SPIs are in mobile_node. */
const volatile struct ha_configuration ha_configuration = {
	.abi_version = HA_ABI_VERSION,
};

/* Written by the mobile node's daemon, read by both programs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HA_HOST_MAX_HOME_ADDRESSES);
	__type(key, struct in6_addr);
	__type(value, struct ha_mobile_node);
} mobile_node SEC(".maps");

/* Written by the mobile node's daemon, read by XDP. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HA_MAX_CARE_OF_ADDRESSES);
	__type(key, struct in6_addr);
	__type(value, struct in6_addr);
} care_of_addresses SEC(".maps");

/* From the interface that a frame came by to the TAP that the daemon reads it from. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, HA_MAX_INTERFACES);
	__type(key, __u32);
	__type(value, __u32);
} taps SEC(".maps");

/* Written by the programs, here alone. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HA_HOST_REASON_COUNT);
	__type(key, __u32);
	__type(value, struct ha_counter);
} host_counters SEC(".maps");

static __always_inline void ha_host_count(const struct ha_packet *packet, enum ha_host_reason reason)
{
	__u32 index = reason;
	struct ha_counter *counter = bpf_map_lookup_elem(&host_counters, &index);

	if (!counter)
		return;
	counter->packets++;
	counter->octets += packet->frame_length;
}

/* Inwards: to the kernel. */
static __always_inline int ha_host_pass_in(const struct ha_packet *packet, enum ha_host_reason reason)
{
	ha_host_count(packet, reason);
	return XDP_PASS;
}

/* Inwards: nowhere. */
static __always_inline int ha_host_drop_in(const struct ha_packet *packet, enum ha_host_reason reason)
{
	ha_host_count(packet, reason);
	return XDP_DROP;
}

/* Inwards: whole and unaltered to the daemon. */
static __always_inline int ha_host_steer(struct xdp_md *ctx, const struct ha_packet *packet, enum ha_host_reason reason)
{
	if (bpf_redirect_map(&taps, ctx->ingress_ifindex, XDP_ABORTED) != XDP_REDIRECT)
		return ha_host_drop_in(packet, HA_HOST_DROP_NO_TAP);
	ha_host_count(packet, reason);
	return XDP_REDIRECT;
}

/* Outwards: on, by the interface that the kernel chose. */
static __always_inline int ha_host_pass_out(const struct ha_packet *packet, enum ha_host_reason reason)
{
	ha_host_count(packet, reason);
	return TC_ACT_OK;
}

/* Outwards: nowhere. */
static __always_inline int ha_host_drop_out(const struct ha_packet *packet, enum ha_host_reason reason)
{
	ha_host_count(packet, reason);
	return TC_ACT_SHOT;
}

#endif
