"""Live traffic: draws and arms, the ids that attempts keep, what the log holds of it, and rewards."""

import asyncio
import json
import re
import sqlite3
from collections import Counter

import numpy as np
import pytest

httpx2 = pytest.importorskip("httpx2")

import hagpolicy as hag  # noqa: E402
from hagpolicy.data.decision_log import find_key  # noqa: E402
from hagpolicy.data.traffic import read_traffic  # noqa: E402
from hagpolicy.errors import InvalidInput  # noqa: E402
from hagpolicy.serving.asgi import PolicyMiddleware, read_environment  # noqa: E402
from hagpolicy.serving.exploration import Exploration  # noqa: E402
from hagpolicy.serving.handler import RequestHandler  # noqa: E402
from hagpolicy.serving.live import LiveSettings  # noqa: E402
from hagpolicy.serving.rewrite import RewriteRules, rewrite  # noqa: E402
from hagpolicy.serving.transport import AsyncPolicyTransport, PolicyTransport  # noqa: E402
from tests.serving.wrapping import WordPolicy  # noqa: E402
from tests.support import making  # noqa: E402

SPACE = hag.DecodingSpace(
    [
        hag.DecodingConfig(temperature=0.7),
        hag.DecodingConfig(temperature=0.0),
        hag.DecodingConfig(temperature=0.7, hint="Be brief."),
        hag.DecodingConfig(temperature=1.0, top_k=20),
    ]
)
URL = "http://server.invalid/v1/chat/completions"
PATH = "/v1/chat/completions"


@pytest.fixture
def policy():
    return WordPolicy(SPACE, {"greedy": 1, "hinted": 2, "topk": 3})


@pytest.fixture
def make(policy, tmp_path):
    def made(log="log.db", policies=None, **settings):
        rules = RewriteRules("vllm")
        return RequestHandler(policies or policy, rules, live=LiveSettings(tmp_path / log, **settings))

    return made


def encode(text="greedy", **more):
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more}).encode()


def ask(handler, id=None, content=None, **headers):
    given = [(f"x-hag-{name.replace('_', '-')}", value) for name, value in headers.items()]
    return handler.handle(PATH, [*given, *([("x-hag-request-id", id)] if id else [])], content or encode())


def rows(handler):
    handler.flush()
    with sqlite3.connect(handler.traffic.log.path) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM calls ORDER BY number")]


def answer(status=200, tokens=7):
    def respond(request):
        return httpx2.Response(status, json={"choices": [], "usage": {"completion_tokens": tokens}})

    return httpx2.MockTransport(respond)


def test_the_draw_is_uniform_among_what_can_be_had_with_its_whole_probability():
    allowed = np.array([True, False, True, True, True])
    drawn = [Exploration(0.25, first, second).draw(2, allowed) for first in (0.1, 0.3) for second in (0.0, 0.3, 0.99)]
    assert [one.chosen for one in drawn] == [0, 2, 4, 2, 2, 2]
    assert [one.explored for one in drawn] == [True] * 3 + [False] * 3
    assert [one.propensity for one in drawn[:3]] == [0.0625, 0.8125, 0.0625]
    assert {one.choices for one in drawn} == {4}


def test_propensities_are_those_of_the_draws(make):
    handler, count = make(explore=0.4), 2_000
    for at in range(count):
        ask(handler, f"id-{at}")
    handler.flush()
    found = read_traffic(handler.traffic.log.path).decisions
    for index in range(len(SPACE)):
        taken = found.chosen == index
        expected = 0.1 + 0.6 * (index == 1)
        assert set(found.propensity[taken].tolist()) == {expected}
        assert abs(taken.mean() - expected) < 4.0 * np.sqrt(expected * (1.0 - expected) / count)
    reasons = Counter(row["reason"] for row in rows(handler))
    assert reasons["explored"] + reasons["best_by_margin"] == count


