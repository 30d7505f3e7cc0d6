"""`DecodingSpace`: the ordered configs that compete."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from hagpolicy._digest import digest
from hagpolicy._files import parse_json, read_regular
from hagpolicy._names import Registry
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.fields import (
    ARTEFACT_FIELDS,
    BESIDE_UNSET,
    FIELDS,
    NEUTRAL,
    SPECS,
    check_fields,
    find_idle_fields,
    split_pin,
)
from hagpolicy.errors import InvalidInput

logger = logging.getLogger(__name__)


def pin_names(config: DecodingConfig, known: Iterable[DecodingConfig]) -> DecodingConfig:
    """The config with the digests that known configs have behind the bare names of artefacts in it; a name that none
    of them has stays.

    Raises:
        InvalidInput: a name under which they have several versions.
    """
    changes = {}
    for field in ARTEFACT_FIELDS:
        name, digest = split_pin(getattr(config, field))
        values = [getattr(one, field) for one in known] if name and not digest else []
        pins = list(dict.fromkeys(value for value in values if "@" in value and split_pin(value)[0] == name))
        if len(pins) > 1:
            raise InvalidInput(f"{field} of {config}", f"one of its versions: {', '.join(pins)}", name)
        if pins:
            changes[field] = pins[0]
    return config.replace(**changes) if changes else config


class DecodingSpace(Sequence[DecodingConfig]):
    """An immutable, ordered sequence of distinct configs; its order is a policy's output order.

    Args:
        configs: at least one config, no two equal.

    Raises:
        InvalidInput: an empty space, something that is no config, or a duplicate.
    """

    def __init__(self, configs: Iterable[DecodingConfig]) -> None:
        given: object = configs
        if isinstance(given, str) or not isinstance(given, Iterable):
            do = f"For the preset: DecodingSpace.preset({given!r})." if given in PRESETS else ""
            raise InvalidInput("DecodingSpace", "a list of configs", given, do)
        self._configs = tuple(configs)
        if not self._configs:
            raise InvalidInput("DecodingSpace", "at least one config", "none")
        first: dict[DecodingConfig, int] = {}
        for index, config in enumerate(self._configs):
            if not isinstance(config, DecodingConfig):
                raise InvalidInput(f"DecodingSpace[{index}]", "a DecodingConfig", config)
            if config in first:
                raise InvalidInput(
                    f"DecodingSpace[{index}]",
                    "distinct configs",
                    f"{config!r}, which is also number {first[config]}",
                    "Leave one of them out.",
                )
            first[config] = index
        self._index = first

    @classmethod
    def grid(cls, **values: Iterable[Any]) -> DecodingSpace:
        """Every combination of the given field values, the last field varying fastest.

        Configs that differ in name only (temperature 0 with different top_p) are kept once, in their
        simplest form; how many were joined is logged. Beside `unset` every other setting is such a name.

        Raises:
            InvalidInput: an unknown field, an empty list of values or a value out of range.
        """
        check_fields(values)
        columns = {name: list(column) for name, column in values.items()}
        for name, column in columns.items():
            if not column:
                raise InvalidInput(f"grid({name}=…)", "at least one value", "none")
        combinations = [dict(zip(columns, row, strict=True)) for row in itertools.product(*columns.values())]
        kept = dict.fromkeys(DecodingConfig.from_dict(_leave_unset(row)).canonical() for row in combinations)
        if len(kept) < len(combinations):
            logger.info("grid: %d configs that repeat another are left out", len(combinations) - len(kept))
        return cls(kept)

    @classmethod
    def hag(cls) -> DecodingSpace:
        """A grid over the four settings tuned in HAG (arXiv 2402.11251): temperature, top_p,
        top_k and repetition_penalty. Values are ours: the low, middle and high of common use."""
        return cls.grid(
            temperature=[0.0, 0.4, 0.7, 1.0],
            top_p=[0.8, 0.95, 1.0],
            top_k=[0, 40],
            repetition_penalty=[1.0, 1.1, 1.2],
        )

    @classmethod
    def preset(cls, name: str = "deterministic", engine: Any = None) -> DecodingSpace:
        """A ready-made space, by its purpose; `PRESETS` has them.

        - `"deterministic"`: 8 configs that always give the same answer: greedy, controls of repetition, beams,
          hints. For one answer a prompt they are the cheapest to prove: a config that samples has noise of its own,
          which takes several answers a prompt to average out.
        - `"diverse"`: 8 that sample, for several answers a prompt (pass@k, best of n, a vote).
        - `"price"`: 8 of which most answer in fewer tokens: short hints, limits, ends to loops.
        - `"standard"`: 14 that differ in kind, deterministic or not.
        - `"large"`: 33, hints with slots among them, for a race that finds the few that are worth it
          (`hagpolicy.suggest_space`).

        Args:
            name: one of these.
            engine: an engine; configs that it cannot run are left out and named in the log.

        Raises:
            InvalidInput: an unknown name, or an engine that can run none.
        """
        space = cls(DecodingConfig(**values) for values in PRESETS[name])
        return space if engine is None else space.keep_runnable(engine, f"preset {name}")

    def keep_runnable(self, engine: Any, name: str = "space") -> DecodingSpace:
        """The configs that an engine can run; the others are named in the log.

        Args:
            engine: an engine, or what has its `unsupported` and `name`.
            name: of the space, for the log.

        Raises:
            InvalidInput: it can run none of them.
        """
        runnable = []
        for config in self:
            if missing := engine.unsupported(config):
                logger.warning("%s: %s left out, %s has no %s", name, config, engine.name, ", ".join(missing))
            else:
                runnable.append(config)
        return self if len(runnable) == len(self) else DecodingSpace(runnable)

    @classmethod
    def from_json(cls, source: str | Path | Sequence[Mapping[str, Any]]) -> DecodingSpace:
        """The space that `to_json` wrote: a file's path, or the list of mappings itself.

        Raises:
            InvalidInput: no such file, no list of mappings, or a bad config.
        """
        rows: Any = source
        if isinstance(source, (str, Path)):
            path = Path(source)
            try:
                rows = parse_json(read_regular(path, 1 << 24))
            except (OSError, ValueError) as error:
                raise InvalidInput(f"space file {path}", "a readable JSON list of configs", str(error)) from error
        if not isinstance(rows, list | tuple) or not all(isinstance(row, Mapping) for row in rows):
            raise InvalidInput("space", "a JSON list of objects, one a config", rows)
        return cls(DecodingConfig.from_dict(row) for row in rows)

    def to_json(self) -> list[dict[str, Any]]:
        """The configs as mappings of their non-neutral fields, in order."""
        return [config.to_dict() for config in self._configs]

    @cached_property
    def digest(self) -> str:
        """Identity of the space: its configs in their order."""
        return digest([config.digest for config in self._configs])

    @cached_property
    def varying(self) -> tuple[str, ...]:
        """Names of the fields that differ within the space."""
        return tuple(name for name in FIELDS if len({getattr(config, name) for config in self._configs}) > 1)

    @cached_property
    def deterministic(self) -> np.ndarray:
        """bool (n_configs,): True where a config always generates the same text."""
        return np.array([config.deterministic for config in self._configs])

    def pin(self, fixed: Mapping[str, Any]) -> dict[str, Any]:
        """`fixed` with what names an artefact without its digest, such as "sql", as the configs name it, where they
        know one version of that name; one of several stays, and no config agrees with it."""
        pinned = dict(fixed)
        for field in ARTEFACT_FIELDS:
            if name := fixed.get(field):
                versions = {getattr(config, field) for config in self._configs}
                known = [version for version in versions if split_pin(version)[0] == name]
                pinned[field] = known[0] if len(known) == 1 else name
        return pinned

    def agreeing(self, fixed: Mapping[str, Any]) -> np.ndarray:
        """bool (n_configs,): configs that agree with `fixed` in every field the space varies.

        A field that is equal in all configs is not asked for agreement: the caller simply
        replaces it. Nor is one that what is fixed makes idle, such as top_p at temperature 0. A config that
        leaves the settings unset agrees with none that is fixed, but for its hint and limit and what says nothing:
        its own are unknown.

        Raises:
            InvalidInput: an unknown field, or a value out of range.
        """
        check_fields(fixed)
        wanted = DecodingConfig.from_dict(fixed)
        idle = find_idle_fields({name: getattr(wanted, name) for name in fixed})
        asked = [name for name in fixed if name in self.varying and name not in idle]
        unsaid = {name for name in fixed if SPECS[name].unsaid and getattr(wanted, name) == NEUTRAL[name]}
        settings = any(name not in BESIDE_UNSET for name in fixed if name not in unsaid)
        return np.array(
            [
                not (settings and c.unset) and all(getattr(c, name) == getattr(wanted, name) for name in asked)
                for c in self._configs
            ]
        )

    def with_config(self, config: DecodingConfig) -> tuple[DecodingSpace, int]:
        """A space that holds `config`, and its index: this one if a config with the same text is in it."""
        for index, known in enumerate(self._configs):
            if known.canonical() == config.canonical():
                return self, index
        return DecodingSpace((*self._configs, config)), len(self._configs)

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Position of a config. Raises ValueError where it is not in the space."""
        if start == 0 and stop is None and value in self._index:
            return self._index[value]
        return self._configs.index(value, start, len(self._configs) if stop is None else stop)

    @overload
    def __getitem__(self, index: int) -> DecodingConfig: ...
    @overload
    def __getitem__(self, index: slice) -> DecodingSpace: ...
    def __getitem__(self, index: int | slice) -> DecodingConfig | DecodingSpace:
        return DecodingSpace(self._configs[index]) if isinstance(index, slice) else self._configs[index]

    def __len__(self) -> int:
        return len(self._configs)

    def __iter__(self) -> Iterator[DecodingConfig]:
        return iter(self._configs)

    def __contains__(self, value: object) -> bool:
        return value in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DecodingSpace) and self._configs == other._configs

    def __hash__(self) -> int:
        return hash(self._configs)

    def __repr__(self) -> str:
        return f"DecodingSpace({len(self)} configs over {', '.join(self.varying) or 'nothing'})"


