"""The committed tables of the workload: prompts made again meet their cells, and the rewards are the scorers'."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.sweeps.workload import scoring, tables
from hagpolicy.data.completion import Completion
from hagpolicy.data.store import segments
from hagpolicy.errors import StoreError
from hagpolicy.scorers.registry import assign_scorers
from tests.support.paths import DATA

pytestmark = pytest.mark.skipif(not (DATA / "tasks").exists(), reason="the public data is not here (HAGPOLICY_DATA)")


@pytest.mark.parametrize("name", ["final", "budgets"])
def test_every_stored_cell_has_its_prompt_and_its_place(name: str) -> None:
    run = tables.runs(DATA)[name]
    if not (run.folder / "cells").exists():
        pytest.skip("not swept yet")
    table = tables.stored(run)
    rows = [row for path in sorted((run.folder / "cells").glob("*.parquet")) for row in _rows(path)]
    assert int((~np.isnan(table.rewards)).sum()) == len(rows)
    assert table.default is not None
    assert table.space[table.default].deterministic
    drawn_once = [column for column, config in enumerate(table.space) if config.deterministic]
    assert table.counts[:, drawn_once].max() == 1
    assert np.nanmin(table.rewards) >= 0.0
    assert np.nanmax(table.rewards) <= 1.0
    assert table.tokens is not None
    assert np.nanmax(table.tokens) <= 64


@pytest.mark.parametrize("name", ["final", "budgets"])
def test_stored_rewards_are_what_the_scorers_say_of_the_stored_texts(name: str) -> None:
    run = tables.runs(DATA)[name]
    files = sorted((run.folder / "cells").glob("*.parquet"))
    if not files:
        pytest.skip("not swept yet")
    owner = {prompt.digest: (prompt, one) for prompt, one in zip(run.prompts, _scorers(run), strict=True)}
    rows = _rows(files[0])
    other = 0
    for row in rows:
        prompt, scorer = owner[row["prompt"]]
        (score,) = scorer.score([(prompt, Completion(row["text"], tokens=row["tokens"]))])
        other += score.value != row["reward"]
        assert score.value == row["reward"] or scorer.stored_name != row["scorer"], (prompt.id, row["text"])
    # Under the version that is stored a reward is the scorer's, exactly; a later version reads few texts otherwise. So
    # a reward that was changed by hand is seen for the first, and only rewards that were mixed up for the second.
    assert other <= len(rows) / 50


def test_other_prompts_have_no_table() -> None:
    known = tables.runs(DATA)
    if not (known["final"].folder / "cells").exists():
        pytest.skip("not swept yet")
    strangers = tables.Run(known["final"].folder, known["pilot"].prompts, known["final"].space, 4)
    with pytest.raises(StoreError, match="holds no cell"):
        tables.stored(strangers)


def _rows(path: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = segments.decode_segment(path.read_bytes()).to_pylist()
    return rows


def _scorers(run: tables.Run) -> list[object]:
    return list(assign_scorers(scoring.SCORERS, run.prompts))
