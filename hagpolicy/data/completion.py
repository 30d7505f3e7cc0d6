"""`Request`, one cell to be generated, and `Completion`, what came back for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.prompts import Prompt


@dataclass(frozen=True)
class Request:
    """One cell to be generated.

    Attributes:
        prompt: the prompt; the engine adds the config's hint.
        config: the decoding configuration.
        sample: number of the sample, from 0.
        seed: 63-bit; the cell's random stream is a function of it alone.
        max_tokens: limit on new tokens, at least 1 (the config's own limit is already in it).
    """

    prompt: Prompt
    config: DecodingConfig
    sample: int
    seed: int
    max_tokens: int


@dataclass(frozen=True)
class Completion:
    """What came back for one request.

    Attributes:
        text: the generated text, without special tokens.
        tokens: new tokens, the end token included.
        prompt_tokens: tokens of the prompt, hint and template included.
        seconds: this cell's share of its unit's wall time.
        finish: "stop", "length" or "error".
        error: the reason, where finish is "error"; else None.
        receipt: settings the engine did not honour as sent, by field; empty when all was honoured.
        passes: forward passes that this cell took part in, its prompt's included: without drafting one a
            token. None where the engine does not tell. Not stored in a sweep's folder.
    """

    text: str
    tokens: int = 0
    prompt_tokens: int = 0
    seconds: float = 0.0
    finish: str = "stop"
    error: str | None = None
    receipt: Mapping[str, Any] = field(default_factory=dict)
    passes: int | None = None
