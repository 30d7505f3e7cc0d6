"""Tokens per second of batches in which some rows are masked by constraints of their own, over the same without masks.

Both runs of a pair decode the same prompts in the same batch to the same number of new tokens in each row: the plain
run gets the lengths that the masked one had as its limits, and no end tokens. Every pair has constraints that the
engine has not seen, so that compiling them counts. Half of the rows have one: words of its own, or of a schema and an
expression that the rows of a pair share, as the prompts of a task do. In pairs of the second kind every row has a
schema and an expression of its own, which is the most that there can be to compile. Settings are mixed. Seconds are
those of the process's CPU clock, on one thread: other work on the machine is not counted.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import random
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

import hagpolicy as hag
from benchmarks.sweeps.workload import words
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import arguments, bootstrap, figure, record, wilson
from hagpolicy.engines.constraints.check import meets
from hagpolicy.engines.transformers.engine import TransformersEngine

CLAIM = Claim(
    name="masked_throughput",
    states="Batches with masked rows generate at least 0.9 of the tokens per second that they generate without masks",
    groups=("bench",),
    headline="tokens a second, masked over plain",
    needs=("llm",),
)
PAIRS, QUICK, ROWS, MAX_TOKENS = 6, 1, 48, 40
SETTINGS = ({"temperature": 0.0}, {}, {"top_p": 0.9}, {"temperature": 0.7, "repetition_penalty": 1.2})


def make_constraint(kind: int, draw: random.Random) -> hag.Constraint:
    """One of four kinds, of words and bounds that were hardly drawn before."""
    some = draw.sample(words.NOUNS, 3)
    if kind == 0:
        return hag.Constraint(include=tuple(some), min_words=draw.randint(8, 12), max_words=draw.randint(20, 26))
    if kind == 1:
        text = {"type": "string", "minLength": 1, "maxLength": draw.randint(15, 40)}
        names = [*some, "about"]
        return hag.Constraint(schema={"type": "object", "properties": dict.fromkeys(names, text), "required": names})
    if kind == 2:
        return hag.Constraint(regex=rf"({'|'.join(some)}): [a-z ,]{{{draw.randint(20, 40)},120}}\.")
    return hag.Constraint(avoid=tuple(draw.sample(words.VERBS, 4)), min_words=draw.randint(15, 20))


def make_unit(draw: random.Random, *, own: bool) -> list[hag.Request]:
    """Cells of one batch, half of them with a constraint; `own`: with a schema and an expression each."""
    shared = {kind: make_constraint(kind, draw) for kind in (1, 2)}
    unit = []
    for row in range(ROWS):
        text = f"Write about a {draw.choice(words.ADJECTIVES)} {draw.choice(words.NOUNS)}."
        kind, constraint = row // 2 % 4, None
        if row % 2:
            constraint = make_constraint(kind, draw) if own or kind not in shared else shared[kind]
        config = hag.DecodingConfig(**SETTINGS[row // 8 % len(SETTINGS)], constrain="mask")
        unit.append(hag.Request(hag.Prompt(text, constraint=constraint), config, 0, draw.getrandbits(62), MAX_TOKENS))
    return unit


def time_unit(engine: TransformersEngine, unit: Sequence[hag.Request]) -> tuple[list[hag.Completion], float]:
    """Completions, and new tokens per CPU second."""
    begun = time.process_time()
    done = engine.generate(unit)
    seconds = time.process_time() - begun
    assert not [one.error for one in done if one.error]
    return done, sum(one.tokens for one in done) / seconds


def time_plain(engine: TransformersEngine, unit: Sequence[hag.Request], lengths: Sequence[int]) -> float:
    """New tokens per CPU second without masks, to the given lengths."""
    plain = [
        replace(one, config=one.config.replace(constrain=""), max_tokens=length)
        for one, length in zip(unit, lengths, strict=True)
    ]
    ends, engine.end_tokens = engine.end_tokens, []
    try:
        done, rate = time_unit(engine, plain)
    finally:
        engine.end_tokens = ends
    assert [one.tokens for one in done] == list(lengths)
    return rate


def measure(engine: TransformersEngine, pairs: int, *, own: bool) -> tuple[list[float], list[float], list[bool]]:
    """Ratios of masked to plain rates, plain rates, and whether each masked answer meets its constraint."""
    draw, ratios, plain, met = random.Random(f"masked_throughput {own}"), [], [], []
    for _ in range(pairs):
        unit = make_unit(draw, own=own)
        done, rate = time_unit(engine, unit)
        plain.append(time_plain(engine, unit, [int(one.tokens) for one in done]))
        ratios.append(rate / plain[-1])
        given = [(request.prompt.constraint, one.text) for request, one in zip(unit, done, strict=True)]
        met += [meets(constraint, text) for constraint, text in given if constraint is not None]
    return ratios, plain, met


def main() -> int:
    args = arguments(__doc__ or "")
    engine = hag.load_engine("smollm2", device="cpu", threads=1)
    assert isinstance(engine, TransformersEngine)
    time_unit(engine, make_unit(random.Random("warm"), own=False))  # reads the vocabulary
    pairs = QUICK if args.quick else PAIRS
    ratios, plain, met = measure(engine, pairs, own=False)
    worst, _, met_too = measure(engine, max(pairs // 2, 1), own=True)
    met += met_too
    figures = [
        figure("tokens a second, masked over plain", *bootstrap(ratios), unit="times", at_least=0.9),
        figure("the same, a schema and an expression a row", *bootstrap(worst), unit="times"),
        figure("plain", *bootstrap(plain), unit="tokens/CPU s"),
        figure("masked answers that meet it", np.mean(met), *wilson(sum(met), len(met)), unit="share", at_least=1.0),
    ]
    notes = f"{len(ratios)} and {len(worst)} pairs of batches of {ROWS} rows, at most {MAX_TOKENS} new tokens each."
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
