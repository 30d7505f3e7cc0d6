"""The engine for OpenAI-compatible servers, against a real server process that fails on demand."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stub_server import StubProcess

from hagpolicy import DecodingConfig, Prompt, Request, load_engine
from hagpolicy.dialects.servers import SERVERS
from hagpolicy.engines.http_answers import read_answers
from hagpolicy.engines.http_client import Client, Key, is_official
from hagpolicy.engines.http_retry import Backoff, Patience, Trouble, retry_after
from hagpolicy.engines.openai_api import OpenAIEngine
from hagpolicy.errors import EngineError, InvalidInput, UnsupportedSetting

pytest.importorskip("openai")
KEY = "sk-proj-4f9aQ7zLmXw2"
SHORT = Patience(attempts=3, first=0.02, longest=0.05, total=5.0)
WARM = DecodingConfig(temperature=0.7)


@pytest.fixture(scope="module")
def server() -> Iterator[StubProcess]:
    with StubProcess(service=0.005) as process:
        yield process


@pytest.fixture
def stub(server: StubProcess) -> StubProcess:
    server.clear()
    return server


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes engines with little patience, and closes them."""
    monkeypatch.setenv("HAG_TEST_KEY", KEY)
    made: list[OpenAIEngine] = []

    def connect(url: str, timeout: float = 20.0, patience: Patience = SHORT, **options: Any) -> OpenAIEngine:
        client = Client(url, Key("HAG_TEST_KEY", needed=False), timeout=timeout, connections=64)
        made.append(OpenAIEngine(client, "stub", patience=patience, **options))
        return made[-1]

    yield connect
    for engine in made:
        engine.close()


def cell(text: str, config: DecodingConfig = WARM, seed: int = 5, limit: int = 16) -> Request:
    return Request(Prompt(text), config, 0, seed, limit)


def said(request: Request) -> str:
    return f"{request.seed if request.config.temperature else '-'} {request.config.temperature} {request.prompt.text}"


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("hagpolicy")]


def test_cells_come_back_in_their_order(stub, engines) -> None:
    configs = [DecodingConfig(temperature=t) for t in (0.0, 0.5, 1.0)]
    unit = [Request(Prompt(f"p{p}"), c, s, 100 * p + s, 16) for p in range(4) for c in configs for s in range(2)]
    completions = engines(stub.url).generate(unit)
    assert [completion.text for completion in completions] == [said(request) for request in unit]
    assert {(c.finish, c.tokens, c.prompt_tokens, c.error) for c in completions} == {("stop", 7, 1, None)}
    assert all(completion.seconds > 0.0 for completion in completions)
    assert all(completion.receipt == {} for completion in completions)


def test_units_are_drawn_as_there_is_room_and_all_come_back(stub, engines) -> None:
    drawn = 0

    def units() -> Iterator[list[Request]]:
        nonlocal drawn
        for number in range(60):
            drawn += 1
            yield [cell(f"unit {number} cell {at}", seed=at) for at in range(4)]

    engine = engines(stub.url, max_concurrency=4)
    outcomes = {}
    for number, outcome in engine.stream(units()):
        # Those that are back, those in flight and twice as many beside; and one that is half begun.
        assert drawn <= len(outcomes) + 1 + 12
        outcomes[number] = [completion.text for completion in outcome]
    assert outcomes == {n: [f"{at} 0.7 unit {n} cell {at}" for at in range(4)] for n in range(60)}
    assert max(note["active"] for note in stub.record()) <= 4


PASSING = [408, 409, 425, 429, 500, 502, 503, 529, "reset", "cut", "half", "html", "empty", "few"]


@pytest.mark.parametrize("fault", PASSING)
def test_what_fails_for_the_moment_is_tried_again(stub, engines, fault) -> None:
    unit = [cell(f"[[{fault} ok]] flaky"), cell("steady")]
    completions = engines(stub.url).generate(unit)
    assert [completion.text for completion in completions] == [said(request) for request in unit]
    words = [note["word"] for note in stub.record() if "flaky" in str(note["body"])]
    assert words == [str(fault), "ok"]


def test_a_request_without_an_answer_is_given_up_and_tried_again(stub, engines) -> None:
    [completion] = engines(stub.url, timeout=0.3).generate([cell("[[hang ok]] slow")])
    assert completion.finish == "stop"
    assert [note["gone"] for note in stub.record()] == [True, False]