def test_a_draw_agrees_with_what_the_caller_fixed_and_the_server_takes(make, policy):
    handler = make(explore=1.0)
    fixed = encode(temperature=0.7)
    handled = [ask(handler, f"id-{at}", fixed) for at in range(200)]
    assert {one.receipt.decision.index for one in handled} == {0, 2}
    assert {one.receipt.draw.choices for one in handled} == {2}
    assert all(json.loads(one.content)["temperature"] == 0.7 for one in handled)
    assert {row["fixed"] for row in rows(handler)} == {'{"temperature":0.7}'}
    bare = {"model": "m", "prompt": [1, 2, 3]}  # without text, so without hints
    draws = [rewrite("/v1/completions", bare, policy, explore=Exploration(1.0, 0.0, at / 50)) for at in range(50)]
    assert {receipt.decision.index for _, receipt in draws} == {0, 1}  # the plain server knows no top_k
    none = ask(handler, "odd", encode(temperature=0.31))
    assert (none.receipt.reason, none.receipt.draw) == ("no_config_agrees", None)


def test_an_id_has_one_draw_whoever_decides_it_and_another_log_another(make):
    one, two, other = make(explore=0.9), make(explore=0.9), make("other.db", explore=0.9)
    drawn = [[ask(handler, f"id-{at}").receipt.draw for at in range(40)] for handler in (one, two, other)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_nothing_is_drawn_where_nothing_was_asked_for(make, policy):
    handler = make()
    handled = ask(handler)
    assert handled.receipt.draw is None
    assert handled.headers["x-hag-request-id"] == handled.receipt.request_id
    assert "x-hag-experiment" not in handled.headers
    plain = RequestHandler(policy, RewriteRules("vllm"))
    assert (plain.traffic, plain.handle(PATH, [], encode()).call) == (None, None)
    (row,) = rows(handler)
    assert (row["propensity"], row["choices"], row["arm"], row["reason"]) == (1.0, 0, "", "best_by_margin")


def test_an_experiment_assigns_units_and_leaves_the_default_arm_as_it_came(make):
    handler = make(experiment=0.3)
    contents = {at: encode(user=f"user {at}") for at in range(400)}
    arms = {at: ask(handler, content=content).receipt.arm for at, content in contents.items()}
    again = {at: ask(handler, content=encode("hinted", user=f"user {at}")).receipt.arm for at in contents}
    assert arms == again
    assert 0.2 < np.mean([arm == "policy" for arm in arms.values()]) < 0.4
    default = next(at for at, arm in arms.items() if arm == "default")
    handled = ask(handler, content=contents[default])
    assert handled.content is contents[default]
    assert handled.receipt.reason == "experiment_default"
    assert handled.headers["x-hag-experiment"] == "default; by unit"
    found = read_traffic(handler.traffic.log.path).decisions if not handler.flush() else None
    assert found.share == 0.3
    assert len(set(found.unit.tolist())) == 400
    assert (found.chosen[~found.by_policy] == -1).all()


def test_a_larger_share_keeps_the_units_that_the_policy_had(make):
    small, large = make(experiment=0.3), make(experiment=0.6)
    before, after = ([ask(one, unit=f"u{at}").receipt.arm for at in range(200)] for one in (small, large))
    assert all(new == "policy" for old, new in zip(before, after, strict=True) if old == "policy")


@pytest.mark.parametrize(
    ("headers", "more", "unit"),
    [
        ({"unit": "a"}, {"user": "b", "safety_identifier": "c"}, "a"),
        ({}, {"user": "b", "safety_identifier": "c"}, "c"),
        ({}, {"user": "b", "prompt_cache_key": "k"}, "b"),
        ({}, {"metadata": {"user_id": "d"}}, "d"),
        ({}, {"user": "", "metadata": {"user_id": 3}, "prompt_cache_key": "k"}, None),
        ({}, {"user": ["b"]}, None),
    ],
)
def test_who_is_assigned(make, headers, more, unit):
    handler = make(experiment=0.5)
    first, second = (ask(handler, content=encode(text, **more), **headers) for text in ("greedy", "topk"))
    assert first.receipt.by_request == (unit is None)
    assert first.headers["x-hag-experiment"].endswith("by request" if unit is None else "by unit")
    units = [row["unit"] for row in rows(handler)]
    if unit is None:
        assert len(set(units)) == 2
    else:
        assert units == [handler.traffic.name_unit("unit", unit)] * 2
        assert first.receipt.arm == second.receipt.arm


def test_no_credential_names_a_unit_or_a_call(make):
    handler = make(experiment=0.5)
    for key in ("one", "two"):
        handler.handle(PATH, [("authorization", f"Bearer {key}"), ("x-api-key", key)], encode(user="u"))
        handler.handle(PATH, [("authorization", f"Bearer {key}"), ("x-api-key", key)], encode())
    named, alone, again, other = (row["unit"] for row in rows(handler))
    assert named == again
    assert len({named, alone, other}) == 3


def test_a_pseudo_model_is_named_as_it_is_in_the_default_arm_too(tmp_path):
    policy = WordPolicy(SPACE, {}, dial="price")
    handler = RequestHandler({"m": policy}, live=LiveSettings(tmp_path / "log.db", experiment=0.5))
    handled = [ask(handler, content=json.dumps({"model": "m@2", "prompt": f"{at}"}).encode()) for at in range(40)]
    assert {one.receipt.arm for one in handled} == {"policy", "default"}
    assert {json.loads(one.content)["model"] for one in handled} == {"m"}


def test_requests_that_are_not_the_policys_have_no_arm(make):
    handler = make(experiment=0.5)
    assert ask(handler, skip="1").receipt.arm == ""
    assert ask(handler, content=b"{").receipt.arm == ""
    assert [row["reason"] for row in rows(handler)] == ["skipped", "not_json"]


def test_a_policy_that_fails_stays_in_its_arm(make, policy):
    handler = make(experiment=0.999)
    policy.decide = None
    handled = ask(handler, unit="u")
    assert (handled.receipt.reason, handled.receipt.arm) == ("failed", "policy")
    (row,) = rows(handler)
    assert (row["arm"], row["policy"], row["config"]) == ("policy", 1, None)


def test_a_log_that_fails_never_fails_a_call(make, monkeypatch, caplog):
    handler = make(explore=0.5)
    monkeypatch.setattr(handler.traffic, "add", lambda *_: 1 / 0)
    assert json.loads(ask(handler).content)["temperature"] is not None
    monkeypatch.setattr(handler.traffic, "begin", lambda *_: 1 / 0)
    assert ask(handler).receipt.reason == "best_by_margin"
    assert "ZeroDivisionError" in caplog.text


def test_what_names_a_call(make):
    handler = make(explore=0.5)
    assert ask(handler, "mine:1").receipt.request_id == "mine:1"
    key = [("Idempotency-Key", "secret words")]
    first, second = (handler.handle(PATH, key, encode()).receipt.request_id for _ in range(2))
    assert first == second
    assert re.fullmatch("[0-9a-f]{32}", first)
    gateway = [("x-request-id", "page-7")]
    assert len({handler.handle(PATH, gateway, encode()).receipt.request_id for _ in range(2)}) == 2
    bad = handler.handle(PATH, [("x-hag-request-id", "two words")], encode())
    assert bad.headers["x-hag-reason"].endswith("ignored x-hag-request-id")
    assert bad.receipt.request_id != "two words"


def test_an_attempt_that_counts_itself_keeps_the_decision_of_the_one_that_failed(make):
    handler = make(explore=1.0)

    def attempt(number, status, content=None):
        handled = handler.handle(PATH, [("x-stainless-retry-count", str(number))], content or encode())
        handled.call.status, handled.call.whole = status, status == 200
        handled.call.end()
        return handled

    one, well = attempt(0, 503), attempt(0, 200)
    again = attempt(1, None)
    assert again.receipt.request_id == one.receipt.request_id != well.receipt.request_id
    assert again.content == one.content
    assert attempt(1, 200, encode("topk")).receipt.request_id != one.receipt.request_id
    last = attempt(2, 200)
    assert last.content == one.content
    assert attempt(1, 200).receipt.request_id != one.receipt.request_id, "nothing of this body has failed since"
    kept = {row["id"]: (row["attempts"], row["status"]) for row in rows(handler)}
    assert kept[one.receipt.request_id] == (3, 200)
    assert kept[well.receipt.request_id] == (1, 200)


def test_an_answer_that_was_cut_is_one_that_failed(make):
    handler = make(explore=1.0)
    cut = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Chunks([b"a"], httpx2.ReadError("cut"))))
    with httpx2.Client(transport=PolicyTransport(handler, cut)) as client, pytest.raises(httpx2.ReadError):
        client.post(URL, content=encode())
    with httpx2.Client(transport=PolicyTransport(handler, answer())) as client:
        client.post(URL, content=encode(), headers={"x-stainless-retry-count": "1"})
    (row,) = rows(handler)
    assert (row["attempts"], row["status"]) == (2, 200)


