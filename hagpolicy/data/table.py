"""`SweepTable`: the rewards of prompts × configs × samples, and reading them from other formats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy._checks import is_integral
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.answers import as_codes, check_codes, renumber
from hagpolicy.data.groups import check_group_numbers, number_groups
from hagpolicy.data.outcomes import read_outcomes
from hagpolicy.data.prompts import Prompt, as_prompts
from hagpolicy.data.tuning import SettingsText, best_labels, write_labels
from hagpolicy.errors import InvalidInput


@dataclass(frozen=True, eq=False)
class SweepTable:
    """The cells of a sweep as arrays. NaN is "not scored", never 0.

    Attributes:
        prompts: n_prompts prompts.
        space: n_configs configs.
        rewards: float64 (n_prompts, n_configs, n_samples), in [0, 1] or NaN.
        tokens: float32 of the same shape, new tokens; None where unknown.
        seconds: float32 of the same shape, wall time; None where unknown.
        default: index of the engine's default in the space; None where unknown.
        fingerprint: of the engine, see `Engine.fingerprint`; empty where unknown.
        max_tokens: the sweep's limit on new tokens; None where unknown.
        scorers: name and version of the scorer of each task.
        failures: count of the cells that were generated and could not be scored, by reason.
        common: the first so many samples of every cell are there for all prompts alike; the ones
            beyond were added where the choice was uncertain, so they may teach a learner but enter
            no difference and no interval. None: all samples are alike.
        answers: int32 of the shape of rewards, codes of the answers that the scorer extracted: within a prompt
            equal for equal answers (`answers.compute_answer_key`); -1 where none was extracted or the reward is
            missing. None: no answers are known.
        groups: int64 (n_prompts,), number of the set of prompts each one stays together with; not given: those
            that the prompts declare (`groups.number_groups`). Given ones may join more prompts, not fewer: a table of
            some prompts keeps the numbers of the whole one. With other prompts give None, or theirs.
    """

    prompts: tuple[Prompt, ...]
    space: DecodingSpace
    rewards: np.ndarray
    tokens: np.ndarray | None = None
    seconds: np.ndarray | None = None
    default: int | None = None
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    max_tokens: int | None = None
    scorers: Mapping[str, str] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    common: int | None = None
    answers: np.ndarray | None = None
    groups: np.ndarray = None  # type: ignore[assignment]  # an array from __post_init__ on

    def __post_init__(self) -> None:
        rewards = np.array(self.rewards, dtype=np.float64)
        wanted = (len(self.prompts), len(self.space))
        if rewards.ndim != 3 or rewards.shape[:2] != wanted or rewards.shape[2] < 1:
            expected = f"shape (n_prompts, n_configs, n_samples) = ({wanted[0]}, {wanted[1]}, ≥1)"
            raise InvalidInput("rewards", expected, f"shape {rewards.shape}")
        bad = np.argwhere(~np.isnan(rewards) & ~((rewards >= 0.0) & (rewards <= 1.0)))
        if len(bad):
            at = tuple(int(number) for number in bad[0])
            raise InvalidInput(f"rewards{list(at)}", "a reward in [0, 1], or NaN for a missing one", float(rewards[at]))
        rewards.flags.writeable = False
        object.__setattr__(self, "rewards", rewards)
        for name in ("tokens", "seconds"):
            values = getattr(self, name)
            if values is not None:
                values = np.array(values, dtype=np.float32)
                if values.shape != rewards.shape:
                    raise InvalidInput(name, f"the shape of rewards, {rewards.shape}", f"shape {values.shape}")
                values.flags.writeable = False
                object.__setattr__(self, name, values)
        if self.answers is not None:
            object.__setattr__(self, "answers", check_codes(self.answers, rewards))
        if self.default is not None:
            if not is_integral(self.default) or not 0 <= self.default < len(self.space):
                raise InvalidInput("default", f"an index of the space, 0 to {len(self.space) - 1}", self.default)
            object.__setattr__(self, "default", int(self.default))
        if self.common is not None and not 1 <= self.common <= rewards.shape[2]:
            raise InvalidInput("common", f"a number of samples in [1, {rewards.shape[2]}], or None", self.common)
        groups = number_groups(self.prompts) if self.groups is None else check_group_numbers(self.groups, self.prompts)
        groups.flags.writeable = False
        object.__setattr__(self, "groups", groups)

    @classmethod
    def from_arrays(
        cls,
        prompts: Iterable[Any],
        space: DecodingSpace | Iterable[DecodingConfig],
        rewards: Any,
        *,
        tasks: Sequence[str] | None = None,
        groups: Sequence[Any] | None = None,
        tokens: Any = None,
        seconds: Any = None,
        default: int | None = None,
        answers: Any = None,
    ) -> SweepTable:
        """A table of a sweep made elsewhere.

        Args:
            prompts: strings, chat messages or `Prompt`, n_prompts of them.
            space: the configs, n_configs of them.
            rewards: (n_prompts, n_configs, n_samples) or (n_prompts, n_configs), in [0, 1], NaN = missing.
            tasks: task of each prompt, (n_prompts,); None, for all or for one: the prompt's own.
            groups: group of each prompt, (n_prompts,); None (or NaN), for all or for one: the prompt's own.
            tokens: new tokens, shaped like rewards.
            seconds: wall time, shaped like rewards.
            default: index of the engine's default in the space.
            answers: what was extracted from each text, shaped like rewards: strings, None where nothing was,
                or whole numbers that are equal for equal answers of a prompt, -1 where nothing was.

        Raises:
            InvalidInput: shapes that disagree, what are no numbers, or a reward outside [0, 1].
        """
        known = list(as_prompts(prompts))
        for name, labels in (("task", tasks), ("group", groups)):
            if labels is None:
                continue
            labels = list(labels)
            if len(labels) != len(known):
                raise InvalidInput(f"{name}s", f"one a prompt, {len(known)}", f"{len(labels)}")
            # A missing label (NaN where it went through pandas) is no label that prompts could share.
            given = (label is not None and label == label for label in labels)
            changes: list[dict[str, Any]] = [
                {name: str(label)} if has else {} for label, has in zip(labels, given, strict=True)
            ]
            known = [replace(prompt, **change) for prompt, change in zip(known, changes, strict=True)]
        space = space if isinstance(space, DecodingSpace) else DecodingSpace(space)
        rewards = _numbers("rewards", rewards)
        rest = [
            None if values is None else _numbers(name, values)
            for name, values in (("tokens", tokens), ("seconds", seconds))
        ]
        rest.append(None if answers is None else renumber(as_codes(answers)))
        if rewards.ndim == 2:  # one sample
            rewards = rewards[:, :, None]
            rest = [values if values is None or values.ndim != 2 else values[:, :, None] for values in rest]
        return cls(tuple(known), space, rewards, rest[0], rest[1], default, answers=rest[2])

    @classmethod
    def from_jsonl(cls, path: str | Path, *, default: DecodingConfig | None = None) -> SweepTable:
        """A table from outcomes, one JSON object a line.

        Keys: `prompt` or `messages`, `config` (a mapping of its fields), `reward` (null: not
        scored), optional `tokens`, `seconds`, `answer` (what was extracted from the text: a string or a
        number), and the prompt's task, group, reference, id. Others (the text) are metadata where all
        lines of a prompt agree, else left out.
        Lines of one prompt and config are its samples, in the order of the file.

        Raises:
            InvalidInput: an unreadable file or line (the message names it), or a `default` without outcomes.
        """
        found = read_outcomes(path)
        tokens, seconds = (None if np.isnan(part).all() else part for part in found.values[1:])
        answers = renumber(found.answers)
        space = DecodingSpace(found.configs)
        if default is not None and default not in space:
            raise InvalidInput("default", f"a config that {path} has outcomes of", default)
        index = None if default is None else space.index(default)
        return cls(found.prompts, space, found.values[0], tokens, seconds, index, answers=answers)

    @cached_property
    def tasks(self) -> np.ndarray:
        """str (n_prompts,): task of each prompt."""
        return np.array([prompt.task for prompt in self.prompts], dtype=str)

    @cached_property
    def counts(self) -> np.ndarray:
        """int64 (n_prompts, n_configs): scored samples of each cell."""
        return np.asarray((~np.isnan(self.rewards)).sum(axis=2), dtype=np.int64)

    @cached_property
    def means(self) -> np.ndarray:
        """float64 (n_prompts, n_configs): mean reward over the scored samples, NaN where there is none."""
        return average_known(self.rewards)

    @cached_property
    def common_rewards(self) -> np.ndarray:
        """float64 (n_prompts, n_configs, common): the samples that differences and intervals are made of."""
        return self.rewards[:, :, : self.common]

    @cached_property
    def common_means(self) -> np.ndarray:
        """float64 (n_prompts, n_configs): mean over the scored common samples, NaN where there is none."""
        return self.means if self.common is None else average_known(self.common_rewards)

    @cached_property
    def complete(self) -> np.ndarray:
        """bool (n_prompts,): prompts with at least one scored common sample of every config. Only these
        enter comparisons: a prompt that lacks a config is left out for all, and counted."""
        return np.asarray(~np.isnan(self.common_means).any(axis=1))

    def take(self, rows: np.ndarray) -> SweepTable:
        """The table of some prompts: indices or a bool mask (n_prompts,)."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        return replace(
            self,
            prompts=tuple(self.prompts[int(row)] for row in rows),
            rewards=self.rewards[rows],
            tokens=None if self.tokens is None else self.tokens[rows],
            seconds=None if self.seconds is None else self.seconds[rows],
            answers=None if self.answers is None else self.answers[rows],
            groups=self.groups[rows],
        )

    def in_space(self, space: DecodingSpace) -> SweepTable:
        """The table of the configs of another space, in its order.

        Raises:
            InvalidInput: a config of that space is not in the table.
        """
        missing = [config for config in space if config not in self.space]
        if missing:
            raise InvalidInput("table", "a sweep with every config of the space", f"no {missing[0]!r}", "Sweep it too.")
        columns = [self.space.index(config) for config in space]
        return replace(
            self,
            space=space,
            rewards=self.rewards[:, columns],
            tokens=None if self.tokens is None else self.tokens[:, columns],
            seconds=None if self.seconds is None else self.seconds[:, columns],
            answers=None if self.answers is None else self.answers[:, columns],
            default=columns.index(self.default) if self.default in columns else None,
        )

    def to_instruction_tuning(
        self,
        path: str | Path,
        *,
        values: np.ndarray | None = None,
        undecided: bool = True,
        weights: bool = False,
        strength: float = 2.0,
        near: float = 0.05,
    ) -> int:
        """Write labels to tune an LLM on, so that it writes its own settings as in HAG (arXiv 2402.11251).

        JSONL, a line a prompt: `messages` with the prompt and a line that asks for its settings (user), and its
        best config as a JSON object (assistant), as `benchmarks/baselines/self_report.py` asks and reads. The label
        is the config with the best mean reward, shrunk; among those near it the one that is best on the whole
        (`data.tuning.best_labels`). For an honest test export `table.take(train)` only.

        Args:
            path: a file that is written whole or not at all.
            values: float64 (n_prompts, n_configs), what is to be maximised in place of the mean reward.
            undecided: keep prompts whose configs all did alike; their label is the config best on the whole.
            weights: add `weight`: what the label is worth over a config drawn at random, with mean 1.
            strength: how many samples the expectation that a cell is shrunk to is worth, at least 0.
            near: what counts as alike, in units of the reward, at least 0.

        Returns:
            How many prompts were written; one without any scored cell is left out.

        Raises:
            InvalidInput: a space of one config, values of another shape, or a number out of range.
            OSError: the file cannot be written.
        """
        values = self.means if values is None else np.asarray(values, dtype=np.float64)
        if values.shape != self.means.shape:
            raise InvalidInput("values", f"shape {self.means.shape}", f"shape {values.shape}")
        text = SettingsText(self.space)
        labels = best_labels(values, self.counts, self.space.deterministic, strength=strength, near=near)
        return write_labels(path, self.prompts, text, labels, undecided=undecided, weights=weights)

    def __repr__(self) -> str:
        shape = " × ".join(
            f"{count} {name}" for count, name in zip(self.rewards.shape, ("prompts", "configs", "samples"), strict=True)
        )
        return f"SweepTable({shape}, {int(self.counts.sum())} scored)"


def average_known(values: np.ndarray) -> np.ndarray:
    """float64 (…): mean of values (…, n) over what is not NaN in the last axis; NaN where nothing is."""
    counts = (~np.isnan(values)).sum(axis=-1)
    total = np.where(np.isnan(values), 0.0, values).sum(axis=-1)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _numbers(name: str, values: Any) -> np.ndarray:
    """float64 array; None in it is NaN."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(name, "an array of numbers, with NaN where one is missing", str(error)) from error
