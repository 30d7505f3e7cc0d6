"""The middleware and the proxy on real sockets, with real clients."""

import asyncio
import json
import logging
import socket
import time

import pytest

openai = pytest.importorskip("openai")
pytest.importorskip("uvicorn")

import httpx2  # noqa: E402

from hagpolicy.config.fields import FIELDS  # noqa: E402
from hagpolicy.errors import InvalidInput  # noqa: E402
from hagpolicy.serving.asgi import PolicyMiddleware, read_environment  # noqa: E402
from hagpolicy.serving.handler import RequestHandler  # noqa: E402
from hagpolicy.serving.proxy import ForwardingApp  # noqa: E402
from hagpolicy.serving.rewrite import RewriteRules  # noqa: E402
from hagpolicy.serving.settings import make_rules  # noqa: E402
from tests.serving.test_clients import SPACE, messages  # noqa: E402
from tests.serving.wrapping import WordPolicy  # noqa: E402
from tests.support.asgi_server import Serving  # noqa: E402
from tests.support.echo_server import EchoServer  # noqa: E402
from tests.support.paths import FIXTURES  # noqa: E402


@pytest.fixture
def upstream():
    made = EchoServer()
    yield made
    made.close()


@pytest.fixture
def handler():
    policy = WordPolicy(SPACE, {"greedy": 1, "hinted": 2, "topk": 3})
    return RequestHandler(policy, RewriteRules("vllm"))


@pytest.fixture
def proxy(upstream, handler):
    made = Serving(PolicyMiddleware(ForwardingApp(upstream.url), handler))
    yield made
    made.close()


