"""The features of prompts, as the deployed graph computes them: training never uses a second implementation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.graphs.builder import FLOAT, GraphBuilder
from hagpolicy.policy.session import open_session


def compute_features(encoder: Encoder, prompts: Sequence[Prompt]) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 (n, n_features) and unknown float32 (n,), the share of unknown tokens.

    Args:
        encoder: an encoder.
        prompts: n prompts, at least one.

    Raises:
        InvalidInput: no prompt; or the encoder gave arrays of another shape, or what is no finite number.
    """
    if not len(prompts):
        raise InvalidInput("prompts", "at least one", "none")
    # Inputs first: a precomputed encoder learns the length of its vectors from them.
    inputs = encoder.inputs(prompts)
    graph = GraphBuilder()
    features, unknown = encoder.export(graph)
    graph.output(features, "features", FLOAT, ["batch", "n_features"])
    graph.output(unknown, "unknown", FLOAT, ["batch"])
    session = open_session(graph.model("encoder").SerializeToString())
    parts = [session.run(["features", "unknown"], arrays) for arrays in inputs]
    found = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    _check(encoder, *found, len(prompts))
    return found


def _check(encoder: Encoder, features: np.ndarray, unknown: np.ndarray, count: int) -> None:
    """Refuse arrays that are not a row of finite features and a share of unknown tokens for each prompt."""
    if features.ndim != 2 or len(features) != count or unknown.shape != (count,):
        expected = f"features of shape ({count}, n_features) and unknown of shape ({count},)"
        raise InvalidInput(f"encoder {encoder.name}", expected, f"shapes {features.shape} and {unknown.shape}")
    for name, array in (("features", features), ("unknown", unknown)):
        if not np.isfinite(array).all():
            raise InvalidInput(f"{name} of encoder {encoder.name}", "finite numbers", "NaN or infinity")
