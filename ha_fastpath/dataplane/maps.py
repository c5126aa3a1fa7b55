# SPDX-License-Identifier: Apache-2.0
"""The maps of the data path, one class each, over the table classes of bcc.

`BindingTable` is the only class that knows the bindings map; the table behind it may change without notice. Python is
the only writer of every map here. Nothing is decided: what is written was decided by `control` or by the operator.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import Any, Generic, TypeVar

from bcc import libbcc
from bcc.table import HashTable

from control.binding.cache import BindingCacheEntry
from control.binding.effects import EffectResult
from ha_fastpath.dataplane import abi, libbpf
from ha_fastpath.dataplane.loader import BpfObject

# uapi/linux/bpf.h, flags of BPF_MAP_UPDATE_ELEM
_ANY = 0
_NEW_ONLY = 1
_PRESENT_ONLY = 2

# Entries read by one system call. The kernel asks for room for the fullest bucket of a hash, which has a handful.
_BATCH = 4096

Key = TypeVar("Key")
Value = TypeVar("Value")


def bcc_table(table_class: Any, fd: int, key: abi.MapData, value: abi.MapData) -> Any:
    """A table of bcc over a map that libbpf made; bcc's own constructor wants a module that it compiled."""
    information = libbpf.map_information(fd)
    found = (information.key_size, information.value_size)
    wanted = (ctypes.sizeof(key), ctypes.sizeof(value))
    if found != wanted:
        raise ValueError(f"map {information.id} has keys and values of {found} octets, abi.py of {wanted}")
    table = table_class.__new__(table_class)
    table.map_fd, table.Key, table.Leaf, table.max_entries = fd, key, value, information.max_entries
    return table


class _Table(Generic[Key, Value]):
    """One map by ctypes keys and values: OSError for what the kernel refuses, where bcc raises a bare Exception."""

    def __init__(self, fd: int, layout: abi.MapLayout) -> None:
        self._fd = fd
        self._layout = layout
        self._table = bcc_table(HashTable, fd, layout.key, layout.value)
        self.max_entries: int = self._table.max_entries

    def get(self, key: Key) -> Value | None:
        try:
            value: Value = self._table[key]
        except KeyError:
            return None
        return value

    def put(self, key: Key, value: Value, flags: int = _ANY) -> None:
        result: int = libbcc.lib.bpf_update_elem(self._fd, ctypes.byref(key), ctypes.byref(value), flags)  # type: ignore[arg-type]
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def delete(self, key: Key) -> bool:
        """Whether it was there."""
        try:
            del self._table[key]
        except KeyError:
            return False
        return True

    def present(self) -> list[Key]:
        # Copies: bcc hands out one object again and again.
        return [self._layout.key.from_buffer_copy(key) for key in self._table]  # type: ignore[misc]

    def clear(self) -> None:
        for key in self.present():
            self.delete(key)

    def slices(self) -> Iterator[tuple[ctypes.Array[Any], ctypes.Array[Any], int]]:
        """Keys, values and how many of them are filled, a batch at a time; the arrays are used again for the next."""
        room = min(_BATCH, self.max_entries)
        keys, values = (self._layout.key * room)(), (self._layout.value * room)()
        position, count = ctypes.c_uint32(), ctypes.c_uint32()
        begun = False
        while True:
            count.value = room
            result: int = libbcc.lib.bpf_lookup_batch(
                self._fd,
                ctypes.byref(position) if begun else None,
                ctypes.byref(position),
                keys,
                values,
                ctypes.byref(count),
            )
            number = ctypes.get_errno() if result < 0 else 0
            if number not in (0, errno.ENOENT):
                raise OSError(number, os.strerror(number))
            yield keys, values, count.value
            if number == errno.ENOENT:
                return
            begun = True


