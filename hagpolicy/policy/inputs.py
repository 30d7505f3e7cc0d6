"""From prompts to the inputs of a policy's graph: the same code in training and in production.

Needs numpy and tokenizers only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from hagpolicy._text import replace_surrogates
from hagpolicy.data.prompts import Prompt, as_prompt, prompt_text
from hagpolicy.errors import BundleError, InvalidInput
from hagpolicy.policy.graph.model import MAX_TOKENS
from hagpolicy.policy.schema import items, record, whole
from hagpolicy.policy.tokenizer import TOKENIZER_FILE, build_tokenizer, raise_library_error
from hagpolicy.policy.words import KnownWords

VECTOR_KEY = "vector"

# A policy reads the kind of a prompt, and that shows in its head and tail. A tokenizer's own
# truncation cuts only after tokenizing everything, so characters are cut first.
HEAD_CHARS = 6000
TAIL_CHARS = 2000
_WHOLE = HEAD_CHARS + TAIL_CHARS
# Where a cut falls inside a word, the word is left out, if it began at most this many characters before.
_WORD_CHARS = 200
# Cells of one chunk (rows × longest row): beyond this the gathered rows leave the cache.
_CHUNK_CELLS = 8192
# Of an encoder that reads some of a prompt's tokens.
MAX_WINDOW, MAX_MARKS = 1024, 4
# Characters that are tokenized at a time: a tokenizer holds some 80 bytes for each until it has done all.
_TOKENIZED_CHARS = 200_000

_ONES = np.ones((1, 4096), dtype=np.uint8)

InputArrays = dict[str, np.ndarray]
Embed = Callable[[list[str]], Any]
"""Texts to their vectors, numbers (n_texts, dim): the caller's own encoder."""


class Inputs(Protocol):
    """Makes graph inputs of what `hagpolicy.policy.reading` reads of a prompt.

    Attributes:
        names: of the graph's inputs.
        most_tokens: of a prompt, at most; 1 where there are none.
    """

    names: tuple[str, ...]
    most_tokens: int

    def one(self, item: Any) -> InputArrays:
        """Graph inputs of one text or vector, with batch size 1."""

    def probe(self) -> InputArrays:
        """Graph inputs that every graph of these inputs must take."""

    def many(self, prompts: Sequence[Any]) -> Iterator[tuple[np.ndarray, InputArrays]]:
        """Chunks: int64 (rows,) the numbers of the prompts, and the graph inputs for them."""


def cut(text: str) -> str:
    """The text itself, or its head and tail, cut at spaces, where it is longer than 8,000 characters."""
    if len(text) <= _WHOLE:
        return text
    head, tail = text[:HEAD_CHARS], text[-TAIL_CHARS:]
    if not text[HEAD_CHARS].isspace():
        space = max(head.rfind(" ", HEAD_CHARS - _WORD_CHARS), head.rfind("\n", HEAD_CHARS - _WORD_CHARS))
        head = head[:space] if space >= 0 else head
    if not text[-TAIL_CHARS - 1].isspace():
        places = [place for mark in " \n" if (place := tail.find(mark, 0, _WORD_CHARS)) >= 0]
        tail = tail[min(places) :] if places else tail
    return f"{head} {tail}"


