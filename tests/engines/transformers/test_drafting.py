"""Drafting by prompt lookup: the same text in fewer forward passes, one prompt at a time."""

from __future__ import annotations

import collections
import logging
from typing import Any

import numpy as np
import pytest
import torch

from hagpolicy import Completion, DecodingConfig, Prompt, Request
from hagpolicy.engines.transformers.engine import TransformersEngine
from hagpolicy.engines.transformers.generate import run_generate
from hagpolicy.policy.decision import Decision
from hagpolicy.serving.call import GenerateCall, group_into_batches
from tests.support.tiny_llama import tiny_model, tiny_tokenizer

QUESTION = Prompt("say red green blue red green blue red green")
LONGER = Prompt("name three red colours . think step by step . why is the sky blue ? say hello again")
SETTINGS = [
    {},
    {"repetition_penalty": 1.4},
    {"no_repeat_ngram_size": 2},
    {"presence_penalty": 1.0, "frequency_penalty": 0.6},
]


@pytest.fixture(scope="module")
def tiny() -> TransformersEngine:
    """A random Llama in float64, so that the shape of a forward pass changes no token; one that repeats itself."""
    return TransformersEngine(tiny_model(seed=5).double(), tiny_tokenizer(), name="tiny")


def cell(prompt: Prompt, seed: int = 0, limit: int = 24, **fields: Any) -> Request:
    return Request(prompt, DecodingConfig.from_dict(fields), 0, seed, limit)


def written(completion: Completion) -> tuple[str, int, str, int]:
    return completion.text, completion.tokens, completion.finish, completion.prompt_tokens


@pytest.mark.parametrize("values", SETTINGS)
@pytest.mark.parametrize("prompt", [QUESTION, LONGER])
def test_a_drafted_greedy_text_is_the_plain_one_in_fewer_passes(
    tiny: TransformersEngine, prompt: Prompt, values: dict[str, Any]
) -> None:
    drafts = [cell(prompt, temperature=0.0, prompt_lookup_num_tokens=number, **values) for number in (0, 1, 4, 10)]
    plain, *drafted = tiny.generate(drafts)
    assert [written(one) for one in drafted] == [written(plain)] * 3
    assert plain.passes == plain.tokens
    assert all(one.passes is not None and one.passes <= plain.tokens for one in drafted)


def test_a_text_that_repeats_itself_takes_far_fewer_passes(tiny: TransformersEngine) -> None:
    # Without an end token this model goes round in circles.
    drafted = DecodingConfig(temperature=0.0, prompt_lookup_num_tokens=10)
    found = run_generate(tiny.model, [tiny.encode(LONGER.content)], drafted, 0, 60, [])[0]
    assert (len(found.tokens), found.stopped) == (60, False)
    assert found.passes < 30


