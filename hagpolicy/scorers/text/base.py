"""The scorers that compare one text with one reference: options, versions and checks in one place."""

from __future__ import annotations

import dataclasses
import unicodedata
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from hagpolicy._digest import canonical_json
from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.scorers.base import Score, Scorer

Wanted = TypeVar("Wanted")


class UnusableReference(ValueError):
    """A prompt's reference cannot be used by a scorer; the message says why."""


class ReferenceScorer(Scorer, Generic[Wanted]):
    """A scorer of one text at a time. Subclasses are frozen dataclasses whose fields are their options.

    Attributes:
        behaviour: number that is raised whenever the same text could get another reward.
    """

    behaviour: int = 1

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
        scores = []
        for prompt, completion in items:
            reason = self.check(prompt)
            scores.append(
                self.score_text(completion.text, self.read_reference(prompt))
                if reason is None
                else Score.unscored(reason)
            )
        return scores

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


_PLAIN = str.maketrans("’‘“”‐‑‒–—−", "''\"\"------")


def normalise_text(text: str) -> str:
    """Text without differences that mean nothing: NFKC, case folded, plain quotes and dashes, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).translate(_PLAIN).casefold().split())
