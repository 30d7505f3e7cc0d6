"""Cells that go through the model's own `generate`: beams, and answers that are drafted.

A draft is checked in one forward pass, after which every row has come on by a number of tokens of its own: in a
batch there would be nothing to gain, so transformers drafts for one prompt at a time, and so do we. Beams of several
prompts share a call where their settings are equal and nothing random or read from the prompt's own tokens
tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import StoppingCriteriaList

from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.constraints import Constraint
from hagpolicy.config.dialects import DIALECTS
from hagpolicy.config.fields import NEUTRAL
from hagpolicy.engines.chat import PROMPT_FIELDS
from hagpolicy.engines.transformers.prefixes import Splice, splice_calls
from hagpolicy.engines.transformers.sampling import STEPS

__all__ = [
    "GENERATE_FIELDS",
    "GIVEN_FIELDS",
    "ROW_FIELDS",
    "Generated",
    "group_calls",
    "needs_generate",
    "run_generate",
]

GIVEN_FIELDS = frozenset({"adapter", "soft_prefix", "soft_tokens", "reference", "reference_weight"})
"""Config fields that say what the model is given, whichever way it decodes."""
# The limit is in the request, whichever way its cell is generated.
ROW_FIELDS = frozenset({*STEPS, *PROMPT_FIELDS, "max_tokens", *GIVEN_FIELDS})
"""Config fields that the rows of a batch are decoded by, where the engine has what they name."""
GENERATE_FIELDS = DIALECTS["transformers"].handles | {"draft_source"}
"""Config fields that the model's own `generate` is sent, our own processors included, and whose drafts it checks."""
# Fields that do not read the tokens of the prompt, nor what pads them.
BLIND_TO_PROMPT = frozenset(
    {
        "temperature",
        "num_beams",
        "length_penalty",
        "presence_penalty",
        "frequency_penalty",
        "max_tokens",
        *PROMPT_FIELDS,
        *GIVEN_FIELDS,
    }
)


@dataclass(frozen=True)
class Generated:
    """What a call of `generate` gave for one prompt.

    Attributes:
        tokens: the new ones, the end token included.
        stopped: whether an end token ended them.
        passes: forward passes the call took, the prompts' included.
    """

    tokens: list[int]
    stopped: bool
    passes: int


def needs_generate(config: DecodingConfig) -> bool:
    """Whether a config sets a field that the rows of a batch are not decoded by: beams and drafts."""
    return not config.canonical().to_dict().keys() <= ROW_FIELDS


def group_calls(
    configs: Sequence[DecodingConfig],
    limits: Sequence[int],
    lengths: Sequence[int],
    rows: int,
    stops: Sequence[tuple[str, ...]],
    masked: Sequence[Constraint | None],
) -> list[list[int]]:
    """Which cells share a call, as their numbers: a list a call.

    Args:
        configs: (cells,), all of them such that `needs_generate`.
        limits: (cells,): most new tokens.
        lengths: (cells,): tokens of the prompt.
        rows: beams of all prompts in one call, at most.
        stops: (cells,): the strings that stop each.
        masked: (cells,): the constraint of each that is met by masks.
    """
    together: dict[tuple[DecodingConfig, int, int, tuple[str, ...], Constraint | None], list[int]] = {}
    calls = []
    for number, config in sorted(enumerate(configs), key=lambda item: -lengths[item[0]]):
        if config.prompt_lookup_num_tokens or not config.deterministic:
            calls.append([number])
            continue
        # Other settings count the prompt's tokens, and would count what pads it: lengths must be equal.
        reads_prompt = not config.canonical().to_dict().keys() <= BLIND_TO_PROMPT
        key = (
            config.replace(hint="", max_tokens=None, constrain=""),
            limits[number],
            lengths[number] if reads_prompt else 0,
            stops[number],
            masked[number],
        )
        together.setdefault(key, []).append(number)
    for (config, *_), numbers in together.items():
        size = max(rows // config.num_beams, 1)
        calls += [numbers[start : start + size] for start in range(0, len(numbers), size)]
    return calls


def run_generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: DecodingConfig,
    seed: int,
    limit: int,
    ends: Sequence[int],
    stopping: Sequence[Any] = (),
    splices: Sequence[Splice] | None = None,
    processors: Sequence[Any] = (),
) -> list[Generated]:
    """One answer for each prompt of a call, everything sent explicitly; no random state of the caller's is touched.

    Args:
        model: a decoder of transformers, in evaluation mode.
        prompts: token ids, hint included.
        config: the settings, drafting and beams among them; its hint, limit, `constrain` and names are not read.
        seed: names the random stream.
        limit: most new tokens, at least 1.
        ends: ids of the end tokens.
        stopping: further criteria of transformers' own kind that end a row.
        splices: embeddings among those of each prompt's tokens, as many in each; None: none.
        processors: further logits processors of transformers' own kind.
    """
    bare = {name: NEUTRAL[name] for name in (*GIVEN_FIELDS, "draft_source", "constrain")}
    rendering = config.replace(hint="", max_tokens=limit, **bare).render("transformers")
    width, pad = max(map(len, prompts)), (list(ends) or [0])[0]
    padded = [[pad] * (width - len(ids)) + list(ids) for ids in prompts]
    mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
    devices = [model.device] if model.device.type == "cuda" else []
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1

    hook = model.register_forward_pre_hook(count)
    try:
        with torch.random.fork_rng(devices=devices), torch.inference_mode(), splice_calls(model, splices):
            torch.manual_seed(seed)
            out = model.generate(
                torch.tensor(padded, device=model.device),
                attention_mask=torch.tensor(mask, device=model.device),
                logits_processor=[*rendering.processors, *processors],
                eos_token_id=list(ends) or None,
                pad_token_id=pad,
                stopping_criteria=StoppingCriteriaList(stopping),
                **rendering.kwargs,
            )
    finally:
        hook.remove()
    found = []
    for tokens in out[:, width:].tolist():
        stop = next((place for place, token in enumerate(tokens) if token in ends), None)
        found.append(Generated(tokens if stop is None else tokens[: stop + 1], stop is not None, passes))
    return found
