"""Outcomes of a sweep made elsewhere: one JSON object a line, read into prompts, configs and cells, and written."""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy._files import check_replaceable, parse_json, read_lines, write_text
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.answers import NO_ANSWER, AnswerCodes
from hagpolicy.data.formats import to_own_keys
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.rows import is_missing, keep_json_columns
from hagpolicy.errors import InvalidInput

__all__ = ["ImportedOutcomes", "place_cells", "read_outcomes", "write_outcomes"]

_EXPECTED = "an object with prompt (or messages), config and reward"
_LABELS = ("reference", "task", "group", "id")
_SHORT = 100  # characters of an answer whose code is kept by the text itself
# An object without another in it, as every config is, behind its key; within a text of the line the quotes are escaped.
_CONFIG = re.compile(r'(?<!\\)"config"\s*:\s*(\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\})')


@dataclass(frozen=True)
class ImportedOutcomes:
    """What a file of outcomes holds.

    Attributes:
        prompts: n_prompts distinct prompts, in order of first appearance.
        configs: n_configs distinct configs, in order of first appearance.
        values: float64 (3, n_prompts, n_configs, n_samples): reward, tokens, seconds; NaN where not given.
        answers: int64 (n_prompts, n_configs, n_samples): equal for equal answers; -1 where none is given.
        default: index of the config that runs today; None where the file does not say.
    """

    prompts: tuple[Prompt, ...]
    configs: tuple[DecodingConfig, ...]
    values: np.ndarray
    answers: np.ndarray
    default: int | None


def read_outcomes(path: str | Path, default: DecodingConfig | None = None) -> ImportedOutcomes:
    """Prompts, configs, rewards and answers of a file; see `SweepTable.from_jsonl` for its keys.

    Two lines are of one prompt where content, task, group, reference and id agree. What else a
    line holds (a text, a seed) is metadata where all lines of the prompt agree on it, and left out
    elsewhere.

    Args:
        path: of the file.
        default: the config that runs today; None: the one whose lines say `"default": true`, if any.

    Raises:
        InvalidInput: an unreadable file or line, a reward outside [0, 1], two prompts with one
            id, or a default without outcomes, which is told before the lines are read; the message names the line.
    """
    lines = list(read_lines(path, "outcomes file"))
    if default is not None:
        _check_default(default, (line for _, line in lines), path)
    gathered = _Outcomes()
    for place, line in lines:
        try:
            gathered.add(parse_json(line))
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidInput(place, _EXPECTED, f"{line[:80]} ({error})") from error
    if not gathered.cells:
        raise InvalidInput(f"outcomes file {path}", "at least one outcome", "none")
    return gathered.collect(default, path)


def _check_default(default: DecodingConfig, lines: Iterable[str], path: str | Path) -> None:
    """Refuse a default that no line can be an outcome of, without reading more than their configs."""
    seen: set[str] = set()
    for line in lines:
        for text in _CONFIG.findall(line):
            if text in seen:
                continue
            seen.add(text)
            try:
                if DecodingConfig.from_dict(parse_json(text)) == default:
                    return
            except ValueError:  # another object of that name; one that is none is told with its line
                continue
    _refuse_default(default, path)


def _refuse_default(default: DecodingConfig, path: str | Path) -> None:
    raise InvalidInput("default", f"a config that {path} has outcomes of", default)


