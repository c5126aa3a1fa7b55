# SPDX-License-Identifier: Apache-2.0
"""The files that one run's home agent and mobile node are started with.

The shape is that of deploy/examples; addresses, paths and freshly drawn keys are the run's own.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from ha_fastpath.lab.topology import HOME, HOME_ADDRESS, HOME_AGENT_ADDRESS, LINKS

BINDING_UPDATE_SPI = 0x7D0
BINDING_ACKNOWLEDGEMENT_SPI = 0x7D1
LIFETIME_S = 16
# RetransTimer of the home link. 1000 ms is the default (RFC 4861 section 10) and makes every first registration take a
# second longer: no other node's answer to the solicitation may be missed.
DAD_RETRANSMIT_TIMER_MS = 200


@dataclass(frozen=True, slots=True)
class Files:
    """Where a run's files are."""

    home_agent: Path
    mobile_node: Path
    management_socket: Path


def write_files(directory: Path, bpffs: Path) -> Files:
    """Write everything under the run's own directory."""
    files = Files(
        home_agent=directory / "ha-fastpath.toml",
        mobile_node=directory / "mobile-node.toml",
        management_socket=directory / "management.sock",
    )
    keys = directory / "keys.toml"
    files.home_agent.write_text(
        f"""[home_agent]
keys_file = "{keys}"
state_file = "{directory / "home-agent.sqlite"}"
pin_directory = "{bpffs / "home-agent"}"
management_socket = "{files.management_socket}"
maximum_bindings = 1000
maximum_lifetime_s = 3600

[[home_link]]
interface = "eth0"
prefix = "{LINKS[HOME]}"
address = "{HOME_AGENT_ADDRESS}"
dad_retransmit_timer_ms = {DAD_RETRANSMIT_TIMER_MS}
""",
        encoding="ascii",
    )
    files.mobile_node.write_text(
        f"""[mobile_node]
interface = "eth0"
home_address = "{HOME_ADDRESS}"
home_prefix = "{LINKS[HOME]}"
home_agent_address = "{HOME_AGENT_ADDRESS}"
lifetime_s = {LIFETIME_S}
keys_file = "{keys}"
state_file = "{directory / "mobile-node.sqlite"}"
pin_directory = "{bpffs / "mobile-node"}"
""",
        encoding="ascii",
    )
    # The mode must hold from the first octet on.
    with open(os.open(keys, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(_keys())
    return files


def _keys() -> str:
    tables = "".join(
        f"""
[mobile_node.{purpose}]
spi = "{spi:#x}"
encryption = "aes-cbc"
encryption_key = "{secrets.token_hex(16)}"
integrity = "hmac-sha-256-128"
integrity_key = "{secrets.token_hex(32)}"
anti_replay = true
"""
        for purpose, spi in (
            ("binding_update", BINDING_UPDATE_SPI),
            ("binding_acknowledgement", BINDING_ACKNOWLEDGEMENT_SPI),
        )
    )
    return f'[[mobile_node]]\nhome_address = "{HOME_ADDRESS}"\n{tables}'
