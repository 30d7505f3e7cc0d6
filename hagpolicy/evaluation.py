"""`headroom`: is there anything to win? `evaluate`: how a policy does on another table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hagpolicy.config import DecodingConfig
from hagpolicy.errors import InvalidInput
from hagpolicy.estimates import (
    GroupBootstrap,
    crossfit_sbs,
    fold_numbers,
    select,
    split_oracle,
    taken,
)
from hagpolicy.ladder import Ladder
from hagpolicy.policy import Policy
from hagpolicy.results import Estimate, Evaluation
from hagpolicy.table import SweepTable

N_FOLDS = 5
# A gain that is found with probability 0.8 by a two-sided 5 % interval lies 1.96 + 0.84 standard
# errors above zero. The gate's interval is made of groups left out of a bootstrap draw, some 37 % of
# them, and comes out sqrt(1 / 0.368 - 1) = 1.31 times as wide as a plain one.
_DETECTABLE_ERRORS = 1.96 * 1.31 + 0.84


@dataclass(frozen=True)
class Headroom:
    """What the best single config gains and what a per-prompt policy could win beyond it.

    All estimates are mean rewards (or differences of them) over prompts, with 95 % intervals over
    groups. Gains of oracles are paired differences to SBS.

    Attributes:
        sbs_config: the single best config, chosen on all prompts.
        sbs_index: its index in the space.
        sbs: its value on prompts it was not chosen on (cross-fitted).
        sbs_over_default: gain over the engine's default, paying for the choice among all configs;
            None without a known default.
        naive_oracle: chooses and scores on the same samples; biased upward.
        split_oracle: chooses on half of the samples, scores on the other half; None where there are
            too few samples. Ties are broken at random.
        split_oracle_sampled: the same without deterministic configs, whose frozen luck passes for
            skill; None where there are fewer than two sampled configs.
        per_task_best: best config of each task (cross-fitted), over SBS; None with fewer than two tasks.
        could_win_low: lower end of what knowing each prompt's best config would gain over SBS, from
            the split-sample oracles; None without them.
        could_win_high: upper end: naive oracle over SBS (biased upward).
        detectable: gain over SBS that this table can prove with probability 0.8, if a policy departed
            from SBS for every prompt; the fewer departures, the smaller.
        n_prompts: prompts compared.
        n_groups: independent groups among them.
        n_samples: samples of a sampled config.
        n_left_out: prompts left out because a config has no scored sample.
        warnings: in plain words.
    """

    sbs_config: DecodingConfig
    sbs_index: int
    sbs: Estimate
    sbs_over_default: Estimate | None
    naive_oracle: Estimate
    split_oracle: Estimate | None
    split_oracle_sampled: Estimate | None
    per_task_best: Estimate | None
    could_win_low: Estimate | None
    could_win_high: Estimate
    detectable: float
    n_prompts: int
    n_groups: int
    n_samples: int
    n_left_out: int
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping of the attributes."""
        values = {
            name: value.to_json() if isinstance(value, Estimate) else value for name, value in self.__dict__.items()
        }
        return {**values, "sbs_config": self.sbs_config.to_dict(), "warnings": list(self.warnings)}

    @property
    def sentence(self) -> str:
        """The outcome in one plain sentence."""
        default = f"The best single configuration ({self.sbs_config})"
        if self.sbs_over_default is not None:
            default += f" gains {self.sbs_over_default:+} over the engine's default"
        else:
            default += f" scores {self.sbs} (the engine's default is not in the table)"
        low = f"at least {max(self.could_win_low.value, 0.0):.3f}" if self.could_win_low else "an unknown amount"
        return (
            f"{default}; knowing each prompt's best would win {low} and at most {self.could_win_high.value:.3f} more "
            f"(lower end: split samples; upper end: biased); {self.n_groups} independent prompts × {self.n_samples} "
            f"samples can prove a gain of {self.detectable:.3f}."
        )

    def __str__(self) -> str:
        rows: list[tuple[str, Estimate | None, str]] = [
            ("single best config (SBS)", self.sbs, str(self.sbs_config)),
            ("naive oracle", self.naive_oracle, "biased upward: chosen and scored on the same samples"),
            ("split-sample oracle", self.split_oracle, "ties at random; deterministic configs repeat their luck"),
            ("  sampled configs only", self.split_oracle_sampled, "no frozen luck"),
        ]
        gains: list[tuple[str, Estimate | None, str]] = [
            ("SBS over engine default", self.sbs_over_default, ""),
            ("best per task over SBS", self.per_task_best, "task known"),
        ]
        lines = [f"{name:26} {value!s:24} {note}".rstrip() for name, value, note in rows if value is not None]
        lines += [f"{name:26} {value:+}   {note}".rstrip() for name, value, note in gains if value is not None]
        left = f", {self.n_left_out} prompts left out (a config without a scored sample)" if self.n_left_out else ""
        lines.append(f"{self.n_prompts} prompts in {self.n_groups} independent groups{left}")
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join([*lines, self.sentence])


