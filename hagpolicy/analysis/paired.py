"""`compare`: whether one policy or configuration is better than another, prompt by prompt."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hagpolicy._extras import require_pandas
from hagpolicy._text import TextTable, format_count
from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.checks import require_table
from hagpolicy.analysis.estimates import take_chosen
from hagpolicy.analysis.objectives import ObjectiveSpec, get_objectives
from hagpolicy.analysis.prepare import prepare
from hagpolicy.analysis.rule import ERRORS, MIN_GROUPS
from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput
from hagpolicy.policy.policy import Policy, load
from hagpolicy.results import Estimate, format_gain

Contender = Policy | DecodingConfig | str | os.PathLike[str] | int
"""A policy, the folder of one, a config of the table or its index, or "default"."""
Verdict = Literal["allow", "reject", "inconclusive"]
# A difference of so many standard errors is proven with probability 0.8, where nothing was chosen on these prompts.
_DETECTABLE_ERRORS = ERRORS + 0.84


@dataclass(frozen=True)
class PairedComparison:
    """How much more one contender gains than another, on the same prompts.

    Attributes:
        a: what was compared, in words.
        b: with what.
        value_a: mean of what is maximised, by the choices of a.
        value_b: the same of b.
        difference: a over b, paired by prompt.
        by_task: the same within each task; empty for one task.
        differing: prompts for which they choose different configs.
        n_prompts: prompts compared.
        n_groups: independent groups among them.
        n_left_out: prompts left out: without a scored sample of every config, or trained on by a policy.
        at_least: what a must gain over b.
        needed: independent prompts with which a true difference as large as this one is told from `at_least` four times
            in five; None where they are equal.
        per_prompt: prompt digests with the values of a and b, in the table's order.
        objective: what is maximised.
        warnings: in plain words.
    """

    a: str
    b: str
    value_a: Estimate
    value_b: Estimate
    difference: Estimate
    by_task: Mapping[str, Estimate]
    differing: int
    n_prompts: int
    n_groups: int
    n_left_out: int
    at_least: float
    needed: int | None
    per_prompt: tuple[tuple[str, float, float], ...]
    objective: str
    warnings: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """ "allow" where the interval of the difference lies above `at_least`, "reject" where it lies below, else
        "inconclusive"; over too few groups always that."""
        if self.n_groups < MIN_GROUPS:
            return "inconclusive"
        if self.difference.low > self.at_least:
            return "allow"
        return "reject" if self.difference.high < self.at_least else "inconclusive"

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping of the attributes and the verdict."""
        plain = {name: value.to_json() if isinstance(value, Estimate) else value for name, value in vars(self).items()}
        return {
            **plain,
            "verdict": self.verdict,
            "by_task": {task: estimate.to_json() for task, estimate in self.by_task.items()},
            "per_prompt": [list(row) for row in self.per_prompt],
            "warnings": list(self.warnings),
        }

    def to_frame(self) -> Any:
        """A pandas frame with a row a prompt: `prompt` (its digest), `a`, `b` and `difference`.

        Raises:
            MissingExtra: pandas is not installed.
        """
        frame = require_pandas().DataFrame(list(self.per_prompt), columns=["prompt", "a", "b"])
        return frame.assign(difference=frame["a"] - frame["b"])

    def __str__(self) -> str:
        rows = [("a", self.a, str(self.value_a)), ("b", self.b, str(self.value_b))]
        rows += [("a over b", "", format_gain(self.difference))]
        rows += [("", f"task {task}", format_gain(estimate)) for task, estimate in self.by_task.items()]
        left = f", {self.n_left_out} left out" if self.n_left_out else ""
        groups = format_count(self.n_groups, "independent group")
        lines = [
            TextTable(("", "", f"{self.objective} [95 %]"), rows).to_text(),
            f"{self.n_prompts} prompts in {groups}{left}; they choose differently for {self.differing}",
            *(f"warning: {warning}" for warning in self.warnings),
        ]
        than = f"more than {self.at_least:g}" if self.at_least else "more than nothing"
        words = {"allow": f"a gains {than}", "reject": f"a does not gain {than}", "inconclusive": "not told apart"}
        needed = "" if self.verdict != "inconclusive" or self.needed is None else f"; about {self.needed:,} would tell"
        return "\n".join([*lines, f"{self.verdict}: {words[self.verdict]}{needed}"])


