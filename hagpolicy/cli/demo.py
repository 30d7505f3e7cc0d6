"""The demo: the whole loop on a small real LLM, from nothing to answers under a policy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

import hagpolicy as hag
from hagpolicy._files import check_replaceable, format_json, parse_json, write_text
from hagpolicy.cli import demo_text as text
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.prompts import Prompt, read_prompts
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.data.store.loading import choose_view
from hagpolicy.data.table import SweepTable
from hagpolicy.engines.base import Engine
from hagpolicy.policy.bundle import check_target
from hagpolicy.policy.policy import Policy
from hagpolicy.reporting.page import check_report_path

# The scorer of each kind of the demo's prompts.
SCORERS = {
    "lists": "distinct_items",
    "json": "json_valid",
    "facts": "contains_all",
    "sentences": "contains_all",
    "sums": "numeric_match",
}
SAMPLES = 1
MAX_TOKENS = 40
# Deterministic: one answer a prompt is all there is. Chosen on other prompts of the same kinds, which share no topic,
# country, person, set of words or numbers with these (benchmarks/claims/sweeping/demo_proof.py).
CONFIGS: tuple[Mapping[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 0.0, "no_repeat_ngram_size": 3},
    {"temperature": 0.0, "hint": "Answer briefly."},
    {"temperature": 0.0, "hint": "Give only the answer."},
    {"temperature": 0.0, "no_repeat_ngram_size": 2, "hint": "Answer with a comma-separated list."},
)


def run_demo(
    out: str | Path = "hagpolicy-demo",
    engine: str | Engine = "smollm2",
    *,
    prompts: Sequence[Prompt] | None = None,
    new_prompts: Sequence[Prompt] | None = None,
    space: DecodingSpace | None = None,
    scorer: Any = SCORERS,
    samples: int = SAMPLES,
    max_tokens: int = MAX_TOKENS,
    write: Callable[[str], Any] = print,
    progress: bool = True,
) -> dict[str, Any]:
    """Sweep, headroom, fit, evaluate, save, load, report, and answers to new prompts.

    Everything lies below `out`: `sweep/` and `answers/` (cells in Parquet, with their texts),
    `policy/`, `report.html` and `outcome.json`. A second run finds its cells there and generates
    none again.

    Args:
        out: folder, made where it is missing.
        engine: an engine, or what `load_engine` takes.
        prompts: to learn from; None: the demo's own 300, of five kinds.
        new_prompts: to answer at the end; None: the demo's own six.
        space: configurations that compete; None: five deterministic ones.
        scorer: as for `sweep`.
        samples: of each sampled configuration.
        max_tokens: new tokens an answer.
        write: is called with each piece of text for the reader.
        progress: show a progress bar while generating.

    Returns:
        What `outcome.json` holds: figures, seconds of each stage, answers, files.

    Raises:
        HagError: as `load_engine`, `sweep` and `fit` do, or something else lies in `out` where the demo writes.
    """
    clock = _Clock()
    out = Path(out)
    _check_paths(out)
    known = tuple(prompts) if prompts is not None else read_demo_prompts("demo_prompts.jsonl")
    fresh = tuple(new_prompts) if new_prompts is not None else read_demo_prompts("demo_new_prompts.jsonl")
    configs = space or DecodingSpace(DecodingConfig.from_dict(values) for values in CONFIGS)
    write(text.format_opening(out))

    made = hag.load_engine(engine)
    clock.stop("engine")
    write(text.format_engine(made, clock.seconds["engine"]))
    try:
        write(text.format_plan(known, configs, made, samples, max_tokens))
        table = hag.sweep(
            made, known, configs, scorer, samples=samples, max_tokens=max_tokens, out=out / "sweep", progress=progress
        )
        clock.stop("sweep")
        found = hag.headroom(table)
        write(text.format_sweep(table, found, clock.seconds["sweep"]))
        write(text.format_headroom(found))

        fitted = hag.fit(table)
        clock.stop("fit")
        write(text.format_fit(fitted, clock.seconds["fit"]))
        if fitted.ships == "per_prompt":
            write(text.format_choices(table, fitted))
        fitted.save(out / "policy")
        policy = hag.load(out / "policy")
        hag.write_report(
            out / "report.html",
            table=table,
            policy=fitted,
            headroom=found,
            title="hagpolicy demo",
            command="hagpolicy demo",
        )
        clock.stop("report")

        answers = answer_prompts(
            made, fresh, table, policy, fitted.candidate, found.sbs_index, scorer, max_tokens, out, progress
        )
        clock.stop("answers")
    finally:
        if isinstance(engine, str):
            made.close()
    write(text.format_answers(answers))
    outcome = {
        "engine": dict(made.fingerprint),
        "prompts": len(known),
        **_describe_results(table, found, fitted),
        "answers": answers,
        "seconds": clock.seconds,
        "files": {"cells": str(out / "sweep"), "report": str(out / "report.html"), "policy": str(out / "policy")},
    }
    _check_paths(out)
    write_text(out / "outcome.json", format_json(outcome))
    write(text.format_closing(out, clock.seconds))
    return outcome


def _check_paths(out: Path) -> None:
    """Refuse a folder in which something that is not the demo's lies where the demo writes."""
    check_target(out / "policy")
    check_report_path(out / "report.html")
    check_replaceable(out / "outcome.json", _is_outcome, "the outcome of a demo")


