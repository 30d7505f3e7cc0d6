"""`wrap` in front of a model that is given soft prefixes: the engine's answers, and what cannot be had is told."""

from __future__ import annotations

import threading

import pytest

import hagpolicy as hag
from hagpolicy import DecodingConfig, DecodingSpace, Prompt, Request
from tests.serving.wrapping import WordPolicy, padded
from tests.support.tiny_llama import tiny_model, tiny_tokenizer

pytest.importorskip("torch")

import torch
from transformers import pipeline

from hagpolicy.engines.transformers.engine import TransformersEngine
from tests.support.tiny_adapter import save_adapter
from tests.support.tiny_artefacts import save_references
from tests.support.tiny_prefix import save_prefix

GREEDY = DecodingConfig(temperature=0.0)
SPACE = [
    GREEDY,
    GREEDY.replace(soft_prefix="loud", repetition_penalty=1.3),
    GREEDY.replace(soft_prefix="loud", soft_tokens=2, num_beams=3),
    GREEDY.replace(soft_prefix="other", prompt_lookup_num_tokens=3),
    GREEDY.replace(soft_prefix="loud", presence_penalty=1.0, hint="think step by step ."),
    GREEDY.replace(repetition_penalty=1.8),
]
WORDS = {"red": 1, "sum": 2, "say": 3, "green": 4}
PROMPTS = [
    "why is the sky blue ?",
    "name three red colours",
    "red and blue why ? say brief",
    "what is the sum of ten ?",
    "what the sum",
    "hello hello hello say again",
    "count to green",
]
LIMIT = 10


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("prefixes")
    loud, other = save_prefix(root / "loud"), save_prefix(root / "other", tokens=2, seed=7)
    return {"soft_prefix": {"loud": loud, "other": other}}


def make_engine(given, *, chat=True):
    return TransformersEngine(tiny_model(seed=1).double(), tiny_tokenizer(chat=chat), name="tiny", artifacts=given)


def make_policy(engine, words=WORDS, space=SPACE):
    return WordPolicy(DecodingSpace(map(engine.pin, space)), words)


def answer(engine, configs, prompts=PROMPTS):
    cells = [Request(Prompt(one), config, 0, 0, LIMIT) for one, config in zip(prompts, configs, strict=True)]
    completions = engine.generate(cells)
    assert [one.error for one in completions if one.error] == []
    return [one.text for one in completions]


def make_chats(prompts=PROMPTS):
    return [[{"role": "user", "content": one}] for one in prompts]


def wrap_model(engine, given, *, chat=True, **options):
    model = tiny_model(seed=1).double()
    return hag.wrap(model, make_policy(engine, **options), tokenizer=tiny_tokenizer(chat=chat), artifacts=given)


def decided(wrapped):
    return [one.config for one in wrapped.decisions]


@pytest.mark.parametrize("chat", [True, False])
def test_texts_are_the_engines(chat, folders):
    engine = make_engine(folders, chat=chat)
    wrapped = wrap_model(engine, folders, chat=chat)
    texts = wrapped.generate_text(PROMPTS, max_new_tokens=LIMIT)
    assert texts == answer(engine, decided(wrapped))
    assert [one.soft_prefix.partition("@")[0] for one in decided(wrapped)] == [
        "", "loud", "loud", "loud", "loud", "other", "loud"
    ]  # fmt: skip
    bare = answer(engine, [config.replace(soft_prefix="", soft_tokens=None) for config in decided(wrapped)])
    same = [one == other for one, other in zip(texts, bare, strict=True)]
    assert same[0]
    assert sum(same) <= 3  # a prefix of random numbers need not change each short text
    assert not wrapped.target._forward_pre_hooks


@pytest.mark.parametrize("batch_size", [None, 2, 8])
def test_a_pipeline_answers_as_the_engine(batch_size, folders):
    engine = make_engine(folders)
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = "left"
    pipe = pipeline("text-generation", model=tiny_model(seed=1).double(), tokenizer=tokenizer)
    wrapped = hag.wrap(pipe, make_policy(engine), artifacts=folders)
    prompts = [*PROMPTS, [{"role": "system", "content": "be brief"}, *make_chats(["name red"])[0]]]
    chats = [*make_chats(), prompts[-1]]
    found = wrapped(chats, max_new_tokens=LIMIT, return_full_text=False, batch_size=batch_size)
    assert [one[0]["generated_text"] for one in found] == answer(engine, decided(wrapped), prompts)