class _Outcomes:
    """Lines as they come; prompts and configs that come again are known by how they are written.

    Attributes:
        cells: six numbers a line: prompt, config, reward, tokens, seconds, answer.
    """

    def __init__(self) -> None:
        self.cells = array("d")
        self._prompts: dict[Prompt, int] = {}
        self._configs: dict[DecodingConfig, int] = {}
        self._written_prompts: dict[str, int] = {}
        self._written_configs: dict[str, int] = {}
        self._metadata: list[dict[str, Any]] = []
        self._owners: dict[str, int] = {}
        self._defaults: set[int] = set()
        self._codes = AnswerCodes()
        self._short_codes: dict[str, int] = {}

    def add(self, row: Any) -> None:
        """Take one line.

        Raises:
            ValueError, TypeError, AttributeError: it is no outcome; the message says why.
        """
        for name in ("config", "reward"):
            if name not in row:
                raise ValueError(f"no {name}")
        config = self._find_config(row.pop("config"))
        reward, tokens, seconds = (_number(name, row.pop(name, None)) for name in ("reward", "tokens", "seconds"))
        if not (math.isnan(reward) or 0.0 <= reward <= 1.0):
            raise ValueError(f"reward {reward:g} is not in [0, 1]")
        code = self._find_code(row.pop("answer", None))
        stands = row.pop("default", None)
        if not (stands is None or isinstance(stands, bool)):
            raise TypeError(f"default is neither true nor false: {stands!r:.40}")
        if stands:
            self._defaults.add(config)
        prompt = self._find_prompt(row if "prompt" in row or "messages" in row else dict(to_own_keys(row)))
        self.cells.extend((prompt, config, reward, tokens, seconds, code))

    def collect(self, default: DecodingConfig | None, path: str | Path) -> ImportedOutcomes:
        """All that was taken. Raises InvalidInput for a default without outcomes, or lines that name several."""
        numbers = np.frombuffer(self.cells).reshape(-1, 6)
        full, answers = place_cells(numbers, len(self._prompts), len(self._configs))
        known = (
            replace(prompt, metadata=keep_json_columns(extra))
            for prompt, extra in zip(self._prompts, self._metadata, strict=True)
        )
        if default is not None and default not in self._configs:
            _refuse_default(default, path)
        if default is None and len(self._defaults) > 1:
            raise InvalidInput(f"outcomes file {path}", "one config with the default", f"{len(self._defaults)}")
        index = self._configs[default] if default is not None else next(iter(self._defaults), None)
        return ImportedOutcomes(tuple(known), tuple(self._configs), full, answers, index)

    def _find_config(self, given: Any) -> int:
        written = repr(given)
        number = self._written_configs.get(written)
        if number is None:
            number = self._configs.setdefault(DecodingConfig.from_dict(given), len(self._configs))
            self._written_configs[written] = number
        return number

    def _find_prompt(self, row: dict[str, Any]) -> int:
        """Number of the prompt of a row, whose metadata is narrowed to what its lines agree on."""
        known = {name: row.pop(name, None) for name in ("prompt", "messages", *_LABELS)}
        metadata = row.pop("metadata", None)
        if metadata is not None:
            if not isinstance(metadata, Mapping) and not is_missing(metadata):
                raise TypeError(f"metadata is no mapping: {metadata!r:.40}")
            row = {**metadata, **row} if isinstance(metadata, Mapping) else row
        written = repr(known)
        number = self._written_prompts.get(written)
        if number is None:
            prompt = Prompt.from_dict(known)
            number = self._prompts.setdefault(prompt, len(self._prompts))
            if prompt.id is not None and self._owners.setdefault(prompt.id, number) != number:
                raise ValueError(f"another prompt has the id {prompt.id!r}")
            self._written_prompts[written] = number
        if number == len(self._metadata):
            self._metadata.append(row)
        elif (kept := self._metadata[number]) and kept != row:
            for name in [name for name, value in kept.items() if not _same(row.get(name), value)]:
                del kept[name]
        return number

    def _find_code(self, answer: Any) -> int:
        if answer is None:
            return NO_ANSWER
        if not isinstance(answer, (str, int, float)):
            raise TypeError(f"answer is no text or number: {answer!r:.40}")
        text = str(answer)
        code = self._short_codes.get(text)
        if code is None:
            code = self._codes.code(text)
            if len(text) <= _SHORT:
                self._short_codes[text] = code
        return code


