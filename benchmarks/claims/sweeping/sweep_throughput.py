"""Claim: a unit of mixed cells is as fast as its forward passes allow, and many times faster than `generate`.

The model is SmolLM2-135M-Instruct. A prompt has 36 cells: 3 greedy configs once, 11 sampled ones three times. The
engine gets one unit of several prompts, as a sweep packs it. Beside it, on the model as transformers loads it:

(a) one call of `generate` a cell; (b) one call of `generate` a config, with `num_return_sequences`; (c) the manager
behind `generate_batch`, on cells that it can express (temperature, top_k, top_p); and (d) the floor: the unit's own
forward passes, with the same model, prefills, rows, columns and kind of cache, and nothing else.

Answers end with the model's own end tokens. Each repeat runs every way once in a random order, and ratios are taken
within the repeat. (a) and (b) take a third of one prompt's configs a repeat: theirs is a rate, which more cells do not
change. Without a GPU the table is the CPU's; with one, it is a claim of its own.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from transformers import ContinuousBatchingConfig, DynamicCache, GenerationConfig

from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, bootstrap, figure, not_run, record
from hagpolicy import DecodingConfig, Prompt, Request, load_engine
from hagpolicy.engines.transformers import engine as transformers_engine
from hagpolicy.engines.transformers.cache import make_roomy_cache
from hagpolicy.engines.transformers.forward import Pass, forward

CLAIM = Claim(
    name="sweep_throughput",
    states=(
        "On a CPU a unit of mixed cells runs at 8 times the tokens per second of one `generate` a cell, and 2 times "
        "that of one `generate` a config, in at most 1.25 times the time of its bare forward passes."
    ),
    groups=("bench",),
    headline="mixed over (a) one `generate` a cell",
    needs=("llm",),
)
GPU = CLAIM.part(
    "gpu", "On a GPU a unit of mixed cells runs at 30 times the tokens per second of one `generate` a cell."
)
PROMPTS = [
    "A shop sells pens for 3 dollars each. How much do 7 pens cost?",
    "Name ten different animals that live in the sea.",
    "Write one sentence that uses the words river, lantern and promise.",
    "Why does the moon change its shape over a month?",
]
GREEDY: list[dict[str, Any]] = [{}, {"repetition_penalty": 1.1}, {"no_repeat_ngram_size": 3}]
EXPRESSED: list[dict[str, Any]] = [
    {"temperature": 0.3},
    {"temperature": 0.7},
    {"temperature": 1.0},
    {"temperature": 0.7, "top_p": 0.8},
    {"temperature": 1.0, "top_p": 0.9},
    {"temperature": 1.0, "top_k": 40},
]
OTHERS: list[dict[str, Any]] = [
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 1.5, "min_p": 0.1},
    {"temperature": 1.0, "typical_p": 0.9},
    {"temperature": 0.7, "frequency_penalty": 0.5},
    {"temperature": 0.7, "presence_penalty": 0.5},
]
SAMPLES = 3
Way = Callable[[], int]
Row = dict[str, tuple[int, float, float]]  # way to (tokens, seconds, seconds of the processor)


def cells(prompts: Sequence[str], settings: Sequence[dict[str, Any]], samples: int, limit: int) -> list[Request]:
    """All samples of all configs of all prompts; a greedy config once."""
    found: list[Request] = []
    for text in prompts:
        for values in settings:
            config = DecodingConfig(**{"temperature": 0.0, **values})
            for sample in range(samples if config.temperature else 1):
                found.append(Request(Prompt(text), config, sample, 7919 * len(found), limit))
    return found


class Ways:
    """The ways to generate; each returns how many new tokens it made."""

    def __init__(self, engine: Any, limit: int) -> None:
        self.engine, self.limit = engine, limit
        self.plain = copy.deepcopy(engine.model)  # as transformers lays weights out
        for weight in self.plain.parameters():
            weight.data = weight.data.contiguous()
        self.passes: tuple[Pass, ...] = ()

    def mixed(self, unit: Sequence[Request], *, endless: bool = False) -> int:
        """The engine's own way."""
        ends = self.engine.end_tokens
        self.engine.end_tokens = [] if endless else ends
        try:
            return sum(completion.tokens for completion in self.engine.generate(unit))
        finally:
            self.engine.end_tokens = ends

    def learn_passes(self, unit: Sequence[Request]) -> None:
        """Run the unit once and note its forward passes."""
        original = vars(transformers_engine)["decode_in_parts"]

        def watched(*args: Any) -> Any:
            done = yield from original(*args)
            self.passes = done.passes
            return done

        setattr(transformers_engine, "decode_in_parts", watched)  # noqa: B010 - replaced where the engine looks it up
        try:
            self.mixed(unit)
        finally:
            setattr(transformers_engine, "decode_in_parts", original)  # noqa: B010

    def generate(self, settings: Sequence[dict[str, Any]], samples: int) -> int:
        """One call of `generate` a config of one prompt, greedy ones for one sequence."""
        total = 0
        for request in cells(PROMPTS[:1], settings, 1, self.limit):
            said = request.config.render("transformers")
            count = samples if request.config.temperature else 1
            ids = torch.tensor([self.engine.encode(request.prompt.content)], device=self.plain.device)
            out = self.plain.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self.limit,
                num_return_sequences=count,
                pad_token_id=0,
                logits_processor=said.processors,
                **said.kwargs,
            )
            total += sum(map(self._length, out[:, ids.shape[1] :].tolist()))
        return total

    def _length(self, answer: Sequence[int]) -> int:
        """Tokens up to the end token: what follows is padding."""
        ends = self.engine.end_tokens
        return next((place + 1 for place, token in enumerate(answer) if token in ends), len(answer))

    def continuous(self, unit: Sequence[Request]) -> int:
        """transformers' continuous batching. Its processors exist only where the defaults are not neutral."""
        ends = self.engine.end_tokens
        common = {"eos_token_id": ends, "pad_token_id": 0, "max_new_tokens": self.limit}
        defaults = GenerationConfig(do_sample=True, temperature=0.9, top_k=50, top_p=0.9, **common)
        settings = ContinuousBatchingConfig(per_request_processors=True)
        if self.plain.device.type == "cpu":  # what it would take of the memory by itself is 60 %
            settings.num_blocks, settings.page_size, settings.max_batch_tokens = 256, 32, 256
        done: dict[str, int] = {}
        with self.plain.continuous_batching_context_manager(
            generation_config=defaults, continuous_batching_config=settings, block=True, timeout=5
        ) as manager:
            for request in unit:
                ids, config = self.engine.encode(request.prompt.content), request.config
                known = {
                    "temperature": config.temperature,
                    "top_p": config.top_p,
                    "top_k": config.top_k or self.plain.config.vocab_size,
                }
                manager.add_request(ids, max_new_tokens=request.max_tokens, eos_token_id=ends, **known)
            while len(done) < len(unit):
                result = manager.get_result(timeout=1)
                if result is not None and result.error:
                    raise SystemExit(f"continuous batching failed: {result.error}")
                if result is not None and result.is_finished():
                    done[result.request_id] = len(result.generated_tokens)
                elif result is None and not manager.is_running():
                    raise SystemExit("continuous batching stopped by itself")
        return sum(done.values())

    @torch.inference_mode()  # type: ignore[untyped-decorator]  # torch's own has no types
    def floor(self) -> int:
        """The bare forward passes of the unit. Returns 0 tokens: nothing is chosen."""
        model, ids = self.engine.model, torch.full((1, 1), 5, device=self.engine.model.device)
        cache: Any = None
        steps = [one for one in self.passes if not one.prefill]
        rows, columns = max(one.rows for one in steps), max(one.columns for one in steps)
        for one in self.passes:
            mask = torch.ones((one.rows, one.columns), dtype=torch.bool, device=ids.device) if one.masked else None
            if mask is not None:
                mask[: one.rows // 2, 0] = False  # some padding, or the model would see through the mask
            places = torch.arange(one.columns - one.new, one.columns, device=ids.device).expand(one.rows, -1)
            state = DynamicCache(config=model.config) if one.prefill else cache
            if not one.prefill:
                for layer in cache.layers:
                    layer.window(0, one.columns - 1, one.rows)
            forward(model, state, ids.expand(one.rows, one.new), places, mask)
            if cache is None:
                cache = make_roomy_cache(model.config, state, rows, columns, one.columns)
        return 0


def timed(way: Way) -> tuple[int, float, float]:
    """(tokens, seconds, seconds of the processor: on a machine that others use too, they tell more)."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begun, busy = time.perf_counter(), time.process_time()
    tokens = way()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return tokens, time.perf_counter() - begun, time.process_time() - busy


def measured(engine: Any, args: argparse.Namespace) -> tuple[list[Row], int, int]:
    """(the repeats, cells of the unit, limit in tokens)."""
    limit, repeats, n_prompts = (16, 1, 2) if args.quick else (40, 3, 4)
    if torch.cuda.is_available():
        n_prompts = engine.unit_cells // 36
    settings = [*GREEDY, *EXPRESSED, *OTHERS]
    prompts = [PROMPTS[i % 4] + " Please." * (i // 4) for i in range(n_prompts)]
    unit = cells(prompts, settings, SAMPLES, limit)
    said = cells(PROMPTS[:1], EXPRESSED, 6, limit)
    ways = Ways(engine, limit)
    ways.learn_passes(unit)
    for warm in (lambda: ways.generate(EXPRESSED[:1], 2), lambda: ways.mixed(unit[:4]), ways.floor):
        warm()
    order, rows = random.Random(0), []
    for repeat in range(repeats):
        some = settings[repeat::3]
        todo: dict[str, Way] = {
            "mixed": lambda: ways.mixed(unit),
            "mixed, end tokens ignored": lambda: ways.mixed(unit[: len(unit) // 2], endless=True),
            "a": partial(ways.generate, some, 1),
            "b": partial(ways.generate, some, SAMPLES),
            "c": lambda: ways.continuous(said),
            "mixed, cells of (c)": lambda: ways.mixed(said),
            "floor": ways.floor,
        }
        names = order.sample(list(todo), len(todo))
        rows.append({name: timed(todo[name]) for name in names})
        for name, (count, seconds, busy) in rows[-1].items():
            print(f"{name}: {count} tokens, {seconds:.1f} s, {busy:.1f} s of the processor", flush=True)
    return rows, len(unit), limit


def figures_of(rows: Sequence[Row], *, gpu: bool) -> list[Figure]:
    """Ratios within each repeat, and the rates."""

    def rate(row: Row, name: str) -> float:
        return row[name][0] / row[name][1]

    def over(one: str, other: str) -> tuple[float, float, float]:
        return bootstrap([rate(row, one) / rate(row, other) for row in rows])

    floor = bootstrap([row["mixed"][1] / row["floor"][1] for row in rows])
    found = [
        figure("mixed over (a) one `generate` a cell", *over("mixed", "a"), unit="times", at_least=30 if gpu else 8),
        figure(
            "mixed over (b) one `generate` a config", *over("mixed", "b"), unit="times", at_least=None if gpu else 2
        ),
        figure("mixed over (c) continuous batching", *over("mixed, cells of (c)", "c"), unit="times"),
        figure("time over (d) its forward passes", *floor, unit="times", at_most=None if gpu else 1.25),
    ]
    names = {"a": "(a) one `generate` a cell", "b": "(b) one `generate` a config", "c": "(c) continuous batching"}
    for name in ("mixed", "mixed, end tokens ignored", "mixed, cells of (c)", "a", "b", "c"):
        found.append(figure(names.get(name, name), *bootstrap([rate(row, name) for row in rows]), unit="tokens/s"))
    return found


def main() -> int:
    args = arguments(CLAIM.states)
    gpu = torch.cuda.is_available()
    engine: Any = load_engine("smollm2", threads=torch.get_num_threads())  # as many for all ways
    rows, n_cells, limit = measured(engine, args)
    length = rows[0]["mixed"][0] / n_cells
    notes = (
        f"A unit of {n_cells} cells, 36 a prompt, at most {limit} new tokens, {length:.1f} on average; {len(rows)} "
        f"repeats; {torch.get_num_threads()} threads; {engine.model.dtype}. (c) cannot express penalties, min_p, "
        "typical_p or greedy rows among sampled ones: it is compared on 36 cells of 6 configs that it can."
    )
    if gpu:
        return record(GPU, figures_of(rows, gpu=True), args, notes)
    code = record(CLAIM, figures_of(rows, gpu=False), args, notes)
    not_run(GPU, "this machine has no GPU", args)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