@pytest.mark.parametrize("header", ["retry-after=0.4", "Retry-After-MS=400", "date=2"])
def test_the_server_says_when_to_come_back(stub, engines, header) -> None:
    [completion] = engines(stub.url).generate([cell(f"[[429;{header} ok]] later")])
    assert completion.finish == "stop"
    first, second = stub.record()
    assert second["at"] >= first.get("date", first["done"] + 0.4)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "7", "retry-after-ms": "later"}, 7.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 90.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:01 GMT"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, 0.0),
        ({"retry-after": "inf"}, 0.0),
        ({"retry-after": "Thu, 99 Nay 1970"}, 0.0),
    ],
)
def test_waits_are_read_in_every_form(headers, seconds) -> None:
    assert retry_after(headers, now=10.0) == seconds


def test_waits_are_jittered_in_full_double_and_end() -> None:
    backoff = Backoff(Patience(attempts=6, first=1.0, longest=4.0, total=100.0), seed=0)
    asked = Trouble("refused", "busy", 2.0)
    for attempt, cap in ((1, 1.0), (2, 2.0), (3, 4.0), (5, 4.0)):
        waits = [backoff.wait(attempt, asked, 0.0) or 0.0 for _ in range(300)]
        assert 2.0 <= min(waits) < 2.0 + 0.05 * cap
        assert 2.0 + 0.95 * cap < max(waits) <= 2.0 + cap
    assert backoff.wait(6, asked, 0.0) is None
    assert backoff.wait(1, asked, 99.0) is None
    assert backoff.wait(1, Trouble("cell", "wrong"), 0.0) is None


def test_a_wait_beyond_all_patience_is_not_begun(stub, engines) -> None:
    with pytest.raises(EngineError, match="wait 3600 s"):
        engines(stub.url).generate([cell("[[429;retry-after=3600]] late")])
    assert len(stub.record()) == 1


@pytest.mark.parametrize(("fault", "attempts"), [(400, 1), (413, 1), (422, 1), (500, 3), ("half", 3), ("tool", 1)])
def test_a_cell_that_never_works_is_marked_and_the_rest_goes_on(stub, engines, fault, attempts) -> None:
    unit = [cell(f"good {at}") for at in range(6)]
    unit.insert(3, cell(f"[[{fault}]] poison"))
    completions = engines(stub.url).generate(unit)
    assert [completion.finish for completion in completions] == ["stop"] * 3 + ["error"] + ["stop"] * 3
    reason = completions[3].error or ""
    assert str(fault) in reason or not isinstance(fault, int)
    assert "poison" not in reason, "a server's message must not carry the prompt on"
    assert len([note for note in stub.record() if "poison" in str(note["body"])]) == attempts


def test_a_lone_cell_that_never_works_is_marked_while_the_server_lives(stub, engines) -> None:
    [completion] = engines(stub.url).generate([cell("[[502]] alone")])
    assert (completion.finish, completion.error) == ("error", completion.error)
    assert "3 attempts" in (completion.error or "")


def test_text_that_no_json_can_hold_marks_its_cell(stub, engines) -> None:
    completions = engines(stub.url).generate([cell("half a character \ud800"), cell("whole")])
    assert [completion.finish for completion in completions] == ["error", "stop"]


@pytest.mark.parametrize("fault", ["503", "429", "500", "401", "402", "404", "403"])
def test_a_server_that_serves_nobody_fails_the_unit(stub, engines, fault) -> None:
    stub.set(every=fault)  # its list of models is gone as well
    with pytest.raises(EngineError, match=fault) as caught:
        engines(stub.url).generate([cell("a"), cell("b")])
    assert stub.url in str(caught.value)
    assert ("HAG_TEST_KEY" in str(caught.value)) == (fault == "401")


def test_what_was_answered_before_the_server_was_given_up_is_kept(stub, engines) -> None:
    unit = [cell("first"), *(cell(f"[[401]] {at}") for at in range(3))]
    completions = engines(stub.url, max_concurrency=1).generate(unit)
    assert [completion.finish for completion in completions] == ["stop", "error", "error", "error"]
    assert all("401" in (completion.error or "") for completion in completions[1:])
    with pytest.raises(EngineError, match="401"):
        engines(stub.url).generate(unit[1:])


def test_an_empty_account_is_no_wave_to_wait_for(stub, engines) -> None:
    with pytest.raises(EngineError, match="429"):
        engines(stub.url).generate([cell("[[429]] quota")])
    assert len(stub.record()) == 1


def test_content_that_is_forbidden_marks_its_cell_once_the_server_has_answered(stub, engines) -> None:
    engine = engines(stub.url)
    engine.generate([cell("a")])
    assert engine.generate([cell("[[403]] b")])[0].finish == "error"