def test_clients_need_another_address_and_nothing_else(proxy, upstream):
    client = openai.OpenAI(api_key="sk-mine", base_url=f"{proxy.url}/v1", max_retries=0)
    raw = client.chat.completions.with_raw_response.create(
        model="m", messages=messages("greedy"), extra_headers={"x-hag-task": "t", "x-other": "1"}
    )
    assert upstream.asked[-1]["temperature"] == 0.0
    assert json.loads(raw.headers["x-hag-config"]) == {"temperature": 0.0}
    sent = upstream.headers[-1]
    assert (sent["authorization"], sent["x-other"]) == ("Bearer sk-mine", "1")
    assert not any(name.startswith("x-hag") for name in sent)
    assert sent["content-length"] == str(len(json.dumps(upstream.asked[-1], separators=(",", ":"))))
    chunks = client.chat.completions.create(model="m", messages=messages("topk"), stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two"
    assert upstream.asked[-1]["top_k"] == 20


def test_an_asynchronous_client_and_many_at_once(proxy, upstream):
    async def ask():
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{proxy.url}/v1", max_retries=0) as client:
            words = ["greedy", "topk", "nothing"] * 20
            calls = [client.chat.completions.create(model="m", messages=messages(word)) for word in words]
            return words, await asyncio.gather(*calls)

    words, answers = asyncio.run(ask())
    sent = [json.loads(answer.choices[0].message.content) for answer in answers]
    assert [body["messages"][0]["content"] for body in sent] == words
    assert [body["temperature"] for body in sent] == [0.0, 1.0, 0.7] * 20


def test_everything_else_passes_as_it_is(proxy, upstream, handler):
    with httpx2.Client() as client:
        assert client.get(f"{proxy.url}/v1/models?a=%20b").json() == {"path": "/v1/models?a=%20b"}
        assert "transfer-encoding" not in upstream.headers[-1]
        assert "content-length" not in upstream.headers[-1]
        body = {"model": "m", "input": "greedy"}
        assert "x-hag-reason" not in client.post(f"{proxy.url}/v1/embeddings", json=body).headers
        assert upstream.asked[-1] == body
        assert client.get(f"{proxy.url}/hag/health").json() == {"status": "ok"}
        assert client.get(f"{proxy.url}/hag/ready").status_code == 200
        client.post(f"{proxy.url}/v1/completions", json={"model": "m", "prompt": "greedy"}, headers={"x-hag-odd": "1"})
        told = client.get(f"{proxy.url}/hag/counts").json()
        assert told == {"requests": {"best_by_margin": 1}, "ignored_headers": 1, "unread_answers": 0}
        assert client.get(f"{proxy.url}/hag/other").status_code == 404


@pytest.mark.parametrize("target", ["@127.0.0.1:{port}/v1/completions", "*", "http://127.0.0.1:{port}/v1/completions"])
def test_a_target_that_names_another_server_reaches_none(proxy, upstream, target):
    elsewhere = EchoServer()
    try:
        host, port = proxy.url.removeprefix("http://").split(":")
        target = target.format(port=elsewhere.url.rpartition(":")[2].removesuffix("/v1"))
        with socket.create_connection((host, int(port)), timeout=10.0) as client:
            head = f"POST {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-mine\r\ncontent-length: 2"
            client.sendall(f"{head}\r\nconnection: close\r\n\r\n{{}}".encode())
            refused = client.recv(1 << 16).startswith(b"HTTP/1.1 400")
        assert not elsewhere.asked
        # Where httptools is installed, uvicorn hands on the path alone of a target that is a whole address.
        assert refused or target.startswith("http")
        assert bool(upstream.asked) != refused
    finally:
        elsewhere.close()


def test_a_client_that_waits_to_be_told_to_go_on_is_told_by_the_proxy(proxy, upstream):
    host, port = proxy.url.removeprefix("http://").split(":")
    for path in ("/v1/completions", "/v1/embeddings"):
        with socket.create_connection((host, int(port)), timeout=20.0) as client:
            head = f"POST {path} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2"
            client.sendall(f"{head}\r\nconnection: close\r\n\r\n".encode())
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 100")
            client.sendall(b"{}")
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert not any("expect" in sent for sent in upstream.headers)


def test_a_path_that_is_too_long_is_refused(proxy):
    with httpx2.Client() as client:
        assert client.get(f"{proxy.url}/v1/{'a' * 60_000}").status_code in (200, 400, 414)


def test_errors_of_the_server_come_through_with_the_receipt(proxy, upstream):
    upstream.fail = 1
    with httpx2.Client() as client:
        answer = client.post(f"{proxy.url}/v1/completions", json={"model": "m", "prompt": "greedy"})
        assert answer.status_code == 503
        assert answer.headers["x-hag-reason"] == "best_by_margin"


def test_a_server_that_is_not_there_is_told_in_the_apis_own_form(handler):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        made = Serving(PolicyMiddleware(ForwardingApp(f"http://127.0.0.1:{taken.getsockname()[1]}"), handler))
        try:
            client = openai.OpenAI(api_key="k", base_url=f"{made.url}/v1", max_retries=0)
            with pytest.raises(openai.InternalServerError, match="behind this proxy cannot be reached") as caught:
                client.chat.completions.create(model="m", messages=messages("greedy"))
            assert caught.value.status_code == 502
            assert caught.value.response.headers["x-hag-reason"] == "best_by_margin"
        finally:
            made.close()


def test_a_stream_whose_client_has_gone_is_given_up(proxy, upstream):
    body = {"model": "m", "messages": messages("greedy"), "stream": True, "slow": True}
    with httpx2.Client() as client, client.stream("POST", f"{proxy.url}/v1/chat/completions", json=body) as answer:
        first = next(answer.iter_raw())
        assert b"one" in first
    deadline = time.monotonic() + 4.0
    while not upstream.cut and time.monotonic() < deadline:
        time.sleep(0.05)
    assert upstream.cut == 1


def test_a_client_that_leaves_in_the_midst_of_its_request_leaves_nothing_behind(proxy, upstream, caplog):
    host, port = proxy.url.removeprefix("http://").split(":")
    for path in ("/v1/chat/completions", "/v1/embeddings"):
        with socket.create_connection((host, int(port))) as client:
            client.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{".encode())
            time.sleep(0.2)
    with httpx2.Client() as client:
        answer = client.post(f"{proxy.url}/v1/completions", json={"model": "m", "prompt": "greedy"}, timeout=10.0)
    assert answer.status_code == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_fault_while_loading_leaves_the_server_serving(upstream, monkeypatch):
    monkeypatch.setenv("HAGPOLICY_POLICY", "policies/mine")
    monkeypatch.setattr("hagpolicy.serving.asgi.read_environment", lambda _: 1 / 0)
    made = Serving(PolicyMiddleware(ForwardingApp(upstream.url)))
    try:
        with httpx2.Client() as client:
            assert client.post(f"{made.url}/v1/completions", json={"prompt": "greedy"}).status_code == 200
            assert client.get(f"{made.url}/hag/ready").json() == {"status": "ZeroDivisionError"}
    finally:
        made.close()


def test_bodies_beyond_the_limit_go_on_unread(upstream, handler):
    made = Serving(PolicyMiddleware(ForwardingApp(upstream.url), handler, most_bytes=2_000))
    try:
        with httpx2.Client() as client:
            body = {"model": "m", "prompt": "greedy " * 1_000}
            answer = client.post(f"{made.url}/v1/completions", json=body)
            assert answer.headers["x-hag-reason"] == "too_large"
            assert upstream.asked[-1] == body
            assert handler.counts == {"too_large": 1}
    finally:
        made.close()


def test_a_middleware_is_configured_by_the_environment_and_ready_when_it_is_loaded(
    upstream, null, tmp_path, monkeypatch
):
    monkeypatch.setenv("HAGPOLICY_POLICY", str(null[1].save(tmp_path / "policy")))
    monkeypatch.setenv("HAGPOLICY_SERVER", "vllm")
    made = Serving(PolicyMiddleware(ForwardingApp(upstream.url)))
    try:
        with httpx2.Client() as client:
            answer = client.post(f"{made.url}/v1/completions", json={"model": "m", "prompt": "What is 17 * 23?"})
            assert answer.headers["x-hag-policy"] == f"*@{null[1].digest[:8]}"
            assert client.get(f"{made.url}/hag/ready").status_code == 200
    finally:
        made.close()


def test_a_bundle_that_is_not_there_leaves_the_server_serving(upstream, monkeypatch, caplog):
    monkeypatch.setenv("HAGPOLICY_POLICY", "/nowhere/at/all")
    made = Serving(PolicyMiddleware(ForwardingApp(upstream.url)))
    try:
        with httpx2.Client() as client, caplog.at_level(logging.ERROR):
            body = {"model": "m", "prompt": "greedy"}
            assert client.post(f"{made.url}/v1/completions", json=body).status_code == 200
            assert upstream.asked[-1] == body
            assert client.get(f"{made.url}/hag/ready").status_code == 503
    finally:
        made.close()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HAGPOLICY_POLICY": "{not json"},
        {"HAGPOLICY_POLICY": str(FIXTURES / "bundle_v3"), "HAGPOLICY_PRICE": "cheap"},
        {"HAGPOLICY_POLICY": str(FIXTURES / "bundle_v3"), "HAGPOLICY_OVERRULE": "temprature"},
        {"HAGPOLICY_POLICY": str(FIXTURES / "bundle_v3"), "HAGPOLICY_NOT_TOGETHER": "temperature"},
        {"HAGPOLICY_POLICY": '{"m": 1}'},
        {"HAGPOLICY_POLICY": str(FIXTURES / "bundle_v3"), "HAGPOLICY_LACKS": '{"m": ["top_k"]}'},
    ],
)
def test_an_environment_that_cannot_be_read_is_told(environment):
    with pytest.raises(InvalidInput):
        read_environment(environment)


def test_an_environment_says_rules_by_model_and_the_provider(null, tmp_path):
    said = {"OVERRULE": '{"small": "temperature", "*": "top_p"}', "LACKS": "top_k", "PROVIDER": "CPUExecutionProvider"}
    said["ENDPOINTS"] = '{"drafted": "http://draft.invalid/v1"}'
    environment = {f"HAGPOLICY_{name}": words for name, words in said.items()}
    handler = read_environment(environment | {"HAGPOLICY_POLICY": str(null[1].save(tmp_path / "policy"))})
    rules = {model: (one.overrule, one.lacks) for model, one in handler.rules.items()}
    assert rules == {"*": (("top_p",), ("top_k",)), "small": (("temperature",), ("top_k",))}
    assert handler.policies["*"].providers == ("CPUExecutionProvider",)
    assert {one.endpoints["drafted"].base for one in handler.rules.values()} == {"http://draft.invalid"}
    with pytest.raises(InvalidInput, match="HAGPOLICY_ENDPOINTS: expected a JSON object such as"):
        read_environment({"HAGPOLICY_POLICY": str(tmp_path / "policy"), "HAGPOLICY_ENDPOINTS": "drafted=http"})
    with pytest.raises(InvalidInput, match=r"providers: expected some of .* got NoProvider"):
        read_environment({"HAGPOLICY_POLICY": str(tmp_path / "policy"), "HAGPOLICY_PROVIDER": "NoProvider"})


def test_rules_are_read_of_words():
    said = {"overrule": {"*": "all"}, "lacks": {"*": "top_k"}, "not_together": {"*": "temperature + top_p"}}
    (rules,) = make_rules({"*": WordPolicy(SPACE)}, said, server="openai").values()
    assert rules.not_together == (("temperature", "top_p"),)
    assert (rules.server, rules.lacks, set(rules.overrule)) == ("openai", ("top_k",), set(FIELDS))


def test_what_is_said_of_a_model_stands_in_place_of_what_is_said_of_all():
    policies = {"*": WordPolicy(SPACE), "small": WordPolicy(SPACE, fingerprint={"kind": "vllm"})}
    said = {"overrule": {"*": "temperature", "o:3": "top_p,top_k", "small": ""}, "lacks": {"o:3": "min_p"}}
    rules = make_rules(policies, said)
    assert {model: (one.overrule, one.lacks) for model, one in rules.items()} == {
        "*": (("temperature",), ()),
        "small": ((), ()),
        "o:3": (("top_p", "top_k"), ("min_p",)),
    }
    assert [one.server for one in rules.values()] == ["compatible", "vllm", "compatible"]
    handler = RequestHandler(policies, rules)
    for model, overruled in (("other", "temperature"), ("small", None), ("o:3", None)):
        body = json.dumps({"model": model, "prompt": "greedy", "temperature": 0.31}).encode()
        assert handler.handle("/v1/completions", [], body).headers.get("x-hag-overruled") == overruled


def test_a_model_without_a_policy_has_no_rules():
    policies = {"small": WordPolicy(SPACE)}
    assert list(make_rules(policies, {"lacks": {"*": "top_k"}})) == ["small"]
    with pytest.raises(InvalidInput, match=r"model of lacks: expected one with a policy \(small\), got large"):
        make_rules(policies, {"lacks": {"large": "top_k"}})


@pytest.mark.parametrize("address", ["", "127.0.0.1:8000", "ftp://127.0.0.1", "http://u:p@127.0.0.1", "http://"])
def test_an_upstream_that_is_no_address_is_refused(address):
    with pytest.raises(InvalidInput, match="upstream") as caught:
        ForwardingApp(address)
    assert "u:p" not in str(caught.value)
