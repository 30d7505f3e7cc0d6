"""Field values to each engine's own names and ranges, with a receipt.

A decoding configuration means the same everywhere; engines name and limit settings differently. `render` gives it
under an engine's own names and accounts for every field: applied, dropped, clamped or idle. Nothing is lost silently.
The engines themselves are tables (`hagpolicy.config.dialects`), so a new engine is a new table.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hagpolicy.config.constraints import ASK, MASK, RETRY, Constraint
from hagpolicy.config.dialects import DIALECTS, Dialect, Setting
from hagpolicy.config.fields import ARTEFACT_FIELDS, NEUTRAL, SPECS, find_idle_fields, split_pin
from hagpolicy.config.slots import describe_slots, fill_slots
from hagpolicy.errors import InvalidInput, UnsupportedSetting

__all__ = [
    "Message",
    "PromptLike",
    "Receipt",
    "Rendering",
    "Unsupported",
    "append_text",
    "apply_hint",
    "ask_for",
    "fill_hint",
    "insert_before_request",
    "keywords",
    "merge_objects",
    "render",
    "render_as",
    "takes_hint",
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
        idle: fields that do nothing beside the others (top_p at temperature 0, drafting beside beams) or for this
            prompt (a hint that it fills no slot of), with the value that was asked; sent at their neutral value, and
            not entered as applied.
        notes: how the engine's meaning of an applied field differs from ours; that its neutral value is not sent; or
            why no config with another value could be had in a call of a wrapped model.
        overruled: fields that a policy decided though the caller had set them, with the caller's values.
    """

    applied: dict[str, Any] = field(default_factory=dict)
    dropped: dict[str, Any] = field(default_factory=dict)
    clamped: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    idle: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    overruled: dict[str, Any] = field(default_factory=dict)

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
        beside: what the engine takes beside the keywords, under its own names: "chat_template_kwargs" for
            transformers' `apply_chat_template`, vLLM's `LLM.chat` and llama.cpp's chats; Ollama's "think".
    """

    engine: str
    prompt: PromptLike
    kwargs: dict[str, Any]
    receipt: Receipt
    processor_settings: dict[str, float] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=dict)

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

    Slots of the hint are filled here, for every engine alike (`fill_hint`); where the prompt has nothing for one, the
    hint is left out. Of a message in parts it ends the last part that is text. Chat messages without a user turn get it
    as a new user message, one without text as a part of its own.
    """
    return append_text(prompt, fill_hint(prompt, hint))


def ask_for(prompt: PromptLike, hint: str, constraint: Constraint | None, constrain: str) -> PromptLike:
    """The prompt with the hint (`apply_hint`) and, where the config asks for it, the prompt's constraint in words.

    Args:
        prompt: a string or chat messages.
        hint: of the config; "": none.
        constraint: of the prompt; None: none.
        constrain: of the config.
    """
    prompt = apply_hint(prompt, hint)
    return prompt if constraint is None or constrain != ASK else append_text(prompt, constraint.describe())


def append_text(prompt: PromptLike, text: str) -> PromptLike:
    """The prompt with a text after a blank line, at the place that `apply_hint` names; unchanged for an empty one."""
    if not text:
        return prompt
    if isinstance(prompt, str):
        return f"{prompt}\n\n{text}" if prompt else text
    turn = _find_last_user(prompt)
    if turn is None:
        return (*prompt, {"role": "user", "content": text})
    content: Any = prompt[turn].get("content")
    if isinstance(content, list | tuple) and content:
        at = _find_last_text(content)
        if at is None:
            content = [*content, {"type": "text", "text": text}]
        else:
            # A chat template joins parts with nothing between them, so the blank line is ours.
            part = {**content[at], "text": f"{content[at]['text']}\n\n{text}"}
            content = [*content[:at], part, *content[at + 1 :]]
    else:
        content = f"{content}\n\n{text}" if isinstance(content, str) and content else text
    return (*prompt[:turn], {**prompt[turn], "content": content}, *prompt[turn + 1 :])


def fill_hint(prompt: PromptLike, hint: str) -> str:
    """The hint as this prompt gets it: its slots filled (`slots.fill_slots`) from the string, or from the text of the
    last user message; "" where that has nothing for one of them, so that none is sent bare. Filled, it stays as it is.
    """
    return fill_slots(hint, _read_request(prompt)) if "{" in hint else hint


