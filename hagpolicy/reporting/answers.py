"""Answers of a table to look at: which prompts are worth a look, and what was answered under each config."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hagpolicy._text import format_count, shorten
from hagpolicy.data.loops import is_looping
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.table import SweepTable, average_known
from hagpolicy.data.texts import CellAnswer
from hagpolicy.errors import InvalidInput
from hagpolicy.reporting.text import describe_config

# Characters of a prompt, and of an answer, on one line.
_PROMPT_CHARS, _ANSWER_CHARS = 300, 160


@dataclass(frozen=True)
class ShownAnswer:
    """One answer beside what it was worth.

    Attributes:
        config: number of the config in the space.
        sample: number of the sample, from 0.
        label: the config in plain words.
        reward: in [0, 1]; None where there is none.
        text: as it was generated; None where the cell is not generated.
        finish: "stop", "length" or "error"; "" where the cell is not generated.
        reason: why there is no reward; "" where there is one.
        looping: it ends in a loop (`data.loops.is_looping`).
    """

    config: int
    sample: int
    label: str
    reward: float | None
    text: str | None
    finish: str
    reason: str
    looping: bool

    @property
    def note(self) -> str:
        """What is noteworthy of it, in a few words; "" for nothing."""
        words = {"length": "cut at the limit", "error": "failed"}.get(self.finish, "")
        return ", ".join(filter(None, ("ends in a loop" if self.looping else "", words, self.reason)))


@dataclass(frozen=True)
class ShownPrompt:
    """A prompt with its answers.

    Attributes:
        number: in the table, from 0.
        prompt: the prompt.
        why: it was picked, in a word such as "worst"; "" where it was asked for.
        answers: in the order of the space.
    """

    number: int
    prompt: Prompt
    why: str
    answers: tuple[ShownAnswer, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        return {
            "number": self.number,
            "why": self.why,
            **self.prompt.to_dict(),
            "answers": [answer.__dict__ for answer in self.answers],
        }

    def __str__(self) -> str:
        names = [f"prompt {self.number}", self.prompt.id and f"id {self.prompt.id}", self.prompt.task, self.why]
        head = " · ".join(filter(None, names))
        lines = [f"{head}\n  {_one_line(self.prompt.text, _PROMPT_CHARS)}"]
        if self.prompt.reference is not None:
            lines.append(f"  reference: {_one_line(str(self.prompt.reference), _ANSWER_CHARS)}")
        for answer in self.answers:
            reward = "   –" if answer.reward is None else f"{answer.reward:4.2f}"
            note = f"  ({answer.note})" if answer.note else ""
            lines.append(f"  {reward}  {answer.label}{note}")
            if answer.text is not None:
                lines.append(f"        {_one_line(answer.text, _ANSWER_CHARS)}")
        return "\n".join(lines)


def show_answers(
    table: SweepTable,
    picked: Iterable[tuple[int, str]],
    configs: Sequence[int] | None = None,
    samples: int | None = 1,
) -> list[ShownPrompt]:
    """Prompts with their answers, read at once.

    Args:
        table: of a sweep folder.
        picked: numbers of prompts, each with why it was picked, such as from `pick_prompts`.
        configs: numbers of the configs to show; None: all.
        samples: so many of each config, the first ones; None: all.

    Raises:
        InvalidInput: the table holds no answers.
    """
    if table.texts is None:
        raise InvalidInput("table", "one whose answers are stored", "one made elsewhere", "Give a sweep's folder.")
    chosen = list(picked)
    columns = list(range(len(table.space))) if configs is None else list(configs)
    most = table.rewards.shape[2] if samples is None else samples
    rows = np.array([number for number, _ in chosen], dtype=np.int64)
    depth = np.arange(min(most, table.rewards.shape[2]))
    found = table.texts.read(np.ix_(rows, np.array(columns, dtype=np.int64), depth))
    shown = []
    for (number, why), answers in zip(chosen, found, strict=True):
        mine = []
        for j, row in zip(columns, answers, strict=True):
            for sample, answer in enumerate(row):
                if answer is None and sample:
                    continue  # a deterministic config is drawn once
                reward = float(table.rewards[number, j, sample])
                several = len(row) > 1 and not table.space[j].deterministic
                label = describe_config(table.space[j]) + (f", sample {sample}" if several else "")
                label += " (the default)" if j == table.default else ""
                known = CellAnswer("", "", reason="not generated") if answer is None else answer
                mine.append(
                    ShownAnswer(
                        config=j,
                        sample=sample,
                        label=label,
                        reward=None if reward != reward else reward,
                        text=None if answer is None else answer.text,
                        finish=known.finish,
                        reason=known.reason,
                        looping=is_looping(known.text),
                    )
                )
        shown.append(ShownPrompt(number, table.prompts[number], why, tuple(mine)))
    return shown


def measure_disagreement(table: SweepTable) -> np.ndarray:
    """float64 (n_prompts,): variance between the configs' mean rewards of a prompt, less what the scatter of samples
    within a cell makes of it; -inf where fewer than two configs are scored.

    The within-cell variance over the number of samples is what a mean scatters by (one-way analysis of variance).
    Cells of one sample are taken to scatter as the others of the table do.
    """
    counts, means = table.counts, table.means
    centred = np.where(np.isnan(table.rewards), 0.0, table.rewards - means[:, :, None])
    within = (centred**2).sum(axis=2)
    free = np.maximum(counts - 1, 0)
    sampled = ~table.space.deterministic
    usual = within[:, sampled].sum() / max(int(free[:, sampled].sum()), 1)
    own = np.where(free > 0, within / np.maximum(free, 1), np.where(sampled, usual, 0.0))
    noise = average_known(np.where(counts > 0, own / np.maximum(counts, 1), np.nan))
    centre = average_known(means)
    between = average_known((means - centre[:, None]) ** 2) * len(table.space) / max(len(table.space) - 1, 1)
    enough = (counts > 0).sum(axis=1) > 1
    return np.where(enough, between - noise, -np.inf)


_ORDERS: dict[str, Callable[[SweepTable], np.ndarray]] = {
    "worst": lambda table: -average_known(table.means),
    "best": lambda table: average_known(table.means),
    "disagreeing": measure_disagreement,
}
KINDS = tuple(_ORDERS)
"""What prompts are picked by: the lowest or highest mean reward, or configs that differ most beyond noise."""


def pick_prompts(table: SweepTable, kind: str, count: int, rows: np.ndarray | None = None) -> list[tuple[int, str]]:
    """Numbers of the prompts that come first by a kind of `KINDS`, each with that word; those without any scored
    answer are never picked.

    Args:
        table: the rewards.
        kind: "worst", "best" or "disagreeing".
        count: so many at most.
        rows: bool (n_prompts,), among which; None: all.
    """
    order = _ORDERS[kind](table)
    known = np.isfinite(order) if rows is None else np.isfinite(order) & rows
    ranked = np.flatnonzero(known)[np.argsort(-order[known], kind="stable")]
    return [(int(number), kind) for number in ranked[:count]]


def find_prompts(table: SweepTable, wanted: str) -> list[tuple[int, str]]:
    """Numbers of the prompts that a user means: by id, by number, or whose text holds the words, in any case.

    Raises:
        InvalidInput: there is none.
    """
    named = [number for number, prompt in enumerate(table.prompts) if prompt.id == wanted]
    if not named and wanted.isascii() and wanted.isdigit() and int(wanted) < len(table.prompts):
        named = [int(wanted)]
    if not named:
        words = wanted.casefold()
        named = [number for number, prompt in enumerate(table.prompts) if words in prompt.text.casefold()]
    if not named:
        expected = f"an id, a number below {len(table.prompts)}, or words of a prompt"
        raise InvalidInput("prompt", expected, wanted)
    return [(number, "") for number in named]


def find_configs(table: SweepTable, wanted: str) -> list[int]:
    """Numbers of the configs that a user means: by number, "default", or words of their description.

    Raises:
        InvalidInput: there is none.
    """
    if wanted == "default" and table.default is not None:
        return [table.default]
    if wanted.isascii() and wanted.isdigit() and int(wanted) < len(table.space):
        return [int(wanted)]
    texts = [f"{config} {describe_config(config)}".casefold() for config in table.space]
    found = [number for number, text in enumerate(texts) if wanted.casefold() in text]
    if not found:
        listed = "; ".join(f"{number}: {config}" for number, config in enumerate(table.space))
        raise InvalidInput("config", "a number, 'default' or words of a configuration", wanted, f"There are {listed}.")
    return found


def summarise_endings(table: SweepTable) -> list[dict[str, Any]]:
    """For each config: share of the answers that were cut at the limit, that end in a loop, and that are empty.

    Answers that failed count for none of them. Empty where the table holds no answers.
    """
    if table.texts is None:
        return []
    counts = np.zeros((4, len(table.space)), dtype=np.int64)
    for part in table.texts.scan():
        for j, text, finish in zip(part.configs.tolist(), part.texts, part.finishes, strict=True):
            if finish != "error":
                counts[:, j] += (1, finish == "length", is_looping(text), not text.strip())
    of = np.maximum(counts[0], 1)
    return [
        {
            "config": describe_config(config),
            "answers": int(counts[0, j]),
            "cut": float(counts[1, j] / of[j]),
            "looping": float(counts[2, j] / of[j]),
            "empty": float(counts[3, j] / of[j]),
        }
        for j, config in enumerate(table.space)
    ]


def _one_line(text: str, limit: int) -> str:
    """The text on one line, with how much of it is left out."""
    line = " ".join(text.split()) or "(empty)"
    cut = len(line) - limit
    return line if cut <= 0 else f"{shorten(line, limit)} (and {format_count(cut, 'character')} more)"
