"""Which cells there are: their keys and random streams, the views they belong to, the plans that pack them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from hagpolicy._checks import is_whole
from hagpolicy._digest import DIGEST_BYTES, digest
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.looks import Look
from hagpolicy.data.origins import Origin
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.stopping import parse_stop
from hagpolicy.errors import StoreError

PLAN_FORMAT = 1
# A stored plan asks for at most so many: a number that a few bytes can hold must not fill the memory.
MOST_SAMPLES = 100_000


def compute_cell_key(
    prompt: str, config: str, max_tokens: int, sample: int, seed: int, stop: Sequence[str] = ()
) -> str:
    """Identity of a cell, 32 hex digits.

    Args:
        prompt: digest of the prompt.
        config: digest of the config.
        max_tokens: limit on new tokens that holds for it, at least 1.
        sample: number of the sample, from 0.
        seed: of the sweep.
        stop: strings that end an answer.
    """
    return _keys(prompt, [_rest(config, max_tokens, sample, seed, stop)])[0]


def _keys(prompt: str, rests: Sequence[bytes]) -> list[str]:
    """Keys of some cells of a prompt: digests of "prompt config max_tokens sample seed"."""
    start = hashlib.blake2b(prompt.encode(), digest_size=DIGEST_BYTES)
    keys = []
    # A sweep has millions of them: what they have in common is digested once.
    for rest in rests:
        state = start.copy()
        state.update(rest)
        keys.append(state.hexdigest())
    return keys


def _rest(config: str, max_tokens: int, sample: int, seed: int, stop: Sequence[str]) -> bytes:
    """What tells a cell from the others of its prompt. Without stop strings as before there were any."""
    ending = f" {digest(sorted(stop))}" if stop else ""
    return f" {config} {max_tokens} {sample} {seed}{ending}".encode()


def derive_stream_seed(key: str) -> int:
    """Seed of a cell's random stream, 63 bits: a function of its key alone."""
    return int(key[:16], 16) >> 1


@dataclass(frozen=True)
class View:
    """A choice of prompts, configs and samples: the cells that one table is made of.

    Attributes:
        prompts: distinct prompts.
        space: the configs.
        samples: drawn of every config that is not deterministic, at least 1; those are drawn once.
        max_tokens: limit where a config has none of its own, at least 1.
        seed: of the sweep, part of every cell's key.
        default: index of the engine's default in the space; None: not in it.
        scorers: identity of each prompt's scorer, such as "chrf@1", (n_prompts,).
        common: see `SweepTable.common`.
        stop: strings before the first of which an answer ends, part of every cell's key.
        looks: by which the sweep ended early; no part of any key.
        origins: of the artefacts that the configs name, whose digests are part of keys.
    """

    prompts: tuple[Prompt, ...]
    space: DecodingSpace
    samples: int
    max_tokens: int
    seed: int
    default: int | None
    scorers: tuple[str, ...]
    common: int | None = None
    stop: tuple[str, ...] = ()
    looks: tuple[Look, ...] = ()
    origins: tuple[Origin, ...] = ()

    @cached_property
    def slots(self) -> tuple[tuple[int, int], ...]:
        """(config, sample) of the cells that every prompt has, in order of config."""
        return tuple(
            (j, sample)
            for j, config in enumerate(self.space)
            for sample in range(1 if config.deterministic else self.samples)
        )

    @cached_property
    def keys(self) -> list[list[str]]:
        """Keys of the cells: one list a prompt, in the order of `slots`."""
        rests = [_rest(self.space[j].digest, self.limit(j), sample, self.seed, self.stop) for j, sample in self.slots]
        return [_keys(prompt.digest, rests) for prompt in self.prompts]

    def select_keys(self, mask: np.ndarray | None) -> list[list[str]]:
        """Keys of the cells that a mask, bool (n_prompts, n_configs, n_samples), has; of all for None."""
        if mask is None:
            return self.keys
        where = np.array(self.slots, dtype=np.int64).reshape(-1, 2)
        rows = np.asarray(mask, dtype=bool)[:, where[:, 0], where[:, 1]]
        return [[keys[slot] for slot in np.flatnonzero(row)] for keys, row in zip(self.keys, rows, strict=True)]

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.prompts) * len(self.slots)

    @property
    def common_slots(self) -> list[int]:
        """Slots that every prompt has: all, or those of the common samples."""
        return [slot for slot, (_, sample) in enumerate(self.slots) if self.common is None or sample < self.common]

    def limit(self, config: int) -> int:
        """Limit on new tokens of a config: its own, or else the sweep's."""
        return self.space[config].max_tokens or self.max_tokens


