"""`TrainingPrompts`: what a bundle holds, on request, of the prompts that its policy was fitted on.

training.json    ids, tasks, the value of every config, the scale of the features, what was achieved out of fold, and
                 texts where they were asked for
training.npy     the features, in numpy's own format and without objects
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np

from hagpolicy.errors import BundleError
from hagpolicy.policy.schema import (
    flag,
    items,
    number,
    one_of,
    optional,
    parse_bounded,
    record,
    refuse,
    text,
    whole,
)
from hagpolicy.results import Estimate

__all__ = [
    "FEATURES",
    "TRAINING_FILES",
    "TRAINING_HEAD",
    "TRAINING_ROWS",
    "AchievedAdvantage",
    "FeatureScale",
    "TrainingPrompts",
]

FEATURES = "features"
"""The tensor of a policy's graph that holds the features of a prompt."""
TRAINING_HEAD, TRAINING_ROWS = "training.json", "training.npy"
TRAINING_FILES = (TRAINING_HEAD, TRAINING_ROWS)
"""Names of the files in a bundle."""

FORMAT = 1
_MOST_PROMPTS = 1_000_000
_MOST_TEXT = 10_000_000
_LARGEST_HALF = 65_504.0  # of float16
# As numpy writes it: magic, version 1.0, length of the head in two bytes, the head, blanks up to a line feed.
_ROWS_HEAD = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '<f2', 'fortran_order': False, 'shape': \((\d{1,9}), (\d{1,9})\), \} *\n",
    re.DOTALL,
)
# Decimals of a value: beyond them is noise of the rewards.
_DECIMALS = 6


