"""The documents hold: every Python block of README and docs runs, and prints what stands under it."""

from __future__ import annotations

from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import hagpolicy
from tests.support.paths import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(page: Path) -> list[tuple[str, str | None]]:
    """(source, output) of every Python block in order; the output where a text block follows, else None."""
    fences = [token for token in MarkdownIt().parse(page.read_text("utf-8")) if token.type == "fence"]
    found: list[tuple[str, str | None]] = []
    for at, fence in enumerate(fences):
        if fence.info == "python":
            after = fences[at + 1] if at + 1 < len(fences) else None
            found.append((fence.content, after.content if after is not None and after.info == "text" else None))
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_blocks_run_in_order_and_print_what_is_said(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for source, output in blocks(page):
        capsys.readouterr()
        exec(compile(source, str(page), "exec"), names)
        printed = capsys.readouterr().out
        assert output is None or printed == output, f"{page.name}:\n{source}"


def test_every_page_is_in_the_contents() -> None:
    contents = (ROOT / "mkdocs.yml").read_text("utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name in contents, page


def test_the_reference_has_every_public_name() -> None:
    lines = (ROOT / "docs" / "reference.md").read_text("utf-8").splitlines()
    named = [line.removeprefix("::: hagpolicy.") for line in lines if line.startswith("::: ")]
    assert sorted(named) == [name for name in hagpolicy.__all__ if name != "__version__"]
