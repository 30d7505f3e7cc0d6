"""Where policies run: forked processes, file systems that cannot be written, remains of packages, long batches."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hagpolicy import load
from hagpolicy.policy import inputs
from tests.support import making
from tests.support.paths import ROOT

PROMPTS = [*making.SUMS, *making.LISTS, *making.ODD]


def in_child(work: Any) -> int:
    """Exit code of a forked process that does the work: 0 where it returned True, 14 where it did not end."""
    child = os.fork()
    if child == 0:
        import signal

        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_process_decides_as_its_parent_does(saved: Path) -> None:
    policy = load(saved)
    wanted = policy.predict_batch(PROMPTS)
    stop = threading.Event()

    def predict_on() -> None:
        while not stop.is_set():
            policy.predict_batch(PROMPTS)

    threads = [threading.Thread(target=predict_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):  # at some moment of whatever the threads do
            assert in_child(lambda: policy.predict_batch(PROMPTS) == wanted) == 0
            assert in_child(lambda: [policy.predict(prompt) for prompt in PROMPTS] == wanted) == 0
        assert in_child(lambda: in_child(lambda: policy.decide(PROMPTS[0]).config == wanted[0]) == 0) == 0
        assert in_child(lambda: predict_in_threads(policy) == [wanted] * 4) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert policy.predict_batch(PROMPTS) == wanted


def predict_in_threads(policy: Any) -> list[Any]:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(policy.predict_batch(PROMPTS))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_a_session_is_opened_anew_in_the_child_alone(saved: Path) -> None:
    policy = load(saved)
    before = policy._session

    def is_new() -> bool:
        policy.predict("List 3 rivers.")
        return type(policy._session) is type(before) and policy._session is not before

    assert in_child(is_new) == 0
    assert policy._session is before


USE = """
import sys, hagpolicy as hag
policy = hag.load(sys.argv[1])
print(policy.predict("List 3 rivers."), len(policy.predict_batch(["a", "b"])), __debug__)
"""


@pytest.mark.parametrize("options", [["-I"], ["-OO", "-B", "-X", "utf8=0"]])
def test_policies_run_without_a_home_and_where_nothing_can_be_written(saved: Path, options: list[str]) -> None:
    place = Path(tempfile.mkdtemp())  # another user reaches no folder below pytest's own
    bundle = shutil.copytree(saved, place / "bundle")
    for path in [*bundle.rglob("*"), bundle, place]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    use = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {USE.strip()}".replace("\n", "; ")
    nobody = [] if os.getuid() else ["setpriv", "--reuid", "65534", "--clear-groups"]
    if nobody and not can_read_as(nobody):
        nobody = []
    environment = {"PATH": os.environ["PATH"], "TMPDIR": "/nonexistent", "LC_ALL": "C"}
    command = [*nobody, sys.executable, *options, "-c", use, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=place, timeout=120)
    left = list(place.glob("[!b]*"))
    for path in [place, bundle, *bundle.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("temperature=")
    assert done.stderr == ""
    assert not left


def can_read_as(nobody: list[str]) -> bool:
    """Whether another user can read this checkout and this interpreter's packages."""
    code = f"import numpy; open({str(ROOT / 'hagpolicy' / '__init__.py')!r})"
    try:
        return subprocess.run([*nobody, sys.executable, "-I", "-c", code], capture_output=True).returncode == 0
    except OSError:
        return False


def test_predicting_writes_nothing_into_the_home(saved: Path, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", USE, str(saved)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stderr, list(tmp_path.iterdir())) == (0, "", [])


@pytest.mark.parametrize("package", ["onnxruntime", "lightgbm", "onnx", "sklearn"])
def test_remains_of_a_package_give_the_error_that_names_the_extras(tmp_path: Path, package: str) -> None:
    (tmp_path / package / "capi" / "__pycache__").mkdir(parents=True)
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from importlib.machinery import PathFinder
real = PathFinder.find_spec
def find(name, path=None, target=None):  # the package itself is not there, as after its removal
    return real(name, [{str(tmp_path)!r}] if name == {package!r} else path, target)
PathFinder.find_spec = find
from hagpolicy._extras import require
from hagpolicy.errors import MissingExtra
from hagpolicy.policy.session import open_session
try:
    open_session(b"") if {package!r} == "onnxruntime" else require({package!r}, "fit", "fitting")
except MissingExtra as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert f"needs the package {package!r}" in said
    assert f"only the folder {tmp_path / package} is left" in said
    assert package != "onnxruntime" or ("hagpolicy[cpu]" in said and "hagpolicy[gpu]" in said)


def test_long_batches_are_tokenized_in_chunks_and_decided_alike(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = load(saved)
    prompts = [f"{prompt} {'long text ' * (97 * n % 800)}" for n, prompt in enumerate(PROMPTS)]
    chunked = list(policy._inputs.many(prompts))
    values = policy.values(prompts)
    monkeypatch.setattr(inputs, "_TOKENIZED_CHARS", 10**9)
    at_once = list(policy._inputs.many(prompts))
    for (numbers, arrays), (others, theirs) in zip(chunked, at_once, strict=True):
        np.testing.assert_array_equal(numbers, others)
        assert all(np.array_equal(arrays[name], theirs[name]) for name in ("ids", "mask"))
    np.testing.assert_array_equal(values, policy.values(prompts))


def test_the_memory_of_a_long_batch_is_bounded(saved: Path) -> None:
    policy = load(saved)
    text = "What is the capital of the country where people speak a language of their own? " * 100
    prompts = [f"{n} {text}" for n in range(600)]

    def stays_small() -> bool:
        policy.predict(prompts[0])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        list(policy._inputs.many(prompts))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # kB; 100,000 at once

    assert in_child(stays_small) == 0
