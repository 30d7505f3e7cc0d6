"""What a sweep of some form can prove, before it is run: from its numbers of prompts, configs and samples.

`sizing` has the rule: the gain that `n` independent prompts prove four times in five is `DETECTABLE_ERRORS` standard
errors, and a standard error is the spread of one prompt's difference between two configs over the square root of `n`.
Of a sweep that is not run the spread is assumed, or taken from cells of its prompts that are stored already.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.rule import DETECTABLE_ERRORS, MIN_GROUPS
from hagpolicy.analysis.sizing import compute_detectable_gain, count_prompts_needed, round_up
from hagpolicy.data.table import SweepTable
from hagpolicy.data.ties import choose_best

# Variance of a prompt's difference in reward between two configs, one answer each, and the part of it that comes from
# the chance of drawing: the median pair of the sweeps of `benchmarks/claims/sweeping/spreads.py`, rewards in [0, 1].
DIFFERENCE, DRAWN = 0.15, 0.14
# The gains for which it is told how many prompts they take.
EXAMPLES = (0.05, 0.02)


@dataclass(frozen=True)
class Provable:
    """What a sweep can prove, in the unit of rewards.

    Attributes:
        n_prompts: independent prompts (groups).
        spread: standard deviation of a prompt's difference between two configs, assumed or measured.
        source: where the spread is from, in words.
        gain: the gain that a policy which has it, departing for every prompt, proves with probability 0.8; NaN with
            fewer than `rule.MIN_GROUPS` prompts, which prove nothing.
        needed: (gain, prompts that prove it) for some other gains.
        deterministic: all configs are deterministic.
        answers: of the sweep in all.
        other: (deterministic configs, prompts, the gain they prove) for the same number of answers, one a config and
            prompt; None where the sweep is deterministic itself, or the spread was measured on its own configs.
    """

    n_prompts: int
    spread: float
    source: str
    gain: float
    needed: tuple[tuple[float, int], ...]
    deterministic: bool
    answers: int
    other: tuple[int, int, float] | None

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping of the attributes; a gain that is not there is None."""
        return asdict(self) | {"gain": None if math.isnan(self.gain) else self.gain}

    def __str__(self) -> str:
        needs = " and ".join(f"{gain:g} takes about {round_up(needed)}" for gain, needed in self.needed)
        if math.isnan(self.gain):
            first = f"{self.n_prompts:,} independent prompts prove nothing, it takes at least {MIN_GROUPS}: a gain of"
            return f"{first} {needs} ({self.source})"
        words = (
            f"{self.n_prompts:,} independent prompts prove a gain of about {self.gain:.3f} four times in five, should "
            f"a policy have it; a gain of {needs} ({self.source})"
        )
        if self.other is None:
            return words
        configs, prompts, gain = self.other
        return (
            f"{words}. The same {self.answers:,} answers as {configs} deterministic configs × {prompts:,} prompts "
            f"would prove {gain:.3f}"
        )


def estimate_provable(
    n_prompts: int,
    deterministic: Sequence[bool] | np.ndarray,
    samples: int,
    stored: SweepTable | None = None,
) -> Provable:
    """What a sweep can prove.

    Args:
        n_prompts: independent prompts (groups).
        deterministic: bool (n_configs,), whether each config gives one answer alone.
        samples: drawn of each of the others.
        stored: cells of it that there are already; with `rule.MIN_GROUPS` complete independent prompts the spread is
            theirs.
    """
    once = np.asarray(deterministic, dtype=bool)
    answers = n_prompts * int(np.where(once, 1, samples).sum())
    variances = np.where(once, DIFFERENCE, DIFFERENCE - DRAWN * (1.0 - 1.0 / samples))
    spread = math.sqrt(float(variances.mean()))
    source = f"assumed: a prompt's difference between two configs has a standard deviation of {spread:.2f}"
    if (measured := measure_spread(stored)) is not None:
        spread, count = measured
        source = f"measured on {count:,} stored prompts: a standard deviation of {spread:.2f} between two configs"
    gain = DETECTABLE_ERRORS * spread / math.sqrt(n_prompts) if n_prompts >= MIN_GROUPS else math.nan
    whole = DETECTABLE_ERRORS * spread
    return Provable(
        n_prompts=n_prompts,
        spread=spread,
        source=source,
        gain=gain,
        needed=tuple((example, count_prompts_needed(whole, 1, example)) for example in EXAMPLES),
        deterministic=bool(once.all()),
        answers=answers,
        other=None if once.all() or measured else _compare_deterministic(answers, once),
    )


def measure_spread(table: SweepTable | None) -> tuple[float, int] | None:
    """The spread of a prompt's difference between the single best and a typical other config, and the number of
    complete independent prompts it is from; None with too few of them, or no difference."""
    if table is None or len(table.space) < 2 or table.complete.sum() < MIN_GROUPS:
        return None
    seen = table.take(table.complete)
    boot = GroupBootstrap(seen.groups, n_boot=2)
    detectable = compute_detectable_gain(seen.means, int(choose_best(seen.means.mean(axis=0))), boot)
    if boot.n_groups < MIN_GROUPS or not 0.0 < detectable < math.inf:
        return None
    return detectable / DETECTABLE_ERRORS * math.sqrt(boot.n_groups), boot.n_groups


def _compare_deterministic(answers: int, once: np.ndarray) -> tuple[int, int, float] | None:
    """Deterministic configs (those of the sweep, or as many as it has in all), the prompts that so many answers are
    enough for, and the gain they prove."""
    configs = int(once.sum()) if once.sum() > 1 else len(once)
    prompts = answers // configs
    if prompts < MIN_GROUPS:
        return None
    return configs, prompts, DETECTABLE_ERRORS * math.sqrt(DIFFERENCE / prompts)
