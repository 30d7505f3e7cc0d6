"""`preview`: what a sweep would cost, without one; nothing is written."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hagpolicy.analysis.provable import Provable, estimate_provable, measure_spread
from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.completion import Completion, Request, sum_tokens
from hagpolicy.data.groups import number_groups
from hagpolicy.data.store.cells import View, derive_stream_seed
from hagpolicy.data.store.files import open_files
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.data.store.loading import build_table
from hagpolicy.data.store.place import Place
from hagpolicy.engines.base import Engine
from hagpolicy.engines.loading import EngineSource, open_engine
from hagpolicy.sweeping.budget import Budget, BudgetMeter
from hagpolicy.sweeping.forecast.estimate import Preview, Sample
from hagpolicy.sweeping.forecast.progress import classify_failure
from hagpolicy.sweeping.forecast.projection import (
    PROBE_CELLS,
    generates_concurrently,
    project_costs,
    project_counts,
    sample_stored,
)
from hagpolicy.sweeping.spec import SpaceLike, SweepSpec
from hagpolicy.sweeping.strategies.base import Strategy, get_strategy

# A probe begins with a few cells, which warm the engine up. Where they took no longer than FIRST_SECONDS the
# others follow together, else a few at a time, as long as PROBE_SECONDS have not passed.
FIRST_CELLS, FIRST_SECONDS, PROBE_SECONDS = 4, 5.0, 20.0


def preview(
    engine: EngineSource,
    prompts: Any,
    space: SpaceLike,
    scorer: Any,
    *,
    samples: int = 4,
    max_tokens: int = 256,
    out: Place,
    seed: int = 0,
    strategy: str | Strategy = "full",
    budget: Budget | int | str | None = None,
    on: str | None = None,
    workers: int | None = None,
    default: DecodingConfig | Mapping[str, Any] | str | None = None,
    stop: str | Iterable[str] | None = None,
) -> Preview:
    """The counts and costs of a `sweep` with the same arguments, without running it; nothing is written.

    Everything is checked as `sweep` checks it. Tokens and time are estimated from cells of this
    sweep that `out` holds; where it holds none, a probe of at most 16 cells of various prompts and
    configs is generated, not scored, and dropped. Where the probe fails, the preview has the counts
    and says so. What so many prompts can prove (`Preview.proof`) follows from their number and the spread of stored
    rewards, or an assumed one.

    Args: see `sweep`.

    Raises: what `sweep` raises before its first token, and where a budget is in tokens that are not counted.
    """
    (called, rounds), limits = get_strategy(strategy), Budget.of(budget)
    spec = SweepSpec.of(prompts, space, scorer, samples, max_tokens, seed, default, stop)
    with open_engine(engine, on, workers) as made, tempfile.TemporaryDirectory() as nowhere:
        spec = spec.for_engine(made)
        view = spec.view(made)
        place = out if open_files(out).has("sweep.json") else nowhere
        store = SweepStore(place, fingerprint=made.fingerprint, engine=made.name)
        counts = project_counts(store, view, spec.scorers, made, called, limits, open_files(out).place)
        if rounds is None:
            counts = replace(counts, proof=_estimate_proof(store, view))
        if not counts.to_generate:
            return counts
        found = sample_stored(store, view, made) or run_probe(made, view)
        if isinstance(found, str):
            return replace(counts, source=found)
        if math.isnan(found.work):
            BudgetMeter(limits).refuse_unknown()
        return project_costs(counts, view, found, limits)


def _estimate_proof(store: SweepStore, view: View) -> Provable:
    """What the sweep can prove, by stored cells of its configs: of its own prompts, or those of the latest sweep."""
    groups = len(np.unique(number_groups(view.prompts)))
    earlier = [replace(view, prompts=plan.view.prompts, scorers=plan.view.scorers) for plan in store.plans[-1:]]
    found = (build_table(store, one) for one in [view, *earlier] if len(store.cells))
    stored = next((table for table in found if measure_spread(table) is not None), None)
    return estimate_provable(groups, view.space.deterministic, view.samples, stored)


def run_probe(engine: Engine, view: View) -> Sample | str:
    """Generate a few cells of all kinds of prompts and configs; why not, where it fails."""
    requests = _make_requests(view)
    done: list[tuple[Request, Completion]] = []
    spent: list[float] = []  # seconds of each call
    while len(done) < len(requests) and sum(spent) <= PROBE_SECONDS:
        size = len(requests) if spent and spent[0] <= FIRST_SECONDS else FIRST_CELLS
        part = requests[len(done) : len(done) + size]
        begun = time.perf_counter()
        try:
            answers = engine.generate(part)
            done += zip(part, answers, strict=True)
        except Exception as error:  # whatever an engine raises: the counts stand without an estimate
            return f"the engine failed on the probe: {type(error).__name__}: {error}"
        spent.append(time.perf_counter() - begun)
    good = [(request, answer) for request, answer in done if answer.finish != "error"]
    if not good:
        return f"all {len(done)} cells of the probe failed: {classify_failure(done[0][1].error or 'unknown')}"
    cold = sum_tokens(answer for _, answer in done[:FIRST_CELLS])
    warm, every = sum_tokens(answer for _, answer in done) - cold, sum_tokens(answer for _, answer in good)
    return Sample(
        prompts=[request.prompt for request, _ in good],
        tokens=[answer.tokens for _, answer in good],
        prompt_tokens=[answer.prompt_tokens for _, answer in good],
        characters=[len(request.prompt.text) + len(request.config.hint) for request, _ in good],
        seconds=sum(spent[1:]) / warm * every if warm > 0 else sum(spent),
        source=f"a probe of {len(good)} cells" + (f", {len(done) - len(good)} failed" if len(good) < len(done) else ""),
        upper=generates_concurrently(engine) or engine.unit_cells > len(requests) - FIRST_CELLS,
    )


def _make_requests(view: View) -> list[Request]:
    """Cells of prompts from all over the tasks, each under another config than its neighbours."""
    order = sorted(range(len(view.prompts)), key=lambda index: view.prompts[index].task)
    count = min(PROBE_CELLS, view.n_cells)
    slots = np.random.default_rng(count).permutation(len(view.slots))
    chosen: dict[tuple[int, int], None] = {}
    for place in range(count):
        prompt = order[int((place + 0.5) * len(order) / count)]
        chosen[prompt, int(slots[place % len(slots)])] = None
    shuffled = np.random.default_rng(count).permutation(len(chosen))
    cells = [list(chosen)[index] for index in shuffled]  # the first ones are of all tasks too
    return [
        Request(
            view.prompts[i], view.space[j], sample, derive_stream_seed(view.keys[i][slot]), view.limit(j), view.stop
        )
        for i, slot in cells
        for j, sample in [view.slots[slot]]
    ]
