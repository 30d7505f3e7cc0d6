"""How uncertain an LLM is of its own next tokens, against the temperature it samples at."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hagpolicy._extras import require
from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.prompts import as_prompts
from hagpolicy.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor

    from hagpolicy.engines.transformers.engine import TransformersEngine

# Answers that are sampled together; as many as pay on a CPU.
AT_ONCE = 64


@dataclass(frozen=True)
class EntropyCurve:
    """Entropies of sampled answers, and what it took to measure them.

    Attributes:
        temperatures: increasing, above 0, at least five.
        entropies: float64 (n_prompts, n_temperatures): mean over the tokens of a prompt's answer of the
            entropy, in nats, of the distribution that the token was drawn from.
        tokens: new tokens of all answers.
        seconds: wall time, the forward passes over the finished answers included.

    Raises:
        InvalidInput: too few temperatures, none increasing, or entropies of another shape or below 0.
    """

    temperatures: tuple[float, ...]
    entropies: np.ndarray
    tokens: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        check_temperatures(self.temperatures)
        entropies = np.array(self.entropies, dtype=np.float64)
        if entropies.ndim != 2 or entropies.shape[1] != len(self.temperatures) or not len(entropies):
            expected = f"shape (n_prompts, {len(self.temperatures)}), one prompt at least"
            raise InvalidInput("entropies", expected, f"shape {entropies.shape}")
        if not (entropies >= 0.0).all():
            raise InvalidInput("entropies", "numbers, none below 0", float(entropies.min()))
        object.__setattr__(self, "entropies", entropies)

    @property
    def mean(self) -> np.ndarray:
        """float64 (n_temperatures,): mean over the prompts."""
        return np.asarray(self.entropies.mean(axis=0))


def check_temperatures(temperatures: Sequence[float]) -> None:
    """Refuse temperatures of which no turning point can be read.

    Raises:
        InvalidInput: fewer than five, not increasing, or one that is not above 0.
    """
    if len(temperatures) < 5 or temperatures[0] <= 0.0 or not (np.diff(temperatures) > 0.0).all():
        raise InvalidInput("temperatures", "at least five increasing numbers above 0", list(temperatures))


def measure_entropy(
    engine: TransformersEngine, prompts: Iterable[Any], temperatures: Sequence[float], max_tokens: int, seed: int
) -> EntropyCurve:
    """One answer a prompt and temperature, sampled from the whole distribution, and its entropies.

    The answers of one prompt share their random numbers, so that the curve's bends are less of them.

    Args:
        engine: of transformers: entropies need the distribution over all tokens.
        prompts: strings, chat messages or `Prompt`; one at least.
        temperatures: see `EntropyCurve`.
        max_tokens: limit on the new tokens of an answer, at least 1.
        seed: of the answers.

    Raises:
        InvalidInput: no prompt, or temperatures that do not fit.
        MissingExtra: torch is not installed.
    """
    require("torch", "sweep", "measuring entropies")
    from hagpolicy.engines.transformers.decode import decode

    check_temperatures(temperatures)
    known = as_prompts(prompts)
    if not known:
        raise InvalidInput("prompts", "at least one", "none")
    begun = time.perf_counter()
    ids, width = [engine.encode(prompt.content) for prompt in known], len(temperatures)
    owner = np.repeat(np.arange(len(ids)), width).tolist()
    configs = [DecodingConfig(temperature=temperature) for temperature in temperatures] * len(ids)
    seeds, limits = [seed + number for number in owner], [max_tokens] * len(owner)
    done = decode(engine.model, ids, owner, configs, seeds, limits, engine.end_tokens, AT_ONCE)
    rows = []
    for number, prompt_ids in enumerate(ids):
        part = slice(number * width, (number + 1) * width)
        lengths = done.lengths[part]
        rows.append(_entropies(engine.model, prompt_ids, done.tokens[part, : lengths.max()], lengths, temperatures))
    return EntropyCurve(tuple(temperatures), np.array(rows), int(done.lengths.sum()), time.perf_counter() - begun)


def _entropies(
    model: Any, prompt: Sequence[int], answers: Tensor, lengths: Tensor, temperatures: Sequence[float]
) -> list[float]:
    """Mean token entropy of each answer to a prompt, from one forward pass over prompt and answers.

    Args:
        model: a decoder of transformers.
        prompt: token ids.
        answers: int64 (n_temperatures, steps).
        lengths: int64 (n_temperatures,); what stands beyond is not read: a token sees no later one.
        temperatures: that each answer was drawn at.
    """
    import torch

    with torch.inference_mode():
        start = torch.tensor(prompt).expand(len(answers), -1)
        ids = torch.cat([start, answers], dim=1).to(model.device)
        # The logits at one token are those that the next was drawn from.
        logits = model(input_ids=ids, use_cache=False).logits[:, len(prompt) - 1 : -1]
        found = []
        for row, (length, temperature) in enumerate(zip(lengths.tolist(), temperatures, strict=True)):
            logs = (logits[row, :length].float() / temperature).log_softmax(-1)
            found.append(float(-(logs.exp() * logs).nan_to_num().sum(-1).mean()))
    return found
