"""Field values to each engine's own names and ranges, with a receipt.

A decoding configuration means the same everywhere; engines name and limit settings differently. `render` gives it
under an engine's own names and accounts for every field: applied, dropped, clamped or idle. Nothing is lost silently.
The engines themselves are tables (`hagpolicy.config.dialects`), so a new engine is a new table.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hagpolicy.config.dialects import DIALECTS, Dialect, Setting
from hagpolicy.config.fields import NEUTRAL, find_idle_fields
from hagpolicy.errors import InvalidInput, UnsupportedSetting

__all__ = [
    "Message",
    "PromptLike",
    "Receipt",
    "Rendering",
    "Unsupported",
    "apply_hint",
    "keywords",
    "render",
    "render_as",
]

Message = Mapping[str, Any]
PromptLike = str | Sequence[Message]
Unsupported = Literal["error", "warn", "drop"]


@dataclass(frozen=True)
class Receipt:
    """What became of every field of a configuration; fields by our names.

    Attributes:
        applied: fields that the engine is sent as asked, neutral values included.
        dropped: fields that the engine lacks, with the value that was asked.
        clamped: fields out of the engine's range: (asked, sent).
        idle: fields that do nothing beside the others (top_p at temperature 0, drafting beside
            beams), with the value that was asked; sent at their neutral value.
        notes: how the engine's meaning of an applied field differs from ours.
    """

    applied: dict[str, Any] = field(default_factory=dict)
    dropped: dict[str, Any] = field(default_factory=dict)
    clamped: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    idle: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """True when nothing was dropped or clamped."""
        return not self.dropped and not self.clamped


@dataclass(frozen=True)
class Rendering:
    """A configuration under an engine's own names.

    Attributes:
        engine: name of the engine.
        prompt: the prompt with the hint in it.
        kwargs: the engine's own names and values.
        receipt: what became of every field.
        processor_settings: fields that only a logits processor can honour, for `processors`.
    """

    engine: str
    prompt: PromptLike
    kwargs: dict[str, Any]
    receipt: Receipt
    processor_settings: dict[str, float] = field(default_factory=dict)

    @property
    def processors(self) -> list[Any]:
        """Logits processors for transformers' `generate(logits_processor=…)`; empty where none is
        needed. New ones at every access: a processor belongs to one call of `generate`.

        Raises:
            MissingExtra: torch or transformers is not installed.
        """
        if not self.processor_settings:
            return []
        from hagpolicy._extras import require

        feature = "a presence or frequency penalty in transformers"
        _, _, ours = (
            require(name, "sweep", feature)
            for name in ("torch", "transformers", "hagpolicy.engines.transformers.penalties")
        )
        return [ours.AnswerPenalty(**self.processor_settings)]


def apply_hint(prompt: PromptLike, hint: str) -> PromptLike:
    """The prompt with the hint after a blank line: at the end of a string, or of the last user message.

    Chat messages without a user turn get the hint as a new user message.
    """
    if not hint:
        return prompt
    if isinstance(prompt, str):
        return f"{prompt}\n\n{hint}" if prompt else hint
    messages = list(prompt)
    for turn in reversed(range(len(messages))):
        if messages[turn].get("role") == "user":
            content: Any = messages[turn]["content"]
            # Some chat templates take a list of typed parts; the hint then is one more part.
            added = f"{content}\n\n{hint}" if isinstance(content, str) else [*content, {"type": "text", "text": hint}]
            messages[turn] = {**messages[turn], "content": added}
            return tuple(messages)
    return (*messages, {"role": "user", "content": hint})


def render(
    fields: Mapping[str, Any], engine: str, prompt: PromptLike = "", *, unsupported: Unsupported = "error"
) -> Rendering:
    """A configuration under an engine's own names, with a receipt.

    Args:
        fields: values of decoding fields; those left out are neutral.
        engine: "transformers", "vllm", "sglang", "openai", "llama_cpp" or "ollama".
        prompt: a string or chat messages; the hint goes into it.
        unsupported: what to do about a field that the engine lacks or a value beyond its range:
            "error" raises, "warn" warns and drops or clamps, "drop" does so with the receipt only.

    Raises:
        UnsupportedSetting: with "error", naming field and engine.
        InvalidInput: an unknown engine, field or choice for `unsupported`.
    """
    return render_as(DIALECTS[engine], fields, engine, prompt, unsupported=unsupported)


def render_as(
    dialect: Dialect,
    fields: Mapping[str, Any],
    engine: str,
    prompt: PromptLike = "",
    *,
    unsupported: Unsupported = "error",
) -> Rendering:
    """`render`, errors and all, for a dialect that is no engine's own, such as a server's; `engine` is its
    name in messages."""
    if unsupported not in ("error", "warn", "drop"):
        raise InvalidInput("unsupported", "'error', 'warn' or 'drop'", unsupported)
    if unknown := set(fields) - set(NEUTRAL):
        raise InvalidInput("fields", f"only {', '.join(NEUTRAL)}", ", ".join(sorted(unknown)))
    asked = {**NEUTRAL, **fields}
    idle = find_idle_fields(asked)
    receipt = Receipt(idle={name: asked[name] for name in NEUTRAL if name in idle and asked[name] != NEUTRAL[name]})
    kwargs: dict[str, Any] = dict(dialect.always)
    for name, value in asked.items():
        if name in idle:
            value = NEUTRAL[name]
        if name in dialect.settings:
            kwargs |= _translate(name, value, dialect.settings[name], engine, receipt, unsupported)
        elif name in dialect.processors or name == "hint":
            receipt.applied[name] = value
        elif value != NEUTRAL[name]:
            _refuse(name, "a setting that the engine has", value, engine, unsupported)
            receipt.dropped[name] = value
    kwargs |= dialect.greedy if asked["temperature"] == 0.0 else dialect.sampling
    settings = {name: asked[name] for name in sorted(dialect.processors) if asked[name] != NEUTRAL[name]}
    return Rendering(engine, apply_hint(prompt, asked["hint"]), kwargs, receipt, settings)


def keywords(fields: Mapping[str, Any], engine: str) -> dict[str, Any]:
    """A configuration as plain keyword arguments.

    Raises:
        UnsupportedSetting: the engine lacks a field, or keywords cannot express it: a hint belongs to
            the prompt, and some penalties are processors in transformers; `render` gives these.
    """
    rendering = render(fields, engine)
    beyond = {"hint": fields["hint"]} if fields.get("hint") else {}
    for name, value in {**beyond, **rendering.processor_settings}.items():
        raise UnsupportedSetting(
            f"{name} on {engine}",
            "a setting that keyword arguments can say",
            repr(value),
            f"Use render({engine!r}, prompt), which gives prompt, kwargs and processors.",
        )
    return rendering.kwargs


def _translate(
    name: str, value: Any, setting: Setting, engine: str, receipt: Receipt, unsupported: Unsupported
) -> dict[str, Any]:
    """One field as the engine's key and value, entered in the receipt; nothing where it is not set."""
    if value is None:
        return {}
    sent = min(max(value, setting.low), setting.high)
    if sent != value:
        _refuse(name, f"a value in its range, [{setting.low:g}, {setting.high:g}]", value, engine, unsupported)
    if 0 < sent < setting.least_positive:
        sent = setting.least_positive
    if sent != value:
        receipt.clamped[name] = (value, sent)
    else:
        receipt.applied[name] = value
    if setting.note and value != NEUTRAL[name]:
        receipt.notes[name] = setting.note
    return {setting.key: setting.off if setting.off is not ... and sent == NEUTRAL[name] else sent}


def _refuse(name: str, expected: str, value: Any, engine: str, unsupported: Unsupported) -> None:
    if unsupported == "drop":
        return
    error = UnsupportedSetting(
        f"{name} on {engine}", expected, repr(value), "render(…, unsupported='warn' or 'drop') goes on without it."
    )
    if unsupported == "error":
        raise error
    warnings.warn(str(error), stacklevel=3)