def place_cells(numbers: np.ndarray, prompts: int, configs: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and answers of `ImportedOutcomes`; rows of one prompt and config are its samples, in their order.

    Args:
        numbers: float64 (n, 6): prompt, config, reward, tokens, seconds, answer; n at least 1.
        prompts: how many there are.
        configs: how many there are.
    """
    i, j = numbers[:, 0].astype(np.int64), numbers[:, 1].astype(np.int64)
    cell = i * configs + j
    order = np.argsort(cell, kind="stable")
    sample = np.empty(len(cell), dtype=np.int64)
    sample[order] = np.arange(len(cell)) - np.searchsorted(cell[order], cell[order])
    full = np.full((3, prompts, configs, int(sample.max()) + 1), np.nan)
    answers = np.full(full.shape[1:], NO_ANSWER, dtype=np.int64)
    full[:, i, j, sample] = numbers[:, 2:5].T
    answers[i, j, sample] = numbers[:, 5].astype(np.int64)
    return full, answers


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) or (one != one and other != other)


def _number(name: str, value: Any) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} is no number: {value!r:.40}")
    return float(value)


def write_outcomes(
    path: str | Path,
    prompts: Sequence[Prompt],
    space: DecodingSpace,
    cells: Mapping[str, np.ndarray | None],
    default: int | None,
) -> int:
    """Write cells as lines that `read_outcomes` reads back, whole or not at all; returns how many lines.

    A cell of which nothing is known has a line only where the number of prompts, configs or samples would else be lost.

    Args:
        path: a new file, or one of outcomes, which is replaced.
        prompts: n_prompts prompts.
        space: n_configs configs.
        cells: arrays (n_prompts, n_configs, n_samples) by name: rewards, tokens, seconds, answers; None where unknown.
        default: index of the config that runs today.

    Raises:
        InvalidInput: no prompt, prompts that lines cannot tell apart, or something else lies at the path.
        OSError: the file cannot be written.
    """
    check_replaceable(path, _are_outcomes, "a file of outcomes")
    heads = [prompt.to_dict() for prompt in prompts]
    bare = {json.dumps({**head, "metadata": None}, sort_keys=True) for head in heads}
    named = [prompt.id for prompt in prompts if prompt.id is not None]
    if not prompts or len(bare) < len(heads) or len(set(named)) < len(named):
        got = "prompts that are equal but for their metadata, or share an id" if prompts else "none"
        raise InvalidInput("prompts", "prompts that lines can tell apart", got, "Give each an id, or `save` the table.")
    lines = list(_format_lines(heads, space, cells, default))
    write_text(path, "".join(lines))
    return len(lines)


def _format_lines(
    heads: Sequence[dict[str, Any]], space: DecodingSpace, cells: Mapping[str, np.ndarray | None], default: int | None
) -> Iterator[str]:
    # The shortest text of each number that reads as the same one, in its own precision.
    known = {name: values for name, values in cells.items() if values is not None}
    written = {name: values.astype(str) for name, values in known.items()}
    configs = [json.dumps(config.to_dict()) + ', "default": true' * (j == default) for j, config in enumerate(space)]
    counts = _count_lines(known)
    missing = {"rewards": "nan", "tokens": "nan", "seconds": "nan", "answers": str(NO_ANSWER)}
    keys = {"tokens": "tokens", "seconds": "seconds", "answers": "answer"}
    for i, head in enumerate(heads):
        begin = json.dumps(head, ensure_ascii=False)[:-1]
        for j, config in enumerate(configs):
            for k in range(int(counts[i, j])):
                reward = str(written["rewards"][i, j, k])
                parts = [f'"reward": {"null" if reward == "nan" else reward}']
                for name, key in keys.items():
                    if name in written and (text := str(written[name][i, j, k])) != missing[name]:
                        parts.append(f'"{key}": {text.removesuffix(".0")}')
                yield f'{begin}, "config": {config}, {", ".join(parts)}}}\n'


def _count_lines(cells: Mapping[str, np.ndarray]) -> np.ndarray:
    """int64 (n_prompts, n_configs): lines of each cell: up to its last known sample."""
    known = ~np.isnan(cells["rewards"])
    for name in cells.keys() - {"rewards", "answers"}:
        known |= ~np.isnan(cells[name])
    samples = known.shape[2]
    counts = np.asarray(np.where(known, np.arange(1, samples + 1), 0).max(axis=2))
    counts[0] = np.maximum(counts[0], 1)
    counts[:, 0] = np.where(counts.any(axis=1), counts[:, 0], 1)
    if counts.max() < samples:
        counts[0, 0] = samples
    return counts


def _are_outcomes(head: bytes) -> bool:
    """True where the first line is an outcome; one that is longer than what was read is none."""
    try:
        row = parse_json(head.partition(b"\n")[0])
    except ValueError:
        return False
    return isinstance(row, dict) and {"config", "reward"} <= row.keys()
