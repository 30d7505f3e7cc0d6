"""The interface of a strategy, which chooses the cells of a sweep to generate, and the strategies by name."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hagpolicy._names import Registry
from hagpolicy.data.looks import Look
from hagpolicy.data.store.cells import View
from hagpolicy.data.table import SweepTable


@dataclass(frozen=True)
class Observation:
    """The cells and the budget that a strategy is given after each round.

    Attributes:
        table: exactly the cells asked for so far; all others NaN, whatever the folder holds of them.
        budget: generations that may be asked for in all, those of the earlier rounds included. A
            budget of tokens or minutes comes to another number after every round.
        final: nothing more is generated, whatever is asked for: the result is wanted.
    """

    table: SweepTable
    budget: int
    final: bool


@dataclass(frozen=True)
class StrategyResult:
    """The configs that a strategy keeps, and how many samples of them every prompt has.

    Attributes:
        kept: indices of the configs that compete, in the order of the space.
        common: the first so many samples of every kept config are there for every prompt (a
            deterministic config has one); see `SweepTable.common`.
            None: all samples are alike.
        log: what each round did, JSON-able; stored with the plan.
        prompts: how many of the first prompts it leaves; None: all.
        looks: at which was decided whether to go on; stored with the plan and the table.
    """

    kept: tuple[int, ...]
    common: int | None
    log: list[dict[str, Any]]
    prompts: int | None = None
    looks: tuple[Look, ...] = ()


Rounds = Generator[np.ndarray, Observation, StrategyResult]
"""Yields masks, bool (n_prompts, n_configs, n_samples), of all cells wanted so far, earlier rounds
included; receives what was observed. Deterministic: the masks follow from the arguments and from what
was observed, so that a sweep that was killed repeats its rounds over what is stored."""

Strategy = Callable[[View, int, int], Rounds]
"""Makes the rounds from the view of everything, the generations allowed in all, and a seed."""

STRATEGIES: Registry[Strategy] = Registry(
    "strategy",
    {
        "racing": "hagpolicy.sweeping.strategies.racing:rounds",
        "hag": "hagpolicy.sweeping.strategies.hag_search:rounds",
    },
    expected="full, {names}, or a function",
    also=("full",),
)
# Of the generations of the full sweep, where no budget is given.
DEFAULT_SHARE = 0.35


def count_possible_samples(view: View) -> np.ndarray:
    """int64 (n_configs,): samples that each config can have; a deterministic one has one outcome alone."""
    return np.where(view.space.deterministic, 1, view.samples)


def shuffle_by_group(groups: np.ndarray, seed: Sequence[int]) -> np.ndarray:
    """int64 (n_prompts,): indices of the prompts with whole groups in random order, so that the first are like all.

    Args:
        groups: int64 (n_prompts,): number of the group of each prompt.
        seed: whole numbers of at least 0, of numpy's generator.
    """
    place = np.random.default_rng(list(seed)).permutation(int(groups.max()) + 1)
    return np.argsort(place[groups], kind="stable")


def get_strategy(spec: str | Strategy) -> tuple[str, Strategy | None]:
    """(Name, function that makes the rounds) of a strategy; "full" has no rounds: None.

    Raises:
        InvalidInput: an unknown name.
    """
    if callable(spec):
        return getattr(spec, "__name__", repr(spec)), spec
    if spec == "full":
        return spec, None
    return spec, STRATEGIES[spec]
