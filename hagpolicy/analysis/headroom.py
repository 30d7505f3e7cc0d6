"""`headroom`: is there anything to win?"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from hagpolicy._text import TextTable, format_count
from hagpolicy.analysis.checks import check_default, check_even_odd
from hagpolicy.analysis.comparison import compare
from hagpolicy.analysis.copies import find_copies
from hagpolicy.analysis.estimates import crossfit_sbs
from hagpolicy.analysis.ladders import estimate_even_odd
from hagpolicy.analysis.objectives import ObjectiveSpec, get_objectives, targets_of
from hagpolicy.analysis.prepare import Prepared, prepare
from hagpolicy.analysis.rule import MIN_GROUPS
from hagpolicy.analysis.sizing import Sizing, compute_detectable_gain, compute_sizing
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.table import SweepTable
from hagpolicy.data.ties import choose_best
from hagpolicy.errors import InvalidInput
from hagpolicy.results import Estimate, FormattedRow, format_gain


@dataclass(frozen=True)
class Headroom:
    """What the best single config gains and what a per-prompt policy could win beyond it.

    All estimates are mean rewards (or differences of them) over prompts, with 95 % intervals over
    groups. Gains of oracles are paired differences to SBS.

    Attributes:
        sbs_config: the single best config, chosen on all prompts.
        sbs_index: its index in the space.
        sbs: value of a config that is chosen as the best of other prompts (bootstrap draws without the prompt).
        sbs_over_default: gain over the engine's default, paying for the choice among all configs;
            None without a known default.
        naive_vbs: chooses and scores on the same samples; biased upward.
        split_vbs: chooses on half of the samples, scores on the other half; None where there are
            too few samples, and for a quantile, which half of them estimate otherwise. Ties are broken at random.
        split_vbs_sampled: the same without deterministic configs, whose one outcome is chosen and
            scored on itself, and without configs whose samples seem to be copies (`copies.find_copies`); None where
            there are fewer than two others.
        per_task_best: best config of each task (cross-fitted), over SBS; None with fewer than two tasks.
        could_win_low: lower end of what knowing each prompt's best config would gain over SBS, from
            the split-sample oracle of sampled configs; None without it.
        could_win_high: upper end: naive oracle over SBS (biased upward).
        detectable: gain over SBS that this table can prove with probability 0.8, if a policy departed
            from SBS for every prompt; the fewer departures, the smaller. NaN (null in JSON) for one
            config or one group.
        n_prompts: prompts compared.
        n_groups: independent groups among them.
        n_samples: samples of a sampled config, the usual number; the common ones of a raced table.
        n_left_out: prompts left out because a config has no scored sample.
        warnings: in plain words.
        objective: what is maximised; "reward" where it is the mean reward.
        sizing: how many prompts proofs would take; None with too few groups to tell.
        sbs_is_default: the single best config is the engine's default.
        even_odd: what choosing along one field wins, chosen on every other step and scored on the steps between
            (`ladders.estimate_even_odd`), over the best on average, chosen likewise; None without four such steps.
        even_odd_field: name of that field; "" without one.
    """

    sbs_config: DecodingConfig
    sbs_index: int
    sbs: Estimate
    sbs_over_default: Estimate | None
    naive_vbs: Estimate
    split_vbs: Estimate | None
    split_vbs_sampled: Estimate | None
    per_task_best: Estimate | None
    could_win_low: Estimate | None
    could_win_high: Estimate
    detectable: float
    n_prompts: int
    n_groups: int
    n_samples: int
    n_left_out: int
    warnings: tuple[str, ...]
    objective: str = "reward"
    sizing: Sizing | None = None
    sbs_is_default: bool = False
    even_odd: Estimate | None = None
    even_odd_field: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping of the attributes."""
        detectable = self.detectable if np.isfinite(self.detectable) else None  # JSON has no NaN
        more = {"sbs_config": self.sbs_config.to_dict(), "warnings": list(self.warnings), "detectable": detectable}
        return {**asdict(self), **more}

    @property
    def sentence(self) -> str:
        """The outcome in one plain sentence."""
        default = f"The best single configuration ({self.sbs_config})"
        if self.sbs_is_default:
            default += " is the engine's default"
        elif self.sbs_over_default is not None:
            default += f" gains {self.sbs_over_default:+} over the engine's default"
        else:
            default += f" scores {self.sbs} (the engine's default is not in the table)"
        if self.could_win_high.value <= 0.0:
            return f"{default}; no other configuration did better on any prompt, so nothing can be won per prompt."
        high = f"at most {self.could_win_high.value:.3f} more"
        if self.could_win_low is None:
            could = f"{high} (upper end: biased; a lower end takes two sampled configurations with samples to split)"
        else:
            low = f"at least {max(self.could_win_low.value, 0.0):.3f}"
            could = f"{low} and {high} (lower end: split samples; upper end: biased)"
        size = f"{format_count(self.n_groups, 'independent prompt')} × {format_count(self.n_samples, 'sample')}"
        enough = self.n_groups >= MIN_GROUPS
        proof = f"a gain of {self.detectable:.3f}" if enough else f"nothing (at least {MIN_GROUPS} prompts are needed)"
        return f"{default}; knowing each prompt's best would win {could}; {size} can prove {proof}."

    def format_rows(self) -> list[FormattedRow]:
        """What SBS and the oracles score, then what could be gained, as it is shown; what is unknown is left out."""
        repeat = "ties at random; deterministic configs repeat their luck"
        same = "biased upward: chosen and scored on the same samples"
        split = "split samples of the sampled configs"
        apart = "no outcome is chosen and scored on itself"
        could_win = "best of each prompt over SBS"
        sampled, high = self.split_vbs_sampled, self.could_win_high
        steps = f"chosen by every other {self.even_odd_field}, scored on those between"
        rows = (
            FormattedRow("sbs", "single best configuration (SBS)", self.sbs, note=str(self.sbs_config), kind="strong"),
            FormattedRow("split_vbs_sampled", "oracle, split samples, no greedy", sampled, note=apart),
            FormattedRow("split_vbs", "oracle, split samples", self.split_vbs, note=repeat),
            FormattedRow("naive_vbs", "oracle, same samples", self.naive_vbs, note=same, kind="biased"),
            FormattedRow("sbs_over_default", "SBS over the engine's default", gain=self.sbs_over_default),
            FormattedRow("per_task_best", "best of each task over SBS", gain=self.per_task_best, note="told the task"),
            FormattedRow("could_win_low", f"{could_win}, at least", gain=self.could_win_low, note=split),
            FormattedRow("even_odd", "the same, even and odd steps", gain=self.even_odd, note=steps),
            FormattedRow("could_win_high", f"{could_win}, at most", gain=high, note="biased upward", kind="biased"),
        )
        return [row for row in rows if row.value or row.gain]

    def __str__(self) -> str:
        rows = [(row.label, str(row.value or format_gain(row.gain)), row.note) for row in self.format_rows()]
        lines = [TextTable(("", "", ""), rows).to_text()]
        left = f", {self.n_left_out} prompts left out (a config without a scored sample)" if self.n_left_out else ""
        lines.append(f"{self.n_prompts} prompts in {format_count(self.n_groups, 'independent group')}{left}")
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join([*lines, self.sentence, *([self.sizing.sentence] if self.sizing is not None else [])])