def insert_before_request(prompt: PromptLike, text: str) -> PromptLike | None:
    """The prompt with a text where the request begins: before the first word of the last user message, or of a string.

    Of a message in parts it goes into the first part that is text. None where there is no such message or text.
    """
    if isinstance(prompt, str):
        return _insert_at_word(prompt, text)
    turn = _find_last_user(prompt)
    content: Any = None if turn is None else prompt[turn].get("content")
    if isinstance(content, list | tuple):
        at = next((at for at, part in enumerate(content) if _is_text(part)), len(content))
        inside = [_insert_at_word(part["text"], text) for part in content[at : at + 1]]
        parts = [{**content[at], "text": words} for words in inside if words is not None]
        content = [*content[:at], *parts, *content[at + 1 :]] if parts else None
    else:
        content = _insert_at_word(content, text) if isinstance(content, str) else None
    if turn is None or content is None:
        return None
    return (*prompt[:turn], {**prompt[turn], "content": content}, *prompt[turn + 1 :])


def _insert_at_word(whole: str, text: str) -> str | None:
    """A text with another before its first word; None where it has none. Templates may strip what precedes a word."""
    words = whole.lstrip()
    return f"{whole[: len(whole) - len(words)]}{text}{words}" if words else None


def takes_hint(prompt: PromptLike) -> bool:
    """Whether a hint can follow words of the user: in a text, or in a chat whose last user message holds text."""
    if isinstance(prompt, str):
        return bool(prompt)
    turn = _find_last_user(prompt)
    content: Any = None if turn is None else prompt[turn].get("content")
    if isinstance(content, list | tuple):
        return _find_last_text(content) is not None
    return isinstance(content, str) and bool(content)


def _read_request(prompt: PromptLike) -> str:
    """The text of the last user message, its parts a line each; a string is one."""
    if isinstance(prompt, str):
        return prompt
    turn = _find_last_user(prompt)
    content: Any = None if turn is None else prompt[turn].get("content")
    if isinstance(content, list | tuple):
        texts = (part.get("text") for part in content if isinstance(part, Mapping))
        return "\n".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _find_last_user(turns: Sequence[Message]) -> int | None:
    """Index of the last user message."""
    return next((at for at in reversed(range(len(turns))) if turns[at].get("role") == "user"), None)


def _find_last_text(parts: Sequence[Any]) -> int | None:
    """Index of the last part that is text."""
    return max((at for at, part in enumerate(parts) if _is_text(part)), default=None)


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("text"), str)


def render(
    fields: Mapping[str, Any],
    engine: str,
    prompt: PromptLike = "",
    *,
    unsupported: Unsupported = "error",
    constraint: Constraint | None = None,
) -> Rendering:
    """A configuration under an engine's own names, with a receipt.

    Args:
        fields: values of decoding fields; those left out are neutral.
        engine: "transformers", "vllm", "sglang", "openai", "llama_cpp" or "ollama".
        prompt: a string or chat messages; the hint goes into it.
        unsupported: what to do about a field that the engine lacks or a value beyond its range:
            "error" raises, "warn" warns and drops or clamps, "drop" does so with the receipt only.
        constraint: of the prompt; it goes into the prompt in words, or to an engine that masks tokens itself.

    Raises:
        UnsupportedSetting: with "error", naming field and engine.
        InvalidInput: an unknown engine, field or choice for `unsupported`.
    """
    return render_as(DIALECTS[engine], fields, engine, prompt, unsupported=unsupported, constraint=constraint)


