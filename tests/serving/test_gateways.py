"""The recipes of LangChain and LiteLLM, and LiteLLM's exported defaults, on the real ones before an echoing server."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx2")

import httpx2

import hagpolicy as hag
from hagpolicy import DecodingConfig, DecodingSpace
from hagpolicy.serving.defaults import export_defaults
from hagpolicy.serving.handler import RequestHandler
from tests.support.echo_server import EchoServer
from tests.support.making import LISTS, SUMS, sums_against_lists
from tests.support.paths import ROOT
from tests.support.servers.launching import LITELLM_KEY, Served, gateways_interpreter, litellm_proxy

PAGE = (ROOT / "docs" / "recipes" / "gateways.md").read_text("utf-8")
KEY = {"authorization": f"Bearer {LITELLM_KEY}"}
SUM, LIST = SUMS[0], LISTS[0]


def read_file(name: str) -> str:
    """The file of that name in the recipe."""
    return PAGE.partition(f" {name}\n")[2].partition("```")[0]


def find_interpreter() -> str:
    found = gateways_interpreter()
    if found is None:
        pytest.skip("no environment with LiteLLM and LangChain here: make test-servers makes one")
    return found


@pytest.fixture(scope="module")
def policy() -> hag.Policy:
    return sums_against_lists()


@pytest.fixture
def upstream() -> Iterator[EchoServer]:
    server = EchoServer()
    yield server
    server.close()


@pytest.fixture
def folder(policy: hag.Policy, upstream: EchoServer, tmp_path: Path) -> Path:
    """What the recipe says that lies beside LiteLLM's config, and the config with the address of our server."""
    policy.save(tmp_path / "policies" / "mine")
    (tmp_path / "hagpolicy_hook.py").write_text(read_file("hagpolicy_hook.py"), "utf-8")
    (tmp_path / "langchain_app.py").write_text(read_file("langchain_app.py"), "utf-8")
    config = read_file("config.yaml").replace("http://127.0.0.1:8000/v1", upstream.url)
    (tmp_path / "config.yaml").write_text(config, "utf-8")
    return tmp_path


def ask(served: Served, prompt: str, **body: Any) -> Any:
    """The response of LiteLLM's proxy."""
    content = {"model": served.model, "messages": [{"role": "user", "content": prompt}], **body}
    return httpx2.post(f"{served.url}/chat/completions", json=content, headers=KEY, timeout=60, trust_env=False)


def rewritten(policy: hag.Policy, prompt: str, **body: Any) -> dict[str, Any]:
    """The body that the policy alone makes of a request."""
    asked = {"model": "m", "messages": [{"role": "user", "content": prompt}], **body}
    return dict(RequestHandler(policy, hag.RewriteRules("vllm")).handle_body("/v1/chat/completions", asked)[0])


@pytest.mark.servers
def test_the_hook_decides_inside_litellms_proxy(folder: Path, policy: hag.Policy, upstream: EchoServer) -> None:
    with litellm_proxy(folder / "config.yaml", find_interpreter()) as served:
        for prompt, body in ((SUM, {}), (LIST, {}), (SUM, {"temperature": 0.123})):
            answer = ask(served, prompt, **body)
            assert answer.status_code == 200, answer.text
            assert {**upstream.asked[-1], "stream": None} == {**rewritten(policy, prompt, **body), "stream": None}
            decided = policy.decide(prompt, {name: value for name, value in body.items() if name == "temperature"})
            assert answer.headers["x-hag-reason"] == decided.reason
        with httpx2.stream(
            "POST",
            f"{served.url}/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": LIST}], "stream": True},
            headers=KEY,
            timeout=60,
            trust_env=False,
        ) as streamed:
            lines = [line for line in streamed.iter_lines() if line.startswith("data: ")]
            assert streamed.headers["x-hag-reason"] == policy.decide(LIST).reason
        said = [json.loads(line[6:])["choices"][0]["delta"].get("content") or "" for line in lines[:-1]]
        assert "".join(said) == "one two"
    assert policy.predict(SUM) != policy.predict(LIST)  # so that a hook that sends one config for all is seen
    log = served.log.read_text("utf-8", errors="replace")
    assert SUM not in log
    assert not any(LITELLM_KEY in value for headers in upstream.headers for value in headers.values())


