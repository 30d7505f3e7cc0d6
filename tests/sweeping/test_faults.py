"""Sweeps that are interrupted, fail, or are refused."""

import logging
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from hagpolicy import Completion, DecodingConfig, Prompt, SimulatedEngine, load_table, rescore
from hagpolicy.errors import EngineError, ForeignSweep, InvalidInput, StoreError, SweepLocked, UnsupportedSetting
from tests.support.sweeping_world import Counting, cells_of, run, same


def test_interrupted_it_stores_what_is_done_and_goes_on_with_the_units_as_they_were_packed(tmp_path, caplog):
    whole = Counting(seed=1, unit_cells=7)
    expected = run(whole, tmp_path / "whole", n=9)
    engine = Counting(seed=1, unit_cells=7, stop_at=4)
    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.WARNING):
        run(engine, tmp_path / "part", n=9)
    assert "28 of 63 cells of this run are stored" in caplog.text
    assert "same call" in caplog.text
    assert len(cells_of(tmp_path / "part")) == 28
    # Another preference of the engine must not repack what a stored plan packed.
    engine.stop_at, engine.unit_cells = None, 100
    assert same(run(engine, tmp_path / "part", n=9), expected)
    assert engine.units == whole.units


def test_an_interrupted_sweep_can_be_made_smaller(tmp_path):
    engine = Counting(seed=1, unit_cells=7, stop_at=2)
    with pytest.raises(KeyboardInterrupt):
        run(engine, tmp_path, n=6)
    engine.stop_at = None
    table = run(engine, tmp_path, n=6, samples=1)
    assert table.complete.all()
    assert sum(engine.seeds.values()) == 2 * 7 + 4 * 4
    run(engine, tmp_path, n=6)
    assert max(engine.seeds.values()) == 1
    assert sum(engine.seeds.values()) == 6 * 7


def test_failed_cells_are_marked_counted_and_tried_again(tmp_path, caplog):
    engine = Counting(seed=1, fail_rate=0.3)
    table = run(engine, tmp_path)
    n_failed = int(sum(table.failures.values()))
    assert table.failures == {"engine error: simulated failure": n_failed}
    assert 0 < n_failed < 42
    assert np.isnan(table.rewards[:, 1:]).sum() + np.isnan(table.rewards[:, 0, 0]).sum() == n_failed
    assert f"{n_failed} of 42 cells have no reward" in caplog.text
    assert same(load_table(tmp_path), table)
    engine.fail_rate = 0.0
    whole = run(engine, tmp_path)
    assert whole.failures == {}
    assert sum(engine.seeds.values()) == 42 + n_failed
    assert same(whole, load_table(tmp_path))
    assert same(whole, run(SimulatedEngine(seed=1), tmp_path.with_name("other")))


def test_an_engine_that_fails_once_marks_that_unit(tmp_path):
    class Once(Counting):
        def generate(self, unit):
            done = super().generate(unit)
            return done[:-1] if len(self.units) == 2 else done

    table = run(Once(seed=1, unit_cells=7), tmp_path)
    assert list(table.failures.values()) == [7]
    assert "6 completions for 7 requests" in next(iter(table.failures))
    assert run(Counting(seed=1), tmp_path).failures == {}


@pytest.mark.parametrize("wrong", [None, "a text", Completion(None)])
def test_what_is_no_completion_marks_its_unit(tmp_path, wrong):
    class Odd(Counting):
        def generate(self, unit):
            done = super().generate(unit)
            return [*done[:-1], wrong] if len(self.units) == 2 else done

    table = run(Odd(seed=1, unit_cells=7), tmp_path)
    assert list(table.failures.values()) == [7]
    assert "no completion" in next(iter(table.failures))


def test_a_dead_engine_ends_the_sweep_and_keeps_what_is_done(tmp_path):
    engine = Counting(seed=1, unit_cells=7, stop_at=2, error=RuntimeError("out of memory"))
    with pytest.raises(EngineError, match=r"3 units in a row.*out of memory"):
        run(engine, tmp_path, n=20)
    engine.stop_at = None
    assert run(engine, tmp_path, n=20).failures == {}
    assert max(engine.seeds.values()) == 1


