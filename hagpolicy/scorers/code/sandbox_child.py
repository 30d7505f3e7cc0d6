"""The process that watches over a program and its tests: it starts one process for each, and ends both.

It reads its job from stdin, writes one line to stdout, and reads nothing that a program wrote. The process of the
program is made before the tests are read, so that nothing of them is in its memory.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from hagpolicy.scorers.code import checked, checker
from hagpolicy.scorers.code.confinement import confine, die_with
from hagpolicy.scorers.code.programs import choose_program
from hagpolicy.scorers.code.values import dump, receive

_BOTH = b"held\nheld\n"


def main() -> None:
    """Run the job on stdin; the verdict goes to stdout."""
    die_with(int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a caller that ignores it would leave nothing to wait for
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    job, begun, inbox = receive(0), time.monotonic(), os.dup(0)
    (asked, requests), (answered, replies) = os.pipe(), os.pipe()
    (refused, refusals), (verdict, verdicts) = os.pipe(), os.pipe()

    def run_program() -> None:
        _confine(job, refusals)
        source = choose_program(job["programs"], job["head"], job["wanted"])
        checked.serve(source, job["prints"], asked, replies)

    def run_tests() -> None:
        tests = receive(inbox)
        _confine(job, refusals)
        os.write(verdicts, checker.report(checker.check(tests, requests, answered)))

    program = _start(run_program, asked, replies, refusals)
    tests = _start(run_tests, inbox, requests, answered, refusals, verdicts)
    for channel in (asked, requests, answered, replies, refusals, verdicts):
        os.close(channel)
    end = begun + job["wall"]
    why = _read_until(refused, end)
    line = _read_until(verdict, end) if why == _BOTH else b""
    late = time.monotonic() >= end
    outcome = json.loads(line) if line else ["none"]
    patience = 0.5 if outcome == ["ended"] and not late else 0.0  # it is about to end, and how is what is asked
    ends = [_end(process, int(job["limits"]["CPU"]), patience) for process in (program, tests)]
    os.write(1, dump(_conclude(why, outcome, late, *ends)).encode())


def _start(run: Callable[[], None], *kept: int) -> int:
    """The id of a new process that keeps these descriptors, has nothing at stdin and stdout, and ends with this one."""
    parent = os.getpid()
    process = os.fork()
    if process:
        return process
    try:
        die_with(parent)
        nothing = os.open(os.devnull, os.O_RDWR)
        for channel in (0, 1, 2):
            os.dup2(nothing, channel)
        first = 3
        for channel in sorted(kept):
            os.closerange(first, channel)
            first = channel + 1
        os.closerange(first, 1024)
        run()
        os._exit(0)
    finally:
        os._exit(1)


def _confine(job: dict[str, Any], refusals: int) -> None:
    """Confine this process, and say so; end it where the kernel does not."""
    try:
        confine(job["limits"], job["filter"], job["landlock"])
    except (OSError, ValueError) as error:
        os.write(refusals, f"refused {error}".encode("ascii", "replace")[:160] + b"\n")
        os._exit(2)
    os.write(refusals, b"held\n")
    os.close(refusals)


def _read_until(channel: int, end: float) -> bytes:
    """What is written until all writers have closed, or until a time on the monotonic clock."""
    found = b""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    while (left := end - time.monotonic()) > 0:
        if poll.poll(1000 * left + 1):
            piece = os.read(channel, 4096)
            if not piece:
                break
            found += piece
    return found


def _end(process: int, seconds: int, patience: float) -> str:
    """End a process that does not end itself in some seconds, and how it had ended: "time limit", "killed", "ended"."""
    end = time.monotonic() + patience
    ended, status, usage = os.wait4(process, os.WNOHANG)
    while not ended and time.monotonic() < end:
        time.sleep(0.005)
        ended, status, usage = os.wait4(process, os.WNOHANG)
    if not ended:
        os.kill(process, signal.SIGKILL)
        _, status, usage = os.wait4(process, 0)
    out_of_time = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
    if out_of_time or usage.ru_utime + usage.ru_stime >= seconds:
        return "time limit"
    return "killed" if os.WIFSIGNALED(status) or os.WEXITSTATUS(status) else "ended"


def _conclude(why: bytes, outcome: list[str], late: bool, program: str, tests: str) -> list[Any]:
    """[passed, detail]: True, False, or None with the reason why nothing can be said."""
    if why != _BOTH:
        reasons = [line for line in why.decode().split("\n") if line.startswith("refused")]
        return [None, f"the sandbox did not start: {(reasons or ['its processes ended, or were too slow'])[0]}"]
    if outcome[0] == "passed":
        return [True, "passed"]
    if outcome[0] == "failed":
        return [False, outcome[1]]
    if outcome[0] == "undecided":
        return [None, f"not decided: {outcome[1]}"]
    if late or "time limit" in (program, tests):
        return [False, "time limit"]
    return [False, "ended before the tests" if outcome[0] == "ended" and program == "ended" else "killed"]
