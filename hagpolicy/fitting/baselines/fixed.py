"""Baselines that look at no prompt: one config for all."""

from __future__ import annotations

import numpy as np

from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.baselines.base import Baseline, BaselineChoices


class Fixed(Baseline):
    """One config of the space for every prompt.

    Args:
        config: in the space of every table it is asked about, in this form or in another of the same text.
        name: of its row in the comparison.
    """

    learns = False

    def __init__(self, config: DecodingConfig, name: str = "fixed") -> None:
        self.config, self.name = config, name

    def choose(
        self, table: SweepTable, values: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
    ) -> BaselineChoices:
        """See `Baseline.choose`.

        Raises:
            InvalidInput: the config is not in the table's space.
        """
        return choose_constant(find_config(table.space, self.config), test)


class GenerationConfig(Baseline):
    """What the model's makers recommend: the settings of its own generation_config.

    That file is what an engine falls back on when nothing is sent, so the table's default is this
    config wherever the engine read the file: transformers does, and vLLM unless told otherwise. It is
    another config where the file did not come along, as with a GGUF file; then give it.

    Args:
        config: the model's own settings; None: the table's default.
    """

    name, learns = "generation_config", False

    def __init__(self, config: DecodingConfig | None = None) -> None:
        self.config = config

    def choose(
        self, table: SweepTable, values: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
    ) -> BaselineChoices:
        """See `Baseline.choose`.

        Raises:
            InvalidInput: the config is not in the table's space, or the table does not know the default.
        """
        if self.config is not None:
            return choose_constant(find_config(table.space, self.config), test)
        if table.default is None:
            do = "Give the model's settings: GenerationConfig(DecodingConfig(...))."
            raise InvalidInput("table.default", "the index of the engine's default", None, do)
        return choose_constant(table.default, test)


def find_config(space: DecodingSpace, config: DecodingConfig) -> int:
    """Index of the config of a space that gives the same text as `config`.

    Raises:
        InvalidInput: there is none.
    """
    index = space.with_config(config)[1]
    if index == len(space):
        raise InvalidInput("space", f"one that holds {config}", repr(space), "Sweep that config too.")
    return index


def choose_constant(index: int, test: np.ndarray) -> BaselineChoices:
    """The same config for all test prompts, bool (n_prompts,)."""
    return BaselineChoices(np.full(int(test.sum()), index, dtype=np.int64))
