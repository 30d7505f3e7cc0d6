"""Generated code: what passes, what is read as the program, and what it cannot do."""

from __future__ import annotations

import builtins
import gzip
import json
import math
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hagpolicy import Prompt
from hagpolicy.data.completion import Completion
from hagpolicy.errors import EngineError, InvalidInput
from hagpolicy.scorers.code import python_tests, sandbox
from hagpolicy.scorers.code.python_tests import list_programs
from hagpolicy.scorers.code.sandbox import SandboxResult, build_seccomp_filter, run_tests
from hagpolicy.scorers.registry import get_scorer
from tests.support.cheats import CHECK, fill_in, list_cheats
from tests.support.cheats import TESTS as CHEAT_TESTS
from tests.support.code_answers import (
    APART,
    APART_AND_WRONG,
    CONTINUED,
    CROSSING,
    MANY,
    MEANT,
    RIGHT,
    STUB,
    WORD,
    WORDS,
)
from tests.support.paths import DATA, ROOT

TESTS = "assert add(1, 2) == 3\nassert add(-1, 1) == 0\n"
ASK = Prompt("Write a function add.", TESTS)


@pytest.fixture(scope="module")
def scorer():
    try:
        return get_scorer({"name": "python_tests", "allow_code": True, "seconds": 1})
    except EngineError as error:
        pytest.skip(str(error))


def said(scorer, answer, reference=TESTS, prompt=ASK.content):
    (score,) = scorer.score([(Prompt(prompt, reference), Completion(answer))])
    assert score.value == (1.0 if score.answer == "passed" else 0.0), score
    return score.answer


# ------------------------------------------------------------------ passing


def test_it_is_off_unless_asked_for():
    for asked in ({}, {"allow_code": False}, {"allow_code": 1}, {"allow_code": "true"}):
        with pytest.raises(InvalidInput, match="allow_code"):
            get_scorer({"name": "python_tests", **asked})
    for option in ({"seconds": 0}, {"seconds": 0.5}, {"memory_mb": 8}, {"second": 3}):
        with pytest.raises(InvalidInput):
            get_scorer({"name": "python_tests", "allow_code": True, **option})


def test_other_systems_are_refused():
    with pytest.raises(EngineError, match="Linux on x86-64 and AArch64"):
        build_seccomp_filter("riscv64")


def test_a_frozen_application_is_refused_and_not_started_again(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(EngineError, match="needs a Python interpreter"):
        get_scorer({"name": "python_tests", "allow_code": True})


def test_right_passes_and_wrong_says_why(scorer):
    answers = {
        RIGHT: "passed",
        "def add(a, b):\n    return a - b\n": "AssertionError",
        "def add(a, b):\n    return a +\n": "SyntaxError",
        "def sum(a, b):\n    return a + b\n": "NameError",
        "add = None": "TypeError",
        "": "NameError",
        "\0": "SyntaxError",
    }
    scores = scorer.score([(ASK, Completion(answer)) for answer in answers])
    assert [score.answer for score in scores] == list(answers.values())
    assert [score.value for score in scores] == [1.0] + [0.0] * 6


def test_functions_and_a_check_of_an_entry_point_are_called(scorer):
    function = "def test_three():\n    assert add(1, 2) == 3\ndef test_four():\n    assert add(2, 2) == 4\n"
    check = {"tests": "def check(candidate):\n    assert candidate(2, 2) == 4\n", "entry_point": "add"}
    for reference in (function, check):
        assert said(scorer, RIGHT, reference) == "passed"
        assert said(scorer, "def add(a, b):\n    return 3\n", reference) == "AssertionError"
    own = RIGHT + "def test_own():\n    assert False\ndef check(candidate):\n    pass\n"
    assert said(scorer, own, function) == "passed"  # the answer's own tests are not run ...
    assert said(scorer, own.replace("a + b", "9"), check) == "AssertionError"  # ... nor used in place of the tests


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        (None, "needs a reference"),
        (3, "expects the source"),
        ({"test": TESTS}, "expects the source"),
        ({"tests": TESTS, "entry_point": "a b"}, "expects the source"),
        ("assert add(", "no Python"),
        ("def test_x(add):\n    assert add", "without arguments"),
        ("def test():\n    assert False", "would pass anything"),
        ("import math\nX = 3", "would pass anything"),
        ("", "would pass anything"),
    ],
)
def test_tests_that_cannot_be_used_are_refused_before_a_sweep(scorer, reference, why):
    prompt = Prompt("Write a function add.", reference)
    assert why in scorer.check(prompt)
    if reference is not None:
        (score,) = scorer.score([(prompt, Completion(RIGHT))])
        assert math.isnan(score.value)
        assert why in score.reason


