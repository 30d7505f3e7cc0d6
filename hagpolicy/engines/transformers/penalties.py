"""Logits processors that transformers lacks: presence and frequency penalties.

The formula is vLLM's (`apply_penalties` of its sampler, after the OpenAI API's documentation): with
c the number of times a token occurs in the answer so far, the prompt not counted,

    logit := logit - frequency_penalty * c
    logit := logit - presence_penalty   where c > 0

The engine and `wrap` both use `penalise_answer`, so a config means the same in either.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor

from hagpolicy.errors import InvalidInput

__all__ = ["AnswerPenalty", "penalise_answer"]


def penalise_answer(
    logits: Tensor, answer: Tensor, presence: Tensor, frequency: Tensor, inside: Tensor | None = None
) -> Tensor:
    """Logits after both penalties.

    Args:
        logits: float (rows, vocabulary).
        answer: int64 (rows, tokens): the tokens generated so far.
        presence: float (rows, 1).
        frequency: float (rows, 1).
        inside: bool, broadcast over `answer`: False for tokens there that are not generated ones; None: all are.

    Returns:
        A new tensor like `logits`.
    """
    if not answer.shape[1]:
        return logits
    # A model may know ids beyond its output layer; they cannot be generated, so they count for nothing.
    answer = answer.clamp(max=logits.shape[1] - 1)
    ones = torch.ones_like(answer, dtype=logits.dtype)
    counts = torch.zeros_like(logits).scatter_add_(1, answer, ones if inside is None else ones * inside)
    # Only the tokens of the answer change: a repeated token is written several times with one value.
    seen = counts.gather(1, answer)
    return logits.scatter(1, answer, logits.gather(1, answer) - frequency * seen - presence * (seen > 0))


class AnswerPenalty(LogitsProcessor):  # type: ignore[misc]
    """Presence and frequency penalties for transformers' `generate(logits_processor=[…])`.

    Args:
        presence_penalty: one number, or float (rows,) with one a row of the batch.
        frequency_penalty: likewise.
        prompt_length: tokens of the (padded) prompt; None: the length seen at the first call, so
            an instance without it belongs to one call of `generate`.

    Raises:
        InvalidInput: a negative prompt length.
    """

    def __init__(
        self,
        presence_penalty: float | Tensor = 0.0,
        frequency_penalty: float | Tensor = 0.0,
        prompt_length: int | None = None,
    ) -> None:
        if prompt_length is not None and prompt_length < 0:
            raise InvalidInput("prompt_length", "a whole number of tokens, or None", prompt_length)
        self.presence = torch.as_tensor(presence_penalty, dtype=torch.float32).reshape(-1, 1)
        self.frequency = torch.as_tensor(frequency_penalty, dtype=torch.float32).reshape(-1, 1)
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (rows, vocabulary) after the penalties for the answers in `input_ids` (rows, tokens).

        Raises:
            InvalidInput: the per-row penalties do not fit the rows (beams of one row may share its penalty).
        """
        if self.prompt_length is None:
            self.prompt_length = input_ids.shape[1]
        presence, frequency = (_fit_rows(values.to(scores), len(scores)) for values in (self.presence, self.frequency))
        return penalise_answer(scores, input_ids[:, self.prompt_length :], presence, frequency)


def _fit_rows(values: Tensor, rows: int) -> Tensor:
    """Per-row values (rows, 1): a row's value is repeated for each of its beams."""
    if rows % len(values):
        raise InvalidInput("penalties", f"one number, or one a row ({rows} rows)", f"{len(values)} numbers")
    return values.repeat_interleave(rows // len(values), dim=0)