def test_of_calls_with_one_body_each_keeps_one_decision(make):
    handler = make(explore=1.0)
    first = [handler.handle(PATH, [], encode()) for _ in range(20)]
    for handled in first:
        handled.call.status = 500
        handled.call.end()
    again = [handler.handle(PATH, [("x-stainless-retry-count", "1")], encode()) for _ in range(20)]
    sent = {one.receipt.request_id: one.content for one in first}
    assert {one.receipt.request_id: one.content for one in again} == sent
    assert len(sent) == 20


def test_real_clients_keep_their_decision_over_attempts(make):
    openai = pytest.importorskip("openai")
    statuses = [503, 429, 200]
    bodies = []

    def respond(request):
        bodies.append(request.read())
        message = {"role": "assistant", "content": "x"}
        said = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return httpx2.Response(statuses.pop(0), json={**said, "choices": [choice]}, headers={"retry-after-ms": "1"})

    handler = make(explore=1.0)
    transport = PolicyTransport(handler, httpx2.MockTransport(respond))
    client = openai.OpenAI(
        api_key="k", base_url="http://server.invalid/v1", max_retries=2, http_client=httpx2.Client(transport=transport)
    )
    given = [{"role": "user", "content": "greedy"}]
    raw = client.chat.completions.with_raw_response.create(model="m", messages=given)
    assert len(set(bodies)) == 1
    (row,) = rows(handler)
    assert (row["id"], row["attempts"], row["status"]) == (raw.headers["x-hag-request-id"], 3, 200)


