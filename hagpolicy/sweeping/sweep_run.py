"""`SweepRun`: an open sweep, filled all at once or in the rounds of a strategy."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy.data.prompts import Prompt
from hagpolicy.data.store.cells import Plan, View
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.data.store.loading import build_table
from hagpolicy.data.table import SweepTable
from hagpolicy.engines.base import Engine
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Scorer
from hagpolicy.scorers.checked import describe_error
from hagpolicy.sweeping.budget import Budget, BudgetMeter
from hagpolicy.sweeping.drive import run_units
from hagpolicy.sweeping.forecast.progress import ProgressReporter
from hagpolicy.sweeping.forecast.projection import project_costs, project_counts, sample_stored, split_probe
from hagpolicy.sweeping.health import ScoreWatch
from hagpolicy.sweeping.plan import Work, plan_work
from hagpolicy.sweeping.scoring import score_stored
from hagpolicy.sweeping.strategies.base import DEFAULT_SHARE, Observation, Strategy, StrategyResult

logger = logging.getLogger(__name__)
Units = list[tuple[Plan, int]]


@dataclass
class SweepRun:
    """A sweep that is open for writing.

    Attributes:
        engine: generates.
        store: holds the cells.
        view: the cells that there are to want.
        scorers: one a prompt, (n_prompts,).
        budget_meter: what may be spent.
        reporter: counts and shows.
        strategy: its name, for the preview.
    """

    engine: Engine
    store: SweepStore
    view: View
    scorers: Sequence[Scorer]
    budget_meter: BudgetMeter
    reporter: ProgressReporter
    strategy: str = "full"
    _checked: bool = field(default=False, init=False)
    _tried: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._tried = len(self.store.cells)
        self._watch = ScoreWatch(self.store)

    def run_all(self) -> View:
        """Generate every cell of the view, as far as the budget goes; the view."""
        if not self._generate(None):
            ended = self.budget_meter.ended_by
            self.reporter.write(
                f"{self.store.path}: ended by the budget of {ended}; the same call with a larger one goes on"
            )
        return self.view

    def run_rounds(self, strategy: Strategy, name: str, seed: int, share: float = DEFAULT_SHARE) -> View:
        """Generate what a strategy asks for, without a budget at most a share of all cells; the view of what it
        leaves."""
        budget = self.budget_meter.budget
        # Tokens and minutes say nothing about generations before the first round.
        most = max(int(share * self.view.n_cells), 1) if budget == Budget() else self.view.n_cells
        rounds = strategy(self.view, self.budget_meter.project(most), seed)
        stored = sum(key in self.store.cells.rows for keys in self.view.keys for key in keys)
        self.reporter.set_goal(max(self.budget_meter.project(most) - stored, 0))
        observed: Any = None  # which begins a generator
        while True:
            try:
                mask = rounds.send(observed)
            except StopIteration as stop:
                self.reporter.set_goal(0)
                return self._store_result(stop.value, name)
            done = self._generate(self._validate_mask(mask, name))
            observed = Observation(self._mask_table(mask), self.budget_meter.project(most), final=not done)
            self.reporter.set_goal(max(observed.budget - int(mask.sum()), 0))

    def _validate_mask(self, mask: np.ndarray, name: str) -> np.ndarray:
        """The cells that a strategy asks for, and the default's answers that their scorers compare them with."""
        mask = np.array(mask, dtype=bool)
        shape = (len(self.view.prompts), len(self.view.space), 1 + max(sample for _, sample in self.view.slots))
        if mask.ndim != 3 or mask.shape[:2] != shape[:2] or mask.shape[2] < shape[2]:
            raise InvalidInput("strategy", f"masks of shape {shape}", f"one of {mask.shape} from {name}")
        if self.view.default is not None:
            comparing = np.array([scorer.needs_default for scorer in self.scorers])
            mask[:, self.view.default, 0] |= comparing & mask.any(axis=(1, 2))
        return mask

    def _generate(self, mask: np.ndarray | None) -> bool:
        """Generate and score the cells of a mask; False where the budget ended before them."""
        store, view = self.store, self.view
        work = plan_work(store, view, self.engine.unit_cells, mask, self._tried, slow_start=store.stalled)
        if mask is None or work.new.units:
            store.add_plan(work.new)
        wanted = view.select_keys(mask)
        rows = [store.cells.rows[key] for keys in wanted for key in keys if key in store.cells.rows]
        counted = (store.index.sum_tokens(rows, of_prompts=of_prompts) for of_prompts in (False, True))
        self.budget_meter.set_stored(len(rows), *counted)
        words = "%s: %d cells wanted, %d stored, %d to generate in %d units"
        logger.info(words, store.path, sum(map(len, wanted)), work.stored, work.n_cells, work.n_units)
        score_stored(store, view, self.scorers, wanted)
        if not work.n_units:
            return True
        first, rest = self._start(work) if not self._checked else ([], list(work.units()))
        self.reporter.expect(work.n_cells)
        owner = dict(zip(view.prompts, self.scorers, strict=True))
        done = self._run(first, owner) if first else True
        if first:
            self._announce(measured=True)
        done = done and self._run(rest, owner)
        if any(scorer.needs_default for scorer in self.scorers):
            score_stored(store, view, self.scorers, wanted)
        return done

    def _run(self, units: Units, owner: dict[Prompt, Scorer]) -> bool:
        return run_units(self.engine, self.store, units, owner, self.reporter, self.budget_meter, self._watch)

    def _start(self, work: Work) -> tuple[Units, Units]:
        """Report the costs, check the engine, and give back (the units to run first, the others).

        Where nothing is stored to estimate the costs from, the first units are a probe.
        """
        counts = project_counts(
            self.store, self.view, self.scorers, self.engine, self.strategy, self.budget_meter.budget, self.store.path
        )
        self.reporter.preview = counts
        self.reporter.write(f"{counts.out}: {counts.counts}")
        self.engine.check_space(list(self.view.space))
        self._checked = True
        if not self.engine.counts_tokens:
            self.budget_meter.refuse_unknown()
        if self._announce() or work.first:
            return [], list(work.units())
        return split_probe(work, self.engine.unit_cells, self.budget_meter.budget)

    def _announce(self, *, measured: bool = False) -> bool:
        """Report the estimate of tokens and time from what is stored, by the wall time where it was measured.

        Returns:
            Whether there was something to estimate from.
        """
        sample = sample_stored(self.store, self.view, self.engine)
        if sample is None and not measured:
            return False
        if sample is not None and measured:
            state = self.reporter.state
            counted = not math.isnan(sample.work) and state.tokens > 0
            share = sample.work / state.tokens if counted else len(sample.tokens) / max(state.done, 1)
            sample = replace(sample, seconds=state.seconds * share, source=f"{state.done:,} cells generated first")
        self.reporter.preview = project_costs(self.reporter.preview, self.view, sample, self.budget_meter.budget)
        if sample is None:
            reason = f"no cell of the first {self.reporter.state.done:,} succeeded"
            self.reporter.preview = replace(self.reporter.preview, source=reason)
        self.reporter.write(self.reporter.preview.costs)
        logger.info("%s: %s", self.store.path, self.reporter.preview.costs)
        return True

    def _mask_table(self, mask: np.ndarray) -> SweepTable:
        """The table of the cells of a mask alone."""
        table = build_table(self.store, self.view)
        keep = mask[:, :, : table.rewards.shape[2]]
        parts: dict[str, Any] = {
            name: np.where(keep, getattr(table, name), np.nan) for name in ("rewards", "tokens", "seconds")
        }
        return replace(table, **parts)

    def _store_result(self, outcome: StrategyResult, name: str) -> View:
        """Store what a strategy leaves as the latest plan."""
        view = self.view
        space = type(view.space)(view.space[j] for j in outcome.kept)
        default = None if view.default is None or view.default not in outcome.kept else outcome.kept.index(view.default)
        count = len(view.prompts) if outcome.prompts is None else outcome.prompts
        final = replace(
            view,
            prompts=view.prompts[:count],
            scorers=view.scorers[:count],
            space=space,
            default=default,
            common=outcome.common,
            looks=outcome.looks,
        )
        if not self.store.plans or self.store.plans[-1].view != final:
            self.store.add_plan(Plan(final, notes={"strategy": name, "rounds": outcome.log}))
        dropped = len(view.space) - len(space)
        logger.info("%s: %s kept %d configs and dropped %d", self.store.path, name, len(space), dropped)
        return final


@contextlib.contextmanager
def open_scorers(scorers: Sequence[Scorer], folder: Path | None) -> Iterator[None]:
    """Let the scorers keep their work in the sweep folder, where it is on this machine, while it is being filled.

    One that cannot be closed is a warning: what it scored is stored, and the others are to be closed too.
    """
    distinct = list({id(scorer): scorer for scorer in scorers}.values())
    try:
        for scorer in distinct:
            scorer.open(folder)
        yield
    finally:
        for scorer in distinct:
            try:
                scorer.close()
            except Exception as error:  # whatever a user's scorer raises
                logger.warning("the scorer %s could not be closed: %s", scorer.name, describe_error(error))