def test_a_server_that_is_gone_fails_every_unit_and_names_its_address(engines) -> None:
    with StubProcess() as process:
        url = process.url
        engine = engines(url)
        engine.generate([cell("a")])
    outcomes = dict(engine.stream([[cell(f"{unit} {at}") for at in range(9)] for unit in range(40)]))
    assert sorted(outcomes) == list(range(40))
    for outcome in outcomes.values():
        assert isinstance(outcome, EngineError)
        assert url in str(outcome)
        assert "no connection" in str(outcome)


def test_many_lost_in_a_row_are_the_server(stub, engines) -> None:
    unit = [cell(f"[[502]] {at}") for at in range(30)]  # its list of models still works
    with pytest.raises(EngineError, match="502"):
        engines(stub.url).generate(unit)


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
    assert (found["nousage"].tokens, found["nousage"].receipt) == (0, {"tokens": "not counted by the server"})


def test_half_a_character_of_an_answer_is_the_same_now_and_when_it_is_read_from_the_store() -> None:
    body = rb'{"choices": [{"message": {"content": "half \ud800, whole \ud83d\ude00"}, "finish_reason": "stop"}]}'
    [answer] = read_answers(body, 1, 16)
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


HOT = DecodingConfig(temperature=1.0)


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
    assert "temperature 1 stands in" in caplog.text
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


def test_streams_share_one_thread_which_ends_with_the_engine(stub, engines) -> None:
    engine = engines(stub.url)
    assert own_threads() == []
    one = engine.stream([[cell(f"a{at}")] for at in range(3)])
    other = engine.stream([[cell(f"b{at}")] for at in range(3)])
    texts = [next(stream)[1][0].text for stream in (one, other) for _ in range(3)]
    assert engine.generate([cell("c")])[0].finish == "stop"
    assert sorted(texts) == [f"5 0.7 {name}{at}" for name in "ab" for at in range(3)]
    assert len(own_threads()) == 1
    engine.close()
    engine.close()
    assert own_threads() == []
    with pytest.raises(EngineError, match="closed"):
        engine.generate([cell("d")])


def test_closing_a_stream_ends_what_is_in_flight(engines) -> None:
    with StubProcess(service=0.05) as stub:
        engine = engines(stub.url)
        stream = engine.stream([cell("quick")] if not at else [cell(f"[[hang]] {at}")] for at in range(50))
        next(stream)
        stream.close()
        assert engine._asking.seeker.in_flight == 0
        until = time.monotonic() + 10
        while not all(note["gone"] for note in stub.record()[1:]) and time.monotonic() < until:
            time.sleep(0.01)
        seen = stub.record()
        assert all(note["gone"] for note in seen[1:])
        assert engine.generate([cell("after")])[0].text == "5 0.7 after"
        assert len(stub.record()) == len(seen) + 1


def test_a_process_that_forgets_its_engine_ends(stub) -> None:
    code = f"""
        import logging
        from hagpolicy import DecodingConfig, Prompt, Request, load_engine
        logging.disable(logging.WARNING)
        engine = load_engine("openai:{stub.url}")
        units = [[Request(Prompt(text), DecodingConfig(), 0, 1, 8)] for text in ("a", "[[hang]] b", "[[hang]] c")]
        stream = engine.stream(units)
        print(next(stream)[1][0].text)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 1.0 a\n", "")


def test_a_sweep_over_a_faulty_server_is_complete(stub, tmp_path: Path) -> None:
    from hagpolicy import DecodingSpace, sweep
    from hagpolicy.scorers import get_scorer

    texts = [f"[[{word}]] say {at}" for at, word in enumerate(["ok", "reset ok", "429 ok", "half ok", "400", "cut ok"])]
    engine = load_engine(f"openai:{stub.url}")
    space = DecodingSpace.grid(temperature=[0.0, 0.5, 1.0])
    try:
        prompts = [Prompt(text, reference="5") for text in texts]
        table = sweep(engine, prompts, space, get_scorer("numeric_match"), samples=2, out=tmp_path, progress=False)
    finally:
        engine.close()
    assert sum(table.failures.values()) == 5  # of the prompt that is refused: 1 greedy and 4 sampled cells
    assert all("400" in reason for reason in table.failures)


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


def test_a_server_tells_its_model_kind_and_version(stub, monkeypatch) -> None:
    stub.set(owner="vllm", models=["tiny"])
    for spec, options in ((f"openai:{stub.url}/", {}), ("openai:tiny", {"base_url": stub.url})):
        engine = load_engine(spec, **options)
        engine.close()
        assert (engine.name, engine.concurrency) == ("openai:tiny", 2)
        told = {"kind": "openai", "server": "vllm", "version": "1.2.3", "model": "tiny", "api": "chat"}
        assert engine.fingerprint == told
        assert engine.default_config() == DecodingConfig()
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
