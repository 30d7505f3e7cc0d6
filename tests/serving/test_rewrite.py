"""`rewrite`: the client's settings arrive as they were, the policy's where there were none; the receipt says which."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hagpolicy import DecodingConfig, DecodingSpace, InvalidInput
from hagpolicy.config.servers import SERVERS
from hagpolicy.policy.dial import MAX_COUNT
from hagpolicy.serving.endpoints import ENDPOINTS, find_endpoint
from hagpolicy.serving.rewrite import RewriteRules, rewrite
from tests.serving.wrapping import WordPolicy

SPACE = DecodingSpace(
    [
        DecodingConfig(temperature=0.7),
        DecodingConfig(temperature=0.0),
        DecodingConfig(temperature=0.7, hint="Think step by step."),
        DecodingConfig(temperature=1.0, top_p=0.5),
        DecodingConfig(temperature=1.0, top_k=20),
    ]
)
POLICY = WordPolicy(SPACE, {"greedy": 1, "hinted": 2, "nucleus": 3, "topk": 4})
CHAT, PLAIN, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
VLLM = RewriteRules("vllm")


def chat(text, **settings):
    return {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": text}],
        **settings,
    }


def asking(path, text, **settings):
    """A body of that endpoint with a prompt in it."""
    prompts = {
        CHAT: {"messages": [{"role": "user", "content": text}]},
        PLAIN: {"prompt": text},
        RESPONSES: {"input": text},
        MESSAGES: {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}], "max_tokens": 9},
    }
    return {"model": "m", **prompts[path], **settings}


def test_the_policy_sets_what_the_client_left_out():
    body, receipt = rewrite(CHAT, chat("nucleus please", stream=True, tools=[{"type": "function"}]), POLICY, VLLM)
    assert (body["temperature"], body["top_p"], body["top_k"]) == (1.0, 0.5, 0)
    assert {"stream": True, "tools": [{"type": "function"}], "model": "m"}.items() <= body.items()
    assert (receipt.reason, receipt.decision.index, receipt.changed) == ("best_by_margin", 3, True)
    assert receipt.applied == {key: body[key] for key in body if key not in ("model", "messages", "stream", "tools")}
    assert "max_tokens" not in body


@pytest.mark.parametrize("path", [CHAT, PLAIN, RESPONSES, MESSAGES])
def test_each_endpoint_has_its_names_and_its_place_for_a_hint(path):
    body, _ = rewrite(path, asking(path, "greedy"), POLICY, VLLM)
    assert body["temperature"] == 0.0
    body, receipt = rewrite(path, asking(path, "hinted"), POLICY, VLLM)
    assert receipt.hinted
    assert body == {**asking(path, "hinted\n\nThink step by step."), **receipt.applied}
    body, receipt = rewrite(path, asking(path, "hinted"), POLICY, RewriteRules("vllm", hints=False))
    assert (receipt.hinted, body["temperature"]) == (False, 0.7)
    assert "\n" not in json.dumps(body)


@pytest.mark.parametrize("path", [CHAT, PLAIN, RESPONSES, MESSAGES])
def test_slots_of_a_hint_are_filled_from_the_live_prompt_or_the_hint_is_left_out(path):
    slotted = DecodingSpace([DecodingConfig(temperature=0.7), DecodingConfig(temperature=0.7, hint="Use {numbers}.")])
    policy = WordPolicy(slotted, {"hinted": 1})
    body, receipt = rewrite(path, asking(path, "hinted 3, {numbers}"), policy, VLLM)
    assert body == {**asking(path, "hinted 3, {numbers}\n\nUse 3."), **receipt.applied}
    assert (receipt.hinted, receipt.notes["hint"]) == (True, "{numbers} filled from the prompt")
    body, receipt = rewrite(path, asking(path, "hinted"), policy, VLLM)
    assert body == {**asking(path, "hinted"), **receipt.applied}
    assert (receipt.decision.index, receipt.hinted) == (1, False)
    assert receipt.notes["hint"] == "left out: the prompt has nothing for {numbers}"


def test_a_key_in_the_body_is_the_clients_and_the_policy_chooses_beside_it():
    body, receipt = rewrite(CHAT, chat("nucleus", temperature=0.7), POLICY, VLLM)
    assert (body["temperature"], receipt.decision.config.temperature) == (0.7, 0.7)
    assert receipt.kept == ("temperature",)
    given_body = chat("nucleus", temperature=0.123)
    body, receipt = rewrite(CHAT, given_body, POLICY, VLLM)
    assert body is given_body
    assert (receipt.reason, receipt.changed, receipt.kept) == ("no_config_agrees", False, ("temperature",))


@pytest.mark.parametrize("value", [None, "warm", -1.0, [], True])
def test_a_value_that_no_config_has_leaves_the_body_as_it_came(value):
    given_body = chat("nucleus", temperature=value)
    body, receipt = rewrite(CHAT, given_body, POLICY, VLLM)
    assert body is given_body
    assert receipt.reason == "no_config_agrees"


def test_null_asks_for_what_runs_today_where_that_is_known():
    policy = WordPolicy(SPACE, {"hinted": 2})
    policy.default_index = 0
    body, receipt = rewrite(CHAT, chat("hinted", temperature=None), policy, VLLM)
    assert body["temperature"] is None
    assert receipt.decision.index == 2


def test_a_field_that_never_varies_is_no_reason_to_do_nothing():
    body, _ = rewrite(CHAT, chat("greedy", presence_penalty=0.5, max_completion_tokens=5), POLICY, VLLM)
    assert (body["temperature"], body["presence_penalty"], body["max_completion_tokens"]) == (0.0, 0.5, 5)
    assert "max_tokens" not in body


def test_only_configs_that_the_server_can_be_sent_are_chosen():
    for word, server in (("topk", "openai"), ("topk", "compatible")):
        body, receipt = rewrite(CHAT, chat(word), POLICY, RewriteRules(server))
        assert "top_k" not in body
        assert receipt.decision.index == 0
        assert not receipt.dropped
    body, receipt = rewrite(CHAT, chat("nucleus"), POLICY, RewriteRules("vllm", lacks=("top_p",)))
    assert receipt.decision.index == 0
    assert "top_p" not in body
    pair = RewriteRules("vllm", not_together=(("temperature", "top_k"),))
    assert rewrite(CHAT, chat("topk"), POLICY, pair)[1].decision.index == 4  # its temperature is the neutral one
    only = WordPolicy(DecodingSpace([DecodingConfig(temperature=0.5, top_k=7)]), {})
    given_body = chat("anything")
    body, receipt = rewrite(CHAT, given_body, only, RewriteRules("openai"))
    assert body is given_body
    assert receipt.reason == "no_config_agrees"


def test_neutral_values_are_sent_where_the_server_has_defaults_of_its_own():
    assert "top_p" in rewrite(CHAT, chat("greedy"), POLICY, VLLM)[0]
    assert "top_p" not in rewrite(CHAT, chat("greedy"), POLICY, RewriteRules("openai"))[0]
    assert "top_p" in rewrite(CHAT, chat("greedy"), POLICY, RewriteRules("openai", send_neutral=True))[0]


def test_overruled_fields_are_the_policys_and_the_receipt_says_what_they_were():
    rules = RewriteRules("vllm", overrule=("temperature", "max_tokens"))
    body, receipt = rewrite(CHAT, chat("nucleus", temperature=0.123, max_tokens=5), POLICY, rules)
    assert (body["temperature"], body["top_p"]) == (1.0, 0.5)
    assert receipt.overruled == {"temperature": 0.123}
    assert body["max_tokens"] == 5  # the policy has no limit to put in its place
    assert receipt.kept == ("max_tokens",)


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": [1, 2, 3]},
        {"prompt": [[1, 2], [3]]},
        {"prompt": ["hinted", "nucleus"]},
        {"prompt": None},
        {},
    ],
)
def test_a_prompt_that_is_not_one_text_gets_the_reference_and_never_a_hint(body):
    policy = WordPolicy(DecodingSpace([SPACE[2], *SPACE[:2]]), {})  # a config with a hint stands for prompts in general
    sent, receipt = rewrite(PLAIN, body, policy, VLLM)
    assert sent.get("prompt") == body.get("prompt")
    assert not receipt.hinted
    assert receipt.decision.reason == "unreadable"


def test_chats_are_read_by_their_words_and_hinted_after_them():
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    body, receipt = rewrite(CHAT, chat([{"type": "text", "text": "hinted"}, image]), POLICY, VLLM)
    assert body["messages"][1]["content"] == [{"type": "text", "text": "hinted\n\nThink step by step."}, image]
    assert receipt.hinted
    body, receipt = rewrite(CHAT, {"messages": [{"role": "user", "content": [image]}]}, POLICY, VLLM)
    assert (body["messages"][0]["content"], receipt.reason) == ([image], "unreadable")
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "hinted"}]},
        {"type": "function_call_output", "call_id": "c", "output": "3"},
    ]
    body, receipt = rewrite(RESPONSES, {"input": items, "instructions": "short"}, POLICY, VLLM)
    assert body["input"][0]["content"][0]["text"] == "hinted\n\nThink step by step."
    assert body["input"][1] == items[1]


def test_a_packed_configuration_is_merged_and_the_clients_part_of_it_wins():
    rules = RewriteRules("transformers_serve")
    body, _ = rewrite(CHAT, chat("nucleus"), POLICY, rules)
    sent = json.loads(body["generation_config"])
    assert (sent["temperature"], sent["top_p"], sent["do_sample"]) == (1.0, 0.5, True)
    own = json.dumps({"temperature": 0.7, "custom": 1})
    body, receipt = rewrite(CHAT, chat("nucleus", generation_config=own), POLICY, rules)
    sent = json.loads(body["generation_config"])
    assert (sent["temperature"], sent["custom"], receipt.decision.config.temperature) == (0.7, 1, 0.7)
    given_body = chat("nucleus", generation_config="no json")
    assert rewrite(CHAT, given_body, POLICY, rules)[0] is given_body


def test_a_packed_configuration_is_the_clients_where_the_policy_packs_none():
    rules = RewriteRules("transformers_serve")
    own = json.dumps({"temperature": 1.0, "max_new_tokens": 7})
    body, receipt = rewrite(RESPONSES, asking(RESPONSES, "greedy", generation_config=own), POLICY, rules)
    assert (body["generation_config"], receipt.decision.config.temperature) == (own, 1.0)
    assert set(receipt.kept) == {"temperature", "max_tokens"}
    given_body = asking(RESPONSES, "greedy", generation_config="no json")
    assert rewrite(RESPONSES, given_body, POLICY, rules)[0] is given_body


def test_a_config_that_sends_nothing_changes_nothing():
    policy = WordPolicy(DecodingSpace([DecodingConfig(unset=True), DecodingConfig(temperature=0.0)]), {"greedy": 1})
    given_body = chat("x")
    body, receipt = rewrite(CHAT, given_body, policy, VLLM)
    assert body is given_body
    assert (receipt.changed, receipt.reason) == (False, "reference_best")


def test_all_fields_can_be_the_policys():
    asked = chat("greedy", temperature=0.3, top_p=0.2, max_tokens=7, seed=1)
    body, receipt = rewrite(CHAT, asked, POLICY, RewriteRules("vllm", overrule=("all",)))
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["seed"]) == (0.0, 1.0, 7, 1)
    assert receipt.overruled == {"temperature": 0.3, "top_p": 0.2}
    assert receipt.kept == ("max_tokens",)  # of a limit the policy has none to put in its place


def test_what_stands_in_the_body_goes_before_what_a_header_fixes():
    asked = chat("greedy", temperature=0.0)
    body, receipt = rewrite(CHAT, asked, POLICY, VLLM, fixed={"temperature": 0.7})
    assert (body["temperature"], receipt.decision.config.temperature, receipt.fixed) == (0.0, 0.0, {"temperature": 0.0})
    _, receipt = rewrite(CHAT, chat("greedy", max_tokens=7), POLICY, VLLM)
    assert (receipt.chosen, receipt.decision.config.max_tokens) == (SPACE[1], 7)


def test_n_and_task_and_price_reach_the_policy():
    policy = WordPolicy(SPACE, {}, dial="n")
    rewrite(CHAT, chat("x", n=3), policy, VLLM, task="json")
    rewrite(CHAT, chat("x", n="many"), policy, VLLM)
    rewrite(CHAT, chat("x", n=10**12), policy, VLLM)
    asked = [(turned["n"], turned["task"]) for turned in policy.turned]
    assert asked == [(3, "json"), (1, None), (MAX_COUNT, None)]
    rewrite(CHAT, chat("x"), policy := WordPolicy(SPACE, {}, dial="price"), VLLM, price=0.1)
    assert policy.turned[0]["price"] == 0.1


def test_other_paths_are_none_of_its_business():
    given_body = {"input": "x"}
    for path in ("/v1/embeddings", "/v1/models", "/", "/v1/chat/completions/123", "/v1/messages/count_tokens"):
        body, receipt = rewrite(path, given_body, POLICY, VLLM)
        assert body is given_body
        assert receipt.reason == "other_path"
    assert find_endpoint("/gateway/openai/v1/chat/completions/?api-version=1") is ENDPOINTS["chat"]
    assert find_endpoint("/v1/completions") is ENDPOINTS["completions"]


@pytest.mark.parametrize(
    "given", [{"server": "vlm"}, {"overrule": ("temprature",)}, {"lacks": ("x",)}, {"not_together": (("top_p", "y"),)}]
)
def test_rules_are_checked_when_they_are_made(given):
    with pytest.raises(InvalidInput):
        RewriteRules(**given)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 70000), st.floats(-3, 3), st.text(max_size=5), st.lists(st.integers())
)
SETTINGS = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "repeat_penalty", "presence_penalty"]
LIMITS = ["max_tokens", "max_completion_tokens", "max_output_tokens"]
FURTHER = ["n", "stream", "seed", "stop", "generation_config", "samplers", "logit_bias", "unknown_field", "tools"]
KEYS = st.sampled_from([*SETTINGS, *LIMITS, *FURTHER])
WORDS = st.sampled_from(["greedy", "hinted", "nucleus", "topk", "", "other words"])
PARTS = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": WORDS}),
    st.fixed_dictionaries({"type": st.just("image_url"), "image_url": st.just({"url": "data:,"})}),
)
TURNS = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant", "tool", "developer"]),
        "content": st.one_of(st.none(), WORDS, st.lists(PARTS, max_size=3)),
    }
)
PROMPTS = st.one_of(WORDS, st.lists(WORDS, max_size=2), st.lists(st.integers(0, 9), max_size=3), st.none(), VALUES)
BODIES = st.builds(
    lambda settings, turns, prompt, given: {**settings, "messages": turns, "prompt": prompt, "input": given},
    st.dictionaries(KEYS, VALUES),
    st.one_of(st.lists(TURNS, max_size=4), VALUES),
    PROMPTS,
    st.one_of(WORDS, st.lists(TURNS, max_size=3), VALUES),
)
OVERRULABLE = st.sets(st.sampled_from(["temperature", "top_p", "top_k", "max_tokens", "repetition_penalty"]))


def without_hint(value, hint):
    """A prompt as JSON, the hint taken off where it stands."""
    return json.dumps(value).replace(json.dumps("\n\n" + hint)[1:-1], "")


@given(body=BODIES, path=st.sampled_from([CHAT, PLAIN, RESPONSES, MESSAGES]), server=st.sampled_from(list(SERVERS)))
def test_what_the_client_sets_arrives_as_equal_values(body, path, server):
    before = copy.deepcopy(body)
    sent, receipt = rewrite(path, body, POLICY, RewriteRules(server))
    assert json.dumps(body) == json.dumps(before), "the body that came was changed"
    prompts = {"messages", "prompt", "input"}
    for key, value in before.items():
        if key in prompts:
            assert without_hint(sent[key], SPACE[2].hint) == json.dumps(value)
        elif key == SERVERS[server].packed and receipt.changed and find_endpoint(path).settings is None:
            assert json.loads(value or "{}").items() <= json.loads(sent[key]).items()
        else:
            assert json.dumps(sent[key]) == json.dumps(value)
    assert (sent is body) == (not receipt.changed)
    if receipt.changed:
        # What it sends agrees with itself: sent again, nothing is the policy's any more but a hint.
        again, _ = rewrite(path, sent, POLICY, RewriteRules(server, hints=False))
        assert {k: v for k, v in again.items() if k in sent and k != SERVERS[server].packed} == {
            k: v for k, v in sent.items() if k != SERVERS[server].packed
        }


@given(body=BODIES, path=st.sampled_from([CHAT, PLAIN]), overrule=OVERRULABLE)
def test_overruling_changes_the_named_fields_and_no_other(body, path, overrule):
    sent, receipt = rewrite(path, body, POLICY, RewriteRules("vllm", overrule=tuple(overrule), hints=False))
    keys = overrule | ({"max_completion_tokens"} if "max_tokens" in overrule else set())
    for key, value in body.items():
        if key not in keys:
            assert json.dumps(sent[key]) == json.dumps(value)
    assert set(receipt.overruled) <= overrule
    assert np.all([receipt.overruled[name] in body.values() for name in receipt.overruled])
