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
from hagpolicy.analysis.effects import Effects
from hagpolicy.analysis.headroom import Headroom
from hagpolicy.data.table import SweepTable, average_known
from hagpolicy.reporting.plots import Line
from hagpolicy.reporting.text import describe_config, format_signed
from hagpolicy.results import Estimate, Evaluation, FormattedRow

if TYPE_CHECKING:
    from hagpolicy.policy.policy import Policy

_PACKAGES = ("hagpolicy", "numpy", "onnxruntime", "tokenizers", "scikit-learn", "lightgbm", "torch", "transformers")
N_EXAMPLES = 8
N_EXPLAINED = 3


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


def tabulate_rewards(table: SweepTable, sbs: int, found: Effects) -> Grid:
    """Mean reward of every config, overall and by task, with half the width of its interval, the best on average first.

    Args:
        table: the sweep.
        sbs: index of the single best config.
        found: effects of the table; the best of a column is the one that is proven better than every other one.
    """
    kept = keep_comparable(table)
    masks = mask_columns(kept.tasks)
    grid = {(cell.config, cell.task): cell for cell in found.grid}
    columns = [[grid[j, task] for j in range(len(kept.space))] for task in ("", *found.tasks)]
    means = np.array([[cell.value.value for cell in column] for column in columns]).T  # (n_configs, n_columns)
    low, high = means.min(axis=0), means.max(axis=0)
    strength = (means - low) / np.where(high > low, high - low, 1.0)
    rows = []
    for j in np.argsort(-means[:, 0], kind="stable").tolist():
        cells = tuple(
            (
                f"{column[j].value.value:.2f} ±{(column[j].value.high - column[j].value.low) / 2.0:.2f}",
                float(strength[j, k]),
                column[j].best,
            )
            for k, column in enumerate(columns)
        )
        rows.append(_build_row(kept, j, sbs, cells))
    return Grid(tuple((name, int(mask.sum())) for name, mask in masks), tuple(rows))


def make_effect_lines(found: Effects) -> dict[str, list[Line]]:
    """Rows of a plot of the effects on all prompts, by what they are measured in; what is marked stands out."""
    names = {"reward": "difference in reward", "tokens": "difference in new tokens", "loops": "difference in loops"}
    lines: dict[str, list[Line]] = {}
    for effect in found.effects:
        if not effect.task:
            line = Line(effect.setting, effect.estimate, "strong" if effect.marked else "")
            lines.setdefault(names[effect.measure], []).append(line)
    return lines


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


def describe_trained(policy: Policy, table: SweepTable) -> str:
    """How many of the table's prompts the policy was trained on, as a sentence."""
    count, total = int(policy.trained_on(table.prompts).sum()), len(table.prompts)
    some = "these prompts" if count == total else f"{count or 'none'} of these {total} prompts"
    return f"The policy was trained on {some}."


def list_departures(policy: Policy, table: SweepTable, choices: np.ndarray, reference: int) -> list[dict[str, Any]]:
    """The prompts whose config promises most over the reference, with that promise; at most `N_EXAMPLES`, one a
    text."""
    found, advantage = _rank_departures(policy, table, choices, reference)
    return [
        {
            "text": table.prompts[i].text,
            "task": table.prompts[i].task,
            "config": describe_config(table.space[int(choices[i])]),
            "advantage": format_signed(advantage[i], 2),
        }
        for i in found[:N_EXAMPLES]
    ]


def _rank_departures(
    policy: Policy, table: SweepTable, choices: np.ndarray, reference: int
) -> tuple[list[int], np.ndarray]:
    """Numbers of the prompts that do not get the reference, those that promise most over it first, and what every
    prompt's config promises over it, float64 (n_prompts,)."""
    values = np.asarray(policy.values(list(table.prompts)), dtype=np.float64)
    advantage = values[np.arange(len(values)), choices] - values[:, reference]
    return [i for i in np.argsort(-advantage, kind="stable").tolist() if choices[i] != reference], advantage


def explain_departures(policy: Policy, table: SweepTable, choices: np.ndarray) -> list[dict[str, Any]]:
    """Why the prompts that gain most by the policy's prediction get their configs; at most `N_EXPLAINED`.

    Args:
        policy: that holds its training prompts.
        table: of the prompts.
        choices: int64 (n_prompts,), its own.
    """
    reference = policy.reference_index
    order, advantage = _rank_departures(policy, table, choices, reference)
    found = []
    for number in order[:N_EXPLAINED]:
        prompt = table.prompts[number]
        # The nearest is the prompt itself, where it was trained on.
        why = policy.explain(prompt, neighbours=N_EXPLAINED)
        chosen = int(choices[number])
        found.append(
            {
                "id": str(number) if prompt.id is None else prompt.id,
                "config": describe_config(table.space[chosen]),
                "advantage": format_signed(float(advantage[number])),
                "achieved": why.achieved,
                "moved": [(one.part, format_signed(-one.fall)) for one in why.moved],
                "neighbours": [
                    (one.id, f"{one.distance:.2f}", f"{one.values[chosen]:.3f}", f"{one.values[reference]:.3f}")
                    for one in why.neighbours
                ],
            }
        )
    return found


