"""The comparisons of the benchmarks: studies are well formed, and a comparison is rendered as it was judged."""

from __future__ import annotations

import json

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.analysis.objectives import get_objectives
from hagpolicy.results import ROW_LABELS


def test_studies_name_objectives_and_kinds_that_were_promised() -> None:
    pytest.importorskip("torch")
    from benchmarks.studies.catalog import STUDIES

    for study in STUDIES:
        assert get_objectives(study.objective)
    promised = {"mean reward", "reward minus token price", "seconds with drafting", "pass@k or best-of-n"}
    assert {study.counts for study in STUDIES} - {""} == promised
    assert len({study.name for study in STUDIES}) == len(STUDIES)


def test_a_comparison_is_rendered_with_every_row_and_both_gains() -> None:
    from benchmarks.tools.pages import read_comparisons, tabulate_comparison

    rng = np.random.default_rng(0)
    space = hag.DecodingSpace.grid(temperature=[0.0, 0.7, 1.0])
    rewards = rng.random((60, 3, 4))
    rewards[:, 0, 1:] = np.nan
    table = hag.SweepTable.from_arrays(
        [f"prompt {n}" for n in range(60)], space, rewards, tokens=np.full(rewards.shape, 20.0), default=0
    )
    policy = hag.fit(table, learner="constant", baselines=["argmax"])
    assert policy.evaluation is not None
    stored = json.loads(json.dumps({"ladders": [policy.evaluation.to_json()]}))
    lines = tabulate_comparison(*read_comparisons(stored)).splitlines()
    rows = {line.split(" | ")[0].strip("| "): line for line in lines if line.startswith("| ")}
    labels = {ROW_LABELS[name] for name in ("engine_default", "random", "sbs", "policy", "split_vbs", "naive_vbs")}
    assert {*labels, "argmax"} <= rows.keys()
    sbs = policy.evaluation.row("sbs")
    assert sbs.over_default is not None
    assert f"{sbs.over_default.value:+.3f}" in rows[ROW_LABELS["sbs"]]
    assert "| tokens |" in lines[0]
    assert " 20 " in rows[ROW_LABELS["sbs"]]


@pytest.mark.parametrize("default_is_best", [True, False])
def test_a_default_that_ships_gains_nothing_over_itself(default_is_best: bool) -> None:
    pytest.importorskip("torch")
    from benchmarks.claims.fitting import quality

    rewards = (np.random.default_rng(5).random((120, 6, 2)) < 0.5).astype(float)
    order = np.argsort(rewards.mean(axis=(0, 2)))
    default = int(order[-1] if default_is_best else order[0])
    space = hag.DecodingSpace.grid(temperature=[0.2, 0.4, 0.7], repetition_penalty=[1.0, 1.1])
    texts = [prompt.text for prompt in hag.SimulatedEngine(0).prompts(120)]
    table = hag.SweepTable.from_arrays(texts, space, rewards, default=default)
    policy = hag.fit(table, learner="ridge")
    assert policy.ships != "per_prompt"
    if default_is_best:
        assert policy.ships == "default"
    assert quality.single_bests(policy) == [policy.sbs_index]
    assert (policy.sbs_index == default) is default_is_best
    found = {item.name: item for item in quality.figures_of(policy.evaluation, targeted=False)}
    ships = found["reward: what ships over the engine's default"]
    assert ((ships.value, ships.low, ships.high) == (0.0, 0.0, 0.0)) is (policy.ships == "default")
    assert (found["reward: single best config over the engine's default"].value == 0.0) is default_is_best
