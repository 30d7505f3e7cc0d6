"""The engine over HTTP: what is sent, how answers are read, and which server it is."""

from __future__ import annotations

import logging
import math
import traceback

import pytest

from hagpolicy import Constraint, DecodingConfig, Prompt, Request, load_engine
from hagpolicy.config.servers import SERVERS
from hagpolicy.engines.constraints.attempts import ATTEMPTS, make_attempt
from hagpolicy.engines.openai.client import is_official
from hagpolicy.engines.openai.response import read_choices
from hagpolicy.errors import EngineError, InvalidInput, UnsupportedSetting

pytest.importorskip("openai")
from tests.engines.openai.cells import HOT, KEY, WARM, cell, own_threads, said


def test_cells_come_back_in_their_order(stub, engines) -> None:
    configs = [DecodingConfig(temperature=t) for t in (0.0, 0.5, 1.0)]
    unit = [Request(Prompt(f"p{p}"), c, s, 100 * p + s, 16) for p in range(4) for c in configs for s in range(2)]
    completions = engines(stub.url).generate(unit)
    assert [completion.text for completion in completions] == [said(request) for request in unit]
    assert {(c.finish, c.tokens, c.prompt_tokens, c.error) for c in completions} == {("stop", 7, 1, None)}
    assert all(completion.seconds > 0.0 for completion in completions)
    assert all(completion.receipt == {} for completion in completions)


