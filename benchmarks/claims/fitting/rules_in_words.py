"""Claim: ten rules in words tell most of what a policy decides, and rules or forests prove nothing where nothing is.

    python -m benchmarks run rules_in_words [--quick] [-- --worlds 20 --nulls 20 --quick-nulls 60]

On simulated worlds of known truth other than those of `worlds.py` (and than those that the learner was written on,
seeds 2000 to 2005). Strong worlds: the policy that `fit` finds with its defaults is distilled on its own table's
prompts and 1,200 others that nobody answered, as it decides for any prompt, and on its table's alone; on 600 new
prompts, which share of its decisions do the rules reproduce, which share its most frequent decision alone, and which
share of its true gain over the single best config do the rules keep. Beside it what rules that are fitted themselves
gain. Null worlds: how often `rules` on words, and each other learner on the static encoder's features, let a policy
ship, and how often one that is truly no better than what it replaces. For ridge more worlds were drawn after 8 of each
kind had shown 3 such policies in 40.

Resumable: one line a world in benchmarks/results/rules_in_words/<kind>.jsonl.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
from functools import partial

import numpy as np

import hagpolicy as hag
from benchmarks.claims.fitting import worlds
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, Figure, arguments, bootstrap, figure, record
from benchmarks.tools.resumable import Row, resumed, share
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.words import WordsEncoder
from hagpolicy.fitting.learners.rules import Rules

CLAIM = Claim(
    name="rules_in_words",
    states="Ten rules in words reproduce a policy's decisions in strong worlds, and learners of trees and rules ship "
    "little in null worlds",
    groups=("simulation",),
    headline="strong worlds: decisions on new prompts that ten rules reproduce",
)
FIRST, FIRST_NULL = 4000, 5000
N_NEW, N_MORE = 600, 1200
NULLS = tuple(name for name, kind in worlds.KINDS.items() if kind.null)
LEARNERS = {"rules": "words", **dict.fromkeys(("forest", "lightgbm", "knn", "ridge", "mlp"), "static")}
QUICK = ("ridge", "mlp")


def run_strong(seed: int) -> Row:
    """What rules tell of the policy of one strong world, and what fitted ones gain."""
    engine, table = worlds.draw(worlds.KINDS["strong"], seed)
    policy = hag.fit(table)
    policy = policy.candidate or policy
    new = list(engine.prompts(N_NEW, seed=3))
    wanted, own = find_choices(policy, new), list(table.prompts)
    told, lines = tell(policy, [*own, *engine.prompts(N_MORE, seed=4)], new)
    told_own, _ = tell(policy, own, new)
    truth, rows = engine.truth(new, table.space), np.arange(N_NEW)
    over = truth - truth[:, [policy.reference_index]]
    rules = hag.fit(table, encoder="words", learner="rules")
    return {
        "reproduced": float((told == wanted).mean()),
        "reproduced by fewer": float((told_own == wanted).mean()),
        "constant": float((wanted == np.bincount(find_choices(policy, own)).argmax()).mean()),
        "policy": float(over[rows, wanted].mean()),
        "told": float(over[rows, told].mean()),
        "fitted": worlds.judged(engine, rules, seed).shipped_gain,
        "lines": lines,
    }


def tell(policy: hag.Policy, prompts: list[hag.Prompt], new: list[hag.Prompt]) -> tuple[np.ndarray, int]:
    """What rules distilled on some prompts choose for others, int64 (n_new,), and how many lines they have."""
    encoder = WordsEncoder().learn(prompts)
    seen, fresh = (compute_features(encoder, some)[0] for some in (prompts, new))
    targets = np.eye(len(policy.space))[find_choices(policy, prompts)]
    fitted = Rules().fit(seen, targets, np.arange(len(seen)), 0)
    return fitted.predict(fresh).argmax(axis=1), len(fitted.conditions) + 1


def find_choices(policy: hag.Policy, prompts: list[hag.Prompt]) -> np.ndarray:
    """int64 (n,): index of the config that a policy chooses for each prompt."""
    return np.array([policy.space.index(decision.config) for decision in policy.decide_batch(prompts)])


def run_null(kind: str, learner: str, seed: int) -> Row:
    """The true gain over the reference of a choice per prompt that ships, by one learner; None: none does.

    A choice that settles on a config which is truly better than the default is no false alarm, small as its gain is.
    """
    engine, table = worlds.draw(worlds.KINDS[kind], seed)
    policy = hag.fit(table, encoder=LEARNERS[learner], learner=learner)
    return {"gain": worlds.judged(engine, policy, seed).shipped_gain if policy.ships == "per_prompt" else None}


def describe_strong(rows: list[Row]) -> list[Figure]:
    """Means over worlds, with intervals over them."""
    columns = {name: np.array([row[name] for row in rows], dtype=float) for name in rows[0] if name != "seed"}
    made = [
        figure(CLAIM.headline, *bootstrap(columns["reproduced"], np.mean), unit="share", at_least=0.9),
        *(
            figure(f"strong worlds: {words}", *bootstrap(columns[name], np.mean), unit="share")
            for name, words in {
                "reproduced by fewer": "decisions that rules distilled on the table's prompts alone reproduce",
                "constant": "the most frequent decision alone",
            }.items()
        ),
    ]
    for name, words in {"told": "told in rules", "fitted": "of rules that are fitted themselves"}.items():
        draws = np.random.default_rng(0).integers(len(rows), size=(2000, len(rows)))
        ratios = columns[name][draws].mean(axis=1) / columns["policy"][draws].mean(axis=1)
        kept = float(columns[name].mean() / columns["policy"].mean())
        label = f"strong worlds: true gain {words}, over the policy's"
        made.append(figure(label, kept, *np.quantile(ratios, [0.025, 0.975]).tolist(), unit="ratio"))
    return [*made, figure("strong worlds: lines", float(columns["lines"].mean()), unit="lines", at_most=11.0)]


def main() -> int:
    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--worlds", type=int, default=20)
        parser.add_argument("--nulls", type=int, default=20, help="worlds of each null kind")
        parser.add_argument("--quick-nulls", type=int, default=60, help="for ridge and mlp, which are fitted quickly")

    args = arguments(CLAIM.states, more=more)
    n, nulls, more_nulls = (2, 1, 1) if args.quick else (args.worlds, args.nulls, args.quick_nulls)
    folder, store = RESULTS / CLAIM.name, not args.quick
    cases = [{"seed": FIRST + number} for number in range(n)]
    found = describe_strong(resumed(folder / "strong.jsonl", cases, run_strong, store=store))
    for name, encoder in LEARNERS.items():
        cases = [{"seed": FIRST_NULL + number} for number in range(more_nulls if name in QUICK else nulls)]
        rows = [
            row
            for kind in NULLS
            for row in resumed(folder / f"{kind}-{name}.jsonl", cases, partial(run_null, kind, name), store=store)
        ]
        shipped = [row["gain"] for row in rows if row["gain"] is not None]
        label = f"null worlds: {name} on {encoder}"
        found.append(share(f"{label}: a policy ships", len(shipped), len(rows)))
        worse = sum(gain <= 0.0 for gain in shipped)
        found.append(share(f"{label}: one ships and is truly no better", worse, len(rows), at_most=0.025))
    notes = (
        f"{n} strong worlds; of each of {len(NULLS)} null kinds {more_nulls} for ridge and mlp, {nulls} "
        "for the others. Prompts and samples as in `worlds`."
    )
    return record(CLAIM, found, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