@dataclass(frozen=True)
class AchievedAdvantage:
    """What departing from the reference achieved, where about this much was predicted for prompts not learned from.

    Attributes:
        low, high: predicted advantage over the reference, least and most.
        gain: mean of what was achieved, in the same unit; its interval is over groups, and pays for no choice among
            learners, as the evaluation's does.
        n_prompts: different prompts with such a prediction.
        n_groups: independent groups among them.
        share: of all decisions out of fold, in [0, 1].
    """

    low: float
    high: float
    gain: Estimate
    n_prompts: int
    n_groups: int
    share: float

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping that `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` wrote."""
        return cls(**{**values, "gain": Estimate.from_json(values["gain"])})


class FeatureScale(NamedTuple):
    """Brings features to a scale on which two training prompts drawn at random are about 1 apart.

    One factor serves all columns, whose relative sizes say what matters.

    Attributes:
        centre: float64 (n_features,).
        factor: what centred features are multiplied by.
    """

    centre: np.ndarray
    factor: float

    @classmethod
    def of(cls, features: np.ndarray) -> Self:
        """The scale of training features, float32 (n, n_features)."""
        wide = features.astype(np.float64)
        centre = wide.mean(axis=0)
        spread = math.sqrt(2.0 * float(((wide - centre) ** 2).sum(axis=1).mean()))
        return cls(centre, 1.0 / spread if spread > 0.0 else 1.0)

    def apply(self, features: np.ndarray) -> np.ndarray:
        """float16 (n, n_features), as they are stored."""
        scaled = (features.astype(np.float64) - self.centre) * self.factor
        return np.asarray(np.clip(scaled, -_LARGEST_HALF, _LARGEST_HALF), dtype=np.float16)


@dataclass(frozen=True, eq=False)
class TrainingPrompts:
    """The prompts that a policy was fitted on, as far as decisions are explained by them.

    Attributes:
        ids: of the prompts, n of them: their own, or their number in the table, from 0.
        tasks: of the prompts.
        heads: float32 (n_heads, n, n_configs), mean rewards, or what else the dial weighs. Prompts that lack a
            config are not among those that a policy is fitted on.
        features: float16 (n, n_features), from the graph, scaled.
        scale: by which they are.
        medians: float32 (dim,), of the vectors that it was fitted on; None where it reads tokens.
        achieved: at each point of the dial, bands of predicted advantage in rising order; none where nothing per prompt
            was tried.
        texts: of the prompts; None: they are not held.
    """

    ids: tuple[str, ...]
    tasks: tuple[str, ...]
    heads: np.ndarray
    features: np.ndarray
    scale: FeatureScale
    medians: np.ndarray | None = None
    achieved: tuple[tuple[AchievedAdvantage, ...], ...] = ()
    texts: tuple[str, ...] | None = field(default=None, repr=False)

    def without_texts(self) -> TrainingPrompts:
        """The same without the prompts' texts."""
        return replace(self, texts=None)

    def find_nearest(self, features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers int64 (k,) and distances float64 (k,) of the prompts nearest to one, the nearest first.

        Distances are Euclidean, in units of `FeatureScale`: 0 is the same, 1 about as far as two prompts at random.

        Args:
            features: float32 (n_features,), from the graph.
            count: neighbours wanted; no more than there are prompts are given.
        """
        own = self.scale.apply(features[None])[0].astype(np.float64)
        squared = np.concatenate(
            [
                ((self.features[start : start + 4096].astype(np.float64) - own) ** 2).sum(axis=1)
                for start in range(0, len(self.features), 4096)
            ]
        )
        nearest = squared.argsort(kind="stable")[:count]
        return nearest, np.sqrt(squared[nearest])

    def find_achieved(self, point: int, advantage: float) -> AchievedAdvantage | None:
        """The band of predicted advantages that one falls into, or is nearest to; None where there is none."""
        bands = self.achieved[point] if point < len(self.achieved) else ()
        return min(bands, key=lambda band: max(band.low - advantage, advantage - band.high, 0.0), default=None)

    def to_files(self) -> dict[str, bytes]:
        """The files of a bundle, by name."""
        values = {
            "format_version": FORMAT,
            "ids": list(self.ids),
            "tasks": list(self.tasks),
            "heads": [[[round(one, _DECIMALS) for one in row] for row in head] for head in self.heads.tolist()],
            "centre": self.scale.centre.tolist(),
            "factor": self.scale.factor,
            "medians": None if self.medians is None else self.medians.tolist(),
            "achieved": [[band.to_json() for band in bands] for bands in self.achieved],
            "texts": None if self.texts is None else list(self.texts),
        }
        written = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        rows = io.BytesIO()
        np.lib.format.write_array(rows, np.ascontiguousarray(self.features, dtype="<f2"), allow_pickle=False)
        return {TRAINING_HEAD: written.encode("utf-8", "backslashreplace"), TRAINING_ROWS: rows.getvalue()}

    @classmethod
    def from_files(
        cls, files: Mapping[str, bytes], n_heads: int, n_configs: int, n_points: int
    ) -> TrainingPrompts | None:
        """What `to_files` wrote; None where a bundle holds no such files.

        Args:
            files: of the bundle, by name.
            n_heads: of the policy's dial.
            n_configs: of its space.
            n_points: of its dial.

        Raises:
            BundleError: one of the two alone, damaged or foreign files, or such as do not fit each other or the policy.
        """
        given = [name for name in TRAINING_FILES if name in files]
        if not given:
            return None
        if len(given) < len(TRAINING_FILES):
            raise BundleError(f"expected {TRAINING_HEAD} and {TRAINING_ROWS} together, got {given[0]} alone")
        try:
            values = _CONTENT("", parse_bounded(files[TRAINING_HEAD]))
            features = _read_rows(files[TRAINING_ROWS])
            return cls._of(values, features, (n_heads, len(features), n_configs), n_points)
        except (BundleError, ValueError, RecursionError) as error:
            raise BundleError(
                f"{TRAINING_HEAD}, {TRAINING_ROWS}: expected what a policy was fitted on: {error}. {_DO}"
            ) from error

    @classmethod
    def _of(
        cls, values: Mapping[str, Any], features: np.ndarray, shape: tuple[int, int, int], n_points: int
    ) -> TrainingPrompts:
        found, achieved = values["heads"], values["achieved"]
        lengths = {len(found)} if len(found) != shape[0] else {len(head) for head in found}
        columns = {len(row) for head in found for row in head}
        if lengths != {shape[1]} or columns != {shape[2]} or len(achieved) not in (0, n_points):
            raise refuse("heads, achieved", f"values of shape {shape} and bands for {n_points} points", "others")
        for name in ("ids", "tasks", "texts"):
            if values[name] is not None and len(values[name]) != len(features):
                raise refuse(name, f"one for each of {len(features)} prompts", len(values[name]))
        if len(values["centre"]) != features.shape[1]:
            raise refuse("centre", f"{features.shape[1]} numbers", len(values["centre"]))
        return cls(
            ids=tuple(values["ids"]),
            tasks=tuple(values["tasks"]),
            heads=np.array(found, dtype=np.float32),
            features=features,
            scale=FeatureScale(np.array(values["centre"], dtype=np.float64), float(values["factor"])),
            medians=None if values["medians"] is None else np.array(values["medians"], dtype=np.float32),
            achieved=tuple(tuple(map(AchievedAdvantage.from_json, bands)) for bands in achieved),
            texts=None if values["texts"] is None else tuple(values["texts"]),
        )


def _read_rows(data: bytes) -> np.ndarray:
    """float16 (n, n_features), n and n_features at least 1: an array as `write_array` wrote it, and no other.

    numpy's own reader takes more, and fails on what is damaged with errors of many types.

    Raises:
        BundleError: anything else, or numbers that are not finite.
    """
    found = _ROWS_HEAD.match(data)
    if found is None or found.end() - 10 != int.from_bytes(data[8:10], "little"):
        raise refuse(TRAINING_ROWS, "numpy's format 1.0 with float16 of two axes", "another")
    shape = int(found[1]), int(found[2])
    if len(data) - found.end() != 2 * math.prod(shape) or not min(shape):
        raise refuse(TRAINING_ROWS, f"an array of shape {shape}", f"{len(data) - found.end()} bytes of numbers")
    features = np.frombuffer(data, dtype="<f2", offset=found.end()).reshape(shape)
    if not np.isfinite(features).all():
        raise refuse(TRAINING_ROWS, "finite numbers", "NaN or infinity")
    return features


_DO = "Save the policy again with explain=True where it was fitted"
_ESTIMATE = record({"value": number(), "low": number(), "high": number()}, {"reliable": flag})
_BAND = record(
    {
        "low": number(),
        "high": number(),
        "gain": _ESTIMATE,
        "n_prompts": whole(),
        "n_groups": whole(),
        "share": number(0.0, 1.0),
    }
)
_CONTENT = record(
    {
        "format_version": one_of(FORMAT),
        "ids": items(text(any_characters=True), _MOST_PROMPTS),
        "tasks": items(text(any_characters=True), _MOST_PROMPTS),
        "heads": items(items(items(number(), 100_000, least=1), _MOST_PROMPTS), 64, least=1),
        "centre": items(number(), 1_000_000),
        "factor": number(0.0),
        "medians": optional(items(number(), 1_000_000)),
        "achieved": items(items(_BAND, 100), 1000),
        "texts": optional(items(text(_MOST_TEXT, any_characters=True), _MOST_PROMPTS)),
    }
)
