"""Links hold: what a document points to or names in the repository is there, headings too; no page is an orphan."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.support.paths import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "benchmarks" / "pages").glob("*.md")),
]
PARSER = MarkdownIt().enable("table")


def links_of(page: Path) -> Iterator[str]:
    """Targets of all links and pictures of a page, those in HTML too, but for addresses of the network."""
    for token in PARSER.parse(page.read_text("utf-8")):
        for part in (token, *(token.children or ())):
            found = [str(part.attrs[name]) for name in ("href", "src") if name in part.attrs]
            if part.type in ("html_block", "html_inline"):
                found = re.findall(r'(?:href|src|srcset)="([^"]+)"', part.content)
            yield from (target for target in found if not re.match(r"[a-z]+:", target))


def paths_in(page: Path) -> Iterator[str]:
    """Files and folders of the repository that stand in backticks."""
    folders = {folder.name for root in (ROOT, ROOT / "hagpolicy") for folder in root.iterdir() if folder.is_dir()}
    for token in PARSER.parse(page.read_text("utf-8")):
        for part in token.children or ():
            in_code = part.type == "code_inline" and re.fullmatch(r"\w+/[\w./-]*", part.content)
            if in_code and part.content.partition("/")[0] in folders:
                yield part.content


def anchors_of(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    tokens = PARSER.parse(page.read_text("utf-8"))
    headings = [following.content for token, following in pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


TYPED = [page for page in PAGES if (ROOT / "docs") in page.parents and page.name != "first-result.md"]


@pytest.mark.parametrize("page", TYPED, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_was_measured_stands_on_the_page_that_is_named_and_is_not_typed_beside_it(page: Path) -> None:
    """A figure that is typed goes stale with the next run; rendered pages do not."""
    for paragraph in re.split(r"\n\s*\n", page.read_text("utf-8")):
        if "benchmarks/pages/" in paragraph:
            words = re.sub(r"`[^`]*`|\(arXiv[^)]*\)|https?://\S+", "", paragraph)
            assert not re.findall(r"(?<![\w.])\d*\.\d+|\d %", words), paragraph


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_resolves(page: Path) -> None:
    for target in links_of(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        assert file.is_relative_to(ROOT), f"{page.name}: {target} leaves the repository"
        assert not anchor or anchor in anchors_of(file), f"{page.name}: {target} names no heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_is_there(page: Path) -> None:
    """Of the repository, and of the package."""
    for name in paths_in(page):
        assert any((folder / name).exists() for folder in (ROOT, ROOT / "hagpolicy")), f"{page.name}: {name}"


def test_every_page_of_the_benchmarks_is_reached_from_their_index() -> None:
    index = ROOT / "benchmarks" / "README.md"
    linked = {(index.parent / target).resolve() for target in links_of(index)}
    assert set((ROOT / "benchmarks" / "pages").glob("*.md")) <= linked


def test_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = '# A b, c!\n\n[x](y.md#z) ![p](p.svg) <img src="q.svg">\n\n| a |\n|---|\n| [t](t.md) |\n\n[n](https://n.org)'
    page.write_text(text, "utf-8")
    assert list(links_of(page)) == ["y.md#z", "p.svg", "q.svg", "t.md"]
    assert anchors_of(page) == {"a-b-c"}
    page.write_text("See `tests/none.py`, `engines/`, `sweeps/qa` and `pip install x`.", "utf-8")
    assert list(paths_in(page)) == ["tests/none.py", "engines/"]
