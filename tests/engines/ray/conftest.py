"""A Ray cluster of nodes on this machine, to which tests add others."""

import os

import pytest

from tests.support.paths import ROOT

NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
# A node that dies is missed after some three seconds, not Ray's usual quarter of a minute.
SOON = {"health_check_period_ms": 1000, "health_check_timeout_ms": 1000, "health_check_failure_threshold": 3}


@pytest.fixture(scope="module")
def cluster():
    """A node that stays, with one core; tests add others."""
    import ray
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