class TokenInputs:
    """`ids` int64 (batch, tokens) and `mask` uint8 (batch, tokens) from text.

    Args:
        tokenizer: the bytes of a tokenizer.json.

    Raises:
        BundleError: it cannot be read, or has parts that are not understood, see `build_tokenizer`.
    """

    names: tuple[str, ...] = ("ids", "mask")
    most_tokens: int = MAX_TOKENS  # four for each character that is kept

    def __init__(self, tokenizer: bytes) -> None:
        self._tokenizer = build_tokenizer(tokenizer)
        self._encode, self._words = self._tokenizer.encode_batch_fast, KnownWords(self._tokenizer)

    def one(self, item: str) -> InputArrays:
        """Graph inputs of one text, which may be empty."""
        ids = self._ids([item if len(item) <= _WHOLE else cut(item)])[0]
        if not ids:
            # A graph fed an empty axis reads memory nobody wrote: one masked padding id instead.
            return {"ids": np.zeros((1, 1), dtype=np.int64), "mask": np.zeros((1, 1), dtype=np.uint8)}
        # Slicing one constant mask and reshaping a flat array saves a tenth of the time of tokenizing.
        mask = _ONES[:, : len(ids)] if len(ids) <= _ONES.shape[1] else np.ones((1, len(ids)), dtype=np.uint8)
        return {"ids": np.array(ids, dtype=np.int64).reshape(1, -1), "mask": mask}

    def many(self, prompts: Sequence[Any]) -> Iterator[tuple[np.ndarray, InputArrays]]:
        """Chunks of prompts of like length; see `Inputs.many`."""
        rows = [row for texts in _split_by_size(map(_text, prompts)) for row in self._rows(texts)]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        for numbers in split_by_length(lengths):
            width = max(1, int(lengths[numbers].max()))
            mask = (np.arange(width) < lengths[numbers, None]).astype(np.uint8)
            ids = np.zeros(mask.shape, dtype=np.int64)
            ids[mask.astype(bool)] = np.concatenate([rows[number] for number in numbers])
            yield numbers, {"ids": ids, "mask": mask}

    def ordered(self, prompts: Sequence[Any]) -> list[InputArrays]:
        """Graph inputs in the prompts' order, in chunks along the first axis."""
        ordered: list[InputArrays] = []
        # `many` sorts by length; here the order is promised, so these are runs of 64.
        for start in range(0, len(prompts), 64):
            part = list(self.many(prompts[start : start + 64]))
            width = max(arrays["ids"].shape[1] for _, arrays in part)
            rows = sum(len(numbers) for numbers, _ in part)
            joined = {"ids": np.zeros((rows, width), np.int64), "mask": np.zeros((rows, width), np.uint8)}
            for numbers, arrays in part:
                for name, values in arrays.items():
                    joined[name][numbers, : values.shape[1]] = values
            ordered.append(joined)
        return ordered

    def _rows(self, texts: list[str]) -> list[np.ndarray]:
        """int32 (tokens,) of each text: of a long one a twentieth of what the tokenizer holds of it."""
        return [np.array(ids, dtype=np.int32) for ids in self._ids(texts)]

    def probe(self) -> InputArrays:
        """Graph inputs that hold the tokenizer's highest id: a graph that takes them knows all its tokens."""
        highest = max(self._tokenizer.get_vocab_size() - 1, 0)
        return {"ids": np.array([[highest]], dtype=np.int64), "mask": np.ones((1, 1), dtype=np.uint8)}

    def _ids(self, texts: list[str]) -> list[list[int]]:
        try:
            found = list(map(self._words.find_ids, texts))
            rest = [text for text, ids in zip(texts, found, strict=True) if ids is None]
            others = iter(self._encode(rest, add_special_tokens=False) if rest else ())
            rows = [next(others).ids if ids is None else ids for ids in found]
        except (UnicodeEncodeError, TypeError):
            # A lone surrogate (half an emoji, from a cut JSON string) is no UTF-8: it reads as "?".
            plain = [replace_surrogates(text) for text in texts]
            if plain == texts:
                raise
            return TokenInputs._ids(self, plain)
        except BaseException as error:
            raise_library_error(error, "cannot read a prompt")
            raise
        if max(map(len, rows), default=0) > MAX_TOKENS:
            raise BundleError(f"{TOKENIZER_FILE}: expected at most {MAX_TOKENS:,} tokens of a prompt, got more")
        return rows


WINDOW_FIELDS = {
    "window": whole(1, MAX_WINDOW),
    "before": items(whole(0), MAX_MARKS),
    "after": items(whole(0), MAX_MARKS),
}
"""What an encoder's `spec()` says of `WindowInputs` beside its name, and the check of each."""


