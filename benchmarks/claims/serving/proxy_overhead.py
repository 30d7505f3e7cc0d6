"""What a policy adds to a request: as a proxy, in the server, and in the client.

    python -m benchmarks run proxy_overhead [--quick] [-- --litellm DIR]

A stub that answers at once, in a process of its own, is asked directly and through each proxy, each a process of its
own: ours, and a bare reverse proxy of the same parts (`ForwardingApp` alone). Beside them the same answers by an ASGI
application in uvicorn, with and without the middleware, and by the stub with and without the transport in the client;
and, with `--litellm DIR` (an environment that holds it), LiteLLM's proxy. Callers keep their connections. The targets
take turns, in shuffled order; figures are differences of quantiles, via minus direct, with bootstrap intervals over
turns. Streams are ten events at 5 ms. Prompts are of 1,000 and 100,000 characters, callers 1 and 64. The policy is the
blend that `fit` uses, over 14 configs.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import argparse
import asyncio
import json
import multiprocessing
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claims.predicting.predict_speed import fitted_policy, prompts
from benchmarks.tools.claim import Claim
from benchmarks.tools.http_load import Caller, Times, make_request
from benchmarks.tools.record import Figure, arguments, bootstrap, figure, record
from benchmarks.tools.stub_upstream import ANSWER, EVENT, EVENTS, EVERY_SECONDS, serve_stub
from hagpolicy import Policy, load
from hagpolicy.fitting.encoders.registry import get_encoder
from hagpolicy.policy.tokenizer import build_tokenizer
from hagpolicy.serving.asgi import PolicyMiddleware
from hagpolicy.serving.handler import RequestHandler
from hagpolicy.serving.proxy import ForwardingApp
from hagpolicy.serving.rewrite import RewriteRules
from hagpolicy.serving.transport import PolicyTransport

CLAIM = Claim(
    name="proxy_overhead",
    states=(
        "The proxy adds at most 1.2 times what a bare reverse proxy of the same parts adds, and a third of what "
        "LiteLLM's adds; the middleware in a server adds at most .2 ms."
    ),
    groups=("bench",),
    headline="proxy / bare proxy, added median, 1,000 characters, 1 caller",
)

SIZES, CALLERS = (1_000, 100_000), (1, 64)
OURS, BARE, LITELLM = "proxy", "bare proxy", "LiteLLM's proxy"
# What is measured, and what it is measured against.
VIA = {OURS: "stub", BARE: "stub", LITELLM: "stub", "middleware": "server", "transport": "client"}
TURNS, REQUESTS = {1: 40, 64: 8}, {1: 10, 64: 3}  # of a caller in a turn


def make_handler(folder: Path) -> RequestHandler:
    return RequestHandler(load(folder), RewriteRules("vllm"))


async def answer_stub(scope: Any, receive: Any, send: Any) -> None:
    """The stub's answers as an ASGI application."""
    if scope["type"] != "http":
        return
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    streams = b'"stream":true' in body
    kind = b"text/event-stream" if streams else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    for _ in range(EVENTS if streams else 0):
        await send({"type": "http.response.body", "body": EVENT, "more_body": True})
        await asyncio.sleep(EVERY_SECONDS)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n" if streams else ANSWER})


def serve_app(kind: str, folder: Path, upstream: str, pipe: Any) -> None:
    """Serve one of the applications by uvicorn on a free port, which is sent through the pipe."""
    import uvicorn

    inner = ForwardingApp(upstream) if kind in (OURS, BARE) else answer_stub
    app = PolicyMiddleware(inner, make_handler(folder)) if kind in (OURS, "middleware") else inner
    # Named as TCP's: of another asyncio does not know that small parts are to go out at once.
    with socket.socket(proto=socket.IPPROTO_TCP) as own:
        own.bind(("127.0.0.1", 0))
        pipe.send(own.getsockname()[1])
        lifespan = "on" if inner is not answer_stub else "off"
        config = uvicorn.Config(app, log_level="error", access_log=False, lifespan=lifespan, timeout_keep_alive=75)
        uvicorn.Server(config).run(sockets=[own])


