"""What runs a proxy in production: metrics, spans, limits, keys, and bundles that change."""

import asyncio
import gzip
import json
import logging
import shutil
import socket
import time
import zlib
from contextlib import ExitStack

import pytest

pytest.importorskip("uvicorn")

import httpx2
import prometheus_client
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import hagpolicy as hag
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.fields import FIELDS
from hagpolicy.config.space import DecodingSpace
from hagpolicy.errors import InvalidInput
from hagpolicy.serving.answers import MOST_DECODED, AnswerReader, find_applied, find_model, is_same_model
from hagpolicy.serving.asgi import PolicyMiddleware
from hagpolicy.serving.handler import RequestHandler
from hagpolicy.serving.limits import LimitedApp, ProxyLimits
from hagpolicy.serving.live import LiveSettings
from hagpolicy.serving.messages import answer_json
from hagpolicy.serving.metrics import find_metrics
from hagpolicy.serving.proxy import ForwardingApp, make_proxy
from hagpolicy.serving.reload import BundleWatcher, stamp_folders
from hagpolicy.serving.rewrite import RewriteRules
from hagpolicy.serving.transport import PolicyTransport
from tests.serving.test_clients import SPACE
from tests.serving.test_live import rows
from tests.serving.wrapping import WordPolicy
from tests.support.asgi_server import Serving
from tests.support.echo_server import EchoServer

CHAT = {"model": "m", "messages": [{"role": "user", "content": "greedy"}]}


@pytest.fixture
def upstream():
    made = EchoServer()
    yield made
    made.close()


@pytest.fixture
def handler():
    return RequestHandler(WordPolicy(SPACE, {"greedy": 1}, {"model": "org/Fitted-7B"}), RewriteRules("vllm"))


@pytest.fixture
def serve():
    """Serves applications; each at an address."""
    with ExitStack() as stack:

        def serving(app):
            made = Serving(app)
            stack.callback(made.close)
            return stack.enter_context(httpx2.Client(base_url=made.url, timeout=20.0))

        yield serving


