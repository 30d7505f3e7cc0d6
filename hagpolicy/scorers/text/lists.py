"""`distinct_items`: the number of different things that an answer lists, of the number asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hagpolicy._checks import is_whole
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Score
from hagpolicy.scorers.text.base import ReferenceScorer, normalise_text
from hagpolicy.scorers.text.words import stem_words

_BULLET = r"(?:[-*•‣◦·–+]|\(?\d{1,3}[.):]|\(?[A-Za-z][.)])"
_LISTED = re.compile(rf"^\s*(?:[*_]{{2}})?{_BULLET}(?:[*_]{{2}})?\s+(.*\S)\s*$")
_BARE_BULLET = re.compile(rf"^\s*{_BULLET}\s*$")
_INLINE = re.compile(r"(?:^|(?<=[\s,;]))\(?\d{1,2}[.)]\s+")
# "Apple: a fruit", "Apple - a fruit", "Apple (red)": what follows the name explains it.
_EXPLAINED = re.compile(r"\s*(?::\s|\s[-–—]\s|\().*$", re.DOTALL)
_JOINED = re.compile(r"\s*(?:[,;、，]|\n)\s*")
_LAST_AND = re.compile(r"\s+(?:and|or|&)\s+(?=[^,;]*$)")
_LEADING_AND = re.compile(r"^(?:and|or|&)\s+")
# Longer than this, an item is a sentence; between commas, which prose has too, it must be shorter.
_MOST_WORDS = 8
_MOST_INLINE_WORDS = 4


def extract_items(text: str) -> list[str]:
    """The items of a list in a text, in their order and as written.

    Bulleted or numbered lines where there are any; else items numbered within a line; else the
    parts between commas or semicolons, the last one also after "and" or "or" (of the text after a
    colon that introduces them); else the lines. Where more than a third of such parts are longer
    than four words, the text is prose and lists nothing.
    """
    lines = [" ".join(line.split()) for line in text.splitlines()]
    lines = [line for line in lines if line and not _BARE_BULLET.match(line)]
    bulleted = [match[1] for line in lines if (match := _LISTED.match(line))]
    if bulleted:
        # "1. apple 2. pear" on one line is one list.
        return [item for line in bulleted for item in _split_numbered(line)]
    joined = "\n".join(lines)
    if len(_INLINE.findall(joined)) >= 2:
        return [item for item in _INLINE.split(joined)[1:] if item.strip()]
    lead, colon, rest = joined.partition(":")
    # Only a colon before the first comma introduces the list; a later one explains an item.
    body = rest if colon and rest.strip() and not re.search(r"[,;]", lead) else joined
    if len(_JOINED.split(body.strip())) > 2 or "," in body or ";" in body:
        body = "\n".join(_LAST_AND.sub(", ", line) for line in body.splitlines())
    items = [item for part in _JOINED.split(body) if (item := _LEADING_AND.sub("", part.strip()))]
    short = [item for item in items if len(item.split()) <= _MOST_INLINE_WORDS]
    return short if 3 * (len(items) - len(short)) <= len(items) else []


@dataclass(frozen=True)
class DistinctItems(ReferenceScorer[int]):
    """Distinct items listed / items wanted, at most 1.

    The reference is the number wanted, or a mapping with it as `count`. Items are found by
    `extract_items`. Two items are one when they agree after folding case, markup, articles,
    explanations ("apple: a fruit") and inflections. What has more than 8 words is a sentence, and
    what has no letter is a number left over from the numbering: neither is an item.

    Attributes:
        numbers: True where numbers are asked for, and count as items.
    """

    numbers: bool = False

    name = "distinct_items"
    needs_reference = True
    answers_agree = False

    def __post_init__(self) -> None:
        if not isinstance(self.numbers, bool):
            raise InvalidInput("distinct_items.numbers", "True or False", self.numbers)
        super().__post_init__()

    def read_reference(self, prompt: Prompt) -> int:
        """The number of items wanted, at least 1."""
        reference = prompt.reference
        count = reference.get("count") if isinstance(reference, Mapping) else reference
        if isinstance(count, str) and re.fullmatch(r"\s*\d{1,4}\s*", count):
            count = int(count)
        if isinstance(count, float) and count.is_integer():
            count = int(count)
        if not is_whole(count, 1):
            raise self.reject("the number of items wanted, a whole number from 1, or {'count': number}", reference)
        return count

    def score_text(self, text: str, wanted: int) -> Score:
        """The share, with the distinct items found."""
        keys = (normalise_item(item) for item in extract_items(text))
        found = dict.fromkeys(key for key in keys if key and (self.numbers or re.search(r"[^\W\d_]", key)))
        return Score(min(len(found) / wanted, 1.0), None, ", ".join(found) or None)


def normalise_item(item: str) -> str:
    """The form that two items must share to count as one; "" for what is no item."""
    name = _EXPLAINED.sub("", normalise_text(item).strip(" *_`\"'#.,;:!?"))
    found = [word for word in stem_words(name) if word not in ("a", "an", "the")]
    return " ".join(found) if len(found) <= _MOST_WORDS else ""


def _split_numbered(line: str) -> list[str]:
    parts = [part for part in _INLINE.split(line) if part.strip()]
    return parts or [line]