def test_the_answer_is_logged_of_both_kinds_of_clients(make):
    handler = make()
    with httpx2.Client(transport=PolicyTransport(handler, answer(tokens=11))) as client:
        assert client.post(URL, content=encode()).json()["usage"] == {"completion_tokens": 11}

    async def post():
        transport = AsyncPolicyTransport(handler, answer(429, 12))
        async with httpx2.AsyncClient(transport=transport) as client:
            return (await client.post(URL, content=encode())).json()

    assert asyncio.run(post())["usage"] == {"completion_tokens": 12}
    first, second = rows(handler)
    assert [(row["status"], row["tokens"]) for row in (first, second)] == [(200, 11), (429, 12)]
    assert first["seconds"] > 0.0


class Chunks(httpx2.SyncByteStream):
    def __init__(self, chunks, error=None):
        self.chunks, self.error = chunks, error

    def __iter__(self):
        yield from self.chunks
        if self.error is not None:
            raise self.error


def test_a_stream_passes_chunk_by_chunk_and_its_tokens_are_those_of_its_end(make):
    handler = make()
    text = b'data: {"delta": "\\"completion_tokens\\": 99"}\n\n'
    chunks = [
        text,
        b"x" * 50_000,
        b'data: {"usage": {"output_tokens":',
        b' 31, "output_tokens_details": {}}}\n\n',
        text,
    ]
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Chunks(chunks)))
    with httpx2.Client(transport=PolicyTransport(handler, transport)) as client, client.stream("POST", URL) as got:
        assert list(got.iter_raw()) == chunks
    (row,) = rows(handler)
    assert (row["status"], row["tokens"]) == (200, 31)


