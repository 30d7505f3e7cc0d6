"""`Request`, one cell to be generated, and `Completion`, what came back for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.prompts import Prompt

__all__ = ["NOT_COUNTED", "UNKNOWN", "Completion", "Request", "sum_tokens"]

UNKNOWN = math.nan
"""What was not counted or measured: never 0, which would be a price, a budget spent or a time."""

NOT_COUNTED = "not counted by the server"
"""In the receipt of a completion under "tokens": the server stated no number. Sweeps of before then have 0 tokens."""


@dataclass(frozen=True)
class Request:
    """One cell to be generated.

    Attributes:
        prompt: the prompt; the engine adds the config's hint.
        config: the decoding configuration.
        sample: number of the sample, from 0.
        seed: 63-bit; the cell's random stream is a function of it alone.
        max_tokens: limit on new tokens, at least 1 (the config's own limit is already in it).
        stop: strings before the first of which the answer ends, with finish "stop".
    """

    prompt: Prompt
    config: DecodingConfig
    sample: int
    seed: int
    max_tokens: int
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Completion:
    """What came back for one request.

    Attributes:
        text: the generated text, without special tokens.
        tokens: new tokens, the end token included; NaN where they were not counted. A text has one at least, so 0
            beside a text is taken for not counted.
        prompt_tokens: tokens of the prompt, hint and template included; NaN where they were not counted.
        seconds: this cell's share of its unit's wall time; NaN where it was not measured.
        finish: "stop", "length" or "error".
        error: the reason, where finish is "error"; else None.
        receipt: settings the engine did not honour as sent, by field; empty when all was honoured.
        passes: forward passes that this cell took part in, its prompt's included: without drafting one a
            token. None where the engine does not tell. Not stored in a sweep's folder.
        threads: with which it was computed; None where their number changed in its midst, or the engine does not tell.
        reasoning: what the model thought, where it came apart from the text: as a field of a server's answer, or as a
            thought that the prompt's template began and that did not end. What stands in tags stays in the text. Its
            tokens are among `tokens`.
    """

    text: str
    tokens: float = UNKNOWN
    prompt_tokens: float = UNKNOWN
    seconds: float = UNKNOWN
    finish: str = "stop"
    error: str | None = None
    receipt: Mapping[str, Any] = field(default_factory=dict)
    passes: int | None = None
    threads: int | None = None
    reasoning: str = ""

    def __post_init__(self) -> None:
        if (self.text or self.reasoning) and self.tokens == 0:
            object.__setattr__(self, "tokens", UNKNOWN)


def sum_tokens(completions: Iterable[Completion], *, of_prompts: bool = False) -> float:
    """New tokens of some completions, or of their prompts; NaN where those of one that did not fail are unknown."""
    total: float = 0
    for completion in completions:
        tokens = completion.prompt_tokens if of_prompts else completion.tokens
        if completion.finish != "error" or tokens == tokens:
            total += tokens
    return total
