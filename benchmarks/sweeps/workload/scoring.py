"""The scorer of every task of the workload."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from benchmarks.sweeps.workload.editing import EDIT, alike
from benchmarks.sweeps.workload.instructions import INSTRUCTIONS
from hagpolicy.scorers import FunctionScorer, Score


def yes_no(text: str, right: str) -> Score:
    """1 where the last "yes" or "no" of the answer is the right one; an answer without either is wrong."""
    found = re.findall(r"\b(yes|no)\b", text.lower())
    return Score(float(bool(found) and found[-1] == right), None, found[-1] if found else None)


def pig_latin(text: str, reference: Mapping[str, str]) -> Score:
    """The mean over the words of how far the likest word of the answer has gone from the English word to the Pig Latin
    one, by likeness of letters: 1 for the right word, 0 for one that is no liker than the English word itself."""
    found = re.findall(r"[a-z]+", text.lower())
    gone = []
    for source, wanted in zip(reference["source"].split(), reference["answer"].split(), strict=True):
        start, end = alike(source, wanted), max((alike(word, wanted) for word in found), default=0.0)
        gone.append(max((end - start) / (1 - start), 0.0))
    return Score(sum(gone) / len(gone))


YES_NO = FunctionScorer(yes_no, name="yes_no", version="1", needs_reference=True)
PIG_LATIN = FunctionScorer(pig_latin, name="pig_latin", version="1", needs_reference=True)
SCORERS: dict[str, Any] = {
    "coin_flip": YES_NO,
    "pig_latin": PIG_LATIN,
    "svamp": "numeric_match",
    "aqua": "multiple_choice",
    "commongen": "contains_all",
    "e2e": "contains_all",
    "ifeval": INSTRUCTIONS,
    "lists": "distinct_items",
    **dict.fromkeys(("replace", "past", "reformat"), EDIT),
}