@contextmanager
def run_process(target: Any, *args: Any) -> Iterator[int]:
    """The port of a server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    process = context.Process(target=target, args=(*args, other), daemon=True)
    process.start()
    try:
        yield pipe.recv()
    finally:
        process.kill()
        process.join()


@contextmanager
def run_litellm(environment: Path, upstream: str) -> Iterator[int]:
    """The port of LiteLLM's proxy, from an environment that holds it."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        entry = {"model": "openai/m", "api_base": f"{upstream}/v1", "api_key": "none"}
        config = Path(folder) / "config.json"
        config.write_text(json.dumps({"model_list": [{"model_name": "m", "litellm_params": entry}]}), "utf-8")
        free.close()
        words = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        quiet = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        quiet["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"  # it is reached from this machine alone
        process = subprocess.Popen(
            [environment / "bin" / "litellm", *words],
            env={**os.environ, **quiet},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=5).close()
                    break
                except OSError:
                    if process.poll() is not None:
                        raise
                    time.sleep(0.2)
            yield port
        finally:
            process.terminate()
            process.wait()


async def measure_callers(ports: dict[str, int], size: int, callers: int, turns: int, *, stream: bool) -> dict:
    """Times of every request by target, lists of turns."""
    request = make_request(size, stream=stream)
    groups = {name: [Caller(port) for _ in range(callers)] for name, port in ports.items()}
    for caller in [one for group in groups.values() for one in group]:
        await caller.open()
        await caller.ask(request)  # warms up

    async def ask(caller: Caller) -> list[Times]:
        return [await caller.ask(request) for _ in range(REQUESTS[callers])]

    found: dict[str, list[list[Times]]] = {name: [] for name in ports}
    for _ in range(turns):
        for name in random.sample(list(ports), len(ports)):
            asked = await asyncio.gather(*map(ask, groups[name]))
            found[name].append([times for part in asked for times in part])
    for caller in [one for group in groups.values() for one in group]:
        caller.close()
    return found


def measure_clients(folder: Path, port: int, size: int, turns: int) -> dict[str, np.ndarray]:
    """Seconds (turns, requests) of a client without and with the transport."""
    import httpx2

    content = make_request(size, stream=False).partition(b"\r\n\r\n")[2]
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    with (
        httpx2.Client(trust_env=False) as plain,
        httpx2.Client(transport=PolicyTransport(make_handler(folder), httpx2.HTTPTransport())) as wrapped,
    ):
        clients, rows = {"client": plain, "transport": wrapped}, {"client": [], "transport": []}
        for turn in range(-1, turns):  # the first warms up
            for name in random.sample(list(clients), 2):
                taken = []
                for _ in range(REQUESTS[1]):
                    begun = time.perf_counter()
                    clients[name].post(url, content=content).raise_for_status()
                    taken.append(time.perf_counter() - begun)
                rows[name] += [taken] if turn >= 0 else []
    return {name: np.array(taken) for name, taken in rows.items()}


def added(quantile: float) -> Any:
    """The statistic of rows (turns, targets, requests): a quantile of the second target minus that of the first."""
    return lambda rows, axis: np.quantile(rows[:, 1], quantile) - np.quantile(rows[:, 0], quantile)


def ratio_of_added(rows: np.ndarray, axis: int) -> Any:
    """Of rows (turns, 3, requests): what the third adds to the median of the first, over what the second adds."""
    first, second, third = (np.median(rows[:, at]) for at in range(3))
    return (third - first) / (second - first)


def describe(seconds: dict[str, np.ndarray], what: str, where: str, quantile: float) -> list[Figure]:
    """What each target adds to a quantile, of seconds (turns, requests) by target."""
    figures = []
    for name, beside in VIA.items():
        if name in seconds:
            pair = 1e3 * np.stack([seconds[beside], seconds[name]], axis=1)
            found = bootstrap(pair, added(quantile), draws=1000)
            aim = 0.2 if (name, what, where) == ("middleware", "median", f"{SIZES[0]:,} characters, 1 caller") else None
            figures.append(figure(f"{name}, added {what}, {where}", *found, unit="ms", at_most=aim))
    if what != "median":
        return figures
    figures.append(figure(f"stub asked directly, median, {where}", 1e3 * float(np.median(seconds["stub"])), unit="ms"))
    for over, aim in ((BARE, 1.2), (LITELLM, 1 / 3)):
        if over in seconds:
            three = np.stack([seconds["stub"], seconds[over], seconds[OURS]], axis=1)
            found = bootstrap(three, ratio_of_added, draws=1000)
            figures.append(figure(f"{OURS} / {over}, added median, {where}", *found, unit="times", at_most=aim))
    return figures


def measure(ports: dict[str, int], folder: Path, *, quick: bool) -> list[Figure]:
    """All figures, plain answers and streams, of every size and number of callers."""
    figures = []
    for callers in CALLERS:
        for size in SIZES:
            turns = 3 if quick else TURNS[callers]
            where = f"{size:,} characters, {callers} caller{'s' * (callers > 1)}"
            plain = asyncio.run(measure_callers(ports, size, callers, turns, stream=False))
            seconds = {name: np.array([[one.whole for one in turn] for turn in rows]) for name, rows in plain.items()}
            if callers == 1:
                seconds |= measure_clients(folder, ports["stub"], size, turns)
            figures += describe(seconds, "median", where, 0.5) + describe(seconds, "99th percentile", where, 0.99)
            streams = asyncio.run(measure_callers(ports, size, callers, max(3, turns // 4), stream=True))
            first = {name: np.array([[one.first for one in turn] for turn in rows]) for name, rows in streams.items()}
            figures += describe(first, "time to first token", where, 0.5)
            gaps = {
                name: [[gap for one in turn for gap in one.gaps] for turn in rows] for name, rows in streams.items()
            }
            figures += describe(cut_to_shortest(gaps), "99th percentile between chunks", where, 0.99)
            print(f"{where}: done", flush=True)
    return figures


def cut_to_shortest(rows: dict[str, list[list[float]]]) -> dict[str, np.ndarray]:
    """Arrays (turns, n): chunks that arrive together are one, so that turns hold different numbers of gaps."""
    least = min(len(turn) for turns in rows.values() for turn in turns)
    return {name: np.array([random.sample(turn, least) for turn in turns]) for name, turns in rows.items()}


def make_policy() -> Policy:
    tokenizer = build_tokenizer(get_encoder("static").files()["tokenizer.json"])
    return fitted_policy("blend", prompts(None, tokenizer)[:300])


def main() -> int:
    def add_litellm(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--litellm", type=Path, metavar="DIR", help="environment that holds LiteLLM's proxy")

    args = arguments((__doc__ or "").split("\n")[0], more=add_litellm)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = make_policy().save(Path(name) / "policy")
        ports = {"stub": stack.enter_context(run_process(serve_stub))}
        upstream = f"http://127.0.0.1:{ports['stub']}"
        for kind in (BARE, OURS, "server", "middleware"):
            ports[kind] = stack.enter_context(run_process(serve_app, kind, folder, upstream))
        if args.litellm is not None:
            ports[LITELLM] = stack.enter_context(run_litellm(args.litellm, upstream))
        figures = measure(ports, folder, quick=args.quick)
    notes = "" if args.litellm else "LiteLLM's proxy was not run: no `--litellm DIR` was given."
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    sys.exit(main())
