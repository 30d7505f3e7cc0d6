"""A random Llama small enough for exact comparisons."""

from __future__ import annotations

import pytest

from hagpolicy.engines.transformers.engine import TransformersEngine
from tests.support.tiny_llama import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def tiny() -> TransformersEngine:
    """A random Llama in float64, so that batch shapes change no token."""
    return TransformersEngine(tiny_model(seed=3).double(), tiny_tokenizer(), name="tiny", threads=1)