# ------------------------------------------------------------------ which part is the program


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        (ASK.content, f"Here it is:\n\n```python\n{RIGHT}```\n\nUse it:\n```python\nprint(add(1, 2), input())\n```"),
        (ASK.content, f"First `pip`:\n```bash\npip install add\n```\n```\n{RIGHT}```"),
        (ASK.content, f"```py\n{RIGHT}"),
        (ASK.content, "1. So:\n   ```python\n   def add(a, b):\n       return a + b\n   ```\n"),
        (ASK.content, f"~~~~python\n{RIGHT}~~~~"),
        (STUB, "    return a + b\n"),
        (STUB, "    c = a\n\n    return c + b\n\n\ndef main():\n    print(add(1,\n"),
        (STUB, "    return a + b\n\nThis adds the two."),
        (STUB, "```python\n    return a + b\n```"),
        (STUB, "```python\ndef add(a: int, b: List) -> int:\n    return a + b\n```"),
        (STUB, "```python\nfrom __future__ import annotations\ndef add(a, b):\n    return a + b\n```"),
        (f"Complete this:\n```python\n{STUB}```", "```python\ndef add(a: int, b: List) -> int:\n    return a + b\n```"),
        ("def add(a, b):\n", "    return a + b\n"),
        ("add", RIGHT),
    ],
)
def test_programs_are_found_in_answers(scorer, prompt, answer):
    assert said(scorer, answer, {"tests": TESTS, "entry_point": "add"}, prompt) == "passed"


def test_the_block_with_the_entry_point_goes_before_a_longer_one(scorer):
    longer = "```python\n" + "x = 1\n" * 50 + "raise ValueError\n```\n"
    answer = f"{longer}```python\n{RIGHT}```\n"
    assert said(scorer, answer, {"tests": TESTS, "entry_point": "add"}) == "passed"
    assert said(scorer, answer) == "passed"  # the tests name it, too
    assert said(scorer, longer + "```python\nprint(add(1, 2))\n```\n") == "ValueError"


def test_of_several_blocks_the_one_meant_is_run(scorer):
    for prompt, answers in ((ASK.content, MEANT), (STUB, CONTINUED)):
        references = [TESTS, {"tests": TESTS, "entry_point": "add"}]
        items = [(Prompt(prompt, references[at % 2]), Completion(answer)) for at, answer in enumerate(answers)]
        failed = [(item, score) for item, score in zip(items, scorer.score(items), strict=True) if score.value != 1.0]
        assert failed == []


RUNS = ["\n", " ", "`", "```\n", "```python\n", "~~~ x", "1,", "[", "```x\n    ", ">>> ", "\t\n", "def ", "<think>"]


