"""Real clients, unchanged, with a policy in their transport, on a server on a loopback socket."""

import asyncio
import gc
import json
import logging

import pytest

openai = pytest.importorskip("openai")

import httpx2  # noqa: E402

import hagpolicy as hag  # noqa: E402
from hagpolicy.config.config import DecodingConfig  # noqa: E402
from hagpolicy.config.space import DecodingSpace  # noqa: E402
from hagpolicy.errors import InvalidInput  # noqa: E402
from hagpolicy.serving.handler import RequestHandler  # noqa: E402
from hagpolicy.serving.rewrite import RewriteRules  # noqa: E402
from hagpolicy.serving.transport import AsyncPolicyTransport, PolicyTransport  # noqa: E402
from tests.serving.wrapping import WordPolicy  # noqa: E402
from tests.support.echo_server import EchoServer  # noqa: E402

SPACE = DecodingSpace(
    [
        DecodingConfig(temperature=0.7),
        DecodingConfig(temperature=0.0),
        DecodingConfig(temperature=0.7, hint="Be brief."),
        DecodingConfig(temperature=1.0, top_k=20),
    ]
)
VLLM = RewriteRules("vllm")


@pytest.fixture
def policy():
    return WordPolicy(SPACE, {"greedy": 1, "hinted": 2, "topk": 3}, {"kind": "openai", "server": "vllm"})


@pytest.fixture
def server():
    made = EchoServer()
    yield made
    made.close()


def messages(text):
    return [{"role": "user", "content": text}]


def test_a_client_is_itself_but_for_what_its_requests_say(server, policy):
    plain = openai.OpenAI(api_key="k", base_url=server.url, timeout=20.0, max_retries=3)
    client = hag.wrap(plain, policy)
    assert type(client) is openai.OpenAI
    assert (client.timeout, client.max_retries, client.api_key, client.base_url) == (20.0, 3, "k", plain.base_url)
    client.chat.completions.create(model="m", messages=messages("greedy"), max_tokens=5)
    client.chat.completions.create(model="m", messages=messages("topk"), temperature=1.0, extra_body={"min_p": 0.3})
    client.chat.completions.create(model="m", messages=messages("hinted"))
    plain.chat.completions.create(model="m", messages=messages("greedy"))
    first, second, third, last = server.asked
    assert (first["temperature"], first["max_tokens"]) == (0.0, 5)
    assert (second["temperature"], second["top_k"], second["min_p"]) == (1.0, 20, 0.3)
    assert third["messages"][0]["content"] == "hinted\n\nBe brief."
    assert last == {"model": "m", "messages": messages("greedy")}, "the client that was given is left as it is"


def test_raw_responses_bear_the_receipt_and_options_stay(server, policy):
    client = hag.wrap(openai.OpenAI(api_key="k", base_url=server.url), policy)
    raw = client.with_options(timeout=9.0, max_retries=0).chat.completions.with_raw_response.create(
        model="m", messages=messages("topk"), extra_headers={"x-hag-task": "json", "x-hag-odd": "1"}
    )
    assert raw.headers["x-hag-reason"] == "best_by_margin; ignored x-hag-odd"
    assert json.loads(raw.headers["x-hag-config"]) == {"top_k": 20}
    assert "top_k" in raw.headers["x-hag-applied"].split(", ")
    assert int(raw.headers["x-hag-overhead-us"]) > 0
    assert not any(name.startswith("x-hag") for name in server.headers[0])
    assert raw.parse().choices[0].message.content
    assert policy.turned[-1]["task"] == "json"


