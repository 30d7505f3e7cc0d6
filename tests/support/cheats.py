"""Programs that shall not pass: wrong ones that cheat, and right ones only if something forbidden succeeded.

Of each family, pieces of code that stand beside a wrong `add` (LIES), that replace it (WHOLE), or that must raise
or give something false for the sandbox to hold (PROBES: where they give something true, `add` is right).
TARGET is a file, FOLDER its folder, PORT a port of this machine, PID the caller's process, SECRET what is in the caller's
environment.
"""

# ruff: noqa: E501
# fmt: off

from __future__ import annotations

import os
import re
from pathlib import Path

TESTS = "assert add(1, 2) == 3\nassert add(-1, 1) == 0\nassert add(10, 5) == 15\n"
CHECK = {
    "tests": "def check(candidate):\n" + "".join(f"    {line}\n" for line in TESTS.replace("add", "candidate").splitlines()),
    "entry_point": "add",
}
RIGHT = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return 9\n"

LIES: dict[str, list[str]] = {
    "frames": [
        "import sys\nf = sys._getframe()\nwhile f:\n    f.f_globals['AssertionError'] = Exception\n    f = f.f_back",
        "import sys\nf = sys._getframe()\nwhile f:\n    f.f_locals.update(verdict=['passed'], passed=True)\n    f = f.f_back",
        "import inspect\nfor one in inspect.stack():\n    one.frame.f_globals.update(check=lambda *a: ['passed'])",
        "import sys\nfor f in sys._current_frames().values():\n    f.f_globals.clear()",
        "import sys\nsys.settrace(lambda f, e, a: (_ for _ in ()).throw(SystemExit(0)))",
        "import sys\nsys.setprofile(lambda *a: None)\nsys.settrace(lambda f, e, a: setattr(f, 'f_trace_lines', False))",
    ],
    "garbage collector": [
        "import gc, types\nfor o in gc.get_objects():\n    if isinstance(o, types.FunctionType):\n"
        "        try:\n            o.__code__ = (lambda *a, **k: True).__code__\n        except Exception:\n            pass",
        "import gc\nfor o in gc.get_objects():\n    if isinstance(o, dict) and 'tests' in o:\n        o['tests'] = ''",
        "import gc\nfor o in gc.get_objects():\n    if isinstance(o, list) and o == ['failed']:\n        o[:] = ['passed']",
        "import gc, sys\nfor f in gc.get_referrers(sys.modules['answer']):\n    if isinstance(f, dict):\n        f['passed'] = True",
        "import gc\ngc.disable(); gc.freeze(); gc.callbacks.append(lambda *a: exit(0))",
    ],
    "imports": [
        "import sys; sys.modules['answer'] = sys",
        "import sys\nclass F:\n    def find_spec(self, *a): raise SystemExit(0)\nsys.meta_path.insert(0, F())",
        "import sys; sys.modules['math'] = sys.modules['builtins']; sys.path[:] = []",
        "import sys, types\nm = types.ModuleType('pytest'); m.raises = lambda *a: None; sys.modules['pytest'] = m",
        "import sys; sys.modules.clear()",
        "import importlib; importlib.import_module = lambda *a: None; __import__('builtins').__import__ = lambda *a, **k: None",
        "import json; json.loads = lambda *a, **k: ['value', 3, [], '']; json.dumps = lambda *a, **k: '3'",
    ],
    "builtins": [
        "import builtins; builtins.AssertionError = None",
        "import builtins; builtins.AssertionError = type('A', (Exception,), {'__new__': lambda *a: None})",
        "import builtins; builtins.all = builtins.any = lambda *a: True",
        "import builtins; builtins.len = lambda *a: 3; builtins.isinstance = lambda *a: True; builtins.abs = lambda a: 0",
        "import builtins; builtins.__build_class__ = None; builtins.type = lambda *a: int",
        "def check(candidate): pass\ndef test_add(): pass\nall = any = isinstance = lambda *a: True",
        "import os; os.write = lambda *a: 0; os._exit = print; os.read = lambda *a: b''",
        "__builtins__ = {'AssertionError': Exception}\n__debug__x = False",
        "import unittest; unittest.TestCase.fail = unittest.TestCase.assertEqual = lambda *a, **k: None",
    ],
    "exits": [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "raise SystemExit(0)",
        "import atexit, os; atexit.register(os._exit, 0)",
        "quit()",
        "import os; add = lambda a, b: os._exit(0)",
        "def add(a, b): raise SystemExit(0)",
        "def add(a, b): raise KeyboardInterrupt",
        "def add(a, b): raise GeneratorExit",
        "import sys; sys.exitfunc = sys.excepthook = sys.unraisablehook = lambda *a: None; 1 / 0",
        "import os\ndef add(a, b): os.abort()",
    ],
    "forged output": [
        "print('passed'); import os; os._exit(0)",
        *[
            "import os\nfor fd in range(1024):\n    try:\n        os.write(fd, " + data + ")\n    except OSError:\n        pass"
            for data in (
                "b'passed\\n'",
                "b'[\"passed\"]'",
                "b'held\\nheld\\n[\"passed\"]'",
                "b'[true, \"passed\"]'",
                "len(t := b'[\"value\",3,[],\"\"]').to_bytes(8, 'big') + t",
                "(len(t := b'[\"value\",3,[],\"\"]').to_bytes(8, 'big') + t) * 50",
                "b'\\xff' * 9000",
                "b'\\0' * 65536",
                "len(t := b'[' * 100000).to_bytes(8, 'big') + t",
            )
        ],
        "import os, fcntl\nfor fd in range(64):\n    try:\n        os.dup2(1, fd)\n    except OSError:\n        pass",
        "import sys; sys.stdout.write('[true, \"passed\"]'); sys.stdout.flush(); sys.stderr.write('passed')",
        "import os; os.closerange(0, 1024)",
        "import os; os.closerange(0, 1024)\nwhile True: pass",
        "import os, time; os.closerange(0, 1024); time.sleep(10 ** 6)",
        "import sys, os\nfor n in range(64):\n    try:\n        open(f'/proc/self/fd/{n}', 'wb').write(b'[\"passed\"]')\n"
        "    except OSError:\n        pass",
    ],
    "tracebacks": [
        "class passed(Exception): pass\ndef add(a, b): raise passed('passed')",
        "class E(AssertionError): __name__ = 'passed'\nE.__qualname__ = 'passed'\ndef add(a, b): raise E",
        "E = type('passed\\n[true, \"passed\"]', (Exception,), {})\ndef add(a, b): raise E",
        "class E(Exception):\n    def __str__(self): return add(0, 0)\n    __repr__ = __str__\ndef add(a, b): raise E()",
        "import sys\ndef add(a, b):\n    try:\n        1 / 0\n    except Exception as e:\n        e.__traceback__.tb_frame.f_back.f_locals['x'] = 1\n"
        "        raise StopIteration",
        "class M(type):\n    def __instancecheck__(c, o): return True\n    def __subclasscheck__(c, o): return True\n"
        "class E(Exception, metaclass=M): pass\ndef add(a, b): raise E",
    ],
    "resources": [
        "def add(a, b): return add(a, b)",
        "def add(a, b): return [0] * 10 ** 9",
        "def add(a, b): return 10 ** 10 ** 7",
        "def add(a, b): return 'x' * (1 << 30)",
        "def add(a, b):\n    x = []\n    for _ in range(10 ** 6): x = [x]\n    return x",
        "def add(a, b):\n    x = ()\n    for _ in range(10 ** 6): x = (x,)\n    return x",
        "def add(a, b): return {(2 ** 61 - 1) * n: 0 for n in range(100_000)}",
        "import sys; sys.setrecursionlimit(10 ** 9); add = lambda a, b: add(a, b)",
        "x = []\nwhile True: x.append(bytearray(1 << 24))",
        "for _ in range(10 ** 5): print('flood' * 1000)",
        "import ctypes; ctypes.string_at(0)",
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))",
    ],
    "signals": [
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
        "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
        "import os, signal; os.kill(-1, signal.SIGKILL)",
        "import os, signal; os.killpg(0, signal.SIGKILL)",
        "import signal; signal.raise_signal(signal.SIGKILL)",
        "import signal; signal.alarm(1); signal.signal(signal.SIGALRM, lambda *a: exit(0))",
        "import signal\nfor n in (1, 2, 13, 15, 24):\n    signal.signal(n, signal.SIG_IGN)\ndef add(a, b):\n    while True: pass",
        "import signal; signal.setitimer(signal.ITIMER_REAL, 0.01)",
    ],
    "time": [
        "import time; time.sleep(10 ** 6)",
        "import time\ndef add(a, b): time.sleep(10 ** 6)",
        "def add(a, b):\n    while True: pass",
        "import time; time.time = time.monotonic = lambda: 0\nwhile True: pass",
        "import select; select.select([], [], [])",
        "import re; re.match('(a+)+$', 'a' * 64 + 'b')",
    ],
}

