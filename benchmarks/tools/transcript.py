"""The page that shows a first result: the commands as they were typed and what they printed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.tools.pages import Result
from benchmarks.tools.shop_prompts import make_rows
from hagpolicy._text import format_duration

Step = dict[str, Any]
OPENING = """# The first result

A shop's assistant gets four kinds of requests: gifts, orders to read, replies to write, totals. Its owner has {rows}
prompts in a file, `shop.jsonl`, which begins so:

```json
{lines}
```

`reference` is what the scorer of the prompt's `task` compares with; prompts of one `group` are about one thing, and
count as one observation. The whole way took {minutes} on {hardware}. Nothing on this page is edited but bars, which
show their last state: `python -m benchmarks run first_result` types the commands anew."""
ABOUT = (
    "What will it cost, and what can so many prompts prove? A probe of a few cells tells; nothing is written.",
    "The sweep itself. It looks at its result five times at most, and ends as soon as the gate's answer is certain.",
    "What is there to win, before anything is trained?",
    "What is proven? A choice per prompt ships, else the single best configuration, else what runs today.",
    "Look at answers before you believe a score.",
    "What would a new prompt get? First one of a kind that the policy has seen.",
    "And one of another kind, as a call of vLLM.",
)
NOT_RUN = """# The first result

Not run yet: `python -m benchmarks run first_result` types the way from a user's own file to a first result on the
command line, and writes this page."""
CLOSING = """[Sweeping](sweeping.md) lists scorers and spaces for a file of your own, [In production](production.md)
puts a policy in front of a model. The figures are in `benchmarks/pages/first_result.md`."""


def read_steps(path: Path) -> list[Step] | None:
    """The stored steps, each with `command`, `printed`, `code` and `seconds`; None where there are none."""
    steps: list[Step] | None = json.loads(path.read_text("utf-8")) if path.exists() else None
    return steps


def first_result_page(steps: Sequence[Step] | None, result: Result) -> str:
    """The text of docs/first-result.md; it says where nothing was typed yet (None)."""
    if steps is None:
        return f"{NOT_RUN}\n\n{CLOSING}\n"
    rows = make_rows()
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows[:4])
    minutes = format_duration(sum(step["seconds"] for step in steps))
    parts = [OPENING.format(rows=len(rows), lines=lines, minutes=minutes, hardware=result["hardware"])]
    for about, step in zip(ABOUT, steps, strict=True):
        typed = f"```sh\n{fold_command(step['command'])}\n```"
        parts += [about, typed, f"```text\n{step['printed']}```", f"*{format_duration(step['seconds'])}.*"]
    return "\n\n".join([*parts, CLOSING]) + "\n"


def fold_command(command: str, width: int = 100) -> str:
    """The command with line ends before options, where it is longer than `width`."""
    lines = [""]
    for part in re.split(r" (?=--)", command):
        if lines[-1] and len(lines[-1]) + len(part) + 3 > width:
            lines.append("   ")
        lines[-1] += f" {part}" if lines[-1] else part
    return " \\\n".join(lines)
