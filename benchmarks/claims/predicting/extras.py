"""Claim: each extra, installed alone in a fresh environment, is enough for what it is for; and how large it is.

    python -m benchmarks run extras [--quick] [-- --only cpu http --torch-index https://download.pytorch.org/whl/cpu]

All extras of pyproject.toml but those that need a GPU and those for developing; each has a result of its own, so that
sizes before and after a change can be compared. Needs a package index. `--quick` does [cpu] alone.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import hagpolicy as hag
from benchmarks.tools.claim import Claim
from benchmarks.tools.fresh import REPOSITORY, FreshEnvironment
from benchmarks.tools.record import arguments, figure, record
from tests.support.servers.model_folders import tiny_folder
from tests.support.stub_server import StubProcess
from tests.support.tiny_adapter import save_adapter
from tests.support.tiny_llama import tiny_model as load_tiny_model

CLAIM = Claim(
    name="extras",
    states="Each extra, installed alone in a fresh environment, imports and runs what it is for.",
    groups=("install",),
    headline="installed size",
    needs=("index",),
)
# They need a GPU, gather others, or are for developing.
LEFT_OUT = {"gpu", "vllm", "all", "dev", "docs", "servers"}
WORLD = """
import sys
import hagpolicy as hag
world = hag.SimulatedEngine(0, gap=0.2)
space = hag.DecodingSpace.grid(temperature=[0.0, 0.5, 1.0], repetition_penalty=[1.0, 1.1])
prompts = world.prompts(60)
"""
TABLE = f"{WORLD}\ntable = hag.SweepTable.from_arrays(prompts, space, world.truth(prompts, space), default=0)\n"
SWEEP = """
import sys
import hagpolicy as hag
space = hag.DecodingSpace.grid(temperature=[0.0, 0.7])
prompts = [hag.Prompt(text, reference="three") for text in ("count to three", "name three colours", "say hello again")]
table = hag.sweep(sys.argv[1], prompts, space, "exact_match", samples=2, max_tokens=8, out="sweep", progress=False)
assert table.complete.all(), table.failures
assert (hag.load_table("sweep").rewards == table.rewards).sum() >= len(prompts) * len(space)
"""


@contextmanager
def saved_policy(folder: Path) -> Iterator[str]:
    """A bundle, fitted where all is installed."""
    world = hag.SimulatedEngine(0, gap=0.2)
    space = hag.DecodingSpace.grid(temperature=[0.0, 0.5, 1.0], repetition_penalty=[1.0, 1.1])
    prompts = world.prompts(80)
    table = hag.SweepTable.from_arrays(prompts, space, world.truth(prompts, space))
    yield str(hag.fit(table, learner="ridge").save(folder / "policy"))


@contextmanager
def tiny_model(folder: Path) -> Iterator[str]:
    """A model of random weights."""
    yield f"transformers:{tiny_folder(folder / 'model')}"


@contextmanager
def adapted_model(folder: Path) -> Iterator[str]:
    """The folder of a model of random weights with an adapter."""
    save_adapter(load_tiny_model(), folder / "adapter", strength=1.0)
    tiny_folder(folder / "model")
    yield str(folder)


@contextmanager
def stub_server(folder: Path) -> Iterator[str]:
    """A server of the OpenAI-compatible API."""
    with StubProcess(slots=4, service=0.01) as stub:
        yield f"openai:{stub.url}"


@contextmanager
def nothing(folder: Path) -> Iterator[str]:
    """No argument."""
    yield ""


@dataclass(frozen=True)
class Use:
    """What an extra is for.

    Attributes:
        words: in a sentence.
        code: runs in the fresh environment, with one argument.
        argument: makes it in a folder, with what is installed here.
        torch: whether the extra needs torch, whose version is pinned.
    """

    words: str
    code: str
    argument: Callable[[Path], AbstractContextManager[str]] = nothing
    torch: bool = False


USES = {
    "cpu": Use(
        "loads a bundle and decides for a prompt",
        "import sys, hagpolicy\nprint(hagpolicy.load(sys.argv[1]).decide('Tell me about the harbour.').config)",
        saved_policy,
    ),
    "fit": Use(
        "measures the headroom of a table, fits a policy and saves it",
        f"{TABLE}\nprint(hag.headroom(table).sentence)\nprint(hag.fit(table).save('policy'))",
    ),
    "sweep": Use("sweeps a model of transformers in this process", SWEEP, tiny_model, torch=True),
    "tune": Use(
        "sweeps a model with an adapter",
        """import sys
