"""What the tests of the command line share: a small space, prompts in a file, a quick sweep."""

from __future__ import annotations

import json
from pathlib import Path

from hagpolicy.cli import main

SPACE = [
    {"temperature": 0.0},
    {"temperature": 0.3},
    {"temperature": 0.7, "frequency_penalty": 0.5},
    {"temperature": 0.7, "hint": "Think step by step."},
    {"temperature": 1.3, "min_p": 0.1},
]


def write_prompts(path: Path, prompts: object) -> None:
    path.write_text("".join(json.dumps(prompt.to_dict()) + "\n" for prompt in prompts))  # type: ignore[attr-defined]


def sweep(root: Path, prompts: str, out: str, *more: str) -> int:
    files = ["--prompts", str(root / prompts), "--space", str(root / "space.json"), "--out", str(root / out)]
    return main(["sweep", "--engine", "simulated:3", "--samples", "4", "--quiet", *files, *more])
