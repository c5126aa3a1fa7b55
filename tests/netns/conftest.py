# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the namespace tests of the daemon; see stage.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.stage import Daemon, Port, Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    built = Stage(tmp_path)
    yield built
    built.close()


@pytest.fixture
def daemon(stage: Stage) -> Iterator[Daemon]:
    """Not started yet: the test says by what configuration."""
    process = Daemon(stage)
    yield process
    process.close()


@pytest.fixture
def world_port(stage: Stage) -> Iterator[Port]:
    """Where Binding Updates and tunnelled packets enter and leave."""
    port = Port(stage.world, "p-world", stage.home_agent, "eth1")
    yield port
    port.close()


@pytest.fixture
def home_port(stage: Stage) -> Iterator[Port]:
    """A neighbor's place on the home link."""
    port = Port(stage.world, "p-home", stage.home_agent, "eth0")
    yield port
    port.close()
