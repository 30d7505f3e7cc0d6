"""`Exploration`: a small share of the calls draws its configuration, with a probability that is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Draw", "Exploration"]


@dataclass(frozen=True)
class Draw:
    """How a config came to be chosen where it could have been drawn.

    Attributes:
        chosen: its index in the space.
        intended: index of the policy's own choice.
        propensity: the probability with which `chosen` is chosen for this call, by the policy and by the draw together,
            (0, 1].
        choices: how many configs could be drawn.
        explored: the call is of the share that draws among them alike, whether it drew the policy's own or another.
    """

    chosen: int
    intended: int
    propensity: float
    choices: int
    explored: bool


@dataclass(frozen=True)
class Exploration:
    """The draw of one call.

    Attributes:
        share: of the calls that draw, [0, 1].
        first: the call draws where this is below the share; in [0, 1).
        second: says which config; in [0, 1).
    """

    share: float
    first: float
    second: float

    def draw(self, intended: int, allowed: np.ndarray) -> Draw:
        """The config to choose: with probability `share` one of the allowed alike, else the policy's own.

        Args:
            intended: index of the policy's own choice, an allowed one.
            allowed: bool (n_configs,), the configs that agree with what is fixed and can be had.
        """
        places = np.flatnonzero(allowed)
        explored = self.first < self.share
        chosen = int(places[int(self.second * len(places))]) if explored else intended
        propensity = self.share / len(places) + (1.0 - self.share) * (chosen == intended)
        return Draw(chosen, intended, propensity, len(places), explored)
