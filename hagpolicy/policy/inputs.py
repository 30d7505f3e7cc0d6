"""From prompts to the inputs of a policy's graph: the same code in training and in production.

Needs numpy and tokenizers only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from tokenizers import Tokenizer

from hagpolicy._text import replace_surrogates
from hagpolicy.config.render import PromptLike
from hagpolicy.data.prompts import Prompt, check_content, prompt_text
from hagpolicy.errors import BundleError, InvalidInput

TOKENIZER_FILE = "tokenizer.json"
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

_ONES = np.ones((1, 4096), dtype=np.uint8)

InputArrays = dict[str, np.ndarray]


class Inputs(Protocol):
    """Makes graph inputs. A prompt's content is None where it is a bare vector.

    Attributes:
        names: of the graph's inputs.
    """

    names: tuple[str, ...]

    def one(self, prompt: Any) -> tuple[InputArrays, PromptLike | None]:
        """Graph inputs of one prompt, with batch size 1, and the prompt's content."""

    def content(self, prompt: Any) -> PromptLike | None:
        """The prompt's content, checked."""

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
        BundleError: it cannot be read, or it pads, truncates or adds tokens.
    """

    names: tuple[str, ...] = ("ids", "mask")

    def __init__(self, tokenizer: bytes) -> None:
        try:
            self._tokenizer = Tokenizer.from_buffer(tokenizer)
        except Exception as error:  # tokenizers raises bare Exception
            raise BundleError(f"{TOKENIZER_FILE}: tokenizers cannot read it: {error}") from error
        if self._tokenizer.padding is not None or self._tokenizer.truncation is not None:
            raise BundleError(f"{TOKENIZER_FILE}: expected no padding and no truncation, got one of them")
        self._encode = self._tokenizer.encode_batch_fast

    def one(self, prompt: Any) -> tuple[InputArrays, PromptLike]:
        """Graph inputs of one prompt (string, chat messages or `Prompt`) and its content."""
        content = prompt if type(prompt) is str and not prompt.isspace() else _content(prompt)
        text = content if type(content) is str else prompt_text(content)
        try:
            ids = self._encode([text if len(text) <= _WHOLE else cut(text)], add_special_tokens=False)[0].ids
        except (UnicodeEncodeError, TypeError):
            ids = self._ids([cut(text)])[0]
        if not ids:
            check_content(content)
            # A graph fed an empty axis reads memory nobody wrote: one masked padding id instead.
            return {"ids": np.zeros((1, 1), dtype=np.int64), "mask": np.zeros((1, 1), dtype=np.uint8)}, content
        # Slicing one constant mask and reshaping a flat array saves a tenth of the time of tokenizing.
        mask = _ONES[:, : len(ids)] if len(ids) <= _ONES.shape[1] else np.ones((1, len(ids)), dtype=np.uint8)
        return {"ids": np.array(ids, dtype=np.int64).reshape(1, -1), "mask": mask}, content

    def content(self, prompt: Any) -> PromptLike:
        """See `Inputs.content`."""
        return _content(prompt)

    def many(self, prompts: Sequence[Any]) -> Iterator[tuple[np.ndarray, InputArrays]]:
        """Chunks of prompts of like length; see `Inputs.many`."""
        rows = self._ids([cut(prompt_text(_content(prompt))) for prompt in prompts])
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        for numbers in split_by_length(lengths):
            width = max(1, int(lengths[numbers].max()))
            mask = (np.arange(width) < lengths[numbers, None]).astype(np.uint8)
            ids = np.zeros(mask.shape, dtype=np.int64)
            ids[mask.astype(bool)] = [token for number in numbers for token in rows[number]]
            yield numbers, {"ids": ids, "mask": mask}

    def probe(self) -> InputArrays:
        """Graph inputs that hold the tokenizer's highest id: a graph that takes them knows all its tokens."""
        highest = max(self._tokenizer.get_vocab_size() - 1, 0)
        return {"ids": np.array([[highest]], dtype=np.int64), "mask": np.ones((1, 1), dtype=np.uint8)}

    def _ids(self, texts: list[str]) -> list[list[int]]:
        try:
            return [encoded.ids for encoded in self._encode(texts, add_special_tokens=False)]
        except (UnicodeEncodeError, TypeError):
            # A lone surrogate (half an emoji, from a cut JSON string) is no UTF-8: it reads as "?".
            texts = [replace_surrogates(text) for text in texts]
            return [encoded.ids for encoded in self._encode(texts, add_special_tokens=False)]


