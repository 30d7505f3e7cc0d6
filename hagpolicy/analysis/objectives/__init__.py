"""Objectives: what a policy is fitted for.

| written | objective | at call time |
|---|---|---|
| reward | mean reward of one answer | |
| price/token@0,0.001 | reward minus a price for every new token | predict(prompt, price=…) |
| price/second@0,0.05 | reward minus a price for every second | predict(prompt, price=…) |
| pass@1,2,4 | at least one of k answers passes | predict(prompt, n=…) |
| best@1,2,4 | the best reward of n answers | predict(prompt, n=…) |
| majority@1,3 | reward of the answer that most of n give | predict(prompt, n=…) |
| quantile@0.25 | the reward that a quarter of the answers stays at or below | |
| drawn:0.5@4 | mean reward of one answer, from live calls that drew one of 4 configs | |

Several settings of one family are a dial that the caller turns when it asks for a config.
"""

from __future__ import annotations

from hagpolicy.analysis.objectives.base import Objective
from hagpolicy.analysis.objectives.families import BestOf, Drawn, Majority, PassAtK, Priced, Quantile, Reward
from hagpolicy.analysis.objectives.parse import ObjectiveSpec, get_objectives
from hagpolicy.analysis.objectives.targets import Targets, targets_of

__all__ = [
    "BestOf",
    "Drawn",
    "Majority",
    "Objective",
    "ObjectiveSpec",
    "PassAtK",
    "Priced",
    "Quantile",
    "Reward",
    "Targets",
    "get_objectives",
    "targets_of",
]