def make_lines(rows: Sequence[FormattedRow]) -> list[Line]:
    """Rows of a plot: the gains, or the values of rows without a gain. What is biased says so.

    What gains are compared with has none itself: give it one of zero by `add_reference`.
    """
    estimates = [(row, row.gain or row.value) for row in rows]
    return [
        Line(
            row.label + ": biased" * (row.kind == "biased") + ": unreliable" * (not estimate.reliable),
            estimate,
            row.kind,
        )
        for row, estimate in estimates
        if estimate is not None
    ]


def add_reference(rows: Sequence[FormattedRow]) -> list[FormattedRow]:
    """The rows with a gain of exactly zero where there is none: of what the others are compared with."""
    return [row if row.gain is not None else replace(row, gain=Estimate(0.0, 0.0, 0.0)) for row in rows]


_SHIPS = {"default": "the default", "single_best": "single best", "per_prompt": "per-prompt policy"}


def tabulate_dial(policy: Policy) -> list[dict[str, Any]]:
    """What the gate decided at each point of the dial; empty where there is nothing to turn."""
    points = policy.dial.points if policy.dial.argument else ()
    rows = []
    for point, evaluation in zip(points, policy.evaluations, strict=False):
        rule = policy.dial.get_rule(point)
        candidate = evaluation.candidate if evaluation is not None else None
        rows.append(
            {
                "name": point.name,
                "best": describe_config(policy.space[rule.sbs]),
                "reference": describe_config(policy.space[rule.reference]),
                "gain": None if candidate is None else candidate.gain,
                "ships": _SHIPS[point.ships],
            }
        )
    return rows


def tabulate_costs(table: SweepTable) -> list[dict[str, Any]]:
    """New tokens and seconds of an answer by config, the most expensive first; empty where neither is known.

    Those of a config are "unknown" where a scored answer of it has none.
    """
    columns = {name: _means(getattr(table, name), table.rewards) for name in ("tokens", "seconds")}
    known = columns["tokens"] if columns["tokens"] is not None else columns["seconds"]
    if known is None:
        return []
    rows = []
    for j in np.argsort(-known, kind="stable").tolist():
        row: dict[str, Any] = {"config": describe_config(table.space[j])}
        for name, values in columns.items():
            if values is not None and np.isnan(values[j]):
                row |= {name: "unknown", f"{name}_share": 0.0}
            elif values is not None:
                row[name] = f"{values[j]:.1f}" if name == "tokens" else f"{values[j]:.2f}"
                row[f"{name}_share"] = float(values[j] / max(float(np.nanmax(values)), 1e-12))
        rows.append(row)
    return rows


def _means(values: np.ndarray | None, rewards: np.ndarray) -> np.ndarray | None:
    """float64 (n_configs,): mean over prompts and samples, NaN where a scored one lacks it; None where all do."""
    if values is None or np.isnan(values).all():
        return None
    means = average_known(np.asarray(values, dtype=np.float64).transpose(1, 0, 2).reshape(values.shape[1], -1))
    means = np.where((np.isnan(values) & ~np.isnan(rewards)).any(axis=(0, 2)), np.nan, means)
    return None if np.isnan(means).all() else means


def list_left_out(table: SweepTable, found: Headroom) -> list[str]:
    """A sentence on each kind of cells, samples and prompts that no figure is made of, with the reason."""
    sentences = [f"{count} cells were not scored: {reason}" for reason, count in sorted(table.failures.items())]
    deterministic = table.space.deterministic
    drawn = table.counts[:, ~deterministic]
    missing = int((drawn < drawn.max()).sum()) if drawn.size else 0
    uncounted = 0 if table.tokens is None else int((np.isnan(table.tokens) & ~np.isnan(table.rewards)).sum())
    if uncounted:
        sentences.append(f"the new tokens of {uncounted} scored answers are unknown: they were not counted")
    if missing:
        sentences.append(f"{missing} pairs of prompt and configuration have fewer samples than the others")
    if found.n_left_out:
        sentences.append(
            f"{found.n_left_out} prompts are left out of every comparison: a configuration has no scored sample"
        )
    return sentences


def merge_warnings(found: Headroom, evaluation: Evaluation | None) -> Sequence[str]:
    """Every warning once: of one that another one begins with, the longer one."""
    every = dict.fromkeys([*found.warnings, *(evaluation.warnings if evaluation else ())])
    return [warning for warning in every if not any(other != warning and other.startswith(warning) for other in every)]


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
