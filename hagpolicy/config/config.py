"""`DecodingConfig`: all settings of one generation, every field explicit."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hagpolicy._digest import digest
from hagpolicy._names import suggest
from hagpolicy.config import render as dialects
from hagpolicy.config.render import NEUTRAL
from hagpolicy.errors import InvalidInput

__all__ = ["FIELDS", "NEUTRAL", "DecodingConfig", "check_fields"]


def _number(name: str, low: float, high: float, *, open_low: bool = False) -> Any:
    bounds = f"{'(' if open_low or math.isinf(low) else '['}{low:g}, {high:g}{')' if math.isinf(high) else ']'}"
    limits = {"kind": float, "low": low, "high": high, "open_low": open_low, "bounds": bounds}
    return field(default=NEUTRAL[name], metadata=limits)


def _whole(name: str, low: int) -> Any:
    limits = {"kind": int, "low": low, "high": math.inf, "bounds": f"[{low}, inf)"}
    return field(default=NEUTRAL[name], metadata=limits)


@dataclass(frozen=True, repr=False)
class DecodingConfig:
    """All settings of one generation. A field that is not given stands at its neutral value.

    The neutral value is the one at which the setting does nothing to the model's own distribution,
    never "whatever the engine does": engines disagree about their defaults.

    Attributes:
        temperature: divides the logits, [0, inf); 0 is greedy decoding, 1 is neutral.
        top_p: nucleus, keep the most likely tokens up to this mass, (0, 1]; 1 is off.
        top_k: keep this many most likely tokens, [0, inf); 0 is off.
        min_p: keep tokens at least this likely relative to the likeliest, [0, 1]; 0 is off.
        typical_p: locally typical sampling, (0, 1]; 1 is off.
        repetition_penalty: divides positive and multiplies negative logits of every token seen in
            prompt or answer, (0, inf); 1 is off.
        presence_penalty: subtracted once from the logit of every token in the answer, [-2, 2].
        frequency_penalty: subtracted once per occurrence in the answer, [-2, 2].
        no_repeat_ngram_size: no n-gram of this size occurs twice, [0, inf); 0 is off.
        num_beams: beams of beam search, [1, inf); 1 is off.
        length_penalty: exponent of the length by which a beam's score is divided, (-inf, inf).
        prompt_lookup_num_tokens: draft up to this many tokens at a time and check them in one forward
            pass, [0, inf); 0 is off. What followed the last two tokens (or the last one) earlier in
            prompt or answer is the draft, of which the tokens are kept that the config itself would
            have written: the same greedy text, but for rounding, and the same distribution of
            sampled ones, in fewer passes. Answers that repeat their prompt are done sooner, others
            later.
        max_tokens: limit on new tokens, [1, inf), or None: the caller's or the engine's limit.
        hint: text added after a blank line at the end of the last user message; "" is none.

    Raises:
        InvalidInput: a value of the wrong type or out of range, naming field, expected and got.
    """

    temperature: float = _number("temperature", 0.0, math.inf)
    top_p: float = _number("top_p", 0.0, 1.0, open_low=True)
    top_k: int = _whole("top_k", 0)
    min_p: float = _number("min_p", 0.0, 1.0)
    typical_p: float = _number("typical_p", 0.0, 1.0, open_low=True)
    repetition_penalty: float = _number("repetition_penalty", 0.0, math.inf, open_low=True)
    presence_penalty: float = _number("presence_penalty", -2.0, 2.0)
    frequency_penalty: float = _number("frequency_penalty", -2.0, 2.0)
    no_repeat_ngram_size: int = _whole("no_repeat_ngram_size", 0)
    num_beams: int = _whole("num_beams", 1)
    length_penalty: float = _number("length_penalty", -math.inf, math.inf)
    prompt_lookup_num_tokens: int = _whole("prompt_lookup_num_tokens", 0)
    max_tokens: int | None = _whole("max_tokens", 1)
    hint: str = field(default=NEUTRAL["hint"], metadata={"kind": str})

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            object.__setattr__(self, spec.name, _checked(spec, getattr(self, spec.name)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DecodingConfig:
        """Build from a mapping of field names; unknown names are refused.

        Raises:
            InvalidInput: an unknown field, a wrong type or a value out of range.
        """
        check_fields(values)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The fields that are not at their neutral value."""
        return {name: value for name, value in self.fields().items() if value != NEUTRAL[name]}

    def fields(self) -> dict[str, Any]:
        """Every field with its value."""
        return {name: getattr(self, name) for name in FIELDS}

    def replace(self, **changes: Any) -> DecodingConfig:
        """A copy with some fields changed, under the same checks."""
        return DecodingConfig.from_dict({**self.fields(), **changes})

    @cached_property
    def digest(self) -> str:
        """Identity: fields at their neutral value are left out, so that a field added to a later
        version of the library changes no identity."""
        return digest(self.to_dict())

    @property
    def deterministic(self) -> bool:
        """True when every generation gives the same text: temperature 0, beams included."""
        return self.temperature == 0.0

    def canonical(self) -> DecodingConfig:
        """The config with every field that does nothing beside the others (`dialects.idle_fields`) at
        its neutral value. Drafting stays: it changes the time, if not the text."""
        return self.replace(**{name: NEUTRAL[name] for name in dialects.idle_fields(self.fields())})

    def render(
        self, engine: str, prompt: dialects.PromptLike = "", *, unsupported: dialects.Unsupported = "error"
    ) -> dialects.Rendering:
        """Settings, prompt and receipt in an engine's own words; see `dialects.render`."""
        return dialects.render(self.fields(), engine, prompt, unsupported=unsupported)

    def to_transformers(self) -> dict[str, Any]:
        """Keyword arguments for transformers' `generate`; see `dialects.keywords`."""
        return dialects.keywords(self.fields(), "transformers")

    def to_vllm(self) -> dict[str, Any]:
        """Keyword arguments for vLLM's `SamplingParams`."""
        return dialects.keywords(self.fields(), "vllm")

    def to_sglang(self) -> dict[str, Any]:
        """SGLang's `sampling_params`."""
        return dialects.keywords(self.fields(), "sglang")

    def to_openai(self) -> dict[str, Any]:
        """Keyword arguments for the OpenAI chat completions API."""
        return dialects.keywords(self.fields(), "openai")

    def to_llama_cpp(self) -> dict[str, Any]:
        """Fields for the llama.cpp server's completion endpoints."""
        return dialects.keywords(self.fields(), "llama_cpp")

    def to_ollama(self) -> dict[str, Any]:
        """Ollama's `options`."""
        return dialects.keywords(self.fields(), "ollama")

    def __str__(self) -> str:
        values = self.to_dict().items()
        parts = [f"{name}={value!r}" if isinstance(value, str) else f"{name}={value:g}" for name, value in values]
        return " ".join(parts) or "temperature=1"

    def __repr__(self) -> str:
        return f"DecodingConfig({', '.join(f'{name}={value!r}' for name, value in self.to_dict().items())})"