def read_samples(registry, name):
    """Values of a metric by its labels, those without any value left out."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name and sample.value
    }


def wait_for(holds):
    """What follows the last byte of an answer may come after its client has it."""
    until = time.monotonic() + 20.0
    while not holds() and time.monotonic() < until:
        time.sleep(0.01)


def test_metrics_count_decisions_fields_answers_and_their_times(upstream, handler, serve):
    registry = prometheus_client.CollectorRegistry()
    client = serve(PolicyMiddleware(ForwardingApp(upstream.url), handler, answers=["metrics"], registry=registry))
    client.post("/v1/chat/completions", json=CHAT | {"top_p": 1.0}, headers={"x-hag-odd": "1"})
    client.post("/v1/chat/completions", json=CHAT | {"model": "made/up"}, headers={"x-hag-skip": "1"})
    client.post("/v1/chat/completions", json=CHAT | {"stream": True})
    upstream.fail = 1
    client.post("/v1/completions", json={"model": "m", "prompt": "greedy"})
    answers = "gen_ai_server_request_duration_seconds_count"
    wait_for(lambda: len(read_samples(registry, answers)) == 2)
    decided = ("*", "other", '{"temperature": 0.0}', "best_by_margin")
    assert read_samples(registry, "hag_decisions_total") == {decided: 3.0, ("", "other", "", "skipped"): 1.0}
    fields = read_samples(registry, "hag_fields_total")
    assert (fields["*", "temperature", "applied"], fields["*", "top_p", "kept"]) == (3.0, 1.0)
    assert read_samples(registry, "hag_ignored_headers_total") == {(): 1.0}
    assert read_samples(registry, "hag_overhead_seconds_count") == {("*",): 3.0, ("",): 1.0}
    assert read_samples(registry, answers) == {
        ("chat", "other", ""): 3.0,
        ("text_completion", "other", "503"): 1.0,
    }
    assert read_samples(registry, "gen_ai_server_time_to_first_token_seconds_count") == {("chat", "other"): 1.0}
    told = client.get("/metrics")
    assert told.text == client.get("/hag/metrics").text
    assert 'hag_decisions_total{config="{\\"temperature\\": 0.0}"' in told.text
    assert "made/up" not in told.text
    assert find_metrics(registry) is find_metrics(registry)


def test_fields_are_counted_by_our_names_whatever_the_server_calls_them(upstream, serve):
    registry = prometheus_client.CollectorRegistry()
    config = DecodingConfig(temperature=0.5, max_tokens=9, repetition_penalty=1.2, hint="Be brief.")
    handler = RequestHandler(WordPolicy(DecodingSpace([config])), RewriteRules("openai"))
    for server in ("openai", "llama_cpp", "transformers_serve"):
        given = RewriteRules(server, lacks=("repetition_penalty",) * (server == "openai"))
        handler = RequestHandler({server: WordPolicy(DecodingSpace([config]))}, given)
        handler.observers.append(find_metrics(registry))
        handler.handle_body("/v1/chat/completions", CHAT | {"model": server, "top_p": 0.5})
    counted = read_samples(registry, "hag_fields_total")
    assert {name for _, name, _ in counted} <= set(FIELDS)
    for server in ("llama_cpp", "transformers_serve"):
        applied = {name for policy, name, outcome in counted if (policy, outcome) == (server, "applied")}
        assert {"temperature", "max_tokens", "repetition_penalty", "hint"} <= applied
    assert counted["llama_cpp", "top_p", "kept"] == 1.0


def test_what_clients_fix_makes_no_series_of_its_own(upstream, handler, serve):
    registry = prometheus_client.CollectorRegistry()
    client = serve(PolicyMiddleware(ForwardingApp(upstream.url), handler, registry=registry))
    for at in range(5):
        fixed = json.dumps({"hint": f"private {at}", "temperature": 0.0})
        client.post("/v1/chat/completions", json=CHAT | {"max_tokens": at + 1, "min_p": at / 10})
        client.post("/v1/chat/completions", json=CHAT, headers={"x-hag-fixed": fixed})
        client.post("/v1/chat/completions", json=CHAT | {"temperature": 1.5 + at / 100})
    decided, config = read_samples(registry, "hag_decisions_total"), '{"temperature": 0.0}'
    assert {labels[2] for labels in decided} <= {"", config}
    assert decided["*", "other", config, "best_by_margin"] == 5.0
    assert "private" not in prometheus_client.generate_latest(registry).decode()


def test_a_server_keeps_its_own_paths_before_which_only_a_middleware_stands(upstream, handler, serve):
    client = serve(PolicyMiddleware(ForwardingApp(upstream.url), handler))
    assert client.get("/metrics").json() == {"path": "/metrics"}
    assert client.post("/hag/health").status_code == 405
    with pytest.raises(InvalidInput, match="answers"):
        PolicyMiddleware(ForwardingApp(upstream.url), handler, answers=["heath"])


def test_headers_for_the_policy_reach_no_server(upstream, handler, serve):
    client = serve(PolicyMiddleware(ForwardingApp(upstream.url), handler))
    client.post("/v1/embeddings", json={"input": "x"}, headers={"x-hag-task": "secret", "x-other": "1"})
    client.get("/v1/models", headers={"x-hag-task": "secret", "x-other": "1"})
    assert [sent["x-other"] for sent in upstream.headers] == ["1", "1"]
    assert not any(name.startswith("x-hag") for sent in upstream.headers for name in sent)


@pytest.fixture(scope="module")
def spans():
    """Where spans of this process go: OpenTelemetry lets it be set once."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def test_spans_continue_the_callers_trace_and_say_what_was_sent(spans, upstream, handler, serve):
    client = serve(PolicyMiddleware(ForwardingApp(upstream.url), handler))
    spans.clear()
    parent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    client.post("/v1/chat/completions", json=CHAT | {"top_p": 1.0}, headers={"traceparent": parent})
    wait_for(spans.get_finished_spans)
    (span,) = spans.get_finished_spans()
    assert (span.name, f"{span.context.trace_id:032x}") == ("chat other", parent[3:35])
    sent = upstream.headers[-1]["traceparent"]
    assert sent == f"{parent[:36]}{span.context.span_id:016x}-01"
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_k": 0,
        "gen_ai.request.min_p": 0.0,
        "gen_ai.request.repetition_penalty": 1.0,
        "gen_ai.request.presence_penalty": 0.0,
        "gen_ai.request.frequency_penalty": 0.0,
        "hag.policy": "*",
        "hag.reason": "best_by_margin",
        "http.response.status_code": 200,
    }


