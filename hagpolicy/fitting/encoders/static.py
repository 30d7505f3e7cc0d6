"""The default encoder: the mean of static token embeddings, pooled exactly in integers."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files as resources
from typing import Any

import numpy as np

from hagpolicy._digest import digest_bytes
from hagpolicy.data.prompts import Prompt
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.graphs.builder import FLOAT, INT32, INT64, UINT8, GraphBuilder
from hagpolicy.policy.inputs import TokenInputs
from hagpolicy.policy.tokenizer import TOKENIZER_FILE

# Token counts below this have their logarithm in a table. Cut prompts stay far below (`inputs.cut`).
_LOGS = 32768
# Ridge on 3,000 grade-school problems predicts their number of steps with R² 0.23 at factor 1, 0.27
# here: the length spreads over prompts of one kind about as far as a column of meaning does.
_LENGTH_FACTOR = 16.0


class StaticEncoder(Encoder):
    """Token embeddings distilled from all-MiniLM-L6-v2, mean-pooled (`benchmarks/tools/distill_static.py`).

    Features, float32 (batch, 257): columns 0 to 252 the mean int8 code of the tokens' embeddings
    (about -30 to 30), 253 the share of unknown tokens, 254 and 255 those of line breaks and
    indentations times 127, and 256 the natural logarithm of the token count times 16 (0 for an
    empty text). Columns differ in size on purpose: it says how much they usually matter.
    """

    name = "static"
    length = (256, _LENGTH_FACTOR)

    @cached_property
    def table(self) -> np.ndarray:
        """int8 (n_tokens, 256)."""
        loaded: np.ndarray = np.load(io.BytesIO(read_asset("table.npy")), allow_pickle=False)
        return loaded

    @cached_property
    def origin(self) -> dict[str, Any]:
        """How the asset was made, and what its columns are."""
        found: dict[str, Any] = json.loads(read_asset("origin.json"))
        return found

    def export(self, graph: GraphBuilder) -> tuple[str, str]:
        """Inputs `ids` int64 and `mask` uint8, both (batch, tokens); see `Encoder.export`.

        The sum of int8 codes is exact in int32, so neither padding, batch size nor thread count
        can change a feature; the only rounding is one division.
        """
        ids = graph.input("ids", INT64, ["batch", "tokens"])
        mask = graph.input("mask", UINT8, ["batch", "tokens"])
        rows = graph.node("Gather", [graph.constant(self.table, "table"), ids])
        sums, count = sum_rows(graph, rows, mask)
        means = graph.node("Div", [graph.cast(sums, FLOAT), graph.cast(count, FLOAT)])
        length = take_log(graph, count, _LENGTH_FACTOR)
        column = graph.constant(np.array(self.origin["columns"]["unknown"]), "unknown_column")
        return graph.node("Concat", [means, length], axis=1), graph.node("Gather", [means, column], axis=1)

    def inputs(self, prompts: Sequence[Prompt]) -> list[dict[str, np.ndarray]]:
        """`ids` and `mask`, in the prompts' order; see `Encoder.inputs`."""
        return self._inputs.ordered(prompts)

    def spec(self) -> dict[str, Any]:
        """Name, kind of inputs and the digest of the table."""
        return {"name": self.name, "inputs": "tokens", "table": digest_bytes(self.table.tobytes())}

    def files(self) -> dict[str, bytes]:
        """The tokenizer."""
        return {TOKENIZER_FILE: read_asset(TOKENIZER_FILE)}

    @cached_property
    def _inputs(self) -> TokenInputs:
        return TokenInputs(self.files()[TOKENIZER_FILE])


def sum_rows(graph: GraphBuilder, rows: str, mask: str) -> tuple[str, str]:
    """Append the sum of the rows of each prompt's tokens, int32 (batch, width), and their number, int32 (batch, 1), at
    least 1; both exact.

    Args:
        graph: that of an encoder.
        rows: int8 (batch, tokens, width).
        mask: uint8 (batch, tokens).
    """
    one = graph.constant(np.array([1]), "axis")
    sums = graph.node("Squeeze", [graph.node("MatMulInteger", [graph.node("Unsqueeze", [mask, one]), rows]), one])
    bounds = [graph.constant(np.array(bound, np.int32)) for bound in (1, _LOGS - 1)]
    return sums, graph.node("Clip", [graph.node("ReduceSum", [graph.cast(mask, INT32), one], keepdims=1), *bounds])


def take_log(graph: GraphBuilder, count: str, factor: float) -> str:
    """Append factor × ln(count), float32, of an int32 tensor of `sum_rows`."""
    # A logarithm computed by the runtime may differ between machines; a table cannot.
    logs = factor * np.log(np.maximum(np.arange(_LOGS), 1))
    return graph.node("Gather", [graph.constant(logs.astype(np.float32), "logs"), count])


def read_asset(name: str) -> bytes:
    """A file of the encoder's, by its name."""
    return (resources("hagpolicy") / "assets" / "static" / name).read_bytes()
