"""A comparison: every table of results shows the same baselines, in the same order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from hagpolicy.analysis.bootstrap import GroupBootstrap, ResampledBest, estimate_from_draws
from hagpolicy.analysis.estimates import split_oracle, take_chosen
from hagpolicy.analysis.prepare import Prepared
from hagpolicy.analysis.selection import select
from hagpolicy.results import Estimate, EvaluationRow

# From the values of SBS, float64 (n_prompts,), to the values of something else on the same prompts.
ValuesGivenSbs = Callable[[np.ndarray], np.ndarray]
# Every row beside those of learners and baselines.
STANDARD_ROWS = ("engine_default", "random", "sbs", "best_per_task", "policy", "split_vbs", "naive_vbs")


@dataclass(frozen=True)
class ComparisonRow:
    """A row before it is rendered: value, paired gains over SBS and over the engine's default, and what its
    answers cost."""

    value: Estimate
    gain: Estimate
    over_default: Estimate | None = None
    note: str = ""
    cost: float | None = None


@dataclass(frozen=True)
class Comparison:
    """What all rows of one table share.

    Attributes:
        Y: float64 (n_prompts, n_configs), what is maximised: mean rewards, or another objective.
        rewards: float64 (n_prompts, n_configs, n_samples), for the split-sample VBS.
        deterministic: bool (n_configs,): deterministic configs.
        sbs: float64 (n_prompts, n_configs): weights of the single best config, from draws that leave the prompt out
            (`bootstrap.ResampledBest`), or all on a fixed one.
        resampled: SBS chosen anew in each draw, which gains are over there; None for a fixed one.
        boot: draws over groups.
        default: index of the engine's default; None where unknown.
        seed: of the splits.
        raced: the sweep kept some of its configs only, and Y is of those.
        estimator: value of some of the samples, see `estimates.split_oracle`; None: their mean reward.
        needs: samples that each half must hold.
        splits: half of the samples estimate the same as all of them; else there is no split-sample VBS.
        costs: float64 (n_prompts, n_configs), of an answer; None where unknown.
        cost_unit: "tokens" or "seconds"; "" where costs are unknown.
    """

    Y: np.ndarray
    rewards: np.ndarray
    deterministic: np.ndarray
    sbs: np.ndarray
    boot: GroupBootstrap
    default: int | None = None
    seed: int = 0
    raced: bool = False
    estimator: Callable[[np.ndarray], np.ndarray] | None = None
    needs: int = 1
    splits: bool = True
    costs: np.ndarray | None = None
    cost_unit: str = ""
    resampled: ResampledBest | None = None

    @property
    def reference(self) -> np.ndarray:
        """float64 (n_prompts,): value of SBS."""
        return np.asarray((self.sbs * self.Y).sum(axis=1))

    def mean_cost(self, choices: np.ndarray) -> float | None:
        """Mean cost of an answer by choices, int64 (n_prompts,); below 0: SBS."""
        if self.costs is None:
            return None
        of_sbs = (self.sbs * self.costs).sum(axis=1)
        return float(np.where(choices < 0, of_sbs, take_chosen(self.costs, choices)).mean())

    def score_choices(self, choices: np.ndarray, note: str = "", *, learned: bool = False) -> ComparisonRow:
        """The row of choices that were made before looking at these rewards.

        Args:
            choices: int64 (n_prompts,), a config for each prompt; below 0 for SBS.
            note: in plain words.
            learned: they were made on the other folds; their errors hang together, so intervals are `rule.WIDER`
                times as wide.
        """
        abstains, own = choices < 0, take_chosen(self.Y, choices)
        row = self._score(lambda sbs: np.where(abstains, sbs, own), note, learned)
        return replace(row, cost=self.mean_cost(choices))

    def score_sbs(self, note: str = "") -> ComparisonRow:
        """The row of SBS itself."""
        return replace(self.score_choices(np.full(len(self.Y), -1), note), gain=Estimate(0.0, 0.0, 0.0))

    def score_values(self, values: np.ndarray, note: str = "") -> ComparisonRow:
        """A row of values (n_prompts,) that no one choice of configs gives."""
        return self._score(lambda sbs: values, note)

    def _score(self, values: ValuesGivenSbs, note: str, learned: bool = False) -> ComparisonRow:
        """A row by its values where SBS has such values, both float64 (n_prompts,).

        Where each draw has an SBS of its own, the row departs from that one and is compared with it, so intervals
        pay for its choice.
        """
        default = None if self.default is None else self.Y[:, self.default]
        measures: list[ValuesGivenSbs] = [values, lambda sbs: values(sbs) - sbs]
        if default is not None:
            measures.append(lambda sbs: values(sbs) - default)
        value, gain, *over = (self._estimate(measure, learned) for measure in measures)
        return ComparisonRow(value, gain, over[0] if over else None, note)

    def _estimate(self, measure: ValuesGivenSbs, learned: bool) -> Estimate:
        """Mean of a measure of the values of SBS, over the SBS of each draw where draws choose their own."""
        values, drawn, boot = measure(self.reference), self.resampled, self.boot
        if drawn is None or not len(drawn.value):
            return boot.mean(values)
        draws = drawn.out_of_bag_means(boot, lambda sbs: measure(self.Y[:, sbs])[:, None])[:, 0]
        return estimate_from_draws(float(values.mean()), draws if learned else boot.narrow(draws, drawn.config))

    def gain_over_default(self) -> Estimate | None:
        """Gain of the single best config over the engine's default, paying for the choice among all configs; None
        where the default is unknown."""
        if self.default is None:
            return None
        default = self.Y[:, self.default]
        return select(self.Y - default[:, None], default, self.boot).gain

    def split_oracle(self) -> np.ndarray | None:
        """float64 (n_prompts,): the split-sample VBS; None where halves hold too few samples, or estimate
        something else than the whole."""
        if not self.splits:
            return None
        return split_oracle(
            self.rewards, self.deterministic, estimator=self.estimator, needs=self.needs, seed=self.seed
        )

    def build_rows(self, per_task: np.ndarray | None, chosen: Mapping[str, ComparisonRow]) -> tuple[EvaluationRow, ...]:
        """All rows: the fixed ones, those of learners and baselines, the oracles.

        Args:
            per_task: int64 (n_prompts,), best config of each prompt's task; None with one task only.
            chosen: rows of baselines, learners and policy by name, in their order.
        """
        rows: dict[str, ComparisonRow] = {}
        if self.default is not None:
            rows["engine_default"] = self.score_choices(np.full(len(self.Y), self.default))
        anything = self.score_values(self.Y.mean(axis=1), f"a {'kept ' * self.raced}config drawn at random")
        rows["random"] = anything if self.costs is None else replace(anything, cost=float(self.costs.mean()))
        rows["sbs"] = self.score_sbs()
        if per_task is not None:
            rows["best_per_task"] = self.score_choices(per_task, "told the task", learned=True)
        rows.update(chosen)
        split = self.split_oracle()
        if split is not None:
            rows["split_vbs"] = self.score_values(split, "split samples")
        rows["naive_vbs"] = self.score_choices(self.Y.argmax(axis=1), "biased upward")
        # A share of a gap that may be none says nothing, and is printed as thousands of percent.
        known = split is not None and rows["split_vbs"].gain.low > 0.0
        gap = rows["split_vbs"].gain.value if known else 0.0
        return tuple(_row(name, row, gap) for name, row in rows.items())


def _row(name: str, row: ComparisonRow, gap: float) -> EvaluationRow:
    """The row under its name, with the share of the gap that it closes where the gap is above 0."""
    value, gain = row.value, row.gain
    closed = gain.value / gap if gap > 0.0 and name != "naive_vbs" else None
    bounds = value.value, value.low, value.high, gain.value, gain.low, gain.high
    return EvaluationRow(name, *bounds, closed, row.note, row.cost, row.over_default)


def compare(prepared: Prepared, point: int = 0, *, sbs: np.ndarray | None = None) -> Comparison:
    """The comparison of one objective on a prepared table.

    Args:
        prepared: the table and its objectives.
        point: number of the objective, a position of the dial.
        sbs: weights of the single best config, float64 (n_prompts, n_configs); None: it is chosen anew in each draw,
            of the draws that leave the prompt out.
    """
    table, targets, boot = prepared.table, prepared.targets, prepared.boot
    resampled = None
    if sbs is None:
        resampled = ResampledBest.of(targets.Y(point), boot)
        sbs = resampled.weights
    objective = targets.objectives[point]
    unit = objective.unit or ("token" if "token" in targets.cells.costs else "")
    known = targets.cells.mean_cost(unit)
    return Comparison(
        targets.Y(point),
        targets.cells.rewards,
        targets.cells.deterministic,
        sbs,
        boot,
        table.default,
        prepared.seed,
        raced=table.common is not None,
        estimator=None if objective.name == "reward" else targets.estimator_at(point),
        needs=objective.needs,
        splits=objective.splits,
        costs=known,
        cost_unit="" if known is None else f"{unit}s",
        resampled=resampled,
    )
