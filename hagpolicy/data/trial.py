"""A table of live calls that drew their configs, for the same gate as a sweep's.

Each such call is a random trial of one config of several, all as likely. Its row holds the reward in the cell of the
config that was drawn, and one level, the mean reward of all, in the others: then a cell's mean is expected to differ
from the level by a share 1 / choices of what the config gains over it, whatever the prompt, so that differences between
configs are estimated without bias (`analysis.objectives.heads.DrawnReward` undoes the share). Calls that the policy
decided are left out: they say little of configs that it does not choose, and nothing without weights.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from hagpolicy._digest import canonical_json
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.table import SweepTable
from hagpolicy.data.traffic import Traffic
from hagpolicy.errors import InvalidInput

__all__ = ["DO_TEXT", "LIVE_REWARDS", "Trial", "build_trial"]

LIVE_REWARDS = "live rewards, whole under"
"""What the scorers of such a table begin with; their objective follows."""

DO_TEXT = "Keep texts from now on: `hagpolicy serve --log-text`, wrap(…, log_text=True), or HAGPOLICY_LOG_TEXT=1."
"""What to do where a log has no texts of prompts."""
_DO_EXPLORE = "Explore: `hagpolicy serve --explore 0.05`, wrap(…, explore=0.05), or HAGPOLICY_EXPLORE=0.05."
_DO_REWARD = "Send rewards: `hagpolicy reward ID VALUE --log FILE`, or POST /hag/reward."


@dataclass(frozen=True, eq=False)
class Trial:
    """Live calls that drew their configs.

    Attributes:
        table: a row for each prompt of a unit, a sample for each of its calls.
        calls: how many there are.
        choices: configs that were drawn among: those of the table's space.
        level: what the cells that were not drawn hold.
    """

    table: SweepTable
    calls: int
    choices: int
    level: float

    @property
    def objective(self) -> str:
        """The objective under which differences in the table are differences in reward, as text."""
        return _write_objective(self.level, self.choices)


def _write_objective(level: float, choices: int) -> str:
    return f"drawn:{level!r}@{choices}"


def build_trial(traffic: Traffic) -> Trial:
    """The trial that the explored calls of a log are.

    Of the calls that explored, those that fixed no field and have a text and a reward. Calls of one unit stay together.

    Raises:
        InvalidInput: there are none of them, a config was never drawn, or they drew among the configs of several
            policies; the message says what is missing and how to switch it on.
    """
    free = np.array([not fields for fields in traffic.fixed])
    kept = traffic.explored & free
    if not kept.any():
        raise InvalidInput("log", "calls that explored and fixed no setting", f"none of {len(kept)}", _DO_EXPLORE)
    choices = Counter(traffic.choices[kept].tolist()).most_common(1)[0][0]
    kept &= traffic.choices == choices
    texts = np.array([prompt is not None for prompt in traffic.prompts])
    if not (kept & texts).any():
        raise InvalidInput("log", "texts of the calls that explored", f"none of {kept.sum()}", DO_TEXT)
    kept &= texts
    rewarded = ~np.isnan(traffic.decisions.reward)
    if not (kept & rewarded).any():
        raise InvalidInput("log", "rewards of the calls that explored", f"none of {kept.sum()}", _DO_REWARD)
    return _lay_out(traffic, np.flatnonzero(kept & rewarded), choices)


def _lay_out(traffic: Traffic, calls: np.ndarray, choices: int) -> Trial:
    """The trial of some calls, which drew among so many configs."""
    decisions = traffic.decisions
    places = np.unique(decisions.chosen[calls])
    if len(places) != choices:
        do = "Wait for more calls." if len(places) < choices else "Name one policy: --decided-by NAME."
        raise InvalidInput("log", f"calls that drew each of {choices} configs", f"{len(places)} configs drawn", do)
    prompts: dict[Any, Prompt] = {}
    rows, samples = np.empty(len(calls), dtype=np.int64), np.empty(len(calls), dtype=np.int64)
    numbers: dict[Any, int] = {}
    seen: Counter[int] = Counter()
    for at, call in enumerate(calls.tolist()):
        prompt, task, unit = traffic.prompts[call], traffic.tasks[call] or "", f"unit {decisions.unit[call]}"
        key = (canonical_json(prompt), task, unit)
        if key not in numbers:
            numbers[key] = len(numbers)
            prompts[key] = Prompt(prompt, task=task, group=unit)
        rows[at] = numbers[key]
        samples[at] = seen[numbers[key]]
        seen[numbers[key]] += 1
    level = float(decisions.reward[calls].mean())
    rewards = np.full((len(prompts), choices, max(seen.values())), np.nan)
    rewards[rows, :, samples] = level
    rewards[rows, np.searchsorted(places, decisions.chosen[calls]), samples] = decisions.reward[calls]
    today = {int(place) for place in traffic.today[calls]} & set(places.tolist())
    objective = _write_objective(level, choices)
    table = SweepTable(
        tuple(prompts.values()),
        DecodingSpace([decisions.space[int(place)] for place in places]),
        rewards,
        default=int(np.searchsorted(places, next(iter(today)))) if len(today) == 1 else None,
        fingerprint=traffic.fingerprint,
        max_tokens=traffic.max_tokens,
        scorers={prompt.task: f"{LIVE_REWARDS} {objective}" for prompt in prompts.values()},
    )
    return Trial(table, len(calls), choices, level)
