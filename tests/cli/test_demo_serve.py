"""`hagpolicy demo --serve`: what it refuses, how its processes end, what it says, and all of it on a tiny model."""

from __future__ import annotations

import importlib.util
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")
pytest.importorskip("httpx2")

import hagpolicy as hag
from hagpolicy.cli import demo_serve
from hagpolicy.cli.demo import run_demo
from hagpolicy.cli.demo_text import WIDTH, format_served, format_serving
from hagpolicy.data.prompts import Prompt
from hagpolicy.engines.transformers.loading import save_model
from hagpolicy.errors import EngineError, InvalidInput, MissingExtra
from hagpolicy.simulated import SimulatedEngine
from tests.support.tiny_llama import tiny_model, tiny_tokenizer

SPACE = hag.DecodingSpace.grid(temperature=[0.0], repetition_penalty=[1.0, 1.8])
PROMPTS = [Prompt(f"say the {colour} {word}") for colour in ("red", "sum") for word in ("name", "sum")]


def is_brief(text: str) -> float:
    return 1.0 / (1.0 + len(text.split()))


@pytest.fixture(scope="module")
def engine() -> Any:
    return hag.load_engine(tiny_model(), tiny_tokenizer())


@pytest.fixture(scope="module")
def out(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo that has run on the tiny model."""
    out = tmp_path_factory.mktemp("served") / "demo"
    prompts = {"prompts": PROMPTS, "new_prompts": PROMPTS[:1]}
    run_demo(out, engine, **prompts, space=SPACE, scorer=hag.FunctionScorer(is_brief), max_tokens=8,
             write=lambda _: None, progress=False)  # fmt: skip
    return out


def test_the_engine_must_be_the_demos_and_a_model_of_transformers(out: Path) -> None:
    with pytest.raises(InvalidInput, match="a model of transformers"):
        demo_serve.serve_demo(out, SimulatedEngine(seed=0), write=print)
    other = hag.load_engine(tiny_model(seed=5), tiny_tokenizer())
    with pytest.raises(InvalidInput, match="whose policy it is"):
        demo_serve.serve_demo(out, other, write=print)
    assert not list(out.glob(".serving-*"))


def test_a_missing_package_is_named_before_anything_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "fastapi" else there(name))
    with pytest.raises(MissingExtra, match=r"'fastapi': pip install 'transformers\[serving\]'"):
        demo_serve.check_serving()


def test_a_server_that_ends_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    code = "print('no such model'); raise SystemExit(3)"
    with (
        pytest.raises(EngineError, match="server of the demo ended with code 3: no such model"),
        demo_serve._run(["-c", code], "http://127.0.0.1:9/health", tmp_path / "server.log", {}),
    ):
        pass


def test_whatever_ends_the_block_ends_the_server(tmp_path: Path) -> None:
    port = demo_serve._find_port()
    serving = ["-m", "http.server", str(port), "--bind", "127.0.0.1"]
    url = f"http://127.0.0.1:{port}/"
    with pytest.raises(KeyboardInterrupt), demo_serve._run(serving, url, tmp_path / "server.log", {}):
        raise KeyboardInterrupt
    with (
        pytest.raises(EngineError),  # nothing answers there any more
        demo_serve._run(["-c", "pass"], url, tmp_path / "again.log", {}),
    ):
        pass


def test_what_is_shown_says_whether_a_choice_per_prompt_is_proven(out: Path) -> None:
    policy = hag.load(out / "policy")
    said = format_serving(policy, "http://127.0.0.1:1", "http://127.0.0.1:2", 3.0)
    assert policy.ships != "per_prompt"  # four prompts prove nothing
    assert "No choice per prompt was proven" in said
    receipt = {"x-hag-reason": "reference", "x-hag-applied": "temperature"}
    row = {"prompt": "say " * 40, "task": "facts", "text": "a\nb", "receipt": receipt}
    shown = format_served([row, {**row, "text": ""}])
    for words in ("a ↵ b", "(no text)", "x-hag-reason: reference"):
        assert words in shown
    assert max(map(len, [*said.splitlines(), *shown.splitlines()])) <= WIDTH


@pytest.mark.servers
def test_the_whole_of_it_on_a_tiny_model(out: Path, engine: Any) -> None:
    said: list[str] = []
    rows = demo_serve.serve_demo(out, engine, prompts=PROMPTS[:2], max_tokens=8, write=said.append)
    policy = hag.load(out / "policy")
    for row, prompt in zip(rows, PROMPTS, strict=False):
        assert row["receipt"]["x-hag-reason"] == policy.decide(prompt.text).reason
        assert row["text"]
    assert "both servers have ended" in said[-1]
    assert not list(out.glob(".serving-*"))


@pytest.mark.servers
def test_an_interrupt_ends_both_servers(out: Path, engine: Any, tmp_path: Path) -> None:
    """SIGINT to the command alone, as from a service manager: its servers end with it."""
    save_model(engine.model, engine.tokenizer, tmp_path / "model")
    code = f"""
import shutil, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in a shell's background
from hagpolicy.cli import demo_serve
from hagpolicy.cli.signals import stop_on_signals

def wait(proxy, *_):
    print(f"asking {{proxy}}", flush=True)
    time.sleep(60)

demo_serve._ask = wait
demo_serve._save_engine = lambda engine, policy, folder: shutil.copytree({str(tmp_path / "model")!r}, folder)
with stop_on_signals():
    demo_serve.serve_demo({str(out)!r}, prompts=[1], write=lambda text: print(text, flush=True))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = ""
        while "asking" not in said:
            line = process.stdout.readline()
            assert line, "it ended before it asked"
            said += line
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode != 0
    finally:
        process.kill()
    ports = set(map(int, re.findall(r"127\.0\.0\.1:(\d+)", said)))
    assert len(ports) == 2
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert not list(out.glob(".serving-*"))
