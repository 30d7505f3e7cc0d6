"""Outcomes of a sweep made elsewhere: one JSON object a line, read into prompts, configs and cells."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy._files import read_lines
from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.answers import NO_ANSWER, AnswerCodes
from hagpolicy.data.prompts import Prompt, as_prompt
from hagpolicy.errors import InvalidInput

_EXPECTED = "an object with prompt (or messages), config and reward"


@dataclass(frozen=True)
class ImportedOutcomes:
    """What a file of outcomes holds.

    Attributes:
        prompts: n_prompts distinct prompts, in order of first appearance.
        configs: n_configs distinct configs, in order of first appearance.
        values: float64 (3, n_prompts, n_configs, n_samples): reward, tokens, seconds; NaN where not given.
        answers: int64 (n_prompts, n_configs, n_samples): equal for equal answers; -1 where none is given.
    """

    prompts: tuple[Prompt, ...]
    configs: tuple[DecodingConfig, ...]
    values: np.ndarray
    answers: np.ndarray


def read_outcomes(path: str | Path) -> ImportedOutcomes:
    """Prompts, configs, rewards and answers of a file; see `SweepTable.from_jsonl` for its keys.

    Two lines are of one prompt where content, task, group, reference and id agree. What else a
    line holds (a text, a seed) is metadata where all lines of the prompt agree on it, and left out
    elsewhere.

    Raises:
        InvalidInput: an unreadable file or line, a reward outside [0, 1], or two prompts with one
            id; the message names the line.
    """
    prompts: dict[Prompt, int] = {}
    metadata: list[dict[str, Any]] = []
    configs: dict[DecodingConfig, int] = {}
    cells: dict[tuple[int, int], list[tuple[float, float, float]]] = {}
    extracted: dict[tuple[int, int], list[int]] = {}
    codes = AnswerCodes()
    owners: dict[str, int] = {}
    for place, line in read_lines(path, "outcomes file"):
        try:
            prompt, config, values, answer = _read_outcome(line)
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidInput(place, _EXPECTED, f"{line[:80]} ({error})") from error
        bare = replace(prompt, metadata={})
        i = prompts.setdefault(bare, len(prompts))
        if bare.id is not None and owners.setdefault(bare.id, i) != i:
            raise InvalidInput(place, "one prompt an id", f"another prompt with the id {bare.id!r}")
        if i == len(metadata):
            metadata.append(dict(prompt.metadata))
        metadata[i] = {name: value for name, value in metadata[i].items() if prompt.metadata.get(name) == value}
        cell = i, configs.setdefault(config, len(configs))
        cells.setdefault(cell, []).append(values)
        extracted.setdefault(cell, []).append(codes.code(answer))
    if not cells:
        raise InvalidInput(f"outcomes file {path}", "at least one outcome", "none")
    full = np.full((3, len(prompts), len(configs), max(map(len, cells.values()))), np.nan)
    answers = np.full(full.shape[1:], NO_ANSWER, dtype=np.int64)
    for (i, j), outcomes in cells.items():
        full[:, i, j, : len(outcomes)] = np.array(outcomes).T
        answers[i, j, : len(outcomes)] = extracted[i, j]
    known = (replace(prompt, metadata=extra) for prompt, extra in zip(prompts, metadata, strict=True))
    return ImportedOutcomes(tuple(known), tuple(configs), full, answers)


def _read_outcome(line: str) -> tuple[Prompt, DecodingConfig, tuple[float, float, float], str | None]:
    """Prompt, config, (reward, tokens, seconds) and answer of a line.

    Raises:
        ValueError, TypeError, AttributeError: the line is no outcome; the message says why.
    """
    row = json.loads(line)
    for name in ("config", "reward"):
        if name not in row:
            raise ValueError(f"no {name}")
    config = DecodingConfig.from_dict(row.pop("config"))
    reward, tokens, seconds = (_number(name, row.pop(name, None)) for name in ("reward", "tokens", "seconds"))
    if not (math.isnan(reward) or 0.0 <= reward <= 1.0):
        raise ValueError(f"reward {reward:g} is not in [0, 1]")
    answer = row.pop("answer", None)
    if not (answer is None or isinstance(answer, (str, int, float))):
        raise TypeError(f"answer is no text or number: {answer!r:.40}")
    return as_prompt(row), config, (reward, tokens, seconds), None if answer is None else str(answer)


def _number(name: str, value: Any) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} is no number: {value!r:.40}")
    return float(value)
