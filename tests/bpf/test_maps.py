# SPDX-License-Identifier: Apache-2.0
"""The map classes on live maps: those that bpf/maps.h defines, under a program that only counts.

What was written is read back by bpftool, octet for octet.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from control.binding.cache import BindingCacheEntry
from control.binding.effects import EffectResult
from ha_fastpath.dataplane import abi, libbpf
from ha_fastpath.dataplane.counters import Count, home_agent_counters
from ha_fastpath.dataplane.loader import BpfObject
from ha_fastpath.dataplane.maps import BindingTable, HomeAgentMaps, InstalledBinding
from tests.bpf.compiler import compile_bpf
from tests.bpf.namespace import ip, network_namespace

pytestmark = pytest.mark.bpf

MAXIMUM = 500

PROGRAM = """
#include "maps.h"

SEC("xdp.frags") int count(struct xdp_md *context)
{
	__u32 reason = HA_FORWARD_TUNNELLED;
	struct ha_counter *counter = bpf_map_lookup_elem(&counters, &reason);

	if (counter) {
		counter->packets++;
		counter->octets += context->data_end - context->data;
	}
	return XDP_PASS;
}
char LICENSE[] SEC("license") = "GPL";
"""

HOME_NETWORK = IPv6Network("2001:db8:1::/64")
HOME_AGENT = IPv6Address("2001:db8:1::1")
CARE_OF = IPv6Address("2001:db8:2::99")
MAC = bytes.fromhex("020000000001")
OTHER_MAC = bytes.fromhex("0200000000aa")


def entry(number: int, care_of_address: IPv6Address = CARE_OF, link_local: bool = False) -> BindingCacheEntry:
    return BindingCacheEntry(
        home_address=HOME_NETWORK[0x1000 + number],
        care_of_address=care_of_address,
        home_agent_address=HOME_AGENT,
        home_link=3,
        sequence=17,
        lifetime_units=15,
        registered_ns=1_000,
        expires_ns=0x0123_4567_89AB_CDEF,
        link_local_compatible=link_local,
        key_management_mobility=False,
    )


def installed(number: int, adjacency: int, care_of_address: IPv6Address = CARE_OF) -> InstalledBinding:
    return InstalledBinding(
        home_address=HOME_NETWORK[0x1000 + number],
        care_of_address=care_of_address,
        home_agent_address=HOME_AGENT,
        expires_ns=0x0123_4567_89AB_CDEF,
        adjacency=adjacency,
        home_link=3,
        link_local_compatible=False,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_bpf(PROGRAM, tmp_path_factory.mktemp("maps"))


@pytest.fixture
def loaded(built: Path) -> Iterator[BpfObject]:
    with network_namespace(), BpfObject.load(built, max_entries={"bindings": MAXIMUM}) as opened:
        yield opened


@pytest.fixture
def maps(loaded: BpfObject) -> HomeAgentMaps:
    return HomeAgentMaps.of(loaded)


def dump(loaded: BpfObject, name: str) -> dict[bytes, bytes]:
    """Keys and values of a map as bpftool reads them."""
    number = str(libbpf.map_information(loaded.map_fd(name)).id)
    shown = subprocess.run(["bpftool", "-j", "map", "dump", "id", number], check=True, capture_output=True).stdout
    return {octets(found["key"]): octets(found["value"]) for found in json.loads(shown)}


def octets(shown: list[str]) -> bytes:
    return bytes(int(octet, 16) for octet in shown)


def test_a_binding_is_written_whole(loaded: BpfObject, maps: HomeAgentMaps) -> None:
    assert maps.bindings.install(entry(1, link_local=True), adjacency=0x01020304) is EffectResult.DONE
    home_address = HOME_NETWORK[0x1001].packed
    assert dump(loaded, "bindings") == {
        home_address: home_address
        + CARE_OF.packed
        + HOME_AGENT.packed
        + bytes.fromhex("efcdab8967452301")
        + bytes.fromhex("04030201")
        + bytes.fromhex("0300")
        + bytes.fromhex("0100")
    }
    found = maps.bindings.get(HOME_NETWORK[0x1001])
    assert found is not None
    assert found.link_local_compatible


def test_a_handover_replaces_and_a_removal_removes(maps: HomeAgentMaps) -> None:
    moved_to = IPv6Address("2001:db8:3::7")
    maps.bindings.install(entry(1), adjacency=4)
    assert maps.bindings.install(entry(1, moved_to), adjacency=5) is EffectResult.DONE
    assert (len(maps.bindings), maps.bindings.get(HOME_NETWORK[0x1001])) == (1, installed(1, 5, moved_to))
    assert maps.bindings.remove(HOME_NETWORK[0x1001])
    assert (len(maps.bindings), maps.bindings.get(HOME_NETWORK[0x1001])) == (0, None)
    assert not maps.bindings.remove(HOME_NETWORK[0x1001])
    assert len(maps.bindings) == 0


def test_only_the_adjacency_is_repointed(maps: HomeAgentMaps) -> None:
    maps.bindings.install(entry(1), adjacency=4)
    assert maps.bindings.point(HOME_NETWORK[0x1001], 9)
    assert maps.bindings.get(HOME_NETWORK[0x1001]) == installed(1, 9)
    assert not maps.bindings.point(HOME_NETWORK[0x1002], 9)
    assert len(maps.bindings) == 1


def test_a_full_table_refuses_the_new_and_refreshes_the_old(loaded: BpfObject, maps: HomeAgentMaps) -> None:
    assert maps.bindings.maximum == MAXIMUM
    for number in range(MAXIMUM):
        assert maps.bindings.install(entry(number), adjacency=0) is EffectResult.DONE
    assert maps.bindings.install(entry(MAXIMUM), adjacency=0) is EffectResult.TABLE_FULL
    assert len(maps.bindings) == MAXIMUM
    for number in range(MAXIMUM):
        assert maps.bindings.install(entry(number), adjacency=1) is EffectResult.DONE
    assert sorted(maps.bindings.items(), key=lambda found: found.home_address) == [
        installed(number, adjacency=1) for number in range(MAXIMUM)
    ]
    assert maps.bindings.remove(HOME_NETWORK[0x1000])
    assert maps.bindings.install(entry(MAXIMUM), adjacency=0) is EffectResult.DONE
    assert maps.bindings.install(entry(0), adjacency=0) is EffectResult.TABLE_FULL
    # Whoever opens the map anew counts what is in it.
    assert len(BindingTable(loaded.map_fd("bindings"))) == MAXIMUM


def test_more_bindings_than_one_batch_are_read_once_each(built: Path) -> None:
    count = 9000
    with BpfObject.load(built, max_entries={"bindings": count}) as opened:
        table = BindingTable(opened.map_fd("bindings"))
        for number in range(count):
            table.install(entry(number), adjacency=number)
        found = list(table.items())
        assert len(found) == count
        assert {binding.adjacency for binding in found} == set(range(count))
        assert len(BindingTable(opened.map_fd("bindings"))) == count


def test_a_write_that_the_kernel_refuses_otherwise_failed(built: Path) -> None:
    with BpfObject.load(built, max_entries={"bindings": MAXIMUM}) as opened:
        table = BindingTable(opened.map_fd("bindings"))
    # The file descriptor is closed.
    assert table.install(entry(1), adjacency=0) is EffectResult.FAILED
    assert len(table) == 0


def test_addresses(loaded: BpfObject, maps: HomeAgentMaps) -> None:
    for table, name in ((maps.tentative, "tentative"), (maps.home_agent_addresses, "home_agent_addresses")):
        table.add(HOME_AGENT, 3)
        table.add(CARE_OF, 4)
        assert dump(loaded, name) == {HOME_AGENT.packed: bytes([3, 0, 0, 0]), CARE_OF.packed: bytes([4, 0, 0, 0])}
        assert set(table.addresses()) == {HOME_AGENT, CARE_OF}
        assert table.remove(CARE_OF)
        assert not table.remove(CARE_OF)
        table.clear()
        assert table.addresses() == []
        table.clear()


def test_a_full_set_of_addresses_says_so(maps: HomeAgentMaps) -> None:
    for number in range(abi.Limit.MAX_HOME_AGENT_ADDRESSES):
        maps.home_agent_addresses.add(HOME_NETWORK[number], 1)
    with pytest.raises(OSError, match="Argument list too long"):
        maps.home_agent_addresses.add(CARE_OF, 1)


def test_adjacencies(loaded: BpfObject, maps: HomeAgentMaps) -> None:
    maps.adjacencies.write(3, interface_index=7, mtu=1500, destination=MAC, source=OTHER_MAC)
    assert dump(loaded, "adjacencies") == {
        bytes([3, 0, 0, 0]): bytes([7, 0, 0, 0]) + bytes([0xDC, 5, 0, 0]) + MAC + OTHER_MAC
    }
    found = maps.adjacencies.get(3)
    assert found is not None
    assert (found.interface_index, found.mtu) == (7, 1500)
    maps.adjacencies.delete(3)
    maps.adjacencies.delete(3)
    assert maps.adjacencies.get(3) is None
    maps.adjacencies.write(4, 7, 1500, MAC, OTHER_MAC)
    maps.adjacencies.write(5, 7, 1500, MAC, OTHER_MAC)
    maps.adjacencies.clear()
    assert dump(loaded, "adjacencies") == {}


def test_interfaces(loaded: BpfObject, maps: HomeAgentMaps) -> None:
    maps.interfaces.put(7, MAC, home_link=2, mtu=1500)
    assert dump(loaded, "interfaces") == {bytes([7, 0, 0, 0]): MAC + bytes([2, 0]) + bytes([0xDC, 5, 0, 0])}
    assert maps.interfaces.indices() == [7]
    assert maps.interfaces.remove(7)
    assert not maps.interfaces.remove(7)
    maps.interfaces.put(7, MAC, home_link=2, mtu=1500)
    maps.interfaces.clear()
    assert maps.interfaces.indices() == []
    with pytest.raises(ValueError, match="a MAC address has 6 octets, not 5"):
        maps.interfaces.put(7, MAC[:5], home_link=2, mtu=1500)


def test_home_links(loaded: BpfObject, maps: HomeAgentMaps) -> None:
    maps.home_links.put(1, HOME_NETWORK, HOME_AGENT)
    written = dump(loaded, "home_links")
    assert written.pop(bytes([1, 0, 0, 0])) == HOME_NETWORK.network_address.packed + HOME_AGENT.packed
    assert set(written.values()) == {bytes(32)}
    maps.home_links.clear()
    assert set(dump(loaded, "home_links").values()) == {bytes(32)}
    for index in (0, abi.Limit.MAX_HOME_LINKS):
        with pytest.raises(ValueError, match="home links have indices 1 to 15"):
            maps.home_links.put(index, HOME_NETWORK, HOME_AGENT)
    with pytest.raises(ValueError, match="a home prefix has 64 bits"):
        maps.home_links.put(1, IPv6Network("2001:db8::/48"), HOME_AGENT)


def test_devmaps(maps: HomeAgentMaps) -> None:
    maps.ports.add(1)
    maps.taps.put(7, 1)
    assert (maps.ports.items(), maps.taps.items()) == ({1: 1}, {7: 1})
    assert maps.taps.remove(7)
    assert not maps.taps.remove(7)
    with pytest.raises(OSError, match="Invalid argument"):
        maps.ports.add(4711)
    maps.ports.clear()
    assert maps.ports.items() == {}


def test_an_interface_that_vanishes_leaves_the_devmap(maps: HomeAgentMaps) -> None:
    ip("link add dev up index 70 type veth peer name peer")
    maps.ports.add(70)
    ip("link del dev up")
    assert maps.ports.items() == {}


def test_counters_are_summed_over_cpus(loaded: BpfObject) -> None:
    counters = home_agent_counters(loaded.map_fd("counters"))
    before = counters.read()
    assert list(before) == [reason.name.lower() for reason in abi.Reason]
    assert set(before.values()) == {Count(0, 0)}
    libbpf.prog_test_run(loaded.program_fd("count"), bytes(60), repeat=7)
    libbpf.prog_test_run(loaded.program_fd("count"), bytes(100))
    after = counters.read()
    assert after.pop("forward_tunnelled") == Count(packets=8, octets=520)
    assert set(after.values()) == {Count(0, 0)}


def test_a_map_of_another_layout_is_refused(loaded: BpfObject) -> None:
    with pytest.raises(ValueError, match="has keys and values of"):
        BindingTable(loaded.map_fd("tentative"))
