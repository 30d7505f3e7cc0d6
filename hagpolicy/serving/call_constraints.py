"""`CallConstraints`: how the constraints of the prompts of one call are met by a wrapped model of transformers."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hagpolicy._extras import require
from hagpolicy.config.constraints import ASK, MASK, RETRY, Constraint
from hagpolicy.data.answers import split_reasoning
from hagpolicy.engines.constraints.attempts import ATTEMPTS, make_attempt_config
from hagpolicy.engines.constraints.check import meets
from hagpolicy.engines.constraints.guide import Guide, Guides, find_infeasible
from hagpolicy.engines.constraints.vocabulary import load_vocabulary
from hagpolicy.errors import EngineError, InvalidInput, MissingExtra
from hagpolicy.serving.constraints import UNMET

if TYPE_CHECKING:
    from hagpolicy.config.config import DecodingConfig
    from hagpolicy.config.space import DecodingSpace
    from hagpolicy.policy.decision import Decision

__all__ = ["CallConstraints", "name_outcome", "read_constraints", "read_limits"]

# What is known of the tokens of a model, by its end tokens: it takes seconds to find, and can be neither copied nor
# pickled, as wrappers are.
_KNOWN: weakref.WeakKeyDictionary[Any, dict[tuple[int, ...], Guides | str]] = weakref.WeakKeyDictionary()
_FINDING = threading.Lock()


def read_constraints(said: Any, count: int) -> list[Constraint | None]:
    """The constraints of the prompts of a call.

    Args:
        said: one for all (a `Constraint`, its mapping or JSON text), or a list of one a prompt; None: none.
        count: of the prompts.

    Raises:
        InvalidInput: one that is none, or not one a prompt.
    """
    if not isinstance(said, list | tuple):
        return [Constraint.parse(said)] * count
    if len(said) != count:
        raise InvalidInput("constraint", f"one for all, or one a prompt, {count}", f"{len(said)}")
    return [Constraint.parse(one) for one in said]


def read_limits(config: Any) -> dict[str, int]:
    """What a `generation_config` says of the length of answers, by the names of `generate`."""
    found = {name: getattr(config, name, None) for name in ("max_new_tokens", "max_length")}
    return {name: value for name, value in found.items() if value is not None}


def name_outcome(outcome: str) -> str:
    """What an outcome is counted as."""
    way, _, rest = outcome.partition("; ")
    found = next((name for name in ("not met", "not checked", "met") if rest.startswith(name)), "")
    return f"{way}_{found.replace(' ', '_')}" if way == RETRY else way


class CallConstraints:
    """The constraints of one call.

    Args:
        constraints: one a prompt; None: it has none.
        model: of transformers.
        tokenizer: of the model.
        settings: the caller's, by the names of `generate`.
        limit: most new tokens, where the caller's settings say none.
        words: whether words can follow those of the prompts.
        alone: why no answer is checked; "": they are.

    Attributes:
        outcomes: one a prompt, as the response header `x-hag-constraint` says it; "" without a constraint.

    Raises:
        InvalidInput: the call says by a function which tokens are allowed, beside a constraint.
    """

    def __init__(
        self,
        constraints: Sequence[Constraint | None],
        model: Any,
        tokenizer: Any,
        settings: Mapping[str, Any],
        *,
        limit: int,
        words: bool = True,
        alone: str = "",
    ) -> None:
        self._constraints, self._model, self._tokenizer = constraints, model, tokenizer
        self._settings, self._limit, self._words, self._alone = settings, limit, words, alone
        self.outcomes = ["" if one is None else UNMET for one in constraints]
        if any(self.outcomes) and settings.get("prefix_allowed_tokens_fn") is not None:
            expected, do = "a call without a form of the answer of its own", "Leave one of them out."
            raise InvalidInput("constraint", expected, "prefix_allowed_tokens_fn", do)
        several = settings.get("num_return_sequences", 1)
        if not alone and several != 1:
            self._alone = "several answers are asked for"

    @property
    def tries(self) -> bool:
        """Whether some answer is to be checked."""
        return RETRY in self.outcomes

    def get(self, number: int) -> Constraint | None:
        """The constraint of a prompt."""
        return self._constraints[number]

    def find_able(self, number: int, space: DecodingSpace, fixed: Mapping[str, Any]) -> np.ndarray | None:
        """bool (n_configs,): configs that meet a prompt's constraint as they say, or do nothing about it; None: all.

        Args:
            number: of the prompt.
            space: of the configs.
            fixed: what the caller set, by field.
        """
        constraint = self._constraints[number]
        if constraint is None:
            return None
        return np.array([not config.constrain or self._can(constraint, config, fixed) for config in space])

    def _can(self, constraint: Constraint, config: DecodingConfig, fixed: Mapping[str, Any]) -> bool:
        if config.constrain == ASK:
            return self._words
        if config.constrain == RETRY:
            return constraint.schema is None or _can_check_schemas()
        # Of sampled beams as many are drawn as there are, and fewer tokens may be left than that.
        sampled = fixed.get("temperature", config.temperature) > 0.0
        beams = fixed.get("num_beams", config.num_beams) > 1
        return not (sampled and beams) and isinstance(self._find_guide(constraint), Guide)

    def _find_guide(self, constraint: Constraint) -> Guide | str:
        """What a constraint allows, or why nobody knows."""
        ends = self._settings.get("eos_token_id")
        ends = self._model.generation_config.eos_token_id if ends is None else ends
        ends = self._tokenizer.eos_token_id if ends is None else ends
        known = () if ends is None else (ends,) if isinstance(ends, int) else tuple(int(end) for end in ends)
        if not known:
            return "the model has no end token"
        with _FINDING:
            guides = _KNOWN.setdefault(self._model, {})
            if known not in guides:
                guides[known] = _load_guides(self._model, self._tokenizer, known)
            found = guides[known]
            return found if isinstance(found, str) else found.get(constraint)

    def mask(
        self, number: int, config: DecodingConfig, ours: Mapping[str, Any]
    ) -> tuple[dict[str, Any], _CallMask | None]:
        """Settings that a masked call has beside others, and its logits processor; nothing where a config masks none.

        Args:
            number: of the prompt.
            config: decided for it.
            ours: what is sent for it, by the names of `generate`.
        """
        constraint = self._constraints[number]
        if constraint is None or config.constrain != MASK:
            return {}, None
        guide = self._find_guide(constraint)
        if isinstance(guide, str):  # the caller fixed what cannot be
            return {}, None
        said = {name: ours.get(name, self._settings.get(name)) for name in ("max_new_tokens", "max_length")}
        if said["max_new_tokens"] is None and said["max_length"] is not None:
            return {}, _CallMask(guide, None, said["max_length"])
        limit = self._limit if said["max_new_tokens"] is None else said["max_new_tokens"]
        return {"max_new_tokens": limit}, _CallMask(guide, limit, None)

    def enter(self, number: int, decision: Decision | None) -> None:
        """Say of a prompt how its constraint is met, before its answer is known."""
        constraint = self._constraints[number]
        if constraint is None or decision is None or decision.reason == "no_config_agrees":
            return
        way = decision.config.constrain
        guide = self._find_guide(constraint) if way == MASK else ""
        if isinstance(guide, Guide):
            self.outcomes[number] = MASK if guide.exact else f"{MASK}; without counting what remains: {guide.why}"
        elif way in (ASK, RETRY):
            self.outcomes[number] = f"{way}; not checked: {self._alone}" if way == RETRY and self._alone else way

    def try_again(
        self,
        decisions: Sequence[Decision | None],
        texts: Sequence[str | None],
        generate: Callable[[dict[int, Decision]], Mapping[int, str | None]],
    ) -> None:
        """Have answers that do not meet their constraint generated again, by the rules of sweeps.

        Args:
            decisions: one a prompt.
            texts: of the answers; None: one that cannot be read.
            generate: the texts of answers anew, by the numbers of their prompts.
        """
        if not self.tries:
            return
        waiting: dict[int, Decision] = {}
        for number, decision in enumerate(decisions):
            if self.outcomes[number] != RETRY or decision is None:
                continue
            if texts[number] is None:
                self.outcomes[number] = f"{RETRY}; not checked: the answer is no single text that can be read"
            elif not self._settle(number, texts[number], 1) and self._may_differ(number, decision):
                waiting[number] = replace(decision, config=make_attempt_config(decision.config))
        for count in range(2, ATTEMPTS + 1):
            if not waiting:
                return
            again = generate(waiting)
            waiting = {number: one for number, one in waiting.items() if not self._settle(number, again[number], count)}

    def _settle(self, number: int, text: str | None, count: int) -> bool:
        """Whether there is to be no other answer: one meets its constraint or cannot be checked, which is told."""
        constraint = self._constraints[number]
        try:
            met = constraint is not None and text is not None and meets(constraint, split_reasoning(text)[1])
        except Exception as error:  # of the library that checks schemas: what it raises is its own
            self.outcomes[number] = f"{RETRY}; not checked: the check failed ({type(error).__name__})"
            return True
        after = "" if met and count == 1 else f" after {count} attempts"
        self.outcomes[number] = f"{RETRY}; {'met' if met else 'not met'}{after}"
        return met

    def _may_differ(self, number: int, decision: Decision) -> bool:
        """Whether another answer may be another than the first."""
        fixed = self._settings.get("do_sample") is False or self._settings.get("temperature") == 0
        if decision.config.temperature == 0.0 and fixed and "temperature" not in decision.overruled:
            self.outcomes[number] = f"{RETRY}; not met; not tried again: the call fixes temperature 0"
            return False
        return True


class _CallMask:
    """Rules tokens out in one call of `generate`, whose prompt's width is known with its first token.

    Args:
        guide: of the constraint of all rows.
        limit: most new tokens; None: what the next leaves.
        length: most tokens with the prompt's.
    """

    def __init__(self, guide: Guide, limit: int | None, length: int | None) -> None:
        self._guide, self._limit, self._length = guide, limit, length
        self._masks: Any = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores (rows, vocabulary) of the tokens that may follow `input_ids` (rows, tokens)."""
        if self._masks is None:
            width = input_ids.shape[1]
            limit = max((self._length or 0) - width, 1) if self._limit is None else self._limit
            if reason := find_infeasible(self._guide, limit):
                do = "Raise max_new_tokens, or let the constraint be shorter."
                raise InvalidInput("constraint", f"one that can be met within {limit} new tokens", reason, do)
            masks = require("hagpolicy.engines.transformers.masks", "sweep", "a constraint met by masks")
            self._masks = masks.GuideProcessor(self._guide, width, limit)
        masked = self._masks(input_ids, scores)
        lost = masked.amax(dim=1) == -math.inf
        if bool(lost.any()):
            # Other settings, such as a ban of repeated n-grams, leave no way to meet it: they give way.
            masked[lost] = self._masks(input_ids[lost], masked.new_zeros(masked[lost].shape))
        return masked


def _load_guides(model: Any, tokenizer: Any, ends: tuple[int, ...]) -> Guides | str:
    layer = model.get_output_embeddings()
    if layer is None:
        return "the model has no output layer of tokens"
    try:
        return Guides(load_vocabulary(tokenizer, list(ends), layer.weight.shape[0]))
    except (EngineError, MissingExtra) as error:
        return str(error)


def _can_check_schemas() -> bool:
    try:
        require("jsonschema", "sweep", "a constraint that is a JSON schema", "or [http]")
    except MissingExtra:
        return False
    return True
