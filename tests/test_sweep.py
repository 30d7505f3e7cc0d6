import json
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
from collections import Counter

import numpy as np
import pyarrow.parquet
import pytest

import hagpolicy.sweeping.drive as drive
from hagpolicy import Completion, DecodingConfig, DecodingSpace, Prompt, SimulatedEngine, load_table, rescore, sweep
from hagpolicy.errors import EngineError, ForeignSweep, InvalidInput, StoreError, SweepLocked, UnsupportedSetting
from hagpolicy.scorers import FunctionScorer

SPACE = DecodingSpace.grid(temperature=[0.0, 0.7]).with_config(DecodingConfig(temperature=1.0, top_p=0.9))[0]


class Counting(SimulatedEngine):
    """The simulated engine, which also keeps what it was asked for, and may stop at a unit."""

    def __init__(self, *args, stop_at=None, error=KeyboardInterrupt, **options):
        super().__init__(*args, **options)
        self.units, self.stop_at, self.error = [], stop_at, error

    def generate(self, unit):
        if self.stop_at is not None and len(self.units) >= self.stop_at:
            raise self.error
        self.units.append([request.seed for request in unit])
        return super().generate(unit)

    @property
    def seeds(self):
        return Counter(seed for unit in self.units for seed in unit)


def run(engine, out, n=6, samples=2, **options):
    options = {"max_tokens": 8, "progress": False, "scorer": engine.scorer, "space": SPACE, **options}
    prompts = options.pop("prompts", engine.prompts(n))
    return sweep(engine, prompts, options.pop("space"), out=out, samples=samples, **options)


def same(a, b):
    assert a.prompts == b.prompts
    assert a.space == b.space
    for name in ("rewards", "tokens", "seconds"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.default, a.fingerprint, a.max_tokens, a.scorers, a.failures) == (
        b.default, b.fingerprint, b.max_tokens, b.scorers, b.failures,
    )  # fmt: skip
    return True


def cells_of(out):
    tables = [pyarrow.parquet.read_table(path) for path in sorted((out / "cells").glob("*.parquet"))]
    return [row for table in tables for row in table.to_pylist()]


def test_a_sweep_fills_its_table_marks_the_default_and_draws_greedy_once(tmp_path):
    engine = Counting(seed=1)
    table = run(engine, tmp_path, n=6, samples=3)
    assert table.rewards.shape == (6, 4, 3)
    assert table.space[table.default] == engine.default_config()
    assert (table.counts == [1, 3, 3, 3]).all()
    assert sum(engine.seeds.values()) == 6 * (1 + 3 * 3)
    assert max(engine.seeds.values()) == 1
    assert table.fingerprint == engine.fingerprint
    assert set(table.scorers) == {prompt.task for prompt in table.prompts}
    assert set(table.scorers.values()) == {"simulated@1"}
    assert table.max_tokens == 8
    assert np.nanmax(table.tokens) <= 8
    assert same(table, load_table(tmp_path))


def test_cells_are_parquet_with_text_and_identity(tmp_path):
    engine = SimulatedEngine(seed=1)
    table = run(engine, tmp_path)
    rows = cells_of(tmp_path)
    assert len(rows) == 6 * (1 + 3 * 2)
    for row in rows:
        assert row["reward"] == float(row["text"].startswith("right"))
        assert row["config"] in {config.digest for config in table.space}
        assert row["prompt"] in {prompt.digest for prompt in table.prompts}
        assert row["scorer"] == "simulated@1"
        assert row["error"] is None
        assert json.loads(row["receipt"]) == {}


def test_a_second_call_generates_nothing(tmp_path):
    first = run(Counting(seed=1), tmp_path)
    engine = Counting(seed=1)
    assert same(first, run(engine, tmp_path))
    assert engine.units == []
    assert len(list((tmp_path / "plans").iterdir())) == 1


def test_a_larger_sweep_generates_only_what_is_new(tmp_path):
    engine = Counting(seed=1)
    small = run(engine, tmp_path, n=4, samples=1)
    before = set(engine.seeds)
    large = run(engine, tmp_path, prompts=engine.prompts(4) + engine.prompts(3, seed=9), samples=3)
    assert max(engine.seeds.values()) == 1
    assert len(set(engine.seeds) - before) == 7 * (1 + 3 * 3) - 4 * 4
    np.testing.assert_array_equal(large.rewards[:4, :, 0], small.rewards[:, :, 0])
    # The small sweep is still there as a view, in any order of its parts.
    back = load_table(tmp_path, prompts=small.prompts[::-1], space=list(small.space)[::-1], samples=1)
    np.testing.assert_array_equal(back.rewards, small.rewards[::-1, ::-1])
    assert back.default == len(small.space) - 1 - small.default
    assert load_table(tmp_path, space=SPACE).default is None


def test_limit_and_seed_are_part_of_a_cell(tmp_path):
    engine = Counting(seed=1)
    run(engine, tmp_path, max_tokens=8)
    other = run(engine, tmp_path, max_tokens=2)
    run(engine, tmp_path, seed=1)
    assert max(engine.seeds.values()) == 1
    assert np.nanmax(other.tokens) == 2
    assert sum(engine.seeds.values()) == 3 * 6 * 7
    assert load_table(tmp_path, max_tokens=8).max_tokens == 8


def test_units_hold_whole_prompts_and_no_more_than_the_engine_likes(tmp_path):
    engine = Counting(seed=1, unit_cells=16)
    run(engine, tmp_path / "a", n=5)  # 7 cells a prompt: two prompts a unit
    assert [len(unit) for unit in engine.units] == [14, 14, 7]
    engine = Counting(seed=1, unit_cells=5)
    run(engine, tmp_path / "b", n=2)  # split into equal parts
    assert [len(unit) for unit in engine.units] == [4, 3, 4, 3]


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


