"""Constraints of requests behind middleware, proxy and client, on real sockets: what is sent, what is tried again."""

import asyncio
import gzip
import json
import socket
import threading

import pytest

openai = pytest.importorskip("openai")
pytest.importorskip("uvicorn")


import httpx2  # noqa: E402

import hagpolicy as hag  # noqa: E402
from hagpolicy import Constraint, DecodingConfig, DecodingSpace  # noqa: E402
from hagpolicy.errors import InvalidInput  # noqa: E402
from hagpolicy.serving.asgi import PolicyMiddleware  # noqa: E402
from hagpolicy.serving.constraints import find_uncheckable  # noqa: E402
from hagpolicy.serving.handler import RequestHandler  # noqa: E402
from hagpolicy.serving.proxy import ForwardingApp  # noqa: E402
from hagpolicy.serving.rewrite import RewriteRules, rewrite  # noqa: E402
from hagpolicy.serving.transport import PolicyTransport  # noqa: E402
from tests.serving.wrapping import WordPolicy  # noqa: E402
from tests.support.answering_server import AnsweringServer, say  # noqa: E402
from tests.support.asgi_server import Serving  # noqa: E402
from tests.support.echo_server import EchoServer  # noqa: E402

SPACE = DecodingSpace(
    [
        DecodingConfig(temperature=0.0),
        DecodingConfig(temperature=0.0, hint="Be brief.", constrain="ask"),
        DecodingConfig(temperature=0.0, constrain="mask"),
        DecodingConfig(temperature=0.0, top_p=0.9, constrain="retry"),
        DecodingConfig(temperature=0.5, constrain="retry"),
    ]
)
WORDS = {"asked": 1, "masked": 2, "greedy": 3, "tried": 4}
YES = {"choices": ["yes", "no"]}
COUNTED = {"max_words": 3}
SCHEMA = {"schema": {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}}
FORM = {"type": "json_schema", "json_schema": {"name": "mine", "schema": {"type": "object"}}}


def make_policy():
    return WordPolicy(SPACE, WORDS)


def header(constraint):
    return {"x-hag-constraint": constraint if isinstance(constraint, str) else json.dumps(constraint)}


@pytest.fixture
def upstream():
    """Says "yes" in the answer to its third request, something else in others."""
    with AnsweringServer(lambda _: say("yes" if len(server.asked) % 3 == 0 else "well, perhaps")) as server:
        yield server


def serve(upstream, policy=None, **settings):
    handler = RequestHandler(policy or make_policy(), RewriteRules("vllm"), **settings)
    return handler, Serving(PolicyMiddleware(ForwardingApp(upstream.url.removesuffix("/v1")), handler))


@pytest.fixture(params=["proxy", "client", "async client"])
def ask(request, upstream):
    """Ask by the official client: (what was sent, answer, headers, receipt)."""
    seen, rules = [], RewriteRules("vllm")
    app = serve(upstream, on_receipt=seen.append)[1] if request.param == "proxy" else None
    kind = openai.AsyncOpenAI if request.param == "async client" else openai.OpenAI
    url = f"{app.url}/v1" if app else upstream.url
    client = kind(api_key="sk-x", base_url=url, max_retries=0)
    client = client if app else hag.wrap(client, make_policy(), rules=rules, on_receipt=seen.append)

    runner = asyncio.Runner()

    def send(text, constraint=None, **settings):
        before = len(upstream.asked)
        headers = {} if constraint is None else header(constraint)
        messages = [{"role": "user", "content": text}]
        create = client.chat.completions.with_raw_response.create
        raw = create(model="m", messages=messages, extra_headers=headers, **settings)
        raw = runner.run(raw) if asyncio.iscoroutine(raw) else raw
        return upstream.asked[before:], raw.parse(), raw.headers, seen[-1]

    yield send
    runner.close()
    if app is not None:
        app.close()


