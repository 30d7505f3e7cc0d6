"""Commands as real processes: closed streams, readers that go, signals, and text that a terminal would obey."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hagpolicy.cli import main
from hagpolicy.cli.exit_codes import SUMMARY
from tests.support.paths import ROOT

RUN = f"{sys.executable} -m hagpolicy.cli"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def in_shell(command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=120,
        **options,
    )


@pytest.mark.parametrize(
    ("streams", "codes", "lines"),
    [
        (">&-", (4,), 1),
        ("<&- >&-", (4,), 1),
        (">/dev/full", (4,), 1),
        ("| true", (0,), 0),
        ("2>&- >&-", (4,), 0),
        ("2>/dev/full >&-", (4,), 0),
        ("<&- 2>&-", (0,), 0),
    ],
)
def test_closed_streams_are_one_line_at_most(folder: Path, streams: str, codes: tuple[int, ...], lines: int) -> None:
    done = in_shell(f"{RUN} predict {folder / 'policy'} 'List 3 rivers.' {streams}")
    assert done.returncode in codes, done.stderr
    assert done.stderr.count("\n") == lines, done.stderr
    assert "Traceback" not in done.stderr


def test_a_prompt_on_stdin_must_be_there_and_must_end(folder: Path) -> None:
    for source in ("<&-", "</dev/null", "< /dev/zero"):
        done = in_shell(f"ulimit -v 6000000; {RUN} predict {folder / 'policy'} - {source}")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), (source, done.stderr)


def test_a_reader_of_the_bar_that_goes_ends_no_sweep(folder: Path, tmp_path: Path) -> None:
    files = f"--prompts {folder / 'prompts.jsonl'} --space {folder / 'space.json'} --out {tmp_path / 's'}"
    command = f"{RUN} sweep --engine simulated:3 --engine-option delay=0.0002 {files}"
    done = in_shell(f"{command} 2> >(true) | cat")
    assert (done.returncode, done.stdout.count("2100 scored")) == (0, 1), done


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])  # and SIGHUP below
def test_a_signal_says_what_is_stored_and_how_to_go_on(folder: Path, tmp_path: Path, name: str) -> None:
    files = ["--prompts", str(folder / "prompts.jsonl"), "--space", str(folder / "space.json"), "--out", "s"]
    command = [sys.executable, "-m", "hagpolicy.cli", "sweep", "--engine", "simulated:3", "--quiet", *files]
    slow = [*command, "--engine-option", "delay=0.002"]
    # In the background of a shell SIGINT is ignored, which children inherit.
    heard = partial(signal.signal, getattr(signal, name), signal.SIG_DFL)
    with subprocess.Popen(
        slow, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=tmp_path, preexec_fn=heard
    ) as process:
        while not list(tmp_path.glob("s/cells/*.parquet")) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(getattr(signal, name))
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + getattr(signal, name), said
    assert "Traceback" not in said
    assert re.search(r"stopped: [1-9]\d* of \d+ cells of this run are stored in .*; the same call goes on", said)
    assert said.splitlines()[-1].endswith("what is stored stays, and the same command goes on from there")
    assert main([part.replace("s", str(tmp_path / "s")) if part == "s" else part for part in command[3:]]) == 0


def test_signals_end_whatever_waits_and_ignored_ones_stay_ignored(folder: Path) -> None:
    command = [sys.executable, "-m", "hagpolicy.cli", "predict", str(folder / "policy"), "-"]
    for ignored in (False, True):
        # Said both ways: under nohup the tests themselves ignore it, and what they start would too.
        handler = "SIG_IGN" if ignored else "SIG_DFL"
        code = f"signal.signal(signal.SIGHUP, signal.{handler}); os.execv(sys.argv[1], sys.argv[1:])"
        process = subprocess.Popen(
            [sys.executable, "-c", f"import os, signal, sys; {code}", *command],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        wait_until_it_reads_stdin(process.pid)
        process.send_signal(signal.SIGHUP)
        said = process.communicate(b"List 3 rivers." if ignored else None, timeout=60)
        assert process.returncode == (0 if ignored else 129), said
        assert said[1].count(b"\n") == (0 if ignored else 1)


def wait_until_it_reads_stdin(pid: int) -> None:
    """Until the process waits for what a pipe gives."""
    for _ in range(1500):
        try:
            waits = "pipe" in Path(f"/proc/{pid}/wchan").read_text() or syscall(pid).startswith("0 0x0")
        except OSError:
            waits = False
        if waits:
            return
        time.sleep(0.02)
    pytest.fail("it never read stdin")


def syscall(pid: int) -> str:
    return Path(f"/proc/{pid}/syscall").read_text()


def test_nothing_that_a_terminal_obeys_is_printed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    red = "\x1b[31m\u202e\x9b"
    named = tmp_path / f"{red}policy"
    shutil.copytree(folder / "policy", named)
    for arguments in (
        ["predict", str(named), red + "text", "--fixed", f"hint={red}", "--engine", "vllm"],
        ["predict", str(named), red + "text", "--fixed", f"hint={red}", "--engine", "vllm", "--json"],
        ["headroom", red],
        [red],
        ["predict", str(named), "a", red],
        ["sweep", "--engine", "simulated:3", "--prompts", red, "--out", red],
    ):
        code = main(arguments)
        printed = capsys.readouterr()
        assert not OBEYED.search(printed.out + printed.err), arguments
        assert code in (0, 1) or printed.err.count("\n") == 1
        if "--json" in arguments:
            assert json.loads(printed.out)["prompt"].startswith(red + "text")


def test_no_server_is_another_code_than_cells_that_failed(folder: Path, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"openai:http://127.0.0.1:{unused.getsockname()[1]}/v1"
    began = time.monotonic()
    files = f"--prompts {folder / 'prompts.jsonl'} --space {folder / 'space.json'} --out {tmp_path / 's'}"
    done = in_shell(f"{RUN} sweep --engine {url} {files} --scorer exact_match --quiet")
    assert (done.returncode, done.stderr.count("\n")) == (4, 1), done.stderr
    assert time.monotonic() - began < 30.0


def test_every_code_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert SUMMARY in capsys.readouterr().out


HUGE, NESTED = "9" * 30, "[" * 100_000
VALUES = (HUGE, "9" * 5000, "nan", "-1", "1e999")


@pytest.mark.parametrize(
    "arguments",
    [
        *(["sweep", option, value] for value in VALUES for option in ("--samples", "--max-tokens", "--workers")),
        *(["sweep", option, "9" * 5000] for option in ("--seed", "--budget")),
        *(["sweep", "--seed", value] for value in (HUGE, "nan", "1e999")),
        *(["sweep", "--budget", value] for value in ("nan", "-1", "1e999")),
        ["sweep", "--budget", "1e999 tokens"],
        ["sweep", "--budget", "nan min"],
        ["sweep", "--space", NESTED],
        ["sweep", "--space", "{huge}"],
        ["sweep", "--engine-option", f"delay={NESTED}"],
        ["sweep", "--engine-option", "delay=nan"],
        ["sweep", "--engine-option", f"seed={HUGE}"],
        *(["headroom", "--seed", value] for value in (HUGE, "9" * 5000, "-1", "nan", "١")),
        ["headroom", "--objective", NESTED],
        ["headroom", "--objective", f"pass@{HUGE}"],
        ["portfolio", "--n", HUGE],
        ["rescore", "--scorer", NESTED],
        ["predict", "--fixed", f"temperature={NESTED}"],
        ["predict", "--price", "nan"],
        ["predict", "--n", HUGE],
        *(["headroom", "--objective", value] for value in ("a\0b", "\ud83d", "x" * 9999)),
        *(["report", "--out", value] for value in ("", "a\0b", "\ud83d", "x" * 9999)),
        *(["report", "--policy", value] for value in ("a\0b", "\ud83d", "x" * 9999)),
    ],
    ids=lambda arguments: ascii(" ".join(part[:20] for part in arguments)),
)  # fmt: skip
def test_huge_numbers_and_nested_json_are_one_line(
    folder: Path, arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    verb, *options = arguments
    given = {
        "sweep": ["--engine", "simulated:3", "--prompts", str(folder / "prompts.jsonl"), "--out", str(tmp_path / "s")],
        "predict": [str(folder / "policy"), "List 3 rivers."],
    }
    huge = tmp_path / "huge.json"
    huge.write_text(json.dumps([{"temperature": 0.0}, {"max_tokens": int(HUGE)}]))
    options = [str(huge) if part == "{huge}" else part for part in options]
    code = main([verb, *given.get(verb, [str(folder / "sweep")]), *options])
    printed = capsys.readouterr().err
    assert (code, printed.count("\n")) == (2, 1), printed
    assert len(printed) < 1300


def test_a_fault_of_our_own_is_one_line_and_a_code_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("surprise\n" * 1000)

    monkeypatch.setattr("hagpolicy.cli.commands.headroom", failing)
    assert main(["headroom", "x"]) == 5
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "RuntimeError: surprise" in printed


def test_a_fit_that_takes_long_tells_how_far_it_is_and_ends_when_it_is_told(folder: Path, tmp_path: Path) -> None:
    options = [str(folder / "sweep"), "--learner", "ridge,mlp,knn,lightgbm", "--out", str(tmp_path / "policy")]
    at_once = "from hagpolicy.cli import main, streams; streams.show_progress.__wrapped__.__defaults__ = (0.0,)"
    command = [sys.executable, "-c", f"import sys; {at_once}; sys.exit(main())", "fit", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert re.fullmatch(r"fit: ridge on static, 1 of \d+ fits\n", first)
    assert process.returncode == 143
    assert rest.splitlines()[-1].startswith("hagpolicy: ended by SIGTERM")
    assert "Traceback" not in rest
    assert not list(tmp_path.iterdir())
