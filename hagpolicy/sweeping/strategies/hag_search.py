"""`strategy="hag"`: prune the hyperparameters' values, then go greedily from one hyperparameter to the next.

After the two-stage search with which HAG (arXiv 2402.11251, ACL Findings 2024) made its training data:
first the space of hyperparameters is pruned, then each hyperparameter is searched greedily, the
others held. It is here for comparison; `racing` is the strategy to use.

The paper's text that we could read says no more than that. Ours are therefore: pruning by the mean
effect of a value over a fifth of the prompts, half of each hyperparameter's values kept; the start
at the best config of what is left; the order of `FIELDS`; moves to configs of the space only, which
need not be a full grid; and one search over all prompts where the paper labels every prompt by
itself, so that all prompts get the same configs and can be compared. What is left of the budget goes
to further common samples of the configs that were visited.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.additive import fit_additive
from hagpolicy.data.groups import number_groups
from hagpolicy.data.store.cells import View
from hagpolicy.data.ties import choose_best
from hagpolicy.errors import InvalidInput
from hagpolicy.sweeping.strategies.base import Rounds, StrategyResult, count_possible_samples, shuffle_by_group

PRUNING_PROMPTS = 0.2
KEPT_VALUES = 0.5
# Pruning gets no more than this share of the budget.
_PRUNING_SHARE = 0.5


def rounds(view: View, budget: int, seed: int) -> Rounds:
    """The rounds of the search; see the module.

    Args:
        view: everything that could be generated.
        budget: generations allowed in all.
        seed: of the choice of prompts for pruning.

    Raises:
        InvalidInput: a budget below one sample of two configs for every prompt.
    """
    n, k = len(view.prompts), len(view.space)
    if budget < 2 * n:
        raise InvalidInput("budget", f"at least {2 * n} generations: two configs for every prompt", budget)
    limit = count_possible_samples(view)
    order = shuffle_by_group(number_groups(view.prompts), (abs(seed), 3))
    mask = np.zeros((n, k, int(limit.max())), dtype=bool)
    pruning = order[: max(int(min(PRUNING_PROMPTS * n, _PRUNING_SHARE * budget / k, (budget - 2 * n) / k)), 0)]
    mask[pruning, :, 0] = True
    seen = yield mask
    effects = np.nan_to_num(fit_additive(seen.table.means)[1])
    left = _prune(view.space, effects)
    current = max(left, key=lambda config: effects[config])
    visited = [current, *([] if view.default in (None, current) else [view.default])]
    log: list[dict[str, Any]] = [{"round": "prune", "cells": int(mask.sum()), "in": left, "start": current}]
    for field in view.space.varying:
        near = [config for config in _find_neighbours(view.space, current, field) if config in left]
        wanted = _add_first_samples(mask, visited, near, seen.budget)
        tried = [config for config in (current, *near) if wanted[:, config, 0].all()]
        if seen.final or not tried:
            break
        if wanted.sum() > mask.sum():
            mask = wanted
            seen = yield mask
        visited = [*visited, *(config for config in tried if config not in visited)]
        current = tried[int(choose_best(_average_scored(seen.table.means[:, tried])))]
        log.append({"round": field, "cells": int(mask.sum()), "tried": tried, "best": current})
    common = 1
    while not seen.final and common < mask.shape[2]:
        wanted = mask.copy()
        for config in visited:
            wanted[:, config, : min(common + 1, int(limit[config]))] = True
        if wanted.sum() > seen.budget:
            break
        mask = wanted
        seen = yield mask
        common += not seen.final
    log.append({"round": "common", "cells": int(mask.sum()), "samples": common})
    return StrategyResult(tuple(sorted(visited)), common, log)


def _add_first_samples(mask: np.ndarray, always: list[int], more: list[int], budget: int) -> np.ndarray:
    """The mask with the first sample of some configs for every prompt, and of `more` as far as the budget goes."""
    wanted = mask.copy()
    wanted[:, always, 0] = True
    for config in more:
        wanted[:, config, 0] = True
        if wanted.sum() > budget:
            wanted[:, config, 0] = mask[:, config, 0]
    return wanted


def _average_scored(means: np.ndarray) -> np.ndarray:
    """float64 (n_configs,): mean over the prompts that were scored, 0 where none was."""
    scored = ~np.isnan(means)
    return np.asarray(np.where(scored, means, 0.0).sum(axis=0) / np.maximum(scored.sum(axis=0), 1))


def _prune(space: DecodingSpace, effects: np.ndarray) -> list[int]:
    """Configs that have only values which are among the better half of their hyperparameter.

    Where no config has only such values, the better half of the configs.
    """
    kept = np.ones(len(space), dtype=bool)
    for field in space.varying:
        values = [getattr(config, field) for config in space]
        mean = {one: float(effects[[value == one for value in values]].mean()) for one in set(values)}
        best = sorted(mean, key=lambda value: (-mean[value], str(value)))[: int(np.ceil(KEPT_VALUES * len(mean)))]
        kept &= np.array([value in best for value in values])
    if kept.any():
        return [int(config) for config in np.flatnonzero(kept)]
    return sorted(int(config) for config in np.argsort(-effects, kind="stable")[: int(np.ceil(len(space) / 2))])


def _find_neighbours(space: DecodingSpace, current: int, field: str) -> list[int]:
    """Configs that differ from the current one in that field alone."""
    own = space[current].fields()
    return [
        j
        for j, config in enumerate(space)
        if j != current and all(value == own[name] for name, value in config.fields().items() if name != field)
    ]
