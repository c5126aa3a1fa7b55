# SPDX-License-Identifier: Apache-2.0
"""Shows a run while it happens: a panel that lives, or plain lines where there is no terminal or NO_COLOR is set.

Draws what `picture` holds and adds nothing to it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Protocol

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ha_fastpath.lab.outcome import LONGEST_HANDOVER_MS, Handover, Outcome
from ha_fastpath.lab.picture import Meter, Picture, move, named
from ha_fastpath.lab.topology import FOREIGN_1, FOREIGN_2, HOME, HOME_ADDRESS, HOME_AGENT_ADDRESS

LABEL_WIDTH = 15
SMALLEST_CELL_NS = 250_000_000
PLAIN_INTERVAL_NS = 5_000_000_000
WIDEST = 110

_PLACE_STYLES = {HOME: "cyan", FOREIGN_1: "magenta", FOREIGN_2: "blue", None: "red"}
_BARS = "▁▂▃▄▅▆▇"


class Timeline(Protocol):
    """Where a run is told."""

    def start(self) -> None: ...
    def tell(self, picture: Picture, now_ns: int, sentence: str, style: str = "", /) -> None:
        """Something has happened."""

    def refresh(self, picture: Picture, now_ns: int) -> None:
        """Time has passed."""

    def stop(self) -> None: ...
    def show(self, renderable: RenderableType) -> None:
        """Something that stays, after the run."""


def timeline() -> Timeline:
    """The one that fits standard output; NO_COLOR as no-color.org has it."""
    is_terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return LiveTimeline() if is_terminal and not os.environ.get("NO_COLOR") else PlainTimeline()


class PlainTimeline:
    """A line for each event, and one each five seconds."""

    def __init__(self) -> None:
        self._console = Console(no_color=True, force_terminal=False, highlight=False, width=WIDEST)
        self._next_ns = 0

    def start(self) -> None:
        pass

    def tell(self, picture: Picture, now_ns: int, sentence: str, _style: str = "") -> None:
        self._line(picture, now_ns, sentence)

    def refresh(self, picture: Picture, now_ns: int) -> None:
        if now_ns >= self._next_ns and picture.stays:
            self._next_ns = now_ns + PLAIN_INTERVAL_NS
            self._line(picture, now_ns, status_line(picture))

    def stop(self) -> None:
        pass

    def show(self, renderable: RenderableType) -> None:
        _print(self._console, renderable)
        sys.stdout.flush()

    def _line(self, picture: Picture, now_ns: int, text: str) -> None:
        print(f"{elapsed(picture, now_ns)}  {text}", flush=True)


class LiveTimeline:
    """Events scroll above a panel that is drawn anew ten times a second."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        # Refreshed by the run's own loop: a thread of rich's would be one more that the run's children are forked from.
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

    def start(self) -> None:
        self._live.start()

    def tell(self, picture: Picture, now_ns: int, sentence: str, style: str = "") -> None:
        self._live.console.print(Text.assemble((elapsed(picture, now_ns), "dim"), "  ", (sentence, style)))

    def refresh(self, picture: Picture, now_ns: int) -> None:
        self._live.update(panel(picture, now_ns, min(WIDEST, self._console.width)), refresh=True)

    def stop(self) -> None:
        self._live.stop()

    def show(self, renderable: RenderableType) -> None:
        _print(self._console, renderable)


def _print(console: Console, renderable: RenderableType) -> None:
    # Text is left to the terminal to wrap: a command that is broken into lines cannot be copied.
    console.print(renderable, soft_wrap=isinstance(renderable, str | Text))


def elapsed(picture: Picture, now_ns: int) -> str:
    """The time since the run began, in a column."""
    return f"{(now_ns - picture.began_ns) / 1e9:6.1f} s"


