"""How long libraries take to compile a constraint and to make the mask of a token, on the small LLM's tokenizer.

    python -m benchmarks run mask_libraries

Ours counts the tokens that remain, which the others do not. llguidance is what the extra brings; xgrammar is measured
where it can be imported (it brings torch and triton; `pip install --no-deps xgrammar apache-tvm-ffi` is enough here).
The same answers, written by random tokens under our masks, are read by each. Times are of the process's CPU clock.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import hagpolicy as hag
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, bootstrap, figure, record
from hagpolicy.engines.constraints.guide import AutomatonGuide, GrammarGuide, Guide, Guides
from hagpolicy.engines.constraints.vocabulary import Vocabulary, load_vocabulary
from hagpolicy.engines.transformers.engine import TransformersEngine

CLAIM = Claim(
    name="mask_libraries",
    states="What compiling a constraint and masking a token take: ours, llguidance and xgrammar (without promise)",
    groups=("explore",),
    headline="schema: ours: a mask",
    needs=("llm",),
)
LIMIT, ANSWERS, QUICK = 40, 20, 3
NAMES = {"type": "string", "maxLength": 20}
CONSTRAINTS = {
    "choices": hag.Constraint(choices=("yes", "no", "it depends on the weather")),
    "regex": hag.Constraint(regex=r"(\+\d{1,3} )?\d{3}-\d{4}|[a-z]{3,20}@[a-z]{3,20}\.(com|org)"),
    "schema": hag.Constraint(
        schema={
            "type": "object",
            "properties": {"name": NAMES, "age": {"type": "integer"}, "tags": {"type": "array", "items": NAMES}},
            "required": ["name", "age", "tags"],
            "additionalProperties": False,
        }
    ),
    "words": hag.Constraint(include=("dog", "frisbee", "catch", "throw"), max_words=20),
}
# A reader of an answer: the CPU seconds of each of its masks.
Reader = Callable[[list[int]], list[float]]


def read_by_guide(guide: Guide, tokens: list[int]) -> list[float]:
    """Seconds of each mask by a guide of ours, with the step to the next token."""
    state, taken = guide.start(), []
    for done, token in enumerate(tokens):
        begun = time.process_time()
        guide.allow(state, LIMIT - done)
        state = guide.advance(state, token)
        taken.append(time.process_time() - begun)
    return taken


def write_answers(guide: AutomatonGuide, ends: list[int], count: int) -> list[list[int]]:
    """Answers of tokens drawn from those allowed."""
    draw, answers = np.random.default_rng(0), []
    for _ in range(count):
        state, tokens = guide.start(), list[int]()
        while len(tokens) < LIMIT and not guide.is_complete(state):
            token = int(draw.choice(np.flatnonzero(guide.allow(state, LIMIT - len(tokens)))))
            if token in ends:
                break
            tokens.append(token)
            state = guide.advance(state, token)
        answers.append(tokens)
    return answers


def compile_ours(constraint: hag.Constraint, vocabulary: Vocabulary) -> AutomatonGuide:
    """A guide, with its counts."""
    guide = Guides(vocabulary).get(constraint)
    assert isinstance(guide, AutomatonGuide)
    return guide


def make_xgrammar(engine: TransformersEngine) -> Callable[[hag.Constraint], Reader] | None:
    """What compiles a constraint by xgrammar; None where it is not installed."""
    try:
        xgrammar: Any = importlib.import_module("xgrammar")
    except ImportError:
        return None
    size = engine.model.config.vocab_size
    about = xgrammar.TokenizerInfo.from_huggingface(engine.tokenizer, vocab_size=size)
    bits = xgrammar.allocate_token_bitmask(1, size)

    def compile_one(constraint: hag.Constraint) -> Reader:
        compiler = xgrammar.GrammarCompiler(about, max_threads=1)
        if constraint.schema is not None:
            compiled = compiler.compile_json_schema(json.dumps(constraint.schema))
        else:
            compiled = compiler.compile_regex(constraint.regex or "|".join(constraint.choices))

        def read(tokens: list[int]) -> list[float]:
            matcher, taken = xgrammar.GrammarMatcher(compiled), []
            for token in tokens:
                begun = time.process_time()
                matcher.fill_next_token_bitmask(bits)
                accepted = matcher.accept_token(token)
                taken.append(time.process_time() - begun)
                if not accepted:
                    break
            return taken

        return read

    return compile_one


def measure(name: str, compile_one: Callable[[], Reader], answers: list[list[int]]) -> list[Figure]:
    """Milliseconds to compile, the least of three; microseconds of a mask, their mean and the slowest of a hundred."""
    compiled = []
    for _ in range(3):
        begun = time.process_time()
        read = compile_one()
        compiled.append(time.process_time() - begun)
    taken = np.array([second for tokens in answers for second in read(tokens)]) * 1e6
    return [
        figure(f"{name}: compile", min(compiled) * 1e3, unit="ms"),
        figure(f"{name}: a mask", *bootstrap(taken, np.mean), unit="µs"),
        figure(f"{name}: a mask, 99 of 100 within", float(np.quantile(taken, 0.99)), unit="µs"),
    ]


def main() -> int:
    args = arguments(__doc__ or "")
    engine = hag.load_engine("smollm2")
    assert isinstance(engine, TransformersEngine)
    vocabulary = load_vocabulary(engine.tokenizer, engine.end_tokens, engine.model.config.vocab_size)
    xgrammar = make_xgrammar(engine)
    figures = []
    for name, constraint in CONSTRAINTS.items():
        answers = write_answers(
            compile_ours(constraint, vocabulary), engine.end_tokens, QUICK if args.quick else ANSWERS
        )

        def by_ours(constraint: hag.Constraint = constraint) -> Reader:
            guide = compile_ours(constraint, vocabulary)
            return lambda tokens: read_by_guide(guide, tokens)

        def by_llguidance(constraint: hag.Constraint = constraint) -> Reader:
            guide = GrammarGuide(constraint, vocabulary, "")
            return lambda tokens: read_by_guide(guide, tokens)

        figures += measure(f"{name}: ours", by_ours, answers)
        if name != "words":  # neither has words to include
            figures += measure(f"{name}: llguidance", by_llguidance, answers)
            if xgrammar is not None:
                figures += measure(f"{name}: xgrammar", lambda one=constraint: xgrammar(one), answers)
    notes = "" if xgrammar is not None else "xgrammar is not installed here."
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