def test_rewards_are_recomputed_without_generating(tmp_path):
    engine = Counting(seed=1)
    first = run(engine, tmp_path)
    opposite = FunctionScorer(lambda text: float(text.startswith("wrong")), name="opposite", version="1")
    table = rescore(tmp_path, opposite)
    np.testing.assert_array_equal(table.rewards, 1.0 - first.rewards)
    assert set(table.scorers.values()) == {"opposite@1"}
    assert same(load_table(tmp_path), table)
    assert same(load_table(tmp_path, scorer="simulated"), first)
    # A later version of a scorer goes before an earlier one; the earlier one can still be had.
    half = FunctionScorer(lambda text: 0.5, name="opposite", version="2")
    rescore(tmp_path, half)
    assert set(load_table(tmp_path, scorer="opposite").rewards[:, 1].ravel()) == {0.5}
    assert same(load_table(tmp_path, scorer="opposite@1"), table)
    with pytest.raises(InvalidInput, match="simulated@1"):
        load_table(tmp_path, scorer="chrf")
    # `sweep` with another scorer scores what is stored, and generates only what is new.
    again = run(engine, tmp_path, n=7, prompts=first.prompts + engine.prompts(1, seed=5), scorer=opposite)
    np.testing.assert_array_equal(again.rewards[:6], table.rewards)
    assert again.complete.all()
    assert max(engine.seeds.values()) == 1
    assert same(run(engine, tmp_path), first)


def test_one_scorer_a_task(tmp_path):
    engine = SimulatedEngine(seed=1, n_tasks=2)
    always = FunctionScorer(lambda text: 0.25, name="always", version="1")
    table = run(engine, tmp_path, scorer={"kitchen": always, "sea": engine.scorer})
    assert table.scorers == {"kitchen": "always@1", "sea": "simulated@1"}
    kitchen = table.tasks == "kitchen"
    assert set(table.rewards[kitchen, 1].ravel()) == {0.25}
    assert set(table.rewards[~kitchen, 1].ravel()) <= {0.0, 1.0}
    with pytest.raises(InvalidInput, match="sea"):
        run(engine, tmp_path, scorer={"kitchen": always})


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


def test_prompts_from_a_file_and_an_engine_by_name(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps(prompt.to_dict()) for prompt in SimulatedEngine(3).prompts(3)))
    table = run(SimulatedEngine(3), tmp_path / "a", prompts=path)
    options = {"scorer": SimulatedEngine(3).scorer, "samples": 2, "max_tokens": 8, "progress": False}
    named = sweep("simulated:3", str(path), SPACE, out=tmp_path / "b", **options)
    assert same(table, named)
    path.write_text('{"prompt": "fine"}\n{"prompt": \n')
    with pytest.raises(InvalidInput, match="line 2"):
        run(SimulatedEngine(3), tmp_path / "c", prompts=path)


def test_a_repeated_prompt_is_swept_once(tmp_path, caplog):
    engine = Counting(seed=1)
    prompts = engine.prompts(2)
    assert len(run(engine, tmp_path, prompts=[*prompts, prompts[0]]).prompts) == 2
    assert "1 prompts repeat another" in caplog.text


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


def test_progress_reports_counts(tmp_path):
    seen = []
    engine = SimulatedEngine(seed=1, unit_cells=7, fail_rate=0.2)
    table = run(engine, tmp_path, progress=seen.append)
    assert [state.done for state in seen] == [7, 14, 21, 28, 35, 42]
    assert {state.total for state in seen} == {42}
    assert seen[-1].tokens == np.nansum(table.tokens)
    assert seen[-1].failed == sum(table.failures.values())
    assert seen[-1].seconds_left == 0.0
    assert seen[0].seconds_left > 0.0


def test_the_bar_goes_to_stderr(tmp_path, capsys):
    run(SimulatedEngine(seed=1), tmp_path, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "42/42" in shown.err


def test_the_size_of_the_plan_is_logged_before_it_starts(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run(SimulatedEngine(seed=1), tmp_path, n=6)
        run(SimulatedEngine(seed=1), tmp_path, n=6, samples=3)
    assert "42 cells wanted, 0 stored, 42 to generate in 1 units" in caplog.text
    assert "60 cells wanted, 42 stored, 18 to generate in 1 units" in caplog.text


def test_text_that_no_file_can_hold_is_mended(tmp_path):
    class Broken(SimulatedEngine):
        def generate(self, unit):
            return [Completion("right half \ud83d") for _ in unit]

    table = run(Broken(seed=1), tmp_path)
    assert table.failures == {}
    assert {row["text"] for row in cells_of(tmp_path)} == {"right half ?"}


def test_fast_units_share_a_segment_and_slow_ones_do_not(tmp_path, monkeypatch):
    run(SimulatedEngine(seed=1, unit_cells=7), tmp_path / "fast", n=20)
    assert len(list((tmp_path / "fast" / "cells").iterdir())) <= 2
    monkeypatch.setattr(drive, "FLUSH_SECONDS", 0.0)
    run(SimulatedEngine(seed=1, unit_cells=7), tmp_path / "slow", n=20)
    assert len(list((tmp_path / "slow" / "cells").iterdir())) == 20


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
        import logging, sys
        from hagpolicy import DecodingSpace, SimulatedEngine, sweep
        logging.basicConfig()
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
