"""Prompts, configs and comparisons for the tests of the transformers engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hagpolicy import Completion, DecodingConfig, Prompt, Request

QUESTION = Prompt("what is the sum of three ?")


LONGER = Prompt("name three red colours . think step by step . why is the sky blue ? say hello again")


SAMPLED = DecodingConfig(temperature=1.2, top_p=0.95)


PLAIN = [
    {},
    {"repetition_penalty": 1.4},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3, "repetition_penalty": 0.9},
    {"presence_penalty": 1.0, "frequency_penalty": 0.6},
]


def cell(prompt: Prompt, config: DecodingConfig, seed: int = 0, limit: int = 20) -> Request:
    return Request(prompt, config, 0, seed, limit)


def by_generate(engine: Any, request: Request) -> tuple[str, int]:
    """(text, new tokens) of transformers' own `generate`, for a config without a hint."""
    said = request.config.render("transformers")
    ids = torch.tensor([engine.encode(request.prompt.content)], device=engine.model.device)
    out = engine.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=request.max_tokens,
        logits_processor=said.processors,
        pad_token_id=0,
        **said.kwargs,
    )[0, ids.shape[1] :]
    return engine.tokenizer.decode(out, skip_special_tokens=True), len(out)


def same(one: Sequence[Completion], other: Sequence[Completion]) -> bool:
    keys = ("text", "tokens", "finish", "prompt_tokens")
    return [[getattr(c, key) for key in keys] for c in one] == [[getattr(c, key) for key in keys] for c in other]


def queued(count: int) -> tuple[list[list[int]], list[int], list[DecodingConfig], list[int], list[int]]:
    """Arguments of `decode` for cells of four prompts, every setting and limit among them."""
    prompts = [list(range(7, 7 + length)) for length in (4, 19, 11, 12)]
    settings = [SAMPLED, DecodingConfig(temperature=0.9, min_p=0.05), DecodingConfig(temperature=1.0, **PLAIN[4])]
    settings += [DecodingConfig(temperature=0.0, **values) for values in PLAIN]
    configs = [settings[i % len(settings)] for i in range(count)]
    return prompts, [i % 4 for i in range(count)], configs, list(range(count)), [1 + (7 * i) % 23 for i in range(count)]


FRANCE = Prompt("What is the capital of France?")


STORY = Prompt("Write two sentences about a dog.")
