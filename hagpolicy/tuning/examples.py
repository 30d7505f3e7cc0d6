"""Prompts with their answers as the token ids that a model is tuned on."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hagpolicy.data.groups import number_groups
from hagpolicy.data.prompts import Prompt, as_prompts
from hagpolicy.errors import InvalidInput

__all__ = ["AnswerOf", "Example", "make_batches", "read_examples", "split_groups", "take_reference"]

AnswerOf = Callable[[Prompt], str]
HELD_OUT = 0.1
MIN_GROUPS = 20
"""With fewer groups none are held out: every epoch counts then."""


@dataclass(frozen=True)
class Example:
    """One prompt with the answer that a model is to give.

    Attributes:
        prompt: it was made of.
        question: token ids of the prompt as the engine will ask it.
        answer: token ids of the answer with the end token.
    """

    prompt: Prompt
    question: tuple[int, ...]
    answer: tuple[int, ...]


def take_reference(prompt: Prompt) -> str:
    """The answer that a prompt's reference is: a text, a number, or the first of several.

    Raises:
        InvalidInput: a reference that is nothing of these.
    """
    reference: Any = prompt.reference
    if isinstance(reference, list | tuple) and reference:
        reference = reference[0]
    if isinstance(reference, bool) or not isinstance(reference, str | int | float) or not str(reference).strip():
        raise InvalidInput(
            f"reference of the prompt {prompt.text[:60]!r}",
            "a text, a number, or a list of such",
            prompt.reference,
            "Or say what answers a prompt: answers=function.",
        )
    return str(reference)


def read_examples(engine: Any, prompts: Any, answers: AnswerOf | None, most_tokens: int) -> list[Example]:
    """The examples of some prompts, without those of more than so many tokens.

    Args:
        engine: a transformers engine, whose template and tokenizer they go through.
        prompts: as of `sweep`.
        answers: the answer to a prompt; None: its reference.
        most_tokens: of prompt and answer together.

    Raises:
        InvalidInput: bad prompts, a prompt without an answer, or none that is short enough.
    """
    found = []
    for prompt in dict.fromkeys(as_prompts(prompts)):
        answer = (answers or take_reference)(prompt)
        if not isinstance(answer, str) or not answer:
            raise InvalidInput("answers", f"a text for the prompt {prompt.text[:60]!r}", answer)
        ids = engine.tokenizer(answer, add_special_tokens=False)["input_ids"]
        found.append(Example(prompt, tuple(engine.encode(prompt.content)), (*ids, *engine.end_tokens[:1])))
    short = [one for one in found if len(one.question) + len(one.answer) <= most_tokens]
    if not short:
        raise InvalidInput(
            "prompts", f"some of at most {most_tokens} tokens with their answers", f"{len(found)} longer"
        )
    return short


def split_groups(examples: Sequence[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """Examples to tune on, and about a tenth of the groups that are held out; none of fewer than 20 groups."""
    groups = number_groups([one.prompt for one in examples])
    distinct = np.unique(groups)
    count = round(HELD_OUT * len(distinct)) if len(distinct) >= MIN_GROUPS else 0
    out = set(np.random.default_rng(seed).choice(distinct, count, replace=False).tolist())
    parts: tuple[list[Example], list[Example]] = [], []
    for group, example in zip(groups.tolist(), examples, strict=True):
        parts[group in out].append(example)
    return parts


def make_batches(examples: Sequence[Example], size: int, draw: random.Random) -> list[list[Example]]:
    """Batches of examples of similar length, so that little is padded, in random order."""
    mixed = draw.sample(list(examples), len(examples))
    mixed.sort(key=lambda one: len(one.question) + len(one.answer) + draw.randint(0, 16))
    batches = [mixed[start : start + size] for start in range(0, len(mixed), size)]
    draw.shuffle(batches)
    return batches
