"""The engine over HTTP: what it holds, when that ends, and in what order answers come."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

from hagpolicy import Request
from hagpolicy.errors import EngineError
from tests.support.stub_server import StubProcess

pytest.importorskip("openai")
from tests.engines.openai.cells import cell, own_threads


def test_units_are_drawn_as_there_is_room_and_all_come_back(stub, engines) -> None:
    drawn = 0

    def units() -> Iterator[list[Request]]:
        nonlocal drawn
        for number in range(60):
            drawn += 1
            yield [cell(f"unit {number} cell {at}", seed=at) for at in range(4)]

    engine = engines(stub.url, max_concurrency=4)
    outcomes = {}
    for number, outcome in engine.stream(units()):
        # Those that are back, those in flight and twice as many beside; and one that is half begun.
        assert drawn <= len(outcomes) + 1 + 12
        outcomes[number] = [completion.text for completion in outcome]
    assert outcomes == {n: [f"{at} 0.7 unit {n} cell {at}" for at in range(4)] for n in range(60)}
    assert max(note["active"] for note in stub.record()) <= 4


def test_streams_share_one_thread_which_ends_with_the_engine(stub, engines) -> None:
    engine = engines(stub.url)
    assert own_threads() == []
    one = engine.stream([[cell(f"a{at}")] for at in range(3)])
    other = engine.stream([[cell(f"b{at}")] for at in range(3)])
    texts = [next(stream)[1][0].text for stream in (one, other) for _ in range(3)]
    assert engine.generate([cell("c")])[0].finish == "stop"
    assert sorted(texts) == [f"5 0.7 {name}{at}" for name in "ab" for at in range(3)]
    assert len(own_threads()) == 1
    engine.close()
    engine.close()
    assert own_threads() == []
    with pytest.raises(EngineError, match="closed"):
        engine.generate([cell("d")])


def test_closing_a_stream_ends_what_is_in_flight(engines) -> None:
    with StubProcess(service=0.05) as stub:
        engine = engines(stub.url)
        stream = engine.stream([cell("quick")] if not at else [cell(f"[[hang]] {at}")] for at in range(50))
        next(stream)
        stream.close()
        assert engine._requester.limiter.in_flight == 0
        until = time.monotonic() + 10
        while not all(note["gone"] for note in stub.record()[1:]) and time.monotonic() < until:
            time.sleep(0.01)
        seen = stub.record()
        assert all(note["gone"] for note in seen[1:])
        assert engine.generate([cell("after")])[0].text == "5 0.7 after"
        assert len(stub.record()) == len(seen) + 1


def test_a_process_that_forgets_its_engine_ends(stub) -> None:
    code = f"""
        import logging
        from hagpolicy import DecodingConfig, Prompt, Request, load_engine
        logging.disable(logging.WARNING)
        engine = load_engine("openai:{stub.url}")
        units = [[Request(Prompt(text), DecodingConfig(), 0, 1, 8)] for text in ("a", "[[hang]] b", "[[hang]] c")]
        stream = engine.stream(units)
        print(next(stream)[1][0].text)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 1.0 a\n", "")
