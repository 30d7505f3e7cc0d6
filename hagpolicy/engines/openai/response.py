"""Reading the body of a response of /v1/chat/completions or /v1/completions.

The JSON is read here and not through the client's models, which let half an answer pass: what is
missing or of another type must be seen, because it is tried again.

What the message of a choice holds, and what it is taken for:

| message | taken for |
|---|---|
| `content` a text, or a list of parts with texts | the text; parts of thinking are left out, with a note |
| no content, `refusal` a text | the refusal: the model's own words, scored like any other |
| no content, `tool_calls` or such a finish reason | an error: no tool was offered |
| no content, reasoning, ended by the limit | the empty text: the limit ended the reasoning |
| no content, reasoning, ended otherwise | an error: the server's reasoning parser may have taken the answer |
| no content, at least one token counted | the empty text: the model ended at once |
| no content and no token counted, or a complaint beside it | no answer: tried again |
| a filter's finish reason | an error, whatever was left of the text |
| content, message or choice of another type | no answer: tried again |
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hagpolicy._checks import is_whole
from hagpolicy._files import parse_json
from hagpolicy._text import replace_surrogates
from hagpolicy.data.completion import NOT_COUNTED, UNKNOWN
from hagpolicy.engines.openai.retry import RequestFailed

__all__ = ["Choice", "read_choices", "read_error", "read_models"]

# What servers call the end of an answer, in small letters and digits alone. What is not here is unknown.
_FINISH_WORDS = {
    "stop": (
        "stop stopped eos eostoken eostokenid eogtoken endtoken end endoftext endofsequence endturn stopsequence "
        "stopword stopstring stoptoken stoptrigger stoptokenid complete completed finished done success natural "
        "finish normal eosfound stopstringfound word alternativestatusfinal"
    ),
    "length": (
        "length limit tokenlimit maxtokens maxtoken maxnewtokens maxoutputtokens maxcompletiontokens "
        "maxgeneratedtokens maxlength maxlengthreached maxtokensreached lengthcapped modellength truncated incomplete "
        "contextlength contextwindow contextlengthexceeded contextwindowexceeded modelcontextwindowexceeded "
        "contextlimit maximumtokens maximumlength maxcontextlength maxpredictedtokensreached contextlengthreached "
        "contextoverflow alternativestatustruncatedfinal"
    ),
    "filter": (
        "contentfilter contentfiltered contentblocked filter filtered safety recitation blocklist blocked "
        "prohibitedcontent spii language imagesafety modelarmor guardrail guardrails guardrailintervened "
        "guardrailintervention sensitive moderation contentmoderation policyviolation unsafe flagged errortoxic toxic "
        "refusal blacklist imageprohibitedcontent imagerecitation contentpolicy contentpolicyviolation "
        "alternativestatuscontentfilter"
    ),
    "tool": (
        "toolcall toolcalls tooluse tooluses functioncall functioncalls malformedfunctioncall malformedtooluse "
        "unexpectedtoolcall toomanytoolcalls missingtoolcall"
    ),
    "broken": (
        "error errorlimit errors failed failure fail abort aborted cancel cancelled canceled usercancel interrupted "
        "timeout timelimit timedout networkerror servererror internalerror internalservererror "
        "insufficientsystemresource serviceunavailable unavailable overloaded ratelimited malformedresponse noimage "
        "preempted notfinished malformedmodeloutput userstopped modelunloaded load unload pauseturn"
    ),
}
FINISHES: Mapping[str, str] = {word: meaning for meaning, words in _FINISH_WORDS.items() for word in words.split()}
# Greater counts than any answer has are no counts.
MOST_TOKENS = 10_000_000
# Keys of an object that stands in place of an answer, the most telling first; the first ones beside an empty one too.
_BESIDE = ("error", "errors", "detail", "details", "message", "msg", "error_message", "error_msg", "errorMessage")
_WELL = {"ok", "success", "succeeded", "successful"}
_COMPLAINTS = (
    *_BESIDE,
    *("error_description", "faultstring", "status_msg", "reason", "Message", "title", "fault", "issues", "base_resp"),
    *("innererror", "code", "error_code", "status"),
)
# Keys of a complaint for what it is about.
_PLACES = ("loc", "param", "parameter", "field", "property", "path")


@dataclass(frozen=True)
class Choice:
    """One choice of a response: a text that came back.

    Attributes:
        text: without reasoning.
        tokens: new tokens, those of reasoning included; NaN where the server does not say, or contradicts itself.
        prompt_tokens: tokens of the prompt; NaN where the server does not say.
        finish: "stop", "length" or "error".
        error: the reason, where finish is "error".
        notes: what a reader of the cell should know, by name.
        reasoning: what the server gave beside the text, which counts as new tokens.
        applied: settings that the server says it applied; llama-server says them where it is verbose.
        drafts: tokens that were drafted and, of those, kept; None where the server does not say.
    """

    text: str
    tokens: float
    prompt_tokens: float
    finish: str
    error: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    reasoning: str = ""
    applied: Mapping[str, Any] = field(default_factory=dict)
    drafts: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Message:
    """What the message of a choice holds."""

    text: str = ""
    reasoning: str = ""
    calls: bool = False
    notes: dict[str, Any] = field(default_factory=dict)


def read_choices(data: bytes, count: int, limit: int) -> list[Choice]:
    """The answers in a body: at least one, and at most `count`.

    Tokens that are not counted are NaN, with a note, because a price of 0 tokens would be a wrong one.
    Where one request asked for several answers the usage is their sum: it is shared out by the length
    of the texts, with a note, so that sums over cells stay right.

    Args:
        data: the body.
        count: how many answers were asked for. A server that draws fewer, or more, is taken at its word.
        limit: on new tokens.

    Raises:
        RequestFailed: "faulty": the body is cut, no JSON, or holds something else, or no answer.
    """
    body = _load_object(data)
    choices = _order_choices(body, count)
    messages = [_read_message(choice) for choice in choices]
    usage = body.get("usage")
    prompt_tokens, tokens = _read_usage(usage if isinstance(usage, dict) else {}, messages)
    notes: dict[str, Any] = {}
    shares: Sequence[float] = [tokens]
    if math.isnan(tokens):
        notes["tokens"], shares = NOT_COUNTED, [UNKNOWN] * len(choices)
    elif len(choices) > 1:
        notes["tokens"] = f"share of {tokens:.0f} of {len(choices)} answers, by length"
        # Each has a token at least, the one that ended it.
        rest = _share_out(int(tokens) - len(choices), [max(len(one.text + one.reasoning), 1) for one in messages])
        shares = [1 + part for part in rest]
    found = [
        _read_choice(choice, message, share, prompt_tokens, limit, notes, _find_complaint_beside(body, choice))
        for choice, message, share in list(zip(choices, messages, shares, strict=True))[:count]
    ]
    applied, drafts = _read_applied(body), _read_drafts(body)
    if len(found) == 1 and drafts is not None:  # of the request as a whole
        found = [replace(found[0], drafts=drafts)]
    return [replace(choice, applied=applied) for choice in found] if applied else found


def _read_drafts(body: Mapping[str, Any]) -> tuple[int, int] | None:
    """Tokens that were drafted for an answer and, of those, kept; None where that is not said, or cannot be so.

    vLLM says it as `metrics.speculative_decoding` where it was started with --per-request-spec-decode-metrics ("Per-
    Request Acceptance Metrics" in its documentation), llama-server in its `timings` where it drafts.
    """
    metrics, timings = body.get("metrics"), body.get("timings")
    of_vllm = metrics.get("speculative_decoding") if isinstance(metrics, dict) else None
    for said, drafted, kept in (
        (of_vllm, "num_draft_tokens", "num_accepted_draft_tokens"),
        (timings, "draft_n", "draft_n_accepted"),
    ):
        most, taken = (_read_count(said.get(name) if isinstance(said, dict) else None) for name in (drafted, kept))
        if taken <= most:
            return int(most), int(taken)
    return None


def _read_applied(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings that the server says it applied; empty where it says none."""
    verbose = body.get("__verbose")
    said = (verbose if isinstance(verbose, dict) else body).get("generation_settings")
    return said if isinstance(said, dict) else {}


def read_error(data: bytes) -> tuple[str, str]:
    """(message, code) of an answer with an error status, in whichever form the server words it."""
    try:
        body = parse_json(data)
    except ValueError:
        return data[:1000].decode("utf-8", "replace").strip(), ""
    error = body.get("error", body) if isinstance(body, dict) else body
    code = (error.get("code") or error.get("type") or "") if isinstance(error, dict) else ""
    message = _find_words(body)
    place = _find_place(error)
    if place and place not in message:
        message = f"{message} ({place})"
    return message, code if isinstance(code, str) else str(code) if is_whole(code) else ""


def read_models(data: bytes) -> list[str]:
    """Names in the body of an answer of /v1/models.

    Raises:
        RequestFailed: "faulty": it holds something else.
    """
    models = _load_object(data).get("data")
    if not isinstance(models, list):
        raise RequestFailed("faulty", "the list of models holds none")
    return [str(one["id"]) for one in models if isinstance(one, dict) and "id" in one]


def _load_object(data: bytes) -> dict[str, Any]:
    try:
        body = parse_json(data)
    except ValueError:
        raise RequestFailed("faulty", f"the answer of {len(data)} bytes is cut or no JSON") from None
    if not isinstance(body, dict):
        raise RequestFailed("faulty", "the answer is no JSON object")
    if any(body.get(name) for name in ("error", "errors")) or body.get("object") == "error":
        # Some gateways report what their upstream said with a status of 200.
        raise RequestFailed("faulty", f"an error in place of an answer: {_find_words(body)[:200]}")
    return body


def _find_words(value: Any, depth: int = 0) -> str:
    """What an error says, wherever its server puts it; "" where it says nothing."""
    if isinstance(value, str):
        return value
    if is_whole(value) and depth:
        return f"code {value}"
    if depth > 4:
        return ""
    if isinstance(value, list):
        # FastAPI's list of complaints repeats the whole request beside each one.
        found = [_find_complaint(one, depth) for one in value[:20]]
        return "; ".join(words for words in found if words)
    if isinstance(value, dict):
        return next((words for name in _COMPLAINTS if (words := _find_words(value.get(name), depth + 1))), "")
    return ""


def _find_complaint_beside(body: Mapping[str, Any], choice: Mapping[str, Any]) -> str:
    """What a body, a choice or its message says beside an answer; "" where that is nothing, or that all went well."""
    found = (_find_words(part.get(name), 1) for part in (body, choice) for name in _BESIDE)
    return next((words for words in found if words and words.strip().lower() not in _WELL), "")


def _find_complaint(value: Any, depth: int) -> str:
    words, place = _find_words(value, depth + 1), _find_place(value)
    return f"{place}: {words}" if place and place not in words else words


def _find_place(value: Any) -> str:
    """Which part of a request a complaint is about; "" where it does not say."""
    place = next((value[name] for name in _PLACES if value.get(name)), "") if isinstance(value, dict) else ""
    return ".".join(map(str, place[:10])) if isinstance(place, list) else place if isinstance(place, str) else ""


def _order_choices(body: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """The choices of a body by their index; as they stand where none has one."""
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        words = _find_words(body)[:200]
        raise RequestFailed("faulty", "the answer holds no choices" + (f": {words}" if words else ""))
    if not all(isinstance(choice, dict) for choice in choices):
        raise RequestFailed("faulty", "a choice is no JSON object")
    for choice in choices:
        if choice.get("error"):
            raise RequestFailed("faulty", f"an error in place of a choice: {_find_words(choice['error'])[:200]}")
    numbers = [choice.get("index") for choice in choices]
    if all(number is None for number in numbers):
        return choices
    if not all(is_whole(number, 0, max(count, len(choices)) - 1) for number in numbers):
        raise RequestFailed("faulty", "a choice has no index, or one out of range")
    if len(set(numbers)) < len(numbers):
        raise RequestFailed("faulty", "two choices have the same index")
    return sorted(choices, key=lambda choice: int(choice["index"]))


def _read_message(choice: Mapping[str, Any]) -> _Message:
    """What a choice holds."""
    message = choice.get("message")
    if message is None and "text" in choice:
        message = {"content": choice["text"]}  # of a plain completion
    if not isinstance(message, dict):
        raise RequestFailed("faulty", "a choice without message and text")
    thoughts = (message.get(name) for name in ("reasoning_content", "reasoning", "thinking"))
    reasoning: str = next((thought for thought in thoughts if isinstance(thought, str) and thought), "")
    content = message.get("content")
    notes: dict[str, Any] = {}
    if isinstance(content, list):
        content, thought = _join_parts(content, notes)
        reasoning = reasoning or thought
    if content is not None and not isinstance(content, str):
        raise RequestFailed("faulty", f"a message whose content is of the type {type(content).__name__}")
    if reasoning:
        notes["reasoning"] = f"{len(reasoning)} characters, not part of the text"
    refusal = message.get("refusal")
    if not content and isinstance(refusal, str) and refusal:
        # The model's own words, to be scored like any other answer.
        content, notes["refusal"] = refusal, "the text is the model's refusal"
    calls = bool(message.get("tool_calls") or message.get("function_call"))
    return _Message(content or "", reasoning, calls, notes)


def _join_parts(parts: Sequence[Any], notes: dict[str, Any]) -> tuple[str, str]:
    """(text, reasoning) of a content that is a list of parts."""
    texts, thoughts, others = [], [], 0
    for part in parts:
        kind = str(part.get("type", "text")) if isinstance(part, dict) else "text"
        said = part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None
        if isinstance(part, dict) and kind in ("thinking", "reasoning", "redacted_thinking"):
            inner = part.get("thinking", part.get("reasoning", said))
            thoughts.append(inner if isinstance(inner, str) else str(inner))
        elif isinstance(part, dict) and kind == "refusal" and isinstance(part.get("refusal"), str):
            texts.append(part["refusal"])
            notes["refusal"] = "the text holds the model's refusal"
        elif isinstance(said, str):
            texts.append(said)
        elif isinstance(part, dict) and kind not in ("text", "output_text"):
            others += 1
        else:
            raise RequestFailed("faulty", "a part of a content is no text")
    if others and not texts:
        raise RequestFailed("faulty", f"a content of {others} parts without a text")
    if others:
        notes["parts"] = f"{others} beside the text left out"
    return "".join(texts), "".join(thoughts)


def _read_choice(
    choice: Mapping[str, Any],
    message: _Message,
    tokens: float,
    prompt_tokens: float,
    limit: int,
    notes: Mapping[str, Any],
    complaint: str,
) -> Choice:
    found = {**notes, **message.notes}
    meaning, said = _read_finish(choice)
    if meaning == "broken":
        raise RequestFailed("faulty", f"the server broke the answer off: {said}")
    if meaning == "unknown" and said:
        found["finish"] = f"unknown reason: {said}"
    cut = meaning == "length" or (meaning == "unknown" and tokens >= limit)
    error = None
    if meaning == "filter":
        error = f"the server's filter removed the answer: {said}"
    elif message.text:
        pass
    elif meaning == "tool" or message.calls:
        error = "the model called a tool, and none was offered"
    elif message.reasoning and not cut:
        error = "the answer is reasoning alone; the server's reasoning parser may have taken the text"
    elif not message.reasoning and (complaint or not tokens > 0):
        why = f"no text: {complaint[:200]}" if complaint else "neither a text nor a counted token"
        raise RequestFailed("faulty", f"the answer holds {why}")
    finish = "error" if error else "length" if cut else "stop"
    # Half of a character, which JSON can escape, would be "?" when stored: scorers are to see the same.
    text, reasoning = replace_surrogates(message.text), replace_surrogates(message.reasoning)
    return Choice(text, tokens, prompt_tokens, finish, error, found, reasoning)


def _read_finish(choice: Mapping[str, Any]) -> tuple[str, str]:
    """("stop", "length", "filter", "tool", "broken" or "unknown", the reason in the server's words).

    A reason that is missing or empty is unknown, in no words.
    """
    names = ("finish_reason", "finishReason", "done_reason", "native_finish_reason")
    reason = next((choice[name] for name in names if choice.get(name) not in (None, "")), None)
    if isinstance(reason, dict):
        reason = next((reason[name] for name in ("reason", "type") if isinstance(reason.get(name), str)), "object")
    if reason is None:
        return "unknown", ""
    word = re.sub(r"[^a-z0-9]", "", str(reason)[:100].lower()).removeprefix("finishreason")
    if word in ("null", "none", "unspecified"):
        return "unknown", ""
    return FINISHES.get(word, "unknown"), re.sub(r"[^\w .-]", "?", str(reason)[:40])


def _read_usage(usage: Mapping[str, Any], messages: Sequence[_Message]) -> tuple[float, float]:
    """(tokens of the prompt, new tokens of all choices); NaN where they are not stated, or cannot be so."""
    prompt, tokens, total = (
        _read_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    least = sum(bool(message.text or message.reasoning) for message in messages)
    if not tokens >= least or (tokens == 0 and total > prompt):
        # Reasoning that is not told is left out by some, and is in the total.
        tokens = total - prompt
    if not tokens >= least or tokens > total or (len(messages) > 1 and tokens < len(messages)):
        tokens = UNKNOWN
    return prompt, tokens


def _share_out(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in whole parts, in proportion to `weights`; the parts sum to it."""
    shares, before, through = [], 0, 0
    for weight in weights:
        through += weight
        upto = total * through // sum(weights)
        shares.append(upto - before)
        before = upto
    return shares


def _read_count(value: Any) -> float:
    return value if is_whole(value, 0, MOST_TOKENS) else UNKNOWN
