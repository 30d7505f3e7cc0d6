"""What belongs to one row of a batch: its settings, as vectors over the rows, and its random stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hagpolicy.config.config import DecodingConfig

__all__ = ["RowSettings", "draw_uniforms", "find_positions"]


@dataclass(frozen=True)
class RowSettings:
    """Settings of the rows of a batch, each a vector (rows,); see `DecodingConfig` for their meaning."""

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    typical_p: Tensor
    repetition_penalty: Tensor
    presence_penalty: Tensor
    frequency_penalty: Tensor
    no_repeat_ngram_size: Tensor

    @cached_property
    def repeating(self) -> Tensor:
        """int64 (some,): rows with a repetition penalty."""
        return find_positions(self.repetition_penalty != 1)

    @cached_property
    def answering(self) -> Tensor:
        """int64 (some,): rows with a presence or frequency penalty."""
        return find_positions((self.presence_penalty != 0) | (self.frequency_penalty != 0))

    @cached_property
    def by_ngram(self) -> dict[int, Tensor]:
        """n-gram size to the rows, int64 (some,), in which no n-gram of that size may occur twice."""
        sizes = self.no_repeat_ngram_size.unique().tolist()
        return {size: find_positions(self.no_repeat_ngram_size == size) for size in sizes if size > 0}

    @cached_property
    def greedy(self) -> Tensor:
        """int64 (some,): rows that take the likeliest token."""
        return find_positions(self.temperature <= 0)

    @cached_property
    def uncut(self) -> Tensor:
        """int64 (some,): rows that sample from the whole distribution."""
        return find_positions((self.temperature > 0) & ~self._cuts_head & (self.typical_p >= 1))

    @cached_property
    def cut(self) -> Tensor:
        """int64 (some,): rows that sample from what top_k, top_p, min_p or typical_p leave."""
        return find_positions((self.temperature > 0) & (self._cuts_head | (self.typical_p < 1)))

    @cached_property
    def of_cut(self) -> RowSettings:
        """The settings of the rows `cut`."""
        return self.take(self.cut)

    @cached_property
    def typical(self) -> Tensor:
        """int64 (some,): rows with typical_p."""
        return find_positions(self.typical_p < 1)

    @cached_property
    def typical_alone(self) -> Tensor:
        """bool (rows,): rows that nothing but typical_p cuts."""
        return ~self._cuts_head & (self.typical_p < 1)

    @cached_property
    def of_all(self) -> Tensor:
        """int64 (some,): rows whose first cut is a share of the whole distribution's mass."""
        return find_positions(((self.top_k == 0) & (self.top_p < 1)) | self.typical_alone)

    @property
    def _cuts_head(self) -> Tensor:
        return (self.top_k > 0) | (self.top_p < 1) | (self.min_p > 0)

    @classmethod
    def of(cls, configs: Sequence[DecodingConfig], device: torch.device | str = "cpu") -> RowSettings:
        """The settings of one config a row; floats in float32, whole numbers in int64."""
        columns = {spec.name: [getattr(config, spec.name) for config in configs] for spec in fields(cls)}
        kinds = {name: torch.int64 if isinstance(column[0], int) else torch.float32 for name, column in columns.items()}
        return cls(**{name: torch.tensor(column, dtype=kinds[name], device=device) for name, column in columns.items()})

    def take(self, rows: Tensor) -> RowSettings:
        """The settings of some rows, given as int64 indices."""
        return RowSettings(**{spec.name: getattr(self, spec.name)[rows] for spec in fields(self)})


def find_positions(mask: Tensor) -> Tensor:
    """int64 (some,): where a vector (rows,) is True."""
    return mask.nonzero().squeeze(1)


def draw_uniforms(seeds: Sequence[int], steps: int) -> np.ndarray:
    """float64 (rows, steps) in [0, 1): number `step` of the stream that a row's seed names.

    Counter-based: SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014) over seed and step, so
    a number depends on nothing but these two. The seed is mixed first, lest seeds that differ by the
    increment share a stream one step apart.
    """
    key = _mix(np.array([seed & (2**64 - 1) for seed in seeds], dtype=np.uint64))
    counter = np.arange(1, steps + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    drawn: np.ndarray = (_mix(key[:, None] + counter[None, :]) >> np.uint64(11)) * 2.0**-53
    return drawn


def _mix(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(state ^ (state >> np.uint64(31)))