@dataclass(frozen=True, slots=True)
class InstalledBinding:
    """A binding as the data path has it."""

    home_address: IPv6Address
    care_of_address: IPv6Address
    home_agent_address: IPv6Address
    expires_ns: int
    adjacency: int
    home_link: int
    link_local_compatible: bool


class BindingTable:
    """The bindings that the data path forwards by; as many as the map has room for."""

    def __init__(self, fd: int) -> None:
        self._table: _Table[abi.HaBindingKey, abi.HaBinding] = _Table(fd, abi.MAPS["bindings"])
        self.maximum = self._table.max_entries
        self._count = sum(count for _, _, count in self._table.slices())

    def __len__(self) -> int:
        return self._count

    def install(self, entry: BindingCacheEntry, adjacency: int) -> EffectResult:
        """Write a binding, new or in place of an earlier one; a full table takes the latter only."""
        home_address = abi.in6_address(entry.home_address)
        key = abi.HaBindingKey(home_address)
        value = abi.HaBinding(
            home_address,
            abi.in6_address(entry.care_of_address),
            abi.in6_address(entry.home_agent_address),
            entry.expires_ns,
            adjacency,
            entry.home_link,
            abi.BindingFlag.LINK_LOCAL if entry.link_local_compatible else 0,
        )
        try:
            if not self._replace(key, value):
                self._table.put(key, value, _NEW_ONLY)
                self._count += 1
        except OSError as error:
            return EffectResult.TABLE_FULL if error.errno == errno.E2BIG else EffectResult.FAILED
        return EffectResult.DONE

    def point(self, home_address: IPv6Address, adjacency: int) -> bool:
        """Have a binding use another adjacency; False if there is no such binding."""
        key = abi.HaBindingKey(abi.in6_address(home_address))
        value = self._table.get(key)
        if value is None:
            return False
        value.adjacency = adjacency
        return self._replace(key, value)

    def remove(self, home_address: IPv6Address) -> bool:
        """Take a binding out; False if there was none."""
        removed = self._table.delete(abi.HaBindingKey(abi.in6_address(home_address)))
        if removed:
            self._count -= 1
        return removed

    def get(self, home_address: IPv6Address) -> InstalledBinding | None:
        """The binding of a home address, live or expired."""
        value = self._table.get(abi.HaBindingKey(abi.in6_address(home_address)))
        return None if value is None else _installed(value)

    def items(self) -> Iterator[InstalledBinding]:
        """Every binding, by batches; one that is written meanwhile may be missed, or be met as it was."""
        for _, values, count in self._table.slices():
            for index in range(count):
                yield _installed(values[index])

    def _replace(self, key: abi.HaBindingKey, value: abi.HaBinding) -> bool:
        try:
            self._table.put(key, value, _PRESENT_ONLY)
        except FileNotFoundError:
            return False
        return True


def _installed(value: abi.HaBinding) -> InstalledBinding:
    return InstalledBinding(
        abi.ipv6_address(value.home_address),
        abi.ipv6_address(value.care_of_address),
        abi.ipv6_address(value.home_agent_address),
        value.expires_ns,
        value.adjacency,
        value.home_link,
        bool(value.flags & abi.BindingFlag.LINK_LOCAL),
    )


class _AddressTable:
    """A set of addresses, each with a number beside it."""

    def __init__(self, fd: int, name: str) -> None:
        self._table: _Table[ctypes.Array[ctypes.c_uint8], ctypes.c_uint32] = _Table(fd, abi.MAPS[name])

    def add(self, address: IPv6Address, home_link: int) -> None:
        """Write an address; OSError if the table is full."""
        self._table.put(abi.in6_address(address), ctypes.c_uint32(home_link))

    def remove(self, address: IPv6Address) -> bool:
        """Take an address out; False if it was not in."""
        return self._table.delete(abi.in6_address(address))

    def addresses(self) -> list[IPv6Address]:
        """All that are in."""
        return [abi.ipv6_address(key) for key in self._table.present()]

    def clear(self) -> None:
        """Take all out."""
        self._table.clear()


