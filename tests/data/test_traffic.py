"""A decision log read back: as arrays, and as a Parquet file."""

import json
import shutil

import numpy as np
import pytest

pq = pytest.importorskip("pyarrow.parquet")

import hagpolicy as hag  # noqa: E402
from hagpolicy.data.decision_log import DecisionLog, LoggedCall, LoggedPolicy, add_reward  # noqa: E402
from hagpolicy.data.traffic import export_decisions, list_policies, read_traffic  # noqa: E402
from hagpolicy.errors import InvalidInput, StoreError  # noqa: E402
from tests.support.paths import FIXTURES  # noqa: E402

SPACE = hag.DecodingSpace.grid(temperature=[0.0, 0.5, 1.0])
ONE = LoggedPolicy("one", "1" * 32, SPACE, today=2)
TWO = LoggedPolicy("two", "2" * 32, hag.DecodingSpace.grid(temperature=[1.0, 1.5]))


@pytest.fixture
def log(tmp_path):
    made = DecisionLog(tmp_path / "log.db", text=True)
    yield made
    made.close()


def add(log, id, policy=ONE, chosen=0, **fields):
    given = {"intended": chosen, "unit": id, "time": 100.0, "prompt": f"prompt of {id}", **fields}
    log.add(LoggedCall(id, "best_by_margin", policy=policy, chosen=chosen, **given))


def test_calls_are_arrays_over_the_configs_of_all_policies(log):
    add(log, "a", chosen=1, intended=0, propensity=0.1, explored=True, choices=3, time=100.0, task="sums")
    add(log, "b", TWO, chosen=1, time=103.0, fixed={"top_p": 0.5}, prompt=[{"role": "user", "content": "hi"}])
    add(log, "c", None, chosen=None, unit="a", by_request=False, time=99.0, prompt=None)
    log.flush()
    add_reward(log.path, "a", 0.0)
    add_reward(log.path, "a", 0.75)
    found = read_traffic(log.path)
    space = found.decisions.space
    assert [config.temperature for config in space] == [0.0, 0.5, 1.0, 1.5]
    assert found.decisions.chosen.tolist() == [1, 3, -1]
    assert found.intended.tolist() == [0, 3, -1]
    assert found.decisions.propensity.tolist() == [0.1, 1.0, 1.0]
    np.testing.assert_array_equal(found.decisions.reward, [0.75, np.nan, np.nan])
    assert found.decisions.seconds.tolist() == [0.0, 3.0, 0.0]
    assert found.decisions.unit[0] == found.decisions.unit[2] != found.decisions.unit[1]
    assert (found.explored.tolist(), found.choices.tolist()) == ([True, False, False], [3, 0, 0])
    assert found.today.tolist() == [2, -1, -1]
    assert found.prompts == ("prompt of a", [{"role": "user", "content": "hi"}], None)
    assert (found.ids, found.tasks) == (("a", "b", "c"), ("sums", None, None))
    assert found.fixed == ({}, {"top_p": 0.5}, {})
    assert found.decisions.share is None
    assert found.by_request.tolist() == [True, True, False]
    assert read_traffic(log.path, policy="two").ids == ("b",)
    assert list_policies(log.path) == ("one", "two")
    with pytest.raises(InvalidInput, match="a call that the policy three decided"):
        read_traffic(log.path, policy="three")


def test_of_an_experiment_its_own_calls_are_read(log):
    add(log, "before")
    add(log, "a", arm="policy", share=0.5)
    add(log, "b", arm="default", share=0.5, chosen=None)
    log.flush()
    found = read_traffic(log.path)
    assert found.ids == ("a", "b")
    assert (found.decisions.by_policy.tolist(), found.decisions.share) == ([True, False], 0.5)
    assert read_traffic(log.path, experiment=False).ids == ("before", "a")
    add(log, "c", arm="policy", share=0.2)
    log.flush()
    with pytest.raises(InvalidInput, match="an experiment of one share, got"):
        read_traffic(log.path)


def test_a_log_as_parquet(log, tmp_path):
    add(log, "a", chosen=1, arm="policy", share=0.5)
    add(log, "b", None, chosen=None)
    log.add_answer("a", 200, 12, 0.5)
    log.flush()
    add_reward(log.path, "a", 0.5)
    path = tmp_path / "out" / "log.parquet"
    for _ in range(2):  # an earlier one is replaced
        assert export_decisions(log.path, path) == 2
    first, second = pq.read_table(path).to_pylist()
    assert (first["id"], first["policy"], first["reward"], first["rewards"]) == ("a", "one", 0.5, 1)
    assert json.loads(first["config"]) == {"temperature": 0.5}
    assert (first["status"], first["tokens"], first["seconds"], first["by_request"]) == (200, 12, 0.5, True)
    assert json.loads(first["text"]) == "prompt of a"
    assert (second["policy"], second["config"], second["reward"], second["rewards"]) == (None, None, None, 0)
    assert [one.name for one in path.parent.iterdir()] == ["log.parquet"]


def test_a_log_of_format_1_stays_readable(tmp_path):
    """Written by `add` as above: "a" with the key of two rewards, "b" in the default arm, "c" by another policy."""
    for path in (FIXTURES / "decision_log_v1").iterdir():
        shutil.copy(path, tmp_path / path.name)
    (tmp_path / "log.db.key").chmod(0o600)  # which no repository keeps
    found = read_traffic(tmp_path / "log.db")
    assert found.ids == ("a", "b", "c")
    assert found.decisions.chosen.tolist() == [1, -1, 3]
    assert found.decisions.by_policy.tolist() == [True, False, True]
    np.testing.assert_array_equal(found.decisions.reward, [0.25, 1.0, np.nan])
    assert (found.prompts[0], found.tasks[0], found.fixed[2]) == ("prompt of a", "sums", {"top_p": 0.5})
    assert (found.decisions.share, found.today.tolist()) == (0.5, [2, 2, -1])
    again = DecisionLog(tmp_path / "log.db", text=True)
    add(again, "d", arm="policy", share=0.5)
    again.close()
    assert read_traffic(tmp_path / "log.db").ids == ("a", "b", "c", "d")


def test_an_export_replaces_nothing_else_and_leaves_nothing_half(log, tmp_path):
    other = tmp_path / "other.parquet"
    other.write_bytes(b"PAR1 and no more")
    with pytest.raises(InvalidInput, match="a log exported by hagpolicy"):
        export_decisions(log.path, other)
    with pytest.raises(StoreError, match="expected a decision log"):
        export_decisions(tmp_path / "none.db", tmp_path / "new.parquet")
    assert not list(tmp_path.glob("new*"))
