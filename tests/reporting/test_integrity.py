"""A report speaks of one sweep, and a result says which of a folder's prompts it is of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.cli import main
from hagpolicy.errors import InvalidInput
from hagpolicy.reporting.text import describe_config
from tests.reporting.tables import Page

SPACE = hag.DecodingSpace.grid(temperature=[0.0, 0.7], repetition_penalty=[1.0, 1.1])
WORLD = hag.SimulatedEngine(seed=4, gap=0.2)
PROMPTS = WORLD.prompts(160)
FIRST, REST = PROMPTS[:100], PROMPTS[100:]


def sweep(folder: Path, prompts: tuple[hag.Prompt, ...], samples: int = 2) -> hag.SweepTable:
    return hag.sweep(WORLD, prompts, SPACE, WORLD.scorer, samples=samples, out=folder, progress=False)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("integrity")
    return hag.fit(sweep(base / "sweep", FIRST), learner="ridge").save(base / "policy")


def page(path: Path, table: hag.SweepTable, policy: Path) -> str:
    return Page(hag.write_report(path, table=table, policy=hag.load(policy)).read_text("utf-8")).words


def test_a_report_of_the_sweep_it_was_fitted_on_shows_the_policys_own_evaluation(tmp_path: Path, policy: Path) -> None:
    words = page(tmp_path / "r.html", hag.load_table(policy.parent / "sweep"), policy)
    assert "was fitted on another sweep" not in words
    assert "The policy was trained on these prompts." in words
    assert "100 prompts in 100 independent groups" in words


def test_a_report_of_another_sweep_evaluates_the_policy_on_what_is_new_there(tmp_path: Path, policy: Path) -> None:
    table = sweep(tmp_path / "sweep", PROMPTS)  # the old prompts and new ones
    words = page(tmp_path / "r.html", table, policy)
    found = hag.evaluate(hag.load(policy), table)
    assert found.n_prompts == len(REST)
    assert f"on the {len(REST)} prompts here that it was not fitted on" in words
    assert f"{found.row('policy').gain:+.3f}".replace("-", "−") in words
    assert f"The policy was trained on {len(FIRST)} of these {len(PROMPTS)} prompts." in words


def test_a_report_elsewhere_gives_each_single_best_config_its_own_figure(tmp_path: Path) -> None:
    """Two sweeps whose single best configs differ: the gain over the default stands beside the one it is of."""
    rewards = np.random.default_rng(1).random((60, len(SPACE), 2)) * 0.2
    old, new = rewards.copy(), rewards.copy()
    old[:, 1] += 0.3
    new[:, 2] += 0.7
    first = hag.SweepTable.from_arrays([f"old {number}" for number in range(60)], SPACE, old, default=0)
    second = hag.SweepTable.from_arrays([f"new {number}" for number in range(60)], SPACE, new, default=0)
    policy = hag.fit(first, learner="ridge")
    text = hag.write_report(tmp_path / "r.html", table=second, policy=policy).read_text("utf-8")
    words = " ".join(Page(text).words.split())
    found = hag.headroom(second)
    gain = f"{found.sbs_over_default.value:+.3f}"
    assert found.sbs_index == 2
    assert policy.reference_index == 1
    best, before = describe_config(SPACE[2]), describe_config(SPACE[1])
    assert f"{gain} 95 % interval" in words
    assert f"is what the best single configuration, {best}, gains over the engine's default" in words
    assert f"the single best configuration of the prompts that it was fitted on, {before}" in words
    assert "The policy was trained on none of these 60 prompts." in words or "It gives every prompt the same" in words


@pytest.mark.parametrize("change", ["samples", "prompts"])
def test_a_report_of_the_same_prompts_in_another_sweep_is_refused(tmp_path: Path, policy: Path, change: str) -> None:
    table = sweep(tmp_path / "sweep", FIRST, 3) if change == "samples" else sweep(tmp_path / "sweep", FIRST[:60])
    with pytest.raises(InvalidInput, match="one fitted on this sweep, or on other prompts"):
        page(tmp_path / "r.html", table, policy)


def test_a_bundle_that_names_no_table_is_known_by_its_prompts(policy: Path) -> None:
    loaded = hag.load(policy)
    object.__setattr__(loaded.manifest, "table", "")
    table = hag.load_table(policy.parent / "sweep")
    assert loaded.fitted_on(table)
    assert not loaded.fitted_on(table.take(table.complete.nonzero()[0][:50]))


def test_what_a_folder_holds_beyond_its_latest_sweep_is_told_and_can_be_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    sweep(folder, FIRST)
    sweep(folder, REST)
    told = "60 of the folder's 160 prompts"
    assert [told in warning for warning in hag.headroom(hag.load_table(folder)).warnings].count(True) == 1
    whole = hag.load_table(folder, all_prompts=True)
    assert len(whole.prompts) == 160
    assert not any("of the folder's" in warning for warning in hag.headroom(whole).warnings)
    assert not any(
        "of the folder's" in warning for warning in hag.headroom(hag.load_table(folder, prompts=FIRST)).warnings
    )
    with pytest.raises(InvalidInput, match="no prompts beside it"):
        hag.load_table(folder, prompts=FIRST, all_prompts=True)
    assert main(["headroom", str(folder)]) == 0
    assert told in capsys.readouterr().out
    assert main(["headroom", str(folder), "--all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_prompts"] == 160
    lines = (json.dumps(prompt.to_dict()) for prompt in FIRST[:80])
    (tmp_path / "p.jsonl").write_text("\n".join(lines), "utf-8")
    assert main(["headroom", str(folder), "--prompts", str(tmp_path / "p.jsonl"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_prompts"] == 80
