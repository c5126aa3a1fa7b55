# SPDX-License-Identifier: Apache-2.0
"""The command: what it accepts, its exit statuses, and who it asks; the daemon and its machine are stand-ins."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ha_fastpath import cli, config, daemon, installation, management, mobile_node
from ha_fastpath.installation import ForeignPackageError
from ha_fastpath.lab import demo

EXAMPLES = Path(__file__).resolve().parents[3] / "deploy" / "examples"
EXAMPLE = str(EXAMPLES / "ha-fastpath.toml")


@pytest.fixture
def keyed(tmp_path: Path) -> str:
    """The example, with keys beside it."""
    keys = tmp_path / "keys.toml"
    keys.touch(mode=0o600)
    keys.write_bytes((EXAMPLES / "keys.toml").read_bytes())
    path = tmp_path / "ha-fastpath.toml"
    path.write_text(
        Path(EXAMPLE).read_text(encoding="utf-8").replace("/etc/ha-fastpath", str(tmp_path)), encoding="utf-8"
    )
    return str(path)


@pytest.mark.parametrize("arguments", [[], ["fly"], ["show"], ["show", "weather"], ["run", "--fast"]])
def test_misuse_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: ha-fastpath" in capsys.readouterr().err


def test_a_configuration_that_is_refused_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ha-fastpath.toml"
    path.write_text("[home_agent]\nmaximum_bindings = -1\n", encoding="utf-8")
    for arguments in (["run"], ["check"], ["show", "status"], ["detach"]):
        assert cli.main([*arguments, "-c", str(path)]) == 2
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 3
        assert all(line.startswith(f"ha-fastpath: {path}: ") for line in told)


def test_the_file_may_be_named_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def run(configuration: config.Configuration, *, verbose: bool) -> int:
        assert verbose
        asked.append(configuration.path)
        return 0

    monkeypatch.setattr(daemon, "run", run)
    assert cli.main(["-c", EXAMPLE, "run", "-v"]) == 0
    assert cli.main(["run", "-v", "-c", EXAMPLE]) == 0
    assert asked == [Path(EXAMPLE)] * 2


def test_a_start_that_is_refused_is_2_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_configuration: config.Configuration, *, verbose: bool) -> int:
        raise daemon.StartError(f"no kernel {verbose}")

    monkeypatch.setattr(daemon, "run", run)
    assert cli.main(["run", "-c", EXAMPLE]) == 2
    assert capsys.readouterr().err == "ha-fastpath: no kernel False\n"


def test_check_names_what_the_machine_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], keyed: str
) -> None:
    found: list[str] = ["no bpffs", "no `eth1`"]
    monkeypatch.setattr(daemon, "check_machine", lambda _configuration: found)
    assert cli.main(["check", "-c", keyed]) == 1
    assert capsys.readouterr().err == "ha-fastpath: no bpffs\nha-fastpath: no `eth1`\n"
    found.clear()
    assert cli.main(["check", "-c", keyed]) == 0
    assert "good: 1 home link, 2 security associations, 2 interfaces" in capsys.readouterr().out


def test_check_reads_the_keys(capsys: pytest.CaptureFixture[str], keyed: str) -> None:
    Path(keyed).with_name("keys.toml").chmod(0o644)
    assert cli.main(["check", "-c", keyed]) == 2
    assert "chmod 0600" in capsys.readouterr().err


def test_show_prints_what_the_daemon_says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def ask(path: Path, subject: str) -> AsyncIterator[dict[str, object]]:
        assert path == Path("/run/ha-fastpath/management.sock")
        yield {"home_address": "2001:db8:1::100"} if subject == "bindings" else {"signalling": {"registered": 1}}

    monkeypatch.setattr(management, "ask", ask)
    assert cli.main(["show", "bindings", "--json", "-c", EXAMPLE]) == 0
    assert json.loads(capsys.readouterr().out) == [{"home_address": "2001:db8:1::100"}]
    assert cli.main(["show", "counters", "--json", "-c", EXAMPLE]) == 0
    assert json.loads(capsys.readouterr().out) == {"signalling": {"registered": 1}}
    assert cli.main(["show", "bindings", "-c", EXAMPLE]) == 0
    assert "2001:db8:1::100" in capsys.readouterr().out


def test_show_without_a_daemon_is_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "ha-fastpath.toml"
    path.write_text(
        Path(EXAMPLE).read_text(encoding="utf-8").replace("/run/ha-fastpath", str(tmp_path)), encoding="utf-8"
    )
    assert cli.main(["show", "status", "-c", str(path)]) == 1
    assert "start one with `ha-fastpath run`" in capsys.readouterr().err


def test_a_reader_that_has_enough_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(_path: Path, _subject: str) -> AsyncIterator[dict[str, object]]:
        yield {}

    def write(_text: str) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(management, "ask", ask)
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=write, flush=lambda: None, isatty=lambda: False))
    assert cli.main(["show", "bindings", "-c", EXAMPLE]) == 0


def test_detach_says_what_it_did(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(daemon, "detach", lambda _configuration: "the data path is off eth0")
    assert cli.main(["detach", "-c", EXAMPLE]) == 0
    assert capsys.readouterr().out == "the data path is off eth0\n"

    def refuse(_configuration: config.Configuration) -> str:
        raise daemon.StartError("another process owns it")

    monkeypatch.setattr(daemon, "detach", refuse)
    assert cli.main(["detach", "-c", EXAMPLE]) == 1


def test_demo_and_mobile_node_are_called_as_they_want(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_demo(*, hold: bool, json_output: Path | None) -> int:
        assert (hold, json_output) == (True, Path("out.json"))
        return 1

    def run_mobile_node(settings: config.MobileNodeSettings, *, verbose: bool, json_events: bool) -> int:
        assert (settings.interface, verbose, json_events) == ("eth0", False, True)
        return 0

    monkeypatch.setattr(demo, "run", run_demo)
    monkeypatch.setattr(mobile_node, "run", run_mobile_node)
    assert cli.main(["demo", "--hold", "--json-output", "out.json"]) == 1
    assert cli.main(["mobile-node", "--json", "-c", str(EXAMPLES / "mobile-node.toml")]) == 0


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_configuration: config.Configuration, *, verbose: bool) -> int:
        raise KeyboardInterrupt(verbose)

    monkeypatch.setattr(daemon, "run", run)
    assert cli.main(["run", "-c", EXAMPLE]) == 130


def test_a_foreign_control_is_told_from_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installation.require_own_control()
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda _name: SimpleNamespace(origin="/usr/lib/python3/control/__init__.py")
    )
    with pytest.raises(ForeignPackageError, match="foreign package `control` at /usr/lib/python3/control"):
        installation.require_own_control()
    assert cli.main(["run", "-c", EXAMPLE]) == 2
    assert "in a venv of its own" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ForeignPackageError, match="install ha-fastpath anew"):
        installation.require_own_control()
