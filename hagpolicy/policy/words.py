"""`KnownWords`: the ids of plain texts word by word, each word tokenized once.

A tokenizer that a bundle may have (`policy.tokenizer`) takes a text of ASCII apart at blanks and punctuation, and each
word by itself: normalizers work character by character there, but for those that make marks of line breaks and tabs. So
the ids of such a text are those of its words one after the other, and nearly all of these were met before: looking them
up takes a fraction of the time of the library. `tests/policy/test_words.py` holds both equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain
from typing import Any

__all__ = ["KnownWords"]

# Of words that are kept; beyond that all are forgotten.
MOST_WORDS, MOST_CHARACTERS = 20_000, 32
# A run of line breaks and tabs, with the blanks in it and behind it, is one word: what becomes of a blank hangs on what
# stands before it.
_split = re.compile(r"[A-Za-z0-9]+|[!-/:-@\[-`{-~]|[\t\n\r][\t\n\r ]*").findall
# Control characters join the words at whose end they stand.
_find_control = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]").search


class KnownWords:
    """The ids of texts of ASCII by their words, which are remembered.

    Args:
        tokenizer: of `build_tokenizer`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._encode = tokenizer.encode  # of both the one that tells words apart
        made = [tokenizer.normalizer.normalize_str(f"x{run}x") for run in ("\n", "\r", "\t", "\n  ")]
        self._takes_runs = all(text[1].isspace() and text[-2].isspace() for text in made)
        self._known: dict[str, tuple[int, ...]] = {}

    def find_ids(self, text: str) -> list[int] | None:
        """The ids of a text; None where it is not one of plain words, and is for the tokenizer as a whole."""
        if not text.isascii() or not (text.isprintable() or (self._takes_runs and not _find_control(text))):
            return None
        words = _split(text)
        rows = list(map(self._known.get, words))
        if None not in rows:
            return list(chain.from_iterable(rows))  # type: ignore[arg-type]
        learned = self._learn({word for word, row in zip(words, rows, strict=True) if row is None})
        return list(
            chain.from_iterable(learned[word] if row is None else row for word, row in zip(words, rows, strict=True))
        )

    def _learn(self, words: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """The ids of words, which are kept."""
        runs: list[str] = []
        plain: list[str] = []
        for word in words:
            (runs if word.isspace() else plain).append(word)
        found: dict[str, list[int]] = {word: [] for word in plain}
        together = self._encode(" ".join(plain), add_special_tokens=False)
        for id, at in zip(together.ids, together.word_ids, strict=True):
            found[plain[at]].append(id)
        found |= {run: self._encode(run, add_special_tokens=False).ids for run in runs}
        if len(self._known) + len(found) > MOST_WORDS:
            self._known.clear()
        learned = {word: tuple(ids) for word, ids in found.items()}
        self._known.update((word, ids) for word, ids in learned.items() if len(word) <= MOST_CHARACTERS)
        return learned
