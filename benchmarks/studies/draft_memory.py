"""Drafts from a memory of earlier answers against prompt lookup and none, on a workload that repeats itself.

    python -m benchmarks run draft_memory --data DIR

Written down before the study's answers were generated, and not changed since:

- prompts: of each of E2E restaurants, sentences for the past tense, coin flips and SVAMP the workload's first 16; the
  memory is of the greedy answers to the 24 after them. At most 40 new tokens, greedy, float32, each answer alone.
- configs: no drafts; drafts of 10 tokens by prompt lookup; the same number from the memory, and where it knows nothing
  by prompt lookup. The control is a memory of nothing.
- passes are counted along the greedy answers, all of which are the same text: a draft is asked for where the last one
  left off, as in the pilot of `drafting`. Seconds are the sum of what a pass over so many tokens took on one thread,
  by the process's CPU clock. Two prompts of each task are generated for real: text and passes must be as counted.
- aim: the memory takes at most .9 of prompt lookup's passes. A policy is fitted on the three, a second costing 1.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import hagpolicy as hag
from benchmarks.claims.engines.drafting import load, pass_seconds
from benchmarks.studies.drafting_pilot import widths
from benchmarks.sweeps.workload import tasks
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, Figure, arguments, bootstrap, figure, not_run, record
from hagpolicy.engines.transformers.decode import decode
from hagpolicy.engines.transformers.drafts import DraftMemory, drafting
from hagpolicy.engines.transformers.generate import run_generate

CLAIM = Claim(
    name="draft_memory",
    states="What drafts from a memory of earlier answers save over prompt lookup, greedy, batch 1, SmolLM2-135M",
    groups=("explore",),
    headline="all: passes, memory over prompt lookup",
    needs=("data", "llm"),
)
FILE = RESULTS / "sweeps" / "draft_memory" / "answers.jsonl"
MAKERS = (tasks.e2e, tasks.past, tasks.coin_flip, tasks.svamp)
EACH, REMEMBERED, REAL, QUICK = 16, 24, 2, 2
DRAFT, MAX_TOKENS = 10, 40
PLAIN = hag.DecodingConfig(temperature=0.0)
LOOKUP = PLAIN.replace(prompt_lookup_num_tokens=DRAFT)
SPACE = hag.DecodingSpace([PLAIN, LOOKUP, LOOKUP.replace(draft_source="memory")])
NAMES = ("none", "prompt lookup", "memory", "memory of nothing")


def answer_all(engine: Any, prompts: Sequence[hag.Prompt], path: Path) -> list[list[int]]:
    """Greedy answers as token ids; those that are stored are not generated again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    known = {line["prompt"]: line["tokens"] for line in lines}
    missing = [prompt for prompt in prompts if prompt.digest not in known]
    with path.open("a", encoding="utf-8") as out:
        for start in range(0, len(missing), 24):
            some = missing[start : start + 24]
            ids, count = [engine.encode(prompt.content) for prompt in some], len(some)
            more = [PLAIN] * count, [0] * count, [MAX_TOKENS] * count, engine.end_tokens
            done = decode(engine.model, ids, range(count), *more)
            for prompt, row, length in zip(some, done.tokens.tolist(), done.lengths.tolist(), strict=True):
                known[prompt.digest] = row[:length]
                out.write(json.dumps({"prompt": prompt.digest, "tokens": row[:length]}) + "\n")
            out.flush()
    return [known[prompt.digest] for prompt in prompts]


def count_passes(engine: Any, ids: Sequence[int], answer: Sequence[int], memories: Sequence[Any]) -> list[list[int]]:
    """The widths of an answer's passes under each of `NAMES`."""
    given = ids, answer, DRAFT, engine.end_tokens, MAX_TOKENS
    return [[1] * len(answer), widths(*given), *(widths(*given, memory) for memory in memories)]


def count_wrong(engine: Any, prompts: Sequence[hag.Prompt], found: Sequence[Any], answers: Any, memory: Any) -> int:
    """How many of some answers, generated for real, differ from what was counted, in text or passes."""
    wrong = 0
    for prompt, counted, answer in zip(prompts, found, answers, strict=True):
        for name, config, source in zip(NAMES, (PLAIN, LOOKUP, LOOKUP), (None, None, memory), strict=False):
            with drafting(engine.model, source):
                ids = [engine.encode(prompt.content)]
                (done,) = run_generate(engine.model, ids, config, 0, MAX_TOKENS, engine.end_tokens)
            wrong += done.tokens != answer or done.passes != len(counted[NAMES.index(name)])
    return wrong


