"""Running generated Python: a process that can compute, read Python's own files, and nothing else.

What holds, on Linux (x86-64 and AArch64), for any user and inside containers too, by the kernel:

- time: CPU seconds (RLIMIT_CPU), and a wall clock after which the process is killed;
- memory: its address space (RLIMIT_AS);
- system calls: only those needed to compute and to read files (a seccomp filter, seccomp(2), with
  no_new_privs and without capabilities). There is no network, no other process or thread, no signal
  to another process, no file or folder written, changed or removed;
- output: none is read; it goes to /dev/null. What comes back is one line.

By Python only (an audit hook, which hostile native code could step around): files outside of Python's own
installation cannot be opened. What was read there could not be sent anywhere. The environment is empty
but for a few settings, so no key of the caller's is in it, and the working folder is an empty one.

The process tries what must be impossible before it runs anything; where the kernel refuses the
filter, nothing is run. Not covered: an answer that takes its tests apart from the inside (they share one
process, as `assert f(x) == y` needs), and faults of the kernel itself.
"""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hagpolicy.errors import EngineError

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
        passed: whether every test passed; None where nothing was run.
        detail: "passed", the name of the exception, "time limit", "killed"; or why nothing was run.
    """

    passed: bool | None
    detail: str


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


def run_tests(
    programs: Sequence[Sequence[str]], tests: str, functions: Sequence[str], *, seconds: int, memory_mb: int
) -> SandboxResult:
    """Run a program and its tests in the sandbox.

    Args:
        programs: rows of source texts: of the first row of which all compile, the last text is run;
            where there is none, that of the last row (which then fails).
        tests: source that is run afterwards in the same module.
        functions: names of functions that are then called without arguments.
        seconds: of CPU time, at least 1; four times that and two seconds more of wall time.
        memory_mb: address space in MiB.

    Raises:
        EngineError: see `build_seccomp_filter`.
    """
    word = f"passed {secrets.token_hex(16)}\n"
    job = {
        "programs": [list(row) for row in programs],
        "tests": tests,
        "functions": list(functions),
        "seconds": seconds,
        "memory": memory_mb << 20,
        "filter": build_seccomp_filter(platform.machine()),
        "roots": ["/usr/share/zoneinfo"],
        "word": word,
    }
    source = Path(__file__).with_name("sandbox_child.py").read_text("utf-8")
    result, channel = os.pipe()
    try:
        with tempfile.TemporaryDirectory(prefix="hagpolicy-") as folder:
            try:
                # -P and -s: neither the working folder nor the user's own packages are searched for modules.
                process = subprocess.Popen(
                    [sys.executable, "-P", "-s", "-B", "-c", source, str(channel)],
                    stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    cwd=folder, env=_environment(folder), pass_fds=(channel,), start_new_session=True,
                )  # fmt: skip
            finally:
                os.close(channel)
            late = _wait_for_end(process, json.dumps(job).encode(), 4.0 * seconds + 2.0)
        os.set_blocking(result, False)
        line = _read_line(result)
    finally:
        os.close(result)
    return _parse_result(line, word, late, process.returncode)


def _environment(folder: str) -> dict[str, str]:
    """Nothing of the caller's; sets iterate alike in every run, and numerical libraries start no threads."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": folder,
        "TMPDIR": folder,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        **threads,
    }


def _wait_for_end(process: subprocess.Popen[bytes], job: bytes, seconds: float) -> bool:
    """Wait for the end, and bring it about; True where the wall clock had to."""
    try:
        process.communicate(job, timeout=seconds)
    except subprocess.TimeoutExpired:
        return True
    finally:
        process.kill()
        process.wait()
    return False


def _read_line(result: int) -> bytes:
    try:
        return os.read(result, 4096)
    except BlockingIOError:
        return b""


def _parse_result(line: bytes, word: str, late: bool, code: int | None) -> SandboxResult:
    """The result that the one line means. Anything beside the exact word is no pass, whoever wrote it."""
    ready, _, rest = line.partition(b"\n")
    if ready != b"ready":
        why = ready.decode("ascii", "replace")[:160] if ready.startswith(b"refused ") else f"it ended with {code}"
        return SandboxResult(None, f"the sandbox did not start: {why}")
    if code == 0 and rest == word.encode():
        return SandboxResult(True, "passed")
    if late or code == -24:  # SIGXCPU
        return SandboxResult(False, "time limit")
    name = re.fullmatch(rb"failed ([A-Za-z_][A-Za-z_0-9]{0,60})\n", rest)
    return SandboxResult(False, name[1].decode() if name else "killed" if code else "ended before the tests")
