"""From prompts to token ids, for engines that hold the model's tokenizer themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.dialects import OF_CHATS, TEMPLATE, TRANSFORMERS
from hagpolicy.config.render import ask_for, insert_before_request, render_as
from hagpolicy.data.answers import ends_reasoning, opens_reasoning
from hagpolicy.data.completion import Completion, Request
from hagpolicy.data.prompts import prompt_text, to_messages

__all__ = [
    "PROMPT_FIELDS",
    "count_before_request",
    "encode",
    "encode_unit",
    "list_template_fields",
    "make_template_keywords",
    "take_unfinished_thought",
]

# Of the private use area: no text of people's, and nothing that a template takes for a space.
_MARK = "\ue0b7\ue0b8"
# What a template that honours a field renders differently. Of efforts models know different ones.
_TRIED: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {"thinking": (True, False), "reasoning_effort": ("low", "high", "max", "none"), "thinking_budget": (0, 512)}
)
# So many tokens at the end of a prompt hold the tag by which its template begins a thought.
_LAST_TOKENS = 24


def encode(tokenizer: Any, content: Any, keywords: Mapping[str, Any] | None = None) -> list[int]:
    """Token ids of a string or chat messages, hint included, through the chat template where there is one.

    A string is then one user message.

    Args:
        tokenizer: of the model.
        content: the prompt.
        keywords: of the chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        return list(tokenizer(prompt_text(content))["input_ids"])
    text = _apply_template(tokenizer, content, keywords)
    # The template wrote the special tokens; the tokenizer would add its own a second time.
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def count_before_request(
    tokenizer: Any, content: Any, ids: Sequence[int], keywords: Mapping[str, Any] | None = None
) -> int | None:
    """How many of a prompt's tokens come before the text of its last user message; of a plain text, those that begin
    any. None where there is no such text, or the chat template does not write it as it is.

    Args:
        tokenizer: of the model.
        content: a string or chat messages, hint included.
        ids: its token ids, as of `encode`.
        keywords: of the chat template, as there.
    """
    if not getattr(tokenizer, "chat_template", None):
        return _count_common(ids, tokenizer("")["input_ids"])
    text = _apply_template(tokenizer, content, keywords)
    mark = _MARK
    while mark in text:
        mark += _MARK
    marked = insert_before_request(content, mark)
    written = "" if marked is None else _apply_template(tokenizer, marked, keywords)
    before, found, after = written.partition(mark)
    if not found or before + after != text:
        return None
    return _count_common(ids, tokenizer(before, add_special_tokens=False)["input_ids"])


def _count_common(ids: Sequence[int], others: Sequence[int]) -> int:
    """How many tokens two texts begin with alike: a token that spans the end of one belongs to neither."""
    return next((at for at, pair in enumerate(zip(ids, others, strict=False)) if pair[0] != pair[1]), len(others))


def _apply_template(tokenizer: Any, content: Any, keywords: Mapping[str, Any] | None = None) -> str:
    options = {"tokenize": False, "add_generation_prompt": True, **(keywords or {})}
    text: str = tokenizer.apply_chat_template(to_messages(content), **options)
    return text


def make_template_keywords(config: DecodingConfig) -> dict[str, Any]:
    """What a config says to the model's chat template: its keywords."""
    said = {name: getattr(config, name) for name in OF_CHATS}
    found: dict[str, Any] = render_as(TRANSFORMERS, said, "transformers").beside.get(TEMPLATE, {})
    return found


def list_template_fields(tokenizer: Any) -> frozenset[str]:
    """Names of the fields that the tokenizer's chat template honours: with other values it renders other prompts."""
    if not getattr(tokenizer, "chat_template", None):
        return frozenset()
    return frozenset(name for name, values in _TRIED.items() if len(_try_values(tokenizer, name, values)) > 1)


def _try_values(tokenizer: Any, name: str, values: Sequence[Any]) -> set[str]:
    """The prompts that a template renders from some values of a field; it may refuse some, as it knows others."""
    texts = set()
    for value in values:
        keywords = make_template_keywords(DecodingConfig.from_dict({name: value}))
        try:
            texts.add(_apply_template(tokenizer, "Why?", keywords))
        except Exception:  # templates are programs and raise what they like
            continue
    return texts


def encode_unit(tokenizer: Any, unit: Sequence[Request], context: float) -> list[list[int] | str]:
    """Token ids of each request's prompt with its hint, and its constraint in words where that is asked for; or why
    there are none. Each distinct one is made once.

    Args:
        tokenizer: of the model.
        unit: the requests.
        context: most tokens of prompt and answer together.
    """
    known: dict[tuple[Any, ...], list[int] | str] = {}
    keys = [(request.prompt.digest, *(getattr(request.config, name) for name in PROMPT_FIELDS)) for request in unit]
    for key, request in zip(keys, unit, strict=True):
        if key not in known:
            known[key] = _encode_request(tokenizer, request, context)
    return [known[key] for key in keys]


def _encode_request(tokenizer: Any, request: Request, context: float) -> list[int] | str:
    prompt, config = request.prompt, request.config
    try:
        content = ask_for(prompt.content, config.hint, prompt.constraint, config.constrain)
        ids = encode(tokenizer, content, make_template_keywords(config))
    except Exception as error:  # templates are programs and raise what they like
        return f"the chat template refused the prompt: {type(error).__name__}: {error}"
    if not ids:
        return "the prompt has no tokens"
    if len(ids) >= context:
        return f"the prompt has {len(ids)} tokens, the model's context {context:.0f}"
    return ids


def take_unfinished_thought(tokenizer: Any, ids: Sequence[int], completion: Completion) -> Completion:
    """The completion, its text taken for reasoning where the prompt began a thought that does not end in it.

    Args:
        tokenizer: of the model.
        ids: of the prompt.
        completion: its answer.
    """
    if not completion.text or ends_reasoning(completion.text):
        return completion
    if not opens_reasoning(tokenizer.decode(list(ids[-_LAST_TOKENS:]), skip_special_tokens=False)):
        return completion
    return replace(completion, text="", reasoning=completion.text)


PROMPT_FIELDS: Mapping[str, Callable[..., object]] = MappingProxyType(
    {"hint": encode_unit, "constrain": encode_unit, **dict.fromkeys(sorted(OF_CHATS), make_template_keywords)}
)
"""Each config field that reaches the model in the prompt's own tokens, with the function that puts it there."""
