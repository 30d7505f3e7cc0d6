"""Sweeps on Ray: a real cluster of nodes on this machine, whose nodes and workers are killed in mid-sweep."""

import collections
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from hagpolicy import DecodingConfig, DecodingSpace, SimulatedEngine, load_table, sweep
from hagpolicy.data.completion import Request
from hagpolicy.engines.ray import workers as ray_workers
from hagpolicy.engines.ray.engine import RayEngine
from hagpolicy.errors import EngineError, InvalidInput
from tests.support.paths import ROOT
from tests.support.ray_worlds import BROKEN, DEADLY, ODD, SPARED, Noted, Perilous, Sticky, Stillborn, Threads, Versioned
from tests.support.sweeping_world import SPACE, cells_of, same

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'hagpolicy[cluster]'")

WORLD = SimulatedEngine(4)
CELLS = 3 * 2 + 1  # of a prompt: three sampled configs twice, the default among them, and the greedy one once
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
# A node that dies is missed after some three seconds, not Ray's usual quarter of a minute.
SOON = {"health_check_period_ms": 1000, "health_check_timeout_ms": 1000, "health_check_failure_threshold": 3}


@pytest.fixture(scope="module")
def cluster():
    """A node that stays, with one core; tests add others."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        made = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": SOON})
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def added(cluster):
    """Adds nodes, and takes away at the end of a test what is left of them."""
    nodes = []

    def add(**more):
        nodes.append(cluster.add_node(**NODE, **more))
        return nodes[-1]

    yield add
    for node in nodes:
        if node in cluster.worker_nodes:
            cluster.remove_node(node)


@contextlib.contextmanager
def on_ray(cluster, spec, workers=None, **options):
    engine = RayEngine(spec, workers, address=cluster.address, **options)
    try:
        yield engine
    finally:
        engine.close()


def begun(log):
    """(pid, seeds) of the units that were begun, in order."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(int(pid), tuple(map(int, seeds))) for pid, *seeds in lines]


def once(cells, event):
    """A `progress` of `sweep` that calls a function once, when so many cells are done."""
    left = [event]
    return lambda state: left.pop()() if left and state.done >= cells else None


def gone(pid, seconds=10.0):
    """True as soon as a process has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def run(engine, out, prompts, progress=False):
    """A sweep over so many prompts, or these."""
    prompts = WORLD.prompts(prompts) if isinstance(prompts, int) else prompts
    options = {"samples": 2, "max_tokens": 8, "progress": progress}
    return sweep(engine, prompts, SPACE, WORLD.scorer, out=out, **options)


def both_work(engine, log):
    """Draw units until two workers have begun some; gives their pids."""

    def pids():
        return {pid for pid, _ in begun(log)}

    endless = (requests(WORLD, 1)[0] for _ in iter(lambda: len(pids()) < 2, False))
    assert all(isinstance(outcome, list) for _, outcome in engine.stream(endless))
    return pids()


def equal(out, table, tmp_path, prompts):
    """The folder and table are those of one process, cell by cell; no cell is stored twice."""
    expected = run(SimulatedEngine(4, unit_cells=CELLS), tmp_path / "alone", prompts)
    assert same(table, expected)
    assert same(load_table(out), expected)
    mine, theirs = cells_of(out), cells_of(tmp_path / "alone")
    assert max(collections.Counter(row["cell"] for row in mine).values()) == 1
    assert sorted(mine, key=lambda row: row["cell"]) == sorted(theirs, key=lambda row: row["cell"])
    return True


def requests(world, n):
    config = DecodingConfig()
    return [[Request(prompt, config, 0, seed, 8)] for seed, prompt in enumerate(world.prompts(n))]


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


@contextlib.contextmanager
def interruptible():
    """A SIGINT is heard, which the background jobs of a shell ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.servers