class TentativeTable(_AddressTable):
    """Addresses under duplicate address detection: whatever concerns them goes to the control plane."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "tentative")


class HomeAgentAddresses(_AddressTable):
    """The home agent's own addresses, each with its home link."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "home_agent_addresses")


class AdjacencyMap:
    """Next hops by slot; a slot that is absent has the data path ask the kernel's FIB."""

    def __init__(self, fd: int) -> None:
        self._table: _Table[ctypes.c_uint32, abi.HaAdjacency] = _Table(fd, abi.MAPS["adjacencies"])

    def write(self, slot: int, interface_index: int, mtu: int, destination: bytes, source: bytes) -> None:
        """Fill a slot; its readers see the old next hop or the new one, whole."""
        value = abi.HaAdjacency(interface_index, mtu, abi.mac_address(destination), abi.mac_address(source))
        self._table.put(ctypes.c_uint32(slot), value)

    def delete(self, slot: int) -> None:
        """Empty a slot, which may be empty."""
        self._table.delete(ctypes.c_uint32(slot))

    def get(self, slot: int) -> abi.HaAdjacency | None:
        """What is in a slot."""
        return self._table.get(ctypes.c_uint32(slot))

    def clear(self) -> None:
        """Empty every slot."""
        self._table.clear()


class InterfaceMap:
    """The interfaces that the data path serves, by index."""

    def __init__(self, fd: int) -> None:
        self._table: _Table[ctypes.c_uint32, abi.HaInterface] = _Table(fd, abi.MAPS["interfaces"])

    def put(self, interface_index: int, mac: bytes, home_link: int, mtu: int) -> None:
        """Serve an interface, or tell that it has changed."""
        self._table.put(ctypes.c_uint32(interface_index), abi.HaInterface(abi.mac_address(mac), home_link, mtu))

    def remove(self, interface_index: int) -> bool:
        """Serve it no longer; False if it was not served."""
        return self._table.delete(ctypes.c_uint32(interface_index))

    def indices(self) -> list[int]:
        """The indices of those that are served."""
        return [key.value for key in self._table.present()]

    def clear(self) -> None:
        """Serve none."""
        self._table.clear()


class HomeLinkMap:
    """The home links, by index from 1."""

    def __init__(self, fd: int) -> None:
        self._table: _Table[ctypes.c_uint32, abi.HaHomeLink] = _Table(fd, abi.MAPS["home_links"])
        self._room = self._table.max_entries

    def put(self, index: int, prefix: IPv6Network, home_agent_address: IPv6Address) -> None:
        """Write a home link; ValueError for an index or a prefix that no home link has."""
        if not 1 <= index < self._room:
            raise ValueError(f"home links have indices 1 to {self._room - 1}, not {index}")
        if prefix.prefixlen != 64:
            raise ValueError(f"a home prefix has 64 bits: {prefix}")
        value = abi.HaHomeLink(abi.in6_address(prefix.network_address), abi.in6_address(home_agent_address))
        self._table.put(ctypes.c_uint32(index), value)

    def clear(self) -> None:
        """Blank every entry; an array has no fewer of them."""
        for index in range(self._room):
            self._table.put(ctypes.c_uint32(index), abi.HaHomeLink())


class Devmap:
    """A devmap hash: from one interface index to the index of the interface that a frame is redirected to.

    The kernel takes out by itself the entries whose target vanishes.
    """

    def __init__(self, fd: int, name: str) -> None:
        self._table: _Table[ctypes.c_uint32, ctypes.c_uint32] = _Table(fd, abi.MAPS[name])

    def put(self, key: int, interface_index: int) -> None:
        """Redirect to an interface of this network namespace; OSError if there is none of this index."""
        self._table.put(ctypes.c_uint32(key), ctypes.c_uint32(interface_index))

    def remove(self, key: int) -> bool:
        """Redirect no longer; False if there was no entry."""
        return self._table.delete(ctypes.c_uint32(key))

    def items(self) -> dict[int, int]:
        """All entries."""
        found = {}
        for key in self._table.present():
            value = self._table.get(key)
            if value is not None:
                found[key.value] = value.value
        return found

    def clear(self) -> None:
        """Take all entries out."""
        self._table.clear()


