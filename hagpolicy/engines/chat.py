"""From prompts to token ids, for engines that hold the model's tokenizer themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hagpolicy.config.constraints import ASK
from hagpolicy.config.render import ask_for, insert_before_request
from hagpolicy.data.completion import Request
from hagpolicy.data.prompts import prompt_text, to_messages

__all__ = ["PROMPT_FIELDS", "count_before_request", "encode", "encode_unit"]

# Of the private use area: no text of people's, and nothing that a template takes for a space.
_MARK = "\ue0b7\ue0b8"


def encode(tokenizer: Any, content: Any) -> list[int]:
    """Token ids of a string or chat messages, hint included, through the chat template where there is one.

    A string is then one user message.
    """
    if not getattr(tokenizer, "chat_template", None):
        return list(tokenizer(prompt_text(content))["input_ids"])
    text = _apply_template(tokenizer, content)
    # The template wrote the special tokens; the tokenizer would add its own a second time.
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def count_before_request(tokenizer: Any, content: Any, ids: Sequence[int]) -> int | None:
    """How many of a prompt's tokens come before the text of its last user message; of a plain text, those that begin
    any. None where there is no such text, or the chat template does not write it as it is.

    Args:
        tokenizer: of the model.
        content: a string or chat messages, hint included.
        ids: its token ids, as of `encode`.
    """
    if not getattr(tokenizer, "chat_template", None):
        return _count_common(ids, tokenizer("")["input_ids"])
    text = _apply_template(tokenizer, content)
    mark = _MARK
    while mark in text:
        mark += _MARK
    marked = insert_before_request(content, mark)
    before, found, after = ("", "", "") if marked is None else _apply_template(tokenizer, marked).partition(mark)
    if not found or before + after != text:
        return None
    return _count_common(ids, tokenizer(before, add_special_tokens=False)["input_ids"])


def _count_common(ids: Sequence[int], others: Sequence[int]) -> int:
    """How many tokens two texts begin with alike: a token that spans the end of one belongs to neither."""
    return next((at for at, pair in enumerate(zip(ids, others, strict=False)) if pair[0] != pair[1]), len(others))


def _apply_template(tokenizer: Any, content: Any) -> str:
    text: str = tokenizer.apply_chat_template(to_messages(content), tokenize=False, add_generation_prompt=True)
    return text


def encode_unit(tokenizer: Any, unit: Sequence[Request], context: float) -> list[list[int] | str]:
    """Token ids of each request's prompt with its hint, and its constraint in words where that is asked for; or why
    there are none. Each distinct one is made once.

    Args:
        tokenizer: of the model.
        unit: the requests.
        context: most tokens of prompt and answer together.
    """
    keys = [(one.prompt.digest, one.config.hint, one.config.constrain == ASK) for one in unit]
    known: dict[tuple[str, str, bool], list[int] | str] = {}
    for request, key in zip(unit, keys, strict=True):
        if key not in known:
            known[key] = _encode_request(tokenizer, request, context)
    return [known[key] for key in keys]


def _encode_request(tokenizer: Any, request: Request, context: float) -> list[int] | str:
    prompt, config = request.prompt, request.config
    try:
        ids = encode(tokenizer, ask_for(prompt.content, config.hint, prompt.constraint, config.constrain))
    except Exception as error:  # templates are programs and raise what they like
        return f"the chat template refused the prompt: {type(error).__name__}: {error}"
    if not ids:
        return "the prompt has no tokens"
    if len(ids) >= context:
        return f"the prompt has {len(ids)} tokens, the model's context {context:.0f}"
    return ids


PROMPT_FIELDS: Mapping[str, Callable[..., object]] = MappingProxyType({"hint": encode_unit, "constrain": encode_unit})
"""Each config field that reaches the model in the prompt's own tokens, with the function that puts it there."""
