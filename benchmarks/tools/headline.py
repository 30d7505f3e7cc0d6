"""What stands of the results in the top README: a picture with one sentence, and a table of a few rows.

The README marks the two places with `<!-- picture -->` and `<!-- results -->`, each ended by `<!-- / -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.tools.pages import Result, read_comparisons
from benchmarks.tools.plots import GainRow, headline_plot
from hagpolicy._text import TextTable

SHIPS = "what ships over the engine's default"
POLICY = "best per-prompt policy over SBS"
# Every stored sweep whose engine has a default, in words; of one with several settings the last one is shown.
STUDIES = {
    "quality_workload": "mean reward",
    "quality_workload_price": "reward − 0.004 a token",
    "quality_drafting": "seconds, with drafts or without",
    "quality_workload_best_of_n": "best of 4 answers",
    "quality_workload_pass_at_k": "one of 4 answers passes",
    "quality_best_of_n": "best of 4 answers",
    "quality_pass_at_k": "one of 4 answers passes",
    "quality_majority": "majority of 3 answers",
    "quality_stronger_price": "reward − 0.004 a token",
    "all_actions": "mean reward, with adapters, a prefix, stores and masks for its four tasks",
}
SHIPPED = {"per_prompt": "policy", "single_best": "single best config", "default": "what ran before"}
SHOWN = (
    "quality_workload",
    "quality_workload_price",
    "quality_drafting",
    "quality_workload_best_of_n",
    "quality_stronger_price",
    "all_actions",
)
PICTURE = """<picture>
  <source media="(prefers-color-scheme: dark)" srcset="benchmarks/results/plots/headline-dark.svg">
  <img alt="Gains of what ships over the engine's default" src="benchmarks/results/plots/headline.svg">
</picture>"""


def gain_rows(results: Sequence[Result]) -> dict[str, GainRow]:
    """What ships over the engine's default, by result; those that were not run are left out."""
    known = {result["claim"]: result for result in results if result["status"] == "run"}
    return {name: _gain_row(known[name], words) for name, words in STUDIES.items() if name in known}


def _gain_row(result: Result, words: str) -> GainRow:
    ships = _last(result, SHIPS)
    where = "Qwen2.5-Coder-1.5B" if "Qwen" in result["statement"] else "SmolLM2-135M"
    unit = " s" if "second" in result["ladders"][-1]["objective"] else ""
    shipped = result["ladders"][-1]["candidate"]["shipped"]
    where = f"{where}, {_prompts(result)} prompts"
    return GainRow(words, where, ships["value"], ships["low"], ships["high"], shipped, unit)


def _last(result: Result, words: str) -> dict[str, Any]:
    """The figure of a kind at the last setting of the study's dial."""
    return [item for item in result["figures"] if item["name"].endswith(f": {words}")][-1]


def _prompts(result: Result) -> str:
    found = re.match(r"(\d+) prompts", result["notes"])
    assert found is not None, f"{result['claim']} does not say its number of prompts"
    return found[1]


def plots(results: Sequence[Result]) -> dict[str, str]:
    """The picture for light and for dark pages, by file name."""
    rows = list(gain_rows(results).values())
    return {"headline.svg": headline_plot(rows), "headline-dark.svg": headline_plot(rows, dark=True)}


def picture_block(results: Sequence[Result]) -> str:
    """The picture and one sentence with one figure and its interval."""
    row = gain_rows(results)["quality_workload"]
    return (
        f"{PICTURE}\n\nOn {row.where.split(', ')[1]} of several kinds ({row.where.split(', ')[0]}), what ships gains "
        f"{row.format()} in mean reward (0 to 1, 95 % interval) over the engine's default configuration."
    )


def results_block(results: Sequence[Result]) -> str:
    """A row a study: what is maximised, where, what ships gains over the default, a policy over one config."""
    known = {result["claim"]: result for result in results}
    rows = gain_rows(results)
    head = (
        "what is maximised", "LLM", "what ships, over the engine's default",
        "per-prompt policy over the single best config", "ships",
    )  # fmt: skip
    cells = []
    for name in SHOWN:
        row, policy = rows[name], _last(known[name], POLICY)
        gain = GainRow(row.words, row.where, policy["value"], policy["low"], policy["high"], row.shipped, row.unit)
        ships = SHIPPED[read_comparisons(known[name])[-1].candidate.ships]
        link = f"[{row.words}](benchmarks/pages/{name}.md)"
        cells.append((link, row.where, row.format(), gain.format(), ships))
    return TextTable(head, cells).to_markdown()


BLOCKS: Mapping[str, Callable[[Sequence[Result]], str]] = {"picture": picture_block, "results": results_block}


def fill_blocks(text: str, results: Sequence[Result]) -> str:
    """The README with its two marked places rendered; a place that it does not mark is left out."""
    for name, block in BLOCKS.items():
        mark = f"<!-- {name} -->"
        if mark in text:
            before, _, rest = text.partition(mark)
            after = rest.partition("<!-- / -->")[2]
            text = f"{before}{mark}\n{block(results)}\n<!-- / -->{after}"
    return text
