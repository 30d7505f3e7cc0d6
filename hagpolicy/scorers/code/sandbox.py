"""Running generated Python: a process that can compute, read Python's own files, and nothing else.

A program and its tests run in two processes, below a third one that ends both (`sandbox_child`). The tests ask the
program for values over a pipe; what they expect, and whether they passed, never is where the program is. What
holds for both, on Linux (x86-64 and AArch64), for any user and inside containers too, by the kernel:

- time: CPU seconds for each (RLIMIT_CPU), and a wall clock after which both are killed;
- memory: their address space (RLIMIT_AS);
- system calls: only those needed to compute and to read files (a seccomp filter, seccomp(2), with
  no_new_privs and without capabilities). There is no network, no other process or thread, no signal
  to another process, no file or folder written, changed or removed;
- reading: Python's own installation and shared libraries only, no other process's memory or environment
  (Landlock, landlock(7), from Linux 5.13 on where it is enabled). Where it is absent, an audit hook of Python
  refuses to open other files, which hostile native code could step around;
- output: none is read; it goes to /dev/null. What comes back is one line from a closed list of words;
- their end: the kernel kills them when the process above them dies, and that one when the caller dies.

Their environment is empty but for a few settings, so no key of the caller's is in it. They try what must be
impossible before they run anything; where the kernel refuses the filter, nothing is run. Not covered: faults of the
kernel itself; names, sizes and times of files, which stat(2) tells; a program that changes an argument in place to suit
tests which use it again.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hagpolicy.errors import EngineError
from hagpolicy.scorers.code.confinement import find_landlock

# System calls for computing and reading: name, number on x86-64, number on AArch64 (Linux 6.1, <asm/unistd.h>).
_CALLS = """
read 0 63; write 1 64; close 3 57; lseek 8 62; mmap 9 222; mprotect 10 226; munmap 11 215; brk 12 214
rt_sigaction 13 134; rt_sigprocmask 14 135; rt_sigreturn 15 139; sigaltstack 131 132; pread64 17 67
readv 19 65; writev 20 66; mremap 25 216; madvise 28 233; mincore 27 232; dup 32 23; dup3 292 24
nanosleep 35 101; clock_nanosleep 230 115; getpid 39 172; getppid 110 173; gettid 186 178; exit 60 93
exit_group 231 94; uname 63 160; getcwd 79 17; gettimeofday 96 169; getrusage 98 165; sysinfo 99 179
times 100 153; getuid 102 174; getgid 104 176; geteuid 107 175; getegid 108 177; getgroups 115 158
sched_yield 24 124; sched_getaffinity 204 123; futex 202 98; set_tid_address 218 96; set_robust_list 273 99
clock_gettime 228 113; clock_getres 229 114; getrandom 318 278; fstat 5 80; newfstatat 262 79; statx 332 291
faccessat 269 48; faccessat2 439 439; readlinkat 267 78; getdents64 217 61; pipe2 293 59; ppoll 271 73
pselect6 270 72; rseq 334 293; restart_syscall 219 128; stat 4 -; lstat 6 -; access 21 -; readlink 89 -
poll 7 -; select 23 -; arch_prctl 158 -
"""
# Of these an argument decides. Opening: flags that write, create or truncate are refused. Descriptors: of all that
# fcntl does, only copying them and their flags; it could else have the kernel send signals to other processes.
_OPENING = {"x86_64": {2: 1, 257: 2}, "aarch64": {56: 2}}
_FCNTL = {"x86_64": 72, "aarch64": 25}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_FCNTL_COMMANDS = (0, 1, 2, 3, 1030)
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_REFUSED = 0x00050000 | 13  # SECCOMP_RET_ERRNO with EACCES: Python raises PermissionError
_ALLOWED, _KILLED = 0x7FFF0000, 0x80000000
# Classic BPF: load a word of struct seccomp_data, jump where equal, jump where bits are set, return.
_LOAD, _EQUAL, _BITS, _RETURN = 0x20, 0x15, 0x45, 0x06


@dataclass(frozen=True)
class SandboxResult:
    """The result of a run in the sandbox.

    Attributes:
        passed: whether every test passed; None where nothing was run, or nothing can be said.
        detail: "passed", the name of a built-in exception or "an exception of its own", "time limit", "killed",
            "ended before the tests"; or why passed is None.
    """

    passed: bool | None
    detail: str


class Processes:
    """Processes of one call, which end together where it is interrupted."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def add(self, process: subprocess.Popen[bytes]) -> None:
        """Take a process that was started; where all were ended, it ends at once."""
        with self._lock:
            self._running.add(process)
            if self._ended:
                _kill(process)

    def remove(self, process: subprocess.Popen[bytes]) -> None:
        """End a process, with those that it started, and wait for it."""
        with self._lock:
            self._running.discard(process)
            left = process.poll() is None
            _kill(process)
        if left:
            process.communicate()

    def end(self) -> None:
        """End all, and whatever is started from now on."""
        with self._lock:
            self._ended = True
            for process in self._running:
                _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:  # its group: those that it started are in it and cannot leave
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@lru_cache(maxsize=2)
def build_seccomp_filter(machine: str) -> str:
    """The filter as hexadecimal code: what is not needed for computing and reading is refused.

    Raises:
        EngineError: no Linux, or an architecture whose system calls are not listed here.
    """
    if not sys.platform.startswith("linux") or machine not in _ARCHITECTURES:
        raise EngineError(
            f"python_tests runs on Linux on x86-64 and AArch64, this is {sys.platform} on {machine}: generated code "
            "runs only where the kernel can hold it. Use a container or a virtual machine with Linux."
        )
    column = 1 + list(_ARCHITECTURES).index(machine)
    rows = [entry.split() for line in _CALLS.strip().splitlines() for entry in line.split("; ")]
    numbers = [int(row[column]) for row in rows if row[column] != "-"]
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCHITECTURES[machine]), (_RETURN, 0, 0, _KILLED), (_LOAD, 0, 0, 0)]
    for number, argument in _OPENING[machine].items():
        look = (_LOAD, 0, 0, 16 + 8 * argument)
        code += [
            (_EQUAL, 0, 4, number),
            look,
            (_BITS, 0, 1, _WRITING),
            (_RETURN, 0, 0, _REFUSED),
            (_RETURN, 0, 0, _ALLOWED),
        ]
    commands = [(_EQUAL, len(_FCNTL_COMMANDS) - at, 0, command) for at, command in enumerate(_FCNTL_COMMANDS)]
    code += [(_EQUAL, 0, len(commands) + 3, _FCNTL[machine]), (_LOAD, 0, 0, 24), *commands]
    code += [(_RETURN, 0, 0, _REFUSED), (_RETURN, 0, 0, _ALLOWED)]
    for number in numbers:
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOWED)]
    code.append((_RETURN, 0, 0, _REFUSED))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code).hex()