def _leave_unset(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a grid; where it leaves the settings unset, without them."""
    return {name: value for name, value in row.items() if name in BESIDE_UNSET} if row.get("unset") is True else row


_STEP_BY_STEP = "Think step by step."

_STANDARD: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 0.3},
    {"temperature": 0.7},
    {"temperature": 1.0},
    {"temperature": 0.7, "top_p": 0.8},
    {"temperature": 1.0, "top_p": 0.9},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 1.5, "min_p": 0.1},
    {"temperature": 0.0, "repetition_penalty": 1.1},
    {"temperature": 0.0, "no_repeat_ngram_size": 3},
    {"temperature": 0.7, "frequency_penalty": 0.5},
    {"temperature": 0.0, "num_beams": 4},
    {"temperature": 0.0, "hint": _STEP_BY_STEP},
    {"temperature": 0.0, "hint": "Answer briefly."},
]

_BRIEFLY, _ONLY = "Answer briefly.", "Give only the answer."

_DETERMINISTIC: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 0.0, "repetition_penalty": 1.1},
    {"temperature": 0.0, "no_repeat_ngram_size": 3},
    {"temperature": 0.0, "frequency_penalty": 0.5},
    {"temperature": 0.0, "num_beams": 4},
    {"temperature": 0.0, "hint": _STEP_BY_STEP},
    {"temperature": 0.0, "hint": _BRIEFLY},
    {"temperature": 0.0, "hint": _ONLY},
]

_DIVERSE: list[dict[str, Any]] = [
    {"temperature": 0.3},
    {"temperature": 0.7},
    {"temperature": 1.0},
    {"temperature": 0.7, "top_p": 0.8},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 1.5, "min_p": 0.1},
    {"temperature": 0.7, "presence_penalty": 0.5},
    {"temperature": 0.7, "hint": _STEP_BY_STEP},
]

_PRICE: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 0.0, "no_repeat_ngram_size": 3},
    {"temperature": 0.0, "hint": _BRIEFLY},
    {"temperature": 0.0, "hint": _ONLY},
    {"temperature": 0.0, "hint": "Answer in one sentence."},
    {"temperature": 0.0, "max_tokens": 64},
    {"temperature": 0.0, "hint": _BRIEFLY, "max_tokens": 64},
    {"temperature": 0.0, "hint": _ONLY, "max_tokens": 32},
]

# What each of these adds to, and what is added to each of the hints below: a race tells which of them are worth it.
_ALONE: list[dict[str, Any]] = [
    *_STANDARD[:12],
    {"temperature": 0.0, "repetition_penalty": 1.2},
    {"temperature": 0.0, "no_repeat_ngram_size": 2},
    {"temperature": 0.0, "frequency_penalty": 0.5},
    {"temperature": 0.0, "num_beams": 4, "no_repeat_ngram_size": 3},
    {"temperature": 0.7, "presence_penalty": 0.5},
]
_HINTS = (
    _STEP_BY_STEP,
    _BRIEFLY,
    _ONLY,
    "Answer in one sentence.",
    "Answer with a comma-separated list.",
    "Cover: {keywords}",
    "Mention: {entities}",
    "Use these numbers: {numbers}",
)
_LARGE: list[dict[str, Any]] = [
    *_ALONE,
    *({"temperature": 0.0, "hint": hint} for hint in _HINTS),
    *({"temperature": 0.0, "no_repeat_ngram_size": 3, "hint": hint} for hint in _HINTS),
]

DEFAULT_PRESET = "deterministic"
"""The space of a sweep that is given none."""

PRESETS: Registry[list[dict[str, Any]]] = Registry(
    "preset",
    {DEFAULT_PRESET: _DETERMINISTIC, "diverse": _DIVERSE, "price": _PRICE, "standard": _STANDARD, "large": _LARGE},
)
"""The ready-made spaces by name: the fields of each config that are not neutral."""