def test_the_key_is_nowhere(stub, engines, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    stub.set(key=KEY)
    engine = engines(stub.url)
    unit = [cell("fine"), cell("[[400]] echo"), cell("[[422]] echo"), cell("[[500]] secret words")]
    completions = engine.generate(unit)
    assert [completion.finish for completion in completions] == ["stop", "error", "error", "error"]
    seen = [caplog.text, repr(engine), repr(vars(engine)), str(engine.fingerprint), repr(completions)]
    for prompt, key in (("[[404]] x", KEY), ("x", "sk-another-key-than-ours")):
        stub.set(key=key)
        try:
            engine.generate([cell(prompt)])
        except EngineError as error:
            seen.append("".join(traceback.format_exception(error)))
    assert len(seen) == 7
    for text in seen:
        for part in (KEY[at : at + 6] for at in range(len(KEY) - 5)):
            assert part not in text, (part, text)
    assert "secret words" not in caplog.text


def test_both_apis_are_sent_the_whole_configuration(stub, engines) -> None:
    config = DecodingConfig(temperature=0.5, top_k=7, hint="Be brief.")
    messages = Prompt([{"role": "system", "content": "S"}, {"role": "user", "content": "U"}])
    chat = engines(stub.url, server="vllm")
    plain = engines(stub.url, server="vllm", api="completions")
    for engine in (chat, plain):
        unit = [cell("Q", config, seed=2**40 + 9, limit=11), Request(messages, config, 0, 1, 11)]
        assert [completion.finish for completion in engine.generate(unit)] == ["stop", "stop"]
    sent = {(note["path"], note["body"]["seed"]): note["body"] for note in stub.record()}
    asked = sent["/v1/chat/completions", 9]
    assert asked["messages"] == [{"role": "user", "content": "Q\n\nBe brief."}]
    expected = {"model": "stub", "temperature": 0.5, "top_k": 7, "max_tokens": 11, "min_p": 0.0, "top_p": 1.0}
    assert {name: asked.get(name) for name in expected} == expected
    assert sent["/v1/chat/completions", 1]["messages"][1]["content"] == "U\n\nBe brief."
    assert sent["/v1/completions", 1]["prompt"] == "S\n\nU\n\nBe brief."
    assert chat.fingerprint != plain.fingerprint


def test_answers_in_all_their_forms(stub, engines) -> None:
    words = ["long", "null", "refusal", "reasoning", "filter", "nousage"]
    unit = [cell(f"[[{word}]] q") for word in words]
    found = dict(zip(words, engines(stub.url).generate(unit), strict=True))
    assert found["long"].finish == "length"
    assert (found["null"].text, found["null"].finish) == ("", "stop")
    assert (found["refusal"].text, found["refusal"].finish) == ("I would rather not.", "stop")
    assert found["reasoning"].text == said(unit[3])
    assert "20 characters" in found["reasoning"].receipt["reasoning"]
    assert found["filter"].finish == "error"
    assert "content_filter" in (found["filter"].error or "")
    assert math.isnan(found["nousage"].tokens)
    assert found["nousage"].receipt == {"tokens": "not counted by the server"}


def test_half_a_character_of_an_answer_is_the_same_now_and_when_it_is_read_from_the_store() -> None:
    body = rb'{"choices": [{"message": {"content": "half \ud800, whole \ud83d\ude00"}, "finish_reason": "stop"}]}'
    [answer] = read_choices(body, 1, 16)
    assert answer.text == "half ?, whole \U0001f600"


def test_a_setting_that_the_server_lacks_fails_the_unit_and_no_other(stub, engines) -> None:
    units = [[cell(f"u{at}", DecodingConfig(top_k=5) if at % 2 else WARM)] * 3 for at in range(20)]
    outcomes = dict(engines(stub.url).stream(units))
    assert len(outcomes) == 20
    for at, outcome in outcomes.items():
        assert isinstance(outcome, UnsupportedSetting) == bool(at % 2)


def test_a_receipt_tells_what_was_not_honoured_as_sent(stub, engines) -> None:
    engine = engines(stub.url, server="sglang")
    [completion] = engine.generate([cell("q", DecodingConfig(repetition_penalty=1.2))])
    assert completion.receipt == {"repetition_penalty": "counts tokens of the answer only"}
    assert engine.unsupported(DecodingConfig(no_repeat_ngram_size=2)) == ["no_repeat_ngram_size"]
    assert engine.unsupported(DecodingConfig(top_k=3)) == []


@pytest.mark.parametrize("kind", sorted(SERVERS.keys() - {"openai"}))
def test_where_seeds_are_sent_every_cell_is_a_request_of_its_own(stub, engines, kind) -> None:
    engines(stub.url, server=kind).generate([Request(Prompt("q"), HOT, s, s, 16) for s in range(3)])
    assert [note["body"].get("n") for note in stub.record()] == [None] * 3
    seeds = {note["body"].get("seed") for note in stub.record()}
    assert seeds == ({None} if kind == "transformers_serve" else {0, 1, 2})


def test_the_official_api_is_asked_for_the_samples_of_a_cell_together_and_without_seeds(stub, engines) -> None:
    sure = DecodingConfig(temperature=0.0)
    unit = [Request(Prompt("q"), c, s, s, 16) for s in range(3) for c in (HOT, sure)] + [cell("other", HOT)]
    completions = engines(stub.url, server="openai").generate(unit)
    assert not any("seed" in note["body"] for note in stub.record())
    assert sorted(note["body"].get("n", 1) for note in stub.record()) == [1, 1, 1, 1, 3]
    assert [completions[at].text for at in (0, 2, 4)] == ["None 1.0 q", "None 1.0 q word", "None 1.0 q word word"]
    assert sum(completions[at].tokens for at in (0, 2, 4)) == 21
    assert "share of 21" in completions[0].receipt["tokens"]
    assert completions[6].text == "None 1.0 other"


def test_answers_that_a_server_did_not_draw_are_asked_for_again(stub, engines) -> None:
    engine = engines(stub.url, server="openai")
    for script, asked in (("two", [5, 3, 1]), ("few 500 two ok", [5, 5, 5, 3]), ("more", [5])):
        stub.clear()
        completions = engine.generate([Request(Prompt(f"[[{script}]] q"), HOT, s, s, 16) for s in range(5)])
        assert [note["body"].get("n", 1) for note in stub.record()] == asked
        assert [completion.finish for completion in completions] == ["stop"] * 5
        assert sum(completion.tokens for completion in completions) <= 35


def test_what_was_drawn_stays_where_the_others_fail(stub, engines) -> None:
    engine = engines(stub.url, server="openai")
    completions = engine.generate([Request(Prompt("[[two 400]] q"), HOT, s, s, 16) for s in range(5)])
    assert [completion.finish for completion in completions] == ["stop"] * 2 + ["error"] * 3


def test_a_server_that_is_not_recognised_is_spoken_to_plainly_and_its_user_told(stub, caplog) -> None:
    engine = load_engine(f"openai:{stub.url}")
    try:
        engine.generate([cell("q", HOT)])
    finally:
        engine.close()
    assert engine.fingerprint["server"] == "compatible"
    [note] = stub.record()
    assert (note["body"]["seed"], note["body"]["max_tokens"]) == (5, 16)
    assert "max_completion_tokens" not in note["body"]
    assert "say so (server=vllm" in caplog.text
    assert "server=" in caplog.text
    caplog.clear()
    load_engine(f"openai:{stub.url}", server="openai").close()
    assert not caplog.text


def test_an_address_may_leave_out_the_path_of_the_api(stub) -> None:
    engine = load_engine(f"openai:{stub.url.removesuffix('/v1')}")
    try:
        assert engine.generate([cell("q")])[0].finish == "stop"
    finally:
        engine.close()


def test_a_server_that_answers_to_any_name_is_asked_by_its_own(stub) -> None:
    with pytest.raises(InvalidInput, match=r"one of those at .*: stub, got another"):
        load_engine(f"openai:{stub.url}#another", server="llama_cpp")
    load_engine(f"openai:{stub.url}#another", server="ollama").close()


def test_a_wrong_path_or_model_is_said_with_what_to_look_at(stub, engines) -> None:
    with pytest.raises(EngineError, match=r"404.*root of the API, and the model"):
        engines(stub.url).generate([cell("[[404]] q")])


def test_only_the_official_address_is_taken_for_the_official_api() -> None:
    assert is_official("https://api.openai.com/v1")
    assert is_official("https://eu.api.openai.com/v1")
    for other in ("http://localhost:8000/v1", "https://api.openai.com.example.org/v1", "https://notapi.openai.com"):
        assert not is_official(other)


def test_the_official_api_is_known_by_its_address_and_not_asked_what_it_is(monkeypatch) -> None:
    monkeypatch.setenv("HAG_TEST_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    engine = load_engine("openai:gpt-x", key_env="HAG_TEST_KEY")
    engine.close()
    assert engine.fingerprint["server"] == "openai"


@pytest.mark.parametrize(
    ("spec", "options", "wrong"),
    [
        ("openai:", {}, "openai:MODEL"),
        ("openai:ftp://host/v1", {"base_url": "ftp://host/v1"}, "base_url"),
        ("openai:http://user:secret@host/v1#m", {}, "base_url"),
        ("openai:http://host/v1?api-key=secret#m", {}, "base_url"),
        ("openai:http://host/v1#", {}, "a model after"),
        ("openai:http://host/v1/chat/completions#m", {}, r"the root of the API.*Leave /chat/completions away"),
        ("openai:localhost:8000/v1#m", {}, r"openai:http://host:port/v1#MODEL"),
        ("openai:http://host/v1#m", {"server": "vlm"}, "Did you mean 'vllm'"),
        ("openai:http://127.0.0.1:9/v1#m", {"server": "vlm"}, "Did you mean 'vllm'"),
        ("openai:http://host/v1#m", {"base_url": "http://host/v1"}, "one address"),
        ("openai:m", {"timeout": 0.0}, "timeout"),
        ("openai:m", {"timeout": "abc"}, "timeout"),
        ("openai:http://127.0.0.1:9/v1#m", {"max_concurrency": "two"}, "max_concurrency"),
        ("openai:http://127.0.0.1:9/v1#m", {"max_concurrency": 2.5}, "max_concurrency"),
        ("openai:m", {"bogus": 1}, "options of openai"),
        ("openai:m", {}, r"HAG_NO_KEY.*https://api.openai.com/v1.*a server of your own.*openai:http://"),
        ("openai:m", {"base_url": "https://api.openai.com"}, "HAG_NO_KEY"),
    ],
)
def test_wrong_specs_are_refused(spec, options, wrong, monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(InvalidInput, match=wrong) as caught:
        load_engine(spec, **{"key_env": "HAG_NO_KEY", **options})
    assert "secret" not in str(caught.value)


def test_a_default_that_nobody_knows_is_told_once_and_only_where_it_is_asked_for(stub, caplog) -> None:
    """Whoever names a default is not told to name one."""
    engine = load_engine(f"openai:{stub.url}")
    assert "does not tell" not in caplog.text
    assert engine.default_config() == engine.default_config() == DecodingConfig(unset=True)
    engine.close()
    assert caplog.text.count("does not tell what it does") == 1


def test_a_server_tells_its_model_kind_and_version(stub, monkeypatch) -> None:
    stub.set(owner="vllm", models=["tiny"])
    for spec, options in ((f"openai:{stub.url}/", {}), ("openai:tiny", {"base_url": stub.url})):
        engine = load_engine(spec, **options)
        engine.close()
        assert (engine.name, engine.concurrency) == ("openai:tiny", 2)
        told = {"kind": "openai", "server": "vllm", "version": "1.2.3", "model": "tiny", "api": "chat"}
        assert engine.fingerprint == told
        assert engine.default_config() == DecodingConfig(unset=True)
    monkeypatch.setenv("OPENAI_BASE_URL", stub.url)
    engine = load_engine("openai:other", server="ollama")
    engine.close()
    assert (engine.fingerprint["server"], engine.fingerprint["version"]) == ("ollama", "unknown")
    stub.set(models=["tiny", "large"])
    with pytest.raises(InvalidInput, match=r"tiny.*large"):
        load_engine(f"openai:{stub.url}")
    stub.set(key=KEY)
    with pytest.raises(EngineError, match=r"401.*OPENAI_API_KEY.*key_env"):
        load_engine(f"openai:{stub.url}#tiny")
    assert own_threads() == []


def test_every_key_of_a_message_is_sent_and_half_a_surrogate_is_a_question_mark(stub, engines) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    turns = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "4", "tool_call_id": "c1"},
        {"role": "user", "content": "half \ud83d", "name": "ann"},
    ]
    config = DecodingConfig(temperature=0.5, hint="Be brief.")
    made = engines(stub.url).generate([Request(Prompt(turns), config, 0, 1, 11)])
    assert [completion.finish for completion in made] == ["stop"]
    sent = [note["body"]["messages"] for note in stub.record() if note["body"].get("seed") == 1]
    assert sent == [[*turns[:2], {**turns[2], "content": "half ?\n\nBe brief."}]]


def test_what_stops_an_answer_is_sent_as_far_as_the_server_takes_it(stub, engines) -> None:
    stop = ("a", "b", "c", "d", "e")
    for server, sent in (("vllm", 5), ("openai", 4)):
        stub.clear()
        [done] = engines(stub.url, server=server).generate([Request(Prompt("q"), HOT, 0, 0, 16, stop)])
        [note] = stub.record()
        assert note["body"]["stop"] == list(stop[:sent])
        assert not any(one in done.text for one in stop)
        assert done.finish == "stop"


def test_answers_that_miss_their_constraint_are_asked_for_again(stub, engines):
    """The stub's answers begin with the request's seed: the first that ends in an even digit is taken."""
    engine = engines(stub.url, server="vllm")
    constraint = Constraint(regex=r"(?s)\d*[02468] .*")
    config = DecodingConfig(temperature=0.7, constrain="retry")
    seeds = []
    for seed in range(6):
        stub.clear()
        request = Request(Prompt("q", constraint=constraint), config, 0, seed, 16)
        [done] = engine.generate([request])
        sent = [note["body"]["seed"] for note in stub.record()]
        assert sent == [make_attempt(request, number).seed % 2**31 for number in range(len(sent))]
        met = [number % 2 == 0 for number in sent]
        assert met.index(True) == len(sent) - 1 if True in met else len(sent) == ATTEMPTS
        assert done.text.startswith(str(sent[-1] if True in met else sent[0]))
        assert ("constrain" in done.receipt) == (len(sent) > 1)
        seeds.append(len(sent))
    assert len(set(seeds)) > 1


def test_a_constraint_reaches_the_server_as_the_config_says(stub, engines):
    engine = engines(stub.url, server="vllm")
    constraint = Constraint(choices=("yes", "no"))
    prompt = Prompt("q", constraint=constraint)
    for way in ("", "ask", "mask"):
        stub.clear()
        engine.generate([Request(prompt, DecodingConfig(temperature=0.7, constrain=way), 0, 1, 16)])
        [note] = stub.record()
        body = note["body"]
        assert ("structured_outputs" in body) == (way == "mask")
        assert body["messages"][0]["content"] == ("q" if way != "ask" else f"q\n\n{constraint.describe()}")
    assert body["structured_outputs"] == {"choice": ["yes", "no"]}
