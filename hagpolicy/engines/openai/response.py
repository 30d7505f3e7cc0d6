"""Reading the body of a response of /v1/chat/completions or /v1/completions.

The JSON is read here and not through the client's models, which let half an answer pass: what is
missing or of another type must be seen, because it is tried again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hagpolicy._checks import is_whole
from hagpolicy._text import replace_surrogates
from hagpolicy.engines.openai.retry import RequestFailed

__all__ = ["Choice", "read_choices", "read_error", "read_models"]

LENGTH = {"length", "max_tokens", "max_new_tokens"}
FILTERED = {"content_filter", "safety"}
BROKEN = {"abort", "error", "cancelled"}


@dataclass(frozen=True)
class Choice:
    """One choice of a response: a text that came back.

    Attributes:
        text: without reasoning.
        tokens: new tokens, those of reasoning included; 0 where the server does not say.
        prompt_tokens: tokens of the prompt; 0 where the server does not say.
        finish: "stop", "length" or "error".
        error: the reason, where finish is "error".
        notes: what a reader of the cell should know, by name.
    """

    text: str
    tokens: int
    prompt_tokens: int
    finish: str
    error: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def read_choices(data: bytes, count: int, limit: int) -> list[Choice]:
    """The answers in a body: at least one, and at most `count`.

    A usage that is missing gives 0 tokens and a note, because 0 is otherwise not a count that occurs.
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
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(one, dict) for one in choices):
        raise RequestFailed("faulty", "the answer holds no choices")
    choices = sorted(choices, key=lambda one: one["index"] if isinstance(one.get("index"), int) else 0)
    usage = body.get("usage")
    used: dict[str, Any] = usage if isinstance(usage, dict) else {}
    prompt_tokens, tokens = _read_count(used.get("prompt_tokens")), _read_count(used.get("completion_tokens"))
    texts = [_read_text(choice) for choice in choices]
    notes: dict[str, Any] = {}
    if tokens is None:
        notes["tokens"] = "not counted by the server"
    elif len(choices) > 1:
        notes["tokens"] = f"share of {tokens} of {len(choices)} answers, by length"
    shares = _share_out(tokens or 0, [max(len(text), 1) for text, _ in texts])
    return [
        _read_choice(choice, text, share, prompt_tokens or 0, limit, {**notes, **more})
        for choice, (text, more), share in list(zip(choices, texts, shares, strict=True))[:count]
    ]


def read_error(data: bytes) -> tuple[str, str]:
    """(message, code) of an answer with an error status, in whichever form the server words it."""
    try:
        body = json.loads(data)
    except ValueError:
        return data[:1000].decode("utf-8", "replace").strip(), ""
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return error if isinstance(error, str) else "", ""
    message = error.get("message") or error.get("detail")
    code = error.get("code") or error.get("type") or ""
    if isinstance(message, list):
        # FastAPI's list of complaints repeats the whole request beside each one.
        found = [one for one in message if isinstance(one, dict)]
        message = "; ".join(f"{'.'.join(map(str, one.get('loc') or ()))}: {one.get('msg')}" for one in found)
    return message if isinstance(message, str) else "", str(code)


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
        body = json.loads(data)
    except (ValueError, RecursionError):  # of Unicode, of JSON, of its depth
        raise RequestFailed("faulty", f"the answer of {len(data)} bytes is cut or no JSON") from None
    if not isinstance(body, dict):
        raise RequestFailed("faulty", "the answer is no JSON object")
    if body.get("error"):
        # Some gateways report what their upstream said with a status of 200.
        message, _ = read_error(data)
        raise RequestFailed("faulty", f"an error in place of an answer: {message[:200]}")
    return body


def _read_text(choice: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The text of a choice, and notes."""
    message = choice.get("message")
    if message is None and isinstance(choice.get("text"), str):
        return choice["text"], {}
    if not isinstance(message, dict):
        raise RequestFailed("faulty", "a choice without message and text")
    notes: dict[str, Any] = {}
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought:
        notes["reasoning"] = f"{len(thought)} characters, not part of the text"
    content = message.get("content")
    if content is None and isinstance(message.get("refusal"), str):
        # The model's own words, to be scored like any other answer.
        return message["refusal"], {**notes, "refusal": "the text is the model's refusal"}
    if isinstance(content, list):
        parts: Sequence[Any] = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    if content is not None and not isinstance(content, str):
        raise RequestFailed("faulty", f"a message whose content is of the type {type(content).__name__}")
    return content or "", notes  # None: the model ended at once, or the limit ended its reasoning


def _read_choice(
    choice: dict[str, Any], text: str, tokens: int, prompt_tokens: int, limit: int, notes: dict[str, Any]
) -> Choice:
    reason = choice.get("finish_reason")
    finish, error = "stop", None
    if reason in BROKEN:
        raise RequestFailed("faulty", f"the server broke the answer off: {reason}")
    if reason in FILTERED:
        finish, error = "error", f"the server's filter removed the answer: {reason}"
    elif reason in ("tool_calls", "function_call") and not text:
        finish, error = "error", "the model called a tool, and none was offered"
    elif reason in LENGTH or (reason is None and tokens >= limit):
        finish = "length"
    # Half of a character, which JSON can escape, would be "?" when stored: scorers are to see the same.
    return Choice(replace_surrogates(text), tokens, prompt_tokens, finish, error, notes)


def _share_out(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in whole parts, in proportion to `weights`; the parts sum to it."""
    shares, before, through = [], 0, 0
    for weight in weights:
        through += weight
        upto = total * through // sum(weights)
        shares.append(upto - before)
        before = upto
    return shares


def _read_count(value: Any) -> int | None:
    return value if is_whole(value, 0) else None
