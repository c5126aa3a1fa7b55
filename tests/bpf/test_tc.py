# SPDX-License-Identifier: Apache-2.0
"""Attaching at the egress of an interface, as `tc` sees it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha_fastpath.dataplane import libbpf, preflight
from ha_fastpath.dataplane.loader import BpfObject
from ha_fastpath.dataplane.tc import attach_egress, detach_egress
from tests.bpf.compiler import compile_bpf
from tests.bpf.namespace import bpf_file_system, ip, network_namespace

pytestmark = pytest.mark.bpf

PROGRAM = """
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int leaving(struct __sk_buff *packet)
{
	__u8 *data = (void *)(long)packet->data;

	if (data + 1 <= (__u8 *)(long)packet->data_end)
		data[0] = packet->ifindex;
	return TC_ACT_OK;
}
char LICENSE[] SEC("license") = "GPL";
"""

INDEX = 70


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[BpfObject]:
    with network_namespace(), BpfObject.load(compile_bpf(PROGRAM, tmp_path)) as opened:
        ip(f"link add dev up index {INDEX} type veth peer name peer")
        yield opened


def attached() -> list[int]:
    """The programs that tc has at the egress."""
    shown = subprocess.run(
        ["tc", "-j", "filter", "show", "dev", "up", "egress"], check=True, capture_output=True
    ).stdout
    return [found["options"]["prog"]["id"] for found in json.loads(shown) if "options" in found]


def test_attached_twice_is_once(loaded: BpfObject) -> None:
    attach_egress(loaded.program_fd("leaving"), INDEX)
    attach_egress(loaded.program_fd("leaving"), INDEX)
    assert attached() == [libbpf.program_information(loaded.program_fd("leaving")).id]


def test_detaching_is_harmless_where_nothing_is(loaded: BpfObject) -> None:
    detach_egress(INDEX)
    detach_egress(4711)
    attach_egress(loaded.program_fd("leaving"), INDEX)
    detach_egress(INDEX)
    assert attached() == []
    detach_egress(INDEX)


def test_a_missing_interface_is_an_error(loaded: BpfObject) -> None:
    with pytest.raises(OSError, match="No such device"):
        attach_egress(loaded.program_fd("leaving"), 4711)


def test_a_test_run_leaves_by_the_interface(loaded: BpfObject) -> None:
    frame = bytes(range(1, 61))
    assert libbpf.prog_test_run_egress(loaded.program_fd("leaving"), frame, INDEX) == (0, bytes([INDEX]) + frame[1:])
    verdict, _ = libbpf.prog_test_run_egress(loaded.program_fd("leaving"), frame)
    assert verdict == 0


def test_preflight_is_content_with_this_machine(tmp_path: Path) -> None:
    with bpf_file_system(tmp_path):
        assert preflight.problems(tmp_path / "ha-fastpath") == []
    assert len(preflight.problems(tmp_path / "ha-fastpath")) == 1
