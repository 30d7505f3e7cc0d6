"""IFEval's verifiable instructions: checkers of the kinds that a small model can meet within some 60 tokens.

The kinds are named as in the data set's `instruction_id_list`, their arguments as in its `kwargs`; the checkers are
written from the instructions' own wording.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hagpolicy.scorers import FunctionScorer, Score

Check = Callable[[str, Mapping[str, Any]], bool]
# Words that an answer of so many tokens can hold; demands beyond them are left out.
MOST_WORDS = 40


def _compared(found: int, relation: str | None, wanted: int) -> bool:
    return found < wanted if relation == "less than" else found >= wanted


def _words(text: str) -> list[str]:
    return re.findall(r"\w+(?:['’-]\w+)*", text)


def _sentences(text: str) -> int:
    return len([part for part in re.split(r"[.!?]+(?:\s|$)", text) if re.search(r"\w", part)])


def _has(text: str, word: str) -> int:
    return len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE))


def _json(text: str) -> bool:
    body = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip(), flags=re.IGNORECASE)
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def _ends(text: str, args: Mapping[str, Any]) -> bool:
    return text.strip().strip('"').lower().endswith(args["end_phrase"].strip().lower())


CHECKS: dict[str, Check] = {
    "punctuation:no_comma": lambda text, args: "," not in text,
    "change_case:english_lowercase": lambda text, args: text == text.lower(),
    "change_case:english_capital": lambda text, args: text == text.upper(),
    "change_case:capital_word_frequency": lambda text, args: _compared(
        sum(word.isupper() for word in _words(text)), args["capital_relation"], args["capital_frequency"]
    ),
    "keywords:existence": lambda text, args: all(_has(text, word) for word in args["keywords"]),
    "keywords:forbidden_words": lambda text, args: not any(_has(text, word) for word in args["forbidden_words"]),
    "keywords:frequency": lambda text, args: _compared(
        _has(text, args["keyword"]), args["relation"], args["frequency"]
    ),
    "keywords:letter_frequency": lambda text, args: _compared(
        text.lower().count(args["letter"].lower()), args["let_relation"], args["let_frequency"]
    ),
    "length_constraints:number_words": lambda text, args: _compared(
        len(_words(text)), args["relation"], args["num_words"]
    ),
    "length_constraints:number_sentences": lambda text, args: _compared(
        _sentences(text), args["relation"], args["num_sentences"]
    ),
    "detectable_format:title": lambda text, args: re.search(r"<<[^\n<>]+>>", text) is not None,
    "detectable_format:number_bullet_lists": lambda text, args: (
        len(re.findall(r"^\s*[*-]\s+\S", text, re.MULTILINE)) == args["num_bullets"]
    ),
    "detectable_format:number_highlighted_sections": lambda text, args: (
        len(re.findall(r"\*{1,2}[^*\n]+\*{1,2}", text)) >= args["num_highlights"]
    ),
    "detectable_content:number_placeholders": lambda text, args: (
        len(re.findall(r"\[[^\[\]\n]+\]", text)) >= args["num_placeholders"]
    ),
    "detectable_content:postscript": lambda text, args: args["postscript_marker"].lower() in text.lower(),
    "detectable_format:json_format": lambda text, args: _json(text),
    "detectable_format:constrained_response": lambda text, args: (
        re.search(r"my answer is (?:yes|no|maybe)\.", text, re.IGNORECASE) is not None
    ),
    "startend:quotation": lambda text, args: len(text.strip()) > 1 and text.strip()[0] == '"' == text.strip()[-1],
    "startend:end_checker": _ends,
    "combination:repeat_prompt": lambda text, args: (
        text.strip().lower().startswith(args["prompt_to_repeat"].strip().lower())
    ),
    "combination:two_responses": lambda text, args: len([p for p in text.split("******") if p.strip(" *\n")]) == 2,
}
# What a small number can be asked of, and by which argument.
_AT_MOST = {
    "detectable_format:number_bullet_lists": ("num_bullets", 5),
    "detectable_format:number_highlighted_sections": ("num_highlights", 3),
    "detectable_content:number_placeholders": ("num_placeholders", 4),
    "change_case:capital_word_frequency": ("capital_frequency", 8),
    "keywords:letter_frequency": ("let_frequency", 12),
    "keywords:frequency": ("frequency", 4),
    "length_constraints:number_words": ("num_words", MOST_WORDS),
    "length_constraints:number_sentences": ("num_sentences", 6),
}


def can_meet(kind: str, args: Mapping[str, Any]) -> bool:
    """Whether a kind is checked here and an answer of some 60 tokens can meet it; upper limits that such an answer
    never reaches are left out with it."""
    if kind not in CHECKS:
        return False
    name, most = _AT_MOST.get(kind, ("", 0))
    return not name or args[name] <= most


def followed(text: str, instructions: Sequence[Sequence[Any]]) -> Score:
    """The share of the instructions that an answer follows; an answer without a word follows none.

    Args:
        text: the answer.
        instructions: (kind, arguments) pairs.
    """
    if not re.search(r"\w", text):
        return Score(0.0)
    met = [CHECKS[kind](text, args) for kind, args in instructions]
    return Score(sum(met) / len(met))


INSTRUCTIONS = FunctionScorer(followed, name="instructions", version="1", needs_reference=True)
