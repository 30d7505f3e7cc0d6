"""Traffic with exploration → decision log → table → `fit` and its gate, by the command line where there is one."""

import json

import numpy as np
import pytest

pytest.importorskip("lightgbm")
pq = pytest.importorskip("pyarrow.parquet")

import hagpolicy as hag  # noqa: E402
from hagpolicy.cli import main  # noqa: E402
from hagpolicy.data.decision_log import add_rewards  # noqa: E402
from hagpolicy.serving.handler import RequestHandler  # noqa: E402
from hagpolicy.serving.live import LiveSettings  # noqa: E402
from hagpolicy.serving.rewrite import RewriteRules  # noqa: E402
from tests.serving.wrapping import WordPolicy  # noqa: E402

SPACE = hag.DecodingSpace.grid(temperature=[0.3, 0.9])


def send(path, world, count, **settings):
    """Requests to a policy that gives every prompt the first config, and their rewards; returns the ids."""
    policy = WordPolicy(SPACE, {}, {"kind": "openai", "server": "vllm"}, max_tokens=64)
    policy.default_index = 0
    handler = RequestHandler(policy, RewriteRules("vllm"), live=LiveSettings(path, **settings))
    prompts = world.prompts(count)
    truth, draw, rewards = world.truth(prompts, SPACE), np.random.default_rng(1), []
    for row, prompt in enumerate(prompts):
        body = json.dumps({"model": "m", "prompt": prompt.text}).encode()
        receipt = handler.handle("/v1/completions", [], body).receipt
        rewards.append((receipt.request_id, float(draw.random() < truth[row, receipt.decision.index])))
    handler.flush()
    assert handler.traffic.log.dropped == 0
    add_rewards(path, rewards)
    return [id for id, _ in rewards]


def test_traffic_is_refitted_through_the_gate(tmp_path, capsys):
    world = hag.SimulatedEngine(37, gap=0.29, config_effect=0.0, n_tasks=2)
    send(tmp_path / "log.db", world, 500, text=True, explore=0.6)
    table, folder = str(tmp_path / "live.parquet"), str(tmp_path / "policy")
    assert main(["log", "table", str(tmp_path / "log.db"), table, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert 250 < said["calls"] < 350
    assert main(["fit", table, "--objective", said["objective"], "--learner", "ridge", "--out", folder]) == 0
    policy = hag.load(folder)
    assert policy.ships == "per_prompt"
    assert (policy.fingerprint["server"], policy.max_tokens) == ("vllm", 64)
    fresh = world.prompts(400, seed=9)
    truth = world.truth(fresh, SPACE)
    chosen = [SPACE.index(config) for config in policy.predict_batch([prompt.text for prompt in fresh])]
    gained = truth[np.arange(len(fresh)), chosen].mean() - truth[:, 0].mean()
    gain = policy.evaluation.candidate.gain
    assert gained > 0.2
    # Which calls drew their config is drawn anew in every run: an interval of 95 % alone would miss in one of twenty.
    width = gain.high - gain.low
    assert gain.low - width <= gained <= gain.high + width, "in units of reward"


def test_a_log_is_exported_and_rewarded(tmp_path, capsys):
    path = tmp_path / "log.db"
    ids = send(path, hag.SimulatedEngine(3), 20, explore=0.5)
    assert main(["reward", ids[0], "0.25", "--log", str(path)]) == 0
    assert capsys.readouterr().out == f"{ids[0]}: 0.25\n"
    assert main(["log", "export", str(path), str(tmp_path / "calls.parquet")]) == 0
    assert capsys.readouterr().out.startswith("20 calls: ")
    rows = {row["id"]: row for row in pq.read_table(tmp_path / "calls.parquet").to_pylist()}
    assert (rows[ids[0]]["reward"], rows[ids[0]]["rewards"]) == (0.25, 2)
    assert rows.keys() == set(ids)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["reward", "none", "1", "--log", "LOG"], "id: expected the id of a call in the log"),
        (["reward", "none", "2", "--log", "LOG"], "value: expected a reward in [0, 1]"),
        (["log", "table", "LOG", "out.parquet"], "Keep texts from now on: `hagpolicy serve --log-text`"),
        (["log", "export", "nowhere.db", "out.parquet"], "expected a decision log, found no file"),
        (["log", "nothing", "LOG"], "invalid choice: 'nothing'"),
    ],
)
def test_bad_input_is_one_line_and_code_2(tmp_path, monkeypatch, capsys, given, words):
    monkeypatch.chdir(tmp_path)
    send("LOG", hag.SimulatedEngine(3), 5, explore=1.0)
    assert main(given) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("out*"))
