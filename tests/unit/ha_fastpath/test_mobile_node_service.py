# SPDX-License-Identifier: Apache-2.0
"""What the service makes of a mobile node's effects and events; everything it acts on is a record here."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from control.binding.cache import BindingCacheEntry
from control.ipsec.association import Role, SecurityAssociation
from control.mobile_node import BindingUpdateSent, MobileNode, RouterFound
from ha_fastpath import mobile_node
from ha_fastpath.config import MobileNodeSettings
from ha_fastpath.mobile_node import Means, MobileNodeService, event_name, print_json, print_text, restore
from ha_fastpath.service import WatchedAssociations
from ha_fastpath.state import State, Stored
from tests.unit.mobile_node_stage import (
    ABROAD,
    ACKNOWLEDGEMENT_SPI,
    AT_HOME,
    CARE_OF_ADDRESS,
    HOME_ADDRESS,
    HOME_AGENT,
    HOME_AGENT_MAC,
    HOME_PREFIX,
    INTERFACE,
    NOW,
    ROUTER_MAC,
    SECOND,
    UPDATE_SPI,
    acknowledgement,
    associations,
    binding_update,
    configuration,
    neighbor_advertisement,
)

ROUTER = IPv6Address("fe80::ff:fe00:102")
SETTINGS = MobileNodeSettings(
    path=Path("mobile-node.toml"),
    interface=INTERFACE,
    home_address=HOME_ADDRESS,
    home_prefix=HOME_PREFIX,
    home_agent_address=HOME_AGENT,
    lifetime_s=600,
    keys_file=Path("keys.toml"),
    state_file=Path("state.sqlite"),
    pin_directory=Path("/sys/fs/bpf/mobile-node"),
    spi_range=(0x100, 0xBFFFFFFF),
)


class Everything:
    """Host, tunnel, record and both senders: what was done, in order."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.told: list[tuple[str, dict[str, object]]] = []
        self.refusal: OSError | None = None

    def _host(self, *what: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.done.append(what)

    def attach_abroad(
        self, care_of_address: IPv6Address, prefix_length: int, router: IPv6Address, router_mac: bytes | None
    ) -> None:
        self._host("abroad", care_of_address, prefix_length, router, router_mac)

    def attach_home(self, router: IPv6Address | None, router_mac: bytes | None) -> None:
        self._host("home", router, router_mac)

    def record_binding(self, entry: BindingCacheEntry, now: int) -> None:
        self.done.append(("binding", entry.care_of_address, entry.sequence, entry.expires_ns - now))

    def record_removal(self, home_address: IPv6Address, sequence: int) -> None:
        self.done.append(("removal", home_address, sequence))

    def record_window(self, spi: int, window: tuple[int, int]) -> None:
        self.done.append(("window", spi, window[0]))

    def reserve_now(self, reserved: Mapping[int, int]) -> None:
        self.done.append(("reserve", dict(reserved)))

    def tell(self, name: str, told: dict[str, object]) -> None:
        self.told.append((name, told))


class _Tunnel:
    def __init__(self, everything: Everything) -> None:
        self._done = everything.done

    def set(self, care_of_address: IPv6Address | None) -> None:
        self._done.append(("tunnel", care_of_address))

    def release(self, care_of_address: IPv6Address) -> None:
        self._done.append(("tunnel released", care_of_address))


class _Host:
    def __init__(self, everything: Everything) -> None:
        self._everything = everything
        self.attach_abroad = everything.attach_abroad
        self.attach_home = everything.attach_home

    def release(self, care_of_address: IPv6Address) -> None:
        self._everything._host("released", care_of_address)


class _Sender:
    def __init__(self, everything: Everything, kind: str) -> None:
        self._everything, self._kind = everything, kind

    def send(self, octets: bytes, /) -> bool:
        self._everything.done.append((self._kind, octets))
        return True


def play(scene: Callable[[MobileNodeService, Everything], None]) -> Everything:
    """Run a scene on a loop, at NOW."""

    async def on_loop() -> Everything:
        everything = Everything()
        watched = WatchedAssociations(associations(Role.MOBILE_NODE))
        agent = MobileNode(configuration(), watched, bytes)
        means = Means(
            host=_Host(everything),
            tunnel=_Tunnel(everything),
            record=everything,
            packets=_Sender(everything, "packet"),
            frames=_Sender(everything, "frame"),
            tell=everything.tell,
        )
        service = MobileNodeService(agent, SETTINGS, watched, means, now_ns=lambda: NOW)
        service.start()
        scene(service, everything)
        service.agent_loop.close()
        return everything

    return asyncio.run(on_loop())


def receive(service: MobileNodeService, frame: bytes) -> None:
    service.agent_loop.receive_frame(frame, INTERFACE)


def test_a_foreign_router_is_followed_in_the_order_that_was_asked_for() -> None:
    everything = play(lambda service, _: receive(service, ABROAD))
    assert everything.done == [
        ("abroad", CARE_OF_ADDRESS, 64, ROUTER, ROUTER_MAC),
        ("tunnel", CARE_OF_ADDRESS),
        ("reserve", {UPDATE_SPI: 4096}),
        ("packet", binding_update(1, CARE_OF_ADDRESS, esp=1)),
        ("binding", CARE_OF_ADDRESS, 1, 600 * SECOND),
    ]


def test_the_return_is_followed_too() -> None:
    def scene(service: MobileNodeService, everything: Everything) -> None:
        receive(service, ABROAD)
        receive(service, acknowledgement(1, esp=1))
        service.carrier_changed(is_there=False)
        service.carrier_changed(is_there=True)
        receive(service, AT_HOME)
        receive(service, neighbor_advertisement(HOME_AGENT, HOME_AGENT_MAC))
        everything.done.clear()
        receive(service, acknowledgement(2, HOME_ADDRESS, lifetime_units=0, esp=2))

    everything = play(scene)
    kinds = [done[0] for done in everything.done]
    assert kinds == ["tunnel", "tunnel released", "released", "home", "removal", "frame", "window"]
    assert everything.done[4] == ("removal", HOME_ADDRESS, 2)


def test_an_interface_that_cannot_be_set_up_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    def scene(service: MobileNodeService, everything: Everything) -> None:
        everything.refusal = OSError(errno.ENODEV, "No such device")
        receive(service, ABROAD)
        assert ("tunnel", CARE_OF_ADDRESS) in everything.done
        everything.refusal = None
        service.carrier_changed(is_there=False)
        service.carrier_changed(is_there=True)
        receive(service, ABROAD)

    everything = play(scene)
    assert "eth0 could not be set up: No such device" in caplog.text
    assert ("abroad", CARE_OF_ADDRESS, 64, ROUTER, ROUTER_MAC) in everything.done


def test_a_conflict_is_handed_on() -> None:
    def scene(service: MobileNodeService, everything: Everything) -> None:
        receive(service, ABROAD)
        everything.done.clear()
        service.address_conflict(CARE_OF_ADDRESS)

    everything = play(scene)
    assert everything.done[:2] == [("tunnel released", CARE_OF_ADDRESS), ("released", CARE_OF_ADDRESS)]
    assert everything.done[2][0] == "abroad"


def test_events_are_told_with_the_time_and_the_lifetime_in_seconds() -> None:
    def scene(service: MobileNodeService, _: Everything) -> None:
        receive(service, ABROAD)
        receive(service, acknowledgement(1, esp=1))

    told = dict(play(scene).told)
    assert told["router_found"] == {
        "time_ns": NOW,
        "event": "router_found",
        "router": str(ROUTER),
        "prefix": "2001:db8:2::/64",
        "is_home": False,
    }
    assert told["binding_acknowledged"] == {
        "time_ns": NOW,
        "event": "binding_acknowledged",
        "status": 0,
        "sequence": 1,
        "lifetime_units": 150,
        "lifetime_s": 600,
        "care_of_address": str(CARE_OF_ADDRESS),
    }
    assert told["away"]["care_of_address"] == str(CARE_OF_ADDRESS)
    assert json.loads(json.dumps(told)) == told


def test_an_event_is_named_as_it_is_written() -> None:
    assert event_name(BindingUpdateSent(1, CARE_OF_ADDRESS, 2)) == "binding_update_sent"
    assert event_name(RouterFound(ROUTER, IPv6Network("::/64"), is_home=False)) == "router_found"


def test_events_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    told: dict[str, object] = {"time_ns": 1, "event": "away", "care_of_address": "2001:db8:2::1"}
    print_json("away", told)
    print_text("away", told)
    print_text("link_lost", {"time_ns": 1, "event": "link_lost"})
    assert capsys.readouterr().out == f"{json.dumps(told)}\naway: care_of_address 2001:db8:2::1\nlink lost\n"


def resumed(path: Path) -> dict[int, SecurityAssociation]:
    """What a process starts with, by SPI."""
    database = associations(Role.MOBILE_NODE)
    with State(path) as state:
        mobile_node.resume_associations(database, state, state.load(NOW))
        state.record_window(ACKNOWLEDGEMENT_SPI, (7, 1))
    return {association.spi: association for association in database}


def test_a_restart_goes_on_from_the_state_file(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    first, second = resumed(path), resumed(path)
    update = first[UPDATE_SPI]
    assert (update.next_sequence, update.reserved_through) == (1, 4096)
    assert first[ACKNOWLEDGEMENT_SPI].window.check(7)
    # Past all that the first may have sent and received.
    update = second[UPDATE_SPI]
    assert (update.next_sequence, update.reserved_through) == (4097, 8192)
    assert not second[ACKNOWLEDGEMENT_SPI].window.check(7)
    assert second[ACKNOWLEDGEMENT_SPI].window.check(8)


def test_an_association_that_is_used_up_reserves_no_more(tmp_path: Path) -> None:
    database = associations(Role.MOBILE_NODE)
    with State(tmp_path / "state.sqlite") as state:
        state.load(NOW)
        mobile_node.resume_associations(database, state, Stored(reserved_through={UPDATE_SPI: 2**32 - 1}))
    update = next(each for each in database if each.spi == UPDATE_SPI)
    assert update.next_sequence == 2**32


@pytest.mark.parametrize(
    ("stored", "sequence", "is_bound"),
    [
        (Stored(), 1, False),
        (Stored(sequences={HOME_ADDRESS: 41}), 42, False),
        (
            Stored(
                bindings={
                    HOME_ADDRESS: BindingCacheEntry(
                        home_address=HOME_ADDRESS,
                        care_of_address=CARE_OF_ADDRESS,
                        home_agent_address=HOME_AGENT,
                        home_link=0,
                        sequence=41,
                        lifetime_units=150,
                        registered_ns=NOW,
                        expires_ns=NOW + 600 * SECOND,
                        link_local_compatible=False,
                        key_management_mobility=False,
                    )
                }
            ),
            42,
            True,
        ),
    ],
)
def test_what_was_registered_before_is_restored(stored: Stored, sequence: int, is_bound: bool) -> None:
    agent = MobileNode(configuration(), associations(Role.MOBILE_NODE), bytes)
    restore(agent, stored, HOME_ADDRESS)
    agent.receive_frame(AT_HOME, INTERFACE, NOW)
    assert agent.location.value == ("returning" if is_bound else "home")
    agent = MobileNode(configuration(), associations(Role.MOBILE_NODE), bytes)
    restore(agent, stored, HOME_ADDRESS)
    agent.receive_frame(ABROAD, INTERFACE, NOW)
    sent = [event.sequence for event in iter(agent.next_event, None) if isinstance(event, BindingUpdateSent)]
    assert sent == [sequence]
