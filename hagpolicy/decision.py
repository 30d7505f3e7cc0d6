"""`Decision`: what a policy chose for a prompt, and why; the decision rule under fixed fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hagpolicy.config import DecodingConfig
from hagpolicy.dialects import PromptLike, Rendering, Unsupported

if TYPE_CHECKING:
    from hagpolicy.dial import Setting
    from hagpolicy.space import DecodingSpace

Reason = Literal[
    "best_by_margin", "reference_best", "within_margin", "unlike_training", "no_config_agrees", "sbs_shipped"
]

_SENTENCES: dict[str, str] = {
    "best_by_margin": "its expected reward exceeds that of the best config on average by more than the margin",
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
        value: expected reward, or what else the policy was fitted for; None when no config agrees.
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
        return f"{self.config} (expected reward {self.value:.3f}, {self.advantage:+.3f}): {self.explanation}"


def choose(
    space: DecodingSpace,
    setting: Setting,
    heads: np.ndarray,
    novelty: float,
    fixed: Mapping[str, Any] | None,
    prompt: PromptLike | None,
    costs: np.ndarray | None = None,
) -> Decision:
    """The one decision rule with some fields fixed; with none, the same as the graph's `choice`.

    Args:
        space: the configs.
        setting: weights, means, margin and gate at the dial's position.
        heads: float32 (n_heads, n_configs), from the graph.
        novelty: from the graph.
        fixed: fields the caller has set; agreement is asked for fields that differ within the space,
            a field equal in all configs is replaced.
        prompt: the prompt's content.
        costs: (n_configs,), expected cost of each config in its own unit.

    Raises:
        InvalidInput: a fixed field that does not exist or is out of range.
    """
    values = setting.values(heads)
    reference, best = setting.reference, int(values.argmax())
    if fixed:
        allowed = space.agreeing(fixed)
        if not allowed.any():
            return Decision(DecodingConfig.from_dict(fixed), None, None, None, "no_config_agrees", prompt)
        reference = int(np.where(allowed, setting.means, -np.inf).argmax())
        best = int(np.where(allowed, values, np.float32(-np.inf)).argmax())
    # In float32, as in the graph: float64 would decide otherwise at the margin itself.
    gain = values[best] - values[reference]
    reason: Reason
    if not setting.ships:
        reason, index = "sbs_shipped", reference
    elif not novelty <= 1.0:
        reason, index = "unlike_training", reference
    elif gain > np.float32(setting.margin):
        reason, index = "best_by_margin", best
    else:
        reason, index = ("within_margin" if gain > 0 else "reference_best"), reference
    config = space[index].replace(**fixed) if fixed else space[index]
    advantage = float(values[index] - values[reference])
    cost = None if costs is None else float(costs[index])
    return Decision(config, index, float(values[index]), advantage, reason, prompt, cost)
