"""A policy is estimated from a log by the prompts that stand in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hagpolicy import InvalidInput
from hagpolicy.analysis.logged.policies import choose_for, estimate_policy
from hagpolicy.data.decision_log import DecisionLog, LoggedCall, LoggedPolicy, find_key
from hagpolicy.data.traffic import read_traffic
from hagpolicy.policy.policy import Policy
from hagpolicy.serving.handler import RequestHandler
from hagpolicy.serving.live import LiveSettings
from hagpolicy.serving.rewrite import RewriteRules
from tests.support.live_logs import LOGGED, TODAY, add_rewards, reward_of, write_log
from tests.support.making import LISTS, SPACE, SUMS, sums_against_lists


@pytest.fixture(scope="module")
def policy() -> Policy:
    return sums_against_lists()


def test_a_policy_that_never_ran_is_worth_what_its_choices_are(policy: Policy, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.db", 3000)
    found = estimate_policy(policy, log)
    assert found.doubly_robust is not None
    chosen = [policy.decide(prompt).index for prompt in (SUMS[0], LISTS[0])]
    assert chosen == [0, 4]
    assert found.doubly_robust.value.low <= 1.0 <= found.doubly_robust.value.high
    assert found.doubly_robust.gain.low > 0.5
    assert found.departing == 1.0
    assert found.n_calls == 3000
    assert found.n_units == 1500
    folder = policy.save(tmp_path / "policy")
    assert estimate_policy(str(folder), str(log)).to_json() == found.to_json()


def test_what_ran_gains_nothing_over_itself(tmp_path: Path) -> None:
    found = estimate_policy(sums_against_lists(ships="default"), write_log(tmp_path / "log.db", 400, 0.2))
    assert found.departing == 0.0
    assert found.doubly_robust is not None
    assert abs(found.doubly_robust.gain.value) < 0.1


def test_calls_are_decided_with_what_they_had_fixed(policy: Policy, tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "log.db", text=True)
    for number, fixed in enumerate(({}, {"temperature": 0.7}, {"repetition_penalty": 1.2})):
        call = LoggedCall(
            str(number), "explored", policy=LOGGED, chosen=TODAY, intended=TODAY, fixed=fixed, prompt=SUMS[0]
        )
        log.add(call)
    log.add(LoggedCall("3", "no_config_agrees", policy=LOGGED, prompt=SUMS[0], fixed={"top_k": 5}))
    log.close()
    decisions, target = choose_for(policy, read_traffic(tmp_path / "log.db"))
    fixed = [
        policy.decide(SUMS[0], {"temperature": 0.7}).index,
        policy.decide(SUMS[0], {"repetition_penalty": 1.2}).index,
    ]
    assert target.tolist() == [0, *fixed, -1]
    assert len(set(target.tolist())) > 2
    assert list(decisions.space) == list(SPACE)


def test_configs_that_the_log_does_not_have_are_never_drawn(policy: Policy, tmp_path: Path) -> None:
    small = LoggedPolicy("small", "1" * 32, type(SPACE)([SPACE[TODAY], SPACE[4]]))
    log = DecisionLog(tmp_path / "log.db", text=True)
    rng = np.random.default_rng(0)
    for number in range(400):
        chosen = int(rng.integers(2))
        prompt = [SUMS[0], LISTS[0]][number % 2]
        log.add(LoggedCall(str(number), "explored", policy=small, chosen=chosen, propensity=0.5, prompt=prompt))
    log.close()
    add_rewards(tmp_path / "log.db", [(str(number), 0.5) for number in range(400)])
    found = estimate_policy(policy, tmp_path / "log.db")
    assert any("never drawn: config temperature=0" in one for one in found.warnings)
    assert found.doubly_robust is not None
    assert not found.doubly_robust.value.reliable


def test_a_log_without_texts_is_refused(policy: Policy, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.db", 10, text=False)
    with pytest.raises(InvalidInput, match=r"log: expected texts of prompts.*digests alone.*--log-text"):
        estimate_policy(policy, log)


def test_of_several_policies_one_is_named(policy: Policy, tmp_path: Path) -> None:
    path = write_log(tmp_path / "log.db", 600)
    log = DecisionLog(path, text=True)
    other = LoggedPolicy("other", "2" * 32, SPACE)
    log.add(LoggedCall("another", "explored", policy=other, chosen=0, prompt=SUMS[0]))
    log.close()
    with pytest.raises(InvalidInput, match="log: expected decisions of one policy, got other, today"):
        estimate_policy(policy, path)
    assert estimate_policy(policy, path, decided_by="today").n_calls == 600


def test_a_policy_of_vectors_is_refused(policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Policy, "reads_text", False)
    with pytest.raises(InvalidInput, match="policy: expected one that reads texts"):
        estimate_policy(policy, tmp_path / "log.db")


def test_requests_that_were_served_are_evidence(policy: Policy, tmp_path: Path) -> None:
    """From the bytes of requests to the value of a policy: what is drawn in front of a server is what is weighed."""
    key = find_key(tmp_path / "log.db")  # all draws are functions of it and of the ids
    key.write_bytes(bytes(32))
    key.chmod(0o600)
    live = LiveSettings(tmp_path / "log.db", text=True, explore=0.6)
    handler = RequestHandler(sums_against_lists(ships="default"), RewriteRules("vllm"), live=live)
    rewards = []
    for number in range(700):
        prompt = [*SUMS, *LISTS][number % 60]
        body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "user": f"{number // 3}"}
        id = [("x-hag-request-id", f"request-{number}")]
        receipt = handler.handle("/v1/chat/completions", id, json.dumps(body).encode()).receipt
        assert receipt.decision is not None
        rewards.append((receipt.request_id, reward_of(prompt, receipt.decision.index)))
    handler.flush()
    add_rewards(tmp_path / "log.db", rewards)
    found = estimate_policy(policy, tmp_path / "log.db")
    assert found.doubly_robust is not None
    assert found.doubly_robust.value.low <= 1.0 <= found.doubly_robust.value.high
    assert found.doubly_robust.gain.low > 0.4
    assert found.weight is not None
    assert found.weight.low < 1.0 < found.weight.high
    assert (found.n_calls, found.n_units, found.warnings) == (700, 234, ())