def test_an_interrupt_ends_the_workers_at_once(cluster, added, tmp_path):
    added()
    log, drawn, seen = tmp_path / "log", [], {}

    def units():
        for number, unit in enumerate(requests(WORLD, 8)):
            drawn.append(number)
            yield unit

    def interrupt():
        while len(begun(log)) < 2:
            time.sleep(0.05)
        seen["at"] = time.monotonic()
        signal.raise_signal(signal.SIGINT)

    with interruptible(), on_ray(cluster, Noted, 2, seed=4, pause=60.0, log=str(log)) as engine:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            next(engine.stream(units()))
        assert time.monotonic() - seen["at"] < 5.0
        # Nothing is known of the time a unit takes before the first has ended: no worker was given a second.
        assert drawn == [0, 1]
        assert all(gone(pid) for pid, _ in begun(log))


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
def test_a_unit_that_kills_is_given_up_and_one_that_fails_is_marked(cluster, added, tmp_path, caplog):
    added()
    world = SimulatedEngine(4, unit_cells=CELLS)
    prompts = [p.text for p in world.prompts(12)]
    for at, word in ((2, DEADLY), (5, BROKEN), (8, ODD), (10, SPARED)):
        prompts[at] += f" {word}"
    with on_ray(cluster, {"engine": Perilous, "seed": 4, "folder": str(tmp_path)}, 2, unit_cells=CELLS) as engine:
        table = run(engine, tmp_path / "out", prompts)
    words = {
        reason.partition(", the last")[0].removeprefix("engine error: "): count
        for reason, count in table.failures.items()
    }
    assert words == {
        "EngineError: given up: 3 Ray workers were lost while they generated this unit": CELLS,
        "EngineError: out of order": CELLS,
        "OddError: no answer (503)": CELLS,
    }
    assert caplog.text.count("is given up") == 1
    assert (tmp_path / "died").exists()
    run(world, tmp_path / "alone", prompts)
    expected = {row["cell"]: row for row in cells_of(tmp_path / "alone")}
    failed = {prompts[at] for at in (2, 5, 8)}
    rows = cells_of(tmp_path / "out")
    assert len(rows) == len(expected) == 12 * CELLS
    by_digest = {prompt.digest: prompt.text for prompt in table.prompts}
    for row in rows:
        if by_digest[row["prompt"]] not in failed:
            assert row == expected[row["cell"]]


@pytest.mark.servers
def test_a_node_with_another_model_is_left_out(cluster, added, caplog):
    world = SimulatedEngine(4)
    with on_ray(cluster, Versioned, seed=4, delay=0.2) as engine, caplog.at_level(logging.INFO):
        added(env_vars={"HAGPOLICY_TEST_REVISION": "2"})
        done = sorted(number for number, _ in engine.stream(requests(world, 40)))
    assert done == list(range(40))
    assert caplog.text.count("is left out") == 1
    assert "'revision': '1'" in caplog.text
    assert "'revision': '2'" in caplog.text


@pytest.mark.servers
def test_only_another_model_is_left(cluster, tmp_path):
    (tmp_path / "revision").write_text("1")
    with on_ray(cluster, Versioned, seed=4, file=str(tmp_path / "revision")) as engine:
        (tmp_path / "revision").write_text("2")
        stream = engine.stream(requests(WORLD, 40))
        next(stream)
        stream.close()
        with pytest.raises(EngineError, match=r"hold another model(?s:.*)'revision': '1'(?s:.*)'revision': '2'"):
            list(engine.stream(requests(WORLD, 40)))


@pytest.mark.servers
def test_a_worker_whose_engine_broke_is_replaced(cluster, tmp_path, caplog):
    with on_ray(cluster, Sticky, 1, seed=4, folder=str(tmp_path)) as engine:
        outcomes = dict(engine.stream(requests(WORLD, 12)))
    assert sorted(outcomes) == list(range(12))
    failed = [number for number, outcome in outcomes.items() if isinstance(outcome, Exception)]
    assert failed == [2, 3]
    assert isinstance(outcomes[2], EngineError)
    assert str(outcomes[2]) == "device in error"
    assert "is replaced: its engine failed on 2 units in a row" in caplog.text


