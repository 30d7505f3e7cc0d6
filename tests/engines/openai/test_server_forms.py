"""Whatever a server says: every form of an answer ends as a text, a mark or a refusal, and says no secret."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import threading
import time
import traceback
from pathlib import Path

import pytest

from hagpolicy import DecodingSpace, load_engine, sweep
from hagpolicy.engines.openai.client import ACCOUNT as ACCOUNT_HEADERS
from hagpolicy.engines.openai.client import OFFICIAL, Client, Key
from hagpolicy.engines.openai.engine import OpenAIEngine
from hagpolicy.engines.openai.redaction import SHOWN, Redactor
from hagpolicy.engines.openai.retry import RetryPolicy
from hagpolicy.engines.openai.transport import is_loopback
from hagpolicy.errors import EngineError, InvalidInput
from tests.engines.openai.cells import WARM, cell
from tests.support.loop_thread import LoopThread
from tests.support.servers.answer_forms import FORMS, KEY, MARKED, REFUSED, SCORED, Asked, FormServer
from tests.support.servers.answer_trials import (
    ACCOUNT,
    PROMPT,
    VARIABLE,
    Watch,
    find_prompt,
    find_secrets,
    hostile_surroundings,
    letters,
)
from tests.support.stub_server import StubProcess

SOON = RetryPolicy(max_attempts=2, initial_delay=0.01, max_delay=0.02, max_elapsed=5.0)


def connect(url: str, timeout: float = 0.5, retry_policy: RetryPolicy = SOON) -> OpenAIEngine:
    client = Client(url, Key(VARIABLE, needed=False), timeout=timeout, connections=16)
    return OpenAIEngine(client, "m", retry_policy=retry_policy)


def test_every_form_ends_as_it_should_and_says_no_secret(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    watch, begun = Watch(), time.monotonic()
    with FormServer() as server, hostile_surroundings(tmp_path, "127.0.0.1:9"):
        watch.allowed.add(int(server.url.rpartition(":")[2].partition("/")[0]))
        engine = connect(server.url, timeout=1.5)
        try:
            unit = [[cell(f"{PROMPT} [[{form.name}]] lantern"), cell(f"{form.name} anchor")] for form in FORMS]
            # What is refused as a whole would end what is beside it: such a form is alone.
            together = [at for at, form in enumerate(FORMS) if form.handling != REFUSED]
            outcomes = {together[n]: done for n, done in engine.stream(unit[at] for at in together)}
            alone = [at for at, form in enumerate(FORMS) if form.handling == REFUSED]
            outcomes |= {at: dict(engine.stream([unit[at][:1]]))[0] for at in alone}
        finally:
            engine.close()
            watch.on = False
    wrong, said = [], caplog.text
    for at, form in enumerate(FORMS):
        outcome = outcomes[at]
        if isinstance(outcome, Exception):
            assert isinstance(outcome, EngineError), (form, outcome)
            found = REFUSED
            error: BaseException | None = outcome
            while error is not None:
                said += "".join(traceback.format_exception(error)) + repr(vars(error))
                error = error.__cause__ or error.__context__
        else:
            attacked, beside = outcome
            found = MARKED if attacked.finish == "error" else SCORED
            told = f"{attacked.error} {attacked.receipt} {attacked.finish} {attacked.text}"
            said += told
            assert beside.text == "5 0.7 anchor", form
            assert len(attacked.error or "") <= SHOWN + 100
            assert (attacked.error or "").isprintable()
            assert attacked.text.startswith("5 0.7 lantern" if form.text is None else form.text) or found != SCORED, (
                form,
                attacked,
            )
            wrong += find_prompt(told)
        wrong += [(form, found, outcome)] if found != form.handling else []
    assert wrong == []
    assert (find_secrets(said.encode()), find_prompt(said)) == ([], [])
    assert (watch.files, watch.programs, watch.addresses) == ([], [], [])
    assert not {name.lower() for name in ACCOUNT_HEADERS.values()} & server.headers
    assert time.monotonic() - begun < 60.0


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 2048 tokens. However, you requested 3000 tokens (2900 in messages).",
        "The model `meta-llama/Llama-3.1-8B-Instruct` does not exist.",
        "top_k: Extra inputs are not permitted; temperature: Input should be less than or equal to 2",
        "Rate limit reached for gpt-x in tier 1: 60 a minute, retry in 1.5 s; see https://example.invalid/limits",
    ],
)
def test_what_is_no_secret_is_said_as_it_is(message) -> None:
    assert Redactor([KEY]).clean(message, [PROMPT]) == message


def test_a_text_of_any_size_and_kind_is_cleaned_in_bounded_time() -> None:
    redactor, begun = Redactor([KEY]), time.monotonic()
    for text in (
        "a" * 10**7,
        "\\u0041" * 10**6,
        "&amp;" * 10**6,
        "%2525" * 10**6,
        "*" * 10**6,
        "/" * 10**6,
        "\ud800" * 10**6,
    ):
        assert len(redactor.clean(text, ["\U0001f600 " * 10**5])) <= SHOWN
    assert time.monotonic() - begun < 10.0
    assert find_secrets(repr(redactor).encode()) == []
    with pytest.raises(TypeError, match="not written"):
        pickle.dumps(redactor)


def test_what_is_this_machine_is_known_by_its_address() -> None:
    hosts = ["localhost", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1", "127.9.8.7", "127.1", "2130706433"]
    hosts += ["0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]", "[0:0:0:0:0:0:0:1]"]
    for host in hosts:
        assert is_loopback(f"http://{host}:8000/v1"), host
    for host in (
        "localhost.example.invalid",
        "128.0.0.1",
        "[::2]",
        "127.0.0.1.example.invalid",
        "10.0.0.1",
        "[::ffff:8.8.8.8]",
    ):
        assert not is_loopback(f"http://{host}:8000/v1"), host


class Proxy:
    """An HTTP proxy that writes down what it is asked, and answers as a server of one model."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._thread = LoopThread()
        self._server = self._thread.run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.append((await reader.readuntil(b"\r\n\r\n")).decode())
        body = json.dumps({"data": [{"id": "m", "owned_by": "vllm"}]}).encode()
        head = f"HTTP/1.1 200 x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        writer.close()

    def close(self) -> None:
        self._thread.loop.call_soon_threadsafe(self._server.close)
        self._thread.close()


