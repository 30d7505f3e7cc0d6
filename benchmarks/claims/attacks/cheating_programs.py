"""No program fakes a verdict of `python_tests` or does anything but compute; honest ones are judged as before.

    python -m benchmarks run cheating_programs --data DIR [--quick]

Programs that cheat, by family (`tests/support/cheats.py`), each against asserts and against a `check` function: a wrong
`add` with a trick beside it, or a right one only where something forbidden succeeds. With the public data the 164
reference solutions of HumanEval and one mutant of each (one operator, constant or condition changed, drawn with the
seed), judged here and by the package at commit e33a7ac, program by program in turn: that gives the ratio of times.
"""

from __future__ import annotations

import ast
import gzip
import io
import json
import math
import os
import random
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.tools.claim import ROOT, Claim
from benchmarks.tools.record import Figure, arguments, bootstrap, figure, not_run, record
from hagpolicy import Prompt, get_scorer
from hagpolicy.data.completion import Completion
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.scorers.code.sandbox import list_isolation
from hagpolicy.scorers.code.values import EXCEPTIONS, KINDS
from tests.support.cheats import CHECK, TESTS, fill_in, list_cheats

CLAIM = Claim(
    name="cheating_programs",
    states="Of over 200 programs that cheat none passes, reads or runs anything; honest ones are judged as before.",
    groups=("bench",),
    headline="cheats that passed",
    needs=("data",),
)
BEFORE, SEED, SECONDS = "e33a7ac", 0, 1
HARMS = ("code run", "file read", "secret left", "hang", "raw exception", "wrong silently")
_HARM = {
    **dict.fromkeys(("network", "processes", "threads"), "code run"),
    **dict.fromkeys(("proc", "files"), "file read"),
    **dict.fromkeys(("environment", "tests' text"), "secret left"),
}
_SAID = {*EXCEPTIONS, "an exception of its own", "time limit", "killed", "ended before the tests"}
_REASONS = {
    *[f"not decided: the program gives {kind}" for kind in KINDS],
    "not decided: the tests use a name that may mean a module or something of the program's",
    "not decided: the tests use a module that only the program imports",
    "not decided: the tests compare, hash, copy or format an object of the program, which only the program can do",
    "not decided: the tests ask an object of the program about a value, which only the program can answer",
    "not decided: a value that the program and the tests both have was changed by one of them",
    "not decided: the program reads a name that the tests give a value",
}
_WORKER = """
import json, sys, time
from hagpolicy import Prompt, get_scorer
from hagpolicy.data.completion import Completion
scorer = get_scorer({"name": "python_tests", "allow_code": True})
for line in sys.stdin:
    prompt, reference, answer = json.loads(line)
    begun = time.perf_counter()
    (score,) = scorer.score([(Prompt(prompt, reference), Completion(answer))])
    print(json.dumps([time.perf_counter() - begun, score.value]), flush=True)
"""


