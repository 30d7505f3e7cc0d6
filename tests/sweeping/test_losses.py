"""What was generated is not lost, whoever fails: the scorer, the engine's bookkeeping, the user's patience."""

import logging

import numpy as np
import pytest

import hagpolicy as hag
import hagpolicy.sweeping.drive as drive
import hagpolicy.sweeping.scoring as scoring
from hagpolicy import Completion, load_table
from hagpolicy.errors import EngineError
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.scorers.functions import FunctionScorer
from tests.support.sweeping_world import Counting, cells_of, run, same


class Moody(Scorer):
    """Scores so many completions, then is interrupted."""

    name, version = "moody", "1"

    def __init__(self, patience, error=KeyboardInterrupt):
        self.patience, self.error, self.seen, self.closed = patience, error, 0, 0

    def score(self, items):
        if self.seen + len(items) > self.patience:
            raise self.error
        self.seen += len(items)
        return [Score(float(len(one.text) % 2)) for _, one in items]

    def close(self):
        self.closed += 1


class Comparing(Scorer):
    """1 where the answer is longer than the default's."""

    name, version, needs_default = "comparing", "1", True

    def __init__(self, defaults=None):
        self.defaults = defaults

    def against(self, defaults):
        return Comparing(defaults)

    def score(self, items):
        return [Score(float(len(one.text) > len(self.defaults[prompt.digest].text))) for prompt, one in items]


def test_texts_are_stored_though_their_scoring_is_interrupted(tmp_path):
    engine = Counting(seed=1, unit_cells=7)
    first = Moody(20)
    with pytest.raises(KeyboardInterrupt):
        run(engine, tmp_path, scorer=first)
    assert len(cells_of(tmp_path)) == 21  # two units with rewards, one without
    assert first.closed == 1
    second = Moody(1000)
    table = run(engine, tmp_path, scorer=second)
    assert table.complete.all()
    assert set(engine.seeds.values()) == {1}
    assert second.seen == 42 - 14
    assert same(table, run(Counting(seed=1), tmp_path / "whole", scorer=Moody(1000)))


def test_rewards_of_stored_texts_are_kept_though_their_scoring_is_interrupted(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "SCORED_AT_ONCE", 5)
    run(Counting(seed=1), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(Counting(seed=1), tmp_path, scorer=Moody(22))
    rest = Moody(1000)
    assert run(Counting(seed=1), tmp_path, scorer=rest).complete.all()
    assert rest.seen == 42 - 20


def test_a_scorer_that_cannot_be_closed_costs_no_table_and_keeps_no_other_open(tmp_path, caplog):
    class Stuck(Moody):
        name = "stuck"

        def close(self):
            raise OSError("no room for the notes")

    other = Moody(1000)
    engine = Counting(seed=1, n_tasks=2)
    table = run(engine, tmp_path, scorer={"kitchen": Stuck(1000), "sea": other})
    assert table.complete.all()
    assert other.closed == 1
    assert "stuck could not be closed: OSError: no room for the notes" in caplog.text


def test_an_answer_that_no_file_can_hold_is_mended(tmp_path):
    class Quoting(Scorer):
        name, version = "quoting", "1"

        def score(self, items):
            return [Score(0.5, answer="half \ud83d") for _ in items]

    class Failing(Counting):
        def generate(self, unit):
            return [Completion("", finish="error", error="half \ud83d"), *super().generate(unit)[1:]]

    engine = Counting(seed=1)
    assert run(engine, tmp_path, scorer=Quoting()).complete.all()
    assert hag.rescore(tmp_path, Quoting()).complete.all()
    assert {row["answer"] for row in cells_of(tmp_path)} == {"half ?"}
    table = run(Failing(seed=1, unit_cells=100), tmp_path / "errors")
    assert table.failures == {"engine error: half ?": 1}


@pytest.mark.parametrize("wrong", [{"tokens": None}, {"tokens": 2.5}, {"prompt_tokens": -1}, {"seconds": "1"}])
def test_counts_that_no_file_can_hold_mark_their_unit(tmp_path, wrong):
    class Odd(Counting):
        def generate(self, unit):
            done = super().generate(unit)
            return [*done[:-1], Completion("text", **wrong)] if len(self.units) == 2 else done

    table = run(Odd(seed=1, unit_cells=7), tmp_path)
    assert list(table.failures.values()) == [7]


def test_counts_may_be_numpys(tmp_path):
    class Numpy(Counting):
        def generate(self, unit):
            return [Completion("right", tokens=np.int64(2), seconds=np.float32(0.5)) for _ in unit]

    table = run(Numpy(seed=1), tmp_path)
    assert table.failures == {}
    assert np.nanmax(table.tokens) == 2.0


class Losing(Counting):
    """Gives back what `change` makes of its numbered outcomes."""

    def __init__(self, *args, change, **options):
        super().__init__(*args, **options)
        self.change = change

    def stream(self, units):
        return (pair for pair in map(self.change, super().stream(units)) if pair is not None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pair: None if pair[0] == 1 else pair, "1 units not back"),
        (lambda pair: (99, pair[1]) if pair[0] == 1 else pair, "99 that it was not given"),
        (lambda pair: (0, pair[1]), "0 that it was not given"),
    ],
)
def test_an_engine_that_loses_count_of_its_units_is_found_out(tmp_path, change, words):
    with pytest.raises(EngineError, match=words):
        run(Losing(seed=1, unit_cells=7, change=change), tmp_path)
    assert len(cells_of(tmp_path)) >= 7
    assert run(Counting(seed=1, unit_cells=7), tmp_path).complete.all()


