# SPDX-License-Identifier: Apache-2.0
"""What `ha-fastpath show` prints for people: a table on a terminal, plain columns into a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence

_BINDING_COLUMNS = (
    ("home address", "home_address"),
    ("care-of address", "care_of_address"),
    ("interface", "interface"),
    ("lifetime", "lifetime_s"),
    ("remaining", "remaining_s"),
    ("sequence", "sequence"),
)


def show(subject: str, answers: Sequence[Mapping[str, object]]) -> None:
    """Print one subject's answers."""
    if subject == "bindings":
        _print(
            [title for title, _ in _BINDING_COLUMNS],
            [[_cell(name, answer.get(name)) for _, name in _BINDING_COLUMNS] for answer in answers],
            f"{len(answers)} {'binding' if len(answers) == 1 else 'bindings'}",
        )
    elif subject == "counters":
        _print(["counter", "packets", "octets"], list(_counter_rows(answers[0])), "")
    else:
        _print(["", ""], list(_status_rows(answers[0])), "")


def _cell(name: str, value: object) -> str:
    if value is None:
        return "-"
    return f"{value} s" if name.endswith("_s") else str(value)


def _counter_rows(counters: Mapping[str, object]) -> Iterator[list[str]]:
    """The data path's by packets and octets, the signalling's by frames; those that are 0 say nothing."""
    for group, members in counters.items():
        if not isinstance(members, Mapping):
            continue
        for name, value in members.items():
            packets, octets = (value["packets"], value["octets"]) if isinstance(value, Mapping) else (value, "")
            if packets:
                yield [f"{group}.{name}", str(packets), str(octets)]


def _status_rows(status: Mapping[str, object], prefix: str = "") -> Iterator[list[str]]:
    for name, value in status.items():
        title = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _status_rows(value, f"{title}: ")
        elif isinstance(value, list):
            if not value:
                yield [title, "none"]
            for each in value:
                if isinstance(each, Mapping):
                    yield [title, ", ".join(f"{key.replace('_', ' ')} {_said(item)}" for key, item in each.items())]
                else:
                    yield [title, str(each)]
        else:
            yield [title, _said(value)]


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def _print(titles: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> None:
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        _print_rich(titles, rows, caption)
    else:
        _print_plain(titles, rows, caption)


def _print_rich(titles: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, caption=caption or None, caption_justify="left", show_header=any(titles))
    for title in titles:
        table.add_column(title, no_wrap=title.endswith("address"))
    for row in rows:
        # Text: what others named must not be taken for markup.
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _print_plain(titles: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> None:
    lines = [titles, *rows] if any(titles) else list(rows)
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))] if lines else []
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if caption:
        print(caption)
