"""A changed bundle is refused with an error of its own, or predicts by one rule: it runs, reads and breaks nothing.

    python -m benchmarks run bundle_attacks [--quick] [-- --seed N]

Bundles of every learner, with vectors and with tokens, with and without prices, are changed: the ONNX model field by
field (tags of more than 32 bits, lengths, wire types, numbers that are longer than needed, external data, domains,
operators, sizes, numbers, doubled and swapped fields, bytes), the manifest and the tokenizer value by value. All
digests are made anew, so that the change is reached. Each one is loaded by `hagpolicy.load`, in processes apart, and
predicts where it loads. Counted is:

- code run: Python's audit events for imports, compiling, processes and libraries; operators of other domains;
- file read: Python's audit event for opening, and inotify on files that the changes name, for what native code reads;
- hang: 10 s; crash: the process ended; raw exception: any but the library's own;
- memory: growth of the process's peak;
- wrong silently: `predict`, `decide` and their batches differ, or differ from the graph's own `choice` as onnxruntime
  computes it from the changed file; a value that is not finite; onnx reads the rewritten model otherwise; the manifest
  that was understood is not the one in the file; the tokenizer gives other ids than `tokenizers` does for the file.

Before it starts, each of these watchers must notice what it is there for.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import argparse
import ctypes
import json
import mmap
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from tokenizers import Tokenizer

import hagpolicy as hag
from benchmarks.tools.claim import Claim
from benchmarks.tools.mutants import change_bytes, change_json, change_model, sign_manifest
from benchmarks.tools.record import Figure, arguments, figure, record
from hagpolicy._digest import digest_bytes
from hagpolicy.analysis.objectives import get_objectives, targets_of
from hagpolicy.errors import BundleError
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder, with_vectors
from hagpolicy.fitting.encoders.static import StaticEncoder
from hagpolicy.fitting.export import Decided, build_points, export_policy
from hagpolicy.fitting.graphs.ood import fit_ood
from hagpolicy.fitting.learners.registry import get_learner
from hagpolicy.fitting.learners.trees import BoostedTrees
from hagpolicy.fitting.policy_graph import TaskTable
from hagpolicy.policy.graph.model import Graph
from hagpolicy.results import Evaluation

CLAIM = Claim(
    name="bundle_attacks",
    states=(
        "A changed bundle is refused by name or predicts by one rule: none runs code, reads another file, hangs, "
        "takes much memory, breaks with a foreign exception or decides wrongly without a word."
    ),
    groups=("bench",),
    headline="changed bundles tried",
)
COUNTS = {"model": 61_500, "manifest": 39_000, "tokenizer": 5050}
QUICK = {"model": 4000, "manifest": 2500, "tokenizer": 500}
CHUNK, SECONDS, MIB = 500, 10.0, 256
FILES = {"model": "policy.onnx", "manifest": "policy.json", "tokenizer": "tokenizer.json"}
OWN = {*FILES.values(), "README.md"}
FAULTS = ("code run", "file read", "hang", "crash", "raw exception", "wrong silently", "memory above the bound")
OUTCOMES = (*FAULTS, "refused", "accepted")
TEXTS = (
    "How many apples has Tom?",
    "...",
    "List 3 rivers,\n  no more!",
    "北京 é\x00 [UNK] ##s",
    "word " * 2000,
)
WORDS = 600
RUNNING = {"exec", "compile", "import", "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen"}
RUNNING |= {"ctypes.dlopen", "socket.connect", "pickle.find_class", "marshal.loads", "code.__new__"}
READING = {"open", "os.listdir", "os.scandir"}


class SmallStatic(StaticEncoder):
    """The default encoder with its first tokens alone, so that a bundle is small."""

    @cached_property
    def table(self) -> np.ndarray:
        return super().table[:WORDS]

    def files(self) -> dict[str, bytes]:
        """The tokenizer, cut."""
        values = json.loads(super().files()["tokenizer.json"])
        vocabulary = values["model"]["vocab"]
        values["model"]["vocab"] = {word: number for word, number in vocabulary.items() if number < WORDS}
        return {"tokenizer.json": json.dumps(values, ensure_ascii=False).encode()}


@dataclass(frozen=True)
class Base:
    """A bundle that is changed: its files, and prompts for it."""

    files: dict[str, bytes]
    prompts: list[Any]

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The values of policy.json."""
        values: dict[str, Any] = json.loads(self.files["policy.json"])
        return values


