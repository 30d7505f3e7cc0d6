"""Cells that are handed over before their unit has ended: stored within seconds, and never twice."""

import logging
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter

import numpy as np
import pytest

from hagpolicy import Completion, DecodingSpace, ScorerError, SimulatedEngine, load_table, preview, rescore, sweep
from hagpolicy._text import format_duration
from hagpolicy.sweeping.forecast.progress import Progress, ProgressReporter, format_bar
from tests.support.sweeping_world import SPACE, Counting, cells_of, run, same


class InParts(Counting):
    """Hands its cells over some at a time, each twice; may be interrupted after so many parts, or fail there."""

    def __init__(self, *args, end_after=None, end_with=KeyboardInterrupt, **options):
        super().__init__(*args, **options)
        self.end_after, self.end_with, self.parts = end_after, end_with, 0

    def stream_parts(self, units):
        for number, unit in enumerate(units):
            done = self.generate(unit)
            failure = None
            for at in range(0, len(unit), 3):
                if self.parts == self.end_after:
                    self.end_after = None
                    failure = self.end_with("at a part")
                    break
                self.parts += 1
                part = dict(list(enumerate(done))[at : at + 3])
                yield number, part
                yield number, {}
                yield number, part
            if isinstance(failure, KeyboardInterrupt):
                raise failure
            yield number, failure or done


def test_cells_that_come_in_parts_are_those_that_come_at_once(tmp_path):
    table = run(InParts(seed=1, unit_cells=10), tmp_path / "parts")
    assert same(table, run(Counting(seed=1, unit_cells=10), tmp_path / "whole"))
    assert set(Counter(row["cell"] for row in cells_of(tmp_path / "parts")).values()) == {1}


@pytest.mark.parametrize("end_with", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("end_after", range(1, 6))
def test_what_a_cut_unit_lacks_is_a_new_unit_of_the_same_streams(tmp_path, end_after, end_with):
    """Interrupted, or failed as a whole, after any part."""
    whole = run(Counting(seed=1, unit_cells=14), tmp_path / "whole")
    if end_with is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            run(InParts(seed=1, unit_cells=14, end_after=end_after), tmp_path / "cut")
    else:
        run(InParts(seed=1, unit_cells=14, end_after=end_after, end_with=end_with), tmp_path / "cut")
    before = [row for row in cells_of(tmp_path / "cut") if row["finish"] != "error"]
    if end_with is KeyboardInterrupt:
        assert len(before) == min(3 * end_after, 14)  # of units of 14
    again = Counting(seed=1, unit_cells=14)
    assert same(run(again, tmp_path / "cut"), whole)
    assert set(again.seeds).isdisjoint(row["seed"] for row in before)


WORKER = """
    import os, sys, time
    import hagpolicy.sweeping.drive as drive
    from hagpolicy import SimulatedEngine, sweep
    from tests.support.sweeping_world import SPACE

    drive.FLUSH_SECONDS = 0.1

    class Slow(SimulatedEngine):
        def stream_parts(self, units):
            for number, unit in enumerate(units):
                done = self.generate(unit)
                for at, one in enumerate(done):
                    time.sleep(0.05)
                    yield number, {at: one}
                yield number, done

    world = Slow(seed=2, unit_cells=200)
    print("begun", flush=True)
    sweep(world, world.prompts(20), SPACE, world.scorer, samples=2, max_tokens=8, out=sys.argv[1], progress=False)
"""


def count_stored(out):
    """Cells of the folder of a sweep that runs."""
    try:
        return len(cells_of(out))
    except FileNotFoundError:  # merged away meanwhile
        return 0


def test_a_sweep_that_is_killed_again_and_again_within_its_one_unit_advances(tmp_path):
    out, counts = tmp_path / "killed", []
    for _ in range(4):
        worker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(WORKER), str(out)], stdout=subprocess.PIPE)
        assert worker.stdout.readline() == b"begun\n"
        while worker.poll() is None and count_stored(out) <= max(counts, default=0):
            time.sleep(0.05)
        worker.kill()
        assert worker.wait() == -signal.SIGKILL
        counts.append(len(cells_of(out)))
    assert counts == sorted({*counts} - {0})  # more after each kill
    assert counts[-1] < 140  # all within the one unit
    world = SimulatedEngine(seed=2, unit_cells=200)
    world, options = SimulatedEngine(seed=2, unit_cells=200), {"samples": 2, "max_tokens": 8, "progress": False}
    given = world, world.prompts(20), SPACE, world.scorer
    whole, killed = sweep(*given, out=tmp_path / "whole", **options), sweep(*given, out=out, **options)
    np.testing.assert_array_equal(killed.rewards, whole.rewards)
    assert set(Counter(row["cell"] for row in cells_of(out)).values()) == {1}


