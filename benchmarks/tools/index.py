"""The index of all claims: one row a result, with its headline, whether its targets are met, and its page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from benchmarks.tools.claim import GROUPS, Claim, claim_of
from benchmarks.tools.pages import Result, format_target
from hagpolicy._text import TextTable

INTRO = f"""# Benchmarks

One script a claim, one row a result, one page behind it with every figure, negative ones too. A row shows the claim's
headline to three digits, with its 95 % interval; where a study has several settings, such as prices, the last of them.
Whether the targets are met is said of all targets of the page. Speed is a ratio of two things measured in one run,
wherever there are two to compare. [All comparisons at a glance](pages/comparisons.md) says how to read a gain.

- `python -m benchmarks list` names the claims; `python -m benchmarks run NAME` runs those of a name, a folder or a
  group; `--quick` takes about a minute each and writes nothing. Groups:
{chr(10).join(f"  - `{name}`: {what}" for name, what in GROUPS.items())}
- `make bench DATA=DIR` runs the group `bench`, `make bench-quality` `stored`, `make bench-worlds` `simulation`,
  `make bench-sweeps` `generate`.
- `--data DIR` is a folder with public data: `tasks/` (GSM8K: openai/grade-school-math @ 3101c7d, SVAMP:
  arkilpatel/SVAMP @ 689d7cc, AQuA: google-deepmind/AQuA @ 26b64ed, CommonGen: allenai/CommonGen-Eval @ 448741b, E2E:
  tuetschek/e2e-dataset @ ab0d967, IFEval: josejg/instruction_following_eval @ 0c495b2, HumanEval: openai/human-eval @
  6d43fb9), `jhu-gpt35/` (matthewrenze/jhu-llm-temperature @ b00cfb6) and `aslib/` (coseal/aslib_data @ 551b22b, one
  `NAME.npz` a scenario: `raw` and `std`, float32 (instances, features), and `reward`, float32 (instances,
  algorithms), as the claim `algorithm_selection` says). What else a claim needs, such as a small LLM, `list` says.
- This file, the pages and the results in the top README are written by `python -m benchmarks render` from `results/`;
  `python -m benchmarks check`, which is also a test, fails where one is stale.
"""
SHORT_UNITS = {"times": " ×", "reward gain": "", "reward": "", "share": "", "%": " %", "yes = 1": ""}


def index_page(results: Sequence[Result], claims: Sequence[Claim]) -> str:
    """The text of benchmarks/README.md."""
    owners = {result["claim"]: claim_of(result["claim"], claims) for result in results}
    parts = [INTRO]
    for topic in sorted({claim.topic for claim in claims if claim.measures}):
        rows = [index_row(result, owner) for result in results if (owner := owners[result["claim"]]).topic == topic]
        missing = [
            claim for claim in claims if claim.measures and claim.topic == topic and claim not in owners.values()
        ]
        rows += [(claim.name, "", "", "", "not run", "") for claim in missing]
        table = TextTable(("claim", "figure", "value", "target", "", "measured"), rows).to_markdown()
        parts.append(f"## {topic.capitalize()}\n\n{table}\n")
    return "\n".join(parts)


def index_row(result: Result, claim: Claim) -> tuple[str, ...]:
    """One result: page, headline, its target, whether all targets are met, when and where."""
    link = f"[{result['claim']}](pages/{result['claim']}.md)"
    if result["status"] != "run":
        return link, "", "", "", "not run", ""
    item = find_headline(result, claim)
    where = ", ".join([result["date"], *result["hardware"].split(", ")[1:]])
    return link, item["name"], format_estimate(item), format_target(item), describe_targets(result["figures"]), where


def find_headline(result: Result, claim: Claim) -> dict[str, Any]:
    """The last figure that the claim's pattern matches.

    Raises:
        KeyError: none does.
    """
    found = [item for item in result["figures"] if fnmatchcase(item["name"], claim.headline)]
    if not found:
        raise KeyError(f"{result['claim']} has no figure {claim.headline!r}")
    return found[-1]


def describe_targets(figures: Sequence[dict[str, Any]]) -> str:
    """Whether all targets are met, or how many are not; empty where there is none."""
    kept = [item["met"] for item in figures if item["met"] is not None]
    if not kept:
        return ""
    missed = len(kept) - sum(kept)
    return f"**missed** {missed} of {len(kept)}" if missed else f"{len(kept)} of {len(kept)} met"


def format_estimate(item: dict[str, Any]) -> str:
    """A figure with unit and interval, three digits each."""
    sign = "+" if item["unit"] == "reward gain" else ""
    unit = SHORT_UNITS.get(item["unit"], f" {item['unit']}")
    interval = (
        "" if item["low"] is None else f" [{three_digits(item['low'], sign)}, {three_digits(item['high'], sign)}]"
    )
    return f"{three_digits(item['value'], sign)}{unit}{interval}"


def three_digits(value: float, sign: str = "") -> str:
    """A number to three significant digits, never with an exponent: "0.0454", "14.4", "5,740"."""
    rounded = float(f"{value:.3g}")
    digits = 0 if rounded == 0.0 else max(2 - math.floor(math.log10(abs(rounded))), 0)
    return f"{rounded:{sign if rounded else ''},.{digits}f}"
