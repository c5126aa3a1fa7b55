# SPDX-License-Identifier: Apache-2.0
"""The lab's processes: started so that none outlives the run, and read line by line.

A child is killed by the kernel when its parent dies (PR_SET_PDEATHSIG), and it and its own children carry the run's
prefix in their environment, by which the keeper finds the rest.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, AnyStr

ENVIRONMENT_MARK = "HA_FASTPATH_LAB"
PR_SET_PDEATHSIG = 1
# A line of JSON with the pings of a tenth of a second, with room for a machine that stood still for a while.
LINE_LIMIT = 1 << 22

_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The lab cannot go on; the text is for the person who runs it."""


def child_environment(prefix: str) -> dict[str, str]:
    """Our environment with the mark that the keeper finds the processes of this run by."""
    return {**os.environ, ENVIRONMENT_MARK: prefix}


def die_with_parent(parent: int) -> Callable[[], None]:
    """What a child does between fork and exec so that it never outlives `parent`."""

    def arrange() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        # The parent may have died before the call, and then no signal will come.
        if os.getppid() != parent:
            os._exit(1)

    return arrange


def piped(stream: IO[AnyStr] | None) -> IO[AnyStr]:
    """A stream of a process that was started with pipes, which therefore is there."""
    if stream is None:
        raise LabError("a process of the lab was started without a pipe")
    return stream


class Child:
    """One process of the lab: its standard output is read line by line, its standard error goes to a file."""

    def __init__(self, name: str, prefix: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.stopping = False
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=child_environment(prefix),
                preexec_fn=die_with_parent(os.getpid()),
                # Out of the terminal's process group: Ctrl-C is for the run, which ends its children in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    async def read_lines(self, receive: Callable[[str], None]) -> int:
        """Hand over every line until the process closes its output; its exit status."""
        reader = asyncio.StreamReader(limit=LINE_LIMIT)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), piped(self._process.stdout)
        )
        try:
            while line := await reader.readline():
                receive(line.decode("utf-8", "replace").rstrip("\n"))
        finally:
            transport.close()
        return await self.ended()

    async def ended(self) -> int:
        """The exit status, once there is one."""
        while (status := self._process.poll()) is None:
            await asyncio.sleep(0.005)
        return status

    def finish(self) -> None:
        """Close its standard input: for our own end hosts, the order to come to an end."""
        self.stopping = True
        piped(self._process.stdin).close()

    def terminate(self) -> None:
        self.stopping = True
        if self._process.poll() is None:
            self._process.terminate()

    def complaint(self, status: int) -> str:
        """One sentence on an end that nobody ordered, with the last that it said."""
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = f": {said[-1]}" if said else " and said nothing"
        return f"{self.name} ended with status {status}{last}"


def decode(line: str) -> dict[str, Any]:
    """A line of JSON from a child; LabError if it is anything else."""
    try:
        message = json.loads(line)
    except ValueError:
        raise LabError(f"expected a line of JSON and got: {line[:200]}") from None
    if not isinstance(message, dict):
        raise LabError(f"expected a JSON object and got: {line[:200]}")
    return message
