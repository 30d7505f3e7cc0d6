"""`wrap`: a policy in front of transformers pipelines and models."""

import copy
import logging
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import hagpolicy as hag
from hagpolicy import DecodingConfig, DecodingSpace
from hagpolicy.config import FIELDS
from hagpolicy.decision import choose
from hagpolicy.errors import InvalidInput
from hagpolicy.prompts import prompt_text

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tiny_llama import tiny_model, tiny_tokenizer  # noqa: E402

from hagpolicy.compose.calls import FIELD_OF, Call  # noqa: E402

SPACE = DecodingSpace(
    [
        DecodingConfig(temperature=0),
        DecodingConfig(temperature=0, repetition_penalty=1.8),
        DecodingConfig(temperature=0, hint="think step by step ."),
        DecodingConfig(temperature=0, presence_penalty=2.0),
        DecodingConfig(temperature=0.7, top_p=0.9),
    ]
)
# The first of these words in a prompt decides its config: the numbers are SPACE's.
WORDS = {"sum": 2, "name": 1, "red": 3, "say": 4}


class WordPolicy:
    """The real decision rule over values that a word in the prompt decides: what a test can foretell."""

    def __init__(self, space=SPACE, words=None, fingerprint=None, max_tokens=None):
        self.space, self.words = space, WORDS if words is None else words
        self.training_means = np.linspace(0.6, 0.5, len(space))
        self.sbs_index, self.margin, self.ships_sbs = 0, 0.0, False
        self.fingerprint, self.max_tokens = fingerprint or {}, max_tokens
        self.asked = []

    def decide_batch(self, prompts, fixed=None):
        return [self.decide(prompt, fixed) for prompt in prompts]

    def decide(self, prompt, fixed=None):
        self.asked.append((prompt, fixed))
        text = prompt_text(prompt)
        values = self.training_means.astype(np.float32)
        for word, index in self.words.items():
            if word in text.split():
                values = values.copy()
                values[index] = 1.0
        return choose(self, values, 0.0, fixed, prompt)


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


def chat(text):
    return [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}]


def texts(records):
    return [record["generated_text"] for record in records]


# What the caller sets


def test_every_keyword_that_we_have_a_word_for_is_a_field():
    assert set(FIELD_OF.values()) == set(FIELDS) - {"presence_penalty", "frequency_penalty", "hint"}
    assert set(FIELD_OF) <= set(vars(transformers.GenerationConfig()))


@pytest.mark.parametrize(
    ("kwargs", "fixed"),
    [
        ({}, {}),
        ({"temperature": None, "top_p": None, "return_full_text": False, "batch_size": 4}, {}),
        ({"temperature": 0.0}, {"temperature": 0.0}),
        ({"temperature": 0.7}, {"temperature": 0.7}),
        ({"do_sample": False}, {"temperature": 0.0}),
        ({"do_sample": False, "temperature": 0.7}, {"temperature": 0.0}),
        ({"do_sample": True}, {"temperature": 0.4}),
        ({"do_sample": True, "temperature": 0.9}, {"temperature": 0.9}),
        ({"max_new_tokens": 5, "top_k": 0, "min_p": 0.0}, {"max_tokens": 5, "top_k": 0, "min_p": 0.0}),
        (
            {"top_p": 1, "typical_p": 0.5, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0},
            {"top_p": 1.0, "typical_p": 0.5, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0},
        ),
        (
            {"length_penalty": 0},
            {"length_penalty": 0.0},
        ),
        ({"num_beams": 1}, {"num_beams": 1}),
        ({"top_p": 0.0}, None),
        ({"max_length": 9}, {}),
    ],
)
def test_what_the_caller_sets_becomes_our_fields(kwargs, fixed):
    assert Call(kwargs, own=0.4).fixed == fixed


def test_a_generation_config_counts_and_keywords_come_before_it():
    config = transformers.GenerationConfig(temperature=0.7, top_k=5, max_new_tokens=3)
    assert Call({"generation_config": config}).fixed == {"temperature": 0.7, "top_k": 5, "max_tokens": 3}
    assert Call({"generation_config": config, "top_k": 9}).fixed == {"temperature": 0.7, "top_k": 9, "max_tokens": 3}
    assert Call({"max_new_tokens": 4}, {"top_p": 0.5, "max_new_tokens": 2}).fixed == {"top_p": 0.5, "max_tokens": 4}
    assert Call({"generation_config": config}, {"top_p": 0.5}).fixed.keys() == {"temperature", "top_k", "max_tokens"}


