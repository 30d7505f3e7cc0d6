"""The ladder: every table of results shows the same baselines, in the same order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hagpolicy.estimates import GroupBootstrap, split_oracle, taken
from hagpolicy.results import Estimate, EvaluationRow


@dataclass(frozen=True)
class Entry:
    """A line before it is rendered: value and paired gain over SBS."""

    value: Estimate
    gain: Estimate
    note: str = ""


@dataclass(frozen=True)
class Ladder:
    """What all lines of one table share.

    Attributes:
        Y: float64 (n_prompts, n_configs), mean rewards.
        rewards: float64 (n_prompts, n_configs, n_samples), for the split-sample VBS.
        frozen: bool (n_configs,): deterministic configs.
        sbs: int64 (n_prompts,): the single best config for each prompt (cross-fitted or fixed).
        boot: draws over groups.
        raced: the sweep kept some of its configs only, and Y is of those.
    """

    Y: np.ndarray
    rewards: np.ndarray
    frozen: np.ndarray
    sbs: np.ndarray
    boot: GroupBootstrap
    seed: int = 0
    raced: bool = False

    @property
    def reference(self) -> np.ndarray:
        """float64 (n_prompts,): reward of SBS."""
        return taken(self.Y, self.sbs)

    def fixed(self, values: np.ndarray, note: str = "") -> Entry:
        """A line whose choices were made before looking at these rewards: values (n_prompts,)."""
        return Entry(self.boot.mean(values), self.boot.mean(values - self.reference), note)

    def rows(
        self, default: int | None, per_task: np.ndarray | None, contenders: Mapping[str, Entry]
    ) -> tuple[EvaluationRow, ...]:
        """All lines: the baselines, the contenders between them, the oracles.

        Args:
            default: index of the engine's default; None where unknown.
            per_task: int64 (n_prompts,): best config of each prompt's task; None with one task only.
            contenders: learners and policy, in their order.
        """
        entries: dict[str, Entry] = {}
        if default is not None:
            entries["engine_default"] = self.fixed(self.Y[:, default])
        entries["random"] = self.fixed(self.Y.mean(axis=1), f"a {'kept ' * self.raced}config drawn at random")
        entries["sbs"] = self.fixed(self.reference)
        if per_task is not None:
            entries["best_per_task"] = self.fixed(taken(self.Y, per_task), "told the task")
        entries.update(contenders)
        split = split_oracle(self.rewards, self.frozen, seed=self.seed)
        if split is not None:
            entries["split_vbs"] = self.fixed(split, "split samples")
        entries["naive_vbs"] = self.fixed(self.Y.max(axis=1), "biased upward")
        # A share of a gap that may be none says nothing, and is printed as thousands of percent.
        known = split is not None and entries["split_vbs"].gain.low > 0.0
        gap = entries["split_vbs"].gain.value if known else 0.0
        return tuple(_row(name, entry, gap) for name, entry in entries.items())


def _row(name: str, entry: Entry, gap: float) -> EvaluationRow:
    value, gain = entry.value, entry.gain
    closed = gain.value / gap if gap > 0.0 and name != "naive_vbs" else None
    return EvaluationRow(name, value.value, value.low, value.high, gain.value, gain.low, gain.high, closed, entry.note)
