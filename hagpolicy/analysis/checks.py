"""Checks of a table: which of its prompts can be compared, and the warnings that go with its results."""

from __future__ import annotations

import numpy as np

from hagpolicy._text import format_count
from hagpolicy.analysis.objectives.base import Objective
from hagpolicy.analysis.rule import MIN_GROUPS
from hagpolicy.data.groups import SIMILAR, find_similar_pairs
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput
from hagpolicy.results import Estimate

# A larger share of prompts that are nearly equal to one of another group is worth a warning.
MANY_SIMILAR = 0.2


def keep_comparable(table: SweepTable, objectives: tuple[Objective, ...] = ()) -> SweepTable:
    """The prompts with a scored sample of every config, and with as many as the objectives need.

    Raises:
        InvalidInput: fewer than two of them, or the table lacks what an objective is made of.
    """
    complete = require_table(table).complete
    for objective in objectives:
        complete = complete & ~np.isnan(objective.values(table)).any(axis=1)
    kept = table.take(complete)
    if len(kept.prompts) < 2:
        counts = table.counts
        empty = int((counts == 0).all(axis=0).sum())
        needed = max((objective.needs for objective in objectives), default=1)
        samples = format_count(needed, "scored sample")
        raise InvalidInput(
            "table",
            f"at least two prompts with {samples} of every {'sampled ' * (needed > 1)}config",
            f"{len(kept.prompts)} of {len(table.prompts)} (configs without any scored sample: {empty})",
            "Finish the sweep, or load it with space= of the configs that were run."
            if needed == 1
            else "Sweep more samples, or ask for fewer answers.",
        )
    return kept


def require_table(table: object) -> SweepTable:
    """The table itself. Raises InvalidInput for anything else, such as a folder's name."""
    if not isinstance(table, SweepTable):
        raise InvalidInput("table", "a SweepTable", table, "hag.load_table reads one from a sweep folder.")
    return table


def check_groups(count: int) -> list[str]:
    """The warning for too few independent groups, none for enough of them."""
    if count >= MIN_GROUPS:
        return []
    found = f"{format_count(count, 'independent group')}: too few to prove anything (at least {MIN_GROUPS})"
    if count == 1:
        return [f"{found}; the single best config is chosen and scored on the same prompts, and intervals are unknown"]
    return [f"{found}; intervals over so few are too narrow"]


def check_default(gain: Estimate | None, *, same: bool) -> list[str]:
    """The warning where the single best config is not proven to beat the engine's default; `same`: it is the one."""
    if gain is None or gain.low > 0.0 or gain.low == gain.high == 0.0:
        return []
    if same:
        if gain.value == 0.0:
            return []
        return [
            "the engine's default is itself the single best config, and choosing it among all costs "
            f"{-gain.value:.3f}; gains over the single best config come out larger by it, those over the default do not"
        ]
    return [
        f"the single best config is not proven better than the engine's default ({gain:+}, paying for the choice "
        "among all configs); fewer configs or more prompts would tell"
    ]


def check_samples(table: SweepTable) -> list[str]:
    """What a reader of any result on this table must know: copied samples, unequal greedy outcomes."""
    rewards, deterministic = table.rewards, table.space.deterministic
    found = []
    # Over the cells with several samples: one sample that failed must not switch the check off.
    repeated = table.counts > 1
    several = repeated.mean(axis=0) > 0.5
    spread = np.where(repeated, np.nanvar(rewards, axis=2), 0.0).sum(axis=0) / np.maximum(repeated.sum(axis=0), 1)
    uneven = deterministic & several & (spread > 0.0)
    if uneven.any():
        found.append(
            f"{int(uneven.sum())} deterministic config(s) have several, unequal outcomes in one cell; used as they are"
        )
    sampled = np.flatnonzero(~deterministic & several)
    between = np.nanvar(table.means) if len(sampled) else 0.0
    usual = float(np.median(spread[sampled])) if len(sampled) else 0.0
    for j in sampled:
        if between > 0.0 and (usual == 0.0 or (len(sampled) > 2 and spread[j] < 0.1 * usual)):
            found.append(
                f"samples of config {j} ({table.space[int(j)]}) agree far more than samples do: were they copied "
                "(a cache, a fixed seed, a server that ignores temperature)? Copies are not samples"
            )
    return found


def check_similar(table: SweepTable) -> list[str]:
    """The warning where more than a fifth of the prompts are nearly equal to one of another group."""
    pairs = find_similar_pairs(table.prompts)
    apart = pairs[table.groups[pairs[:, 0]] != table.groups[pairs[:, 1]]]
    share = len(np.unique(apart)) / len(table.prompts)
    if share <= MANY_SIMILAR:
        return []
    return [
        f"{share:.0%} of the prompts are nearly equal to another one in a different group; if they are not "
        f"independent, declare groups or fit with near_duplicates={SIMILAR}: intervals are too narrow otherwise"
    ]
