"""`predict` on many prompts: those of files or of stdin, decided in batches."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import hagpolicy as hag
from hagpolicy._text import TextTable, format_count, shorten
from hagpolicy.cli.exit_codes import DONE, PARTLY
from hagpolicy.cli.options import parse_fixed, parse_map, read_prompts
from hagpolicy.cli.streams import read_stdin_rows, write, write_error
from hagpolicy.data.prompts import collect_prompts
from hagpolicy.errors import InvalidInput
from hagpolicy.reporting.text import describe_config, format_signed

# Decided together: some ten milliseconds, so that a reader sees lines at once.
BATCH = 1024
# Characters of a prompt that a row of the table shows.
_SHOWN = 40


def predict_many(policy: hag.Policy, arguments: Namespace) -> int:
    """Decide the prompts of `--prompts` in their order and print a line for each; returns the exit code."""
    if arguments.engine and not arguments.json:
        raise InvalidInput("--engine", "--json beside --prompts, which shows the calls", "a table", "Add --json.")
    prompts = _read(arguments)
    reasons: Counter[str] = Counter()
    rows: list[tuple[str, ...]] = []
    for number, prompt, decision in _decide(policy, prompts, arguments):
        reasons[decision.reason] += 1
        if arguments.json:
            name = {} if prompt.id is None else {"id": prompt.id}
            rendering = None
            if arguments.engine:
                rendering = decision.render(arguments.engine, unsupported=arguments.unsupported)
            write(json.dumps({**name, **decision_to_json(decision, rendering)}, ensure_ascii=False))
        else:
            rows.append(_describe(str(number) if prompt.id is None else prompt.id, prompt, decision))
    if rows:
        table = TextTable(("prompt", "", "gain", "reason", "configuration"), rows)
        write(f"{table.to_text()}\n{_count(reasons)}")
    return PARTLY if reasons["no_config_agrees"] else DONE


def decision_to_json(decision: hag.Decision, rendering: hag.Rendering | None) -> dict[str, Any]:
    """What `--json` prints of a decision, with the call that it makes where that was asked for."""
    values = decision.to_dict()
    if rendering is not None:
        values |= {name: getattr(rendering, name) for name in ("engine", "prompt", "kwargs")}
        values["receipt"] = {name: getattr(rendering.receipt, name) for name in ("applied", "dropped", "clamped")}
        # Settings that no keyword expresses (a penalty in transformers) need these processors as well.
        values["processors"] = rendering.processor_settings
    return values


def _read(arguments: Namespace) -> tuple[hag.Prompt, ...]:
    if "-" not in arguments.prompts:
        return read_prompts(arguments)
    if len(arguments.prompts) > 1:
        raise InvalidInput("--prompts", "files, or - alone", " ".join(arguments.prompts))
    return collect_prompts(read_stdin_rows(), keys=parse_map(arguments.map), limit=arguments.limit)


def _decide(
    policy: hag.Policy, prompts: Sequence[hag.Prompt], arguments: Namespace
) -> Iterator[tuple[int, hag.Prompt, hag.Decision]]:
    """Number, prompt and decision of each prompt. A task that a file names and the policy does not know is none."""
    fixed, dial = parse_fixed(arguments.fixed), {"price": arguments.price, "n": arguments.n}
    known = set(policy.manifest.tasks)
    unknown = sorted({prompt.task for prompt in prompts} - known - {""})
    if unknown and known and arguments.task is None:
        write_error(f"tasks that this policy does not know are read as none: {', '.join(unknown)}")
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        own = [prompt.task if prompt.task in known else None for prompt in part]
        tasks = own if arguments.task is None else arguments.task
        found = policy.decide_batch(part, fixed, **dial, task=tasks)
        yield from zip(range(start + 1, start + 1 + len(part)), part, found, strict=True)


def _describe(name: str, prompt: hag.Prompt, decision: hag.Decision) -> tuple[str, ...]:
    """The cells of a prompt's row."""
    text = shorten(" ".join(prompt.text.split()), _SHOWN)
    gain = "" if decision.advantage is None else format_signed(decision.advantage)
    return name, text, gain, decision.reason, describe_config(decision.config)


def _count(reasons: Counter[str]) -> str:
    """How many prompts were decided, and why."""
    said = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    return f"{format_count(reasons.total(), 'prompt')}: {said}"