def test_sampling_at_temperature_zero_is_a_contradiction():
    with pytest.raises(InvalidInput, match="do_sample"):
        Call({"do_sample": True, "temperature": 0.0}).fixed  # noqa: B018


SETTINGS = {
    "temperature": st.sampled_from([0.0, 0.3, 0.7]),
    "do_sample": st.booleans(),
    "top_p": st.sampled_from([0.5, 0.9, 1.0]),
    "top_k": st.sampled_from([0, 50]),
    "min_p": st.sampled_from([0.0, 0.1]),
    "typical_p": st.sampled_from([0.5, 1.0]),
    "repetition_penalty": st.sampled_from([1.0, 1.8]),
    "no_repeat_ngram_size": st.sampled_from([0, 3]),
    "num_beams": st.sampled_from([1, 4]),
    "length_penalty": st.sampled_from([1.0, 2.0]),
    "max_new_tokens": st.sampled_from([5, 20]),
    "max_length": st.just(30),
    "eta_cutoff": st.just(0.1),
    "return_full_text": st.booleans(),
}
IDLE_WHEN_GREEDY = {"temperature", "top_p", "top_k", "min_p", "typical_p"}


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({}, optional=SETTINGS), st.fixed_dictionaries({}, optional=SETTINGS), st.integers(0, 18))
def test_whatever_the_caller_sets_arrives(kwargs, standing, number):
    spaces = [*DecodingSpace.preset("standard"), *SPACE[1:2], *SPACE[3:]]
    space = DecodingSpace([*spaces, DecodingConfig(temperature=0.7, max_tokens=20), DecodingConfig(num_beams=2)])
    explicit = {**standing, **kwargs}
    assume(not (explicit.get("do_sample") and explicit.get("temperature") == 0))
    call = Call(kwargs, standing)
    decision = WordPolicy(space, {"word": number}).decide("word", call.fixed)
    sent = call.send("word", decision)
    if decision.reason == "no_config_agrees":
        assert sent.kwargs == kwargs
        assert sent.prompt == "word"
        return
    arrived = {**standing, **sent.kwargs}
    greedy = explicit.get("do_sample") is False or explicit.get("temperature") == 0
    assert not greedy or arrived["do_sample"] is False
    for name, value in explicit.items():
        idle = arrived["do_sample"] is False and name in IDLE_WHEN_GREEDY
        idle |= name == "length_penalty" and arrived["num_beams"] == 1
        assert idle or arrived[name] == value
    if "max_length" in explicit and "max_new_tokens" not in explicit:
        assert "max_new_tokens" not in arrived


# Pipelines


def test_each_prompt_gets_its_own_config_and_its_own_place(pipe, sent):
    prompts = ["red again", "what is the sky", "say hello", "name blue", "sum of ten", "red or green"]
    wrapped = hag.wrap(pipe, WordPolicy())
    answers = wrapped(prompts, max_new_tokens=6)
    assert [decision.index for decision in wrapped.decisions] == [3, 0, 4, 1, 2, 3]
    assert len(answers) == 6
    for prompt, records, decision in zip(prompts, answers, wrapped.decisions, strict=True):
        assert texts(records)[0].startswith(prompt)
        if decision.config.deterministic:
            alone = decision.render("transformers")
            kwargs = {**alone.kwargs, "max_new_tokens": 6, "logits_processor": alone.processors}
            answer = pipe(alone.prompt, return_full_text=False, **kwargs)[0]["generated_text"]
            assert texts(records) == [prompt + answer]
    penalties = [call.get("repetition_penalty") for call in sent[:6]]
    assert sorted(penalties) == [1.0, 1.0, 1.0, 1.0, 1.0, 1.8]
    assert sum(call["do_sample"] for call in sent[:6]) == 1
    assert len({texts(records)[0].removeprefix(prompt) for prompt, records in zip(prompts, answers, strict=True)}) > 3