def status_line(picture: Picture) -> str:
    """The picture in one line."""
    pings = picture.outcome.pings
    return (
        f"at {named(picture.place)}; tunnelled {picture.tunnelled.total} ({picture.tunnelled.rate:.0f}/s),"
        f" reverse {picture.reverse_tunnelled.total} ({picture.reverse_tunnelled.rate:.0f}/s);"
        f" solicitations answered {picture.solicitations_answered};"
        f" pings {len(pings.received)}/{len(pings.sent)}; TCP {megabytes(picture.outcome.transfer.received_octets)}"
    )


def megabytes(octets: int) -> str:
    return f"{octets / 1e6:.1f} MB"


def panel(picture: Picture, now_ns: int, width: int) -> Panel:
    """Everything at one glance."""
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(width=LABEL_WIDTH, style="bold", no_wrap=True)
    grid.add_column(ratio=1, no_wrap=True)
    grid.add_row("binding", _binding(picture, now_ns, width))
    grid.add_row("to the node", _meter(picture.tunnelled, "tunnelled", width))
    grid.add_row("from the node", _meter(picture.reverse_tunnelled, "reverse-tunnelled", width))
    grid.add_row("solicitations", f"{picture.solicitations_answered} answered for the absent node")
    grid.add_row("TCP", _transfer(picture, max(10, width - LABEL_WIDTH - 30)))
    grid.add_row("pings", _pings(picture.outcome))
    strip_width = max(10, width - LABEL_WIDTH - 8)
    shares, places = _strips(picture, now_ns, strip_width)
    grid.add_row("  each 10 ms", shares)
    grid.add_row("  node at", places)
    for number, handover in enumerate(picture.outcome.handovers, 1):
        grid.add_row(f"handover {number}", _handover(handover, picture.outcome))
    return Panel(
        Group(_map(picture), Text(), grid),
        title="[bold]ha-fastpath[/bold] · Mobile IPv6, forwarded by XDP",
        subtitle=f"{elapsed(picture, now_ns).strip()} · {picture.said}",
        border_style="cyan",
        box=box.ROUNDED,
        padding=(1, 2),
        width=width,
    )


def _map(picture: Picture) -> Table:
    """The links, and who is on them."""
    rows = Table.grid(padding=(0, 1))
    for trunk, place in (("correspondent ── router ─┬─", HOME), ("├─", FOREIGN_1), ("└─", FOREIGN_2)):
        present = Text()
        if place == HOME:
            present.append("◆ home agent   ", "bold yellow")
        if place == picture.place:
            present.append("● mobile node", f"bold {_PLACE_STYLES[place]}")
            if picture.binding is not None and place != HOME:
                present.append("  ⇄ tunnelled", "green")
        rows.add_row(
            Text(trunk.rjust(len("correspondent ── router ─┬─")), "dim"), Text(named(place).ljust(10)), present
        )
    return rows


def _binding(picture: Picture, now_ns: int, width: int) -> RenderableType:
    if picture.binding is None:
        return Text("none: the node receives its packets itself" if picture.place == HOME else "none", "dim")
    left_s = picture.binding.left_s(now_ns)
    row = Table.grid(padding=(0, 1))
    row.add_row(
        Text(f"{HOME_ADDRESS} → {picture.binding.care_of_address}"),
        ProgressBar(
            total=picture.binding.lifetime_s,
            completed=left_s,
            width=max(4, min(16, width - 84)),
            finished_style="green",
        ),
        f"{left_s:.0f} of {picture.binding.lifetime_s} s",
    )
    return row


def _meter(meter: Meter, word: str, width: int) -> Text:
    return Text.assemble(
        (f"{meter.rate:6.0f}/s ", "bold" if meter.rate else "dim"),
        (sparkline(list(meter.history)[-max(4, width - 67) :]), "green"),
        f"  {meter.total:,} {word}",
    )


def sparkline(values: Sequence[float] | None) -> str:
    """Heights as characters, the highest the full one."""
    if not values:
        return ""
    highest = max(values) or 1.0
    return "".join(_BARS[round(value / highest * (len(_BARS) - 1))] for value in values)


def _transfer(picture: Picture, width: int) -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_row(
        ProgressBar(total=1.0, completed=picture.transferred(), width=min(60, width)),
        megabytes(picture.outcome.transfer.received_octets),
    )
    return row


