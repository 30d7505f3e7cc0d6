"""`POST /hag/explain`: off unless the operator turns it on, and never with texts of training prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn")

import httpx2

import hagpolicy as hag
from hagpolicy.policy.policy import Policy
from hagpolicy.serving.asgi import PolicyMiddleware
from hagpolicy.serving.explain_endpoint import MOST_BYTES
from hagpolicy.serving.handler import RequestHandler
from hagpolicy.serving.proxy import ForwardingApp, make_proxy
from hagpolicy.serving.rewrite import RewriteRules
from tests.support.asgi_server import Serving
from tests.support.echo_server import EchoServer

SECRET = "borogoves"
PROMPT = "Name five rivers of the north"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy saved with the texts of its training prompts."""
    chance = np.random.default_rng(0)
    words = ["rivers", "birds", "tools", "lamps", "stones", "clouds"]
    prompts = [
        hag.Prompt(f"{'Name' if n % 2 else 'Count'} {words[n % 6]} and {SECRET} {n}", id=f"id-{n}") for n in range(80)
    ]
    means = 0.5 + 0.3 * np.outer([1.0 if n % 2 else -1.0 for n in range(80)], [0.5, -0.5])
    rewards = np.clip(means[:, :, None] + chance.normal(0.0, 0.1, (80, 2, 4)), 0.0, 1.0)
    space = hag.DecodingSpace.grid(temperature=[0.5, 1.0])
    policy = hag.fit(hag.SweepTable.from_arrays(prompts, space, rewards), learner="ridge")
    return policy.save(tmp_path_factory.mktemp("serving") / "policy", include_prompts=True)


@pytest.fixture(scope="module")
def policy(bundle: Path) -> Policy:
    return hag.load(bundle)


@pytest.fixture
def upstream() -> Iterator[EchoServer]:
    made = EchoServer()
    yield made
    made.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Any], httpx2.Client]]:
    with ExitStack() as stack:

        def serving(app: Any) -> httpx2.Client:
            made = Serving(app)
            stack.callback(made.close)
            return stack.enter_context(httpx2.Client(base_url=made.url, timeout=20.0))

        yield serving


def make_handler(policies: Any) -> RequestHandler:
    return RequestHandler(policies, RewriteRules("vllm"))


def test_it_is_off_unless_it_is_turned_on(policy: Policy, upstream: EchoServer, serve: Any) -> None:
    for app in (
        make_proxy(make_handler(policy), upstream.url),
        PolicyMiddleware(ForwardingApp(upstream.url), make_handler(policy)),
    ):
        answer = serve(app).post("/hag/explain", json={"prompt": PROMPT})
        assert answer.status_code == 404
        assert SECRET not in answer.text
        assert "id-" not in answer.text


def test_it_says_what_the_policy_says_without_texts(policy: Policy, upstream: EchoServer, serve: Any) -> None:
    client = serve(make_proxy(make_handler(policy), upstream.url, explain=True))
    expected = policy.explain(PROMPT, neighbours=3)
    assert all(one.text and SECRET in one.text for one in expected.neighbours)
    answer = client.post("/hag/explain", json={"prompt": PROMPT, "neighbours": 3})
    assert answer.status_code == 200
    assert SECRET not in answer.text
    found, wanted = answer.json(), json.loads(json.dumps(expected.to_dict()))
    for one in wanted["neighbours"]:
        del one["text"]
    assert found == wanted
    chat = client.post("/hag/explain", json={"messages": [{"role": "user", "content": PROMPT}], "neighbours": 3})
    assert chat.json() == found
    assert client.get("/hag/explain").status_code == 405


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{",
        "{}",
        '{"prompt": "a", "messages": []}',
        '{"prompt": 3}',
        '{"prompt": "a", "neighbours": 51}',
        '{"prompt": "a", "neighbours": -1}',
        '{"prompt": "a", "task": "nope"}',
        '{"prompt": "a", "task": {}}',
        '{"prompt": "a", "price": 0.5}',
        '{"prompt": "a", "fixed": {}}',
    ],
)
def test_what_is_no_request_is_refused(policy: Policy, upstream: EchoServer, serve: Any, body: str) -> None:
    client = serve(make_proxy(make_handler(policy), upstream.url, explain=True))
    answer = client.post("/hag/explain", content=body.encode())
    assert answer.status_code == 400
    assert SECRET not in answer.text


def test_sizes_models_and_keys_are_held_to(policy: Policy, upstream: EchoServer, serve: Any, tmp_path: Path) -> None:
    plain = hag.load(policy.save(tmp_path / "plain"))
    client = serve(make_proxy(make_handler({"a": policy, "b": plain}), upstream.url, explain=True, key="own"))
    asked = {"prompt": PROMPT, "model": "a"}
    assert client.post("/hag/explain", json=asked).status_code == 401
    client.headers["x-hag-key"] = "own"
    assert client.post("/hag/explain", json=asked).status_code == 200
    assert client.post("/hag/explain", json={**asked, "model": "c"}).status_code == 404
    without = client.post("/hag/explain", json={**asked, "model": "b"})
    assert without.status_code == 404
    assert "explain=True" in without.text
    assert client.post("/hag/explain", json={"prompt": "x" * MOST_BYTES}).status_code == 413


def test_the_environment_turns_it_on(
    bundle: Path, upstream: EchoServer, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAGPOLICY_POLICY", str(bundle))
    monkeypatch.setenv("HAGPOLICY_SERVER", "vllm")
    chat = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
    for said, status in (("0", 404), ("", 404), ("1", 200)):
        monkeypatch.setenv("HAGPOLICY_EXPLAIN", said)
        client = serve(PolicyMiddleware(ForwardingApp(upstream.url)))
        assert client.post("/v1/chat/completions", json=chat).status_code == 200
        assert client.post("/hag/explain", json={"prompt": PROMPT}).status_code == status