def test_streams_and_openais_own_stream_helpers(server, policy):
    client = hag.wrap(openai.OpenAI(api_key="k", base_url=server.url), policy)
    chunks = client.chat.completions.create(model="m", messages=messages("greedy"), stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two"
    with client.chat.completions.stream(model="m", messages=messages("greedy")) as stream:
        assert stream.get_final_completion().choices[0].message.content == "one two"
    assert [body["temperature"] for body in server.asked] == [0.0, 0.0]


def test_an_asynchronous_client_under_many_tasks(server, policy):
    words = ["greedy", "topk", "hinted", "nothing"]
    expected = {"greedy": 0.0, "topk": 1.0, "hinted": 0.7, "nothing": 0.7}

    async def ask():
        client = hag.wrap(openai.AsyncOpenAI(api_key="k", base_url=server.url), policy)
        calls = [client.chat.completions.create(model="m", messages=messages(words[at % 4])) for at in range(32)]
        answers = await asyncio.gather(*calls)
        stream = await client.chat.completions.create(model="m", messages=messages("greedy"), stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        await client.close()
        return answers, text

    answers, text = asyncio.run(ask())
    sent = [json.loads(answer.choices[0].message.content) for answer in answers]
    assert [body["temperature"] for body in sent] == [expected[words[at % 4]] for at in range(32)]
    assert text == "one two"


def test_a_retry_is_the_same_request(server, policy):
    client = hag.wrap(openai.OpenAI(api_key="k", base_url=server.url, max_retries=2), policy)
    server.fail = 1
    client.chat.completions.create(model="m", messages=messages("topk"))
    assert len(server.asked) == 2
    assert server.asked[0] == server.asked[1]


def test_other_requests_and_settings_that_leave_no_choice_go_out_as_they_came(server, policy):
    receipts = []
    client = hag.wrap(openai.OpenAI(api_key="k", base_url=server.url), policy, on_receipt=receipts.append)
    client.embeddings.with_raw_response.create(model="m", input="greedy", encoding_format="float")
    client.chat.completions.create(model="m", messages=messages("greedy"), temperature=0.31)
    client.chat.completions.create(model="m", messages=messages("greedy"), extra_headers={"x-hag-skip": "1"})
    assert server.asked[0] == {"model": "m", "input": "greedy", "encoding_format": "float"}
    assert server.asked[1] == {"model": "m", "messages": messages("greedy"), "temperature": 0.31}
    assert server.asked[2] == {"model": "m", "messages": messages("greedy")}
    assert [receipt.reason for receipt in receipts] == ["no_config_agrees", "skipped"]


def test_overruled_fields_are_told(server, policy):
    receipts = []
    plain = openai.OpenAI(api_key="k", base_url=server.url)
    client = hag.wrap(plain, policy, overrule=["temperature"], on_receipt=receipts.append)
    raw = client.chat.completions.with_raw_response.create(model="m", messages=messages("greedy"), temperature=0.31)
    assert server.asked[0]["temperature"] == 0.0
    assert raw.headers["x-hag-overruled"] == "temperature"
    assert receipts[0].overruled == {"temperature": 0.31}


def test_a_client_takes_rules_by_model(server, policy):
    rules = {
        "small": hag.RewriteRules("vllm", overrule=("temperature",)),
        "picky": hag.RewriteRules("vllm", lacks=("top_k",)),
    }
    client = hag.wrap(openai.OpenAI(api_key="k", base_url=server.url), policy, rules=rules)
    for model, text, reason in (
        ("small", "greedy", "best_by_margin"),
        ("other", "greedy", "no_config_agrees"),
        ("picky", "topk", "no_config_agrees"),
    ):
        asked = {"model": model, "messages": messages(text), "temperature": 0.31}
        answer = client.chat.completions.with_raw_response.create(**asked)
        assert answer.headers["x-hag-reason"] == reason
        assert answer.headers.get("x-hag-overruled") == ("temperature" if model == "small" else None)
    client.chat.completions.create(model="other", messages=messages("topk"))
    client.chat.completions.create(model="picky", messages=messages("topk"))
    assert ["top_k" in body for body in server.asked[-2:]] == [True, False]
    assert server.asked[-2]["top_k"] == 20  # of the server that was swept, where no rules are given for the model


def test_a_policy_that_fails_never_fails_a_call(server, policy, caplog):
    def fail(*_, **__):
        raise RuntimeError("the words of a secret prompt")

    policy.decide = fail
    client = hag.wrap(openai.OpenAI(api_key="sk-secret", base_url=server.url), policy)
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            client.chat.completions.create(model="m", messages=messages("greedy"))
    assert [body for body in server.asked if "temperature" in body] == []
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("hagpolicy")]
    assert ours == ["a request went out without the policy, which failed: RuntimeError"]


def test_a_wrapped_client_outlives_the_one_it_was_made_of(server, policy):
    client = hag.wrap(openai.OpenAI(api_key="k", base_url=server.url), policy)
    gc.collect()
    for _ in range(2):
        client.chat.completions.create(model="m", messages=messages("greedy"))
        gc.collect()
    client.close()
    with pytest.raises(RuntimeError):
        client.chat.completions.create(model="m", messages=messages("greedy"))


def test_any_client_of_httpx_takes_the_transport(server, policy):
    handler = RequestHandler(policy, VLLM)
    with httpx2.Client(transport=PolicyTransport(handler, httpx2.HTTPTransport())) as client:
        body = {"model": "m", "prompt": "greedy"}
        response = client.post(f"{server.url}/completions", json=body)
        assert server.asked[-1]["temperature"] == 0.0
        assert response.headers["x-hag-reason"] == "best_by_margin"
        broken = b'{"model": "m", "prompt": "greedy", "temperature": 1e999}'
        response = client.post(f"{server.url}/completions", content=broken)
        assert response.headers["x-hag-reason"] == "not_json"

    async def ask():
        transport = AsyncPolicyTransport(handler, httpx2.AsyncHTTPTransport())
        async with httpx2.AsyncClient(transport=transport) as client:
            return await client.post(f"{server.url}/completions", json=body)

    assert asyncio.run(ask()).headers["x-hag-reason"] == "best_by_margin"
    assert handler.counts == {"best_by_margin": 2, "not_json": 1}


def test_older_httpx_takes_it_too(server, policy):
    httpx = pytest.importorskip("httpx")
    handler = RequestHandler(policy, VLLM)
    with httpx.Client(transport=PolicyTransport(handler, httpx.HTTPTransport())) as client:
        client.post(f"{server.url}/completions", json={"model": "m", "prompt": "greedy"})
    assert server.asked[-1]["temperature"] == 0.0


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b"{", b'"x"', b'{"a": 1, "a": 2}', b'{"a": NaN}', b"\xff\xfe", b'{"a":' * 100_000],
    ids=["empty", "list", "cut", "string", "twice", "nan", "bytes", "deep"],
)
def test_what_is_no_json_object_goes_out_as_it_came(policy, content):
    handled = RequestHandler(policy, VLLM).handle("/v1/completions", [], content)
    assert handled.content is content
    assert handled.receipt.reason == "not_json"