def test_words_and_masks_arrive_and_receipts_say_how(ask):
    (body,), _, headers, receipt = ask("asked", YES)
    assert body["messages"][0]["content"] == f"asked\n\nBe brief.\n\n{hag.Constraint(**YES).describe()}"
    assert (receipt.constraint, headers["x-hag-constraint"]) == ("ask", "ask")
    (body,), _, headers, receipt = ask("masked", YES)
    assert body["structured_outputs"] == {"choice": ["yes", "no"]}
    assert (receipt.constraint, headers["x-hag-constraint"]) == ("mask", "mask")
    (body,), _, headers, receipt = ask("neither", YES)
    assert body["messages"][0]["content"] == "neither"
    assert "structured_outputs" not in body
    assert (receipt.constraint, headers["x-hag-constraint"]) == ("none", "none")
    assert "perhaps" not in str(receipt) + str(headers)
    assert "yes" not in str(receipt) + str(headers), "what a constraint says is in no receipt"


def test_a_request_without_one_is_what_it_was(ask):
    bodies = [ask(text)[0] for text in ("asked", "masked", "greedy", "tried")]
    assert [len(sent) for sent in bodies] == [1, 1, 1, 1], "nothing is tried again"
    assert bodies[0][0]["messages"][0]["content"] == "asked\n\nBe brief."
    for (body,), text in zip(bodies, ("asked", "masked", "greedy", "tried"), strict=True):
        plain, _ = rewrite("/v1/chat/completions", {"messages": [], "model": "m"}, make_policy(), RewriteRules("vllm"))
        assert body.keys() == plain.keys(), text
    (body,), _, headers, receipt = ask("masked", response_format=FORM)
    assert body["response_format"] == FORM, "a request's own form stays its own"
    assert receipt.constraint == ""
    assert "x-hag-constraint" not in headers


def test_an_answer_is_asked_for_again_until_it_meets(ask):
    sent, answer, headers, _ = ask("greedy", YES, seed=7)
    assert (len(sent), answer.choices[0].message.content) == (3, "yes")
    assert [body["temperature"] for body in sent] == [0.0, 1.0, 1.0], "greedy, it would be the same again"
    assert sent[0]["seed"] == 7
    assert len({body["seed"] for body in sent}) == 3
    assert all(0 <= body["seed"] < 2**31 for body in sent)
    assert headers["x-hag-constraint"] == "retry; met after 3 attempts"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (15, 9), "what all of them used"
    assert "structured_outputs" not in json.dumps(sent)
    sent, answer, headers, _ = ask("tried", {"choices": ["never"]})
    assert [body["temperature"] for body in sent] == [0.5] * 4
    assert answer.choices[0].message.content == "well, perhaps"
    assert headers["x-hag-constraint"] == "retry; not met after 4 attempts"
    assert answer.usage.completion_tokens == 12


def test_what_is_not_tried_again_says_so(ask):
    sent, _, headers, receipt = ask("greedy", YES, temperature=0.0)
    assert (len(sent), sent[0]["temperature"]) == (1, 0.0)
    assert headers["x-hag-constraint"] == "retry; not met; not tried again: the request fixes temperature 0"
    sent, _, headers, receipt = ask("tried", YES, n=2)
    assert len(sent) == 1
    assert not headers["x-hag-constraint"].startswith("retry")
    assert receipt.decision.config.constrain != "retry"


def test_a_mask_is_sent_to_no_server_that_has_none_for_it(ask):
    for text, constraint in (("masked", COUNTED), ("masked", {"include": ["dog"]})):
        (body,), _, _, receipt = ask(text, constraint)
        assert receipt.decision.config.constrain != "mask"
        assert receipt.constraint == "none"
        assert not {"structured_outputs", "response_format", "grammar", "regex"} & body.keys()