def test_a_call_without_an_answer_is_in_the_log_all_the_same(make):
    handler = make()

    def refuse(_):
        raise httpx2.ConnectError("no server")

    with (
        httpx2.Client(transport=PolicyTransport(handler, httpx2.MockTransport(refuse))) as client,
        pytest.raises(httpx2.ConnectError),
    ):
        client.post(URL, content=encode())
    cut = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Chunks([b"a"], httpx2.ReadError("cut"))))
    with httpx2.Client(transport=PolicyTransport(handler, cut)) as client, pytest.raises(httpx2.ReadError):
        client.post(URL, content=encode())
    first, second = rows(handler)
    assert (first["status"], first["tokens"], second["status"], second["tokens"]) == (None, None, 200, None)
    assert None not in (first["seconds"], second["seconds"])


class Server:
    """An ASGI application that answers with a usage, behind a middleware, asked without a socket."""

    def __init__(self, handler, fail=False):
        self.middleware, self.fail = PolicyMiddleware(self.serve, handler), fail

    async def serve(self, scope, receive, send):
        await receive()
        if self.fail:
            raise RuntimeError("the application is gone")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"usage": {"completion_tokens"', "more_body": True})
        await send({"type": "http.response.body", "body": b": 5}}"})

    def ask(self, method, path, content=b"", headers=()):
        sent, scope = [], {"type": "http", "method": method, "path": path, "headers": list(headers)}
        messages = [{"type": "http.request", "body": content, "more_body": False}]

        async def receive():
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        asyncio.run(self.middleware(scope, receive, send))
        said = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], said, b"".join(message.get("body", b"") for message in sent[1:])


def test_a_middleware_logs_and_takes_rewards(make):
    handler = make()
    server = Server(handler)
    _, headers, _ = server.ask("POST", PATH, encode())
    id = headers["x-hag-request-id"]

    def reward(content, method="POST"):
        status, _, body = server.ask(method, "/hag/reward", content)
        return status, json.loads(body)

    assert reward(json.dumps({"id": id, "value": 0.5}).encode()) == (200, {"id": id, "value": 0.5})
    (row,) = rows(handler)
    assert (row["status"], row["tokens"]) == (200, 5)
    assert read_traffic(handler.traffic.log.path).decisions.reward.tolist() == [0.5]
    assert json.loads(server.ask("GET", "/hag/counts")[2])["not_logged"] == 0
    assert reward(b'{"id": "none", "value": 1}') == (404, {"error": "id: expected the id of a call in the log"})
    assert reward(b'{"id": "half \\ud83d", "value": 1}')[0] == 404
    for bad in (b"", b"[]", b"{}", b'{"id": 3, "value": 1}', b"\xff", b'{"id": "a"}'):
        assert reward(bad)[0] == 400
    for value in ("1.5", "NaN", '"1"', "null", "true", "1" * 400):
        status, said = reward(f'{{"id": "{id}", "value": {value}}}'.encode())
        assert (status, said["error"]) == (400, "value: expected a reward in [0, 1]")
    assert reward(b"x" * 5_000)[0] == 413
    assert reward(b"", "GET")[0] == 405
    assert Server(RequestHandler(WordPolicy(SPACE, {}))).ask("POST", "/hag/reward", b"{}")[0] == 404
    handler.traffic.log.path.unlink()
    assert reward(json.dumps({"id": id, "value": 0.5}).encode())[0] == 503


def test_an_application_that_fails_ends_its_call(make):
    handler = make()
    with pytest.raises(RuntimeError):
        Server(handler, fail=True).ask("POST", PATH, encode())
    (row,) = rows(handler)
    assert row["status"] is None
    assert row["seconds"] is not None


