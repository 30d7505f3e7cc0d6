"""Choosing among candidates and estimating what that choice gains, in one procedure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hagpolicy.analysis.bootstrap import GroupBootstrap, estimate_from_draws, estimate_unknown
from hagpolicy.results import Estimate


@dataclass(frozen=True)
class Selection:
    """The candidate that was chosen, and what choosing it gains.

    Attributes:
        index: the candidate with the highest mean, None when none is above zero.
        gain: bias-corrected gain of choosing among the candidates by their mean.
        value: the same for the reward itself: reference plus gain.
        over_default: the same over the engine's default; None where that is unknown.
    """

    index: int | None
    gain: Estimate
    value: Estimate
    over_default: Estimate | None = None


@dataclass(frozen=True)
class OutOfBag:
    """What candidates gain in each draw over a reference that the draw chose for itself, on left-out prompts.

    Attributes:
        gains: float64 (n_leaving, n_families, n_points, n_candidates).
        references: float64 (n_leaving, n_points), value of the draw's reference.
    """

    gains: np.ndarray
    references: np.ndarray


def select(gains: np.ndarray, reference: np.ndarray, boot: GroupBootstrap) -> Selection:
    """The best of several candidates, and what that choice gains, in one procedure.

    Args:
        gains: float64 (n_prompts, n_candidates): out-of-fold gain of every candidate over the
            reference.
        reference: float64 (n_prompts,): reward of the reference.
        boot: draws over the groups of the prompts.
    """
    return select_family(gains[None, None], reference[None], boot)[1][0]


def select_family(
    gains: np.ndarray,
    references: np.ndarray,
    boot: GroupBootstrap,
    defaults: np.ndarray | None = None,
    out_of_bag: OutOfBag | None = None,
) -> tuple[int | None, tuple[Selection, ...]]:
    """The best family of candidates for all points of a dial, and the best of the family at each point.

    Bootstrap bias-corrected cross-validation (Tsamardinos, Greasidou and Borboudakis, *Machine
    Learning* 107, 2018): each draw chooses the family that gains most over all points, and at each
    point its candidate that is best, on the drawn groups, and scores that on the groups that were
    not drawn; where none is above zero it keeps the reference and scores 0. So the estimate pays
    for having looked at all candidates.

    Args:
        gains: float64 (n_families, n_points, n_prompts, n_candidates): out-of-fold gain over the
            point's reference.
        references: float64 (n_points, n_prompts): value of the reference.
        boot: draws over the groups of the prompts.
        defaults: float64 (n_points, n_prompts): value of the engine's default; None where that is unknown.
        out_of_bag: where the reference is itself chosen, the same with its choice made anew in each draw.

    Returns:
        The family's number, None when none gains anywhere, and one `Selection` a point; its index is the
        number of the family's candidate, or with one point and one family, of the candidate.
    """
    families, points, prompts, count = gains.shape
    mean = gains.mean(axis=2)
    family = int(_clip_at_zero(mean).sum(axis=1).argmax())
    columns = np.moveaxis(gains, 2, 0).reshape(prompts, -1)
    ahead = references if defaults is None else references - defaults
    if not len(boot.leaving):  # one group: nothing can be left out, so nothing is known
        nothing = replace(estimate_unknown(gains), value=0.0)
        beyond = [None] * points if defaults is None else [estimate_unknown(ours) for ours in ahead]
        known = zip(references, beyond, strict=True)
        return None, tuple(Selection(None, nothing, estimate_unknown(reference), ours) for reference, ours in known)
    in_bag = boot.means(columns)[boot.leaving].reshape(-1, families, points, count)
    if out_of_bag is None:
        out_of_bag = OutOfBag(boot.out_of_bag_means(columns).reshape(in_bag.shape), boot.out_of_bag_means(references.T))
    ahead_out_of_bag = out_of_bag.references - (0.0 if defaults is None else boot.out_of_bag_means(defaults.T))
    rows = np.arange(len(in_bag))
    drawn = _clip_at_zero(in_bag).sum(axis=2).argmax(axis=1)
    selections = []
    for point in range(points):
        chosen_by, judged_by = in_bag[rows, drawn, point], out_of_bag.gains[rows, drawn, point]
        chosen = chosen_by.argmax(axis=1)
        draws = np.where(chosen_by[rows, chosen] > 0.0, judged_by[rows, chosen], 0.0)
        values, over = out_of_bag.references[:, point] + draws, ahead_out_of_bag[:, point] + draws
        best = int(mean[family, point].argmax())
        selections.append(
            Selection(
                best if mean[family, point, best] > 0.0 else None,
                estimate_from_draws(float(draws.mean()), draws),
                estimate_from_draws(float(values.mean()), values),
                None if defaults is None else estimate_from_draws(float(over.mean()), over),
            )
        )
    return (family if any(item.index is not None for item in selections) else None), tuple(selections)


def _clip_at_zero(means: np.ndarray) -> np.ndarray:
    """Gain of the best candidate along the last axis, 0 where none is above it."""
    return np.asarray(np.maximum(means.max(axis=-1), 0.0))
