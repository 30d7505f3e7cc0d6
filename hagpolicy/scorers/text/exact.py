"""`exact_match`: the whole answer equals the reference, after normalisation."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from hagpolicy.data.prompts import Prompt
from hagpolicy.scorers.base import Score
from hagpolicy.scorers.text.base import ReferenceScorer, normalise_text

# Signs that open or end a sentence, in any script. A leading ".", "-" or "+" may belong to a number, and a final "%"
# or "#" to a name, so the two ends lose different signs.
_LEFT = frozenset(" \t\"'`*_([{#>¿¡")
_RIGHT = frozenset(" \t\"'`*_)]}.,;:!?")
_KEPT = frozenset("%‰#@&/\\′″+")
_DROPPED = re.compile(r"(?:the|an|a) +(?=\S)|\.{2,}")  # an article, an ellipsis


def normalise_answer(text: str) -> str:
    """Text as `exact_match` compares it: `normalise_text`, without the markup, quotes and punctuation
    of any script around the whole of it and without a leading article."""
    text = normalise_text(text)
    start, end = 0, len(text)
    while end and (text[end - 1] in _RIGHT or _ends_sentence(text[end - 1])):
        end -= 1
    while start < end:
        if text[start] in _LEFT or unicodedata.category(text[start]) in ("Pi", "Pf", "Ps"):
            start += 1
        elif dropped := _DROPPED.match(text, start, end):
            start = dropped.end()
        else:
            break
    return text[start:end]


def _ends_sentence(sign: str) -> bool:
    return unicodedata.category(sign) in ("Pi", "Pf", "Pe", "Po") and sign not in _KEPT


@dataclass(frozen=True)
class ExactMatch(ReferenceScorer[frozenset[str]]):
    """1 where the whole answer equals the reference, else 0.

    Compared without differences of case, Unicode form, spacing, a leading article, and quotes,
    markup or punctuation of any script around the whole.

    The reference is a string, a number or a boolean, or a list of them, any of which counts.
    """

    name = "exact_match"
    needs_reference = True
    answers_agree = True
    ends_at_run_on = True

    def read_reference(self, prompt: Prompt) -> frozenset[str]:
        """The normalised accepted answers."""
        reference = prompt.reference
        values = reference if isinstance(reference, list) else [reference]
        accepted = {normalise_answer(self._write_value(value)) for value in values}
        if not accepted or "" in accepted:
            raise self.reject("text, a number or a list of them", reference)
        return frozenset(accepted)

    def score_text(self, text: str, wanted: frozenset[str]) -> Score:
        """1.0 or 0.0, with the normalised answer."""
        answer = normalise_answer(text)
        return Score(float(answer in wanted), None, answer)

    def _write_value(self, value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, float):
            return f"{value:.15g}"  # 5.0 is asked for as "5"
        if isinstance(value, (str, int)):
            return str(value)
        raise self.reject("text, a number or a list of them", value)
