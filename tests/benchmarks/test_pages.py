"""What is rendered: every stored figure on a page, three digits in the index, two places in the top README."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tools import render
from benchmarks.tools.claim import Claim, find_claims
from benchmarks.tools.headline import SHOWN, fill_blocks, gain_rows, results_block
from benchmarks.tools.index import describe_targets, find_headline, index_page, index_row, three_digits
from benchmarks.tools.pages import result_page

CLAIM = Claim(
    name="speed", states="It is fast.", groups=("bench",), headline="*: rate", module="benchmarks.claims.engines.speed"
)


def figure(name: str, value: float, met: bool | None = None, **more: Any) -> dict[str, Any]:
    target = None if met is None else ">= 1"
    return {
        "name": name,
        "value": value,
        "low": None,
        "high": None,
        "unit": "times",
        "target": target,
        "met": met,
        **more,
    }


def result(*figures: dict[str, Any], **more: Any) -> dict[str, Any]:
    stamp = {
        "command": "python benchmarks/speed.py",
        "commit": "c0ffee",
        "date": "2026-01-02",
        "versions": {"numpy": "2"},
    }
    hardware = "A processor, 2 cores, A card"
    return {
        "claim": "speed", "statement": "It is fast.", "status": "run", "figures": list(figures), "notes": "",
        "hardware": hardware, **stamp, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.045449, "0.0454"),
        (14.444, "14.4"),
        (5735.6, "5,740"),
        (0.0, "0"),
        (-0.001708, "-0.00171"),
        (0.9996, "1.00"),
        (99.96, "100"),
    ],
)
def test_three_digits(value: float, text: str) -> None:
    assert three_digits(value) == text


def test_a_row_of_the_index_shows_the_last_headline_and_all_targets() -> None:
    found = result(
        figure("one: rate", 2.0, True, low=1.987, high=2.019),
        figure("two: rate", 14.444, True, low=1.9871, high=20.19),
        figure("size", 3.0, False),
        figure("length", 3.0),
    )
    assert index_row(found, CLAIM) == (
        "[speed](pages/speed.md)", "two: rate", "14.4 × [1.99, 20.2]", "≥ 1", "**missed** 1 of 3",
        "2026-01-02, 2 cores, A card",
    )  # fmt: skip
    assert describe_targets(found["figures"][:2]) == "2 of 2 met"
    assert describe_targets(found["figures"][3:]) == ""
    with pytest.raises(KeyError):
        find_headline(found, Claim(name="speed", states="", groups=(), headline="no such figure"))


def test_what_was_not_run_is_in_the_index_and_says_why_on_its_page() -> None:
    found = result(status="not run", reason="this machine has no GPU")
    assert "not run" in index_row(found, CLAIM)
    assert "this machine has no GPU" in result_page(found, CLAIM)
    assert "| speed |  |  |  | not run |  |" in index_page([], [CLAIM])


def test_a_page_has_the_new_command_and_says_what_recorded_it() -> None:
    page = result_page(result(figure("one: rate", 2.0), notes="On one core."), CLAIM)
    assert "`python -m benchmarks run speed`. Recorded with `python benchmarks/speed.py` at c0ffee, 2026-01-02" in page
    assert "On one core." in page
    same = result_page(result(command="python -m benchmarks run speed"), CLAIM)
    assert "Recorded with this at c0ffee" in same


def test_every_stored_figure_is_on_a_page_that_the_index_links() -> None:
    documents = render.documents()
    index = documents[render.ROOT / "README.md"]
    for stored in render.read_results():
        page = documents[render.PAGES / f"{stored['claim']}.md"]
        assert f"(pages/{stored['claim']}.md)" in index
        for item in stored["figures"]:
            assert f"| {item['name']} | {item['value']:.4g} |" in page
        for comparison in stored.get("ladders", ()):
            assert page.count(f"| {comparison['objective']} |") >= 1
        for plot in stored.get("plots", ()):
            assert (render.PAGES / "../results" / plot).exists()
            assert f"(../results/{plot})" in page
    links = re.findall(r"\]\((pages/[^)]+)\)", index)
    assert {render.ROOT / link for link in links} <= documents.keys()


def test_the_rows_of_the_top_readme_are_the_stored_figures() -> None:
    results = render.read_results()
    known = {stored["claim"]: stored for stored in results}
    rows = gain_rows(results)
    block = results_block(results).splitlines()
    assert len(block) == 2 + len(SHOWN) == 8
    for name, line in zip(SHOWN, block[2:], strict=True):
        last = known[name]["ladders"][-1]
        figures = {item["name"]: item for item in known[name]["figures"]}
        ships = figures[f"{last['objective']}: what ships over the engine's default"]
        assert (rows[name].value, rows[name].low, rows[name].high) == (ships["value"], ships["low"], ships["high"])
        assert rows[name].shipped is last["candidate"]["shipped"]
        assert line.endswith("| policy |" if last["candidate"]["shipped"] else "| single best config |")
        assert rows[name].format() in line
        assert f"{last['candidate']['gain']['value']:+.3f}" in line


def test_what_ran_before_is_not_called_the_single_best_config() -> None:
    results = json.loads(json.dumps(render.read_results()))
    candidate = next(stored for stored in results if stored["claim"] == SHOWN[0])["ladders"][-1]["candidate"]
    candidate.update(shipped=False, over="default")
    assert results_block(results).splitlines()[2].endswith("| what ran before |")


def test_only_the_marked_places_of_a_document_are_filled() -> None:
    results = render.read_results()
    text = "Before.\n<!-- results -->\nold\n<!-- / -->\nBetween.\n<!-- picture -->\n<!-- / -->\nAfter.\n"
    filled = fill_blocks(text, results)
    assert "old" not in filled
    assert [line for line in filled.splitlines() if line in ("Before.", "Between.", "After.")] == [
        "Before.",
        "Between.",
        "After.",
    ]
    assert fill_blocks(filled, results) == filled
    assert fill_blocks("Nothing is marked.", results) == "Nothing is marked."
    for path in re.findall(r'(?:src|srcset)="([^"]+)"', filled):
        assert (render.ROOT.parent / path).exists()


def test_stale_documents_are_found_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top, pages = tmp_path / "README.md", tmp_path / "pages"
    top.write_text("<!-- results -->\nold\n<!-- / -->\n", "utf-8")
    pages.mkdir()
    (pages / "gone.md").write_text("A result that is gone.\n", "utf-8")
    monkeypatch.setattr(render, "TOP", top)
    monkeypatch.setattr(render, "PAGES", pages)
    stale = render.stale_documents()
    assert {top, pages / "gone.md", pages / "quality_workload.md"} <= stale.keys()
    render.render()
    assert render.stale_documents() == {}
    assert not (pages / "gone.md").exists()
    assert results_block(render.read_results()) in top.read_text("utf-8")
    (pages / "quality_workload.md").write_text("Another figure.\n", "utf-8")
    assert list(render.stale_documents()) == [pages / "quality_workload.md"]


def test_headlines_of_all_claims_are_stored() -> None:
    claims = {claim.name: claim for claim in find_claims()}
    for path in render.RESULTS.glob("*.json"):
        stored = json.loads(path.read_text("utf-8"))
        owner = claims[max((name for name in claims if path.stem.startswith(name)), key=len)]
        if stored["status"] == "run":
            assert find_headline(stored, owner)["name"]
