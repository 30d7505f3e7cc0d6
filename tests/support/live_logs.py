"""Decision logs of made-up traffic: sums and lists, under a policy that gives all of them what runs today."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy.data.decision_log import DecisionLog, LoggedCall, LoggedPolicy, open_log, transaction
from tests.support.making import LISTS, SPACE, SUMS

TODAY = 3
LOGGED = LoggedPolicy("today", "0" * 32, SPACE, today=TODAY)


def reward_of(prompt: str, config: int) -> float:
    """What a prompt's answer is worth under a config: sums want the first one, lists the one numbered 4."""
    return 1.0 if config == (0 if prompt in SUMS else 4) else 0.25


def write_log(path: Path, n: int, explore: float = 0.5, *, text: bool = True, seed: int = 0, **more: Any) -> Path:
    """A log of n calls with their rewards, so much of them drawn among all configs; `more` is of every call."""
    rng = np.random.default_rng(seed)
    log = DecisionLog(path, text=text)
    prompts = [*SUMS, *LISTS]
    rewards = []
    for number in range(n):
        prompt = prompts[int(rng.integers(len(prompts)))]
        explored = bool(rng.random() < explore)
        chosen = int(rng.integers(len(SPACE))) if explored else TODAY
        propensity = explore / len(SPACE) + (1.0 - explore) * (chosen == TODAY)
        given = {"policy": LOGGED, "prompt": prompt, "unit": f"{number // 2}", "time": 100.0 + number, **more}
        if explore:
            given |= {"choices": len(SPACE), "explored": explored}
        log.add(LoggedCall(f"{number}", "explored", chosen=chosen, intended=TODAY, propensity=propensity, **given))
        rewards.append((f"{number}", reward_of(prompt, chosen)))
    log.close()
    add_rewards(path, rewards)
    return path


def write_experiment(path: Path, n: int, gain: float, *, by_request: bool = True, seed: int = 0) -> Path:
    """A log of n calls, each a unit, of which half are the policy's, whose answers are worth `gain` more."""
    rng = np.random.default_rng(seed)
    log = DecisionLog(path)
    rewards = []
    for number in range(n):
        arm = "policy" if rng.random() < 0.5 else "default"
        given = {"policy": LOGGED, "chosen": 0 if arm == "policy" else None, "arm": arm, "share": 0.5}
        call = LoggedCall(
            f"{number}", "explored", unit=f"{number}", by_request=by_request, time=100.0 + number, **given
        )
        log.add(call)
        rewards.append((f"{number}", 0.5 + gain * (arm == "policy") + 0.1 * float(rng.random())))
    log.close()
    add_rewards(path, rewards)
    return path


def add_rewards(path: Path, rewards: list[tuple[str, float]]) -> None:
    """Add rewards of calls, by their ids, all at once."""
    with open_log(path, write=True) as connection, transaction(connection):
        connection.executemany("INSERT INTO rewards (call, reward, time) VALUES (?, ?, 0)", rewards)