def _pings(outcome: Outcome) -> Text:
    pings = outcome.pings
    in_handovers = sum(map(pings.lost_in, outcome.handovers))
    return Text(f"{len(pings.sent):,} sent, {len(pings.received):,} answered, {in_handovers} lost in handovers")


def _strips(picture: Picture, now_ns: int, width: int) -> tuple[Text, Text]:
    """The pings' fate and the node's place, on one scale of time."""
    cell_ns = max(SMALLEST_CELL_NS, (now_ns - picture.began_ns) // width + 1)
    shares, places = Text(), Text()
    name = ""
    previous: str | None = ""
    for cell, share in enumerate(picture.answered_shares(cell_ns, width, now_ns)):
        at_ns = picture.began_ns + cell * cell_ns
        if at_ns > now_ns:
            break
        if share is None:
            shares.append(" ")
        else:
            style = "green" if share == 1.0 else "yellow" if share else "red"
            shares.append(_BARS[round(share * (len(_BARS) - 1))], style)
        place = picture.place_at(at_ns + cell_ns)
        if place != previous:
            name, previous = (named(place) + " " if place else ""), place
        places.append(name[:1] or "─", _PLACE_STYLES[place])
        name = name[1:]
    return shares, places


def _handover(handover: Handover, outcome: Outcome) -> Text:
    line = Text(f"{move(handover):<24}")
    milliseconds = handover.interruption_ms
    if milliseconds is None:
        return line.append("under way", "yellow")
    line.append(f"{milliseconds:6.0f} ms", "bold green" if milliseconds <= LONGEST_HANDOVER_MS else "bold red")
    return line.append(f"   {outcome.pings.lost_in(handover)} pings lost", "dim")


def summary(outcome: Outcome) -> Table:
    """The run in a table."""
    table = Table(box=box.SIMPLE_HEAD, title="What the run has shown", title_justify="left", pad_edge=False)
    table.add_column("")
    table.add_column("counted", justify="right")
    table.add_column("")
    for handover in outcome.handovers:
        milliseconds = handover.interruption_ms
        table.add_row(
            f"handover {move(handover)}",
            "no answer" if milliseconds is None else f"{milliseconds:.0f} ms",
            f"{outcome.pings.lost_in(handover)} pings lost,"
            f" {outcome.pings.silence_ms(handover):.0f} ms without a reply",
        )
    pings, wire, transfer = outcome.pings, outcome.wire, outcome.transfer
    rows = (
        ("registrations acknowledged with status 0", outcome.acknowledged, "first, handover, refresh, de-registration"),
        ("pings sent", len(pings.sent), "one every 10 ms, by the correspondent"),
        ("pings answered", len(pings.received), f"{outcome.pings_through_tunnel:,} of them through the tunnel"),
        ("pings lost outside handovers", len(pings.lost_outside(outcome.handovers)), ""),
        ("tunnelled by XDP", outcome.tunnelled, f"{wire.tunnelled:,} seen on the home agent's cable"),
        ("reverse-tunnelled by XDP", outcome.reverse_tunnelled, f"{wire.reverse_tunnelled:,} seen on its cable"),
        (
            "tunnel packets by the kernel",
            outcome.tunnelled_by_kernel + outcome.reverse_tunnelled_by_kernel,
            "the next hop was not resolved yet",
        ),
        ("solicitations answered by XDP", outcome.solicitations_answered, f"for {HOME_ADDRESS}"),
        (
            "TCP octets",
            transfer.received_octets,
            "SHA-256 is the same at both ends" if transfer.is_whole else "NOT whole",
        ),
        (
            "ESP packets of signalling",
            wire.binding_updates + wire.binding_acknowledgements,
            f"{wire.clear_mobility_headers} in the clear, to and from {HOME_AGENT_ADDRESS}",
        ),
    )
    for name, count, remark in rows:
        table.add_row(name, f"{count:,}", remark)
    return table