def test_one_prompt_and_a_list_and_an_iterable_come_back_as_from_the_pipeline(pipe):
    wrapped = hag.wrap(pipe, WordPolicy())
    one = wrapped("what is the sky", max_new_tokens=4)
    assert one == pipe("what is the sky", max_new_tokens=4, do_sample=False)
    assert wrapped(["what is the sky"], max_new_tokens=4) == [one]
    lazily = wrapped((text for text in ["what is the sky", "count to ten"]), max_new_tokens=4)
    assert next(lazily) == one
    assert wrapped.decisions[0].prompt == "what is the sky"
    next(lazily)
    assert wrapped.decisions[0].prompt == "count to ten"
    assert wrapped([]) == []
    from transformers.utils.chat_template_utils import Chat

    messages = chat("what is the sky")
    assert wrapped(Chat(messages), max_new_tokens=4) == wrapped(messages, max_new_tokens=4)


def test_batches_of_one_config_go_in_one_call_of_the_pipeline(pipe, sent):
    wrapped = hag.wrap(pipe, WordPolicy())
    together = wrapped(["name ten", "say hello", "name sky blue"], max_new_tokens=4, batch_size=2)
    assert [len(call["input_ids"]) for call in sent] == [2, 1]
    assert texts(together[0]) == texts(wrapped("name ten", max_new_tokens=4))
    assert texts(together[2]) == texts(wrapped("name sky blue", max_new_tokens=4))


@pytest.mark.parametrize("batch_size", [None, 1, 2, 8])
def test_penalties_count_each_answer_from_its_own_prompts_end(pipe, batch_size):
    wrapped = hag.wrap(pipe, WordPolicy())
    prompts = ["red again", "red", "red or green or blue or ten", "red sky"]
    together = wrapped(prompts, max_new_tokens=8, batch_size=batch_size)
    assert together == [wrapped(prompt, max_new_tokens=8) for prompt in prompts]


@pytest.mark.parametrize(
    ("setting", "index", "arrives"),
    [
        ({"temperature": 0.0}, 0, {"do_sample": False, "temperature": 1.0}),
        ({"do_sample": False}, 0, {"do_sample": False}),
        ({"do_sample": False, "temperature": 0.6}, 0, {"do_sample": False, "temperature": 1.0}),
        ({"temperature": 0.7}, 4, {"do_sample": True, "temperature": 0.7, "top_p": 0.9}),
        ({"repetition_penalty": 1.8}, 1, {"do_sample": False, "repetition_penalty": 1.8}),
        ({"top_k": 3}, 4, {"do_sample": True, "top_k": 3, "temperature": 0.7}),
        ({"num_beams": 2}, 4, {"num_beams": 2, "do_sample": True}),
        ({"epsilon_cutoff": 0.01}, 4, {"epsilon_cutoff": 0.01, "eta_cutoff": 0.0}),
    ],
)
@pytest.mark.parametrize("how", ["keyword", "generation_config", "pipeline"])
def test_what_the_caller_sets_wins(model, tokenizer, sent, setting, index, arrives, how):
    standing = {**setting, "max_new_tokens": 3} if how == "pipeline" else {}
    pipe = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer, **standing)
    wrapped = hag.wrap(pipe, WordPolicy())
    if how == "keyword":
        wrapped("say hello", max_new_tokens=3, **setting)
    elif how == "generation_config":
        config = transformers.GenerationConfig(max_new_tokens=3, **setting)
        before = copy.deepcopy(config).to_dict()
        wrapped("say hello", generation_config=config)
        assert config.to_dict() == before, "the caller's own object stays as it was"
    else:
        wrapped("say hello")
    decision = wrapped.decisions[0]
    assert decision.index == index
    assert decision.reason != "no_config_agrees"
    merged = sent[-1].get("generation_config")
    seen = {**sent[-1], **({} if merged is None else vars(merged))}
    assert {name: seen[name] for name in arrives} == arrives
    assert seen["max_new_tokens"] == 3


def test_where_no_config_agrees_the_call_is_sent_unchanged(pipe, sent):
    wrapped = hag.wrap(pipe, WordPolicy())
    kwargs = {"temperature": 0.33, "do_sample": True, "max_new_tokens": 3}
    torch.manual_seed(0)
    mine = wrapped("sum of ten", **kwargs)
    assert wrapped.decisions[0].reason == "no_config_agrees"
    unwrapped = dict(sent[-1])
    torch.manual_seed(0)
    assert mine == pipe("sum of ten", **kwargs)
    assert {k: v for k, v in unwrapped.items() if "ids" not in k and "mask" not in k} == {
        k: v for k, v in sent[-1].items() if "ids" not in k and "mask" not in k
    }
    config = transformers.GenerationConfig(do_sample=True, temperature=0.33, max_new_tokens=3)
    wrapped("sum of ten", generation_config=config)
    assert wrapped.decisions[0].reason == "no_config_agrees"


