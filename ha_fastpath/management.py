# SPDX-License-Identifier: Apache-2.0
"""The management socket: a Unix socket on which a question is one line of JSON, and the answer one or many.

    {"show": "bindings"}  ->  {"binding": {...}} for each, then {"end": "bindings", "count": n}
    {"show": "counters"}  ->  {"counters": {...}}, then {"end": "counters", "count": 1}
    {"show": "status"}    ->  {"status": {...}}, then {"end": "status", "count": 1}
    anything else         ->  {"error": "..."}

A connection may ask again and again. Answers are made in slices, as fast as the client reads and no faster: a client
that stops reading is let go after a while and holds nobody up. Nothing can be changed by this socket.
"""

from __future__ import annotations

import asyncio
import grp
import json
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

SOCKET_MODE: Final = 0o660
QUESTION_OCTETS: Final = 4096
MAXIMUM_CLIENTS: Final = 32
SLICE_LINES: Final = 200
PATIENCE_S: Final = 30.0
"""For how long a client may read nothing of its answer, or ask nothing."""
SUBJECTS: Final = ("bindings", "counters", "status")

Json = Mapping[str, object]


class ManagementError(Exception):
    """A socket that cannot be made or asked; the text says why, and what to do."""


class Subject(Protocol):
    """What there is to be shown."""

    def bindings(self) -> Iterable[Json]:
        """Each binding; what is removed while they are told may be missing."""

    def counters(self) -> Json:
        """The data path's and the signalling's."""

    def status(self) -> Json:
        """The daemon, its interfaces and its alarms."""


class ManagementServer:
    """Answers on one Unix socket until it is closed."""

    def __init__(self, subject: Subject, path: Path, group: str | None, *, patience_s: float = PATIENCE_S) -> None:
        self._subject = subject
        self._path = path
        self._group = group
        self._patience_s = patience_s
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Make the socket; raises ManagementError."""
        group_id = -1
        if self._group is not None:
            try:
                group_id = grp.getgrnam(self._group).gr_gid
            except KeyError:
                raise ManagementError(
                    f"there is no group {self._group}: groupadd --system {self._group}, or leave management_group out"
                ) from None
        # The mode must hold from the first instant on, not from a chmod after it.
        previous_mask = os.umask(0o777 & ~SOCKET_MODE)
        try:
            self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._server = await asyncio.start_unix_server(self._accept, self._path, limit=QUESTION_OCTETS)
            os.chown(self._path, -1, group_id)
        except OSError as error:
            raise ManagementError(
                f"{self._path}: the management socket cannot be made ({error.strerror}): set management_socket"
            ) from error
        finally:
            os.umask(previous_mask)

    async def close(self) -> None:
        """Let every client go and remove the socket."""
        if self._server is None:
            return
        self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None
        self._path.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MAXIMUM_CLIENTS:
            writer.write(_line({"error": f"{MAXIMUM_CLIENTS} clients are being answered already: ask again later"}))
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that has gone, or does not read, is no error of ours.
        try:
            while question := await self._question(reader):
                for lines in _slices(self._answer(question)):
                    writer.write(b"".join(lines))
                    async with asyncio.timeout(self._patience_s):
                        await writer.drain()
                    # With all of it in the socket's buffer, drain returns at once and the loop would never turn.
                    await asyncio.sleep(0)
            writer.close()
            async with asyncio.timeout(self._patience_s):
                await writer.wait_closed()
        except (ConnectionError, TimeoutError):
            pass
        finally:
            writer.transport.abort()

    async def _question(self, reader: asyncio.StreamReader) -> bytes:
        try:
            # Not wait_for: in Python 3.11 it swallows the cancellation by close() that meets a question.
            async with asyncio.timeout(self._patience_s):
                return await reader.readline()
        except ValueError:
            # StreamReader's word for a line longer than its limit: there is no finding the next one.
            return b""

    def _answer(self, question: bytes) -> Iterator[bytes]:
        try:
            asked = json.loads(question)
        except ValueError:
            yield _line({"error": 'a question is one line of JSON, like {"show": "bindings"}'})
            return
        subject = asked.get("show") if isinstance(asked, dict) else None
        count = 1
        if subject == "bindings":
            count = 0
            for binding in self._subject.bindings():
                count += 1
                yield _line({"binding": binding})
        elif subject == "counters":
            yield _line({"counters": self._subject.counters()})
        elif subject == "status":
            yield _line({"status": self._subject.status()})
        else:
            yield _line({"error": f"unknown question; there are: {', '.join(SUBJECTS)}"})
            return
        yield _line({"end": subject, "count": count})


async def ask(path: Path, subject: str, *, patience_s: float = PATIENCE_S) -> AsyncIterator[dict[str, object]]:
    """Ask a running daemon; gives each binding, or the one answer. Raises ManagementError."""
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=1 << 20)
    except (FileNotFoundError, ConnectionRefusedError):
        raise ManagementError(f"no daemon answers at {path}: start one with `ha-fastpath run`") from None
    except PermissionError:
        raise ManagementError(f"{path} is not open to you: run as root, or join the socket's group") from None
    try:
        writer.write(_line({"show": subject}))
        while True:
            async with asyncio.timeout(patience_s):
                line = await reader.readline()
            if not line.endswith(b"\n"):
                raise ManagementError(f"the daemon at {path} went away in the middle of its answer: ask again")
            answer = json.loads(line)
            if "error" in answer:
                raise ManagementError(f"the daemon at {path} says: {answer['error']}")
            if "end" in answer:
                return
            (content,) = answer.values()
            yield content
    except TimeoutError:
        raise ManagementError(f"the daemon at {path} does not answer: see its log") from None
    except ConnectionError as error:
        raise ManagementError(f"the daemon at {path} went away ({error.strerror}): ask again") from error
    finally:
        writer.close()


def _slices(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    gathered: list[bytes] = []
    for line in lines:
        gathered.append(line)
        if len(gathered) == SLICE_LINES:
            yield gathered
            gathered = []
    if gathered:
        yield gathered


def _line(content: Json) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"
