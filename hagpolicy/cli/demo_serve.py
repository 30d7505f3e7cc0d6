"""The demo's policy before a real server: `transformers serve`, `hagpolicy serve`, and the official client."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hagpolicy as hag
from hagpolicy._extras import require
from hagpolicy.cli import demo_text as text
from hagpolicy.cli.demo import MAX_TOKENS, read_demo_prompts
from hagpolicy.data.prompts import Prompt
from hagpolicy.engines.base import Engine
from hagpolicy.errors import EngineError, InvalidInput, MissingExtra
from hagpolicy.policy.policy import Policy

READY_SECONDS, ANSWER_SECONDS, END_SECONDS = 120.0, 120.0, 10.0
# What `transformers serve` and a client of its API are made of.
_SERVING = ("fastapi", "uvicorn", "openai")


def serve_demo(
    out: str | Path = "hagpolicy-demo",
    engine: str | Engine = "smollm2",
    *,
    prompts: Sequence[Prompt] | None = None,
    max_tokens: int = MAX_TOKENS,
    write: Callable[[str], Any] = print,
) -> list[dict[str, Any]]:
    """Answers of a real server with the policy of a demo before it, and their receipts.

    `transformers serve` answers on the demo's LLM, `hagpolicy serve` stands before it, and the official client sends
    the prompts. Both are processes of their own on ports of this machine, and end with the function.

    Args:
        out: the demo's folder, with its policy; the LLM lies there as a folder while it is served.
        engine: the demo's engine, or what `load_engine` takes.
        prompts: to send; None: the demo's own six.
        max_tokens: new tokens an answer, which the client asks for.
        write: is called with each piece of text for the reader.

    Returns:
        One row a prompt: prompt, task, text of the answer, receipt (the headers `x-hag-…` of the response).

    Raises:
        MissingExtra: what the server, the proxy or the client needs is not installed.
        InvalidInput: an engine that is no model of transformers, or not the one that the policy was swept on.
        EngineError: a server did not start or answer; the end of its log is in it.
    """
    check_serving()
    out = Path(out)
    policy = hag.load(out / "policy")
    sent = tuple(prompts) if prompts is not None else read_demo_prompts("demo_new_prompts.jsonl")
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=".serving-", dir=out) as folder:
        _save_engine(engine, policy, Path(folder) / "model")
        with _serve(Path(folder), out / "policy") as (server, proxy):
            write(text.format_serving(policy, server, proxy, time.perf_counter() - begun))
            rows = [_ask(proxy, str(Path(folder) / "model"), prompt, max_tokens) for prompt in sent]
    write(text.format_served(rows))
    write(text.format_serving_end(out, time.perf_counter() - begun))
    return rows


def check_serving() -> None:
    """Refuse where a package is missing, before anything is begun.

    Raises:
        MissingExtra: names the package and what brings it.
    """
    for module in _SERVING:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(f"demo --serve needs the package {module!r}: pip install 'transformers[serving]'")
    require("httpx2", "serve", "a proxy")


def _save_engine(engine: str | Engine, policy: Policy, folder: Path) -> None:
    """Write the engine's model as a folder for the server."""
    made = hag.load_engine(engine)
    try:
        if not hasattr(made, "model") or not hasattr(made, "tokenizer"):
            raise InvalidInput("--serve", "--engine with a model of transformers", made.name)
        swept, here = (one.get("weights") for one in (policy.fingerprint, made.fingerprint))
        if swept != here:
            do = "Name the engine of the demo, or another folder with --out."
            raise InvalidInput("--engine", f"{policy.fingerprint.get('model')}, whose policy it is", made.name, do)
        from hagpolicy.engines.transformers.loading import save_model

        save_model(made.model, made.tokenizer, folder)
    finally:
        if isinstance(engine, str):
            made.close()


@contextlib.contextmanager
def _serve(folder: Path, policy: Path) -> Iterator[tuple[str, str]]:
    """The addresses of a server of the model in `folder`, and of a proxy before it, until the block ends."""
    server, proxy = _find_port(), _find_port()
    urls = f"http://127.0.0.1:{server}", f"http://127.0.0.1:{proxy}"
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    serving = ["-m", "transformers.cli.transformers", "serve", str(folder / "model")]
    serving += ["--host", "127.0.0.1", "--port", str(server), "--device", "cpu"]
    proxying = ["-m", "hagpolicy.cli", "serve", "--policy", str(policy), "--upstream", urls[0]]
    proxying += ["--server", "transformers_serve", "--port", str(proxy)]
    with (
        _run(serving, f"{urls[0]}/health", folder / "server.log", offline),
        _run(proxying, f"{urls[1]}/hag/ready", folder / "proxy.log", {}),
    ):
        yield urls


@contextlib.contextmanager
def _run(arguments: Sequence[str], ready: str, log: Path, more: Mapping[str, str]) -> Iterator[None]:
    """A Python process that answers at `ready`; it ends with the block, however that ends.

    It stays in this process's group, so that Ctrl-C in a terminal reaches it even where this process is killed.
    """
    command = [sys.executable, *arguments]
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, env={**os.environ, **more}
        )
    try:
        _wait(process, ready, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    httpx2 = require("httpx2", "serve", "a proxy")
    until = time.monotonic() + READY_SECONDS
    with httpx2.Client(trust_env=False, timeout=5.0) as client:
        while time.monotonic() < until and process.poll() is None:
            with contextlib.suppress(httpx2.TransportError):
                if client.get(url).status_code == 200:
                    return
            time.sleep(0.1)
    end = " ".join(log.read_text("utf-8", errors="replace").split())[-600:]
    ended = process.poll()
    how = f"was not ready after {READY_SECONDS:.0f} s" if ended is None else f"ended with code {ended}"
    raise EngineError(f"{log.stem} of the demo {how}: {end}")


def _find_port() -> int:
    """A port of this machine that nothing listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _ask(proxy: str, model: str, prompt: Prompt, max_tokens: int) -> dict[str, Any]:
    """A prompt's answer by the official client, and its receipt."""
    openai: Any = importlib.import_module("openai")  # which `transformers serve` imports too
    plain = openai.DefaultHttpxClient(trust_env=False)  # a proxy of the environment has no part in this machine's talk
    options = {"api_key": "none", "timeout": ANSWER_SECONDS, "max_retries": 0, "http_client": plain}
    messages = [{"role": "user", "content": prompt.text}]
    try:
        with openai.OpenAI(base_url=f"{proxy}/v1", **options) as client:
            create = client.chat.completions.with_raw_response.create
            response = create(model=model, messages=messages, max_tokens=max_tokens)
            words = response.parse().choices[0].message.content or ""
    except openai.OpenAIError as error:
        raise EngineError(f"the server of the demo did not answer: {type(error).__name__}") from error
    receipt = {name: value for name, value in response.headers.items() if name.startswith("x-hag-")}
    return {"prompt": prompt.text, "task": prompt.task, "text": words, "receipt": receipt}
