"""A stub server in a process of its own, and engines that give up on it soon."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hagpolicy.engines.openai.client import Client, Key
from hagpolicy.engines.openai.engine import OpenAIEngine
from hagpolicy.engines.openai.retry import RetryPolicy
from tests.support.stub_server import StubProcess

pytest.importorskip("openai")
from tests.engines.openai.cells import KEY, SHORT


@pytest.fixture(scope="module")
def server() -> Iterator[StubProcess]:
    with StubProcess(service=0.005) as process:
        yield process


@pytest.fixture
def stub(server: StubProcess) -> StubProcess:
    server.clear()
    return server


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes engines that give up soon, and closes them."""
    monkeypatch.setenv("HAG_TEST_KEY", KEY)
    made: list[OpenAIEngine] = []

    def connect(url: str, timeout: float = 20.0, retry_policy: RetryPolicy = SHORT, **options: Any) -> OpenAIEngine:
        client = Client(url, Key("HAG_TEST_KEY", needed=False), timeout=timeout, connections=64)
        made.append(OpenAIEngine(client, "stub", retry_policy=retry_policy, **options))
        return made[-1]

    yield connect
    for engine in made:
        engine.close()
