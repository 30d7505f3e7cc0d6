"""Labels to tune an LLM on: the best settings of each prompt, in the text that `SettingsText` reads.

Hyperparameter Aware Generation (HAG, arXiv 2402.11251) tunes an LLM to write its own decoding settings before it
answers. The wording of question and answer is ours, and `fitting.baselines.self_report` asks and reads the same way.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy._files import write_text
from hagpolicy.analysis.estimates import additive_fit
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.tuning_text import SettingsText
from hagpolicy.errors import InvalidInput

__all__ = ["Labels", "best_labels", "write_labels"]


@dataclass(frozen=True)
class Labels:
    """The best config of each prompt.

    Attributes:
        index: int64 (n_prompts,), number in the space; -1 where the prompt has no observed cell.
        differs: bool (n_prompts,): the prompt's observed values are not all the same, so that there is a label.
        worth: float64 (n_prompts,): shrunk value of the label minus the mean over the prompt's configs, at least 0.
    """

    index: np.ndarray
    differs: np.ndarray
    worth: np.ndarray


def best_labels(
    values: np.ndarray, counts: np.ndarray, frozen: np.ndarray, *, strength: float = 2.0, near: float = 0.05
) -> Labels:
    """The best config of each prompt, shrunk towards what prompt and config alone explain.

    value = (n · observed + strength · expected) / (n + strength), where `expected` is the prompt's level plus the
    config's overall effect (`additive_fit`) and n the cell's samples. Of the configs within `near` of the best
    value the one with the best overall effect is taken, ties by the space's order. So a lucky sample makes no
    label where the config that is best on the whole did about as well.

    Args:
        values: float64 (n_prompts, n_configs), mean rewards or another objective; NaN = not observed.
        counts: int (n_prompts, n_configs), scored samples. One of a deterministic config stands for all.
        frozen: bool (n_configs,): deterministic configs.
        strength: how many samples the expectation is worth, at least 0.
        near: in units of `values`, at least 0.

    Raises:
        InvalidInput: a strength or near below 0.
    """
    for name, number in (("strength", strength), ("near", near)):
        if not number >= 0.0:
            raise InvalidInput(name, "a number, at least 0", number)
    level, effect = additive_fit(values)
    seen = ~np.isnan(values)
    samples = np.where(frozen & seen, np.maximum(counts, counts.max(initial=1)), counts).astype(np.float64)
    expected = level[:, None] + effect
    shrunk = (samples * np.where(seen, values, 0.0) + strength * expected) / np.maximum(samples + strength, 1e-12)
    shrunk = np.where(seen, shrunk, -np.inf)
    top = shrunk >= shrunk.max(axis=1, keepdims=True) - near
    index = np.where(top & seen, np.nan_to_num(effect, nan=-np.inf), -np.inf).argmax(axis=1)
    any_seen = seen.any(axis=1)
    differs = np.where(seen, values, -np.inf).max(axis=1) > np.where(seen, values, np.inf).min(axis=1)
    mean = np.where(seen, shrunk, 0.0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    worth = np.where(any_seen, shrunk[np.arange(len(index)), index] - mean, 0.0)
    return Labels(np.where(any_seen, index, -1).astype(np.int64), differs, np.maximum(worth, 0.0))


def write_labels(
    path: str | Path, prompts: Sequence[Prompt], text: SettingsText, labels: Labels, *, undecided: bool, weights: bool
) -> int:
    """Write the labelled prompts as chat messages, one JSON object a line; see `SweepTable.to_instruction_tuning`.

    The file is there whole or not at all.
    """
    kept = np.flatnonzero((labels.index >= 0) & (labels.differs | undecided))
    mean = float(labels.worth[kept].mean()) if len(kept) else 0.0
    lines = []
    for row in kept.tolist():
        answer = text.write(text.space[int(labels.index[row])])
        turns = [{"role": "user", "content": text.short(prompts[row].text)}, {"role": "assistant", "content": answer}]
        line: dict[str, Any] = {"messages": turns}
        if weights:
            line["weight"] = round(float(labels.worth[row]) / mean, 4) if mean > 0.0 else 1.0
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))
    return len(kept)
