"""The proxy in a process of its own, before a server that fails and under clients that do: each is answered, nothing
is leaked, nothing hangs. The short form runs in the suite; the long one is `make soak`."""

import asyncio
import json
import shutil
import sys
import time

import pytest

pytest.importorskip("uvicorn")
httpx2 = pytest.importorskip("httpx2")

from tests.support.faulty_server import FaultyServer  # noqa: E402
from tests.support.proxy_process import ProxyProcess  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")

CHAT = "/v1/chat/completions"
SECRET = "Bearer sk-planted"


@pytest.fixture(scope="module")
def upstream():
    made = FaultyServer()
    yield made
    made.close()


@pytest.fixture(scope="module")
def bundle(strong, tmp_path_factory):
    return strong[2].save(tmp_path_factory.mktemp("bundle") / "policy")


@pytest.fixture(scope="module")
def proxy(upstream, bundle, tmp_path_factory):
    made = ProxyProcess(upstream.url, tmp_path_factory.mktemp("proxy"), bundle)
    yield made
    made.close()
    assert "Traceback" not in made.read_log()
    assert "sk-planted" not in made.read_log()


@pytest.fixture
def client(proxy):
    headers = {"authorization": SECRET}
    with httpx2.Client(base_url=f"http://127.0.0.1:{proxy.port}", timeout=60.0, headers=headers) as made:
        yield made


def make_body(do="", text="What is 17 * 23?", **more):
    return {"model": "m", "messages": [{"role": "user", "content": text}], "do": do, **more}


def make_raw(body, path=CHAT, more=""):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: {SECRET}\r\n{more}content-length: {len(content)}\r\n\r\n"
    return head.encode() + content


def wait_until(holds, seconds=20.0):
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    assert holds()


def check_serves(client):
    """A plain request after a fault is answered as ever."""
    answer = client.post(CHAT, json=make_body())
    assert answer.status_code == 200
    assert answer.headers["x-hag-reason"]