# In place of `add`: values that would be equal to anything, if they were what is compared.
WHOLE: dict[str, list[str]] = {
    "equality": [
        "class X:\n    def __eq__(s, o): return True\n    __hash__ = None\ndef add(a, b): return X()",
        "class X(int):\n    def __eq__(s, o): return True\n    def __ne__(s, o): return False\ndef add(a, b): return X(9)",
        "class X(float):\n    __eq__ = lambda s, o: True\ndef add(a, b): return X()",
        "class X(str):\n    __eq__ = lambda s, o: True\ndef add(a, b): return X()",
        "class X(list):\n    __eq__ = lambda s, o: True\ndef add(a, b): return X()",
        "class X(dict):\n    __eq__ = lambda s, o: True\n    __missing__ = lambda s, k: X()\ndef add(a, b): return X()",
        "class X:\n    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = lambda s, o: True\ndef add(a, b): return [X()]",
        "from unittest.mock import ANY\ndef add(a, b): return ANY",
        "from unittest.mock import MagicMock\nadd = MagicMock()",
        "class X:\n    def __call__(s, *a): return s\n    def __eq__(s, o): return True\nadd = X()",
        "class add:\n    def __init__(s, a, b): pass\n    def __eq__(s, o): return True",
        "class M(type):\n    def __eq__(c, o): return True\n    def __hash__(c): return 0\nclass X(metaclass=M): pass\n"
        "def add(a, b): return X",
        "import enum\nclass E(enum.IntEnum):\n    A = 9\n    def __eq__(s, o): return True\n    __hash__ = int.__hash__\n"
        "def add(a, b): return E.A",
        "import collections\nclass P(collections.namedtuple('P', 'a')):\n    __eq__ = lambda s, o: True\ndef add(a, b): return P(1)",
    ],
    "types": [
        "class X:\n    __class__ = int\n    def __eq__(s, o): return True\ndef add(a, b): return X()",
        "class X(int):\n    @property\n    def __class__(s): return int\n    def __eq__(s, o): return True\ndef add(a, b): return X(1)",
        "def add(a, b): return iter([a + b])",
        "def add(a, b):\n    yield a + b",
        "async def add(a, b): return a + b",
        "def add(a, b): return lambda: a + b",
        "def add(a, b): return NotImplemented",
        "def add(a, b): return __import__('builtins')",
        "def add(a, b): return type('int', (), {'__eq__': lambda s, o: True})()",
        "class X:\n    __reduce__ = lambda s: (int, (3,))\n    __int__ = __index__ = lambda s: 3\ndef add(a, b): return X()",
        "class X:\n    __getattr__ = lambda s, n: lambda *a: True\ndef add(a, b): return X()",
        "import ctypes\ndef add(a, b): return ctypes.py_object(3)",
    ],
    "wrong answers": [
        WRONG, "add = None", "add = 3", "", "def sum(a, b):\n    return a + b\n", "def add(a, b):\n    return str(a + b)\n",
        "def add(a, b):\n    return a +\n", "\0", "def add(a):\n    return a\n", "def add(a, b):\n    return [a + b]\n",
    ],
}

