"""`contains_all`: the share of required words that an answer uses."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hagpolicy._extras import require
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Score
from hagpolicy.scorers.text.base import ReferenceScorer

Stems = tuple[str, ...]
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
# Scripts in which words touch, or particles touch words: every character is a word, and a word a phrase of them.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
    "\uf900-\ufaff\U00020000-\U0003134f"
)
_APOSTROPHES = str.maketrans("’ʼ′‘＇`−", "'" * 6 + "-", "\u200b\u00ad\u2060\ufeff")


@lru_cache(maxsize=1)
def _compile_word() -> re.Pattern[str]:
    """A word: a character of an unspaced script, a number with its sign and point, or letters and digits with their
    marks; an apostrophe within a word belongs to it, and what ends C++ and C# and begins .NET."""
    marks = "".join(chr(code) for code in range(0x300, 0xAC00) if unicodedata.category(chr(code)) in ("Mn", "Mc"))
    letter = rf"(?:(?![{_UNSPACED}])[^\W_]|[{marks}])"
    return re.compile(
        rf"[{_UNSPACED}][{marks}]*|(?:(?<![\w)\].,+-])[-+])?\d+(?:[.,]\d+)*(?!{letter})"
        rf"|(?:(?<![\w.)\]])\.)?{letter}+(?:'{letter}+)*(?:(?:\+{{1,2}}|\#)(?![\w+\#]))?"
    )


def split_words(text: str) -> list[str]:
    """The words of a text, case folded, without possessive 's.

    A number is one word, with its sign ("-5", "3.14"; "1,000" is "1000"), and so are "C++", "C#" and ".NET". Of scripts
    that write without spaces every character is one.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).casefold())
    return [_trim_word(word) for word in _compile_word().findall(folded)]


def _trim_word(word: str) -> str:
    if word[-1:].isdigit():
        word = word.removeprefix("+")
        return word.replace(",", "") if _THOUSANDS.fullmatch(word) else word
    return word.removesuffix("'s")


@lru_cache(maxsize=8)
def _load_stemmer(language: str) -> Any:
    stemmers = require("snowballstemmer", "sweep", "the scorer contains_all")
    return stemmers.stemmer(language)


def stem_words(text: str, language: str = "english") -> Stems:
    """Snowball stems of the words of a text, in their order; `language` "" leaves words as they are."""
    found = split_words(text)
    if not language:
        return tuple(found)
    distinct = list(dict.fromkeys(word for word in found if not word.isdigit()))
    stems = dict(zip(distinct, _load_stemmer(language).stemWords(distinct), strict=True))
    return tuple(stems.get(word, word) for word in found)


@dataclass(frozen=True)
class ContainsAll(ReferenceScorer[tuple[tuple[Stems, ...], ...]]):
    """The share of required words that occur in the answer, inflected or not.

    The reference is a list of requirements (or one of them): a word, a phrase whose words must
    follow each other, or a list of alternatives of which one suffices (["USA", "United States"]).
    Words are compared by their Snowball stems, so "dog" is met by "dogs" and "run" by "running";
    irregular forms ("ran") are not. In scripts without spaces a
    requirement is met wherever its characters stand. Words said twice in the reference are one requirement.

    Attributes:
        language: of the Snowball stemmer; "" compares whole words.
    """

    language: str = "english"

    name = "contains_all"
    needs_reference = True

    def __post_init__(self) -> None:
        if self.language:
            known = require("snowballstemmer", "sweep", "the scorer contains_all").algorithms()
            if self.language not in known:
                raise InvalidInput("contains_all.language", f"one of {', '.join(known)}, or ''", self.language)
        super().__post_init__()

    def read_reference(self, prompt: Prompt) -> tuple[tuple[Stems, ...], ...]:
        """For every requirement its alternatives, each the stems of a phrase."""
        reference = prompt.reference
        required = []
        for entry in reference if isinstance(reference, list) else [reference]:
            alternatives = entry if isinstance(entry, list) else [entry]
            phrases = tuple(self._read_phrase(phrase, reference) for phrase in alternatives)
            if not phrases:
                raise self.reject("no empty list of alternatives", reference)
            required.append(phrases)
        if not required:
            raise self.reject("at least one word", reference)
        return tuple(dict.fromkeys(required))

    def score_text(self, text: str, wanted: tuple[tuple[Stems, ...], ...]) -> Score:
        """The share of requirements met."""
        found = stem_words(text, self.language)
        met = sum(any(_contains(phrase, found) for phrase in phrases) for phrases in wanted)
        return Score(met / len(wanted))

    def _read_phrase(self, phrase: object, reference: object) -> Stems:
        if isinstance(phrase, (int, float)) and not isinstance(phrase, bool):
            phrase = str(phrase)
        if not isinstance(phrase, str) or not (found := stem_words(phrase, self.language)):
            raise self.reject("words or phrases", reference)
        return found


def _contains(phrase: Sequence[str], found: Sequence[str]) -> bool:
    length = len(phrase)
    return any(tuple(found[at : at + length]) == tuple(phrase) for at in range(len(found) - length + 1))
