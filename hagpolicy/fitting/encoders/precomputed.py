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
from hagpolicy.policy.inputs import VECTOR_KEY, VectorInputs, read_vector


class PrecomputedEncoder(Encoder):
    """Features are vectors that the prompts carry in `metadata["vector"]` (see `with_vectors`).

    Args:
        dim: length of the vectors; None: learned from the first prompts encoded.
    """

    name = "precomputed"

    def __init__(self, dim: int | None = None) -> None:
        self.dim = dim

    def export(self, graph: GraphBuilder) -> tuple[str, str]:
        """Input `vectors` float32 (batch, dim), which are the features; no token is unknown."""
        vectors = graph.input("vectors", FLOAT, ["batch", self._known_dim()])
        rows = graph.node("Shape", [vectors], start=0, end=1)
        return vectors, graph.node("ConstantOfShape", [rows])  # of float32 zeros

    def inputs(self, prompts: Sequence[Prompt]) -> list[dict[str, np.ndarray]]:
        """`vectors`, in the prompts' order; see `Encoder.inputs`.

        Raises:
            InvalidInput: a prompt without a vector, or with one of another length.
        """
        if self.dim is None and len(prompts):
            self.dim = len(read_vector(prompts[0]))
        return [arrays for _, arrays in VectorInputs(self._known_dim()).many(prompts)]

    def spec(self) -> dict[str, Any]:
        """Name, kind of inputs and the length of a vector."""
        return {"name": self.name, "inputs": "vectors", "dim": self._known_dim()}

    def _known_dim(self) -> int:
        if self.dim is None:
            raise InvalidInput("PrecomputedEncoder.dim", "a length", None, "Give it, or feed some prompts first.")
        return self.dim


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
