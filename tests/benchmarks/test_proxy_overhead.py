"""The claim on what serving adds: the stub, the callers, and how differences are taken."""

import asyncio
import json
import random

import numpy as np
import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")

from benchmarks.claims.serving import proxy_overhead as claim
from benchmarks.tools.http_load import Caller, make_request
from benchmarks.tools.stub_upstream import ANSWER, EVENTS, EVERY_SECONDS, StubProtocol, serve_stub


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_times_the_parts_of_an_answer(stream):
    async def ask():
        server = await asyncio.get_running_loop().create_server(StubProtocol, "127.0.0.1", 0)
        caller = Caller(server.sockets[0].getsockname()[1])
        await caller.open()
        found = [await caller.ask(make_request(5_000, stream=stream)) for _ in range(2)]
        caller.close()
        server.close()
        return found

    for times in asyncio.run(asyncio.wait_for(ask(), 30.0)):
        assert 0.0 < times.first <= times.whole
        assert len(times.gaps) == EVENTS * stream
        assert times.whole >= EVENTS * EVERY_SECONDS * stream


def test_a_request_has_the_characters_that_are_said():
    head, _, content = make_request(1_000, stream=True).partition(b"\r\n\r\n")
    assert f"content-length: {len(content)}".encode() in head
    body = json.loads(content)
    assert (len(body["messages"][0]["content"]), body["stream"]) == (1_000, True)


def test_the_stub_serves_in_a_process_of_its_own():
    async def ask(port):
        caller = Caller(port)
        await caller.open()
        times = await caller.ask(make_request(10, stream=False))
        caller.close()
        return times

    with claim.run_process(serve_stub) as port:
        assert asyncio.run(asyncio.wait_for(ask(port), 30.0)).whole > 0.0
    assert json.loads(ANSWER)["choices"]


def test_what_is_added_is_a_difference_of_quantiles_and_a_ratio_of_them():
    rng = np.random.default_rng(0)
    base = rng.random((20, 10))
    seconds = {"stub": base, claim.BARE: base + 0.002, claim.OURS: base + 0.003, claim.LITELLM: base + 0.012}
    where = "1,000 characters, 1 caller"
    found = {one.name: one for one in claim.describe(seconds, "median", where, 0.5)}
    assert found[f"{claim.OURS}, added median, {where}"].value == pytest.approx(3.0)
    over_bare = found[f"{claim.OURS} / {claim.BARE}, added median, {where}"]
    assert (round(over_bare.value, 6), over_bare.met) == (1.5, False)
    assert found[f"{claim.OURS} / {claim.LITELLM}, added median, {where}"].met
    assert [one.target for one in claim.describe(seconds, "99th percentile", where, 0.99)] == [None] * 3


def test_turns_with_different_numbers_of_gaps_are_cut_alike():
    random.seed(0)
    cut = claim.cut_to_shortest({"a": [[1.0, 2.0, 3.0], [1.0, 2.0]], "b": [[5.0] * 4, [6.0] * 3]})
    assert {name: rows.shape for name, rows in cut.items()} == {"a": (2, 2), "b": (2, 2)}
