"""Generated code: what passes, what is read as the program, and what it cannot do."""

from __future__ import annotations

import gzip
import json
import math
import re
import socket
import struct
import time

import pytest

from hagpolicy import Prompt
from hagpolicy.data.completion import Completion
from hagpolicy.errors import EngineError, InvalidInput
from hagpolicy.scorers.code import sandbox
from hagpolicy.scorers.code.sandbox import SandboxResult, build_seccomp_filter, run_tests
from hagpolicy.scorers.registry import get_scorer
from tests.support.paths import DATA

TESTS = "assert add(1, 2) == 3\nassert add(-1, 1) == 0\n"
ASK = Prompt("Write a function add.", TESTS)
RIGHT = "def add(a, b):\n    return a + b\n"


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

STUB = 'from typing import List\n\n\ndef add(a: int, b: int) -> int:\n    """ Add.\n    >>> add(1, 2)\n    3\n    """\n'


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
    assert said(scorer, answer) == "ValueError"


def test_an_answer_that_went_astray_ends_too(scorer):
    begun = time.monotonic()
    for piece in ("```", "```python\n", "    x\n", "(", "-", "\n"):
        assert said(scorer, piece * 30_000, prompt=STUB) != "passed"
    assert time.monotonic() - begun < 60


# ------------------------------------------------------------------ human-eval, real tasks


def test_humaneval_solutions_pass_and_their_neighbours_do_not(scorer):
    path = DATA / "tasks" / "humaneval" / "HumanEval.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no data at {path}; set HAGPOLICY_DATA to a folder with tasks/humaneval/HumanEval.jsonl.gz")
    tasks = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()][::18]
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


# ------------------------------------------------------------------ harm


ATTACKS = [
    "import os; os.fork()",
    "import os\nwhile True: os.fork()",
    "import threading; threading.Thread(target=print).start()",
    "import subprocess; subprocess.run(['true'])",
    "import os; os.execv('/bin/true', ['true'])",
    "import os; os.system('true') and 1 / 0",
    "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
    "import os, signal; os.kill(-1, signal.SIGKILL)",
    "import socket; socket.socket()",
    "import socket; socket.create_connection(('127.0.0.1', PORT))",
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:PORT')",
    "open('x', 'w').write('x')",
    "open('TARGET', 'a').write('x')",
    "import os; os.remove('TARGET')",
    "import os; os.rename('TARGET', 'TARGET.moved')",
    "import os; os.chmod('TARGET', 0)",
    "import os; os.truncate('TARGET', 0)",
    "import os; os.mkdir('FOLDER/made')",
    "import os; os.symlink('TARGET', 'FOLDER/link')",
    "import tempfile; tempfile.mkdtemp()",
    "import os; print(open(os.path.expanduser('~/.ssh/id_rsa')).read())",
    "print(open('TARGET').read())",
    "import os; os.listdir('FOLDER')",
    "print(open('/proc/self/environ').read())",
    "import os; os.setuid(0)",
    "import os; os.chroot('/')",
    "import os; assert 'SECRET_KEY' in os.environ",
    "import ctypes; assert ctypes.CDLL(None).fork() >= 0",
    "import ctypes; assert ctypes.CDLL(None).socket(2, 1, 0) >= 0",
    "import ctypes; assert ctypes.CDLL(None).unlink(b'TARGET') == 0",
    "import ctypes; assert ctypes.CDLL(None).mount(b'x', b'/', b'tmpfs', 0, 0) == 0",
    "import os\nfor n in range(100_000): os.dup(0)",
    "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
]


def test_what_is_no_computing_is_refused(scorer, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "sk-123")
    target = tmp_path / "target"
    target.write_text("precious", "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        port = str(server.getsockname()[1])
        named = {"TARGET": str(target), "FOLDER": str(tmp_path), "PORT": port}
        codes = [re.sub("|".join(named), lambda found: named[found[0]], attack) for attack in ATTACKS]
        scores = scorer.score([(ASK, Completion(f"{RIGHT}\n{code}\n")) for code in codes])
        outcomes = [(attack, score.answer) for attack, score in zip(ATTACKS, scores, strict=True)]
        assert [one for one in outcomes if one[1] in ("passed", "time limit", None)] == []
        with pytest.raises(TimeoutError):
            server.accept()
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert target.read_text("utf-8") == "precious"
    assert target.stat().st_mode & 0o777


WRITES = """import os
for fd in range(64):
    try:
        os.write(fd, {})
    except OSError:
        pass
"""


CHEATS = [
    "import sys; sys.exit(0)",
    "import os; os._exit(0)",
    "raise SystemExit(0)",
    "print('passed'); import os; os._exit(0)",
    WRITES.format("b'ready\\npassed\\n'") + "os._exit(0)",
    WRITES.format("b'passed ' + b'0' * 32 + b'\\n'"),
    WRITES.format("b'x' * 5000"),
    "import atexit, os; atexit.register(os._exit, 0)",
    "import sys; sys.modules['answer'] = sys",
    "import builtins; builtins.AssertionError = None",
    "import os; os.write = lambda *a: 0; os._exit = print",
    "import sys; sys.stdout.close(); sys.stdin.close()",
    "add = lambda a, b: __import__('os')._exit(0)",
    "def add(a, b): raise SystemExit",
    "def add(a, b): raise KeyboardInterrupt",
    "def add(a, b): return add(a, b)",
    "import ctypes; ctypes.string_at(0)",
]


def test_ending_early_or_claiming_success_is_no_pass(scorer):
    wrong = "def add(a, b):\n    return 9\n"
    scores = scorer.score([(ASK, Completion(f"{wrong}{cheat}\n")) for cheat in CHEATS])
    assert [(cheat, score.value) for cheat, score in zip(CHEATS, scores, strict=True)] == [(c, 0.0) for c in CHEATS]


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
        spins: {"time limit", "killed"},
        deaf: {"time limit", "killed"},
        "import time\ntime.sleep(10_000)\n": {"time limit"},
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
