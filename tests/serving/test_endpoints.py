"""Requests to the server that a config names: by the proxy, the middleware and clients, on real sockets."""

import asyncio
import json
import sys
from contextlib import nullcontext

import pytest

openai = pytest.importorskip("openai")
pytest.importorskip("uvicorn")

import httpx2  # noqa: E402

import hagpolicy as hag  # noqa: E402
from hagpolicy.cli.options import parse_endpoint_options  # noqa: E402
from hagpolicy.config.config import DecodingConfig  # noqa: E402
from hagpolicy.config.space import DecodingSpace  # noqa: E402
from hagpolicy.errors import InvalidInput, MissingExtra  # noqa: E402
from hagpolicy.serving.asgi import PolicyMiddleware  # noqa: E402
from hagpolicy.serving.handler import RequestHandler  # noqa: E402
from hagpolicy.serving.proxy import make_proxy  # noqa: E402
from hagpolicy.serving.rewrite import RewriteRules, rewrite  # noqa: E402
from hagpolicy.serving.settings import make_rules  # noqa: E402
from hagpolicy.serving.transport import PolicyTransport  # noqa: E402
from tests.serving.wrapping import WordPolicy  # noqa: E402
from tests.support.asgi_server import Serving  # noqa: E402
from tests.support.echo_server import EchoServer  # noqa: E402

PIN = "@0123456789abcdef"
SPACE = DecodingSpace(
    [
        DecodingConfig(temperature=0.7),
        DecodingConfig(temperature=0.0, endpoint=f"drafted{PIN}"),
        DecodingConfig(temperature=0.0, endpoint=f"drafted{PIN}", adapter=f"sql{PIN}"),
    ]
)
POLICY = WordPolicy(SPACE, {"long": 1, "select": 2}, {"kind": "openai", "server": "vllm"})
PATH = "/v1/chat/completions"
KEYS = {"authorization": "Bearer sk-mine", "x-api-key": "sk-x", "x-own-gateway": "gw", "cookie": "c=1"}


@pytest.fixture
def servers():
    made = EchoServer(), EchoServer()
    yield made
    for one in made:
        one.close()


def ask(url, text, key="sk-mine", **options):
    return say(openai.OpenAI(api_key=key, base_url=f"{url}/v1", max_retries=0), text, **options)


def say(client, text, **options):
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.with_raw_response.create(model="m", messages=messages, **options)


def rules_for(server, **options):
    return RewriteRules("vllm", endpoints={"drafted": server.url}, **options)


def count(servers):
    return [len(server.asked) for server in servers]


def test_the_proxy_sends_a_request_where_its_config_says(servers):
    proxy = Serving(make_proxy(RequestHandler(POLICY, rules_for(servers[1])), servers[0].url))
    try:
        ask(proxy.url, "nothing")
        assert count(servers) == [1, 0]
        raw = ask(proxy.url, "long", extra_headers={"x-other": "1", "x-hag-task": "t"})
        assert count(servers) == [1, 1]
        assert json.loads(raw.headers["x-hag-config"]) == {"temperature": 0.0, "endpoint": f"drafted{PIN}"}
        assert (servers[1].asked[0]["model"], servers[1].asked[0]["temperature"]) == ("m", 0.0)
        # The same host: what the server that it was for would have got.
        sent = servers[1].headers[0]
        assert (sent["authorization"], sent["x-other"]) == ("Bearer sk-mine", "1")
        assert not any(name.startswith("x-hag") for name in sent)
        assert sent["host"] in servers[1].url
        assert "endpoint" not in json.dumps(servers[1].asked)
        streamed = ask(proxy.url, "long", stream=True).parse()
        assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == "one two"
        assert count(servers) == [1, 2]
    finally:
        proxy.close()


def test_another_host_gets_no_key_but_its_own(servers, monkeypatch):
    monkeypatch.setenv("HAG_DRAFT_KEY", "sk-draft")
    far = servers[1].url.replace("127.0.0.1", "localhost")
    for said, key in ((far, None), ({"url": far, "key_env": "HAG_DRAFT_KEY"}, "Bearer sk-draft")):
        rules = RewriteRules("vllm", endpoints={"drafted": said})
        proxy = Serving(make_proxy(RequestHandler(POLICY, rules), servers[0].url, upstream_key="sk-upstream"))
        try:
            ask(proxy.url, "long", extra_headers={**KEYS, "x-own-gateway": "gw"}, extra_query={"key": "sk-mine"})
        finally:
            proxy.close()
        sent = servers[1].headers[-1]
        assert servers[1].targets[-1] == PATH
        assert (sent.get("authorization"), sent["content-type"]) == (key, "application/json")
        assert not any(value in " ".join(sent.values()) for value in ("sk-mine", "sk-x", "sk-upstream", "gw", "c=1"))
    # On the host of the server its own key takes the place of the client's, and other headers stay.
    rules = RewriteRules("vllm", endpoints={"drafted": {"url": servers[1].url, "key_env": "HAG_DRAFT_KEY"}})
    proxy = Serving(make_proxy(RequestHandler(POLICY, rules), servers[0].url, key="sk-mine"))
    try:
        ask(proxy.url, "long", extra_headers=KEYS, extra_query={"a": "1"})
    finally:
        proxy.close()
    assert servers[1].targets[-1] == f"{PATH}?a=1"
    sent = servers[1].headers[-1]
    assert (sent["authorization"], sent["x-own-gateway"], "x-api-key" in sent) == ("Bearer sk-draft", "gw", False)


