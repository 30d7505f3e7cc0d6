"""The fields of a decoding configuration: one row a field, from which everything else about it is made.

A row holds the neutral value, the kind and range, and beside which other value the field does nothing. The names,
the neutral values, the checks, the canonical form, and that an engine which does not know the field lacks it
follow from it. What remains to write for a new field is how an engine is sent it: a `Setting` in its dialect.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hagpolicy._checks import is_integral, is_number
from hagpolicy._names import suggest
from hagpolicy.errors import InvalidInput

__all__ = [
    "ARTEFACT_FIELDS",
    "BESIDE_UNSET",
    "FIELDS",
    "NEUTRAL",
    "SPECS",
    "ConfigFields",
    "FieldSpec",
    "IdleWhen",
    "check_fields",
    "find_idle_fields",
    "pin_name",
    "split_pin",
]

# A name, and behind it the digest of what bears it: 16 hex digits, so that no two versions are taken for one.
_ARTEFACT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})(?:@([0-9a-f]{16}))?")
PIN_DIGITS = 16


def pin_name(name: str, digest: str) -> str:
    """The name of an artefact with the digest of what it names, such as "sql@0123456789abcdef"."""
    return f"{name}@{digest[:PIN_DIGITS]}"


def split_pin(value: str) -> tuple[str, str]:
    """Name and digest of a value that names an artefact; the digest is "" where it is not pinned."""
    name, _, digest = value.partition("@")
    return name, digest


@dataclass(frozen=True)
class IdleWhen:
    """The value of another field at which a field changes neither the text nor the time it takes.

    Attributes:
        field: name of the other field.
        holds: whether it is so at that field's value.
    """

    field: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class FieldSpec:
    """One field of a decoding configuration.

    Attributes:
        neutral: the value at which the field changes nothing; None: the field may be unset.
        about: what it does, for people.
        kind: float, int, str or bool.
        low: least number.
        high: greatest number.
        open_low: whether `low` itself is out of range.
        idle_when: where the field does nothing, whatever its value; None: nowhere.
        artefact: whether it names something that an engine is given beside the model, such as an adapter.
        choices: the values that a text may have; none named: any.
        from_prompts: whether what it names is made from prompts, by which no config that names it is to be proven.
    """

    neutral: Any
    about: str
    kind: type
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    idle_when: IdleWhen | None = None
    artefact: bool = False
    choices: tuple[str, ...] = ()
    from_prompts: bool = False

    @property
    def unsaid(self) -> bool:
        """Whether nothing at all is said of the field at its neutral value: there is no number that means as much."""
        return self.neutral is None or self.kind is str

    @property
    def bounds(self) -> str:
        """The range as an interval, such as "(0, 1]"."""
        opening = "(" if self.open_low or math.isinf(self.low) else "["
        return f"{opening}{self.low:g}, {self.high:g}{')' if math.isinf(self.high) else ']'}"

    @property
    def expected(self) -> str:
        """What a value has to be, for messages."""
        if self.artefact:
            return "a name of letters, digits, '.', '_' and '-' that an engine knows an artefact by, or ''"
        if self.choices:
            return f"{', '.join(map(repr, self.choices[:-1]))} or {self.choices[-1]!r}"
        if self.kind in (str, bool):
            words = "True, False or None" if self.neutral is None else "True or False"
            return "a string" if self.kind is str else words
        return f"a {'number' if self.kind is float else 'whole number'} in {self.bounds}"

    def check(self, name: str, value: Any) -> Any:
        """The value in the field's own type.

        Args:
            name: of what is checked, for the message.
            value: as the caller gave it.

        Raises:
            InvalidInput: a value of the wrong type or out of range, naming expected and got.
        """
        if value is None and self.neutral is None:
            return None
        if self.kind in (str, bool):
            named = not (self.artefact and value) or (isinstance(value, str) and _ARTEFACT.fullmatch(value))
            if not isinstance(value, self.kind) or not named or (self.choices and value not in self.choices):
                raise InvalidInput(name, self.expected, value)
            return value
        accepts = is_number if self.kind is float else is_integral
        if not accepts(value):
            raise InvalidInput(name, self.expected, value)
        try:
            value = self.kind(value) + 0  # -0.0 becomes 0.0: equal values must have equal digests
            finite = math.isfinite(value)
        except OverflowError:  # a whole number that no float can hold
            raise InvalidInput(name, self.expected, value) from None
        if not finite or not self.low <= value <= self.high or (self.open_low and value == self.low):
            raise InvalidInput(name, self.expected, value)
        return value


# Declared with the static type of their value, which a dataclass takes from the annotation beside the row.
def _number(neutral: float, about: str, low: float = -math.inf, high: float = math.inf, **further: Any) -> Any:
    return dataclasses.field(default=neutral, metadata={"spec": FieldSpec(neutral, about, float, low, high, **further)})


def _whole(neutral: int | None, about: str, low: int, **further: Any) -> Any:
    return dataclasses.field(default=neutral, metadata={"spec": FieldSpec(neutral, about, int, low, **further)})


def _text(neutral: str, about: str, **further: Any) -> Any:
    return dataclasses.field(default=neutral, metadata={"spec": FieldSpec(neutral, about, str, **further)})


def _artefact(about: str, *, from_prompts: bool = True, **further: Any) -> Any:
    return _text("", about, artefact=True, from_prompts=from_prompts, **further)


def _switch(about: str, neutral: bool | None = False, **further: Any) -> Any:
    return dataclasses.field(default=neutral, metadata={"spec": FieldSpec(neutral, about, bool, **further)})


# Greedy decoding always keeps the likeliest token; the length penalty ranks beams; nothing is drafted for beams.
_GREEDY = IdleWhen("temperature", lambda temperature: temperature == 0.0)
_ONE_BEAM = IdleWhen("num_beams", lambda beams: beams == 1)
_SEVERAL_BEAMS = IdleWhen("num_beams", lambda beams: beams > 1)
_NO_PREFIX = IdleWhen("soft_prefix", lambda prefix: prefix == "")
_NO_DRAFTS = IdleWhen("prompt_lookup_num_tokens", lambda drafts: drafts == 0)
_NO_WEIGHT = IdleWhen("reference_weight", lambda weight: weight == 0.0)
_NO_REFERENCE = IdleWhen("reference", lambda reference: not reference)
_NO_THOUGHT = IdleWhen("thinking", lambda thinking: thinking is False)


@dataclass(frozen=True, repr=False)
class ConfigFields:
    """The rows. `DecodingConfig` is this class with what can be done with it."""

    temperature: float = _number(1.0, "divides the logits; 0 is greedy decoding", 0.0)
    top_p: float = _number(
        1.0, "nucleus: keep the most likely tokens up to this mass", 0.0, 1.0, open_low=True, idle_when=_GREEDY
    )
    top_k: int = _whole(0, "keep this many most likely tokens", 0, idle_when=_GREEDY)
    min_p: float = _number(
        0.0, "keep tokens at least this likely relative to the likeliest", 0.0, 1.0, idle_when=_GREEDY
    )
    typical_p: float = _number(1.0, "locally typical sampling", 0.0, 1.0, open_low=True, idle_when=_GREEDY)
    repetition_penalty: float = _number(
        1.0,
        "divides positive and multiplies negative logits of every token seen in prompt or answer",
        0.0,
        open_low=True,
    )
    presence_penalty: float = _number(0.0, "subtracted once from the logit of every token in the answer", -2.0, 2.0)
    frequency_penalty: float = _number(0.0, "subtracted once per occurrence in the answer", -2.0, 2.0)
    no_repeat_ngram_size: int = _whole(0, "no n-gram of this size occurs twice", 0)
    num_beams: int = _whole(1, "beams of beam search", 1)
    length_penalty: float = _number(
        1.0, "exponent of the length by which a beam's score is divided", idle_when=_ONE_BEAM
    )
    prompt_lookup_num_tokens: int = _whole(
        0,
        "draft up to this many tokens at a time and check them in one forward pass. What followed the last two "
        "tokens (or the last one) earlier in prompt or answer is the draft, of which the tokens are kept that the "
        "config itself would have written: the same greedy text, but for rounding, and the same distribution of "
        "sampled ones, in fewer passes. Answers that repeat their prompt are done sooner, others later",
        0,
        idle_when=_SEVERAL_BEAMS,
    )
    thinking: bool | None = _switch(
        "whether the model thinks before it answers, where it can do either; None: nothing is said of it", None
    )
    reasoning_effort: str = _text(
        "",
        "how much it thinks, in a word that the model knows, such as low, medium or high; empty: nothing is said of it",
        idle_when=_NO_THOUGHT,
    )
    thinking_budget: int | None = _whole(
        None, "limit on the tokens of its thoughts, after which it answers; None: none", 0, idle_when=_NO_THOUGHT
    )
    max_tokens: int | None = _whole(None, "limit on new tokens; None: the caller's or the engine's limit", 1)
    hint: str = _text(
        "",
        "text added after a blank line at the end of the last user message. {keywords}, {entities} and {numbers} in it "
        "are filled from that message; where it has nothing for one of them, the hint is left out",
    )
    adapter: str = _artefact("name of the adapter of parameter-efficient tuning that the model answers with")
    soft_prefix: str = _artefact("name of the trained embeddings that go before the text of the last user message")
    soft_tokens: int | None = _whole(
        None, "how many of the soft prefix's embeddings, the first ones; None: all", 1, idle_when=_NO_PREFIX
    )
    reference: str = _artefact(
        "name of the store of reference answers whose tokens, where the model was in a similar state, have a share in "
        "each next token",
        idle_when=_NO_WEIGHT,
    )
    reference_weight: float = _number(
        0.0,
        "that share: each next token is of the store's distribution with this weight, else of the model's, before "
        "penalties and truncation",
        0.0,
        1.0,
        idle_when=_NO_REFERENCE,
    )
    draft_source: str = _artefact(
        "name of the memory of earlier answers that proposes the tokens to be drafted; where it knows none, and at '', "
        "they are those that followed earlier in prompt or answer. The same text in another number of passes",
        idle_when=_NO_DRAFTS,
    )
    endpoint: str = _artefact(
        "name of the server that answers, of those that the engine is given; empty: the engine's own. One that drafts "
        "for the same model gives the same distribution of texts in another time",
        from_prompts=False,
    )
    constrain: str = _text(
        "",
        "how the prompt's constraint is met, where it has one: 'ask' for it in words after the hint, 'mask' the tokens "
        "that leave no way to it, 'retry' with up to three more answers where one does not meet it; '': not at all",
        choices=("", "ask", "mask", "retry"),
    )
    unset: bool = _switch(
        "no decoding setting is sent at all: the engine's or the model's own apply, whatever they are; only max_tokens "
        "and hint may stand beside it"
    )

    def __post_init__(self) -> None:
        for name, spec in SPECS.items():
            object.__setattr__(self, name, spec.check(f"DecodingConfig.{name}", getattr(self, name)))
        others = [name for name in SPECS if name not in BESIDE_UNSET] if self.unset else []
        if said := [name for name in others if getattr(self, name) != SPECS[name].neutral]:
            expected = f"no setting beside it but {' and '.join(BESIDE_UNSET[:-1])}"
            raise InvalidInput("DecodingConfig.unset", expected, ", ".join(said), "Leave these out, or unset.")


BESIDE_UNSET = ("max_tokens", "hint", "unset")
"""Names of the fields that say something beside `unset`: no engine has them as settings of decoding."""

SPECS: Mapping[str, FieldSpec] = MappingProxyType(
    {field.name: field.metadata["spec"] for field in dataclasses.fields(ConfigFields)}
)
"""The rows by the name of their field."""

FIELDS: tuple[str, ...] = tuple(SPECS)
"""Names of all fields, in their order."""

ARTEFACT_FIELDS: tuple[str, ...] = tuple(name for name, spec in SPECS.items() if spec.artefact)
"""Names of the fields whose values name artefacts."""

NEUTRAL: Mapping[str, Any] = MappingProxyType({name: spec.neutral for name, spec in SPECS.items()})
"""Every field of a decoding configuration, at the value at which it changes nothing."""


def find_idle_fields(values: Mapping[str, Any]) -> frozenset[str]:
    """Names of the fields that change neither the text nor the time it takes, whatever their value.

    Args:
        values: by the names of their fields. A field that is not among them may have any value.
    """
    if values.get("unset"):
        return frozenset(SPECS) - frozenset(BESIDE_UNSET)
    idle: frozenset[str] = frozenset()
    while True:  # what stands beside an idle field stands beside its neutral value
        known = {name: NEUTRAL[name] if name in idle else value for name, value in values.items()}
        found = frozenset(
            name
            for name, spec in SPECS.items()
            if (when := spec.idle_when) is not None and when.field in known and when.holds(known[when.field])
        )
        if found == idle:
            return idle
        idle = found


def check_fields(values: Mapping[str, Any]) -> None:
    """Refuse names that are no field of a decoding configuration, with a suggestion.

    Raises:
        InvalidInput: naming the unknown field and the nearest known ones.
    """
    for name in values:
        if name not in SPECS:
            expected, do = f"only the fields {', '.join(FIELDS)}", suggest(name, FIELDS, most=2)
            raise InvalidInput("DecodingConfig", expected, f"unknown field {name!r}", do)