@pytest.mark.parametrize("piece", RUNS)
def test_an_answer_is_read_in_time_proportional_to_its_length(piece):
    def measure(size):
        text = "```python\n" + piece * (size // len(piece)) + "!"
        begun = time.perf_counter()
        list_programs(text)
        return time.perf_counter() - begun

    times = [min(measure(size) for _ in range(2)) for size in (100_000, 400_000)]
    assert times[1] < 0.05 or times[1] < 10 * times[0]


def test_an_answer_that_went_astray_ends_too(scorer):
    begun = time.monotonic()
    for piece in ("```", "    x\n", "(", "-"):
        assert said(scorer, piece * 30_000, prompt=STUB) != "passed"
    assert time.monotonic() - begun < 60


# ------------------------------------------------------------------ human-eval, real tasks


def test_humaneval_solutions_pass_and_their_neighbours_do_not(scorer):
    path = DATA / "tasks" / "humaneval" / "HumanEval.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no data at {path}; set HAGPOLICY_DATA to a folder with tasks/humaneval/HumanEval.jsonl.gz")
    tasks = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()][::27]
    prompts = [Prompt(t["prompt"], {"tests": t["test"], "entry_point": t["entry_point"]}) for t in tasks]
    right = [t["canonical_solution"] for t in tasks]
    fenced = [f"Sure:\n```python\n{t['prompt']}{t['canonical_solution']}```" for t in tasks]
    wrong = ["    return None\n"] * len(tasks)
    for answers, value in ((right, 1.0), (fenced, 1.0), (wrong, 0.0)):
        items = [(prompt, Completion(answer)) for prompt, answer in zip(prompts, answers, strict=True)]
        scores = scorer.score(items)
        assert [(t["task_id"], s.value) for t, s in zip(tasks, scores, strict=True)] == [
            (t["task_id"], value) for t in tasks
        ]


# ------------------------------------------------------------------ values between the program and its tests


def test_plain_values_cross_exactly_and_others_leave_the_answer_unscored(scorer):
    items = [(Prompt("Write it.", tests), Completion(code)) for _, code, tests in CROSSING]
    for (expected, *case), score in zip(CROSSING, scorer.score(items), strict=True):
        assert score.answer == expected, (case, score)
        assert (score.reason or "not decided: ").startswith("not decided: "), (case, score)


def test_no_object_of_the_program_says_what_passes(scorer):
    items = [(Prompt("Write it.", f"assert {words}"), Completion(WORD)) for words in WORDS]
    for words, score in zip(WORDS, scorer.score(items), strict=True):
        assert (score.reason or "").startswith("not decided: "), (words, score)


def test_what_two_processes_do_not_share_is_never_scored_wrong(scorer):
    items = [(Prompt("Write it.", tests), Completion(code)) for code, tests in [*APART, *APART_AND_WRONG]]
    scores = scorer.score(items)
    failed = [(case, score) for case, score in zip(APART, scores, strict=False) if score.value == 0.0]
    assert failed == []
    assert [score.answer for score in scores[len(APART) :]] == ["AssertionError"] * len(APART_AND_WRONG)
    assert said(scorer, *MANY) == "passed"


def test_helpers_of_the_prompt_are_the_prompts(scorer):
    head = "def encode(s):\n    return s[1:] + s[:1]\n\n\ndef decode(s):\n    '''Undo encode.'''\n"
    tests = {"tests": "def check(f):\n    assert f(encode('abc')) == 'abc'\n", "entry_point": "decode"}
    assert said(scorer, "    return s[-1:] + s[:-1]\n", tests, head) == "passed"
    lies = "def encode(s):\n    return s\n\n\ndef decode(s):\n    return s\n"
    assert said(scorer, lies, tests, head) == "AssertionError"
    broken = "Mend this:\n```python\ndef add(a, b):\n    return a - b\n```\n"
    assert said(scorer, RIGHT, TESTS, broken) == "passed"


def test_tests_that_reach_into_the_program_are_refused(scorer):
    for line in ("sys.stdin = io.StringIO('3')", "mock.patch('builtins.input')", "inspect.getsource(add)"):
        assert "out of reach" in scorer.check(Prompt("Write it.", f"{line}\nassert add(1, 2) == 3\n"))


# ------------------------------------------------------------------ harm


SAID = {"time limit", "killed", "ended before the tests", "an exception of its own", *dir(builtins)}