class VectorInputs:
    """`vectors` float32 (batch, dim) from the caller's own vectors.

    Args:
        dim: length of a vector.
    """

    names: tuple[str, ...] = ("vectors",)

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def probe(self) -> InputArrays:
        """Graph inputs of a vector of zeros."""
        return {"vectors": np.zeros((1, self.dim), dtype=np.float32)}

    def one(self, prompt: Any) -> tuple[InputArrays, PromptLike | None]:
        """Graph inputs of one vector, or of a `Prompt` with the list `metadata["vector"]`."""
        return {"vectors": read_vector(prompt, self.dim)[None]}, self.content(prompt)

    def content(self, prompt: Any) -> PromptLike | None:
        """See `Inputs.content`."""
        return prompt.content if isinstance(prompt, Prompt) else None

    def many(self, prompts: Sequence[Any]) -> Iterator[tuple[np.ndarray, InputArrays]]:
        """Chunks of 1024 in the given order; see `Inputs.many`."""
        for start in range(0, len(prompts), 1024):
            numbers = np.arange(start, min(start + 1024, len(prompts)))
            yield numbers, {"vectors": np.stack([read_vector(prompts[int(number)], self.dim) for number in numbers])}


def read_vector(prompt: Any, dim: int | None = None) -> np.ndarray:
    """float32 (dim,): a vector itself, or that of a `Prompt` under `metadata["vector"]`.

    Raises:
        InvalidInput: no vector, another length than `dim`, or a value that is not finite.
    """
    if isinstance(prompt, Prompt):
        prompt = prompt.metadata.get(VECTOR_KEY)
    if prompt is None or isinstance(prompt, (str, Mapping)):
        do = f"This policy reads the caller's own vectors: pass one, or a Prompt with metadata[{VECTOR_KEY!r}]."
        raise InvalidInput("prompt", "a vector of numbers", prompt, do)
    try:
        vector = np.asarray(prompt, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidInput("prompt", "a vector of numbers", str(error)) from error
    if vector.ndim != 1 or (dim is not None and len(vector) != dim) or not len(vector):
        raise InvalidInput("vector", f"shape ({dim or 'dim'},)", f"shape {vector.shape}")
    if not np.isfinite(vector).all():
        raise InvalidInput("vector", "finite numbers", "NaN or infinity")
    return vector


def make_inputs(spec: Mapping[str, Any], files: Mapping[str, bytes]) -> Inputs:
    """The maker of a graph's inputs, by an encoder's `spec()` and `files()`.

    Raises:
        BundleError: an unknown kind of inputs, or a missing file.
    """
    kind = spec.get("inputs")
    if kind == "tokens":
        if TOKENIZER_FILE not in files:
            raise BundleError(f"expected the file {TOKENIZER_FILE}, got {sorted(files)}")
        return TokenInputs(files[TOKENIZER_FILE])
    if kind == "vectors" and isinstance(spec.get("dim"), int):
        return VectorInputs(spec["dim"])
    raise BundleError(f"encoder: expected inputs 'tokens' or 'vectors', got {dict(spec)!r}")


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


def _content(prompt: Any) -> PromptLike:
    """The content of a string, chat messages or `Prompt`; strings take the short way."""
    if type(prompt) is str and prompt and not prompt.isspace():
        return prompt
    return prompt.content if isinstance(prompt, Prompt) else check_content(prompt)
