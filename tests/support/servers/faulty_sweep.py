"""A sweep of some hundred cells through the proxy that breaks answers, and what became of each cell."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet

from hagpolicy import DecodingConfig, DecodingSpace, load_engine, sweep
from hagpolicy.config.servers import list_lacking
from tests.support.servers.fault_proxy import FAULTS
from tests.support.servers.launching import Served

PLAN = dict.fromkeys(FAULTS, 0.05)
CONFIGS = (
    DecodingConfig(temperature=0.0),
    DecodingConfig(temperature=0.0, repetition_penalty=1.3),
    DecodingConfig(temperature=0.0, no_repeat_ngram_size=2),
    DecodingConfig(temperature=0.8, top_p=0.9),
)
SAMPLES = 2
# With the engine's default, sampling at temperature 1, beside the four.
CELLS_OF_A_PROMPT = 3 + 2 * SAMPLES
WORDS = ("red", "green", "blue", "sky", "name", "hello", "count", "ten", "three", "think", "step", "again")
# Requests in flight. The servers of these tests work them off one by one; the faults hit them all the same.
IN_FLIGHT = 8


@dataclass(frozen=True)
class Swept:
    """A sweep that came to its end.

    Attributes:
        cells: the rows that are stored, as they lie there.
        seconds: that it took.
        configs: that were asked for.
        unfinished: stored cells that have neither a reward nor a reason.
        double: cells that are stored more than once.
        failed: reasons of cells without an answer, with their counts.
    """

    cells: tuple[dict[str, Any], ...]
    seconds: float
    configs: tuple[DecodingConfig, ...]

    @property
    def unfinished(self) -> int:
        return sum(row["reward"] is None and not (row["error"] or row["reason"]) for row in self.cells)

    @property
    def double(self) -> int:
        return len(self.cells) - len({row["cell"] for row in self.cells})

    @property
    def failed(self) -> Counter[str]:
        return Counter(row["error"] for row in self.cells if row["finish"] == "error")

    def greedy_texts(self) -> dict[str, str]:
        """Text of every cell at temperature 0, by cell."""
        greedy = {config.digest for config in self.configs if config.deterministic}
        return {row["cell"]: row["text"] for row in self.cells if row["config"] in greedy}


def questions(cells: int) -> list[str]:
    """As many different prompts as give at least so many cells."""
    count = -(-cells // CELLS_OF_A_PROMPT)
    pairs = ((one, other) for one in WORDS for other in WORDS if one != other)
    return [f"What is the colour of {one} and {other} ?" for one, other in pairs][:count]


def letters(text: str) -> float:
    """A reward that every text has: the share of letters in it."""
    return sum(map(str.isalpha, text)) / max(len(text), 1)


def swept(served: Served, prompts: Iterable[str], out: Path, *, max_tokens: int) -> Swept:
    """Sweep the prompts at a server, or at a proxy in front of it."""
    configs = tuple(config for config in CONFIGS if not list_lacking(served.server, config.fields()))
    spec = f"openai:{served.url}#{served.model}"
    engine = load_engine(spec, server=served.server, max_concurrency=IN_FLIGHT, timeout=60.0)
    begun = time.monotonic()
    try:
        sweep(
            engine, list(prompts), DecodingSpace(configs), letters,
            samples=SAMPLES, max_tokens=max_tokens, out=out, progress=False,
        )  # fmt: skip
    finally:
        engine.close()
    seconds = time.monotonic() - begun
    tables = [pyarrow.parquet.read_table(path) for path in sorted((out / "cells").glob("*.parquet"))]
    return Swept(tuple(row for table in tables for row in table.to_pylist()), seconds, configs)


def injected(work: Path) -> Counter[str]:
    """What the proxy did to the requests, by fault; "passed" for those it let through."""
    lines = (work / "faults.jsonl").read_text("utf-8").splitlines()
    return Counter(json.loads(line)["fault"] or "passed" for line in lines)
