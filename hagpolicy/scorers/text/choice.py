"""`multiple_choice`: the option an answer chooses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from hagpolicy._checks import is_whole
from hagpolicy.data.prompts import Prompt
from hagpolicy.scorers.base import Score
from hagpolicy.scorers.text.base import ReferenceScorer, normalise_text

# "A) text", "(A) text", "A. text" at the start of a line of a prompt.
_OPTION_LINE = re.compile(r"^[ \t]*(?:\(([A-Za-z])\)|([A-Za-z])[).:])[ \t]+(\S.*)$", re.MULTILINE)
# What leads to the letter, up to it. Runs are bounded: a text that went astray may hold thousands of one sign.
_SAID = r"(?:\b(?:answer|option)(?:\s{1,9}is)?|\\boxed)(?![A-Za-z])[\W_]{0,20}(?:(?:option|text|mathrm)[\W_]{1,9})?"
_EXPECTED = "the letter of an option, or a mapping with 'answer' and 'choices'"


@dataclass(frozen=True)
class Choices:
    """The letter of the right option, and the options' texts by letter ("" where unknown)."""

    right: str
    texts: Mapping[str, str]


@dataclass(frozen=True)
class MultipleChoice(ReferenceScorer[Choices]):
    r"""1 where the answer chooses the right option, else 0.

    The reference is a letter ("B"), or {"answer": …, "choices": …} with the options' texts as a list
    or by letter, and as answer the letter, the option's text or its index from 0. Without choices
    the options are read from the prompt's lines ("A) …", "(A) …", "A. …"), else A to H are allowed.

    The choice is found by the first of these that applies: what follows the last "answer is",
    "answer:" or \boxed; an answer that is one letter, or has one alone on its first line and on no
    other, or starts with one marked as an option; the only letter in brackets; the only option whose
    text occurs; the only letter standing alone. An answer that chooses nothing, or several, is wrong.
    """

    name = "multiple_choice"
    needs_reference = True
    answers_agree = True

    def read_reference(self, prompt: Prompt) -> Choices:
        """The right letter and the options."""
        reference = prompt.reference
        if isinstance(reference, Mapping):
            if "answer" not in reference:
                raise self.reject(_EXPECTED, reference)
            texts = self._read_choices(reference.get("choices"), prompt)
            answer = reference["answer"]
        else:
            texts, answer = self._read_choices(None, prompt), reference
        letters = sorted(texts)
        if is_whole(answer, 0, len(letters) - 1):
            return Choices(letters[answer], texts)
        if isinstance(answer, str):
            letter = re.sub(r"[\s().:*]", "", answer).upper()
            if letter in texts:
                return Choices(letter, texts)
            same = [key for key in letters if texts[key] and normalise_text(texts[key]) == normalise_text(answer)]
            if len(same) == 1:
                return Choices(same[0], texts)
        raise self.reject(f"{_EXPECTED}, here one of {', '.join(letters)}", reference)

    def score_text(self, text: str, wanted: Choices) -> Score:
        """1.0 or 0.0, with the letter chosen."""
        chosen = extract_choice(text, wanted.texts)
        return Score(float(chosen == wanted.right), None, chosen)

    def _read_choices(self, choices: Any, prompt: Prompt) -> dict[str, str]:
        if isinstance(choices, Mapping) and choices:
            texts = {str(letter).strip().upper(): str(text) for letter, text in choices.items()}
            if all(len(letter) == 1 and letter in ascii_uppercase for letter in texts):
                return texts
        elif isinstance(choices, (list, tuple)) and 0 < len(choices) <= 26:
            return {letter: str(text) for letter, text in zip(ascii_uppercase, choices, strict=False)}
        elif choices is None:
            found = {(a or b).upper(): text.strip() for a, b, text in _OPTION_LINE.findall(prompt.text)}
            # Anything but A, B, C … without a gap is some other list.
            if len(found) >= 2 and sorted(found) == list(ascii_uppercase[: len(found)]):
                return found
            return dict.fromkeys("ABCDEFGH", "")
        raise self.reject("choices as a list of up to 26 texts, or as a mapping of letters to texts", choices)


def extract_choice(text: str, texts: Mapping[str, str]) -> str | None:
    """The letter that `text` chooses among the options, or None where it chooses none or several.

    Args:
        text: the answer.
        texts: the options' texts by upper-case letter; "" where unknown.
    """
    letters = "".join(sorted(texts))
    either = f"[{letters}{letters.lower()}]"
    # A lower-case letter counts only where it cannot be a word: "the answer is a guess".
    letter = rf"(?:([{letters}])(?![A-Za-z0-9'])|({either})(?=[)\]}}*.]|\s*$))"
    said = re.findall(rf"(?i:{_SAID}){letter}", text)
    if said:
        return _first_upper(said[-1])
    whole = re.fullmatch(rf"[\W_]*(?:(?i:option|choice)\s+)?({either})[\W_]*", text)
    if whole:
        return str(whole[1]).upper()
    # "B", and below it what is wrong with the others; an answer with several such lines has not chosen.
    lines = re.findall(rf"(?m)^[ \t*_]{{0,20}}({either})[ \t*_]{{0,20}}$", text)
    if len(lines) == 1 and re.match(rf"[\s*_]*{lines[0]}[ \t*_]*\n", text):
        return str(lines[0]).upper()
    listed = {found.upper() for found in re.findall(rf"(?m)^[\s*_(\[]{{0,20}}({either})[)\].:*]", text)}
    opening = re.match(rf"[\s*_(\[]*(?:(?i:option|choice)\s+)?({either})[)\].:,*]", text)
    if opening and len(listed) <= 1:
        return str(opening[1]).upper()
    # Later rules look for the only candidate, so that an answer that goes through all options chooses none.
    bracketed = {str(found).upper() for found in re.findall(rf"(?<!not )[(\[]({either})[)\]]", text)}
    if len(bracketed) == 1:
        return bracketed.pop()
    named = _find_named(
        normalise_text(text), {key: normalise_text(value) for key, value in texts.items() if normalise_text(value)}
    )
    if len(named) == 1:
        return named.pop()
    # "A" before a word is the article, unless that word is "or": "A or B" chooses none.
    article = r"A\s+(?!or\b|and\b)[a-z]"
    alone = {str(found) for found in re.findall(rf"(?<![\w'])(?<!not )(?!{article})([{letters}])(?![\w'])", text)}
    alone -= {"I"}
    return alone.pop() if len(alone) == 1 and not named else None


def _find_named(text: str, options: Mapping[str, str]) -> set[str]:
    """Letters of the options whose words occur in the text, longest first: "iron" within "iron oxide" is not named."""
    named = set()
    for key in sorted(options, key=lambda key: -len(options[key])):
        pattern = rf"(?<!\w){re.escape(options[key].rstrip('.'))}(?!\w)"
        if re.search(pattern, text):
            named.add(key)
            text = re.sub(pattern, " ", text)
    return named


def _first_upper(groups: Sequence[str]) -> str:
    return next(group for group in groups if group).upper()