@pytest.mark.servers
def test_exported_defaults_reach_the_server_and_yield_to_a_request(upstream: EchoServer, tmp_path: Path) -> None:
    config = DecodingConfig(temperature=0.3, top_p=0.9, top_k=7, repetition_penalty=1.1)
    made = sums_against_lists(ships="single_best")
    others = [DecodingConfig(temperature=value) for value in (0.11, 0.12, 0.13, 0.14, 0.15)]
    policy = hag.Policy(replace(made.manifest, space=DecodingSpace([config, *others])), made._model, made._files)
    path = tmp_path / "litellm.yaml"
    assert export_defaults(policy, "litellm", path, model="hosted_vllm/m", server="vllm").not_said == ()
    more = f'      api_base: "{upstream.url}"\n      api_key: "none"\n'
    path.write_text(path.read_text("utf-8") + more, "utf-8")
    with litellm_proxy(path, find_interpreter()) as served:
        assert ask(served, SUM).status_code == 200
        said = {name: value for name, value in config.to_dict().items() if name != "max_tokens"}
        assert {name: upstream.asked[-1].get(name) for name in said} == said
        assert ask(served, SUM, temperature=1.7).status_code == 200
        assert {name: upstream.asked[-1].get(name) for name in said} == {**said, "temperature": 1.7}


@pytest.mark.servers
def test_langchain_goes_through_the_policys_transport(folder: Path, policy: hag.Policy, upstream: EchoServer) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [find_interpreter(), "langchain_app.py", upstream.url]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    plain, streamed = upstream.asked
    assert plain == rewritten(policy, "Tell me about the harbour.", **{k: plain[k] for k in plain if k == "stream"})
    assert streamed["stream"] is True
    assert set(rewritten(policy, "Tell me about the harbour.")) <= set(streamed)
    lines = done.stdout.splitlines()
    assert json.loads(lines[0]) == plain
    assert lines[1] == "one two"
    assert sum(ast.literal_eval(lines[2]).values()) == 2


def test_a_body_that_was_read_is_rewritten_as_its_bytes_are(policy: hag.Policy) -> None:
    handler = RequestHandler(policy, hag.RewriteRules("vllm"))
    held = object()
    body = {"model": "m", "messages": [{"role": "user", "content": LIST}], "litellm_logging_obj": held}
    kept = dict(body)
    sent, handled = handler.handle_body("/v1/chat/completions", body)
    assert body == kept
    assert sent["litellm_logging_obj"] is held
    content = json.dumps({**body, "litellm_logging_obj": None}).encode()
    other = handler.handle("/v1/chat/completions", [], content)
    assert {**json.loads(other.content), "litellm_logging_obj": held} == dict(sent)
    assert (handled.headers["x-hag-config"], handled.receipt.reason) == (
        other.headers["x-hag-config"],
        other.receipt.reason,
    )
    assert handler.counts == {handled.receipt.reason: 2}


def test_a_body_of_no_endpoint_or_no_policy_goes_back_as_it_is(policy: hag.Policy) -> None:
    handler = RequestHandler({"mine": policy}, hag.RewriteRules("vllm"))
    body = {"model": "other", "messages": [{"role": "user", "content": LIST}]}
    for path, reason in (("/v1/embeddings", "other_path"), ("/v1/chat/completions", "other_model")):
        sent, handled = handler.handle_body(path, body)
        assert sent is body
        assert handled.receipt.reason == reason


def test_a_failing_policy_fails_no_hook(policy: hag.Policy, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    handler = RequestHandler(policy)
    monkeypatch.setattr(type(policy), "decide", lambda *_, **__: 1 / 0)
    body = {"model": "m", "messages": [{"role": "user", "content": LIST}]}
    for _ in range(2):
        sent, handled = handler.handle_body("/v1/chat/completions", body)
        assert sent is body
        assert handled.receipt.reason == "failed"
    assert [LIST in record.getMessage() for record in caplog.records] == [False]
