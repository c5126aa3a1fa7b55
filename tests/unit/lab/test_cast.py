# SPDX-License-Identifier: Apache-2.0
"""How a run waits, and what the lines of its processes mean, without any process."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from ha_fastpath.lab.cast import Cast
from ha_fastpath.lab.children import LabError
from ha_fastpath.lab.outcome import Handover
from ha_fastpath.lab.picture import Picture
from ha_fastpath.lab.scenario import Files
from ha_fastpath.lab.topology import Lab

S = 1_000_000_000


def new_cast(said: list[str] | None = None) -> tuple[Cast, Picture]:
    picture = Picture(0)
    told = [] if said is None else said
    files = Files(Path("/h"), Path("/m"), Path("/s"))
    return Cast(Lab("hafp-none"), files, picture, lambda sentence, _style: told.append(sentence)), picture


def acknowledged(care_of_address: str | None, at_s: float, status: int = 0, lifetime_units: int = 4) -> str:
    return json.dumps(
        {
            "time_ns": int(at_s * S),
            "event": "binding_acknowledged",
            "status": status,
            "sequence": 1,
            "lifetime_units": lifetime_units,
            "care_of_address": care_of_address,
        }
    )


def test_an_interruption_is_not_lost_to_a_line_that_comes_at_the_same_instant() -> None:
    async def play() -> None:
        cast, _ = new_cast()
        waiting = asyncio.get_running_loop().create_task(cast.until(lambda: False, 5.0, "too late"))
        for _ in range(3):
            await asyncio.sleep(0)
        cast.heard()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(play())


def test_waiting_ends_when_the_condition_comes_true_with_a_line() -> None:
    async def play() -> None:
        cast, _ = new_cast()
        waiting = asyncio.get_running_loop().create_task(cast.until(lambda: cast.mobile_node_at_home, 5.0, "too late"))
        await asyncio.sleep(0)
        cast.hear_mobile_node(json.dumps({"time_ns": 1, "event": "home"}))
        cast.heard()
        await waiting

    asyncio.run(play())


def test_waiting_in_vain_says_what_for() -> None:
    cast, _ = new_cast()
    with pytest.raises(LabError, match="no acknowledgement came"):
        asyncio.run(cast.until(lambda: False, 0.01, "no acknowledgement came"))


def test_an_acknowledgement_ends_the_handover_to_its_link_alone() -> None:
    said: list[str] = []
    cast, picture = new_cast(said)
    handover = Handover("home", "foreign1", 10 * S)
    picture.outcome.handovers.append(handover)
    # A late answer to a Binding Update from elsewhere.
    cast.hear_mobile_node(acknowledged("2001:db8:3::5", 10.1))
    assert handover.acknowledged_ns is None
    cast.hear_mobile_node(acknowledged("2001:db8:2::5", 10.3))
    assert handover.interruption_ms == pytest.approx(300.0)
    # The refresh moves nothing.
    cast.hear_mobile_node(acknowledged("2001:db8:2::5", 22.0))
    assert handover.interruption_ms == pytest.approx(300.0)
    assert picture.outcome.acknowledged == 3
    assert picture.binding is not None
    assert picture.binding.left_s(30 * S) == pytest.approx(8.0)
    assert said[-1] == "refreshed: the binding is good for 16 s again"


def test_a_deregistration_ends_the_return_and_the_binding() -> None:
    cast, picture = new_cast()
    picture.outcome.handovers.append(Handover("foreign2", "home", 25 * S))
    cast.hear_mobile_node(acknowledged(None, 25.1, lifetime_units=0))
    assert picture.binding is None
    assert picture.outcome.handovers[0].interruption_ms == pytest.approx(100.0)


def test_a_refusal_is_no_registration() -> None:
    cast, picture = new_cast()
    cast.hear_mobile_node(acknowledged("2001:db8:2::5", 10.3, status=129))
    assert picture.outcome.acknowledged == 0
    assert picture.outcome.failures()[0] == (
        "The home agent refused a registration: Binding Update 1 was answered with status 129."
    )


def test_what_is_not_json_is_told() -> None:
    cast, _ = new_cast()
    with pytest.raises(LabError, match="expected a line of JSON"):
        cast.hear_mobile_node("Traceback (most recent call last):")
