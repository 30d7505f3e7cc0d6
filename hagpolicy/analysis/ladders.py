"""Configs that differ in one number alone: what is a neighbour, and what choosing by every other one of them wins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.fields import SPECS
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.ties import TIED, choose_best
from hagpolicy.results import Estimate

__all__ = ["ORDERED", "Ladder", "estimate_even_odd", "find_ladders"]

# Drafting changes the time and not the text, so it is no axis of rewards.
ORDERED = tuple(
    name for name, spec in SPECS.items() if spec.kind in (float, int) and name != "prompt_lookup_num_tokens"
)
# Fewer steps leave only one config of some parity, or two that are scored on the same neighbour.
LEAST_STEPS = 4


@dataclass(frozen=True)
class Ladder:
    """Configs that differ in one field alone, by its rising value.

    Attributes:
        field: name of the field.
        values: of the field, at least two.
        configs: indices in the space, one for each value.
    """

    field: str
    values: tuple[float, ...]
    configs: tuple[int, ...]

    def find_neighbours(self, config: int) -> tuple[int, ...]:
        """Indices of the configs one step away, one or two."""
        place = self.configs.index(config)
        return self.configs[max(place - 1, 0) : place] + self.configs[place + 1 : place + 2]


def find_ladders(space: DecodingSpace, field: str | None = None) -> list[Ladder]:
    """The ladders of a space, those of each ordered field in the order of the fields.

    Args:
        space: of the configs.
        field: only those of this field; None: of all ordered fields. A limit of None is not on the ladder.
    """
    found = []
    for name in ORDERED if field is None else (field,):
        alike: dict[tuple[Any, ...], list[tuple[float, int]]] = {}
        for index, config in enumerate(space):
            value = getattr(config, name)
            if value is not None:
                alike.setdefault(_without(config, name), []).append((float(value), index))
        for steps in alike.values():
            if len(steps) > 1:
                values, configs = zip(*sorted(steps), strict=True)
                found.append(Ladder(name, values, configs))
    return found


def _without(config: DecodingConfig, name: str) -> tuple[Any, ...]:
    """Values of all fields but one."""
    return tuple(value for field, value in config.fields().items() if field != name)


def estimate_even_odd(Y: np.ndarray, space: DecodingSpace, boot: GroupBootstrap) -> tuple[str, Estimate] | None:
    """The field and what choosing each prompt's config along it wins, chosen on every other step and scored on the
    steps between; over the config that is best on average, chosen and scored in the same way. None without a ladder
    of `LEAST_STEPS`.

    Samples of neighbouring configs are drawn apart, so that copies within a cell win nothing here, and nor does the
    one outcome of a deterministic config. What differs between neighbours is lost: it is what a coarse choice along
    the field wins, and mostly less than the best choice would. Even by odd and odd by even are averaged, and
    configs that tie count alike. The choice of the best on average is made once, on all prompts, and no interval
    pays for it.

    Args:
        Y: float64 (n_prompts, n_configs).
        space: of the configs.
        boot: draws over the groups of the prompts.
    """
    ladders = [ladder for ladder in find_ladders(space) if len(ladder.configs) >= LEAST_STEPS]
    if not ladders:
        return None
    field = max(ladders, key=lambda ladder: len(ladder.configs)).field
    ladders = [ladder for ladder in ladders if ladder.field == field]
    gains = np.zeros(len(Y))
    for parity in (0, 1):
        choosers, scores = [], []
        for ladder in ladders:
            for config in ladder.configs[parity::2]:
                choosers.append(Y[:, config])
                scores.append(Y[:, list(ladder.find_neighbours(config))].mean(axis=1))
        chooser, score = np.array(choosers).T, np.array(scores).T
        top = chooser >= chooser.max(axis=1, keepdims=True) - TIED
        gains += (score * top).sum(axis=1) / top.sum(axis=1) - score[:, int(choose_best(chooser.mean(axis=0)))]
    return field, boot.mean(gains / 2.0)
