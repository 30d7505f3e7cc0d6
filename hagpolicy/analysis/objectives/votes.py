"""The head of majority voting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from hagpolicy.analysis.objectives.heads import Cells, Head
from hagpolicy.errors import InvalidInput

# Sets of samples that votes are counted in: where there are more, so many at random estimate the mean within .01.
MOST_SETS = 5_000
# Pairs of answers that are compared at once: bounds memory.
_PAIRS_AT_ONCE = 2**24


@dataclass(frozen=True)
class MajorityVote(Head):
    """Expected reward of the answer that most of `n` samples give (Wang et al., *Self-Consistency Improves
    Chain of Thought Reasoning in Language Models*, arXiv 2203.11171).

    Over all sets of n of the cell's samples, or 5,000 of them at random where there are more. Samples
    without an extracted answer do not vote; ties are broken at random, and where none votes one of the n
    samples is taken at random.

    Args:
        n: votes, at least 1.
    """

    n: int

    @property
    def needs(self) -> int:
        """Scored samples that a sampled config's cell must have: as many as vote."""
        return self.n

    def estimate(self, cells: Cells) -> np.ndarray:
        """float64 (n_prompts, n_configs): expected reward of the vote, NaN where there are too few samples.

        Raises:
            InvalidInput: the table does not know what answers were extracted.
        """
        if cells.answers is None:
            raise InvalidInput("table.answers", "the answers that the scorer extracted", "none", _EXTRACT)
        values = np.full(cells.counts.shape, np.nan)
        for count in np.unique(cells.counts[:, ~cells.deterministic]):
            rows = (cells.counts == count) & ~cells.deterministic
            if count >= self.n and rows.any():
                # Scored samples first, then the same subsets serve every cell.
                first = np.argsort(~cells.present[rows], axis=1, kind="stable")[:, :count]
                drawn = [np.take_along_axis(part[rows], first, axis=1) for part in (cells.answers, cells.rewards)]
                values[rows] = _score_votes(drawn[0], drawn[1], self.n)
        return cells.where_enough(values, self.n)


_EXTRACT = "Use a scorer that extracts one (numeric_match, multiple_choice, exact_match), or give answers=."


def _score_votes(answers: np.ndarray, rewards: np.ndarray, n: int) -> np.ndarray:
    """float64 (n_cells,): mean over sets of n of the reward of the most frequent answer.

    Args:
        answers: int (n_cells, N), -1 where none was extracted.
        rewards: float64 (n_cells, N).
        n: votes.
    """
    sets = _draw_sets(answers.shape[1], n)
    total = np.zeros(len(answers))
    step = max(1, _PAIRS_AT_ONCE // (len(answers) * n * n))
    for start in range(0, len(sets), step):
        part = sets[start : start + step]
        given, earned = answers[:, part], rewards[:, part]  # (n_cells, n_sets, n)
        votes = ((given[..., :, None] == given[..., None, :]) & (given >= 0)[..., :, None]).sum(axis=-1)
        top = votes == votes.max(axis=-1, keepdims=True)
        # Every sample of a most frequent answer counts alike: a tie at random, and its answer's mean reward.
        total += ((earned * top).sum(axis=-1) / top.sum(axis=-1)).sum(axis=1)
    return total / len(sets)


def _draw_sets(count: int, n: int) -> np.ndarray:
    """int64 (n_sets, n): all sets of n of the numbers below `count`, or where these are more than 5,000, so many
    of them at random, always the same."""
    if math.comb(count, n) <= MOST_SETS:
        return np.array(list(combinations(range(count), n)))
    return np.random.default_rng(0).random((MOST_SETS, count)).argsort(axis=1)[:, :n]
