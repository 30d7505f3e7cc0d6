"""A tiny model with its tokenizer and pipeline, and a spy on what reaches its `generate`."""

import pytest

transformers = pytest.importorskip("transformers")

from tests.support.tiny_llama import tiny_model, tiny_tokenizer  # noqa: E402


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture
def sent(model, monkeypatch):
    """What reaches the model's own generate, call by call."""
    calls = []
    original = model.generate

    def spy(*args, **kwargs):
        calls.append(kwargs)
        return original(*args, **kwargs)

    monkeypatch.setattr(model, "generate", spy, raising=False)
    return calls


@pytest.fixture
def pipe(model, tokenizer):
    return transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)
