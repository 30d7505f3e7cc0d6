"""Real servers for the tests of this folder, each started once."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from tests.support.servers.launching import Served, transformers_serve
from tests.support.servers.model_folders import saved, tiny_folder


@pytest.fixture(scope="session")
def smollm_served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`transformers serve` on the real LLM; its folder of 538 MB is kept in pytest's cache."""
    _need("fastapi", "uvicorn", "openai")
    engine = request.getfixturevalue("smollm")
    kept = request.config.cache
    cache = tmp_path_factory.mktemp("cache") if kept is None else kept.mkdir("servers")
    folder = saved(engine, cache / f"smollm2-{engine.fingerprint['weights'][:12]}")
    with transformers_serve(folder, tmp_path_factory.mktemp("serve")) as served:
        yield served


@pytest.fixture(scope="session")
def tiny_served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`transformers serve` on a model of random weights: real in all but its words, and fast."""
    _need("fastapi", "uvicorn", "openai")
    folder = tiny_folder(tmp_path_factory.mktemp("tiny"))
    with transformers_serve(folder, tmp_path_factory.mktemp("serve_tiny")) as served:
        yield served


@pytest.fixture(scope="session")
def thinking_served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The same of a model whose chat template knows of thinking."""
    _need("fastapi", "uvicorn", "openai")
    folder = tiny_folder(tmp_path_factory.mktemp("thinking"), thinking=True)
    with transformers_serve(folder, tmp_path_factory.mktemp("serve_thinking")) as served:
        yield served


def _need(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install 'hagpolicy[servers]'")
