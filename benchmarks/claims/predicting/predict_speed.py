"""`predict` costs little more than tokenizing the prompt.

    python -m benchmarks run predict_speed [--quick] [--data DIR]

One thread; prompts of 36 to 44 tokens, each one used once a round in shuffled order; every round takes
for each prompt, in a shuffled order again, the time of `Tokenizer.encode` (padding, truncation and
special tokens off) and of the policy's `predict`. A process serves one policy, so each is measured
beside an `encode` of its own: several would push each other out of the processor's caches. The figure
is the ratio of medians over prompts, with a bootstrap interval over prompts. Prompts are those of
`--data` (grade-school maths, openai/grade-school-math) where given, else made from templates.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import json
import sys
import time
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from benchmarks.tools.claim import Claim
from benchmarks.tools.record import arguments, bootstrap, figure, record
from hagpolicy import DecodingSpace, Policy, SweepTable
from hagpolicy.analysis.objectives import get_objectives, targets_of
from hagpolicy.data.prompts import as_prompts
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.registry import get_encoder
from hagpolicy.fitting.export import Decided, build_points, export_policy
from hagpolicy.fitting.graphs.ood import fit_ood
from hagpolicy.fitting.learners.base import Learner
from hagpolicy.fitting.learners.registry import get_learner
from hagpolicy.fitting.learners.trees import BoostedTrees
from hagpolicy.results import Evaluation

TARGETS: dict[str, tuple[str | Learner, float | None]] = {
    "blend": ("blend", 2.0),
    "ridge": ("ridge", 1.5),
    "mlp": ("mlp", 1.5),
    "lightgbm": ("lightgbm", 2.0),
    "knn": ("knn", None),
    "lightgbm with 250 rounds": (BoostedTrees(rounds=250), None),
}
CLAIM = Claim(
    name="predict_speed",
    states=(
        "A policy's predict costs at most 1.5 times tokenizing its prompt (ridge, MLP), 2 times (trees, and the blend "
        "that fit uses)."
    ),
    groups=("bench",),
    headline="predict / encode, blend",
)


def prompts(data: Path | None, tokenizer: Tokenizer) -> list[str]:
    """Distinct prompts of 36 to 44 tokens."""
    if data is not None:
        lines = (data / "tasks" / "gsm8k" / "train.jsonl").read_text("utf-8").splitlines()
        texts = [json.loads(line)["question"] for line in lines]
    else:
        rng = np.random.default_rng(0)
        words = [word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 3]
        texts = [f"How would you {' '.join(rng.choice(words, 30))}? Give one reason." for _ in range(1000)]
    return [text for text in dict.fromkeys(texts) if 36 <= len(tokenizer.encode(text).ids) <= 44]


def fitted_policy(name: str | Learner, texts: list[str]) -> Policy:
    """A policy of 300 prompts × 14 configs × 4 samples whose best config depends on the prompt."""
    space = DecodingSpace.preset("standard")
    rng = np.random.default_rng(1)
    encoder, learner = get_encoder("static"), get_learner(name)
    features, unknown = compute_features(encoder, as_prompts(texts))
    leaning = (features - features.mean(axis=0)) @ rng.normal(0, 0.03, (features.shape[1], len(space)))
    chances = 0.4 + 0.3 * np.tanh(leaning)
    rewards = rng.random((*chances.shape, 4)) < chances[:, :, None]
    table = SweepTable.from_arrays(texts, space, rewards.astype(np.float64))
    targets = targets_of(table, get_objectives("reward"))
    fitted = {targets.names[0]: learner.fit(features, table.means, table.groups, 0)}
    ood = fit_ood(features, unknown, table.groups, 0, encoder.length)
    nothing = Evaluation((), None, None, n_prompts=0, n_groups=0)
    points = build_points(targets, (nothing,), (Decided(0.03, "per_prompt", int(table.means.mean(axis=0).argmax())),))
    return export_policy(table, targets, encoder, learner, fitted, ood, points, features)


def measure(policy: Policy, tokenizer: Tokenizer, texts: list[str], rounds: int) -> np.ndarray:
    """Seconds (n_prompts, 2) of `predict` and of `encode`, medians over rounds."""
    calls = (policy.predict, tokenizer.encode)
    taken = np.zeros((rounds, len(texts), 2))
    rng = np.random.default_rng(2)
    for number in range(rounds):
        for row in rng.permutation(len(texts)):
            for which in rng.permutation(2):
                call, text = calls[which], texts[row]
                start = time.perf_counter_ns()
                call(text)
                taken[number, row, which] = (time.perf_counter_ns() - start) / 1e9
    return np.median(taken, axis=0)


def main() -> int:
    args = arguments(__doc__.split("\n")[0])
    files = get_encoder("static").files()
    tokenizer = Tokenizer.from_buffer(files["tokenizer.json"])
    texts = prompts(args.data, tokenizer)
    training, fresh = texts[:300], texts[300:][: 200 if args.quick else 600]
    figures = []
    for name, (learner, target) in TARGETS.items():
        policy = fitted_policy(learner, training)
        measure(policy, tokenizer, fresh[:50], 2)
        pairs = measure(policy, tokenizer, fresh, 5 if args.quick else 15)
        ratio, low, high = bootstrap(pairs, lambda rows, axis: np.divide(*np.median(rows, axis=axis)), draws=1000)
        figures.append(figure(f"predict / encode, {name}", ratio, low, high, unit="times", at_most=target))
        for column, call in enumerate((f"predict, {name}", "encode beside it")):
            figures.append(figure(f"{call}, median", float(np.median(pairs[:, column])) * 1e6, unit="µs"))
    what = "grade-school maths questions" if args.data else "generated prompts"
    return record(CLAIM, figures, args, f"{len(fresh)} {what} of 36 to 44 tokens, 14 configs")


if __name__ == "__main__":
    sys.exit(main())
