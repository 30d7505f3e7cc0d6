"""The pool of workers: who is left out, replaced, ended and waited for."""

import contextlib
import logging
import signal
import threading
import time

import pytest

from hagpolicy import SimulatedEngine
from hagpolicy.engines.ray import workers as ray_workers
from hagpolicy.errors import EngineError
from tests.engines.ray.running import CELLS, WORLD, begun, gone, on_ray, requests, run
from tests.support.ray_worlds import BROKEN, DEADLY, ODD, SPARED, Noted, Perilous, Sticky, Versioned
from tests.support.sweeping_world import cells_of

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'hagpolicy[cluster]'")


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
