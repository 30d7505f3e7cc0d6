"""The gate's first step: whether the single best config replaces what runs today."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hagpolicy.analysis.bootstrap import GroupBootstrap, estimate_unknown
from hagpolicy.analysis.rule import GATE_ERROR, LEVEL, MIN_DEPARTING, MIN_GROUPS
from hagpolicy.data.ties import choose_best
from hagpolicy.results import Estimate


@dataclass(frozen=True)
class SingleBest:
    """The single best config (SBS) of a table, and what is known of it over what runs today.

    Attributes:
        index: of the config with the best mean, the first of several.
        over_default: its gain over the default, paying for its choice among all configs; exactly 0 where it is the
            default; None where that is unknown.
        proven: it replaces the default: the interval lies above 0, and enough independent groups differ.
    """

    index: int
    over_default: Estimate | None
    proven: bool


def judge_single_best(
    Y: np.ndarray, default: int | None, boot: GroupBootstrap, error: float = GATE_ERROR
) -> SingleBest:
    """The single best config, and whether it is proven over the default.

    Args:
        Y: float64 (n_prompts, n_configs), what is maximised.
        default: index of what runs today; None where unknown.
        boot: draws over the groups of the prompts.
        error: probability, at most, that a config is proven which is no better than the default; in (0, 1).
    """
    best = int(choose_best(Y.mean(axis=0)))
    if default is None:
        return SingleBest(best, None, False)
    if best == default:
        return SingleBest(best, Estimate(0.0, 0.0, 0.0), False)
    over = Y - Y[:, [default]]
    if boot.n_groups < 2:
        return SingleBest(best, estimate_unknown(over[:, best]), False)
    differing = (boot.sums(np.abs(over)) > 0.0).sum(axis=0)
    family = np.flatnonzero(differing >= MIN_DEPARTING)
    gain, low = _estimate_best(over, best, np.union1d(family, [best]), boot, error)
    reliable = best in family
    return SingleBest(best, replace(gain, reliable=reliable), reliable and low > 0.0 and boot.n_groups >= MIN_GROUPS)


def _estimate_best(
    over: np.ndarray, best: int, family: np.ndarray, boot: GroupBootstrap, error: float
) -> tuple[Estimate, float]:
    """Gain of the best config, with a lower end that holds for all of the family at once, and that end at `error`.

    The lower end takes from the gain as many standard errors as the largest of all the family's studentised errors
    exceeds in a share of the draws (max-t: Romano and Wolf, *Econometrica* 73, 2005), so it holds whichever config is
    chosen. The upper end is that of the config alone: choosing the largest mean errs upward, never down. The value is
    the mean less what choosing the best of a draw gains in the draws (Efron's optimism).

    Args:
        over: float64 (n_prompts, n_configs), gains over the default.
        best: index of the chosen config.
        family: indices of those that it was chosen among, `best` too.
        boot: draws over groups.
        error: of the gate.
    """
    means, drawn = over.mean(axis=0), boot.means(over)
    optimism = (drawn - means)[np.arange(len(drawn)), drawn.argmax(axis=1)].mean()
    errors, spread = _studentise(over[:, family], boot)
    mine = int(np.flatnonzero(family == best)[0])
    mean, largest, tail = float(means[best]), errors.max(axis=1), (1.0 - LEVEL) / 2.0
    low, lowest = (min(mean - float(np.quantile(largest, 1.0 - one)) * spread[mine], mean) for one in (tail, error))
    high = max(mean - float(np.quantile(errors[:, mine], tail)) * spread[mine], mean)
    low, value, high = np.round([low, np.clip(mean - optimism, low, high), high], 12) + 0.0
    return Estimate(float(value), float(low), float(high)), float(np.round(lowest, 12))


def _studentise(values: np.ndarray, boot: GroupBootstrap) -> tuple[np.ndarray, np.ndarray]:
    """float64 (n_boot, k), (k,): errors of the drawn means of values, float64 (n_prompts, k), in standard errors of
    each draw, and the standard errors of the means of all prompts; over groups."""
    sums, sizes, counts = boot.sums(values), boot.sizes, boot.counts
    means, drawn = sums.sum(axis=0) / sizes.sum(), boot.means(values)
    scale = boot.n_groups / (boot.n_groups - 1.0)
    spread = np.sqrt(((sums - means * sizes[:, None]) ** 2).sum(axis=0) * scale) / sizes.sum()
    squares = counts @ sums**2 - 2.0 * drawn * (counts @ (sums * sizes[:, None]))
    squares += drawn**2 * (counts @ sizes**2)[:, None]
    spreads = np.sqrt(np.maximum(squares, 0.0) * scale) / (counts @ sizes)[:, None]
    # A difference that is equal in all groups has no error; rounding must not make one of it.
    known = spreads > 1e-9
    return np.where(known, (drawn - means) / np.where(known, spreads, 1.0), 0.0), spread