def test_ids_that_are_given_come_back_and_rows_are_padded_as_ever(folders):
    engine = make_engine(folders)
    wrapped, tokenizer = wrap_model(engine, folders), tiny_tokenizer()
    some = [PROMPTS[number] for number in (0, 1, 2, 3, 5)]
    texts = [tokenizer.apply_chat_template(one, tokenize=False, add_generation_prompt=True) for one in make_chats(some)]
    rows = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    out = wrapped.generate(rows["input_ids"], attention_mask=rows["attention_mask"], prompts=some, max_new_tokens=LIMIT)
    width = rows["input_ids"].shape[1]
    assert (out[:, :width] == rows["input_ids"]).all()
    assert tokenizer.batch_decode(out[:, width:], skip_special_tokens=True) == answer(engine, decided(wrapped), some)
    assert out.shape[1] <= width + LIMIT
    single = rows["input_ids"][1:2, int((rows["attention_mask"][1] == 0).sum()) :]
    alone = wrapped.generate(input_ids=single, prompts=some[1:2], max_new_tokens=LIMIT)
    assert alone[0, single.shape[1] :].tolist() == [one for one in out[1, width:].tolist() if one][: alone.shape[1]]


def test_several_sequences_share_a_place(folders):
    engine = make_engine(folders)
    wrapped = wrap_model(engine, folders)
    ids = engine.encode(PROMPTS[3])
    out = wrapped.generate(torch.tensor([ids]), prompts=PROMPTS[3:4], max_new_tokens=LIMIT, num_return_sequences=2)
    assert decided(wrapped)[0].num_beams == 3
    assert out.shape[0] == 2
    [best] = answer(engine, decided(wrapped), PROMPTS[3:4])
    assert engine.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True) == best


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("ids", "pass generate"),
        ("other ids", "are not those of the prompt"),
        ("no user", "no text of a user"),
        ("cache", "cache_implementation"),
        ("text", "does not say where"),
        ("truncated", "truncation"),
    ],
)
def test_where_there_is_no_place_the_best_without_one_is_chosen_and_said(way, why, folders):
    engine = make_engine(folders)
    wrapped, tokenizer = wrap_model(engine, folders), tiny_tokenizer()
    pipe = pipeline("text-generation", model=tiny_model(seed=1).double(), tokenizer=tokenizer)
    piped = hag.wrap(pipe, wrapped.policy, artifacts=folders)
    written = tokenizer(["name three red colours"], return_tensors="pt")["input_ids"]
    calls = {
        "ids": lambda: wrapped.generate(written, max_new_tokens=4),
        "other ids": lambda: wrapped.generate(written, prompts=["name red"], max_new_tokens=4),
        "no user": lambda: wrapped.generate_text([{"role": "system", "content": "name red"}], max_new_tokens=4),
        "cache": lambda: wrapped.generate_text("name red", max_new_tokens=4, cache_implementation="dynamic"),
        "text": lambda: piped("name red", max_new_tokens=4),
        "truncated": lambda: piped(make_chats(["name red"])[0], max_new_tokens=4, truncation=True),
    }
    calls[way]()
    [decision] = (piped if way in ("text", "truncated") else wrapped).decisions
    assert decision.index == 0  # the best on average of those without a prefix
    assert why in decision.unavailable["soft_prefix"]
    assert why in decision.render("transformers").receipt.notes["soft_prefix"]
    assert decision.to_dict()["unavailable"] == dict(decision.unavailable)


def test_a_cache_that_the_model_itself_asks_for_leaves_no_place(folders):
    wrapped = wrap_model(make_engine(folders), folders)
    wrapped.target.generation_config.cache_implementation = "static"
    wrapped.generate_text("name red", max_new_tokens=4)
    assert "cache_implementation" in wrapped.decisions[0].unavailable["soft_prefix"]


