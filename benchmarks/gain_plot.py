"""Gains over the single best config drawn: one row for each objective, policy and best-per-task side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
from calibration_plot import _RC, INK, LINE, MUTED
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from hagpolicy.results import Estimate, Evaluation

ROW, WIDTH = 0.34, 7.4  # inches


def gain_plot(evaluations: Sequence[tuple[str, Evaluation]]) -> str:
    """The text of an SVG file.

    Args:
        evaluations: a label and a ladder for each row, from top to bottom, at least one.
    """
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(WIDTH, ROW * len(evaluations) + 0.9), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        for row, (_, evaluation) in enumerate(evaluations):
            for name, shift, color in (("best_per_task", -0.14, MUTED), ("candidate", 0.14, INK)):
                estimate = _gain(evaluation, name)
                if estimate is not None:
                    bars = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
                    label = {"best_per_task": "best config of each task, told the task"}.get(name, "per-prompt policy")
                    axes.errorbar(
                        estimate.value,
                        row + shift,
                        xerr=bars,
                        fmt="o",
                        color=color,
                        markersize=4,
                        linewidth=1.2,
                        label=label if row == 0 else None,
                    )
        axes.axvline(0.0, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(evaluations)), [label for label, _ in evaluations])
        axes.invert_yaxis()
        axes.set_xlabel("gain over the single best config, 95 %", color=MUTED)
        axes.grid(color=LINE, linewidth=0.6, axis="x")
        axes.set_axisbelow(True)
        axes.tick_params(colors=MUTED, length=3)
        for side in axes.spines.values():
            side.set_color(LINE)
        axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.12), ncols=2, frameon=False)
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()


def _gain(evaluation: Evaluation, name: str) -> Estimate | None:
    """Gain of the candidate before the gate, or of a line of the ladder; None where there is no such line."""
    if name == "candidate":
        return evaluation.candidate and evaluation.candidate.gain
    try:
        row = evaluation.row(name)
    except KeyError:
        return None
    return Estimate(row.gain, row.gain_low, row.gain_high)
