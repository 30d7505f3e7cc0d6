"""Space design: on tables whose truth is known the configs that complement each other are found, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy import DecodingSpace, SimulatedEngine
from hagpolicy.cli import main
from hagpolicy.cli.exit_codes import BAD_INPUT, DONE
from hagpolicy.errors import InvalidInput
from hagpolicy.tuning.space import make_large_space, suggest_from_tables
from tests.support.adapter_folder import make_adapter_folder
from tests.support.sweeping_world import Counting

SPACE = DecodingSpace.grid(temperature=[0.0], no_repeat_ngram_size=[0, 2, 3], repetition_penalty=[1.0, 1.1, 1.2, 1.3])


def draw(chances: np.ndarray, seed: int = 0) -> hag.SweepTable:
    """A table of 0/1 rewards; chances float (n_prompts, n_configs), prompts of tasks a and b in turn."""
    prompts = [hag.Prompt(f"prompt {number}", task="ab"[number % 2]) for number in range(len(chances))]
    rewards = (np.random.default_rng(seed).random(chances.shape) < chances).astype(float)
    return hag.SweepTable.from_arrays(prompts, DecodingSpace(SPACE[: chances.shape[1]]), rewards, default=0)


def complement(n: int, lift: float = 0.0) -> np.ndarray:
    """Config 5 is best for one task, 8 for the other, 3 and 10 are hopeless; the last one lifts both alike."""
    chances = np.full((n, len(SPACE)), 0.4)
    chances[0::2, 5], chances[1::2, 5] = 0.8, 0.3
    chances[1::2, 8], chances[0::2, 8] = 0.8, 0.3
    chances[:, [3, 10]] = 0.05
    chances[:, 11] += lift
    return chances


def suggest(chances: np.ndarray, seed: int = 0) -> hag.SpaceSuggestion:
    table = draw(chances, seed)
    return suggest_from_tables(table, table, most=6, seed=seed)


def test_configs_that_complement_each_other_are_found_and_worth_what_they_are() -> None:
    found = suggest(complement(600))
    assert set(found.space) == {SPACE[5], SPACE[8]}
    assert {SPACE[3], SPACE[10]} <= set(found.list_configs("needless"))
    assert {row.config for row in found.configs} == set(SPACE)
    # Each of the two alone .55, both .8; the default .4.
    assert found.over_single_best.low < 0.25 < found.over_single_best.high
    assert found.over_default is not None
    assert found.best_over_default is not None
    assert found.over_default.low < 0.4 < found.over_default.high
    assert found.best_over_default.low < 0.15 < found.best_over_default.high
    assert found.value.low < 0.8 < found.value.high
    rows = [row for row in found.configs if row.part == "suggested"]
    assert [row.prompts for row in rows] == [0.5, 0.5]
    assert rows[0].expected < rows[1].expected
    assert rows[1].gain is not None
    assert rows[1].gain.low > 0.1
    assert (found.kinds, found.n_prompts, found.n_groups, found.n_left_out) == (2, 600, 600, 0)


def test_what_lifts_everything_leaves_less_for_a_policy() -> None:
    plain, lifted = suggest(complement(600)), suggest(complement(600, lift=0.35))
    assert lifted.space[0] == SPACE[11]
    assert lifted.best_over_default is not None
    assert plain.best_over_default is not None
    assert lifted.best_over_default.value > plain.best_over_default.value + 0.1
    assert lifted.over_single_best.value < plain.over_single_best.value - 0.1


def test_where_nothing_complements_nothing_is_proven() -> None:
    proven = 0
    for seed in range(12):
        found = suggest(np.full((200, 8), 0.5), seed)
        proven += found.over_single_best.low > 0.0
        assert found.over_single_best.low <= found.over_single_best.value <= found.over_single_best.high
    assert proven <= 1


def test_the_outcome_prints_and_is_json() -> None:
    found = suggest(complement(200))
    text = str(found)
    assert text.startswith("           expected  over the first, held out  prompts  config\nsuggested")
    assert "no prompt needs" in text
    assert "proven on others" in text
    assert json.loads(json.dumps(found.to_json()))["configs"][0]["part"] == "suggested"


def test_a_race_of_an_engine_gives_a_space_that_sweeps_and_goes_on_from_what_is_stored(tmp_path: Path) -> None:
    engine = Counting(seed=3, gap=0.25)
    prompts = engine.prompts(100)
    options = {"out": tmp_path / "race", "samples": 1, "max_tokens": 8, "progress": False}
    found = hag.suggest_space(engine, prompts, engine.scorer, **options)
    assert len(found.space) > 1
    assert found.over_single_best.low > 0.0
    assert found.generations == sum(engine.seeds.values()) < 0.36 * 100 * 34
    asked = len(engine.units)
    assert hag.suggest_space(engine, prompts, engine.scorer, **options) == found
    assert len(engine.units) == asked
    new = engine.prompts(20, seed=5)
    table = hag.sweep(
        engine, new, found.space, engine.scorer, samples=1, max_tokens=8, out=tmp_path / "new", progress=False
    )
    assert set(found.space) <= set(table.space)


def test_the_large_space_is_what_the_engine_can_run_and_was_given(tmp_path: Path) -> None:
    whole = make_large_space(SimulatedEngine(0))
    assert any("{keywords}" in config.hint for config in whole)
    assert len(whole) == len(DecodingSpace.preset("large"))
    poor = make_large_space(SimulatedEngine(0, lacks=["hint", "num_beams"]))
    assert {config for config in whole if not config.hint and config.num_beams == 1} == set(poor)
    make_adapter_folder(tmp_path / "sql")
    given = make_large_space(SimulatedEngine(0, artifacts={"adapter": {"sql": tmp_path / "sql"}}))
    assert [config.adapter for config in given if config.adapter] == ["sql"]
    bound = hag.Prompt("Yes or no?", constraint={"choices": ["yes", "no"]})
    met = set(make_large_space(SimulatedEngine(0), [hag.Prompt("a"), bound])) - set(whole)
    assert {config.constrain for config in met} == {"ask", "mask", "retry"}


@pytest.mark.parametrize("most", [0, 17, 2.5])
def test_a_bad_number_is_refused_before_anything_is_spent(tmp_path: Path, most: object) -> None:
    engine = Counting(seed=1)
    with pytest.raises(InvalidInput, match=r"most: expected a whole number in \[1, 16\]"):
        hag.suggest_space(engine, engine.prompts(4), engine.scorer, out=tmp_path, most=most)  # type: ignore[arg-type]
    assert not engine.units


def test_on_the_command_line_the_space_is_written_for_a_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": prompt.text, "task": prompt.task} for prompt in SimulatedEngine(3).prompts(60)]
    prompts, space = tmp_path / "prompts.jsonl", tmp_path / "space.json"
    prompts.write_text("\n".join(map(json.dumps, rows)))
    words = ["--engine", "simulated:3", "--prompts", str(prompts), "--max-tokens", "8", "--quiet"]
    suggest = ["space", "suggest", *words, "--out", str(tmp_path / "race"), "--write", str(space), "--budget", "900"]
    assert main([*suggest, "--json"]) == DONE
    told = json.loads(capsys.readouterr().out)
    assert told["generations"] <= 900
    assert DecodingSpace.from_json(space).to_json() == [
        row["config"] for row in told["configs"] if row["part"] == "suggested"
    ]
    assert main(["sweep", *words, "--space", str(space), "--out", str(tmp_path / "sweep")]) == DONE
    other = tmp_path / "other.txt"
    other.write_text("words")
    assert main([*suggest[:-3], str(other)]) == BAD_INPUT
    assert other.read_text() == "words"
