# SPDX-License-Identifier: Apache-2.0
"""What all tests stand on: which suites this machine can run, and a bound on what may be skipped.

A skipped suite looks like a passed one. So a test marked `bpf` or `netns` is skipped only where the machine cannot run
it, and on a machine that can, a skip of any test is a failure of the run.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

CLONE_NEWNET = 0x4000_0000


def _may_make_namespaces() -> bool:
    """Whether a child process of ours is allowed a network namespace of its own."""
    child = os.fork()
    if child == 0:
        os._exit(0 if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _incapacity() -> str | None:
    """Why this machine cannot run the `bpf` and `netns` suites; None if it can."""
    if os.geteuid() != 0:
        return "needs root"
    if "bpf" not in Path("/proc/filesystems").read_text(encoding="ascii").split():
        return "needs a kernel with bpffs"
    if not _may_make_namespaces():
        return "needs the right to make network namespaces"
    return None


INCAPACITY = _incapacity()
_skipped: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if INCAPACITY is None:
        return
    for item in items:
        if item.get_closest_marker("bpf") or item.get_closest_marker("netns"):
            item.add_marker(pytest.mark.skip(reason=INCAPACITY))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if INCAPACITY is None and _skipped and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if INCAPACITY is None and _skipped:
        terminalreporter.section("skipped on a machine that can run everything: the run has failed", red=True)
        for node in _skipped:
            terminalreporter.line(node)
