# SPDX-License-Identifier: Apache-2.0
"""docs/rfc-coverage.md names code, tests and scenarios that exist, and lists each deviation that the code marks.

Whether a test holds what its row says, only a reader can tell; that it is still there is told here.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = REPOSITORY / "docs" / "rfc-coverage.md"

AREAS = [
    "Formats",
    "Accepting Binding Updates",
    "De-registration",
    "Acknowledgement",
    "Home-link interception",
    "Tunnelling",
    "Reverse tunnelling",
    "IPsec for signalling",
    "Mobile node",
    "ICMPv6 errors",
]
SECTIONS = [*AREAS, "Deviations", "Not done yet"]

CITATION = re.compile(r"RFC \d+ section \d+(\.\d+)*( \([a-z](\.\d)?\))?")
MARKER = re.compile(rf"DEVIATION (?P<citation>{CITATION.pattern}):")
REFERENCES = re.compile(r"`[^`]+`(, `[^`]+`)*")


@dataclass(frozen=True)
class Row:
    """One line of a table, without its frame."""

    section: str
    line: int
    cells: tuple[str, ...]

    def __str__(self) -> str:
        return f"line {self.line}"


@dataclass(frozen=True, order=True)
class Deviation:
    """Where the code departs from what."""

    file: str
    citation: str


def rows() -> list[Row]:
    """All lines of all tables that are neither head nor rule."""
    found = []
    section = ""
    for number, line in enumerate(DOCUMENT.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("|") and not line.startswith(("| RFC section |", "|---")):
            found.append(Row(section, number, tuple(cell.strip() for cell in line.strip("|").split("|"))))
    return found


ROWS = rows()
COVERAGE = [row for row in ROWS if row.section in AREAS]
DEVIATIONS = [row for row in ROWS if row.section == "Deviations"]


def references(cell: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


@cache
def defined_in(path: Path) -> frozenset[str]:
    """The functions, classes, methods and constants of a Python file, or the functions of a C file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        # A definition begins in the first column, a call never does.
        return frozenset(re.findall(r"^(?:[A-Za-z_][\w ]*[ *])?(\w+)\(", text, re.MULTILINE))
    names: set[str] = set()
    _collect(ast.parse(text), "", names)
    return frozenset(names)


def _collect(parent: ast.Module | ast.ClassDef, prefix: str, names: set[str]) -> None:
    for node in parent.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                _collect(node, f"{prefix}{node.name}.", names)
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(prefix + target.id for target in targets if isinstance(target, ast.Name))


def code_is_there(reference: str) -> bool:
    """Whether `file:function` is."""
    file, _, name = reference.partition(":")
    path = REPOSITORY / file
    return path.is_file() and name in defined_in(path)


def named_test_is_there(reference: str) -> bool:
    """Whether `file::test`, or the scenario, is."""
    file, _, name = reference.partition("::")
    path = REPOSITORY / file
    if path.suffix == ".txt":
        return not name and path.parent == REPOSITORY / "tests" / "scenarios" and path.is_file()
    return path.is_file() and name.startswith("test_") and name in defined_in(path)


def markers() -> list[Deviation]:
    """Each deviation that a source file marks; one that is marked otherwise than agreed is no citation."""
    sources = [
        *(REPOSITORY / "bpf").glob("*.[ch]"),
        *(REPOSITORY / "control").rglob("*.py"),
        *(REPOSITORY / "ha_fastpath").rglob("*.py"),
    ]
    found = []
    for source in sorted(sources):
        for line in source.read_text(encoding="utf-8").splitlines():
            if "DEVIATION" in line:
                marker = MARKER.search(line)
                citation = line.strip() if marker is None else marker["citation"]
                found.append(Deviation(str(source.relative_to(REPOSITORY)), citation))
    return found


def listed(marked: str) -> set[Deviation]:
    """The deviations of the document's table that are said to be marked, or not."""
    return {
        Deviation(reference.partition(":")[0], row.cells[0])
        for row in DEVIATIONS
        for reference in references(row.cells[1])
        if row.cells[2] == marked
    }


