"""Cells, a retry policy and names for the tests of the engine over HTTP."""

from __future__ import annotations

import threading

import pytest

from hagpolicy import DecodingConfig, Prompt, Request
from hagpolicy.engines.openai.retry import RetryPolicy
from hagpolicy.engines.openai.stream import THREAD_NAME

pytest.importorskip("openai")
KEY = "sk-proj-4f9aQ7zLmXw2"


SHORT = RetryPolicy(max_attempts=3, initial_delay=0.02, max_delay=0.05, max_elapsed=5.0)


WARM = DecodingConfig(temperature=0.7)


def cell(text: str, config: DecodingConfig = WARM, seed: int = 5, limit: int = 16) -> Request:
    return Request(Prompt(text), config, 0, seed, limit)


def said(request: Request) -> str:
    return f"{request.seed if request.config.temperature else '-'} {request.config.temperature} {request.prompt.text}"


def own_threads() -> list[str]:
    """Names of the threads of engines over HTTP that have not ended."""
    return [thread.name for thread in threading.enumerate() if thread.name == THREAD_NAME]


PASSING = [408, 409, 425, 429, 500, 502, 503, 529, "reset", "cut", "half", "html", "empty", "few"]


HOT = DecodingConfig(temperature=1.0)
