"""`Terms`: a judge's rubric, mode, scale and decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hagpolicy._checks import is_whole
from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.judge.prompts import (
    COMPARE,
    GRADE,
    JudgeReply,
    read_grade,
    read_verdict,
    write_comparison,
    write_grading,
)

# Raised whenever an equal reply could be read otherwise.
BEHAVIOUR = 2


@dataclass(frozen=True)
class Terms:
    """All that a judge's rewards depend on beside its engine.

    Attributes:
        rubric: what makes an answer good, in words.
        pairwise: compare with the engine default's answer, in both orders, instead of grading.
        scale: (worst, best) grade, whole numbers of at least 0.
        config: the judge's decoding; given as None (greedy) or as a mapping of fields too.
        max_tokens: limit on a reply's tokens, at least 1.

    Raises:
        InvalidInput: a value that cannot be used.
    """

    rubric: str
    pairwise: bool
    scale: tuple[int, int]
    config: DecodingConfig
    max_tokens: int

    def __post_init__(self) -> None:
        if not isinstance(self.rubric, str) or not self.rubric.strip():
            raise InvalidInput("judge.rubric", "what makes an answer good, in words", self.rubric)
        if not isinstance(self.pairwise, bool):
            raise InvalidInput("judge.pairwise", "true or false", self.pairwise)
        if not is_whole(self.max_tokens, 1):
            raise InvalidInput("judge.max_tokens", "a whole number of at least 1", self.max_tokens)
        object.__setattr__(self, "scale", _check_scale(self.scale))
        object.__setattr__(self, "config", _check_config(self.config))

    def write_grading(self, prompt: Prompt, answer: str) -> str:
        """The judge's prompt for an answer by rubric."""
        return write_grading(prompt, answer, self.rubric, self.scale)

    def write_comparisons(self, prompt: Prompt, answer: str, default: str) -> tuple[str, str]:
        """The judge's prompts for an answer and the default's: the answer first, and the answer second."""
        first = write_comparison(prompt, answer, default, self.rubric)
        return first, write_comparison(prompt, default, answer, self.rubric)

    def read(self, reply: str, finish: str) -> JudgeReply:
        """The grade or verdict of a reply."""
        return read_verdict(reply, finish) if self.pairwise else read_grade(reply, finish, self.scale)

    def describe(self, fingerprint: Mapping[str, str]) -> dict[str, Any]:
        """All that a reward of this judge depends on, JSON-able: its digest is the scorer's version."""
        return {
            "behaviour": BEHAVIOUR,
            "fingerprint": dict(fingerprint),
            "mode": "pairwise" if self.pairwise else "rubric",
            "template": list(COMPARE if self.pairwise else GRADE),
            "rubric": self.rubric,
            "scale": None if self.pairwise else list(self.scale),
            "config": self.config.to_dict(),
            "max_tokens": self.max_tokens,
        }


def _check_scale(scale: object) -> tuple[int, int]:
    ends = tuple(scale) if isinstance(scale, Sequence) and not isinstance(scale, str) else ()
    whole = all(is_whole(end) for end in ends)
    if len(ends) != 2 or not whole or not 0 <= ends[0] < ends[1] <= 100_000:
        raise InvalidInput("judge.scale", "two whole numbers, the worst grade and the best, such as [1, 10]", scale)
    return ends


def _check_config(config: object) -> DecodingConfig:
    if config is None:
        return DecodingConfig(temperature=0.0)
    if isinstance(config, DecodingConfig):
        return config
    if not isinstance(config, Mapping):
        raise InvalidInput("judge.config", "a DecodingConfig or a mapping of its fields", config)
    return DecodingConfig.from_dict(config)
