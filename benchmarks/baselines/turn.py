"""TURN: one temperature for all prompts, found without labels where the model's entropy turns upward.

Du, Yang and Welleck, "Optimizing Temperature for Language Models with Multi-Sample Inference" (ICML 2025,
arXiv 2502.05234). At low temperatures the logarithm of the mean token entropy is a concave function of the
temperature; where it becomes convex the answers begin to fall apart, and just there is the temperature that
suits several samples best.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.baselines.entropy import EntropyCurve, measure_entropy
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.baselines.base import Baseline, BaselineChoices
from hagpolicy.fitting.baselines.fixed import choose_constant

if TYPE_CHECKING:
    from hagpolicy.engines.transformers.engine import TransformersEngine

# What the paper adds to the turning point, by what the samples are for; nothing for a majority vote.
BEST_OF = 0.1
CUTS = frozenset({"top_p", "top_k", "min_p", "typical_p"})
TEMPERATURES = (0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5)
MAX_TOKENS = 48


class Turn(Baseline):
    """The sampled config whose temperature is nearest to TURN's (`nearest_sampled`).

    It costs a number of answers once, and nothing at call time.

    Args:
        temperature: the turning point, above 0.
        shift: what is added to it: `BEST_OF` where the best of several samples counts, else 0.
        tokens: new tokens that finding the temperature took, once; None: unknown.
        seconds: wall time that it took, once; None: unknown.

    Raises:
        InvalidInput: a temperature that is not above 0.
    """

    name, learns = "turn", False

    def __init__(
        self, temperature: float, *, shift: float = 0.0, tokens: int | None = None, seconds: float | None = None
    ) -> None:
        if not temperature > 0.0:
            raise InvalidInput("temperature", "a number above 0", temperature)
        self.temperature, self.shift, self.tokens, self.seconds = float(temperature), shift, tokens, seconds

    @classmethod
    def measure(
        cls,
        engine: TransformersEngine,
        prompts: Iterable[Any],
        *,
        temperatures: Sequence[float] = TEMPERATURES,
        max_tokens: int = MAX_TOKENS,
        shift: float = 0.0,
        seed: int = 0,
    ) -> Turn:
        """Ask the LLM: one answer a prompt and temperature. For the arguments see `measure_entropy`."""
        return cls.from_curve(measure_entropy(engine, prompts, temperatures, max_tokens, seed), shift=shift)

    @classmethod
    def from_curve(cls, curve: EntropyCurve, *, shift: float = 0.0) -> Turn:
        """From entropies that were measured."""
        found = turning_point(curve.temperatures, curve.mean)
        return cls(found, shift=shift, tokens=curve.tokens, seconds=curve.seconds)

    @classmethod
    def from_results(cls, path: str | Path, *, shift: float = 0.0) -> Turn:
        """From a stored curve: a JSON object with `temperatures`, `entropies`, `tokens` and `seconds`.

        Raises:
            InvalidInput: no such file, or no curve in it.
        """
        try:
            stored = json.loads(Path(path).read_text("utf-8"))
            parts = [stored[name] for name in ("temperatures", "entropies", "tokens", "seconds")]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"curve file {path}", "a JSON object with an entropy curve", str(error)) from error
        return cls.from_curve(EntropyCurve(tuple(parts[0]), *parts[1:]), shift=shift)

    def choose(
        self, table: SweepTable, values: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
    ) -> BaselineChoices:
        """See `Baseline.choose`.

        Raises:
            InvalidInput: the space has no sampled config without hint, penalty or beams.
        """
        return choose_constant(nearest_sampled(table.space, self.temperature + self.shift), test)


def turning_point(temperatures: Sequence[float], entropies: Sequence[float] | np.ndarray) -> float:
    """The first temperature at which the logarithm of the entropy is convex, the ends left out.

    Convex is a second difference above 0, from each temperature to its two neighbours. The authors' program has
    steps of 0.1 and takes central differences twice, which is the second difference to temperatures 0.2 away: with
    the 0.2 of `TEMPERATURES` this is the same. Where the curve stays concave the answer is, as in their program,
    the last temperature but one.

    Args:
        temperatures: (n,), see `EntropyCurve`.
        entropies: (n,), in any unit, above 0.

    Raises:
        InvalidInput: an entropy that is not above 0.
    """
    entropies = np.asarray(entropies, dtype=np.float64)
    if not (entropies > 0.0).all():
        raise InvalidInput("entropies", "numbers above 0", float(entropies.min()), "Measure more or longer answers.")
    convex = np.diff(np.diff(np.log(entropies)) / np.diff(temperatures)) > 0.0
    first = int(convex.argmax()) if convex.any() else len(convex) - 1
    return float(temperatures[1 + first])


def nearest_sampled(space: DecodingSpace, temperature: float, *, cut: bool = True) -> int:
    """Index of the config that is nearest to sampling at a temperature and to nothing else.

    That is the nearest temperature among the sampled configs that set nothing but it and, with `cut`, what
    cuts the tail of the distribution (`CUTS`). Of equally near ones the one that cuts least, then the first.

    Raises:
        InvalidInput: the space has none.
    """
    allowed = {"temperature", *CUTS} if cut else {"temperature"}
    fitting = [index for index, one in enumerate(space) if one.temperature > 0.0 and set(one.to_dict()) <= allowed]
    if not fitting:
        expected = f"a sampled config that sets nothing but the temperature{' and a cut' * cut}"
        raise InvalidInput("space", expected, repr(space), "Sweep one, such as DecodingConfig(temperature=0.7).")

    def distance(index: int) -> tuple[float, int]:
        config = space[index]
        return abs(config.temperature - temperature), len(CUTS & set(config.to_dict()))

    return min(fitting, key=distance)