def test_no_call_warns(pipe, model, tokenizer, caplog):
    from transformers.utils import logging as hf_logging

    wrapped, bare = hag.wrap(pipe, WordPolicy()), hag.wrap(model, WordPolicy(), tokenizer=tokenizer)
    config = transformers.GenerationConfig(max_new_tokens=3, top_k=0)
    prompts = ["name", "sum", "red", "say", "sky"]
    hf_logging.warning_once.cache_clear()
    hf_logging.enable_propagation()
    try:
        with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
            warnings.simplefilter("error")
            wrapped(prompts, max_new_tokens=3)
            wrapped(prompts, max_new_tokens=3, temperature=0.0)
            wrapped(prompts, max_new_tokens=3, temperature=0.7)
            wrapped(prompts, generation_config=config)
            bare.generate_text(prompts, max_new_tokens=3)
            bare.generate_text(prompts, generation_config=config)
    finally:
        hf_logging.disable_propagation()
    assert not caplog.records, caplog.text


def test_a_limit_on_the_whole_length_is_the_callers_too(pipe, sent):
    space = DecodingSpace([DecodingConfig(temperature=0, max_tokens=5), DecodingConfig(temperature=0, max_tokens=50)])
    wrapped = hag.wrap(pipe, WordPolicy(space, {"sum": 1}))
    wrapped("sum of ten", max_length=8)
    assert sent[-1].get("max_new_tokens") is None
    wrapped("sum of ten")
    assert sent[-1]["max_new_tokens"] == 50


def test_the_hint_reaches_the_model_and_stays_out_of_the_callers_prompt(pipe, sent, tokenizer):
    wrapped = hag.wrap(pipe, WordPolicy())
    hinted = "sum of ten\n\nthink step by step ."
    answer = pipe(hinted, max_new_tokens=4, do_sample=False, return_full_text=False)[0]["generated_text"]
    assert texts(wrapped("sum of ten", max_new_tokens=4)) == ["sum of ten" + answer]
    assert sent[-1]["input_ids"].tolist() == [tokenizer(hinted)["input_ids"]]
    assert texts(wrapped("sum of ten", max_new_tokens=4, return_full_text=False)) == [answer]
    quiet = transformers.pipeline("text-generation", pipe.model, tokenizer=tokenizer, return_full_text=False)
    assert texts(hag.wrap(quiet, wrapped.policy)("sum of ten", max_new_tokens=4)) == [answer]


def test_chats_keep_their_messages_and_carry_the_hint(pipe, sent, tokenizer):
    wrapped = hag.wrap(pipe, WordPolicy())
    many = [chat("sum of ten"), chat("what is the sky"), [{"role": "user", "content": "red again"}]]
    before = copy.deepcopy(many)
    answers = wrapped(many, max_new_tokens=4)
    assert [decision.index for decision in wrapped.decisions] == [2, 0, 3]
    assert many == before
    for messages, records in zip(many, answers, strict=True):
        assert records[0]["generated_text"][:-1] == messages
        assert records[0]["generated_text"][-1]["role"] == "assistant"
    prompts = [tokenizer.decode(call["input_ids"][0]) for call in sent]
    assert sum("think step by step" in prompt for prompt in prompts) == 1
    assert wrapped(many[0], max_new_tokens=4) == answers[0]


def test_an_answer_that_continues_the_last_message_is_kept_whole(pipe):
    wrapped = hag.wrap(pipe, WordPolicy())
    started = [*chat("sum of ten"), {"role": "assistant", "content": "the sum is"}]
    messages = wrapped(started, max_new_tokens=4)[0]["generated_text"]
    assert messages[:2] == started[:2]
    assert messages[2]["content"].startswith("the sum is")
    assert len(messages) == 3


def test_several_sequences_of_a_deterministic_config_are_its_one_text(pipe):
    wrapped = hag.wrap(pipe, WordPolicy())
    answers = wrapped(["what is the sky", "say hello"], num_return_sequences=3, max_new_tokens=5)
    assert [len(records) for records in answers] == [3, 3]
    assert len(set(texts(answers[0]))) == 1
    assert len(set(texts(answers[1]))) > 1
    beams = WordPolicy(DecodingSpace([DecodingConfig(temperature=0, num_beams=4)]), {})
    best = hag.wrap(pipe, beams)("what is the sky", num_return_sequences=3, max_new_tokens=5)
    assert len(set(texts(best))) > 1, "beam search has several"


