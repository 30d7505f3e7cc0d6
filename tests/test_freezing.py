"""A program that predicts runs frozen by PyInstaller, elsewhere and without Python's packages."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from hagpolicy._pyinstaller.contents import BY_NAME, list_data, list_modules
from tests.support import making
from tests.support.paths import ROOT
from tests.test_packaging import imports_of

PROGRAM = """
import sys
import hagpolicy as hag

policy = hag.load(sys.argv[1])
prompts = ["List 3 rivers.", "Tom has 3 apples and buys 5 more at the market. How many apples does Tom have now?"]
assert policy.predict_batch(prompts) == [policy.predict(prompt) for prompt in prompts]
for name in hag.__all__:
    try:
        getattr(hag, name)
    except hag.MissingExtra:
        pass
print(policy.predict(prompts[0]))
"""


def test_what_is_imported_by_name_is_declared() -> None:
    named = {
        module for path in (ROOT / "hagpolicy").rglob("*.py") for module, extra in imports_of(path) if extra is not None
    }
    tops = {name.partition(".")[0] for name in BY_NAME}
    assert {module.partition(".")[0] for module in named} <= tops
    modules = list_modules()
    assert {"hagpolicy.policy.policy", "hagpolicy.policy", "hagpolicy", "onnxruntime"} <= set(modules)
    assert not any("hook-" in name for name in modules)
    assert all(Path(source).is_dir() for source, _ in list_data())


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_frozen_program_predicts(tmp_path: Path) -> None:
    bundle = making.sums_against_lists().save(tmp_path / "bundle")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", f"{ROOT}[cpu]", "pyinstaller"], check=True)
    (tmp_path / "program.py").write_text(PROGRAM)
    freeze = [python, "-m", "PyInstaller", "--onedir", "--log-level", "WARN", "program.py"]
    subprocess.run(freeze, check=True, cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "dist" / "program").rename(elsewhere)
    command = [elsewhere / "program", bundle]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env={"PATH": "/nonexistent"}, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    here = subprocess.run([sys.executable, "-c", PROGRAM, bundle], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == here.stdout