def render_as(
    dialect: Dialect,
    fields: Mapping[str, Any],
    engine: str,
    prompt: PromptLike = "",
    *,
    unsupported: Unsupported = "error",
    leave_out: Collection[str] = (),
    constraint: Constraint | None = None,
) -> Rendering:
    """`render`, errors and all, for a dialect that is no engine's own, such as a server's; `engine` is its
    name in messages, and `leave_out` names further fields whose neutral value is not sent."""
    if unsupported not in ("error", "warn", "drop"):
        raise InvalidInput("unsupported", "'error', 'warn' or 'drop'", unsupported)
    if unknown := set(fields) - set(NEUTRAL):
        raise InvalidInput("fields", f"only {', '.join(NEUTRAL)}", ", ".join(sorted(unknown)))
    asked = {**NEUTRAL, **fields}
    if asked["unset"]:
        return _render_unset(dialect, asked, engine, prompt)
    _refuse_lacking(dialect, asked, engine, unsupported, constraint)
    idle = find_idle_fields(asked)
    receipt = Receipt(idle={name: asked[name] for name in NEUTRAL if name in idle and asked[name] != NEUTRAL[name]})
    kwargs: dict[str, Any] = dict(dialect.always)
    beside: dict[str, Any] = {}
    for name, value in asked.items():
        if name in idle:
            value = NEUTRAL[name]
        if name in dialect.settings and SPECS[name].unsaid and value == NEUTRAL[name]:
            continue
        if name in dialect.settings and value == NEUTRAL[name] and (name in dialect.optional or name in leave_out):
            receipt.applied[name] = value
            receipt.notes[name] = "not sent, being neutral"
        elif name in dialect.settings:
            made = _translate(name, value, dialect.settings[name], receipt, idle=name in receipt.idle)
            if dialect.settings[name].beside:
                beside = merge_objects(beside, made)
            else:
                kwargs = merge_objects(kwargs, made)
        elif name == "constrain":
            kwargs |= _enter_constraint(dialect, value, constraint, receipt)
        elif name in dialect.processors or name == "hint":
            if name not in receipt.idle:
                receipt.applied[name] = value
        elif value != NEUTRAL[name]:
            receipt.dropped[name] = value
    kwargs |= dialect.greedy if asked["temperature"] == 0.0 else dialect.sampling
    settings = {name: asked[name] for name in sorted(dialect.processors) if asked[name] != NEUTRAL[name]}
    hint = _fill_and_enter(receipt, prompt, asked["hint"])
    prompt = ask_for(prompt, hint, constraint, asked["constrain"])
    return Rendering(engine, prompt, kwargs, receipt, settings, beside)


