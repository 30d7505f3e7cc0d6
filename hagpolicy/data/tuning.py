"""Settings as a text that an LLM can be asked for and can write, and the best settings of each prompt to tune it on.

Hyperparameter Aware Generation (HAG, arXiv 2402.11251) tunes an LLM to write its own decoding settings before it
answers. The wording of question and answer is ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy._files import check_replaceable, format_jsonl, parse_json, write_text
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.fields import FIELDS, NEUTRAL, SPECS
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.additive import fit_additive
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.ties import choose_best
from hagpolicy.errors import InvalidInput

MOST_CHARACTERS = 800
_QUESTION = "Do not answer yet. Which decoding settings suit this request? Answer in JSON."
_LINE = re.compile(r"(?:[-*] )?\"?([a-z_]+)\"?\s*[:=]\s*(.+?),?")


@dataclass(frozen=True)
class ParsedSettings:
    """The config that an answer names.

    Attributes:
        index: number of the config in the space.
        exact: False: the settings are of no config in the space, and this is the nearest one.
    """

    index: int
    exact: bool


class SettingsText:
    """How an LLM is asked for settings of a space, and how its answers are written and read.

    Only settings that differ within the space are asked for. One that is left out of an answer stands at its
    neutral value. A hint is asked for as yes or no, or by its number where the space has several.

    Args:
        space: at least two configs.

    Raises:
        InvalidInput: a space in which nothing can be chosen.
    """

    def __init__(self, space: DecodingSpace) -> None:
        if not space.varying:
            raise InvalidInput("space", "at least two configs, so that there is a choice", f"{len(space)}")
        self.space = space
        self.hints = tuple(dict.fromkeys(config.hint for config in space if config.hint))
        self._canonical = [config.canonical() for config in space]
        self._spread = {name: _spread(self._canonical, name) for name in space.varying}

    def write_question(self, text: str, most: int = MOST_CHARACTERS) -> str:
        """The question for an LLM that was tuned on it: the prompt and one line.

        Args:
            text: the prompt's text.
            most: characters of it that are shown; of a longer one the beginning and the end.
        """
        return f"{_shorten(text, most)}\n\n{_QUESTION}"

    def write_question_with_choices(self, text: str, most: int = MOST_CHARACTERS) -> str:
        """The question for an LLM that was not tuned: the same after every setting with the values to choose from."""
        lines = "\n".join(f"- {name}: {self._choices(name)}" for name in self.space.varying)
        return (
            f"Decoding settings and the values to choose from:\n{lines}\n\nRequest: {self.write_question(text, most)}"
        )

    def write(self, config: DecodingConfig) -> str:
        """The config as a JSON object of the settings that are not neutral; the temperature is always named, but where
        no setting is sent."""
        simple = config.canonical()
        always = "temperature" if "temperature" in self.space.varying else self.space.varying[0]
        named: dict[str, Any] = {}
        for name in self.space.varying:
            value = getattr(simple, name)
            if (name == always and not simple.unset) or value != NEUTRAL[name]:
                named[name] = self._hint_word(value) if name == "hint" else _plain(value)
        return json.dumps(named)

    def read(self, answer: str) -> ParsedSettings | None:
        """The config that an answer names; None where it is not well formed.

        An answer is a JSON object (what follows it is not read), or lines `name: value` up to the first empty
        one; a code fence around it is allowed. At least one setting must be named, none that the space does not
        vary, none twice, every value within the field's range. Where no config has these settings, the nearest
        one is taken: the smallest sum over settings of the difference, divided by the spread of that setting in
        the space (1 for another hint), ties to the first in the space's order.
        """
        named = _parse(answer)
        if not named or any(name not in self.space.varying for name in named):
            return None
        values = {name: getattr(self.space[0], name) for name in FIELDS if name not in self.space.varying}
        try:
            config = DecodingConfig.from_dict({**values, **self._resolve_hint(named)}).canonical()
        except InvalidInput:
            return None
        if config in self._canonical:
            return ParsedSettings(self._canonical.index(config), True)
        return ParsedSettings(int(np.argmin([self._distance(config, known) for known in self._canonical])), False)

    def _choices(self, name: str) -> str:
        """The values of a setting within the space; of a hint what it adds."""
        if name == "hint" and len(self.hints) == 1:
            return f'"no", or "yes" to add: {self.hints[0]}'
        if name == "hint":
            added = "; ".join(f"{number} adds: {hint}" for number, hint in enumerate(self.hints, start=1))
            return f"0 to {len(self.hints)} (0 adds nothing; {added})"
        found = {getattr(config, name) for config in self._canonical}
        values = sorted(found, key=lambda value: (value is None, value))
        return ", ".join(json.dumps(_plain(value)) for value in values)

    def _hint_word(self, hint: str) -> str | int:
        number = self.hints.index(hint) + 1 if hint else 0
        return ("no", "yes")[number] if len(self.hints) == 1 else number

    def _resolve_hint(self, named: dict[str, Any]) -> dict[str, Any]:
        """Values of fields; a hint's word or number as its text. Raises InvalidInput for one that means nothing."""
        if "hint" not in named:
            return named
        numbers = {hint: number for number, hint in enumerate(("", *self.hints))}
        numbers |= {"no": 0, "yes": 1} if len(self.hints) == 1 else {}
        given = named["hint"]
        number = numbers.get(given, given) if isinstance(given, str) else given
        if not isinstance(number, int) or not 0 <= number <= len(self.hints):  # True and False count as 1 and 0
            raise InvalidInput("hint", f"a number in [0, {len(self.hints)}]", given)
        return {**named, "hint": ("", *self.hints)[number]}

    def _distance(self, one: DecodingConfig, other: DecodingConfig) -> float:
        """Sum over the settings of their differences, each in units of its spread; 1 for a text or None."""
        total = 0.0
        for name, spread in self._spread.items():
            a, b = getattr(one, name), getattr(other, name)
            if a != b:
                total += abs(a - b) / spread if spread and a is not None and b is not None else 1.0
        return total