def try_cheats(quick: bool) -> list[Figure]:
    """Run every cheat; what became of each family, and how many did what they should not."""
    os.environ["HAGPOLICY_SECRET"] = "SECRET"
    harms, ends, listed = Counter(dict.fromkeys(HARMS, 0)), Counter(), []
    scorer = get_scorer({"name": "python_tests", "allow_code": True, "seconds": SECONDS})
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        target = Path(folder, "target")
        target.write_text("precious", "utf-8")
        port = server.getsockname()[1]
        for family, codes in list_cheats().items():
            codes = codes[:1] if quick else codes
            for code in codes:
                for end, harm in try_one(scorer, fill_in(code, target, port), _HARM.get(family, "wrong silently")):
                    ends[end] += 1
                    harms.update(harm)
            listed.append(figure(f"tried: {family}", 2 * len(codes), unit="runs"))
        server.settimeout(0.1)
        try:
            server.accept()
            harms["code run"] += 1
        except TimeoutError:
            pass
        if target.read_text("utf-8") != "precious" or os.listdir(folder) != ["target"]:
            harms["code run"] += 1
    count = sum(ends.values())
    return [
        figure("cheats that passed", ends["passed"], unit="runs", at_most=0),
        figure("cheats", count // 2, unit="programs", at_least=None if quick else 100),
        figure("families", len(listed), unit="families", at_least=10),
        figure("runs that failed, as they should", ends["failed"], unit="runs"),
        figure("runs that were left unscored", ends["unscored"], unit="runs"),
        *[figure(harm, harms[harm], unit="runs", at_most=0) for harm in HARMS],
        *listed,
    ]


def try_one(scorer: Scorer, code: str, harm: str) -> list[tuple[str, list[str]]]:
    """How a program's runs against both kinds of tests ended, side by side, and what harm each did."""
    begun = time.monotonic()
    try:
        items = [(Prompt("Write a function add.", reference), Completion(code)) for reference in (TESTS, CHECK)]
        scores = scorer.score(items)
    except Exception:  # a scorer that raises is what is looked for: it is counted
        return [("raised", ["raw exception"])] * 2
    slow = ["hang"] if time.monotonic() - begun > 4 * SECONDS + 2 + 10 else []
    return [judge(score, slow, harm) for score in scores]


def judge(score: Score, harms: list[str], harm: str) -> tuple[str, list[str]]:
    """How one run ended, and what harm it did."""
    if score.value == 1.0:
        return "passed", [*harms, harm]
    unscored = math.isnan(score.value)
    known = (score.reason if unscored else score.answer) in (_REASONS if unscored else _SAID)
    return "unscored" if unscored else "failed", [*harms, *([] if known else ["secret left"])]


def read_tasks(data: Path, quick: bool) -> list[dict]:
    """The tasks of HumanEval."""
    text = gzip.decompress((data / "tasks" / "humaneval" / "HumanEval.jsonl.gz").read_bytes())
    return [json.loads(line) for line in text.splitlines()][:: 16 if quick else 1]


class _Mutate(ast.NodeTransformer):
    """Changes one place of a program: the one with this number, counting from 0."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.places = 0

    def _is_it(self) -> bool:
        self.places += 1
        return self.places == self.left + 1

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        swaps = {
            ast.Lt: ast.GtE,
            ast.GtE: ast.Lt,
            ast.Gt: ast.LtE,
            ast.LtE: ast.Gt,
            ast.Eq: ast.NotEq,
            ast.NotEq: ast.Eq,
        }
        if type(node.ops[0]) in swaps and self._is_it():
            node.ops[0] = swaps[type(node.ops[0])]()
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        swaps = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Mod: ast.FloorDiv, ast.FloorDiv: ast.Mod}
        if type(node.op) in swaps and self._is_it():
            node.op = swaps[type(node.op)]()
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if type(node.value) is int and self._is_it():
            node.value += 1
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        if node.value is not None and self._is_it():
            node.value = ast.IfExp(ast.Constant(True), ast.List([node.value], ast.Load()), ast.Constant(None))
        return node


def mutate(task: dict, seed: int) -> str:
    """The reference solution of a task with one place changed."""
    source = task["prompt"] + task["canonical_solution"]
    counter = _Mutate(-1)
    counter.visit(ast.parse(source))
    at = random.Random(f"{seed} {task['task_id']}").randrange(counter.places)
    changed = ast.fix_missing_locations(_Mutate(at).visit(ast.parse(source)))
    return f"```python\n{ast.unparse(changed)}\n```\n"


@contextmanager
def worker(package: Path) -> Iterator:
    """A function that scores one program in a process that imports the package from a folder."""
    environment = {**os.environ, "PYTHONPATH": str(package)}
    command = [sys.executable, "-c", _WORKER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=package
    ) as process:

        def ask(item: Sequence[object]) -> tuple[float, float]:
            process.stdin.write(json.dumps(item).encode() + b"\n")
            process.stdin.flush()
            return tuple(json.loads(process.stdout.readline()))

        yield ask
        process.stdin.close()


def compare(tasks: list[dict]) -> list[Figure]:
    """Judge references and mutants here and by the package as it was, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["git", "archive", BEFORE, "hagpolicy"], cwd=ROOT.parent, capture_output=True, check=True)
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as packed:
            packed.extractall(folder, filter="data")
        found: dict[str, list] = {"references": [], "mutants": []}
        with worker(Path(folder)) as before, worker(ROOT.parent) as now:
            for at, task in enumerate(tasks):
                reference = {"tests": task["test"], "entry_point": task["entry_point"]}
                answers = {"references": task["canonical_solution"], "mutants": mutate(task, SEED)}
                for kind, answer in answers.items():
                    item = (task["prompt"], reference, answer)
                    pair = (now(item), before(item)) if at % 2 else (before(item), now(item))[::-1]
                    found[kind].append(pair)
    ratios = [new[0] / old[0] for new, old in found["references"]]
    ratio = bootstrap(ratios)
    right, wrong = found["references"], found["mutants"]
    return [
        figure("HumanEval references", len(right), unit="programs"),
        figure("references that do not pass", sum(new[1] != 1.0 for new, _ in right), unit="programs", at_most=0),
        figure("mutants that fail", sum(new[1] == 0.0 for new, _ in wrong), unit="programs"),
        figure(
            "mutants judged otherwise than before",
            sum(new[1] != old[1] for new, old in wrong),
            unit="programs",
            at_most=0,
        ),
        figure("time a program, against before", *ratio, unit="times", at_most=2),
        figure("time a program", 1000 * bootstrap([new[0] for new, _ in right])[0], unit="ms"),
    ]


def main() -> int:
    """Measure and record."""
    args = arguments(__doc__ or "")
    if args.data is None and not args.quick:
        return not_run(CLAIM, "it needs HumanEval: --data DIR", args)
    found = try_cheats(args.quick)
    if args.data is not None:
        found += compare(read_tasks(args.data, args.quick))
    notes = f"Seed of the mutants: {SEED}. Isolation here: {', '.join(list_isolation())}. Before: commit {BEFORE}."
    return record(CLAIM, found, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
