"""The engine over HTTP where servers fail: what is tried again, waited for, marked and given up."""

from __future__ import annotations

from pathlib import Path

import pytest

from hagpolicy import Prompt, load_engine
from hagpolicy.engines.openai.retry import Backoff, RequestFailed, RetryPolicy, read_retry_after
from hagpolicy.errors import EngineError
from tests.support.stub_server import StubProcess

pytest.importorskip("openai")
from tests.engines.openai.cells import PASSING, cell, said


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
    assert read_retry_after(headers, now=10.0) == seconds


def test_waits_are_jittered_in_full_double_and_end() -> None:
    backoff = Backoff(RetryPolicy(max_attempts=6, initial_delay=1.0, max_delay=4.0, max_elapsed=100.0), seed=0)
    asked = RequestFailed("refused", "busy", 2.0)
    for attempt, cap in ((1, 1.0), (2, 2.0), (3, 4.0), (5, 4.0)):
        waits = [backoff.choose_delay(attempt, asked, 0.0) or 0.0 for _ in range(300)]
        assert 2.0 <= min(waits) < 2.0 + 0.05 * cap
        assert 2.0 + 0.95 * cap < max(waits) <= 2.0 + cap
    assert backoff.choose_delay(6, asked, 0.0) is None
    assert backoff.choose_delay(1, asked, 99.0) is None
    assert backoff.choose_delay(1, RequestFailed("cell", "wrong"), 0.0) is None


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


def test_half_a_character_of_a_prompt_is_sent_as_it_is_stored(stub, engines) -> None:
    completions = engines(stub.url).generate([cell("half a character \ud800"), cell("whole")])
    assert [completion.finish for completion in completions] == ["stop", "stop"]
    assert "half a character ?" in completions[0].text


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


def test_a_sweep_over_a_faulty_server_is_complete(stub, tmp_path: Path) -> None:
    from hagpolicy import DecodingSpace, sweep
    from hagpolicy.scorers.registry import get_scorer

    texts = [f"[[{word}]] say {at}" for at, word in enumerate(["ok", "reset ok", "429 ok", "half ok", "400", "cut ok"])]
    engine = load_engine(f"openai:{stub.url}")
    space = DecodingSpace.grid(temperature=[0.0, 0.5, 1.0])
    try:
        prompts = [Prompt(text, reference="5") for text in texts]
        table = sweep(engine, prompts, space, get_scorer("numeric_match"), samples=2, out=tmp_path, progress=False)
    finally:
        engine.close()
    assert (
        sum(table.failures.values()) == 7
    )  # of the prompt that is refused: 1 greedy and 4 sampled cells, 2 of the default
    assert all("400" in reason for reason in table.failures)
