"""The scorer of a prompt's own constraint."""

from __future__ import annotations

from collections.abc import Sequence

from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.engines.constraints.check import meets
from hagpolicy.scorers.base import Score, Scorer


class ConstraintMet(Scorer):
    """1 where an answer meets its prompt's constraint (`Prompt.constraint`), or the prompt has none, else 0.

    With others by `weighted`: {"numeric_match": 0.8, "constraint": 0.2}.
    """

    name = "constraint"
    version = "1"

    def score(self, items: Sequence[tuple[Prompt, Completion]]) -> list[Score]:
        """1.0 or 0.0 each; 1.0 where the prompt has none."""
        return [
            Score(float(prompt.constraint is None or meets(prompt.constraint, completion.text)))
            for prompt, completion in items
        ]
