"""The features of prompts, as the deployed graph computes them: training never uses a second implementation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput, MissingExtra
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder
from hagpolicy.fitting.graphs.builder import FLOAT, GraphBuilder
from hagpolicy.policy.graph.model import Graph
from hagpolicy.policy.inputs import check_finite, make_inputs
from hagpolicy.policy.session import open_session

if TYPE_CHECKING:
    import onnxruntime


def compute_features(encoder: Encoder, prompts: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 (n, n_features) and unknown float32 (n,), the share of unknown tokens.

    Args:
        encoder: an encoder.
        prompts: n prompts, or vectors where the encoder takes vectors; at least one.

    Raises:
        InvalidInput: no prompt; an encoder that no bundle may hold; or it gave arrays of another shape, or what is no
            finite number.
    """
    if not len(prompts):
        raise InvalidInput("prompts", "at least one", "none")
    # Inputs first: a precomputed encoder learns the length of its vectors from them.
    inputs = encoder.inputs(prompts)
    graph = GraphBuilder()
    features, unknown = encoder.export(graph)
    graph.output(features, "features", FLOAT, ["batch", "n_features"])
    graph.output(unknown, "unknown", FLOAT, ["batch"])
    session = _open_checked(encoder, graph.model("encoder").SerializeToString())
    parts = [session.run(["features", "unknown"], arrays) for arrays in inputs]
    found = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    _check(encoder, *found, len(prompts))
    return found


def check_encoder(encoder: Encoder) -> None:
    """Try an encoder on one text, before anything is read that it would be fitted on; one that reads vectors of an
    unknown length is tried by `fit`.

    Raises:
        InvalidInput: see `compute_features`.
    """
    if not isinstance(encoder, PrecomputedEncoder):
        compute_features(encoder, [Prompt("text")])


def open_encoded(encoder: Encoder, model: bytes) -> onnxruntime.InferenceSession:
    """A session of a graph that reads an encoder's inputs, as a policy opens it.

    Raises:
        BundleError: the graph, or the encoder's spec and files, are such as no bundle may hold.
    """
    return open_session(Graph(model, make_inputs(encoder.spec(), encoder.files()).most_tokens))


def _open_checked(encoder: Encoder, model: bytes) -> onnxruntime.InferenceSession:
    """A session of an encoder's graph. What a bundle could not be loaded with is refused before anything is fitted."""
    try:
        session = open_encoded(encoder, model)
        session.run(None, make_inputs(encoder.spec(), encoder.files()).probe())
    except MissingExtra:
        raise
    except Exception as error:  # onnxruntime's own exception types are not exported under a stable name
        expected = "a graph, a spec and files that a bundle may hold"
        raise InvalidInput(f"encoder {encoder.name}", expected, f"{error!s:.300}") from error
    return session


def _check(encoder: Encoder, features: np.ndarray, unknown: np.ndarray, count: int) -> None:
    """Refuse arrays that are not a row of finite features and a share of unknown tokens for each prompt."""
    if features.ndim != 2 or len(features) != count or unknown.shape != (count,):
        expected = f"features of shape ({count}, n_features) and unknown of shape ({count},)"
        raise InvalidInput(f"encoder {encoder.name}", expected, f"shapes {features.shape} and {unknown.shape}")
    for name, array in (("features", features), ("unknown", unknown)):
        check_finite(f"{name} of encoder {encoder.name}", array, missing=encoder.missing)