class Taps(Devmap):
    """Where signalling goes: the TAP of the interface that it came by."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "taps")


class Ports(Devmap):
    """The interfaces that packets may be sent to, each under its own index."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "ports")

    def add(self, interface_index: int) -> None:
        """Allow an interface; OSError if there is none of this index."""
        self.put(interface_index, interface_index)


class MobileNodeMap:
    """Where a mobile node's own packets go, by home address."""

    def __init__(self, fd: int) -> None:
        self._table: _Table[ctypes.Array[ctypes.c_uint8], abi.HaMobileNode] = _Table(fd, abi.MAPS["mobile_node"])

    def put(
        self,
        home_address: IPv6Address,
        care_of_address: IPv6Address,
        home_agent_address: IPv6Address,
        spis: tuple[int, int],
        flags: abi.MobileNodeFlag,
    ) -> None:
        """Write a mobile node; `spis` are the first and the last that its signalling may have."""
        value = abi.HaMobileNode(
            abi.in6_address(care_of_address), abi.in6_address(home_agent_address), spis[0], spis[1], flags
        )
        self._table.put(abi.in6_address(home_address), value)

    def remove(self, home_address: IPv6Address) -> bool:
        """Take a mobile node out; False if it was not in."""
        return self._table.delete(abi.in6_address(home_address))

    def clear(self) -> None:
        """Take all out."""
        self._table.clear()


class CareOfAddresses:
    """The addresses at which a mobile node takes tunnelled packets, current and previous ones."""

    def __init__(self, fd: int) -> None:
        self._table: _Table[ctypes.Array[ctypes.c_uint8], ctypes.Array[ctypes.c_uint8]] = _Table(
            fd, abi.MAPS["care_of_addresses"]
        )

    def add(self, care_of_address: IPv6Address, home_address: IPv6Address) -> None:
        """Take what is tunnelled to this address; OSError if the table is full."""
        self._table.put(abi.in6_address(care_of_address), abi.in6_address(home_address))

    def remove(self, care_of_address: IPv6Address) -> bool:
        """Take it no longer; False if it was not in."""
        return self._table.delete(abi.in6_address(care_of_address))

    def addresses(self) -> list[IPv6Address]:
        """All that are in."""
        return [abi.ipv6_address(key) for key in self._table.present()]

    def clear(self) -> None:
        """Take all out."""
        self._table.clear()


@dataclass(frozen=True, slots=True)
class HomeAgentMaps:
    """All maps of ha_xdp.bpf.o that Python writes."""

    bindings: BindingTable
    tentative: TentativeTable
    adjacencies: AdjacencyMap
    interfaces: InterfaceMap
    home_links: HomeLinkMap
    home_agent_addresses: HomeAgentAddresses
    taps: Taps
    ports: Ports

    @classmethod
    def of(cls, loaded: BpfObject) -> HomeAgentMaps:
        """The maps of a loaded object, which must stay open for as long as they are used."""
        return cls(
            bindings=BindingTable(loaded.map_fd("bindings")),
            tentative=TentativeTable(loaded.map_fd("tentative")),
            adjacencies=AdjacencyMap(loaded.map_fd("adjacencies")),
            interfaces=InterfaceMap(loaded.map_fd("interfaces")),
            home_links=HomeLinkMap(loaded.map_fd("home_links")),
            home_agent_addresses=HomeAgentAddresses(loaded.map_fd("home_agent_addresses")),
            taps=Taps(loaded.map_fd("taps")),
            ports=Ports(loaded.map_fd("ports")),
        )
