"""What the answers of servers mean: a text, an empty text, a failure, and how many tokens."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from hagpolicy.engines.openai.response import FINISHES, Choice, read_choices, read_error
from hagpolicy.engines.openai.retry import RequestFailed
from tests.engines.openai.cells import SHORT, cell
from tests.support.answering_server import AnsweringServer, say


def read(body: Any, count: int = 1, limit: int = 16) -> list[Choice]:
    return read_choices(body if isinstance(body, bytes) else json.dumps(body).encode(), count, limit)


def choices(*indices: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "message": {"content": "t"}, **more} for index in indices]}


FAULTS: dict[str, Any] = {
    "error": {"error": {"message": "upstream died", "code": 502}},
    "error beside choices": {**say("half"), "error": {"message": "upstream died"}},
    "error that is true": {"error": True, "message": "upstream died"},
    "error in a text": {"error": "upstream died"},
    "error in a choice": {
        "choices": [{"error": {"code": 502, "message": "upstream died"}, "message": {"content": ""}}]
    },
    "error in a choice with text": {"choices": [{"error": {"message": "upstream died"}, "message": {"content": "5"}}]},
    "detail": {"detail": "upstream died"},
    "details of FastAPI": {"detail": [{"loc": ["body"], "msg": "upstream died", "input": "secret"}]},
    "message": {"message": "upstream died"},
    "msg": {"code": 500, "msg": "upstream died"},
    "errors": {"errors": [{"message": "upstream died"}]},
    "object": {"object": "error", "message": "upstream died", "choices": []},
    "MiniMax": {"base_resp": {"status_code": 1002, "status_msg": "upstream died"}, "choices": None},
}
MALFORMED: dict[str, Any] = {
    "nothing": {},
    "code alone": {"code": 500},
    "no object": [],
    "cut": b'{"choices": [{"message"',
    "deep": b"[" * 100_000,
    "no choices": {"choices": []},
    "choices of none": {"choices": None},
    "a mapping of choices": {"choices": {"0": {"message": {"content": "5"}}}},
    "a choice that is text": {"choices": ["5"]},
    "message that is text": {"choices": [{"message": "5"}]},
    "a part of a stream": {"choices": [{"delta": {"content": "5"}}]},
    "content of a number": {"choices": [{"message": {"content": 5}}]},
    "content of a mapping": {"choices": [{"message": {"content": {"text": "5"}}}]},
    "a part of a number": {"choices": [{"message": {"content": [5]}}]},
    "parts without text": {"choices": [{"message": {"content": [{"type": "image_url", "image_url": {}}]}}]},
    "text of a number": {"choices": [{"text": 5}]},
    "index out of range": choices(1),
    "negative index": choices(-1),
    "index of a text": choices("0"),
    "index that is true": choices(True),
    "the same index twice": choices(0, 0),
    "an index of two": choices(0, None),
    "neither text nor tokens": say("", tokens=0),
    "neither text nor usage": say("", tokens=None),
    "null and no tokens": say(None, tokens=0),
    "null and no usage": say(None, tokens=None, finish=None),
    "length and nothing": say(None, tokens=0, finish="length"),
    "nothing that was counted, beside a detail": {**say("", tokens=1), "detail": "upstream died"},
    "nothing that was counted, beside a msg": {**say("", tokens=1), "code": 0, "msg": "upstream died"},
    "nothing that was counted, with an error inside": say("", tokens=1, error={"message": "upstream died"}),
    **{f"broken off: {word}": say("hal", finish=word) for word in ("error", "abort", "ERROR", "cancelled", "timeout")},
    "no resources": say("hal", finish="insufficient_system_resource"),
}


@pytest.mark.parametrize("form", [*FAULTS, *MALFORMED])
def test_a_failure_in_the_shape_of_an_answer_is_one_and_says_why(form) -> None:
    with pytest.raises(RequestFailed) as caught:
        read({**FAULTS, **MALFORMED}[form])
    assert caught.value.kind == "faulty"
    assert ("upstream died" in caught.value.reason) == (
        "upstream died" in json.dumps({**FAULTS, **MALFORMED}[form], default=str)
    )
    assert "secret" not in caught.value.reason


@pytest.mark.parametrize(
    ("body", "text", "finish"),
    [
        (say("5"), "5", "stop"),
        (say("", tokens=1), "", "stop"),  # the model ended at once
        (say(None, tokens=1), "", "stop"),
        ({**say("", tokens=1), "code": 0, "msg": "success", "status": "completed"}, "", "stop"),
        ({"choices": [{"text": "5"}]}, "5", "stop"),
        ({"choices": [{"text": None}], "usage": {"completion_tokens": 1}}, "", "stop"),
        (say([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab", "stop"),
        (say([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "b"}]), "b", "stop"),
        (say(["a", "b"]), "ab", "stop"),
        (say([], tokens=1), "", "stop"),
        (say(None, refusal="No."), "No.", "stop"),
        (say("", refusal="No."), "No.", "stop"),
        (say("5", tool_calls=[{"id": "1"}], finish="tool_calls"), "5", "stop"),
        (say(None, tool_calls=[{"id": "1"}]), "", "error"),
        (say(None, finish="tool_use"), "", "error"),
        (say(None, reasoning_content="hm", finish="length"), "", "length"),
        (say(None, reasoning="hm", finish="stop"), "", "error"),
        (say("5", reasoning_content="hm"), "5", "stop"),
        (say("half", finish="SAFETY"), "half", "error"),
        (say("5", finish="no such word"), "5", "stop"),
        (say("5", tokens=16, finish=None), "5", "length"),
        (say("5", tokens=None, finish=None), "5", "stop"),
        # Gemini, whose reasoning took the whole limit.
        (
            {
                "choices": [{"index": 0, "message": {"role": "assistant"}, "finish_reason": "length"}],
                "usage": {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 21},
            },
            "",
            "length",
        ),
    ],
)
def test_an_answer_is_read_in_every_form(body, text, finish) -> None:
    [found] = read(body)
    assert (found.text, found.finish) == (text, finish)
    assert (found.error is None) == (finish != "error")


def test_more_choices_and_their_order() -> None:
    assert [one.text for one in read({"choices": [{"text": "a"}, {"text": "b"}]}, 2)] == ["a", "b"]
    turned = {"choices": [{"index": 1, "text": "b"}, {"index": 0, "text": "a"}], "usage": {"completion_tokens": 9}}
    assert [one.text for one in read(turned, 2)] == ["a", "b"]
    assert sum(one.tokens for one in read(turned, 2)) == 9
    assert all(math.isnan(one.tokens) for one in read({**turned, "usage": {"completion_tokens": 1}}, 2))


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        *((word, "length") for word in ("length", "MAX_TOKENS", "max_tokens", "maxTokens", "model_length")),
        *((word, "length") for word in ("FinishReason.MAX_TOKENS", "FINISH_REASON_MAX_TOKENS", "max_output_tokens")),
        *((word, "stop") for word in ("stop", "STOP", "eos", "eos_token", "stop_sequence", "end_turn", "COMPLETE")),
        *((word, "stop") for word in (None, "", "null", "FINISH_REASON_UNSPECIFIED", {"reason": "stop"}, {}, 1, [2])),
        *((word, "error") for word in ("content_filter", "SAFETY", "RECITATION", "PROHIBITED_CONTENT", "ERROR_TOXIC")),
        *((word, "stop") for word in ("FINISH", "normal", "eosFound", "stopStringFound", "ALTERNATIVE_STATUS_FINAL")),
        *((word, "length") for word in ("maxPredictedTokensReached", "maximum_tokens", "context_length_exceeded")),
        *((word, "error") for word in ("blacklist", "IMAGE_PROHIBITED_CONTENT", "guardrail_intervened", "sensitive")),
        ("OTHER", "stop"),
    ],
)
def test_the_ends_of_other_vendors_are_understood(word, meaning) -> None:
    [found] = read(say("text", finish=word))
    assert found.finish == meaning
    assert ("finish" in found.notes) == (word in ("OTHER", 1, {}, [2]))


def test_words_for_ends_are_written_as_they_are_looked_up() -> None:
    assert all(word.isascii() and word.isalnum() and word == word.lower() for word in FINISHES)


@pytest.mark.parametrize("count", [0, -1, 7.0, math.nan, math.inf, True, "7", None, [], {}, 10**9, 10**30])
def test_a_count_that_cannot_be_is_unknown_and_never_a_number(count) -> None:
    [found] = read(say("five words are in here", tokens=count))
    assert math.isnan(found.tokens)
    assert found.notes["tokens"] == "not counted by the server"
    body = {**say("5"), "usage": {"prompt_tokens": count or -1, "completion_tokens": 3}}
    assert math.isnan(read(body)[0].prompt_tokens)


@pytest.mark.parametrize("usage", [None, [], "7", 7, {}, {"completion_tokens": 9, "total_tokens": 4}])
def test_a_usage_that_says_nothing_or_contradicts_itself_is_unknown(usage) -> None:
    assert math.isnan(read({**say("5"), "usage": usage})[0].tokens)


def test_tokens_follow_from_the_total_where_only_they_are_left_out() -> None:
    assert read({**say("5"), "usage": {"prompt_tokens": 5, "total_tokens": 12}})[0].tokens == 7


def test_errors_are_read_wherever_they_stand() -> None:
    for form, body in FAULTS.items():
        if "choice" in form:
            continue
        assert "upstream died" in read_error(json.dumps(body).encode())[0], form
    assert read_error(b'{"error": {"message": "no", "code": "c", "param": "top_p"}}') == ("no (top_p)", "c")
    assert read_error(b"[" * 100_000)[1] == ""


@pytest.mark.parametrize("fault", [{"detail": "busy"}, say("", tokens=0), say("5", finish="error"), {"choices": []}])
def test_what_is_no_answer_is_tried_again_and_marked_in_the_end(engines, fault) -> None:
    left = [2]

    def answer(body: dict[str, Any]) -> Any:
        if "always" in str(body):
            return fault
        left[0] -= 1
        return fault if left[0] >= 0 else say("5")

    with AnsweringServer(answer) as server:
        engine = engines(server.url)
        [once, never] = [engine.generate([cell(text)])[0] for text in ("now", "always")]
        assert (once.text, once.tokens) == ("5", 3)
        assert (never.finish, f"{SHORT.max_attempts} attempts" in str(never.error)) == ("error", True)
        assert len(server.asked) == 2 * SHORT.max_attempts


def test_settings_that_the_server_applied_otherwise_stand_in_the_receipt(engines: Any) -> None:
    applied = {"temperature": 0.699999988079071, "top_p": 0.95, "samplers": ["top_k"], "n_predict": 16}

    def answer(_: Any) -> Any:
        return {**say("five"), "__verbose": {"generation_settings": applied}}

    with AnsweringServer(answer) as server:
        [done] = engines(server.url, server="llama_cpp").generate([cell("count")])
    assert done.receipt["top_p"] == "applied as 0.95"
    assert "temperature" not in done.receipt


def of_vllm(drafted: Any, kept: Any) -> dict[str, Any]:
    told = {"num_spec_steps": 4, "num_draft_tokens": drafted, "num_accepted_draft_tokens": kept, "num_spec_tokens": 3}
    return {**say("five"), "metrics": {"speculative_decoding": told}}


def of_llama_server(drafted: Any, kept: Any) -> dict[str, Any]:
    return {**say("five"), "timings": {"predicted_n": 7, "draft_n": drafted, "draft_n_accepted": kept}}


@pytest.mark.parametrize("told", [of_vllm, of_llama_server])
def test_what_a_server_says_of_its_drafts_is_kept_with_the_cell(told: Any, engines: Any) -> None:
    said = {**told(12, 3), "usage": {"prompt_tokens": 2, "completion_tokens": 7}}
    with AnsweringServer(lambda _: said) as server:
        [done] = engines(server.url).generate([cell("q")])
    assert (done.receipt["drafts"], done.passes, done.tokens) == ("3 of 12 drafted tokens kept", 4, 7)
    assert read(told(0, 0))[0].drafts == (0, 0)
    for drafted, kept in ((3, 4), (-1, 0), ("12", "3"), (None, None), (1.5, 1), (True, 0)):
        assert read(told(drafted, kept))[0].drafts is None


def test_of_drafts_nothing_is_said_where_the_server_says_nothing(engines: Any) -> None:
    several = {**of_vllm(12, 3), **choices(0, 1), "usage": {"prompt_tokens": 2, "completion_tokens": 14}}
    assert [choice.drafts for choice in read(several, 2)] == [None, None]  # they are of the request as a whole
    for body in (say("five"), {**say("five"), "metrics": None}, {**say("five"), "timings": [1], "metrics": []}):
        assert read(body)[0].drafts is None
    with AnsweringServer(lambda _: say("five")) as server:
        [done] = engines(server.url).generate([cell("q")])
    assert done.passes is None
    assert "drafts" not in done.receipt
