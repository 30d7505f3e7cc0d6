"""`evaluate`: how a policy does on another table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hagpolicy.analysis.checks import require_table
from hagpolicy.analysis.comparison import compare
from hagpolicy.analysis.objectives import get_objectives
from hagpolicy.analysis.prepare import prepare
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput
from hagpolicy.policy.policy import Policy, load
from hagpolicy.results import Evaluation, PromptValues


def evaluate(
    policy: Policy | str | Path, table: SweepTable, *, price: float | None = None, n: int | None = None, seed: int = 0
) -> Evaluation:
    """A policy compared with baselines on prompts it was not trained on.

    Nothing is chosen here: SBS and the best config of each task are those of the training prompts,
    so intervals are plain paired bootstraps over groups.

    Args:
        policy: any policy, fitted or loaded, or the folder of one.
        table: a sweep with at least the configs of the policy's space; prompts that were trained on,
            or that lack a config, are left out and counted.
        price: one of the prices that the policy was fitted for; None: the first.
        n: one of the numbers of answers that the policy was fitted for; None: the first.
        seed: of the bootstrap and of the split-sample VBS.

    Raises:
        InvalidInput: no policy, a config of the policy is not in the table, fewer than two prompts are left, or a
            price or n that is none of the dial's points.
    """
    policy = _open(policy)
    point = policy.dial.point(price, n)
    objectives = get_objectives(policy.dial.points[point].objective)
    view = require_table(table).in_space(policy.space)
    fresh = view.take(~policy.trained_on(view.prompts))
    if len(fresh.prompts) < 2:
        got = f"{len(fresh.prompts)} of {len(view.prompts)}"
        raise InvalidInput("table", "at least two prompts that were not trained on", got, "Sweep new prompts.")
    prepared = prepare(fresh, objectives, seed)
    kept, boot = prepared.table, prepared.boot
    rule = policy.dial.rule_at(price, n)
    fixed = np.tile(np.arange(len(policy.space)) == rule.sbs, (len(kept.prompts), 1)).astype(np.float64)
    comparison = compare(prepared, sbs=fixed)
    decisions = policy.decide_batch(kept.prompts, price=price, n=n)
    chosen = np.array([decision.index for decision in decisions])
    best = policy.task_best[point]
    per_task = np.array([best.get(task, rule.sbs) for task in kept.tasks]) if len(best) > 1 else None
    stands = {"default": "ships the default", "single_best": "ships the single best config"}
    note = stands.get(rule.ships, policy.learner)
    rows, values = comparison.build_rows(per_task, {"policy": comparison.score_choices(chosen, note)})
    default = None if view.default is None else boot.mean(comparison.sbs_values - comparison.Y[:, view.default])
    unlike = [decision.reason == "unlike_training" for decision in decisions]
    return Evaluation(
        rows,
        None,
        default,
        n_prompts=len(kept.prompts),
        n_groups=boot.n_groups,
        n_left_out=len(table.prompts) - len(kept.prompts),
        fallbacks=float(np.mean(unlike)),
        warnings=(*prepared.warnings, *_check_fingerprint(policy, table)),
        objective=objectives[0].name,
        cost_unit=comparison.cost_unit,
        per_prompt=PromptValues(tuple(prompt.digest for prompt in kept.prompts), values),
    )


def _check_fingerprint(policy: Policy, table: SweepTable) -> list[str]:
    """The warning for a table of another engine than the policy's, none where either is unknown."""
    if policy.fingerprint and table.fingerprint and policy.fingerprint != dict(table.fingerprint):
        return ["the table comes from another engine than the one the policy was fitted for"]
    return []


def _open(given: object) -> Policy:
    """The policy that is given, or that of a folder."""
    if isinstance(given, Policy):
        return given
    if isinstance(given, (str, Path)):
        return load(given)
    do = "Two of them are compared by hag.compare(a, b, table)."
    raise InvalidInput("policy", "a Policy, or the folder of one", given, do)
