"""A Ray cluster of one node with one core on this machine."""

import contextlib
import os

import pytest

from tests.support.paths import ROOT

NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
# A node that dies is missed after some three seconds, not Ray's usual quarter of a minute.
SOON = {"health_check_period_ms": 1000, "health_check_timeout_ms": 1000, "health_check_failure_threshold": 3}


@contextlib.contextmanager
def start_cluster():
    """A node that stays; what runs in the context may add others."""
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
