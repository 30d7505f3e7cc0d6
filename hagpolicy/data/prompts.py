"""`Prompt`: what the user sends, with what is needed to score and to group it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hagpolicy._digest import digest
from hagpolicy._files import read_jsonl
from hagpolicy.config.render import PromptLike
from hagpolicy.errors import InvalidInput


def prompt_text(content: PromptLike) -> str:
    """The text a policy reads: the string itself, or the contents of all turns in their order.

    One user message reads as the same text as the bare string, so a policy fitted on strings
    decides alike for chat messages.
    """
    if isinstance(content, str):
        return content
    return "\n\n".join(message["content"] for message in content)


def to_messages(content: PromptLike) -> list[dict[str, Any]]:
    """The turns of a prompt as plain mappings of their own; a string is one user message."""
    turns = [{"role": "user", "content": content}] if isinstance(content, str) else content
    return [dict(turn) for turn in turns]


def check_content(content: object, name: str = "prompt") -> PromptLike:
    """`content` as a string or a tuple of role/content mappings.

    Raises:
        InvalidInput: another type, no message, a message without role and content, or no text.
    """
    if isinstance(content, str):
        if not content.strip():
            raise InvalidInput(name, "text", "an empty prompt", "Remove it or give it text.")
        return content
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray)) or not content:
        raise InvalidInput(name, "a string or a list of chat messages", content)
    messages = []
    for turn, message in enumerate(content):
        if (
            not isinstance(message, Mapping)
            or not isinstance(message.get("role"), str)
            or not isinstance(message.get("content"), str)
        ):
            raise InvalidInput(f"{name}[{turn}]", "a mapping with the strings 'role' and 'content'", message)
        messages.append({"role": message["role"], "content": message["content"]})
    if not any(message["content"].strip() for message in messages):
        raise InvalidInput(name, "text", "messages without any text", "Remove it or give it text.")
    return tuple(messages)


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        content: a string, or chat messages: mappings with `role` and `content`.
        reference: what a scorer compares with: any JSON value, None where nothing is needed.
        task: the kind of prompt; chooses its scorer, the rows of reports, "best per task".
        group: prompts of one group are not independent and stay together in folds and in the
            bootstrap; None: the prompt stands alone (exact duplicates are joined all the same).
        id: the caller's own name for it; None: none.
        metadata: further JSON values, stored and otherwise unused.
        digest: identity, of all of these, 32 hex digits.

    Raises:
        InvalidInput: empty content or a field of the wrong type.
    """

    content: PromptLike
    reference: Any = None
    task: str = ""
    group: str | None = None
    id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    digest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        name = f"prompt {self.id!r}" if self.id is not None else "prompt"
        object.__setattr__(self, "content", check_content(self.content, name))
        if not isinstance(self.task, str):
            raise InvalidInput(f"{name}.task", "a string", self.task)
        for label in ("group", "id"):
            value = getattr(self, label)
            if value is not None and not isinstance(value, str):
                raise InvalidInput(f"{name}.{label}", "a string or None", value)
        try:
            object.__setattr__(self, "metadata", dict(self.metadata))
            object.__setattr__(self, "digest", digest(self.to_dict()))
        except (TypeError, ValueError) as error:
            raise InvalidInput(name, "reference and metadata that JSON can hold", str(error)) from error

    @cached_property
    def text(self) -> str:
        """The text a policy reads; see `prompt_text`."""
        return prompt_text(self.content)

    @cached_property
    def normalised(self) -> str:
        """The text after `normalise`: equal for exact duplicates."""
        return normalise(self.text)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able mapping that `Prompt.from_dict` reads back."""
        content = self.content if isinstance(self.content, str) else [dict(message) for message in self.content]
        rest = {"reference": self.reference, "group": self.group, "id": self.id}
        rest = {name: value for name, value in rest.items() if value is not None}
        rest |= {name: value for name, value in {"task": self.task, "metadata": self.metadata}.items() if value}
        return {"prompt": content, **rest}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Prompt:
        """Build from a mapping: `prompt` (or `messages`), and optional reference, task, group, id,
        metadata; other keys are kept in metadata.

        Raises:
            InvalidInput: no prompt, or a field of the wrong type.
        """
        values = dict(values)
        content = values.pop("prompt", None)
        messages = values.pop("messages", None)
        if (content is None) == (messages is None):
            raise InvalidInput("prompt", "exactly one of the keys 'prompt' and 'messages'", sorted(values))
        known = {name: values.pop(name) for name in ("reference", "task", "group", "id") if name in values}
        if known.get("task") is None:
            known.pop("task", None)
        metadata = values.pop("metadata", None) or {}
        if not isinstance(metadata, Mapping):
            raise InvalidInput("prompt.metadata", "a mapping or null", metadata)
        metadata = {**metadata, **values}
        return cls(content if messages is None else messages, **known, metadata=metadata)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prompt) and self.digest == other.digest


def as_prompt(value: Prompt | PromptLike | Mapping[str, Any]) -> Prompt:
    """A `Prompt` from a `Prompt`, a string, chat messages or a mapping."""
    if isinstance(value, Prompt):
        return value
    return Prompt.from_dict(value) if isinstance(value, Mapping) else Prompt(value)


def as_prompts(source: str | Path | Iterable[Prompt | PromptLike | Mapping[str, Any]]) -> tuple[Prompt, ...]:
    """Prompts from a file (`read_prompts`) or any iterable of what `as_prompt` takes (a `datasets.Dataset` too).

    Raises:
        InvalidInput: no prompt at all, two prompts with one id, or a bad prompt (its number is named).
    """
    if isinstance(source, Path) or (isinstance(source, str) and source.endswith((".jsonl", ".parquet"))):
        return read_prompts(source)
    if isinstance(source, str):
        raise InvalidInput("prompts", "a list of prompts, or the path of a .jsonl or .parquet file", source)
    one = isinstance(source, Mapping) and ("prompt" in source or "messages" in source)
    if one or not isinstance(source, Iterable):
        raise InvalidInput("prompts", "a list of prompts, or the path of a file", source)
    return _collect((f"prompt {number}", value) for number, value in enumerate(source))


def read_prompts(path: str | Path) -> tuple[Prompt, ...]:
    """Prompts of a JSONL or Parquet file: one a line or row, with the keys of `Prompt.from_dict`.

    Args:
        path: ends in .parquet, else it is read as JSONL.

    Raises:
        InvalidInput: an unreadable file, line or prompt; the message names file and line.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        from hagpolicy._extras import require

        parquet = require("pyarrow.parquet", "fit", "reading Parquet")
        try:
            rows = parquet.read_table(path).to_pylist()
        except (OSError, ValueError) as error:
            raise InvalidInput(f"prompts file {path}", "a readable Parquet file", str(error)) from error
        return _collect((f"{path}, row {number}", row) for number, row in enumerate(rows))
    return _collect(read_jsonl(path, "prompts file"))


def _collect(named: Iterable[tuple[str, Any]]) -> tuple[Prompt, ...]:
    prompts: list[Prompt] = []
    seen: dict[str, str] = {}
    for where, value in named:
        try:
            prompt = as_prompt(value)
        except InvalidInput as error:
            raise InvalidInput(where, "a prompt", str(error)) from error
        if prompt.id is not None and seen.setdefault(prompt.id, where) != where:
            raise InvalidInput(where, "ids that differ", f"id {prompt.id!r}, which {seen[prompt.id]} has too")
        prompts.append(prompt)
    if not prompts:
        raise InvalidInput("prompts", "at least one prompt", "none")
    return tuple(prompts)


def normalise(text: str) -> str:
    """Text after Unicode (NFKC) and whitespace normalisation: equal for exact duplicates."""
    return " ".join(unicodedata.normalize("NFKC", text).split())
