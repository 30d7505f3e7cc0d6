"""What the report shows: from table, headroom, evaluation and policy to rows, before any markup."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from hagpolicy.analysis.checks import keep_comparable
from hagpolicy.analysis.headroom import Headroom
from hagpolicy.data.table import SweepTable, average_known
from hagpolicy.reporting.plots import Line
from hagpolicy.reporting.text import describe_config, format_signed
from hagpolicy.results import Estimate, Evaluation, FormattedRow

if TYPE_CHECKING:
    from hagpolicy.policy.policy import Policy

_PACKAGES = ("hagpolicy", "numpy", "onnxruntime", "tokenizers", "scikit-learn", "lightgbm", "torch", "transformers")
N_EXAMPLES = 8


@dataclass(frozen=True)
class GridRow:
    """One config in a grid of configs × tasks.

    Attributes:
        config: in plain words.
        marks: such as "SBS" and "engine's default".
        cells: (shown, strength in [0, 1] of the tint, True where it is the best of its column), one a column.
    """

    config: str
    marks: tuple[str, ...]
    cells: tuple[tuple[str, float, bool], ...]


@dataclass(frozen=True)
class Grid:
    """Configs × tasks. Columns: (name, number of prompts); the first is all prompts together."""

    columns: tuple[tuple[str, int], ...]
    rows: tuple[GridRow, ...]


def mask_columns(tasks: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """(name, bool mask (n_prompts,)): all prompts, then each task where there are several."""
    names = sorted(set(tasks.tolist()))
    masks = [("all", np.ones(len(tasks), dtype=bool))]
    return masks + [(name or "no task", tasks == name) for name in names] if len(names) > 1 else masks


def tabulate_rewards(table: SweepTable, sbs: int) -> Grid:
    """Mean reward of every config, overall and by task, the best on average first."""
    kept = keep_comparable(table)
    masks = mask_columns(kept.tasks)
    means = np.array([kept.means[mask].mean(axis=0) for _, mask in masks]).T  # (n_configs, n_columns)
    low, high = means.min(axis=0), means.max(axis=0)
    strength = (means - low) / np.where(high > low, high - low, 1.0)
    rows = []
    for j in np.argsort(-means[:, 0], kind="stable").tolist():
        cells = tuple(
            (f"{means[j, k]:.2f}", float(strength[j, k]), bool(means[j, k] == high[k] and high[k] > low[k]))
            for k in range(len(masks))
        )
        rows.append(_build_row(kept, j, sbs, cells))
    return Grid(tuple((name, int(mask.sum())) for name, mask in masks), tuple(rows))


def tabulate_choices(table: SweepTable, choices: np.ndarray, sbs: int) -> Grid:
    """Share of prompts that get each config, overall and by task; configs that are never chosen are left out.

    Args:
        choices: int64 (n_prompts,), indices in the space.
    """
    masks = mask_columns(table.tasks)
    counts = np.array([np.bincount(choices[mask], minlength=len(table.space)) for _, mask in masks]).T
    shares = counts / counts.sum(axis=0)
    rows = []
    for j in np.argsort(-shares[:, 0], kind="stable").tolist():
        if shares[j, 0] > 0.0:
            cells = tuple((f"{share:.0%}" if share else "–", float(share), False) for share in shares[j])
            rows.append(_build_row(table, j, sbs, cells))
    return Grid(tuple((name, int(mask.sum())) for name, mask in masks), tuple(rows))


def _build_row(table: SweepTable, config: int, sbs: int, cells: tuple[tuple[str, float, bool], ...]) -> GridRow:
    """The row of a config by its index, marked where it is the SBS or the engine's default."""
    marks = {"SBS": sbs, "engine's default": table.default}
    mine = tuple(mark for mark, index in marks.items() if index == config)
    return GridRow(describe_config(table.space[config]), mine, cells)


def predict_choices(policy: Policy, table: SweepTable) -> np.ndarray:
    """int64 (n_prompts,): index in the table's space of the config that the policy gives each prompt."""
    configs = policy.predict_batch(list(table.prompts))
    return np.array([table.space.index(config) for config in configs], dtype=np.int64)


def list_departures(policy: Policy, table: SweepTable, choices: np.ndarray, sbs: int) -> list[dict[str, Any]]:
    """The prompts whose config promises most over the SBS, with that promise; at most `N_EXAMPLES`, one a text."""
    values = np.asarray(policy.values(list(table.prompts)), dtype=np.float64)
    advantage = values[np.arange(len(values)), choices] - values[:, sbs]
    rows: list[dict[str, Any]] = []
    for i in np.argsort(-advantage, kind="stable").tolist():
        if choices[i] != sbs and len(rows) < N_EXAMPLES:
            prompt = table.prompts[i]
            config = describe_config(table.space[int(choices[i])])
            rows.append(
                {
                    "text": prompt.text,
                    "task": prompt.task,
                    "config": config,
                    "advantage": format_signed(advantage[i], 2),
                }
            )
    return rows


