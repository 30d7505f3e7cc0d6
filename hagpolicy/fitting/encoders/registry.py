"""Encoders: prompts to features, each a part of the one ONNX graph."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.encoders.base import Encoder

if TYPE_CHECKING:
    from hagpolicy.data.prompts import Prompt

__all__ = ["ENCODERS", "Encoder", "encode", "get_encoder"]

ENCODERS = ("precomputed", "static")


def get_encoder(spec: str | Encoder) -> Encoder:
    """An encoder by its name, or the encoder itself.

    Raises:
        InvalidInput: an unknown name, with the nearest known one.
    """
    if isinstance(spec, Encoder):
        return spec
    if spec == "static":
        from hagpolicy.fitting.encoders.static import StaticEncoder

        return StaticEncoder()
    if spec == "precomputed":
        from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder

        return PrecomputedEncoder()
    near = difflib.get_close_matches(str(spec), ENCODERS, n=1)
    do = f"Did you mean {near[0]!r}?" if near else ""
    raise InvalidInput("encoder", f"one of {', '.join(ENCODERS)}, or an Encoder", spec, do)


def encode(encoder: Encoder, prompts: Sequence[Prompt]) -> tuple[np.ndarray, np.ndarray]:
    """Features as the deployed graph computes them: training never uses a second implementation.

    Args:
        encoder: an encoder.
        prompts: n prompts, at least one.

    Returns:
        features float32 (n, n_features) and unknown float32 (n,), the share of unknown tokens.
    """
    from hagpolicy.fitting.graphs.builder import FLOAT, GraphBuilder
    from hagpolicy.policy.session import open_session

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
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
