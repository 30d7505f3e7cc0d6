"""Heads: an estimate for every prompt and config, from the cells of a table or some of their samples.

A head is what a learner learns and what a policy's graph puts out; an objective is a weighted sum of heads.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from hagpolicy.data.table import SweepTable, average_known
from hagpolicy.errors import InvalidInput


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a table, those that are left out being NaN.

    Attributes:
        rewards: float64 (n_prompts, n_configs, n_samples).
        costs: tokens or seconds of the same shape, by name; without those the table lacks.
        answers: int (n_prompts, n_configs, n_samples), see `SweepTable.answers`; None where unknown.
        deterministic: bool (n_configs,): deterministic configs.
    """

    rewards: np.ndarray
    costs: dict[str, np.ndarray]
    answers: np.ndarray | None
    deterministic: np.ndarray

    @classmethod
    def of(cls, table: SweepTable, *, common: bool) -> Cells:
        """All cells, or the common ones of a raced table (`SweepTable.common`)."""
        end = table.common if common else None
        known = {"token": table.tokens, "second": table.seconds}
        costs = {name: values[:, :, :end].astype(np.float64) for name, values in known.items() if values is not None}
        answers = None if table.answers is None else table.answers[:, :, :end]
        return cls(table.rewards[:, :, :end], costs, answers, table.space.deterministic)

    def keep(self, mask: np.ndarray) -> Cells:
        """Some of the samples: mask, bool (n_prompts, n_configs, n_samples)."""
        return replace(self, rewards=np.where(mask, self.rewards, np.nan))

    @cached_property
    def present(self) -> np.ndarray:
        """bool, shape of rewards: scored samples."""
        return np.asarray(~np.isnan(self.rewards))

    @cached_property
    def counts(self) -> np.ndarray:
        """int64 (n_prompts, n_configs): scored samples of each cell."""
        return np.asarray(self.present.sum(axis=2), dtype=np.int64)

    @cached_property
    def means(self) -> np.ndarray:
        """float64 (n_prompts, n_configs): mean reward; NaN where nothing was scored."""
        return self.mean_of(self.rewards)

    def mean_of(self, values: np.ndarray) -> np.ndarray:
        """float64 (n_prompts, n_configs): mean of `values` over the scored samples, NaN where there is none."""
        return average_known(np.where(self.present, values, np.nan))

    def mean_cost(self, per: str) -> np.ndarray | None:
        """float64 (n_prompts, n_configs): mean tokens or seconds of the scored samples; None where the table
        lacks them, be it for one scored sample."""
        costs = self.costs.get(per)
        return None if costs is None or bool(np.isnan(costs[self.present]).any()) else self.mean_of(costs)

    def where_enough(self, values: np.ndarray, needed: int) -> np.ndarray:
        """`values` (n_prompts, n_configs) of cells with the needed number of samples; a deterministic config
        always gives its one outcome, so its value is its mean reward; the rest is NaN."""
        return np.where(self.deterministic, self.means, np.where(self.counts >= needed, values, np.nan))


@dataclass(frozen=True)
class Head(ABC):
    """An estimate for every prompt and config.

    Attributes:
        needs: scored samples that a sampled config's cell must have.
        splits: half of a cell's samples estimate the same as all of them, but for noise.
    """

    splits: ClassVar[bool] = True

    @property
    def needs(self) -> int:
        """Scored samples that a sampled config's cell must have."""
        return 1

    @abstractmethod
    def estimate(self, cells: Cells) -> np.ndarray:
        """float64 (n_prompts, n_configs); NaN where there are too few samples."""


@dataclass(frozen=True)
class MeanReward(Head):
    """Expected reward of one answer."""

    def estimate(self, cells: Cells) -> np.ndarray:
        """float64 (n_prompts, n_configs): mean over the scored samples."""
        return cells.means


@dataclass(frozen=True)
class DrawnReward(Head):
    """Expected reward of one answer, from calls that each drew one of several configs alike.

    In a table of `data.trial` the drawn config's cell holds the reward and all others one level, so that the mean of a
    cell is the level and a share 1 / choices of what the config gains over it. Unbiased (Horvitz and Thompson, *A
    Generalization of Sampling Without Replacement from a Finite Universe*, JASA 1952), with the level as the control
    variate.

    Args:
        choices: configs that were drawn among, at least 2.
        level: that the other cells hold, [0, 1].
    """

    choices: int
    level: float

    def estimate(self, cells: Cells) -> np.ndarray:
        """float64 (n_prompts, n_configs): outside of [0, 1] for most prompts alone."""
        return np.asarray(self.level + self.choices * (cells.means - self.level))