def base(encoder: Encoder, learner: Any, objective: str, ships: bool, work: Path, told: bool = False) -> Base:
    """A bundle of 60 prompts and 6 configs; `told`: one of two tasks may be told."""
    rng = np.random.default_rng(0)
    space = hag.DecodingSpace.grid(temperature=[0.0, 0.7], repetition_penalty=[1.0, 1.1, 1.2])
    texts = [f"{'Add' if number % 2 else 'List'} {number} and {number % 7}." for number in range(60)]
    vectors = rng.normal(size=(60, 8)).astype(np.float32)
    prompts: Any = with_vectors(texts, vectors) if isinstance(encoder, PrecomputedEncoder) else texts
    rewards = rng.random((60, 6, 4)).round(3)
    table = hag.SweepTable.from_arrays(prompts, space, rewards, tokens=rng.integers(5, 60, (60, 6, 4)).astype(float))
    features, unknown = compute_features(encoder, table.prompts)
    targets = targets_of(table, get_objectives(objective))
    learned = get_learner(learner)
    named = zip(targets.names, targets.full, strict=True)
    heads = {name: learned.fit(features, part, table.groups, 0) for name, part in named}
    ood = fit_ood(features, unknown, table.groups, 0, encoder.length)
    count = len(targets.objectives)
    nothing = tuple(Evaluation((), None, None, n_prompts=0, n_groups=0) for _ in range(count))
    points = build_points(
        targets,
        nothing,
        tuple(
            Decided(0.01, "per_prompt" if ships else "single_best", int(targets.Y(number).mean(axis=0).argmax()))
            for number in range(count)
        ),
    )
    tasks = None
    if told:
        offsets = rng.normal(0, 0.1, (len(heads), 3, len(space))).astype(np.float32)
        tasks = TaskTable(("add", "list"), np.ones(3, np.float32), offsets)
        points = tuple(replace(point, told_ships=True, told_margin=0.02) for point in points)
    policy = export_policy(table, targets, encoder, learned, heads, ood, points, features, tasks=tasks)
    folder = policy.save(work / "base")
    asked = [*vectors[:3], vectors[3] * 100] if isinstance(encoder, PrecomputedEncoder) else list(TEXTS)
    return Base({path.name: path.read_bytes() for path in folder.iterdir()}, asked)


def bases(work: Path) -> list[Base]:
    """Bundles of every learner; the last one has tokens."""
    trees = BoostedTrees(rounds=6)
    learners: list[Any] = ["ridge", "knn", "mlp", trees, "constant"]
    made = [base(PrecomputedEncoder(), learner, "reward", learner != "constant", work) for learner in learners]
    made.append(base(PrecomputedEncoder(), "ridge", "price/token@0,0.001,0.01", True, work))
    made.append(base(PrecomputedEncoder(), "ridge", "price/token@0,0.001", True, work, told=True))
    return [*made, base(SmallStatic(), "ridge", "reward", True, work, told=True)]


