"""Outcomes of a sweep made elsewhere: one JSON object a line, read into prompts, configs and cells."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy.config import DecodingConfig
from hagpolicy.errors import InvalidInput
from hagpolicy.prompts import Prompt, as_prompt

_EXPECTED = "an object with prompt (or messages), config and reward"


@dataclass(frozen=True)
class Outcomes:
    """What a file of outcomes holds.

    Attributes:
        prompts: n_prompts distinct prompts, in order of first appearance.
        configs: n_configs distinct configs, in order of first appearance.
        values: float64 (3, n_prompts, n_configs, n_samples): reward, tokens, seconds; NaN where not given.
    """

    prompts: tuple[Prompt, ...]
    configs: tuple[DecodingConfig, ...]
    values: np.ndarray


def read_outcomes(path: str | Path) -> Outcomes:
    """Read a file; see `SweepTable.from_jsonl` for its keys.

    Two lines are of one prompt where content, task, group, reference and id agree. What else a
    line holds (a text, a seed) is metadata where all lines of the prompt agree on it, and left out
    elsewhere.

    Raises:
        InvalidInput: an unreadable file or line, a reward outside [0, 1], or two prompts with one
            id; the message names the line.
    """
    path = Path(path)
    prompts: dict[Prompt, int] = {}
    metadata: list[dict[str, Any]] = []
    configs: dict[DecodingConfig, int] = {}
    cells: dict[tuple[int, int], list[tuple[float, float, float]]] = {}
    owners: dict[str, int] = {}
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"outcomes file {path}", "a readable UTF-8 file", str(error)) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            prompt, config, values = _outcome(line)
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidInput(f"{path}, line {number}", _EXPECTED, f"{line[:80]} ({error})") from error
        bare = replace(prompt, metadata={})
        i = prompts.setdefault(bare, len(prompts))
        if bare.id is not None and owners.setdefault(bare.id, i) != i:
            raise InvalidInput(f"{path}, line {number}", "one prompt an id", f"another prompt with the id {bare.id!r}")
        if i == len(metadata):
            metadata.append(dict(prompt.metadata))
        metadata[i] = {name: value for name, value in metadata[i].items() if prompt.metadata.get(name) == value}
        cells.setdefault((i, configs.setdefault(config, len(configs))), []).append(values)
    if not cells:
        raise InvalidInput(f"outcomes file {path}", "at least one outcome", "none")
    full = np.full((3, len(prompts), len(configs), max(map(len, cells.values()))), np.nan)
    for (i, j), outcomes in cells.items():
        full[:, i, j, : len(outcomes)] = np.array(outcomes).T
    known = (replace(prompt, metadata=extra) for prompt, extra in zip(prompts, metadata, strict=True))
    return Outcomes(tuple(known), tuple(configs), full)


def _outcome(line: str) -> tuple[Prompt, DecodingConfig, tuple[float, float, float]]:
    """Prompt, config and (reward, tokens, seconds) of a line.

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
    return as_prompt(row), config, (reward, tokens, seconds)


def _number(name: str, value: Any) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} is no number: {value!r:.40}")
    return float(value)