@pytest.mark.parametrize("family", list_cheats())
def test_no_cheat_passes_and_nothing_forbidden_succeeds(scorer, tmp_path, monkeypatch, family):
    if family in ("proc", "files") and "landlock" not in scorer.isolation:
        pytest.skip("a kernel without Landlock does not keep native code from reading")
    monkeypatch.setenv("HAGPOLICY_SECRET", "SECRET")
    target = tmp_path / "target"
    target.write_text("precious", "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.02)
        codes = [fill_in(code, target, server.getsockname()[1]) for code in list_cheats()[family]]
        # The claim cheating_programs runs all; those that sleep are in test_time_and_output_are_bounded.
        codes = codes[-1:] if family in ("time", "signals", "resources") else codes[::3]
        prompts = [Prompt(ASK.content, reference) for reference in (CHEAT_TESTS, CHECK)]
        items = [(prompts[at % 2], Completion(code)) for at, code in enumerate(codes)]
        for (_, completion), score in zip(items, scorer.score(items), strict=True):
            assert score.value != 1.0, completion.text
            assert score.answer in SAID if score.value == 0.0 else score.reason.startswith("not decided: "), score
        with pytest.raises(TimeoutError):
            server.accept()
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert target.read_text("utf-8") == "precious"
    assert target.stat().st_mode & 0o777


def test_a_probe_passes_where_what_it_tries_succeeds(scorer):
    # Else a probe could fail for a slip in its own text: here it reads a file that it may read.
    (code,) = [code for code in list_cheats()["files"] if "'TARGET', os.O_RDONLY" in code]
    assert said(scorer, code.replace("'TARGET'", "os.__file__"), CHEAT_TESTS) == "passed"


def test_memory_is_bounded(scorer):  # which skips where nothing can be bounded
    patient = get_scorer({"name": "python_tests", "allow_code": True, "seconds": 30})
    hungry = ("x = []\nwhile True:\n    x.append(bytearray(1 << 24))\n", "x = 'a' * (1 << 40)\n")
    scores = patient.score([(ASK, Completion(answer)) for answer in hungry])
    assert [score.answer for score in scores] == ["MemoryError", "MemoryError"]


def test_time_and_output_are_bounded(scorer):
    begun = time.monotonic()
    spins = "def add(a, b):\n    while True:\n        pass\n"
    deaf = "import signal\nfor n in (2, 15, 24):\n    signal.signal(n, signal.SIG_IGN)\n" + spins
    answers = {
        "import time\ntime.sleep(10_000)\n": {"time limit"},  # first, since it takes longest
        spins: {"time limit", "killed"},
        deaf: {"time limit", "killed"},
        "def add(a, b):\n    return 10 ** 10 ** 10\n": {"time limit", "killed", "MemoryError"},
        RIGHT + "for _ in range(200_000):\n    print('flood' * 100)\n": {"passed", "time limit", "killed"},
    }
    scores = scorer.score([(ASK, Completion(answer)) for answer in answers])
    for score, expected in zip(scores, answers.values(), strict=True):
        assert score.answer in expected
    assert time.monotonic() - begun < 40


def test_what_ordinary_answers_need_is_there(scorer):
    needs = (
        "import collections, dataclasses, datetime, decimal, functools, hashlib, heapq, itertools, json, math, random\n"
        "import re, statistics, string, time, typing, unicodedata, zoneinfo, io, contextlib, copy, enum\n"
        "@dataclasses.dataclass\nclass P:\n    x: int = 1\n"
        "Q = collections.namedtuple('Q', 'a b')\n"
        "class E(enum.Enum):\n    A = 1\n"
        "time.sleep(0.01); time.monotonic(); datetime.datetime.now()\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n    print('x')\n"
        "assert __name__ != '__main__'\n"
    )
    assert said(scorer, needs + RIGHT) == "passed"


def test_runs_are_alike_where_python_draws_lots(scorer):
    drawn = "import random\nanswer = (random.random(), list({'a', 'b', 'c', 'd', 'e', 'f'}))\n"
    first = "import random\nrandom.seed(0)\nassert answer[0] == random.random()\nassert len(answer[1]) == 6\n"
    assert said(scorer, drawn, first) == "passed"
    orders = {said(scorer, drawn, f"assert answer[1][0] == {letter!r}") + letter for letter in "abcdef"}
    assert sum(one.startswith("passed") for one in orders) == 1


def test_a_kernel_that_does_not_hold_what_is_run_is_noticed_before_it_is_run(tmp_path, monkeypatch):
    everything = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000).hex()
    monkeypatch.setattr(sandbox, "build_seccomp_filter", lambda machine: everything)
    made = tmp_path / "made"
    result = run_tests([[f"open({str(made)!r}, 'w')\n{RIGHT}"]], TESTS, [], seconds=1, memory_mb=512)
    why = "refused [Errno 0] the kernel lets through what the filter forbids"
    assert result == SandboxResult(None, f"the sandbox did not start: {why}")
    assert not made.exists()


