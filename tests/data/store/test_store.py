import contextlib
import errno
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hagpolicy.sweeping.drive as drive
from hagpolicy import DecodingConfig, DecodingSpace, Prompt, SimulatedEngine, load_table, rescore, sweep
from hagpolicy.data.store.cells import Plan, View, compute_cell_key, derive_stream_seed
from hagpolicy.data.store.files import LocalFiles
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.data.store.locks import FolderLock
from hagpolicy.errors import StoreError, SweepLocked
from hagpolicy.scorers.functions import FunctionScorer
from hagpolicy.sweeping.plan import pack

SPACE = DecodingSpace.grid(temperature=[0.0, 0.7])
CELLS = 6 * (1 + 2 + 2)  # six prompts; greedy, .7 and the engine's default, the latter two drawn twice


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A finished sweep in six segments of one unit each."""
    monkeypatch.setattr(drive, "FLUSH_SECONDS", 0.0)
    run(tmp_path / "sweep")
    return tmp_path / "sweep"


def run(out, seed=1, **options):
    engine = SimulatedEngine(seed=seed, unit_cells=5)
    options = {"samples": 2, "max_tokens": 8, "progress": False, **options}
    return sweep(engine, engine.prompts(6), SPACE, engine.scorer, out=out, **options)


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def damage_empty(path):
    path.write_bytes(b"")


def damage_bit(path):
    """A flipped byte that changes what is read and that only the pages' own checksums can tell."""
    data = path.read_bytes()
    whole = pyarrow.parquet.read_table(io.BytesIO(data))
    for place in range(4, len(data)):
        bad = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with contextlib.suppress(OSError, pyarrow.ArrowException):
            if pyarrow.parquet.read_table(io.BytesIO(bad)) != whole:
                path.write_bytes(bad)
                return
    raise AssertionError("every damage shows by itself")


@pytest.mark.parametrize("damage", [damage_cut, damage_empty, damage_bit])
def test_a_torn_segment_is_set_aside_and_its_cells_come_back_equal(folder, caplog, damage):
    before = load_table(folder)
    victim = folder / "cells" / "000003.parquet"
    damage(victim)
    partial = load_table(folder)  # reads only: leaves the file alone
    assert "000003.parquet is damaged and left out" in caplog.text
    assert int(partial.counts.sum()) == CELLS - 5
    assert victim.exists()
    after = run(folder)
    assert "set aside as 000003.parquet.torn; its cells will be generated again" in caplog.text
    assert (folder / "cells" / "000003.parquet.torn").exists()
    assert not victim.exists()
    np.testing.assert_array_equal(after.rewards, before.rewards)
    np.testing.assert_array_equal(after.rewards, load_table(folder).rewards)
    assert len(list((folder / "cells").glob("*.parquet"))) == 6


def test_rewards_of_a_lost_text_are_not_those_of_the_new_one(folder):
    half = FunctionScorer(lambda text: 0.5, name="half", version="1")
    rescore(folder, half)
    damage_cut(folder / "cells" / "000001.parquet")
    run(folder)
    table = load_table(folder, scorer="half")
    assert table.failures == {"not scored by half@1": 5}
    assert rescore(folder, half).failures == {}


def test_damaged_plans_and_prompts_are_made_anew(folder, caplog):
    before = load_table(folder)
    for path in [*(folder / "plans").iterdir(), *(folder / "prompts").iterdir()]:
        path.write_text('{"broken')
    with pytest.raises(StoreError, match="holds no plan"):
        load_table(folder)
    np.testing.assert_array_equal(run(folder).rewards, before.rewards)
    assert caplog.text.count(".torn") == 2
    np.testing.assert_array_equal(load_table(folder).rewards, before.rewards)


def test_a_plan_without_its_prompts_waits_for_them(folder, caplog):
    shutil.rmtree(folder / "prompts")
    with pytest.raises(StoreError, match="no plan"):
        load_table(folder)
    assert "6 of the plan's prompts are not stored" in caplog.text
    assert run(folder).complete.all()
    assert load_table(folder).complete.all()


def test_newer_formats_are_refused_and_unreadable_ones_named(folder):
    about = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps({**about, "format_version": 99}))
    with pytest.raises(StoreError, match=r"format 99.*Update"):
        run(folder)
    for damaged in ("{}", json.dumps({**about, "format_version": "new"})):
        (folder / "sweep.json").write_text(damaged)
        with pytest.raises(StoreError, match=r"sweep\.json cannot be read"):
            load_table(folder)
    (folder / "sweep.json").write_text(json.dumps(about))
    plan = next((folder / "plans").iterdir())
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "format_version": 99}))
    with pytest.raises(StoreError, match="plan has format 99"):
        load_table(folder)


def test_leftovers_of_a_killed_write_are_cleared(folder):
    leftovers = [folder / "cells" / "000007.parquet.tmp", folder / "cells" / "000007.parquet.0a1b2c3d.tmp"]
    for leftover in leftovers:
        leftover.write_bytes(b"half a segm")
    assert load_table(folder).complete.all()
    assert all(leftover.exists() for leftover in leftovers)
    run(folder)
    assert not any(leftover.exists() for leftover in leftovers)


@pytest.mark.parametrize("name", ["sweep.json.tmp", "sweep.json.0a1b2c3d.tmp"])
def test_a_sweep_killed_at_its_very_first_write_goes_on(tmp_path, name):
    (tmp_path / name).write_bytes(b"{")
    assert run(tmp_path).complete.all()
    assert not (tmp_path / name).exists()


