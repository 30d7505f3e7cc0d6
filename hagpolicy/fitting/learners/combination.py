"""Learners that are made of several others."""

from __future__ import annotations

from collections.abc import Sequence

from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.learners.base import Learner


class Combination(Learner):
    """A learner made of several.

    Args:
        parts: at least one, by name or as a `Learner`; None: `standard`, those of its kind.

    Attributes:
        standard: names of the parts where none are given.

    Raises:
        InvalidInput: no part, or an unknown name.
    """

    standard: tuple[str, ...]

    def __init__(self, parts: Sequence[str | Learner] | None = None) -> None:
        from hagpolicy.fitting.learners.registry import get_learner

        self.parts = tuple(get_learner(part) for part in (self.standard if parts is None else parts))
        if not self.parts:
            raise InvalidInput("parts", "at least one learner", "none")
        if parts is not None:
            self.name = f"{self.name} of {', '.join(part.name for part in self.parts)}"
        self.carries_vectors = any(part.carries_vectors for part in self.parts)
