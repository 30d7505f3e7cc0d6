"""Plots: labels stay text, colours are the page's."""

from __future__ import annotations

import re

from hagpolicy.reporting.plots import Line, interval_plot
from hagpolicy.results import Estimate


def test_plot_keeps_labels_as_text_and_takes_the_pages_colours() -> None:
    lines = [
        Line("costs $5 and $6 <b>", Estimate(0.1, 0.05, 0.15), "strong"),
        Line("luck", Estimate(0.3, 0.2, 0.4), "biased"),
    ]
    svg = interval_plot(lines, width=340, name="p", zero="SBS")
    assert "costs $5 and $6 &lt;b&gt;" in svg
    assert "var(--accent)" in svg
    assert not re.search(r"#0[1-5]0[1-5]0[1-5]", svg)
    assert svg == interval_plot(lines, width=340, name="p", zero="SBS")
