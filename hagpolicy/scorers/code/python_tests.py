"""`python_tests`: generated Python passes its unit tests."""

from __future__ import annotations

import ast
import builtins
import logging
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hagpolicy._checks import is_whole
from hagpolicy.data.answers import split_reasoning
from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.scorers.code.programs import find_code_blocks, find_global_names, looks_like_code
from hagpolicy.scorers.code.sandbox import (
    Processes,
    SandboxResult,
    build_seccomp_filter,
    check_interpreter,
    list_isolation,
    run_tests,
)

logger = logging.getLogger(__name__)

_EXPECTED = 'the source of tests, or {"tests": source, "entry_point": name}'
# What tests may not do to the program, which is in another process: change what it reads, or look into it.
_OUT_OF_REACH = {"patch", "monkeypatch", "stdin", "builtins", "inspect", "getsource", "FunctionType", "settrace"}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class UnitTests:
    """Tests of a reference.

    Attributes:
        source: is run.
        functions: are then called.
        entry_point: the name tested; "": none is given.
        wanted: names that the answer defines.
    """

    source: str
    functions: tuple[str, ...]
    entry_point: str
    wanted: tuple[str, ...]


class PythonTests(Scorer):
    """1 where every test passes, else 0. Runs what was generated, so it is off unless asked for.

    An answer and its tests run in two processes, under the limits and guarantees of
    `hagpolicy.scorers.code.sandbox`: no network, no other process, no file written, bounded time and memory. The tests
    ask for values, so that what passes them is a value equal to the one expected, and nothing else.

    The reference is the source of the tests: plain asserts, and functions `test_…` without arguments,
    which are called; or {"tests": source, "entry_point": name}, where a function `check` in the tests
    is called with what the answer defines under that name (as in HumanEval, Chen et al., 2021).

    The program is the last fenced block of Python that is whole and defines the entry point, or else a name that
    the tests use, with the helpers that it needs of other blocks; without such a block, what of the whole answer
    does. Where the prompt is itself code, or holds a fenced block of it, the program follows that code (its
    imports and helpers), and an answer that is no program on its own is taken as its continuation, cut before the first
    line that ends it. Helpers that the prompt gives are the prompt's where the tests use them.

    A test that does not end in time fails. An answer is unscored where nothing could be run, and where tests cannot
    decide: what the program gives is no plain value (numbers, text, bytes, None, lists, tuples, dicts, sets and
    their like in the standard library) but a function, a generator, a module, an object of its own class, or
    larger than 32 MiB. Objects of classes that the tests name can be made and used, and not be compared. The
    score's `answer` is "passed", the name of a built-in exception, "an exception of its own", "time limit", "killed"
    or "ended before the tests".

    Attributes:
        isolation: the mechanisms that hold on this machine: "processes", "rlimits", "seccomp", and "landlock" where
            the kernel has it. Without it a warning is logged once, see `hagpolicy.scorers.code.sandbox`.

    Args:
        allow_code: True: generated code may be run on this machine.
        seconds: of CPU time for an answer with its tests, at least 1.
        memory_mb: MiB of address space, at least 64; Python itself takes a part of it.

    Raises:
        InvalidInput: no `allow_code`, or a limit out of range.
        EngineError: a system on which generated code is not run (see `sandbox.build_seccomp_filter`), or an
            application that was frozen into one file.
    """

    name = "python_tests"
    needs_reference = True
    answers_agree = False

    def __init__(self, allow_code: bool = False, seconds: int = 5, memory_mb: int = 512) -> None:
        if allow_code is not True:
            do = 'Ask for it: {"name": "python_tests", "allow_code": true}.'
            raise InvalidInput("python_tests.allow_code", "true: this scorer runs generated code", allow_code, do)
        for option, value, least in (("seconds", seconds, 1), ("memory_mb", memory_mb, 64)):
            if not is_whole(value, least):
                raise InvalidInput(f"python_tests.{option}", f"a whole number of at least {least}", value)
        build_seccomp_filter(platform.machine())
        check_interpreter()
        self.isolation = list_isolation()
        if "landlock" not in self.isolation:
            _warn_once()
        self.seconds, self.memory_mb = seconds, memory_mb
        self.version = f"2-python{sys.version_info[0]}.{sys.version_info[1]}-{seconds}s-{memory_mb}MiB"

    def check(self, prompt: Prompt) -> str | None:
        """The reason why this prompt's reference cannot be used, or None when it can."""
        if (missing := super().check(prompt)) is not None:
            return missing
        found = parse_tests(prompt.reference)
        return found if isinstance(found, str) else None

    def score(self, items: Sequence[tuple[Prompt, Completion]]) -> list[Score]:
        """Rewards in order; as many processes at once as there are processors."""
        pool, processes = ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))), Processes()
        try:
            return list(pool.map(lambda item: self._score_one(item, processes), items))
        finally:  # where the caller is interrupted, what has not begun is left, and what runs ends
            processes.end()
            pool.shutdown(cancel_futures=True)

    def _score_one(self, item: tuple[Prompt, Completion], processes: Processes) -> Score:
        prompt, completion = item
        tests = parse_tests(prompt.reference)
        if isinstance(tests, str):
            return Score.unscored(self.check(prompt) or tests)
        result: SandboxResult = run_tests(
            list_programs(split_reasoning(completion.text)[1]), tests.source, tests.functions, seconds=self.seconds,
            memory_mb=self.memory_mb, head=find_code(prompt.text), entry_point=tests.entry_point, wanted=tests.wanted,
            processes=processes,
        )  # fmt: skip
        return (
            Score.unscored(result.detail) if result.passed is None else Score(float(result.passed), None, result.detail)
        )

    def __repr__(self) -> str:
        return f"PythonTests(version={self.version!r})"