def test_every_section_is_there_in_order() -> None:
    headings = re.findall(r"^## (.+)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == SECTIONS
    assert {row.section for row in ROWS} == {*AREAS, "Deviations"}


@pytest.mark.parametrize("row", COVERAGE, ids=str)
def test_a_row_has_citation_requirement_state_code_and_test(row: Row) -> None:
    citation, requirement, state, code, test = row.cells
    assert CITATION.fullmatch(citation)
    assert requirement
    assert state in ("done", "partly")
    assert REFERENCES.fullmatch(code)
    assert REFERENCES.fullmatch(test)


@pytest.mark.parametrize("row", COVERAGE, ids=str)
def test_what_a_row_names_is_there(row: Row) -> None:
    *_, code, test = row.cells
    assert [reference for reference in references(code) if not code_is_there(reference)] == []
    assert [reference for reference in references(test) if not named_test_is_there(reference)] == []


@pytest.mark.parametrize("row", DEVIATIONS, ids=str)
def test_a_deviation_has_citation_code_mark_and_reason(row: Row) -> None:
    citation, code, marked, reason = row.cells
    assert CITATION.fullmatch(citation)
    assert REFERENCES.fullmatch(code)
    assert [reference for reference in references(code) if not code_is_there(reference)] == []
    assert marked in ("yes", "no")
    assert reason


def test_every_deviation_that_the_code_marks_is_listed_as_marked() -> None:
    assert sorted(set(markers()) - listed("yes")) == []


def test_every_deviation_that_is_listed_as_marked_is_marked_in_the_code() -> None:
    assert sorted(listed("yes") - set(markers())) == []


@pytest.mark.parametrize(
    ("reference", "is_there"),
    [
        ("control/home_agent.py:HomeAgent.receive_frame", True),
        ("control/home_agent.py:receive_frame", False),
        ("control/home_agent.py:HomeAgent.fly", False),
        ("control/home_agent.py", False),
        ("control/pigeon.py:fly", False),
        ("control/ipsec/transform.py:ENCRYPTION_TRANSFORMS", True),
        ("bpf/adjacency.h:ha_find_next_hop", True),
        ("bpf/ha_xdp.bpf.c:ha_xdp", True),
        # Called there, and defined elsewhere.
        ("bpf/ha_xdp.bpf.c:ha_pass", False),
    ],
)
def test_code_that_is_not_there_is_noticed(reference: str, is_there: bool) -> None:
    assert code_is_there(reference) is is_there


@pytest.mark.parametrize(
    ("reference", "is_there"),
    [
        ("tests/unit/test_rfc_coverage.py::test_every_section_is_there_in_order", True),
        ("tests/unit/test_rfc_coverage.py::rows", False),
        ("tests/unit/test_rfc_coverage.py::test_of_a_pigeon", False),
        ("tests/unit/test_rfc_coverage.py", False),
        ("tests/unit/test_pigeon.py::test_of_a_pigeon", False),
        ("tests/scenarios/registration.txt", True),
        ("tests/scenarios/pigeon.txt", False),
        ("tests/scenarios/one-mobile-node.setup", False),
    ],
)
def test_a_test_that_is_not_there_is_noticed(reference: str, is_there: bool) -> None:
    assert named_test_is_there(reference) is is_there


@pytest.mark.parametrize(
    ("line", "citation"),
    [
        (" * DEVIATION RFC 2473 section 7.1 (b): a packet", "RFC 2473 section 7.1 (b)"),
        ("# DEVIATION RFC 4443 section 2.4 (e.1): about an error", "RFC 4443 section 2.4 (e.1)"),
        ("DEVIATION RFC 6275 section 9: whatever", "RFC 6275 section 9"),
        ("DEVIATION RFC 6275, section 9: whatever", None),
        ("DEVIATION: not cited", None),
    ],
)
def test_a_marker_is_read_by_its_citation(line: str, citation: str | None) -> None:
    marker = MARKER.search(line)
    assert (marker and marker["citation"]) == citation
