"""What the page on extending says of rows in the library: a copy is edited as it says, nothing else, and works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.support.paths import ROOT

# Behind which text a block of the page goes, by the file and the word beside it; a file that is not there is made.
PLACES = {
    "hagpolicy/config/fields.py": "max_tokens: int | None = _whole",
    "hagpolicy/config/dialects.py LLAMA_CPP": "LLAMA_CPP = Dialect(\n    settings={",
    "hagpolicy/reporting/sections.py SECTIONS": "SECTIONS: Mapping[",
    "hagpolicy/reporting/sections.py": "def build_provenance(",
}
FIELD = """
import hagpolicy as hag
plain, cut = hag.DecodingConfig(temperature=0.7), hag.DecodingConfig(temperature=0.7, xtc_probability=0.5)
assert plain.digest == hag.DecodingConfig.from_dict({"temperature": 0.7}).digest != cut.digest
assert cut.to_llama_cpp()["xtc_probability"] == 0.5 and plain.to_llama_cpp()["xtc_probability"] == 0.0
assert hag.DecodingConfig(temperature=0, xtc_probability=0.5).canonical() == hag.DecodingConfig(temperature=0)
for engine in ("transformers", "vllm", "sglang", "openai", "ollama"):
    assert cut.render(engine, unsupported="drop").receipt.dropped == {"xtc_probability": 0.5}, engine
try:
    hag.DecodingConfig(xtc_probability=2)
except hag.InvalidInput as error:
    print(error)
"""
SECTION = """
import hagpolicy as hag
world = hag.SimulatedEngine(seed=2)
space = hag.DecodingSpace.grid(temperature=[0, 1.0])
table = hag.sweep(world, world.prompts(30), space, world.scorer, samples=2, out="sweep", progress=False)
print(hag.write_report("report.html", table=table).read_text("utf-8"))
"""


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """The folder of a copy of the package with the page's blocks in it."""
    shutil.copytree(ROOT / "hagpolicy", tmp_path / "hagpolicy", ignore=shutil.ignore_patterns("__pycache__"))
    for fence in MarkdownIt().parse((ROOT / "docs" / "extending.md").read_text("utf-8")):
        place = fence.info.partition(" ")[2]
        if fence.type != "fence" or not place:
            continue
        file = tmp_path / place.split()[0]
        if not file.exists():
            file.write_text(fence.content, "utf-8")
            continue
        insert(file, PLACES[place], fence.content)
    return tmp_path


def insert(file: Path, behind: str, block: str) -> None:
    """Write a block behind the statement, or the opening of the mapping, that begins so."""
    text = file.read_text("utf-8")
    at = text.index(behind) + len(behind)
    at = text.index("\n", at) + 1
    if behind.startswith("def "):
        at = text.index("\n\n\n", at) + 3
        block += "\n\n"
    file.write_text(text[:at] + block + text[at:], "utf-8")


def run(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_field_is_a_row_and_a_setting_in_each_dialect_that_has_it(edited: Path) -> None:
    assert "DecodingConfig.xtc_probability: expected a number in [0, 1], got 2." in run(FIELD, edited)


def test_a_section_is_a_function_a_row_and_a_template(edited: Path) -> None:
    assert "<h2>Tasks</h2>" in run(SECTION, edited)
