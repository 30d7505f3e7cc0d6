"""Choosing among candidates and estimating what that choice gains, in one procedure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hagpolicy.analysis.bootstrap import GroupBootstrap, estimate_from_draws, estimate_unknown
from hagpolicy.analysis.rule import GATE_ERROR
from hagpolicy.results import Estimate


@dataclass(frozen=True)
class Selection:
    """The candidate that was chosen, and what choosing it gains.

    Attributes:
        index: the candidate with the highest mean, None when none is above zero.
        gain: bias-corrected gain over the reference of choosing among the candidates by their mean.
        low: the end that the gate asks to be above 0, at its own error.
        draws: float64 (n_leaving,), that gain in each draw, on the prompts that it leaves out.
        chosen: int64 (n_leaving,), equal where draws chose the same candidate over the same reference.
    """

    index: int | None
    gain: Estimate
    low: float
    draws: np.ndarray
    chosen: np.ndarray


def select(gains: np.ndarray, boot: GroupBootstrap, error: float = GATE_ERROR) -> Selection:
    """The best of several candidates, and what that choice gains, in one procedure.

    Args:
        gains: float64 (n_prompts, n_candidates): out-of-fold gain of every candidate over the
            reference.
        boot: draws over the groups of the prompts.
        error: of the gate, in (0, 1).
    """
    return select_family(gains[None, None], boot, error=error)[1][0]


def select_family(
    gains: np.ndarray,
    boot: GroupBootstrap,
    out_of_bag: np.ndarray | None = None,
    references: np.ndarray | None = None,
    error: float = GATE_ERROR,
) -> tuple[int | None, tuple[Selection, ...]]:
    """The best family of candidates for all points of a dial, and the best of the family at each point.

    Bootstrap bias-corrected cross-validation (Tsamardinos, Greasidou and Borboudakis, *Machine
    Learning* 107, 2018): each draw chooses the family that gains most over all points, and at each
    point its candidate that is best, on the drawn groups, and scores that on the groups that were
    not drawn; where none is above zero it keeps the reference and scores 0. So the estimate pays
    for having looked at all candidates. Draws that chose the same differ by the scatter of means
    over some 37 % of the groups; they are drawn together to that of a mean over all of them
    (`GroupBootstrap.narrow`).

    Args:
        gains: float64 (n_families, n_points, n_prompts, n_candidates): out-of-fold gain over the
            point's reference.
        boot: draws over the groups of the prompts.
        out_of_bag: where the reference is itself chosen in each draw, gains over that one on left-out prompts, float64
            (n_leaving, n_families, n_points, n_candidates).
        references: int64 (n_points, n_leaving), the config that is the reference in each draw; None: always the same.
        error: of the gate: the share of draws below `Selection.low`.

    Returns:
        The family's number, None when none gains anywhere, and one `Selection` a point; its index is the
        number of the family's candidate, or with one point and one family, of the candidate.
    """
    families, points, prompts, count = gains.shape
    mean = gains.mean(axis=2)
    family = int(_clip_at_zero(mean).sum(axis=1).argmax())
    if not len(boot.leaving):  # one group: nothing can be left out, so nothing is known
        unknown = estimate_unknown(gains)
        nothing = Selection(
            None, Estimate(0.0, unknown.low, unknown.high), unknown.low, np.empty(0), np.empty(0, np.int64)
        )
        return None, (nothing,) * points
    columns = np.moveaxis(gains, 2, 0).reshape(prompts, -1)
    in_bag = boot.means(columns)[boot.leaving].reshape(-1, families, points, count)
    if out_of_bag is None:
        out_of_bag = boot.out_of_bag_means(columns).reshape(in_bag.shape)
    rows = np.arange(len(in_bag))
    drawn = _clip_at_zero(in_bag).sum(axis=2).argmax(axis=1)
    selections = []
    for point in range(points):
        chosen_by, judged_by = in_bag[rows, drawn, point], out_of_bag[rows, drawn, point]
        chosen = chosen_by.argmax(axis=1)
        gaining = chosen_by[rows, chosen] > 0.0
        draws = np.where(gaining, judged_by[rows, chosen], 0.0)
        best = int(mean[family, point].argmax())
        taken = np.where(gaining, drawn * count + chosen + 1, 0)
        if references is not None:
            taken = references[point] * (families * count + 1) + taken
        narrowed = boot.narrow(draws, taken)
        selections.append(
            Selection(
                best if mean[family, point, best] > 0.0 else None,
                estimate_from_draws(float(draws.mean()), narrowed),
                float(np.round(np.quantile(narrowed, error), 12)),
                draws,
                taken,
            )
        )
    return (family if any(item.index is not None for item in selections) else None), tuple(selections)


def _clip_at_zero(means: np.ndarray) -> np.ndarray:
    """Gain of the best candidate along the last axis, 0 where none is above it."""
    return np.asarray(np.maximum(means.max(axis=-1), 0.0))