def test_our_penalties_stand_beside_the_callers_processors(pipe, sent):
    class Ban(transformers.LogitsProcessor):
        def __call__(self, input_ids, scores):
            scores[:, 20] = -torch.inf
            return scores

    ban = Ban()
    hag.wrap(pipe, WordPolicy())("red sky", max_new_tokens=8, logits_processor=[ban])
    processors = sent[-1]["logits_processor"]
    assert processors[0] is ban
    assert [type(processor).__name__ for processor in processors[1:]] == ["AnswerPenalty"]


@pytest.mark.parametrize("prompt", ["", "  ", [{"role": "user", "content": ""}]])
def test_a_prompt_without_text_is_sent_as_it_is(pipe, prompt):
    wrapped = hag.wrap(pipe, WordPolicy())
    got = wrapped([prompt, "say hello"], max_new_tokens=2, do_sample=False)
    assert wrapped.decisions[0] is None
    assert wrapped.decisions[1].reason != "no_config_agrees"
    assert got[0] == pipe(prompt, max_new_tokens=2, do_sample=False)


def test_settings_beyond_our_ranges_are_left_to_transformers(pipe):
    wrapped = hag.wrap(pipe, WordPolicy())
    wrapped("sum of ten", do_sample=True, top_p=0.0, max_new_tokens=2)
    assert wrapped.decisions == [None]
    with pytest.raises(ValueError, match="strictly positive"):
        wrapped("sum of ten", do_sample=True, temperature=-1.0, max_new_tokens=2)


def test_the_policy_reads_text_only(pipe):
    policy = WordPolicy()
    parts = [{"role": "user", "content": [{"type": "text", "text": "name the sky"}]}]
    tools = [{"role": "assistant", "content": None, "tool_calls": []}, {"role": "user", "content": "name blue"}]
    from hagpolicy.compose.calls import decide

    assert [d.index for d in decide(policy, [parts, tools], {})] == [1, 1]
    assert policy.asked[0][0] == [{"role": "user", "content": "name the sky"}]


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


# Models


def padded(tokenizer, rows):
    return tokenizer(rows, padding=True, padding_side="left", return_tensors="pt")


def alone(model, tokenizer, text, index, **kwargs):
    rendering = SPACE[index].render("transformers")
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    out = model.generate(ids, **{**rendering.kwargs, **kwargs}, logits_processor=rendering.processors)
    return out[0, ids.shape[1] :].tolist()


def test_rows_of_token_ids_get_their_own_configs(model, tokenizer, sent):
    prompts = ["count the red sky", "what", "red sky", "sum of ten", "name"]
    inputs = padded(tokenizer, prompts)
    inputs.pop("token_type_ids", None)
    wrapped = hag.wrap(model, WordPolicy(), tokenizer=tokenizer)
    out = wrapped.generate(**inputs, max_new_tokens=6)
    # "sum" would want a hint; the ids are written already, so the best config without one stands.
    assert [decision.index for decision in wrapped.decisions] == [3, 0, 3, 0, 1]
    assert all(decision.config.hint == "" for decision in wrapped.decisions)
    assert [len(call["input_ids"]) for call in sent] == [2, 2, 1]
    width = inputs["input_ids"].shape[1]
    assert torch.equal(out[:, :width], inputs["input_ids"])
    for row, (text, decision) in enumerate(zip(prompts, wrapped.decisions, strict=True)):
        mine = out[row, width:].tolist()
        theirs = alone(model, tokenizer, text, decision.index, max_new_tokens=6)
        assert mine == theirs + [0] * (len(mine) - len(theirs))


def test_one_config_for_all_rows_is_one_call(model, tokenizer, sent):
    inputs = padded(tokenizer, ["what", "what is the sky"])
    wrapped = hag.wrap(model, WordPolicy(), tokenizer=tokenizer)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    out = wrapped.generate(ids, attention_mask=mask, max_new_tokens=4)
    assert len(sent) == 1
    assert torch.equal(out, model.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False))


