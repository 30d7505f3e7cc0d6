"""The body of a request to each server: every field said, in the client's words, and accounted for."""

import inspect
import json

import pytest

from hagpolicy import DecodingConfig
from hagpolicy.config.dialects import OF_CHATS, TEMPLATE
from hagpolicy.config.fields import NEUTRAL
from hagpolicy.config.servers import _CHAT_KEYWORDS, _KEYWORDS, SERVERS, list_lacking, make_request_body
from hagpolicy.errors import InvalidInput, UnsupportedSetting
from tests.support.bold_fields import BOLD as EVERY

# The limit is the request's; nothing is drafted for beams.
DRAFTED = {"prompt_lookup_num_tokens": EVERY["prompt_lookup_num_tokens"]}
BUDGETS = {"thinking_token_budget", "reasoning_budget_tokens"}
BOLD = {name: value for name, value in EVERY.items() if name not in {"max_tokens", "unset", *DRAFTED}}


def said(server, fields=(), *, seed=1, max_tokens=16, chat=True, **options):
    return make_request_body(server, dict(fields), seed=seed, max_tokens=max_tokens, chat=chat, **options)


def sent(server, fields=(), **options):
    """Everything in the body of a request, whichever way the client takes it."""
    one = said(server, fields, **options)
    return {**one.body, **one.extra_body}


@pytest.mark.parametrize("server", SERVERS)
def test_neutral_values_are_sent_too(server):
    handled = SERVERS[server].dialect.handles
    neutral, bold = sent(server), sent(server, {name: BOLD[name] for name in BOLD if name in handled})
    assert set(neutral) == set(bold) - {TEMPLATE, "reasoning_effort", *BUDGETS}
    receipt = said(server).receipt
    assert receipt.applied.keys() == handled - {"unset", *OF_CHATS}
    assert receipt.applied["max_tokens"] == 16


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("chat", [True, False])
def test_the_body_holds_only_keywords_of_the_official_client(server, chat):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(api_key="none", base_url="http://127.0.0.1:9")
    create = client.chat.completions.create if chat else client.completions.create
    keywords = set(inspect.signature(create).parameters)
    one = said(server, chat=chat)
    assert set(one.body) <= keywords
    # What the client has a keyword for goes there, so that it is sent once.
    assert not set(one.extra_body) & keywords
    assert (_CHAT_KEYWORDS if chat else _KEYWORDS) <= keywords


@pytest.mark.parametrize("server", SERVERS)
def test_the_body_is_json_and_carries_the_limit_and_greedy_decoding(server):
    for chat in (True, False):
        body = json.loads(json.dumps(sent(server, {"temperature": 0.0}, max_tokens=77, chat=chat)))
        if server == "transformers_serve":
            packed = json.loads(body.pop("generation_config"))
            # Nothing beside it: a top-level temperature would be set over the packed one.
            assert body == {}
            assert (packed["max_new_tokens"], packed["do_sample"]) == (77, False)
            continue
        limit = "max_completion_tokens" if server == "openai" and chat else "max_tokens"
        assert (body[limit], body["temperature"]) == (77, 0.0)


def test_transformers_serve_is_told_to_sample():
    packed = json.loads(sent("transformers_serve", {"temperature": 0.7, "num_beams": 2})["generation_config"])
    assert (packed["do_sample"], packed["temperature"], packed["num_beams"], packed["top_k"]) == (True, 0.7, 2, 0)


def test_a_generation_config_of_transformers_takes_every_packed_name():
    transformers = pytest.importorskip("transformers")
    packed = json.loads(sent("transformers_serve", {"temperature": 0.7})["generation_config"])
    known = transformers.GenerationConfig().to_dict()
    assert set(packed) <= set(known)


def test_seeds_fit_every_server_and_stay_away_from_global_ones():
    for server, entry in SERVERS.items():
        body = sent(server, seed=2**63 - 1)
        assert ("seed" in body) == (entry.seeds == "per_request")
        assert 0 <= body.get("seed", 0) < 2**31
        assert "seed" not in sent(server, seed=None)
    assert sent("vllm", seed=5)["seed"] != sent("vllm", seed=6)["seed"]


