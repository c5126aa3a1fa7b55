# SPDX-License-Identifier: Apache-2.0
"""What preflight says of machines that lack something."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ha_fastpath.dataplane import preflight
from ha_fastpath.dataplane.loader import LoaderError, object_path


def status(*capabilities: int) -> str:
    effective = sum(1 << capability for capability in capabilities)
    return f"Name:\tpython\nCapPrm:\t0000000000000000\nCapEff:\t{effective:016x}\nSeccomp:\t0\n"


def test_root_has_every_capability() -> None:
    assert preflight.capability_problem("CapEff:\t000001ffffffffff\n") is None


def test_the_capabilities_alone_are_enough() -> None:
    assert preflight.capability_problem(status(12, 13, 38, 39)) is None


def test_missing_capabilities_are_named() -> None:
    assert preflight.capability_problem(status(13, 38)) == (
        "this process lacks CAP_BPF and CAP_NET_ADMIN; run it as root, or let systemd give it AmbientCapabilities"
    )
    assert preflight.capability_problem("") is not None


@pytest.mark.parametrize("release", ["6.1.0-18-amd64", "6.18.44", "7.0"])
def test_kernels_that_will_do(release: str) -> None:
    assert preflight.kernel_problem(release) is None


@pytest.mark.parametrize("release", ["5.10.0-28-amd64", "6.0.19", "4.19", "strange"])
def test_kernels_that_are_too_old(release: str) -> None:
    assert preflight.kernel_problem(release) == (
        f"the kernel is {release}, and 6.1 or later is needed; Debian 12 has 6.1"
    )


def test_a_bcc_of_another_make_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcc", None)
    problem = preflight.bcc_problem()
    assert problem is not None
    assert "install Debian's python3-bpfcc" in problem


def test_a_place_outside_bpffs_is_told(tmp_path: Path) -> None:
    assert preflight.bpffs_problem(tmp_path / "ha-fastpath") == (
        f"no bpffs is mounted at {tmp_path}/ha-fastpath; run `mount -t bpf bpf /sys/fs/bpf`, or set pin_directory to a "
        "place in one that is"
    )


def test_the_chosen_directory_of_objects_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HA_FASTPATH_BPF_DIRECTORY", str(tmp_path))
    with pytest.raises(LoaderError, match=f"no ha_xdp.bpf.o in {tmp_path}; run `make build`"):
        object_path("ha_xdp")
    (tmp_path / "ha_xdp.bpf.o").touch()
    assert object_path("ha_xdp") == tmp_path / "ha_xdp.bpf.o"
