"""Expected against achieved, drawn: one panel a view, as an SVG file that is the same for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Mapping

import matplotlib
from calibrating import Calibration
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, MUTED, LINE = "#1f2430", "#6b7280", "#d4d7dd"
SIDE = 3.1  # inches a panel
_RC = {"svg.fonttype": "none", "svg.hashsalt": "hagpolicy", "font.size": 9.0, "font.family": "sans-serif"}


def calibration_plot(views: Mapping[str, Calibration]) -> str:
    """The text of an SVG file: a panel for each view, by its title; the dashed line is perfect calibration."""
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(SIDE * len(views), SIDE + 0.3), layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(1, len(views), squeeze=False)[0]
        for axes, (title, found) in zip(panels, views.items(), strict=True):
            expected = [part.expected for part in found.bins]
            achieved = [part.achieved.value for part in found.bins]
            low = [part.achieved.value - part.achieved.low for part in found.bins]
            high = [part.achieved.high - part.achieved.value for part in found.bins]
            ends = [min(expected + achieved), max(expected + achieved)]
            axes.plot(ends, ends, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
            axes.errorbar(expected, achieved, yerr=[low, high], fmt="o", color=INK, markersize=4, linewidth=1.2)
            axes.set_title(title, fontsize=9.5, color=INK)
            axes.set_xlabel("expected", color=MUTED)
            axes.set_ylabel("achieved, 95 %", color=MUTED)
            axes.grid(color=LINE, linewidth=0.6)
            axes.set_axisbelow(True)
            axes.tick_params(colors=MUTED, length=3)
            for side in axes.spines.values():
                side.set_color(LINE)
        target = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(target, format="svg", metadata=nothing, facecolor="white")
    return target.getvalue()
