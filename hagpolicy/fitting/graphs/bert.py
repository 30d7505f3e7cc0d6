"""The graph of a BERT encoder (Devlin et al., NAACL 2019), from token ids to its last hidden states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hagpolicy.fitting.graphs.builder import FLOAT, INT64, UINT8, GraphBuilder

_CODES = 127.0
# The operator takes values without a sign: 128 is zero.
_ZERO, _MOST_CODE = 128, 255.0
_LEAST_SCALE = 1e-12
# One of so many inputs of a product remains a float: a few reach much further than the others, and a scale that holds
# them leaves little of the rest.
_INPUTS_PER_FLOAT = 48
# Standard deviations of a normalised value that its reach is measured by.
_DEVIATIONS = 3.0
# Below the least value of the activation.
_LEAST = {"gelu": -0.17, "relu": 0.0}


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
        int8: weights in 8 bits with a scale for each column, and the values that they are multiplied with in 8, with a
            scale for each token, found as the graph runs. The values of attention, and of each product the inputs that
            reach farthest, remain floats.
    """
    return _Writer(graph, weights, int8).append(ids, mask)


@dataclass(frozen=True, eq=False)
class _Coded:
    """Values in bytes: (codes - zero) × size + shift, but for columns that remain floats.

    Attributes:
        values: tensor of uint8 codes, (batch, tokens, width).
        size: tensor of the scale of each token, float32 (batch, tokens, 1).
        zero, shift: numbers for all of them.
        floats: the columns that remain floats; their codes mean nothing.
        taken: tensor of these columns, float32 (batch, tokens, len(floats)).
    """

    values: str
    size: str
    zero: int
    shift: float
    floats: np.ndarray
    taken: str


