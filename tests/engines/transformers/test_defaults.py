"""What runs where nothing is sent: of a loaded model, of a pipeline, behind a policy."""

from types import SimpleNamespace

import pytest

pytest.importorskip("torch")
import torch
from transformers import GenerationConfig, pipeline

from hagpolicy import DecodingConfig, Prompt, Request, load_engine
from tests.support.tiny_llama import tiny_model, tiny_tokenizer

UNSET = DecodingConfig(unset=True)


def make_pipeline(**options):
    model = options.pop("model", None) or tiny_model(seed=1)
    return pipeline("text-generation", model=model, tokenizer=tiny_tokenizer(), **options)


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        ({}, {"temperature": 0.7, "top_k": 50}),
        ({"do_sample": False}, {"temperature": 0.0}),
        ({"do_sample": True, "temperature": 1.3, "top_p": 0.9, "top_k": 0}, {"temperature": 1.3, "top_p": 0.9}),
        ({"generation_config": GenerationConfig(do_sample=True, temperature=0.4)}, {"temperature": 0.4, "top_k": 50}),
        ({"num_beams": 3, "do_sample": False}, {"temperature": 0.0, "num_beams": 3}),
    ],
)
def test_a_pipelines_own_settings_are_its_default(built, expected):
    pipe = make_pipeline(**built)
    engine = load_engine(pipe)
    assert engine.default_config() == DecodingConfig(**expected)
    # What transformers itself makes of a call without settings.
    sent = pipe._prepare_generate_kwargs(dict(pipe._forward_params))
    inside = sent.pop("generation_config", None)
    said = {**pipe.model.generation_config.to_diff_dict(), **(inside.to_diff_dict() if inside else {}), **sent}
    assert bool(said.get("do_sample")) == (engine.default_config().temperature > 0)
    if said.get("do_sample"):
        assert said.get("temperature", 1.0) == engine.default_config().temperature


def test_a_models_own_settings_come_before_the_pipelines():
    pipe = make_pipeline(model=tiny_model(do_sample=True, temperature=0.2))
    assert load_engine(pipe).default_config() == DecodingConfig(temperature=0.2, top_k=50)


def test_a_loaded_model_is_taken_with_its_tokenizer_and_seen_behind_a_policy():
    pipe = make_pipeline()
    alone = load_engine(pipe.model, pipe.tokenizer)
    assert alone.default_config() == DecodingConfig(temperature=0.0)
    assert alone.fingerprint == load_engine(pipe).fingerprint
    assert alone.fingerprint == load_engine(pipe.model, tokenizer=pipe.tokenizer).fingerprint
    wrapped = SimpleNamespace(target=pipe, policy=None, model=pipe.model, tokenizer=pipe.tokenizer)
    assert load_engine(wrapped).default_config() == DecodingConfig(temperature=0.7, top_k=50)


def test_unset_is_decoded_as_the_model_does_by_itself():
    prompts = [Prompt("name three red colours"), Prompt("why is the sky blue ?")]

    def texts(engine, config):
        unit = [Request(prompt, config, seed, seed, 12) for prompt in prompts for seed in range(3)]
        return [(one.text, one.tokens) for one in engine.generate(unit)]

    greedy = load_engine(tiny_model(seed=1).double(), tiny_tokenizer())
    assert texts(greedy, UNSET) == texts(greedy, DecodingConfig(temperature=0.0))
    warm = load_engine(tiny_model(seed=1, do_sample=True, temperature=0.6).double(), tiny_tokenizer())
    assert texts(warm, UNSET) == texts(warm, DecodingConfig(temperature=0.6, top_k=50)) != texts(greedy, UNSET)
    # A setting that we have no field for is honoured by the model's own `generate`, which nothing is sent.
    other = load_engine(tiny_model(seed=1, suppress_tokens=[7]).double(), tiny_tokenizer())
    assert other.ignored_settings() == ["suppress_tokens"]
    ids = other.encode("name three red colours")
    own = other.model.generate(torch.tensor([ids]), max_new_tokens=12)[0, len(ids) :].tolist()
    assert texts(other, UNSET)[0][0] == other.tokenizer.decode(own, skip_special_tokens=True)
