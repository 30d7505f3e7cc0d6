"""Agreement of a judge with its user: the user's own labels against the judge's rewards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy._files import parse_json
from hagpolicy.analysis.bootstrap import GroupBootstrap, estimate_from_draws
from hagpolicy.data.completion import Completion
from hagpolicy.data.groups import number_groups
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.results import Estimate
from hagpolicy.scorers.base import Scorer
from hagpolicy.scorers.checked import score_checked

_KEYS = '"prompt" (or "messages"), "answer" and "reward" in [0, 1]'


@dataclass(frozen=True)
class Label:
    """One answer with the reward its user gives it.

    Attributes:
        prompt: with its reference where there is one.
        answer: the text that was judged.
        reward: in [0, 1]; where answers are compared with the default's: 1 better, .5 alike, 0 worse.
        default: the engine default's answer, for a judge that compares; else None.
    """

    prompt: Prompt
    answer: str
    reward: float
    default: str | None = None


Labels = str | Path | Iterable[Mapping[str, Any] | Label]


@dataclass(frozen=True)
class Agreement:
    """A scorer's rewards beside the labels of a person, each figure with its 95 % interval over prompts.

    Attributes:
        n: labels that the scorer gave a reward to.
        unscored: labels to which it gave none.
        same_side: share on the same side of .5 (a label or reward of .5 itself is a side of its own).
        difference: mean of |reward − label|.
        bias: mean of reward − label: above 0, the scorer is milder than the labels.
        correlation: Pearson's; None where the rewards or the labels are all equal.
    """

    n: int
    unscored: int
    same_side: Estimate | None
    difference: Estimate | None
    bias: Estimate | None
    correlation: Estimate | None

    def to_json(self) -> dict[str, Any]:
        """Names to values, JSON-able; estimates as mappings."""
        return {
            name: value.to_json() if isinstance(value, Estimate) else value for name, value in self.__dict__.items()
        }

    def __str__(self) -> str:
        if self.same_side is None:
            return f"none of {self.unscored} labels got a reward"
        parts = [f"{self.n} labels: on the same side of .5 in {self.same_side}", f"mean difference {self.difference}"]
        parts += [] if self.bias is None else [f"bias {self.bias:+}"]
        parts += [] if self.correlation is None else [f"correlation {self.correlation:+}"]
        return "; ".join(parts + ([f"{self.unscored} got no reward"] if self.unscored else []))


def read_labels(source: Labels) -> tuple[Label, ...]:
    """Labels from a JSONL file, from mappings, or as they are.

    Args:
        source: one label a line or mapping: the keys of a prompt (`Prompt.from_dict`), `answer`,
            `reward` in [0, 1], and for a judge that compares `default`, the other answer. Some
            fifty are enough to see a judge that is of no use.

    Raises:
        InvalidInput: an unreadable file or label (its number is named), or none at all.
    """
    if isinstance(source, (str, Path)):
        try:
            lines = Path(source).read_text("utf-8-sig").split("\n")
            rows = [(f"{source}, line {n}", parse_json(line)) for n, line in enumerate(lines, start=1) if line.strip()]
        except (OSError, ValueError) as error:
            raise InvalidInput(f"labels {source}", "a readable JSONL file", str(error)) from error
    else:
        rows = [(f"label {number}", row) for number, row in enumerate(source)]
    if not rows:
        raise InvalidInput("labels", "at least one label", "none")
    return tuple(_parse_label(where, row) for where, row in rows)


def judge_agreement(scorer: Scorer, labels: Labels) -> Agreement:
    """The agreement of a scorer's rewards with the labels, over prompts.

    Args:
        scorer: any scorer; for one that needs the default's answer, every label has `default`.
        labels: see `read_labels`.

    Raises:
        InvalidInput: bad labels, or a default that is missing or differs within a prompt.
    """
    chosen = read_labels(labels)
    items = [(label.prompt, Completion(label.answer)) for label in chosen]
    scores = score_checked(scorer.against(_collect_defaults(chosen)) if scorer.needs_default else scorer, items)
    values = np.array([score.value for score in scores])
    scored = np.isfinite(values)
    n, unscored = int(scored.sum()), int((~scored).sum())
    if not n:
        return Agreement(0, unscored, None, None, None, None)
    wanted = np.array([label.reward for label in chosen])[scored]
    values = values[scored]
    prompts = [label.prompt for label, kept in zip(chosen, scored, strict=True) if kept]
    boot = GroupBootstrap(number_groups(prompts))
    same = (np.sign(values - 0.5) == np.sign(wanted - 0.5)).astype(np.float64)
    return Agreement(
        n,
        unscored,
        _clip_interval(boot.mean(same), 0.0),
        _clip_interval(boot.mean(np.abs(values - wanted)), 0.0),
        _clip_interval(boot.mean(values - wanted), -1.0),
        _estimate_correlation(values, wanted, boot),
    )


def _parse_label(where: str, row: Any) -> Label:
    if isinstance(row, Label):
        return row
    if not isinstance(row, Mapping):
        raise InvalidInput(where, f"a mapping with {_KEYS}", row)
    rest = dict(row)
    answer, reward, default = (rest.pop(name, None) for name in ("answer", "reward", "default"))
    numeric = isinstance(reward, (int, float)) and not math.isnan(reward) and 0.0 <= reward <= 1.0
    if not isinstance(answer, str) or not numeric or not (default is None or isinstance(default, str)):
        raise InvalidInput(where, _KEYS, sorted(row))
    try:
        return Label(Prompt.from_dict(rest), answer, float(reward), default)
    except InvalidInput as error:
        raise InvalidInput(where, _KEYS, str(error)) from error


def _collect_defaults(labels: Iterable[Label]) -> dict[str, Completion]:
    defaults: dict[str, Completion] = {}
    for number, label in enumerate(labels):
        if label.default is None:
            raise InvalidInput(f"label {number}", 'the key "default": this judge compares with it', "none")
        if defaults.setdefault(label.prompt.digest, Completion(label.default)).text != label.default:
            raise InvalidInput(f"label {number}", "one default for all labels of a prompt", "another one")
    return defaults


def _clip_interval(estimate: Estimate, least: float) -> Estimate:
    """The estimate with an interval in [least, 1]: over one group nothing is known, but not less than that."""
    return Estimate(estimate.value, max(estimate.low, least), min(estimate.high, 1.0))


def _estimate_correlation(values: np.ndarray, wanted: np.ndarray, boot: GroupBootstrap) -> Estimate | None:
    """Pearson's correlation; draws in which one side is constant say nothing and are left out."""
    if np.ptp(values) < 1e-9 or np.ptp(wanted) < 1e-9:
        return None
    # Centred first: the sums of a draw then lose no digits.
    x, y = values - values.mean(), wanted - wanted.mean()
    columns = np.column_stack([x, y, x * x, y * y, x * y])
    draws = _correlate_moments(boot.means(columns))
    draws = draws[np.isfinite(draws)]
    value = float(_correlate_moments(columns.mean(axis=0)[None, :])[0])
    return estimate_from_draws(value, draws) if len(draws) and boot.n_groups > 1 else Estimate(value, -1.0, 1.0)


def _correlate_moments(moments: np.ndarray) -> np.ndarray:
    """float64 (n,): correlations from means of x, y, x², y², xy (n, 5); NaN where there is none."""
    x, y, xx, yy, xy = moments.T
    spread = (xx - x * x) * (yy - y * y)
    sure = spread > 1e-12
    return np.where(sure, (xy - x * y) / np.sqrt(np.where(sure, spread, 1.0)), np.nan)