def test_another_host_gets_the_trace_and_no_baggage(spans, upstream, serve):
    there = EchoServer()
    space = DecodingSpace([DecodingConfig(temperature=0.7), DecodingConfig(endpoint="drafted@0123456789abcdef")])
    rules = RewriteRules("vllm", endpoints={"drafted": there.url.replace("127.0.0.1", "localhost")})
    proxy = make_proxy(RequestHandler(WordPolicy(space, {"greedy": 1}), rules), upstream.url)

    async def instrumented(scope, receive, send):  # as instrumentations of servers do with the baggage of a request
        token = context.attach(baggage.set_baggage("key", "sk-mine"))
        await proxy(scope, receive, send)
        context.detach(token)

    client = serve(instrumented)
    for content in ("greedy", "other"):
        client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": content}]})
    there.close()
    assert upstream.headers[0]["baggage"] == "key=sk-mine"
    assert ("traceparent" in there.headers[0], "baggage" in there.headers[0]) == (True, False)


def test_a_span_names_what_failed_without_its_words(spans, handler):
    async def fail(scope, receive, send):
        raise ValueError("greedy secrets of the prompt")

    async def receive():
        return {"type": "http.request", "body": json.dumps(CHAT).encode()}

    spans.clear()
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
    with pytest.raises(ValueError, match="secrets"):
        asyncio.run(PolicyMiddleware(fail, handler)(scope, receive, None))
    (span,) = spans.get_finished_spans()
    assert (span.attributes["error.type"], span.status.status_code) == ("ValueError", trace.StatusCode.ERROR)
    assert "secrets" not in span.to_json()


@pytest.mark.parametrize(
    ("limits", "request_", "status"),
    [
        ({"body_bytes": 2_000}, lambda: {"json": {"prompt": "greedy " * 1_000}}, 413),
        ({"body_bytes": 2_000}, lambda: {"content": iter([b"{", b"x" * 4_000])}, 413),
        ({"header_bytes": 2_000}, lambda: {"json": CHAT, "headers": {"x-long": "x" * 3_000}}, 431),
        ({"requests": 2}, lambda: {"json": CHAT}, 200),
    ],
)
def test_limits_refuse_in_the_apis_own_form(upstream, handler, serve, limits, request_, status):
    client = serve(make_proxy(handler, upstream.url, limits=ProxyLimits(**limits)))
    for path in ("/v1/completions", "/v1/embeddings"):
        answer = client.post(path, **request_())
        assert answer.status_code == status
        if status != 200:
            assert answer.json()["error"]["code"] == status
    assert client.get("/health").status_code == 200


def test_requests_beyond_those_under_way_are_told_to_come_again(upstream, handler, serve):
    client = serve(make_proxy(handler, upstream.url, limits=ProxyLimits(requests=1)))
    with client.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True, "slow": True}) as first:
        parts = first.iter_raw()
        next(parts)
        refused = client.post("/v1/chat/completions", json=CHAT)
        assert (refused.status_code, refused.headers.get("retry-after")) == (503, "1")
        assert client.get("/ready").status_code == 200
    assert len(upstream.asked) == 1