def merge_objects(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two JSON objects in one: what stands in both is the other's, but objects in both are merged themselves."""
    merged = {**one, **other}
    for key in one.keys() & other.keys():
        if isinstance(one[key], Mapping) and isinstance(other[key], Mapping):
            merged[key] = merge_objects(one[key], other[key])
    return merged


def _can_mask(dialect: Dialect, constraint: Constraint | None) -> bool:
    """Whether the engine masks tokens for a constraint, or for some where none is given."""
    return constraint.kind in dialect.masks if constraint is not None else bool(dialect.masks)


def _enter_constraint(
    dialect: Dialect, constrain: str, constraint: Constraint | None, receipt: Receipt
) -> dict[str, Any]:
    """What the engine is sent for a way to meet the constraint, entered in the receipt."""
    if constrain == MASK and not _can_mask(dialect, constraint):
        receipt.dropped["constrain"] = constrain
        return {}
    receipt.applied["constrain"] = constrain
    if constrain and constraint is None:
        receipt.notes["constrain"] = "nothing to be met: no constraint was given"
    elif constrain == RETRY:
        receipt.notes["constrain"] = "for whoever reads the answer: checked, and asked for again, by engines of a sweep"
    return dialect.masks[constraint.kind](constraint) if constrain == MASK and constraint is not None else {}


def _fill_and_enter(receipt: Receipt, prompt: PromptLike, hint: str) -> str:
    """The hint as the prompt gets it, what became of its slots entered; where settings alone are asked for, without a
    prompt, nothing did."""
    filled = fill_hint(prompt, hint)
    if prompt and (note := describe_slots(hint, filled)):
        receipt.notes["hint"] = note
        if not filled:
            receipt.idle["hint"] = receipt.applied.pop("hint")
    return filled


def _render_unset(dialect: Dialect, asked: Mapping[str, Any], engine: str, prompt: PromptLike) -> Rendering:
    """Nothing but the limit, and the hint in the prompt: what the engine then does is its own."""
    receipt = Receipt(applied={"hint": asked["hint"], "unset": True})
    kwargs = {}
    if "max_tokens" in dialect.settings:
        kwargs = _translate("max_tokens", asked["max_tokens"], dialect.settings["max_tokens"], receipt)
    hint = _fill_and_enter(receipt, prompt, asked["hint"])
    return Rendering(engine, apply_hint(prompt, hint), kwargs, receipt)


def keywords(fields: Mapping[str, Any], engine: str) -> dict[str, Any]:
    """A configuration as plain keyword arguments.

    Raises:
        UnsupportedSetting: the engine lacks a field, or keywords cannot express it: a hint belongs to
            the prompt, thinking to the chat template, and some penalties are processors in transformers; `render`
            gives these.
    """
    rendering = render(fields, engine)
    settings, said = DIALECTS[engine].settings, rendering.receipt.applied
    beyond = {"hint": fields["hint"]} if fields.get("hint") else {}
    beyond |= {name: value for name, value in said.items() if name in settings and settings[name].beside}
    for name, value in {**beyond, **rendering.processor_settings}.items():
        raise UnsupportedSetting(
            f"{name} on {engine}",
            "a setting that keyword arguments can say",
            repr(value),
            f"Use render({engine!r}, prompt), which gives prompt, kwargs, processors and what stands beside these.",
        )
    return rendering.kwargs


def _translate(name: str, value: Any, setting: Setting, receipt: Receipt, *, idle: bool = False) -> dict[str, Any]:
    """One field as the engine's key and value, entered in the receipt; nothing where it is not set."""
    if value is None:
        return {}
    if name in ARTEFACT_FIELDS:
        receipt.applied[name] = value
        return setting.write(split_pin(value)[0]) if value else {}
    if isinstance(value, str) and not setting.takes(value):  # there is no nearest word to send in its place
        receipt.dropped[name] = value
        return {}
    sent = value if isinstance(value, str | bool) else min(max(value, setting.low), setting.high)
    if not isinstance(sent, str) and 0 < sent < setting.least_positive:
        sent = setting.least_positive
    if sent != value:
        receipt.clamped[name] = (value, sent)
    elif not idle:  # what was asked of an idle field is entered as such
        receipt.applied[name] = value
    if setting.note and value != NEUTRAL[name]:
        receipt.notes[name] = setting.note
    return setting.write(setting.off if setting.off is not ... and sent == NEUTRAL[name] else sent)


def _refuse_lacking(
    dialect: Dialect,
    asked: Mapping[str, Any],
    engine: str,
    unsupported: Unsupported,
    constraint: Constraint | None,
) -> None:
    """Raise or warn, once, about all fields that the engine lacks or does not take at these values."""
    if unsupported == "drop":
        return
    idle = find_idle_fields(asked)
    lacking: list[str] = []
    beyond: list[str] = []
    for name, value in asked.items():
        if name in idle or value == NEUTRAL[name] or value is None:
            continue
        masked = name != "constrain" or value != MASK or _can_mask(dialect, constraint)
        if name not in dialect.handles or not masked:
            lacking.append(name)
        elif name in dialect.settings and not dialect.settings[name].takes(value):
            beyond.append(name)
    if not lacking and not beyond:
        return
    if unsupported == "warn":
        warnings.warn(_describe_losses(dialect, asked, engine, lacking, beyond), stacklevel=4)
        return
    names = [*lacking, *beyond]
    ranges = [f"{name} in {_describe_range(dialect.settings[name])}" for name in beyond]
    what = "a setting that the engine has" if len(lacking) == 1 else "settings that the engine has"
    expected = ", ".join([*([what] if lacking else []), *ranges])
    values = ", ".join(repr(asked[name]) if len(names) == 1 else f"{name}={asked[name]!r}" for name in names)
    do = "render(…, unsupported='warn' or 'drop') goes on without " + ("it." if len(names) == 1 else "them.")
    raise UnsupportedSetting(f"{', '.join(names)} on {engine}", expected, values, do)


def _describe_losses(
    dialect: Dialect, asked: Mapping[str, Any], engine: str, lacking: Sequence[str], beyond: Sequence[str]
) -> str:
    """What became of the fields that an engine lacks or does not take at these values, for a warning."""
    parts = []
    if lacking:
        parts.append("left out, since it has no such setting: " + ", ".join(f"{n}={asked[n]!r}" for n in lacking))
    for name in beyond:
        setting = dialect.settings[name]
        if setting.choices:
            parts.append(f"{name}={asked[name]!r} left out, since it takes {_describe_range(setting)}")
            continue
        sent = min(max(asked[name], setting.low), setting.high)
        parts.append(f"{name}={asked[name]!r} sent as {sent:g}, since it takes {_describe_range(setting)}")
    return f"{engine}: {'; '.join(parts)}"


def _describe_range(setting: Setting) -> str:
    if setting.choices:
        return f"{', '.join(setting.choices[:-1])} or {setting.choices[-1]}"
    return f"[{setting.low:g}, {setting.high:g}]"
