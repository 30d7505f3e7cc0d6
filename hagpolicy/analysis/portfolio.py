"""`portfolio`: which configs to draw n parallel samples of one prompt from, where the best sample counts."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hagpolicy._checks import is_integral
from hagpolicy._text import format_count
from hagpolicy.analysis.checks import keep_comparable
from hagpolicy.analysis.estimates import crossfit_sbs, take_chosen
from hagpolicy.analysis.maxima import Maxima, compute_maxima
from hagpolicy.analysis.objectives.families import Reward
from hagpolicy.analysis.prepare import prepare
from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.table import SweepTable
from hagpolicy.data.ties import choose_best
from hagpolicy.errors import InvalidInput
from hagpolicy.results import Estimate

MAX_SAMPLES = 16
# Differences of means of rewards below this are rounding.
_ROUNDING = 1e-9
# Fewer prompts than this share are not enough to let a config be drawn as often as the others allow.
_LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Portfolio:
    """The set of configs for n parallel samples of a prompt, of which the best counts.

    Estimates are means over prompts of the expected highest of n rewards (or paired differences of them), with 95 %
    intervals over groups (as wide as the gate's), of sets that were chosen on other prompts.

    Attributes:
        n: samples asked for.
        configs: each config of the set and how often it is drawn, the most frequent first; n draws in all, or
            fewer where the table cannot tell what more draws would give.
        best_single: the config of which n samples are best, where one config is drawn n times.
        one_sample: the single best config for one sample.
        value: of the set.
        over_best_single: gain over n samples of the best single config, chosen on the same training prompts; None
            where some config has fewer than n samples.
        over_one_sample: gain over one sample of the single best config.
        n_prompts: prompts compared.
        n_groups: independent groups among them.
        n_left_out: prompts left out, because a cell has too few scored samples.
        warnings: in plain words.
    """

    n: int
    configs: tuple[tuple[DecodingConfig, int], ...]
    best_single: DecodingConfig | None
    one_sample: DecodingConfig
    value: Estimate
    over_best_single: Estimate | None
    over_one_sample: Estimate
    n_prompts: int
    n_groups: int
    n_left_out: int
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping of the attributes."""
        return {
            **asdict(self),
            "configs": [{"config": config.to_dict(), "count": count} for config, count in self.configs],
            "best_single": self.best_single and self.best_single.to_dict(),
            "one_sample": self.one_sample.to_dict(),
            "warnings": list(self.warnings),
        }

    @property
    def sentence(self) -> str:
        """The outcome in plain sentences."""
        chosen = ", ".join(f"{count} × ({config})" for config, count in self.configs)
        many = format_count(self.n, "sample")
        found = f"For {many} of a prompt, of which the best counts: {chosen}. It scores {self.value}"
        one = f"{self.over_one_sample:+} over one sample of the single best config ({self.one_sample})"
        if self.over_best_single is None:
            return f"{found}, {one}. What {many} of one config score is not known: too few samples in a cell."
        single = f"{self.over_best_single:+} over {many} of the best one config ({self.best_single})"
        doubtful = len(self.configs) > 1 and self.over_best_single.low <= 0.0
        proven = " Several configs are not proven better than one." * doubtful
        return f"{found}, {single} and {one}.{proven}"

    def __str__(self) -> str:
        left = f", {self.n_left_out} left out (too few scored samples)" if self.n_left_out else ""
        size = f"{self.n_prompts} prompts in {format_count(self.n_groups, 'independent group')}{left}"
        return "\n".join([self.sentence, size, *(f"warning: {warning}" for warning in self.warnings)])


def check_samples(n: object) -> None:
    """Refuse a number of samples that no portfolio has. Raises InvalidInput."""
    if not is_integral(n) or not 1 <= n <= MAX_SAMPLES:  # type: ignore[operator]  # a number of any kind
        raise InvalidInput("n", f"a whole number of samples in [1, {MAX_SAMPLES}]", n)


def portfolio(table: SweepTable, n: int, *, seed: int = 0) -> Portfolio:
    """The set of configs whose best of n samples is expected to score highest.

    The expected maximum has diminishing returns in the set, so greedy choice comes to at least 1 − 1/e of the best
    set's value (Nemhauser, Wolsey and Fisher, *Mathematical Programming* 14, 1978). Here it starts from every
    config in turn, exchanges of one draw follow until none helps, and the best of these sets is taken. The
    estimates are of this procedure: in each of five folds over groups the set and what it is compared with are
    chosen on the other prompts. The set itself is then chosen on all prompts.

    A cell of m samples estimates without bias what up to m draws give, so a config is drawn at most as often as it
    has samples (of a raced table: common samples). A deterministic config repeats its outcome and is drawn once.

    Args:
        table: a sweep; prompts of which a cell lacks samples are left out and counted.
        n: samples of one prompt, [1, 16].
        seed: of folds and bootstrap.

    Raises:
        InvalidInput: a bad `n` or `seed`, or fewer than two comparable prompts.
    """
    check_samples(n)
    n = int(n)
    usable, most = _select_prompts(keep_comparable(table), n)
    prepared = prepare(usable, (Reward(),), seed)
    kept, boot, folds = prepared.table, prepared.boot, prepared.folds
    maxima = compute_maxima(kept.common_rewards)
    every = bool((kept.space.deterministic | (most == n)).all())
    one = np.eye(len(most), dtype=np.int64)
    Y = np.column_stack([maxima.values(row) for row in one])  # mean rewards, rounded as all values here are
    alone = np.column_stack([maxima.values(row) for row in one * most])
    value = _crossfit_value(maxima, Y, n, most, folds)
    chosen = _choose_counts(maxima, Y.mean(axis=0), n, most)
    order = np.argsort(-chosen, kind="stable")
    over_best_single = boot.mean(value - take_chosen(alone, crossfit_sbs(alone, folds)), learned=True)
    return Portfolio(
        n=n,
        configs=tuple((kept.space[int(j)], int(chosen[j])) for j in order if chosen[j]),
        best_single=kept.space[int(choose_best(alone.mean(axis=0)))] if every else None,
        one_sample=kept.space[int(choose_best(Y.mean(axis=0)))],
        value=boot.mean(value, learned=True),
        over_best_single=over_best_single if every else None,
        over_one_sample=boot.mean(value - take_chosen(Y, crossfit_sbs(Y, folds)), learned=True),
        n_prompts=len(Y),
        n_groups=boot.n_groups,
        n_left_out=len(table.prompts) - len(kept.prompts),
        warnings=(*prepared.warnings, *_check_draws(n, chosen, most, every)),
    )


def _select_prompts(table: SweepTable, n: int) -> tuple[SweepTable, np.ndarray]:
    """The prompts whose cells have samples enough, and how often each config may be drawn, int64 (n_configs,).

    As often as its usual cell has samples, unless most prompts lack some of them; at most n times.
    """
    counts = (~np.isnan(table.common_rewards)).sum(axis=2)
    usual = np.median(counts, axis=0).astype(np.int64)
    most = np.where(table.space.deterministic, 1, np.clip(usual, 1, n))
    while (rows := (counts >= most).all(axis=1)).mean() < _LEAST_SHARE or rows.sum() < 2:
        most = np.minimum(most, most.max() - 1)
    return table.take(rows), most


def _crossfit_value(maxima: Maxima, Y: np.ndarray, n: int, most: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """float64 (n_prompts,): value of the set that is chosen on the other folds, for each prompt.

    With one fold nothing lies outside it: then the choice is made on all prompts.

    Args:
        maxima: of all prompts.
        Y: float64 (n_prompts, n_configs), mean rewards.
        n: draws.
        most: int64 (n_configs,), limits of each config.
        folds: int64 (n_prompts,).
    """
    value = np.empty(len(Y))
    for fold in np.unique(folds):
        test = folds == fold
        train = test if test.all() else ~test
        value[test] = maxima.take(test).values(_choose_counts(maxima.take(train), Y[train].mean(axis=0), n, most))
    return value


def _choose_counts(maxima: Maxima, means: np.ndarray, n: int, most: np.ndarray) -> np.ndarray:
    """int64 (n_configs,): how often each config is drawn.

    The best of the sets that begin with each config and grow greedily, each improved by exchanges of one draw while
    one helps.

    Args:
        maxima: of the prompts to choose on.
        means: float64 (n_configs,), mean rewards, which decide between equal sets.
        n: draws, where the limits allow so many.
        most: int64 (n_configs,), limits of each config.
    """
    one = np.eye(len(most), dtype=np.int64)

    @functools.cache  # what begins differently soon meets
    def with_one_more(drawn: tuple[int, ...]) -> np.ndarray:
        """float64 (n_configs,): value with one more draw of each config, -inf past its limit."""
        counts = np.array(drawn)
        return np.where(counts < most, maxima.means_with_one_more(counts), -np.inf)

    def improve(drawn: np.ndarray, value: float) -> tuple[np.ndarray, float]:
        """A set and its value after exchanges of one draw that help."""
        without = [drawn - one[j] for j in np.flatnonzero(drawn)]
        values = np.array([with_one_more(tuple(some)) for some in without])
        best, added = np.unravel_index(int(choose_best(values.ravel())), values.shape)
        if values[best, added] <= value + _ROUNDING:
            return drawn, value
        return improve(without[best] + one[added], values[best, added])

    found: list[tuple[np.ndarray, float]] = []
    # The best single config first: of equal sets the first counts.
    for start in np.argsort(-means, kind="stable"):
        drawn, value = one[start], -np.inf
        for _ in range(min(n, int(most.sum())) - 1):
            values = with_one_more(tuple(drawn))
            value = values.max()
            drawn = drawn + one[np.where(values >= value - _ROUNDING, means, -np.inf).argmax()]
        found.append(improve(drawn, value))
    best = max(value for _, value in found)
    return next(drawn for drawn, value in found if value >= best - _ROUNDING)


def _check_draws(n: int, chosen: np.ndarray, most: np.ndarray, every: bool) -> list[str]:
    """Warnings of what the table's samples did not allow."""
    found = []
    if not every:
        found.append(
            f"some configs have fewer than {n} samples: none is drawn more than {int(most.max())} times, or compared "
            f"alone; sweep with samples={n}"
        )
    if chosen.sum() < n:
        found.append(f"only {int(chosen.sum())} of {n} draws are used: the table has no more to draw from")
    return found