def changed(kind: str, seed: int, known: list[Base]) -> tuple[Base, dict[str, bytes]]:
    """A base, and its files with one of them changed and all digests made anew."""
    rng = random.Random(seed)
    chosen = known[-1] if kind == "tokenizer" else rng.choice(known)
    files, values = dict(chosen.files), chosen.manifest
    if kind == "model":
        files["policy.onnx"] = change_model(files["policy.onnx"], rng)
    elif kind == "manifest":
        values = change_json(files["policy.json"], rng)
    else:
        text = json.dumps(change_json(files["tokenizer.json"], rng), ensure_ascii=rng.random() < 0.5)
        data = text.encode("utf-8", "surrogatepass")
        files["tokenizer.json"] = change_bytes(data, rng) if rng.random() < 0.1 else data
    if kind != "manifest":
        digests = {**values["files"], FILES[kind]: digest_bytes(files[FILES[kind]])}
        values = {**values, "files": digests}
    files["policy.json"] = sign_manifest(values) if isinstance(values, dict) else json.dumps(values).encode()
    if kind == "manifest" and rng.random() < 0.05:
        files["policy.json"] = change_bytes(files["policy.json"], rng)
    return chosen, files


def said(value: Any) -> Any:
    """What JSON values say: parts that are empty, 0, usual or absent say the same, and so do 1 and 1.0."""
    if isinstance(value, dict):
        return {key: inner for key, one in value.items() if (inner := said(one)) not in (None, "", {}, [], 0, "reward")}
    if isinstance(value, list):
        return [said(one) for one in value]
    return float(value) if isinstance(value, int) and value not in (True, False) and abs(value) < 1e300 else value


def use(policy: hag.Policy, files: dict[str, bytes], prompts: list[Any]) -> str:
    """What is wrong with a policy that was loaded; "" for nothing."""
    session = onnxruntime.InferenceSession(files["policy.onnx"], OPTIONS, providers=["CPUExecutionProvider"])
    rewritten = onnx.load_from_string(Graph(files["policy.onnx"]).encode())
    if {node.domain for node in rewritten.graph.node} - {"", "ai.onnx.ml"}:
        return "code run"
    if rewritten.SerializeToString() != Graph(files["policy.onnx"]).encode():
        return "wrong silently"
    stored = json.loads(files["policy.json"])
    stored["space"] = hag.DecodingSpace.from_json(stored["space"]).to_json()  # without neutral values
    own = {**policy.manifest.to_json(), **{key: stored[key] for key in ("digest", "files", "format_version")}}
    if said(own) != said(stored):
        return "wrong silently"
    if "tokenizer.json" in files:
        tokenizer = Tokenizer.from_buffer(files["tokenizer.json"])
        for text, arrays_of in zip(prompts, map(policy._inputs.one, prompts), strict=True):
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            if len(text) < 8000 and arrays_of["ids"][0].tolist() != (ids or [0]):
                return "wrong silently"
    told = any(point.told_ships for point in policy.dial.points)
    tasks = (None, *policy.manifest.tasks[:3]) if told else (None,)
    return next((fault for task in tasks if (fault := use_told(policy, session, prompts, task))), "")


def use_told(policy: hag.Policy, session: Any, prompts: list[Any], task: str | None) -> str:
    """The same of its choices for one task, or for none."""
    decisions = [policy.decide(prompt, task=task) for prompt in prompts]
    configs = [policy.predict(prompt, task=task) for prompt in prompts]
    arrays = [policy._inputs.one(prompt) for prompt in prompts]
    if any(point.told_ships for point in policy.dial.points):
        number = 0 if task is None else 1 + policy.manifest.tasks.index(task)
        arrays = [{**one, "task": np.array([number])} for one in arrays]
    choices = [int(session.run(["choice"], one)[0][0]) for one in arrays]
    same = configs == policy.predict_batch(prompts, task=task) == [decision.config for decision in decisions]
    same = same and configs == [policy.space[choice] for choice in choices]
    finite = all(decision.value is not None and np.isfinite(decision.value) for decision in decisions)
    return "" if same and finite else "wrong silently"


