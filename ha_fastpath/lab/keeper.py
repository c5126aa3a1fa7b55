# SPDX-License-Identifier: Apache-2.0
"""Removes what a run of the lab made, however the run ended: by itself, by a signal, or by SIGKILL.

A process of its own session that ignores the terminal's signals and waits until its standard input closes, which the
kernel sees to when the run dies. It is the only one that removes, so every end goes the same way. It holds a lock on
the run's directory; a directory without one was abandoned (the keeper itself was killed), and the next run removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from ha_fastpath.lab.children import ENVIRONMENT_MARK, LabError, piped
from ha_fastpath.lab.topology import NAMESPACE_DIRECTORY, RUN_DIRECTORY, run_directory

READY = "ready"
KILL_DEADLINE_S = 10.0
POLL_S = 0.01
_DIRECTORY_PATTERN = "ha-fastpath-lab-*"


class Keeper:
    """The run's end of the keeper: starts it, and has it remove everything."""

    def __init__(self, prefix: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ha_fastpath.lab.keeper", prefix],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_ready(self) -> None:
        """Return once the run's directory is there and locked."""
        line = piped(self._process.stdout).readline().strip()
        if line != READY:
            raise LabError(f"the lab's keeper did not start: {line or 'it said nothing'}")

    def remove(self) -> str:
        """Have everything removed; what could not be, in words, or nothing."""
        said, _ = self._process.communicate()
        return said.strip()

    def kill(self) -> None:
        """Leave everything as it is."""
        self._process.kill()
        self._process.communicate()


def processes(prefix: str) -> list[int]:
    """The processes, living, that this run started, and their descendants."""
    mark = f"{ENVIRONMENT_MARK}={prefix}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # it ended meanwhile
        if mark in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def namespaces(prefix: str) -> list[str]:
    """The network namespaces of this run."""
    return sorted(path.name for path in NAMESPACE_DIRECTORY.glob(f"{prefix}-*"))


def mounts(directory: Path) -> list[str]:
    """What is mounted under a directory, the deepest first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()]
    return sorted((point for point in points if point.startswith(f"{directory}/")), reverse=True)


def remove(prefix: str) -> list[str]:
    """Remove processes, mounts (with all that is pinned on them), namespaces and files; a sentence for each failure."""
    failures = []
    deadline = time.monotonic() + KILL_DEADLINE_S
    while running := processes(prefix):
        if time.monotonic() > deadline:
            failures.append(f"processes {running} do not end")
            break
        for pid in running:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(POLL_S)
    directory = run_directory(prefix)
    for point in mounts(directory):
        failures += _attempt(["umount", "--lazy", point])
    for name in namespaces(prefix):
        failures += _attempt(["ip", "netns", "delete", name])
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        failures.append(f"{directory} cannot be removed")
    return failures


def _attempt(command: list[str]) -> list[str]:
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    return [f"'{' '.join(command)}' said: {completed.stderr.strip()}"] if completed.returncode else []


def lock_directory(prefix: str) -> int:
    """Make the run's directory, locked from the first moment that others can see it."""
    directory = run_directory(prefix)
    fresh = directory.with_name(f".{directory.name}")
    fresh.mkdir(mode=0o700)
    descriptor = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fresh.rename(directory)
    return descriptor


def remove_abandoned() -> list[str]:
    """Remove the runs whose keeper is gone; a sentence for each failure."""
    failures = []
    for directory in RUN_DIRECTORY.glob(_DIRECTORY_PATTERN):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            failures += remove(f"hafp-{directory.name.removeprefix('ha-fastpath-lab-')}")
        finally:
            os.close(descriptor)
    return failures


def main(prefix: str) -> int:
    """Keep one run."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    failures = remove_abandoned()
    if failures:
        _say("; ".join(failures))
        return 1
    descriptor = lock_directory(prefix)
    _say(READY)
    sys.stdin.buffer.read()
    failures = remove(prefix)
    os.close(descriptor)
    _say("; ".join(failures))
    return 1 if failures else 0


def _say(text: str) -> None:
    # Whoever started us may be dead already, which is what we are here for.
    with contextlib.suppress(BrokenPipeError):
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