def test_the_middleware_of_a_server_hands_it_to_another(servers):
    here = []

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        here.append(scope["path"])
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b'{"choices": []}'})

    lost = {"drafted": "http://127.0.0.1:9"}
    for endpoints in ({"drafted": servers[1].url}, lost):
        handler = RequestHandler(POLICY, RewriteRules("vllm", endpoints=endpoints))
        middleware = Serving(PolicyMiddleware(application, handler))
        try:
            ask(middleware.url, "nothing")
            if endpoints is lost:
                with pytest.raises(openai.InternalServerError, match="cannot be reached"):
                    ask(middleware.url, "long")
            else:
                ask(middleware.url, "long")
        finally:
            middleware.close()
    assert (here, count(servers)) == ([PATH, PATH], [0, 1])
    assert servers[1].headers[0]["authorization"] == "Bearer sk-mine"


def test_a_client_s_transport_sends_it_there(servers):
    plain = openai.OpenAI(api_key="sk-mine", base_url=servers[0].url, max_retries=0)
    far = servers[1].url.replace("127.0.0.1", "localhost")
    client = hag.wrap(plain, POLICY, rules=RewriteRules("vllm", endpoints={"drafted": f"{far}#there"}))
    say(client, "long", extra_query={"a": "1"})
    say(client, "nothing")
    assert count(servers) == [1, 1]
    assert (servers[1].asked[0]["model"], servers[1].targets) == ("there", [PATH])
    assert "authorization" not in servers[1].headers[0]
    assert servers[0].headers[0]["authorization"] == "Bearer sk-mine"
    say(hag.wrap(plain, POLICY, rules=rules_for(servers[1])), "long", extra_query={"a": "1"})
    assert servers[1].headers[-1]["authorization"] == "Bearer sk-mine"
    assert servers[1].targets[-1] == f"{PATH}?a=1"


def test_what_a_client_says_of_its_connection_is_of_its_own_server(servers):
    far = servers[1].url.replace("127.0.0.1", "localhost")
    handler = RequestHandler(POLICY, RewriteRules("vllm", endpoints={"drafted": far}))
    body = {"model": "m", "messages": [{"role": "user", "content": "long"}]}
    told = {"target": b"/gateway/sk-mine?key=sk-mine", "timeout": {"read": 5.0}}
    with httpx2.Client(transport=PolicyTransport(handler, httpx2.HTTPTransport())) as client:
        client.post(f"{servers[0].url}/chat/completions", json=body, extensions=told)
    assert (servers[1].targets, count(servers)) == ([PATH], [0, 1])


@pytest.mark.parametrize("kind", [openai.OpenAI, openai.AsyncOpenAI])
def test_a_client_s_proxy_is_asked_for_no_server_that_it_is_not_for(servers, monkeypatch, kind):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    plain = kind(api_key="sk-mine", base_url="http://server.invalid/v1", max_retries=0)
    client = hag.wrap(plain, POLICY, rules=rules_for(servers[1]))
    for text, lost in (("long", False), ("nothing", True)):
        with pytest.raises(openai.APIConnectionError) if lost else nullcontext():
            answer = say(client, text)
            if asyncio.iscoroutine(answer):
                asyncio.run(answer)
    assert count(servers) == [0, 1]
    assert "authorization" not in servers[1].headers[0]


