"""Answers that are checked and generated again: a config's `constrain` of "retry".

At most `ATTEMPTS` answers are generated for a cell, and all their tokens count as its own. The first is the config's
own, of the cell's own seed; each later one has a seed derived from that. Where the config is greedy, a later answer
would be the same: it is sampled at temperature 1, the model's own distribution, and without beams or drafts. The
first that meets the constraint is the cell's answer; where none does, the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from hagpolicy._digest import digest
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.constraints import RETRY
from hagpolicy.data.answers import split_reasoning
from hagpolicy.data.completion import Completion, Request
from hagpolicy.engines.constraints.check import meets

__all__ = [
    "ATTEMPTS",
    "answer_again",
    "derive_seed",
    "is_wanting",
    "join_attempts",
    "make_attempt",
    "make_attempt_config",
]

ATTEMPTS = 4
_TEMPERATURE = 1.0


def is_wanting(request: Request, completion: Completion) -> bool:
    """Whether an answer is to be generated again, as far as it is for the answer to say."""
    constraint = request.prompt.constraint
    if request.config.constrain != RETRY or constraint is None or completion.finish == "error":
        return False
    return not meets(constraint, split_reasoning(completion.text)[1])


def make_attempt(request: Request, number: int) -> Request:
    """The request of a later attempt; the first, number 0, is the request itself."""
    if number == 0:
        return request
    return replace(request, config=make_attempt_config(request.config), seed=derive_seed(request.seed, number))


def make_attempt_config(config: DecodingConfig) -> DecodingConfig:
    """The config of a later attempt: where the first is greedy, another that is sampled."""
    if config.temperature != 0.0:
        return config
    return config.replace(temperature=_TEMPERATURE, num_beams=1, prompt_lookup_num_tokens=0).canonical()


def derive_seed(seed: int, number: int) -> int:
    """The seed of a later attempt, of 63 bits."""
    return int(digest([seed, number])[:16], 16) >> 1


def join_attempts(request: Request, attempts: Sequence[Completion]) -> Completion:
    """The completion of a cell of its attempts, in their order: the answer of one, the costs of all.

    Args:
        request: of the cell.
        attempts: the last of them meets the constraint, or failed, or there was no other.
    """
    if len(attempts) == 1:
        return attempts[0]
    met = not is_wanting(request, attempts[-1]) and attempts[-1].finish != "error"
    chosen = attempts[-1] if met else attempts[0]
    passes = [one.passes for one in attempts]
    return replace(
        chosen,
        tokens=sum(one.tokens for one in attempts),
        prompt_tokens=sum(one.prompt_tokens for one in attempts),
        seconds=sum(one.seconds for one in attempts),
        passes=None if None in passes else sum(count for count in passes if count is not None),
        receipt={**chosen.receipt, "constrain": f"{'met' if met else 'not met'} after {len(attempts)} attempts"},
    )


def answer_again(
    unit: Sequence[Request], completions: Iterable[Completion], generate: Callable[[list[Request]], list[Completion]]
) -> list[Completion]:
    """The completions of a unit, those that do not meet their constraint generated again, all of them together.

    Args:
        unit: the requests.
        completions: of their first attempts.
        generate: completions of some requests.
    """
    attempts = [[completion] for completion in completions]
    for number in range(1, ATTEMPTS):
        rows = [row for row, request in enumerate(unit) if is_wanting(request, attempts[row][-1])]
        if not rows:
            break
        for row, more in zip(rows, generate([make_attempt(unit[row], number) for row in rows]), strict=True):
            attempts[row].append(more)
    return [join_attempts(request, some) for request, some in zip(unit, attempts, strict=True)]