@pytest.mark.parametrize(
    ("constraint", "named"),
    [
        ("{", "constraint: expected a mapping"),
        ('{"chioces": ["a"]}', "choices"),
        ('{"choices": ["a"], "regex": "a"}', "choices and regex"),
        ('{"regex": "(?=a)"}', "look-around"),
        ('{"choices": ["' + "a" * 9000 + '"]}', "8,000 characters"),
    ],
)
def test_a_constraint_that_is_none_is_refused_and_nothing_is_sent(ask, upstream, constraint, named):
    with pytest.raises(openai.BadRequestError, match=named) as found:
        ask("asked", constraint)
    assert found.value.response.headers["x-hag-reason"] == "refused"
    assert not upstream.asked


@pytest.mark.parametrize("form", ["response_format", "structured_outputs"])
def test_a_request_with_a_form_of_its_own_beside_it_is_refused(ask, upstream, form):
    with pytest.raises(openai.BadRequestError, match=f"a form of the answer of its own, got {form}"):
        ask("asked", YES, extra_body={form: FORM})
    assert not upstream.asked
    assert len(ask("asked", YES, extra_body={form: {"type": "text"}})[0]) == 1, "which is none"


def test_a_stream_is_passed_on_and_says_that_it_was_not_checked():
    server = EchoServer()
    only = DecodingSpace([DecodingConfig(temperature=0.5, constrain="retry")])
    handler, app = serve(server, WordPolicy(only, {}))
    client = openai.OpenAI(api_key="sk-x", base_url=f"{app.url}/v1", max_retries=0)
    messages = [{"role": "user", "content": "tried"}]
    create = client.chat.completions.with_raw_response.create
    raw = create(model="m", messages=messages, stream=True, extra_headers=header(YES))
    said = [chunk.choices[0].delta.content for chunk in raw.parse()]
    assert said[:2] == ["one", " two"]
    assert raw.headers["x-hag-constraint"] == "retry; not checked: the answer is a stream"
    assert len(server.asked) == 1
    assert handler.constraints == {"retry_not_checked": 1}
    server.close()
    app.close()


@pytest.mark.parametrize("further", [{"stream": True}, {"n": 2}])
def test_no_config_that_tries_again_is_chosen_for_what_nobody_reads(further):
    body = {"model": "m", "messages": [{"role": "user", "content": "tried"}]}

    def find_way(body, constraint):
        _, receipt = rewrite("/v1/chat/completions", body, make_policy(), RewriteRules("vllm"), constraint=constraint)
        return receipt.decision.config.constrain

    constraint = Constraint.parse(YES)
    assert find_way(body, constraint) == "retry"
    assert find_way(body | further, constraint) != "retry"
    assert find_way(body | further, None) == "retry", "without a constraint nothing is tried again"


def test_what_became_of_constraints_is_counted_and_never_told(upstream):
    prometheus_client = pytest.importorskip("prometheus_client")
    registry = prometheus_client.CollectorRegistry()
    handler = RequestHandler(make_policy(), RewriteRules("vllm"))
    inner = ForwardingApp(upstream.url.removesuffix("/v1"))
    app = Serving(PolicyMiddleware(inner, handler, registry=registry))
    for text in ("greedy", "tried", "masked", "asked", "none"):
        content = {"model": "m", "messages": [{"role": "user", "content": text}]}
        sent = header(YES if text != "tried" else {"choices": ["never"]})
        httpx2.post(f"{app.url}/v1/chat/completions", json=content, headers=sent)
    counted = {"retry_met": 1, "retry_not_met": 1, "mask": 1, "ask": 1, "none": 1}
    assert handler.constraints == counted
    assert httpx2.get(f"{app.url}/hag/counts").json()["constraints"] == counted
    page = httpx2.get(f"{app.url}/hag/metrics").text
    for way, outcome in (("retry", "met"), ("retry", "not_met"), ("mask", "not_checked"), ("none", "not_checked")):
        assert f'hag_constraints_total{{outcome="{outcome}",policy="*",way="{way}"}} 1.0' in page
    assert 'hag_fields_total{field="constrain",outcome="applied",policy="*"} 4.0' in page
    assert "never" not in page
    app.close()