@pytest.mark.parametrize(
    ("headers", "ignored"),
    [
        ([("x-hag-price", "nan")], "x-hag-price"),
        ([("X-HAG-Fixed", '{"temperature": -1}')], "x-hag-fixed"),
        ([("x-hag-fixed", "[1]")], "x-hag-fixed"),
        ([("x-hag-skip", "maybe")], "x-hag-skip"),
        ([("x-hag-task", "a"), ("x-hag-task", "b")], "x-hag-task"),
        ([("x-hag-unknown\x00é", "1")], "x-hag-unknown??"),
    ],
)
def test_headers_that_cannot_be_read_are_ignored_and_named(policy, headers, ignored):
    handler = RequestHandler(policy, VLLM)
    handled = handler.handle("/v1/completions", headers, b'{"prompt": "greedy"}')
    assert json.loads(handled.content)["temperature"] == 0.0
    assert handled.headers["x-hag-reason"] == f"best_by_margin; ignored {ignored}"
    assert handler.ignored == 1


@pytest.mark.parametrize("dial", ["", "price"])
def test_a_price_that_the_policy_cannot_be_asked_is_ignored_and_named(dial):
    handler = RequestHandler(WordPolicy(SPACE, {"greedy": 1}, dial=dial), VLLM)
    for price in ("0.5", "1e9"):
        content = json.dumps({"model": f"m@{price}" if price == "1e9" else "m", "prompt": "greedy"}).encode()
        handled = handler.handle("/v1/completions", [("x-hag-price", price)], content)
        ignored = "" if dial and price == "0.5" else "; ignored x-hag-price"
        assert handled.headers["x-hag-reason"] == f"best_by_margin{ignored}"
        assert json.loads(handled.content)["model"] == json.loads(content)["model"]