def attempt(kind: str, seed: int, known: list[Base], folder: Path, watch: Watch) -> str:
    """What became of a changed bundle: "refused", "accepted", or a fault."""
    sys.setrecursionlimit(20_000)
    chosen, files = changed(kind, seed, known)
    sys.setrecursionlimit(1000)
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    watch.arm(folder)
    try:
        policy = hag.load(folder)
        for prompt in chosen.prompts:
            policy.predict(prompt)
        outcome = "accepted"
    except BundleError:
        outcome = "refused"
    except BaseException:
        outcome = "raw exception"
    found = watch.disarm()
    if found or outcome != "accepted":
        return found or outcome
    sys.setrecursionlimit(20_000)
    try:
        return use(policy, files, chosen.prompts) or outcome
    except BundleError:
        return "refused"


OPTIONS = onnxruntime.SessionOptions()
OPTIONS.intra_op_num_threads = 1
OPTIONS.log_severity_level = 4


class Watch:
    """Notices code that is run and files that are read while it is armed.

    Args:
        watched: files that nothing may open.
    """

    def __init__(self, watched: list[Path]) -> None:
        self._found, self._folder = "", ""
        self._armed = False
        sys.addaudithook(self._hear)
        libc = ctypes.CDLL(None)
        self._inotify = libc.inotify_init1(os.O_NONBLOCK)
        for path in watched:
            assert libc.inotify_add_watch(self._inotify, str(path).encode(), 0x20 | 0x1) >= 0, "inotify"  # open, access

    def _hear(self, event: str, details: tuple[Any, ...]) -> None:
        if not self._armed:
            return
        if event in RUNNING:
            self._found = "code run"
        elif event in READING and isinstance(details[0], str) and not self._is_own(details[0]):
            self._found = "file read"

    def _is_own(self, path: str) -> bool:
        """In the folder, or a bundle's name, which is opened within it."""
        return path.startswith(self._folder) or path in OWN

    def arm(self, folder: Path) -> None:
        """From now on only files of a folder may be opened."""
        self._found, self._folder, self._armed = "", str(folder), True

    def disarm(self) -> str:
        """The fault that was noticed, or ""."""
        self._armed = False
        try:
            os.read(self._inotify, 4096)
        except BlockingIOError:
            return self._found
        return self._found or "file read"


def check_watch(watch: Watch, folder: Path, canary: Path) -> None:
    """The watchers notice a module that is imported, a file that Python opens, and one that native code opens."""

    def native() -> None:
        libc = ctypes.CDLL(None)
        descriptor = libc.open(str(canary).encode(), 0)
        assert descriptor >= 0
        libc.close(descriptor)

    wanted: list[tuple[str, Callable[[], Any]]] = [
        ("code run", lambda: compile("1", "x", "eval")),
        ("file read", lambda: Path(__file__).read_bytes()),
        ("", lambda: (folder / "policy.json").read_bytes()),
    ]
    for expected, act in wanted:
        watch.arm(folder)
        act()
        assert watch.disarm() == expected, f"the watch missed: {expected}"
    native()
    assert watch.disarm() == "file read", "the watch missed what native code opens"


@dataclass
class Chunk:
    """Changed bundles of one kind with neighbouring seeds."""

    kind: str
    start: int
    stop: int


class State:
    """Where a process is and what it found, in memory that its parent reads: aligned numbers, each written at once."""

    def __init__(self) -> None:
        shared = mmap.mmap(-1, 4096)
        self.counts = np.frombuffer(shared, np.int64, len(OUTCOMES) + 1)  # the last one: the seed, -1 at the end
        self.times = np.frombuffer(shared, np.float64, 3, 2048)  # start of the seed, largest growth, longest time


def run_chunk(chunk: Chunk, known: list[Base], work: Path, state: State) -> None:
    """In a process of its own: try them one after the other, and say in `state` where it is and what it found."""
    folder = work / "bundle"
    watch = Watch([work / ".env", work.parent / ".env", work / "secret.bin"])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(chunk.start, chunk.stop):
        state.times[0] = started = time.monotonic()
        state.counts[-1] = seed
        outcome = attempt(chunk.kind, seed, known, folder, watch)
        if outcome not in ("refused", "accepted"):
            print(f"{chunk.kind} {seed}: {outcome}", flush=True)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        growth = (peak - memory) / 1024
        if growth > MIB:
            outcome, memory = "memory above the bound", peak
        state.counts[OUTCOMES.index(outcome)] += 1
        state.times[1:] = max(state.times[1], growth), max(state.times[2], time.monotonic() - started)
    state.counts[-1] = -1


