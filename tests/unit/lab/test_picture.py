# SPDX-License-Identifier: Apache-2.0
"""What is drawn of a run, from events as they would have come."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console, RenderableType

from ha_fastpath.lab.outcome import Handover
from ha_fastpath.lab.picture import Binding, Meter, Picture
from ha_fastpath.lab.timeline import PlainTimeline, panel, sparkline, status_line, summary

S = 1_000_000_000
BEGAN_NS = 1000 * S


def recorded_picture() -> Picture:
    """Six seconds: at home for two, then on foreign1; the pings sent at 2.0 to 2.3 s were lost."""
    picture = Picture(BEGAN_NS)
    picture.stays += [(BEGAN_NS, "home"), (BEGAN_NS + 2 * S, None), (BEGAN_NS + 2 * S + S // 10, "foreign1")]
    sent = [(number, BEGAN_NS + number * S // 100) for number in range(600)]
    picture.outcome.pings.add(sent, [(number, at_ns + 1000) for number, at_ns in sent if not 200 <= number < 230])
    picture.outcome.handovers.append(Handover("home", "foreign1", BEGAN_NS + 2 * S, BEGAN_NS + 2 * S + S * 3 // 10))
    picture.outcome.transfer.received_octets = 5_000_000
    picture.binding = Binding("2001:db8:2::ff:fe00:402", BEGAN_NS + 2 * S, 16)
    for tick in range(5):
        picture.tunnelled.add(100 * tick, BEGAN_NS + tick * S // 4)
    return picture


def drawn(renderable: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=110, no_color=True, force_terminal=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_panel_tells_where_the_node_is_and_what_the_handover_cost() -> None:
    text = drawn(panel(recorded_picture(), BEGAN_NS + 6 * S, 110))
    home, foreign = (next(line for line in text.splitlines() if f"─ {name}" in line) for name in ("home ", "foreign 1"))
    assert "◆ home agent" in home
    assert "● mobile node" not in home
    assert "● mobile node  ⇄ tunnelled" in foreign
    assert "2001:db8:1::100 → 2001:db8:2::ff:fe00:402" in text
    assert "12 of 16 s" in text
    assert re.search("home → foreign 1 +300 ms +30 pings lost", text)
    assert "600 sent, 570 answered, 30 lost in handovers" in text
    assert "5.0 MB" in text


def test_the_strips_share_one_scale() -> None:
    lines = drawn(panel(recorded_picture(), BEGAN_NS + 6 * S, 110)).splitlines()
    shares = next(line for line in lines if "each 10 ms" in line)
    places = next(line for line in lines if "node at" in line)
    # A cell is 250 ms: eight at home, of which all pings came; then one without any reply.
    begin = shares.index("▇")
    assert shares[begin : begin + 10] == "▇" * 8 + "▁▆"
    assert places[begin:].startswith("home ───foreign 1 ───")


def test_the_panel_fits_into_eighty_columns() -> None:
    picture = recorded_picture()
    for tick in range(40):
        picture.tunnelled.add(12_345 + tick * 200, BEGAN_NS + tick * S // 4)
        picture.reverse_tunnelled.add(12_345 + tick * 200, BEGAN_NS + tick * S // 4)
    narrow = drawn(panel(picture, BEGAN_NS + 6 * S, 80))
    assert len(narrow.splitlines()) == len(drawn(panel(picture, BEGAN_NS + 6 * S, 110)).splitlines())
    assert "…" not in narrow


def test_a_panel_is_drawn_before_anything_has_happened() -> None:
    assert "none" in drawn(panel(Picture(BEGAN_NS), BEGAN_NS, 60))


def test_the_summary_names_every_count() -> None:
    text = drawn(summary(recorded_picture().outcome))
    for word in ("registrations", "handover home → foreign 1", "lost outside", "solicitations", "TCP", "ESP"):
        assert word in text


def test_a_line_of_the_plain_timeline_has_time_and_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainTimeline()
    picture = recorded_picture()
    plain.tell(picture, BEGAN_NS + 2 * S, "the link is gone", "red")
    plain.refresh(picture, BEGAN_NS + 3 * S)
    plain.refresh(picture, BEGAN_NS + 3 * S + 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["   2.0 s  the link is gone", f"   3.0 s  {status_line(picture)}"]
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(
    ("at_s", "place"), [(0.5, "home"), (2.05, None), (3.0, "foreign1")], ids=["home", "between", "abroad"]
)
def test_a_place_is_known_for_every_moment(at_s: float, place: str | None) -> None:
    assert recorded_picture().place_at(BEGAN_NS + int(at_s * S)) == place


def test_a_meter_tells_the_rate_of_the_last_second() -> None:
    meter = Meter()
    for tick in range(20):
        meter.add(1000 + 50 * tick, tick * S // 4)
    assert meter.rate == pytest.approx(200.0)
    meter.add(meter.total, 20 * S)
    meter.add(meter.total, 21 * S)
    assert meter.rate == 0.0


def test_a_sparkline_has_the_highest_as_its_full_height() -> None:
    assert sparkline([0.0, 5.0, 10.0]) == "▁▄▇"
    assert sparkline([0.0]) == "▁"
    assert sparkline([]) == ""
