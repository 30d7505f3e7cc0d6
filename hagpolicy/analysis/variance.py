"""Where the variance of single rewards comes from: prompts, configs, both together, and noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hagpolicy.data.table import SweepTable

__all__ = ["VarianceShares", "share_variance"]


@dataclass(frozen=True)
class VarianceShares:
    """Shares of the variance of single samples of the sampled configs; they add up to 1.

    Attributes:
        prompts: that prompts differ by, whatever the config.
        configs: that configs differ by, whatever the prompt.
        both: that the configs' differences differ by from prompt to prompt; what a per-prompt policy can win lies here.
        noise: within one cell: another sample of the same prompt and config. All four are None where that is unknown.
        reason: why they are unknown; "" where they are known.
    """

    prompts: float | None = None
    configs: float | None = None
    both: float | None = None
    noise: float | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        return asdict(self)

    def __str__(self) -> str:
        if self.reason:
            return f"share of noise in the variance unknown: {self.reason}"
        parts = (("prompts", self.prompts), ("configurations", self.configs), ("both together", self.both))
        known = ", ".join(f"{name} {share or 0.0:.0%}" for name, share in parts)
        return f"variance of single samples: {known}, noise {self.noise or 0.0:.0%}"


def share_variance(table: SweepTable) -> VarianceShares:
    """The shares of a table, by the expected mean squares of a two-way layout (Searle, Casella and McCulloch,
    *Variance Components*, 1992); an estimate below 0 is 0.

    Of prompts and sampled configs whose cells all hold two scored samples or more.

    Args:
        table: a sweep.
    """
    repeated = table.counts > 1
    configs = np.flatnonzero(~table.space.deterministic & (repeated.mean(axis=0) > 0.5))
    if not (~table.space.deterministic).any():
        return VarianceShares(reason="all configurations are deterministic")
    rows = np.flatnonzero(repeated[:, configs].all(axis=1)) if len(configs) else np.array([], dtype=int)
    if len(rows) < 2:
        return VarianceShares(reason="cells hold one sample; sweep two or more of each to learn it")
    rewards, means = table.rewards[np.ix_(rows, configs)], table.means[np.ix_(rows, configs)]
    samples = 1.0 / (1.0 / table.counts[np.ix_(rows, configs)]).mean()
    noise = float(np.nanvar(rewards, axis=2, ddof=1).mean())
    n, m = means.shape
    by_prompt, by_config = means.mean(axis=1), means.mean(axis=0)
    rest = means - by_prompt[:, None] - by_config + means.mean()
    square = float((rest**2).sum() / ((n - 1) * (m - 1))) if m > 1 else noise / samples
    parts = [
        float(by_prompt.var(ddof=1)) - square / m,
        float(by_config.var(ddof=1)) - square / n if m > 1 else 0.0,
        square - noise / samples,
        noise,
    ]
    parts = [max(part, 0.0) for part in parts]
    total = sum(parts)
    if total < 1e-12:
        return VarianceShares(reason="all rewards are equal")
    return VarianceShares(*(part / total for part in parts))
