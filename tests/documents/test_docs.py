"""The documents hold: Python blocks run and print what stands under them, figures are rendered from stored results."""

from __future__ import annotations

import html
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

import hagpolicy
from hagpolicy._names import Registry
from hagpolicy.cli import main
from hagpolicy.cli.parser import build_parser
from hagpolicy.config.fields import SPECS
from hagpolicy.config.space import PRESETS
from hagpolicy.engines.spec import ENGINES
from hagpolicy.fitting.baselines.registry import BASELINES
from hagpolicy.fitting.learners.registry import LEARNERS
from hagpolicy.scorers.registry import SCORERS
from hagpolicy.sweeping.strategies.base import STRATEGIES
from tests.support.answering_server import AnsweringServer
from tests.support.paths import ROOT
from tests.support.recipes import FILES, URL, answer, make_pipeline

REGISTRIES: list[Registry[Any]] = [ENGINES, SCORERS, LEARNERS, BASELINES, STRATEGIES]
RECIPES = ROOT / "docs" / "recipes"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A block that runs: its language, the file that it is (else ""), its text, and what it prints (None: not said)."""

    language: str
    file: str
    source: str
    output: str | None


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that run, in order: Python, and in a recipe command lines and files too.

    A block's output is the text block that follows it.
    """
    fences = [token for token in MarkdownIt().parse(page.read_text("utf-8")) if token.type == "fence"]
    found: list[Block] = []
    for at, fence in enumerate(fences):
        language, _, file = fence.info.partition(" ")
        after = fences[at + 1] if at + 1 < len(fences) else None
        output = after.content if after is not None and after.info == "text" else None
        if fence.info == "python" or (page.parent == RECIPES and (language == "sh" or file)):
            found.append(Block(language, file, fence.content, output))
    return found


def commands_of(source: str) -> list[list[str]]:
    """The words of each `hagpolicy` command of a shell block."""
    lines = source.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("hagpolicy ")]


def is_said(output: str, printed: str) -> bool:
    """Whether what was printed is what the page says; there "…" stands for anything."""
    pattern = ".*".join(map(re.escape, output.split("…")))
    return output == printed or re.fullmatch(pattern, printed, re.DOTALL) is not None


def run_block(block: Block, names: dict[str, object], page: Path) -> None:
    """Run one block in the working directory. A file of `FILES` lies there, and begins as the block says."""
    if block.file in FILES:
        assert FILES[block.file].startswith(block.source), f"{page.name}: {block.file}"
    elif block.file:
        Path(block.file).write_text(block.source, "utf-8")
    elif block.language == "python":
        exec(compile(block.source, f"<{page.name}>", "exec"), names)
    else:
        for words in commands_of(block.source):
            assert main([word.replace(URL, str(names["url"])) for word in words]) == 0, words


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    """What the recipes call their server."""
    with AnsweringServer(answer) as running:
        yield running


@pytest.mark.llm
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
@pytest.mark.filterwarnings("ignore:the policy was swept on another engine")
def test_blocks_run_in_order_and_print_what_is_said(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    server: AnsweringServer,
) -> None:
    monkeypatch.chdir(tmp_path)
    if any('smollm2")' in block.source for block in blocks(page)):
        load, smollm = hagpolicy.load_engine, request.getfixturevalue("smollm")
        # The real LLM is in memory already: loading it a second time would prove nothing more.
        monkeypatch.setattr(hagpolicy, "load_engine", lambda spec: smollm if spec == "smollm2" else load(spec))
    for registry in REGISTRIES:  # what a page registers ends with the test
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    if page.parent == RECIPES:
        importlib.import_module("transformers.pipelines")  # puts another module in the place of `transformers`
        monkeypatch.setattr(sys.modules["transformers"], "pipeline", make_pipeline)
        for name, text in FILES.items():
            Path(name).write_text(text, "utf-8")
    names: dict[str, object] = {"url": server.url}
    for block in blocks(page):
        capsys.readouterr()
        run_block(block, names, page)
        printed = capsys.readouterr().out
        assert block.output is None or is_said(block.output, printed), f"{page.name}:\n{block.source}\n{printed}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.stem)
