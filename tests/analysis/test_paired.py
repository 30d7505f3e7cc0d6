"""One policy or configuration against another, on the same prompts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.cli import main
from hagpolicy.errors import InvalidInput

SPACE = hag.DecodingSpace.grid(temperature=[0.2, 0.5, 0.7])


def make_table(gain: float, count: int = 300, seed: int = 0) -> hag.SweepTable:
    chance = np.random.default_rng(seed)
    rewards = (chance.random((count, 3, 2)) < np.array([0.5, 0.5 + gain, 0.5])[:, None]).astype(float)
    prompts = [hag.Prompt(f"prompt {number}", task="ab"[number % 2]) for number in range(count)]
    return hag.SweepTable.from_arrays(prompts, SPACE, rewards, default=0)


def test_a_difference_is_told_and_its_negative_rejected() -> None:
    table = make_table(0.2)
    found = hag.compare(1, "default", table)
    assert found.verdict == "allow"
    assert found.difference.value == pytest.approx(table.means[:, 1].mean() - table.means[:, 0].mean())
    assert set(found.by_task) == {"a", "b"}
    assert found.n_prompts == found.differing == 300
    turned = hag.compare(SPACE[0], SPACE[1], table)
    assert turned.verdict == "reject"
    assert turned.difference.value == -found.difference.value
    frame = found.to_frame()
    assert frame["difference"].mean() == pytest.approx(found.difference.value)
    assert json.loads(json.dumps(found.to_json()))["verdict"] == "allow"
    assert str(found).splitlines()[-1] == "allow: a gains more than nothing"


def test_verdicts_are_wrong_no_more_often_than_their_interval_promises() -> None:
    told = [hag.compare(2, 0, make_table(0.0, 60, seed)).verdict for seed in range(200)]
    assert told.count("allow") <= 11  # 2.5 % of 200, and two standard errors
    assert told.count("reject") <= 11
    assert hag.compare(1, 1, make_table(0.2)).verdict == "inconclusive"
    assert hag.compare(1, 1, make_table(0.2), at_least=-0.01).verdict == "allow"
    assert hag.compare(1, 0, make_table(0.5, 15)).verdict == "inconclusive"  # too few groups


def test_the_number_needed_tells_it_about_four_times_in_five() -> None:
    gain = 0.1
    needed = np.median([hag.compare(1, 0, make_table(gain, 200, seed)).needed for seed in range(20)])
    told = [hag.compare(1, 0, make_table(gain, int(needed), seed)).verdict == "allow" for seed in range(100, 200)]
    assert 0.6 < np.mean(told) < 0.95


def test_policies_are_judged_on_prompts_that_are_new_to_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = hag.SimulatedEngine(seed=4, gap=0.2)
    prompts = world.prompts(200)
    fitted = hag.fit(
        hag.sweep(world, prompts[:120], SPACE, world.scorer, samples=2, out=tmp_path / "a", progress=False),
        learner="ridge",
    )
    fitted.save(tmp_path / "policy")
    table = hag.sweep(world, prompts, SPACE, world.scorer, samples=2, out=tmp_path / "b", progress=False)
    found = hag.compare(tmp_path / "policy", "default", table)
    assert (found.n_prompts, found.n_left_out) == (80, 120)
    assert hag.compare(fitted, fitted, table).difference.value == 0.0
    with pytest.raises(InvalidInput, match="that no policy was trained on"):
        hag.compare(fitted, 0, table.take(np.arange(120)))
    code = main(["compare", str(tmp_path / "policy"), "default", str(tmp_path / "b"), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert code == {"allow": 0, "reject": 10, "inconclusive": 11}[said["verdict"]]
    assert main(["compare", "0", '{"temperature": 0.7}', str(tmp_path / "b"), "--at-least", "-0.9"]) == 0
    assert "allow: a gains more than -0.9" in capsys.readouterr().out


@pytest.mark.parametrize("bad", [None, 3, -1, True, hag.DecodingConfig(temperature=0.9)])
def test_what_is_no_contender_is_named(bad: object) -> None:
    with pytest.raises(InvalidInput, match=r"^a: expected"):
        hag.compare(bad, 0, make_table(0.1, 30))
