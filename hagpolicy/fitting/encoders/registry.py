"""Encoders by name, loaded late."""

from __future__ import annotations

from hagpolicy._names import Registry
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.plugins import get_plugin

ENCODERS: Registry[type[Encoder]] = Registry(
    "encoder",
    {
        "precomputed": "hagpolicy.fitting.encoders.precomputed:PrecomputedEncoder",
        "static": "hagpolicy.fitting.encoders.static:StaticEncoder",
    },
    expected="one of {names}, or an Encoder",
)


def get_encoder(spec: str | Encoder) -> Encoder:
    """An encoder by its name, or the encoder itself.

    Raises:
        InvalidInput: an unknown name, with the nearest known one; or an encoder without a name.
    """
    return get_plugin(ENCODERS, Encoder, spec)  # type: ignore[type-abstract]
