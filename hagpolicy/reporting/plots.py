"""Interval plots as inline SVG: where everything lies is computed here, `interval_plot.svg` draws it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hagpolicy._text import shorten
from hagpolicy.reporting.text import format_signed
from hagpolicy.results import Estimate

WIDE, NARROW = 760, 340
_LABELS = 256  # width of the labels beside the rows, in pixels
_ABOVE, _BELOW, _BESIDE = 8, 46, 16  # margins around the drawing


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


@dataclass(frozen=True)
class PlottedRow:
    """Where a row lies, in pixels: its label, and the ends and the middle of its interval."""

    label: str
    kind: str
    y: float
    low: float
    value: float
    high: float
    label_x: float
    label_y: float


@dataclass(frozen=True)
class IntervalPlot:
    """A plot of intervals, laid out in pixels from the upper left corner.

    Attributes:
        width, height: of the drawing.
        left, right, top, bottom: of the area that the intervals lie in.
        rows: from top to bottom.
        ticks: (x, text) of the axis.
        zero: x of the reference line; None without one.
        axis: label of the axis.
        narrow: the labels stand above their rows instead of beside them.
        description: all rows in words.
    """

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    rows: tuple[PlottedRow, ...]
    ticks: tuple[tuple[float, str], ...]
    zero: float | None
    axis: str
    narrow: bool
    description: str


def lay_out_intervals(lines: Sequence[Line], *, width: int, zero: str | None = None, axis: str = "") -> IntervalPlot:
    """Points with their intervals, one row each.

    Args:
        lines: from top to bottom, at least one.
        width: in CSS pixels; below 500 the labels stand above their rows instead of beside them.
        zero: label of a reference line at 0; None: no such line, and figures without signs.
        axis: label of the axis.
    """
    narrow = width < 500
    row_height, first = (46, 0.85) if narrow else (30, 0.6)
    height = row_height * len(lines) + _ABOVE + _BELOW + 8
    left, right = (8 if narrow else _LABELS), width - _BESIDE
    top, bottom = _ABOVE, height - _BELOW
    low, high = _limits(lines, with_zero=zero is not None)

    def x(value: float) -> float:
        return round(left + (value - low) / (high - low) * (right - left), 2)

    def y(row: float) -> float:
        return round(top + (row + first) / (len(lines) - 0.5 + first) * (bottom - top), 2)

    rows = tuple(
        PlottedRow(
            shorten(line.label, 46 if narrow else 38),
            line.kind,
            y(number),
            x(line.estimate.low),
            x(line.estimate.value),
            x(line.estimate.high),
            left if narrow else 4,
            y(number - 0.28) if narrow else y(number) + 4.5,
        )
        for number, line in enumerate(lines)
    )
    ticks = tuple((x(value), text) for value, text in _choose_ticks(low, high, 6 if narrow else 7, zero))
    described = (f"{line.label}: {line.estimate:+}" if zero else f"{line.label}: {line.estimate}" for line in lines)
    reference = None if zero is None else x(0.0)
    return IntervalPlot(
        width, height, left, right, top, bottom, rows, ticks, reference, axis, narrow, "; ".join(described)
    )


def _limits(lines: Sequence[Line], *, with_zero: bool) -> tuple[float, float]:
    """Ends of the axis: all intervals, and 0 where it is drawn, with a margin."""
    ends = [end for line in lines for end in (line.estimate.low, line.estimate.high)] + [0.0] * with_zero
    margin = max(max(ends) - min(ends), 0.02) * 0.06
    return min(ends) - margin, max(ends) + margin


def _choose_ticks(low: float, high: float, most: int, zero: str | None) -> list[tuple[float, str]]:
    """At most `most` round values between the ends, with their texts; 0 is written as `zero` where given."""
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10, 20) if (high - low) / (size * factor) <= most)
    digits = next(digits for digits in range(12) if math.isclose(round(step, digits), step))
    numbers = range(math.ceil(low / step), math.floor(high / step) + 1)
    if zero is None:
        return [(number * step, f"{number * step:.{digits}f}") for number in numbers]
    return [(number * step, format_signed(number * step, digits) if number else zero) for number in numbers]


def draw_both_widths(environment: Any, lines: Sequence[Line], zero: str | None, axis: str) -> list[Any]:
    """Markup of the plot for wide and for narrow screens; the page shows one of them.

    Args:
        environment: of the report's templates.
        lines, zero, axis: as for `lay_out_intervals`.
    """
    template = environment.get_template("interval_plot.svg")
    plots = [lay_out_intervals(lines, width=width, zero=zero, axis=axis) for width in (WIDE, NARROW)]
    # A module of a template renders as markup, so the page does not escape it a second time.
    return [template.make_module({"plot": plot}).__html__() for plot in plots]
