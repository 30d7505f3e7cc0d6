"""`wrap` in front of transformers pipelines."""

import copy
import logging
import pickle
import threading
import warnings

import pytest

import hagpolicy as hag
from hagpolicy import DecodingConfig, DecodingSpace
from hagpolicy.errors import InvalidInput
from hagpolicy.serving.base import Wrapper
from hagpolicy.serving.call import GenerateCall, decide
from tests.serving.wrapping import WordPolicy, chat, texts
from tests.support import making

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


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
    from transformers.utils import logging as transformers_logging

    wrapped, bare = hag.wrap(pipe, WordPolicy()), hag.wrap(model, WordPolicy(), tokenizer=tokenizer)
    config = transformers.GenerationConfig(max_new_tokens=3, top_k=0)
    prompts = ["name", "sum", "red", "say", "sky"]
    transformers_logging.warning_once.cache_clear()
    transformers_logging.enable_propagation()
    try:
        with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "the policy has nothing to decide")
            wrapped(prompts, max_new_tokens=3)
            wrapped(prompts, max_new_tokens=3, temperature=0.0)
            wrapped(prompts, max_new_tokens=3, temperature=0.7)
            wrapped(prompts, generation_config=config)
            bare.generate_text(prompts, max_new_tokens=3)
            bare.generate_text(prompts, generation_config=config)
    finally:
        transformers_logging.disable_propagation()
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


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "  ",
        [{"role": "user", "content": ""}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
    ],
)
def test_a_prompt_without_text_gets_the_reference(prompt):
    policy, call = making.sums_against_lists(), GenerateCall({})
    one, other = decide(policy, [prompt, making.LISTS[0]], call, {})
    assert (one.reason, one.config, other.index) == ("unreadable", policy.reference, 4)
    assert call.prepare(prompt, one).kwargs["do_sample"] is False


def test_settings_beyond_our_ranges_are_left_to_transformers(pipe):
    wrapped = hag.wrap(pipe, WordPolicy())
    wrapped("sum of ten", do_sample=True, top_p=0.0, max_new_tokens=2)
    assert wrapped.decisions == [None]
    with pytest.raises(ValueError, match="strictly positive"):
        wrapped("sum of ten", do_sample=True, temperature=-1.0, max_new_tokens=2)


def test_the_policy_gets_messages_as_they_are_and_reads_their_text():
    policy = WordPolicy()
    parts = [{"role": "user", "content": [{"type": "text", "text": "name the sky"}]}]
    tools = [{"role": "assistant", "content": None, "tool_calls": []}, {"role": "user", "content": "name blue"}]
    assert [d.index for d in decide(policy, [parts, tools], GenerateCall({}), {})] == [1, 1]
    assert policy.asked[0][0] == parts


def test_price_and_task_of_one_call_reach_the_policy_and_never_the_model(pipe, sent):
    policy = WordPolicy(dial="price")
    wrapped = hag.wrap(pipe, policy, price=1.0, task="json")
    wrapped("say hello", max_new_tokens=3, price=2.0, task="story")
    wrapped("say hello", max_new_tokens=3)
    list(wrapped((text for text in ["say hello"]), max_new_tokens=3, price=3.0))
    assert [turn["price"] for turn in policy.turned] == [2.0, 1.0, 3.0]
    assert [turn["task"] for turn in policy.turned] == ["story", "json", "json"]
    assert not {"price", "task"} & {name for call in sent for name in call}
    assert wrapped.task == "text-generation"


def test_reasons_are_counted_over_threads_and_calls(pipe):
    wrapped = hag.wrap(pipe, WordPolicy())
    call = GenerateCall({})

    def work():
        for _ in range(50):
            wrapped._prepare_prompts(["say hello", "nothing"], call, {}, {}, None)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrapped.counts == {"best_by_margin": 200, "reference_best": 200}
    again = pickle.loads(pickle.dumps(Wrapper(None, None)))
    assert again.counts == {}
    wrapped._prepare_prompts(["say hello"], call, None, {}, None)
    assert wrapped.counts["not_decided"] == 1


def test_settings_that_leave_nothing_to_decide_warn_once(pipe):
    wrapped = hag.wrap(pipe, WordPolicy())
    with pytest.warns(UserWarning, match="nothing to decide.*temperature=0.33.*none of 5.*overrule"):
        wrapped("say hello", max_new_tokens=2, temperature=0.33)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped("say hello", max_new_tokens=2, temperature=0.33)
        hag.wrap(pipe, WordPolicy())("say hello", max_new_tokens=2, do_sample=False)
    assert wrapped.counts == {"no_config_agrees": 2}


@pytest.mark.parametrize("how", ["keyword", "generation_config", "pipeline"])
def test_overruled_fields_are_decided_by_the_policy_and_the_receipt_says_so(how, model, tokenizer, pipe, sent):
    setting = {"temperature": 0.3, "do_sample": True, "max_new_tokens": 2}
    if how == "pipeline":
        pipe = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer, **setting)
    wrapped = hag.wrap(pipe, WordPolicy(), overrule=["temperature"])
    given = {"generation_config": {"generation_config": transformers.GenerationConfig(**setting)}, "pipeline": {}}
    wrapped(["say hello", "name blue"], **given.get(how, setting))
    assert [d.index for d in wrapped.decisions] == [4, 1]
    assert wrapped.decisions[0].render("transformers").receipt.overruled == {"temperature": 0.3}
    settings = [call["generation_config"] if how == "generation_config" else call for call in sent]
    found = [one.to_dict() if hasattr(one, "to_dict") else one for one in settings]
    assert [(one["do_sample"], one["temperature"]) for one in found] == [(True, 0.7), (False, 1.0)]
    with pytest.raises(InvalidInput, match="overrule"):
        hag.wrap(pipe, WordPolicy(), overrule=["temprature"])


def test_a_policy_for_several_answers_reads_how_many_from_the_call(pipe):
    policy = WordPolicy(dial="n")
    wrapped = hag.wrap(pipe, policy)
    wrapped("say hello", max_new_tokens=3)
    wrapped("say hello", max_new_tokens=3, num_return_sequences=2)
    assert policy.turned == [{"n": 1}, {"n": 2}]


def test_a_price_is_set_when_wrapping_and_changed_between_calls(pipe):
    policy = WordPolicy(dial="price")
    wrapped = hag.wrap(pipe, policy, price=0.001)
    wrapped("say hello", max_new_tokens=3)
    wrapped.price = 0.002
    wrapped(["say hello"], max_new_tokens=3)
    wrapped.price = None
    wrapped("say hello", max_new_tokens=3)
    assert policy.turned == [{"price": 0.001}, {"price": 0.002}, {}]
    with pytest.raises(InvalidInput, match="without a dial"):
        hag.wrap(pipe, WordPolicy(), price=0.001)
