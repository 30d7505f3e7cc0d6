"""Results as values with names: the same in Python, in JSON and in a report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from hagpolicy._extras import require_pandas
from hagpolicy._text import TextTable, format_count

ROW_LABELS = {
    "engine_default": "engine's default",
    "random": "random configuration",
    "sbs": "single best configuration (SBS)",
    "best_per_task": "best configuration of each task",
    "nearest": "best of the nearest prompts",
    "policy": "policy, as it ships",
    "split_vbs": "oracle, split samples",
    "naive_vbs": "oracle, same samples",
}
"""Rows of a comparison in plain words; a learner or baseline without a label keeps its own name."""
_KINDS = {"policy": "strong", "sbs": "strong", "naive_vbs": "biased"}


Standing = Literal["default", "single_best"]
"""What stands where nothing per prompt is proven: what runs today, or the single best config."""
Ships = Literal["default", "single_best", "per_prompt"]
"""What the gate's two steps let ship: one of those, or a policy that chooses per prompt."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval.

    Attributes:
        value: the estimate.
        low: lower end of the interval.
        high: upper end.
        reliable: False: of differences in so few independent groups that the interval covers less often than it says
            (`analysis.rule.MIN_DEPARTING`); wherever it is shown it says so.
    """

    value: float
    low: float
    high: float
    reliable: bool = True

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Estimate:
        """What `to_json` wrote."""
        return cls(values["value"], values["low"], values["high"], bool(values.get("reliable", True)))

    @property
    def mark(self) -> str:
        """ " (unreliable)" where the interval is; else ""."""
        return "" if self.reliable else " (unreliable)"

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]{self.mark}"

    def __format__(self, spec: str) -> str:
        """`"+"` shows signs: for differences."""
        if spec != "+":
            return format(str(self), spec)
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]{self.mark}"


@dataclass(frozen=True)
class FormattedRow:
    """One row of results as every output shows it: text, policy card, HTML report, demo and benchmarks.

    Each output chooses columns and how an interval is written; names, labels, notes and what is left blank are here.

    Attributes:
        name: of the row or attribute that it shows.
        label: the name in plain words.
        value: mean of what is maximised; None for a row that is a difference only.
        gain: difference to what the row is compared with; None for that itself and for a row that is a value only.
        note: in plain words.
        over_default: difference to the engine's default; None where unknown.
        gap_closed: share of the gap that is closed, such as "45%"; "" where it is not known.
        cost: of an answer, with three digits; "" where it is not known.
        kind: "strong" (what ships, and the reference), "biased" (nobody should expect it) or "".
    """

    name: str
    label: str
    value: Estimate | None = None
    gain: Estimate | None = None
    note: str = ""
    over_default: Estimate | None = None
    gap_closed: str = ""
    cost: str = ""
    kind: str = ""

    @property
    def note_beside_label(self) -> str:
        """The note, unless the label says it already."""
        return "" if self.note in self.label else self.note


def format_gain(gain: Estimate | None) -> str:
    """A difference with signs and its interval; a dash for None."""
    return "–" if gain is None else f"{gain:+}"


@dataclass(frozen=True)
class EvaluationRow:
    """One row of the comparison: mean value and paired gain over SBS, each with its 95 % interval.

    Attributes:
        name: of the line.
        value: mean of what is maximised.
        low: lower end of its interval.
        high: upper end.
        gain: paired difference to SBS.
        gain_low: lower end of its interval.
        gain_high: upper end.
        gap_closed: share of the gap between SBS and the split-sample VBS; None where that gap is not proven.
        note: in plain words.
        cost: mean new tokens (or seconds, where the objective prices them) of an answer by this line's
            choices; None where unknown.
        over_default: paired difference to the engine's default; None where that is not in the table.
        reliable: of the gain's interval, see `Estimate`.
    """

    name: str
    value: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float
    gap_closed: float | None
    note: str = ""
    cost: float | None = None
    over_default: Estimate | None = None
    reliable: bool = True

    @property
    def gain_estimate(self) -> Estimate:
        """The paired gain over SBS with its interval."""
        return Estimate(self.gain, self.gain_low, self.gain_high, self.reliable)

    def format(self) -> FormattedRow:
        """The row as it is shown; SBS has no gain over itself."""
        return FormattedRow(
            self.name,
            ROW_LABELS.get(self.name, self.name),
            Estimate(self.value, self.low, self.high),
            None if self.name == "sbs" else self.gain_estimate,
            self.note,
            self.over_default,
            "" if self.gap_closed is None else f"{self.gap_closed:.0%}",
            "" if self.cost is None else f"{self.cost:.3g}",
            _KINDS.get(self.name, ""),
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EvaluationRow:
        """What `to_json` wrote."""
        over = values.get("over_default")
        return cls(**{**values, "over_default": over and Estimate.from_json(over)})


@dataclass(frozen=True, eq=False)
class PromptValues:
    """What each row of a comparison was worth on each prompt.

    Attributes:
        prompts: digests of the prompts (`Prompt.digest`), in the table's order.
        values: float64 (n_prompts,) by the row's name, in the order of the rows: what is maximised, by its choices. In
            a fit these are of prompts that the choice was not learned on, averaged over the foldings; SBS is what
            draws without the prompt choose. Their mean is not corrected for choosing among candidates, as the value of
            a learner's row is.
    """

    prompts: tuple[str, ...]
    values: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.prompts)

    def to_frame(self) -> Any:
        """A pandas frame with a row a prompt: `prompt` (its digest) and a column for each row of the comparison.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return require_pandas().DataFrame({"prompt": list(self.prompts), **self.values})


