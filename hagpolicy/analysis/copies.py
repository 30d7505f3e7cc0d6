"""Which configs' samples are copies of one another, as a cache, a fixed seed or a server that ignores temperature
makes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hagpolicy.analysis.ladders import find_ladders
from hagpolicy.data.table import SweepTable

__all__ = ["CopiedConfig", "find_copies"]

# Samples of one cell that correlate by more than this are suspect where neighbouring configs do not.
RELIABLE = 0.8
# Expected outcomes of neighbouring configs correlate by less than this only where the samples are no samples: in
# public sweeps whose samples were drawn, steps of 0.1 in temperature correlate by .96 and more.
ALIKE = 0.8
# The upper end of a correlation's interval, in standard errors; some tens of configs are judged at once.
_ERRORS = 2.6
# Least reliability of another config, as a share of the one that is judged: from one step to the next the scatter of
# samples does not double and double again, and what tells nothing (reliability 0) would else agree with everything.
_STEP, _ANY = 0.5, 0.05
# So many prompts at least must have another outcome than most have: of fewer, agreement says nothing.
_LEAST_VARIED = 10


@dataclass(frozen=True)
class CopiedConfig:
    """A config whose samples seem to be copies.

    Attributes:
        config: index in the space.
        reliability: correlation of two samples of one cell, over prompts.
        other: index of the config that its expected outcomes agree with most, of those near it; None without any.
        correlation: of the expected outcomes of both, corrected for the noise that samples show (Spearman, 1904:
            the correction for attenuation); copies show none, so the correction is too small, and this comes out
            low. None without another config.
    """

    config: int
    reliability: float
    other: int | None
    correlation: float | None


def find_copies(table: SweepTable) -> list[CopiedConfig]:
    """The sampled configs whose samples agree within a cell while configs near them disagree.

    Where temperature or another number changes by a step, the distribution of answers changes little, so that a
    cell's expected outcome is nearly its neighbour's. Samples that were drawn tell that expectation up to their own
    scatter; copies tell one outcome again and again, and that of the neighbour is another one. A config without such a
    neighbour is judged beside all sampled ones, and named only where its samples scatter by less than a tenth of what
    is usual among them. Configs whose outcomes hardly vary are not judged.

    Args:
        table: prompts with scored samples of every config.
    """
    rewards, means = table.rewards, table.means
    # Over the cells with several samples: one sample that failed must not switch the check off.
    repeated = table.counts > 1
    several = repeated.mean(axis=0) > 0.5
    judged = np.flatnonzero(~table.space.deterministic & several)
    varied = [j for j in judged.tolist() if _count_varied(means[:, j]) >= _LEAST_VARIED]
    if not varied:
        return []
    noise = {j: _measure_noise(rewards[repeated[:, j], j]) for j in varied}
    usual = float(np.median(list(noise.values())))
    near: dict[int, set[int]] = {j: set() for j in varied}
    for ladder in find_ladders(table.space):
        for config in ladder.configs:
            if config in near:
                near[config] |= near.keys() & set(ladder.find_neighbours(config))
    found = []
    for j in varied:
        others = near[j] or near.keys() - {j}
        suspect = 1.0 - noise[j] > RELIABLE if near[j] else noise[j] < 0.1 * usual or usual == 0.0
        if not suspect:
            continue
        least = (_STEP if near[j] else _ANY) * (1.0 - noise[j])
        pairs = [(_correlate(table, noise, j, other, least), other) for other in sorted(others)]
        (highest, correlation), other = max(pairs, default=((0.0, None), None), key=lambda pair: pair[0][0])
        if highest < ALIKE:
            found.append(CopiedConfig(j, 1.0 - noise[j], other, correlation))
    return found


def _count_varied(means: np.ndarray) -> int:
    """Prompts with another mean than the commonest."""
    return len(means) - int(np.unique(means, return_counts=True)[1].max())


def _measure_noise(rewards: np.ndarray) -> float:
    """Share of the variance of single samples, (n, n_samples) with at least two a row, that lies within cells."""
    total = float(np.nanvar(rewards, ddof=1))
    return float(np.nanvar(rewards, axis=1, ddof=1).mean()) / total if total > 0.0 else 0.0


def _correlate(table: SweepTable, noise: dict[int, float], one: int, other: int, least: float) -> tuple[float, float]:
    """Upper end of the correlation of two configs' expected outcomes, and the correlation itself, where the other's
    reliability is at least `least`."""
    both = table.counts[:, [one, other]].min(axis=1) > 0
    seen = float(np.corrcoef(table.means[both][:, [one, other]].T)[0, 1])
    # Reliability of the mean of a cell's samples, from that of one (Spearman and Brown, 1910).
    single = np.array([1.0 - noise[one], max(1.0 - noise[other], least)])
    samples = np.median(table.counts[both][:, [one, other]], axis=0)
    ceiling = float(np.sqrt(np.prod(samples * single / (1.0 + (samples - 1.0) * single))))
    error = (1.0 - seen**2) / np.sqrt(max(int(both.sum()) - 1, 1))
    return (seen + _ERRORS * error) / ceiling, seen / ceiling