def test_the_prompts_behind_the_ids_can_be_given(model, tokenizer):
    ids = tokenizer.apply_chat_template(chat("name ten"), add_generation_prompt=True, return_tensors="pt")["input_ids"]
    wrapped = hag.wrap(model, WordPolicy(), tokenizer=tokenizer)
    wrapped.generate(ids, prompts=["red sky"], max_new_tokens=2)
    assert wrapped.decisions[0].index == 3
    wrapped.generate(ids, max_new_tokens=2)
    assert wrapped.decisions[0].index == 1
    with pytest.raises(InvalidInput, match="one a row, 1"):
        wrapped.generate(ids, prompts=["a", "b"], max_new_tokens=2)


def test_several_sequences_keep_their_rows(model, tokenizer):
    inputs = padded(tokenizer, ["say hello", "what", "name"])
    wrapped = hag.wrap(model, WordPolicy(), tokenizer=tokenizer)
    ids = inputs["input_ids"]
    out = wrapped.generate(ids, attention_mask=inputs["attention_mask"], max_new_tokens=5, num_return_sequences=2)
    width = ids.shape[1]
    assert out.shape[0] == 6
    assert torch.equal(out[:, :width], ids.repeat_interleave(2, 0))
    assert torch.equal(out[2], out[3])
    assert torch.equal(out[4], out[5])


def test_what_rows_cannot_share_is_refused_by_name(model, tokenizer):
    inputs = padded(tokenizer, ["what", "name"])
    wrapped = hag.wrap(model, WordPolicy(), tokenizer=tokenizer)
    kwargs = {"attention_mask": inputs["attention_mask"], "max_new_tokens": 2, "return_dict_in_generate": True}
    with pytest.raises(InvalidInput, match=r"return_dict_in_generate.*2 configurations"):
        wrapped.generate(inputs["input_ids"], **kwargs)
    whole = wrapped.generate(inputs["input_ids"], repetition_penalty=1.8, **kwargs)
    assert whole.sequences.shape[0] == 2


def test_the_caller_wins_on_models_too(model, tokenizer, sent):
    ids = tokenizer("say hello", return_tensors="pt")["input_ids"]
    wrapped = hag.wrap(model, WordPolicy(), tokenizer=tokenizer)
    wrapped.generate(ids, temperature=0.0, max_new_tokens=2)
    assert sent[-1]["do_sample"] is False
    wrapped.generate(ids, temperature=0.33, do_sample=True, max_new_tokens=2)
    assert wrapped.decisions[0].reason == "no_config_agrees"
    unchanged = {name: value for name, value in sent[-1].items() if name != "input_ids"}
    assert unchanged == {"temperature": 0.33, "do_sample": True, "max_new_tokens": 2}
    embeds = model.get_input_embeddings()(ids)
    assert wrapped.generate(inputs_embeds=embeds, max_new_tokens=2).shape == (1, 2)
    assert wrapped.decisions == []


def test_text_in_text_out_with_hint_and_template(model, tokenizer, sent):
    wrapped = hag.wrap(model, WordPolicy(max_tokens=5), tokenizer=tokenizer)
    answers = wrapped.generate_text(["sum of ten", "what is the sky", chat("red again"), "name"])
    assert [decision.index for decision in wrapped.decisions] == [2, 0, 3, 1]
    assert len(answers) == 4
    assert all(isinstance(answer, str) for answer in answers)
    assert [call["max_new_tokens"] for call in sent] == [5] * 3, "the sweep's limit, where nobody sets another"
    first = tokenizer.decode(sent[0]["input_ids"][0])
    messages = [{"role": "user", "content": "sum of ten\n\nthink step by step ."}]
    hinted = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    assert first == tokenizer.decode(hinted[0])
    one = model.generate(hinted, max_new_tokens=5, do_sample=False)[0, hinted.shape[1] :]
    assert answers[0] == tokenizer.decode(one, skip_special_tokens=True)
    assert wrapped.generate_text("sum of ten") == answers[0]
    wrapped.generate_text("sum of ten", max_new_tokens=2)
    assert sent[-1]["max_new_tokens"] == 2
    with pytest.raises(InvalidInput, match="num_return_sequences"):
        wrapped.generate_text("sum of ten", num_return_sequences=2)


