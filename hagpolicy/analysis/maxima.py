"""The expected highest reward of several draws from several configs, estimated from the samples of a sweep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Maxima:
    """Expected maxima of independent draws: the integral of 1 − Π_j P(highest of the draws from j ≤ t) over t.

    With `below` of the `samples` of a cell at most t, c distinct ones of them are all at most t with probability
    C(below, c) / C(samples, c): without bias what c draws give, for c up to the number of samples.

    Attributes:
        top: float64 (n_prompts,), highest reward of a prompt.
        gaps: float64 (n_prompts, n_levels), from each distinct reward of a prompt to the next.
        below: uint16 (n_configs, n_prompts, n_levels), samples of a cell that are at most that reward.
        samples: int64 (n_configs, n_prompts), scored samples of a cell.
    """

    top: np.ndarray
    gaps: np.ndarray
    below: np.ndarray
    samples: np.ndarray

    def take(self, rows: np.ndarray) -> Maxima:
        """Those of some prompts: a bool mask (n_prompts,)."""
        return Maxima(self.top[rows], self.gaps[rows], self.below[:, rows], self.samples[:, rows])

    def values(self, drawn: np.ndarray) -> np.ndarray:
        """float64 (n_prompts,): the expected highest reward.

        Args:
            drawn: int64 (n_configs,), draws from each config: at most its samples, and one at least in all.
        """
        return np.asarray(self.top - self._shortfall(drawn).sum(axis=1))

    def means_with_one_more(self, drawn: np.ndarray) -> np.ndarray:
        """float64 (n_configs,): mean over prompts, for one more draw from each config; see `values`.

        Without a sample left in a cell there is no such draw, and the value means nothing.
        """
        short = self._shortfall(drawn)
        more = (np.einsum("pl,pl->", short, self._all_below(j, int(drawn[j]))) for j in range(len(drawn)))
        return np.asarray(self.top.mean() - np.fromiter(more, dtype=np.float64, count=len(drawn)) / len(self.top))

    def _shortfall(self, drawn: np.ndarray) -> np.ndarray:
        """float64 (n_prompts, n_levels): how much of each gap the maximum is expected to fall short of."""
        short = self.gaps.copy()
        for j in np.flatnonzero(drawn):
            for already in range(int(drawn[j])):
                short *= self._all_below(int(j), already)
        return short

    def _all_below(self, config: int, already: int) -> np.ndarray:
        """float64 (n_prompts, n_levels): probability that one more sample of a cell is at most each level, where
        `already` others are."""
        left = np.maximum(self.samples[config] - already, 1)[:, None]
        return np.asarray(np.maximum(self.below[config].astype(np.float64) - already, 0.0) / left)


def compute_maxima(rewards: np.ndarray) -> Maxima:
    """Maxima of a sweep: rewards float64 (n_prompts, n_configs, n_samples), NaN = missing, one at least a cell."""
    ordered = np.sort(rewards.reshape(len(rewards), -1), axis=1)  # NaN last
    steps = np.nan_to_num(np.diff(ordered, axis=1))
    # The distinct rewards of each prompt first: what is equal to its next has no gap to it.
    order = np.argsort(steps == 0.0, axis=1, kind="stable")[:, : int((steps > 0.0).sum(axis=1).max(initial=0))]
    gaps, levels = (np.take_along_axis(values, order, axis=1) for values in (steps, ordered[:, :-1]))
    counts = [(rewards[:, j, :, None] <= levels[:, None, :]).sum(axis=1) for j in range(rewards.shape[1])]
    return Maxima(
        top=np.nanmax(rewards, axis=(1, 2)),
        gaps=gaps,
        below=np.array(counts, dtype=np.uint16),
        samples=(~np.isnan(rewards)).sum(axis=2).T,
    )
