"""The process that runs generated code. Run by `python -c`, never imported by the package.

It reads its job from stdin, gives up every right it does not need for computing, says "ready", runs
the answer and then the tests, and only then writes the word that means they passed. Everything is a
local of `main`, so that what is run finds nothing of it by name.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the job on stdin; the verdict goes to the descriptor named by the first argument."""
    import _socket
    import ctypes
    import importlib.abc
    import json
    import os
    import random
    import resource
    import types

    write, leave, channel = os.write, os._exit, int(sys.argv[1])
    job = json.loads(sys.stdin.buffer.read())

    def limit() -> None:
        memory, seconds = int(job["memory"]), int(job["seconds"])
        for name, value in (("AS", memory), ("FSIZE", 0), ("NOFILE", 64), ("CORE", 0)):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
        # The first limit ends the process with a signal of its own, the second one whatever it does.
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))

    def confine() -> None:
        libc = ctypes.CDLL(None, use_errno=True)

        def must(result: int, what: str) -> None:
            if result != 0:
                raise OSError(ctypes.get_errno(), what)

        def prctl(option: int, *values: object) -> int:
            words = [value if isinstance(value, ctypes.Array) else ctypes.c_ulong(value) for value in values]  # type: ignore[arg-type]
            return int(libc.prctl(option, *words, *[ctypes.c_ulong(0)] * (4 - len(words))))

        # capset, version 3, this process, no capability in any set: root's powers end here.
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        must(libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")
        must(prctl(38, 1), "PR_SET_NO_NEW_PRIVS")
        code = bytes.fromhex(job["filter"])
        program = ctypes.create_string_buffer(code, len(code))
        # struct sock_fprog: the number of instructions, padding, their address.
        described = (ctypes.c_uint64 * 2)(len(code) // 8, ctypes.addressof(program))
        must(prctl(22, 2, described), "PR_SET_SECCOMP")

    def prove() -> None:
        """What must be impossible is tried: a filter with a wrong number in it would let it through."""
        attempts = (
            lambda: _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM),
            lambda: _socket.socketpair(),
            os.fork,
            lambda: os.open(".", os.O_RDWR | os.O_TMPFILE),
            lambda: os.open("proof", os.O_WRONLY | os.O_CREAT),
            lambda: os.mkdir("proof"),
            lambda: os.kill(os.getpid(), 0),
            lambda: os.execv(sys.executable, [sys.executable, "-c", "0"]),
        )
        for attempt in attempts:
            try:
                attempt()
            except PermissionError:
                continue
            raise OSError(0, "the kernel lets through what the filter forbids")

    def guard() -> None:
        """Refuse to open what is no part of Python: reading is not harmful here, but it is not asked for either."""
        real = os.path.realpath
        roots = {real(place) for place in (sys.prefix, sys.base_prefix, os.path.dirname(os.__file__), *job["roots"])}
        inside = tuple(root.rstrip("/") + "/" for root in roots)
        exact = frozenset({*roots, "/dev/null", "/dev/urandom", "/etc/localtime"})

        def hook(event: str, values: tuple[object, ...]) -> None:
            if event in ("open", "os.listdir", "os.scandir") and values and not isinstance(values[0], int):
                place = real(os.fsdecode(values[0] or "."))  # type: ignore[arg-type]
                if place not in exact and not place.startswith(inside):
                    raise PermissionError(f"{event} is not allowed here")

        sys.addaudithook(hook)

    class Source(importlib.abc.InspectLoader):
        """Runs source text in a module by the ordinary machinery of imports."""

        def __init__(self, text: str) -> None:
            self._text = text

        def get_source(self, fullname: str) -> str:
            return self._text

    def chosen() -> str:
        """The last text of the first row of which every text compiles; else of the last row."""
        for row in job["programs"]:
            try:
                for text in row:
                    compile(text, "<answer>", "exec")
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
            return str(row[-1])
        return str(job["programs"][-1][-1])

    places = [place for place in sys.path if os.path.isdir(place)]
    try:
        limit()
        confine()
        prove()
        for place in places:  # a root whose Python belongs to somebody else reads it by a capability that is gone now
            os.listdir(place)
        guard()
    except (OSError, ValueError) as error:
        write(channel, f"refused {error}\n".encode("ascii", "replace")[:160])
        leave(2)
    random.seed(0)
    write(channel, b"ready\n")
    try:
        module = types.ModuleType("answer")
        sys.modules["answer"] = module
        Source(chosen()).exec_module(module)
        Source(job["tests"]).exec_module(module)
        for name in job["functions"]:
            getattr(module, name)()
    except BaseException as error:
        write(channel, f"failed {type(error).__name__}\n".encode()[:80])
        leave(1)
    write(channel, job["word"].encode())
    leave(0)


if __name__ == "__main__":
    main()
