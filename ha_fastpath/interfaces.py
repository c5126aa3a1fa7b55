# SPDX-License-Identifier: Apache-2.0
"""The interfaces that the data path serves: attached, with a TAP and a socket each, through their coming and going.

An interface that vanishes while the daemon runs is said and waited for; when one of its name returns, it is served
again. At the start all of them must be there. What happens to links is told by `net.netlink`; nothing is asked here.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from ha_fastpath.net.network_state import Link, LinkChanged, LinkRemoved

_LOG: Final = logging.getLogger("ha_fastpath.interfaces")


class Attachment(Protocol):
    """How the data path runs on an interface."""

    @property
    def mode(self) -> Enum: ...
    @property
    def taken_over(self) -> bool: ...
    @property
    def native_refusal(self) -> str | None: ...


class Tap(Protocol):
    """Where an interface's signalling arrives."""

    name: str
    index: int
    interface: str

    def fileno(self) -> int: ...
    def drain(self, receive: Callable[[bytes], None], limit: int = ...) -> int: ...
    def close(self) -> None: ...


class FrameSender(Protocol):
    """By what frames leave an interface."""

    @property
    def failures(self) -> Counter[str]: ...
    def send(self, frame: bytes, /) -> bool: ...
    def reopen(self) -> bool: ...
    def close(self) -> None: ...


class InterfaceMap(Protocol):
    """What XDP knows of interfaces."""

    def put(self, interface_index: int, mac: bytes, home_link: int, mtu: int) -> None: ...
    def remove(self, interface_index: int) -> bool: ...
    def indices(self) -> list[int]: ...


class TapMap(Protocol):
    """Where XDP sends signalling."""

    def put(self, key: int, interface_index: int) -> None: ...
    def remove(self, key: int) -> bool: ...


class PortMap(Protocol):
    """By what XDP may send."""

    def add(self, interface_index: int) -> None: ...
    def remove(self, key: int) -> bool: ...
    def items(self) -> Mapping[int, int]: ...


