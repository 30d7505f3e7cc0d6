"""What a process gives up before it runs code that was generated. Run in the sandbox's processes only."""

from __future__ import annotations

import _socket
import ctypes
import os
import resource
import sys
from collections.abc import Callable, Sequence
from typing import Any

_PDEATHSIG, _DUMPABLE, _SECCOMP, _NO_NEW_PRIVS = 1, 4, 22, 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3


def find_landlock() -> int:
    """The version of Landlock that the kernel has and this process may use; 0: none."""
    return max(0, int(ctypes.CDLL(None, use_errno=True).syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def list_roots() -> list[str]:
    """Files and folders that Python itself reads: its library, installed packages, shared libraries, time zones."""
    prefixes = dict.fromkeys((sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix))
    inner = [os.path.join(prefix, name) for prefix in prefixes for name in ("lib", "lib64")]
    system = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store", "/usr/share/zoneinfo"]
    files = ["/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/urandom"]
    found = [os.path.realpath(place) for place in (*inner, os.path.dirname(os.__file__), *system, *files)]
    return [place for place in dict.fromkeys(found) if os.path.exists(place)]


def die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends, and let no other process look into it."""
    _prctl(_PDEATHSIG, 9)
    _prctl(_DUMPABLE, 0)
    if os.getppid() != parent:
        os._exit(1)


def confine(limits: dict[str, int], seccomp: str, landlock: bool) -> None:
    """Give up everything but computing and reading Python's own files, and try what must now be impossible.

    Raises:
        OSError, ValueError: the kernel does not hold what it should; nothing may be run then.
    """
    roots = list_roots()
    for name, value in {**limits, "FSIZE": 0, "NOFILE": 64, "CORE": 0, "NPROC": 0}.items():
        # Of CPU time the first limit ends the process with a signal of its own, the second one whatever it does.
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value + (name == "CPU")))
    _prctl(_NO_NEW_PRIVS, 1)
    if landlock:
        _restrict_reading(roots)
    libc = ctypes.CDLL(None, use_errno=True)
    # capset, version 3, this process, no capability in any set: root's powers end here.
    _must(libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()), "capset")
    code = bytes.fromhex(seccomp)
    program = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: the number of instructions, padding, their address.
    _prctl(_SECCOMP, 2, (ctypes.c_uint64 * 2)(len(code) // 8, ctypes.addressof(program)))
    _prove(landlock)
    inside = tuple(root + "/" for root in roots)
    for place in sys.path:  # a root whose Python belongs to somebody else reads it by a capability that is gone now
        if os.path.isdir(place) and os.path.realpath(place).startswith(inside):
            os.listdir(place)
    _guard(frozenset(roots), inside)


def _must(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), what)
    return result


def _prctl(option: int, *values: Any) -> None:
    words = [value if isinstance(value, ctypes.Array) else ctypes.c_ulong(value) for value in values]
    padding = [ctypes.c_ulong(0)] * (4 - len(words))
    _must(ctypes.CDLL(None, use_errno=True).prctl(option, *words, *padding), f"prctl {option}")


def _restrict_reading(roots: Sequence[str]) -> None:
    """Let the kernel refuse every file but those below the roots, and every look into a process outside."""
    libc, version = ctypes.CDLL(None, use_errno=True), find_landlock()
    # Rights known to a version: 13 from the first, then REFER, TRUNCATE (3), IOCTL_DEV (5). From 4 on: TCP; from 6 on:
    # signals and abstract sockets to processes outside.
    bits = 13 + (version >= 2) + (version >= 3) + (version >= 5)
    fields = [(1 << bits) - 1] + [3] * (version >= 4) + [3] * (version >= 6)
    ruled = (ctypes.c_uint64 * len(fields))(*fields)
    rules = _must(libc.syscall(_CREATE_RULESET, ruled, ctypes.c_size_t(ctypes.sizeof(ruled)), 0), "landlock")
    for root in roots:
        place = os.open(root, os.O_PATH | os.O_CLOEXEC)
        allowed = _READ_FILE | (_READ_DIR if os.path.isdir(root) else 0)
        rule = ctypes.create_string_buffer(allowed.to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder), 12)
        _must(libc.syscall(_ADD_RULE, rules, 1, rule, 0), "landlock")
        os.close(place)
    _must(libc.syscall(_RESTRICT_SELF, rules, 0), "landlock")
    os.close(rules)


def _prove(landlock: bool) -> None:
    """What must be impossible is tried: a filter with a wrong number in it would let it through."""
    attempts: list[Callable[[], object]] = [
        lambda: _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM),
        lambda: _socket.socketpair(),
        os.fork,
        lambda: os.open("/dev", os.O_RDWR | os.O_TMPFILE),
        lambda: os.open("/dev/null/proof", os.O_WRONLY | os.O_CREAT),
        lambda: os.mkdir("/dev/null/proof"),
        lambda: os.kill(os.getpid(), 0),
        lambda: os.execv(sys.executable, [sys.executable, "-c", "0"]),
    ]
    for attempt in attempts + [lambda: os.listdir("/"), lambda: os.open("/proc/self/environ", 0)] * landlock:
        try:
            attempt()
        except PermissionError:
            continue
        except OSError:
            pass
        raise OSError(0, "the kernel lets through what the filter forbids")


def _guard(exact: frozenset[str], inside: tuple[str, ...]) -> None:
    """Refuse in Python, too, to open what is no part of it: all that holds this where Landlock is absent."""
    real, decode = os.path.realpath, os.fsdecode

    def hook(event: str, values: tuple[Any, ...]) -> None:
        if event in ("open", "os.listdir", "os.scandir") and values and not isinstance(values[0], int):
            place = real(decode(values[0] or "."))
            if place not in exact and not place.startswith(inside):
                raise PermissionError(f"{event} is not allowed here")

    sys.addaudithook(hook)