def _parse(answer: str) -> dict[str, Any] | None:
    """Names and values of an answer, None where it is neither an object nor lines, or names one twice."""
    text = re.sub(r"^```[a-z]*\n", "", answer.strip()).lstrip()
    pairs: list[tuple[str, Any]] = []
    if text.startswith("{"):
        try:
            pairs, _ = json.JSONDecoder(object_pairs_hook=list).raw_decode(text)
        except ValueError:
            return None
    else:
        for line in text.split("\n"):
            if not line.strip() or line.startswith("```"):
                break
            found = _LINE.fullmatch(line.strip())
            if found is None:
                return None
            pairs.append((found[1], _value(found[2])))
    named = dict(pairs)
    return named if len(named) == len(pairs) else None


def _value(text: str) -> Any:
    """A number or other JSON value, or the word itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text.strip("\"'")


def _spread(configs: Sequence[DecodingConfig], name: str) -> float:
    """Largest minus smallest value of a setting; 0 for one that is no number."""
    values = [getattr(config, name) for config in configs if getattr(config, name) is not None]
    return float(max(values) - min(values)) if values and SPECS[name].kind is not str else 0.0


def _plain(value: Any) -> Any:
    """A whole float as an int, anything else as it is: 1 is shorter than 1.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shorten(text: str, most: int) -> str:
    """The text, or its beginning and end where it is longer than `most` characters."""
    if len(text) <= most:
        return text
    return f"{text[: most - most // 3].rstrip()} … {text[-(most // 3) :].lstrip()}"


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
    values: np.ndarray, counts: np.ndarray, deterministic: np.ndarray, *, strength: float = 2.0, near: float = 0.05
) -> Labels:
    """The best config of each prompt, shrunk towards what prompt and config alone explain.

    value = (n · observed + strength · expected) / (n + strength), where `expected` is the prompt's level plus the
    config's overall effect (`fit_additive`) and n the cell's samples. Of the configs within `near` of the best
    value the one with the best overall effect is taken, ties by the space's order. So a lucky sample makes no
    label where the config that is best on the whole did about as well.

    Args:
        values: float64 (n_prompts, n_configs), mean rewards or another objective; NaN = not observed.
        counts: int (n_prompts, n_configs), scored samples. One of a deterministic config stands for all.
        deterministic: bool (n_configs,): deterministic configs.
        strength: how many samples the expectation is worth, at least 0.
        near: in units of `values`, at least 0.

    Raises:
        InvalidInput: a strength or near below 0.
    """
    for name, number in (("strength", strength), ("near", near)):
        if not number >= 0.0:
            raise InvalidInput(name, "a number, at least 0", number)
    level, effect = fit_additive(values)
    seen = ~np.isnan(values)
    samples = np.where(deterministic & seen, np.maximum(counts, counts.max(initial=1)), counts).astype(np.float64)
    expected = level[:, None] + effect
    shrunk = (samples * np.where(seen, values, 0.0) + strength * expected) / np.maximum(samples + strength, 1e-12)
    shrunk = np.where(seen, shrunk, -np.inf)
    top = shrunk >= shrunk.max(axis=1, keepdims=True) - near
    index = choose_best(np.where(top & seen, np.nan_to_num(effect, nan=-np.inf), -np.inf))
    any_seen = seen.any(axis=1)
    differs = np.where(seen, values, -np.inf).max(axis=1) > np.where(seen, values, np.inf).min(axis=1)
    mean = np.where(seen, shrunk, 0.0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    worth = np.where(any_seen, shrunk[np.arange(len(index)), index] - mean, 0.0)
    return Labels(np.where(any_seen, index, -1).astype(np.int64), differs, np.maximum(worth, 0.0))


def write_labels(
    path: str | Path, prompts: Sequence[Prompt], text: SettingsText, labels: Labels, *, undecided: bool, weights: bool
) -> int:
    """Write the labelled prompts as chat messages, one JSON object a line; see `SweepTable.to_instruction_tuning`.

    The file is there whole or not at all. An older one of its kind is replaced.

    Raises:
        InvalidInput: something else lies at the path.
    """
    check_replaceable(path, _are_labels, "labels for tuning")
    kept = np.flatnonzero((labels.index >= 0) & (labels.differs | undecided))
    mean = float(labels.worth[kept].mean()) if len(kept) else 0.0
    lines: list[dict[str, Any]] = []
    for row in kept.tolist():
        answer = text.write(text.space[int(labels.index[row])])
        turns = [
            {"role": "user", "content": text.write_question(prompts[row].text)},
            {"role": "assistant", "content": answer},
        ]
        line: dict[str, Any] = {"messages": turns}
        if weights:
            line["weight"] = round(float(labels.worth[row]) / mean, 4) if mean > 0.0 else 1.0
        lines.append(line)
    write_text(path, format_jsonl(lines))
    return len(kept)


def _are_labels(head: bytes) -> bool:
    """True where the first line is one that `write_labels` could have written."""
    try:
        line = head.partition(b"\n")[0]
        first = parse_json(line)
    except ValueError:
        return False
    return isinstance(first, dict) and set(first) - {"weight"} == {"messages"} and _QUESTION.encode() in line
