"""The contract over all strategies."""

from __future__ import annotations

from pathlib import Path

import pytest

import hagpolicy as hag
from benchmarks.claims.fitting import worlds
from hagpolicy.errors import InvalidInput
from tests.support.sweeping_world import Counting, same

SPACE = worlds.SPACE


@pytest.mark.parametrize("strategy", ["racing", "hag"])
def test_a_sweep_in_rounds_keeps_its_budget_and_resumes(strategy: str, tmp_path: Path) -> None:
    def swept(engine: Counting, out: Path) -> hag.SweepTable:
        return hag.sweep(
            engine, engine.prompts(60, seed=1), SPACE, engine.scorer, samples=4, max_tokens=16, out=out,
            strategy=strategy, budget=900, progress=False,
        )  # fmt: skip

    whole = Counting(3, gap=0.15, space=SPACE)
    table = swept(whole, tmp_path / "whole")
    assert sum(whole.seeds.values()) <= 900
    assert set(whole.seeds.values()) == {1}
    assert table.common is not None
    assert table.default is not None
    assert table.complete.all()
    killed = Counting(3, gap=0.15, space=SPACE, stop_at=6)
    with pytest.raises(KeyboardInterrupt):
        swept(killed, tmp_path / "killed")
    resumed = Counting(3, gap=0.15, space=SPACE)
    assert same(swept(resumed, tmp_path / "killed"), table)
    assert killed.seeds + resumed.seeds == whole.seeds
    loaded = hag.load_table(tmp_path / "whole")
    assert loaded.common == table.common
    hag.headroom(loaded)


@pytest.mark.parametrize("strategy", ["racing", "hag"])
def test_a_budget_below_the_least_is_refused_before_a_token(strategy: str, tmp_path: Path) -> None:
    engine = Counting(0, space=SPACE)
    with pytest.raises(InvalidInput, match="budget"):
        hag.sweep(
            engine, engine.prompts(50), SPACE, engine.scorer, out=tmp_path / "s", strategy=strategy, budget=60,
            progress=False,
        )  # fmt: skip
    assert not engine.units