class WindowInputs(TokenInputs):
    """`ids` int64 (1, tokens) and `mask` uint8 (1, tokens), all 1, from text: one prompt at a time, so that no other
    prompt can change what a graph of floating-point numbers makes of it.

    Args:
        tokenizer: the bytes of a tokenizer.json.
        window: of a longer text as many tokens are read, the last quarter of them from its end.
        before, after: ids that stand around what is read, such as those of [CLS] and [SEP].

    Raises:
        BundleError: see `TokenInputs`; or marks that are not in the vocabulary.
    """

    def __init__(self, tokenizer: bytes, window: int, before: Sequence[int], after: Sequence[int]) -> None:
        super().__init__(tokenizer)
        self.window, self._before, self._after = window, list(before), list(after)
        self.most_tokens = max(1, window + len(before) + len(after))
        if max((*before, *after), default=0) >= self._tokenizer.get_vocab_size():
            raise BundleError(f"{TOKENIZER_FILE}: expected a vocabulary with the ids {[*before, *after]}")

    def many(self, prompts: Sequence[Any]) -> Iterator[tuple[np.ndarray, InputArrays]]:
        """One prompt a chunk, in the given order; see `Inputs.many`."""
        rows = (row for texts in _split_by_size(map(_text, prompts)) for row in self._rows(texts))
        for number, row in enumerate(rows):
            ids = row.astype(np.int64).reshape(1, -1) if len(row) else np.zeros((1, 1), dtype=np.int64)
            yield np.array([number]), {"ids": ids, "mask": np.full(ids.shape, len(row) > 0, dtype=np.uint8)}

    def ordered(self, prompts: Sequence[Any]) -> list[InputArrays]:
        """See `TokenInputs.ordered`."""
        return [arrays for _, arrays in self.many(prompts)]

    def probe(self) -> InputArrays:
        """As many tokens as a prompt may have, all of them the tokenizer's highest id."""
        (highest,) = super().probe()["ids"][0]
        shape = (1, self.most_tokens)
        return {"ids": np.full(shape, highest, dtype=np.int64), "mask": np.ones(shape, dtype=np.uint8)}

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return [[*self._before, *self._read(ids), *self._after] for ids in super()._ids(texts)]

    def _read(self, ids: list[int]) -> list[int]:
        if len(ids) <= self.window:
            return ids
        tail = self.window // 4
        return ids[: self.window - tail] + ids[len(ids) - tail :]


class VectorInputs:
    """`vectors` float32 (batch, dim) from the caller's own vectors.

    Args:
        dim: length of a vector.
        embed: makes vectors of texts; None: every item brings its own.
        missing: NaN is a value that is missing, for which the graph has one.
    """

    names: tuple[str, ...] = ("vectors",)
    most_tokens: int = 1

    def __init__(self, dim: int, embed: Embed | None = None, *, missing: bool = False) -> None:
        self.dim, self.embed, self.missing = dim, embed, missing

    def probe(self) -> InputArrays:
        """Graph inputs of a vector of zeros."""
        return {"vectors": np.zeros((1, self.dim), dtype=np.float32)}

    def one(self, item: Any) -> InputArrays:
        """Graph inputs of one vector, of a `Prompt` with the list `metadata["vector"]`, or of a text to embed."""
        return {"vectors": self._read([item])}

    def many(self, prompts: Sequence[Any]) -> Iterator[tuple[np.ndarray, InputArrays]]:
        """Chunks of 1024 in the given order; see `Inputs.many`."""
        for start in range(0, len(prompts), 1024):
            numbers = np.arange(start, min(start + 1024, len(prompts)))
            yield numbers, {"vectors": self._read(prompts[start : start + 1024])}

    def _read(self, items: Sequence[Any]) -> np.ndarray:
        """float32 (n, dim): the items' own vectors, and those of texts, which are embedded together."""
        found = np.zeros((len(items), self.dim), dtype=np.float32)
        texts: dict[int, str] = {}
        for number, item in enumerate(items):
            if self.embed is None or holds_vector(item):
                found[number] = read_vector(item, self.dim, missing=self.missing)
            elif (text := _whole_text(item)).strip():  # what has no text is not read, whatever its vector
                texts[number] = text
        if self.embed is not None and texts:
            found[list(texts)] = embed_texts(self.embed, list(texts.values()), self.dim, missing=self.missing)
        return found


def embed_texts(embed: Embed, texts: list[str], dim: int | None = None, *, missing: bool = False) -> np.ndarray:
    """float32 (n, dim): the vectors of n texts, at least one; with `missing`, NaN is a value.

    Raises:
        InvalidInput: it gave no numbers, another shape, or a value that is not finite.
    """
    given = embed(texts)
    try:
        vectors = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # a tensor elsewhere raises what it likes
        do = "Return a numpy array, or a list of lists of numbers."
        raise InvalidInput("what embed returns", "an array of numbers", f"{error!s:.100}", do) from error
    if vectors.ndim != 2 or len(vectors) != len(texts) or vectors.shape[1] != (dim or vectors.shape[1] or -1):
        do = "It is given a list of texts, and returns a row for each."
        raise InvalidInput("what embed returns", f"shape ({len(texts)}, {dim or 'dim'})", f"shape {vectors.shape}", do)
    check_finite("what embed returns", vectors, missing=missing)
    return vectors