async def read_stream(port, body):
    """The whole answer to one request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(make_raw(body, more="connection: close\r\n"))
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.soak)])
def test_many_streams_at_once_all_end(proxy, client, count):
    async def ask():
        body = make_body("stream", events=3, every=0.3)
        return await asyncio.gather(*(read_stream(proxy.port, body) for _ in range(count)))

    answers = asyncio.run(asyncio.wait_for(ask(), 120.0))
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    assert all(answer.count(b'"word"') == 3 and b"[DONE]" in answer for answer in answers)
    check_serves(client)


def test_a_server_that_dies_in_mid_stream_is_seen_by_the_client(client, proxy):
    for do in ("die", "cut"):
        with pytest.raises(httpx2.RemoteProtocolError):
            client.post(CHAT, json=make_body(do))
    check_serves(client)


@pytest.mark.parametrize("do", ["half", "html", "headers", "large"])
def test_answers_that_are_wrong_come_through_as_they_are(client, upstream, do):
    with httpx2.Client(base_url=upstream.url, timeout=60.0) as direct:
        expected = direct.post(CHAT, json=make_body(do))
    answer = client.post(CHAT, json=make_body(do))
    own = {"x-hag-policy", "x-hag-reason", "x-hag-config", "x-hag-applied", "x-hag-overhead-us", "date", "server"}
    assert {name: value for name, value in answer.headers.items() if name not in own} == dict(expected.headers)
    assert (answer.status_code, answer.content) == (expected.status_code, expected.content)


def test_an_answer_that_is_no_http_is_a_bad_gateway(client):
    answer = client.post(CHAT, json=make_body("garbage"))
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == 502
    assert answer.headers["x-hag-reason"]
    check_serves(client)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
    ],
)
def test_bodies_that_are_no_request_go_on_unchanged(client, content):
    answer = client.post(CHAT, content=content, headers={"content-type": "text/csv"})
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == str(len(content))


def test_large_bodies_come_whole(client, proxy):
    before = proxy.measure_memory()
    for size in (4_000_000, 50_000_000):
        content = json.dumps(make_body(text="x" * size)).encode()
        answer = client.post(CHAT, content=content)
        assert answer.status_code == 200
        assert int(answer.json()["choices"][0]["message"]["content"]) >= len(content)
    assert proxy.measure_memory() - before < 300


def test_a_flood_of_keys_is_read_or_passed_on(client):
    flood = make_body(**{f"k{number}": 1 for number in range(100_000)})
    answer = client.post(CHAT, json=flood)
    assert answer.status_code == 200
    assert answer.headers["x-hag-reason"] != "failed"


def test_a_flood_of_headers_is_refused_or_passed_on(proxy, client):
    for count, length in ((100, 100), (2_000, 100), (10, 20_000), (20_000, 100)):
        more = "".join(f"x-hag-{number}: {'v' * length}\r\n" for number in range(count))

        async def ask(more=more):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, limit=1 << 24)
            try:
                writer.write(make_raw(make_body(), more=more))
                return (await reader.readuntil(b"\r\n")).split()[1]
            except (ConnectionError, asyncio.IncompleteReadError):
                return b"closed"
            finally:
                writer.close()

        status = asyncio.run(asyncio.wait_for(ask(), 60.0))
        assert status in (b"200", b"400", b"431", b"closed"), (count, length, status)
        assert count != 100 or status == b"200"
    check_serves(client)


def test_one_slow_request_holds_up_no_other(proxy, client):
    async def ask():
        url = f"http://127.0.0.1:{proxy.port}"
        async with httpx2.AsyncClient(base_url=url, timeout=120.0) as many:
            slow = [asyncio.create_task(many.post(CHAT, json=make_body("silent"))) for _ in range(5)]
            slow += [asyncio.create_task(many.post(CHAT, json=make_body("stream", events=400, every=0.1)))]
            fast = await asyncio.gather(*(many.post(CHAT, json=make_body()) for _ in range(50)))
            assert not any(one.done() for one in slow)
            for one in slow:
                one.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
            return [answer.status_code for answer in fast]

    assert asyncio.run(asyncio.wait_for(ask(), 60.0)) == [200] * 50
    check_serves(client)


def test_a_slow_reader_holds_up_no_other_and_fills_no_memory(proxy, client):
    before = proxy.measure_memory()

    async def ask():
        writers = []
        for _ in range(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, limit=1024)
            writer.write(make_raw(make_body("large")))
            await reader.readexactly(100)  # and no more: what comes after waits in the server
            writers.append(writer)
        await asyncio.sleep(1.0)
        grown = proxy.measure_memory() - before
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{proxy.port}", timeout=60.0) as other:
            status = (await other.post(CHAT, json=make_body())).status_code
        for writer in writers:
            writer.transport.abort()
        return grown, status

    grown, status = asyncio.run(asyncio.wait_for(ask(), 60.0))
    assert status == 200
    assert grown < 60  # of the 200 MB that they asked for
    check_serves(client)


def test_clients_that_go_leave_nothing_behind(proxy, upstream, client):
    check_serves(client)
    before, given_up = proxy.count_files(), upstream.given_up

    async def leave():
        for do in ("stream", "silent") * 10:
            _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(make_raw(make_body(do, events=1000, every=0.05)))
            await asyncio.sleep(0.05)
            writer.transport.abort()
            _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(make_raw(make_body(do))[:-20])
            await asyncio.sleep(0.01)
            writer.transport.abort()

    asyncio.run(asyncio.wait_for(leave(), 60.0))
    wait_until(lambda: upstream.given_up - given_up >= 20)
    wait_until(lambda: proxy.count_files() <= before + 2)
    check_serves(client)


def test_a_bundle_that_goes_while_it_serves_is_not_missed(upstream, bundle, tmp_path):
    own = shutil.copytree(bundle, tmp_path / "policy")
    made = ProxyProcess(upstream.url, tmp_path, own)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{made.port}", timeout=60.0) as client:
            check_serves(client)
            shutil.rmtree(own)
            check_serves(client)
    finally:
        made.close()
    assert "Traceback" not in made.read_log()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seconds", [20.0, pytest.param(600.0, marks=pytest.mark.soak)])
def test_load_grows_neither_memory_nor_open_files(proxy, upstream, client, seconds):
    kinds = ["", "", "stream", "half", "die", "garbage", "headers", "gone"]

    async def call(number):
        do = kinds[number % len(kinds)]
        body = make_body("stream" if do == "gone" else do, "x " * (50 * (number % 40)), events=5, every=0.01)
        try:
            await asyncio.wait_for(read_stream(proxy.port, body), 0.02 if do == "gone" else 60.0)
        except (TimeoutError, ConnectionError):
            assert do in ("gone", "die"), do

    async def load(until):
        numbers = iter(range(1 << 40))

        async def work():
            while time.monotonic() < until:
                await call(next(numbers))

        await asyncio.gather(*(work() for _ in range(16)))
        return next(numbers)

    asyncio.run(load(time.monotonic() + seconds / 2))
    wait_until(lambda: upstream.open <= 40)
    memory, files = proxy.measure_memory(), proxy.count_files()
    done = asyncio.run(load(time.monotonic() + seconds / 2))
    assert done > 5 * seconds
    wait_until(lambda: proxy.count_files() <= files + 40)
    # Of a few hundred requests' worth of bodies and answers, none stays.
    assert proxy.measure_memory() - memory < 10 + 0.01 * seconds
    check_serves(client)
