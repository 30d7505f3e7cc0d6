"""What each engine calls our settings: one table an engine, no code.

Read from the engines' sources and documentation (October 2026). Everything that has a default of
the engine's own is named here, so that it is always sent: an unset field means something else in
each engine, and vLLM and SGLang fill it from the model's generation_config.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hagpolicy._names import Registry
from hagpolicy.config import masks
from hagpolicy.config.masks import MaskWriter


@dataclass(frozen=True)
class Setting:
    """How an engine takes one of our fields.

    Attributes:
        key: the engine's own name.
        off: what the engine calls the neutral value; `...`: as we do.
        low: least value the engine accepts; a value beyond is not expressible.
        high: greatest value the engine accepts.
        least_positive: the engine itself raises positive values below this one to it.
        note: how the engine's meaning differs from ours; "" where it does not.
        under: name of the object within a request in which the key stands; "": it stands at the top.
        aliases: further names that are sent the same value, since models read one or the other.
        beside: the engine takes it beside its keywords, in another argument or another place of the request: see
            `Rendering.beside`.
        words: what the engine calls some values; the others as we do.
        choices: the texts that the engine accepts; empty: all.
    """

    key: str
    off: Any = ...
    low: float = -math.inf
    high: float = math.inf
    least_positive: float = 0.0
    note: str = ""
    under: str = ""
    aliases: tuple[str, ...] = ()
    beside: bool = False
    words: Mapping[Any, Any] = field(default_factory=dict, hash=False)
    choices: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[tuple[str, ...], ...]:
        """Where in a request it stands: one path of names a key."""
        return tuple((self.under, key) if self.under else (key,) for key in (self.key, *self.aliases))

    def takes(self, value: Any) -> bool:
        """Whether the engine accepts a value, raised to `least_positive` or as it is."""
        if isinstance(value, str):
            return not self.choices or value in self.choices
        return bool(self.low <= value <= self.high)

    def write(self, value: Any) -> dict[str, Any]:
        """Keys and a value of the engine's own, in the object in which they stand."""
        named = dict.fromkeys((self.key, *self.aliases), self.words.get(value, value))
        return {self.under: named} if self.under else named


@dataclass(frozen=True)
class Dialect:
    """The settings of an engine, by the names of our fields.

    Attributes:
        settings: our field to the engine's; a field that is missing is one the engine lacks.
        always: sent with every request: what the engine would do besides, switched off.
        greedy: sent at temperature 0, over everything else.
        sampling: sent at a temperature above 0.
        processors: fields that a logits processor of ours adds to the engine.
        optional: fields whose neutral value is not sent: models of the engine refuse it, and do the same without.
        masks: how it is told a constraint for which it masks tokens itself, by the constraint's kind.
    """

    settings: Mapping[str, Setting]
    always: Mapping[str, Any] = field(default_factory=dict)
    greedy: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    processors: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    masks: Mapping[str, MaskWriter] = field(default_factory=dict)

    def without(self, fields: Collection[str]) -> Dialect:
        """The dialect of an engine that lacks these fields too."""
        kept = {name: setting for name, setting in self.settings.items() if name not in fields}
        return replace(self, settings=kept, processors=self.processors - frozenset(fields))

    @property
    def handles(self) -> frozenset[str]:
        """Names of the fields that the engine can be sent; a hint, and a constraint in words, is sent to any, in the
        prompt, and nothing at all is what any engine can be sent."""
        return frozenset(self.settings) | self.processors | {"hint", "constrain", "unset"}


TEMPLATE = "chat_template_kwargs"
"""The name that servers and engines have for the keywords of a model's chat template."""