# The package itself is not imported there: three names stand for its folders, in which modules are found as usual.
_START = """import sys, types
for name, place in zip(("hagpolicy", "hagpolicy.scorers", "hagpolicy.scorers.code"), sys.argv[2:]):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [place]
from hagpolicy.scorers.code.sandbox_child import main
main()
"""


def check_interpreter() -> None:
    """Raise where there is no Python to run programs with.

    Raises:
        EngineError: an application that was frozen into one file, or Python inside another program.
    """
    if getattr(sys, "frozen", False) or not sys.executable:
        raise EngineError(
            "python_tests needs a Python interpreter to run programs with, and this is a frozen or embedded one. "
            "Score with an installed hagpolicy."
        )


def list_isolation() -> tuple[str, ...]:
    """What separates a program from its tests and from the machine: names of mechanisms that this kernel has."""
    return ("processes", "rlimits", "seccomp", *(("landlock",) if find_landlock() else ()))


def run_tests(
    programs: Sequence[Sequence[str]],
    tests: str,
    functions: Sequence[str],
    *,
    seconds: int,
    memory_mb: int,
    head: str = "",
    entry_point: str = "",
    wanted: Sequence[str] = (),
    processes: Processes | None = None,
) -> SandboxResult:
    """Run a program and its tests in the sandbox.

    Args:
        programs: code blocks of the answer, by one reading of it a row; see `programs.choose_program`.
        tests: source that is run in a process of its own.
        functions: names of functions of the tests that are then called without arguments.
        seconds: of CPU time for each process, at least 1; four times that and two seconds more of wall time.
        memory_mb: address space of each in MiB.
        head: code of the prompt, which the program follows; the tests may use its helpers.
        entry_point: the function that the tests are about; "": none is named.
        wanted: names that a program for these tests defines.
        processes: of a call that may be interrupted; None: of this one.

    Raises:
        EngineError: see `build_seccomp_filter`.
    """
    wall = 4.0 * seconds + 2.0
    job = {
        "programs": [list(row) for row in programs],
        "head": head,
        "wanted": list(wanted),
        "prints": "stdout" in tests,
        "limits": {"CPU": seconds, "AS": memory_mb << 20},
        "filter": build_seccomp_filter(platform.machine()),
        "landlock": "landlock" in list_isolation(),
        "wall": wall,
    }
    of_tests = {"tests": tests, "functions": list(functions), "head": head, "entry_point": entry_point}
    message = b"".join(
        len(data).to_bytes(8, "big") + data for data in (json.dumps(o).encode() for o in (job, of_tests))
    )
    folder = Path(__file__).parent
    # -P and -s: neither the working folder nor the user's own packages are searched for modules.
    command = [sys.executable, "-P", "-s", "-c", _START, str(os.getpid())]
    process = subprocess.Popen(
        [*command, *map(str, (folder.parents[1], folder.parent, folder))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        cwd="/", env=_environment(), start_new_session=True,
    )  # fmt: skip
    processes = processes or Processes()
    processes.add(process)
    try:
        line, _ = process.communicate(message, timeout=wall + 10.0)
    except subprocess.TimeoutExpired:
        return SandboxResult(None, "the sandbox did not end in time")
    finally:
        processes.remove(process)
    return _parse_result(line, process.returncode)


def _environment() -> dict[str, str]:
    """Nothing of the caller's; sets iterate alike in every run, and numerical libraries start no threads."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "TMPDIR": "/nonexistent",
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        **threads,
    }


def _parse_result(line: bytes, code: int) -> SandboxResult:
    try:
        passed, detail = json.loads(line)
    except ValueError:
        return SandboxResult(None, f"the sandbox did not start: it ended with {code}")
    return SandboxResult(passed, detail)
