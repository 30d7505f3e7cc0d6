"""Write what is rendered from benchmarks/results: index, pages, a transcript, picture and figures of the top README."""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path

from benchmarks.tools.claim import ROOT, claim_of, find_claims
from benchmarks.tools.headline import fill_blocks, plots
from benchmarks.tools.index import index_page
from benchmarks.tools.pages import Result, comparisons_page, result_page
from benchmarks.tools.transcript import first_result_page, read_steps

RESULTS = ROOT / "results"
PAGES = ROOT / "pages"
TOP = ROOT.parent / "README.md"
FIRST_RESULT = ROOT.parent / "docs" / "first-result.md"


def read_results() -> list[Result]:
    """All stored results, sorted by name."""
    return [json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("*.json"))]


def documents() -> dict[Path, str]:
    """The text of every rendered document by its path.

    Raises:
        KeyError: a result belongs to no claim, or lacks its headline.
    """
    results, claims = read_results(), find_claims()
    found = {ROOT / "README.md": index_page(results, claims), PAGES / "comparisons.md": comparisons_page(results)}
    for result in results:
        found[PAGES / f"{result['claim']}.md"] = result_page(result, claim_of(result["claim"], claims))
    for name, text in plots(results).items():
        found[RESULTS / "plots" / name] = text
    steps = read_steps(RESULTS / "first_result" / "transcript.json")
    found[FIRST_RESULT] = first_result_page(steps, next(one for one in results if one["claim"] == "first_result"))
    found[TOP] = fill_blocks(TOP.read_text("utf-8"), results)
    return found


def stale_documents() -> dict[Path, tuple[str, str]]:
    """(what stands there, what should) by path, both empty where there is no document."""
    wanted = documents()
    there = {path: path.read_text("utf-8") for path in {*wanted, *PAGES.glob("*.md")} if path.exists()}
    pairs = {path: (there.get(path, ""), wanted.get(path, "")) for path in {**wanted, **there}}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def render() -> None:
    """Write every document that is stale, and remove pages of results that are gone."""
    for path, (_, text) in stale_documents().items():
        if text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        else:
            path.unlink()


def check() -> int:
    """1 where a document is stale, with the difference printed; else 0."""
    stale = stale_documents()
    for path, (old, text) in stale.items():
        name = str(path.relative_to(ROOT.parent))
        sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), text.splitlines(True), name, "rendered"))
    return int(bool(stale))
