"""`DecodingConfig`: all settings of one generation, every field explicit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hagpolicy._digest import digest
from hagpolicy.config.constraints import Constraint
from hagpolicy.config.fields import FIELDS, NEUTRAL, SPECS, ConfigFields, check_fields, find_idle_fields
from hagpolicy.config.render import PromptLike, Rendering, Unsupported, keywords
from hagpolicy.config.render import render as render_fields
from hagpolicy.config.servers import render_request
from hagpolicy.config.slots import VERSION as SLOTS_VERSION
from hagpolicy.config.slots import find_slots
from hagpolicy.errors import InvalidInput

__all__ = ["DecodingConfig", "as_default"]


@dataclass(frozen=True, repr=False)
class DecodingConfig(ConfigFields):
    """All settings of one generation. A field that is not given stands at its neutral value.

    The neutral value is the one at which the setting does nothing to the model's own distribution,
    never "whatever the engine does": engines disagree about their defaults. A config that is to leave
    everything to them says so: `unset=True`.

    Raises:
        InvalidInput: a value of the wrong type or out of range, naming field, expected and got.
    """

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DecodingConfig:
        """The config of a mapping of field names; unknown names are refused.

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
        version of the library changes no identity. What fills the slots of a hint is part of it."""
        return digest(self.to_dict() | ({"slots": SLOTS_VERSION} if find_slots(self.hint) else {}))

    @property
    def deterministic(self) -> bool:
        """True when every generation gives the same text: temperature 0, beams included; not where answers are
        tried again, since later ones are sampled. What an engine does when nothing is sent is not known, so False for
        `unset`."""
        return self.temperature == 0.0 and self.constrain != "retry"

    def canonical(self) -> DecodingConfig:
        """The config with every field that does nothing beside the others (`fields.find_idle_fields`) at
        its neutral value. Drafting stays: it changes the time, if not the text."""
        idle = [name for name in find_idle_fields(self.fields()) if getattr(self, name) != NEUTRAL[name]]
        return self.replace(**{name: NEUTRAL[name] for name in idle}) if idle else self

    def render(
        self,
        engine: str,
        prompt: PromptLike = "",
        *,
        unsupported: Unsupported = "error",
        constraint: Constraint | None = None,
    ) -> Rendering:
        """Settings under an engine's own names, prompt and receipt; see `render.render`.

        "openai:SERVER", such as "openai:vllm", gives the keyword arguments of the official client's
        `chat.completions.create` for that server; see `servers.render_request`.
        """
        name, colon, server = engine.partition(":")
        if colon and name == "openai":
            return render_request(server, self.fields(), prompt, unsupported=unsupported, constraint=constraint)
        return render_fields(self.fields(), engine, prompt, unsupported=unsupported, constraint=constraint)

    def to_transformers(self) -> dict[str, Any]:
        """Keyword arguments for transformers' `generate`; see `render.keywords`."""
        return keywords(self.fields(), "transformers")

    def to_vllm(self) -> dict[str, Any]:
        """Keyword arguments for vLLM's `SamplingParams`."""
        return keywords(self.fields(), "vllm")

    def to_sglang(self) -> dict[str, Any]:
        """Keys and values of SGLang's `sampling_params`."""
        return keywords(self.fields(), "sglang")

    def to_openai(self) -> dict[str, Any]:
        """Keyword arguments for the OpenAI chat completions API."""
        return keywords(self.fields(), "openai")

    def to_llama_cpp(self) -> dict[str, Any]:
        """Fields for the llama.cpp server's completion endpoints."""
        return keywords(self.fields(), "llama_cpp")

    def to_ollama(self) -> dict[str, Any]:
        """Keys and values of Ollama's `options`."""
        return keywords(self.fields(), "ollama")

    def __str__(self) -> str:
        values = self.to_dict().items()
        if self.unset:
            return " ".join(["unset", *(f"{name}={value!r}" for name, value in values if name != "unset")])
        texts = ((name, repr(value) if isinstance(value, str | bool) else f"{value:g}") for name, value in values)
        return " ".join(f"{name}={text}" for name, text in texts) or "temperature=1"

    def __repr__(self) -> str:
        return f"DecodingConfig({', '.join(f'{name}={value!r}' for name, value in self.to_dict().items())})"


# The rows are the one place that says what a field means.
DecodingConfig.__doc__ = f"{DecodingConfig.__doc__}\n    Attributes:\n" + "".join(
    f"        {name}: {spec.about}; {spec.expected}, neutral at {spec.neutral!r}.\n" for name, spec in SPECS.items()
)


def as_default(given: Any) -> DecodingConfig | None:
    """What runs today, as a config: of a `DecodingConfig`, a mapping of settings, "unset", or None.

    Raises:
        InvalidInput: anything else, an unknown setting, or a value out of range.
    """
    if given is None or isinstance(given, DecodingConfig):
        return given
    if given == "unset":
        return DecodingConfig(unset=True)
    if not isinstance(given, Mapping):
        form = "a DecodingConfig, a mapping of settings such as {'temperature': 0.7}, or 'unset'"
        raise InvalidInput("default", form, given)
    return DecodingConfig.from_dict(given)