def test_text_without_a_template_is_plain(model, sent):
    plain = tiny_tokenizer(chat=False)
    wrapped = hag.wrap(model, WordPolicy(), tokenizer=plain)
    wrapped.generate_text(["sum of ten", "say"], max_new_tokens=2)
    assert sent[0]["input_ids"].tolist() == [plain("sum of ten\n\nthink step by step .")["input_ids"]]
    assert wrapped.device == model.device
    ids = torch.tensor([[7, 8, 9]])
    assert torch.equal(wrapped(ids).logits, model(ids).logits)


# The door


def test_only_what_can_generate_text_is_wrapped(model, tokenizer, pipe):
    with pytest.raises(InvalidInput, match="tokenizer"):
        hag.wrap(model, WordPolicy())
    with pytest.raises(InvalidInput, match="text-generation"):
        hag.wrap(object(), WordPolicy())
    with pytest.raises(InvalidInput, match="summarization"):
        hag.wrap(SimpleNamespace(task="summarization", model=model), WordPolicy())


def test_a_policy_of_another_engine_warns_once(model, tokenizer, pipe):
    from hagpolicy.engines.hf import TransformersEngine

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


# With a policy that was fitted


@pytest.fixture(scope="module")
def fitted():
    """A policy that learned: greedy for sums, a repetition penalty for names."""
    space = DecodingSpace([SPACE[0], SPACE[1], SPACE[4]])
    rng = np.random.default_rng(0)
    colours, things = "red green blue white black".split(), "dog cat bird fish tree house".split()  # noqa: SIM905
    prompts, rewards = [], rng.uniform(0.3, 0.5, (160, 3, 4))
    for number in range(160):
        colour, thing, first = rng.choice(colours), rng.choice(things), rng.integers(99)
        named, summed = f"name {number} {colour} {thing}", f"what is the sum of {first} and {number} ?"
        prompts.append(named if number % 2 else summed)
        rewards[number, number % 2] += 0.4
    return hag.fit(hag.SweepTable.from_arrays(prompts, space, rewards), encoder="static", learner="ridge")


def test_a_fitted_policy_decides_for_a_wrapped_pipeline(fitted, pipe, tmp_path):
    assert not fitted.ships_sbs
    policy = hag.load(fitted.save(tmp_path / "policy"))
    wrapped = hag.wrap(pipe, policy)
    prompts = ["what is the sum of 17 and 18 ?", "name 14 blue bird", "what is the sum of 3 and 77 ?", ""]
    wrapped(prompts, max_new_tokens=3)
    assert [None if d is None else d.index for d in wrapped.decisions] == [0, 1, 0, None]
    assert wrapped.decisions[:3] == policy.decide_batch(prompts[:3], {"max_tokens": 3})
    wrapped(prompts[:3], max_new_tokens=3, temperature=0.7)
    assert [d.index for d in wrapped.decisions] == [2, 2, 2]
    wrapped([{"role": "user", "content": "name 14 blue bird"}], max_new_tokens=3)
    assert wrapped.decisions[0].index == 1


@pytest.mark.llm
def test_the_real_model_answers_alike_through_every_door(smollm):
    """4 prompts × at most 15 tokens, three times: 180 tokens."""
    from hagpolicy import Prompt, Request

    space = DecodingSpace(
        [
            DecodingConfig(temperature=0),
            DecodingConfig(temperature=0, hint="Answer with one word."),
            DecodingConfig(temperature=0, frequency_penalty=1.5),
        ]
    )
    policy = WordPolicy(space, {"fruit": 1, "colours": 2}, dict(smollm.fingerprint), max_tokens=15)
    prompts = ["What is the capital of France?", "Name a fruit that is red.", "List some colours now", "What is 2 + 2?"]
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    pipe = transformers.pipeline("text-generation", smollm.model, tokenizer=smollm.tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = hag.wrap(smollm.model, policy, tokenizer=smollm.tokenizer)
    together = model.generate_text(prompts)
    configs = [decision.config for decision in model.decisions]
    assert configs == [space[0], space[1], space[2], space[0]]
    assert "Paris" in together[0]
    # The pipeline runs them one at a time: padding and neighbours change nothing.
    records = hag.wrap(pipe, policy)(chats, max_new_tokens=15, return_full_text=False)
    assert [record[0]["generated_text"] for record in records] == together
    cells = [Request(Prompt(prompt), config, 0, 1, 15) for prompt, config in zip(prompts, configs, strict=True)]
    assert [cell.text for request in cells for cell in smollm.generate([request])] == together, "as the sweep wrote"
