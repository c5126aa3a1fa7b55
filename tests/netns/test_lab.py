# SPDX-License-Identifier: Apache-2.0
"""The lab makes its network and leaves nothing of it behind, however a run ends; and the demonstration passes."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ha_fastpath.dataplane.loader import object_path
from ha_fastpath.lab import keeper
from ha_fastpath.lab.children import child_environment, die_with_parent
from ha_fastpath.lab.topology import (
    CORRESPONDENT,
    FOREIGN_1,
    HOME_ADDRESS,
    LINKS,
    MOBILE_NODE,
    Lab,
    run,
    run_directory,
)

pytestmark = pytest.mark.netns

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO = [sys.executable, "-m", "ha_fastpath", "demo"]
# Longer than the network, the daemons and the first of the traffic take to be there.
LONGEST_DELAY_S = 6.0


def await_that(condition: Callable[[], bool], timeout_s: float = 15.0) -> bool:
    """Poll a condition until it holds; False if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        select.select([], [], [], 0.01)
    return True


def left_of(prefix: str) -> list[str]:
    """Whatever there still is of a run."""
    directory = run_directory(prefix)
    return [
        *(f"namespace {name}" for name in keeper.namespaces(prefix)),
        *(f"mount {point}" for point in keeper.mounts(directory)),
        *(f"directory {path}" for path in directory.parent.glob(f"*{directory.name}*")),
        *(f"process {pid}" for pid in keeper.processes(prefix)),
    ]


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A network without any home agent."""
    lab = Lab(f"hafp-t{os.getpid()}")
    remover = keeper.Keeper(lab.prefix)
    try:
        remover.wait_ready()
        lab.make(object_path("xdp_pass"))
        yield lab
    finally:
        assert remover.remove() == ""
    assert left_of(lab.prefix) == []


def replies(lab: Lab, number: int) -> bool:
    """Whether the correspondent gets `number` replies from the home address."""
    command = lab.entering(CORRESPONDENT, [sys.executable, "-m", "ha_fastpath.lab.end_host", "ping", str(HOME_ADDRESS)])
    received = 0
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment(lab.prefix),
        preexec_fn=die_with_parent(os.getpid()),
    ) as process:
        deadline = time.monotonic() + 10
        assert process.stdout is not None
        for line in process.stdout:
            received += len(json.loads(line)["received"])
            if received >= number or time.monotonic() > deadline:
                break
        process.kill()
    return received >= number


def test_the_mobile_node_is_reached_at_home_by_the_kernel_alone(lab: Lab) -> None:
    assert replies(lab, 20)


def test_the_mobile_node_loses_its_carrier_and_is_on_another_link(lab: Lab) -> None:
    def carrier() -> str:
        link = json.loads(run(["ip", "-j", "-n", lab.namespace(MOBILE_NODE), "link", "show", "eth0"], lab.prefix))
        return str(link[0]["operstate"])

    assert await_that(lambda: carrier() == "UP")
    lab.take_link_away()
    assert await_that(lambda: carrier() in ("DOWN", "LOWERLAYERDOWN"), 0.9)
    lab.give_link(FOREIGN_1)
    assert await_that(lambda: carrier() == "UP", 0.9)
    with subprocess.Popen(lab.radvd(), env=child_environment(lab.prefix), stderr=subprocess.DEVNULL) as radvd:
        capture = ["timeout", "10", "tcpdump", "-ni", "eth0", "-vv", "-c", "1", "icmp6 and ip6[40] == 134"]
        heard = run(lab.entering(MOBILE_NODE, capture), lab.prefix)
        radvd.kill()
    assert str(LINKS[FOREIGN_1]) in heard


def hear_ctrl_c() -> None:
    """In a child: what a shell starts in the background ignores SIGINT, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def end_demo(number: signal.Signals, delay_s: float) -> None:
    """Start the demonstration, let the signal meet it after a while, and see that nothing stays."""
    process = subprocess.Popen(
        DEMO,
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )
    prefix = f"hafp-{process.pid}"
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(delay_s)
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert await_that(lambda: not left_of(prefix)), f"{number.name} after {delay_s:.3f} s left {left_of(prefix)}"
    assert process.returncode != 0
    assert "Traceback" not in said or delay_s < 0.5, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("part", [0.05, 0.2, 1.0])
def test_nothing_stays_of_a_demonstration_that_a_signal_ends(number: signal.Signals, part: float) -> None:
    end_demo(number, random.uniform(0.02, part * LONGEST_DELAY_S))  # noqa: S311


def test_ctrl_c_reaches_the_whole_process_group_and_still_nothing_stays() -> None:
    process = subprocess.Popen(
        DEMO,
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )
    prefix = f"hafp-{process.pid}"
    try:
        assert await_that(lambda: len(keeper.processes(prefix)) >= 4), "the demonstration does not begin"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        process.kill()
    assert left_of(prefix) == []


def test_what_even_the_keeper_could_not_remove_is_removed_by_the_next_run() -> None:
    abandoned = Lab(f"hafp-a{os.getpid()}")
    remover = keeper.Keeper(abandoned.prefix)
    remover.wait_ready()
    abandoned.make(object_path("xdp_pass"))
    remover.kill()
    assert left_of(abandoned.prefix)
    following = keeper.Keeper(f"hafp-b{os.getpid()}")
    following.wait_ready()
    try:
        assert left_of(abandoned.prefix) == []
    finally:
        assert following.remove() == ""


def test_the_demonstration_passes(tmp_path: Path) -> None:
    output = tmp_path / "demo.json"
    completed = subprocess.run(
        [*DEMO, "--json-output", str(output)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "\x1b" not in completed.stdout
    record = json.loads(output.read_text(encoding="ascii"))
    assert record["registrations"] == 4
    assert [handover["to"] for handover in record["handovers"]] == ["foreign1", "foreign2", "home"]
    assert all(handover["interruption_ms"] <= 500 for handover in record["handovers"])
    assert record["lost_outside_handover"] == 0
    assert record["packets_received"] > 1000
    assert record["tcp_bytes"] >= 20_000_000
    assert record["tcp_sha256_ok"]
    assert record["esp_protected"]
    assert min(record[name] for name in ("tunnelled", "reverse_tunnelled", "solicitations_answered")) > 0
