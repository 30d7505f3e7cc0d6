"""`SweepTable`: the rewards of prompts × configs × samples, and reading them from other formats."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hagpolicy._checks import is_integral
from hagpolicy._digest import digest, digest_bytes
from hagpolicy._extras import require_pandas
from hagpolicy.config.config import DecodingConfig, as_default
from hagpolicy.config.space import DecodingSpace, pin_names
from hagpolicy.data.answers import NO_ANSWER, as_codes, check_codes, renumber
from hagpolicy.data.groups import check_group_numbers, number_groups
from hagpolicy.data.join import Axis, agree, join_cells, join_groups_of, unite
from hagpolicy.data.logs import read_logs
from hagpolicy.data.looks import Look
from hagpolicy.data.origins import Origin
from hagpolicy.data.outcomes import ImportedOutcomes, read_outcomes, write_outcomes
from hagpolicy.data.prompts import Prompt, as_prompts
from hagpolicy.data.rows import is_missing
from hagpolicy.data.saved import SavedTable, read_saved, write_saved
from hagpolicy.data.texts import Texts
from hagpolicy.data.tuning import SettingsText, best_labels, write_labels
from hagpolicy.errors import InvalidInput, StoreError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SweepTable:
    """The cells of a sweep as arrays. NaN is "not scored", never 0.

    Attributes:
        prompts: n_prompts prompts.
        space: n_configs configs.
        rewards: float64 (n_prompts, n_configs, n_samples), in [0, 1] or NaN.
        tokens: float32 of the same shape, new tokens, NaN where they were not counted; None: nowhere known.
        seconds: float32 of the same shape, wall time, NaN where it was not measured; None: nowhere known.
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
        texts: the answers, `texts[i, j, k]`, read from the sweep's folder when they are asked for; None where the table
            was made elsewhere.
        stored: prompts that the folder holds in all, where this is a part that nobody asked for; None otherwise.
        groups: int64 (n_prompts,), number of the set of prompts each one stays together with; not given: those
            that the prompts declare (`groups.number_groups`). Given ones may join more prompts, not fewer: a table of
            some prompts keeps the numbers of the whole one. With other prompts give None, or theirs.
        looks: at the sweep while it ran, which a later proof pays for (`sweep(until=…)`).
        origins: of the artefacts that its configs name: what they were made from, which no proof may use.
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
    texts: Texts | None = field(default=None, repr=False)
    stored: int | None = None
    groups: np.ndarray = None  # type: ignore[assignment]  # an array from __post_init__ on
    looks: tuple[Look, ...] = ()
    origins: tuple[Origin, ...] = ()

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
                if not (np.isnan(values) | ((values >= 0.0) & (values < np.inf))).all():
                    raise InvalidInput(name, "finite numbers of at least 0, or NaN where unknown", "others")
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
            tokens: new tokens, shaped like rewards, NaN where they were not counted.
            seconds: wall time, shaped like rewards, NaN where it was not measured.
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
            given = (not is_missing(label) for label in labels)
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
    def from_jsonl(
        cls, path: str | Path, *, default: DecodingConfig | Mapping[str, Any] | Literal["unset"] | None = None
    ) -> SweepTable:
        """A table from outcomes, one JSON object a line.

        Keys: `prompt` or `messages`, `config` (a mapping of its fields), `reward` (null: not
        scored), optional `tokens`, `seconds`, `answer` (what was extracted from the text: a string or a
        number), `default` (true: this config is what runs today), and the prompt's task, group, reference, id.
        Others (the text) are metadata where all lines of a prompt agree, else left out.
        Lines of one prompt and config are its samples, in the order of the file.

        Args:
            path: of the file.
            default: what runs today: a config, its settings as a mapping, or "unset"; None: the one that the lines
                name, if any.

        Raises:
            InvalidInput: an unreadable file or line (the message names it), or a `default` that is none or has no
                outcomes, which is told before the lines are read.
        """
        return cls._from_outcomes(read_outcomes(path, as_default(default)))

    @classmethod
    def from_logs(
        cls,
        *paths: str | os.PathLike[str],
        metric: str | None = None,
        filter: str | None = None,
        default: DecodingConfig | Mapping[str, Any] | Literal["unset"] | None = None,
    ) -> SweepTable:
        """A table of runs that another evaluation tool logged: each file is a run, its generation settings the config.

        Runs of one config are its samples, as are inspect's epochs. A setting that a log does not name stands at its
        neutral value; lm-eval is greedy unless it says otherwise, and a log of inspect that names none is `unset`. The
        limit on new tokens is a part of a config only where runs of one task differ in it. Texts are not kept.

        Args:
            paths: samples that lm-eval wrote (`--log_samples`), or logs of inspect (.eval, .json).
            metric: whose value is the reward; None: the only one that is logged. A part of an inspect score is
                "scorer/part".
            filter: of lm-eval, such as "strict-match"; None: the only one that is logged.
            default: what runs today, as in `from_jsonl`.

        Raises:
            InvalidInput: a file that is neither, or without generation settings; a metric or filter that is to be
                chosen, or gives rewards outside [0, 1]; runs of one task that asked other prompts under one id, or
                differ in what no config says (such as `until`); logs of several models.
        """
        today = as_default(default)
        runs = read_logs(paths, metric, filter)
        table = replace(cls._from_outcomes(runs.outcomes), max_tokens=runs.max_tokens, scorers=runs.scorers)
        if runs.model:
            table = replace(table, fingerprint={"kind": "inspect", "model": runs.model})
        return table if today is None else table.with_default(today)

    @classmethod
    def _from_outcomes(cls, found: ImportedOutcomes) -> SweepTable:
        tokens, seconds = (None if np.isnan(part).all() else part for part in found.values[1:])
        answers = renumber(found.answers)
        space = DecodingSpace(found.configs)
        return cls(found.prompts, space, found.values[0], tokens, seconds, found.default, answers=answers)

    @classmethod
    def from_saved(cls, path: str | Path) -> SweepTable:
        """The table that `save` wrote; `load_table` reads it too.

        Raises:
            StoreError: it cannot be read, is damaged, no saved table, or of a newer version.
        """
        saved = read_saved(path)
        try:
            parts: dict[str, Any] = {**saved.cells, "groups": saved.groups, "looks": saved.looks, **saved.records}
            parts["origins"] = saved.origins
            return cls(saved.prompts, saved.space, **parts)
        except (InvalidInput, TypeError) as error:
            raise StoreError(f"the table {path} cannot be used: {error}") from error

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

    @cached_property
    def digest(self) -> str:
        """Identity of prompts, configs and rewards, 32 hex digits: equal tables hold the same outcomes."""
        known = [prompt.digest for prompt in self.prompts]
        rewards = digest_bytes(np.ascontiguousarray(self.rewards).tobytes())
        return digest({"prompts": known, "space": self.space.digest, "default": self.default, "rewards": rewards})

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
            texts=None if self.texts is None else self.texts.take(rows, np.arange(len(self.space))),
            groups=self.groups[rows],
            stored=None,
        )

    def with_default(self, default: DecodingConfig | Mapping[str, Any] | Literal["unset"]) -> SweepTable:
        """The table with what runs today: a config of its space, its settings as a mapping, or "unset".

        Raises:
            InvalidInput: it is none, or not in the space.
        """
        config = as_default(default)
        config = None if config is None else pin_names(config, self.space)
        if config is None or config not in self.space:
            raise InvalidInput("default", "a config of the table", default, "Sweep it too.")
        return replace(self, default=self.space.index(config))

    def in_space(self, space: DecodingSpace) -> SweepTable:
        """The table of the configs of another space, in its order.

        Raises:
            InvalidInput: a config of that space is not in the table.
        """
        space = DecodingSpace(pin_names(config, self.space) for config in space)
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
            texts=None if self.texts is None else self.texts.take(np.arange(len(self.prompts)), np.array(columns)),
            default=columns.index(self.default) if self.default in columns else None,
        )

    def join(self, other: SweepTable) -> SweepTable:
        """The table of both: prompts of both over the same configs, or configs of both over the same prompts.

        Cells that both have must agree, and one that only one of them knows is taken from it. Prompts stay together
        that do so in either. What only one table says of its engine, limit or scorers is unknown of both. Codes of
        answers are kept where no prompt is shared, since only within a prompt and a table do equal ones mean the same.

        Args:
            other: a table whose configs, or whose prompts, are those of this one, in any order.

        Raises:
            InvalidInput: neither prompts nor configs are the same, cells disagree, or the tables are of different
                engines, limits, scorers or defaults.
        """
        if not isinstance(other, SweepTable):
            raise InvalidInput("other", "a SweepTable", other, "Read a file or a folder with `load_table`.")
        rows, columns = unite("prompts", self.prompts, other.prompts), unite("configs", self.space, other.space)
        if not (rows.same or columns.same):
            got = (
                f"{rows.shared} of {len(rows.items)} prompts, {columns.shared} of {len(columns.items)} configs in both"
            )
            expected = "a table of the same configs, or of the same prompts"
            raise InvalidInput("other", expected, got, "Sweep the rest too, or take a part of one.")
        space, samples = DecodingSpace(columns.items), max(self.rewards.shape[2], other.rewards.shape[2])
        cells = {
            name: join_cells(name, rows, columns, samples, getattr(self, name), getattr(other, name))
            for name in ("rewards", "tokens", "seconds")
        }
        defaults = [None if table.default is None else table.space[table.default] for table in (self, other)]
        default = agree("default", defaults[0], defaults[1], None) or defaults[0] or defaults[1]
        failed = Counter(self.failures), Counter(other.failures)
        common = [table.common or table.rewards.shape[2] for table in (self, other)]
        alike = self.common is other.common is None and (rows.same or common[0] == common[1])
        return SweepTable(
            rows.items,
            space,
            **cells,  # type: ignore[arg-type]  # rewards are an array
            default=None if default is None else space.index(default),
            fingerprint=agree("fingerprint", dict(self.fingerprint), dict(other.fingerprint), {}),
            max_tokens=agree("max_tokens", self.max_tokens, other.max_tokens, None),
            scorers=agree("scorers", dict(self.scorers), dict(other.scorers), {}),
            # Of cells that both have nobody knows which failed: at least as many as in either.
            failures=dict(failed[0] | failed[1] if rows.shared and columns.shared else failed[0] + failed[1]),
            common=None if alike else min(common),
            answers=self._join_answers(other, rows, columns, samples),
            groups=join_groups_of(rows.items, rows, self.groups, other.groups),
            looks=tuple(dict.fromkeys((*self.looks, *other.looks))),
            origins=tuple(dict.fromkeys((*self.origins, *other.origins))),
        )

    def _join_answers(
        self, other: SweepTable, rows: Axis[Prompt], columns: Axis[DecodingConfig], samples: int
    ) -> np.ndarray | None:
        """Codes of both tables, or None, with a word in the log where that loses some."""
        if self.answers is None or other.answers is None or rows.shared:
            if self.answers is not other.answers:
                logger.warning("the joined table has no answers: their codes mean the same within one table only")
            return None
        joined = np.full((len(rows.items), len(columns.items), samples), NO_ANSWER, dtype=np.int32)
        for table, row, column in zip((self, other), rows.places, columns.places, strict=True):
            joined[np.ix_(row, column, np.arange(table.rewards.shape[2]))] = np.asarray(table.answers)
        return joined

    def save(self, path: str | Path) -> Path:
        """Write the table as one Parquet file, whole or not at all, which `load_table` reads back equal.

        All but the texts is in it, which stay in the sweep's folder. A digest of all its bytes is checked when it is
        read. An older table at the path is replaced. Returns the path.

        Raises:
            InvalidInput: something else lies at the path.
            OSError: the file cannot be written.
            MissingExtra: pyarrow is not installed (the extra `sweep` brings it).
        """
        records = {name: getattr(self, name) for name in ("default", "max_tokens", "common", "stored")}
        records |= {name: dict(getattr(self, name)) for name in ("fingerprint", "scorers", "failures")}
        cells = {name: values for name, values in self._cells().items() if values is not None}
        saved = SavedTable(self.prompts, self.space, self.groups, cells, self.looks, records, self.origins)
        return write_saved(path, saved)

    def to_jsonl(self, path: str | Path) -> int:
        """Write the table as outcomes, one JSON object a line, as `from_jsonl` reads them; returns how many.

        An answer is the number of its code. What lines have no keys for (engine, limit, scorers, looks, what artefacts
        were made from, which samples were added where the choice was uncertain, groups beyond those that the prompts
        declare, texts) is left out, and named in the log where it changes what an analysis says; `save` keeps it.
        Written whole or not at all.

        Raises:
            InvalidInput: prompts that lines cannot tell apart, no prompt, or something else than outcomes at the path.
            OSError: the file cannot be written.
        """
        left = {"looks": bool(self.looks), "common": self.common is not None, "origins": bool(self.origins)}
        left["groups"] = len(np.unique(self.groups)) < len(np.unique(number_groups(self.prompts)))
        if any(left.values()):
            names = ", ".join(name for name, lost in left.items() if lost)
            logger.warning("%s: lines of outcomes cannot say the table's %s; `save` keeps them", path, names)
        return write_outcomes(path, self.prompts, self.space, self._cells(), self.default)

    def to_pandas(self) -> Any:
        """A pandas frame with a row a cell, n_prompts × n_configs × n_samples of them, in that order.

        Columns: `prompt` (its digest), `id`, `task`, `group` (its number), `config` (its index in the space), the
        settings that differ within the space, `sample`, `reward` (NaN: not scored), and where they are known `tokens`,
        `seconds`, `answer` (its code within the prompt, -1: none).

        Raises:
            MissingExtra: pandas is not installed.
        """
        pandas = require_pandas()
        prompts, configs, samples = (part.ravel() for part in np.indices(self.rewards.shape))
        columns: dict[str, Any] = {
            name: np.array([getattr(prompt, name) for prompt in self.prompts], dtype=object)[prompts]
            for name in ("digest", "id", "task")
        }
        columns = {"prompt": columns.pop("digest"), **columns, "group": self.groups[prompts], "config": configs}
        for name in self.space.varying:
            columns[name] = np.array([getattr(config, name) for config in self.space])[configs]
        columns["sample"] = samples
        singular = {"rewards": "reward", "answers": "answer"}
        for name, values in self._cells().items():
            if values is not None:
                columns[singular.get(name, name)] = values.ravel()
        return pandas.DataFrame(columns)

    def _cells(self) -> dict[str, np.ndarray | None]:
        return {"rewards": self.rewards, "tokens": self.tokens, "seconds": self.seconds, "answers": self.answers}

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
