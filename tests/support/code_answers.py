"""Answers with several blocks of code, and values that go between a program and its tests."""

# ruff: noqa: E501
# fmt: off

from __future__ import annotations

RIGHT = "def add(a, b):\n    return a + b\n"
STUB = 'from typing import List\n\n\ndef add(a: int, b: int) -> int:\n    """ Add.\n    >>> add(1, 2)\n    3\n    """\n'
_LESS = RIGHT.replace("+", "-")
_HELPED = "def add(a, b):\n    return helper(a, b)\n"
_HELPER = "def helper(a, b):\n    return a + b\n"


def fence(code: str, info: str = "python", mark: str = "```") -> str:
    """A fenced block."""
    return f"{mark}{info}\n{code}{mark}\n"


# Each means a right `add`.
MEANT = [
    fence(_LESS) + "Better:\n" + fence(RIGHT),
    fence(RIGHT) + fence("print(add(1, 2))\n"),
    fence(RIGHT) + fence("from solution import add\nprint(add(1, 2))\n"),
    fence(RIGHT) + fence("def test_add():\n    assert add(1, 2) == 4\n"),
    fence(RIGHT) + fence(">>> add(1, 2)\n3\n") + fence(">>> add\n", "pycon"),
    fence(RIGHT) + fence("add(1, 2)  # 3\n", "") + fence("$ python add.py\n", "bash"),
    fence(RIGHT) + fence("function add(a, b) { return a - b }\n", "javascript"),
    fence(RIGHT) + fence("add = 3\n"),
    fence(RIGHT) + fence("def subtract(a, b):\n    return a - b\n" * 20),
    fence(_HELPER) + "then\n" + fence(_HELPED),
    fence(_HELPED) + "with\n" + fence(_HELPER),
    fence(_HELPER.replace("+", "-")) + fence(_HELPER) + fence(_HELPED),
    fence("import operator\n") + fence("ONE = 1\n") + fence("def add(a, b):\n    return operator.add(a, b) * ONE\n"),
    fence("import functools\n@functools.lru_cache\ndef helper(a, b):\n    return a + b\n") + fence(_HELPED),
    fence(_HELPED.replace("helper", "missing")) + fence(RIGHT),
    fence(RIGHT) + fence(_HELPED.replace("helper", "missing")),
    *[fence(RIGHT, info) for info in ('python title="add.py"', "Python3", "{.python .numbers}", "python:add.py", " py x=1")],
    "- item\n\n      ```python\n      def add(a, b):\n          return a + b\n      ```\n",
    f"```python\n{_LESS}```\nNo:\n```python\n{RIGHT}",
    f"```python\n{RIGHT}```python\nprint(add(1, 2))\n```",
    fence('def add(a, b):\n    """Adds.\n\n    ```\n    add(1, 2)\n    ```\n    """\n    return a + b\n'),
    fence(">>> def add(a, b):\n...     return a + b\n...\n>>> add(1, 2)\n3\n"),
    f"Here it is:\n\n{RIGHT}\nThis adds.",
    f"Sure! A function:\n\nimport math\n\n{RIGHT}\nHope it helps!",
    fence(RIGHT) + fence("def add(a, b):\n    ...\n"),
    fence(RIGHT) + "In other words:\n```python\ndef add(a, b):\n    return (a +\n",
    fence(RIGHT + "\ndef main():\n    print(add(1,"),
    fence("x: int = 1\n") + fence("from __future__ import annotations\ndef add(a: Foo, b):\n    return a + b + x - 1\n"),
    f"````markdown\n# Title\n```python\n{RIGHT}```\n````\n",
    "```python def add(a, b): return a + b```",
    fence("    def add(a, b):\n        return a + b\n"),
    fence(RIGHT).replace("\n", "\r\n"),
    fence("add = lambda a, b: a + b\n"),
    f"<think>\n{fence(_LESS)}</think>\n{fence(RIGHT)}",
]
# Each is the body of `add` in STUB.
CONTINUED = [
    "return a + b",
    "if a:\n        return a + b\n    return b\n",
    "```python\nreturn a + b\n```",
    "\n    return a + b\n```\n",
    "    return a + b\n\n# Test\nassert add(1, 2) == 3\n",
    "    return _h(a, b)\n\n\ndef _h(a, b):\n    return a + b\n",
    fence(f"{STUB}    return a + b\n"),
]