def test_a_body_that_does_not_come_is_given_up(upstream, handler, serve):
    client = serve(make_proxy(handler, upstream.url, limits=ProxyLimits(body_seconds=0.2)))
    address = client.base_url.host, client.base_url.port
    for path in ("/v1/chat/completions", "/v1/embeddings"):
        with socket.create_connection(address, timeout=10.0) as slow:
            slow.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{".encode())
            assert slow.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_limit_that_is_none_is_refused():
    with pytest.raises(InvalidInput, match="body_seconds"):
        ProxyLimits(body_seconds=0.0)


def test_a_key_of_its_own_is_asked_for_and_goes_no_further(upstream, handler, serve):
    client = serve(make_proxy(handler, upstream.url, key="own", upstream_key="theirs"))
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 401
    assert client.post("/v1/chat/completions", json=CHAT, headers={"authorization": "Bearer no"}).status_code == 401
    assert client.get("/metrics").status_code == 401
    assert client.get("/ready").status_code == 200
    assert upstream.asked == []
    client.post("/v1/chat/completions", json=CHAT, headers={"authorization": "Bearer own"})
    assert upstream.headers[-1]["authorization"] == "Bearer theirs"
    client.post("/v1/chat/completions", json=CHAT, headers={"x-hag-key": "own", "authorization": "Bearer mine"})
    assert upstream.headers[-1]["authorization"] == "Bearer mine"
    assert not any("own" in value for sent in upstream.headers for value in sent.values())


def test_probes_are_open_and_nothing_else_is_on_their_paths(upstream, handler, serve):
    limits = ProxyLimits(body_bytes=100)
    client = serve(make_proxy(handler, upstream.url, limits=limits, answers=(), key="own", upstream_key="theirs"))
    assert client.get("/health").json() == {"path": "/health"}
    assert client.post("/health", json={}).status_code == 401
    own = {"authorization": "bearer own"}
    refused = client.post("/ready", content=b"x" * 200, headers=own)
    assert (refused.status_code, refused.headers["x-hag-reason"]) == (413, "refused")
    client.get("/health", headers=own)
    assert [sent.get("authorization") for sent in upstream.headers] == [None, "Bearer theirs"]
    assert upstream.asked == []


def test_a_changed_bundle_is_decided_by_and_a_damaged_one_changes_nothing(
    null, strong, upstream, serve, tmp_path, caplog
):
    folder = null[1].save(tmp_path / "policy")
    handler = RequestHandler(hag.load(folder), RewriteRules("vllm"))
    watcher = BundleWatcher(handler, {"*": folder})
    client = serve(PolicyMiddleware(ForwardingApp(upstream.url), handler))
    assert watcher.check() == []
    ask = {"model": "m", "prompt": "What is 17 * 23?"}
    before = client.post("/v1/completions", json=ask).headers["x-hag-reason"]
    (folder / "policy.json").write_text("{")
    with caplog.at_level(logging.ERROR):
        assert watcher.check() == watcher.check() == []
    assert caplog.text.count("stays as it was") == 1
    assert client.post("/v1/completions", json=ask).headers["x-hag-reason"] == before
    shutil.rmtree(folder)
    strong[2].save(folder)
    assert watcher.check() == ["*"]
    assert handler.policies["*"].manifest.encoder["name"] == "static"
    expected = RequestHandler(strong[2], RewriteRules("vllm")).handle("/v1/completions", [], json.dumps(ask).encode())
    after = client.post("/v1/completions", json=ask)
    assert after.headers["x-hag-reason"] == expected.headers["x-hag-reason"] != before


def test_a_bundle_that_changes_while_it_is_loaded_is_not_missed(null, strong, tmp_path):
    folder = null[1].save(tmp_path / "policy")
    seen = stamp_folders({"*": folder})
    handler = RequestHandler(hag.load(folder))
    shutil.rmtree(folder)
    strong[2].save(folder)
    assert BundleWatcher(handler, {"*": folder}, seen=seen).check() == ["*"]


def test_a_middleware_that_cannot_be_configured_is_not_ready(null, upstream, serve, tmp_path, monkeypatch):
    monkeypatch.setenv("HAGPOLICY_POLICY", str(null[1].save(tmp_path / "policy")))
    monkeypatch.setenv("HAGPOLICY_RELOAD", "often")
    client = serve(PolicyMiddleware(ForwardingApp(upstream.url)))
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
    ready = client.get("/hag/ready")
    assert (ready.status_code, "HAGPOLICY_RELOAD" in ready.json()["status"]) == (503, True)


def test_a_policy_that_cannot_take_the_place_of_another_is_refused(handler):
    priced = RequestHandler(WordPolicy(SPACE, dial="price"), price=0.5)
    with pytest.raises(InvalidInput, match="price"):
        priced.replace_policy("*", WordPolicy(SPACE))
    with pytest.raises(InvalidInput, match="model"):
        handler.replace_policy("another", WordPolicy(SPACE))


def test_answers_of_another_model_are_counted_and_told_once(upstream, handler, serve, caplog):
    registry = prometheus_client.CollectorRegistry()
    client = serve(PolicyMiddleware(ForwardingApp(upstream.url), handler, registry=registry))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            client.post("/v1/chat/completions", json=CHAT)
    wait_for(lambda: sum(read_samples(registry, "hag_other_model_answers_total").values()) == 3.0)
    assert caplog.text.count("fitted on 'org/Fitted-7B' and 'm' answers") == 1
    assert read_samples(registry, "hag_other_model_answers_total") == {("*",): 3.0}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("Qwen/Qwen3-8B", "qwen3-8b", True),
        ("/models/smol.Q4.gguf", "smol.Q4", True),
        ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", True),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-32B", False),
    ],
)
def test_names_of_one_model(first, second, same):
    assert is_same_model(first, second) is same
    assert is_same_model(second, first) is same