@pytest.mark.servers
def test_a_killed_driver_takes_its_workers_along(cluster, tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.support.ray_worlds import Noted
from tests.engines.ray.test_ray import RayEngine, run
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


@pytest.mark.servers
def test_what_a_worker_says_of_its_engine(cluster):
    world = SimulatedEngine(4, lacks=["top_p"], unit_cells=7)
    with on_ray(cluster, {"engine": "simulated:4", "lacks": ["top_p"]}, unit_cells=7) as engine:
        assert engine.default_config() == world.default_config()
        assert [engine.unsupported(config) for config in SPACE] == [world.unsupported(config) for config in SPACE]
        assert (engine.fingerprint, engine.unit_cells) == (world.fingerprint, 7)
        assert engine.scorer.name == world.scorer.name
        engine.check()
        unit = requests(world, 1)[0]
        assert engine.generate(unit) == world.generate(unit)
        with pytest.raises(EngineError, match="cannot honour top_p"):
            engine.generate([Request(unit[0].prompt, DecodingConfig(top_p=0.9), 0, 1, 8)])
    with on_ray(cluster, Threads, num_cpus=1.0) as engine:
        assert engine.name == "threads:1"


@pytest.mark.servers
def test_what_cannot_be_on_a_cluster(cluster):
    with pytest.raises(InvalidInput, match="Did you mean 'simulated'"):
        RayEngine("simulatd:4", address=cluster.address)
    with pytest.raises(InvalidInput, match="unexpected keyword argument 'colour'"):
        RayEngine("simulated:4", address=cluster.address, colour="red")
    with pytest.raises(EngineError, match=r"offers 1 CPU and 1 GPU"):
        RayEngine("simulated:4", address=cluster.address, num_gpus=1.0)
    with pytest.raises(EngineError, match="cannot be loaded: FileNotFoundError"):
        RayEngine(Noted, address=cluster.address, log="/nowhere/log")
    with pytest.raises(EngineError, match="no Ray worker could be started in 3 tries"):
        RayEngine(Stillborn, address=cluster.address)
    assert not ray.is_initialized()


@pytest.mark.servers
def test_a_process_that_had_joined_stays(cluster):
    ray.init(address=cluster.address, log_to_driver=False)
    with on_ray(cluster, "simulated:4") as engine:
        assert sorted(number for number, _ in engine.stream(requests(SimulatedEngine(4), 5))) == [0, 1, 2, 3, 4]
        # A second pass, as racing makes, goes to the same workers.
        assert len(list(engine.stream(requests(SimulatedEngine(4), 3)))) == 3
        assert list(engine.stream([])) == []
    assert ray.is_initialized()
    ray.shutdown()


@pytest.mark.servers
def test_workers_that_wait_for_room_are_spoken_of(cluster, caplog, monkeypatch):
    monkeypatch.setattr(ray_workers, "WARN_SECONDS", 1.0)
    ray.init(address=cluster.address, log_to_driver=False)
    guest = ray.remote(num_cpus=1)(SimulatedEngine).remote()
    ray.get(guest.close.remote())

    def leave():
        while "no Ray worker is ready; 1 load their engine, or wait" not in caplog.text:
            time.sleep(0.1)
        ray.kill(guest)

    leaving = threading.Thread(target=leave)
    leaving.start()
    with on_ray(cluster, "simulated:4") as engine:
        assert len(list(engine.stream(requests(SimulatedEngine(4), 3)))) == 3
    leaving.join()
    ray.shutdown()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"engine": SimulatedEngine(1)}, "live engine simulated:1. Give the spec"),
        ({"engine": {"engine": SimulatedEngine(1)}}, "live engine"),
        ({"engine": {"delay": 1.0}}, "a mapping with the key 'engine'"),
        ({"engine": {"engine": "simulated:1", "delay": 1.0}, "delay": 2.0}, "delay both in"),
        ({"engine": "simulated:1", "workers": 0}, "workers: expected a whole number"),
        ({"engine": "simulated:1", "num_gpus": -1.0}, "num_gpus"),
        ({"engine": "simulated:1", "num_cpus": 0.0}, "num_cpus: expected above 0"),
    ],
)
def test_what_is_refused_before_ray_is_asked(given, words):
    with pytest.raises(InvalidInput, match=words):
        RayEngine(**given)
    assert not ray.is_initialized()


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