def post(app, text, constraint, path="/v1/chat/completions", headers=(), **body):
    asked = {"model": "m", "messages": [{"role": "user", "content": text}], **body}
    return httpx2.post(f"{app.url}{path}", json=asked, headers={**header(constraint), **dict(headers)})


def test_an_attempt_that_fails_leaves_the_first_answer():
    answers = iter([say("perhaps"), say("well"), (503, {})])
    with AnsweringServer(lambda _: next(answers)) as server:
        handler, app = serve(server)
        got = post(app, "tried", YES, headers={"idempotency-key": "k", "accept-encoding": "br"})
        assert (got.status_code, got.json()["choices"][0]["message"]["content"]) == (200, "perhaps")
        assert got.headers["x-hag-constraint"] == "retry; not met after 2 attempts; a further one failed"
        assert got.json()["usage"] == {"prompt_tokens": 10, "completion_tokens": 6}
        app.close()
    with AnsweringServer(lambda _: (429, {"error": {"message": "later"}})) as server:
        handler, app = serve(server)
        got = post(app, "tried", YES)
        assert (got.status_code, got.json()) == (429, {"error": {"message": "later"}})
        assert got.headers["x-hag-constraint"] == "retry; not checked: the answer is an error"
        assert handler.constraints == {"retry_not_checked": 1}
        app.close()


def test_attempts_bear_names_of_their_own_and_come_readable():
    server = EchoServer()
    _, app = serve(server)
    post(app, "tried", YES, headers={"idempotency-key": "k"})
    assert [one["idempotency-key"] for one in server.headers] == ["k", "k-1", "k-2", "k-3"]
    assert {one["accept-encoding"] for one in server.headers} == {"identity"}
    assert not [name for one in server.headers for name in one if name.startswith("x-hag")]
    server.close()
    app.close()


@pytest.mark.parametrize(
    ("path", "answer", "usage"),
    [
        ("/v1/completions", {"choices": [{"text": "{}"}]}, {"completion_tokens": 1}),
        (
            "/v1/responses",
            {"output": [{"type": "message", "content": [{"type": "output_text", "text": "{}"}]}]},
            {"output_tokens": 1, "output_tokens_details": {"reasoning_tokens": 2}},
        ),
        ("/v1/messages", {"content": [{"type": "text", "text": "{}"}]}, {"output_tokens": 1, "service_tier": "x"}),
    ],
)
def test_every_endpoint_is_tried_again_and_told_its_words(path, answer, usage):
    with AnsweringServer(lambda _: {**json.loads(said.pop(0)), "usage": usage}) as server:
        _, app = serve(server)
        made = json.dumps(answer)
        said = [made, made, made.replace('"{}"', '"x yes"').replace("x ", "")]
        place = {"/v1/completions": "prompt", "/v1/responses": "input"}.get(path, "messages")
        told = {"messages": [{"role": "user", "content": "tried"}]} if place == "messages" else {place: "tried"}
        url, sent = f"{app.url}{path}", header(YES)
        got = httpx2.post(url, json={"model": "m", **told}, headers=sent)
        assert got.headers["x-hag-constraint"] == "retry; met after 3 attempts"
        assert "yes" in got.text
        counted = got.json()["usage"]
        assert counted.keys() == usage.keys()
        assert 3 in counted.values()
        assert counted.get("output_tokens_details", {"reasoning_tokens": 6}) == {"reasoning_tokens": 6}
        said = [made]
        told = {place: told[place].replace("tried", "asked") if place != "messages" else [
            {"role": "user", "content": "asked"}
        ]}  # fmt: skip
        httpx2.post(url, json={"model": "m", **told}, headers=sent)
        assert hag.Constraint(**YES).describe() in json.dumps(server.asked[-1][place]).replace('\\"', '"')
        app.close()


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/v1/responses", {"text": {"format": {"type": "json_schema"}}}),
        ("/v1/messages", {"output_config": {"format": {"type": "json_schema"}}}),
        ("/v1/completions", {"grammar": "root ::= x"}),
    ],
)
def test_forms_of_every_endpoint_are_known(path, own):
    with pytest.raises(InvalidInput, match="a form of the answer of its own"):
        rewrite(path, {"model": "m", **own}, make_policy(), constraint=hag.Constraint(**YES))
    plain = {"text": {"verbosity": "low"}, "output_config": {"effort": "low"}}
    rewrite(path, {"model": "m", **plain}, make_policy(), constraint=hag.Constraint(**YES))


