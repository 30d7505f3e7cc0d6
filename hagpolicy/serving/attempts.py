"""`AnswerAttempts`: the answers to a request that is sent again where one does not meet its constraint.

The rules are those of sweeps (`engines.constraints.attempts`): up to three more answers, sampled where the first is
greedy; the first that meets the constraint is handed on, the very first one where none does. What all of them used is
added up in the answer's own `usage`, since all of it was paid for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hagpolicy._checks import is_number, is_whole
from hagpolicy.config.constraints import Constraint
from hagpolicy.data.answers import split_reasoning
from hagpolicy.engines.constraints.attempts import ATTEMPTS, derive_seed
from hagpolicy.engines.constraints.check import meets
from hagpolicy.serving.answers import AnswerReader

__all__ = ["AnswerAttempts", "adapt_headers", "add_usage", "find_obstacle", "read_text", "write_attempt"]

# Every server takes seeds of 31 bits.
_SEED_BITS = 31
MET, NOT_MET, NOT_CHECKED = "met", "not_met", "not_checked"


class AnswerAttempts:
    """The answers to one request, in the order of their attempts.

    Args:
        constraint: that they have to meet.
        endpoint: of the request, a name in `ENDPOINTS`.
        write: the body of a later attempt, by its number from 1.
        alone: why there is no later attempt; "": there may be.

    Attributes:
        outcome: "met", "not_met" or "not_checked".
        told: the same in words, for a header.
    """

    def __init__(self, constraint: Constraint, endpoint: str, write: Callable[[int], bytes], alone: str = "") -> None:
        self._constraint, self._endpoint, self._write, self._alone = constraint, endpoint, write, alone
        self._answers: list[Any] = []
        self._chosen = 0
        self.outcome, self.told = NOT_CHECKED, "not checked: no answer came"

    def takes(self, status: int, kind: str) -> bool:
        """Whether an answer is to be checked; of the first one that is not, what is told says why.

        Args:
            status: of the answer.
            kind: its `content-type`.
        """
        taken = 200 <= status < 300 and not kind.lower().startswith("text/event-stream")
        if not taken:
            self.skip("the answer is an error" if status >= 300 else "the answer is a stream")
        return taken

    def skip(self, why: str) -> None:
        """An answer is not checked; of the first one, what is told says why."""
        if not self._answers:
            self.told = f"not checked: {why}"

    def read(self, content: bytes, encoding: str = "") -> bytes | None:
        """The body of the request to send next, after an answer was taken; None where none is to be sent.

        Args:
            content: of the answer, as it came.
            encoding: its `content-encoding`; "" without one.
        """
        answer = _parse(AnswerReader(encoding), content)
        text = read_text(self._endpoint, answer)
        if text is None and not self._answers:
            self.skip("the answer is no single text that can be read")
            return None
        self._answers.append(answer)
        count = len(self._answers)
        try:
            met = text is not None and meets(self._constraint, split_reasoning(text)[1])
        except Exception as error:  # of the library that checks schemas: what it raises is its own
            self.told = f"not checked: the check failed ({type(error).__name__})"
            return None
        if met:
            self._chosen = count - 1
            self.outcome, self.told = MET, "met" if count == 1 else f"met after {count} attempts"
            return None
        self.outcome, self.told = NOT_MET, f"not met; not tried again: {self._alone}"
        if self._alone:
            return None
        self.told = f"not met after {count} attempts"
        return self._write(count) if count < ATTEMPTS else None

    def fail(self) -> None:
        """A later attempt came to nothing, and there is no other."""
        count = len(self._answers)
        self.told = f"not met after {count} attempt{'s' if count > 1 else ''}; a further one failed"

    def join(self) -> tuple[int, bytes | None]:
        """The number of the answer to hand on, from 0, and its body with the usage of all; None: as it came."""
        if len(self._answers) < 2:
            return 0, None
        usages = [one.get("usage") if isinstance(one, Mapping) else None for one in self._answers]
        if not all(isinstance(one, Mapping) for one in usages):
            self.told += "; its usage is of this answer alone"
            return self._chosen, None
        usages = [usages.pop(self._chosen), *usages]
        whole = {**self._answers[self._chosen], "usage": add_usage(usages)}
        return self._chosen, json.dumps(whole, separators=(",", ":")).encode()


def find_obstacle(body: Mapping[str, Any]) -> str:
    """Why the answer to a request is not checked; "" where it may be."""
    if body.get("stream"):
        return "not checked: the answer is a stream"
    several = [key for key in ("n", "best_of") if is_whole(body.get(key)) and body[key] > 1]
    return "not checked: several answers are asked for" if several else ""


def write_attempt(body: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    """The body of a later attempt: where it has a seed, with another one that is derived from it."""
    seed = body.get("seed")
    return {**body, "seed": derive_seed(seed, number) % 2**_SEED_BITS} if is_whole(seed) else body


def adapt_headers(headers: Iterable[tuple[str, str]], number: int) -> list[tuple[str, str]]:
    """The headers of an attempt: its answer is to come as it can be read, and what names a request names one alone.

    Args:
        headers: of the request.
        number: of the attempt, from 0.
    """
    kept = [(name, value) for name, value in headers if name.lower() != "accept-encoding"]
    if number:
        kept = [(name, f"{value}-{number}" if name.lower() == "idempotency-key" else value) for name, value in kept]
    return [*kept, ("accept-encoding", "identity")]


def read_text(endpoint: str, answer: Any) -> str | None:
    """The one text of an answer; None where there is none, several, or a call of a tool.

    Args:
        endpoint: of its request, a name in `ENDPOINTS`.
        answer: what was read of its JSON.
    """
    try:
        return _READERS[endpoint](answer)
    except (AttributeError, IndexError, KeyError, TypeError):
        return None


def _read_choice(answer: Any) -> Any:
    (choice,) = answer["choices"] if len(answer["choices"]) == 1 else ({},)
    return choice


def _read_chat(answer: Any) -> str | None:
    message = _read_choice(answer)["message"]
    return None if message.get("tool_calls") else _take_text(message["content"])


def _read_plain(answer: Any) -> str | None:
    return _take_text(_read_choice(answer)["text"])


def _read_responses(answer: Any) -> str | None:
    items = answer["output"]
    if any(item["type"].endswith("_call") for item in items):
        return None
    return _join_parts((part for item in items if item["type"] == "message" for part in item["content"]), "output_text")


def _read_messages(answer: Any) -> str | None:
    parts = answer["content"]
    return None if any(part["type"] == "tool_use" for part in parts) else _join_parts(parts, "text")


def _join_parts(parts: Iterable[Any], kind: str) -> str | None:
    texts = [part["text"] for part in parts if part["type"] == kind]
    return "".join(texts) if texts else None


def _take_text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


_READERS: Mapping[str, Callable[[Any], str | None]] = {
    "chat": _read_chat,
    "completions": _read_plain,
    "responses": _read_responses,
    "messages": _read_messages,
}


def _parse(reader: AnswerReader, content: bytes) -> Any:
    """What stands in an answer; None where it cannot be read."""
    try:
        return json.loads(reader.read(content))
    except (ValueError, RecursionError):
        return None


def add_usage(usages: Sequence[Any]) -> dict[str, Any]:
    """What several answers used, as one says it: numbers added up, all else as it stands in the first.

    Args:
        usages: of the answers, mappings that may hold others.
    """
    known = [one for one in usages if isinstance(one, Mapping)]
    added: dict[str, Any] = {}
    for key in dict.fromkeys(key for one in known for key in one):
        values = [one[key] for one in known if one.get(key) is not None]
        if any(isinstance(value, Mapping) for value in values):
            added[key] = add_usage(values)
        elif values and all(is_number(value) for value in values):
            added[key] = sum(values)
        else:
            added[key] = known[0].get(key)
    return added