@dataclass(frozen=True)
class Candidate:
    """The best per-prompt policy that was found, before the gate.

    Attributes:
        name: learner and encoder; "sbs" or "default" when nothing beat that reference.
        gain: bias-corrected gain over the reference.
        margin: departs from the reference only for a predicted advantage above it.
        departing_groups: groups with a prompt for which it departs from the reference, out of fold.
        shipped: it passed the gate (`analysis.rule.may_ship`).
        over: the reference, which stands unless the candidate ships: "single_best" where that is proven over what
            runs today, or where that is unknown; else "default", what runs today.
    """

    name: str
    gain: Estimate
    margin: float
    departing_groups: int
    shipped: bool
    over: Standing = "single_best"

    @property
    def found(self) -> bool:
        """True for a per-prompt policy; False where none beat the reference."""
        return self.name not in ("sbs", "default")

    @property
    def ships(self) -> Ships:
        """What ships, in the word of `Policy.ships`."""
        return "per_prompt" if self.shipped else self.over

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Candidate:
        """What `to_json` wrote."""
        return cls(**{**values, "gain": Estimate.from_json(values["gain"])})


@dataclass(frozen=True)
class Evaluation:
    """A policy compared with baselines, all on prompts that were not trained on.

    Attributes:
        rows: from the engine's default to the (biased) naive VBS.
        candidate: before the gate; None for an evaluation on another table.
        sbs_over_default: gain of the single best config over what runs today, which it replaces where the interval
            lies above 0; None without a known default.
        n_prompts: prompts compared.
        n_groups: independent groups among them.
        n_left_out: prompts left out, because they lack a config or were trained on.
        fallbacks: share of prompts unlike the training prompts, for which the reference stands.
        warnings: in plain words.
        objective: what is maximised, such as "pass@4".
        cost_unit: of the lines' costs, "tokens" or "seconds"; "" where costs are unknown.
        not_fitted: learners on encoders that a time limit left out, and of which nothing is known, each with the
            reason.
        per_prompt: what each row was worth on each prompt; None where the evaluation was read from a file, which holds
            nothing of single prompts.
    """

    rows: tuple[EvaluationRow, ...]
    candidate: Candidate | None
    sbs_over_default: Estimate | None
    n_prompts: int
    n_groups: int
    n_left_out: int = 0
    fallbacks: float = 0.0
    warnings: tuple[str, ...] = ()
    objective: str = "reward"
    cost_unit: str = ""
    not_fitted: tuple[str, ...] = ()
    per_prompt: PromptValues | None = field(default=None, compare=False, repr=False)

    def row(self, name: str) -> EvaluationRow:
        """The row of that name. Raises KeyError where there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping that `from_json` reads back, but for `per_prompt`."""
        plain = asdict(replace(self, per_prompt=None))
        del plain["per_prompt"]
        lists = {"warnings": list(self.warnings), "not_fitted": list(self.not_fitted)}
        if not self.not_fitted:  # absent as in what was written before there were time limits
            del plain["not_fitted"], lists["not_fitted"]
        return {**plain, "rows": [row.to_json() for row in self.rows], **lists}

    def to_frame(self) -> Any:
        """A pandas frame with a row for each row of the comparison, and its attributes as columns.

        The difference to the engine's default is `over_default`, `over_default_low`, `over_default_high`, NaN where
        that is not in the table. What single prompts were worth is `per_prompt.to_frame()`.

        Raises:
            MissingExtra: pandas is not installed.
        """
        pandas = require_pandas()
        rows = []
        for row in self.rows:
            over = row.over_default
            ends = (math.nan,) * 3 if over is None else (over.value, over.low, over.high)
            names = ("over_default", "over_default_low", "over_default_high")
            rows.append({**vars(row), **dict(zip(names, ends, strict=True))})
        return pandas.DataFrame(rows).astype({"gap_closed": float, "cost": float})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Evaluation:
        """What `to_json` wrote."""
        parts = dict(values)
        parts["rows"] = tuple(EvaluationRow.from_json(row) for row in values["rows"])
        parts["candidate"] = values["candidate"] and Candidate.from_json(values["candidate"])
        parts["sbs_over_default"] = values["sbs_over_default"] and Estimate.from_json(values["sbs_over_default"])
        parts["warnings"], parts["not_fitted"] = tuple(values["warnings"]), tuple(values.get("not_fitted", ()))
        return cls(**parts)

    def format_rows(self) -> list[FormattedRow]:
        """The rows as they are shown."""
        return [row.format() for row in self.rows]

    def to_table(self) -> TextTable:
        """The rows as a table of text, by name: value, gain over SBS, share of the gap closed, cost and note."""
        head = ("", f"{self.objective} [95 %]", "gain over SBS [95 %]", "gap closed", self.cost_unit, "")
        rows = [
            (row.name, str(row.value), format_gain(row.gain), row.gap_closed, row.cost, row.note)
            for row in self.format_rows()
        ]
        return TextTable(head, rows, "<<<>><")

    def __str__(self) -> str:
        lines = []
        if self.sbs_over_default is not None:
            lines.append(describe_single_best(self.sbs_over_default, self.candidate))
        if self.candidate is not None:
            lines.append(describe_candidate(self.candidate))
        lines.append(self.to_table().to_text())
        left = f", {self.n_left_out} left out" if self.n_left_out else ""
        lines.append(f"{self.n_prompts} prompts in {format_count(self.n_groups, 'independent group')}{left}")
        if self.fallbacks > 0.0:
            lines.append(f"{self.fallbacks:.0%} of the prompts are unlike the training prompts and got the reference")
        if any(row.gain is not None and not row.gain.reliable for row in self.format_rows()):
            lines.append("(unreliable): too few groups differ for the interval to hold as often as it says")
        lines += [f"not fitted, so nothing is known of it: {one}" for one in self.not_fitted]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