def test_a_proxy_is_for_other_machines_and_the_usual_key_for_the_official_server(tmp_path, monkeypatch) -> None:
    proxy = Proxy()
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with FormServer() as server, hostile_surroundings(tmp_path, proxy.address):
        load_engine(f"openai:{server.url}").close()
        assert proxy.seen == []
        load_engine("openai:http://models.invalid/v1").close()
        assert proxy.seen[0].startswith("GET http://models.invalid/v1/models")
        assert not any("\r\nauthorization:" in one.lower() for one in proxy.seen), "the key is not for this server"
        for options, url in (({"key_env": "OPENAI_API_KEY"}, ""), ({}, "http://models.invalid/v1")):
            proxy.seen.clear()
            monkeypatch.setenv("OPENAI_BASE_URL", url)
            load_engine("openai:http://models.invalid/v1", **options).close()
            assert f"authorization: Bearer {KEY}" in proxy.seen[0].replace("Authorization", "authorization")
        # Undone within: after it, the surroundings themselves would be what it goes back to.
        with monkeypatch.context() as odd:
            odd.setenv("HTTP_PROXY", "ftp://me:sk-secret@proxy.invalid")
            odd.setenv("http_proxy", "ftp://me:sk-secret@proxy.invalid")
            with pytest.raises(InvalidInput, match="proxy") as caught:
                load_engine("openai:http://models.invalid/v1")
        assert "sk-secret" not in "".join(traceback.format_exception(caught.value))
    proxy.close()


def test_the_account_is_named_to_the_official_server_alone(monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)
    for url, told in (
        (OFFICIAL, True),
        ("https://api.openai.com.example.invalid/v1", False),
        ("http://127.0.0.1:9", False),
    ):
        client = Client(url, Key(VARIABLE, needed=False), timeout=1.0, connections=1)
        sent = client._transport._client.headers
        assert [name in sent for name in ACCOUNT_HEADERS.values()] == [told, told]
        assert find_secrets(f"{client!r}{client._transport!r}{client._redactor!r}{vars(client)!r}".encode()) == []


def test_a_dead_server_is_given_up_soon_with_one_line(tmp_path, caplog) -> None:
    policy = RetryPolicy(max_silence=1.5)
    with StubProcess(service=0.05) as stub:
        engine = connect(stub.url, 20.0, policy)
        ending = threading.Timer(1.0, stub._process.kill)
        ending.start()
        begun = time.monotonic()
        with pytest.raises(EngineError, match=r"no connection.*given up.*is stored in") as caught:
            sweep(
                engine, [f"question {at}" for at in range(400)], DecodingSpace([WARM]), letters,
                samples=2, out=tmp_path, progress=False,
            )  # fmt: skip
        assert 1.5 < time.monotonic() - begun < 8.0
    # Once, what such a server does not tell before the sweep begins; nothing of its end but the error.
    assert [record.levelname for record in caplog.records if "does not tell" not in record.message] == []
    assert stub.url in str(caught.value)
    begun = time.monotonic()
    with pytest.raises(EngineError, match="no connection"):
        engine.generate([cell("once more")])
    assert time.monotonic() - begun < 1.0, "one attempt is enough for a server that was gone"
    engine.close()


def test_a_server_that_is_away_for_seconds_loses_no_cell(tmp_path) -> None:
    port = []

    class Restarting(FormServer):
        async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await super()._serve(reader, writer)
            if sum(self.attempts.values()) == 60 and not port:
                port.append(self._server.sockets[0].getsockname()[1])
                self._server.close()
                await asyncio.sleep(2.5)
                self._server = await asyncio.start_server(self._serve, "127.0.0.1", port[0])

    with Restarting() as server:
        engine = connect(server.url, 20.0, RetryPolicy())
        try:
            outcomes = dict(engine.stream([[cell(f"say w{n}x{at}") for at in range(4)] for n in range(40)]))
        finally:
            engine.close()
    assert port
    assert [done[at].text for n, done in sorted(outcomes.items()) for at in range(4)] == [
        f"5 0.7 w{n}x{at}" for n in range(40) for at in range(4)
    ]


def test_the_plain_answer_of_the_forms_is_one() -> None:
    assert Asked("a b", {"seed": 1, "temperature": 0.5}, {}, 1, None).said == "1 0.5 b"  # type: ignore[arg-type]
