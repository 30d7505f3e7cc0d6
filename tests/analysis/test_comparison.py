"""The comparison of baselines: all rows in their order, over a single best config chosen in draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.analysis.bootstrap import DrawnConfig, GroupBootstrap
from hagpolicy.analysis.comparison import Comparison, compare
from hagpolicy.analysis.estimates import assign_folds, crossfit_sbs, take_chosen
from hagpolicy.analysis.objectives import get_objectives
from hagpolicy.analysis.prepare import prepare
from hagpolicy.errors import InvalidInput
from hagpolicy.results import ROW_LABELS
from tests.support.drawing import SPACE, drawn, table_of


def test_a_near_tie_leaves_the_reference_between_the_tied_and_proves_nothing() -> None:
    """Folds would each take the config that they themselves speak against, and every fixed one would seem better."""
    rng = np.random.default_rng(3)
    bagged, folded, proven = [], [], 0
    for seed in range(60):
        Y = (rng.random((200, 2)) < 0.3).astype(np.float64)
        gap = int(Y[:, 0].sum() - Y[:, 1].sum())
        Y[np.flatnonzero(Y[:, int(gap < 0)] == 1)[: abs(gap)], int(gap < 0)] = 0.0  # an exact tie
        boot = GroupBootstrap(np.arange(200), n_boot=400, seed=seed)
        drawn = DrawnConfig.best(Y, boot)
        np.testing.assert_allclose(drawn.weights.sum(axis=1), 1.0)
        reference = (drawn.weights * Y).sum(axis=1)
        bagged.append(Y[:, 0].mean() - reference.mean())
        folded.append((Y[:, 0] - take_chosen(Y, crossfit_sbs(Y, assign_folds(np.arange(200), 5, seed)))).mean())
        comparison = Comparison(Y, Y[:, :, None], np.ones(2, dtype=bool), drawn.weights, boot, resampled=drawn)
        gain = comparison.score_choices(np.zeros(200, dtype=np.int64)).gain
        assert gain.value == pytest.approx(bagged[-1])
        proven += gain.low > 0.0
    assert 0.0 < np.mean(bagged) < 0.7 * np.mean(folded)
    assert proven == 0


def test_the_comparison_is_complete_and_in_order(strong: tuple) -> None:
    names = [row.name for row in strong[2].evaluation.rows]
    assert names == [
        "engine_default", "random", "sbs", "best_per_task", "nearest", "told", "ridge", "policy", "split_vbs",
        "naive_vbs",
    ]  # fmt: skip
    assert [name for name in names if name not in ROW_LABELS] in (
        ["ridge"],
        ["told", "ridge"],
    )  # a learner keeps its own name
    sbs = strong[2].evaluation.row("sbs")
    assert sbs.gain == sbs.gain_low == sbs.gain_high == 0.0


def test_a_share_of_an_unproven_gap_is_not_printed() -> None:
    space = hag.DecodingSpace.grid(temperature=[0.5, 0.7, 0.9])
    policy = hag.fit(table_of(drawn(100, 3, 4, seed=1), space), learner="constant")
    vbs = policy.evaluation.row("split_vbs")
    assert vbs.gain_low < 0.0 < vbs.gain
    assert all(row.gap_closed is None for row in policy.evaluation.rows)


def test_tokens_that_one_cell_lacks_are_unknown_costs_and_no_broken_bundle(tmp_path: Path) -> None:
    space = hag.DecodingSpace.grid(temperature=[0.5, 0.7, 0.9])
    tokens = np.full((60, 3, 2), 12.0)
    costs = {}
    for name in ("whole", "holed"):
        policy = hag.fit(table_of(drawn(60, 3, 2), space, tokens=tokens), learner="constant")
        again = hag.load(policy.save(tmp_path / name))
        assert again.evaluation == policy.evaluation
        costs[name] = {row.cost for row in policy.evaluation.rows if row.name in ("sbs", "random", "policy")}
        tokens[3, 1, 1] = np.nan
    assert costs == {"whole": {12.0}, "holed": {None}}
    with pytest.raises(InvalidInput, match="scored cells that lack them"):
        hag.headroom(table_of(drawn(60, 3, 2), space, tokens=tokens), objective="price/token@0.1")


def test_who_says_nothing_is_the_single_best_config_of_every_draw() -> None:
    rng = np.random.default_rng(4)
    table = hag.SweepTable.from_arrays([f"prompt {i}" for i in range(90)], list(SPACE)[:4], rng.random((90, 4)))
    boot = GroupBootstrap(table.groups, n_boot=300)
    comparison = compare(replace(prepare(table, get_objectives("reward"), 0), boot=boot))
    assert len(np.unique(comparison.resampled.config)) > 1
    silent = comparison.score_choices(np.full(90, -1))
    assert (silent.gain.low, silent.gain.high) == pytest.approx((0.0, 0.0), abs=1e-12)
    choices = np.where(np.arange(90) < 30, -1, 2)
    gains, shares = [], []
    for draw, sbs in zip(boot.leaving, comparison.resampled.config, strict=True):
        out = boot.counts[draw, boot.index] == 0.0
        worth = np.where(choices < 0, comparison.Y[:, sbs], comparison.Y[:, 2])
        gains.append((worth - comparison.Y[:, sbs])[out].mean())
        shares.append((boot.counts[draw] == 0.0).mean())
    wide = comparison.score_choices(choices, learned=True).gain
    assert (wide.low, wide.high) == pytest.approx(tuple(np.quantile(gains, [0.025, 0.975])))
    # Draws with the same SBS are drawn together, those with another one keep their distance.
    narrow = np.array(gains)
    for sbs in set(comparison.resampled.config):
        same = comparison.resampled.config == sbs
        off = narrow[same] - narrow[same].mean()
        share = np.array(shares)[same]
        narrow[same] = narrow[same].mean() + off * np.sqrt(share / (1 - share))
    found = comparison.score_choices(choices).gain
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(narrow, [0.025, 0.975])))
