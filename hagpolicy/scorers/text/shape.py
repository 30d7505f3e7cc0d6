"""Scorers of form and cost: `json_valid`, `brevity`, and `chrf` for likeness to a reference."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hagpolicy._checks import is_whole
from hagpolicy._extras import require
from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.scorers.text.base import ReferenceScorer, format_options


@dataclass(frozen=True)
class JsonValid(ReferenceScorer[tuple[str, ...]]):
    """1 where the whole answer is a JSON object or array, else 0; one code fence around it is allowed.

    With a reference (a list of keys, or a mapping that has them) the answer must be an object, and
    the reward of valid JSON is the share of these keys it has, whatever their values (`json_match` compares these).
    NaN and Infinity are no JSON.
    """

    name = "json_valid"

    def read_reference(self, prompt: Prompt) -> tuple[str, ...]:
        """The required keys; none without a reference."""
        reference = prompt.reference
        if reference is None:
            return ()
        if isinstance(reference, (list, Mapping)) and reference and all(isinstance(key, str) for key in reference):
            return tuple(dict.fromkeys(reference))
        raise self.reject("none, a list of required keys or a mapping that has them", reference)

    def score_text(self, text: str, wanted: tuple[str, ...]) -> Score:
        """1.0 or 0.0, or the share of the keys."""
        text = text.strip(" \t\r\n\u00a0\ufeff")
        try:
            value = json.loads(drop_fence(text), parse_constant=refuse_constant)
        except (ValueError, RecursionError):
            return Score(0.0)
        if not wanted:
            return Score(float(isinstance(value, (dict, list))))
        return Score(sum(key in value for key in wanted) / len(wanted) if isinstance(value, dict) else 0.0)


def drop_fence(text: str) -> str:
    """What stands in the code fence around a text, else the text."""
    sign = text[:1]
    if len(text) < 6 or text[:3] not in ("```", "~~~") or text[-3:] != text[:3]:
        return text
    inside = text.strip(sign)
    info, line, rest = inside.partition("\n")
    if line and not info.lstrip().startswith(("{", "[")):
        return rest
    return re.sub(r"\A[A-Za-z]{0,20}[ \t]*", "", inside)


def refuse_constant(constant: str) -> Any:
    """Raise ValueError for what Python reads beside JSON."""
    raise ValueError(f"{constant} is no JSON")


@dataclass(frozen=True)
class Chrf(ReferenceScorer[tuple[str, ...]]):
    """Sentence-level chrF (Popović 2015) through sacrebleu, divided by 100: in [0, 1].

    The reference is a text or a list of texts, the likest of which counts.

    Attributes:
        word_order: length of the word n-grams beside the character n-grams; 2 is chrF++.
    """

    word_order: int = 0

    name = "chrf"
    needs_reference = True

    def __post_init__(self) -> None:
        if not is_whole(self.word_order, 0, 4):
            raise InvalidInput("chrf.word_order", "a whole number in [0, 4]", self.word_order)
        super().__post_init__()

    def read_reference(self, prompt: Prompt) -> tuple[str, ...]:
        """The references."""
        texts = prompt.reference if isinstance(prompt.reference, list) else [prompt.reference]
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise self.reject("text or a list of texts", prompt.reference)
        return tuple(texts)

    def score_text(self, text: str, wanted: tuple[str, ...]) -> Score:
        """chrF / 100."""
        score = _load_metric(self.word_order).sentence_score(text, list(wanted)).score / 100.0
        return Score(min(max(float(score), 0.0), 1.0))


@lru_cache(maxsize=8)
def _load_metric(word_order: int) -> Any:
    return require("sacrebleu", "sweep", "the scorer chrf").metrics.CHRF(word_order=word_order)


@dataclass(frozen=True)
class Brevity(Scorer):
    """Length as a cost: 1 − new tokens / budget, at least 0. Meant as a part of a weighted combination.

    Attributes:
        budget: tokens at which the reward is 0, [1, inf).
        free: tokens that cost nothing, [0, budget).
    """

    budget: int = 256
    free: int = 0

    name = "brevity"

    def __post_init__(self) -> None:
        high = 10**9
        for option, low in (("budget", 1), ("free", 0)):
            value = getattr(self, option)
            if not is_whole(value, low, high):
                raise InvalidInput(f"brevity.{option}", f"a whole number in [{low}, {high}]", value)
            high = self.budget - 1
        object.__setattr__(self, "version", f"1{format_options(self)}")

    def score(self, items: Sequence[tuple[Prompt, Completion]]) -> list[Score]:
        """Rewards; unscored where a text came without its number of tokens."""
        return [self._score_one(completion) for _, completion in items]

    def _score_one(self, completion: Completion) -> Score:
        if not completion.tokens >= (1 if completion.text else 0):
            return Score.unscored("the completion has no number of tokens")
        spent = max(completion.tokens - self.free, 0) / (self.budget - self.free)
        return Score(max(1.0 - spent, 0.0))