# What is said (None: nothing can be), program, tests.
CROSSING: list[tuple[str | None, str, str]] = [
    ("passed", "def f(x): x.append(1)", "a = [3]\nf(a)\nassert a == [3, 1]"),
    ("passed", "def f(x): return x", "a = [3]\nassert f(a) is a and f(x=a) is a"),
    ("passed", "def f(x): return list(x)", "a = [3]\nassert f(a) == a and f(a) is not a"),
    ("passed", "def f(x): x[0][1] = x; return x[0]", "a = [{}]\nr = f(a)\nassert r is a[0] and r[1] is a"),
    ("passed", "def f(x): raise ValueError('bad')", "try:\n    f(1)\n    assert 0\nexcept ValueError as e:\n    assert str(e) == 'bad'"),
    ("passed", "class E(ValueError): pass\ndef f(x): raise E(3)", "try:\n    f(1)\n    assert 0\nexcept E as e:\n    assert e.args == (3,)"),
    ("an exception of its own", "class E(ValueError): pass\ndef f(x): raise E('sk-123')", "f(1)"),
    ("passed", "import json\ndef f(x): json.loads(x)", "import json\ntry:\n    f('{')\nexcept json.JSONDecodeError as e:\n    assert e.pos == 1"),
    ("RuntimeError", "def f(x): raise StopIteration", "assert all(map(lambda v: f(v) == v, [1, 2]))"),
    ("AssertionError", "def f(x): return 9\ndef all(x): return True\ndef len(x): return 2", "assert all([f(4) == 2])\nassert len([1]) == 2"),
    ("passed", "def max(a): return sorted(a)[-1]", "assert max([1, 3, 2]) == 3"),
    ("passed", "import math\ndef f(x): return math.sqrt(x)", "assert math.isclose(f(4), 2)"),
    (None, "class math:\n    isclose = lambda *a: True\ndef f(x): return 9", "assert math.isclose(f(4), 2)"),
    (None, "import cmath as math\ndef f(x): return 9", "assert math.isclose(f(4), 2)"),
    ("passed", "def hello(): print('hi')", "import io, contextlib\nwith contextlib.redirect_stdout(io.StringIO()) as b:\n    hello()\nassert b.getvalue() == 'hi\\n'"),
    ("passed", "import random\ndef f(): return random.random()", "import random\nrandom.seed(42)\na = f()\nrandom.seed(42)\nassert a == random.random()"),
    ("passed", "def each(g, x): return [g(v) for v in x]\ndef inc(x): return x + 1", "assert each(inc, [1, 2]) == [2, 3]"),
    ("passed", "def f():\n    x = []\n    for _ in range(20_000): x = [x]\n    return x", "r, n = f(), 0\nwhile r: r, n = r[0], n + 1\nassert n == 20_000"),
    ("passed", "class S:\n    K = 4\n    def __init__(s, v=()): s.v = list(v)\n    def push(s, x): s.v.append(x); return s\n"
     "    def __len__(s): return len(s.v)\n    def __iter__(s): return iter(s.v)\n    def __add__(s, o): return S(s.v + o.v)",
     "s = S()\nassert s.push(1).push(2) is s and len(s) == 2 and s.v == [1, 2] == list(s) and S.K == 4\n"
     "assert isinstance(s, S) and type(s) is S and (s + S([3])).v == [1, 2, 3]"),
    (None, "class S:\n    __eq__ = lambda s, o: True", "assert S() == S()"),
    (None, "class I(int): pass\ndef f(): return [{1: (I(3),)}]", "assert f() == [{1: (3,)}]"),
    (None, "def f():\n    yield 1", "assert list(f()) == [1]"),
    (None, "def f(): return lambda: 1", "assert f()() == 1"),
    (None, "def f(): return iter([1])", "try:\n    f()\nexcept BaseException:\n    pass\nassert 0"),
    (None, "def f(): return __import__('math')", "assert f().sqrt(4) == 2"),
    (None, "def f(): return 1 << (1 << 24)", "assert f()"),
    (None, "def f(): return 'a' * (1 << 27)", "assert f()"),
    (None, "def f():\n    x = ()\n    for _ in range(10**5): x = (x,)\n    return x", "assert f()"),
    (None, "def f(g): return g(1)", "assert f(lambda v: v) == 1"),
    (None, "def f(x): return x.a", "class A:\n    a = 1\nassert f(A()) == 1"),
    ("passed", "def f(x): return x", """import collections, datetime, decimal, fractions, math
for v in [float('inf'), -0.0, 1e308, True, None, '\\ud83d\\ude00', '\\0é', b'\\xff', bytearray(b'a'), (1, (2,)), frozenset([1]),
          {(1, 2): {3}}, 2**100, -(2**70), 1j, range(3), int, ..., {1: 2, 'b': [None]}, collections.Counter('aab'),
          collections.OrderedDict(a=1), collections.defaultdict(list, a=[1]), collections.deque([1, 2], 3),
          fractions.Fraction(1, 3), decimal.Decimal('1.5'), datetime.date(2020, 1, 2), datetime.timedelta(1, 2, 3)]:
    r = f(v)
    assert r == v and type(r) is type(v), v
assert math.isnan(f(float('nan'))) and math.copysign(1, f(-0.0)) == -1 and len(f('\\ud83d\\ude00')) == 2
assert f(collections.defaultdict(list))[3] == []"""),
]

