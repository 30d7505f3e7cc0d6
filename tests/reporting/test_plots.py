"""Plots: where everything lies, labels stay text, colours are the page's."""

from __future__ import annotations

import itertools

import pytest

from hagpolicy.reporting.page import make_environment
from hagpolicy.reporting.plots import NARROW, WIDE, Line, draw_both_widths, lay_out_intervals
from hagpolicy.results import Estimate
from tests.reporting.tables import Page

LINES = [
    Line("costs $5 and $6 <b>", Estimate(0.1, 0.05, 0.15), "strong"),
    Line("luck", Estimate(0.3, 0.2, 0.4), "biased"),
    Line("a label that is far too long to stand beside its row of the plot", Estimate(-0.02, -0.05, 0.01)),
]


def test_plot_keeps_labels_as_text_and_takes_the_pages_colours() -> None:
    wide, narrow = draw_both_widths(make_environment(), LINES, "SBS", "gain")
    assert (wide, narrow) == tuple(draw_both_widths(make_environment(), LINES, "SBS", "gain"))
    for svg in (wide, narrow):
        page = Page(str(svg))
        assert "costs $5 and $6 <b>" in page.words
        assert "b" not in page.tags
        assert page.ids == page.addresses == []
        assert "SBS" in page.words
        assert "stroke:var(--accent)" in svg
        assert "stroke-dasharray" in svg
        assert "costs $5 and $6 &lt;b&gt;: +0.100 [+0.050, +0.150]; luck: +0.300" in svg


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("zero", [None, "SBS"])
def test_everything_lies_within_the_drawing_and_to_scale(width: int, zero: str | None) -> None:
    plot = lay_out_intervals(LINES, width=width, zero=zero, axis="gain")
    assert [row.y for row in plot.rows] == sorted(row.y for row in plot.rows)
    for row in plot.rows:
        assert plot.left < row.low < row.value < row.high < plot.right
        assert plot.top < row.y < plot.bottom < plot.height
        assert 0 < row.label_y < plot.bottom
        assert len(row.label) <= 46
    first, second, third = plot.rows
    scale = (second.value - first.value) / 0.2
    assert second.high - second.low == pytest.approx(0.2 * scale, abs=0.05)
    assert first.value - third.value == pytest.approx(0.12 * scale, abs=0.05)
    assert (plot.zero is None) == (zero is None)
    if plot.zero is not None:
        assert first.value - plot.zero == pytest.approx(0.1 * scale, abs=0.05)


@pytest.mark.parametrize(
    ("low", "high", "zero", "ticks"),
    [
        (0.5, 0.7, None, ["0.50", "0.55", "0.60", "0.65", "0.70"]),
        (-0.1, 0.4, "SBS", ["−0.1", "SBS", "+0.1", "+0.2", "+0.3", "+0.4"]),
        (-0.004, 0.002, "SBS", ["−0.004", "−0.003", "−0.002", "−0.001", "SBS", "+0.001", "+0.002"]),
        (10.0, 130.0, None, ["20", "40", "60", "80", "100", "120"]),
    ],
)
def test_ticks_are_round_and_few(low: float, high: float, zero: str | None, ticks: list[str]) -> None:
    plot = lay_out_intervals([Line("", Estimate((low + high) / 2, low, high))], width=WIDE, zero=zero)
    texts = [text for _, text in plot.ticks]
    assert set(texts) <= set(ticks)
    assert 3 <= len(texts) <= 8
    places = [x for x, _ in plot.ticks]
    steps = [after - before for before, after in itertools.pairwise(places)]
    assert max(steps) == pytest.approx(min(steps), abs=0.05)


def test_one_point_without_an_interval_can_be_drawn() -> None:
    plot = lay_out_intervals([Line("alone", Estimate(0.5, 0.5, 0.5))], width=WIDE)
    assert plot.rows[0].low == plot.rows[0].value == plot.rows[0].high
