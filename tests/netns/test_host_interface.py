# SPDX-License-Identifier: Apache-2.0
"""What a mobile node does to the interface that moves, on a live one, as iproute2 shows it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from ha_fastpath.net.host import ROUTE_METRIC, ROUTE_PROTOCOL, Host, HostMonitor
from ha_fastpath.net.netlink import find_link
from tests.bpf.namespace import ip, network_namespace

pytestmark = pytest.mark.netns

INDEX = 71
HOME_ADDRESS = IPv6Address("2001:db8:1::100")
HOME_PREFIX = IPv6Network("2001:db8:1::/64")
CARE_OF_ADDRESS = IPv6Address("2001:db8:2::100")
ROUTER = IPv6Address("fe80::1")
MAC = bytes.fromhex("0200000000aa")
SETTINGS = ("accept_ra", "optimistic_dad", "use_optimistic")
PATIENCE_S = 10


@pytest.fixture(autouse=True)
def interface() -> Iterator[None]:
    """`mn0`, of a fixed index, in a namespace of its own."""
    with network_namespace():
        ip(f"link add dev mn0 index {INDEX} type veth peer name peer")
        ip("link set dev mn0 up")
        ip("link set dev peer up")
        yield


@pytest.fixture
def host() -> Iterator[Host]:
    opened = Host(find_link("mn0"), HOME_ADDRESS, HOME_PREFIX)
    opened.open()
    yield opened
    opened.close()


def shown(command: str) -> list[Any]:
    output = subprocess.run(["ip", "-6", "-json", *command.split()], check=True, capture_output=True, text=True).stdout
    return list(json.loads(output or "[]"))


def addresses() -> dict[str, dict[str, Any]]:
    """Those of global scope, with their flags."""
    (interface,) = shown("address show dev mn0")
    return {each["local"]: each for each in interface["addr_info"] if each["scope"] == "global"}


def routes() -> dict[tuple[str, int], dict[str, Any]]:
    """By destination and metric."""
    return {(each["dst"], each["metric"]): each for each in shown("route show dev mn0") if each["dst"] != "fe80::/64"}


def settings() -> list[str]:
    return [Path(f"/proc/sys/net/ipv6/conf/mn0/{name}").read_text(encoding="ascii").strip() for name in SETTINGS]


def test_the_home_address_is_on_the_interface_with_a_route_of_ours(host: Host) -> None:  # noqa: ARG001
    assert set(addresses()) == {str(HOME_ADDRESS)}
    assert addresses()[str(HOME_ADDRESS)]["prefixlen"] == 128
    assert addresses()[str(HOME_ADDRESS)].get("noprefixroute")
    route = routes()[str(HOME_PREFIX), ROUTE_METRIC]
    assert (route["protocol"], route["prefsrc"]) == (str(ROUTE_PROTOCOL), str(HOME_ADDRESS))
    assert settings() == ["0", "1", "1"]


def test_abroad_all_goes_by_the_router_with_room_for_the_tunnel(host: Host) -> None:
    host.attach_abroad(CARE_OF_ADDRESS, 64, ROUTER, MAC)
    assert addresses()[str(CARE_OF_ADDRESS)].get("optimistic")
    assert set(routes()) == {("default", ROUTE_METRIC)}
    route = routes()["default", ROUTE_METRIC]
    assert (route["gateway"], route["prefsrc"]) == (str(ROUTER), str(HOME_ADDRESS))
    assert route["metrics"] == [{"mtu": 1460}]
    (neighbor,) = shown("neighbor show dev mn0")
    assert (neighbor["dst"], neighbor["lladdr"], neighbor["state"]) == (str(ROUTER), MAC.hex(":"), ["REACHABLE"])


def test_it_may_be_said_again(host: Host) -> None:
    host.attach_abroad(CARE_OF_ADDRESS, 64, ROUTER, MAC)
    host.attach_abroad(CARE_OF_ADDRESS, 64, IPv6Address("fe80::2"), None)
    assert set(addresses()) == {str(HOME_ADDRESS), str(CARE_OF_ADDRESS)}
    assert routes()["default", ROUTE_METRIC]["gateway"] == "fe80::2"


def test_at_home_the_home_prefix_is_on_the_link(host: Host) -> None:
    host.attach_abroad(CARE_OF_ADDRESS, 64, ROUTER, MAC)
    host.attach_home(ROUTER, MAC)
    assert set(routes()) == {("default", ROUTE_METRIC), (str(HOME_PREFIX), ROUTE_METRIC)}
    assert "metrics" not in routes()["default", ROUTE_METRIC]
    host.attach_home(None, None)
    host.attach_home(None, None)
    assert set(routes()) == {(str(HOME_PREFIX), ROUTE_METRIC)}


def test_a_care_of_address_is_released(host: Host) -> None:
    host.attach_abroad(CARE_OF_ADDRESS, 64, ROUTER, MAC)
    host.release(CARE_OF_ADDRESS)
    host.release(CARE_OF_ADDRESS)
    assert set(addresses()) == {str(HOME_ADDRESS)}


def test_at_the_end_nothing_is_left() -> None:
    before = settings()
    host = Host(find_link("mn0"), HOME_ADDRESS, HOME_PREFIX)
    host.open()
    host.attach_abroad(CARE_OF_ADDRESS, 64, ROUTER, MAC)
    host.close()
    assert addresses() == {}
    assert routes() == {}
    assert settings() == before


def test_what_the_operator_had_is_there_again_at_the_end() -> None:
    ip(f"address add {HOME_ADDRESS}/64 dev mn0 nodad")
    ip("-6 route add default via 2001:db8:1::2 dev mn0")
    before = routes()
    host = Host(find_link("mn0"), HOME_ADDRESS, HOME_PREFIX)
    host.open()
    # The kernel's own route would bypass the tunnel.
    assert (str(HOME_PREFIX), 256) not in routes()
    host.attach_abroad(CARE_OF_ADDRESS, 64, ROUTER, MAC)
    host.close()
    assert routes() == before
    assert set(addresses()) == {str(HOME_ADDRESS)}


def test_what_a_process_that_was_killed_has_left_is_taken_over() -> None:
    killed = Host(find_link("mn0"), HOME_ADDRESS, HOME_PREFIX)
    killed.open()
    killed.attach_abroad(CARE_OF_ADDRESS, 64, ROUTER, MAC)
    host = Host(find_link("mn0"), HOME_ADDRESS, HOME_PREFIX)
    host.open([CARE_OF_ADDRESS])
    assert set(addresses()) == {str(HOME_ADDRESS)}
    assert set(routes()) == {(str(HOME_PREFIX), ROUTE_METRIC)}
    host.close()


def test_an_interface_that_is_gone_has_nothing_to_be_put_back(caplog: pytest.LogCaptureFixture) -> None:
    host = Host(find_link("mn0"), HOME_ADDRESS, HOME_PREFIX)
    host.open()
    ip("link del dev mn0")
    with pytest.raises(OSError, match="No such device"):
        host.attach_abroad(CARE_OF_ADDRESS, 64, ROUTER, MAC)
    host.close()
    assert caplog.text == ""


def test_what_cannot_be_put_back_is_told(caplog: pytest.LogCaptureFixture) -> None:
    ip(f"address add {HOME_ADDRESS}/64 dev mn0 nodad")
    host = Host(find_link("mn0"), HOME_ADDRESS, HOME_PREFIX)
    host.open()
    ip("link del dev mn0")
    host.close()
    assert "mn0 is not as it was before" in caplog.text


def test_a_small_link_keeps_the_minimum_mtu() -> None:
    ip("link set dev mn0 mtu 1300")
    host = Host(find_link("mn0"), HOME_ADDRESS, HOME_PREFIX)
    host.open()
    host.attach_abroad(CARE_OF_ADDRESS, 64, ROUTER, MAC)
    assert routes()["default", ROUTE_METRIC]["metrics"] == [{"mtu": 1280}]
    host.close()


# ---- hearing ----


class Heard:
    def __init__(self) -> None:
        self.carriers: list[bool] = []
        self.conflicts: list[IPv6Address] = []
        self.changed = asyncio.Event()

    def carrier(self, is_there: bool) -> None:
        self.carriers.append(is_there)
        self.changed.set()

    def conflict(self, address: IPv6Address) -> None:
        self.conflicts.append(address)
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


def hear(scene: Callable[[Heard], Any]) -> Heard:
    """Play a scene while the monitor listens."""

    async def listen() -> Heard:
        heard = Heard()
        monitor = HostMonitor(INDEX, heard.carrier, heard.conflict)
        try:
            monitor.start(asyncio.get_running_loop())
            await asyncio.wait_for(scene(heard), PATIENCE_S)
        finally:
            monitor.close()
        return heard

    return asyncio.run(listen())


def test_the_carrier_is_told_as_it_is_and_as_it_changes() -> None:
    async def scene(heard: Heard) -> None:
        assert heard.carriers == [True]
        ip("link set dev peer down")
        await heard.until(lambda: not heard.carriers[-1])
        ip("link set dev peer up")
        await heard.until(lambda: heard.carriers[-1])
        ip("link set dev lo down")
        ip("link del dev mn0")
        await heard.until(lambda: not heard.carriers[-1])

    hear(scene)


def test_no_carrier_at_the_start_is_told_too() -> None:
    async def scene(heard: Heard) -> None:
        assert heard.carriers == [False]

    ip("link set dev peer down")
    hear(scene)


def test_an_address_that_another_node_has_is_told() -> None:
    async def scene(heard: Heard) -> None:
        # The peer of the cable is in this namespace too, and so answers for its own address.
        ip(f"address add {CARE_OF_ADDRESS}/64 dev mn0")
        await heard.until(lambda: heard.conflicts == [CARE_OF_ADDRESS])

    ip(f"address add {CARE_OF_ADDRESS}/64 dev peer nodad")
    hear(scene)


def test_a_monitor_that_was_not_started_closes() -> None:
    HostMonitor(INDEX, lambda _: None, lambda _: None).close()
