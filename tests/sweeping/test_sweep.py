import json
import logging

import numpy as np
import pytest

import hagpolicy.sweeping.drive as drive
from hagpolicy import DecodingConfig, Prompt, SimulatedEngine, load_table, rescore, sweep
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.functions import FunctionScorer
from tests.support.sweeping_world import SPACE, Counting, cells_of, run, same


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


def test_a_cell_says_that_its_prompt_filled_no_slot_of_the_hint(tmp_path):
    engine = SimulatedEngine(seed=1)
    prompts = [Prompt("count 3 red apples", task=engine.tasks[0]), Prompt("count red apples", task=engine.tasks[0])]
    run(engine, tmp_path, prompts=prompts, space=[DecodingConfig(temperature=0.0, hint="Use {numbers}.")], samples=1)
    told = {(row["prompt"], row["config"]): json.loads(row["receipt"]) for row in cells_of(tmp_path)}
    slotted = DecodingConfig(temperature=0.0, hint="Use {numbers}.").digest
    assert told.pop((prompts[1].digest, slotted)) == {"hint": "left out: the prompt has nothing for {numbers}"}
    assert set(map(str, told.values())) == {"{}"}


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
    with pytest.raises(InvalidInput, match="scorer's name"):
        load_table(tmp_path, scorer=engine.scorer)
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


def test_fast_units_share_a_segment_and_slow_ones_do_not(tmp_path, monkeypatch):
    run(SimulatedEngine(seed=1, unit_cells=7), tmp_path / "fast", n=20)
    assert len(list((tmp_path / "fast" / "cells").iterdir())) <= 2
    monkeypatch.setattr(drive, "FLUSH_SECONDS", 0.0)
    run(SimulatedEngine(seed=1, unit_cells=7), tmp_path / "slow", n=20)
    assert len(list((tmp_path / "slow" / "cells").iterdir())) == 20


def test_half_a_surrogate_comes_back_as_the_prompt_that_was_swept(tmp_path):
    engine = SimulatedEngine(seed=3)
    given = [Prompt("Two \ud83d lines.", id=1, task="\udc00", metadata={"\ud83d": "\ud83d"}), *engine.prompts(3)]
    table = sweep(engine, given, SPACE, engine.scorer, samples=2, out=tmp_path / "s", progress=False)
    clean = Prompt("Two ? lines.", id="1", task="?", metadata={"?": "?"})
    assert table.prompts[0] == clean == given[0]
    loaded = load_table(tmp_path / "s", prompts=[given[0]])
    assert loaded.prompts == (clean,)
    np.testing.assert_array_equal(loaded.rewards[0], table.rewards[0])