@pytest.mark.parametrize("through", ["client", "proxy"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_an_endpoint_sends_no_client_elsewhere_and_sets_no_cookie_for_others(servers, through, host):
    asked, there = servers
    there.redirect = there.url.replace("127.0.0.1", "localhost") + "/chat/completions"
    rules = RewriteRules("vllm", endpoints={"drafted": there.url.replace("127.0.0.1", host)})
    proxy = Serving(make_proxy(RequestHandler(POLICY, rules), asked.url)) if through == "proxy" else None
    client = openai.OpenAI(api_key="sk-mine", base_url=f"{proxy.url}/v1" if proxy else asked.url, max_retries=0)
    client = client if proxy else hag.wrap(client, POLICY, rules=rules)
    try:
        with pytest.raises(openai.APIStatusError) as caught:
            say(client, "long", extra_headers={"api-key": "sk-x"})
    finally:
        if proxy:
            proxy.close()
    headers = caught.value.response.headers
    assert (caught.value.status_code, "location" in headers, count(servers)) == (307, False, [0, 1])
    assert ("set-cookie" in headers) == (host == "127.0.0.1")


def test_what_the_rules_do_not_name_is_never_chosen_and_never_sent(servers):
    other = RewriteRules("vllm", endpoints={"fast": servers[1].url})
    for rules in (RewriteRules("vllm"), other):
        body, receipt = rewrite(PATH, {"model": "m", "messages": [{"role": "user", "content": "long"}]}, POLICY, rules)
        assert (body["temperature"], receipt.endpoint, receipt.decision.config.endpoint) == (0.7, None, "")
        assert "endpoint" not in body
    # One that a client names and that nobody configured leaves the request where it was for.
    _, receipt = rewrite(
        PATH, {"messages": [{"role": "user", "content": "q"}]}, POLICY, other, fixed={"endpoint": f"drafted{PIN}"}
    )
    assert receipt.endpoint is None


def test_a_middleware_without_the_client_it_needs_says_so_before_any_request(servers, monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    handler = RequestHandler(POLICY, rules_for(servers[1]))
    with pytest.raises(MissingExtra, match="aiohttp"):
        PolicyMiddleware(None, handler)
    PolicyMiddleware(None, RequestHandler(POLICY, RewriteRules("vllm")))


def test_a_client_names_an_endpoint_without_its_digest(servers):
    body = {"messages": [{"role": "user", "content": "nothing"}]}
    _, receipt = rewrite(PATH, body, POLICY, rules_for(servers[1]), fixed={"endpoint": "drafted"})
    assert (receipt.endpoint.url, receipt.decision.config.endpoint) == (servers[1].url, f"drafted{PIN}")
    assert receipt.decision.reason != "no_config_agrees"


def test_what_only_rewrites_a_body_chooses_no_endpoint(servers):
    handler = RequestHandler(POLICY, rules_for(servers[1]))
    _, handled = handler.handle_body(PATH, {"model": "m", "messages": [{"role": "user", "content": "long"}]})
    assert (handled.receipt.endpoint, handled.receipt.decision.config.endpoint) == (None, "")


def test_the_model_and_adapters_there(servers):
    there = f"{servers[1].url}#there"
    rules = RewriteRules("vllm", endpoints={"drafted": there}, adapters={"sql": "sql-lora"})
    for text, model, field in (("long", "there", "endpoint"), ("select", "sql-lora", "adapter")):
        body, receipt = rewrite(PATH, {"model": "m", "messages": [{"role": "user", "content": text}]}, POLICY, rules)
        assert (body["model"], receipt.fields["model"], receipt.endpoint.model) == (model, field, "there")
        assert not receipt.dropped
    sglang = RewriteRules("sglang", endpoints={"drafted": there}, adapters={"sql": "sql-lora"})
    body, _ = rewrite(PATH, {"model": "m", "messages": [{"role": "user", "content": "select"}]}, POLICY, sglang)
    assert body["model"] == "there:sql-lora"


def test_endpoints_are_said_in_words(monkeypatch):
    monkeypatch.setenv("HAG_DRAFT_KEY", "sk-draft")
    said = parse_endpoint_options(["drafted=http://draft.invalid:8001#m"], ["drafted=HAG_DRAFT_KEY"])
    assert said == {"drafted": {"url": "http://draft.invalid:8001#m", "key_env": "HAG_DRAFT_KEY"}}
    made = make_rules({"*": POLICY}, {"lacks": {"small": "top_k"}}, server="vllm", endpoints=said)
    assert {(name, one.endpoints["drafted"].base) for name, one in made.items()} == {
        ("*", "http://draft.invalid:8001"),
        ("small", "http://draft.invalid:8001"),
    }
    for given, keys in (
        (["drafted"], []),
        (["a=http://b.invalid", "a=http://c.invalid"], []),
        ([], ["a=B"]),
        (["=x"], []),
    ):
        with pytest.raises(InvalidInput, match="--endpoint"):
            parse_endpoint_options(given, keys)


def test_what_is_no_endpoint_is_refused_and_no_key_repeated(monkeypatch):
    monkeypatch.delenv("HAG_NO_KEY", raising=False)
    for said in (
        ["drafted"],
        {"drafted": "draft.invalid"},
        {"drafted": "http://me:sk-secret@draft.invalid"},
        {"drafted": "http://draft.invalid?key=sk-secret"},
        {"drafted": "http://draft.invalid/v1?"},
        {"drafted": "http://draft .invalid/v1"},
        {"drafted": "http://draft.invalid\n/v1"},
        {"drafted": {"url": "http://draft.invalid", "key_env": "HAG_NO_KEY"}},
        {"drafted": {"url": "http://draft.invalid", "key_env": "sk-secret"}},
        {"drafted": {"url": "http://draft.invalid", "headers_env": {}}},
    ):
        with pytest.raises(InvalidInput, match="endpoints") as caught:
            RewriteRules("vllm", endpoints=said)
        assert "sk-secret" not in str(caught.value)
