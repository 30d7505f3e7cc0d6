"""`Prompt`: what the user sends, with what is needed to score and to group it."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from typing import Any

from hagpolicy._checks import is_number, is_whole
from hagpolicy._digest import canonical_json, digest_bytes
from hagpolicy._names import suggest
from hagpolicy._text import replace_surrogates
from hagpolicy.config.constraints import Constraint
from hagpolicy.config.render import PromptLike
from hagpolicy.data.formats import PROMPT_FILES, read_rows, to_own_keys
from hagpolicy.data.rows import FIELDS, is_missing, keep_json_columns, list_rows, to_json_value
from hagpolicy.errors import InvalidInput

_MESSAGE = "a mapping with the strings 'role' and 'content'"


def prompt_text(content: PromptLike) -> str:
    """The text a policy reads: the string itself, or the contents of all turns in their order.

    One user message reads as the same text as the bare string, so a policy fitted on strings
    decides alike for chat messages.
    """
    if isinstance(content, str):
        return content
    return "\n\n".join(message_text(message) for message in content)


def message_text(message: Mapping[str, Any]) -> str:
    """The text of one chat message: its content, or the text of the content's parts, a line each; "" without any."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        return ""
    texts = (part.get("text") if isinstance(part, Mapping) else part for part in content)
    return "\n".join(text for text in texts if isinstance(text, str))


def to_messages(content: PromptLike) -> list[dict[str, Any]]:
    """The turns of a prompt as plain mappings of their own; a string is one user message."""
    turns = [{"role": "user", "content": content}] if isinstance(content, str) else content
    return [dict(turn) for turn in turns]


def check_content(content: object, name: str = "prompt") -> PromptLike:
    """`content` as a string or a tuple of chat messages, each with all of its keys; half a surrogate pair is "?".

    Raises:
        InvalidInput: another type, no message, a message without role and content, or no text.
    """
    if isinstance(content, str):
        if not content.strip():
            raise InvalidInput(name, "text", "an empty prompt", "Remove it or give it text.")
        return replace_surrogates(str.__str__(content))
    if hasattr(content, "tolist"):  # Parquet through pandas gives arrays of messages
        content = content.tolist()
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray)) or not content:
        raise InvalidInput(name, "a string or a list of chat messages", content)
    messages = tuple(_check_message(message, f"{name}[{turn}]") for turn, message in enumerate(content))
    if not prompt_text(messages).strip():
        raise InvalidInput(name, "text", "messages without any text", "Remove it or give it text.")
    return messages


def _check_message(message: Any, name: str) -> dict[str, Any]:
    """The message as JSON holds it; a key without a value is one that is not there (but for the content).

    Raises:
        InvalidInput: no role; or a content that is no text, no list of typed parts, and not left out beside tool calls.
    """
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise InvalidInput(name, _MESSAGE, message)
    try:
        made = {key: value for key, value in to_json_value(message).items() if value is not None}
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(name, "a message that JSON can hold", str(error)) from error
    content = made.get("content")
    if isinstance(content, list):
        if not all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in content):
            raise InvalidInput(name, f"{_MESSAGE}, or a content of parts with a type", message)
    elif not isinstance(content, str) and (content is not None or set(made) <= {"role", "name"}):
        raise InvalidInput(name, _MESSAGE, message)
    # In this order: it is that of messages stored before, and of every chat template's example.
    rest = {key: value for key, value in made.items() if key not in ("role", "content")}
    return {"role": made["role"], "content": content, **rest}