@dataclass(frozen=True)
class MeanCost(Head):
    """Expected cost of one answer: new tokens, or seconds.

    Args:
        per: "token" or "second".
    """

    per: str

    def estimate(self, cells: Cells) -> np.ndarray:
        """float64 (n_prompts, n_configs): mean over the scored samples.

        Raises:
            InvalidInput: the table does not know this cost, or not of every scored cell.
        """
        found = cells.mean_cost(self.per)
        if found is None:
            got = "scored cells that lack them" if self.per in cells.costs else "none"
            name = f"{self.per}s"
            do = f"Sweep with an engine that counts them, or give {name}=."
            if self.per == "token":
                do += " Answers of a server that counts none are counted by the tokenizer that its engine is given"
                do += " (tokenizer=FOLDER)."
            raise InvalidInput(f"table.{name}", f"{name} of every scored cell", got, do)
        return found


@dataclass(frozen=True)
class ExpectedMaximum(Head):
    """Expected maximum of the rewards of `n` answers: what best-of-n gives with the scorer as its judge.

    Unbiased: the mean of the maximum over all sets of n of the cell's samples, drawn without
    replacement. With a threshold, rewards count as passed or not; then it is pass@k as in Chen et
    al., *Evaluating Large Language Models Trained on Code* (arXiv 2107.03374): 1 - C(N-c, k) / C(N, k).

    Args:
        n: answers, at least 1.
        passing: rewards of at least this are 1 and all others 0; None: rewards as they are.
    """

    n: int
    passing: float | None = None

    @property
    def needs(self) -> int:
        """Scored samples that a sampled config's cell must have: as many as are drawn."""
        return self.n

    def estimate(self, cells: Cells) -> np.ndarray:
        """float64 (n_prompts, n_configs): mean of the maximum over all sets, NaN where there are too few samples."""
        if self.passing is not None:
            passed = np.where(cells.present, (cells.rewards >= self.passing).astype(np.float64), np.nan)
            cells = replace(cells, rewards=passed)
        ordered = np.nan_to_num(np.sort(cells.rewards, axis=2))  # NaN last
        # The i-th smallest of N samples is the largest of C(i-1, n-1) of the C(N, n) sets.
        rank = np.arange(1, ordered.shape[2] + 1)
        sets = np.where(rank <= cells.counts[:, :, None], _binomials(rank - 1, self.n - 1), 0.0)
        total = _binomials(cells.counts, self.n)
        return cells.where_enough((ordered * sets).sum(axis=2) / np.maximum(total, 1.0), self.n)


@dataclass(frozen=True)
class LowerQuantile(Head):
    """A lower quantile of the reward of one answer: for the cautious.

    The smallest reward that at least a share `q` of the samples does not exceed. With fewer than 1/q
    samples there is none below which a share q lies. The fewer the samples, the lower they reach: a
    half of them gives another quantile.

    Args:
        q: share of the worst answers, (0, 1).
    """

    splits: ClassVar[bool] = False  # of uniform rewards, four samples put the first quarter at .20, two at .33
    q: float

    @property
    def needs(self) -> int:
        """Scored samples that a sampled config's cell must have, so that one of them is at most a share `q`."""
        return math.ceil(1.0 / self.q - 1e-9)

    def estimate(self, cells: Cells) -> np.ndarray:
        """float64 (n_prompts, n_configs): the ceil(q N)-th smallest of N samples; of a deterministic config, of as
        many as there are."""
        ordered = np.sort(cells.rewards, axis=2)
        rank = np.clip(np.ceil(self.q * cells.counts - 1e-9).astype(np.int64), 1, np.maximum(cells.counts, 1)) - 1
        low = np.take_along_axis(ordered, rank[:, :, None], axis=2)[:, :, 0]
        return np.where(cells.deterministic | (cells.counts >= self.needs), low, np.nan)


def _binomials(n: np.ndarray, k: int) -> np.ndarray:
    """float64, shape of n: binomial coefficients, 0 where n < k."""
    known = np.array([float(math.comb(count, k)) for count in range(int(n.max(initial=0)) + 1)])
    return np.asarray(known[n])