def test_a_pseudo_model_that_is_to_be_skipped_is_sent_by_its_own_name():
    handler = RequestHandler({"m": WordPolicy(SPACE, {"greedy": 1}, dial="price")})
    skip = [("x-hag-skip", "1")]
    handled = handler.handle("/v1/completions", skip, b'{"model": "m@0.5", "prompt": "greedy"}')
    assert json.loads(handled.content) == {"model": "m", "prompt": "greedy"}
    assert (handled.receipt.reason, handled.policy) == ("skipped", "")
    for body in (b'{"model": "m", "prompt": "greedy"}', b'{"model": "other@0.5"}', b"no json"):
        handled = handler.handle("/v1/completions", skip, body)
        assert (handled.content, handled.receipt.reason) == (body, "skipped")


def test_a_pseudo_model_whose_policy_fails_is_sent_by_its_own_name(monkeypatch):
    policy = WordPolicy(SPACE, {}, dial="price")
    monkeypatch.setattr(policy, "decide", None)
    handled = RequestHandler({"m": policy}).handle("/v1/completions", [], b'{"model": "m@0.5", "prompt": "x"}')
    assert (handled.content, handled.receipt.reason) == (b'{"model":"m","prompt":"x"}', "failed")


def test_a_policy_that_reads_no_text_is_refused():
    policy = WordPolicy(SPACE)
    policy.reads_text = False
    with pytest.raises(InvalidInput, match="one that reads texts"):
        RequestHandler(policy)


def test_a_receipt_of_another_policy_behind_it_is_not_taken_for_ours(server, policy):
    handler = RequestHandler(policy, VLLM)
    inner = PolicyTransport(RequestHandler(WordPolicy(SPACE, {}), VLLM), httpx2.HTTPTransport())
    with httpx2.Client(transport=PolicyTransport(handler, inner)) as client:
        answer = client.post(f"{server.url}/completions", json={"model": "m", "prompt": "greedy"})
    assert answer.headers.get_list("x-hag-reason") == ["best_by_margin"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_of_another_model_is_told_once_to_clients_of_both_kinds(server, caplog, stream):
    handler = RequestHandler(WordPolicy(SPACE, {"greedy": 1}, {"model": "org/Fitted-7B"}), VLLM)
    body = {"model": "m", "prompt": "greedy", "stream": stream}

    async def ask():
        async with httpx2.AsyncClient(transport=AsyncPolicyTransport(handler, httpx2.AsyncHTTPTransport())) as client:
            await client.post(f"{server.url}/completions", json=body)

    with caplog.at_level("WARNING"):
        asyncio.run(ask())
        assert caplog.text.count("fitted on 'org/Fitted-7B' and 'm' answers") == 1
        with httpx2.Client(transport=PolicyTransport(handler, httpx2.HTTPTransport())) as client:
            client.post(f"{server.url}/completions", json=body)
    assert caplog.text.count("fitted on 'org/Fitted-7B' and 'm' answers") == 1


def test_fixed_fields_of_a_header_are_kept(policy):
    handler = RequestHandler(policy, VLLM)
    handled = handler.handle("/v1/completions", [("x-hag-fixed", '{"temperature": 0.7}')], b'{"prompt": "greedy"}')
    assert json.loads(handled.content)["temperature"] == 0.7


def test_policies_by_model_and_at_a_price():
    cheap, rich = WordPolicy(SPACE, {}, dial="price"), WordPolicy(SPACE, {"x": 3})
    handler = RequestHandler({"cheap": cheap, "*": rich}, {"*": VLLM, "cheap": RewriteRules("openai")})

    def send(model):
        return json.loads(
            handler.handle("/v1/completions", [], json.dumps({"model": model, "prompt": "x"}).encode()).content
        )

    assert send("cheap@0.5")["model"] == "cheap"
    assert cheap.turned[-1]["price"] == 0.5
    assert "top_k" not in send("cheap")
    assert send("another") == {"model": "another", "prompt": "x"} | send("another")
    assert send("another")["top_k"] == 20
    assert send("another@0.5")["model"] == "another@0.5"
    anywhere = RequestHandler(cheap)
    for model, sent in [("other@0.5", "other"), ("chat@001", "chat@001"), ("chat@20240620", "chat@20240620")]:
        content = json.dumps({"model": model, "prompt": "x"}).encode()
        assert json.loads(anywhere.handle("/v1/completions", [], content).content)["model"] == sent
    only = RequestHandler({"a": rich})
    content = b'{"model": "b", "prompt": "x"}'
    handled = only.handle("/v1/completions", [], content)
    assert handled.content is content
    assert handled.receipt.reason == "other_model"