class Neighbors(Protocol):
    """The adjacency table, as far as interfaces concern it."""

    def serve_interface(self, interface_index: int, mac: bytes, mtu: int) -> None: ...
    def forsake_interface(self, interface_index: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Maps:
    """What is written for each interface."""

    interfaces: InterfaceMap
    taps: TapMap
    ports: PortMap
    neighbors: Neighbors


@dataclass(frozen=True, slots=True)
class Means:
    """What the machine does for each interface; each may raise what `failures` names."""

    make_tap: Callable[[str], Tap]
    make_sender: Callable[[str], FrameSender]
    attach: Callable[[str, int, bool], Attachment]
    """By name and index; natively where the driver can, or in generic mode in any case."""
    set_allmulti: Callable[[int, bool], None]
    listen: Callable[[Tap], None]
    """Take frames from this TAP from now on."""
    forget: Callable[[Tap], None]
    """Take no more from this TAP."""
    failures: tuple[type[Exception], ...]


@dataclass(slots=True)
class _Served:
    name: str
    home_link: int
    """0 where the interface leads to none."""
    tap: Tap
    sender: FrameSender
    first_mac: bytes
    link: Link | None = None
    """None while it is away."""
    attachment: Attachment | None = None
    trouble: str | None = None
    """Why it is not served although it is there."""
    is_heard: bool = False
    """Frames of its TAP are taken."""
    was_attached_before: bool = True
    """The data path ran on it before this start."""


class Interfaces:
    """All that are served, by name."""

    def __init__(
        self, home_links: Mapping[str, int], maps: Maps, means: Means, senders: MutableMapping[str, FrameSender]
    ) -> None:
        """`home_links` has every interface, with the index of its home link or 0; `senders` is filled by name."""
        self._home_links = home_links
        self._maps = maps
        self._means = means
        self._served: dict[str, _Served] = {}
        # One whose interface is away fails, and counts it.
        self._senders = senders
        self._generic_for: str | None = None
        """For whose sake all run in generic mode."""

    def start(self, links: Iterable[Link]) -> None:
        """Serve every interface; raises what `Means.failures` names."""
        present = {link.name: link for link in links}
        for name, home_link in self._home_links.items():
            link = present[name]
            tap = self._means.make_tap(name)
            try:
                sender = self._means.make_sender(name)
            except self._means.failures:
                tap.close()
                raise
            self._served[name] = _Served(name, home_link, tap, sender, link.mac)
            self._senders[name] = sender
        for served in self._served.values():
            self._write(served, present[served.name])
        self._withdraw_others()
        for served in self._served.values():
            self._attach(served)
            served.was_attached_before = served.attachment is None or served.attachment.taken_over
            self._listen(served)
        error = self._use_one_mode()
        if error is not None:
            raise error

    def handle(self, event: LinkChanged | LinkRemoved) -> None:
        """Take in what happened to a link."""
        match event:
            case LinkChanged(link):
                for served in self._served.values():
                    if served.link is not None and served.link.index == link.index and served.name != link.name:
                        self._vanish(served, f"it is called {link.name} now")
                found = self._served.get(link.name)
                if found is not None:
                    self._change(found, link)
            case LinkRemoved(index, _):
                for served in self._served.values():
                    if served.link is not None and served.link.index == index:
                        self._vanish(served, "it is gone")
                    if served.tap.index == index:
                        self._renew_tap(served)

    def resynchronize(self, links: Iterable[Link]) -> None:
        """Take in all links at once, after events were lost."""
        present = {link.name: link for link in links}
        for served in self._served.values():
            link = present.get(served.name)
            if link is not None:
                self._change(served, link)
            elif served.link is not None:
                self._vanish(served, "it is gone")

    def close(self) -> None:
        """Give back TAPs and sockets; the data path stays attached."""
        for served in self._served.values():
            self._close_tap(served)
            served.sender.close()
        self._served.clear()
        self._senders.clear()

    def attached_anew(self) -> list[str]:
        """Those that the data path was not attached to before this start."""
        return [served.name for served in self._served.values() if not served.was_attached_before]

    def alarms(self) -> Iterator[str]:
        """What the operator should see to."""
        for served in self._served.values():
            if served.link is None:
                yield f"{served.name} is away: its packets and signalling are not served until it returns"
            elif served.trouble is not None:
                yield f"{served.name} is not served: {served.trouble}"
            elif not served.link.is_up:
                yield f"{served.name} is down: ip link set dev {served.name} up"
            elif served.home_link and served.link.mac != served.first_mac:
                yield f"{served.name} has another MAC address since the start: restart the daemon, which advertises it"

    def failures(self) -> Counter[str]:
        """Frames that could not be sent, by the name of the errno."""
        return sum((served.sender.failures for served in self._served.values()), start=Counter())

    def describe(self) -> list[dict[str, object]]:
        """Each interface, for `show status`."""
        return [
            {
                "name": served.name,
                "index": None if served.link is None else served.link.index,
                "state": _state(served),
                "mode": None if served.attachment is None else served.attachment.mode.name.lower(),
                "native_refusal": None if served.attachment is None else served.attachment.native_refusal,
                "generic_for": self._generic_for if served.name != self._generic_for else None,
                "home_link": served.home_link,
                "tap": served.tap.name,
                "frames_not_sent": sum(served.sender.failures.values()),
            }
            for served in self._served.values()
        ]

    # ---- one interface ----

    def _change(self, served: _Served, link: Link) -> None:
        previous = served.link
        if previous is not None and previous.index == link.index:
            if (previous.mac, previous.mtu) != (link.mac, link.mtu):
                self._write(served, link)
            elif previous.is_up and not link.is_up:
                _LOG.warning("%s was set down", served.name)
            served.link = link
            if served.trouble is None:
                return
        if previous is not None and previous.index != link.index:
            self._vanish(served, "another has taken its name")
        try:
            if served.tap.fileno() < 0:
                served.tap = self._means.make_tap(served.name)
            self._listen(served)
            self._write(served, link)
            served.sender.reopen()
            self._attach(served)
        except self._means.failures as error:
            served.trouble = str(error)
            _LOG.error("%s has returned and cannot be served: %s", served.name, error)
            return
        _LOG.warning("%s has returned and is served again", served.name)
        self._use_one_mode()

    def _vanish(self, served: _Served, why: str) -> None:
        if served.link is None:
            return
        index = served.link.index
        served.link = None
        served.attachment = None
        served.trouble = None
        self._maps.neighbors.forsake_interface(index)
        self._maps.interfaces.remove(index)
        self._maps.ports.remove(index)
        self._maps.taps.remove(index)
        served.sender.close()
        _LOG.error("%s is not served any more: %s; it is waited for", served.name, why)

    def _write(self, served: _Served, link: Link) -> None:
        served.link = link
        self._maps.ports.add(link.index)
        self._maps.taps.put(link.index, served.tap.index)
        self._maps.interfaces.put(link.index, link.mac, served.home_link, link.mtu)
        self._maps.neighbors.serve_interface(link.index, link.mac, link.mtu)

    def _attach(self, served: _Served) -> None:
        if served.link is None:
            return
        served.attachment = self._means.attach(served.name, served.link.index, self._generic_for is not None)
        served.trouble = None
        if served.home_link:
            # A solicitation is sent to the group of its target, and the interface listens to none of a mobile node's.
            self._means.set_allmulti(served.link.index, True)
        if served.attachment.mode.name == "GENERIC" and self._generic_for is None:
            self._generic_for = served.name

    def _use_one_mode(self) -> Exception | None:
        """Make all generic if one is; the last failure, each of which is the trouble of its interface.

        A native redirect to an interface that has no native mode vanishes in the driver, and nobody is told.
        """
        failure: Exception | None = None
        for served in self._served.values():
            attachment = served.attachment
            if self._generic_for is None or served.link is None or attachment is None:
                continue
            if attachment.mode.name == "GENERIC":
                continue
            _LOG.warning("%s runs in generic mode, since %s does", served.name, self._generic_for)
            try:
                served.attachment = self._means.attach(served.name, served.link.index, True)
            except self._means.failures as error:
                served.attachment = None
                served.trouble = str(error)
                _LOG.error("%s cannot be served in generic mode: %s", served.name, error)
                failure = error
        return failure

    def _listen(self, served: _Served) -> None:
        if not served.is_heard:
            self._means.listen(served.tap)
            served.is_heard = True

    def _close_tap(self, served: _Served) -> None:
        # One that was removed, and could not be made again, is closed already.
        if served.is_heard:
            self._means.forget(served.tap)
            served.is_heard = False
        served.tap.close()

    def _renew_tap(self, served: _Served) -> None:
        """Somebody has removed the TAP."""
        self._close_tap(served)
        try:
            served.tap = self._means.make_tap(served.name)
            self._listen(served)
            if served.link is not None:
                self._maps.taps.put(served.link.index, served.tap.index)
        except self._means.failures as error:
            served.trouble = str(error)
            _LOG.error("the TAP of %s was removed and cannot be made again: %s", served.name, error)
            return
        _LOG.warning("the TAP of %s was removed, and is made again", served.name)

    def _withdraw_others(self) -> None:
        """What a predecessor served and this configuration does not."""
        present = {served.link.index for served in self._served.values() if served.link is not None}
        for index in self._maps.interfaces.indices():
            if index not in present:
                self._maps.interfaces.remove(index)
                self._maps.taps.remove(index)
        for index in self._maps.ports.items():
            if index not in present:
                self._maps.ports.remove(index)


def _state(served: _Served) -> str:
    if served.link is None:
        return "away"
    if served.trouble is not None:
        return "not served"
    if not served.link.is_up:
        return "down"
    return "up" if served.link.has_carrier else "no carrier"
