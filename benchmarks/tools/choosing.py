"""What a policy over more than sampling wins: the figures that the studies of artefacts share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import hagpolicy as hag
from benchmarks.tools.record import Figure, figure
from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.config.fields import split_pin


def measure_choice(
    table: hag.SweepTable, policy: hag.Policy, *, at_least: float | None = None, low_above: float | None = None
) -> list[Figure]:
    """Every config's mean, then the policy over what runs today, the single best config and the best per task, told.

    Args:
        table: that the policy was fitted on.
        policy: of `fit`.
        at_least: target of the gain over the single best config, where a per-prompt policy is to be proven.
        low_above: target of the lower end of policy minus the best per task.
    """
    evaluation = policy.evaluation
    assert evaluation is not None
    assert evaluation.per_prompt is not None
    candidate = evaluation.candidate
    assert candidate is not None
    kept = table.take(np.isin([prompt.digest for prompt in table.prompts], evaluation.per_prompt.prompts))
    figures = [figure(f"mean reward: {_name(config)}", mean, unit="reward") for config, mean in _means(kept)]
    for name in ("engine_default", "sbs", "best_per_task", "policy", "split_vbs", "naive_vbs"):
        if any(row.name == name for row in evaluation.rows):
            row = evaluation.row(name)
            figures.append(figure(name, row.value, row.low, row.high, unit="reward"))
    gain = candidate.gain
    over = "what runs today" if candidate.over == "default" else "the single best config"
    title = f"best per-prompt candidate over {over}"
    figures.append(figure(title, gain.value, gain.low, gain.high, unit="reward", at_least=at_least))
    figures.append(figure("a per-prompt policy is proven", float(candidate.shipped), unit="yes = 1"))
    if evaluation.sbs_over_default is not None:
        single = evaluation.sbs_over_default
        figures.append(figure("single best over what runs today", single.value, single.low, single.high, unit="reward"))
    figures.append(_compare_told(kept, evaluation, low_above))
    return figures


def _compare_told(table: hag.SweepTable, evaluation: hag.Evaluation, low_above: float | None) -> Figure:
    """Policy minus the best config per task, told, paired over groups."""
    values = evaluation.per_prompt
    assert values is not None
    difference = values.values["policy"] - values.values["best_per_task"]
    gain = GroupBootstrap(table.groups, seed=0).mean(difference)
    found = figure("policy minus best per task, told", gain.value, gain.low, gain.high, unit="reward")
    if low_above is None:
        return found
    met = gain.low > low_above
    return Figure(found.name, found.value, found.low, found.high, found.unit, f"lower end > {low_above:g}", met)


def _means(table: hag.SweepTable) -> Sequence[tuple[hag.DecodingConfig, float]]:
    return list(zip(table.space, np.nanmean(table.means, axis=0).tolist(), strict=True))


def _name(config: hag.DecodingConfig) -> str:
    """The config without the digests of what it names."""
    values = config.to_dict()
    return " ".join(
        f"{key}={split_pin(value)[0] if isinstance(value, str) else value}" for key, value in values.items()
    )
