"""`estimate_policy`: the value of a policy from a decision log, by the prompts that stand in it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hagpolicy.analysis.logged.value import LoggedValue, estimate_value
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.decisions import UNCHANGED, LoggedDecisions
from hagpolicy.data.traffic import Traffic, list_policies, read_traffic
from hagpolicy.data.trial import DO_TEXT
from hagpolicy.errors import InvalidInput
from hagpolicy.policy.policy import load

if TYPE_CHECKING:
    from hagpolicy.policy.policy import Policy

__all__ = ["choose_for", "estimate_policy"]

# Decided together.
_BATCH = 1024


def estimate_policy(
    policy: Policy | str | os.PathLike[str], log: str | os.PathLike[str], *, decided_by: str | None = None
) -> LoggedValue:
    """What a policy would have been worth on the calls of a log; see `estimate_value`.

    Args:
        policy: the policy, or its folder.
        log: of decisions, with the texts of its prompts.
        decided_by: name of the logged policy whose calls are taken; None: the only one in the log.

    Raises:
        InvalidInput: a log without texts, without calls of such a policy or with several policies and none named, or a
            policy that reads vectors.
        StoreError: no log there, a damaged one or one of another version.
        BundleError: no policy there.
    """
    opened = load(Path(policy)) if isinstance(policy, str | os.PathLike) else policy
    if not opened.reads_text:
        do = "Name what makes vectors of texts: load(folder, embed=…)."
        raise InvalidInput("policy", "one that reads texts", "one that takes vectors", do)
    names = list_policies(Path(log))
    if decided_by is None and len(names) > 1:
        raise InvalidInput("log", "decisions of one policy", ", ".join(names), "Name the one whose calls are meant.")
    traffic = read_traffic(Path(log), policy=decided_by or next(iter(names), None), experiment=False)
    return estimate_value(*choose_for(opened, traffic))


def choose_for(policy: Policy, traffic: Traffic) -> tuple[LoggedDecisions, np.ndarray]:
    """The decisions, over a space that has the policy's configs too, and its choice for each call, int64 (n,).

    It chooses among what agrees with the fields that the call had fixed, and leaves the call unchanged where nothing
    does. A call that went out unchanged, or with what is none of the configs, is taken to have done so under it too.

    Args:
        policy: that reads texts.
        traffic: n calls.

    Raises:
        InvalidInput: none of the calls has a text.
    """
    if not any(prompt is not None for prompt in traffic.prompts):
        do = f"Where they may be kept: {DO_TEXT}"
        raise InvalidInput("log", "texts of prompts, which the policy decides by", "digests alone", do)
    decisions = traffic.decisions
    known = {config: index for index, config in enumerate(decisions.space)}
    configs = [*known, *(config for config in policy.space if config not in known)]
    numbers = np.array([configs.index(config) for config in policy.space])
    target = np.full(len(decisions), UNCHANGED)
    for fixed, calls in _group_calls(traffic).items():
        for start in range(0, len(calls), _BATCH):
            part = calls[start : start + _BATCH]
            tasks = [task if (task := traffic.tasks[call]) in policy.manifest.tasks else None for call in part]
            found = policy.decide_batch([traffic.prompts[call] for call in part], json.loads(fixed), task=tasks)
            target[part] = [UNCHANGED if one.index is None else numbers[one.index] for one in found]
    return replace(decisions, space=DecodingSpace(configs)), target


def _group_calls(traffic: Traffic) -> dict[str, list[int]]:
    """Numbers of the calls that the policy decides, by the fields that they had fixed, as JSON."""
    groups: dict[str, list[int]] = {}
    for call in np.flatnonzero(traffic.decisions.chosen != UNCHANGED).tolist():
        if traffic.prompts[call] is not None:
            groups.setdefault(json.dumps(dict(traffic.fixed[call]), sort_keys=True), []).append(call)
    return groups
