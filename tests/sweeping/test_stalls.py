"""A sweep whose first unit takes longer than the machine lives advances all the same."""

import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from hagpolicy import DecodingSpace, SimulatedEngine, load_table, sweep
from hagpolicy.data.store.cells import View
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.sweeping import drive
from hagpolicy.sweeping.plan import plan_work

WORLD = SimulatedEngine(4)
SPACE = DecodingSpace.grid(temperature=[0.0, 0.5, 1.0])
PROMPTS = 12

# A cell takes 0.04 s and a unit holds all of them. A run lives on from its first unit.
WORKER = """
    import sys
    import hagpolicy.sweeping.drive as drive
    from hagpolicy import DecodingSpace, SimulatedEngine, sweep

    drive.STALL_SECONDS, drive.FLUSH_SECONDS = 0.2, 0.0

    class Begun(SimulatedEngine):
        def generate(self, unit):
            print("begun", flush=True)
            return super().generate(unit)

    world = Begun(4, delay=0.04, unit_cells=1000)
    sweep(world, world.prompts(12), DecodingSpace.grid(temperature=[0.0, 0.5, 1.0]), world.scorer, samples=4,
          out=sys.argv[1], progress=False)
"""
LIFE = 1.5


def count_cells(folder):
    with SweepStore(folder) as store:
        return len(store.cells)


def test_a_sweep_that_is_killed_before_its_first_unit_ends_advances_from_then_on(tmp_path):
    out, kept = tmp_path / "sweep", []
    while True:
        worker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(WORKER), str(out)], stdout=subprocess.PIPE)
        if worker.stdout.readline():
            time.sleep(LIFE)
        if count_cells(out) == PROMPTS * 9:
            assert worker.wait() == 0
            break
        worker.kill()
        worker.wait()
        kept.append(count_cells(out))
        # Beside other work a run may not store what it has generated in time, but not one after the other.
        assert len(kept) < 5 or kept[-1] > kept[-4], kept
    assert kept[0] == 0, "the first unit ended before it was killed"
    assert len(kept) > 2
    table = load_table(out)
    whole = sweep(WORLD, WORLD.prompts(PROMPTS), SPACE, WORLD.scorer, samples=4, out=tmp_path / "whole", progress=False)
    assert table.complete.all()
    np.testing.assert_array_equal(table.rewards, whole.rewards)  # a cell's is a function of its key alone
    assert table.counts.sum() == whole.counts.sum() == count_cells(out)
    assert not (out / "stalled.json").exists()


def test_a_run_that_stores_soon_or_ends_by_itself_leaves_no_note(tmp_path, monkeypatch):
    monkeypatch.setattr(drive, "STALL_SECONDS", 0.05)
    seen = []

    class Slow(SimulatedEngine):
        def generate(self, unit):
            time.sleep(0.2)
            seen.append((tmp_path / "s" / "stalled.json").exists())
            return super().generate(unit)

    monkeypatch.setattr(drive, "FLUSH_SECONDS", 0.0)
    world = Slow(4, unit_cells=20)
    sweep(world, world.prompts(6), SPACE, world.scorer, samples=2, out=tmp_path / "s", progress=False)
    assert seen[0], "a run that has stored nothing says so"
    assert not any(seen[1:])
    assert not (tmp_path / "s" / "stalled.json").exists()


def test_an_interrupted_run_that_stored_nothing_starts_slowly(tmp_path, monkeypatch):
    monkeypatch.setattr(drive, "STALL_SECONDS", 0.05)

    class Interrupted(SimulatedEngine):
        def generate(self, unit):
            time.sleep(0.2)
            raise KeyboardInterrupt

    given = {"samples": 4, "out": tmp_path / "s", "progress": False}
    with pytest.raises(KeyboardInterrupt):
        sweep(Interrupted(4, unit_cells=1000), WORLD.prompts(PROMPTS), SPACE, WORLD.scorer, **given)
    sizes = []

    class Noted(SimulatedEngine):
        def generate(self, unit):
            sizes.append(len(unit))
            return super().generate(unit)

    sweep(Noted(4, unit_cells=1000), WORLD.prompts(PROMPTS), SPACE, WORLD.scorer, **given)
    assert sizes[:5] == [1, 1, 2, 4, 8]
    assert sum(sizes) == PROMPTS * 9
    assert max(sizes) > 16


def test_only_one_unit_is_cut(tmp_path):
    engine = SimulatedEngine(4, unit_cells=9)
    with SweepStore(tmp_path / "s", fingerprint=dict(engine.fingerprint), write=True) as store:
        view = View(tuple(WORLD.prompts(PROMPTS)), SPACE, 4, 64, 0, None, ("x@1",) * PROMPTS)
        plain = plan_work(store, view, 9)
        slow = plan_work(store, view, 9, slow_start=True)
        assert slow.first == 5
        keys = [sorted(plan.keys(unit)) for plan, unit in slow.units()]
        assert keys[5:] == [sorted(plan.keys(unit)) for plan, unit in plain.units()][1:]
        assert sorted(key for unit in keys[:5] for key in unit) == sorted(plain.new.keys(0))
