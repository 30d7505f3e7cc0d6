"""`sweep` drives an engine through the cells of a plan; `rescore` computes rewards from stored texts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hagpolicy.config import DecodingConfig
from hagpolicy.engines.base import Engine
from hagpolicy.errors import InvalidInput, StoreError
from hagpolicy.prompts import as_prompts
from hagpolicy.scorers import scorer_of
from hagpolicy.space import DecodingSpace
from hagpolicy.store import distinct, table_of
from hagpolicy.store.cells import Plan, View
from hagpolicy.store.folder import SweepStore
from hagpolicy.sweeping.drive import run_units
from hagpolicy.sweeping.plan import check_references, check_settings, plan_work
from hagpolicy.sweeping.progress import Meter, Progress
from hagpolicy.sweeping.scoring import identity, score_stored
from hagpolicy.table import SweepTable

logger = logging.getLogger(__name__)


def sweep(
    engine: Engine | str | Path,
    prompts: Any,
    space: DecodingSpace | Iterable[DecodingConfig],
    scorer: Any,
    *,
    samples: int = 4,
    max_tokens: int = 256,
    out: str | Path,
    seed: int = 0,
    progress: bool | Callable[[Progress], Any] = True,
) -> SweepTable:
    """Generate and score every prompt under every config, into a folder that can be resumed and enlarged.

    What is stored in `out` is never generated again: the same call goes on where a killed one
    stopped, and a larger one adds what is missing. The engine's default joins the space and is
    marked. A deterministic config is drawn once. An engine or scorer error marks its cell and the
    run goes on; `table.failures` counts the marks. Cells the engine failed on are tried once more
    by every new call; where stored cells lack the rewards of this scorer, they are scored from
    their texts.

    Args:
        engine: an engine, or what `load_engine` takes.
        prompts: strings, chat messages, mappings or `Prompt`; or the path of a .jsonl or .parquet file.
        space: the configs.
        scorer: one for all or a mapping by task; see `scorers.scorer_of`.
        samples: drawn of every prompt and config, at least 1.
        max_tokens: limit on new tokens where a config has none of its own, at least 1.
        out: the folder.
        seed: another one draws other samples.
        progress: a bar on stderr (True), nothing, or a function called with a `Progress` after each unit.

    Returns:
        The table of exactly these prompts, configs and samples.

    Raises:
        InvalidInput: bad prompts, space, scorer or numbers, references that a scorer cannot use;
            UnsupportedSetting: a config that the engine cannot run. Both before a token is spent.
        ForeignSweep, SweepLocked: the folder is another engine's, or being written to.
        StoreError: it cannot be read or written; what was stored before is intact.
        EngineError: the engine failed as a whole on several units in a row; what is done is stored.
        KeyboardInterrupt: after what is done is stored.
    """
    for name, value in (("samples", samples), ("max_tokens", max_tokens)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidInput(name, "a whole number of at least 1", value)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InvalidInput("seed", "a whole number", seed)
    chosen = distinct(as_prompts(prompts))
    scorers = scorer_of(scorer, chosen)
    check_references(chosen, scorers)
    space = space if isinstance(space, DecodingSpace) else DecodingSpace(space)
    if not isinstance(engine, Engine):
        from hagpolicy.engines import load_engine

        loaded: Engine = load_engine(engine)
        try:
            return sweep(
                loaded, chosen, space, scorer,
                samples=samples, max_tokens=max_tokens, out=out, seed=seed, progress=progress,
            )  # fmt: skip
        finally:
            loaded.close()
    check_settings(engine, space)
    space, default = space.with_config(engine.default_config())
    names = tuple(identity(one) for one in scorers)
    view = View(chosen, space, samples, max_tokens, seed, default, names)
    with SweepStore(out, fingerprint=engine.fingerprint, engine=engine.name, write=True) as store:
        work = plan_work(store, view, engine.unit_cells)
        store.add_plan(work.new)
        words = "%s: %d cells wanted, %d stored, %d to generate in %d units"
        logger.info(words, out, view.n_cells, work.stored, work.n_cells, work.n_units)
        score_stored(store, view, scorers, again=False)
        meter = Meter(progress, work.n_cells)
        try:
            run_units(engine, store, work, dict(zip(chosen, scorers, strict=True)), meter)
        finally:
            meter.close()
        table = table_of(store, view)
    if table.failures:
        shown = "; ".join(f"{count} × {reason}" for reason, count in list(table.failures.items())[:3])
        logger.warning("%s: %d of %d cells have no reward: %s", out, sum(table.failures.values()), view.n_cells, shown)
    return table


def rescore(out: str | Path, scorer: Any) -> SweepTable:
    """Compute the rewards of the latest sweep in `out` anew from the stored texts; nothing is generated.

    Earlier rewards stay stored: `load_table(out, scorer=...)` gives those of any scorer.

    Args:
        out: a folder that `sweep` wrote.
        scorer: see `sweep`.

    Returns:
        The table of the latest sweep with the new rewards; `load_table(out)` now gives the same.

    Raises:
        InvalidInput: a bad scorer, or references that it cannot use.
        StoreError: no sweep folder, nothing planned in it, or it cannot be written.
    """
    with SweepStore(out, write=True) as store:
        if not store.plans:
            raise StoreError(f"{out} holds no plan: there is nothing to score.")
        latest = store.plans[-1].view
        scorers = scorer_of(scorer, latest.prompts)
        check_references(latest.prompts, scorers)
        view = replace(latest, scorers=tuple(identity(one) for one in scorers))
        score_stored(store, view, scorers, again=True)
        store.add_plan(Plan(view))
        return table_of(store, view)
