"""What drafting by prompt lookup saves, prompt by prompt: forward passes and seconds at batch 1, one CPU thread.

Chosen before the measurement, on 39 other prompts (`drafting_pilot.py`), where the lookups of drafts of 1 to 20 tokens
are counted along greedy answers and weighed by the time of passes over as many tokens:

- Prompts: 17 of each of the workload's eleven tasks, of open-ended stories, where drafts are seldom right, and of
  proofreading, where the answer is nearly the prompt: 221. At most 64 new tokens, greedy, each answer alone.
- Data type: float32, which is the engine's default on a CPU and in which a drafted text is the plain one; the first 6
  of each task also in bfloat16. In bfloat16 a pass over eleven tokens took this CPU hardly longer than one over a
  single token, so that the pilot expected drafts of 10 to be best or nearly so for every task, and nothing to be won by
  choosing. In float32 it took twice as long, and drafts of 10 were expected to save three tenths of the time on some
  tasks and to cost as much on others. So float32 is where there is a question: the table that policies are fitted on.
- Configs: no drafting; drafts of 10 tokens, transformers' own default; and of 3, in float32 expected to be the best for
  all prompts together, so that a policy is held against the best choice that needs no policy. On every task another
  length than the best of these three was expected to save less than a tenth more.
- Plain and drafted answers go through the same call of transformers' `generate`, weights laid out as the engine does.
  The three configs of a prompt are measured one after the other in random order.
- Seconds are those of the process's CPU clock, prompt included; wall seconds are stored beside them. The first 6
  prompts of each task are measured twice in float32, to know the noise. (Planned for all, given up after 13 prompts:
  other work on the machine left this a tenth of a core.)

Each prompt is one line of `results/sweeps/drafting/DTYPE.jsonl`; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from benchmarks.sweeps import drafted
from benchmarks.sweeps.drafted import DRAFTS, EACH, MAX_TOKENS, SPACE, TWICE, Drafting
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, bootstrap, figure, not_run, record
from hagpolicy import Prompt, load_engine
from hagpolicy.engines.transformers.engine import TransformersEngine
from hagpolicy.engines.transformers.generate import Generated, run_generate

CLAIM = Claim(
    name="drafting",
    states="What drafting by prompt lookup saves and costs, by task, on SmolLM2-135M-Instruct at batch 1 on a CPU.",
    groups=("generate",),
    headline="float32, all: seconds, drafts of 10 over none",
    needs=("data", "llm", "hours"),
)
SEED = 20261123
WIDTHS = (1, 2, 4, 8, 11, 21)
KNOWN = "the best for all"


@dataclass(frozen=True)
class Measured:
    """One answer: what was generated, and the seconds it took of the process's CPU clock and of the wall's."""

    done: Generated
    cpu: float
    wall: float


def load(dtype: str) -> TransformersEngine:
    """The model on one thread."""
    torch.set_num_threads(1)
    engine = load_engine("smollm2", dtype=dtype, device="cpu")
    assert isinstance(engine, TransformersEngine)
    return engine


def pass_seconds(engine: TransformersEngine, times: int = 9) -> dict[int, float]:
    """CPU seconds of a forward pass after 100 tokens, the median of some, by how many tokens it computes."""
    ids = torch.arange(100, 200)[None]
    taken: dict[int, list[float]] = {width: [] for width in WIDTHS}
    cache = DynamicCache(config=engine.model.config)
    with torch.inference_mode():
        engine.model(input_ids=ids, past_key_values=cache, logits_to_keep=1)
        for _ in range(times):
            for width, seconds in taken.items():
                begun = time.process_time()
                engine.model(input_ids=ids[:, :width], past_key_values=cache, logits_to_keep=width)
                seconds.append(time.process_time() - begun)
                cache.crop(-width)
    return {width: float(np.median(seconds)) for width, seconds in taken.items()}


def timed(engine: TransformersEngine, prompt: Prompt, index: int) -> Measured:
    """Generate one answer under config `index`, alone."""
    ids = engine.encode(prompt.content)
    cpu, wall = time.process_time(), time.perf_counter()
    (done,) = run_generate(engine.model, [ids], SPACE[index], 0, MAX_TOKENS, engine.end_tokens)
    return Measured(done, time.process_time() - cpu, time.perf_counter() - wall)


def measure(engine: TransformersEngine, prompt: Prompt, times: int) -> dict[str, Any]:
    """The stored line of one prompt, measured so many times; its lists have an entry for each config."""
    runs: list[list[Measured]] = [[] for _ in DRAFTS]
    draw = random.Random(f"{SEED} {prompt.digest}")
    for _ in range(times):
        for index in draw.sample(range(len(DRAFTS)), len(DRAFTS)):
            runs[index].append(timed(engine, prompt, index))
    first = [some[0].done for some in runs]
    texts = [engine.tokenizer.decode(done.tokens, skip_special_tokens=True) for done in first]
    return {
        "prompt": prompt.digest,
        "id": prompt.id,
        "texts": [text if index == 0 or text != texts[0] else None for index, text in enumerate(texts)],
        "equal": [done.tokens == first[0].tokens for done in first],
        "tokens": [len(done.tokens) for done in first],
        "passes": [done.passes for done in first],
        "cpu": [[round(one.cpu, 5) for one in some] for some in runs],
        "wall": [[round(one.wall, 5) for one in some] for some in runs],
        "load": round(os.getloadavg()[0], 2),
    }


def measure_all(prompts: list[Prompt], dtype: str) -> None:
    """Measure what is not stored yet, a line a prompt; prompts in the order of `drafted.prompts`."""
    facts, lines = drafted.stored(dtype)
    missing = [prompt for prompt in prompts if prompt.digest not in lines]
    if not missing:
        return
    twice = set(prompts[: TWICE[dtype] * len({prompt.task for prompt in prompts})])
    engine = load(dtype)
    path = drafted.FOLDER / f"{dtype}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not facts:
        said = {"engine": dict(engine.fingerprint), "max_tokens": MAX_TOKENS, "drafts": DRAFTS, "threads": 1}
        said["pass_seconds"] = pass_seconds(engine)
        path.write_text(json.dumps(said) + "\n", "utf-8")
    elif facts["engine"] != dict(engine.fingerprint):
        raise SystemExit(f"{path} was measured with {facts['engine']}. Move it away to measure again.")
    for index in range(len(DRAFTS)):  # the first call of each kind sets up what later ones find
        timed(engine, missing[0], index)
    with path.open("a", encoding="utf-8") as out:
        for prompt in missing:
            times = 2 if prompt in twice else 1
            out.write(json.dumps(measure(engine, prompt, times), ensure_ascii=False) + "\n")
            out.flush()


def figures_of(found: Drafting, dtype: str) -> list[Figure]:
    """Drafted answers over plain ones, in passes and in seconds, by task and in all; what choosing could save."""
    seconds = _seconds(found)
    one, *more = found.facts["pass_seconds"].items()
    figures = [figure(f"{dtype}: a pass over {width} tokens over one", s / one[1], unit="times") for width, s in more]
    for task in [*dict.fromkeys(found.table.tasks.tolist()), ""]:
        mine = found.table.tasks == task if task else np.ones(len(seconds), dtype=bool)
        for index in range(1, len(DRAFTS)):
            for what, values in (("passes", found.passes), ("seconds", seconds)):
                name = f"{dtype}, {task or 'all'}: {what}, drafts of {DRAFTS[index]} over none"
                figures.append(figure(name, *_ratio(values[mine][:, [index, 0]]), unit="times"))
        name = f"{dtype}, {task or 'all'}: drafted texts equal to the plain one"
        figures.append(figure(name, found.equal[mine][:, 1:].mean(), unit="share"))
    best = int(seconds.mean(axis=0).argmin())
    figures.append(figure(f"{dtype}: best length of draft for all prompts", DRAFTS[best], unit="tokens"))
    saved = np.stack([_task_choice(found), seconds[:, best]], axis=1)
    figures.append(
        figure(f"{dtype}: seconds, each task's best, task known, over {KNOWN}", *_ratio(saved), unit="times")
    )
    both = found.cpu[~np.isnan(found.cpu).any(axis=(1, 2))]
    if len(both):
        chosen = both[np.arange(len(both)), both[:, :, 0].argmin(axis=1), 1]
        saved = np.stack([chosen, both[:, best, 1]], axis=1)
        figures.append(figure(f"{dtype}: seconds, each prompt's best, over {KNOWN}", *_ratio(saved), unit="times"))
        noise = np.median(np.abs(both[:, :, 0] - both[:, :, 1]) / both.mean(axis=2))
        figures.append(figure(f"{dtype}: two measurements of an answer differ by, median", noise, unit="share"))
    return figures


def _seconds(found: Drafting) -> np.ndarray:
    return np.asarray(found.table.seconds, dtype=float)[:, :, 0]


def _task_choice(found: Drafting) -> np.ndarray:
    """float64 (n_prompts,): seconds where each prompt takes the config that is fastest for the others of its task."""
    seconds, tasks, rows = _seconds(found), found.table.tasks, np.arange(len(found.table.tasks))
    others = [(tasks == task) & (rows != row) for row, task in enumerate(tasks)]
    return np.array([seconds[row, seconds[some].mean(axis=0).argmin()] for row, some in enumerate(others)])


def _ratio(pairs: np.ndarray) -> tuple[float, float, float]:
    """(ratio of sums, low, high): columns (this, that), bootstrapped over prompts."""
    return bootstrap(pairs, lambda rows, axis: np.divide(*rows.sum(axis=axis)))


def main() -> int:
    parser = argparse.ArgumentParser(description=CLAIM.states)
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of public data; see benchmarks/README.md")
    parser.add_argument("--quick", action="store_true", help="from the stored measurements, writes nothing")
    args = parser.parse_args()
    if args.data is None:
        return not_run(CLAIM, "no --data", args)
    figures = []
    for dtype, each in EACH.items():
        if not args.quick:
            measure_all(drafted.prompts(args.data, each), dtype)
        figures += figures_of(drafted.drafting(args.data, dtype), dtype)
    return record(CLAIM, figures, args)


if __name__ == "__main__":
    raise SystemExit(main())
