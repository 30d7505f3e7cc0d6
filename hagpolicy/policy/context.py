"""Whether a message says what is wanted by itself, or only beside what was said before ("shorter, please").

A logistic regression over words and structure, trained on written examples by `benchmarks/tools/train_context.py`:
English, with the commonest phrases of German, French and Spanish. Its weights are the asset `context.json`, its lists
of words `context_words.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files as resources
from typing import Any, NamedTuple

# A longer message says enough by itself.
MAX_WORDS = 40
# Of a text that is scanned at all: no message of so few words is longer.
_MAX_CHARS = 400
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_QUOTED = re.compile(r"[\"“”«»`]|(?<!\w)['‘].+?['’](?!\w)")
_BUCKETS = ((0, "0"), (1, "1"), (2, "2"), (3, "3"), (4, "4"), (6, "5-6"), (9, "7-9"), (13, "10-13"), (20, "14-20"))


def needs_context(text: str) -> bool:
    """True for a message that says nothing without its history; asked only where there is one."""
    if len(text) > _MAX_CHARS:
        return False
    found = list_features(text)
    if found is None:
        return False
    weights, threshold = _weights()
    return sum(weights.get(feature, 0.0) for feature in found) > threshold


def list_features(text: str) -> list[str] | None:
    """Names of the features that a message has, each once; None for one too long to need its history."""
    words = [word.replace("’", "'") for word in _WORD.findall(text)]
    if len(words) > MAX_WORDS:
        return None
    return list(dict.fromkeys(_features(text, words)))


def _features(text: str, words: list[str]) -> Iterator[str]:
    lower, lists = [word.lower() for word in words], _lists()
    content = [word for word in lower if word not in lists.common and not word.isdigit()]
    few, many = _bucket(len(content)), _bucket(len(words))
    yield from ("bias", f"words {many}", f"content {few}", f"share {round(4 * len(content) / max(1, len(words)))}")
    if sum(map(len, content)) >= 12:
        yield "much content"
    kinds = sorted({lists.kinds[word] for word in lower if word in lists.kinds})
    yield from (f"refers {kind}" for kind in kinds)
    yield from (f"refers {len(kinds)}", f"refers {bool(kinds)}, content {few}")
    if "it" in kinds:
        yield f"refers it, content {few}"
    if lower:
        yield from (f"{place} {lists.kinds.get(lower[at], '')}" for place, at in (("begins", 0), ("ends", -1)))
        yield f"leads {lower[0] in lists.leading}, words {many}"
    numbers = sum(any(sign.isdigit() for sign in word) for word in words)
    yield f"numbers {min(numbers, 2)}"
    if any(word[:1].isupper() and word != "I" and not word.startswith("I'") for word in words[1:]):
        yield "name"
    yield from (f"mark {mark!r}" for mark in ("\n", ":", "?", "…", "...", "=") if mark in text)
    if _QUOTED.search(text):
        yield "quoted"
    known = [word if word in lists.common else "#" if word[:1].isdigit() else "*" for word in lower]
    yield from (f"word {word}" for word in known)
    yield from (f"pair {one} {two}" for one, two in zip(["^", *known], [*known, "$"], strict=True))


def _bucket(count: int) -> str:
    return next((name for most, name in _BUCKETS if count <= most), "21+")


class _Lists(NamedTuple):
    """Words by what they do.

    Attributes:
        common: that carry little of a request's matter; what they stand beside does.
        kinds: how a word refers to what was said before: "it", "ordinal", "change", "answer".
        leading: that begin a message which goes on with another.
    """

    common: frozenset[str]
    kinds: dict[str, str]
    leading: frozenset[str]


@lru_cache(maxsize=1)
def _lists() -> _Lists:
    found = _read("context_words.json")
    kinds = {word: kind for kind, words in found["kinds"].items() for word in words}
    return _Lists(frozenset(found["common"]), kinds, frozenset(found["leading"]))


@lru_cache(maxsize=1)
def _weights() -> tuple[dict[str, float], float]:
    """Weight of each feature, and the score above which a message needs its history."""
    found = _read("context.json")
    return found["weights"], found["threshold"]


def _read(name: str) -> Any:
    return json.loads((resources("hagpolicy") / "assets" / name).read_text("utf-8"))
