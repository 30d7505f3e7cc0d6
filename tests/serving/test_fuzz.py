"""Requests of every kind at the proxy in a process of its own: none is a 500, none hangs, none ends the proxy.

Ten seconds in the suite, ten minutes in `make soak`, which prints the number of requests.
"""

import json
import socket
import sys
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")

from tests.support.faulty_server import FaultyServer
from tests.support.proxy_process import ProxyProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")

PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/models", "/", "*"]
PATHS += ["/hag/health", "/hag/counts", "/hag/metrics", "/hag/reward", "/hag/other", "/health", "/metrics"]
METHODS = ["POST", "POST", "POST", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"]
FIELDS = ["temperature", "top_p", "max_tokens", "max_completion_tokens", "n", "seed", "stop", "stream", "tools"]
FIELDS += ["top_k", "min_p", "repetition_penalty", "generation_config", "user", "metadata", "chat_template_kwargs"]
OWN = ["x-hag-skip", "x-hag-fixed", "x-hag-price", "x-hag-task", "x-hag-unit", "x-hag-request-id", "x-hag-odd"]
OTHER = ["expect", "upgrade", "connection", "te", "host", "accept-encoding", "content-encoding", "content-type", "x-a"]
OTHER += ["authorization", "cookie", "traceparent", "x-request-id", "forwarded", "range", "trailer", "keep-alive"]
VALUES = ["", "1", "0", "true", "nan", "inf", "-1", "1e999", "json", '{"temperature": 0.2}', '{"hint": 3}', "[" * 999]
VALUES += [
    "100-continue",
    "websocket",
    "h2c",
    "upgrade",
    "close",
    "keep-alive",
    "gzip",
    "Bearer k",
    "trailers",
    "\x80é",
]

texts = st.text(max_size=30) | st.sampled_from(
    ["red", "What is 17 * 23?", "\ud800", "\x00", "a" * 9000, "word " * 5000]
)
numbers = st.integers() | st.floats() | st.sampled_from([10**400, -0.0, 1e308, 2**63])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
parts = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url", "x"])}, optional={"text": values})
)
turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "assistant", "tool", "developer", ""])},
    optional={"content": texts | parts | values, "name": values, "tool_calls": values},
)
chats = st.lists(turns | values, max_size=5)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "model": texts | st.sampled_from(["m@0.1", "@", "m@nan"]) | values,
        "messages": chats | values,
        "prompt": texts | st.lists(texts | st.lists(st.integers())) | values,
        "input": texts | chats | values,
        "system": texts | values,
        **dict.fromkeys(FIELDS, values),
    },
)


@st.composite
def contents(draw):
    """A body: JSON of an API's form or of any, with some bytes changed or none."""
    made = json.dumps(draw(bodies | values), ensure_ascii=draw(st.booleans()))
    content = made.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"])), "surrogatepass")
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(max_size=4)) + content[at + draw(st.integers(0, 4)) :]
    return content


@st.composite
def requests(draw):
    """The bytes of a request, and whether it is one that must be answered."""
    headers = draw(st.lists(st.tuples(st.sampled_from(OWN + OTHER), st.sampled_from(VALUES)), max_size=5))
    path = draw(st.sampled_from(PATHS)) + draw(
        st.sampled_from(["", "", "", "?a=b", "?\x7f", "//..%00", "#x", " y", "é"])
    )
    content = draw(contents())
    framing = draw(st.sampled_from(["length", "length", "length", "chunked", "none", "short", "long", "both", "bad"]))
    lines = [f"{draw(st.sampled_from(METHODS))} {path} HTTP/1.{draw(st.sampled_from('1110'))}", "host: x"]
    lines += [f"{name}: {value}" for name, value in headers]
    if framing in ("length", "both", "short", "long"):
        lines.append(f"content-length: {len(content) + {'short': -3, 'long': 3}.get(framing, 0)}")
    if framing in ("chunked", "both"):
        lines.append("transfer-encoding: chunked")
        content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if content else b"0\r\n\r\n"
    if framing == "bad":
        lines.append("content-length: 1, 2")
    made = "\r\n".join([*lines, "connection: close", "", ""]).encode("utf-8", "surrogatepass") + content
    return made, framing in ("length", "chunked")


def ask(port, request, *, whole):
    """Status of the answer; "" for none. Of what is no whole request the end is said after a while.

    Raises:
        TimeoutError: neither an answer nor an end within 30 seconds.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=30.0 if whole else 0.1) as connection:
        received = b""
        try:
            connection.sendall(request)
            while part := _receive(connection):
                received += part
        except (ConnectionResetError, BrokenPipeError):
            pass
    return received.split(b" ", 2)[1].decode() if received.startswith(b"HTTP/1.1 ") else ""


def _receive(connection):
    try:
        return connection.recv(1 << 16)
    except TimeoutError:
        if connection.gettimeout() == 30.0:
            raise
        connection.settimeout(30.0)
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(1 << 16)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seconds", [10.0, pytest.param(600.0, marks=pytest.mark.soak)])
def test_no_request_is_a_fault_of_the_proxy(strong, tmp_path, seconds, capsys):
    upstream = FaultyServer()
    proxy = ProxyProcess(upstream.url, tmp_path, strong[2].save(tmp_path / "policy"))
    counts, number, end = Counter(), 0, time.monotonic() + seconds

    @settings(
        max_examples=200,
        deadline=None,
        database=None,
        derandomize=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(given_request=requests())
    def try_requests(given_request):
        request, whole = given_request
        status = ask(proxy.port, request, whole=whole)
        counts[status] += 1
        assert status not in ("500", "502", "504"), status
        assert status or not whole
        assert proxy.process.poll() is None, proxy.read_log()

    try:
        while time.monotonic() < end:
            number += 1
            seed(number)(try_requests)()
        assert proxy.get("/hag/ready") == 200
    finally:
        proxy.close()
        upstream.close()
    assert counts["200"] > 100
    log = proxy.read_log()
    assert "Traceback" not in log
    with capsys.disabled():
        if seconds > 60:
            sys.stdout.write(f"\n{counts.total()} requests: {dict(counts)}\n")