def test_passes_are_those_of_the_model(tiny: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    forward = tiny.model.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return forward(*args, **kwargs)

    monkeypatch.setattr(tiny.model, "forward", counted)
    (found,) = tiny.generate([cell(LONGER, temperature=0.0, prompt_lookup_num_tokens=3)])
    assert found.passes == calls
    calls = 0
    (found,) = tiny.generate([cell(LONGER, temperature=0.0)])
    assert found.passes == calls == found.tokens
    assert not tiny.model._forward_pre_hooks


def test_drafted_samples_have_the_distribution_of_plain_ones(tiny: TransformersEngine) -> None:
    """Every token is drawn from the model's own distribution; a draft only says which draws were made at once."""
    sampled = {"temperature": 0.4, "top_p": 0.95}
    plain = tiny.generate([cell(LONGER, seed, 6, **sampled) for seed in range(1000)])
    drafted = tiny.generate([cell(LONGER, seed, 6, prompt_lookup_num_tokens=3, **sampled) for seed in range(100)])
    assert sum(one.passes or 0 for one in drafted) < sum(one.tokens for one in drafted)
    counts = [collections.Counter(word for one in part for word in one.text.split()) for part in (plain, drafted)]
    words = sorted(set(counts[0]) | set(counts[1]))
    shares = np.array([[count[word] / sum(count.values()) for word in words] for count in counts])
    # 600 draws, the six of an answer depending on each other, give a word's share to within some .05.
    assert np.abs(shares[0] - shares[1]).max() < 0.1 < shares[0].max()
    assert len(words) > 8


def test_a_drafted_sample_depends_on_its_seed_alone(tiny: TransformersEngine) -> None:
    before = torch.random.get_rng_state()
    ask = [cell(LONGER, seed, temperature=1.2, prompt_lookup_num_tokens=3) for seed in (1, 2, 1)]
    one, other, again = tiny.generate(ask)
    assert written(one) == written(again) != written(other)
    assert torch.equal(torch.random.get_rng_state(), before)
    noise = cell(QUESTION, 7, temperature=1.0)
    assert written(tiny.generate([noise, ask[1], noise])[1]) == written(other)


def test_beams_are_not_drafted_for_and_nothing_complains(
    tiny: TransformersEngine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    beams = {"temperature": 0.0, "num_beams": 3}
    plain, drafted = tiny.generate([cell(LONGER, **beams), cell(LONGER, prompt_lookup_num_tokens=5, **beams)])
    assert (written(plain), plain.passes) == (written(drafted), drafted.passes)
    assert not caplog.records


def test_a_models_own_drafting_is_known_and_switched_off() -> None:
    engine = TransformersEngine(tiny_model(seed=5, prompt_lookup_num_tokens=4).double(), tiny_tokenizer())
    on, off = (DecodingConfig(temperature=0.0, prompt_lookup_num_tokens=drafts) for drafts in (4, 0))
    assert engine.default_config() == on
    assert not engine.ignored_settings()
    ids = engine.encode(LONGER.content)
    drafted, plain = (run_generate(engine.model, [ids], config, 0, 60, [])[0] for config in (on, off))
    assert drafted.tokens == plain.tokens
    assert drafted.passes < plain.passes == 60


def test_a_model_that_cannot_go_back_cannot_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TransformersEngine(tiny_model(), tiny_tokenizer())
    drafted = DecodingConfig(temperature=0.0, prompt_lookup_num_tokens=4)
    assert engine.unsupported(drafted) == []
    monkeypatch.setattr(type(engine.model), "_is_stateful", True)
    assert engine.unsupported(drafted) == ["prompt_lookup_num_tokens"]
    assert engine.unsupported(drafted.replace(num_beams=2)) == engine.unsupported(DecodingConfig()) == []


def test_wrapped_models_draft_for_one_prompt_and_one_sequence_at_a_time() -> None:
    def sends(config: DecodingConfig, **kwargs: Any) -> list[Any]:
        decision = Decision(config, 0, 0.5, 0.0, "best_by_margin", None)
        return [GenerateCall(kwargs).prepare(prompt, decision) for prompt in ("red", "blue")]

    greedy, sampled = DecodingConfig(temperature=0.0), DecodingConfig(temperature=0.7, prompt_lookup_num_tokens=5)
    assert group_into_batches(sends(greedy)) == [[0, 1]]
    assert group_into_batches(sends(greedy.replace(prompt_lookup_num_tokens=5))) == [[0], [1]]
    assert group_into_batches(sends(sampled)) == [[0], [1]]
    # transformers refuses to draft for several sequences; what the caller itself asks for is its own to refuse.
    several = sends(sampled, num_return_sequences=2)
    assert several[0].kwargs["prompt_lookup_num_tokens"] is None
    assert group_into_batches(several) == [[0, 1]]
    own = sends(sampled, num_return_sequences=2, prompt_lookup_num_tokens=5)
    assert own[0].kwargs["prompt_lookup_num_tokens"] == 5