def test_a_call_that_is_passed_on_does_not_meet_another_ones_prefix(folders):
    """Embeddings of the caller's, while a call of another thread has a prefix around the model."""
    engine = make_engine(folders)
    wrapped = wrap_model(engine, folders)
    ids = torch.tensor([engine.encode("count to ten")])
    given = {"inputs_embeds": wrapped.target.get_input_embeddings()(ids).detach(), "max_new_tokens": LIMIT}
    alone = wrapped.generate(**given).tolist()
    found = []

    def work():
        for _ in range(8):
            found.append(wrapped.generate(**given).tolist())

    thread = threading.Thread(target=work)
    thread.start()
    texts = [wrapped.generate_text(PROMPTS[1], max_new_tokens=LIMIT) for _ in range(8)]
    thread.join()
    assert found == [alone] * 8
    assert set(texts) == set(answer(engine, decided(wrapped), PROMPTS[1:2]))


def test_where_every_config_has_a_prefix_the_call_goes_out_as_it_came(folders):
    engine = make_engine(folders)
    wrapped, tokenizer = wrap_model(engine, folders, space=SPACE[1:4], words={}), tiny_tokenizer()
    rows = padded(tokenizer, ["name three red colours"])
    out = wrapped.generate(**{name: rows[name] for name in ("input_ids", "attention_mask")}, max_new_tokens=6)
    assert wrapped.decisions[0].reason == "no_config_agrees"
    assert "soft_prefix" in wrapped.decisions[0].unavailable
    assert out.tolist() == wrapped.target.generate(rows["input_ids"], max_new_tokens=6).tolist()


def test_more_rows_than_were_trained_and_no_room_in_the_context(folders, tmp_path):
    engine = make_engine(folders)
    space = [GREEDY, DecodingConfig(temperature=0.0, soft_prefix="other", soft_tokens=3)]
    wrapped = wrap_model(engine, folders, space=space, words={"red": 1})
    wrapped.generate_text("name red", max_new_tokens=2)
    assert wrapped.decisions[0].index == 0
    long = {"soft_prefix": {"long": save_prefix(tmp_path / "long", tokens=250)}}
    space = [GREEDY, DecodingConfig(temperature=0.0, soft_prefix="long")]
    wrapped = wrap_model(make_engine(long), long, space=space, words={"red": 1})
    wrapped.generate_text("name red red red red red red", max_new_tokens=2)
    assert "soft prefix 250" in wrapped.decisions[0].unavailable["soft_prefix"]


def test_calls_from_several_threads_do_not_meet(folders):
    engine = make_engine(folders)
    wrapped = wrap_model(engine, folders)
    wrapped.generate_text(PROMPTS, max_new_tokens=LIMIT)
    expected = dict(zip(PROMPTS, answer(engine, decided(wrapped)), strict=True))
    found: dict[str, list[str]] = {one: [] for one in PROMPTS}

    def work(prompt):
        for _ in range(3):
            found[prompt].append(wrapped.generate_text(prompt, max_new_tokens=LIMIT))

    threads = [threading.Thread(target=work, args=(one,)) for one in PROMPTS]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == {prompt: [text] * 3 for prompt, text in expected.items()}


def test_a_model_of_peft_is_given_them_beside_its_adapters(folders, tmp_path):
    peft = pytest.importorskip("peft")
    folder = save_adapter(tiny_model(seed=1), tmp_path / "sql", strength=1.0)
    model = tiny_model(seed=1).double()
    given = folders | {"reference": {"faq": save_references(model.float(), tmp_path / "faq")}}
    model = peft.PeftModel.from_pretrained(model, folder, adapter_name="sql").double().eval()
    engine = make_engine({**given, "adapter": {"sql": folder}})
    space = [
        GREEDY,
        GREEDY.replace(soft_prefix="loud", adapter="sql"),
        GREEDY.replace(soft_prefix="other"),
        GREEDY.replace(reference="faq", reference_weight=0.9, adapter="sql"),
    ]
    policy = make_policy(engine, {"red": 1, "sum": 2, "say": 3}, space)
    wrapped = hag.wrap(model, policy, tokenizer=tiny_tokenizer(), artifacts=given)
    some = [PROMPTS[number] for number in (0, 1, 3, 5)]
    texts = wrapped.generate_text(some, max_new_tokens=LIMIT)
    assert texts == answer(engine, decided(wrapped), some)
    plain = [config.replace(soft_prefix="", reference="", reference_weight=0.0) for config in decided(wrapped)]
    assert texts[1:] != answer(engine, plain, some)[1:]
    assert texts[3] != answer(engine, plain, some)[3]
