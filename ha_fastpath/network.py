# SPDX-License-Identifier: Apache-2.0
"""What happens in the network, told to those whom it concerns: interfaces, next hops, and bindings that use them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv6Address
from typing import Final, Protocol

from ha_fastpath.net.network_state import (
    EventsLost,
    Link,
    LinkChanged,
    LinkRemoved,
    Neighbor,
    NetworkEvent,
    NetworkState,
    Route,
)

NEIGHBOR_WAKE_S: Final = 5.0
"""How often the kernel is asked to look after the gateways that XDP sends by and the kernel does not."""

_LOG: Final = logging.getLogger("ha_fastpath.network")


class Adjacencies(Protocol):
    """The next hops of care-of addresses."""

    def handle(self, event: NetworkEvent) -> Mapping[IPv6Address, int]: ...
    def resynchronize(self, routes: Iterable[Route], neighbors: Iterable[Neighbor]) -> Mapping[IPv6Address, int]: ...
    def neighbors_to_wake(self) -> list[tuple[int, IPv6Address]]: ...


class Links(Protocol):
    """The interfaces that are served."""

    def handle(self, event: LinkChanged | LinkRemoved) -> None: ...
    def resynchronize(self, links: Iterable[Link]) -> None: ...


class NetworkFollower:
    """Passes on each event, and keeps the gateways awake."""

    def __init__(
        self,
        adjacencies: Adjacencies,
        links: Links,
        follow: Callable[[Mapping[IPv6Address, int]], None],
        read_all: Callable[[], NetworkState],
        wake: Callable[[list[tuple[int, IPv6Address]]], None],
    ) -> None:
        """`follow` points the bindings of care-of addresses at other slots."""
        self._adjacencies = adjacencies
        self._links = links
        self._follow = follow
        self._read_all = read_all
        self._wake = wake
        self._waking: asyncio.Task[None] | None = None

    def deliver(self, event: NetworkEvent) -> None:
        """Take in one event."""
        match event:
            case LinkChanged() | LinkRemoved():
                self._links.handle(event)
            case EventsLost():
                found = self._read_all()
                self._links.resynchronize(found.links)
                self._follow(self._adjacencies.resynchronize(found.routes, found.neighbors))
            case _:
                self._follow(self._adjacencies.handle(event))

    def start(self) -> None:
        """Keep gateways awake from now on, on the running loop."""
        self._waking = asyncio.get_running_loop().create_task(self._keep_awake())

    def close(self) -> None:
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None

    async def _keep_awake(self) -> None:
        while True:
            asleep = self._adjacencies.neighbors_to_wake()
            if asleep:
                try:
                    # A thread: it opens a socket and waits for the kernel, milliseconds that signalling need not.
                    await asyncio.to_thread(self._wake, asleep)
                except OSError as error:
                    _LOG.warning("the kernel does not look after the next hops: %s", error.strerror)
            await asyncio.sleep(NEIGHBOR_WAKE_S)