@dataclass(eq=False)
class _Writer:
    """Appends the encoder's parts; names of tensors go in and out."""

    graph: GraphBuilder
    weights: BertWeights
    int8: bool
    _coded: dict[str, _Coded] = field(default_factory=dict)
    # By tensor: how far each of its columns reaches, and what none of its values is below, where that is known.
    _reach: dict[str, np.ndarray] = field(default_factory=dict)
    _least: dict[str, float] = field(default_factory=dict)

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
        codes, scales = _encode_rows(table)
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
        # Much of the attention goes to [CLS] and [SEP], whose values are small: what rounding adds to them reaches
        # every token alike, and the mean over tokens keeps it.
        if not self.int8 or name.endswith("self.value"):
            return self._add(self.graph.node("MatMul", [states, self.graph.constant(weight, "weight")]), bias)
        return self._apply_coded(states, weight, bias)

    def _apply_coded(self, states: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """states @ weight + bias, most of it in bytes."""
        coded = self._encode_values(states, weight)
        exact, rest = weight[coded.floats], weight.copy()
        rest[coded.floats] = 0.0
        codes, scales = _encode_weight(rest)
        zero = self.graph.constant(np.array(coded.zero, np.uint8), "zero")
        product = self.graph.node("MatMulInteger", [coded.values, self.graph.constant(codes, "weight"), zero])
        scaled = self._multiply(
            self._multiply(self.graph.cast(product, FLOAT), coded.size), self.graph.constant(scales)
        )
        floats = self.graph.node("MatMul", [coded.taken, self.graph.constant(exact, "weight")])
        shift = (coded.shift * codes.sum(axis=0, dtype=np.float64) * scales).astype(np.float32)
        return self._add(self._sum(scaled, floats), bias + shift)

    def _encode_values(self, states: str, weight: np.ndarray) -> _Coded:
        """Values (batch, tokens, width) in bytes, for a weight that they are multiplied with.

        Those of a normalisation have several weights, and a reach of their own; for others the one weight tells which
        columns matter.
        """
        if states in self._coded:
            return self._coded[states]
        reach = self._reach.get(states, np.sqrt((weight.astype(np.float64) ** 2).mean(axis=1)))
        floats = np.sort(np.argsort(-reach, kind="stable")[: max(1, len(reach) // _INPUTS_PER_FLOAT)])
        mask = np.ones(len(reach), np.float32)
        mask[floats] = 0.0
        taken = self.graph.node("Gather", [states, self.graph.constant(floats, "floats")], axis=-1)
        shift = self._least.get(states)
        if shift is None:
            others = self._multiply(states, self.graph.constant(mask, "mask"))
            codes, size = self._round(others, self.graph.node("Abs", [others]), _CODES)
            codes, zero = self._add(codes, np.float32(_ZERO)), _ZERO
        else:
            others = self._multiply(self._add(states, np.float32(-shift)), self.graph.constant(mask, "mask"))
            (codes, size), zero = self._round(others, others, _MOST_CODE), 0
        self._coded[states] = _Coded(self.graph.cast(codes, UINT8), size, zero, shift or 0.0, floats, taken)
        return self._coded[states]

    def _round(self, values: str, sizes: str, most: float) -> tuple[str, str]:
        """Whole numbers for values, at most so large, and the scale of each token, from the sizes of its values."""
        highest = self.graph.node("ReduceMax", [sizes], axes=[-1], keepdims=1)
        least = self.graph.constant(np.array(_LEAST_SCALE, np.float32))
        size = self.graph.node("Max", [self._scale(highest, 1.0 / most), least])
        return self.graph.node("Round", [self.graph.node("Div", [values, size])]), size

    def _activate(self, states: str) -> str:
        found = self._append_activation(states)
        self._least[found] = _LEAST[self.weights.activation]
        return found

    def _append_activation(self, states: str) -> str:
        if self.weights.activation == "relu":
            return self.graph.node("Relu", [states])
        share = self.graph.node("Erf", [self._scale(states, 1.0 / np.sqrt(2.0))])
        return self._scale(self._multiply(states, self._add(share, np.float32(1.0))), 0.5)

    def _normalise(self, name: str, states: str) -> str:
        scale, shift = (self.weights.state[f"{name}.{part}"] for part in ("weight", "bias"))
        inputs = [states, self.graph.constant(scale, "weight"), self.graph.constant(shift, "bias")]
        found = self.graph.node("LayerNormalization", inputs, axis=-1, epsilon=self.weights.epsilon)
        self._reach[found] = np.abs(shift) + _DEVIATIONS * np.abs(scale)
        return found

    def _scale(self, tensor: str, factor: float) -> str:
        return self._multiply(tensor, self.graph.constant(np.array(factor, np.float32)))

    def _add(self, tensor: str, values: np.ndarray | np.float32) -> str:
        return self._sum(tensor, self.graph.constant(np.asarray(values, np.float32)))

    def _sum(self, left: str, right: str) -> str:
        return self.graph.node("Add", [left, right])

    def _multiply(self, left: str, right: str) -> str:
        return self.graph.node("Mul", [left, right])


def _encode_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 codes (n, width) of a table, and float32 scales (n, 1)."""
    scales = np.maximum(np.abs(table).max(axis=1, keepdims=True) / _CODES, _LEAST_SCALE).astype(np.float32)
    return np.rint(table / scales).astype(np.int8), scales


def _encode_weight(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 codes (n_inputs, n_outputs) of a weight, and float32 scales (n_outputs,).

    Older processors add the products of two neighbouring inputs in 16 bits and cut off what does not fit. So codes of
    one sign are at most 128 for both together: with values of at most 255 that fits.
    """
    pairs = np.pad(weight, ((0, len(weight) % 2), (0, 0))).reshape(-1, 2, weight.shape[1])
    sums = np.maximum(np.maximum(pairs, 0.0).sum(axis=1), np.maximum(-pairs, 0.0).sum(axis=1))
    scales = np.maximum(sums.max(axis=0) / _CODES, _LEAST_SCALE).astype(np.float32)
    return np.rint(weight / scales).astype(np.int8), scales