STANDING = {"default": "what runs today (the default)", "single_best": "the single best config"}
"""What stands where nothing per prompt is proven, in plain words, by `Candidate.over`."""


def describe_single_best(gain: Estimate, candidate: Candidate | None = None) -> str:
    """The first step in plain words: what the single best config gains over the default and, of a policy that is being
    fitted, whether it replaces it."""
    found = f"single best config over the engine's default: {gain:+}"
    if candidate is None:
        return found
    if gain == Estimate(0.0, 0.0, 0.0):
        return "the engine's default is itself the single best config"
    few = " by so few independent prompts" if gain.low > 0.0 else ""
    return f"{found}: {'proven' if candidate.over == 'single_best' else f'not proven{few}, the default stands'}"


def describe_candidate(candidate: Candidate) -> str:
    """What the gate did, in plain words."""
    stands = STANDING[candidate.over]
    if not candidate.found:
        return f"no per-prompt policy was found that beats {stands}; it ships"
    over = f"over {stands}, departing in {candidate.departing_groups} groups"
    found = f"{candidate.name}: gain {candidate.gain:+} {over}"
    if candidate.shipped:
        return f"per-prompt policy ships: {found}"
    few = ": too few groups depart" if candidate.gain.low > 0.0 else ""
    return f"nothing per prompt is proven, {stands} ships; held back{few}: {found}"
