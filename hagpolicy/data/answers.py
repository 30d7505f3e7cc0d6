"""Answers that scorers extract from texts, as codes: equal where two answers say the same."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from hagpolicy._checks import is_integral
from hagpolicy._digest import DIGEST_BYTES, digest_bytes
from hagpolicy.data.prompts import normalise
from hagpolicy.errors import InvalidInput

NO_ANSWER = -1
_MAX_CODE = int(np.iinfo(np.int32).max)

# With thousands separators or without, as "1,000", "18.0", "-.5", "1e3".
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]*)?(?:e[+-]?[0-9]{1,9})?")
_EXPECTED = "strings, with None for no answer, or whole numbers from -1 (none): equal for equal answers"


def compute_answer_key(answer: str) -> str:
    """A key that is equal for answers that say the same; "" for an answer without content.

    Equal are numbers of one value ("18", "18.0", "1.8e1"), and texts that differ in Unicode form (NFKC), case
    and white space only. A long answer is represented by its digest.
    """
    # Folding may undo the form: twice, as Unicode's own caseless matching does.
    text = normalise(normalise(answer).casefold())
    if _NUMBER.fullmatch(text):
        try:
            sign, digits, exponent = Decimal(text.replace(",", "")).as_tuple()
        except InvalidOperation:  # "." or "e5": no digits
            return text
        written = "".join(map(str, digits)).lstrip("0")
        short = written.rstrip("0")
        # A number itself, so no other text has this key.
        return f"{'-' * sign}{short}e{int(exponent) + len(written) - len(short)}" if short else "0"
    if len(text) <= 2 * DIGEST_BYTES:
        return text
    return f"\n{digest_bytes(text.encode('utf-8', 'surrogatepass'))}"


class AnswerCodes:
    """A number for every answer, in order of first appearance; holds a short key of each, not its text."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def code(self, answer: str | None) -> int:
        """Number of an answer, at least 0; -1 for None and for an answer without content."""
        key = "" if answer is None else compute_answer_key(answer)
        return self._known.setdefault(key, len(self._known)) if key else NO_ANSWER

    def column(self, texts: Any) -> np.ndarray:
        """int64 (n,): numbers of an Arrow column of strings; every distinct one is looked at once a chunk."""
        parts = [np.empty(0, dtype=np.int64)]
        for chunk in texts.chunks:
            encoded = chunk.dictionary_encode()
            known = [self.code(text) for text in encoded.dictionary.to_pylist()]
            indices = encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
            parts.append(np.array([*known, NO_ANSWER], dtype=np.int64)[indices])
        return np.concatenate(parts)


def as_codes(values: Any) -> np.ndarray:
    """int64 array, of the shape of the values: codes of answers that are given as an array or nested lists.

    Raises:
        InvalidInput: they are neither strings (or None) nor whole numbers from -1.
    """
    try:
        array = values if isinstance(values, np.ndarray) else np.array(values, dtype=object)
    except ValueError as error:
        raise InvalidInput("answers", _EXPECTED, str(error)) from error
    if not array.ndim:
        raise InvalidInput("answers", "an array or nested lists, shaped like rewards", values)
    if array.dtype.kind in "iu":
        return _check_lowest(array.astype(np.int64))
    flat = array.astype(object).ravel().tolist()
    if any(isinstance(one, (list, tuple)) for one in flat):
        raise InvalidInput("answers", "lists of equal length at every level", "lists that differ in length")
    # A missing label is NaN where it went through pandas.
    missing = [one is None or (isinstance(one, float) and one != one) for one in flat]
    kinds = {int if is_integral(one) else type(one) for one, none in zip(flat, missing, strict=True) if not none}
    if kinds <= {int}:
        codes = [NO_ANSWER if none else int(one) for one, none in zip(flat, missing, strict=True)]
    elif all(issubclass(kind, str) for kind in kinds):
        numbers = AnswerCodes()
        codes = [NO_ANSWER if none else numbers.code(one) for one, none in zip(flat, missing, strict=True)]
    else:
        found = next(one for one, none in zip(flat, missing, strict=True) if not none and not isinstance(one, str))
        raise InvalidInput("answers", _EXPECTED, found)
    return _check_lowest(np.array(codes, dtype=np.int64).reshape(array.shape))


def check_codes(values: Any, rewards: np.ndarray) -> np.ndarray:
    """Codes of answers as a table holds them: int32, read-only, -1 where the reward is missing.

    Args:
        values: int, of the shape of rewards.
        rewards: float64, NaN = missing.

    Raises:
        InvalidInput: no whole numbers, one below -1 or beyond int32, or another shape.
    """
    codes = np.asarray(values)
    if codes.dtype.kind not in "iu" or (codes.size and not NO_ANSWER <= codes.min() <= codes.max() <= _MAX_CODE):
        got = f"{codes.min()} to {codes.max()}" if codes.dtype.kind in "iu" else f"an array of {codes.dtype}"
        raise InvalidInput("answers", f"whole numbers from {NO_ANSWER} (none) to {_MAX_CODE}", got)
    if codes.shape != rewards.shape:
        raise InvalidInput("answers", f"the shape of rewards, {rewards.shape}", f"shape {codes.shape}")
    codes = np.where(np.isnan(rewards), NO_ANSWER, codes).astype(np.int32)
    codes.flags.writeable = False
    return codes


def renumber(codes: np.ndarray) -> np.ndarray | None:
    """Codes counted anew within each prompt, in order of first appearance: equal tables have equal ones.

    Args:
        codes: int (n_prompts, …), negative for none.

    Returns:
        int32 of the same shape, 0, 1, … or -1 for none; None where there is no answer at all.
    """
    flat = codes.reshape(len(codes), int(np.prod(codes.shape[1:])))
    prompt, place = np.nonzero(flat >= 0)
    if not len(prompt):
        return None
    _, shared = np.unique(flat[prompt, place], return_inverse=True)
    _, first, answer = np.unique(prompt * (shared.max() + 1) + shared, return_index=True, return_inverse=True)
    owner = prompt[first]  # of each distinct answer, in order of prompts
    order = np.lexsort((first, owner))
    rank = np.empty(len(first), dtype=np.int64)
    rank[order] = np.arange(len(first)) - np.searchsorted(owner, owner)
    found = np.full(flat.shape, NO_ANSWER, dtype=np.int32)
    found[prompt, place] = rank[answer]
    return found.reshape(codes.shape)


def _check_lowest(codes: np.ndarray) -> np.ndarray:
    """The codes themselves. Raises InvalidInput for one below -1."""
    if codes.size and codes.min() < NO_ANSWER:
        raise InvalidInput("answers", _EXPECTED, int(codes.min()))
    return codes
