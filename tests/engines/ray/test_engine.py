"""`RayEngine` itself: what it tells of its workers' engines, what it refuses, whose cluster it leaves."""

import contextlib

import pytest

from hagpolicy import SimulatedEngine
from hagpolicy.engines.ray.engine import RayEngine
from hagpolicy.errors import EngineError, InvalidInput
from tests.engines.ray.running import on_ray, requests
from tests.support.ray_worlds import Noted, Stillborn, Threads
from tests.support.sweeping_world import SPACE

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'hagpolicy[cluster]'")


@pytest.mark.servers
def test_what_a_worker_says_of_its_engine(cluster):
    world = SimulatedEngine(4, lacks=["top_p"], unit_cells=7)
    with on_ray(cluster, {"engine": "simulated:4", "lacks": ["top_p"]}, unit_cells=7) as engine:
        assert engine.default_config() == world.default_config()
        assert [engine.unsupported(config) for config in SPACE] == [world.unsupported(config) for config in SPACE]
        assert (engine.fingerprint, engine.unit_cells) == (world.fingerprint, 7)
        assert engine.scorer.name == world.scorer.name
        unit = requests(world, 1)[0]
        assert engine.generate(unit) == world.generate(unit)
    with on_ray(cluster, Threads, num_cpus=1.0) as engine:
        assert engine.name == "threads:1"


@pytest.mark.servers
def test_what_cannot_be_on_a_cluster(cluster):
    with pytest.raises(InvalidInput, match="Did you mean 'simulated'"):
        RayEngine("simulatd:4", address=cluster.address)
    with pytest.raises(InvalidInput, match=r"options of simulated: .*got colour"):
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


@pytest.mark.servers
def test_the_last_engine_leaves_what_the_first_one_joined(cluster):
    first, second = (RayEngine("simulated:4", 1, num_cpus=0.5, address=cluster.address) for _ in range(2))
    unit = requests(SimulatedEngine(4), 1)[0]
    first.close()
    assert second.generate(unit) == SimulatedEngine(4).generate(unit)
    left_open = second.stream(requests(SimulatedEngine(4), 3))
    next(left_open)
    second.close()
    assert not ray.is_initialized()
    # Ray starts a cluster of its own when it is asked anything without a connection.
    left_open.close()
    for asked in (lambda: second.generate(unit), lambda: second.handles, first.close, second.close):
        with contextlib.suppress(EngineError):
            asked()
        assert not ray.is_initialized()
    with pytest.raises(EngineError, match=r"was closed.*make another RayEngine"):
        second.generate(unit)