def parse_tests(reference: Any) -> UnitTests | str:
    """The tests of a reference, or why they cannot be used: tests that check nothing would pass anything."""
    given = reference if isinstance(reference, Mapping) else {"tests": reference}
    source, entry_point = given.get("tests"), given.get("entry_point", "")
    named = isinstance(entry_point, str) and (not entry_point or entry_point.isidentifier())
    if not isinstance(source, str) or not named or set(given) - {"tests", "entry_point"}:
        return f"scorer python_tests expects {_EXPECTED} as reference"
    try:
        tree = ast.parse(source)
        used, bound = find_global_names(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"scorer python_tests expects {_EXPECTED} as reference; this is no Python: {type(error).__name__}"
    body = tree.body
    if unreachable := _OUT_OF_REACH & {str(getattr(node, "attr", getattr(node, "id", ""))) for node in ast.walk(tree)}:
        return f"scorer python_tests runs tests in another process than the program, out of reach of {min(unreachable)}"
    free = tuple(sorted(used - bound - vars(builtins).keys()))
    wanted = (entry_point,) if entry_point else free or tuple(sorted(used - bound))
    functions = [node for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    if any(node.args.args or node.args.posonlyargs or node.args.kwonlyargs for node in functions):
        return "scorer python_tests calls functions test_… without arguments, and one of these tests has some"
    if entry_point and any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in body):
        return UnitTests(
            f"{source}\ncheck({entry_point})\n", tuple(node.name for node in functions), entry_point, wanted
        )
    loose = [node for node in body if not isinstance(node, _DEFINITIONS)]
    acts = any(isinstance(node, (ast.Assert, ast.Raise, ast.Call)) for line in loose for node in ast.walk(line))
    if not functions and not acts:
        return "scorer python_tests expects asserts or functions test_…, and these tests would pass anything"
    return UnitTests(source, tuple(node.name for node in functions), entry_point, wanted)


def list_programs(answer: str) -> list[list[str]]:
    """The readings of an answer as rows of code blocks, likeliest first, as `sandbox.run_tests` takes them.

    Nothing is compiled here: a compiler is not to be given hostile text in the caller's process.
    """
    answer = answer.removeprefix("\ufeff")
    blocks = find_code_blocks(answer)
    return [blocks, [answer]] if blocks else [[answer]]


def find_code(prompt: str) -> str:
    """The code that a prompt is or holds; "" where it has none."""
    head = max(find_code_blocks(prompt), key=len, default=prompt)
    return head if looks_like_code(head) else ""


@lru_cache(maxsize=1)
def _warn_once() -> None:
    logger.warning(
        "python_tests: this kernel has no Landlock, so that only Python itself keeps generated code from reading files "
        "that this user may read. It still has no network, writes nothing and gives back one word. From Linux 5.13 on "
        "Landlock is enabled by lsm=landlock,… on the kernel's command line; containers may have to allow its calls."
    )