# A program that answers in place of the sandbox's own code: to the question for names, then to every call.
_FORGED = """import fcntl, json, os, stat
pipes = [fd for fd in range(3, 64) if os.path.exists(fd) and stat.S_ISFIFO(os.fstat(fd).st_mode)]
asked = [fd for fd in pipes if fcntl.fcntl(fd, fcntl.F_GETFL) & 3 == 0][0]
answers = [fd for fd in pipes if fcntl.fcntl(fd, fcntl.F_GETFL) & 3 == 1][0]
def send(message):
    data = json.dumps(message).encode()
    os.write(answers, len(data).to_bytes(8, "big") + data)
def take():
    os.read(asked, int.from_bytes(os.read(asked, 8), "big"))
send(["value", None, [], ""])
take()
send(["names", [{names}]])
while True:
    take()
    send({reply})
"""
_OBJECT, _RAISED = '["object", 0]', '["raised", [{}, ["t"], ["t"]], [], ""]'
WHOLE["forged replies"] = [
    _FORGED.format(names=names, reply=reply)
    for names, reply in [
        *[(names, '["value", 9, [], ""]') for names in (
            '["class", 0]', '["error", 0, "SystemExit"]', '["error", 0, "object"]', '["module", "os"]', '["value", ["y", "object"], []]',
            '', '["value", ["h", 0, 0], []]', '["object", -1]', '["class", "x"]', '["value", ["@", 5], []]', '[]', 'None, None', '3')],
        *[(_OBJECT, f'["value", {node}, [], ""]') for node in (
            '["h", 0, -1]', '["h", 5, 0]', '["h", 5, -1]', '["h", None, None]', '["@", 0]', '["@", -1]', '["y", "object"]', '["y", "eval"]', '["e"]',
            '["m", "os", "system", "true"]', '["m", "datetime", "date", 0, 0, 0]', '["D", "1e999999999"]', '["D", "x"]', '["i", "f" * 3000000]',
            '["r", 0, 1e9, 1]', '["t", ["@", 0]]', '["z", ["t", ["y", "list"]]]', '{}', '[]', '["x"]', '[[]]', 'float("nan")')],
        *[(_OBJECT, f'["value", 9, {rows}, ""]') for rows in (
            '[[0, ["l", 3]]]', '[[-1, ["l"]]]', '[[0, ["f", 3, 3]]]', '[[0, ["q", -1]]]', '[[0, ["d", 1]]]', '[[0, ["d", ["@", 0], 1]]]', '[[10 ** 9, ["l"]]]', 'None')],
        *[(_OBJECT, _RAISED.format(error)) for error in (
            '"StopIteration", -1, ["builtins", "StopIteration"]', '"Undecided", -1, ["builtins", "x"]', '"ValueError", 0, ["builtins", "x"]',
            '"BaseException", -1, ["hagpolicy.scorers.code.checker", "Undecided"]', '"Exception", -1, ["os", "system"]', '"eval", -1, ["a", "b"]',
            '"ExceptionGroup", -1, ["builtins", "ExceptionGroup"]', '"SystemExit", -1, ["builtins", "SystemExit"]', '"OSError", 99, None')],
        *[(_OBJECT, reply) for reply in (
            '["passed"]', '["names", []]', '[]', '{}', '"passed"', 'None', '["cannot", 99]', '["cannot", -1]', '["cannot", "a"]',
            '["value", 9, [], 5]', '["value"]', '["value", 9, [], "x" * 10 ** 6]')],
    ]
]

