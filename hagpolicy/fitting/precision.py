"""What rounding an encoder's weights costs: the winner beside itself in full precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hagpolicy.analysis.comparison import Comparison, ComparisonRow
from hagpolicy.analysis.estimates import take_chosen
from hagpolicy.fitting.crossfit import CrossFittedLearner, cross_fit_learner, get_margins
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.gate import Gated
from hagpolicy.fitting.prepare import FitData

# Share of prompts for which a rounded encoder must choose as the one that it was rounded from.
LEAST_AGREEMENT = 0.98
ROW = "float32"


def count_precision_fits(data: FitData) -> int:
    """Fits of the winner that `compare_precision` takes at most."""
    rounded = any(one.encoder.exact() is not None for one in data.trainings)
    return len(np.unique(data.prepared.folds)) if rounded else 0


def compare_precision(data: FitData, gated: Gated, margins: Sequence[float] | None) -> Gated:
    """What was gated, with a row of the winner in full precision where its encoder was rounded, at each point.

    Both are cross-fitted over the same folds and depart past the same margin. The row's note says for how many prompts
    the rounded one chooses alike, and the difference of the two with its interval.

    Args:
        data: prompts and comparisons.
        gated: what the gate made of the learners.
        margins: see `crossfit.cross_fit`.
    """
    winner = gated.winner
    exact = None if winner is None else winner.training.encoder.exact()
    if winner is None or exact is None:
        return gated
    features, unknown = compute_features(exact, winner.training.items or ())
    training = winner.training.read_by(exact, features, unknown)
    other = cross_fit_learner([training], winner.learner, get_margins(data, margins), data.comparisons)
    rows = []
    for point, (comparison, candidate) in enumerate(zip(data.comparisons, gated.candidates, strict=True)):
        at = int(np.abs(winner.margins[point] - candidate.margin).argmin())
        rows.append({**gated.rows[point], ROW: _build_row(winner, other, comparison, point, at)})
    return replace(gated, rows=tuple(rows))


def _build_row(
    rounded: CrossFittedLearner, exact: CrossFittedLearner, comparison: Comparison, point: int, at: int
) -> ComparisonRow:
    """The row of the exact one, at one point and margin."""
    own, other = (one.choices[0, point, :, at] for one in (rounded, exact))
    share = float((own == other).mean())
    difference = comparison.boot.mean(take_chosen(comparison.Y, own) - take_chosen(comparison.Y, other), learned=True)
    note = f"int8 chooses alike for {share:.1%} and gains {difference.value:+.3f}"
    note += f" [{difference.low:+.3f}, {difference.high:+.3f}] over it"
    if share < LEAST_AGREEMENT:
        note += f"; expected at least {LEAST_AGREEMENT:.0%} alike: fit with float32"
    return comparison.score_choices(other, note, learned=True)
