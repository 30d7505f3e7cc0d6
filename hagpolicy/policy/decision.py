"""`Decision`: what a policy chose for a prompt, and why; the decision rule under fixed fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.render import PromptLike, Rendering, Unsupported
from hagpolicy.config.space import DecodingSpace
from hagpolicy.policy.dial import DecisionRule

Reason = Literal[
    "best_by_margin", "reference_best", "within_margin", "unlike_training", "no_config_agrees", "sbs_shipped"
]

_SENTENCES: dict[str, str] = {
    "best_by_margin": "its expected value exceeds that of the best config on average by more than the margin",
    "reference_best": "the best config on average is expected to be best here too",
    "within_margin": "another config looks better, but not by more than the margin: the best on average stands",
    "unlike_training": "the prompt is unlike everything seen in training: the best config on average stands",
    "no_config_agrees": "no config of the space agrees with what is fixed: the caller's fields over neutral values",
    "sbs_shipped": "nothing per prompt was proven in training: the best config on average",
}


@dataclass(frozen=True)
class Decision:
    """What a policy chose for one prompt.

    Attributes:
        config: the chosen configuration, the caller's fixed fields included.
        index: its number in the space; None when no config agrees with what is fixed.
        value: expected value, which is the reward unless the policy was fitted for something else; None when no
            config agrees.
        advantage: over the best config on average (SBS; under `fixed`, the best one that agrees), in
            the same unit; None when no config agrees.
        reason: a short code; `explanation` says it in words.
        prompt: the prompt's content; None where the policy was given a bare vector.
        cost: expected new tokens or seconds of one answer, where the policy was fitted with prices.
    """

    config: DecodingConfig
    index: int | None
    value: float | None
    advantage: float | None
    reason: Reason
    prompt: PromptLike | None
    cost: float | None = None

    @property
    def explanation(self) -> str:
        """The reason as a plain sentence."""
        return _SENTENCES[self.reason]

    def render(self, engine: str, unsupported: Unsupported = "error") -> Rendering:
        """Prompt with the hint, settings and receipt in an engine's words; see `DecodingConfig.render`."""
        return self.config.render(engine, "" if self.prompt is None else self.prompt, unsupported=unsupported)

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.config}: {self.explanation}"
        return f"{self.config} (expected value {self.value:.3f}, {self.advantage:+.3f}): {self.explanation}"


def choose_index(
    rule: DecisionRule, values: np.ndarray, ood_score: float, allowed: np.ndarray | None = None
) -> tuple[int, int, Reason]:
    """Indices of the chosen config and of the reference, and the reason; with everything allowed, the graph's `choice`.

    Args:
        rule: means, margin and gate at the dial's position.
        values: float32 (n_configs,), the setting's.
        ood_score: out-of-distribution score, from the graph: above 1 for a prompt unlike the training prompts.
        allowed: bool (n_configs,), at least one of them; None: all.

    Returns:
        The chosen config's index, the reference's, and the reason.
    """
    reference, best = rule.reference, int(values.argmax())
    if allowed is not None:
        reference = int(np.where(allowed, rule.means, -np.inf).argmax())
        best = int(np.where(allowed, values, np.float32(-np.inf)).argmax())
    if not rule.ships:
        return reference, reference, "sbs_shipped"
    if not ood_score <= 1.0:
        return reference, reference, "unlike_training"
    # In float32, as in the graph: float64 would decide otherwise at the margin itself.
    gain = values[best] - values[reference]
    if gain > np.float32(rule.margin):
        return best, reference, "best_by_margin"
    return reference, reference, "within_margin" if gain > 0 else "reference_best"


def decide(
    space: DecodingSpace,
    rule: DecisionRule,
    heads: Sequence[np.ndarray] | np.ndarray,
    ood_score: float,
    fixed: Mapping[str, Any] | None,
    prompt: PromptLike | None,
    costs: np.ndarray | None = None,
) -> Decision:
    """The decision for one prompt, with some fields fixed or none.

    Args:
        space: the configs.
        rule: weights, means, margin and gate at the dial's position.
        heads: n_heads of float32 (n_configs,), from the graph.
        ood_score: out-of-distribution score, from the graph: above 1 for a prompt unlike the training prompts.
        fixed: fields the caller has set; agreement is asked for fields that differ within the space,
            a field equal in all configs is replaced.
        prompt: the prompt's content.
        costs: (n_configs,), expected cost of each config in its own unit.

    Raises:
        InvalidInput: a fixed field that does not exist or is out of range.
    """
    allowed = space.agreeing(fixed) if fixed else None
    if fixed and allowed is not None and not allowed.any():
        return Decision(DecodingConfig.from_dict(fixed), None, None, None, "no_config_agrees", prompt)
    values = rule.values(heads)
    index, reference, reason = choose_index(rule, values, ood_score, allowed)
    config = space[index].replace(**fixed) if fixed else space[index]
    advantage = float(values[index] - values[reference])
    cost = None if costs is None else float(costs[index])
    return Decision(config, index, float(values[index]), advantage, reason, prompt, cost)