def test_a_constraint_of_all_requests_and_of_one(upstream):
    client = openai.OpenAI(api_key="sk-x", base_url=upstream.url, max_retries=0)
    wrapped = hag.wrap(client, make_policy(), rules=RewriteRules("vllm"), constraint=YES)

    def send(**settings):
        wrapped.chat.completions.create(model="m", messages=[{"role": "user", "content": "masked"}], **settings)
        return upstream.asked[-1].get("structured_outputs")

    assert send() == {"choice": ["yes", "no"]}
    assert send(extra_headers=header({"regex": "a+"})) == {"regex": "a+"}
    assert send(extra_headers={"x-hag-constraint": ""}) is None, "none of this request's"
    with pytest.raises(InvalidInput, match="chioces"):
        hag.wrap(client, make_policy(), constraint={"chioces": ["yes"]})


def test_where_no_policy_decides_nothing_is_done_about_it(upstream):
    _, app = serve(upstream)
    for headers, body, reason in (
        ({"x-hag-skip": "1"}, {}, "skipped"),
        ({}, {"temperature": 0.123}, "no_config_agrees"),
    ):
        got = post(app, "masked", YES, headers=headers, **body)
        assert got.headers["x-hag-reason"] == reason
        assert got.headers["x-hag-constraint"] == "none"
        assert "structured_outputs" not in upstream.asked[-1]
    app.close()


def test_what_a_caller_fixes_and_cannot_be_is_told_as_dropped():
    fixed = {"constrain": "mask"}
    body, receipt = rewrite(
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "x"}]},
        WordPolicy(DecodingSpace([DecodingConfig(temperature=0.3)]), {}),
        RewriteRules("vllm"),
        fixed=fixed,
        constraint=hag.Constraint(max_words=3),
    )
    assert (receipt.constraint, receipt.dropped) == ("none", fixed)
    assert "structured_outputs" not in body


TWICE = {f"a{depth}": {"allOf": [{"$ref": f"#/$defs/a{depth + 1}"}] * 2} for depth in range(30)}


@pytest.mark.parametrize(
    ("constraint", "why"),
    [
        (SCHEMA, ""),
        (YES, ""),
        ({"regex": "[a-z]{1,40}"}, ""),
        ({"schema": {"type": "object", "properties": {"pattern": {"type": "string"}}}}, ""),
        ({"schema": {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}}, ""),
        ({"schema": {"type": "string", "pattern": "(a+)+b"}}, "pattern"),
        ({"schema": {"patternProperties": {"(a+)+b": {}}}}, "patternProperties"),
        ({"schema": {"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}}, "leads to itself"),
        ({"schema": {"$ref": "#/$defs/a"}}, "leads nowhere"),
        ({"schema": {"$ref": "#/$defs/a0", "$defs": {**TWICE, "a30": {}}}}, "1,000 parts"),
        ({"regex": "(a{0,100}){0,100}"}, "2,000 states"),
        ({"include": ["a" * 1001]}, "1,000 letters"),
    ],
)
def test_what_could_hold_up_others_is_not_checked(constraint, why):
    found = find_uncheckable(hag.Constraint.parse(constraint))
    assert (why in found) if why else (found == "")
    receipt = rewrite(
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "tried"}]},
        make_policy(),
        RewriteRules("vllm"),
        constraint=hag.Constraint.parse(constraint),
    )[1]
    assert (receipt.constraint == "retry") == (not why)


