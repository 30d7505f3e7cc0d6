"""`effects`: what each setting does to each task's reward, tokens and loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from hagpolicy._extras import require_pandas
from hagpolicy._names import suggest
from hagpolicy._text import TextTable, format_count
from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.checks import check_folder, check_groups, check_rewards, check_samples, keep_comparable
from hagpolicy.analysis.contrasts import Contrast, find_contrasts
from hagpolicy.analysis.familywise import mark_differences
from hagpolicy.analysis.rule import ERRORS, LEVEL, MIN_DEPARTING
from hagpolicy.analysis.variance import VarianceShares, share_variance
from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.loops import is_looping
from hagpolicy.data.table import SweepTable, average_known
from hagpolicy.data.ties import choose_best
from hagpolicy.errors import InvalidInput
from hagpolicy.results import Estimate

__all__ = ["Effect", "Effects", "GridCell", "effects"]

ALL = ""
"""The task of what is said of all prompts together."""


@dataclass(frozen=True)
class Effect:
    """What one change of a setting does to one measure.

    Attributes:
        measure: "reward", "tokens" (new tokens of an answer) or "loops" (share of answers that end in a loop).
        task: whose prompts; "" for all.
        kind: "setting"; "interaction": what two changes do together beyond what each does alone; "task": what the
            change does to this task beyond what it does to the other tasks.
        fields: whose value changes.
        setting: in plain words, such as "temperature 0 → 0.7".
        estimate: mean paired difference over prompts, with its pointwise 95 % interval: of many such intervals one in
            twenty misses.
        marked: it is not zero, by a rule under which chance marks any effect of the whole table with probability 5 % at
            most (`familywise.mark_differences`).
        n_groups: independent groups that it is of.
        basis: what it is made of, see `contrasts.Contrast`.
    """

    measure: str
    task: str
    kind: str
    fields: tuple[str, ...]
    setting: str
    estimate: Estimate
    marked: bool
    n_groups: int
    basis: str

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        return asdict(self)


@dataclass(frozen=True)
class GridCell:
    """Mean reward of a config on a task.

    Attributes:
        config: index in the space.
        task: whose prompts; "" for all.
        value: with its pointwise 95 % interval.
        best: it is better than every other config on this task, by the family-wise rule over all pairs and tasks.
    """

    config: int
    task: str
    value: Estimate
    best: bool


@dataclass(frozen=True)
class Effects:
    """What the settings of a sweep do.

    Attributes:
        effects: of every measure, task and setting.
        grid: mean reward of every config on all prompts and on each task.
        configs: of the grid, in the space's order.
        tasks: of the table, in order of name; none where all prompts are of one.
        noise: where the variance of rewards comes from, all prompts together.
        noise_by_task: the same within each task.
        unidentified: changes whose effect the configs do not tell, in plain words.
        n_prompts: prompts compared.
        n_groups: independent groups among them.
        n_left_out: prompts left out because a config has no scored sample.
        warnings: in plain words.
    """

    effects: tuple[Effect, ...]
    grid: tuple[GridCell, ...]
    configs: tuple[DecodingConfig, ...]
    tasks: tuple[str, ...]
    noise: VarianceShares
    noise_by_task: dict[str, VarianceShares]
    unidentified: tuple[str, ...]
    n_prompts: int
    n_groups: int
    n_left_out: int
    warnings: tuple[str, ...]

    @property
    def marked(self) -> tuple[Effect, ...]:
        """The effects that are marked."""
        return tuple(effect for effect in self.effects if effect.marked)

    def of_task(self, task: str) -> Effects:
        """What is said of one task. What is marked stays marked by the rule over all tasks.

        Raises:
            InvalidInput: no task of the table.
        """
        if task not in self.tasks:
            known = ", ".join(self.tasks) or "none: all prompts are of one"
            raise InvalidInput("task", f"a task of the table ({known})", task, suggest(task, self.tasks))
        return replace(
            self,
            effects=tuple(effect for effect in self.effects if effect.task == task),
            grid=tuple(cell for cell in self.grid if cell.task == task),
            tasks=(task,),
            noise=self.noise_by_task[task],
            noise_by_task={task: self.noise_by_task[task]},
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping of the attributes."""
        return {
            **asdict(self),
            "effects": [effect.to_json() for effect in self.effects],
            "configs": [config.to_dict() for config in self.configs],
        }

    def to_frame(self) -> Any:
        """The effects as a pandas data frame, a row each. Raises MissingExtra where pandas is not installed."""
        pandas = require_pandas()
        rows = []
        for effect in self.effects:
            row = {**effect.to_json(), **effect.estimate.to_json(), "fields": " × ".join(effect.fields)}
            del row["estimate"]
            rows.append(row)
        return pandas.DataFrame(rows)

    @property
    def sentence(self) -> str:
        """The outcome in one plain sentence."""
        count, marked = len(self.effects), len(self.marked)
        if not count:
            return "No setting changes alone in this sweep, so no effect can be told."
        told = "none is" if not marked else "one is" if marked == 1 else f"{marked} are"
        rule = "by a rule under which chance marks any of them all with probability 5% at most"
        return f"Of {format_count(count, 'effect')}, {told} marked (*), {rule}. Intervals are of each effect alone."

    def __str__(self) -> str:
        parts = []
        for number, task in enumerate(dict.fromkeys(effect.task for effect in self.effects)):
            mine = [effect for effect in self.effects if effect.task == task]
            shown = [effect for effect in mine if effect.marked or not number]
            rows = [_format(effect) for effect in shown]
            rest = len(mine) - len(shown)
            lines = [task or "all prompts", *([TextTable(("",) * 5, rows).to_text("  ")] if rows else [])]
            parts.append("\n".join([*lines, *([f"  {rest} that are not marked"] if rest else [])]))
        shares = {ALL: self.noise, **self.noise_by_task} if len(self.tasks) > 1 else {ALL: self.noise}
        lines = [f"{task + ': ' if task else ''}{share}" for task, share in shares.items()]
        lines += [f"not told: {text}" for text in self.unidentified]
        left = f", {self.n_left_out} prompts left out (a config without a scored sample)" if self.n_left_out else ""
        lines.append(f"{self.n_prompts} prompts in {format_count(self.n_groups, 'independent group')}{left}")
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n\n".join([*parts, "\n".join([*lines, self.sentence])])


