"""Adapters of configurations in requests: named as the server names them, and never where it does not have them."""

import json

import pytest

from hagpolicy import DecodingConfig, DecodingSpace, InvalidInput
from hagpolicy.serving.rewrite import RewriteRules, rewrite
from hagpolicy.serving.settings import make_rules
from tests.serving.wrapping import WordPolicy

PIN = "@0123456789abcdef"
SPACE = DecodingSpace(
    [
        DecodingConfig(temperature=0.0),
        DecodingConfig(temperature=0.0, adapter=f"sql{PIN}"),
        DecodingConfig(temperature=0.0, adapter=f"chat{PIN}"),
        DecodingConfig(temperature=0.0, soft_prefix=f"qa{PIN}", soft_tokens=2),
        DecodingConfig(temperature=0.0, reference=f"faq{PIN}", reference_weight=0.5),
    ]
)
POLICY = WordPolicy(SPACE, {"select": 1, "hello": 2, "soft": 3, "known": 4})
PATHS = ("/v1/chat/completions", "/v1/responses", "/v1/messages")
BOTH = {"sql": "sql-lora", "chat": "chat-lora"}


def ask(text, path=PATHS[0], **settings):
    key = "input" if path == PATHS[1] else "messages"
    return {"model": "base", key: [{"role": "user", "content": text}], **settings}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("server", ["vllm", "sglang", "compatible"])
def test_an_adapter_is_the_model_that_it_is_served_as(server, path):
    rules = RewriteRules(server, adapters=BOTH)
    body, receipt = rewrite(path, ask("select it", path), POLICY, rules)
    served = "base:sql-lora" if server == "sglang" else "sql-lora"
    assert body["model"] == served
    assert receipt.decision.config.adapter == f"sql{PIN}"
    assert (receipt.applied["model"], receipt.fields["model"]) == (served, "adapter")
    assert not receipt.dropped
    body, receipt = rewrite(path, ask("nothing", path), POLICY, rules)
    assert (body["model"], "model" in receipt.applied) == ("base", False)


def test_llama_cpp_is_told_the_scale_of_each_adapter():
    rules = RewriteRules("llama_cpp", adapters={"sql": "0", "chat": "2"})
    for text, scales in (("select", (1.0, 0.0)), ("hello", (0.0, 1.0)), ("nothing", (0.0, 0.0))):
        body, receipt = rewrite(PATHS[0], ask(text), POLICY, rules)
        assert body["lora"] == [{"id": 0, "scale": scales[0]}, {"id": 2, "scale": scales[1]}]
        assert (body["model"], receipt.applied["lora"]) == ("base", body["lora"])
        assert receipt.fields["lora"] == "adapter"


@pytest.mark.parametrize("server", ["vllm", "sglang", "llama_cpp", "llama_cpp_python", "ollama", "compatible"])
def test_what_a_server_does_not_have_is_never_chosen_and_never_sent(server):
    names = {"chat": "1"} if server == "llama_cpp" else {"chat": "chat-lora"}
    for rules in (RewriteRules(server), RewriteRules(server, adapters=names)):
        for text in ("select", "soft", "known"):
            body, receipt = rewrite(PATHS[0], ask(text), POLICY, rules)
            config = receipt.decision.config
            assert (config.soft_prefix, config.reference) == ("", "")
            assert config.adapter in {"", *(f"{name}{PIN}" for name in rules.adapters)}
            said = json.dumps(body)
            assert not any(word in said for word in ("sql", "qa", "faq", "soft_", "reference", "adapter"))


def test_a_client_that_names_an_adapter_has_it():
    rules = RewriteRules("vllm", adapters=BOTH)
    body, receipt = rewrite(PATHS[0], ask("select") | {"model": "chat-lora"}, POLICY, rules)
    assert body["model"] == "chat-lora"
    assert receipt.decision.config.adapter == f"chat{PIN}"
    assert receipt.kept == ("adapter",)
    assert "model" not in receipt.applied
    # One that no config of the policy names, and a list of the client's own: the request goes out as it came.
    rules = RewriteRules("vllm", adapters={**BOTH, "other": "other-lora"})
    given = ask("select") | {"model": "other-lora"}
    assert rewrite(PATHS[0], given, POLICY, rules)[0] is given
    given = ask("select", lora=[{"id": 0, "scale": 0.5}])
    body, receipt = rewrite(PATHS[0], given, POLICY, RewriteRules("llama_cpp", adapters={"sql": "0"}))
    assert body is given
    assert receipt.reason == "no_config_agrees"


def test_an_adapter_of_sglang_stands_behind_the_model():
    for served in ("sql-lora", "base:sql-lora"):  # a name that holds the model is sent as it is
        rules = RewriteRules("sglang", adapters={**BOTH, "sql": served})
        assert rewrite(PATHS[0], ask("select"), POLICY, rules)[0]["model"] == "base:sql-lora"
        body, receipt = rewrite(PATHS[0], ask("hello") | {"model": "base:sql-lora"}, POLICY, rules)
        assert (body["model"], receipt.decision.config.adapter) == ("base:sql-lora", f"sql{PIN}")
    body = {key: value for key, value in ask("select").items() if key != "model"}
    assert rewrite(PATHS[0], body, POLICY, RewriteRules("sglang", adapters=BOTH))[0]["model"] == "default:sql-lora"


def test_a_policy_without_adapters_leaves_the_model_alone():
    plain = WordPolicy(DecodingSpace([DecodingConfig(temperature=0.0), DecodingConfig(temperature=0.7)]), {"warm": 1})
    for model in ("base", "sql-lora"):
        body, _ = rewrite(PATHS[0], ask("warm") | {"model": model}, plain, RewriteRules("vllm", adapters=BOTH))
        assert (body["model"], body["temperature"]) == (model, 0.7)


def test_rules_are_said_in_words():
    rules = make_rules({"*": POLICY}, {"adapters": {"*": "sql:sql-lora, chat:org/chat:v2"}}, server="vllm")
    assert rules["*"].adapters == {"sql": "sql-lora", "chat": "org/chat:v2"}
    with pytest.raises(InvalidInput, match="NAME:SERVED"):
        make_rules({"*": POLICY}, {"adapters": {"*": "sql"}}, server="vllm")


@pytest.mark.parametrize(
    ("server", "names"),
    [
        ("vllm", {"sql": ""}),
        ("vllm", {"": "x"}),
        ("vllm", {f"sql{PIN}": "x"}),
        ("vllm", {"a": "x", "b": "x"}),
        ("vllm", ["sql"]),
        ("llama_cpp", {"sql": "sql-lora"}),
    ],
)
def test_what_names_no_adapter_is_refused(server, names):
    with pytest.raises(InvalidInput, match="adapters"):
        RewriteRules(server, adapters=names)
