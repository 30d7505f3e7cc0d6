"""Checks of a table: which of its prompts can be compared, and the warnings that go with its results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hagpolicy._text import format_count
from hagpolicy.analysis.copies import find_copies
from hagpolicy.analysis.objectives.base import Objective
from hagpolicy.analysis.objectives.families import Drawn
from hagpolicy.analysis.rule import MIN_GROUPS
from hagpolicy.analysis.single_best import SingleBest
from hagpolicy.data.groups import SIMILAR, find_similar_pairs
from hagpolicy.data.origins import Origin, find_seen, list_unknown, select_origins
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.table import SweepTable
from hagpolicy.data.trial import LIVE_REWARDS
from hagpolicy.errors import InvalidInput, StoreError
from hagpolicy.results import Estimate

# So many rewards that are all equal say something of the scorer.
MIN_EQUAL = 20
MOST_NAMED = 3  # tasks in one warning
# A larger share of prompts that are nearly equal to one of another group is worth a warning.
MANY_SIMILAR = 0.2


def keep_comparable(table: SweepTable, objectives: tuple[Objective, ...] = ()) -> SweepTable:
    """The table of its comparable prompts; see `find_comparable`."""
    return require_table(table).take(find_comparable(table, objectives))


def find_comparable(table: SweepTable, objectives: tuple[Objective, ...] = ()) -> np.ndarray:
    """bool (n_prompts,): those with a scored sample of every config, and with as many as the objectives need, which no
    artefact of the space was made from.

    Raises:
        InvalidInput: fewer than two of them, too few groups that no artefact was made from, or the table lacks what an
            objective is made of.
    """
    complete = require_table(table).complete
    complete = complete & find_unseen(table.prompts, table.groups, select_origins(table.origins, table.space))
    for objective in objectives:
        complete = complete & ~np.isnan(objective.values(table)).any(axis=1)
    if complete.sum() < 2:
        counts = table.counts
        empty = int((counts == 0).all(axis=0).sum())
        needed = max((objective.needs for objective in objectives), default=1)
        samples = format_count(needed, "scored sample")
        raise InvalidInput(
            "table",
            f"at least two prompts with {samples} of every {'sampled ' * (needed > 1)}config",
            f"{complete.sum()} of {len(table.prompts)} (configs without any scored sample: {empty})",
            "Finish the sweep, or load it with space= of the configs that were run."
            if needed == 1
            else "Sweep more samples, or ask for fewer answers.",
        )
    return np.asarray(complete)


def find_unseen(prompts: Sequence[Prompt], groups: np.ndarray, origins: Sequence[Origin]) -> np.ndarray:
    """bool (n_prompts,): prompts that none of some artefacts was made from.

    Args:
        prompts: n_prompts of them.
        groups: int64 (n_prompts,), see `groups.number_groups`.
        origins: of the artefacts.

    Raises:
        InvalidInput: some prompts are left out, and what is left has fewer than `rule.MIN_GROUPS` groups.
    """
    unseen = ~find_seen(prompts, origins)
    left = len(np.unique(groups[unseen]))
    if not unseen.all() and left < MIN_GROUPS:
        raise InvalidInput(
            "prompts",
            f"at least {MIN_GROUPS} groups that no artefact of the space was made from",
            f"{left}, without {int((~unseen).sum())} of {len(unseen)} prompts that one was made from",
            "Take other prompts, or leave out the configs that name the artefact.",
        )
    return unseen


def check_origins(table: SweepTable) -> list[str]:
    """The warnings for prompts that are left out because an artefact was made from them, and for artefacts of which
    nobody knows what they were made from."""
    warnings = []
    if seen := int(find_seen(table.prompts, select_origins(table.origins, table.space)).sum()):
        warnings.append(
            f"{format_count(seen, 'prompt')} left out of every comparison, for every configuration: an artefact that "
            "one of them names, or the hint of one, was made from these, or from others of their groups"
        )
    if unknown := list_unknown(table.origins, table.space):
        warnings.append(
            f"nobody knows what {', '.join(unknown)} was made from: where these prompts were among it, what follows "
            "proves nothing; `hagpolicy.artefacts.write_record` says it"
        )
    return warnings


def require_table(table: object) -> SweepTable:
    """The table itself. Raises InvalidInput for anything else, such as a folder's name."""
    if not isinstance(table, SweepTable):
        raise InvalidInput("table", "a SweepTable", table, "hag.load_table reads one from a sweep folder.")
    return table


def check_folder(table: SweepTable) -> list[str]:
    """The warning for a table of a part of its folder's prompts that nobody asked for."""
    if table.stored is None or table.stored <= len(table.prompts):
        return []
    return [
        f"{len(table.prompts):,} of the folder's {table.stored:,} prompts, those of its latest sweep; `--all`, or "
        "load_table(folder, all_prompts=True), takes every one"
    ]


def check_live(table: SweepTable, objectives: Sequence[Objective]) -> list[str]:
    """The warning for live calls under an objective that takes the cells of their table for whole rewards."""
    wanted = {name.removeprefix(LIVE_REWARDS).strip() for name in table.scorers.values() if LIVE_REWARDS in name}
    if not wanted or all(isinstance(objective, Drawn) for objective in objectives):
        return []
    return [
        "the table is of live calls, each of which drew one config: its cells differ by a share of what rewards do; "
        f"the objective {' or '.join(sorted(wanted))} tells it whole"
    ]


