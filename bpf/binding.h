/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The binding of a home address, live or expired (RFC 6275 section 9.1). All that reads `bindings` goes by here. A
 * lifetime ends here too: once the control plane is dead or late, nothing is tunnelled to a stale care-of address.
 */
#ifndef HA_BINDING_H
#define HA_BINDING_H

#include "maps.h"
#include "parse.h"

enum ha_binding_state {
	HA_BINDING_NONE,
	HA_BINDING_EXPIRED,
	HA_BINDING_LIVE,
};

/*
 * Copy the binding of a home address. A preallocated hash gives a removed element to the next insertion at once, while
 * we may still be reading it. So the care-of address is read again, and the home address last: those two belong
 * together. The rest is not checked: `adjacency` and `expires_ns` may be of another write to the element than they are.
 * At worst one packet goes to the next hop of another binding, which is a valid one but not this one's, or is tunnelled
 * once past an expiry. x86-64 keeps loads in order; the compiler is told to.
 */
static __noinline enum ha_binding_state ha_find_binding(const struct in6_addr *home_address, struct ha_binding *binding)
{
	for (int attempt = 0; attempt < 2; attempt++) {
		const struct ha_binding *found = bpf_map_lookup_elem(&bindings, home_address);

		if (!found)
			return HA_BINDING_NONE;
		*binding = *found;
		barrier();
		if (!ha_address_equal(&found->care_of_address, &binding->care_of_address))
			continue;
		barrier();
		if (!ha_address_equal(&found->home_address, home_address))
			continue;
		return bpf_ktime_get_coarse_ns() < binding->expires_ns ? HA_BINDING_LIVE : HA_BINDING_EXPIRED;
	}
	return HA_BINDING_NONE;
}

static __always_inline bool ha_is_home_agent_address(const struct in6_addr *address)
{
	return bpf_map_lookup_elem(&home_agent_addresses, address);
}

#endif