def compare_costs(costs: np.ndarray, labels: np.ndarray, what: str) -> list[Figure]:
    """Ratios of sums, by task and in all: the memory over prompt lookup and over none, lookup over none.

    Args:
        costs: float64 (n_prompts, 4): of `NAMES`.
        labels: (n_prompts,): tasks.
        what: they are.
    """
    figures = []
    for task in ("all", *dict.fromkeys(labels.tolist())):
        mine = (labels == task) | (task == "all")
        for one, other in ((1, 0), (2, 0), (2, 1)):
            found = bootstrap(costs[mine][:, [one, other]], lambda rows, axis: np.divide(*rows.sum(axis=axis)))
            target = 0.9 if (task, what, one, other) == ("all", "passes", 2, 1) else None
            name = f"{task}: {what}, {NAMES[one]} over {NAMES[other]}"
            figures.append(figure(name, *found, unit="times", at_most=target))
    return figures


def describe_policy(prompts: Sequence[hag.Prompt], seconds: np.ndarray) -> tuple[list[Figure], Any]:
    """What choosing among the three configs per prompt saves, before the gate."""
    costs = seconds[:, :3, None]
    table = hag.SweepTable.from_arrays(prompts, SPACE, np.ones_like(costs), seconds=costs, default=0)
    evaluation = hag.fit(table, objective="price/second@1").evaluation
    assert evaluation is not None
    assert evaluation.candidate is not None
    gain, over = evaluation.candidate.gain, evaluation.sbs_over_default
    figures = [figure("policy over the single best, saved", gain.value, gain.low, gain.high, unit="s an answer")]
    if over is not None:
        figures.append(figure("single best over no drafts, saved", over.value, over.low, over.high, unit="s an answer"))
    return figures, evaluation


def main() -> int:
    args = arguments(__doc__ or "")
    if args.data is None:
        return not_run(CLAIM, "it needs the prompts: --data DIR", args)
    each, remembered = (QUICK, QUICK) if args.quick else (EACH, REMEMBERED)
    pools = [make(args.data) for make in MAKERS]
    prompts = [pool[number] for number in range(each) for pool in pools]
    earlier = [prompt for pool in pools for prompt in pool[EACH : EACH + remembered]]
    engine = load("float32")
    with ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "answers.jsonl" if args.quick else FILE
        answers = answer_all(engine, [*prompts, *earlier], path)
    ids = [engine.encode(prompt.content) for prompt in (*prompts, *earlier)]
    memory = DraftMemory.of(
        [*one[-2:], *said] for one, said in zip(ids[len(prompts) :], answers[len(prompts) :], strict=True)
    )
    memories = memory, DraftMemory.of([])
    pairs = list(zip(ids[: len(prompts)], answers[: len(prompts)], strict=True))
    found = [count_passes(engine, *pair, memories) for pair in pairs]
    passes = np.array([[len(one) for one in some] for some in found], dtype=float)
    taken = pass_seconds(engine)
    seconds = np.array([[np.interp(one, list(taken), list(taken.values())).sum() for one in some] for some in found])
    labels = np.array([prompt.task for prompt in prompts])
    figures = compare_costs(passes, labels, "passes") + compare_costs(seconds, labels, "seconds")
    unlike = float((passes[:, 3] != passes[:, 1]).sum())
    figures.append(
        figure("a memory of nothing: answers with other passes than prompt lookup's", unlike, unit="answers", at_most=0)
    )
    real = REAL * len(pools)
    wrong = count_wrong(engine, prompts[:real], found[:real], answers[:real], memory)
    figures.append(figure(f"of {3 * real} answers generated, other text or passes", wrong, unit="answers", at_most=0))
    figures.append(figure("trigrams in the memory", len(memory.counts), unit="trigrams"))
    comparisons = []
    if not args.quick:
        more, evaluation = describe_policy(prompts, seconds)
        figures, comparisons = figures + more, [evaluation]
    notes = f"{len(prompts)} prompts of four tasks, {len(earlier)} answers remembered; choices in the script's head."
    return record(CLAIM, figures, args, notes, comparisons=comparisons)


if __name__ == "__main__":
    raise SystemExit(main())