def make_lines(rows: Sequence[FormattedRow]) -> list[Line]:
    """Rows of a plot: the gains, or the values of rows without a gain. What is biased says so.

    What gains are compared with has none itself: give it one of zero by `add_reference`.
    """
    estimates = [(row, row.gain or row.value) for row in rows]
    return [
        Line(row.label + (": biased" if row.kind == "biased" else ""), estimate, row.kind)
        for row, estimate in estimates
        if estimate is not None
    ]


def add_reference(rows: Sequence[FormattedRow]) -> list[FormattedRow]:
    """The rows with a gain of exactly zero where there is none: of what the others are compared with."""
    return [row if row.gain is not None else replace(row, gain=Estimate(0.0, 0.0, 0.0)) for row in rows]


def tabulate_dial(policy: Policy) -> list[dict[str, Any]]:
    """What the gate decided at each point of the dial; empty where there is nothing to turn."""
    points = policy.dial.points if policy.dial.argument else ()
    rows = []
    for point, evaluation in zip(points, policy.evaluations, strict=False):
        best = policy.space[int((np.array(point.weights) @ policy.dial.means).argmax())]
        candidate = evaluation.candidate if evaluation is not None else None
        rows.append(
            {
                "name": point.name,
                "best": describe_config(best),
                "gain": None if candidate is None else candidate.gain,
                "ships": "per-prompt policy" if point.ships else "single best",
            }
        )
    return rows


def tabulate_costs(table: SweepTable) -> list[dict[str, Any]]:
    """New tokens and seconds of an answer by config, the most expensive first; empty where neither is known."""
    columns = {name: _means(getattr(table, name)) for name in ("tokens", "seconds")}
    known = columns["tokens"] if columns["tokens"] is not None else columns["seconds"]
    if known is None:
        return []
    rows = []
    for j in np.argsort(-known, kind="stable").tolist():
        row: dict[str, Any] = {"config": describe_config(table.space[j])}
        for name, values in columns.items():
            if values is not None and not np.isnan(values[j]):
                row[name] = f"{values[j]:.1f}" if name == "tokens" else f"{values[j]:.2f}"
                row[f"{name}_share"] = float(values[j] / max(float(np.nanmax(values)), 1e-12))
        rows.append(row)
    return rows


def _means(values: np.ndarray | None) -> np.ndarray | None:
    """float64 (n_configs,): mean over prompts and samples; None where nothing is known."""
    if values is None or np.isnan(values).all():
        return None
    return average_known(np.asarray(values, dtype=np.float64).transpose(1, 0, 2).reshape(values.shape[1], -1))


def list_left_out(table: SweepTable, found: Headroom) -> list[str]:
    """A sentence on each kind of cells, samples and prompts that no figure is made of, with the reason."""
    sentences = [f"{count} cells were not scored: {reason}" for reason, count in sorted(table.failures.items())]
    deterministic = table.space.deterministic
    drawn = table.counts[:, ~deterministic]
    missing = int((drawn < drawn.max()).sum()) if drawn.size else 0
    if missing:
        sentences.append(f"{missing} pairs of prompt and configuration have fewer samples than the others")
    if found.n_left_out:
        sentences.append(
            f"{found.n_left_out} prompts are left out of every comparison: a configuration has no scored sample"
        )
    return sentences


def merge_warnings(found: Headroom, evaluation: Evaluation | None) -> Sequence[str]:
    """Every warning once."""
    return list(dict.fromkeys([*found.warnings, *(evaluation.warnings if evaluation else ())]))


def list_provenance(table: SweepTable, policy: Policy | None, command: str | None) -> list[tuple[str, str]]:
    """Where the figures come from: (name, value)."""
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    shape = table.rewards.shape
    rows = [
        ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("command", command or ""),
        (
            "sweep",
            f"{shape[0]} prompts × {shape[1]} configurations × {shape[2]} samples, {int(table.counts.sum())} scored",
        ),
        ("limit on new tokens", "" if table.max_tokens is None else str(table.max_tokens)),
        *((f"engine {name}", str(value)) for name, value in sorted(table.fingerprint.items())),
        *((f"scorer of {task or 'all prompts'}", scorer) for task, scorer in sorted(table.scorers.items())),
        ("space", table.space.digest),
        ("policy trained on engine", "" if policy is None else _other_engine(table, policy)),
        ("versions", ", ".join(versions)),
        ("machine", f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"),
    ]
    return [(name, value) for name, value in rows if value]


def _other_engine(table: SweepTable, policy: Policy) -> str:
    """The policy's engine where it is not the table's; else empty."""
    known = policy.fingerprint
    return "" if not known or known == dict(table.fingerprint) else str(known)
