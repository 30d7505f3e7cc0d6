"""Plots as SVG text that takes its colours and its font from the page around it."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hagpolicy._extras import require
from hagpolicy.reporting.text import format_signed
from hagpolicy.results import Estimate

# Colours that occur nowhere else stand for CSS variables, so that one drawing serves light, dark and print.
_VARIABLES = {
    "#010101": "--ink",
    "#020202": "--muted",
    "#030303": "--line",
    "#040404": "--accent",
    "#050505": "--biased",
}
INK, MUTED, LINE, ACCENT, BIASED = _VARIABLES
_PIXEL = 1 / 72  # matplotlib writes SVG at 72 units an inch; one unit is one CSS pixel here
_RC = {"svg.fonttype": "none", "svg.hashsalt": "hagpolicy", "font.size": 12.0, "font.family": "sans-serif"}


@dataclass(frozen=True)
class Line:
    """One row of an interval plot.

    Attributes:
        label: in plain words.
        estimate: value with its 95 % interval.
        kind: as of a `FormattedRow`: "strong" in the accent colour, "biased" hollow and dashed, "" plain.
    """

    label: str
    estimate: Estimate
    kind: str = ""


def interval_plot(lines: Sequence[Line], *, width: int, name: str, zero: str | None = None, axis: str = "") -> str:
    """Points with their intervals, one row each, as an inline `<svg>`.

    Args:
        lines: from top to bottom, at least one.
        width: in CSS pixels; below 500 the labels stand above their rows instead of beside them.
        name: prefix of the ids inside, unique on the page.
        zero: label of a reference line at 0; None: no such line.
        axis: label of the axis.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    matplotlib = require("matplotlib", "report", "the report")
    figures = require("matplotlib.figure", "report", "the report")
    backend = require("matplotlib.backends.backend_svg", "report", "the report")
    narrow = width < 500
    row_height = 46 if narrow else 30
    height = row_height * len(lines) + 62
    left = 8 if narrow else 256
    with matplotlib.rc_context(_RC):
        figure = figures.Figure(figsize=(width * _PIXEL, height * _PIXEL), dpi=72)
        backend.FigureCanvasSVG(figure)
        axes = figure.add_axes((left / width, 46 / height, (width - left - 16) / width, (height - 54) / height))
        axes.patch.set_visible(False)
        _draw_rows(axes, lines, narrow, left)
        _style_axes(axes, lines, zero, axis, narrow)
        figure.patch.set_visible(False)
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    label = "; ".join(
        f"{line.label}: {line.estimate:+}" if zero else f"{line.label}: {line.estimate}" for line in lines
    )
    return _inline(target.getvalue(), name, width, height, label)


def _draw_rows(axes: Any, lines: Sequence[Line], narrow: bool, left: int) -> None:
    """The intervals, and their labels: labels may hold a $, which must not start mathematics."""
    for number, line in enumerate(lines):
        colour = {"strong": ACCENT, "biased": BIASED}.get(line.kind, INK)
        dashes = (0, (3, 2)) if line.kind == "biased" else "solid"
        estimate = line.estimate
        axes.plot([estimate.low, estimate.high], [number, number], color=colour, linewidth=2.2, linestyle=dashes)
        face = "none" if line.kind == "biased" else colour
        axes.plot([estimate.value], [number], "o", markersize=7, markeredgecolor=colour, markerfacecolor=face)
        text_colour = ACCENT if line.kind == "strong" else INK
        weight = "bold" if line.kind == "strong" else "normal"
        place = (0.0, number - 0.28) if narrow else (-(left - 4.0) / (axes.bbox.width), number)
        axes.text(
            *place,
            _shorten(line.label, 46 if narrow else 38),
            transform=axes.get_yaxis_transform(),
            va="bottom" if narrow else "center",
            ha="left",
            color=text_colour,
            fontsize=12.5,
            fontweight=weight,
            parse_math=False,
        )


def _style_axes(axes: Any, lines: Sequence[Line], zero: str | None, axis: str, narrow: bool) -> None:
    """Limits, grid and the reference line."""
    low = min(line.estimate.low for line in lines)
    high = max(line.estimate.high for line in lines)
    if zero is not None:
        low, high = min(low, 0.0), max(high, 0.0)
    pad = max(high - low, 0.02) * 0.06
    axes.set_xlim(low - pad, high + pad)
    axes.set_ylim(len(lines) - 0.5, -0.85 if narrow else -0.6)
    axes.set_yticks([])
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(axis="x", colors=MUTED, labelsize=11, length=3, pad=4)
    axes.locator_params(axis="x", nbins=5 if narrow else 7)
    axes.grid(axis="x", color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel(axis, color=MUTED, fontsize=11)
    if zero is not None:
        axes.axvline(0.0, color=ACCENT, linewidth=1.2)
        axes.xaxis.set_major_formatter(lambda value, _: format_signed(value, 2) if abs(value) > 1e-9 else zero)


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _inline(svg: str, name: str, width: int, height: int, label: str) -> str:
    """Matplotlib's file as a part of a page: no prolog, own ids, the page's colours and font, a spoken label."""
    from html import escape

    svg = svg[svg.index("<svg") :]
    body = svg[svg.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(xlink:)?href="#([^"]+)"', rf'href="#{name}-\2"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r"font: ([^;\"]*?)([\d.]+)px [^;\"]*", r"font: \1\2px var(--sans)", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    # No width attribute: the page scales the drawing down, never up past its own width.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" style="max-width:{width}px" '
        f'role="img" aria-label="{escape(label, quote=True)}">{body}'
    )
