"""The baseline that guesses the task of a prompt and looks its best config up."""

from __future__ import annotations

import numpy as np

from hagpolicy._extras import require
from hagpolicy.data.table import SweepTable
from hagpolicy.data.ties import choose_best
from hagpolicy.fitting.baselines.base import Baseline, BaselineChoices
from hagpolicy.fitting.baselines.features import Features
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.learners.base import Scaling

# Inverse strength of the classifier's penalty, on features of unit mean square.
_INVERSE_PENALTY = 0.1
_ITERATIONS = 500


class TaskLookup(Baseline):
    """A task classifier and a table of the best config of each task.

    Multinomial logistic regression on the encoder's features learns the training prompts' labels of
    tasks; a prompt then gets the config with the best training mean of the task it seems to be.
    With a perfect classifier it is "best per task, task known" without being told.

    Args:
        encoder: of the prompts, see `hagpolicy.fitting.encoders.registry`.
    """

    name = "task_lookup"
    note = "told the training prompts' tasks"

    def __init__(self, encoder: str | Encoder = "static") -> None:
        self.features = Features(encoder)

    def choose(
        self, table: SweepTable, values: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
    ) -> BaselineChoices:
        """See `Baseline.choose`.

        Raises:
            MissingExtra: scikit-learn is not installed.
        """
        tasks = table.tasks[train]
        best = {task: int(choose_best(values[train][tasks == task].mean(axis=0))) for task in np.unique(tasks)}
        guessed = self.guess(table, train, test)
        return BaselineChoices(np.array([best[task] for task in guessed], dtype=np.int64))

    def guess(self, table: SweepTable, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        """str (n_test,): the task that each test prompt seems to be; one of the training prompts' tasks.

        Args:
            table: prompts and their tasks; those of the test prompts are not read.
            train: bool (n_prompts,).
            test: bool (n_prompts,).
        """
        tasks = table.tasks[train]
        if len(np.unique(tasks)) == 1:
            return np.repeat(tasks[:1], int(test.sum()))
        linear = require("sklearn.linear_model", "fit", "the task classifier")
        features = self.features.of(table)
        scaling = Scaling.of(features[train])
        classifier = linear.LogisticRegression(C=_INVERSE_PENALTY, max_iter=_ITERATIONS)
        classifier.fit(scaling.apply(features[train]), tasks)
        return np.asarray(classifier.predict(scaling.apply(features[test])))