def _check_label(value: Any, name: str) -> str | None:
    """A name as text, a whole number as its digits (data frames with gaps hold 7 as 7.0); None for a missing one."""
    if hasattr(value, "tolist") and getattr(value, "shape", None) == ():  # an array or tensor of one number
        value = value.tolist()
    if is_missing(value):
        return None
    whole = is_number(value) and value == value // 1
    try:
        text = str(int(value)) if whole else value
    except ValueError as error:  # more digits than Python writes
        raise InvalidInput(name, "a string, a whole number or None", str(error)) from error
    if not isinstance(text, str):
        raise InvalidInput(name, "a string, a whole number or None", value)
    return replace_surrogates(str.__str__(text))


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        content: a string, or chat messages: mappings with `role` and `content` (a string, or a list of parts with a
            `type`; None beside other keys), and any further keys, such as `tool_calls`.
        reference: what a scorer compares with: any JSON value, None where nothing is needed.
        task: the kind of prompt; chooses its scorer, the rows of reports, "best per task".
        group: prompts of one group are not independent and stay together in folds and in the
            bootstrap; None: the prompt stands alone (exact duplicates are joined all the same).
        id: the caller's own name for it; None: none. A whole number, here or as group, is its digits.
        constraint: what the answer has to be (a `Constraint`, its mapping, or the JSON text of one); None: anything. It
            is met as a config's `constrain` says.
        metadata: further JSON values, stored and otherwise unused.
        digest: identity, of all of these, 32 hex digits.

    Half a surrogate pair, which UTF-8 cannot hold, is "?" in all of these.

    Raises:
        InvalidInput: empty content or a field of the wrong type.
    """

    content: PromptLike
    reference: Any = None
    task: str = ""
    group: str | None = None
    id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    constraint: Constraint | None = None
    digest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        name = f"prompt {self.id!r:.80}" if isinstance(self.id, str) else "prompt"
        object.__setattr__(self, "content", check_content(self.content, name))
        if not isinstance(self.task, str):
            raise InvalidInput(f"{name}.task", "a string", self.task)
        object.__setattr__(self, "task", str.__str__(self.task))
        for label in ("group", "id"):
            object.__setattr__(self, label, _check_label(getattr(self, label), f"{name}.{label}"))
        object.__setattr__(self, "constraint", Constraint.parse(self.constraint))
        try:
            object.__setattr__(self, "metadata", dict(self.metadata))
            if (data := _encode(self.to_dict())) is None:
                for label in ("reference", "task", "metadata"):
                    object.__setattr__(self, label, to_json_value(getattr(self, label)))
                data = canonical_json(self.to_dict()).encode("utf-8")
            object.__setattr__(self, "digest", digest_bytes(data))
        except (TypeError, ValueError, RecursionError) as error:
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
        said = {} if self.constraint is None else {"constraint": self.constraint.to_dict()}
        return {"prompt": content, **rest, **said}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Prompt:
        """Build from a mapping: `prompt` (or `messages`), and optional reference, task, group, id,
        constraint, metadata; other keys are kept in metadata, as far as JSON can hold them.

        Raises:
            InvalidInput: no prompt, or a field of the wrong type.
        """
        values = dict(values)
        content, messages = (values.pop(key, None) for key in ("prompt", "messages"))
        content, messages = (None if is_missing(value) else value for value in (content, messages))
        if (content is None) == (messages is None):
            raise InvalidInput("prompt", "exactly one of the keys 'prompt' and 'messages'", _describe_keys(values))
        known = {name: values.pop(name) for name in FIELDS if name in values}
        if is_missing(known.get("task")):
            known.pop("task", None)
        if is_missing(known.get("constraint")):
            known.pop("constraint", None)
        metadata = known.pop("metadata", None)
        metadata = {} if is_missing(metadata) else metadata
        if not isinstance(metadata, Mapping):
            raise InvalidInput("prompt.metadata", "a mapping or null", metadata)
        chosen: Any = content if messages is None else messages
        return cls(chosen, **known, metadata=keep_json_columns({**metadata, **values}))

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prompt) and self.digest == other.digest


def as_prompt(value: Prompt | PromptLike | Mapping[str, Any]) -> Prompt:
    """A `Prompt` from a `Prompt`, a string, chat messages or a mapping, also one of `formats.to_own_keys`."""
    if isinstance(value, Prompt):
        return value
    return Prompt.from_dict(to_own_keys(value)) if isinstance(value, Mapping) else Prompt(value)


def as_prompts(
    source: str | os.PathLike[str] | Iterable[Prompt | PromptLike | Mapping[str, Any]],
) -> tuple[Prompt, ...]:
    """Prompts from a file (`read_prompts`) or from any collection of what `as_prompt` takes (see `rows.list_rows`):
    a list, an iterator, a data frame, a `datasets.Dataset`.

    Raises:
        InvalidInput: no prompt at all, two prompts with one id, or a bad prompt (its number is named).
    """
    if isinstance(source, os.PathLike) or (isinstance(source, str) and source.endswith(PROMPT_FILES)):
        return read_prompts(source)
    if isinstance(source, str):
        raise InvalidInput("prompts", f"a list of prompts, or the path of a file ({', '.join(PROMPT_FILES)})", source)
    rows = list_rows(source)
    if rows and all(isinstance(row, Mapping) and {"role", "content"} <= row.keys() for row in rows):
        raise InvalidInput("prompts", "a list of prompts", "the messages of one", "Give a list of lists of messages.")
    return _collect((f"prompt {number}", _fill_missing(row)) for number, row in enumerate(rows))


def read_prompts(
    path: str | os.PathLike[str],
    *more: str | os.PathLike[str],
    keys: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> tuple[Prompt, ...]:
    """Prompts of files: JSONL (one a line), a JSON array, CSV or Parquet, with the keys of `Prompt.from_dict`; requests
    of OpenAI's batch format; samples that lm-eval logged; a log of inspect. See `formats.read_rows`.

    Args:
        path: ends in .parquet, .json, .csv, .tsv, .eval or .txt (a line a prompt), else it is read as JSONL.
        more: further files, read after it.
        keys: what the files call a key of ours, such as {"prompt": "question", "reference": "answer"}.
        limit: so many prompts at most, the first ones, at least 1; no more is read.

    Raises:
        InvalidInput: an unreadable file, line or prompt, or a key that is not there; the message names file and line.
    """
    return collect_prompts(chain.from_iterable(read_rows(one) for one in (path, *more)), keys=keys, limit=limit)


def collect_prompts(
    rows: Iterable[tuple[str, Any]], *, keys: Mapping[str, str] | None = None, limit: int | None = None
) -> tuple[Prompt, ...]:
    """Prompts of what was read, each with its place for messages; see `read_prompts`."""
    if limit is not None and not is_whole(limit, 1):
        raise InvalidInput("limit", "a whole number of at least 1", limit)
    unknown = sorted(set(keys or ()) - {"prompt", "messages", *FIELDS})
    if unknown:
        expected = f"keys of a prompt: {', '.join(dict.fromkeys(('prompt', 'messages', *FIELDS)))}"
        raise InvalidInput("keys", expected, unknown[0], suggest(unknown[0], ("prompt", "messages", *FIELDS)))
    return _collect(islice(((where, _rename(where, row, keys or {})) for where, row in rows), limit))


def _rename(where: str, row: Any, keys: Mapping[str, str]) -> Any:
    """A row with our own keys in place of the file's."""
    if not keys or not isinstance(row, Mapping):
        return row
    missing = [theirs for theirs in keys.values() if theirs not in row]
    if missing:
        raise InvalidInput(
            where, f"the key {missing[0]!r}", _describe_keys(dict(row)), suggest(missing[0], map(str, row))
        )
    rest = {name: value for name, value in row.items() if name not in keys.values()}
    return {**rest, **{ours: row[theirs] for ours, theirs in keys.items()}}