# An object that says of itself whatever a test would like to hear; each of these tests is wrong for it.
WORD = '''class Calc:
    def area(self, *given): return self
    def __sub__(self, other): return 0.0
    def __add__(self, other): return other
    def __mod__(self, other): return 0
    def __contains__(self, item): return True
    def __getitem__(self, key): return self
    def __call__(self, *given): return self
    def startswith(self, *given): return True
    isclose = approx = startswith
    def count(self, *given): return 2
f = math = numpy = pytest = Calc()
'''
WORDS = [
    *("abs(Calc().area() - 3.14) < 1e-3", "5 in Calc().area()", "Calc().area().startswith('abc')", "f(3) % 7 == 0"),
    *("Calc().area().count(3) == 2", "abs(Calc().area()[0] - 3) < 1", "Calc().area() + 3 == 3", "abs(f(3) - 9) < 1e-6"),
    *("all(x in f(3) for x in (1, 2))", "f(3).startswith('abc')", "Calc().area.startswith('abc')"),
    *("math.isclose(1, 2)", "numpy.isclose(1, 2)", "pytest.approx(1)"),
]
# Right for its tests in one process, where they share their objects: right or unscored in two, never wrong.
_STACK = "class S:\n    def __init__(s, v=()): s.v = v\n    def push(s, x): s.v.append(x)\n    def pop(s): return s.v.pop()\n"
APART = [
    ("n = 0\ndef f():\n    global n\n    n += 1\n", "f()\nassert n == 1"),
    ("log = []\ndef f(x): log.append(x)\n", "f(1)\nassert log == [1]"),
    ("log = []\ndef f(): return len(log)\n", "log.append(1)\nassert f() == 1"),
    (_STACK, "s = S([])\ns.v.append(3)\nassert s.pop() == 3"),
    (_STACK, "s = S([])\na = s.v\ns.push(3)\nassert a == [3]"),
    (_STACK, "d = [1]\ns = S(d)\nd.append(2)\nassert s.pop() == 2"),
    (_STACK, "d = [1]\ns = S(d)\ns.push(2)\nassert d == [1, 2]"),
    (_STACK, "s = S([])\nassert s.v is s.v"),
    ("def f(x, seen=[]):\n    seen.append(x)\n    return seen\n", "a = f(1)\nf(2)\nassert a == [1, 2]"),
    ("m = [[0], [0]]\ndef g(): return m\ndef put(v): m[1][0] = v\n", "a = g()\nput(5)\nassert a[1][0] == 5"),
    ("def f(): return N * 2\n", "N = 5\nassert f() == 10"),
    ("def h(x): return 1\ndef f(x): return h(x)\n", "h = lambda x: 5\nassert f(1) == 5"),
    ("class A: pass\nclass B(A): pass\n", "assert isinstance(B(), A)"),
    ("class A:\n    n = 0\n    def up(s): A.n += 1\n", "A.n = 5\nA().up()\nassert A.n == 6"),
    ("class A:\n    def __init__(s): s.x = 1\n", "assert vars(A()) == {'x': 1}"),
    ("class A:\n    def __iadd__(s, o):\n        s.x = o\n        return s\n", "a = A()\na += 2\nassert a.x == 2"),
    ("class A:\n    def __rtruediv__(s, o): return 4\n", "assert 2 / A() == 4"),
    ("class A:\n    def __exit__(s, *e): return True\n    def __enter__(s): pass\n", "with A():\n    raise KeyError"),
    ("class A:\n    def __iter__(s):\n        while True:\n            yield 1\n", "assert next(iter(A())) == 1"),
    ("import sys\ndef f(): return sys.argv[1]\n", "import sys\nsys.argv = ['a', 'b']\nassert f() == 'b'"),
]
MANY = (  # in time, too
    "class S:\n    def __init__(s): s.v = []\n    def push(s, x): s.v.append(x)\n",
    "s = S()\nfor i in range(200):\n    s.push([i])\n    assert len(s.v) == i + 1",
)
# And programs that are wrong all the same: such doubts are for tests that could have had another end.
APART_AND_WRONG = [
    (_STACK, "s = S([])\nassert s.v == []\ns.push(1)\nassert s.v == [2]"),
    ("def f(x): return x\nresult = f(1)\n", "result = f(2)\nassert result == 3"),
    ("import math\ndef f(x): return math.floor(x)\n", "import math\nassert f(1.5) == 2"),
    ("def f(x): return sorted(x)\n", "r = f([2, 1])\nr.append(3)\nassert f([1]) == [2]"),
    ("class A:\n    def __add__(s, o): return 3\n", "assert A() + A() == 4"),
]
