"""`wrap` in front of a model that is given stores of references and memories of drafts."""

from __future__ import annotations

import pytest

import hagpolicy as hag
from hagpolicy import DecodingConfig, DecodingSpace, InvalidInput, Prompt, Request
from tests.serving.wrapping import WordPolicy
from tests.support.tiny_llama import tiny_model, tiny_tokenizer

pytest.importorskip("torch")

from transformers import pipeline

from hagpolicy.engines.transformers.engine import TransformersEngine
from tests.support.tiny_adapter import save_adapter
from tests.support.tiny_artefacts import save_memory, save_references

GREEDY = DecodingConfig(temperature=0.0)
SPACE = [
    GREEDY,
    GREEDY.replace(reference="faq", reference_weight=0.9, repetition_penalty=1.3),
    GREEDY.replace(reference="faq", reference_weight=0.6, num_beams=3),
    GREEDY.replace(draft_source="memory", prompt_lookup_num_tokens=4),
]
WORDS = {"red": 1, "sum": 2, "say": 3}
PROMPTS = ["why is the sky blue ?", "name three red colours", "what is the sum of ten ?", "say hello again"]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    root = tmp_path_factory.mktemp("given")
    store = save_references(tiny_model(seed=1), root / "faq")
    return {"reference": {"faq": store}, "draft_source": {"memory": save_memory(root / "memory")}}


@pytest.fixture
def engine(given):
    return TransformersEngine(tiny_model(seed=1), tiny_tokenizer(), name="tiny", artifacts=given)


def make_policy(engine):
    return WordPolicy(DecodingSpace(map(engine.pin, SPACE)), WORDS)


def answer(engine, policy):
    cells = [Request(Prompt(one), policy.decide(one).config, 0, 0, 8) for one in PROMPTS]
    return [one.text for one in engine.generate(cells)]


def test_each_prompt_is_answered_with_its_own_artefact_as_the_engine_answers(engine, given):
    policy, model = make_policy(engine), tiny_model(seed=1)
    bare = hag.wrap(model, WordPolicy(DecodingSpace([GREEDY]), {}), tokenizer=tiny_tokenizer())
    wrapped = hag.wrap(model, policy, tokenizer=tiny_tokenizer(), artifacts=given)
    texts = wrapped.generate_text(PROMPTS, max_new_tokens=8)
    assert texts == answer(engine, policy)
    plain = bare.generate_text(PROMPTS, max_new_tokens=8)
    assert (texts[0], texts[3]) == (plain[0], plain[3])  # no store, and drafts that change no text
    assert texts[1] != plain[1]
    assert [one.config.reference[:4] for one in wrapped.decisions] == ["", "faq@", "faq@", ""]
    assert not model._forward_hooks
    assert "_get_candidate_generator" not in vars(model)


def test_a_pipeline_is_given_them_too(engine, given):
    policy = make_policy(engine)
    pipe = pipeline("text-generation", model=tiny_model(seed=1), tokenizer=tiny_tokenizer())
    wrapped = hag.wrap(pipe, policy, artifacts=given)
    chats = [[{"role": "user", "content": one}] for one in PROMPTS]
    found = wrapped(chats, max_new_tokens=8, return_full_text=False)
    assert [records[0]["generated_text"] for records in found] == answer(engine, policy)


def test_what_was_not_given_or_is_another_one_is_refused(engine, given, tmp_path):
    policy, model = make_policy(engine), tiny_model(seed=1)
    without = hag.wrap(model, policy, tokenizer=tiny_tokenizer())
    without.generate_text(["name three red colours", "say hello again"], max_new_tokens=2)
    assert [one.index for one in without.decisions] == [0, 0]
    other = {"reference": {"faq": save_references(model, tmp_path / "other", seed=5)}}
    with pytest.raises(InvalidInput, match="the folder that was swept, faq@"):
        hag.wrap(model, policy, tokenizer=tiny_tokenizer(), artifacts=other)
    with pytest.raises(InvalidInput, match="of reference, draft_source, soft_prefix"):
        hag.wrap(model, policy, tokenizer=tiny_tokenizer(), artifacts={"adapter": {}})


def load_peft(tmp_path, names):
    from peft import PeftModel

    wrapped = None
    for seed, name in enumerate(names):
        folder = save_adapter(tiny_model(seed=1), tmp_path / name, strength=1.0, seed=seed)
        if wrapped is None:
            wrapped = PeftModel.from_pretrained(tiny_model(seed=1), folder, adapter_name=name)
        else:
            wrapped.load_adapter(folder, adapter_name=name)
    return wrapped.eval()


def test_a_model_of_peft_answers_with_the_adapters_that_it_has(tmp_path):
    pytest.importorskip("peft")
    model = load_peft(tmp_path, ["sql", "chat"])
    given = {name: tmp_path / name for name in ("sql", "chat")}
    gone = save_adapter(tiny_model(seed=1), tmp_path / "gone", strength=1.0, seed=9)
    engine = TransformersEngine(
        tiny_model(seed=1), tiny_tokenizer(), name="tiny", artifacts={"adapter": {**given, "gone": gone}}
    )
    space = [GREEDY, *(GREEDY.replace(adapter=name) for name in ("sql", "chat", "gone"))]
    policy = WordPolicy(DecodingSpace(map(engine.pin, space)), {"red": 1, "sum": 2, "say": 3})
    before = {name: weight.requires_grad for name, weight in model.named_parameters()}
    wrapped = hag.wrap(model, policy, tokenizer=tiny_tokenizer())
    texts = wrapped.generate_text(PROMPTS, max_new_tokens=8)
    decided = [one.config for one in wrapped.decisions]
    assert [one.adapter[:4] for one in decided] == ["", "sql@", "chat", ""]  # "gone" is not there: never chosen
    cells = [Request(Prompt(one), config, 0, 0, 8) for one, config in zip(PROMPTS, decided, strict=True)]
    assert texts == [one.text for one in engine.generate(cells)]
    assert texts[1] != hag.wrap(tiny_model(seed=1), policy, tokenizer=tiny_tokenizer()).generate_text(PROMPTS[1])
    assert model.active_adapter == "sql"
    assert {name: weight.requires_grad for name, weight in model.named_parameters()} == before