import hagpolicy as hag
engine = hag.load_engine(sys.argv[1] + "/model", artifacts={"adapter": {"own": sys.argv[1] + "/adapter"}})
space = [hag.DecodingConfig(temperature=0.0, adapter=name) for name in ("", "own")]
prompts = [hag.Prompt(text, reference="three") for text in ("count to three", "name three colours")]
table = hag.sweep(engine, prompts, space, "exact_match", samples=1, max_tokens=8, out="sweep", progress=False)
assert table.complete.all(), table.failures""",
        adapted_model,
        torch=True,
    ),
    "http": Use("sweeps a server over HTTP", SWEEP, stub_server),
    "serve": Use(
        "hands a request on to a server",
        """import asyncio, sys, uvicorn
from hagpolicy.serving.proxy import ForwardingApp
app, said = ForwardingApp(sys.argv[1].removeprefix("openai:")), []
scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": []}
async def receive():
    await asyncio.sleep(0.01 if not said else 60.0)
    return {"type": "http.request"}
async def send(message):
    said.append(message)
async def end():
    return {"type": "lifespan.shutdown"}
async def ask():
    await app(scope, receive, send)
    await app({"type": "lifespan"}, end, send)
asyncio.run(ask())
assert said[0]["status"] == 200, said""",
        stub_server,
    ),
    "otel": Use(
        "opens a span around a request",
        """from hagpolicy.serving.handler import HandledRequest
from hagpolicy.serving.rewrite import RequestReceipt
from hagpolicy.serving.tracing import RequestTracer
headers = [(b"traceparent", b"00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")]
with RequestTracer().open(HandledRequest(b"", RequestReceipt("skipped"), endpoint="chat"), headers) as sent:
    assert sent == headers, sent""",
    ),
    "cluster": Use(
        "generates with two Ray workers",
        f"""{WORLD}
import ray
from hagpolicy.engines.ray.engine import RayEngine
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
engine = RayEngine("simulated:0", 2)
units = [[hag.Request(prompt, space[0], at, at, 16)] for at, prompt in enumerate(prompts[:4])]
answers = [answer for unit in units for answer in engine.generate(unit)]
assert len(answers) == 4 and not any(answer.error for answer in answers), answers
engine.close()""",
    ),
    "hub": Use(
        "finds a policy in the Hub's cache, and says that it is not there",
        """import tempfile
from hagpolicy.errors import BundleError
from hagpolicy.policy.hub import pull_policy
try:
    with pull_policy("nobody/nothing", revision=None, cache_dir=tempfile.mkdtemp(), local_files_only=True):
        raise SystemExit("found")
except BundleError as error:
    print(error)""",
    ),
    "report": Use("writes the report of a table", f"{TABLE}\nprint(hag.write_report('report.html', table=table))"),
}


def list_extras() -> list[str]:
    """The extras of pyproject.toml that are tried, in its order."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    return [name for name in project["optional-dependencies"] if name not in LEFT_OUT]


def try_extra(extra: str, args: argparse.Namespace) -> int:
    """Install one extra, run what it is for, and record it. Returns the exit code."""
    use = USES[extra]
    with tempfile.TemporaryDirectory() as name, use.argument(Path(name)) as argument:
        started = time.perf_counter()
        fresh = FreshEnvironment(Path(name) / "fresh", extra, torch=args.torch_index if use.torch else None)
        seconds = time.perf_counter() - started
        packages = fresh.packages
        try:
            print(fresh.run("-c", use.code, argument).stdout)
            runs = True
        except subprocess.CalledProcessError as error:
            print(error.stdout, error.stderr, sep="\n")
            runs = False
    figures = [
        figure(use.words, float(runs), unit="yes = 1", at_least=1),
        figure("installed size", fresh.mib, unit="MiB"),
        figure("packages installed, pip and hagpolicy included", len(packages), unit="packages"),
        figure("installing", seconds, unit="s"),
    ]
    part = CLAIM.part(extra, f"The extra [{extra}], installed alone in a fresh environment, {use.words}.")
    return record(part, figures, args, f"Installed: {', '.join(packages)}.")


def main() -> int:
    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--only", nargs="*", choices=list_extras(), help="all, if none is named")
        parser.add_argument(
            "--torch-index", default="", metavar="URL", help="where torch comes from; else pip's default"
        )

    args = arguments(CLAIM.states, more=more)
    extras = args.only or (["cpu"] if args.quick else list_extras())
    return max([try_extra(extra, args) for extra in extras])


if __name__ == "__main__":
    raise SystemExit(main())
