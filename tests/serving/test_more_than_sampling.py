"""A policy over adapters, thinking and soft prefixes behind middleware, proxy and client, on real sockets."""

import json

import pytest

openai = pytest.importorskip("openai")
pytest.importorskip("uvicorn")

import hagpolicy as hag  # noqa: E402
from hagpolicy import DecodingConfig, DecodingSpace  # noqa: E402
from hagpolicy.serving.asgi import PolicyMiddleware  # noqa: E402
from hagpolicy.serving.handler import RequestHandler  # noqa: E402
from hagpolicy.serving.proxy import ForwardingApp  # noqa: E402
from hagpolicy.serving.rewrite import RewriteRules  # noqa: E402
from tests.serving.wrapping import WordPolicy  # noqa: E402
from tests.support.asgi_server import Serving  # noqa: E402
from tests.support.echo_server import EchoServer  # noqa: E402

PIN = "@0123456789abcdef"
SPACE = DecodingSpace(
    [
        DecodingConfig(temperature=0.0),
        DecodingConfig(temperature=0.0, adapter=f"sql{PIN}"),
        DecodingConfig(temperature=0.0, thinking=False),
        DecodingConfig(temperature=0.0, soft_prefix=f"qa{PIN}"),
        DecodingConfig(temperature=0.0, hint="Cover: {keywords}"),
        DecodingConfig(temperature=0.0, reference=f"faq{PIN}", reference_weight=0.5),
    ]
)
WORDS = {"select": 1, "quickly": 2, "softly": 3, "slots": 4, "known": 5}
FITTED = {"kind": "transformers", "model": "owner/base"}
OFF = {"enable_thinking": False, "thinking": False}


def make_policy():
    return WordPolicy(SPACE, WORDS, fingerprint=FITTED)


@pytest.fixture
def upstream():
    made = EchoServer()
    yield made
    made.close()


@pytest.fixture(params=["proxy", "client"])
def ask(request, upstream):
    """Ask by the official client, through the middleware before the proxy or wrapped itself; body sent and receipt."""
    rules = RewriteRules("vllm", adapters={"sql": "sql-lora"})
    seen, handler = [], RequestHandler(make_policy(), rules, on_receipt=lambda receipt: seen.append(receipt))
    app = Serving(PolicyMiddleware(ForwardingApp(upstream.url), handler)) if request.param == "proxy" else None
    client = openai.OpenAI(api_key="sk-x", base_url=f"{app.url if app else upstream.url}/v1", max_retries=0)
    if app is None:
        client = hag.wrap(client, make_policy(), rules=rules, on_receipt=lambda receipt: seen.append(receipt))

    def send(text, **settings):
        messages = [{"role": "user", "content": text}]
        raw = client.chat.completions.with_raw_response.create(model="base", messages=messages, **settings)
        return upstream.asked[-1], seen[-1], raw.headers

    yield send
    client.close()
    if app is not None:
        app.close()


def test_an_adapter_and_a_switch_arrive_with_their_receipts(ask):
    body, receipt, _ = ask("select it")
    assert body["model"] == "sql-lora"
    assert receipt.decision.config.adapter == f"sql{PIN}"
    assert receipt.applied["model"] == "sql-lora"
    body, receipt, _ = ask("quickly")
    assert (body["model"], body["chat_template_kwargs"]) == ("base", OFF)
    assert receipt.fields["chat_template_kwargs.enable_thinking"] == "thinking"
    body, receipt, _ = ask("slots of trains and harbours")
    assert "Cover: slots, trains, harbours" in body["messages"][0]["content"]
    body, receipt, _ = ask("quickly", extra_body={"chat_template_kwargs": {"enable_thinking": True, "own": 1}})
    assert body["chat_template_kwargs"] == {"enable_thinking": True, "own": 1}
    assert receipt.decision.config.thinking is not False


@pytest.mark.parametrize("ask", ["proxy"], indirect=True)
def test_the_proxy_says_what_it_chose_and_sent(ask):
    _, _, headers = ask("select it")
    assert json.loads(headers["x-hag-config"])["adapter"] == f"sql{PIN}"
    assert "model" in headers["x-hag-applied"].split(", ")
    _, _, headers = ask("quickly")
    assert "chat_template_kwargs" in headers["x-hag-applied"].split(", ")


@pytest.mark.parametrize("text", ["softly", "known"])
def test_what_the_upstream_does_not_have_never_gets_there(ask, text):
    body, receipt, _ = ask(text)
    assert receipt.decision.config in (SPACE[0], SPACE[1], SPACE[2], SPACE[4])
    said = json.dumps(body)
    assert not any(word in said for word in ("soft_prefix", "reference", "qa@", "faq", PIN))


def test_an_adapter_that_was_asked_for_is_no_other_model(caplog):
    """Servers name the adapter as the model that answers; only a model that is none of these is another one."""
    handler = RequestHandler(make_policy(), RewriteRules("vllm", adapters={"sql": "sql-lora"}))
    asked = json.dumps({"model": "base", "messages": [{"role": "user", "content": "select it"}]}).encode()
    handled = handler.handle("/v1/chat/completions", [], asked)
    for answered, other in (("sql-lora", False), ("base", False), ("owner/base", False), ("something else", True)):
        found = handler.examine_answer(handled, json.dumps({"model": answered, "choices": []}).encode())
        assert found.other_model is other, answered
    assert caplog.text.count("answers: what was proven") == 1