def follow(chunk: Chunk, known: list[Base], work: Path, counts: Counter[str]) -> tuple[float, float]:
    """Run a chunk, a new process after each that hangs or ends. Returns the largest growth (MiB) and time (s)."""
    growth = longest = 0.0
    start = chunk.start
    while start < chunk.stop:
        state = State()
        state.times[0], state.counts[-1] = time.monotonic(), start
        process = os.fork()
        if process == 0:
            try:
                run_chunk(Chunk(chunk.kind, start, chunk.stop), known, work, state)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        end = ""
        while os.waitpid(process, os.WNOHANG)[0] == 0:
            if time.monotonic() - state.times[0] > SECONDS:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                end = "hang"
                break
            time.sleep(0.01)
        growth, longest = max(growth, float(state.times[1])), max(longest, float(state.times[2]))
        counts.update(dict(zip(OUTCOMES, map(int, state.counts[:-1]), strict=True)))
        if state.counts[-1] == -1:
            break
        counts[end or "crash"] += 1
        print(f"{chunk.kind} {state.counts[-1]}: {end or 'crash'}", flush=True)
        start = int(state.counts[-1]) + 1
    return growth, longest


def tried(counts: dict[str, int], seed: int, work: Path) -> list[Figure]:
    """Try all kinds; the figures of the claim."""
    known = bases(work)
    home = work / "home"
    (home / "bundle").mkdir(parents=True)
    for path in (work / ".env", home / ".env", home / "secret.bin"):
        path.write_bytes(b"SECRET=1\n" * 100)
    os.chdir(home)
    (home / "bundle" / "policy.json").write_bytes(known[0].files["policy.json"])
    check_watch(Watch([home / ".env"]), home / "bundle", home / ".env")
    figures, total, growth, longest = [], Counter[str](), 0.0, 0.0
    for kind, count in counts.items():
        for path in (home / "bundle").iterdir():
            path.unlink()
        # What a first use imports is imported before anything is watched.
        found: Counter[str] = Counter()
        for start in range(seed, seed + count, CHUNK):
            most, slowest = follow(Chunk(kind, start, min(start + CHUNK, seed + count)), known, home, found)
            growth, longest = max(growth, most), max(longest, slowest)
        figures += [
            figure(f"{kind}s changed", found.total(), unit="bundles"),
            figure(f"{kind}s changed and refused", found["refused"], unit="bundles"),
            figure(f"{kind}s changed, accepted and predicting", found["accepted"], unit="bundles"),
        ]
        total += found
    zeros = [figure(name, total[name], unit="bundles", at_most=0) for name in FAULTS]
    return [
        *figures,
        figure("changed bundles tried", total.total(), unit="bundles", at_least=sum(counts.values())),
        *zeros,
        figure("largest growth of a process's peak memory", growth, unit="MiB", at_most=MIB),
        figure("longest time of one bundle", longest, unit="s", at_most=SECONDS),
    ]


def main() -> int:
    """Measure and record."""

    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--seed", type=int, default=1, help="of the first change; each has the next one")

    args = arguments(__doc__ or "", more=more)
    counts = QUICK if args.quick else COUNTS
    # In memory, where there is such a folder: every change is written out.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as work:
        found = tried(counts, args.seed, Path(work).resolve())
    notes = (
        f"Seeds {args.seed} to {args.seed - 1} plus the number of each kind; the same seed makes the same change. "
        f"Bundles of ridge, nearest neighbours, MLP, trees, a constant, and of a price with two heads, on vectors of 8 "
        f"numbers; and one of the default encoder with {WORDS} tokens, whose tokenizer is changed."
    )
    return record(CLAIM, found, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
