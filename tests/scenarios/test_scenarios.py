# SPDX-License-Identifier: Apache-2.0
"""Every scenario file beside this one, and what the runner itself must notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.scenario import Scenario, ScenarioError

DIRECTORY = Path(__file__).parent
FILES = sorted(DIRECTORY.glob("*.txt"))


def test_there_are_scenarios() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    Scenario(path).run()


SETUP = f"include {DIRECTORY / 'one-mobile-node.setup'}\n"
UPDATE = "0 receive binding-update home=node from=foreign1 sequence=1 lifetime=240\n"
STARTED = UPDATE + "0 expect start-dad node\n"


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (UPDATE, "not expected, at 0.000000000: StartDad"),
        (UPDATE + "0 expect stop-dad node", "expected at 0.000000000: StopDad"),
        (STARTED + "0 expect neighbor-solicitation target=foreign1", "expected at 0.000000000: frame by eth0"),
        (STARTED + "0.5 expect neighbor-solicitation target=node", "done at 0.000000000: frame by eth0"),
        (STARTED + "0 check counter unprotected=1", "unprotected is 0, not 1"),
        (STARTED + "0 check state node bound", "node is detecting, not bound"),
        ("0 expect stop-dad node", "nothing was done"),
        ("1 expect nothing\n0 expect nothing", "time does not go back"),
        ("0 receive pigeon", "cannot receive pigeon"),
        ("0 expect pigeon", "cannot expect pigeon"),
        ("0 fly", "not understood: fly"),
    ],
)
def test_runner_notices(tmp_path: Path, lines: str, complaint: str) -> None:
    path = tmp_path / "scenario.txt"
    path.write_text(SETUP + lines)
    with pytest.raises(ScenarioError) as error:
        Scenario(path).run()
    assert complaint in str(error.value)
