"""The interface of a scorer: completion (and reference) to reward."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from hagpolicy.engines.base import Completion
from hagpolicy.prompts import Prompt


@dataclass(frozen=True)
class Score:
    """The reward of one completion.

    Attributes:
        value: reward in [0, 1], or NaN when the completion cannot be scored.
        reason: why not, where value is NaN; else None.
        answer: the answer that was extracted from the text, where the scorer extracts one.
    """

    value: float
    reason: str | None = None
    answer: str | None = None

    @classmethod
    def unscored(cls, reason: str) -> Score:
        """A missing reward with its reason."""
        return cls(math.nan, reason)


class Scorer(ABC):
    """Scores completions of prompts. Name and version are stored with every reward.

    Attributes:
        name: such as "numeric_match".
        version: changes whenever the same text could get another reward.
        needs_reference: True when a prompt without a reference cannot be scored; a sweep then
            refuses it before a token is spent.
    """

    name: str
    version: str
    needs_reference: bool = False

    @abstractmethod
    def score(self, items: Sequence[tuple[Prompt, Completion]]) -> list[Score]:
        """Rewards of some completions, in their order. May raise: the caller marks the cells."""

    def check(self, prompt: Prompt) -> str | None:
        """Why this prompt's reference cannot be used, or None when it can. Asked before a sweep."""
        if self.needs_reference and prompt.reference is None:
            return f"scorer {self.name} needs a reference, and the prompt has none"
        return None
