# SPDX-License-Identifier: Apache-2.0
"""The home agent's data path, loaded once, with its maps written anew before each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bpf.home_agent_network import HomeAgentNetwork, home_agent_network


@pytest.fixture(scope="session")
def _network() -> Iterator[HomeAgentNetwork]:
    with home_agent_network() as network:
        yield network


@pytest.fixture
def network(_network: HomeAgentNetwork) -> HomeAgentNetwork:
    """The network as every test finds it: HOME_ADDRESS is bound to CARE_OF_ADDRESS for an hour."""
    _network.reset()
    return _network