def _checked(spec: dataclasses.Field[Any], value: Any) -> Any:
    """The value of one field in its own type, or an error that names field, expected and got."""
    kind = spec.metadata["kind"]
    name = f"DecodingConfig.{spec.name}"
    if kind is str:
        if not isinstance(value, str):
            raise InvalidInput(name, "a string", value)
        return value
    if value is None and spec.default is None:
        return None
    wanted = f"a {'number' if kind is float else 'whole number'} in {spec.metadata['bounds']}"
    accepted = numbers.Real if kind is float else numbers.Integral
    # bool is an Integral to Python, and never what a decoding setting means.
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise InvalidInput(name, wanted, value)
    try:
        value = kind(value) + 0  # -0.0 becomes 0.0: equal values must have equal digests
    except OverflowError:
        raise InvalidInput(name, wanted, value) from None
    if not math.isfinite(value):
        raise InvalidInput(name, wanted, value)
    low, high = spec.metadata["low"], spec.metadata["high"]
    if value < low or value > high or (spec.metadata.get("open_low") and value == low):
        raise InvalidInput(name, wanted, value)
    return value


FIELDS: tuple[str, ...] = tuple(spec.name for spec in dataclasses.fields(DecodingConfig))


def check_fields(values: Mapping[str, Any]) -> None:
    """Refuse names that are no field of a decoding configuration, with a suggestion.

    Raises:
        InvalidInput: naming the unknown field and the nearest known ones.
    """
    for name in values:
        if name not in FIELDS:
            do = suggest(name, FIELDS, most=2)
            raise InvalidInput("DecodingConfig", f"only the fields {', '.join(FIELDS)}", f"unknown field {name!r}", do)
