"""What a policy reads of a prompt, and when it does not read it: one function for training and for production."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from hagpolicy._text import replace_surrogates
from hagpolicy.config.render import PromptLike
from hagpolicy.data.prompts import Prompt, as_prompt, message_text
from hagpolicy.data.rows import to_json_value
from hagpolicy.errors import InvalidInput
from hagpolicy.policy.context import needs_context
from hagpolicy.policy.forms import Forms
from hagpolicy.policy.inputs import holds_vector

Reads = Literal["last_user", "system+last_user", "all"]
"""What is read of a chat: the last user message; that after the system messages; all turns."""

Refusal = Literal["unreadable", "needs_context", "unseen_form"]

_USER, _SYSTEM = frozenset({"user", "human"}), frozenset({"system", "developer"})


class Read(NamedTuple):
    """A prompt as a policy takes it.

    Attributes:
        item: what the graph's inputs are made of: text, or what a vector is read from.
        content: the prompt's content; None for a bare vector.
        refusal: why the reference stands for it, whatever the graph would say; None: it is read.
    """

    item: Any
    content: PromptLike | None
    refusal: Refusal | None = None


def check_reads(reads: object) -> Reads:
    """The value as one of `Reads`.

    Raises:
        InvalidInput: another value.
    """
    for known in get_args(Reads):
        if reads == known:
            return known  # type: ignore[no-any-return]
    raise InvalidInput("reads", f"one of {', '.join(map(repr, get_args(Reads)))}", reads)


class PromptReader:
    """Reads prompts for one policy.

    Args:
        reads: what is read of a chat.
        forms: of the training prompts; None: no form counts as unseen.
        vectors: the caller's vectors are read.
        texts: texts are read; beside vectors, where something makes vectors of them.
    """

    def __init__(self, reads: Reads, forms: Forms | None = None, *, vectors: bool = False, texts: bool = True) -> None:
        self.reads, self.forms, self.vectors, self.texts = reads, forms, vectors, texts

    def read(self, prompt: Any) -> Read:
        """What is read of a string, chat messages, a `Prompt`, or a vector where vectors are read.

        Raises:
            InvalidInput: what is no prompt of any kind; a chat without text is one, and is refused as `unreadable`.
        """
        if self.vectors and (not self.texts or holds_vector(prompt)):
            return Read(prompt, prompt.content if isinstance(prompt, Prompt) else None)
        content = take_content(prompt)
        if isinstance(content, str):
            return Read(content, content, None if content and not content.isspace() else "unreadable")
        text = read_chat(content, self.reads)
        return Read(text, content, self._refuse(content, text))

    def _refuse(self, turns: Sequence[Mapping[str, Any]], text: str) -> Refusal | None:
        last = _last_user(turns)
        request = "" if last is None else message_text(turns[last])
        if not (text if self.reads == "all" else request).strip():
            return "unreadable"
        if self.reads != "all" and last is not None and _has_history(turns[:last]) and needs_context(request):
            return "needs_context"
        if self.reads != "last_user" and self.forms is not None and not self.forms.know(turns, self.reads == "all"):
            return "unseen_form"
        return None


def read_for_training(prompts: Sequence[Prompt], reads: Reads) -> tuple[tuple[Prompt, ...], np.ndarray]:
    """The prompts as texts that are read of them, and bool (n_prompts,): those that a policy would not read."""
    reader = PromptReader(reads)
    texts, refused = [], np.zeros(len(prompts), dtype=bool)
    for number, prompt in enumerate(prompts):
        read = reader.read(prompt)
        refused[number] = read.refusal is not None
        text = read.item if read.item.strip() else prompt.text
        texts.append(prompt if isinstance(prompt.content, str) else Prompt(text, metadata=prompt.metadata))
    return tuple(texts), refused


def read_chat(turns: Sequence[Mapping[str, Any]], reads: Reads) -> str:
    """The text of a chat that is read; "" where it has none. Texts of several messages are joined by a blank line."""
    if reads == "all":
        return "\n\n".join(map(message_text, turns))
    last = _last_user(turns)
    own = [] if last is None else [message_text(turns[last])]
    before = [message_text(turn) for turn in turns if turn["role"] in _SYSTEM] if reads == "system+last_user" else []
    return "\n\n".join([*before, *own])


def take_content(prompt: Any) -> PromptLike:
    """The content of anything that holds a prompt, empty or not: a string, messages, a chat object, a `Prompt`.

    Messages are taken as real chats hold them: with parts, tool calls, null or no content, and as objects of a
    client's library. What JSON cannot hold of them, such as an image, is kept as it is.

    Raises:
        InvalidInput: anything else.
    """
    if isinstance(prompt, Prompt):
        return prompt.content
    if isinstance(prompt, str):
        return replace_surrogates(str.__str__(prompt))
    if isinstance(prompt, Mapping):
        inner = prompt.get("messages", prompt.get("prompt"))
        return as_prompt(prompt).content if inner is None or isinstance(inner, Mapping) else take_content(inner)
    turns = getattr(prompt, "messages", prompt)
    turns = turns.tolist() if hasattr(turns, "tolist") else turns
    if not isinstance(turns, Sequence) or isinstance(turns, (bytes, bytearray)) or not turns:
        raise InvalidInput("prompt", "a string or a list of chat messages", prompt)
    return tuple(_take_turn(turn, f"prompt[{number}]") for number, turn in enumerate(turns))


def _take_turn(turn: Any, name: str) -> dict[str, Any]:
    """A message as a mapping of its own, without keys that hold nothing but for the content."""
    if not isinstance(turn, Mapping):
        dump = getattr(turn, "model_dump", None)
        values = dump() if callable(dump) else getattr(turn, "__dict__", None)
    else:
        values = turn
    if not isinstance(values, Mapping) or not isinstance(values.get("role"), str):
        raise InvalidInput(name, "a message with the string 'role' and a content", turn)
    try:
        values = to_json_value(values)
    except (TypeError, ValueError, RecursionError):
        values = dict(values)
    rest = {key: value for key, value in values.items() if value is not None and key not in ("role", "content")}
    return {"role": values["role"], "content": values.get("content"), **rest}


def _last_user(turns: Sequence[Mapping[str, Any]]) -> int | None:
    return next((number for number in reversed(range(len(turns))) if turns[number]["role"] in _USER), None)


def _has_history(turns: Sequence[Mapping[str, Any]]) -> bool:
    """True where something was said before: system messages are none of a conversation."""
    return any(turn["role"] not in _SYSTEM for turn in turns)
