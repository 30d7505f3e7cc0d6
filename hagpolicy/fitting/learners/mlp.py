"""A small multi-layer perceptron on all configs at once."""

from __future__ import annotations

import warnings

import numpy as np

from hagpolicy._extras import require
from hagpolicy.fitting.graphs.builder import DOUBLE, GraphBuilder
from hagpolicy.fitting.learners.base import FittedLearner, Learner, Scaling, split_advantages

HIDDEN = 32
EPOCHS = 100
BATCH = 64
# Weight of the squared weights against the mean squared error.
PENALTY = 0.75


class FittedPerceptron(FittedLearner):
    """values = relu(features @ first + first_bias) @ second + second_bias, in float64.

    Args:
        first: float64 (n_features, hidden), with `first_bias` (hidden,).
        second: float64 (hidden, n_configs), with `second_bias` (n_configs,).
    """

    def __init__(self, first: np.ndarray, first_bias: np.ndarray, second: np.ndarray, second_bias: np.ndarray) -> None:
        self.first, self.first_bias, self.second, self.second_bias = first, first_bias, second, second_bias

    def predict(self, features: np.ndarray) -> np.ndarray:
        """float64 (n, n_configs)."""
        hidden = np.maximum(features.astype(np.float64) @ self.first + self.first_bias, 0.0)
        return np.asarray(hidden @ self.second + self.second_bias)

    def export(self, graph: GraphBuilder, features: str) -> str:
        """Append both layers in float64."""
        product = graph.node("MatMul", [graph.cast(features, DOUBLE), graph.constant(self.first, "first")])
        hidden = graph.node("Relu", [graph.node("Add", [product, graph.constant(self.first_bias, "bias")])])
        product = graph.node("MatMul", [hidden, graph.constant(self.second, "second")])
        return graph.node("Add", [product, graph.constant(self.second_bias, "bias")])


class Perceptron(Learner):
    """One hidden layer, strongly penalised, trained for a fixed number of epochs (scikit-learn)."""

    name = "mlp"

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedPerceptron:
        """See `Learner.fit`."""
        network = require("sklearn.neural_network", "fit", "the mlp learner")
        scaling = Scaling.of(features)
        relative, level = split_advantages(targets)
        both = np.hstack([relative, level[:, None]])
        centre, spread = both.mean(axis=0), float(both.std()) or 1.0
        batch = min(BATCH, len(both))
        model = network.MLPRegressor(
            hidden_layer_sizes=(HIDDEN,),
            alpha=PENALTY * batch,  # scikit-learn divides it by the batch, not by the training prompts
            max_iter=EPOCHS,
            batch_size=batch,
            random_state=seed,
            tol=0.0,
        )
        with warnings.catch_warnings():
            # The number of epochs is the choice here; that it did not converge is no news.
            warnings.simplefilter("ignore")
            model.fit(scaling.apply(features), (both - centre) / spread)
        first = model.coefs_[0] * scaling.factor
        first_bias = model.intercepts_[0] - scaling.centre @ first
        second, second_bias = model.coefs_[1] * spread, model.intercepts_[1] * spread + centre
        second, second_bias = second[:, :-1] + second[:, -1:], second_bias[:-1] + second_bias[-1]
        fitted = FittedPerceptron(first, first_bias, second, second_bias)
        # Few epochs leave the intercept off; on average it must give the configs' means.
        fitted.second_bias += (targets - fitted.predict(features)).mean(axis=0)
        return fitted