def test_command_lines_are_understood(page: Path) -> None:
    tokens = MarkdownIt().parse(page.read_text("utf-8"))
    sources = [token.content for token in tokens if token.type == "fence" and token.info == "sh"]
    sources += [part.content for token in tokens for part in token.children or () if part.type == "code_inline"]
    for words in (words for source in sources for words in commands_of(source)):
        if words not in (["predict"], ["rescore"]) and "--help" not in words:  # a verb alone stands for itself
            build_parser().parse_args(words)  # exits where it does not understand


def test_every_page_is_in_the_contents() -> None:
    contents = (ROOT / "mkdocs.yml").read_text("utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert f"- {page.relative_to(ROOT / 'docs')}\n" in contents, page


def test_the_reference_has_every_public_name() -> None:
    lines = (ROOT / "docs" / "reference.md").read_text("utf-8").splitlines()
    named = [line.removeprefix("::: hagpolicy.") for line in lines if line.startswith("::: ")]
    assert sorted(name for name in named if "." not in name) == [
        name for name in hagpolicy.__all__ if name != "__version__"
    ]


def test_every_scorer_is_in_the_table_and_in_the_reference() -> None:
    table = (ROOT / "docs" / "sweeping.md").read_text("utf-8").split("## Scorers")[1].split("##")[0]
    reference = (ROOT / "docs" / "reference.md").read_text("utf-8").split("## Options of scorers")[1].split("\n## ")[0]
    sections = re.findall(r"### (\w+)\n\n::: ([\w.]+)\.(\w+)\n", reference)
    assert {name: f"{module}:{kind}" for name, module, kind in sections} == {
        name: f"{SCORERS[name].__module__}:{SCORERS[name].__name__}" for name in SCORERS
    }
    for name in SCORERS:
        assert f"`{name}`" in table or f'"name": "{name}"' in table, name


def test_the_readme_names_every_scorer_and_every_space() -> None:
    text = (ROOT / "README.md").read_text("utf-8").split("## Your own prompts")[1].split("\n## ")[0]
    scorers = text.split("\nScorers: ")[1].split("([what")[0]
    assert re.findall(r"`(\w+)`", scorers) == list(SCORERS)
    spaces = text.split("What competes")[1]
    assert all(re.search(rf"\b{name}`", spaces) for name in set(PRESETS) - {"standard"})


def test_a_sweep_s_help_lists_the_scorers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["sweep", "--help"])
    printed = capsys.readouterr().out
    assert [name for name in SCORERS if name not in printed] == []


def test_the_site_builds_without_a_warning_and_shows_what_docstrings_say(tmp_path: Path) -> None:
    """Those that are made on import too."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown = (tmp_path / "reference" / "index.html").read_text("utf-8")
    for spec in SPECS.values():
        assert html.escape(spec.about, quote=False).split(";")[0] in shown, spec
    assert html.escape("the single best config, chosen on all prompts", quote=False) in shown


def test_rendered_documents_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "check"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, f"run python -m benchmarks render\n{done.stdout}{done.stderr}"


def test_the_readme_says_what_it_is_in_twenty_words_and_no_figure_by_hand() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    first = text.split("\n\n")[1]
    assert len(first.split()) <= 20, first
    generated = r"```.*?```|<!-- \w+ -->.*?<!-- / -->"
    prose = re.sub(rf"{generated}|\(https?://\S+\)|arXiv [\d.]+|Apache-2.0", "", text, flags=re.DOTALL)
    assert not re.findall(r"\d+\.\d+|\d+ %", prose)


def test_the_readme_names_every_extra_and_what_it_brings() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {
        name: set(re.findall(r"[a-z][\w-]+", " ".join(lines)))
        for name, lines in project["optional-dependencies"].items()
    }
    table = (ROOT / "README.md").read_text("utf-8").split("## Extras")[1].split("##")[0]
    rows = [row.split("|")[1:4] for row in table.splitlines() if row.startswith(("| `", "| ("))]
    named = set()
    for extra, _, brings in rows:
        names = set(re.findall(r"\[(\w+)\]", extra))
        named |= names
        known = set(re.findall(r"[a-z][\w-]+", " ".join(project["dependencies"]))).union(
            *(extras[name] for name in names)
        )
        assert set(re.findall(r"[a-z][\w-]+", brings)) - {"and", "or"} <= known, extra
    assert named == extras.keys() - {"dev", "docs", "servers"}
