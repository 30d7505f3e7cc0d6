"""What is wrapped: what can be, whose attributes a wrapper has, and the warning for another engine."""

import copy
import warnings
from types import SimpleNamespace

import pytest

import hagpolicy as hag
from hagpolicy.errors import InvalidInput
from tests.serving.wrapping import WordPolicy

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def test_only_what_can_generate_text_is_wrapped(model, tokenizer, pipe):
    with pytest.raises(InvalidInput, match="tokenizer"):
        hag.wrap(model, WordPolicy())
    with pytest.raises(InvalidInput, match="text-generation"):
        hag.wrap(object(), WordPolicy())
    with pytest.raises(InvalidInput, match="summarization"):
        hag.wrap(SimpleNamespace(task="summarization", model=model), WordPolicy())


def test_a_policy_of_another_engine_warns_once(model, tokenizer, pipe):
    from hagpolicy.engines.transformers.engine import TransformersEngine

    mine = dict(TransformersEngine(model, tokenizer, name="tiny").fingerprint)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped = hag.wrap(pipe, WordPolicy(fingerprint=mine))
        wrapped("what", max_new_tokens=1)
    for other in ({"kind": "vllm"}, {"chat_template": "none"}, {"dtype": "bfloat16"}):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            wrapped = hag.wrap(model, WordPolicy(fingerprint={**mine, **other}), tokenizer=tokenizer)
            wrapped.generate_text("what", max_new_tokens=1)
        assert [next(iter(other)) in str(warning.message) for warning in caught] == [True]
    model.config.name_or_path = "/models/other"
    try:
        with pytest.warns(UserWarning, match="model: tiny then, other now"):
            hag.wrap(model, WordPolicy(fingerprint=mine), tokenizer=tokenizer)
    finally:
        model.config.name_or_path = ""


def test_other_attributes_are_the_targets(pipe):
    wrapped = hag.wrap(pipe, WordPolicy())
    assert wrapped.tokenizer is pipe.tokenizer
    assert wrapped.task == "text-generation"
    wrapped.call_count = 7
    assert pipe.call_count == 7
    with pytest.raises(AttributeError):
        wrapped.no_such_thing  # noqa: B018
    assert "TextGenerationPipeline" in repr(wrapped)
    assert copy.copy(wrapped).target is pipe