OF_CHATS = frozenset({"thinking", "reasoning_effort", "thinking_budget"})
"""Fields that say how a chat is answered: a text that goes to the model as it is has no place for them."""

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""What the OpenAI API calls an effort; a model takes some of them."""

# Models read the switch under one of two names: `enable_thinking` (Qwen3, GLM, SmolLM3, Gemma 4, Nemotron 3, …) or
# `thinking` (DeepSeek, Granite, Kimi); a template does nothing with a name that it does not know.
_THINKING = Setting("enable_thinking", under=TEMPLATE, aliases=("thinking",))
_THINKING_BESIDE = replace(_THINKING, beside=True)
# gpt-oss and most others; Kimi K3.
_EFFORT_BESIDE = Setting("reasoning_effort", under=TEMPLATE, aliases=("thinking_effort",), beside=True)

TRANSFORMERS = Dialect(
    settings={
        "temperature": Setting("temperature"),
        "top_p": Setting("top_p"),
        "top_k": Setting("top_k"),
        "min_p": Setting("min_p"),
        "typical_p": Setting("typical_p"),
        "repetition_penalty": Setting("repetition_penalty"),
        "no_repeat_ngram_size": Setting("no_repeat_ngram_size"),
        "num_beams": Setting("num_beams"),
        "length_penalty": Setting("length_penalty"),
        # Greedy and sampled alike, one prompt at a time; 0 would be an error, and beams are searched without it.
        "prompt_lookup_num_tokens": Setting("prompt_lookup_num_tokens", off=None),
        "thinking": _THINKING_BESIDE,
        "reasoning_effort": _EFFORT_BESIDE,
        # Of Seed-OSS, which is told it in words.
        "thinking_budget": Setting("thinking_budget", under=TEMPLATE, beside=True),
        "max_tokens": Setting("max_new_tokens"),
    },
    always={
        "early_stopping": False,
        "epsilon_cutoff": 0.0,
        "eta_cutoff": 0.0,
        "top_h": None,
        "max_matching_ngram_size": 2,
    },
    # `generate` warns about sampling settings without sampling; these are the values it is silent about.
    greedy={"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50, "min_p": None, "typical_p": 1.0},
    sampling={"do_sample": True},
    processors=frozenset({"presence_penalty", "frequency_penalty"}),
)

VLLM = Dialect(
    settings={
        "temperature": Setting("temperature", low=0.0, high=2.0, least_positive=0.01),
        "top_p": Setting("top_p"),
        "top_k": Setting("top_k"),
        "min_p": Setting("min_p"),
        "repetition_penalty": Setting("repetition_penalty"),
        "presence_penalty": Setting("presence_penalty"),
        "frequency_penalty": Setting("frequency_penalty"),
        "thinking": _THINKING_BESIDE,
        "reasoning_effort": _EFFORT_BESIDE,
        # Refused by an engine that was started without a reasoning parser.
        "thinking_budget": Setting("thinking_token_budget"),
        "max_tokens": Setting("max_tokens"),
    },
    masks=masks.VLLM,
)

SGLANG = Dialect(
    settings={
        "temperature": Setting("temperature"),
        "top_p": Setting("top_p"),
        "top_k": Setting("top_k", off=-1),
        "min_p": Setting("min_p"),
        "repetition_penalty": Setting("repetition_penalty", low=0.0, high=2.0, note="counts tokens of the answer only"),
        "presence_penalty": Setting("presence_penalty"),
        "frequency_penalty": Setting("frequency_penalty"),
        # No budget: it takes one by a logits processor of the caller's alone, where it was started to allow these.
        "thinking": _THINKING_BESIDE,
        "reasoning_effort": _EFFORT_BESIDE,
        "max_tokens": Setting("max_new_tokens"),
    },
    masks=masks.SGLANG,
)

OPENAI = Dialect(
    settings={
        "temperature": Setting("temperature", low=0.0, high=2.0),
        "top_p": Setting("top_p"),
        "presence_penalty": Setting("presence_penalty"),
        "frequency_penalty": Setting("frequency_penalty"),
        "reasoning_effort": Setting("reasoning_effort", choices=EFFORTS),
        "max_tokens": Setting("max_completion_tokens"),
    },
    masks=masks.RESPONSE_FORMAT,
)

# The window is a buffer of this many token ids for each request. The server once took -1 for the whole
# context; its schema now refuses negative numbers, so a window wider than most contexts is sent.
_WINDOW = 65536
_PROMPT_TOO = f"counts tokens of the prompt too, within the last {_WINDOW} tokens"

# No drafting: what the server drafts with, a model or n-grams of what it has read, is chosen at its start. Requests
# once carried `speculative.n_max` for draft models; the server's schema leaves it out "for now", so it is ignored.
LLAMA_CPP = Dialect(
    settings={
        "temperature": Setting("temperature"),
        "top_p": Setting("top_p"),
        "top_k": Setting("top_k"),
        "min_p": Setting("min_p"),
        "typical_p": Setting("typical_p"),
        "repetition_penalty": Setting("repeat_penalty", note=f"counts the last {_WINDOW} tokens"),
        "presence_penalty": Setting("presence_penalty", note=_PROMPT_TOO),
        "frequency_penalty": Setting("frequency_penalty", note=_PROMPT_TOO),
        "thinking": _THINKING_BESIDE,
        "reasoning_effort": _EFFORT_BESIDE,
        # Of chats: the tags between which it counts are those of the template.
        "thinking_budget": Setting("reasoning_budget_tokens", beside=True),
        "max_tokens": Setting("n_predict"),
    },
    always={
        "repeat_last_n": _WINDOW,
        # The server's own order truncates before it applies the temperature; the other engines divide first.
        "samplers": ["penalties", "temperature", "top_k", "top_p", "min_p", "typ_p"],
        "dry_multiplier": 0.0,
        "xtc_probability": 0.0,
        "top_n_sigma": -1.0,
        "dynatemp_range": 0.0,
        "mirostat": 0,
        "min_keep": 0,
    },
    masks=masks.LLAMA_CPP,
)

_ONE_RUNNER = "ignored by Ollama's Go runner (ollama#15783); honoured by its llama.cpp runner"

OLLAMA = Dialect(
    settings={
        "temperature": Setting("temperature"),
        "top_p": Setting("top_p"),
        "top_k": Setting("top_k"),
        "min_p": Setting("min_p"),
        "typical_p": Setting("typical_p", note=_ONE_RUNNER),
        "repetition_penalty": Setting("repeat_penalty", note=_ONE_RUNNER),
        "presence_penalty": Setting("presence_penalty", note=_ONE_RUNNER),
        "frequency_penalty": Setting("frequency_penalty", note=_ONE_RUNNER),
        # Beside `options`, one key for both: an effort says more than the switch.
        "thinking": Setting("think", beside=True),
        "reasoning_effort": Setting("think", beside=True, choices=("low", "medium", "high", "max")),
        "max_tokens": Setting("num_predict"),
    },
    always={"repeat_last_n": -1},
)

DIALECTS: Registry[Dialect] = Registry(
    "engine",
    {
        "transformers": TRANSFORMERS,
        "vllm": VLLM,
        "sglang": SGLANG,
        "openai": OPENAI,
        "llama_cpp": LLAMA_CPP,
        "ollama": OLLAMA,
    },
)
"""The dialects by the name of their engine."""
