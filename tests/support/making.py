"""Small policies for tests, made the way `fit` makes them, but with a head that is known by hand.

python tests/making.py FOLDER    writes the fixtures of the current bundle format
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from hagpolicy.analysis.objectives import get_objectives, targets_of
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.prompts import Prompt, as_prompts
from hagpolicy.data.table import SweepTable
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder, with_vectors
from hagpolicy.fitting.encoders.static import StaticEncoder
from hagpolicy.fitting.export import Decided, build_points, export_policy
from hagpolicy.fitting.graphs.ood import fit_ood
from hagpolicy.fitting.learners.base import Learner
from hagpolicy.fitting.learners.linear import Affine, Constant
from hagpolicy.fitting.policy_graph import TaskTable
from hagpolicy.policy.policy import Policy
from hagpolicy.policy.reading import Reads
from hagpolicy.results import Estimate, Evaluation, EvaluationRow, Ships
from tests.support.paths import DATA

SPACE = DecodingSpace.grid(temperature=[0.0, 0.7], repetition_penalty=[1.0, 1.1, 1.2])
SUMS = [
    f"Tom has {a} apples and buys {b} more at the market. How many apples does Tom have now?"
    for a in range(2, 12)
    for b in (3, 5, 8)
]
LISTS = [
    f"List {count} different {things} and nothing else."
    for count in range(3, 8)
    for things in ("fruits", "rivers", "tools", "birds", "cities", "games")
]
CHINESE = "北京到上海的距离是一千二百公里，火车每小时走三百公里，需要多久？"
# Texts that tokenizers treat in ways of their own.
ODD = ["a", "\x00", "x" * 150, CHINESE, "def f(x):\n    return x\n", "half \ud83d emoji", "[PAD] [UNK] [CLS]", "é" * 50]


class Given(Learner):
    """Not fitted: values = features @ weights + intercept."""

    name = "given"

    def __init__(self, weights: np.ndarray, intercept: np.ndarray) -> None:
        self.affine = Affine(weights, intercept)

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> Affine:
        return self.affine


def real_prompts(count: int) -> list[Prompt]:
    """Grade-school questions (openai/grade-school-math); skips where the data is not there."""
    path = DATA / "tasks" / "gsm8k" / "train.jsonl"
    if not path.exists():
        pytest.skip(f"no data at {path}; set HAGPOLICY_DATA to a folder with tasks/gsm8k/train.jsonl")
    lines = path.read_text("utf-8").splitlines()[:count]
    return list(as_prompts(json.loads(line)["question"] for line in lines))


def sums_against_lists(
    encoder: Encoder | None = None,
    margin: float = 0.05,
    *,
    ships: Ships = "per_prompt",
    reads: Reads = "last_user",
    told: str = "",
) -> Policy:
    """A policy of SUMS and LISTS: config 0 is best on average and on sums, config 4 on lists; config 3 runs today.

    It may be told "sums", then config 2 is best, or "lists", 5; `told`: "reads", the text still matters; "alone", only
    the task does; "": it cannot be told.
    """
    prompts = as_prompts([*SUMS, *LISTS])
    side = np.repeat([1.0, -1.0], [len(SUMS), len(LISTS)])
    rewards = np.tile(np.linspace(0.6, 0.5, len(SPACE)), (len(prompts), 1))
    rewards[:, 0] += 0.25 + 0.1 * side
    rewards[:, 4] += 0.2 - 0.2 * side
    encoder = encoder or StaticEncoder()
    if isinstance(encoder, PrecomputedEncoder):
        prompts = with_vectors(prompts, np.random.default_rng(0).normal(0, 0.05, (len(prompts), 8)) + side[:, None])
    table = SweepTable.from_arrays(prompts, SPACE, rewards, default=3)
    features, unknown = compute_features(encoder, table.prompts)
    wide = features.astype(np.float64)
    axis = wide[side > 0].mean(axis=0) - wide[side < 0].mean(axis=0)
    slope = 2.0 * axis / (axis @ axis)  # reads +1 on the mean sum and -1 on the mean list
    shift = -(wide[side > 0].mean(axis=0) @ slope - 1.0)
    tilt = np.zeros(len(SPACE))
    tilt[[0, 4]] = 0.1, -0.2
    learner = (
        Constant() if ships != "per_prompt" else Given(np.outer(slope, tilt), table.means.mean(axis=0) + shift * tilt)
    )
    fitted = learner.fit(features, table.means, table.groups, 0)
    ood = fit_ood(features, unknown, table.groups, 0, encoder.length)
    row = EvaluationRow("sbs", 0.8, 0.7, 0.9, 0.0, 0.0, 0.0, 0.0)
    evaluation = Evaluation((row,), None, Estimate(0.3, 0.2, 0.4), n_prompts=len(prompts), n_groups=len(prompts))
    targets = targets_of(table, get_objectives("reward"))
    points = build_points(targets, (evaluation,), (Decided(margin, ships, 3 if ships == "default" else 0),))
    tasks = None
    if told:
        offsets = np.zeros((1, 3, len(SPACE)), dtype=np.float32)
        offsets[0, 1:] = 0.0 if told == "reads" else table.means.mean(axis=0)
        offsets[0, 1, 2], offsets[0, 2, 5] = offsets[0, 1, 2] + 0.5, offsets[0, 2, 5] + 0.7
        tasks = TaskTable(("sums", "lists"), np.array([1, *[told == "reads"] * 2], dtype=np.float32), offsets)
        points = (replace(points[0], told_ships=True, told_margin=0.02),)
    return export_policy(table, targets, encoder, learner, {"values": fitted}, ood, points, features, reads, tasks)


def vector(side: float) -> np.ndarray:
    """The vector of a prompt like a sum (1.0) or like a list (-1.0)."""
    return np.full(8, side, dtype=np.float32)


if __name__ == "__main__":
    sums_against_lists(PrecomputedEncoder()).save(sys.argv[1])
    sums_against_lists(PrecomputedEncoder(), told="reads").save(f"{sys.argv[1]}_told")
