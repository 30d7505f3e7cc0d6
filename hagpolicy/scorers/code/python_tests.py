"""`python_tests`: generated Python passes its unit tests."""

from __future__ import annotations

import ast
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from hagpolicy._checks import is_whole
from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.scorers.code.sandbox import SandboxResult, build_seccomp_filter, run_tests

_EXPECTED = 'the source of tests, or {"tests": source, "entry_point": name}'
_PYTHON = {"", "py", "python", "python3"}
_IS_CODE = re.compile(r"^[ \t]*(?:async )?(?:def|class|import|from) +\w", re.MULTILINE)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class UnitTests:
    """Tests of a reference: source that is run after the answer, functions then called, the name tested ("": none)."""

    source: str
    functions: tuple[str, ...]
    entry_point: str


class PythonTests(Scorer):
    """1 where every test passes, else 0. Runs what was generated, so it is off unless asked for.

    Each answer and its tests run in one process of their own, under the limits and guarantees of
    `hagpolicy.scorers.code.sandbox`: no network, no other process, no file written, bounded time and memory.

    The reference is the source of the tests: plain asserts, and functions `test_…` without arguments,
    which are called; or {"tests": source, "entry_point": name}, where a function `check` in the tests
    is called with what the answer defines under that name (as in HumanEval, Chen et al., 2021).

    The program is the first fenced block of Python that defines the entry point, else the longest
    one, else the whole answer. Where the prompt is itself code, or holds a fenced block of it, the program
    follows that code (its imports and helpers), and an answer that is no program on its own is taken
    as its continuation, cut before the first line that ends it.

    A test that does not end in time fails. An answer is unscored only where nothing could be run. The
    score's `answer` is "passed", the name of the exception, "time limit" or "killed".

    Args:
        allow_code: True: generated code may be run on this machine.
        seconds: of CPU time for an answer with its tests, at least 1.
        memory_mb: MiB of address space, at least 64; Python itself takes a part of it.

    Raises:
        InvalidInput: no `allow_code`, or a limit out of range.
        EngineError: a system on which generated code is not run (see `sandbox.build_seccomp_filter`).
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
        self.seconds, self.memory_mb = seconds, memory_mb
        self.version = f"1-python{sys.version_info[0]}.{sys.version_info[1]}-{seconds}s-{memory_mb}MiB"

    def check(self, prompt: Prompt) -> str | None:
        """The reason why this prompt's reference cannot be used, or None when it can."""
        if (missing := super().check(prompt)) is not None:
            return missing
        found = parse_tests(prompt.reference)
        return found if isinstance(found, str) else None

    def score(self, items: Sequence[tuple[Prompt, Completion]]) -> list[Score]:
        """Rewards in order; as many processes at once as there are processors."""
        with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
            return list(pool.map(self._score_one, items))

    def _score_one(self, item: tuple[Prompt, Completion]) -> Score:
        prompt, completion = item
        tests = parse_tests(prompt.reference)
        if isinstance(tests, str):
            return Score.unscored(self.check(prompt) or tests)
        rows = list_programs(prompt.text, completion.text, tests.entry_point)
        limits = {"seconds": self.seconds, "memory_mb": self.memory_mb}
        result: SandboxResult = run_tests(rows, tests.source, tests.functions, **limits)
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
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"scorer python_tests expects {_EXPECTED} as reference; this is no Python: {type(error).__name__}"
    functions = [node for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    if any(node.args.args or node.args.posonlyargs or node.args.kwonlyargs for node in functions):
        return "scorer python_tests calls functions test_… without arguments, and one of these tests has some"
    if entry_point and any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in body):
        return UnitTests(f"{source}\ncheck({entry_point})\n", tuple(node.name for node in functions), entry_point)
    loose = [node for node in body if not isinstance(node, _DEFINITIONS)]
    acts = any(isinstance(node, (ast.Assert, ast.Raise, ast.Call)) for line in loose for node in ast.walk(line))
    if not functions and not acts:
        return "scorer python_tests expects asserts or functions test_…, and these tests would pass anything"
    return UnitTests(source, tuple(node.name for node in functions), entry_point)


def list_programs(prompt: str, answer: str, entry_point: str) -> list[list[str]]:
    """The programs that an answer may mean, likeliest first: rows as `sandbox.run_tests` takes them.

    Nothing is compiled here: a compiler is not to be given hostile text in the caller's process.
    """
    code = _extract_program(answer, entry_point)
    blocks = _find_code_blocks(prompt)
    head = max(blocks, key=len) if blocks else prompt
    if not _IS_CODE.search(head):
        return [[code]]
    ended = re.search(r"^\S", code, re.MULTILINE)
    rows = [[head, code, f"{head}\n\n{code}"], [code], [f"{head}{code}"]]
    return [*rows, [f"{head}{code[: ended.start()]}"]] if ended else rows


def _extract_program(answer: str, entry_point: str) -> str:
    """The part of an answer that is its program."""
    blocks = _find_code_blocks(answer)
    if not blocks:
        return answer
    defines = re.compile(rf"^\s*(?:async )?(?:def|class) +{entry_point}\b|^{entry_point} *=", re.MULTILINE)
    return next((one for one in blocks if entry_point and defines.search(one)), max(blocks, key=len))


def _find_code_blocks(text: str) -> list[str]:
    """Fenced blocks that are Python or say nothing of their language; one that is not closed goes to the end."""
    blocks: list[str] = []
    inside: list[str] | None = None
    fence, python, margin = "", False, ""
    for line in text.split("\n"):
        bare = line.strip()
        if inside is None:
            if opened := re.fullmatch(r"(`{3,}|~{3,})[ \t]*([\w+-]*)", bare):
                fence, python, inside = opened[1], opened[2].lower() in _PYTHON, []
                margin = line[: len(line) - len(line.lstrip())]
        elif bare.startswith(fence):
            blocks += ["\n".join([*inside, ""])] * python
            inside = None
        else:
            inside.append(line.removeprefix(margin))  # a block within a list is indented as a whole
    return [*blocks, "\n".join([*inside, ""])] if inside and python else blocks