def compare(
    a: Contender,
    b: Contender,
    table: SweepTable,
    *,
    objective: ObjectiveSpec = "reward",
    at_least: float = 0.0,
    seed: int = 0,
) -> PairedComparison:
    """How much more `a` gains than `b` on the prompts of a table, with its interval by a bootstrap over groups.

    Nothing is chosen on these prompts: prompts that a policy was trained on are left out, and the single best config of
    the table is no contender, unless it is named as a config that was chosen elsewhere.

    Args:
        a: a policy, the folder of one, a config of the table or its index, or "default".
        b: the same.
        table: a sweep with every config that they choose.
        objective: what is maximised, one of `hagpolicy.analysis.objectives`.
        at_least: what `a` must gain over `b` to be allowed; below 0 for "not much worse".
        seed: of the bootstrap.

    Raises:
        InvalidInput: no contender, a config that is not in the table, or fewer than two prompts that no policy was
            trained on.
    """
    if not isinstance(at_least, (int, float)) or not math.isfinite(at_least):
        raise InvalidInput("at_least", "a finite number", at_least)
    sides = [_open(name, one, require_table(table)) for name, one in (("a", a), ("b", b))]
    fresh = np.ones(len(table.prompts), dtype=bool)
    for side in sides:
        fresh &= ~side.trained_on(table.prompts) if isinstance(side, Policy) else True
    if fresh.sum() < 2:
        got = f"{fresh.sum()} of {len(table.prompts)}"
        raise InvalidInput("table", "at least two prompts that no policy was trained on", got, "Sweep new prompts.")
    prepared = prepare(table.take(fresh), get_objectives(objective), seed)
    kept, boot, Y = prepared.table, prepared.boot, prepared.targets.Y(0)
    choices = [_choose(name, side, kept) for name, side in zip("ab", sides, strict=True)]
    values = [take_chosen(Y, chosen) for chosen in choices]
    over = values[0] - values[1]
    tasks = list(dict.fromkeys(kept.tasks.tolist()))
    by_task = {
        task: GroupBootstrap(prepared.groups[mine], seed=seed).mean(over[mine])
        for task in tasks
        if len(tasks) > 1 and (mine := kept.tasks == task).any()
    }
    sums = boot.sums(over[:, None])[:, 0]
    error = float(sums.std(ddof=1) * boot.n_groups / boot.sizes.sum() / math.sqrt(boot.n_groups))
    distance = abs(float(over.mean()) - at_least)
    needed = math.ceil(boot.n_groups * (_DETECTABLE_ERRORS * error / distance) ** 2) if distance > 1e-9 else None
    return PairedComparison(
        a=_describe(sides[0], a),
        b=_describe(sides[1], b),
        value_a=boot.mean(values[0]),
        value_b=boot.mean(values[1]),
        difference=boot.mean(over),
        by_task=by_task,
        differing=int((choices[0] != choices[1]).sum()),
        n_prompts=len(kept.prompts),
        n_groups=boot.n_groups,
        n_left_out=len(table.prompts) - len(kept.prompts),
        at_least=float(at_least),
        needed=None if needed is None else max(needed, MIN_GROUPS),
        per_prompt=tuple(
            (prompt.digest, float(one), float(other)) for prompt, one, other in zip(kept.prompts, *values, strict=True)
        ),
        objective=prepared.targets.objectives[0].name,
        warnings=prepared.warnings,
    )


def _open(name: str, given: Any, table: SweepTable) -> Policy | int:
    """A policy, or the index of a config."""
    if isinstance(given, Policy):
        return given
    if isinstance(given, DecodingConfig):
        if given not in table.space:
            raise InvalidInput(name, "a config of the table", given, "Sweep it too.")
        return table.space.index(given)
    if given == "default":
        if table.default is None:
            raise InvalidInput(name, "a table that knows what runs today", "one without a default")
        return table.default
    if isinstance(given, (str, os.PathLike)):
        return load(Path(given))
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < len(table.space):
        return given
    expected = f'a policy, its folder, a config, an index below {len(table.space)} or "default"'
    raise InvalidInput(name, expected, given)


def _choose(name: str, side: Policy | int, table: SweepTable) -> np.ndarray:
    """int64 (n_prompts,): indices in the table's space."""
    if isinstance(side, int):
        return np.full(len(table.prompts), side)
    chosen = side.predict_batch(table.prompts)
    missing = [config for config in chosen if config not in table.space]
    if missing:
        raise InvalidInput(name, "a policy over configs of the table", missing[0], "Sweep that config too.")
    return np.array([table.space.index(config) for config in chosen], dtype=np.int64)


def _describe(side: Policy | int, given: Any) -> str:
    if isinstance(given, (str, os.PathLike)):
        return str(given)
    return f"config {side}" if isinstance(side, int) else str(side)