def _fill_missing(row: Any) -> Any:
    """The row with None for the missing values of a data frame in the keys that are read."""
    if not isinstance(row, Mapping):
        return row
    return {name: None if name in FIELDS and is_missing(value) else value for name, value in row.items()}


def _encode(values: dict[str, Any]) -> bytes | None:
    """Canonical JSON in UTF-8; None where the values are not plain JSON, or hold half a surrogate pair."""
    try:
        return canonical_json(values).encode("utf-8")
    except (TypeError, ValueError):
        return None


def _describe_keys(values: Mapping[Any, Any]) -> str:
    return f"the keys {', '.join(sorted(map(str, values)))}" if values else "none"


def _collect(named: Iterable[tuple[str, Any]]) -> tuple[Prompt, ...]:
    prompts: list[Prompt] = []
    seen: dict[str, str] = {}
    for where, value in named:
        try:
            prompt = as_prompt(value)
        except InvalidInput as error:
            # The place in front of what was wrong with it: not an error within another.
            raise InvalidInput(f"{where}: {error.field}", error.expected, error.got, error.do) from error
        if prompt.id is not None and seen.setdefault(prompt.id, where) != where:
            raise InvalidInput(where, "ids that differ", f"id {prompt.id!r}, which {seen[prompt.id]} has too")
        prompts.append(prompt)
    if not prompts:
        raise InvalidInput("prompts", "at least one prompt", "none")
    return tuple(prompts)


def normalise(text: str) -> str:
    """Text after Unicode (NFKC) and whitespace normalisation: equal for exact duplicates."""
    return " ".join(unicodedata.normalize("NFKC", text).split())