def check_rewards(table: SweepTable, *, examples: bool = False) -> list[str]:
    """The warnings for tasks whose rewards tell nothing: none, all 0, all 1, or the same whatever the configuration.

    Nothing can be won there, and most often it is the scorer that cannot read the answers.

    Args:
        table: whole, with the prompts that lack a reward.
        examples: quote an answer each, where they are stored: not for what is kept beside a policy.
    """
    found: dict[str, list[str]] = {}
    for task in dict.fromkeys(table.tasks.tolist()):
        mine = table.tasks == task
        said = _judge_rewards(table.rewards[mine], table.complete[mine], table.scorers.get(task, "its scorer"))
        if said:
            found.setdefault(said, []).append(task)
    return [
        f"{_name_tasks(tasks)}: {said}; `hagpolicy show` shows some"
        + (_quote_answer(table, tasks[0]) if examples else "")
        for said, tasks in found.items()
    ]


def _judge_rewards(rewards: np.ndarray, complete: np.ndarray, scorer: str) -> str:
    """What is wrong with a task's rewards, (n_prompts, n_configs, n_samples), and what to ask; "" for nothing."""
    known = rewards[~np.isnan(rewards)]
    mend = "mend the scorer or the references, and `rescore`"
    if not len(known):
        return f"no answer has a reward of {scorer}, so no figure is of them; {mend}"
    if complete.mean() < 0.5:
        return f"most prompts lack a reward of {scorer} under some configuration, so no figure is of them; {mend}"
    if len(known) < MIN_EQUAL:
        return ""
    if np.ptp(known) == 0.0:
        ask = {0.0: "is it the right scorer for these answers?", 1.0: "is it too easily satisfied?"}
        why = ask.get(float(known[0]), "does it read the answers?")
        return f"all rewards of {scorer} are {known[0]:g}, so no configuration can win there; {why}"
    centred = rewards - np.where(np.isnan(rewards), -np.inf, rewards).max(axis=(1, 2), keepdims=True)
    if not np.nan_to_num(centred).any():
        why = "does it read the answers, or are they all alike?"
        return f"{scorer} rewards every configuration of a prompt alike, so none can win there; {why}"
    return ""


def _name_tasks(tasks: Sequence[str]) -> str:
    if tasks == [""]:
        return "every prompt"
    more = f" and {len(tasks) - MOST_NAMED} more" if len(tasks) > MOST_NAMED else ""
    return f"task{'s' * (len(tasks) > 1)} {', '.join(map(repr, tasks[:MOST_NAMED]))}{more}"


def _quote_answer(table: SweepTable, task: str) -> str:
    """An answer of a task, one without a reward first, with the reason; "" where none is stored."""
    row = int(np.lexsort((table.complete, table.tasks != task))[0])
    try:
        found = [] if table.texts is None else [one for one in table.texts.read(row).ravel() if one is not None]
    except StoreError:  # the folder has gone since
        return ""
    if not found:
        return ""
    answer = next((one for one in found if one.reason), found[0])
    return f", such as {answer.text!r:.80}" + (f" ({answer.reason:.200})" if answer.reason else "")


def check_groups(count: int) -> list[str]:
    """The warning for too few independent groups, none for enough of them."""
    if count >= MIN_GROUPS:
        return []
    found = f"{format_count(count, 'independent group')}: too few to prove anything (at least {MIN_GROUPS})"
    if count == 1:
        return [f"{found}; the single best config is chosen and scored on the same prompts, and intervals are unknown"]
    return [f"{found}; intervals over so few are too narrow"]


def check_default(found: SingleBest, ahead: float) -> list[str]:
    """The warning where the single best config is not proven to beat what runs today, or that is not known.

    Args:
        found: of the first step.
        ahead: how much more the default is worth than the single best config that each draw chooses for itself.
    """
    gain = found.over_default
    if gain is None:
        return ["what runs today is not known (no default in the table), so nothing is proven over it"]
    if gain == Estimate(0.0, 0.0, 0.0) and ahead > 0.0:
        return [
            "the engine's default is itself the single best config; gains over the single best config are over one "
            f"that every draw chooses anew and come out larger by {ahead:.3f}, those over the default do not"
        ]
    if found.proven or gain == Estimate(0.0, 0.0, 0.0):
        return []
    return [
        f"the single best config is not proven better than the engine's default ({gain:+}, paying for the choice "
        "among all configs), which stands; fewer configs or more prompts would tell"
    ]


def check_even_odd(split: Estimate | None, even_odd: Estimate | None, field: str) -> list[str]:
    """The warning where split samples believe in more than choosing along a field's steps wins.

    Args:
        split: gain of the split-sample oracle.
        even_odd: gain of choosing by every other step, scored on those between; None where there are no such steps.
        field: that has the steps.
    """
    if split is None or even_odd is None or even_odd.high >= split.low:
        return []
    return [
        f"split samples promise {split:+}, but choosing by every other {field} and scoring on those between wins "
        f"{even_odd:+}: unless neighbouring configs really differ that much for one prompt, samples of a cell share "
        "their luck (copies, a cache), and what can be won is the latter"
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
    for copy in find_copies(table):
        beside = "" if copy.other is None else f", while they hardly agree with those of {table.space[copy.other]}"
        found.append(
            f"samples of config {copy.config} ({table.space[copy.config]}) agree far more than samples do (within a "
            f"prompt they correlate by {copy.reliability:.2f}){beside}: were they copied (a cache, a seed, a server "
            "that ignores temperature)? Copies are not samples, and count as none in what can be won at least"
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
