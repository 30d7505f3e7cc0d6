"""Small sweeps at a server that answers in one of many forms, and what became of them."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet

from hagpolicy import DecodingConfig, DecodingSpace, Prompt, sweep
from hagpolicy.engines.openai.client import Client, Key
from hagpolicy.engines.openai.engine import OpenAIEngine
from hagpolicy.engines.openai.retry import RetryPolicy
from hagpolicy.errors import HagError
from tests.support.servers.answer_forms import KEY, MARKED, REFUSED, SCORED, Form, FormServer

VARIABLE = "HAG_FORMS_KEY"
ACCOUNT = {"OPENAI_ORG_ID": "org-Vq83bTqLmN42xx", "OPENAI_PROJECT_ID": "proj_Zk71sWcRpA90yy"}
PROXY_PASSWORD = "Hu7pXw93LqTzRb"
PROMPT = "Quixotic marmalade lighthouses whisper 7741 zephyrs at"
# What no reason may hold of the prompt.
OF_PROMPT = ("marmaladelighthouses", "whisper7741zephyrs")
POLICY = RetryPolicy(max_attempts=2, initial_delay=0.01, max_delay=0.02, max_elapsed=5.0)
ATTEMPT_SECONDS, HANG_SECONDS = 1.5, 40.0
NEIGHBOURS = ("Say anchor", "Say bramble")


@dataclass
class Trial:
    """What became of a sweep with one attacked prompt among others.

    Attributes:
        form: of its answers.
        handling: what became of the attacked cells: as in `answer_forms`, or "hang", "raw" or "mixed".
        wrong: what came out as an answer and is none, of the attacked cells or those beside them.
        left: what of the secrets and the prompt was found, and where.
        reasons: of cells that have no answer, and of the sweep.
        seconds: that it took.
    """

    form: Form
    handling: str = ""
    wrong: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def well(self) -> bool:
        return self.handling == self.form.handling and not self.wrong and not self.left


def letters(text: str) -> float:
    """A reward that every text has: the share of letters in it."""
    return sum(map(str.isalpha, text)) / max(len(text), 1)


def find_secrets(data: bytes) -> list[str]:
    """Names of the secrets that bytes hold whole or in pieces of eight, plain or encoded."""
    text = "".join(filter(str.isalnum, data.decode("utf-8", "replace").casefold()))
    found = []
    for name, secret in {"key": KEY, "password": PROXY_PASSWORD, **ACCOUNT}.items():
        folded = "".join(filter(str.isalnum, secret.casefold()))
        pieces = [folded[at : at + 8] for at in range(len(folded) - 7)]
        coded = [base64.b64encode(b"\0" * n + secret.encode()).decode()[4:-4] for n in range(3)]
        coded += [secret.encode().hex(), "".join(f"%{ord(one):02X}" for one in secret)[:30]]
        if any(piece in text for piece in pieces) or any(form.encode() in data for form in coded):
            found.append(name)
    return found


def find_prompt(text: str) -> list[str]:
    """ "prompt" where a text holds a piece of it."""
    folded = "".join(filter(str.isalnum, text.casefold()))
    return ["prompt"] if any(piece in folded for piece in OF_PROMPT) else []


@contextlib.contextmanager
def hostile_surroundings(home: Path, proxy: str) -> Iterator[None]:
    """An environment with secrets, a proxy and a .netrc, none of which concerns a server on this machine."""
    home.mkdir(parents=True, exist_ok=True)
    (home / ".netrc").write_text(f"default login me password {PROXY_PASSWORD}\n")
    changed = {
        "HOME": str(home),
        "NETRC": str(home / ".netrc"),
        VARIABLE: KEY,
        **ACCOUNT,
        "NO_PROXY": "",
        "no_proxy": "",
    }
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        changed[name] = f"http://me:{PROXY_PASSWORD}@{proxy}"
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class Watch:
    """What this process does that no answer should make it do, from when it is made: files read, programs run,
    and addresses asked that are not `allowed`."""

    FILES = (".netrc", "/etc/passwd")
    PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork")

    def __init__(self) -> None:
        self.files: list[str] = []
        self.programs: list[str] = []
        self.addresses: list[str] = []
        self.allowed: set[int] = set()
        self.on = True
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and str(arguments[0]).endswith(self.FILES) and arguments[1] != "w":
            self.files.append(arguments[0])
        elif event in self.PROGRAMS:
            self.programs.append(event)
        elif event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][1] not in self.allowed:
            self.addresses.append(repr(arguments[1]))
        elif event == "socket.getaddrinfo" and str(arguments[0]).endswith(".invalid"):
            self.addresses.append(str(arguments[0]))


def try_form(server: FormServer, form: Form, folder: Path) -> Trial:
    """Sweep one attacked prompt and two others; `folder` is new."""
    prompts = [Prompt(f"{PROMPT} [[{form.name}]] lantern"), *map(Prompt, NEIGHBOURS)]
    trial, begun = Trial(form), time.monotonic()
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    outcome: list[BaseException | None] = []

    def run() -> None:
        try:
            _sweep(server, prompts, folder)
        except BaseException as error:
            outcome.append(error)
            said.write("".join(traceback.format_exception(error)))
        else:
            outcome.append(None)

    try:
        thread = threading.Thread(target=run, daemon=True)
        with contextlib.redirect_stderr(said):
            thread.start()
            thread.join(HANG_SECONDS)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    trial.seconds = time.monotonic() - begun
    _judge(trial, "hang" if not outcome else outcome[0], said.getvalue(), folder)
    return trial


def _sweep(server: FormServer, prompts: Sequence[Prompt], folder: Path) -> None:
    client = Client(server.url, Key(VARIABLE, needed=False), timeout=ATTEMPT_SECONDS, connections=16)
    engine = OpenAIEngine(client, "m", retry_policy=POLICY)
    try:
        sweep(engine, prompts, DecodingSpace([DecodingConfig(temperature=0.7)]), letters, samples=1, out=folder)
    finally:
        engine.close()


def read_cells(folder: Path) -> list[dict[str, Any]]:
    """The rows that are stored."""
    tables = [pyarrow.parquet.read_table(path) for path in sorted((folder / "cells").glob("*.parquet"))]
    rows = [row for table in tables for row in table.to_pylist()]
    return [row | {"reward": row["reward"] if row["reward"] == row["reward"] else None} for row in rows]


def _judge(trial: Trial, outcome: BaseException | str | None, said: str, folder: Path) -> None:
    rows = read_cells(folder) if folder.exists() else []
    digests = {Prompt(text).digest for text in NEIGHBOURS}
    mine = [row for row in rows if row["prompt"] not in digests]
    beside = [row for row in rows if row["prompt"] in digests]
    trial.reasons = [str(row["error"] or row["reason"] or "") for row in mine if row["reward"] is None]
    if isinstance(outcome, BaseException):
        trial.reasons.append(f"{type(outcome).__name__}: {outcome}")
    if outcome == "hang":
        trial.handling = "hang"
    elif outcome is not None and not isinstance(outcome, HagError):
        trial.handling = "raw"
    else:
        scored = [row["reward"] is not None for row in mine]
        refused = outcome is not None or all(str(row["error"]).startswith("EngineError") for row in mine)
        trial.handling = REFUSED if refused else SCORED if all(scored) else "mixed" if any(scored) else MARKED
    for row in (row for row in mine if row["reward"] is not None):
        if trial.form.handling != SCORED or not _fits(row["text"], "lantern", trial.form.text):
            trial.wrong.append(f"scored: {row['text'][:80]!r}")
        # What the server did not count, or not so that it can be, is unknown: no number, and never 0.
        if row["tokens"] is not None and not (row["tokens"] != row["tokens"] or 0 < row["tokens"] <= 5):
            trial.wrong.append(f"tokens: {row['tokens']}")
    for row in beside:
        word = next(text for text in NEIGHBOURS if Prompt(text).digest == row["prompt"]).split()[-1]
        if row["reward"] is not None and not _fits(row["text"], word, None):
            trial.wrong.append(f"beside: {row['text'][:80]!r}")
        elif row["reward"] is None and trial.handling != REFUSED:
            trial.wrong.append(f"beside, not answered: {row['error']}")
    trial.left = [f"{name} in what was said" for name in find_secrets(said.encode()) + find_prompt(said)]
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        trial.left += [f"{name} in {path.name}" for name in find_secrets(path.read_bytes())]
    for row in rows:
        trial.left += [f"{name} in a cell" for name in find_secrets(json.dumps(row, default=str).encode())]
        told = " ".join(str(row[name]) for name in ("error", "reason", "receipt", "finish"))
        trial.left += [f"{name} in a reason" for name in find_prompt(told)]
    long = [reason for reason in trial.reasons if len(reason) > 1000 or not reason.isprintable()]
    trial.left += ["a long reason, or one with control characters"] * len(long)


def _fits(text: str, word: str, wanted: str | None) -> bool:
    if wanted is not None:
        return text.startswith(wanted)
    return len(text.split()) == 3 and text.split()[-1] == word


def measure_memory() -> float:
    """The most memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
