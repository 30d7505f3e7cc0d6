"""Configs that say something of thinking, behind each way a policy is used: what the caller says stays, nested too."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hagpolicy import DecodingConfig, DecodingSpace, wrap
from hagpolicy.config.servers import SERVERS
from hagpolicy.serving.rewrite import RewriteRules, rewrite
from tests.serving.wrapping import WordPolicy, chat

SPACE = DecodingSpace(
    [
        DecodingConfig(temperature=0.0),
        DecodingConfig(temperature=0.0, thinking=False),
        DecodingConfig(temperature=0.0, thinking=True),
        DecodingConfig(temperature=0.0, reasoning_effort="low"),
    ]
)
WORDS = {"sky": 1, "sum": 2, "small": 3}
POLICY = WordPolicy(SPACE, WORDS)
CHAT, PLAIN, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
OFF = {"enable_thinking": False, "thinking": False}


def asking(text, **settings):
    return {"model": "m", "messages": [{"role": "user", "content": text}], **settings}


@pytest.mark.parametrize("server", ["vllm", "sglang", "llama_cpp", "transformers_serve"])
def test_the_policys_switch_goes_into_the_object_with_a_receipt(server):
    body, receipt = rewrite(CHAT, asking("the sky"), POLICY, RewriteRules(server))
    assert (receipt.reason, receipt.chosen) == ("best_by_margin", SPACE[1])
    assert body["chat_template_kwargs"] == receipt.applied["chat_template_kwargs"] == OFF
    assert receipt.fields["chat_template_kwargs.enable_thinking"] == "thinking"
    if packed := SERVERS[server].packed:
        assert "chat_template_kwargs" not in json.loads(body[packed])
    plain, receipt = rewrite(CHAT, asking("why"), POLICY, RewriteRules(server))
    assert "chat_template_kwargs" not in {**plain, **receipt.applied}
    assert "thinking" not in receipt.fields.values()


@pytest.mark.parametrize("key", ["enable_thinking", "thinking"])
@pytest.mark.parametrize("value", [True, False])
def test_a_callers_nested_key_is_the_callers_under_either_name(key, value):
    own = {key: value, "add_sources": True}
    body, receipt = rewrite(CHAT, asking("the sky", chat_template_kwargs=own), POLICY, RewriteRules("vllm"))
    assert body["chat_template_kwargs"] == own
    assert receipt.fixed == {"thinking": value}
    assert receipt.kept == ("thinking",)
    assert receipt.decision.config.thinking is value


def test_other_nested_keys_of_the_callers_stay_beside_the_policys():
    given_body = asking("the sky", chat_template_kwargs={"add_sources": True})
    body, receipt = rewrite(CHAT, given_body, POLICY, RewriteRules("vllm"))
    assert body["chat_template_kwargs"] == {"add_sources": True, **OFF}
    assert receipt.applied["chat_template_kwargs"] == OFF
    assert given_body["chat_template_kwargs"] == {"add_sources": True}


@pytest.mark.parametrize("own", [None, "off", [], {"enable_thinking": "off"}, {"thinking": None}])
def test_what_no_config_can_have_leaves_the_body_as_it_came(own):
    given_body = asking("the sky", chat_template_kwargs=own)
    body, receipt = rewrite(CHAT, given_body, POLICY, RewriteRules("vllm"))
    assert body is given_body
    assert receipt.reason == "no_config_agrees"


def test_an_overruled_switch_is_the_policys_and_the_receipt_says_so():
    own = {"thinking": True, "add_sources": True}
    rules = RewriteRules("vllm", overrule=("thinking",))
    body, receipt = rewrite(CHAT, asking("the sky", chat_template_kwargs=own), POLICY, rules)
    assert body["chat_template_kwargs"] == {"add_sources": True, **OFF}
    assert receipt.overruled == {"thinking": True}
    body, receipt = rewrite(CHAT, asking("why", chat_template_kwargs={"thinking": True}), POLICY, rules)
    assert "chat_template_kwargs" not in body  # the config says nothing of it


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("path", [CHAT, PLAIN, RESPONSES])
def test_an_upstream_that_lacks_it_never_gets_it(server, path):
    handles = SERVERS[server].get_dialect(chat=True).handles
    for text in ("the sky", "a sum", "be small"):
        prompt = {CHAT: asking(text), PLAIN: {"prompt": text}, RESPONSES: {"input": text}}[path]
        body, receipt = rewrite(path, prompt, POLICY, RewriteRules(server))
        told = {"chat_template_kwargs", "reasoning_effort", "reasoning"} & body.keys()
        able = (
            {"reasoning_effort"} if path == RESPONSES else {"thinking", "reasoning_effort"} if path == CHAT else set()
        )
        wanted = SPACE[WORDS[text.split()[-1]]].to_dict().keys() & {"thinking", "reasoning_effort"}
        assert bool(told) == bool(wanted & able & handles), (text, body)
        assert not receipt.dropped
    if path == RESPONSES and "reasoning_effort" in handles:
        body, _ = rewrite(path, {"input": "be small", "reasoning": {"summary": "auto"}}, POLICY, RewriteRules(server))
        assert body["reasoning"] == {"summary": "auto", "effort": "low"}


def test_what_a_model_lacks_is_named_to_the_rules():
    body, receipt = rewrite(CHAT, asking("the sky"), POLICY, RewriteRules("vllm", lacks=("thinking",)))
    assert "chat_template_kwargs" not in body
    assert receipt.chosen == SPACE[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner), max_leaves=4
)


@given(
    own=st.dictionaries(st.sampled_from(["enable_thinking", "thinking", "a", "b"]), JSON, max_size=4) | JSON,
    word=st.sampled_from(["sky", "sum", "small", "why"]),
    server=st.sampled_from(["vllm", "transformers_serve", "openai"]),
)
def test_whatever_a_caller_has_in_the_object_arrives(own, word, server):
    body, _ = rewrite(CHAT, asking(word, chat_template_kwargs=own), POLICY, RewriteRules(server))
    sent = body["chat_template_kwargs"]
    if isinstance(own, dict):
        assert {key: sent[key] for key in own} == own
        assert set(sent) - set(own) <= {*OFF, "reasoning_effort", "thinking_effort"}
    else:
        assert sent == own


def test_a_model_here_is_told_by_its_chat_template():
    pytest.importorskip("torch")
    from hagpolicy.engines.chat import encode
    from tests.support.tiny_llama import thinking_tokenizer, tiny_model, tiny_tokenizer

    model, tokenizer = tiny_model(seed=1, words=4), thinking_tokenizer()
    seen = []
    own = model.generate
    model.generate = lambda **kwargs: seen.append(kwargs["input_ids"][0].tolist()) or own(**kwargs)
    wrapped = wrap(model, POLICY, tokenizer=tokenizer)
    for text, keywords in (("why", {}), ("sky", {"enable_thinking": False}), ("sum", {"enable_thinking": True})):
        wrapped.generate_text(text, max_new_tokens=2)
        assert seen[-1] == encode(tokenizer, text, keywords), text
    # A prompt that is written already, and a model whose template knows nothing of it, are told nothing.
    wrapped.generate(tokenizer("sky", return_tensors="pt")["input_ids"], max_new_tokens=2)
    assert wrapped.decisions[0].config.thinking is None
    plain = wrap(tiny_model(seed=1), POLICY, tokenizer=tiny_tokenizer())
    plain.generate_text("sky", max_new_tokens=2)
    assert plain.decisions[0].index == 0


def test_a_pipeline_is_told_by_its_chat_template_and_keeps_the_callers_keywords():
    transformers = pytest.importorskip("transformers")
    from tests.support.tiny_llama import thinking_tokenizer, tiny_model

    pipe = transformers.pipeline("text-generation", tiny_model(seed=1, words=4), tokenizer=thinking_tokenizer())
    seen = []
    own = pipe.tokenizer.apply_chat_template
    pipe.tokenizer.apply_chat_template = lambda chats, **kwargs: seen.append(kwargs) or own(chats, **kwargs)
    wrapped = wrap(pipe, POLICY)
    for text, value in (("sky", False), ("sum", True), ("why", None)):
        wrapped(chat(text), max_new_tokens=2)
        assert seen[-1].get("enable_thinking") is value, text
    wrapped(chat("sky"), max_new_tokens=2, tokenizer_encode_kwargs={"enable_thinking": True, "other": 1})
    assert {"enable_thinking": True, "other": 1}.items() <= seen[-1].items()
    assert wrapped.decisions[0].config.thinking is True
    before = len(seen)
    wrapped("sky", max_new_tokens=2)  # a text, which no chat template sees
    assert wrapped.decisions[0].index == 0
    assert all(kwargs.get("tokenize") is False for kwargs in seen[before:])


def test_vllms_chats_are_grouped_by_what_its_template_is_told():
    pytest.importorskip("transformers")
    from tests.serving.test_llm import Offline

    class Told(Offline):
        def chat(self, messages, sampling_params=None, chat_template_kwargs=None):
            self.told.append((len(messages), chat_template_kwargs))
            return self.generate(messages, sampling_params)

    llm = Told(thinking=True)
    llm.told = []
    wrapped = wrap(llm, POLICY)
    outputs = wrapped.chat([chat("sky"), chat("why"), chat("sky again")])
    assert llm.told == [(2, OFF), (1, None)]
    assert [output.outputs[0].text for output in outputs] == [
        f"to {chat(text)}" for text in ("sky", "why", "sky again")
    ]
    wrapped.chat([chat("sky")], chat_template_kwargs={"thinking": True, "other": 1})
    assert llm.told[-1] == (1, {"thinking": True, "other": 1, "enable_thinking": True})
    wrapped.generate("sky")
    assert wrapped.decisions[0].config == SPACE[0]