def test_an_answer_too_large_to_be_kept_is_handed_on_and_says_so(upstream, monkeypatch):
    monkeypatch.setattr("hagpolicy.serving.checked_app.MOST_BYTES", 10)
    handler, app = serve(upstream)
    got = post(app, "tried", YES)
    app.close()
    assert got.json()["choices"][0]["message"]["content"] == "well, perhaps"
    assert got.headers["x-hag-constraint"] == "retry; not checked: the answer is too large"
    assert (len(upstream.asked), handler.constraints) == (1, {"retry_not_checked": 1})


def test_an_answer_that_is_cut_is_handed_on_as_far_as_it_came():
    listening = socket.create_server(("127.0.0.1", 0))

    def cut():
        connection, _ = listening.accept()
        connection.recv(65536)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head + b'{"choices": ')
        connection.close()

    thread = threading.Thread(target=cut)
    thread.start()
    handler = RequestHandler(make_policy(), RewriteRules("vllm"))
    app = Serving(PolicyMiddleware(ForwardingApp(f"http://127.0.0.1:{listening.getsockname()[1]}"), handler))
    with pytest.raises(httpx2.RemoteProtocolError):
        post(app, "tried", YES)
    thread.join()
    assert handler.constraints == {"retry_not_checked": 1}
    app.close()
    listening.close()


def test_compressed_answers_are_read_and_come_plain_where_they_are_joined():
    """From a server that compresses though it was asked not to."""
    said = [json.dumps(say(text)).encode() for text in ("perhaps", "yes")]
    asked = []

    def answer(request):
        asked.append(request)
        headers = {"content-encoding": "gzip", "content-type": "application/json"}
        stream = httpx2.ByteStream(gzip.compress(said[len(asked) - 1]))
        return httpx2.Response(200, headers=headers, stream=stream)

    handler = RequestHandler(make_policy(), RewriteRules("vllm"))
    transport = PolicyTransport(handler, httpx2.MockTransport(answer))
    body = {"model": "m", "messages": [{"role": "user", "content": "tried"}]}
    with httpx2.Client(transport=transport) as client:
        got = client.post("http://server.invalid/v1/chat/completions", json=body, headers=header(YES))
        assert got.json()["usage"]["completion_tokens"] == 6
        assert "content-encoding" not in got.headers
        said[:] = [said[1]]
        asked.clear()
        got = client.post("http://server.invalid/v1/chat/completions", json=body, headers=header(YES))
        assert (got.json(), got.headers["content-encoding"]) == (json.loads(said[0]), "gzip"), "as it came"
    assert handler.constraints == {"retry_met": 2}


def test_a_body_too_large_to_be_read_says_that_nothing_is_done_about_its_constraint(upstream):
    handler = RequestHandler(make_policy(), RewriteRules("vllm"))
    app = ForwardingApp(upstream.url.removesuffix("/v1"))
    made = Serving(PolicyMiddleware(app, handler, most_bytes=2_000))
    client = openai.OpenAI(api_key="sk-x", base_url=f"{made.url}/v1", max_retries=0)
    given = {"model": "m", "messages": [{"role": "user", "content": "tried " * 1_000}]}
    try:
        raw = client.chat.completions.with_raw_response.create(**given, extra_headers=header(YES))
        assert (raw.headers["x-hag-reason"], raw.headers["x-hag-constraint"]) == ("too_large", "none")
        with pytest.raises(openai.BadRequestError, match="look-around"):
            client.chat.completions.create(**given, extra_headers=header({"regex": "(?=a)"}))
        assert "x-hag-constraint" not in client.chat.completions.with_raw_response.create(**given).headers
    finally:
        made.close()
    assert len(upstream.asked) == 2
    assert handler.constraints == {"none": 1}
