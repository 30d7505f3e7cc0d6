"""The caller's own vectors as features, for instance hidden states of the frozen LLM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hagpolicy.data.prompts import Prompt, as_prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.graphs.builder import FLOAT, GraphBuilder
from hagpolicy.policy.inputs import VECTOR_KEY, Embed, VectorInputs, embed_texts, holds_vector, read_vector

# So many prompts are embedded anew to see whether the vectors given are theirs, and how far they may be apart.
_COMPARED = 4
_TOLERANCE = 0.1


class PrecomputedEncoder(Encoder):
    """Features are vectors, of any scale: those given for the table's prompts, those that prompts carry in
    `metadata["vector"]` (see `with_vectors`), or those that a function makes of texts.

    NaN is a value that is missing: the policy fills it with the median of the training prompts, and marks it in a
    column beside it (`scaling.Imputation`).

    Args:
        dim: length of the vectors; None: learned from the first prompts encoded.
        embed: makes vectors of a list of n texts, numbers (n, dim), in training for prompts that bring none, and in
            the policy: it then reads strings and chats, as any other. It is no part of the bundle, and is given again
            when that is loaded: `load(folder, embed=…)`. None: the policy reads vectors alone.
        vectors: numbers (n_prompts, dim), those of the prompts of the table that is fitted, in its order.
        name: shown in tables.

    Raises:
        InvalidInput: vectors that are no numbers of two axes, or infinite; an `embed` that is no function.
    """

    name = "precomputed"
    any_scale = True

    def __init__(
        self,
        dim: int | None = None,
        *,
        embed: Embed | None = None,
        vectors: Any = None,
        name: str = "precomputed",
    ) -> None:
        if embed is not None and not callable(embed):
            raise InvalidInput("embed", "a function of a list of texts, or None", embed)
        self.vectors = None if vectors is None else _check_vectors(vectors, dim)
        self.missing = self.vectors is not None and bool(np.isnan(self.vectors).any())
        self.dim = dim if self.vectors is None else int(self.vectors.shape[1])
        self.name = name
        if embed is not None:  # a class of one's own may have it as a method
            self.embed = embed

    def export(self, graph: GraphBuilder) -> tuple[str, str]:
        """Input `vectors` float32 (batch, dim), which are the features; no token is unknown."""
        vectors = graph.input("vectors", FLOAT, ["batch", self._known_dim()])
        rows = graph.node("Shape", [vectors], start=0, end=1)
        return vectors, graph.node("ConstantOfShape", [rows])  # of float32 zeros

    def take(self, prompts: Sequence[Prompt], rows: np.ndarray, total: int) -> Sequence[Any]:
        """What `inputs` reads of some prompts of a table, each once: their vectors, or the prompts that carry them.

        Args:
            prompts: n_kept prompts, as texts that are read of them.
            rows: int64 (n_kept,), their numbers in the table.
            total: prompts of the table.

        Raises:
            InvalidInput: another number of vectors than of prompts; or vectors unlike those that `embed` makes.
        """
        if self.vectors is None:
            return prompts if self.embed is None else [row for part in self.inputs(prompts) for row in part["vectors"]]
        if len(self.vectors) != total:
            raise InvalidInput("encoder", f"a vector for each of the table's {total} prompts", len(self.vectors))
        if self.embed is not None:
            self._compare(self.embed, prompts, self.vectors[rows])
        return list(self.vectors[rows])

    def inputs(self, prompts: Sequence[Prompt]) -> list[dict[str, np.ndarray]]:
        """`vectors`, in the prompts' order; see `Encoder.inputs`.

        Raises:
            InvalidInput: a prompt without a vector, where nothing makes one; or one of another length.
        """
        if self.dim is None and len(prompts):
            embeds = self.embed is not None and not holds_vector(prompts[0])
            if embeds and self.embed:
                first = embed_texts(self.embed, [prompts[0].text], missing=True)[0]
            else:
                first = read_vector(prompts[0], missing=True)
            self.dim = len(first)
        inputs = VectorInputs(self._known_dim(), self.embed, missing=True)
        found = [arrays for _, arrays in inputs.many(prompts)]
        self.missing |= any(bool(np.isnan(arrays["vectors"]).any()) for arrays in found)
        return found

    def spec(self) -> dict[str, Any]:
        """Name, kind of inputs, the length of a vector, and whether values may be missing."""
        known = {"name": self.name, "inputs": "vectors", "dim": self._known_dim()}
        return known | {"missing": True} if self.missing else known

    def _known_dim(self) -> int:
        if self.dim is None:
            raise InvalidInput("PrecomputedEncoder.dim", "a length", None, "Give it, or feed some prompts first.")
        return self.dim

    def _compare(self, embed: Embed, prompts: Sequence[Prompt], vectors: np.ndarray) -> None:
        """Refuse vectors that are not those of the texts: a policy would be fitted on one thing and read another."""
        some = [prompt.text for prompt in prompts[:_COMPARED]]
        own, made = vectors[: len(some)], embed_texts(embed, some, self.dim, missing=True)
        missing = np.isnan(own)
        if (missing != np.isnan(made)).any():
            raise InvalidInput("what embed returns", "the vectors given", "others: not the same values are missing")
        apart = np.linalg.norm(np.where(missing, 0.0, made - own), axis=1)
        shares = apart / np.maximum(np.linalg.norm(np.where(missing, 0.0, own), axis=1), 1e-9)
        if (worst := float(shares.max())) > _TOLERANCE:
            do = "It is given the texts that are read (of a chat the last user message, see reads)."
            raise InvalidInput("what embed returns", "the vectors given", f"others, {worst:.0%} away", do)


def _check_vectors(given: Any, dim: int | None) -> np.ndarray:
    """The vectors as float32 (n_prompts, dim)."""
    expected = f"numbers of shape (n_prompts, {dim or 'dim'})"
    try:
        vectors = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # a tensor elsewhere raises what it likes
        raise InvalidInput("vectors", expected, f"{error!s:.100}") from error
    if vectors.ndim != 2 or not vectors.size or vectors.shape[1] != (dim or vectors.shape[1]):
        raise InvalidInput("vectors", expected, f"shape {vectors.shape}")
    bad = np.flatnonzero(np.isinf(vectors).any(axis=1))
    if len(bad):
        got = f"infinity for prompt {bad[0]} ({len(bad)} such rows)"
        raise InvalidInput("vectors", "finite numbers, and NaN where a value is missing", got)
    return vectors


def with_vectors(prompts: Iterable[Any], vectors: Any) -> tuple[Prompt, ...]:
    """Prompts that carry their vectors.

    Args:
        prompts: n prompts, as strings, chat messages or `Prompt`.
        vectors: numbers (n, dim).

    Raises:
        InvalidInput: another number of vectors than of prompts, or a bad vector.
    """
    known = [as_prompt(prompt) for prompt in prompts]
    if len(known) != len(vectors):
        raise InvalidInput("vectors", f"one a prompt, {len(known)}", len(vectors))
    return tuple(
        replace(prompt, metadata={**prompt.metadata, VECTOR_KEY: read_vector(vector).tolist()})
        for prompt, vector in zip(known, vectors, strict=True)
    )