def broken(text):
    raise KeyError("grade")


@pytest.mark.parametrize(("scorer", "reason"), [(broken, "KeyError: 'grade'"), (lambda text: 7, "returned 7")])
def test_a_scorer_that_gives_the_first_cells_nothing_ends_the_sweep(tmp_path, scorer, reason):
    engine = Counting(seed=1, unit_cells=5)
    with pytest.raises(ScorerError, match="none of the first") as found:
        run(engine, tmp_path, n=100, scorer=scorer)
    assert reason in str(found.value)
    assert "rescore" in str(found.value)
    rows = cells_of(tmp_path)
    assert len(rows) == sum(engine.seeds.values()) <= 40  # of 500
    whole = run(again := Counting(seed=1, unit_cells=5), tmp_path, n=100)
    assert whole.complete.all()
    assert set(again.seeds).isdisjoint(row["seed"] for row in rows)
    # A later call in which the scorer fails is not ended where it has worked before.
    assert rescore(tmp_path, engine.scorer).complete.all()


def test_one_task_whose_scorer_fails_is_enough(tmp_path):
    engine = Counting(seed=1, unit_cells=5)
    prompts = [{"prompt": prompt.text, "task": "ab"[at % 2]} for at, prompt in enumerate(engine.prompts(60))]
    with pytest.raises(ScorerError, match="broken"):
        run(engine, tmp_path, prompts=prompts, scorer={"a": "brevity", "b": broken})


def test_few_rewards_among_the_first_cells_are_enough_to_go_on(tmp_path):
    given = []

    def seldom(text):
        given.append(text)
        return 1.0 if len(given) == 15 else None

    assert sum(run(Counting(seed=1, unit_cells=5), tmp_path, n=20, scorer=seldom).failures.values()) == 139


def test_rewards_of_zero_alone_are_a_warning_with_an_answer(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        table = run(Counting(seed=1, unit_cells=5), tmp_path, n=20, scorer=lambda text: 0.0)
    assert table.complete.all()
    texts = {row["text"] for row in cells_of(tmp_path)}
    warned = [one.message for one in caplog.records if "the reward 0" in one.message]
    assert len(warned) == 1
    assert any(f"answer {text!r:.60}" in warned[0] for text in texts)


def test_the_total_of_a_race_is_what_its_budget_allows(tmp_path):
    states = []
    engine = Counting(seed=1, unit_cells=10)
    run(engine, tmp_path, n=40, samples=6, strategy="racing", progress=states.append)
    first = states[0].total
    assert first == int(0.35 * 40 * 19)
    assert all(state.done <= state.total <= 1.1 * first for state in states)
    middle = [state for state in states if state.done < 0.8 * first]
    assert len(middle) > 3
    assert all(state.seconds_left > 0.0 for state in middle)
    assert load_table(tmp_path).counts.sum() <= first


def test_the_bar_tells_how_long_it_waits():
    state = Progress(10, 20, 0, 50, 40.0, pace=2.0)
    assert "left" in format_bar(state)
    waiting = format_bar(Progress(10, 20, 0, 50, 40.0, pace=2.0, waiting=30.0, failures={"HTTP 503": 2}))
    assert "waiting for an answer for 30 s" in waiting
    assert "2 × HTTP 503" in waiting
    assert "left" in format_bar(Progress(10, 20, 0, 50, 40.0, pace=0.02, waiting=30.0))  # one takes 50 s anyway


def test_a_bar_whose_sweep_ends_early_says_that_nothing_is_left(capsys):
    reporter = ProgressReporter(True)
    reporter.set_goal(100)
    reporter.expect(10)
    time.sleep(0.1)
    reporter.add([Completion("x", 3) for _ in range(10)], [])
    reporter.set_goal(0)
    reporter.close()
    last = capsys.readouterr().err.rpartition("\r")[2]
    assert "10/10" in last
    assert f"{format_duration(0.0)} left" in last


def test_deterministic_configs_are_counted_as_drawn_once(tmp_path):
    world = SimulatedEngine(4)
    greedy = DecodingSpace.grid(temperature=[0.0], repetition_penalty=[1.0, 1.1])
    found = preview(world, world.prompts(5), greedy, world.scorer, samples=4, out=tmp_path, default={"temperature": 0})
    assert "5 prompts × 2 configs × 1 samples: 10 cells" in str(found)
