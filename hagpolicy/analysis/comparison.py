"""A comparison: every table of results shows the same baselines, in the same order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from hagpolicy.analysis.bootstrap import DrawnConfig, GroupBootstrap, estimate_from_draws
from hagpolicy.analysis.estimates import split_vbs, take_chosen
from hagpolicy.analysis.prepare import Prepared
from hagpolicy.analysis.rule import GATE_ERROR, MIN_DEPARTING
from hagpolicy.analysis.selection import Selection
from hagpolicy.analysis.single_best import SingleBest, judge_single_best
from hagpolicy.analysis.spending import compute_error_left
from hagpolicy.data.ties import choose_best
from hagpolicy.results import Estimate, EvaluationRow, Standing

# From the values of SBS, float64 (n_prompts,), to the values of something else on the same prompts.
ValuesGivenSbs = Callable[[np.ndarray], np.ndarray]
# Every row beside those of learners and baselines.
STANDARD_ROWS = ("engine_default", "random", "sbs", "best_per_task", "told", "policy", "split_vbs", "naive_vbs")


@dataclass(frozen=True)
class ComparisonRow:
    """A row before it is rendered: value, paired gains over SBS and over the engine's default, what its answers cost,
    and float64 (n_prompts,), what it was worth on each prompt; None where nobody has asked."""

    value: Estimate
    gain: Estimate
    over_default: Estimate | None = None
    note: str = ""
    cost: float | None = None
    values: np.ndarray | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Comparison:
    """What all rows of one table share.

    Attributes:
        Y: float64 (n_prompts, n_configs), what is maximised: mean rewards, or another objective.
        rewards: float64 (n_prompts, n_configs, n_samples), for the split-sample VBS.
        deterministic: bool (n_configs,): deterministic configs.
        sbs: float64 (n_prompts, n_configs): weights of the single best config, from draws that leave the prompt out
            (`bootstrap.DrawnConfig`), or all on a fixed one.
        resampled: SBS chosen anew in each draw, which gains are over there; None for a fixed one.
        error: of each of the gate's steps, see `rule.GATE_ERROR`.
        boot: draws over groups.
        default: index of the engine's default; None where unknown.
        seed: of the splits.
        raced: the sweep kept some of its configs only, and Y is of those.
        estimator: value of some of the samples, see `estimates.split_vbs`; None: their mean reward.
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
    resampled: DrawnConfig | None = None
    error: float = GATE_ERROR

    @cached_property
    def single_best(self) -> SingleBest:
        """The first step of the gate: the single best config, and whether it replaces the default."""
        return judge_single_best(self.Y, self.default, self.boot, self.error)

    @property
    def over(self) -> Standing:
        """The reference of per-prompt policies, in the word of `results.Candidate.over`: what the first step left."""
        return "single_best" if self.default is None or self.single_best.proven else "default"

    @property
    def default_ahead(self) -> float:
        """Mean value of the default less that of SBS, as draws choose it; 0 where the default is unknown."""
        return 0.0 if self.default is None else float((self.Y[:, self.default] - self.sbs_values).mean())

    @property
    def reference(self) -> int:
        """Index of the reference's config, of all prompts."""
        return self.default if self.default is not None and self.over == "default" else self.single_best.index

    @cached_property
    def drawn_reference(self) -> DrawnConfig:
        """The reference in each draw: the default, or the single best config as the draw chooses it."""
        if self.over == "default" or self.resampled is None:
            return DrawnConfig.fixed(self.reference, self.Y, self.boot)
        return self.resampled

    @property
    def sbs_values(self) -> np.ndarray:
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
        few = learned and 0 < self.count_departing(choices) < MIN_DEPARTING
        return replace(row, cost=self.mean_cost(choices), gain=replace(row.gain, reliable=not few))

    def count_departing(self, choices: np.ndarray) -> int:
        """Independent groups with a prompt whose choice, int64 (n_prompts,), is neither below 0 nor SBS of all."""
        departs = (choices >= 0) & (choices != self.single_best.index)
        return len(np.unique(self.boot.index[departs]))

    def score_sbs(self, note: str = "") -> ComparisonRow:
        """The row of SBS itself."""
        return replace(self.score_choices(np.full(len(self.Y), -1), note), gain=Estimate(0.0, 0.0, 0.0))

    def score_reference(self) -> ComparisonRow:
        """The row of what stands where nothing per prompt is proven."""
        if self.over == "single_best":
            return self.score_sbs("ships the single best config")
        return self.score_choices(np.full(len(self.Y), self.reference), "ships the default")

    def score_selection(self, selected: Selection, note: str = "") -> ComparisonRow:
        """The row of the best of several candidates, from its gains over the reference in each draw."""
        if not len(selected.draws):  # one group: nothing is known
            return replace(self.score_reference(), gain=selected.gain, note=note)

        def estimate(draws: np.ndarray, chosen: np.ndarray) -> Estimate:
            return estimate_from_draws(float(draws.mean()), self.boot.narrow(draws, chosen))

        value, chosen = self.drawn_reference.value + selected.draws, selected.chosen
        sbs = self.resampled or DrawnConfig.fixed(self.single_best.index, self.Y, self.boot)
        gain = estimate(value - sbs.value, chosen * self.Y.shape[1] + sbs.config)
        over = None
        if self.default is not None:
            over = estimate(value - self.boot.out_of_bag_means(self.Y[:, [self.default]])[:, 0], chosen)
        return ComparisonRow(estimate(value, chosen), gain, over, note)

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
        values_here = np.asarray(values(self.sbs_values))
        return ComparisonRow(value, gain, over[0] if over else None, note, values=values_here)

    def _estimate(self, measure: ValuesGivenSbs, learned: bool) -> Estimate:
        """Mean of a measure of the values of SBS, over the SBS of each draw where draws choose their own."""
        values, drawn, boot = measure(self.sbs_values), self.resampled, self.boot
        if drawn is None or not len(drawn.value):
            return boot.mean(values)
        draws = drawn.out_of_bag_means(boot, lambda sbs: measure(self.Y[:, sbs])[:, None])[:, 0]
        return estimate_from_draws(float(values.mean()), draws if learned else boot.narrow(draws, drawn.config))

    def split_vbs(self) -> np.ndarray | None:
        """float64 (n_prompts,): the split-sample VBS; None where halves hold too few samples, or estimate
        something else than the whole."""
        if not self.splits:
            return None
        return split_vbs(self.rewards, self.deterministic, estimator=self.estimator, needs=self.needs, seed=self.seed)

    def take_values(self, choices: np.ndarray) -> np.ndarray:
        """float64 (n_prompts,): value of choices, int64 (n_foldings, n_prompts), below 0 for SBS, averaged."""
        found = [np.where(one < 0, self.sbs_values, take_chosen(self.Y, one)) for one in choices]
        return np.asarray(np.mean(found, axis=0))

    def build_rows(
        self, per_task: np.ndarray | None, chosen: Mapping[str, ComparisonRow]
    ) -> tuple[tuple[EvaluationRow, ...], dict[str, np.ndarray]]:
        """All rows: the fixed ones, those of learners and baselines, the oracles; and what those were worth on each
        prompt, float64 (n_prompts,), by their names.

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
        split = self.split_vbs()
        if split is not None:
            rows["split_vbs"] = self.score_values(split, "split samples")
        rows["naive_vbs"] = self.score_choices(choose_best(self.Y), "biased upward")
        # A share of a gap that may be none says nothing, and is printed as thousands of percent.
        known = split is not None and rows["split_vbs"].gain.low > 0.0
        gap = rows["split_vbs"].gain.value if known else 0.0
        values = {name: row.values for name, row in rows.items() if row.values is not None}
        return tuple(_row(name, row, gap) for name, row in rows.items()), values


def _row(name: str, row: ComparisonRow, gap: float) -> EvaluationRow:
    """The row under its name, with the share of the gap that it closes where the gap is above 0."""
    value, gain = row.value, row.gain
    closed = gain.value / gap if gap > 0.0 and name != "naive_vbs" else None
    bounds = value.value, value.low, value.high, gain.value, gain.low, gain.high
    return EvaluationRow(name, *bounds, closed, row.note, row.cost, row.over_default, gain.reliable)


def compare(
    prepared: Prepared, point: int = 0, *, sbs: np.ndarray | None = None, error: float | None = None
) -> Comparison:
    """The comparison of one objective on a prepared table.

    Args:
        prepared: the table and its objectives.
        point: number of the objective, a position of the dial.
        sbs: weights of the single best config, float64 (n_prompts, n_configs); None: it is chosen anew in each draw,
            of the draws that leave the prompt out.
        error: of each of the gate's steps; None: what the looks at the table have left (`spending`).
    """
    table, targets, boot = prepared.table, prepared.targets, prepared.boot
    if error is None:
        error = compute_error_left(table.looks, len(table.prompts) + prepared.n_left_out)
    resampled = None
    if sbs is None:
        resampled = DrawnConfig.best(targets.Y(point), boot)
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
        error=error,
    )
