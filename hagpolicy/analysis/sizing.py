"""How many prompts a proof takes: the rule that `headroom` states for a user's own table.

The gate ships a policy when the lower end of its gain's interval is above zero. Intervals narrow with the square root
of the number of independent prompts, so a gain `g` that is to be proven takes about

    needed = n × (detectable(n) / g)²

of them, where `detectable(n)` is the gain that n prompts prove four times in five.
`benchmarks/claims/fitting/learning_curve.py` holds the rule against worlds of known gain.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.rule import DETECTABLE_ERRORS, ERRORS, GATE_ERRORS, MIN_GROUPS, WIDER
from hagpolicy.errors import InvalidInput
from hagpolicy.results import Estimate

# Of what the best config of each task gains over SBS, the share that policies that are not told the task won in
# worlds of known gain, where the prompts just sufficed to prove it (benchmarks/claims/fitting/learning_curve.py).
CLOSED = 0.85
# The gain for which every table is given the prompts that prove it.
EXAMPLE = 0.02
# A proof that would take more prompts than this is not promised.
MOST_PROMPTS = 1_000_000


def compute_detectable_gain(Y: np.ndarray, sbs: int, boot: GroupBootstrap) -> float:
    """The gain over SBS that a table can prove with probability 0.8, if a policy departed from SBS for every
    prompt, to a typical other config; NaN for one config or one group.

    Args:
        Y: float64 (n_prompts, n_configs), what is compared.
        sbs: index of the single best config.
        boot: draws over the groups of the prompts.
    """
    others = [j for j in range(Y.shape[1]) if j != sbs]
    if not others or boot.n_groups < 2:
        return float("nan")
    sums = boot.sums(Y[:, others] - Y[:, [sbs]]) * (boot.n_groups / boot.sizes.sum())
    return float(DETECTABLE_ERRORS * np.median(sums.std(axis=0, ddof=1)) / np.sqrt(boot.n_groups))


def count_prompts_needed(detectable: float, n_prompts: int, gain: float) -> int:
    """Independent prompts with which the gate proves a gain of this size four times in five, at least
    `rule.MIN_GROUPS`: fewer prove nothing.

    Args:
        detectable: the gain that `n_prompts` prompts can prove with probability 0.8 (`Headroom.detectable`), above 0.
        n_prompts: independent prompts (groups) of the table, at least 1.
        gain: over SBS, above 0, in the unit of `detectable`.

    Raises:
        InvalidInput: a number out of its range.
    """
    for name, value in (("detectable", detectable), ("n_prompts", n_prompts), ("gain", gain)):
        if not 0.0 < value < math.inf:
            raise InvalidInput(name, "a number above 0", value)
    return max(math.ceil(n_prompts * (detectable / gain) ** 2), MIN_GROUPS)


def compute_chance_to_prove(detectable: float, gain: float) -> float:
    """Probability that the gate proves a gain with a table that proves `detectable` with probability 0.8.

    Args:
        detectable: above 0.
        gain: true gain over SBS of the policy that is judged, in the same unit.
    """
    errors = DETECTABLE_ERRORS * gain / detectable - GATE_ERRORS
    return 0.5 * (1.0 + math.erf(errors / math.sqrt(2.0)))


@dataclass(frozen=True)
class Sizing:
    """How many independent prompts proofs take, in the unit of the table's objective.

    Attributes:
        n_prompts: independent prompts (groups) of the table.
        detectable: the gain over SBS that they can prove with probability 0.8.
        example: a gain, `EXAMPLE`.
        for_example: prompts that prove it, of a policy that departs from SBS for every prompt.
        seen: what can be won over SBS by the table itself: by the best config of each task, or, where tasks
            are not known, by the split-sample oracle of the sampled configs; None without either.
        by_task: `seen` is of the best config of each task.
        for_seen: prompts that prove `CLOSED` of `seen`; None where that is not above 0, or takes over a million.
    """

    n_prompts: int
    detectable: float
    example: float
    for_example: int
    seen: Estimate | None
    by_task: bool
    for_seen: int | None

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping of the attributes."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """The rule's answer in plain words."""
        proof = (
            f"A gain of {self.example:g}, should a policy have it, takes about {round_up(self.for_example)} "
            "independent prompts to prove"
        )
        if self.seen is None:
            return f"{proof}; name the prompts' tasks to learn what can be won here."
        source = "the best configuration of each task" if self.by_task else "knowing each prompt's best"
        if self.for_seen is None:
            return f"{proof}; {source} gains nothing to speak of here ({self.seen:+}), so no number promises a proof."
        enough = self.for_seen <= self.n_prompts
        need = "these prompts" if enough else f"about {round_up(self.for_seen)}"
        unproven = "; nor is that gain proven itself" if self.seen.low <= 0.0 else ""
        reads = "that are not told the task" if self.by_task else "that read the prompt"
        return (
            f"{proof}; {source} gains {self.seen:+} here. Whether policies {reads} win any of it, `fit` alone tells: "
            f"if they win {CLOSED:.0%} of it, {need} would prove it{unproven}."
        )


def compute_sizing(
    detectable: float, n_prompts: int, by_task: Estimate | None, split: Estimate | None
) -> Sizing | None:
    """The rule's answer for a table.

    Args:
        detectable: the gain it can prove with probability 0.8 (`compute_detectable_gain`).
        n_prompts: independent prompts.
        by_task: gain over SBS of the best config of each task, cross-fitted; None with fewer than two tasks.
        split: gain over SBS of the split-sample oracle of the sampled configs; None without one.

    Returns:
        None where too few independent prompts (`rule.MIN_GROUPS`), or configs that never differ, leave nothing to
        reckon with.
    """
    if n_prompts < MIN_GROUPS or not 0.0 < detectable < math.inf:
        return None
    seen = split if by_task is None else by_task
    needed = None
    if seen is not None and seen.value > 0.0 and seen.high > seen.low:
        # Its own interval, not the one of a policy that departs everywhere: tasks whose best is SBS add no noise.
        errors = 2.0 * ERRORS * (1.0 if by_task is None else WIDER)
        own = DETECTABLE_ERRORS * (seen.high - seen.low) / errors
        needed = count_prompts_needed(own, n_prompts, CLOSED * seen.value)
        needed = needed if needed <= MOST_PROMPTS else None
    return Sizing(
        n_prompts,
        detectable,
        EXAMPLE,
        count_prompts_needed(detectable, n_prompts, EXAMPLE),
        seen,
        by_task is not None,
        needed,
    )


def round_up(number: int) -> str:
    """The number rounded up to two digits."""
    step = 10 ** max(len(str(number)) - 2, 0)
    return f"{math.ceil(number / step) * step:,}"
