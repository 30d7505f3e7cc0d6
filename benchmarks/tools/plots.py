"""The plots of the results page, as SVG text that is the same for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.tools.calibrating import Calibration
from hagpolicy.results import Estimate, Evaluation

INK, MUTED, LINE = "#1f2430", "#6b7280", "#d4d7dd"
SIDE, ROW, WIDTH = 3.1, 0.4, 7.4  # inches: a panel, a row, a whole plot
_RC = {"svg.fonttype": "none", "svg.hashsalt": "hagpolicy", "font.size": 9.0, "font.family": "sans-serif"}
# What a row of `gain_plot` compares: a row of the comparison or the candidate before the gate, in words, and its color.
COMPARED = {
    "best_per_task": ("best config of each task, told the task", MUTED),
    "": ("best per-prompt policy, before the gate", INK),
}


def calibration_plot(views: Mapping[str, Calibration]) -> str:
    """A panel for each view, by its title; the dashed line is perfect calibration."""
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(SIDE * len(views), SIDE + 0.3), layout="constrained")
        panels = figure.subplots(1, len(views), squeeze=False)[0]
        for axes, (title, found) in zip(panels, views.items(), strict=True):
            expected = [part.expected for part in found.bins]
            achieved = [part.achieved for part in found.bins]
            ends = [min(expected + [one.value for one in achieved]), max(expected + [one.value for one in achieved])]
            axes.plot(ends, ends, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
            axes.errorbar(
                expected,
                [one.value for one in achieved],
                yerr=_bars(achieved),
                fmt="o",
                color=INK,
                markersize=4,
                linewidth=1.2,
            )
            axes.set_title(title, fontsize=9.5, color=INK)
            _style_axes(axes, "expected", "achieved, 95 %")
        return _text(figure)


def gain_plot(evaluations: Sequence[tuple[str, Evaluation]]) -> str:
    """Gains over the single best config, a row for each objective from top to bottom.

    Args:
        evaluations: a label and a comparison for each row, at least one.
    """
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(WIDTH, ROW * len(evaluations) + 1.0), layout="constrained")
        axes = figure.subplots()
        for shift, (name, (words, color)) in zip((-0.14, 0.14), COMPARED.items(), strict=True):
            gains = [(row, _gain(evaluation, name)) for row, (_, evaluation) in enumerate(evaluations)]
            known = [(row + shift, one) for row, one in gains if one is not None]
            axes.errorbar(
                [one.value for _, one in known],
                [row for row, _ in known],
                xerr=_bars([one for _, one in known]),
                fmt="o",
                color=color,
                markersize=4,
                linewidth=1.2,
                label=words,
            )
        axes.axvline(0.0, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(evaluations)), [label for label, _ in evaluations])
        axes.invert_yaxis()
        _style_axes(axes, "gain over the single best config, 95 %", "")
        figure.legend(loc="outside upper center", ncols=len(COMPARED), frameon=False)
        return _text(figure)


def learning_plot(panels: Mapping[str, Mapping[str, Mapping[str, Sequence[Any]]]]) -> str:
    """Estimated gain with its mean interval against the number of prompts.

    Args:
        panels: by title, by the curve's label: "prompts", "estimate", "low" and "high", as many numbers each.
    """
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(SIDE * len(panels), SIDE + 0.5), layout="constrained")
        shades = ("#9db2d6", "#5675b0", INK)
        for axes, (title, curves) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            for number, (label, curve) in enumerate(curves.items()):
                points = zip(curve["estimate"], curve["low"], curve["high"], strict=True)
                color = shades[number - len(curves)]
                bars = _bars([Estimate(*point) for point in points])
                places = [prompts * 1.06 ** (number - (len(curves) - 1) / 2) for prompts in curve["prompts"]]
                axes.errorbar(
                    places, curve["estimate"], yerr=bars, fmt="o-", color=color, markersize=3.5, linewidth=1.1,
                    label=label,
                )  # fmt: skip
            axes.axhline(0.0, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
            axes.set_xscale("log")
            ticks = sorted({prompts for curve in curves.values() for prompts in curve["prompts"]})
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.minorticks_off()
            axes.set_title(title, fontsize=9.5, color=INK)
            _style_axes(axes, "prompts", "gain over SBS, mean 95 % interval")
            axes.legend(frameon=False, fontsize=8)
        return _text(figure)


@dataclass(frozen=True)
class GainRow:
    """A row of `headline_plot`.

    Attributes:
        words: what is maximised.
        where: the LLM and the number of prompts.
        value, low, high: the gain and its 95 % interval.
        shipped: whether a per-prompt policy ships; else it is the single best config.
        unit: behind the value; empty for reward.
    """

    words: str
    where: str
    value: float
    low: float
    high: float
    shipped: bool
    unit: str = ""

    def format(self) -> str:
        """The gain with its interval, as text."""
        return f"{self.value:+.3f}{self.unit} [{self.low:+.3f}, {self.high:+.3f}]"


def headline_plot(rows: Sequence[GainRow], *, dark: bool = False) -> str:
    """What ships over the engine's default: filled marks where it is a per-prompt policy.

    Args:
        rows: from top to bottom, at least one.
        dark: for pages of light text on a dark ground; the ground itself is never drawn.
    """
    ink, muted, line, ground = ("#e6edf3", "#9198a1", "#3d444d", "#0d1117") if dark else (INK, MUTED, LINE, "white")
    policy, fixed = ("#6ea8fe", muted) if dark else ("#2f5fb3", muted)
    with matplotlib.rc_context({**_RC, "font.size": 10.0}):
        figure = Figure(figsize=(8.6, ROW * len(rows) + 1.2), layout="constrained")
        axes = figure.subplots()
        for at, row in enumerate(rows):
            color = policy if row.shipped else fixed
            bars = [[row.value - row.low], [row.high - row.value]]
            face = color if row.shipped else ground
            axes.errorbar(
                [row.value], [at], xerr=bars, fmt="o", color=color, markerfacecolor=face, markersize=6, linewidth=1.6
            )
            for words, place, side, size in (
                (row.words, (-0.01, at - 0.17), "right", 9.0),
                (row.where, (-0.01, at + 0.2), "right", 7.5),
                (row.format(), (1.01, at), "left", 9.0),
            ):
                axes.annotate(
                    words, place, xycoords=("axes fraction", "data"), ha=side, va="center", fontsize=size,
                    color=muted if words is row.where else ink,
                )  # fmt: skip
        axes.axvline(0.0, color=muted, linewidth=1.0, linestyle=(0, (4, 3)))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_title("What ships, over the engine's default: gain, 95 % intervals", fontsize=10.5, color=ink)
        marks = [
            axes.plot([], [], "o", color=policy, label="a per-prompt policy ships")[0],
            axes.plot([], [], "o", color=fixed, markerfacecolor=ground, label="the single best configuration ships")[0],
        ]
        figure.legend(handles=marks, loc="outside lower center", ncols=2, frameon=False, labelcolor=ink, fontsize=9)
        _style_axes(axes, "", "", muted=muted, line=line)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0, labelleft=False)
        axes.patch.set_visible(False)
        return _text(figure, ground="none")


def _gain(evaluation: Evaluation, name: str) -> Estimate | None:
    """Gain of a row of the comparison, "" for the candidate before the gate; None where there is no such row."""
    if not name:
        return evaluation.candidate and evaluation.candidate.gain
    row = next((row for row in evaluation.rows if row.name == name), None)
    return None if row is None else row.gain_estimate


def _bars(estimates: Sequence[Estimate]) -> list[list[float]]:
    """Lengths of the bars below and above the values."""
    return [[one.value - one.low for one in estimates], [one.high - one.value for one in estimates]]


def _style_axes(axes: Axes, below: str, beside: str, *, muted: str = MUTED, line: str = LINE) -> None:
    axes.set_xlabel(below, color=muted)
    axes.set_ylabel(beside, color=muted)
    axes.grid(color=line, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=muted, length=3)
    for side in axes.spines.values():
        side.set_color(line)


def _text(figure: Figure, ground: str = "white") -> str:
    FigureCanvasSVG(figure)
    target = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(target, format="svg", metadata=nothing, facecolor=ground)
    return target.getvalue()