# ------------------------------------------------------------------ what separates


def test_isolation_says_what_holds_and_a_kernel_without_landlock_is_told_once(scorer, monkeypatch, caplog):
    assert set(scorer.isolation) - {"landlock"} == {"processes", "rlimits", "seccomp"}
    monkeypatch.setattr(sandbox, "find_landlock", lambda: 0)
    python_tests._warn_once.cache_clear()
    bare = [get_scorer({"name": "python_tests", "allow_code": True}) for _ in range(2)]
    assert [one.isolation for one in bare] == [("processes", "rlimits", "seccomp")] * 2
    assert sum("Landlock" in record.message for record in caplog.records) == 1
    assert said(bare[0], RIGHT) == "passed"
    reads = f"def add(a, b):\n    return open({__file__!r}) and a + b\n"  # refused by the audit hook alone
    assert said(bare[0], reads) == "PermissionError"


SLEEPER = """
import signal
# What is started in the background of a shell ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from hagpolicy import Prompt, get_scorer
from hagpolicy.data.completion import Completion
scorer = get_scorer({"name": "python_tests", "allow_code": True, "seconds": 300})
scorer.score([(Prompt("Write it.", "assert f() == 1"), Completion("def f():\\n    while True: pass"))] * 2)
"""


def list_running(mark: str) -> list[int]:
    """Ids of processes, without dead ones, that have this in their command lines."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state = (place / "stat").read_text("utf-8").rpartition(")")[2].split()[0]
            if mark in (place / "cmdline").read_text("utf-8", "replace") and state not in "ZX":
                found.append(int(place.name))
        except (OSError, IndexError):
            continue
    return found


def test_an_interrupted_caller_ends_at_once(scorer):
    with subprocess.Popen([sys.executable, "-c", SLEEPER], cwd=ROOT, stderr=subprocess.DEVNULL) as caller:
        mark = f"\0{caller.pid}\0{ROOT / 'hagpolicy'}"
        deadline = time.monotonic() + 30
        while len(list_running(mark)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        caller.send_signal(signal.SIGINT)
        caller.wait(60)
    assert list_running(mark) == []


def test_a_caller_that_ignores_its_children_is_no_obstacle(scorer):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert said(scorer, RIGHT) == "passed"
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_nothing_is_left_when_the_caller_is_killed(scorer):
    with subprocess.Popen([sys.executable, "-c", SLEEPER], cwd=ROOT, stderr=subprocess.DEVNULL) as caller:
        mark = f"\0{caller.pid}\0{ROOT / 'hagpolicy'}"  # arguments of the process that watches, and of its children
        deadline = time.monotonic() + 30
        while len(list_running(mark)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(list_running(mark)) >= 3
        caller.kill()
    deadline = time.monotonic() + 10
    while list_running(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list_running(mark) == []