def test_none_of_the_chosen_cells(folder):
    with pytest.raises(StoreError, match="none of the 6 chosen cells"):
        load_table(folder, space=[DecodingConfig(temperature=0.0, num_beams=2)])


def test_a_view_with_holes_says_so(folder, caplog):
    table = load_table(folder, samples=3)
    assert table.rewards.shape == (6, 3, 3)
    assert np.isnan(table.rewards[:, :, 2]).all()
    assert "12 of 42 cells are not generated yet" in caplog.text


def test_a_dead_process_leaves_no_lock_and_a_living_one_is_named(folder):
    code = """
        import sys
        from pathlib import Path
        from hagpolicy.data.store.locks import FolderLock
        lock = FolderLock(Path(sys.argv[1]))
        sys.stdout.write("held\\n")
        sys.stdout.flush()
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SweepLocked, match=rf"process {holder.pid} on host \S+ \(since"):
            run(folder)
        assert load_table(folder).complete.all()  # reading needs no lock
        holder.kill()
        holder.wait()
    assert run(folder).complete.all()


def test_the_lock_is_given_back(folder):
    with SweepStore(folder, write=True):
        pass
    lock = FolderLock(folder)
    lock.release()
    lock.release()


def test_a_place_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot make the sweep folder"):
        run(tmp_path / "file" / "sweep")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    files = LocalFiles(tmp_path)
    files.write("file", b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot write .*/file: .*No space left.* intact"):
        files.write("file", b"new")
    assert files.read("file") == b"old"
    assert list(files.sizes()) == ["file"]


def test_keys_and_streams():
    config = DecodingConfig(temperature=0.5)
    prompt = Prompt("a")
    keys = {
        compute_cell_key(p, c, m, s, seed)
        for p in (prompt.digest, Prompt("b").digest)
        for c in (config.digest, DecodingConfig().digest)
        for m in (1, 2)
        for s in (0, 1)
        for seed in (0, 1)
    }
    assert len(keys) == 32
    assert all(0 <= derive_stream_seed(key) < 2**63 for key in keys)
    assert len({derive_stream_seed(key) for key in keys}) == 32
    # The identity of cells that users have on disk: a change of this value breaks their folders.
    assert compute_cell_key(prompt.digest, config.digest, 8, 0, 0) == "a146c907aab841d83f22b6273c74c8e8"


def test_plans_survive_json():
    prompts = tuple(Prompt(text) for text in "abc")
    view = View(prompts, SPACE, 2, 8, 5, 1, ("x@1", "y@1", "x@1"))
    plan = pack(view, [(0, 1, 2), (), (1, 2)], unit_cells=2)
    assert [list(plan.cells(unit)) for unit in range(len(plan.units))] == [[(0, 0), (0, 1)], [(0, 2)], [(2, 1), (2, 2)]]
    back = Plan.from_json(json.loads(json.dumps(plan.to_json())), {prompt.digest: prompt for prompt in prompts})
    assert back == plan
    assert back.digest == plan.digest


@given(
    wanted=st.lists(st.sets(st.integers(0, 8)), min_size=1, max_size=12),
    unit_cells=st.integers(1, 20),
)
def test_packing_holds_every_cell_once_and_splits_no_prompt_without_need(wanted, unit_cells):
    prompts = tuple(Prompt(f"prompt {number}") for number in range(len(wanted)))
    view = View(prompts, SPACE, 8, 8, 0, None, ("x@1",) * len(prompts))
    plan = pack(view, [sorted(slots) for slots in wanted], unit_cells)
    units = [list(plan.cells(unit)) for unit in range(len(plan.units))]
    expected = [(prompt, slot) for prompt, slots in enumerate(wanted) for slot in sorted(slots)]
    assert [cell for unit in units for cell in unit] == expected
    assert all(0 < len(unit) <= unit_cells for unit in units)
    for prompt, slots in enumerate(wanted):
        parts = [sum(i == prompt for i, _ in unit) for unit in units]
        assert len([part for part in parts if part]) == -(-len(slots) // unit_cells)
    # Neighbours that would have fitted together are together, save where a split prompt begins or ends.
    if max(map(len, wanted)) <= unit_cells:
        assert all(len(a) + sum(i == b[0][0] for i, _ in b) > unit_cells for a, b in itertools.pairwise(units))


def test_segments_can_be_read_by_any_parquet_reader(folder):
    table = pyarrow.parquet.read_table(folder / "cells")
    assert table.num_rows == CELLS
    assert {"text", "reward", "tokens", "config", "prompt", "task", "sample"} <= set(table.column_names)


def test_prompts_of_several_scorers_have_each_their_own_rewards(tmp_path):
    engine = SimulatedEngine(4)
    prompts = sorted(engine.prompts(20), key=lambda prompt: prompt.task == engine.tasks[0])
    space = DecodingSpace.grid(temperature=[0.0, 0.7])

    def half(prompt, completion):
        return 0.5

    scorer = dict.fromkeys(engine.tasks, half) | {engine.tasks[0]: engine.scorer}  # few of one, many of the other
    table = sweep(engine, prompts, space, scorer, samples=2, out=tmp_path, progress=False)
    simulated = table.tasks == engine.tasks[0]
    assert np.isin(table.rewards[simulated, :, 0], [0.0, 1.0]).all()
    assert (table.rewards[~simulated, :, 0] == 0.5).all()
    assert table.failures == {}
