"""TURN on SmolLM2-135M-Instruct: where the entropy of its answers to the workload's prompts turns, and what that costs.

Writes the curve to `benchmarks/results/turn/smollm2.json`, from which `Turn.from_results` makes the baseline again
without an LLM. One of the cheapest methods there are: some 12,000 tokens once, no label, nothing at call time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.baselines.entropy import EntropyCurve, measure_entropy
from benchmarks.baselines.turn import BEST_OF, MAX_TOKENS, TEMPERATURES, nearest_sampled, turning_point
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import RESULTS, Figure, arguments, figure, not_run, record
from hagpolicy import DecodingSpace, Prompt, load_engine
from hagpolicy.cli.demo import read_demo_prompts

CLAIM = Claim(
    name="turn",
    states="The temperature that TURN finds for SmolLM2-135M-Instruct without labels, and what finding it costs once.",
    groups=("generate",),
    headline="entropy turning point",
    needs=("data", "llm"),
    after=("workload_sweep",),
)
CURVE = RESULTS / "turn" / "smollm2.json"
PROMPTS, DRAWS, SEED = 32, 2000, 0


def spread_over_tasks(prompts: Sequence[Prompt], count: int, seed: int = SEED) -> list[Prompt]:
    """So many prompts in random order, each task as often as the others as far as that goes."""
    draw, by_task = np.random.default_rng(seed), {}
    for index in draw.permutation(len(prompts)).tolist():
        by_task.setdefault(prompts[index].task, []).append(prompts[index])
    turns = sorted((place, task) for task, mine in by_task.items() for place in range(len(mine)))
    return [by_task[task][place] for place, task in turns[:count]]


def drawn_turns(curve: EntropyCurve, draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """float64 (draws,): the turning point of prompts drawn with replacement."""
    count = len(curve.entropies)
    rows = np.random.default_rng(seed).integers(0, count, (draws, count))
    return np.array([turning_point(curve.temperatures, curve.entropies[some].mean(axis=0)) for some in rows])


def figures_of(curve: EntropyCurve, space: DecodingSpace | None) -> list[Figure]:
    """Turning point, config and cost; without the config where no space is given."""
    turn, drawn = turning_point(curve.temperatures, curve.mean), drawn_turns(curve)
    low, high = np.quantile(drawn, [0.025, 0.975])
    figures = [figure("entropy turning point", turn, min(low, turn), max(high, turn), unit="temperature")]
    for name, shift in (("", 0.0), (", best of several samples", BEST_OF)) if space is not None else ():
        assert space is not None
        chosen = nearest_sampled(space, turn + shift)
        same = np.mean([nearest_sampled(space, one + shift) == chosen for one in drawn])
        figures.append(figure(f"nearest config, {space[chosen]}{name}", space[chosen].temperature, unit="temperature"))
        figures.append(figure(f"the same config in draws of the prompts{name}", same, unit="share"))
    figures.append(figure("new tokens, once", curve.tokens, unit="tokens"))
    return figures


def measured(prompts: Sequence[Prompt], max_tokens: int) -> tuple[EntropyCurve, float]:
    """The curve from the LLM, and the seconds of processor time it took: other work of the machine adds none."""
    engine = load_engine("smollm2", dtype="bfloat16")  # as the workload is swept
    begun = time.process_time()
    return measure_entropy(engine, prompts, TEMPERATURES, max_tokens, SEED), time.process_time() - begun


def kept(prompts: Sequence[Prompt], max_tokens: int, path: Path = CURVE) -> tuple[EntropyCurve, float]:
    """The stored curve where it is of these prompts, temperatures and limit; else measured and stored."""
    asked = {
        "temperatures": list(TEMPERATURES),
        "max_tokens": max_tokens,
        "prompts": [prompt.digest[:16] for prompt in prompts],  # their texts belong to public data sets
    }
    if path.exists():
        found = json.loads(path.read_text("utf-8"))
        if asked.items() <= found.items():
            curve = EntropyCurve(TEMPERATURES, found["entropies"], found["tokens"], found["seconds"])
            return curve, found["processor_seconds"]
    curve, processor = measured(prompts, max_tokens)
    numbers = {"entropies": np.round(curve.entropies, 5).tolist(), "tokens": curve.tokens}
    times = {"seconds": round(curve.seconds, 1), "processor_seconds": round(processor, 1)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**asked, **numbers, **times}, indent=1) + "\n", "utf-8")
    return curve, processor


def main() -> int:
    args = arguments(CLAIM.states)
    if args.quick:
        prompts, space, tokens = spread_over_tasks(read_demo_prompts("demo_prompts.jsonl"), 4), None, 16
    elif args.data is None:
        return not_run(CLAIM, "it needs the workload's prompts: --data DIR", args)
    else:
        from benchmarks.sweeps.workload import configs, tasks

        prompts = spread_over_tasks(tasks.workload_prompts(args.data), PROMPTS)
        space, tokens = configs.WORKLOAD, MAX_TOKENS
    curve, processor = measured(prompts, tokens) if args.quick else kept(prompts, tokens)
    for temperature, entropy in zip(curve.temperatures, curve.mean, strict=True):
        print(f"temperature {temperature:.1f}  mean token entropy {entropy:.3f} nats")
    figures = [*figures_of(curve, space), figure("processor time, once", processor, unit="s")]
    shown = ", ".join(f"{entropy:.2f} at {t:g}" for t, entropy in zip(curve.temperatures, curve.mean, strict=True))
    notes = (
        f"Du, Yang and Welleck, arXiv 2502.05234. {len(prompts)} prompts, as many of each task, × {len(TEMPERATURES)} "
        f"temperatures, one answer of at most {tokens} tokens each. Mean token entropy in nats: {shown}. The turning "
        f"point is the first temperature at which its logarithm is convex; for the best of several samples the paper "
        f"adds {BEST_OF:g}. The interval is over prompts drawn with replacement. The baseline is the sampled config "
        "that sets nothing but the nearest temperature and, as the workload has few without, a cut (top_p, min_p)."
    )
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