def _format(effect: Effect) -> tuple[str, ...]:
    kind = {"setting": "", "interaction": "interaction", "task": "beyond other tasks"}[effect.kind]
    return (effect.measure, effect.setting, f"{effect.estimate:+}", "*" if effect.marked else "", kind)


@dataclass(frozen=True, eq=False)
class _Difference:
    """A difference before it is estimated: of each prompt (NaN where it tells nothing), and whether it is a task's
    beyond the others'."""

    measure: str
    task: str
    contrast: Contrast
    values: np.ndarray
    mine: np.ndarray
    beyond: bool = False


def effects(table: SweepTable, *, seed: int = 0) -> Effects:
    """What each setting does to each task's reward, new tokens and loops.

    Every effect is a paired difference within prompts between configs that differ in one field alone
    (`contrasts.find_contrasts` says which, and what stays open). Its interval is a bootstrap over groups, pointwise;
    an effect is marked by a family-wise rule only. Tokens are compared where the table has them, loops where it has
    texts.

    Args:
        table: a sweep; prompts that lack a config are left out and counted.
        seed: of bootstrap and marks.

    Raises:
        InvalidInput: fewer than two comparable prompts.
    """
    kept = keep_comparable(table)
    boot = GroupBootstrap(kept.groups, seed=seed)
    contrasts, open_ones = find_contrasts(kept.space, kept.default)
    names = sorted(set(kept.tasks.tolist())) if len(set(kept.tasks.tolist())) > 1 else []
    masks = {ALL: np.ones(len(kept.prompts), dtype=bool), **{name or "no task": kept.tasks == name for name in names}}
    differences = [
        difference
        for measure, values in _measure(kept).items()
        for task, mask in masks.items()
        for contrast in contrasts
        for difference in _differ(measure, values, task, mask, contrast)
    ]
    tasks = tuple(masks)[1:]
    return Effects(
        _estimate(differences, boot, seed),
        _tabulate(kept.common_means, masks, boot, seed),
        tuple(kept.space),
        tasks,
        share_variance(kept),
        {task: share_variance(kept.take(masks[task])) for task in tasks},
        tuple(open_ones),
        len(kept.prompts),
        boot.n_groups,
        len(table.prompts) - len(kept.prompts),
        (*check_folder(table), *check_rewards(table), *check_samples(kept), *check_groups(boot.n_groups)),
    )


def _measure(table: SweepTable) -> dict[str, np.ndarray]:
    """By name, float64 (n_prompts, n_configs), NaN where unknown: mean reward, and tokens and loops where known."""
    found = {"reward": table.common_means}
    if table.tokens is not None and not np.isnan(table.tokens).all():
        found["tokens"] = average_known(np.where(np.isnan(table.rewards), np.nan, table.tokens.astype(np.float64)))
    if table.texts is not None:
        loops = np.full(table.rewards.shape, np.nan)
        for part in table.texts.scan():
            loops[part.prompts, part.configs, part.samples] = [is_looping(text) for text in part.texts]
        found["loops"] = average_known(loops)
    return found


def _differ(measure: str, values: np.ndarray, task: str, mask: np.ndarray, contrast: Contrast) -> list[_Difference]:
    """The difference on the prompts of a task, and of a task beyond the others; none where too few prompts tell."""
    used = contrast.weights != 0.0
    by_prompt = values[:, used] @ contrast.weights[used]
    known = ~np.isnan(by_prompt)
    found = []
    if (known & mask).sum() > 1:
        found.append(_Difference(measure, task, contrast, np.where(mask, by_prompt, np.nan), mask))
        if task != ALL and len(contrast.fields) == 1 and (known & ~mask).sum() > 1:
            found.append(_Difference(measure, task, contrast, by_prompt, mask, beyond=True))
    return found


