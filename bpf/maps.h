/* SPDX-License-Identifier: GPL-2.0-only */
/* Every map of ha_xdp.bpf.o. Python writes them (ha_fastpath/dataplane) unless a comment says otherwise; XDP reads. */
#ifndef HA_MAPS_H
#define HA_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "ha_abi.h"

/* Written by the loader before the program is loaded. */
const volatile struct ha_configuration ha_configuration = {
	.abi_version = HA_ABI_VERSION,
	.spi_first = 0x100,
	.spi_last = 0xbfffffff,
};

/* One entry for each binding; the loader sets how many there may be. Reached by binding.h alone. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct ha_binding_key);
	__type(value, struct ha_binding);
} bindings SEC(".maps");

/* Next hops by slot, kept fresh by netlink events. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HA_MAX_ADJACENCIES);
	__type(key, __u32);
	__type(value, struct ha_adjacency);
} adjacencies SEC(".maps");

/* The interfaces that are served, by index. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HA_MAX_INTERFACES);
	__type(key, __u32);
	__type(value, struct ha_interface);
} interfaces SEC(".maps");

/* Index 0 stays empty. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HA_MAX_HOME_LINKS);
	__type(key, __u32);
	__type(value, struct ha_home_link);
} home_links SEC(".maps");

/* The home agent's own addresses, to which signalling and reverse tunnels come. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HA_MAX_HOME_AGENT_ADDRESSES);
	__type(key, struct in6_addr);
	__type(value, __u32);
} home_agent_addresses SEC(".maps");

/* Addresses under duplicate address detection: neighbor discovery about them is the control plane's. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HA_MAX_TENTATIVE);
	__type(key, struct in6_addr);
	__type(value, __u32);
} tentative SEC(".maps");

/* From the interface that a frame came by to the TAP that the control plane reads it from. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, HA_MAX_INTERFACES);
	__type(key, __u32);
	__type(value, __u32);
} taps SEC(".maps");

/* The interfaces that frames may be redirected to. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, HA_MAX_INTERFACES);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

/* Written by XDP, in verdict.h alone. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HA_REASON_COUNT);
	__type(key, __u32);
	__type(value, struct ha_counter);
} counters SEC(".maps");

#endif