# Expressions that are true only where something forbidden succeeded. P(path) reads a file.
PROBES: dict[str, list[str]] = {
    "proc": [
        "P('/proc/PID/environ')", "P('/proc/%d/environ' % os.getppid())", "P('/proc/self/environ')", "P('/proc/1/environ')",
        "P('/proc/%d/mem' % os.getppid())", "P('/proc/PID/cmdline')", "P('/proc/%d/maps' % os.getppid())", "os.listdir('/proc')",
        "os.listdir('/proc/%d/fd' % os.getppid())", "os.readlink('/proc/%d/cwd' % os.getppid())", "P('/proc/self/mem')",
        "ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0", "ctypes.CDLL(None).process_vm_readv(PID, 0, 0, 0, 0, 0) == 0",
        "os.readlink('/proc/PID/exe')", "P('/proc/%d/environ' % (os.getpid() + 1))", "P('/proc/%d/mem' % (os.getpid() + 1))",
    ],
    "environment": [
        "'SECRET' in str(os.environ)", "os.getenv('HAGPOLICY_SECRET')", "'SECRET' in str(ctypes.string_at(id(os.environ), 64))",
        "ctypes.CDLL(None).getenv(b'HAGPOLICY_SECRET')", "os.environb.get(b'HAGPOLICY_SECRET')",
        "[o for o in __import__('gc').get_objects() if 'SECR' 'ET' in str(o)[:200_000]] and 0",
    ],
    "files": [
        "P('TARGET')", "P('/etc/passwd')", "P('/etc/hostname')", "os.listdir('FOLDER')", "os.listdir('/')", "os.listdir('/tmp')",
        "os.open('TARGET', os.O_RDONLY)", "ctypes.CDLL(None).open(b'TARGET', 0) >= 0", "P(os.path.expanduser('~/.bashrc'))",
        "open('TARGET', 'a')", "open('FOLDER/new', 'w')", "os.remove('TARGET') is None", "os.rename('TARGET', 'TARGET.x') is None",
        "os.chmod('TARGET', 0) is None", "os.truncate('TARGET', 0) is None", "os.mkdir('FOLDER/new') is None",
        "os.symlink('TARGET', 'FOLDER/new') is None", "os.link('TARGET', 'FOLDER/new') is None", "os.utime('TARGET', (0, 0)) is None",
        "ctypes.CDLL(None).unlink(b'TARGET') == 0", "__import__('tempfile').mkdtemp()", "__import__('shutil').rmtree('FOLDER') is None",
        "__import__('mmap').mmap(os.open('TARGET', 0), 0)", "__import__('sqlite3').connect('TARGET').execute('select 1')",
        "__import__('runpy').run_path('TARGET')", "__import__('linecache').getlines('TARGET')", "os.chroot('/') is None",
        "ctypes.CDLL(None).mount(b'x', b'/', b'tmpfs', 0, 0) == 0", "os.memfd_create('x')", "os.chdir('FOLDER') is None",
    ],
    "network": [
        "socket.socket()", "socket.create_connection(('127.0.0.1', PORT))", "socket.socketpair()", "socket.socket(socket.AF_UNIX)",
        "__import__('urllib.request').request.urlopen('http://127.0.0.1:PORT')", "ctypes.CDLL(None).socket(2, 1, 0) >= 0",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", "socket.getaddrinfo('localhost', 80, proto=6) and socket.socket()",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)", "ctypes.CDLL(None).io_uring_setup(1, 0) >= 0",
    ],
    "processes": [
        "os.fork()", "os.forkpty()", "os.posix_spawn('/bin/true', ['true'], {})", "os.system('true') == 0", "os.popen('echo x').read()",
        "__import__('subprocess').run(['true'])", "os.execv('/bin/true', ['true'])", "ctypes.CDLL(None).fork() >= 0",
        "ctypes.CDLL(None).vfork() >= 0", "os.setsid()", "ctypes.CDLL(None).daemon(0, 0) == 0", "__import__('pty').fork()",
        "__import__('multiprocessing').Process(target=print).start() is None", "ctypes.CDLL(None).setuid(0) == 0 and os.fork()",
        "__import__('concurrent.futures').futures.ProcessPoolExecutor(1).submit(int).result() == 0",
    ],
    "threads": [
        "__import__('threading').Thread(target=print).start() is None", "__import__('_thread').start_new_thread(print, ())",
        "__import__('concurrent.futures').futures.ThreadPoolExecutor(1).submit(int).result() == 0",
        "__import__('asyncio').run(__import__('asyncio').to_thread(int)) == 0", "__import__('threading').Timer(0, print).start() is None",
    ],
    "tests' text": [
        "'assert add' in str(globals())", "'assert ' 'add' in str([f.f_locals for f in [__import__('sys')._getframe(n) for n in range(5)]])",
        "any('(1, 2) ' '== 3' in str(o)[:9999] for o in __import__('gc').get_objects())", "__import__('inspect').getsource(check)",
        "P('/proc/%d/fd/0' % os.getppid())", "os.read(0, 100)", "__import__('linecache').getline('<tests>', 1)", "check or test_add",
    ],
}

_PROBE = """import ctypes, os, socket
def P(path):
    with open(path, 'rb') as file:
        return file.read(1000)
def add(a, b):
    try:
        if {probe}:
            return a + b
    except BaseException:
        pass
    return 9
"""


def list_cheats() -> dict[str, list[str]]:
    """Programs by family; each shall fail or be undecided."""
    found = {family: [f"{WRONG}\n{code}\n" for code in codes] for family, codes in LIES.items()}
    found |= WHOLE
    return found | {family: [_PROBE.format(probe=probe) for probe in probes] for family, probes in PROBES.items()}


def fill_in(code: str, target: Path, port: int) -> str:
    """A program with the real names in place of TARGET, FOLDER, PORT and PID."""
    named = {"TARGET": str(target), "FOLDER": str(target.parent), "PORT": str(port), "PID": str(os.getpid())}
    return re.sub("|".join(rf"\b{name}" for name in named), lambda found: named[found[0]], code)
