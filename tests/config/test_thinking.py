"""What a config says of thinking: nothing where it says nothing, and each engine's own words in their own place."""

import json

import pytest

from hagpolicy import DecodingConfig, DecodingSpace, InvalidInput, UnsupportedSetting
from hagpolicy.config.render import merge_objects, render
from hagpolicy.config.servers import SERVERS, list_lacking, make_request_body
from hagpolicy.data.store.cells import compute_cell_key

SWITCHED = {"enable_thinking": False, "thinking": False}
OF_TEMPLATE = {"chat_template_kwargs": SWITCHED}


def test_what_says_nothing_of_thinking_is_what_it_was():
    # Of before there were such fields.
    said = DecodingConfig(temperature=0.7, top_p=0.9, thinking=None, reasoning_effort="", thinking_budget=None)
    assert said.to_dict() == {"temperature": 0.7, "top_p": 0.9}
    assert DecodingConfig().digest == "2afb9b83f9314e5d029766197f539792"
    assert said.digest == "8e3b4300e50e89df5d3e63cd6bb4b9c3"
    assert compute_cell_key("p", said.digest, 64, 0, 0) == "88043641c14e427de29e24a15e050df7"


def test_on_off_and_unsaid_are_three_configs():
    space = DecodingSpace.grid(thinking=[None, True, False], temperature=[0.0])
    assert [str(config) for config in space] == [
        "temperature=0", "temperature=0 thinking=True", "temperature=0 thinking=False",
    ]  # fmt: skip
    assert space.varying == ("thinking",)
    assert DecodingSpace.from_json(space.to_json()) == space
    for bad in ("on", 1, 0.0):
        with pytest.raises(InvalidInput, match=r"thinking: expected True, False or None"):
            DecodingConfig(thinking=bad)
    with pytest.raises(InvalidInput, match="thinking_budget"):
        DecodingConfig(thinking_budget=-1)


def test_how_much_is_idle_where_nothing_is_thought():
    config = DecodingConfig(thinking=False, reasoning_effort="high", thinking_budget=9)
    assert config.canonical() == DecodingConfig(thinking=False)
    made = config.render("transformers")
    assert made.beside == OF_TEMPLATE
    assert made.receipt.idle == {"reasoning_effort": "high", "thinking_budget": 9}


def test_a_config_without_settings_agrees_with_what_says_nothing():
    space = DecodingSpace([DecodingConfig(unset=True), DecodingConfig(thinking=True), DecodingConfig(temperature=0.5)])
    assert space.agreeing({"thinking": None}).tolist() == [True, False, True]
    assert space.agreeing({"thinking": True}).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("engine", "beside"),
    [
        ("transformers", OF_TEMPLATE), ("vllm", OF_TEMPLATE), ("sglang", OF_TEMPLATE), ("llama_cpp", OF_TEMPLATE),
        ("ollama", {"think": False}),
    ],
)  # fmt: skip
def test_the_switch_stands_beside_an_engines_keywords(engine, beside):
    made = render({"thinking": False}, engine)
    assert made.beside == beside
    assert made.kwargs == render({}, engine).kwargs
    assert made.receipt.applied["thinking"] is False
    with pytest.raises(UnsupportedSetting, match=f"thinking on {engine}.*beside"):
        getattr(DecodingConfig(thinking=False), f"to_{engine}")()


def test_the_native_words_of_ollama_say_an_effort_by_the_switch():
    assert render({"thinking": True, "reasoning_effort": "high"}, "ollama").beside == {"think": "high"}
    with pytest.raises(
        UnsupportedSetting, match=r"reasoning_effort on ollama: expected reasoning_effort in low, medium"
    ):
        render({"reasoning_effort": "some"}, "ollama")
    with pytest.warns(UserWarning, match="reasoning_effort='some' left out"):
        made = render({"reasoning_effort": "some"}, "ollama", unsupported="warn")
    assert (made.beside, made.receipt.dropped) == ({}, {"reasoning_effort": "some"})


@pytest.mark.parametrize(
    ("server", "fields", "sent"),
    [
        ("vllm", {"thinking": False}, OF_TEMPLATE),
        ("vllm", {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ("vllm", {"thinking_budget": 5}, {"thinking_token_budget": 5}),
        ("sglang", {"thinking": False}, OF_TEMPLATE),
        ("llama_cpp", {"thinking": False}, OF_TEMPLATE),
        ("llama_cpp", {"thinking_budget": 5}, {"reasoning_budget_tokens": 5}),
        ("transformers_serve", {"thinking": False}, OF_TEMPLATE),
        ("ollama", {"reasoning_effort": "none"}, {"reasoning_effort": "none"}),
        ("openai", {"reasoning_effort": "minimal"}, {"reasoning_effort": "minimal"}),
    ],
)  # fmt: skip
def test_each_server_is_told_in_its_own_place(server, fields, sent):
    def ask(said, *, chat=True):
        body = make_request_body(server, said, seed=None, max_tokens=9, chat=chat, unsupported="drop")
        return {**body.body, **body.extra_body}

    plain, told = ask({}), ask(fields)
    assert told == {**plain, **sent}
    assert list_lacking(server, fields) == []
    # Without a chat there is nobody to be told.
    assert ask(fields, chat=False) == ask({}, chat=False)
    assert list_lacking(server, fields, chat=False) == sorted(fields, key=list(fields).index)
    if SERVERS[server].packed:
        assert "thinking" not in json.loads(told[SERVERS[server].packed])


def test_the_official_client_is_given_the_objects_in_its_extra_body():
    call = DecodingConfig(thinking=False, reasoning_effort="").render("openai:vllm").kwargs
    assert call["extra_body"]["chat_template_kwargs"] == SWITCHED
    assert DecodingConfig(reasoning_effort="low").render("openai:openai").kwargs["reasoning_effort"] == "low"


@pytest.mark.parametrize("server", ["llama_cpp_python", "compatible", "openai", "ollama"])
def test_a_server_without_a_switch_is_never_sent_one(server):
    assert list_lacking(server, {"thinking": True}) == ["thinking"]
    with pytest.raises(UnsupportedSetting, match="thinking on"):
        make_request_body(server, {"thinking": True}, seed=None, max_tokens=9, chat=True)


def test_objects_are_merged_and_the_later_wins():
    one, other = {"a": {"x": 1, "y": 1}, "b": 1}, {"a": {"y": 2}, "c": None}
    assert merge_objects(one, other) == {"a": {"x": 1, "y": 2}, "b": 1, "c": None}
    assert merge_objects(one, {"a": None}) == {"a": None, "b": 1}