def headroom(table: SweepTable, *, objective: ObjectiveSpec = "reward", seed: int = 0) -> Headroom:
    """What there is to win in a sweep, before any training.

    Args:
        table: a sweep; prompts that lack a config are left out and counted.
        objective: what is maximised, one of `hagpolicy.analysis.objectives`.
        seed: of folds, splits, ties and bootstrap.

    Raises:
        InvalidInput: fewer than two comparable prompts, an unknown objective or several, or a table that
            lacks what the objective is made of.
    """
    objectives = get_objectives(objective)
    if len(objectives) > 1:
        raise InvalidInput("objective", "one objective", ", ".join(item.name for item in objectives), "Ask for each.")
    prepared = prepare(table, objectives, seed, examples=True)
    kept, boot = prepared.table, prepared.boot
    comparison = compare(prepared)
    Y, deterministic = comparison.Y, comparison.deterministic
    sbs_index = int(choose_best(Y.mean(axis=0)))
    split = comparison.split_vbs()
    sampled = _split_sampled(prepared)
    counts = (~np.isnan(comparison.rewards)).sum(axis=2)
    tasks = crossfit_sbs(Y, prepared.folds, kept.tasks) if len(set(kept.tasks)) > 1 and boot.n_groups > 1 else None
    first = comparison.single_best
    same = kept.default == sbs_index
    by_task = None if tasks is None else comparison.score_choices(tasks, learned=True).gain
    could_win_low = None if sampled is None else comparison.score_values(sampled).gain
    detectable = compute_detectable_gain(Y, sbs_index, boot)
    field, even_odd = estimate_even_odd(Y, kept.space, boot) or ("", None)
    return Headroom(
        sbs_config=kept.space[sbs_index],
        sbs_index=sbs_index,
        sbs=comparison.score_sbs().value,
        sbs_over_default=first.over_default,
        naive_vbs=boot.mean(Y.max(axis=1)),
        split_vbs=None if split is None else boot.mean(split),
        split_vbs_sampled=None if sampled is None else boot.mean(sampled),
        per_task_best=by_task,
        could_win_low=could_win_low,
        could_win_high=comparison.score_values(Y.max(axis=1)).gain,
        detectable=detectable,
        n_prompts=len(kept.prompts),
        n_groups=boot.n_groups,
        n_samples=int(np.median(counts[:, ~deterministic] if (~deterministic).any() else counts)),
        n_left_out=prepared.n_left_out,
        warnings=(
            *prepared.warnings,
            *check_default(first, comparison.default_ahead),
            *check_even_odd(could_win_low, even_odd, field),
        ),
        objective=objectives[0].name,
        sizing=compute_sizing(detectable, boot.n_groups, by_task, could_win_low),
        sbs_is_default=same,
        even_odd=even_odd,
        even_odd_field=field,
    )


def _split_sampled(prepared: Prepared) -> np.ndarray | None:
    """float64 (n_prompts,): the split-sample oracle of the sampled configs alone, without those whose samples seem
    to be copies; None where there are fewer than two, or too few samples."""
    copied = {found.config for found in find_copies(prepared.table)}
    space = prepared.table.space
    sampled = [config for index, config in enumerate(space) if not config.deterministic and index not in copied]
    if len(sampled) < 2:
        return None
    table = prepared.table.in_space(DecodingSpace(sampled))
    targets = targets_of(table, prepared.targets.objectives)
    return compare(replace(prepared, table=table, targets=targets)).split_vbs()
