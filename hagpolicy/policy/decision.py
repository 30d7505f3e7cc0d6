"""`Decision`: what a policy chose for a prompt, and why; the decision rule under fixed fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, isnan
from typing import Any, Literal

import numpy as np

from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.render import PromptLike, Rendering, Unsupported
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.ties import choose_best
from hagpolicy.errors import BundleError
from hagpolicy.policy.dial import DecisionRule
from hagpolicy.policy.reading import Refusal

Reason = Literal[
    "best_by_margin",
    "reference_best",
    "within_margin",
    "unlike_training",
    "no_config_agrees",
    "sbs_shipped",
    "default_shipped",
    "default_changed",
    "unreadable",
    "needs_context",
    "unseen_form",
    "explored",
]

_SENTENCES: dict[str, str] = {
    "best_by_margin": "its expected value exceeds that of the reference by more than the margin",
    "reference_best": "the reference, which stands for prompts in general, is expected to be best here too",
    "within_margin": "another config looks better, but not by more than the margin: the reference stands",
    "unlike_training": "the prompt is unlike everything seen in training: the reference stands",
    "unreadable": "there is nothing to read in the prompt: the reference stands",
    "needs_context": "the last message says nothing without what was said before: the reference stands",
    "unseen_form": "system message or number of turns are unlike those in training: the reference stands",
    "no_config_agrees": "no config of the space agrees with what is fixed: the caller's fields over neutral values",
    "sbs_shipped": "nothing per prompt was proven in training: the best config on average",
    "default_shipped": "nothing was proven in training over what runs today: the default",
    "explored": "another config than the policy's own was drawn, to learn from its answer",
    "default_changed": "nothing was proven in training over what runs today: the default, with what is fixed in place",
}


@dataclass(frozen=True)
class Decision:
    """What a policy chose for one prompt.

    Attributes:
        config: the chosen configuration, the caller's fixed fields included.
        index: its number in the space; None where it is none of the space, because of what is fixed.
        value: expected value, which is the reward unless the policy was fitted for something else; None without an
            index.
        advantage: over the policy's reference (under `fixed`, where that does not agree, over the best config on
            average that does), in the same unit; None without an index.
        reason: a short code; `explanation` says it in words.
        prompt: the prompt's content; None where the policy was given a bare vector.
        cost: expected new tokens or seconds of one answer, where the policy was fitted with prices.
        task: that was told and that the policy knows; None: none, or one that it does not know.
        overruled: fields that the caller had set and the policy decided all the same, with the caller's values; see
            `hagpolicy.wrap`.
        unavailable: fields that could not be honoured in this call, with why: no config that sets one was chosen.
    """

    config: DecodingConfig
    index: int | None
    value: float | None
    advantage: float | None
    reason: Reason
    prompt: PromptLike | None = field(repr=False)  # who prints a decision or a receipt puts no prompt into a log
    cost: float | None = None
    task: str | None = None
    overruled: Mapping[str, Any] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)

    @property
    def explanation(self) -> str:
        """The reason as a plain sentence."""
        return _SENTENCES[self.reason]

    def render(self, engine: str, unsupported: Unsupported = "error") -> Rendering:
        """Prompt with the hint, settings and receipt in an engine's words; see `DecodingConfig.render`."""
        made = self.config.render(engine, "" if self.prompt is None else self.prompt, unsupported=unsupported)
        if not (self.overruled or self.unavailable):
            return made
        notes = {**made.receipt.notes, **self.unavailable}
        return replace(made, receipt=replace(made.receipt, overruled=dict(self.overruled), notes=notes))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able mapping for logs: all but the prompt, whose text a log may not hold."""
        return {
            "config": self.config.to_dict(),
            "index": self.index,
            "value": self.value,
            "advantage": self.advantage,
            "reason": self.reason,
            "explanation": self.explanation,
            "cost": self.cost,
            "task": self.task,
            "overruled": dict(self.overruled),
            "unavailable": dict(self.unavailable),
        }

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.config}: {self.explanation}"
        return f"{self.config} (expected value {self.value:.3f}, {self.advantage:+.3f}): {self.explanation}"


def choose_index(
    rule: DecisionRule,
    values: np.ndarray,
    ood_score: float,
    allowed: np.ndarray | None = None,
    refusal: Refusal | None = None,
) -> tuple[int, int, Reason]:
    """Indices of the chosen config and of the reference, and the reason; with everything allowed, the graph's `choice`.

    This is the one place that decides, for `predict` and `decide` alike.

    Args:
        rule: means, margin and gate at the dial's position.
        values: float32 (n_configs,), the setting's.
        ood_score: out-of-distribution score, from the graph: above 1 for a prompt unlike the training prompts.
        allowed: bool (n_configs,), at least one of them; None: all.
        refusal: why the prompt is not read; None: it is.

    Returns:
        The chosen config's index, the reference's, and the reason.

    Raises:
        BundleError: a value that the decision rests on is NaN or infinite.
    """
    reference, best = rule.reference, int(values.argmax())
    if allowed is not None:
        if not allowed[reference]:
            reference = int(choose_best(np.where(allowed, rule.means, -np.inf)))
        best = int(np.where(allowed, values, np.float32(-np.inf)).argmax())
    # In float32, as in the graph: float64 would decide otherwise at the margin itself. NaN counts as the largest value.
    highest, usual = values[best], values[reference]
    if not (isfinite(highest) and isfinite(usual)) or isnan(ood_score):
        raise BundleError(
            "policy.onnx: expected finite values, got NaN or infinity: the graph or the vector is damaged"
        )
    if rule.ships != "per_prompt":
        return reference, reference, "default_shipped" if rule.ships == "default" else "sbs_shipped"
    if refusal is not None:
        return reference, reference, refusal
    if not ood_score <= 1.0:
        return reference, reference, "unlike_training"
    gain = highest - usual
    if gain > np.float32(rule.margin):
        return best, reference, "best_by_margin"
    return reference, reference, "within_margin" if gain > 0 else "reference_best"


def find_allowed(space: DecodingSpace, fixed: Mapping[str, Any] | None, among: np.ndarray | None) -> np.ndarray | None:
    """bool (n_configs,): those that agree with what is fixed and can be had; None: all."""
    if not fixed:
        return among
    agreeing = space.agreeing(fixed)
    return agreeing if among is None else agreeing & among


def decide(
    space: DecodingSpace,
    rule: DecisionRule,
    heads: Sequence[np.ndarray] | np.ndarray,
    ood_score: float,
    fixed: Mapping[str, Any] | None,
    prompt: PromptLike | None,
    costs: np.ndarray | None = None,
    *,
    refusal: Refusal | None = None,
    task: str | None = None,
    among: np.ndarray | None = None,
) -> Decision:
    """The decision for one prompt, with some fields fixed or none.

    Fields that are fixed leave the configs that agree with them. Where nothing is proven over what runs today and that
    does not agree, no other config is chosen in its place: it stands with the caller's fields, as it would today.

    Args:
        space: the configs.
        rule: weights, means, margin and gate at the dial's position.
        heads: n_heads of float32 (n_configs,), from the graph.
        ood_score: out-of-distribution score, from the graph: above 1 for a prompt unlike the training prompts.
        fixed: fields the caller has set, artefacts by name alone too (`DecodingSpace.pin`); agreement is asked for
            fields that differ within the space,
            a field equal in all configs is replaced.
        prompt: the prompt's content.
        costs: (n_configs,), expected cost of each config in its own unit.
        refusal: why the prompt is not read; the reference stands.
        task: that was told, if the policy knows it.
        among: bool (n_configs,), the configs that can be had at all; None: all.

    Raises:
        InvalidInput: a fixed field that does not exist or is out of range.
    """
    fixed = space.pin(fixed) if fixed else fixed
    allowed = find_allowed(space, fixed, among)
    if allowed is not None:
        stands = space[rule.reference]
        held = rule.ships == "default" and not allowed[rule.reference]
        # A default that sends no settings has none to put the caller's in place of: they are sent alone, as today.
        # One that cannot be had is not sent either, whatever is fixed.
        if held and fixed and not stands.unset and (among is None or among[rule.reference]):
            return Decision(stands.replace(**fixed), None, None, None, "default_changed", prompt, task=task)
        if held or not allowed.any():
            own = DecodingConfig.from_dict(fixed or {})
            return Decision(own, None, None, None, "no_config_agrees", prompt, task=task)
    values = rule.values(heads)
    index, reference, reason = choose_index(rule, values, ood_score, allowed, refusal)
    config = space[index].replace(**fixed) if fixed else space[index]
    advantage = float(values[index] - values[reference])
    cost = None if costs is None else float(costs[index])
    if cost is not None and not isfinite(cost):
        raise BundleError(
            "policy.onnx: expected a finite cost, got NaN or infinity: the graph or the vector is damaged"
        )
    return Decision(config, index, float(values[index]), advantage, reason, prompt, cost, task)