def _estimate(differences: Sequence[_Difference], boot: GroupBootstrap, seed: int) -> tuple[Effect, ...]:
    """Every difference with its interval and mark."""
    if not differences:
        return ()
    scores, counts, estimates = [], [], []
    for one in differences:
        known = ~np.isnan(one.values)
        parts = [known & one.mine, known & ~one.mine] if one.beyond else [known]
        totals = [boot.sums(np.where(part, one.values, 0.0)[:, None])[:, 0] for part in parts]
        sizes = [boot.sums(part.astype(np.float64)[:, None])[:, 0] for part in parts]
        means = [float(total.sum() / size.sum()) for total, size in zip(totals, sizes, strict=True)]
        # Where all tasks are changed alike, the change itself must not look like a difference between them.
        shared = sum(total.sum() for total in totals) / sum(size.sum() for size in sizes) if one.beyond else 0.0
        signs = (1.0, -1.0)[: len(parts)]
        scores.append(
            sum(
                sign * (total - shared * size) / size.sum()
                for sign, total, size in zip(signs, totals, sizes, strict=True)
            )
        )
        groups = [int((size > 0.0).sum()) for size in sizes]
        counts.append(min(groups))
        value = means[0] - (means[1] if one.beyond else 0.0)
        differing = min(int((total != 0.0).sum()) for total in totals)
        interval = _interval(value, totals, sizes, boot, min(groups))
        estimates.append(replace(interval, reliable=not 0 < differing < MIN_DEPARTING))
    marked = mark_differences(np.array(scores).T, np.array(counts), seed)
    return tuple(
        Effect(
            one.measure,
            one.task,
            "task" if one.beyond else "interaction" if len(one.contrast.fields) > 1 else "setting",
            one.contrast.fields,
            one.contrast.name,
            estimate,
            bool(mark),
            count,
            one.contrast.basis,
        )
        for one, estimate, mark, count in zip(differences, estimates, marked, counts, strict=True)
    )


def _interval(
    value: float, totals: Sequence[np.ndarray], sizes: Sequence[np.ndarray], boot: GroupBootstrap, n_groups: int
) -> Estimate:
    """The value with the central 95 % of its draws; unknown over fewer than two groups.

    Draws scatter by sqrt((n - 1) / n) less than means do, and their quantiles are a normal's where Student's are
    wanted, so they are stretched by both (Hesterberg, *The American Statistician* 69, 2015: the expanded percentile
    interval).
    """
    if n_groups < 2:
        by_group = np.concatenate([total / np.maximum(size, 1.0) for total, size in zip(totals, sizes, strict=True)])
        widest = max(1.0, float(np.abs(by_group).max()))
        return Estimate(value, -widest, widest)
    means = []
    for total, size in zip(totals, sizes, strict=True):
        drawn = boot.counts @ size
        means.append(np.where(drawn > 0.0, (boot.counts @ total) / np.maximum(drawn, 1e-12), np.nan))
    draws = means[0] - means[1] if len(means) > 1 else means[0]
    ends = np.nanquantile(draws, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    low, high = value + (ends - value) * _stretch(n_groups)
    low, high, value = np.round([low, high, value], 12) + 0.0
    return Estimate(float(value), float(min(low, value)), float(max(high, value)))


def _stretch(n: int) -> float:
    """How much wider a 95 % interval of Student's t over n values is than a bootstrap's of a normal: the first terms
    of the expansion of Student's quantile (Abramowitz and Stegun, 26.7.5)."""
    z, free = ERRORS, n - 1
    student = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return float(student / z * np.sqrt(n / (n - 1)))


def _tabulate(Y: np.ndarray, masks: dict[str, np.ndarray], boot: GroupBootstrap, seed: int) -> tuple[GridCell, ...]:
    """Mean rewards, and which of them are best by the family-wise rule over all pairs of configs and all tasks."""
    first, second = np.triu_indices(Y.shape[1], k=1)
    scores, counts, cells = [], [], []
    for mask in masks.values():
        size = boot.sums(mask.astype(np.float64)[:, None])[:, 0]
        total = boot.sums(np.where(mask[:, None], Y, 0.0))
        n_groups = int((size > 0.0).sum())
        means = total.sum(axis=0) / size.sum()
        cells.append([_interval(float(means[j]), [total[:, j]], [size], boot, n_groups) for j in range(Y.shape[1])])
        scores.append(total[:, first] - total[:, second])
        counts += [n_groups] * len(first)
    marked = mark_differences(np.concatenate(scores, axis=1), np.array(counts), seed).reshape(len(masks), -1)
    found = []
    for (task, mask), row, apart in zip(masks.items(), cells, marked, strict=True):
        top = int(choose_best(Y[mask].mean(axis=0)))
        proven = len(first) > 0 and bool(apart[(first == top) | (second == top)].all())
        found += [GridCell(j, task, value, proven and j == top) for j, value in enumerate(row)]
    return tuple(found)
