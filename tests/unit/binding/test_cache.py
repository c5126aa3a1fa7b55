# SPDX-License-Identifier: Apache-2.0
"""The binding cache: by home address, in the order of expiry, and small."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from control.binding.cache import BindingCache, BindingCacheEntry
from tests.unit.binding.machine import CARE_OF_ADDRESS, HOME_ADDRESS, HOME_AGENT_ADDRESS


def entry(home_address: IPv6Address = HOME_ADDRESS, expires_ns: int = 100) -> BindingCacheEntry:
    return BindingCacheEntry(
        home_address=home_address,
        care_of_address=CARE_OF_ADDRESS,
        home_agent_address=HOME_AGENT_ADDRESS,
        home_link=1,
        sequence=1,
        lifetime_units=1,
        registered_ns=0,
        expires_ns=expires_ns,
        link_local_compatible=False,
        key_management_mobility=False,
    )


def test_put_get_remove() -> None:
    cache = BindingCache()
    assert HOME_ADDRESS not in cache
    assert cache.get(HOME_ADDRESS) is None
    first, second = entry(), replace(entry(), sequence=2)
    cache.put(first)
    cache.put(second)
    assert len(cache) == 1
    assert list(cache) == [second]
    assert cache.get(IPv6Address(str(HOME_ADDRESS))) is second
    assert HOME_ADDRESS in cache
    assert cache.remove(HOME_ADDRESS) is second
    assert len(cache) == 0
    with pytest.raises(KeyError):
        cache.remove(HOME_ADDRESS)


def test_expiry_in_order() -> None:
    cache = BindingCache()
    others = [HOME_ADDRESS + number for number in range(4)]
    for home_address, expires_ns in zip(others, (40, 10, 30, 20), strict=True):
        cache.put(entry(home_address, expires_ns))
    cache.put(entry(others[1], 35))
    cache.remove(others[3])
    assert cache.next_expiry_ns() == 30
    expired = []
    for home_address in cache.expired(35):
        cache.remove(home_address)
        expired.append(home_address)
    assert expired == [others[2], others[1]]
    assert cache.next_expiry_ns() == 40


def test_binding_kept_past_its_expiry_is_told_once_and_again_after_it_is_renewed() -> None:
    cache = BindingCache()
    cache.put(entry(expires_ns=10))
    assert list(cache.expired(10)) == [HOME_ADDRESS]
    assert list(cache.expired(11)) == []
    assert cache.next_expiry_ns() is None
    cache.put(entry(expires_ns=20))
    assert cache.next_expiry_ns() == 20
    assert list(cache.expired(20)) == [HOME_ADDRESS]
    cache.remove(HOME_ADDRESS)
    cache.put(entry(expires_ns=30))
    cache.put(entry(expires_ns=40))
    assert list(cache.expired(40)) == [HOME_ADDRESS]


def test_a_hundred_thousand_bindings_are_small() -> None:
    """As they come: home and care-of addresses of their own, times of their own, the home agent's address shared."""
    count = 100_000
    home, care_of = int(HOME_ADDRESS), int(CARE_OF_ADDRESS)
    cache = BindingCache()
    tracemalloc.start()
    try:
        for number in range(count):
            cache.put(
                replace(
                    entry(IPv6Address(home + number), 10**15 + number),
                    care_of_address=IPv6Address(care_of + number),
                    registered_ns=10**14 + number,
                )
            )
        octets, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cache) == count
    assert octets < 60_000_000
