"""Trains the weights of `hagpolicy.policy.context` on the patterns of `context_examples.json`.

    python -m benchmarks.tools.train_context [--check]

Logistic regression with an L2 penalty by Newton's method. Patterns are held out in five folds, not their fillings; the
threshold is the one at which .03 of held-out messages that stand by themselves would fall back. Prints what held-out
patterns came to; `--check` writes nothing. None of the messages of
`chat_turns`, which claims are measured on, was written from them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import hagpolicy
from hagpolicy.policy.context import list_features

FILLINGS = 40
LEAST_PATTERNS = 2
PENALTY = 3.0
FALSE_ALARMS = 0.03
EXAMPLES = Path(__file__).parent / "context_examples.json"
ASSET = Path(hagpolicy.__file__).parent / "assets" / "context.json"


def expand(pattern: str, slots: Mapping[str, list[str]], rng: np.random.Generator) -> str:
    """One filling of a pattern: "(a|b|)" is one of several, and may be inside another; "<noun>" one of a slot's."""
    text = pattern
    while found := re.search(r"\(([^()]*\|[^()]*)\)", text):
        text = text[: found.start()] + str(rng.choice(found[1].split("|"))) + text[found.end() :]
    while found := re.search(r"<(\w+)>", text):
        text = text[: found.start()] + str(rng.choice(slots[found[1]])) + text[found.end() :]
    return " ".join(text.split())


def vary(text: str, rng: np.random.Generator) -> str:
    """The text as others type it: capitals, end marks, haste."""
    kind = int(rng.integers(6))
    if kind < 3:
        text = text[:1].upper() + text[1:]
    if kind == 1 and text[-1] not in "?!.":
        text += "."
    return text.lower() if kind == 4 else text


def examples(patterns: list[str], slots: Mapping[str, list[str]], rng: np.random.Generator) -> list[tuple[int, str]]:
    """Number of the pattern and a filling of it, each filling once."""
    return [
        (number, text)
        for number, pattern in enumerate(patterns)
        for text in sorted({vary(expand(pattern, slots, rng), rng) for _ in range(FILLINGS)})
    ]


def fit(rows: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float64 (n_features,): weights; the first feature is the bias, which bears no penalty."""
    found = np.zeros(rows.shape[1])
    penalty = np.full(rows.shape[1], PENALTY)
    penalty[0] = 1e-3
    for _ in range(12):
        chance = 1 / (1 + np.exp(-rows @ found))
        slope = rows.T @ (weights * (chance - wanted)) + penalty * found
        curve = (rows * (weights * chance * (1 - chance))[:, None]).T @ rows + np.diag(penalty)
        found -= np.linalg.solve(curve, slope)
    return found


def main() -> int:
    rng = np.random.default_rng(0)
    written = json.loads(EXAMPLES.read_text("utf-8"))
    kinds = written["follow_ups"], written["self_contained"]
    texts, wanted, patterns = [], [], []
    for label, of in zip((1, 0), kinds, strict=True):
        for number, text in examples(of, written["slots"], rng):
            texts.append(list_features(text) or ["bias"])
            wanted.append(label)
            patterns.append(number + (0 if label else len(kinds[0])))
    labels, kinds_of = np.array(wanted, float), np.array(patterns)
    seen: dict[str, set[int]] = {}
    for found, pattern in zip(texts, patterns, strict=True):
        for feature in found:
            seen.setdefault(feature, set()).add(pattern)
    names = ["bias", *sorted(name for name, of in seen.items() if len(of) >= LEAST_PATTERNS and name != "bias")]
    column = {name: number for number, name in enumerate(names)}
    rows = np.zeros((len(texts), len(names)), np.float64)
    for row, found in enumerate(texts):
        rows[row, [column[name] for name in found if name in column]] = 1.0
    # Every pattern counts alike, however many different fillings it has.
    counts = {pattern: int((kinds_of == pattern).sum()) for pattern in set(patterns)}
    weights = np.array([15.0 / counts[pattern] for pattern in patterns])
    fold = {pattern: number % 5 for number, pattern in enumerate(rng.permutation(sorted(counts)).tolist())}
    folds = np.array([fold[pattern] for pattern in patterns])
    held = np.zeros(len(texts))
    for number in range(5):
        inside = folds != number
        held[~inside] = rows[~inside] @ fit(rows[inside], labels[inside], weights[inside])
    alone = np.sort(held[labels == 0])
    threshold = float(np.quantile(alone, 1 - FALSE_ALARMS))
    print(f"{len(names)} features, {len(texts)} examples of {len(counts)} patterns, threshold {threshold:.3f}")
    print(f"held-out follow-ups found: {(held[labels == 1] > threshold).mean():.3f}")
    for pattern, words in enumerate((*kinds[0], *kinds[1])):
        share = float((held[kinds_of == pattern] > threshold).mean())
        if share < 0.7 if pattern < len(kinds[0]) else share > 0.1:
            print(f"  {share:.2f} {words:.110}")
    final = fit(rows, labels, weights)
    kept = {name: round(float(weight), 3) for name, weight in zip(names, final, strict=True) if abs(weight) >= 0.01}
    if "--check" not in sys.argv:
        content = {"threshold": round(threshold, 3), "weights": kept}
        ASSET.write_text(json.dumps(content, ensure_ascii=False, indent=0, sort_keys=True) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
