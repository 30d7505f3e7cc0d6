"""Baselines that predict and take the maximum, as routers are usually built: no shrinkage, no margin, no gate.

Beside our learners of the same kind they show what those three are worth.
"""

from __future__ import annotations

import numpy as np

from hagpolicy._extras import require
from hagpolicy.analysis.estimates import take_chosen
from hagpolicy.data.table import SweepTable
from hagpolicy.data.ties import choose_best
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.baselines.base import Baseline, BaselineChoices
from hagpolicy.fitting.baselines.features import Features
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.learners.base import Scaling

NEIGHBOURS = (1, 5, 10, 20, 40, 80)
BLOCK = 512  # prompts whose likeness to all others is held at once
PENALTIES = np.logspace(-1, 5, 13)


class Nearest(Baseline):
    """The config with the best mean over the k nearest training prompts.

    Nearness is the cosine of the encoder's features, less the mean of the training prompts: raw
    averages of word vectors all point much the same way.

    Args:
        k: neighbours, at least 1; None: the one of 1 to 80 whose choices are best for the training
            prompts, each left out with its group.
        encoder: of the prompts, see `hagpolicy.fitting.encoders.registry`.

    Raises:
        InvalidInput: k below 1.
    """

    name = "nearest"

    def __init__(self, k: int | None = None, encoder: str | Encoder = "static") -> None:
        if k is not None and k < 1:
            raise InvalidInput("k", "a whole number, at least 1, or None", k)
        self.k, self.features = k, Features(encoder)
        self._features: np.ndarray | None = None
        self._orders: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def choose(
        self, table: SweepTable, values: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
    ) -> BaselineChoices:
        """See `Baseline.choose`."""
        among, of_test = self._neighbours(table, train, test)
        Y = values[train]
        k = self.k if self.k is not None else _best_k(among, Y, table.groups[train])
        return BaselineChoices(choose_best(_running_means(of_test, Y, [k])[0]))

    def _neighbours(self, table: SweepTable, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nearest training prompts of the training prompts, without their own groups, and of the test prompts.

        Kept for the masks: they are the same at every point of a dial.
        """
        features = self.features.of(table)
        if self._features is not features:
            self._features, self._orders = features, {}
        key = train.tobytes() + test.tobytes()
        if key not in self._orders:
            centred = features - features[train].mean(axis=0)
            known, queries, groups = _directions(centred[train]), _directions(centred[test]), table.groups[train]
            most = max(NEIGHBOURS) if self.k is None else self.k
            among = _nearest(known, known, most, groups) if self.k is None else np.empty((0, 0), dtype=np.int64)
            self._orders[key] = among, _nearest(queries, known, most)
        return self._orders[key]


class Argmax(Baseline):
    """The config with the highest prediction of a ridge regression of every config's reward.

    Its penalty is the one of the least error of leaving out one prompt, for the rewards themselves:
    it is chosen to tell easy prompts from hard ones, which says nothing about the config.

    Args:
        encoder: of the prompts, see `hagpolicy.fitting.encoders.registry`.
    """

    name = "argmax"

    def __init__(self, encoder: str | Encoder = "static") -> None:
        self.features = Features(encoder)

    def choose(
        self, table: SweepTable, values: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
    ) -> BaselineChoices:
        """See `Baseline.choose`.

        Raises:
            MissingExtra: scikit-learn is not installed.
        """
        linear = require("sklearn.linear_model", "fit", "ridge regression")
        features = self.features.of(table)
        scaling = Scaling.of(features[train])
        ridge = linear.RidgeCV(alphas=PENALTIES).fit(scaling.apply(features[train]), values[train])
        predicted = ridge.predict(scaling.apply(features[test])).reshape(-1, values.shape[1])
        return BaselineChoices(choose_best(predicted))


def _directions(vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, d) at length 1; one of length 0 stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0.0, lengths, 1.0))


def _nearest(queries: np.ndarray, known: np.ndarray, most: int, groups: np.ndarray | None = None) -> np.ndarray:
    """int64 (n, at most `most`): the known ones that are most alike, the earlier one first on ties.

    Args:
        queries: float64 (n, d), directions.
        known: float64 (n_known, d).
        most: how many.
        groups: int64 (n_known,), where the queries are the known: those of one's own group come last.
    """
    orders = []
    for start in range(0, len(queries), BLOCK):
        rows = slice(start, start + BLOCK)
        likeness = queries[rows] @ known.T
        if groups is not None:
            likeness[groups[rows, None] == groups[None, :]] = -np.inf
        orders.append((-likeness).argsort(axis=1, kind="stable")[:, :most])
    return np.concatenate(orders)


def _running_means(order: np.ndarray, Y: np.ndarray, ks: list[int]) -> list[np.ndarray]:
    """For each k, float64 (n, n_configs): mean of Y over the first k of an order.

    Args:
        order: int64 (n, n_nearest), rows of Y.
        Y: float64 (n_known, n_configs).
        ks: one beyond n_known means all.
    """
    sums = np.cumsum(Y[order], axis=1)
    return [sums[:, min(k, len(Y)) - 1] / min(k, len(Y)) for k in ks]


def _best_k(order: np.ndarray, Y: np.ndarray, groups: np.ndarray) -> int:
    """The k of `NEIGHBOURS` whose choices for the training prompts reach the highest mean, the largest of equals.

    Args:
        order: int64 (n, n_nearest), of the training prompts without their own groups.
        Y: float64 (n, n_configs).
        groups: int64 (n,).
    """
    others = len(groups) - int(np.unique(groups, return_counts=True)[1].max())
    ks = [k for k in NEIGHBOURS if k <= others]
    if not ks:  # all prompts are one group, so nothing can be left out
        return NEIGHBOURS[0]
    reached = [float(take_chosen(Y, choose_best(means)).mean()) for means in _running_means(order, Y, ks)]
    return max(zip(reached, ks, strict=True))[1]
