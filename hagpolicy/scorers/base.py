"""The interface of a scorer: completion (and reference) to reward."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt


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
        needs_default: True when the engine default's answer to the same prompt is needed: the
            completions are then scored after all are generated, by what `against` gives.
        answers_agree: True when equal answers (`Score.answer`) mean the same answer, so that a majority of them
            may be taken, as `Majority` does; False for a remark, such as a grade or an exception. Stored with every
            reward. A scorer that extracts no answer leaves it True.
        needs_reasoning: True when the scorer is shown whole texts; otherwise `score_checked` shows it the answer
            alone, without reasoning tags and what stands in them (`split_reasoning`).
        calls: calls of an LLM that scoring one completion costs; for the preview of a sweep.
    """

    name: str
    version: str
    needs_reference: bool = False
    needs_default: bool = False
    answers_agree: bool = True
    needs_reasoning: bool = False
    calls: int = 0

    @property
    def stored_name(self) -> str:
        """Name and version, "name@version", as stored with every reward."""
        return f"{self.name}@{self.version}"

    @abstractmethod
    def score(self, items: Sequence[tuple[Prompt, Completion]]) -> list[Score]:
        """Rewards of some completions, in their order. May raise: the caller marks the cells."""

    def check(self, prompt: Prompt) -> str | None:
        """The reason why this prompt's reference cannot be used, or None when it can. Called before a sweep."""
        if self.needs_reference and prompt.reference is None:
            return f"scorer {self.name} needs a reference, and the prompt has none"
        return None

    def against(self, defaults: Mapping[str, Completion]) -> Scorer:
        """A scorer that knows the engine default's answers, by prompt digest; this one unless it needs them."""
        return self

    def open(self, folder: Path | None) -> None:  # noqa: B027 - most scorers keep nothing
        """Called before scoring. In `folder`, where there is one, work that was paid for may be kept."""

    def close(self) -> None:  # noqa: B027
        """Called after scoring; a second call does nothing."""

    def report(self) -> dict[str, Any]:
        """Figures about the scoring so far, JSON-able, for the summary of a sweep; empty where there are none."""
        return {}
