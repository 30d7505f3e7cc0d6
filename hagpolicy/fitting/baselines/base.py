"""The interface of a baseline: another way to choose a config for each prompt, judged in the same table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput


@dataclass(frozen=True)
class BaselineChoices:
    """What a baseline chose for some prompts.

    Attributes:
        indices: int64 (n,), numbers of configs in the space; -1 where it could not say, which is judged as
            the single best config of the training prompts and counted as a fallback.
        tokens: float64 (n,), tokens that choosing cost at call time, prompt and answer; None: no LLM is asked.
        seconds: float64 (n,), time that choosing took at call time; None where it was not measured.
    """

    indices: np.ndarray
    tokens: np.ndarray | None = None
    seconds: np.ndarray | None = None


class Baseline(ABC):
    """Chooses a config of the table's space for each test prompt.

    Attributes:
        name: of its row in the comparison, such as "turn".
        note: of its row, such as what it is given that a policy is not; "" for none.
        learns: from the rewards of other prompts; its choices err together then, and intervals allow for it.
    """

    name: str
    note: str = ""
    learns: bool = True

    @abstractmethod
    def choose(
        self, table: SweepTable, values: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
    ) -> BaselineChoices:
        """Choices for the test prompts. May learn from the training rows of `values` and `table`, and must
        look at no reward of a test row.

        Args:
            table: prompts, space and samples.
            values: float64 (n_prompts, n_configs), what is to be maximised (mean reward, or another objective).
            train: bool (n_prompts,), the prompts to learn from.
            test: bool (n_prompts,), the prompts to choose for.
            seed: of everything random.
        """


def crossfit_baseline(
    baseline: Baseline, table: SweepTable, values: np.ndarray, folds: np.ndarray, seed: int
) -> BaselineChoices:
    """A baseline's choice for every prompt, each made from the other folds.

    What the baseline is shown has NaN for all outcomes of the prompts it chooses for, so that it cannot look at
    them by mistake. With one fold nothing lies outside it: then the choice is made on all prompts.

    Args:
        baseline: chooses fold by fold.
        table: prompts, space and samples.
        values: float64 (n_prompts, n_configs), what is to be maximised.
        folds: int64 (n_prompts,).
        seed: of everything random.

    Returns:
        Choices for all prompts, -1 where the baseline could not say. Tokens and seconds are None where it gave
        none for some fold.

    Raises:
        InvalidInput: the baseline gave another number of choices, or one that is no config of the space.
    """
    parts: list[tuple[np.ndarray, BaselineChoices]] = []
    for fold in np.unique(folds):
        test = folds == fold
        if test.all():
            chosen = baseline.choose(table, values, test, test, seed)
        else:
            chosen = baseline.choose(_hide_outcomes(table, test), _mask_rows(values, test), ~test, test, seed)
        _check(baseline, chosen, int(test.sum()), len(table.space))
        parts.append((test, chosen))
    indices = np.empty(len(values), dtype=np.int64)
    for test, chosen in parts:
        indices[test] = chosen.indices
    tokens = _join([(test, chosen.tokens) for test, chosen in parts])
    return BaselineChoices(indices, tokens, _join([(test, chosen.seconds) for test, chosen in parts]))


def _join(parts: list[tuple[np.ndarray, np.ndarray | None]]) -> np.ndarray | None:
    """float64 (n_prompts,) from what each fold gave for its mask (n_prompts,); None where one gave nothing."""
    whole = np.empty(len(parts[0][0]))
    for test, values in parts:
        if values is None:
            return None
        whole[test] = values
    return whole


def _hide_outcomes(table: SweepTable, rows: np.ndarray) -> SweepTable:
    """The table without what came out for some prompts, bool (n_prompts,)."""
    outcomes = {name: getattr(table, name) for name in ("rewards", "tokens", "seconds")}
    hidden: dict[str, Any] = {name: _mask_rows(array, rows) for name, array in outcomes.items() if array is not None}
    return replace(table, **hidden)  # answers whose rewards are hidden go with them


def _mask_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A copy with NaN in some rows."""
    copy = np.array(array)
    copy[rows] = np.nan
    return copy


def _check(baseline: Baseline, chosen: BaselineChoices, count: int, n_configs: int) -> None:
    """Refuse choices that are not one config, or -1, for each test prompt."""
    name = f"choices of {baseline.name}"
    if not isinstance(chosen, BaselineChoices):
        raise InvalidInput(name, "a BaselineChoices", chosen)
    indices = np.asarray(chosen.indices)
    if indices.shape != (count,) or not np.issubdtype(indices.dtype, np.integer):
        raise InvalidInput(name, f"whole numbers of shape ({count},)", f"{indices.dtype} of shape {indices.shape}")
    bad = indices[(indices < -1) | (indices >= n_configs)]
    if len(bad):
        raise InvalidInput(name, f"numbers in [-1, {n_configs - 1}]", int(bad[0]))
