"""Encoders by name, loaded late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hagpolicy._names import Registry
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.onnx_file import OnnxEncoder
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder
from hagpolicy.fitting.encoders.transformer import TransformerEncoder
from hagpolicy.fitting.plugins import get_plugin

# Before the folder or hub name of a transformer, and a colon.
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "transformer": {},
    "transformer-int8": {"precision": "int8"},
    "transformer-tuned": {"tuned": True},
}
TRANSFORMER_FORMS = tuple(f"{kind}:FOLDER" for kind in TRANSFORMERS)
ENCODERS: Registry[type[Encoder]] = Registry(
    "encoder",
    {
        "precomputed": "hagpolicy.fitting.encoders.precomputed:PrecomputedEncoder",
        "static": "hagpolicy.fitting.encoders.static:StaticEncoder",
        "words": "hagpolicy.fitting.encoders.words:WordsEncoder",
    },
    expected="one of {names}, "
    + ", ".join(TRANSFORMER_FORMS)
    + ", the path of an .onnx file, an Encoder, or an array (n_prompts, dim)",
)


def get_encoders(spec: str | Encoder | np.ndarray | Sequence[str | Encoder | np.ndarray]) -> list[Encoder]:
    """The encoders that compete: one, or several; see `get_encoder`."""
    one = isinstance(spec, (str, Encoder, np.ndarray)) or not isinstance(spec, Sequence)
    several: Sequence[str | Encoder | np.ndarray] = [spec] if one else spec  # type: ignore[list-item,assignment]
    encoders = [get_encoder(item) for item in several]
    if not encoders:
        raise InvalidInput("encoder", "at least one", "none")
    return encoders


def get_encoder(spec: str | Encoder | np.ndarray) -> Encoder:
    """An encoder by its name, from a transformer ("transformer:", "transformer-int8:" or "transformer-tuned:" and its
    folder or hub name), from an .onnx file with a tokenizer.json beside it, of vectors that are there already, or the
    encoder itself.

    Raises:
        InvalidInput: an unknown name, with the nearest known one; a file that cannot be an encoder; vectors that are
            no finite numbers (n_prompts, dim); or an encoder without a name.
    """
    if hasattr(spec, "shape"):  # an array, tensor or data frame
        return PrecomputedEncoder(vectors=spec)
    if isinstance(spec, str):
        kind, _, source = spec.partition(":")
        if kind in TRANSFORMERS and source:
            return TransformerEncoder(source, **TRANSFORMERS[kind])
    if isinstance(spec, str) and spec.endswith(".onnx"):
        return OnnxEncoder(spec)
    return get_plugin(ENCODERS, Encoder, spec)  # type: ignore[type-abstract]