@pytest.mark.parametrize(
    ("reward", "reason"),
    [
        (2.0, "the scorer returned 2, expected a number in [0, 1]"),
        (math.nan, "the scorer returned NaN"),
        (None, "the scorer returned None"),
        (ZeroDivisionError("no"), "ZeroDivisionError: no"),
    ],
)
def test_a_bad_scorer_marks_its_cells_and_the_run_goes_on(tmp_path, reward, reason):
    def score(text):
        if not text.startswith("right"):
            return 0.5
        if isinstance(reward, Exception):
            raise reward
        return reward

    engine = Counting(seed=1)
    table = run(engine, tmp_path, scorer=score)
    assert list(table.failures) == [reason]
    scored = table.rewards[~np.isnan(table.rewards)]
    assert set(scored) == {0.5}
    assert len(scored) + table.failures[reason] == 42
    # Their texts are stored: the next call does not generate them again.
    assert same(run(engine, tmp_path, scorer=score), table)
    assert max(engine.seeds.values()) == 1


def test_what_cannot_run_or_be_scored_fails_before_a_token(tmp_path):
    engine = Counting(seed=1, lacks=["num_beams"])
    with pytest.raises(UnsupportedSetting, match="num_beams"):
        run(engine, tmp_path / "a", space=[DecodingConfig(num_beams=3)])
    with pytest.raises(InvalidInput, match="needs a reference"):
        run(engine, tmp_path / "b", prompts=[Prompt("2 + 2?", reference=4), Prompt("3 + 3?")], scorer="numeric_match")
    with pytest.raises(InvalidInput, match="id 'x'"):
        run(engine, tmp_path / "c", prompts=[Prompt("a", id="x"), Prompt("b", id="x")])
    with pytest.raises(InvalidInput, match="empty prompt"):
        run(engine, tmp_path / "d", prompts=["a", ""])
    with pytest.raises(InvalidInput, match="samples"):
        run(engine, tmp_path / "e", samples=0)
    with pytest.raises(InvalidInput, match="max_tokens"):
        run(engine, tmp_path / "f", max_tokens=True)
    assert engine.units == []
    assert list(tmp_path.iterdir()) == []


def test_another_engine_is_refused_with_both_fingerprints(tmp_path):
    one, other = SimulatedEngine(seed=1), Counting(seed=2)
    run(one, tmp_path)
    with pytest.raises(ForeignSweep) as error:
        run(other, tmp_path)
    assert one.fingerprint["revision"] in str(error.value)
    assert other.fingerprint["revision"] in str(error.value)
    assert other.units == []


def test_a_second_runner_is_refused_and_the_first_goes_on(tmp_path):
    engine = SimulatedEngine(seed=1, delay=0.002, unit_cells=7)
    tables = []
    first = threading.Thread(target=lambda: tables.append(run(engine, tmp_path, n=30)))
    first.start()
    while not list(tmp_path.glob("plans/*.json")):
        time.sleep(0.001)
    with pytest.raises(SweepLocked, match=f"process {os.getpid()} on host"):
        run(engine, tmp_path, n=30)
    first.join()
    assert tables[0].complete.all()
    assert same(run(engine, tmp_path, n=30), tables[0])


def test_text_that_no_file_can_hold_is_mended(tmp_path):
    class Broken(SimulatedEngine):
        def generate(self, unit):
            return [Completion("right half \ud83d") for _ in unit]

    table = run(Broken(seed=1), tmp_path)
    assert table.failures == {}
    assert {row["text"] for row in cells_of(tmp_path)} == {"right half ?"}


def test_a_folder_without_a_sweep_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"sweep\.json"):
        load_table(tmp_path)
    with pytest.raises(StoreError, match=r"sweep\.json"):
        rescore(tmp_path, "brevity")
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="thesis"):
        run(SimulatedEngine(seed=1), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_ctrl_c_from_outside_stores_what_is_done(tmp_path):
    code = """
        import logging, signal, sys
        from hagpolicy import DecodingSpace, SimulatedEngine, sweep
        logging.basicConfig()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which the background jobs of a shell ignore
        world = SimulatedEngine(seed=1, unit_cells=7, delay=0.001)
        space = DecodingSpace.grid(temperature=[0.0, 0.7, 0.9])
        sweep(world, world.prompts(2000), space, world.scorer, samples=2, out=sys.argv[1], progress=False)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "sweep")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as worker:
        while not list(tmp_path.glob("sweep/cells/*.parquet")):
            assert worker.poll() is None
            time.sleep(0.005)
        worker.send_signal(signal.SIGINT)
        said = worker.communicate()[1]
    assert said.rstrip().endswith("KeyboardInterrupt")
    reported = int(re.search(r"stopped: (\d+) of 14000 cells of this run are stored", said)[1])
    # A unit that was under way when the signal came may be stored and not yet counted.
    assert 0 <= len(cells_of(tmp_path / "sweep")) - reported <= 7