def comparable(table: SweepTable) -> SweepTable:
    """The prompts with a scored sample of every config.

    Raises:
        InvalidInput: fewer than two of them.
    """
    kept = table.take(table.complete)
    if len(kept.prompts) < 2:
        counts = table.counts
        empty = int((counts == 0).all(axis=0).sum())
        raise InvalidInput(
            "table",
            "at least two prompts with a scored sample of every config",
            f"{len(kept.prompts)} of {len(table.prompts)} (configs without any scored sample: {empty})",
            "Finish the sweep, or load it with space= of the configs that were run.",
        )
    return kept


def headroom(table: SweepTable, *, seed: int = 0) -> Headroom:
    """What there is to win in a sweep, before any training.

    Args:
        table: a sweep; prompts that lack a config are left out and counted.
        seed: of folds, splits, ties and bootstrap.

    Raises:
        InvalidInput: fewer than two comparable prompts.
    """
    kept = comparable(table)
    Y, frozen = kept.means, kept.space.deterministic
    boot = GroupBootstrap(kept.groups, seed=seed)
    folds = fold_numbers(kept.groups, min(N_FOLDS, boot.n_groups), seed)
    sbs_index = int(Y.mean(axis=0).argmax())
    sbs = taken(Y, crossfit_sbs(Y, folds)) if boot.n_groups > 1 else Y[:, sbs_index]
    split = split_oracle(kept.rewards, frozen, seed=seed)
    sampled = split_oracle(kept.rewards[:, ~frozen], frozen[~frozen], seed=seed) if (~frozen).sum() > 1 else None
    tasks = crossfit_sbs(Y, folds, kept.tasks) if len(set(kept.tasks)) > 1 and boot.n_groups > 1 else None
    default = None if table.default is None else select(Y - Y[:, [table.default]], Y[:, table.default], boot).gain
    lower = [oracle for oracle in (split, sampled) if oracle is not None]
    low = sampled if sampled is not None else split
    return Headroom(
        sbs_config=kept.space[sbs_index],
        sbs_index=sbs_index,
        sbs=boot.mean(sbs),
        sbs_over_default=default,
        naive_oracle=boot.mean(Y.max(axis=1)),
        split_oracle=None if split is None else boot.mean(split),
        split_oracle_sampled=None if sampled is None else boot.mean(sampled),
        per_task_best=None if tasks is None else boot.mean(taken(Y, tasks) - sbs),
        could_win_low=boot.mean(low - sbs) if low is not None and lower else None,
        could_win_high=boot.mean(Y.max(axis=1) - sbs),
        detectable=_detectable(Y, sbs_index, boot),
        n_prompts=len(kept.prompts),
        n_groups=boot.n_groups,
        n_samples=int(kept.counts[:, ~frozen].max()) if (~frozen).any() else int(kept.counts.max()),
        n_left_out=len(table.prompts) - len(kept.prompts),
        warnings=tuple(table_warnings(kept)),
    )