def test_names_and_neutral_values_that_differ():
    assert sent("sglang")["top_k"] == -1
    assert sent("vllm")["top_k"] == 0
    assert sent("llama_cpp_python", {"repetition_penalty": 1.2})["repeat_penalty"] == 1.2
    # The server's own order truncates before it divides by the temperature.
    order = sent("llama_cpp")["samplers"]
    assert order.index("temperature") < order.index("top_p")


def test_a_value_out_of_a_servers_range_is_refused_or_clamped():
    config = DecodingConfig(temperature=3.0)
    assert list_lacking("vllm", config.fields()) == ["temperature"]
    assert list_lacking("llama_cpp", config.fields()) == []
    with pytest.raises(UnsupportedSetting, match=r"temperature on vLLM.*\[0, 2\]"):
        said("vllm", config.fields())
    clamped = said("vllm", config.fields(), unsupported="drop")
    assert (clamped.body["temperature"], clamped.receipt.clamped) == (2.0, {"temperature": (3.0, 2.0)})


def test_what_a_server_keeps_to_itself_is_in_the_notes():
    notes = said("ollama").receipt.notes
    assert set(notes) == {"top_k", "min_p", "typical_p", "repetition_penalty"}
    assert "Modelfile" in notes["top_k"]
    assert said("vllm").receipt.notes == {}
    assert "before the temperature" in said("llama_cpp_python", {"top_p": 0.5}).receipt.notes["top_p"]


def test_a_neutral_value_that_is_refused_is_left_out_and_accounted_for():
    body = sent("compatible", {"temperature": 0.5}, refused={"temperature", "top_p", "presence_penalty", "seed"})
    assert body == {"temperature": 0.5, "frequency_penalty": 0.0, "max_tokens": 16}
    receipt = said("compatible", refused={"top_p", "seed", "max_tokens"}).receipt
    assert set(receipt.notes) == {"top_p", "seed"}
    assert "top_p" in receipt.applied
    assert sent("compatible", refused={"max_tokens"})["max_completion_tokens"] == 16


def test_a_server_takes_what_its_engine_takes():
    tiny = DecodingConfig(temperature=0.001)
    assert list_lacking("vllm", tiny.fields()) == []
    assert said("vllm", tiny.fields(), unsupported="drop").receipt.clamped == {"temperature": (0.001, 0.01)}


def test_the_limit_on_tokens_is_the_callers():
    assert sent("vllm", {"max_tokens": 500}, max_tokens=9)["max_tokens"] == 9
    with pytest.raises(InvalidInput, match="max_tokens"):
        said("vllm", max_tokens=0)


def test_unknown_names_are_refused_with_a_suggestion():
    with pytest.raises(InvalidInput, match=r"Did you mean 'llama_cpp'"):
        said("llamacpp")
    with pytest.raises(InvalidInput, match="temprature"):
        said("vllm", {"temprature": 1.0})


def test_a_hint_is_the_prompts_and_no_part_of_the_body():
    assert sent("vllm", {"hint": "Be brief."}) == sent("vllm")
    assert said("vllm", {"hint": "Be brief."}).receipt.applied["hint"] == "Be brief."
    assert NEUTRAL["hint"] == ""


@pytest.mark.parametrize("server", SERVERS)
def test_a_config_is_rendered_as_arguments_of_the_official_client(server):
    config = DecodingConfig(temperature=0.7, top_p=0.9, hint="Be brief.")
    openai = pytest.importorskip("openai")
    made = config.render(f"openai:{server}", [{"role": "user", "content": "Hi"}])
    assert made.prompt[0]["content"] == "Hi\n\nBe brief."
    known = inspect.signature(openai.OpenAI(api_key="k").chat.completions.create).parameters
    assert set(made.kwargs) <= set(known)
    sent = {**made.kwargs, **made.kwargs.get("extra_body", {})}
    sent |= json.loads(sent.get("generation_config", "{}"))
    assert (sent["temperature"], sent["top_p"]) == (0.7, 0.9)
    assert made.receipt.exact
    assert not {"max_tokens", "max_completion_tokens"} & set(sent)


def test_a_server_that_is_none_is_refused_with_a_suggestion():
    with pytest.raises(InvalidInput, match="vllm"):
        DecodingConfig().render("openai:vlm")
    with pytest.raises(UnsupportedSetting, match="top_k"):
        DecodingConfig(top_k=5).render("openai:openai")
