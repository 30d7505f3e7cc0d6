"""The scorers that compare one text with one reference: options, versions and checks in one place."""

from __future__ import annotations

import dataclasses
import unicodedata
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from hagpolicy._digest import canonical_json
from hagpolicy.data.answers import split_reasoning
from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.scorers.text.run_on import cut_run_on

Wanted = TypeVar("Wanted")


class UnusableReference(ValueError):
    """A prompt's reference cannot be used by a scorer; the message says why."""


class ReferenceScorer(Scorer, Generic[Wanted]):
    """A scorer of one text at a time. Subclasses are frozen dataclasses whose fields are their options.

    Attributes:
        behaviour: number that is raised whenever the same text could get another reward.
        ends_at_run_on: True where a text has one answer, and what follows it in the prompt's own format (the next
            question, another's turn) is not read.
    """

    behaviour: int = 2
    ends_at_run_on: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", f"{self.behaviour}{format_options(self)}")

    @abstractmethod
    def read_reference(self, prompt: Prompt) -> Wanted:
        """The target to compare with, read from the prompt's reference.

        Raises:
            UnusableReference: the reference is of another kind.
        """

    @abstractmethod
    def score_text(self, text: str, wanted: Wanted) -> Score:
        """The score of one text."""

    def check(self, prompt: Prompt) -> str | None:
        """The reason why this prompt's reference cannot be used, or None when it can."""
        if (missing := super().check(prompt)) is not None:
            return missing
        try:
            self.read_reference(prompt)
        except UnusableReference as error:
            return str(error)
        return None

    def score(self, items: Sequence[tuple[Prompt, Completion]]) -> list[Score]:
        """Rewards of some completions; unscored where `check` gives a reason."""
        return [self._score_one(prompt, completion) for prompt, completion in items]

    def _score_one(self, prompt: Prompt, completion: Completion) -> Score:
        if (reason := self.check(prompt)) is not None:
            return Score.unscored(reason)
        text, wanted = split_reasoning(completion.text)[1], self.read_reference(prompt)
        if self.ends_at_run_on:
            text = cut_run_on(text, prompt.text, lambda part: self.holds_answer(part, wanted))
        return self.score_text(text, wanted)

    def holds_answer(self, text: str, wanted: Wanted) -> bool:
        """True where a part of a text holds an answer; for scorers whose texts end at a run-on."""
        return bool(text.strip())

    def reject(self, expected: str, got: object) -> UnusableReference:
        """The error of a reference that is not what this scorer expects."""
        shown = repr(got)
        return UnusableReference(f"scorer {self.name} expects {expected} as reference, got {shown[:80]}")


def format_options(scorer: Any) -> str:
    """The options that differ from their defaults, such as '+{"tolerance":0.01}'; "" where none does."""
    changed = {
        field.name: getattr(scorer, field.name)
        for field in dataclasses.fields(scorer)
        if getattr(scorer, field.name) != field.default
    }
    return "+" + canonical_json(changed) if changed else ""


_PLAIN = str.maketrans(
    "’‘‚‛“”„‟«»‹›「」『』〝〞〟ʼ‐‑‒–—−", '\'\'\'\'""""""\'\'"""""""\'------', "\u200b\u200e\u200f\u2060\ufeff\u00ad"
)


def normalise_text(text: str) -> str:
    """Text without differences that mean nothing: NFKC, case folded, plain quotes and dashes, single spaces."""
    plain = unicodedata.normalize("NFKC", text).translate(_PLAIN).casefold()
    return " ".join(unicodedata.normalize("NFKC", plain).split())