@dataclass(frozen=True)
class Plan:
    """A view with the units that were packed for it: what is generated together.

    Attributes:
        view: the cells that were asked for.
        patterns: distinct sets of cells that a prompt has in a unit: indices into `view.slots`.
        units: each unit as pairs (prompt index, pattern index).
        notes: how the view came about, for people: JSON-able.
    """

    view: View
    patterns: tuple[tuple[int, ...], ...] = ()
    units: tuple[tuple[tuple[int, int], ...], ...] = field(default=(), repr=False)
    notes: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def cells(self, unit: int) -> Iterator[tuple[int, int]]:
        """(prompt index, slot index) of the cells of a unit, in their order."""
        for prompt, pattern in self.units[unit]:
            for slot in self.patterns[pattern]:
                yield prompt, slot

    def keys(self, unit: int) -> list[str]:
        """Keys of the cells of a unit, in their order."""
        keys = self.view.keys
        return [keys[prompt][slot] for prompt, slot in self.cells(unit)]

    @cached_property
    def digest(self) -> str:
        """Identity of the plan: of all that it holds."""
        return digest(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping that `from_json` reads back; prompts stand by their digests."""
        view = self.view
        names = list(dict.fromkeys(view.scorers))
        numbers = {name: number for number, name in enumerate(names)}
        return {
            "format_version": PLAN_FORMAT,
            "prompts": [prompt.digest for prompt in view.prompts],
            "configs": view.space.to_json(),
            "default": view.default,
            "samples": view.samples,
            "max_tokens": view.max_tokens,
            "seed": view.seed,
            "scorers": names,
            "scorer_of": [numbers[name] for name in view.scorers],
            "patterns": [list(pattern) for pattern in self.patterns],
            "units": [[list(part) for part in unit] for unit in self.units],
            **({} if view.common is None else {"common": view.common}),
            **({"looks": [look.to_json() for look in view.looks]} if view.looks else {}),
            **({"stop": list(view.stop)} if view.stop else {}),
            **({"origins": [origin.to_json() for origin in view.origins]} if view.origins else {}),
            **({"notes": dict(self.notes)} if self.notes else {}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], prompts: Mapping[str, Prompt]) -> Plan:
        """The plan that `to_json` wrote.

        Args:
            values: what `to_json` gave.
            prompts: the stored prompts by digest.

        Raises:
            StoreError: a prompt that is not stored.
            KeyError, TypeError, ValueError, IndexError: not a plan.
        """
        missing = [key for key in values["prompts"] if key not in prompts]
        if missing:
            raise StoreError(
                f"{len(missing)} of the plan's prompts are not stored, {missing[0]} first. "
                "Run the sweep again with the same prompts: no stored cell is generated again."
            )
        view = View(
            prompts=tuple(prompts[key] for key in values["prompts"]),
            space=DecodingSpace(DecodingConfig.from_dict(row) for row in values["configs"]),
            samples=_whole(values["samples"], 1, MOST_SAMPLES),
            max_tokens=_whole(values["max_tokens"], 1),
            seed=_whole(values["seed"]),
            default=_whole(values["default"], 0, len(values["configs"]) - 1, or_none=True),
            scorers=tuple(str(values["scorers"][_whole(number, 0)]) for number in values["scorer_of"]),
            common=_whole(values.get("common"), 1, or_none=True),
            looks=tuple(Look.from_json(look) for look in values.get("looks", ())),
            stop=parse_stop(values.get("stop")),
            origins=tuple(Origin.from_json(origin) for origin in values.get("origins", ())),
        )
        if len(set(view.prompts)) != len(view.prompts) or len(view.scorers) != len(view.prompts):
            raise ValueError("a prompt that stands twice, or has no scorer")
        patterns = tuple(tuple(pattern) for pattern in values["patterns"])
        units = tuple(tuple((i, p) for i, p in unit) for unit in values["units"])
        _check_whole((slot for pattern in patterns for slot in pattern), len(view.slots))
        _check_whole((prompt for unit in units for prompt, _ in unit), len(view.prompts))
        _check_whole((pattern for unit in units for _, pattern in unit), len(patterns))
        return cls(view, patterns, units, dict(values.get("notes", {})))


def _whole(value: Any, low: float = -math.inf, high: float = math.inf, *, or_none: bool = False) -> Any:
    """The value, where it is a whole number in [low, high]; raises ValueError otherwise."""
    if not (is_whole(value, low, high) or (or_none and value is None)):
        raise ValueError(f"expected a whole number from {low} to {high}, got {value!r}")
    return value


def _check_whole(values: Iterable[Any], count: int) -> None:
    """Check that the values are indices of so many; raises ValueError otherwise."""
    distinct = set(values)
    if not all(is_whole(value, 0, count - 1) for value in distinct):
        raise ValueError(f"expected whole numbers from 0 to {count - 1}")


def fill(view: View, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A column of stored records, spread over the array of a view.

    Args:
        view: the view.
        rows: int64 (some prompts, n_slots), the record of each cell, or -1 where there is none.
        values: float (n_records,).

    Returns:
        float64 (some prompts, n_configs, n_samples), NaN where there is no record.
    """
    # A deterministic config has only sample 0: the axis is as long as the samples that are really drawn.
    width = 1 + max(sample for _, sample in view.slots)
    table = np.full((len(rows), len(view.space), width), np.nan)
    padded = np.append(np.asarray(values, dtype=np.float64), np.nan)
    where = np.array(view.slots, dtype=np.int64).reshape(-1, 2)
    table[:, where[:, 0], where[:, 1]] = padded[rows]
    return table