def check_finite(name: str, values: np.ndarray, *, missing: bool = False) -> None:
    """Refuse infinity, and NaN unless it is a value that is missing. Raises InvalidInput."""
    if np.isinf(values).any() or (not missing and np.isnan(values).any()):
        do = "" if missing else "A policy reads NaN as a missing value where it was fitted on vectors with some."
        raise InvalidInput(name, "finite numbers", "infinity" if missing else "NaN or infinity", do)


def holds_vector(prompt: Any) -> bool:
    """Whether this is a vector, or a `Prompt` that brings one: no text and no chat."""
    if isinstance(prompt, Prompt):
        return VECTOR_KEY in prompt.metadata
    if isinstance(prompt, (list, tuple)):
        return not prompt or isinstance(prompt[0], (int, float, np.number))
    return getattr(prompt, "ndim", None) is not None and getattr(prompt, "dtype", None) != np.dtype(object)


def read_vector(prompt: Any, dim: int | None = None, *, missing: bool = False) -> np.ndarray:
    """float32 (dim,): a vector itself, or that of a `Prompt` under `metadata["vector"]`. With `missing`, NaN is one.

    Raises:
        InvalidInput: no vector, another length than `dim`, or a value that is not finite.
    """
    if isinstance(prompt, Prompt):
        prompt = prompt.metadata.get(VECTOR_KEY)
    if prompt is None or isinstance(prompt, (str, Mapping)):
        do = f"It reads the caller's own vectors: pass one, or a Prompt with metadata[{VECTOR_KEY!r}]; or name what "
        do += "makes vectors of texts: load(folder, embed=…), PrecomputedEncoder(embed=…)."
        raise InvalidInput("prompt", "a vector of numbers", prompt, do)
    try:
        vector = np.asarray(prompt, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput("prompt", "a vector of numbers", str(error)) from error
    if vector.ndim != 1 or (dim is not None and len(vector) != dim) or not len(vector):
        raise InvalidInput("vector", f"shape ({dim or 'dim'},)", f"shape {vector.shape}")
    check_finite("vector", vector, missing=missing)
    return vector


def make_inputs(spec: Mapping[str, Any], files: Mapping[str, bytes], embed: Embed | None = None) -> Inputs:
    """The maker of a graph's inputs, by an encoder's `spec()` and `files()`, and what makes vectors of texts.

    Raises:
        BundleError: an unknown kind of inputs, or a missing file.
        InvalidInput: `embed` is no function, or the graph reads tokens.
    """
    kind = spec.get("inputs")
    if embed is not None and not callable(embed):
        raise InvalidInput("embed", "a function of a list of texts, or None", embed)
    if kind in ("tokens", "window"):
        if embed is not None:
            do = "Leave embed out: this policy brings its own tokenizer and encoder."
            raise InvalidInput("embed", "a policy that reads vectors", "one that reads texts", do)
        if TOKENIZER_FILE not in files:
            raise BundleError(f"expected the file {TOKENIZER_FILE}, got {sorted(files)}")
        tokenizer = files[TOKENIZER_FILE]
        if kind == "tokens":
            return TokenInputs(tokenizer)
        given = {name: one for name, one in spec.items() if name in WINDOW_FIELDS}
        return WindowInputs(tokenizer, **record(WINDOW_FIELDS)("encoder", given))
    if kind == "vectors" and isinstance(spec.get("dim"), int):
        return VectorInputs(spec["dim"], embed, missing=spec.get("missing") is True)
    raise BundleError(f"encoder: expected inputs 'tokens', 'window' or 'vectors', got {dict(spec)!r}")


def split_by_length(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Numbers of the rows, shortest first, in chunks of at most 8,192 padded cells (one row at least).

    Args:
        lengths: int64 (n,), tokens of each row.
    """
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * int(lengths[order[stop]]) <= _CHUNK_CELLS:
            stop += 1
        yield order[start:stop]
        start = stop


def _split_by_size(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in their order, in chunks of some 200,000 characters."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text) + 1
        if size > _TOKENIZED_CHARS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _text(item: Any) -> str:
    """What the tokenizer reads of a text, or of a prompt whose text was not read out of it before."""
    return cut(_whole_text(item))


def _whole_text(item: Any) -> str:
    return item if isinstance(item, str) else prompt_text(as_prompt(item).content)
