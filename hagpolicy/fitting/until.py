"""`until_proven`: the check by which a sweep ends as soon as the gate's answer is certain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hagpolicy._extras import require
from hagpolicy.analysis.objectives import ObjectiveSpec, get_objectives
from hagpolicy.analysis.rule import ERRORS, GATE_ERROR, MIN_GROUPS
from hagpolicy.analysis.spending import KEPT, compute_conditional_power, plan_errors
from hagpolicy.data.looks import Look, LookOutcome
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.crossfit import cross_fit
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.registry import get_encoders
from hagpolicy.fitting.gate import gate
from hagpolicy.fitting.learners.base import Learner
from hagpolicy.fitting.learners.registry import get_learners
from hagpolicy.fitting.prepare import prepare_fit
from hagpolicy.results import Candidate

# Shares of the prompts at which a sweep is looked at. Earlier, learners have too little to learn from.
SHARES = (0.3, 0.475, 0.65, 0.825, 1.0)
# Below this chance to be proven with all prompts a sweep ends.
FUTILE = 0.05


@dataclass(frozen=True)
class UntilProven:
    """Judges at each look as `fit` would, at the error that the plan of looks leaves it.

    Attributes:
        encoder, learner, objective, seed: see `fit`; give the later `fit` the same.
        shares: of the prompts at each look, at most five, rising to 1.
        futile: from the second look on, a sweep ends where the chance to prove with all prompts is below this; 0:
            never.
    """

    encoder: str | Encoder | Sequence[str | Encoder] = "static"
    learner: str | Learner | list[str | Learner] = "auto"
    objective: ObjectiveSpec = "reward"
    seed: int = 0
    shares: tuple[float, ...] = SHARES
    futile: float = FUTILE

    def __call__(self, table: SweepTable, number: int, planned: int) -> Look:
        """The look at a table.

        Args:
            table: of the prompts seen so far; its looks are those before this one.
            number: of the look, from 0.
            planned: prompts of the whole sweep.
        """
        others = [look.spent for look in table.looks if look.planned != planned]
        error = GATE_ERROR * (1.0 - KEPT) - max(others, default=0.0)
        errors, spent = plan_errors(self.shares, max(error, GATE_ERROR * KEPT))
        look = Look(len(table.prompts), planned, errors[number], spent[number] + max(others, default=0.0))
        if int(table.complete.sum()) < MIN_GROUPS:
            return look
        found = self._judge(replace(table, looks=(*table.looks, look)))
        if found.shipped:
            return replace(look, outcome="proven", gain=found.gain)
        if number + 1 == len(self.shares):
            return replace(look, gain=found.gain)
        spread = max((found.gain.high - found.gain.low) / (2.0 * ERRORS), 1e-9)
        chance = compute_conditional_power(found.gain.value, spread, self.shares[number], errors[-1])
        # Learners have little to learn from at the first look: what they lack then is no sign of what is to come.
        outcome: LookOutcome = "futile" if number > 0 and chance < self.futile else "open"
        return replace(look, outcome=outcome, gain=found.gain, chance=chance)

    def _judge(self, table: SweepTable) -> Candidate:
        """What the gate decides of a table: the first point of the objective that ships, or the first one."""
        encoders, learners = get_encoders(self.encoder), get_learners(self.learner)
        objectives = get_objectives(self.objective)
        with require("threadpoolctl", "fit", "fitting").threadpool_limits(1):
            data = prepare_fit(table, encoders, objectives, self.seed, None)
            fits = cross_fit(data, learners, [], None)
            candidates = gate(fits.learners, data.comparisons).candidates
        return next((one for one in candidates if one.shipped), candidates[0])


def until_proven(
    encoder: str | Encoder | Sequence[str | Encoder] = "static",
    learner: str | Learner | list[str | Learner] = "auto",
    *,
    objective: ObjectiveSpec = "reward",
    seed: int = 0,
) -> UntilProven:
    """The check for `sweep(until=…)` that ends it as soon as the gate's answer is certain.

    At most five looks, at fixed shares of the prompts, spend the gate's error (`analysis.spending`): a sweep ends
    where a per-prompt policy is proven, or cannot be proven any more with the prompts that are planned.

    Args: see `fit`; give the later `fit` the same.

    Raises:
        InvalidInput: an encoder of the vectors of a whole table, which are not there at a look.
    """
    several = [encoder] if isinstance(encoder, (str, Encoder)) else encoder
    if any(hasattr(one, "shape") or getattr(one, "vectors", None) is not None for one in (several, *several)):
        do = "Give the prompts their vectors before the sweep: with_vectors(prompts, vectors), encoder='precomputed'."
        raise InvalidInput("encoder", "one that needs no whole table", "vectors of a table's prompts", do)
    return UntilProven(encoder, learner, objective, seed)
