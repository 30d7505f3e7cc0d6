"""The texts of the demo, for a terminal 100 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy._text import TextTable, format_duration, shorten
from hagpolicy.analysis.effects import effects as measure_effects
from hagpolicy.analysis.headroom import Headroom
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.table import SweepTable
from hagpolicy.engines.base import Engine
from hagpolicy.policy.policy import Policy
from hagpolicy.reporting.rows import tabulate_rewards
from hagpolicy.reporting.text import describe_config
from hagpolicy.results import STANDING, format_gain

WIDTH = 100
LABEL = 50  # a table's longest config; the report has all of it


def format_opening(out: Path) -> str:
    """What is going to happen."""
    return _wrap(
        "hagpolicy demo: which decoding settings should a small LLM use, and does it pay to choose them per prompt? "
        f"Everything is written below {out}/.",
        "",
    )


def format_engine(engine: Engine, seconds: float) -> str:
    """The engine and its default."""
    default = describe_config(engine.default_config())
    return f"\n1  Engine\n   {engine.name}, loaded in {format_duration(seconds)}; its default: {default}"


def format_plan(prompts: Sequence[Prompt], space: DecodingSpace, engine: Engine, samples: int, max_tokens: int) -> str:
    """How much there is to generate at most."""
    every, _ = space.with_config(engine.default_config())
    deterministic = int(every.deterministic.sum())
    cells = len(prompts) * (deterministic + samples * (len(every) - deterministic))
    kinds = len({prompt.task for prompt in prompts})
    return (
        f"\n2  Sweep\n   {len(prompts)} prompts of {kinds} kinds × {len(every)} configurations: {cells:,} answers, "
        f"at most {cells * max_tokens:,} new tokens;\n   answers that are stored already are not generated again"
    )


def format_sweep(table: SweepTable, found: Headroom, seconds: float) -> str:
    """Mean rewards by configuration and kind."""
    grid = tabulate_rewards(table, found.sbs_index, measure_effects(table))
    rows = [
        (
            _mark_letters(row.marks),
            shorten(row.config, LABEL),
            *(shown.partition(" ")[0] + ("*" if best else " ") for shown, _, best in row.cells),
        )
        for row in grid.rows
    ]
    head = ("", "", *(f"{name} " for name, _ in grid.columns))
    means = TextTable(head, rows, "<<" + ">" * len(grid.columns))
    failed = sum(table.failures.values())
    spent = "" if table.tokens is None else f", {int(np.nansum(table.tokens)):,} new tokens"
    counts = f"{int(table.counts.sum()):,} answers scored, {failed} failed{spent}"
    return "\n".join(
        [
            f"   done in {format_duration(seconds)}: {counts}",
            "\n   mean reward, 0 to 1 (S single best, D the engine's default, * proven best of its column)",
            means.to_text("   "),
        ]
    )


def format_headroom(found: Headroom) -> str:
    """Is there anything to win?"""
    gains = [row for row in found.format_rows() if row.gain is not None]
    rows = [(row.label, f"{row.gain:+}  {row.note * (row.kind == 'biased')}".rstrip()) for row in gains]
    if found.detectable == found.detectable:
        rows.append(("a gain that this sweep could prove", f"{found.detectable:.3f}"))
    warnings = [_wrap(f"warning: {warning}") for warning in found.warnings]
    return "\n".join(["\n3  Is there anything to win?", TextTable(("", ""), rows).to_text("   "), *warnings])


def format_fit(policy: Policy, seconds: float) -> str:
    """The comparison and what the gate decided."""
    evaluation = policy.evaluation
    assert evaluation is not None  # `fit` always evaluates
    rows = [
        (row.label, f"{row.value.value:.3f}" if row.value else "", format_gain(row.gain), row.note_beside_label)
        for row in evaluation.format_rows()
    ]
    table = TextTable(("", evaluation.objective, "gain over SBS [95 %]", ""), rows, "<><<")
    head = f"\n4  Fit and honest evaluation ({format_duration(seconds)})"
    return "\n".join([head, table.to_text("   "), _wrap(format_verdict(policy))])


def format_choices(table: SweepTable, policy: Policy) -> str:
    """What the policy chooses for most prompts of each kind."""
    chosen = np.array([table.space.index(config) for config in policy.predict_batch(list(table.prompts))])
    rows = []
    for task in dict.fromkeys(table.tasks):
        mine = np.flatnonzero(np.asarray(table.tasks) == task)
        counts = np.bincount(chosen[mine], minlength=len(table.space))
        most = int(counts.argmax())
        config = shorten(describe_config(table.space[most]), WIDTH - 40)
        rows.append((task, f"{counts[most]} of {len(mine)}", config))
    return "\n   what it chooses\n" + TextTable(("kind", "prompts", "most often"), rows, "<><").to_text("   ")


def format_verdict(policy: Policy) -> str:
    """What ships, in one or two sentences."""
    evaluation = policy.evaluation
    candidate = evaluation.candidate if evaluation is not None else None
    stands = STANDING[candidate.over if candidate is not None else "single_best"]
    if candidate is None or not candidate.found:
        return f"Nothing per prompt beat {stands}: it ships for every prompt."
    gain = format_gain(candidate.gain)
    if candidate.shipped:
        return f"Proven: the policy ({candidate.name}) ships and gains {gain} over {stands}."
    return f"Not proven: choosing per prompt ({candidate.name}) gains {gain}, so {stands} ships for every prompt."


def format_answers(rows: Sequence[Mapping[str, Any]]) -> str:
    """New prompts with their answers side by side."""
    lines = [f"\n5  {len(rows)} new prompts, each answer with its reward"]
    label = max(len(", ".join(choice["who"])) for row in rows for choice in row["choices"])
    for row in rows:
        lines.append("\n" + _wrap(f"[{row['task']}] {_join_lines(row['prompt'])}", "   "))
        for choice in row["choices"]:
            who = ", ".join(choice["who"])
            reward = "  – " if choice["reward"] is None else f"{choice['reward']:.2f}"
            text = _join_lines(choice["text"]) or "(no text)"
            config = describe_config(DecodingConfig.from_dict(choice["config"]))
            lines.append(_wrap(config, f"   {who:{label}}  ", hanging_indent=" " * (label + 5)))
            lines.append(_wrap(f"{reward}  {text}", " " * (label + 5), hanging_indent=" " * (label + 11)))
    if any("not proven" in choice["who"] for row in rows for choice in row["choices"]):
        lines.append(
            "\n" + _wrap("“not proven” is what the held-back candidate would choose; the policy does not use it.")
        )
    return "\n".join(lines)


def format_closing(out: Path, seconds: Mapping[str, float]) -> str:
    """Where everything is, and what to type next."""
    files = [
        ("cells and answers", f"{out / 'sweep'}/, {out / 'answers'}/  (Parquet, with the texts)"),
        ("report", f"{out / 'report.html'}  (open it in a browser)"),
        ("policy", f"{out / 'policy'}/  (ONNX)"),
        ("figures", str(out / "outcome.json")),
    ]
    following = [
        "# what it chooses for a prompt, as a request for a server",
        f'hagpolicy predict {out / "policy"} "What is 17 * 23?" --engine vllm',
        "# your own file, one line a prompt, such as",
        '# {"prompt": "What is the capital of Spain?", "reference": ["Madrid"], "task": "facts"}',
        "hagpolicy sweep --engine smollm2 --prompts mine.jsonl --scorer contains_all --out mine --dry-run",
        "# without --dry-run it runs; then",
        "hagpolicy fit mine --out my-policy",
    ]
    return "\n".join(
        [
            f"\nDone in {format_duration(sum(seconds.values()))}.",
            TextTable(("", ""), files).to_text("   "),
            "next:",
            *(f"   {line}" for line in following),
        ]
    )


def format_serving(policy: Policy, server: str, proxy: str, seconds: float) -> str:
    """What serves, and what the policy in front of it is."""
    if policy.ships == "per_prompt":
        what = "The policy chooses per prompt."
    else:
        stands = describe_config(policy.reference)
        what = f"No choice per prompt was proven, so the policy gives every prompt {STANDING[policy.ships]}: {stands}."
    where = f"transformers serve at {server}, hagpolicy serve at {proxy}, ready after {format_duration(seconds)}."
    return "\n".join(["\n6  Served", _wrap(f"{where} {what}")])


def format_served(rows: Sequence[Mapping[str, Any]]) -> str:
    """Answers of the server, and what each response says of what the policy did."""
    lines = []
    for row in rows:
        lines.append("\n" + _wrap(f"[{row['task']}] {_join_lines(row['prompt'])}", "   "))
        lines.append(_wrap(_join_lines(row["text"]) or "(no text)", " " * 6, hanging_indent=" " * 6))
        for name, value in sorted(row["receipt"].items()):
            lines.append(" " * 6 + shorten(f"{name}: {value}", WIDTH - 6))
    return "\n".join(lines)


def format_serving_end(out: Path, seconds: float) -> str:
    """That all has ended, and what to type for a server of one's own."""
    lines = [
        f"\nDone in {format_duration(seconds)}; both servers have ended. For a server of your own:",
        f"   hagpolicy serve --policy {out / 'policy'} --upstream http://127.0.0.1:8000",
    ]
    return "\n".join(lines)


def _mark_letters(marks: Sequence[str]) -> str:
    return ("S" if "SBS" in marks else "") + ("D" if "engine's default" in marks else "")


def _join_lines(text: str) -> str:
    """Line breaks as signs; what an LLM wrote must not steer the terminal."""
    lines = (part.strip() for part in text.strip().splitlines())
    return " ↵ ".join("".join(c if c.isprintable() else "�" for c in line) for line in lines if line)


def _wrap(text: str, indent: str = "   ", hanging_indent: str | None = None) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent if hanging_indent is None else hanging_indent
    )