def _is_outcome(head: bytes) -> bool:
    try:
        found = parse_json(head)
    except ValueError:
        return False
    return isinstance(found, dict) and {"engine", "prompts", "answers", "seconds", "files"} <= set(found)


def _describe_results(table: SweepTable, found: hag.Headroom, policy: Policy) -> dict[str, Any]:
    """The figures of the sweep and of the policy fitted on it, as `outcome.json` holds them."""
    return {
        "configs": table.space.to_json(),
        "default": table.default,
        "cells": int(table.counts.sum()),
        "new_tokens": None if table.tokens is None or np.isnan(table.tokens).all() else int(np.nansum(table.tokens)),
        "failures": dict(table.failures),
        "headroom": found.to_json(),
        "evaluation": policy.evaluation and policy.evaluation.to_json(),
        "ships": policy.ships,
        "ships_sbs": policy.ships_sbs,
        "reason": policy.reason,
    }


def read_demo_prompts(name: str) -> tuple[Prompt, ...]:
    """Prompts written for the demo, from the package."""
    with resources.as_file(resources.files("hagpolicy") / "assets" / name) as path:
        return read_prompts(path)


def answer_prompts(
    engine: Engine,
    prompts: Sequence[Prompt],
    table: SweepTable,
    policy: Policy,
    candidate: Policy | None,
    sbs: int,
    scorer: Any,
    max_tokens: int,
    out: Path,
    progress: bool,
) -> list[dict[str, Any]]:
    """Answers of prompts under the engine's default, the SBS and what the policy chooses.

    Each row: prompt, task, and `choices`: who (several where they agree), config, text, reward,
    proven (False for a candidate that was held back). One small sweep generates them, so that
    they are stored, scored and batched like all cells.
    """
    choosers: dict[str, list[DecodingConfig]] = {}
    if table.default is not None:
        choosers["default"] = [table.space[table.default]] * len(prompts)
    choosers["single best"] = [table.space[sbs]] * len(prompts)
    choosers["policy"] = policy.predict_batch(list(prompts))
    if candidate is not None:
        choosers["not proven"] = candidate.predict_batch(list(prompts))
    wanted = {config for chosen in choosers.values() for config in chosen}
    space = DecodingSpace(config for config in table.space if config in wanted)
    small = hag.sweep(
        engine, prompts, space, scorer, samples=1, max_tokens=max_tokens, out=out / "answers", progress=progress
    )
    texts = read_texts(out / "answers", prompts, space)
    rows: list[dict[str, Any]] = []
    for i, prompt in enumerate(prompts):
        by_config: dict[DecodingConfig, list[str]] = {}
        for name, chosen in choosers.items():
            by_config.setdefault(chosen[i], []).append(name)
        choices = []
        for config, who in by_config.items():
            reward = float(small.means[i, small.space.index(config)])
            choices.append(
                {
                    "who": who,
                    "config": config.to_dict(),
                    "text": texts[prompt, config],
                    "reward": None if np.isnan(reward) else reward,
                    "proven": who != ["not proven"],
                }
            )
        rows.append({"prompt": prompt.text, "task": prompt.task, "choices": choices})
    return rows


def read_texts(
    folder: Path, prompts: Sequence[Prompt], space: DecodingSpace
) -> dict[tuple[Prompt, DecodingConfig], str]:
    """The first stored text of each prompt under each config."""
    with SweepStore(folder) as store:
        view = choose_view(store, prompts, space, samples=1)
        owner = {
            key: (prompt, space[config])
            for prompt, keys in zip(view.prompts, view.keys, strict=True)
            for key, (config, _) in zip(keys, view.slots, strict=True)
        }
        return {owner[key]: completion.text for found in store.completions(owner) for key, completion in found}


class _Clock:
    """Wall time of the stages, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, stage: str) -> None:
        """The stage that began when the last one ended is over."""
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 2)
        self._last = now
