"""Cells that go through the model's own `generate`, one call each: beams, and answers that are drafted.

A draft is checked in one forward pass, after which every row has come on by a number of tokens of its own: in a
batch there would be nothing to gain, so transformers drafts for one prompt at a time, and so do we.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hagpolicy.config import DecodingConfig

__all__ = ["Alone", "generate_alone", "goes_alone"]


@dataclass(frozen=True)
class Alone:
    """What one call of `generate` gave.

    Attributes:
        tokens: the new ones, the end token included.
        stopped: whether an end token ended them.
        passes: forward passes it took, the prompt's included.
    """

    tokens: list[int]
    stopped: bool
    passes: int


def goes_alone(config: DecodingConfig) -> bool:
    """Whether cells of a config need a call of their own."""
    return config.num_beams > 1 or config.prompt_lookup_num_tokens > 0


def generate_alone(
    model: Any, ids: Sequence[int], config: DecodingConfig, seed: int, limit: int, ends: Sequence[int]
) -> Alone:
    """Generate one answer, everything sent explicitly; no random state of the caller's is touched.

    Args:
        model: a decoder of transformers, in evaluation mode.
        ids: token ids of the prompt, hint included.
        config: the settings, drafting and beams among them; its hint and limit are not read.
        seed: names the random stream.
        limit: most new tokens, at least 1.
        ends: ids of the end tokens.
    """
    said = config.replace(hint="", max_tokens=limit).render("transformers")
    prompt = torch.tensor([list(ids)], device=model.device)
    devices = [model.device] if model.device.type == "cuda" else []
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1

    hook = model.register_forward_pre_hook(count)
    try:
        with torch.random.fork_rng(devices=devices), torch.inference_mode():
            torch.manual_seed(seed)
            out = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                logits_processor=said.processors,
                eos_token_id=list(ends) or None,
                pad_token_id=(list(ends) or [0])[0],
                **said.kwargs,
            )
    finally:
        hook.remove()
    tokens = out[0, len(ids) :].tolist()
    stop = next((place for place, token in enumerate(tokens) if token in ends), None)
    return Alone(tokens if stop is None else tokens[: stop + 1], stop is not None, passes)
