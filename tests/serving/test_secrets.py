"""A planted key and a planted prompt are in nothing that the serving side writes: logs of all loggers at DEBUG,
metrics, headers, errors, and every file, the decision log among them."""

import json
import logging
import socket
import threading
import time

import pytest

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")
prometheus_client = pytest.importorskip("prometheus_client")

import hagpolicy as hag  # noqa: E402
from hagpolicy.serving.handler import RequestHandler  # noqa: E402
from hagpolicy.serving.live import make_live  # noqa: E402
from hagpolicy.serving.proxy import ProxyLimits, make_proxy  # noqa: E402
from hagpolicy.serving.rewrite import RewriteRules  # noqa: E402
from tests.serving.wrapping import WordPolicy  # noqa: E402
from tests.support.faulty_server import FaultyServer  # noqa: E402

KEY, PROMPT, COOKIE = "sk-planted-key", "planted-prompt-words", "planted-cookie"
SECRETS = [KEY, PROMPT, COOKIE]
CHAT = "/v1/chat/completions"


class Serving:
    """An application in uvicorn, whose loggers are those of the process, as `run_proxy` serves it."""

    def __init__(self, app):
        config = uvicorn.Config(
            app, host="127.0.0.1", port=0, log_config=None, log_level="debug", access_log=False, ws="none"
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]

    def close(self):
        self.server.should_exit = True
        self.thread.join(20.0)


@pytest.fixture
def upstream():
    made = FaultyServer()
    yield made
    made.close()


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Serves a policy before a server, with a decision log, where every file is below one folder."""
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made = []

    def serving(policy, url):
        handler = RequestHandler(policy, RewriteRules("vllm"), live=make_live(str(tmp_path / "log.db"), explore=0.5))
        app = make_proxy(handler, url, limits=ProxyLimits(body_bytes=100_000), key="proxy-key-planted")
        made.append(Serving(app))
        return made[-1].port

    yield serving
    for one in made:
        one.close()


def ask(port, content, path=CHAT, method="POST", more=()):
    """Everything that comes back."""
    lines = [f"{method} {path}?api_key={KEY} HTTP/1.1", "host: x", f"authorization: Bearer {KEY}"]
    lines += [f"x-api-key: {KEY}", f"cookie: session={COOKIE}", "x-hag-key: proxy-key-planted", *more]
    lines += [f"content-length: {len(content)}", "connection: close"]
    with socket.create_connection(("127.0.0.1", port), timeout=30.0) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + content)
        received = b""
        try:
            while part := connection.recv(1 << 16):
                received += part
        except ConnectionResetError:
            pass
    return received


def encode(do="", model="m", **more):
    return json.dumps(
        {"model": model, "messages": [{"role": "user", "content": f"{PROMPT} 17"}], "do": do, "user": PROMPT, **more}
    ).encode()


def find_planted(texts):
    return [secret for secret in [*SECRETS, "proxy-key-planted"] for text in texts if secret in text]


def read_files(folder):
    return [path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()]


# Not what other tests left behind, which may be collected here.
@pytest.mark.filterwarnings("error", "default::ResourceWarning", "default::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("failing", [False, True])
def test_nothing_that_is_written_holds_a_key_or_a_prompt(null, upstream, serve, tmp_path, caplog, monkeypatch, failing):
    if failing:

        def fail(self, prompt, *args, **more):
            raise RuntimeError(f"cannot read {prompt}")

        monkeypatch.setattr(hag.Policy, "decide", fail)
    caplog.set_level(logging.DEBUG)
    port = serve(null[1], upstream.url)
    answers = [ask(port, encode(do)) for do in ("", "stream", "die", "cut", "garbage", "half", "html", "headers")]
    answers += [ask(port, encode(model=model)) for model in (PROMPT, f"m@{PROMPT}", f"{KEY}@0.1")]
    answers += [ask(port, encode()[:-5]), ask(port, encode() + b" " * 200_000), ask(port, b"", "*", "GET")]
    answers += [
        ask(port, encode(), f"/v1/{PROMPT}"),
        ask(port, encode(), "/hag/other"),
        ask(port, encode(), "/hag/reward"),
    ]
    odd = [f"x-hag-{name}: {PROMPT}" for name in ("task", "price", "skip", "fixed", "unit", "odd", "request-id")]
    answers += [ask(port, encode(), more=[*odd, f"idempotency-key: {PROMPT}"])]
    answers += [ask(port, encode(temperature=PROMPT, tools=[{"name": PROMPT}]))]
    own = [ask(port, b"", path, "GET") for path in ("/hag/metrics", "/hag/counts", "/hag/ready")]
    assert all(answer.startswith(b"HTTP/1.1 ") for answer in [*answers, *own])
    assert (b'reason="failed"' if failing else b"x-hag-config") in b"".join([*answers, *own])
    assert upstream.asked > 12
    # The id that a request gives itself comes back to it, as it must.
    given_back = f"x-hag-request-id: {PROMPT}\r\n".encode()
    assert not find_planted(answer.replace(given_back, b"").decode("latin-1") for answer in [*answers, *own])
    lines = [logging.Formatter().format(record) for record in caplog.records]  # with the words of exceptions
    assert any("hagpolicy" in record.name for record in caplog.records) or not failing
    assert any("uvicorn" in record.name for record in caplog.records)
    assert not find_planted(lines)
    wait_for_rows(tmp_path)
    assert not find_planted(read_files(tmp_path))


def wait_for_rows(folder):
    end = time.monotonic() + 20.0
    while not any(len(text) > 8_000 for text in read_files(folder)) and time.monotonic() < end:
        time.sleep(0.05)
    assert any(len(text) > 8_000 for text in read_files(folder))


def test_a_receipt_that_is_printed_holds_no_prompt():
    receipt = (
        RequestHandler(WordPolicy()).handle("/v1/completions", [], json.dumps({"prompt": PROMPT}).encode()).receipt
    )
    assert receipt.decision.prompt == PROMPT
    assert PROMPT not in f"{receipt} {receipt!r} {receipt.decision} {receipt.decision!r} {receipt.decision.to_dict()}"


def test_a_server_that_is_not_there_is_told_without_them(null, serve, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        port = serve(null[1], f"http://127.0.0.1:{taken.getsockname()[1]}")
        answer = ask(port, encode())
    assert answer.startswith(b"HTTP/1.1 502")
    assert not find_planted([answer.decode("latin-1"), caplog.text, *read_files(tmp_path)])


def test_what_one_caller_is_given_to_keep_is_not_sent_for_the_next(null, serve):
    asked = []

    def answer(listening):
        for _ in range(3):
            connection, _ = listening.accept()
            with connection:
                asked.append(connection.recv(1 << 16))
                head = f"HTTP/1.1 200 OK\r\nset-cookie: session={COOKIE}\r\nconnection: close\r\ncontent-length: 2"
                connection.sendall(f"{head}\r\n\r\n{{}}".encode())

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=answer, args=(listening,), daemon=True)
        thread.start()
        port = serve(null[1], f"http://127.0.0.1:{listening.getsockname()[1]}")
        assert COOKIE.encode() in ask(port, encode())
        for cookie in ("", "cookie: other=1\r\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=30.0) as connection:
                head = f"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nx-hag-key: proxy-key-planted\r\n{cookie}"
                connection.sendall(f"{head}connection: close\r\ncontent-length: 2\r\n\r\n{{}}".encode())
                assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        thread.join(20.0)
    assert not any(COOKIE.encode() in request for request in asked[1:])
    assert b"\r\ncookie: other=1\r\n" in asked[2].lower()