def test_the_model_of_an_answer_is_not_taken_from_its_text():
    said = json.dumps({"choices": [{"text": json.dumps({"model": "fake"})}], "model": "real"}).encode()
    assert find_model(said) == "real"
    assert find_model(b'data: {"id": "1", "model":"m"}\n\n') == "m"
    assert find_model(b"\x1f\x8b") is None


def test_other_lives_of_an_application_pass_the_limits():
    async def inner(scope, receive, send):
        seen.append(scope["type"])

    seen = []
    asyncio.run(LimitedApp(inner, ProxyLimits(), key="k")({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]


@pytest.mark.parametrize(
    ("encoding", "encode", "examined"),
    [
        ("gzip", gzip.compress, True),
        ("Deflate", zlib.compress, True),
        ("identity", bytes, True),
        ("br", bytes, False),
        ("gzip", lambda said: gzip.compress(said)[:8] + said, False),
    ],
)
def test_a_compressed_answer_comes_as_it_is_and_is_examined_or_counted(
    serve, caplog, tmp_path, encoding, encode, examined
):
    said = {"model": "m", "choices": [f"{at}" for at in range(9_000)], "usage": {"completion_tokens": 7}}
    sent, asked = encode(json.dumps(said).encode()), []

    async def server(scope, receive, send):
        asked.append(dict(scope["headers"])[b"accept-encoding"])
        headers = [(b"content-type", b"application/json"), (b"content-encoding", encoding.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for at in range(0, len(sent), 1_000):
            await send({"type": "http.response.body", "body": sent[at : at + 1_000], "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    registry = prometheus_client.CollectorRegistry()
    policy = WordPolicy(SPACE, {"greedy": 1}, {"model": "org/Fitted-7B"})
    handler = RequestHandler(policy, RewriteRules("vllm"), live=LiveSettings(tmp_path / "log.db"))
    client = serve(PolicyMiddleware(server, handler, registry=registry))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with client.stream("POST", "/v1/chat/completions", json=CHAT) as answer:
                assert b"".join(answer.iter_raw()) == sent
    name = "hag_other_model_answers_total" if examined else "hag_unread_answers_total"
    wait_for(lambda: read_samples(registry, name) == {("*",): 2.0})
    assert client.get("/hag/counts").json()["unread_answers"] == (0 if examined else 2)
    assert caplog.text.count("is handed on unexamined") == (0 if examined else 1)
    assert all(b"gzip" in one for one in asked)  # what the client takes is the client's
    assert [row["tokens"] for row in rows(handler)] == [7 if examined else None] * 2


@pytest.mark.parametrize(("encoding", "unread"), [("gzip", 0), ("zstd", 1)])
def test_a_wrapped_client_examines_what_comes_compressed(handler, encoding, unread, caplog):
    def answer(request):
        said = gzip.compress(b'{"model": "m"}')
        return httpx2.Response(200, headers={"content-encoding": encoding}, stream=httpx2.ByteStream(said))

    transport = PolicyTransport(handler, httpx2.MockTransport(answer))
    with (
        httpx2.Client(transport=transport) as client,
        client.stream("POST", "http://x/v1/chat/completions", json=CHAT) as got,
    ):
        assert gzip.decompress(b"".join(got.iter_raw())) == b'{"model": "m"}'
    assert handler.unread == unread
    assert ("fitted on 'org/Fitted-7B' and 'm' answers" in caplog.text) == (not unread)


def test_an_answer_without_end_is_not_decoded_to_its_end():
    reader, compressor, decoded = AnswerReader("gzip"), zlib.compressobj(wbits=31), 0
    while not reader.unread:
        decoded += len(reader.read(compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_SYNC_FLUSH)))
    assert decoded == MOST_DECODED
    assert reader.read(b"more") == b""


def test_settings_that_a_server_applied_otherwise_are_counted_and_told_once(serve, caplog):
    said = {"choices": [], "__verbose": {"generation_settings": {"temperature": 0.800000011920929, "top_k": 0}}}

    async def server(scope, receive, send):
        await answer_json(send, 200, said)

    registry = prometheus_client.CollectorRegistry()
    handler = RequestHandler(WordPolicy(SPACE, {"greedy": 1}), RewriteRules("llama_cpp"))
    client = serve(PolicyMiddleware(server, handler, registry=registry))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            client.post("/v1/chat/completions", json=CHAT)
    counted = ("*", "temperature", "not_honoured")
    wait_for(lambda: read_samples(registry, "hag_fields_total").get(counted) == 2.0)
    fields = read_samples(registry, "hag_fields_total")
    assert (fields[counted], ("*", "top_k", "not_honoured") in fields) == (2.0, False)
    assert caplog.text.count("applied temperature=0.8") == 1


@pytest.mark.parametrize(
    "begin", [b"", b'{"generation_settings": {"temp', b'{"generation_settings": 1}', b'"\\"generation_settings\\": {}']
)
def test_answers_that_say_nothing_of_settings(begin):
    assert find_applied(begin) == {}


def test_a_bundle_that_comes_after_the_server_began_is_decided_by(null, upstream, serve, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("HAGPOLICY_POLICY", str(tmp_path / "policy"))
    monkeypatch.setattr("hagpolicy.serving.asgi.RETRY_SECONDS", 0.0)
    client = serve(PolicyMiddleware(ForwardingApp(upstream.url)))
    ask = {"model": "m", "prompt": "What is 17 * 23?"}
    with caplog.at_level(logging.ERROR):
        answers = [client.post("/v1/completions", json=ask) for _ in range(3)]
    assert not any("x-hag-reason" in answer.headers for answer in answers)
    assert caplog.text.count("no policy is in front") == 1
    assert client.get("/hag/ready").status_code == 503
    null[1].save(tmp_path / "policy")
    assert "x-hag-reason" in client.post("/v1/completions", json=ask).headers
    assert client.get("/hag/ready").status_code == 200
