"""Sweeps on Ray, whose nodes, workers and driver are killed in mid-sweep: the cells are those of one process."""

import collections
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from hagpolicy import DecodingConfig, DecodingSpace, SimulatedEngine, sweep
from tests.engines.ray.running import CELLS, WORLD, begun, both_work, equal, gone, on_ray, once, run
from tests.support.paths import ROOT
from tests.support.ray_worlds import Noted
from tests.support.sweeping_world import SPACE, cells_of

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'hagpolicy[cluster]'")


def test_a_node_killed_in_mid_sweep_changes_no_cell(cluster, added, tmp_path, caplog):
    second, log, out = added(), tmp_path / "log", tmp_path / "out"
    kill = lambda: cluster.remove_node(second, allow_graceful=False)  # noqa: E731
    with on_ray(cluster, Noted, seed=4, unit_cells=CELLS, pause=0.1, log=str(log)) as engine:
        world = SimulatedEngine(4, unit_cells=CELLS)
        assert (engine.name, engine.unit_cells, engine.fingerprint) == (world.name, CELLS, world.fingerprint)
        both = both_work(engine, log)
        warm = len(begun(log))
        table = run(engine, out, 30, progress=once(50, kill))
    assert {pid for pid, _ in begun(log)[warm:]} == both
    assert "lost the Ray worker" in caplog.text
    # Nothing but what the lost worker was doing was begun again.
    twice = [unit for unit, count in collections.Counter(unit for _, unit in begun(log)[warm:]).items() if count > 1]
    assert len(twice) <= 2
    assert equal(out, table, tmp_path, 30)
    assert not ray.is_initialized()


@pytest.mark.servers
def test_an_added_node_is_used(cluster, added, tmp_path):
    second, log, out = added(), tmp_path / "log", tmp_path / "out"
    before = set()

    def kill_and_add():
        cluster.remove_node(second, allow_graceful=False)
        before.update(pid for pid, _ in begun(log))
        added()

    with on_ray(cluster, Noted, seed=4, unit_cells=CELLS, pause=0.1, log=str(log)) as engine:
        table = run(engine, out, 140, progress=once(140, kill_and_add))
    assert {pid for pid, _ in begun(log)} - before
    assert equal(out, table, tmp_path, 140)


@pytest.mark.servers
@pytest.mark.parametrize("ray_first", [True, False])
def test_a_sweep_begun_here_ends_there(cluster, tmp_path, ray_first):
    log, out = tmp_path / "log", tmp_path / "out"
    options = {"unit_cells": CELLS, "pause": 0.03}

    def stop():
        raise KeyboardInterrupt

    def sweep_with(where, **more):
        if where == "alone":
            return run(Noted(4, log=str(log), **options), out, 20, **more)
        with on_ray(cluster, Noted, seed=4, log=str(log), **options) as engine:
            return run(engine, out, 20, **more)

    places = ("ray", "alone") if ray_first else ("alone", "ray")
    with pytest.raises(KeyboardInterrupt):
        sweep_with(places[0], progress=once(50, stop))
    stored, n_begun = {row["seed"] for row in cells_of(out)}, len(begun(log))
    assert 50 <= len(stored) < 100
    table = sweep_with(places[1])
    assert not stored & {seed for _, unit in begun(log)[n_begun:] for seed in unit}
    assert equal(out, table, tmp_path, 20)


@pytest.mark.servers
def test_a_killed_worker_is_replaced(cluster, tmp_path, caplog):
    log, out = tmp_path / "log", tmp_path / "out"
    with on_ray(cluster, Noted, 1, seed=4, unit_cells=CELLS, pause=0.05, log=str(log)) as engine:
        kill = lambda: os.kill(begun(log)[-1][0], signal.SIGKILL)  # noqa: E731
        table = run(engine, out, 20, progress=once(30, kill))
    assert len({pid for pid, _ in begun(log)}) == 2
    assert caplog.text.count("lost the Ray worker") == 1
    assert equal(out, table, tmp_path, 20)


@pytest.mark.servers
def test_a_killed_driver_takes_its_workers_along(cluster, tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.support.ray_worlds import Noted
from tests.engines.ray.running import RayEngine, run
import hagpolicy.sweeping.drive as drive
drive.FLUSH_SECONDS = 0.0
engine = RayEngine(Noted, address={cluster.address!r}, seed=4, unit_cells={CELLS}, pause=0.07, log={str(log)!r})
run(engine, {str(out)!r}, 40)
"""
    driver = subprocess.Popen([sys.executable, "-c", code])
    while len(begun(log)) < 15:
        assert driver.poll() is None
        time.sleep(0.01)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    assert all(gone(pid) for pid in {pid for pid, _ in begun(log)})
    stored = {row["seed"] for row in cells_of(out)}
    assert stored
    n_begun = len(begun(log))
    table = run(Noted(4, unit_cells=CELLS, log=str(log)), out, 40)
    assert not stored & {seed for _, unit in begun(log)[n_begun:] for seed in unit}
    assert equal(out, table, tmp_path, 40)


@pytest.mark.servers
def test_sweep_on_ray(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    options = {"samples": 2, "max_tokens": 8, "progress": False, "out": tmp_path / "out"}
    spec = {"engine": "simulated:4", "unit_cells": CELLS, "workers": 2}
    table = sweep(spec, WORLD.prompts(12), SPACE, WORLD.scorer, on="ray", workers=1, **options)
    assert not ray.is_initialized()
    assert equal(tmp_path / "out", table, tmp_path, 12)


@pytest.mark.llm
@pytest.mark.servers
def test_the_real_llm_writes_the_same_in_a_worker(cluster, smollm, tmp_path):
    import torch

    space = DecodingSpace([DecodingConfig(temperature=0.0), DecodingConfig(temperature=0.9, top_p=0.9)])
    prompts = ["Name two things in a kitchen.", "Why is the sky blue?"]
    options = {"samples": 2, "max_tokens": 8, "progress": False}
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = sweep(smollm, prompts, space, "brevity", out=tmp_path / "alone", **options)
    finally:
        torch.set_num_threads(threads)
    with on_ray(cluster, "smollm2", device="cpu") as engine:
        assert engine.fingerprint == smollm.fingerprint
        table = sweep(engine, prompts, space, "brevity", out=tmp_path / "ray", **options)
    texts = [{row["cell"]: (row["text"], row["tokens"]) for row in cells_of(tmp_path / n)} for n in ("alone", "ray")]
    assert texts[0] == texts[1]
    assert all(text for text, _ in texts[0].values())
    np.testing.assert_array_equal(table.rewards, alone.rewards)
