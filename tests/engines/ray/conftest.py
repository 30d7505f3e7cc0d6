"""A Ray cluster of nodes on this machine, to which tests add others."""

import pytest

from tests.support.ray_cluster import NODE, start_cluster


@pytest.fixture(scope="module")
def cluster():
    """A node that stays, with one core; tests add others."""
    with start_cluster() as made:
        yield made


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
