# SPDX-License-Identifier: Apache-2.0
"""The management socket: answers, streams, bad questions, and clients that do not read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest

from ha_fastpath import management
from ha_fastpath.management import ManagementError, ManagementServer, ask

MANY = 5000


class Subject:
    def __init__(self) -> None:
        self.told = 0

    def bindings(self) -> Iterator[dict[str, object]]:
        for number in range(MANY):
            self.told += 1
            yield {"home_address": "2001:db8:1::100", "number": number, "padding": "x" * 200}

    def counters(self) -> dict[str, object]:
        return {"signalling": {"registered": 1}}

    def status(self) -> dict[str, object]:
        return {"version": "1.2.3"}


Scene = Callable[[Path, Subject, ManagementServer], Coroutine[None, None, None]]


def play(directory: Path, scene: Scene, patience_s: float = 5) -> None:
    path = directory / "run" / "management.sock"

    async def stage() -> None:
        subject = Subject()
        server = ManagementServer(subject, path, None, patience_s=patience_s)
        await server.start()
        try:
            async with asyncio.timeout(20):
                await scene(path, subject, server)
        finally:
            await server.close()
            await server.close()

    asyncio.run(stage())
    assert not path.exists()


async def exchange(path: Path, question: bytes) -> list[dict[str, object]]:
    """All answers to what is sent before the sending side is closed."""
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 20)
    writer.write(question)
    writer.write_eof()
    lines = (await reader.read()).splitlines()
    writer.close()
    return [json.loads(line) for line in lines]


async def gather(path: Path, subject: str) -> list[dict[str, object]]:
    return [answer async for answer in ask(path, subject, patience_s=5)]


def test_each_question_has_its_answer(tmp_path: Path) -> None:
    async def scene(path: Path, _: Subject, __: ManagementServer) -> None:
        assert await gather(path, "status") == [{"version": "1.2.3"}]
        assert await gather(path, "counters") == [{"signalling": {"registered": 1}}]
        found = await gather(path, "bindings")
        assert [each["number"] for each in found] == list(range(MANY))

    play(tmp_path, scene)


def test_one_connection_may_ask_again(tmp_path: Path) -> None:
    async def scene(path: Path, _: Subject, __: ManagementServer) -> None:
        assert await exchange(path, b'{"show": "status"}\n{"show": "counters"}\n') == [
            {"status": {"version": "1.2.3"}},
            {"end": "status", "count": 1},
            {"counters": {"signalling": {"registered": 1}}},
            {"end": "counters", "count": 1},
        ]

    play(tmp_path, scene)


@pytest.mark.parametrize(
    "question", [b"bindings\n", b"[]\n", b"{}\n", b'{"show": 3}\n', b'{"clear": "bindings"}\n', b"\xff\n"]
)
def test_a_bad_question_is_answered_with_an_error(tmp_path: Path, question: bytes) -> None:
    async def scene(path: Path, subject: Subject, _: ManagementServer) -> None:
        (answer,) = await exchange(path, question)
        assert "error" in answer
        assert subject.told == 0

    play(tmp_path, scene)


def test_a_question_without_end_is_not_listened_to(tmp_path: Path) -> None:
    async def scene(path: Path, _: Subject, __: ManagementServer) -> None:
        assert await exchange(path, b"x" * 100_000) == []
        assert await gather(path, "status")

    play(tmp_path, scene)


def test_an_error_is_the_askers(tmp_path: Path) -> None:
    async def scene(path: Path, _: Subject, __: ManagementServer) -> None:
        with pytest.raises(ManagementError, match="unknown question; there are: bindings, counters, status"):
            await gather(path, "weather")

    play(tmp_path, scene)


def test_a_client_that_does_not_read_holds_nobody_up_and_is_let_go(tmp_path: Path) -> None:
    async def scene(path: Path, subject: Subject, server: ManagementServer) -> None:
        _, writer = await asyncio.open_unix_connection(path)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport too
        writer.write(b'{"show": "bindings"}\n')
        while not subject.told:
            await asyncio.sleep(0.001)
        assert await gather(path, "status")
        while server._clients:
            await asyncio.sleep(0.005)
        # Not all of it was made, let alone kept.
        assert subject.told < MANY
        writer.close()

    play(tmp_path, scene, patience_s=0.1)


def test_a_client_that_goes_away_is_no_trouble(tmp_path: Path) -> None:
    async def scene(path: Path, subject: Subject, server: ManagementServer) -> None:
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"show": "bindings"}\n')
        while not subject.told:
            await asyncio.sleep(0.001)
        writer.transport.abort()
        while server._clients:
            await asyncio.sleep(0.005)
        assert await gather(path, "status")

    play(tmp_path, scene)


def test_too_many_clients_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(management, "MAXIMUM_CLIENTS", 1)

    async def scene(path: Path, _: Subject, server: ManagementServer) -> None:
        _reader, writer = await asyncio.open_unix_connection(path)
        while not server._clients:
            await asyncio.sleep(0.001)
        with pytest.raises(ManagementError, match=r"ask again later|went away"):
            await gather(path, "status")
        writer.close()
        while server._clients:
            await asyncio.sleep(0.001)
        assert await gather(path, "status")

    play(tmp_path, scene)


def test_it_is_open_to_owner_and_group_alone(tmp_path: Path) -> None:
    async def scene(path: Path, _: Subject, __: ManagementServer) -> None:
        assert path.stat().st_mode & 0o777 == 0o660

    play(tmp_path, scene)


def test_what_a_dead_daemon_left_is_replaced(tmp_path: Path) -> None:
    async def stage() -> None:
        path = tmp_path / "management.sock"
        abandoned = await asyncio.start_unix_server(lambda _reader, _writer: None, path)
        abandoned.close()
        assert path.exists()
        with pytest.raises(ManagementError, match="start one with `ha-fastpath run`"):
            await gather(path, "status")
        server = ManagementServer(Subject(), path, None)
        await server.start()
        assert await gather(path, "status")
        await server.close()

    asyncio.run(stage())


def test_a_group_that_is_not_there_is_refused(tmp_path: Path) -> None:
    server = ManagementServer(Subject(), tmp_path / "management.sock", "no-such-group")
    with pytest.raises(ManagementError, match="groupadd --system no-such-group"):
        asyncio.run(server.start())
    assert not (tmp_path / "management.sock").exists()


def test_a_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ManagementError, match="set management_socket"):
        asyncio.run(ManagementServer(Subject(), tmp_path / "file" / "sock", None).start())


def test_a_daemon_that_says_nothing_is_told(tmp_path: Path) -> None:
    async def stage() -> None:
        path = tmp_path / "management.sock"
        released = asyncio.Event()

        async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await released.wait()
            writer.close()

        server = await asyncio.start_unix_server(silent, path)
        with pytest.raises(ManagementError, match="does not answer"):
            async for _ in ask(path, "status", patience_s=0.05):
                pass
        released.set()
        with pytest.raises(ManagementError, match="went away"):
            await gather(path, "status")
        server.close()

    asyncio.run(stage())
