"""Studies of many worlds that can be stopped: one JSON line a finished world, what is stored is not run again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tools.record import Figure, figure

Row = dict[str, Any]


def resumed(
    path: Path, cases: Sequence[Row], run: Callable[..., Row], *, workers: int = 1, store: bool = True
) -> list[Row]:
    """The rows {**case, **run(**case)} of all cases, in their order.

    Args:
        path: JSON lines; a case is done where a line has its values. Other lines are left alone, so that a study
            may be enlarged, or made of another table, without losing what it knew.
        cases: keyword arguments of `run`, JSON-able.
        run: a module's function, deterministic.
        workers: processes beside this one; 1: none.
        store: False: read and write nothing.
    """
    lines = path.read_text("utf-8").splitlines() if store and path.exists() else []
    rows = [json.loads(line) for line in lines]
    names = sorted({name for case in cases for name in case})
    done = {_key(row, names): row for row in rows}
    todo = [case for case in cases if _key(case, names) not in done]
    for case, outcome in zip(todo, _outcomes(run, todo, workers), strict=True):
        row = {key: round(value, 5) if isinstance(value, float) else value for key, value in (case | outcome).items()}
        done[_key(case, names)] = row
        print(f"\r{path.stem}: {len(cases) - len(todo) + len(done) - len(rows)}/{len(cases)}", end="", file=sys.stderr)
        if store:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    if todo:
        print(file=sys.stderr)
    return [done[_key(case, names)] for case in cases]


def _outcomes(run: Callable[..., Row], todo: Sequence[Row], workers: int) -> Iterable[Row]:
    if not todo:
        return
    yield run(**todo[0])  # all code is loaded before the workers part, so that an edit meanwhile cannot reach them
    if workers == 1:
        yield from (run(**case) for case in todo[1:])
        return
    with ProcessPoolExecutor(workers) as pool:
        futures = [pool.submit(run, **case) for case in todo[1:]]
        yield from (future.result() for future in futures)


def _key(row: Row, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in names)


def share(name: str, count: int, n: int, at_least: float | None = None, *, at_most: float | None = None) -> Figure:
    """A share of worlds with its 95 % interval (Wilson, *JASA* 22, 1927), judged by the share itself."""
    part, z = count / n, 1.96
    middle = (part + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(part * (1 - part) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low, high = max(middle - half, 0.0), min(middle + half, 1.0)
    return figure(name, part, low, high, unit="share", at_least=at_least, at_most=at_most)
