"""Whatever a server answers, each cell is scored, marked or refused as it should be, and no secret leaves.

    python -m benchmarks run server_answers [--quick]

A server on a raw socket gives several hundred forms of answers (`tests/support/servers/answer_forms.py`):
no HTTP, endless and packed bodies, every status, redirects, JSON of any shape, failures in the shape of
answers, and the key or the prompt said back, spelled in many ways. Each form meets one prompt of a small
sweep of its own, with a scorer; then all that are not refused meet one sweep, whose HTML report is written.
The environment holds a proxy with a password, a `.netrc`, and the names of an account. Looked for is what
came out as an answer and is none, and secrets in the log, on stderr, in errors, in every byte of the sweep's
folder, its decoded columns and the report. A server that dies, in four ways, is waited for by the clock.
Nothing is drawn at random but the waits between attempts. `--quick` takes every sixth form and one death.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, figure, record
from hagpolicy import DecodingConfig, DecodingSpace, sweep, write_report
from hagpolicy.engines.openai.client import Client, Key
from hagpolicy.engines.openai.engine import OpenAIEngine
from hagpolicy.errors import EngineError
from tests.support.servers.answer_forms import FORMS, REFUSED, Form, FormServer
from tests.support.servers.answer_trials import (
    POLICY,
    PROMPT,
    VARIABLE,
    Trial,
    Watch,
    find_secrets,
    hostile_surroundings,
    letters,
    measure_memory,
    try_form,
)
from tests.support.stub_server import StubProcess

CLAIM = Claim(
    name="server_answers",
    states="Of several hundred forms of a server's answers none runs, reads, leaks, hangs or passes for another.",
    groups=("bench",),
    headline="forms of answers",
)
QUICK_STEP = 6
KINDS = tuple(dict.fromkeys(form.kind for form in FORMS))


def try_forms(forms: Sequence[Form], work: Path) -> tuple[list[Trial], Watch, float]:
    """A small sweep for each form; what this process did meanwhile, and by how many MB it grew."""
    watch = Watch()
    with FormServer(list(forms)) as server, hostile_surroundings(work / "home", "127.0.0.1:9"):
        watch.allowed.add(int(server.url.rpartition(":")[2].partition("/")[0]))
        before = measure_memory()
        trials = [try_form(server, form, work / f"trial-{number}") for number, form in enumerate(forms)]
        grown = measure_memory() - before
    watch.on = False
    return trials, watch, grown


def find_in_report(forms: Sequence[Form], work: Path) -> list[str]:
    """Secrets in the report and the folder of one sweep that meets all forms but those that refuse the server."""
    met = [form for form in forms if form.handling != REFUSED]
    prompts = [text for form in met for text in (f"{PROMPT} [[{form.name}]] lantern", f"say {form.name} anchor")]
    said = io.StringIO()
    with FormServer(list(forms)) as server, hostile_surroundings(work / "home", "127.0.0.1:9"), listening(said):
        client = Client(server.url, Key(VARIABLE, needed=False), timeout=1.5, connections=16)
        engine = OpenAIEngine(client, "m", retry_policy=POLICY)
        try:
            space = DecodingSpace([DecodingConfig(temperature=0.7)])
            table = sweep(engine, prompts, space, letters, samples=1, out=work / "all", progress=True)
        finally:
            engine.close()
        report = write_report(work / "report.html", table=table)
    found = [f"{name} in {path.name}" for path in files(work / "all") for name in find_secrets(path.read_bytes())]
    found += [f"{name} in the report" for name in find_secrets(report.read_bytes())]
    found += ["a script of the server's in the report"] if b"<script>alert" in report.read_bytes() else []
    return found + [f"{name} in what was said" for name in find_secrets(said.getvalue().encode())]


def files(folder: Path) -> list[Path]:
    """All files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def listening(said: io.StringIO) -> Iterator[None]:
    """What is logged and written to stderr goes to `said`."""
    handler, root = logging.StreamHandler(said), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with contextlib.redirect_stderr(said):
            yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@contextlib.contextmanager
def closing_server() -> Iterator[tuple[str, Callable[[], None]]]:
    """A server whose connections, from a moment on, are closed as they come."""
    with StubProcess(service=0.02) as stub:
        door = socket.create_server(("127.0.0.1", 0))
        dead = threading.Event()
        target = int(stub.url.rpartition(":")[2].partition("/")[0])

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = door.accept()
                    if dead.is_set():
                        client.close()
                    else:
                        threading.Thread(target=pass_on, args=(client, target, dead), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}/v1", dead.set
        finally:
            door.close()


