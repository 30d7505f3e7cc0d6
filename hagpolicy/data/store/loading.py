"""The sweep folder in, `SweepTable` out: any choice of prompts, configs and samples is a view of it."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hagpolicy._checks import is_whole
from hagpolicy.config.config import DecodingConfig, as_default
from hagpolicy.config.space import DecodingSpace, pin_names
from hagpolicy.data.answers import NO_ANSWER, renumber
from hagpolicy.data.looks import Look
from hagpolicy.data.origins import select_origins
from hagpolicy.data.prompts import Prompt, as_prompts
from hagpolicy.data.saved import MAGIC
from hagpolicy.data.store.cells import View, fill
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.data.store.index import make_score_records
from hagpolicy.data.store.place import Place
from hagpolicy.data.store.texts import StoredTexts
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput, StoreError

logger = logging.getLogger(__name__)
_FILES = (".parquet", ".jsonl")
_LOGS = "For logs of lm-eval or inspect, make one table of several runs with SweepTable.from_logs, and save it."


def load_table(
    path: Place,
    *,
    prompts: Any = None,
    space: DecodingSpace | Iterable[DecodingConfig] | None = None,
    samples: int | None = None,
    max_tokens: int | None = None,
    scorer: str | Mapping[str, str] | None = None,
    all_prompts: bool = False,
    default: DecodingConfig | Mapping[str, Any] | Literal["unset"] | None = None,
) -> SweepTable:
    """The table of a sweep folder or of a file, or any part of it. Reads only; a running sweep may be looked at.

    Args:
        path: a folder that `sweep` wrote: a path, a URL or a file system; see `store.place.Place`. Or a file: a table
            that `SweepTable.save` wrote, or outcomes as `SweepTable.from_jsonl` reads them; of these prompts and space
            can be chosen.
        prompts: strings, messages, `Prompt` or a file; None: those of the latest sweep, and where the folder holds
            more, analyses of the table say so.
        all_prompts: every prompt that some sweep here had, instead of the latest one's.
        space: the configs; None: those of the latest sweep.
        samples: at least 1; None: as many as the latest sweep.
        max_tokens: the limit they were generated under; None: that of the latest sweep.
        scorer: whose rewards: a name ("chrf": its latest version) or name@version, or a mapping of
            them by task; None: those of the latest sweep or `rescore`.
        default: what runs today, with which everything is compared: a config of the table, its settings as a mapping,
            or "unset"; None: what the sweep or the file says.

    Raises:
        StoreError: no sweep folder, nothing planned in it, or none of the chosen cells is stored; a file that is
            damaged.
        InvalidInput: a scorer that never scored a cell here, or a bad choice; a line that is no outcome.
    """
    if all_prompts and prompts is not None:
        raise InvalidInput("all_prompts", "no prompts beside it", "both")
    today = as_default(default)
    if (file := _find_file(path)) is not None:
        for name, value in (("samples", samples), ("max_tokens", max_tokens), ("scorer", scorer)):
            if value is not None:
                raise InvalidInput(name, f"none for a file, which holds one table: {file}", value)
        return _choose_part(_read_file(file, today), prompts, space)
    with SweepStore(path) as store:
        if all_prompts:
            prompts = list(dict.fromkeys(prompt for plan in store.plans for prompt in plan.view.prompts)) or None
        view = choose_view(store, prompts, space, samples, max_tokens, scorer)
        common_slots = view.common_slots
        wanted = len(view.prompts) * len(common_slots)
        stored = int((store.cells.find(view.keys)[:, common_slots] >= 0).sum())
        if stored == 0:
            raise StoreError(
                f"none of the {wanted} chosen cells is stored in {store.path}. Run `sweep` for them; a prompt is the "
                "same only with the same task, reference, group, id and metadata."
            )
        if stored < wanted:
            logger.warning("%s: %d of %d cells are not generated yet", store.path, wanted - stored, wanted)
        table = build_table(store, view)
        table = table if today is None else table.with_default(today)
        return table if prompts is not None else replace(table, stored=len(store.prompts))


def _find_file(path: Place) -> Path | None:
    """The file at a path, or the missing one that its ending names; None for a folder or a place elsewhere."""
    if not isinstance(path, (str, os.PathLike)):
        return None
    found = Path(path)
    return found if found.is_file() or (found.suffix in _FILES and not found.exists()) else None


def _read_file(path: Path, default: DecodingConfig | None) -> SweepTable:
    try:
        with path.open("rb") as file:
            saved = file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise StoreError(f"cannot read the table {path}: {error.strerror or error}") from error
    if not saved:
        try:
            return SweepTable.from_jsonl(path, default=default)
        except InvalidInput as error:
            if path.suffix == ".eval" or path.name.startswith("samples_"):  # as other tools name their logs
                raise InvalidInput(error.field, error.expected, error.got, _LOGS) from error
            raise
    table = SweepTable.from_saved(path)
    return table if default is None else table.with_default(default)


def _choose_part(table: SweepTable, prompts: Any, space: DecodingSpace | Iterable[DecodingConfig] | None) -> SweepTable:
    """The table of some prompts and configs. Raises InvalidInput for one that is not in it."""
    if space is not None:
        table = table.in_space(space if isinstance(space, DecodingSpace) else DecodingSpace(space))
    if prompts is None:
        return table
    rows = {prompt: row for row, prompt in enumerate(table.prompts)}
    chosen = drop_repeated(as_prompts(prompts))
    missing = [prompt for prompt in chosen if prompt not in rows]
    if missing:
        got = f"{len(missing)} that are not, the first {missing[0].text:.80}"
        do = "A prompt is the same only with the same task, reference, group, id and metadata."
        raise InvalidInput("prompts", "prompts of the table", got, do)
    return table.take(np.array([rows[prompt] for prompt in chosen]))


def choose_view(
    store: SweepStore,
    prompts: Any = None,
    space: DecodingSpace | Iterable[DecodingConfig] | None = None,
    samples: int | None = None,
    max_tokens: int | None = None,
    scorer: str | Mapping[str, str] | None = None,
) -> View:
    """The view that the arguments of `load_table` choose; what is not given is that of the latest plan.

    Raises:
        StoreError: nothing is planned in the folder.
        InvalidInput: a scorer that never scored a cell here, or a bad choice.
    """
    if not store.plans:
        raise StoreError(f"{store.path} holds no plan: the sweep ended before it began. Run it again.")
    latest = store.plans[-1].view
    chosen = latest.prompts if prompts is None else drop_repeated(as_prompts(prompts))
    if space is not None:
        stored = [config for plan in reversed(store.plans) for config in plan.view.space]
        space = DecodingSpace(pin_names(config, stored) for config in DecodingSpace(space))
    default = latest.default
    if space is not None:
        known = store.engine_default
        default = space.index(known) if known is not None and known in space else None
    for name, value in (("samples", samples), ("max_tokens", max_tokens)):
        if value is not None and not is_whole(value, 1):
            raise InvalidInput(name, "a whole number of at least 1", value)
    return View(
        prompts=chosen,
        space=latest.space if space is None else space,
        samples=latest.samples if samples is None else samples,
        max_tokens=latest.max_tokens if max_tokens is None else max_tokens,
        seed=latest.seed,
        default=default,
        scorers=_scorers(store, latest, chosen, scorer),
        # As many samples as all prompts have, or fewer: then all of them are common.
        stop=latest.stop,
        common=latest.common if samples is None or samples > (latest.common or samples) else None,
    )


def build_table(store: SweepStore, view: View) -> SweepTable:
    """The cells of a view as a table. What is not generated, or not scored by the view's scorer, is NaN.

    `failures` counts the cells that were generated and have no reward, by reason.
    """
    cells = store.cells.find(view.keys)
    rewards = np.full((len(view.prompts), len(view.space), 1 + max(sample for _, sample in view.slots)), np.nan)
    answers = np.full(rewards.shape, NO_ANSWER, dtype=np.int32)
    failures: Counter[str] = Counter()
    for name in dict.fromkeys(view.scorers):
        records = store.scores.get(name, make_score_records())
        mine = [i for i, scorer in enumerate(view.scorers) if scorer == name]
        scored = records.find(view.keys[i] for i in mine)
        values = records.column("reward")
        rewards[mine] = fill(view, scored, values)
        if store.index.answers_agree(name):
            answers[mine] = np.nan_to_num(fill(view, scored, records.column("answer")), nan=NO_ANSWER)
        without = (cells[mine] >= 0) & np.append(np.isnan(values), True)[scored]
        for i, slot in np.argwhere(without).tolist():
            failures[store.find_reason(view.keys[mine[i]][slot], name)] += 1
    tasks: dict[str, dict[str, None]] = {}
    for prompt, name in zip(view.prompts, view.scorers, strict=True):
        tasks.setdefault(prompt.task, {})[name] = None
    return SweepTable(
        prompts=view.prompts,
        space=view.space,
        rewards=rewards,
        tokens=fill(view, cells, store.cells.column("tokens")).astype(np.float32),
        seconds=fill(view, cells, store.cells.column("seconds")).astype(np.float32),
        default=view.default,
        fingerprint=store.fingerprint,
        max_tokens=view.max_tokens,
        scorers={task: ", ".join(names) for task, names in tasks.items()},
        failures=dict(failures.most_common()),
        # Without a config that is sampled so often there is no sample beyond the common ones.
        common=None if view.common is None else min(view.common, rewards.shape[2]),
        answers=renumber(answers),
        texts=StoredTexts.of(store.source, view, rewards.shape[2]),
        looks=_collect_looks(store, view),
        origins=select_origins((one for plan in store.plans for one in plan.view.origins), view.space),
    )


def _collect_looks(store: SweepStore, view: View) -> tuple[Look, ...]:
    """All looks by which sweeps in the folder were ended, each once, those of the view last: whatever prompts a table
    has of it, they were chosen by what the looks saw."""
    found = dict.fromkeys(look for plan in store.plans for look in plan.view.looks if look not in view.looks)
    return (*found, *view.looks)


def drop_repeated(prompts: tuple[Prompt, ...]) -> tuple[Prompt, ...]:
    """The prompts without exact repetitions: a prompt given twice would have the same cells twice."""
    kept = tuple(dict.fromkeys(prompts))
    if len(kept) < len(prompts):
        logger.warning("%d prompts repeat another in every field and are left out", len(prompts) - len(kept))
    return kept


def _scorers(
    store: SweepStore, latest: View, prompts: tuple[Prompt, ...], scorer: str | Mapping[str, str] | None
) -> tuple[str, ...]:
    """Identity of each prompt's scorer."""
    if scorer is None:
        by_digest = {prompt.digest: name for prompt, name in zip(latest.prompts, latest.scorers, strict=True)}
        # A prompt of an earlier sweep has the scorer it had then.
        for plan in reversed(store.plans):
            for prompt, name in zip(plan.view.prompts, plan.view.scorers, strict=True):
                by_digest.setdefault(prompt.digest, name)
        by_task = {prompt.task: name for prompt, name in zip(latest.prompts, latest.scorers, strict=True)}
        return tuple(by_digest.get(prompt.digest) or by_task.get(prompt.task, latest.scorers[0]) for prompt in prompts)
    if not isinstance(scorer, (str, Mapping)):
        raise InvalidInput("scorer", "a scorer's name, or a mapping of them by task", scorer)
    found: dict[str, str] = {}
    for task in dict.fromkeys(prompt.task for prompt in prompts):
        wanted = scorer if isinstance(scorer, str) else scorer.get(task)
        # Later identities of a name stand later in the store: the last one is the latest version.
        matching = [name for name in store.scores if wanted in (name, name.rpartition("@")[0])]
        if not matching:
            where = f"scorer of task {task!r}" if task else "scorer"
            raise InvalidInput(
                where, f"one that scored cells here: {', '.join(store.scores)}", wanted, "Use `rescore`."
            )
        found[task] = matching[-1]
    return tuple(found[prompt.task] for prompt in prompts)