def test_no_key_no_prompt_and_no_user_in_any_file(make, tmp_path, caplog):
    handler = make(explore=0.5, experiment=0.5)
    secrets = ["sk-planted-key", "planted prompt", "planted user", "planted-idempotency"]
    headers = [("authorization", f"Bearer {secrets[0]}"), ("idempotency-key", secrets[3])]
    headers.append(("x-hag-fixed", json.dumps({"hint": secrets[1]})))
    for at in range(20):
        body = encode(f"{secrets[1]} {at}", user=f"{secrets[2]} {at}")
        handler.handle(PATH, headers[at % 2 :], body).call.end()
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    handler.flush()
    files += [path.read_bytes() for path in tmp_path.iterdir()]
    assert len(files) >= 2
    assert not [secret for secret in secrets for held in files if secret.encode() in held]
    assert not [secret for secret in secrets if secret in caplog.text]
    assert len(rows(handler)) > 0


def test_texts_are_kept_where_they_are_asked_for(make):
    handler = make(text=True)
    ask(handler, content=encode("greedy words"))
    handler.flush()
    assert read_traffic(handler.traffic.log.path).prompts == ([{"role": "user", "content": "greedy words"}],)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"explore": 1.5}, r"explore: expected a share of the calls in \[0, 1\]"),
        ({"explore": float("nan")}, "explore: expected a share of the calls"),
        ({"experiment": 1.0}, r"experiment: expected a share of the units in \(0, 1\)"),
        ({"experiment": True}, "experiment: expected a share"),
    ],
)
def test_shares_are_checked(tmp_path, settings, words):
    with pytest.raises(InvalidInput, match=words):
        LiveSettings(tmp_path / "log.db", **settings)


def test_a_client_is_wrapped_with_a_log_and_nothing_else_takes_one(policy, tmp_path):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(api_key="k", base_url="http://server.invalid/v1")
    wrapped = hag.wrap(client, policy, log=tmp_path / "log.db", explore=0.1, experiment=0.5, log_text=True)
    traffic = wrapped._client._transport.handler.traffic
    assert traffic.settings == LiveSettings(tmp_path / "log.db", True, 0.1, 0.5)
    with pytest.raises(InvalidInput, match="explore: expected a log beside it"):
        hag.wrap(client, policy, explore=0.1)
    with pytest.raises(InvalidInput, match="artifacts: expected None beside what is no model of transformers"):
        hag.wrap(client, policy, artifacts={"reference": {"faq": str(tmp_path)}})
    with pytest.raises(InvalidInput, match="log: expected None beside what is no client"):
        hag.wrap(object(), policy, log=tmp_path / "log.db")


def test_a_middleware_is_told_by_the_environment(tmp_path):
    policy = making.sums_against_lists()
    folder = str(policy.save(tmp_path / "policy"))
    given = {"HAGPOLICY_POLICY": folder, "HAGPOLICY_LOG": str(tmp_path / "log.db"), "HAGPOLICY_EXPLORE": "0.05"}
    handler = read_environment({**given, "HAGPOLICY_EXPERIMENT": "0.5", "HAGPOLICY_LOG_TEXT": "1"})
    assert handler.traffic.settings == LiveSettings(str(tmp_path / "log.db"), True, 0.05, 0.5)
    assert find_key(tmp_path / "log.db").exists()
    assert hag.load(folder).digest == policy.digest
    for name, value in (("EXPLORE", "much"), ("EXPLORE", "2"), ("LOG_TEXT", "no")):
        with pytest.raises(InvalidInput, match=rf"(?i){name}"):
            read_environment({**given, f"HAGPOLICY_{name}": value})
    with pytest.raises(InvalidInput, match="a log beside it"):
        read_environment({"HAGPOLICY_POLICY": folder, "HAGPOLICY_EXPERIMENT": "0.5"})
    assert read_environment({"HAGPOLICY_POLICY": folder}).traffic is None
