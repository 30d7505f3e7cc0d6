"""What `racing.py` and its tests share: strategies driven on arrays, their baselines, stored cells replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import hagpolicy as hag
from hagpolicy.data.completion import Completion, Request
from hagpolicy.data.store.cells import View, derive_stream_seed
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.engines.base import Engine
from hagpolicy.sweeping.strategies.base import Observation, get_strategy

SHARE = 0.35
Mask = Callable[[hag.SweepTable, int, int], hag.SweepTable]


def budget_of(table: hag.SweepTable) -> int:
    """Generations of 35 % of a complete table."""
    return int(SHARE * table.counts.sum())


def strategy(name: str) -> Mask:
    """A strategy of `sweep` as a mask on a complete table: (table, budget, seed) to what it leaves."""

    def apply(table: hag.SweepTable, budget: int, seed: int) -> hag.SweepTable:
        _, make = get_strategy(name)
        assert make is not None
        n_samples = table.rewards.shape[2]
        view = View(table.prompts, table.space, n_samples, 64, 0, table.default, ("",) * len(table.prompts))
        rounds = make(view, budget, seed)
        mask = next(rounds)
        while True:
            seen = _masked(table, mask)
            if int(seen.counts.sum()) > budget:
                raise AssertionError(f"{name} asked for {int(seen.counts.sum())} of {budget} generations")
            try:
                mask = rounds.send(Observation(seen, budget, False))
            except StopIteration as stop:
                left = stop.value
                space = hag.DecodingSpace(table.space[j] for j in left.kept)
                return replace(seen.in_space(space), common=left.common)

    return apply


def uniform(table: hag.SweepTable, budget: int, seed: int) -> hag.SweepTable:
    """Every prompt in turn gets one sample of all configs, then a second one, as far as the budget goes.

    Of all ways to spread generations evenly this one is the best: a new prompt tells more than another
    sample of a known one.
    """
    mask = np.zeros(table.rewards.shape, dtype=bool)
    order = np.random.default_rng(seed).permutation(len(table.prompts))
    for sample in range(mask.shape[2]):
        for prompt in order:
            row = ~np.isnan(table.rewards[prompt, :, sample])
            if row.sum() > budget:
                return _masked(table, mask)
            mask[prompt, :, sample] = row
            budget -= int(row.sum())
    return _masked(table, mask)


def winner(table: hag.SweepTable, budget: int, seed: int) -> int:
    """Index of the config that takes all: successive halving (Karnin, Koren and Somekh, ICML 2013) on means."""
    alive = np.arange(len(table.space))
    turns = int(np.ceil(np.log2(len(alive))))
    prompts = np.random.default_rng(seed).permutation(len(table.prompts))
    mask = np.zeros(table.rewards.shape, dtype=bool)
    for turn in range(turns):
        spend = budget // turns
        for sample in range(mask.shape[2]):
            for prompt in np.roll(prompts, -turn * len(prompts) // turns):
                open_ = ~mask[prompt, :, sample] & ~np.isnan(table.rewards[prompt, :, sample])
                row = alive[open_[alive]]
                if len(row) > spend:
                    break
                mask[prompt, row, sample] = True
                spend -= len(row)
        means = np.nanmean(_masked(table, mask).means, axis=0)
        alive = alive[np.argsort(-means[alive], kind="stable")][: max(int(np.ceil(len(alive) / 2)), 1)]
    return int(alive[0])


def _masked(table: hag.SweepTable, mask: np.ndarray) -> hag.SweepTable:
    return replace(table, rewards=np.where(mask, table.rewards, np.nan))


class Replay(Engine):
    """Answers every cell from a finished sweep folder, as the LLM did.

    Args:
        folder: the sweep folder; a cell that it lacks fails.
    """

    unit_cells = 64

    def __init__(self, folder: Path) -> None:
        with SweepStore(folder) as store:
            self._fingerprint = dict(store.fingerprint)
            self._view = store.plans[-1].view
            found = [pair for segment in store.completions(store.cells.rows) for pair in segment]
        self._answers = {derive_stream_seed(key): completion for key, completion in found}
        self.name = f"replay of {folder.name}"

    @property
    def fingerprint(self) -> Mapping[str, str]:
        """That of the LLM."""
        return self._fingerprint

    def default_config(self) -> hag.DecodingConfig:
        """That of the LLM."""
        return self._view.space[self._view.default]

    def unsupported(self, config: hag.DecodingConfig) -> list[str]:
        """Nothing: what is not stored fails cell by cell."""
        return []

    def generate(self, unit: Sequence[Request]) -> list[Completion]:
        """The stored texts."""
        missing = Completion("", finish="error", error="this cell is not stored")
        return [self._answers.get(request.seed, missing) for request in unit]