def _detectable(Y: np.ndarray, sbs: int, boot: GroupBootstrap) -> float:
    """Smallest provable gain of a policy that departs everywhere, to a typical other config."""
    others = [j for j in range(Y.shape[1]) if j != sbs]
    if not others or boot.n_groups < 2:
        return float("nan")
    sums = boot.sums(Y[:, others] - Y[:, [sbs]]) * (boot.n_groups / boot.sizes.sum())
    return float(_DETECTABLE_ERRORS * np.median(sums.std(axis=0, ddof=1)) / np.sqrt(boot.n_groups))


def table_warnings(table: SweepTable) -> list[str]:
    """What a reader of any result on this table must know: copied samples, unequal greedy outcomes."""
    rewards, frozen = table.rewards, table.space.deterministic
    found = []
    several = (table.counts > 1).all(axis=0)
    spread = np.zeros(len(table.space))
    if several.any():
        spread[several] = np.nanvar(rewards[:, several], axis=2).mean(axis=0)
    uneven = frozen & several & (spread > 0.0)
    if uneven.any():
        found.append(
            f"{int(uneven.sum())} deterministic config(s) have several, unequal outcomes in one cell; used as they are"
        )
    sampled = np.flatnonzero(~frozen & several)
    between = np.nanvar(table.means) if len(sampled) else 0.0
    usual = float(np.median(spread[sampled])) if len(sampled) else 0.0
    for j in sampled:
        if between > 0.0 and (usual == 0.0 or (len(sampled) > 2 and spread[j] < 0.1 * usual)):
            found.append(
                f"samples of config {j} ({table.space[int(j)]}) agree far more than samples do: were they copied "
                "(a cache, a fixed seed, a server that ignores temperature)? Copies are not samples"
            )
    return found


def evaluate(policy: Policy, table: SweepTable, *, seed: int = 0) -> Evaluation:
    """The ladder of baselines for a policy on prompts it was not trained on.

    Nothing is chosen here: SBS and the best config of each task are those of the training prompts,
    so intervals are plain paired bootstraps over groups.

    Args:
        policy: any policy, fitted or loaded.
        table: a sweep with at least the configs of the policy's space; prompts that were trained on,
            or that lack a config, are left out and counted.
        seed: of the bootstrap and of the split-sample VBS.

    Raises:
        InvalidInput: a config of the policy is not in the table, or fewer than two prompts are left.
    """
    view = table.in_space(policy.space)
    fresh = view.take(~policy.trained_on(view.prompts))
    if len(fresh.prompts) < 2:
        got = f"{len(fresh.prompts)} of {len(view.prompts)}"
        raise InvalidInput("table", "at least two prompts that were not trained on", got, "Sweep new prompts.")
    kept = comparable(fresh)
    Y = kept.means
    boot = GroupBootstrap(kept.groups, seed=seed)
    ladder = Ladder(
        Y, kept.rewards, kept.space.deterministic, np.full(len(Y), policy.sbs_index), boot, seed
    )
    decisions = policy.decide_batch(kept.prompts)
    chosen = np.array([decision.index for decision in decisions])
    best: dict[str, int] = policy.manifest.get("task_best") or {}
    per_task = np.array([best.get(task, policy.sbs_index) for task in kept.tasks]) if len(best) > 1 else None
    note = "ships the single best config" if policy.ships_sbs else policy.learner
    rows = ladder.rows(view.default, per_task, {"policy": ladder.fixed(taken(Y, chosen), note)})
    default = None if view.default is None else boot.mean(ladder.reference - Y[:, view.default])
    unlike = [decision.reason == "unlike_training" for decision in decisions]
    left_out = len(table.prompts) - len(kept.prompts)
    warnings = tuple(table_warnings(kept) + _fingerprint_warnings(policy, table))
    return Evaluation(
        rows, None, default, len(Y), boot.n_groups, left_out, fallbacks=float(np.mean(unlike)), warnings=warnings
    )


def _fingerprint_warnings(policy: Policy, table: SweepTable) -> list[str]:
    if policy.fingerprint and table.fingerprint and policy.fingerprint != dict(table.fingerprint):
        return ["the table comes from another engine than the one the policy was fitted for"]
    return []