def pass_on(client: socket.socket, target: int, dead: threading.Event) -> None:
    """Bytes both ways until the server is dead."""
    with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", target)) as server:
        for end in (client, server):
            end.settimeout(0.005)
        while not dead.is_set():
            for source, sink in ((client, server), (server, client)):
                with contextlib.suppress(TimeoutError):
                    part = source.recv(65536)
                    if not part:
                        return
                    sink.sendall(part)


@contextlib.contextmanager
def killed_server() -> Iterator[tuple[str, Callable[[], None]]]:
    """A server whose process is killed."""
    with StubProcess(service=0.02) as stub:
        yield stub.url, stub._process.kill


@contextlib.contextmanager
def silent_tls() -> Iterator[tuple[str, Callable[[], None]]]:
    """A server that takes connections and never says a word of TLS."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as door:
        yield f"https://127.0.0.1:{door.getsockname()[1]}/v1", lambda: None


@contextlib.contextmanager
def nowhere() -> Iterator[tuple[str, Callable[[], None]]]:
    """A name that no server has."""
    yield "http://nowhere.invalid/v1", lambda: None


DEATHS = {"killed": killed_server, "closing connections": closing_server, "silent": silent_tls, "no such name": nowhere}


def measure_death(
    make: Callable[[], contextlib.AbstractContextManager[tuple[str, Callable[[], None]]]], work: Path
) -> tuple[float, int]:
    """Seconds from the death of a server until its sweep ends, by the default policy; lines said about it."""
    said = io.StringIO()
    with make() as (url, kill), listening(said):
        client = Client(url, Key(VARIABLE, needed=False), timeout=600.0, connections=256)
        engine = OpenAIEngine(client, "stub")
        engine.check = lambda: None  # type: ignore[method-assign]  # it would find the dead before the sweep does
        timer = threading.Timer(1.0, kill)
        timer.start()
        died, message = time.monotonic() + 1.0, ""
        logging.getLogger().setLevel(logging.WARNING)
        try:
            space = DecodingSpace([DecodingConfig(temperature=0.7)])
            sweep(engine, [f"q {n}" for n in range(2000)], space, letters, samples=1, out=work, progress=False)
        except EngineError as error:
            message = str(error)
        finally:
            engine.close()
    seconds = time.monotonic() - died
    return seconds, len(said.getvalue().splitlines()) + len(message.splitlines()) + 100 * (not message)


def figures(
    trials: Sequence[Trial],
    watch: Watch,
    grown: float,
    left: Sequence[str],
    deaths: Sequence[tuple[float, int]],
    quick: bool,
) -> list[Figure]:
    """What the claim is made of."""
    kinds, ends = Counter(trial.form.kind for trial in trials), Counter(trial.handling for trial in trials)
    zero = {
        "code run": len(watch.programs),
        "file read": len(watch.files),
        "another address asked": len(watch.addresses),
        "secret left": sum(bool(trial.left) for trial in trials) + len(left),
        "hang": ends["hang"],
        "raw exception": ends["raw"],
        "wrong silently": sum(bool(trial.wrong) for trial in trials),
        "handled otherwise": sum(trial.handling != trial.form.handling for trial in trials),
    }
    return [
        figure("forms of answers", len(trials), unit="forms", at_least=None if quick else 100),
        *(figure(f"forms: {kind}", kinds[kind], unit="forms") for kind in KINDS),
        *(figure(f"forms that ended {end}", ends[end], unit="forms") for end in ("scored", "marked", "refused")),
        *(figure(name, count, unit="cases", at_most=0) for name, count in zero.items()),
        figure(
            "longest sweep of one form, attempts of 1.5 s", max(trial.seconds for trial in trials), unit="s", at_most=15
        ),
        figure("growth of memory over all forms", grown, unit="MB", at_most=600),
        figure(
            "a dead server given up, slowest of the ways", max(seconds for seconds, _ in deaths), unit="s", at_most=30
        ),
        figure("lines about a dead server, most", max(lines for _, lines in deaths), unit="lines", at_most=1),
    ]


def main() -> int:
    """Measure and record."""
    args = arguments(__doc__ or "")
    forms = FORMS[::QUICK_STEP] if args.quick else FORMS
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        trials, watch, grown = try_forms(forms, work)
        left = find_in_report(forms, work)
        chosen = list(DEATHS.items())[: 1 if args.quick else None]
        deaths = [measure_death(make, work / f"death-{number}") for number, (_, make) in enumerate(chosen)]
    for trial in trials:
        if not trial.well:
            print(f"{trial.form}: {trial.handling}", trial.wrong, trial.left, trial.reasons)
    for one in left:
        print(one)
    said = "; ".join(f"{name} {seconds:.1f} s" for (name, _), (seconds, _) in zip(chosen, deaths, strict=True))
    notes = f"The ways to be dead, each until it was given up: {said}. Seed 0; the waits between attempts are drawn."
    return record(CLAIM, figures(trials, watch, grown, left, deaths, args.quick), args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
