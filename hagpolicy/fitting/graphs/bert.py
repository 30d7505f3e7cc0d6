"""The graph of a BERT encoder (Devlin et al., NAACL 2019), from token ids to its last hidden states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hagpolicy.fitting.graphs.builder import FLOAT, INT64, UINT8, GraphBuilder

# Weights have 7 bits: the sum of two products of theirs and 8 bits fits into 16, which older processors add in.
_WEIGHT_CODES, _CODES = 63.0, 127.0
# The operator takes values without a sign: 128 is zero.
_ZERO = 128
_LEAST_SCALE = 1e-12


@dataclass(frozen=True, eq=False)
class BertWeights:
    """A BERT encoder.

    Attributes:
        state: float32 arrays by the names that transformers gives them ("encoder.layer.0.output.dense.weight").
        n_layers, n_heads: of its layers, and of the attention in each.
        epsilon: of its layer normalisation.
        activation: "gelu" or "relu".
    """

    state: Mapping[str, np.ndarray]
    n_layers: int
    n_heads: int
    epsilon: float
    activation: str

    @property
    def n_positions(self) -> int:
        """Tokens that it can tell the places of."""
        return len(self.state["embeddings.position_embeddings.weight"])


def append_bert(graph: GraphBuilder, weights: BertWeights, ids: str, mask: str, *, int8: bool = False) -> str:
    """Append a BERT encoder; returns the name of its last hidden states, float32 (batch, tokens, width).

    Args:
        graph: that has the inputs.
        weights: of the encoder.
        ids: tensor of int64 (batch, tokens).
        mask: tensor of uint8 (batch, tokens), 1 for a token and 0 for padding.
        int8: weights in 7 bits with a scale for each column, and the values that they are multiplied with in 8, with a
            scale for each token, found as the graph runs.
    """
    return _Writer(graph, weights, int8).append(ids, mask)


@dataclass(eq=False)
class _Writer:
    """Appends the encoder's parts; names of tensors go in and out."""

    graph: GraphBuilder
    weights: BertWeights
    int8: bool
    _coded: dict[str, tuple[str, str]] = field(default_factory=dict)

    def append(self, ids: str, mask: str) -> str:
        states = self._embed(ids, mask)
        axes = self.graph.constant(np.array([1, 2]), "axes")
        wide = self.graph.node("Unsqueeze", [self.graph.cast(mask, FLOAT), axes])
        # 0 for a token, far below every score for padding.
        hidden = self._scale(self._add(wide, np.float32(-1.0)), 1e9)
        for layer in range(self.weights.n_layers):
            states = self._append_layer(f"encoder.layer.{layer}.", states, hidden)
        return states

    def _embed(self, ids: str, mask: str) -> str:
        one = self.graph.constant(np.array(1), "axis")
        places = self.graph.node("CumSum", [self.graph.cast(mask, INT64), one], exclusive=1)
        words = self._look_up("embeddings.word_embeddings.weight", ids)
        positions = self._look_up("embeddings.position_embeddings.weight", places)
        # Every token is of the first of two kinds: a prompt is one text.
        kind = self.weights.state["embeddings.token_type_embeddings.weight"][0]
        return self._normalise("embeddings.LayerNorm", self._add(self._sum(words, positions), kind))

    def _look_up(self, name: str, index: str) -> str:
        """Rows of a table: float32 (batch, tokens, width)."""
        table = self.weights.state[name]
        if not self.int8:
            return self.graph.node("Gather", [self.graph.constant(table, "table"), index])
        codes, scales = _encode(table, 1, _CODES)
        rows = self.graph.cast(self.graph.node("Gather", [self.graph.constant(codes, "table"), index]), FLOAT)
        return self._multiply(rows, self.graph.node("Gather", [self.graph.constant(scales, "scales"), index]))

    def _append_layer(self, layer: str, states: str, hidden: str) -> str:
        attended = self._apply(
            f"{layer}attention.output.dense", self._attend(f"{layer}attention.self.", states, hidden)
        )
        states = self._normalise(f"{layer}attention.output.LayerNorm", self._sum(attended, states))
        inner = self._activate(self._apply(f"{layer}intermediate.dense", states))
        return self._normalise(
            f"{layer}output.LayerNorm", self._sum(self._apply(f"{layer}output.dense", inner), states)
        )

    def _attend(self, part: str, states: str, hidden: str) -> str:
        """Scaled dot products of all tokens with all tokens, in each head: float32 (batch, tokens, width)."""
        width = self.weights.state[f"{part}query.bias"].shape[0]
        size = width // self.weights.n_heads
        split = self.graph.constant(np.array([0, 0, self.weights.n_heads, size]), "split")
        queries = self._apply(f"{part}query", states, 1.0 / np.sqrt(size))
        parts = [queries, *(self._apply(f"{part}{name}", states) for name in ("key", "value"))]
        orders = [0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]
        query, key, value = (
            self.graph.node("Transpose", [self.graph.node("Reshape", [one, split])], perm=order)
            for one, order in zip(parts, orders, strict=True)
        )
        shares = self.graph.node("Softmax", [self._sum(self.graph.node("MatMul", [query, key]), hidden)], axis=-1)
        heads = self.graph.node("Transpose", [self.graph.node("MatMul", [shares, value])], perm=[0, 2, 1, 3])
        return self.graph.node("Reshape", [heads, self.graph.constant(np.array([0, 0, width]), "join")])

    def _apply(self, name: str, states: str, factor: float = 1.0) -> str:
        """factor × (states @ weight + bias)."""
        weight = (self.weights.state[f"{name}.weight"].T.astype(np.float64) * factor).astype(np.float32)
        bias = (self.weights.state[f"{name}.bias"].astype(np.float64) * factor).astype(np.float32)
        if not self.int8:
            return self._add(self.graph.node("MatMul", [states, self.graph.constant(weight, "weight")]), bias)
        codes, scales = _encode(weight, 0, _WEIGHT_CODES)
        values, size = self._encode_values(states)
        zero = self.graph.constant(np.array(_ZERO, np.uint8), "zero")
        product = self.graph.node("MatMulInteger", [values, self.graph.constant(codes, "weight"), zero])
        scaled = self._multiply(self._multiply(self.graph.cast(product, FLOAT), size), self.graph.constant(scales[0]))
        return self._add(scaled, bias)

    def _encode_values(self, states: str) -> tuple[str, str]:
        """uint8 codes (batch, tokens, width) of values, and their scale a token, float32 (batch, tokens, 1)."""
        if states not in self._coded:
            highest = self.graph.node("ReduceMax", [self.graph.node("Abs", [states])], axes=[-1], keepdims=1)
            least = self.graph.constant(np.array(_LEAST_SCALE, np.float32))
            size = self.graph.node("Max", [self._scale(highest, 1.0 / _CODES), least])
            codes = self._add(self.graph.node("Round", [self.graph.node("Div", [states, size])]), np.float32(_ZERO))
            self._coded[states] = self.graph.cast(codes, UINT8), size
        return self._coded[states]

    def _activate(self, states: str) -> str:
        if self.weights.activation == "relu":
            return self.graph.node("Relu", [states])
        share = self.graph.node("Erf", [self._scale(states, 1.0 / np.sqrt(2.0))])
        return self._scale(self._multiply(states, self._add(share, np.float32(1.0))), 0.5)

    def _normalise(self, name: str, states: str) -> str:
        scale, shift = (self.graph.constant(self.weights.state[f"{name}.{part}"], part) for part in ("weight", "bias"))
        return self.graph.node("LayerNormalization", [states, scale, shift], axis=-1, epsilon=self.weights.epsilon)

    def _scale(self, tensor: str, factor: float) -> str:
        return self._multiply(tensor, self.graph.constant(np.array(factor, np.float32)))

    def _add(self, tensor: str, values: np.ndarray | np.float32) -> str:
        return self._sum(tensor, self.graph.constant(np.asarray(values, np.float32)))

    def _sum(self, left: str, right: str) -> str:
        return self.graph.node("Add", [left, right])

    def _multiply(self, left: str, right: str) -> str:
        return self.graph.node("Mul", [left, right])


def _encode(matrix: np.ndarray, axis: int, most: float) -> tuple[np.ndarray, np.ndarray]:
    """int8 codes of a matrix, at most so large, and float32 scales, for each line along an axis, which keeps size 1."""
    scales = np.maximum(np.abs(matrix).max(axis=axis, keepdims=True) / most, _LEAST_SCALE).astype(np.float32)
    return np.rint(matrix / scales).astype(np.int8), scales
