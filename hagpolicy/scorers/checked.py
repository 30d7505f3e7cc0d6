"""The one place where rewards are validated: nothing a scorer does can harm a batch."""

from __future__ import annotations

import dataclasses
import logging
import math
import numbers
from collections.abc import Sequence

from hagpolicy.data.answers import split_reasoning
from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.scorers.base import Score, Scorer

logger = logging.getLogger(__name__)

# Means and weighted sums of numbers in [0, 1] may leave it by a few units in the last place.
_ROUNDING = 1e-9


def validate_score(value: object) -> Score:
    """A valid `Score` from whatever a scorer gave back.

    Args:
        value: a real number in [0, 1] (bool, int, float, numpy scalar) or a `Score`.

    Returns:
        The score; unscored, with the reason, for a number out of range, NaN, None or another type.
    """
    given = value.value if isinstance(value, Score) else value
    if given is None:
        return Score.unscored("the scorer returned None")
    if hasattr(given, "item") and getattr(given, "ndim", None) == 0:
        given = given.item()  # a numpy or torch scalar
    if not isinstance(given, numbers.Real):
        return Score.unscored(f"the scorer returned {_shorten(given)}, expected a number in [0, 1]")
    number = float(given)
    if math.isnan(number):
        reason = value.reason if isinstance(value, Score) else None
        return Score.unscored(str(reason) if reason else "the scorer returned NaN")
    if not -_ROUNDING <= number <= 1.0 + _ROUNDING:
        return Score.unscored(f"the scorer returned {number:g}, expected a number in [0, 1]")
    answer = value.answer if isinstance(value, Score) else None
    return Score(min(max(number, 0.0), 1.0), None, None if answer is None else str(answer))


def score_checked(scorer: Scorer, items: Sequence[tuple[Prompt, Completion]]) -> list[Score]:
    """Rewards of some completions, in their order: each in [0, 1], or NaN with a reason. Never raises.

    A completion that failed in the engine is not shown to the scorer, and of the others their answers without
    reasoning, unless it needs that (`Scorer.needs_reasoning`). Where the scorer raises on
    the batch, or gives back the wrong number of scores, it is called again for one item at a time,
    so that only the items it fails on are unscored.
    """
    scores = [Score.unscored(_describe_failure(completion)) for _, completion in items]
    usable = [index for index, (_, completion) in enumerate(items) if completion.finish != "error"]
    if usable:
        shown = [items[index] if scorer.needs_reasoning else keep_answer(*items[index]) for index in usable]
        for index, score in zip(usable, _ask(scorer, shown), strict=True):
            scores[index] = score
    return scores


def keep_answer(prompt: Prompt, completion: Completion) -> tuple[Prompt, Completion]:
    """A prompt and its completion with the text of the answer alone; tokens and all else are of the whole text."""
    answer = split_reasoning(completion.text)[1]
    if answer == completion.text and not completion.reasoning:
        return prompt, completion
    return prompt, dataclasses.replace(completion, text=answer, reasoning="")


def join_reasoning(prompt: Prompt, completion: Completion) -> tuple[Prompt, Completion]:
    """A prompt and its completion with all of its reasoning in the text, in tags where it came apart from it."""
    if not completion.reasoning:
        return prompt, completion
    return prompt, dataclasses.replace(completion, text=f"<think>{completion.reasoning}</think>{completion.text}")


def _ask(scorer: Scorer, items: list[tuple[Prompt, Completion]]) -> list[Score]:
    try:
        given = list(scorer.score(items))
        if len(given) != len(items):
            raise ValueError(f"scorer {scorer.name} returned {len(given)} scores for {len(items)} completions")
    except Exception as error:  # whatever a user's function raises is a mark on its cells
        if len(items) == 1:
            return [Score.unscored(describe_error(error))]
        logger.warning("scorer %s failed on a batch (%s): asking one by one", scorer.name, describe_error(error))
        return [_ask(scorer, [item])[0] for item in items]
    return [validate_score(value) for value in given]


def describe_error(error: BaseException) -> str:
    """An exception in one line, such as "KeyError: 'x'"."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")


def _describe_failure(completion: Completion) -> str:
    return f"engine error: {completion.error or 'unknown'}"


def _shorten(value: object) -> str:
    shown = f"{type(value).__name__} {value!r}"
    return shown if len(shown) <= 80 else shown[:80] + " …"
