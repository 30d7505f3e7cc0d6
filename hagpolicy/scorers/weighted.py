"""Weighted combinations of scorers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hagpolicy._checks import is_number
from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.scorers.checked import score_checked


class Weighted(Scorer):
    """The weighted mean of several scorers' rewards.

    Unscored where any part is unscored, with that part's reason: a mean over the rest would be
    another objective.

    Args:
        parts: (scorer, weight) pairs; weights are positive and are divided by their sum.

    Raises:
        InvalidInput: no part, or a weight that is not positive and finite.
    """

    needs_reasoning = True  # its parts are shown what each of them needs

    def __init__(self, parts: Sequence[tuple[Scorer, float]]) -> None:
        if not parts:
            raise InvalidInput("weighted scorer", "at least one part", "none")
        for scorer, weight in parts:
            if not is_number(weight) or not 0 < weight < math.inf:
                raise InvalidInput(f"weight of {scorer.name}", "a number in (0, inf)", weight)
        total = math.fsum(weight for _, weight in parts)
        self.parts = tuple((scorer, float(weight) / total) for scorer, weight in parts)
        self.name = "+".join(f"{weight:.3g}*{scorer.name}" for scorer, weight in self.parts)
        self.version = ",".join(f"{weight!r}*{scorer.version}" for scorer, weight in self.parts)
        self.needs_reference = any(scorer.needs_reference for scorer, _ in self.parts)
        self.needs_default = any(scorer.needs_default for scorer, _ in self.parts)
        self.answers_agree = all(scorer.answers_agree for scorer, _ in self.parts)
        self.calls = sum(scorer.calls for scorer, _ in self.parts)

    def check(self, prompt: Prompt) -> str | None:
        """The first reason any part gives."""
        return next((reason for scorer, _ in self.parts if (reason := scorer.check(prompt)) is not None), None)

    def score(self, items: Sequence[tuple[Prompt, Completion]]) -> list[Score]:
        """Weighted means in order; the answer is that of the first part that extracts one."""
        columns = [score_checked(scorer, items) for scorer, _ in self.parts]
        return [self._combine(row) for row in zip(*columns, strict=True)]

    def against(self, defaults: Mapping[str, Completion]) -> Scorer:
        """The same weights over parts that know the default's answers."""
        return Weighted([(scorer.against(defaults), weight) for scorer, weight in self.parts])

    def open(self, folder: Path | None) -> None:
        """Open every part."""
        for scorer, _ in self.parts:
            scorer.open(folder)

    def close(self) -> None:
        """Close every part."""
        for scorer, _ in self.parts:
            scorer.close()

    def report(self) -> dict[str, Any]:
        """The reports of the parts that have one, by name."""
        return {scorer.name: report for scorer, _ in self.parts if (report := scorer.report())}

    def _combine(self, row: tuple[Score, ...]) -> Score:
        for (scorer, _), score in zip(self.parts, row, strict=True):
            if math.isnan(score.value):
                return Score.unscored(f"{scorer.name}: {score.reason}")
        value = math.fsum(weight * score.value for (_, weight), score in zip(self.parts, row, strict=True))
        answer = next((score.answer for score in row if score.answer is not None), None)
        return Score(min(max(value, 0.0), 1.0), None, answer)

    def __repr__(self) -> str:
        return f"Weighted({self.name})"