def test_a_second_interrupt_while_the_engine_is_being_stopped_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(drive, "FLUSH_SECONDS", 1000.0)

    class Slow(Counting):
        def stream(self, units):
            try:
                yield from super().stream(units)
            except GeneratorExit:
                raise KeyboardInterrupt from None

    def interrupted(state):
        if state.done == 28:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Slow(seed=1, unit_cells=7), tmp_path, progress=interrupted)
    assert len(cells_of(tmp_path)) == 28
    rest = Counting(seed=1, unit_cells=7)
    assert same(run(rest, tmp_path), run(Counting(seed=1, unit_cells=7), tmp_path / "whole"))
    assert sum(rest.seeds.values()) == 14


def test_a_cell_that_keeps_failing_is_tried_once_in_a_call_however_many_rounds_it_has(tmp_path):
    class Bad(Counting):
        def generate(self, unit):
            done = super().generate(unit)
            bad = [request.prompt == self.bad and request.sample == 0 for request in unit]
            lost = Completion("", finish="error", error="lost")
            return [lost if is_bad else one for is_bad, one in zip(bad, done, strict=True)]

    def slowly(view, budget, seed):
        mask = np.zeros((len(view.prompts), len(view.space), view.samples), dtype=bool)
        for sample in range(view.samples):
            mask[:, :, sample] = True
            yield mask.copy()
        return hag.sweeping.strategies.base.StrategyResult(tuple(range(len(view.space))), view.samples, [])

    for calls in (1, 2):
        engine = Bad(seed=1, unit_cells=7)
        prompts = engine.prompts(6)
        engine.bad = prompts[2]
        table = run(engine, tmp_path, prompts=prompts, samples=4, strategy=slowly)
        assert sum(table.failures.values()) == 4
        assert set(engine.seeds.values()) == {1}
        assert len(engine.seeds) == (6 * 13 if calls == 1 else 4)


def test_a_race_after_a_sweep_generates_nothing_and_a_sweep_after_a_race_only_what_it_left(tmp_path):
    def race(out, engine, **options):
        return run(engine, out, n=30, samples=3, strategy="racing", **options)

    def alike(a, b):
        np.testing.assert_array_equal(a.common_rewards, b.common_rewards)
        return (a.prompts, a.space, a.default, a.common) == (b.prompts, b.space, b.default, b.common)

    run(Counting(seed=3), tmp_path / "a", n=30, samples=3)
    none = Counting(seed=3)
    table = race(tmp_path / "a", none)
    assert none.units == []
    first = Counting(seed=3)
    raced = race(tmp_path / "b", first)
    assert alike(raced, table)
    other = run(none, tmp_path / "a", n=30, samples=3, strategy="hag")
    assert same(load_table(tmp_path / "a"), other)
    assert same(race(tmp_path / "a", none), table)
    assert none.units == []
    rest = Counting(seed=3)
    whole = run(rest, tmp_path / "b", n=30, samples=3)
    assert same(whole, run(Counting(seed=3), tmp_path / "a", n=30, samples=3))
    assert max((first.seeds + rest.seeds).values()) == 1
    assert sum((first.seeds + rest.seeds).values()) == 30 * 10
    # And the race can be had again.
    assert same(race(tmp_path / "b", none), table)
    assert none.units == []
    # More budget only adds.
    more = Counting(seed=3)
    race(tmp_path / "c", more, budget=120)
    race(tmp_path / "c", more, budget=200)
    assert max(more.seeds.values()) == 1


def test_a_default_that_a_strategy_left_out_is_still_known(tmp_path):
    def without(view, budget, seed):
        mask = np.zeros((len(view.prompts), len(view.space), view.samples), dtype=bool)
        mask[:, :, 0] = True
        yield mask
        kept = tuple(j for j in range(len(view.space)) if j != view.default)
        return hag.sweeping.strategies.base.StrategyResult(kept, 1, [])

    engine = Counting(seed=3)
    table = run(engine, tmp_path, strategy=without)
    assert table.default is None
    assert load_table(tmp_path).default is None
    whole = table.space.with_config(engine.default_config())[0]
    back = load_table(tmp_path, space=whole)
    assert back.space[back.default] == engine.default_config()
    assert not np.isnan(back.rewards[:, :, 0]).any()
    # A scorer that compares with it finds its answers.
    assert not np.isnan(hag.rescore(tmp_path, Comparing()).rewards[:, :, 0]).any()


def test_messages_name_the_place_without_its_keys(tmp_path, caplog):
    fsspec = pytest.importorskip("fsspec")
    fsspec.register_implementation("hagtest", "fsspec.implementations.memory.MemoryFileSystem", clobber=True)
    out = "memory://me:secret@place/sweep"
    with caplog.at_level(logging.INFO):
        run(Counting(seed=1, fail_rate=0.5), out, budget=20)
        load_table(out)
        hag.rescore(out, FunctionScorer(lambda text: 0.5, name="half", version="1"))
    assert "cells have no reward" in caplog.text
    assert "are not generated yet" in caplog.text
    assert "secret" not in caplog.text
