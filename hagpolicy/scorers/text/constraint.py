"""The scorer of a prompt's own constraint."""

from __future__ import annotations

from collections.abc import Sequence

from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.engines.constraints.check import meets
from hagpolicy.scorers.base import Score, Scorer


class ConstraintMet(Scorer):
    """1 where an answer meets its prompt's constraint (`Prompt.constraint`), else 0, whichever way it was met.

    With others by `weighted`: {"numeric_match": 0.8, "constraint": 0.2}.
    """

    name = "constraint"
    version = "1"

    def check(self, prompt: Prompt) -> str | None:
        """See `Scorer.check`."""
        return "scorer constraint needs a constraint, and the prompt has none" if prompt.constraint is None else None

    def score(self, items: Sequence[tuple[Prompt, Completion]]) -> list[Score]:
        """1.0 or 0.0 each; not scored without a constraint."""
        return [
            Score.unscored("the prompt has no constraint")
            if prompt.constraint is None
            else Score(float(meets(prompt.constraint, completion.text)))
            for prompt, completion in items
        ]
