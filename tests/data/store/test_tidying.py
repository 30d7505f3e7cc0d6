"""Many small segments become a few, old folders and strays are read for what they are; nothing stored is lost."""

import json
import shutil
import threading

import numpy as np
import pytest

import hagpolicy.data.store.tidying as tidying
import hagpolicy.sweeping.drive as drive
from hagpolicy import SimulatedEngine, load_table, rescore
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.data.store.segments import decode_segment, read_engine
from hagpolicy.scorers.functions import FunctionScorer
from tests.support.paths import FIXTURES
from tests.support.sweeping_world import SPACE, Counting, cells_of, run, same

QUARTER = FunctionScorer(lambda text: 0.25, name="quarter", version="1")
FIXTURE = FIXTURES / "sweep_v1"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A segment for every unit; merged from the fifth on."""
    monkeypatch.setattr(drive, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(tidying, "MANY_SEGMENTS", 4)


@pytest.fixture
def unmerged(tmp_path, monkeypatch):
    """A finished sweep in nine segments."""
    monkeypatch.setattr(tidying, "MANY_SEGMENTS", 1000)
    run(Counting(seed=1, unit_cells=7), tmp_path / "sweep", n=9)
    monkeypatch.setattr(tidying, "MANY_SEGMENTS", 4)
    return tmp_path / "sweep"


def names(out, folder="cells"):
    return sorted(path.name for path in (out / folder).iterdir())


def by_cell(out):
    rows = {row["cell"]: row for row in cells_of(out)}
    assert len(rows) == len(cells_of(out))
    return rows


def opened_for_writing(out):
    with SweepStore(out, write=True):
        pass


def test_small_segments_are_merged_at_the_end_and_at_the_next_opening(unmerged, tmp_path):
    before, table = by_cell(unmerged), load_table(unmerged)
    assert len(names(unmerged)) == 9
    opened_for_writing(unmerged)
    assert len(names(unmerged)) == 1
    assert names(unmerged)[0].startswith("000009-")
    assert by_cell(unmerged) == before
    assert same(load_table(unmerged), table)
    assert same(run(Counting(seed=1, unit_cells=7), tmp_path / "other", n=9), table)
    assert len(names(tmp_path / "other")) == 1
    # More cells come after the merged ones.
    run(Counting(seed=1, unit_cells=7), unmerged, n=10)
    assert names(unmerged)[1] == "000010.parquet"


@pytest.mark.parametrize("n_removed", [0, 1, 5, 8, 9])
def test_a_kill_between_writing_the_merged_segment_and_removing_its_sources(unmerged, tmp_path, n_removed):
    before, table = by_cell(unmerged), load_table(unmerged)
    merged = shutil.copytree(unmerged, tmp_path / "merged")
    opened_for_writing(merged)
    new = names(merged)[0]
    shutil.copy(merged / "cells" / new, unmerged / "cells" / new)
    for name in [name for name in names(unmerged) if name != new][:n_removed]:
        (unmerged / "cells" / name).unlink()
    (unmerged / "cells" / "000008-half.parquet.tmp").write_bytes(b"PAR1")
    assert same(load_table(unmerged), table)
    engine = Counting(seed=1, unit_cells=7)
    assert same(run(engine, unmerged, n=9), table)
    assert engine.units == []
    assert by_cell(unmerged) == before
    assert same(load_table(unmerged), table)


def test_a_source_that_a_kill_left_is_removed_by_the_next_writer(unmerged, tmp_path, monkeypatch):
    merged = shutil.copytree(unmerged, tmp_path / "merged")
    opened_for_writing(merged)
    shutil.copy(unmerged / "cells" / "000003.parquet", merged / "cells")
    monkeypatch.setattr(tidying, "MANY_SEGMENTS", 1000)
    opened_for_writing(merged)
    assert len(names(merged)) == 1


def test_merging_keeps_which_record_counts(tmp_path):
    out = tmp_path / "sweep"
    engine = Counting(seed=1, unit_cells=7, fail_rate=0.3)
    run(engine, out, n=9)
    rescore(out, QUARTER)
    # Failed cells come again after the rewards, with rewards of their own; later merges must not pass them.
    engine.fail_rate = 0.0
    whole = run(engine, out, n=9)
    run(engine, out, n=20)
    assert len(names(out)) <= 4
    assert names(out, "rewards") == ["000010.parquet"]
    fresh = run(Counting(seed=1, unit_cells=7), tmp_path / "fresh", n=20)
    prompts = engine.prompts(9)
    assert same(load_table(out, scorer="simulated"), fresh)
    assert same(load_table(out, prompts=prompts, scorer="simulated"), whole)
    quarter = load_table(out, prompts=prompts, scorer="quarter")
    assert set(quarter.rewards[~np.isnan(quarter.rewards)]) == {0.25}
    n_again = sum(count == 2 for count in engine.seeds.values())
    assert quarter.failures == {"not scored by quarter@1": n_again}
    assert n_again > 0


def test_of_two_records_in_one_merged_segment_the_later_one_counts(tmp_path):
    engine = Counting(seed=1, unit_cells=7, fail_rate=0.3)
    run(engine, tmp_path / "sweep", n=9)
    engine.fail_rate = 0.0
    whole = run(engine, tmp_path / "sweep", n=9)
    assert len(names(tmp_path / "sweep")) == 1
    assert len(cells_of(tmp_path / "sweep")) == 63
    assert same(load_table(tmp_path / "sweep"), whole)
    assert same(whole, run(Counting(seed=1, unit_cells=7), tmp_path / "fresh", n=9))


def test_a_damaged_segment_is_not_merged_away(unmerged, caplog):
    victim = unmerged / "cells" / "000003.parquet"
    victim.write_bytes(victim.read_bytes()[:-20])
    opened_for_writing(unmerged)
    assert "set aside as 000003.parquet.torn; its cells will be generated again" in caplog.text
    assert len(cells_of(unmerged)) == 56
    assert run(Counting(seed=1, unit_cells=7), unmerged, n=9).complete.all()


def test_a_reader_finds_everything_while_a_writer_merges(unmerged, tmp_path):
    table = load_table(unmerged)
    done = threading.Event()

    def merge_again_and_again():
        for _ in range(12):
            for name in names(unmerged):
                shutil.copy(unmerged / "cells" / name, tmp_path / name)
            opened_for_writing(unmerged)
            for path in tmp_path.glob("*.parquet"):
                path.replace(unmerged / "cells" / path.name)
        done.set()

    writer = threading.Thread(target=merge_again_and_again)
    writer.start()
    while not done.is_set():
        assert same(load_table(unmerged), table)
    writer.join()


def test_plans_do_not_pile_up(tmp_path, monkeypatch):
    monkeypatch.setattr(tidying, "MANY_PLANS", 3)
    engine = Counting(seed=1, unit_cells=7, fail_rate=0.9)
    for rate in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3):
        engine.fail_rate = rate
        table = run(engine, tmp_path)
    assert len(names(tmp_path, "plans")) <= 3
    assert same(load_table(tmp_path), table)
    engine.fail_rate = 0.0
    assert same(run(engine, tmp_path), run(SimulatedEngine(seed=1), tmp_path / "fresh"))


def test_plans_of_rounds_do_not_pile_up(tmp_path, monkeypatch):
    monkeypatch.setattr(tidying, "MANY_PLANS", 3)
    for _ in range(6):  # what fails does so again: every call plans anew
        table = run(Counting(seed=1, unit_cells=7, fail_rate=0.1), tmp_path, n=20, samples=4, strategy="racing")
    assert len(names(tmp_path, "plans")) <= 4
    assert same(load_table(tmp_path), table)


def test_an_unfinished_plan_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(tidying, "MANY_PLANS", 0)
    engine = Counting(seed=1, unit_cells=7, stop_at=2)
    with pytest.raises(KeyboardInterrupt):
        run(engine, tmp_path, n=6)
    for name in ("one", "two"):
        rescore(tmp_path, FunctionScorer(lambda text: 0.5, name=name, version="1"))
    engine.stop_at, engine.unit_cells = None, 100
    run(engine, tmp_path, n=6)
    assert [len(unit) for unit in engine.units] == [7] * 6


def test_a_segment_of_another_models_folder_is_kept_out(tmp_path, caplog):
    engine, other = Counting(seed=1, unit_cells=7), Counting(seed=2, unit_cells=7)
    expected = run(engine, tmp_path / "mine")
    run(other, tmp_path / "theirs")
    stray = sorted((tmp_path / "theirs" / "cells").iterdir())[-1]
    data = stray.read_bytes()
    assert read_engine(decode_segment(data)) is not None
    shutil.copy(stray, tmp_path / "mine" / "cells" / "000099.parquet")
    plan = json.loads(next((tmp_path / "theirs" / "plans").iterdir()).read_text())
    (tmp_path / "mine" / "plans" / "000099-stray.json").write_text(json.dumps(plan))
    assert same(load_table(tmp_path / "mine"), expected)
    assert "000099.parquet holds cells of another engine than simulated:1 and left out" in caplog.text
    n_units = len(engine.units)
    assert same(run(engine, tmp_path / "mine"), expected)
    assert len(engine.units) == n_units
    assert (tmp_path / "mine" / "cells" / "000099.parquet.foreign").read_bytes() == data
    assert (tmp_path / "mine" / "plans" / "000099-stray.json.foreign").exists()
    assert same(load_table(tmp_path / "mine"), expected)


def test_a_folder_of_the_first_format_loads_and_goes_on(tmp_path):
    out = shutil.copytree(FIXTURE, tmp_path / "sweep")
    stored = load_table(out, scorer="simulated")
    assert stored.space == SPACE.with_config(SimulatedEngine().default_config())[0]
    assert stored.counts[:4].tolist() == [[1, 2, 2, 1], [1, 2, 1, 2], [1, 2, 2, 2], [1, 2, 2, 2]]
    assert stored.failures == {"engine error: simulated failure": 2}
    assert set(load_table(out).scorers.values()) == {"quarter@1"}
    engine = Counting(seed=1, unit_cells=14)
    table = run(engine, out)
    # The unit that was packed then, and the cells of two prompts that failed.
    assert sorted(len(unit) for unit in engine.units) == [1, 1, 14]
    assert same(table, run(SimulatedEngine(seed=1), tmp_path / "fresh"))
    scored = ~np.isnan(stored.rewards)
    np.testing.assert_array_equal(table.rewards[scored], stored.rewards[scored])
