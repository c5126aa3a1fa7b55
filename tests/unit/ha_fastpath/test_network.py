# SPDX-License-Identifier: Apache-2.0
"""Who is told what of the network, and how gateways are kept awake."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, IPv6Network

import pytest

from ha_fastpath import network
from ha_fastpath.net.network_state import (
    EventsLost,
    Link,
    LinkChanged,
    LinkRemoved,
    Neighbor,
    NetworkEvent,
    NetworkState,
    Route,
    RouteAdded,
)
from ha_fastpath.network import NetworkFollower

GATEWAY = (11, IPv6Address("2001:db8:f::2"))
CARE_OF_ADDRESS = IPv6Address("2001:db8:99::1")
ETH0 = Link(10, "eth0", bytes(6), 1500, is_up=True, has_carrier=True)
ROUTE = Route(IPv6Network("::/0"), 1024, ())


class Adjacencies:
    def __init__(self) -> None:
        self.events: list[NetworkEvent] = []
        self.asleep: list[tuple[int, IPv6Address]] = []

    def handle(self, event: NetworkEvent) -> dict[IPv6Address, int]:
        self.events.append(event)
        return {CARE_OF_ADDRESS: 4}

    def resynchronize(self, routes: Iterable[Route], neighbors: Iterable[Neighbor]) -> dict[IPv6Address, int]:
        assert (list(routes), list(neighbors)) == ([ROUTE], [])
        return {CARE_OF_ADDRESS: 5}

    def neighbors_to_wake(self) -> list[tuple[int, IPv6Address]]:
        return self.asleep


class Links:
    def __init__(self) -> None:
        self.events: list[LinkChanged | LinkRemoved] = []
        self.all: list[Link] = []

    def handle(self, event: LinkChanged | LinkRemoved) -> None:
        self.events.append(event)

    def resynchronize(self, links: Iterable[Link]) -> None:
        self.all = list(links)


class Bindings:
    def __init__(self) -> None:
        self.followed: list[Mapping[IPv6Address, int]] = []

    def follow(self, repointed: Mapping[IPv6Address, int]) -> None:
        self.followed.append(repointed)


class Scene:
    def __init__(self) -> None:
        self.adjacencies, self.links, self.bindings = Adjacencies(), Links(), Bindings()
        self.woken: list[list[tuple[int, IPv6Address]]] = []
        self.failing = False
        self.follower = NetworkFollower(
            self.adjacencies,
            self.links,
            self.bindings.follow,
            lambda: NetworkState((ETH0,), (ROUTE,), ()),
            self._wake,
        )

    def _wake(self, neighbors: list[tuple[int, IPv6Address]]) -> None:
        self.woken.append(neighbors)
        if self.failing:
            raise OSError(1, "Operation not permitted")


def test_links_are_told_of_links_and_bindings_follow_routes() -> None:
    scene = Scene()
    scene.follower.deliver(LinkChanged(ETH0))
    scene.follower.deliver(LinkRemoved(10, "eth0"))
    assert scene.links.events == [LinkChanged(ETH0), LinkRemoved(10, "eth0")]
    assert scene.adjacencies.events == []
    scene.follower.deliver(RouteAdded(ROUTE, replaces=False))
    assert scene.adjacencies.events == [RouteAdded(ROUTE, replaces=False)]
    assert scene.bindings.followed == [{CARE_OF_ADDRESS: 4}]


def test_after_lost_events_everything_is_asked_for() -> None:
    scene = Scene()
    scene.follower.deliver(EventsLost())
    assert scene.links.all == [ETH0]
    assert scene.bindings.followed == [{CARE_OF_ADDRESS: 5}]


def test_gateways_are_woken_again_and_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(network, "NEIGHBOR_WAKE_S", 0.001)
    scene = Scene()
    scene.adjacencies.asleep = [GATEWAY]
    scene.failing = True

    async def run() -> None:
        scene.follower.start()
        async with asyncio.timeout(2):
            while len(scene.woken) < 3:
                await asyncio.sleep(0.001)
        scene.adjacencies.asleep = []
        scene.follower.close()
        scene.follower.close()

    asyncio.run(run())
    assert scene.woken[:3] == [[GATEWAY]] * 3
    assert "does not look after the next hops" in caplog.text
