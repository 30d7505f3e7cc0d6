"""Hints with slots against fixed hints on a small LLM, with another prompt's hint as the control that must fail.

    python -m benchmarks run slot_hints --data DIR

Written down before the study's answers were generated, and not changed since:

- prompts: the first 60 of CommonGen, of the E2E restaurants and of SVAMP, as the workload words them, and the demo's 40
  capitals. All greedy, at most 40 new tokens.
- hints: for each of the three slots one wording with the slot, and one without that asks for the same in general.
- the control: the wording with the slot, filled from the next prompt of the same task that has something for it, in the
  prompt as it stands. It goes through the model as the filled hint does, since it is the same text.
- what is compared: reward with the slot over the fixed hint, over no hint, and over the control, and the control over
  the fixed hint, on the prompts that have something for the slot, with intervals over groups. The control must not be
  proven better than the fixed hint. Three slots are looked at: an interval of one of them misses once in twenty.
- what it is worth: the best single config and the policy of a space without and with the hints that have slots.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
import timeit
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

import hagpolicy as hag
from benchmarks.sweeps.workload import tasks
from benchmarks.tools.claim import Claim
from benchmarks.tools.demo_prompts import DEMO, make_prompts
from benchmarks.tools.record import RESULTS, Figure, arguments, bootstrap, figure, not_run, record
from hagpolicy.config.render import apply_hint, fill_hint
from hagpolicy.config.slots import SLOTS, fill_slots
from hagpolicy.fitting.encoders.static import StaticEncoder
from hagpolicy.policy.tokenizer import TOKENIZER_FILE

CLAIM = Claim(
    name="slot_hints",
    states="What hints filled from the prompt gain over fixed ones, and another prompt's hint as the control",
    groups=("explore",),
    headline="keywords: over the fixed hint",
    needs=("data", "llm"),
)
FOLDER = RESULTS / "sweeps" / "slot_hints"
EACH, QUICK, MAX_TOKENS = 60, 2, 40
FIXED = {
    "keywords": "Cover the key words.",
    "entities": "Mention every name.",
    "numbers": "Use all of the numbers.",
}
SLOTTED = {
    "keywords": "Cover: {keywords}",
    "entities": "Mention: {entities}",
    "numbers": "Use these numbers: {numbers}",
}
SCORERS = {"commongen": "contains_all", "e2e": "contains_all", "svamp": "numeric_match", "facts": "contains_all"}
GREEDY = hag.DecodingConfig(temperature=0.0)
PLAIN = [GREEDY, *(GREEDY.replace(hint=hint) for hint in FIXED.values())]
SPACE = hag.DecodingSpace([*PLAIN, *(GREEDY.replace(hint=hint) for hint in SLOTTED.values())])
CHARACTERS = 1000


def make_study_prompts(data: Path, each: int) -> list[hag.Prompt]:
    """`each` prompts of the four tasks where they have so many, the tasks taking turns."""
    facts = [prompt for prompt in make_prompts(DEMO) if prompt.task == "facts"]
    pools = [tasks.commongen(data), tasks.e2e(data), tasks.svamp(data), facts]
    return [pool[number] for number in range(each) for pool in pools if number < len(pool)]


def swap_hints(prompts: Sequence[hag.Prompt], hint: str) -> list[hag.Prompt]:
    """Each prompt with the hint that the next prompt of its task fills in its text; without one where none does."""
    made = []
    for at, prompt in enumerate(prompts):
        others = [one for one in (*prompts[at + 1 :], *prompts[:at]) if one.task == prompt.task]
        filled = (fill_hint(other.content, hint) for other in others)
        text = str(apply_hint(prompt.content, next((found for found in filled if found), "")))
        made.append(hag.Prompt(text, prompt.reference, prompt.task, prompt.group))
    return made


def sweep_all(prompts: Sequence[hag.Prompt], folder: Path) -> tuple[hag.SweepTable, dict[str, np.ndarray]]:
    """The table of the space, and the control's rewards by slot, float64 (n_prompts,)."""
    engine = hag.load_engine("smollm2")
    options = {"samples": 1, "max_tokens": MAX_TOKENS, "out": folder, "default": GREEDY}
    table = hag.sweep(engine, prompts, SPACE, SCORERS, **options)
    swapped = {}
    for slot, hint in SLOTTED.items():
        control = hag.sweep(engine, swap_hints(prompts, hint), [GREEDY], SCORERS, **options)
        swapped[slot] = control.means[:, 0]
    return table, swapped


def compare_slot(table: hag.SweepTable, swapped: np.ndarray, slot: str) -> list[Figure]:
    """What a slot gains, on the prompts that fill it."""
    filled = np.array([bool(fill_hint(prompt.content, SLOTTED[slot])) for prompt in table.prompts])
    fixed, slotted = (SPACE.index(GREEDY.replace(hint=hints[slot])) for hints in (FIXED, SLOTTED))
    rewards = np.column_stack([table.means[:, [0, fixed, slotted]], swapped])[filled]
    configs = [SPACE[0], SPACE[fixed], SPACE[slotted], GREEDY.replace(hint=f"of another prompt: {FIXED[slot]}")]
    seen = hag.SweepTable.from_arrays(table.take(filled).prompts, configs, rewards)
    names = {"over the fixed hint": (2, 1), "over no hint": (2, 0), "over another prompt's": (2, 3)}
    figures = [figure(f"{slot}: prompts that fill it", float(filled.sum()), unit="prompts")]
    for name, (a, b) in {**names, "another prompt's over the fixed hint": (3, 1)}.items():
        found = hag.compare(a, b, seen)
        one = found.difference
        figures.append(figure(f"{slot}: {name}", one.value, one.low, one.high, unit="reward gain"))
        if (a, b) == (2, 1):
            figures += [
                figure(f"{slot}, {task}: {name}", gain.value, gain.low, gain.high, unit="reward gain")
                for task, gain in found.by_task.items()
            ]
    return figures


def describe_space(table: hag.SweepTable, name: str) -> list[Figure]:
    """What a space is worth: its single best config over greedy decoding, and its policy over that, before the gate."""
    evaluation = hag.fit(table).evaluation
    assert evaluation is not None
    assert evaluation.candidate is not None
    gains = {"best single config over greedy": evaluation.sbs_over_default, "policy": evaluation.candidate.gain}
    return [
        figure(f"{name}: {what}", gain.value, gain.low, gain.high, unit="reward gain")
        for what, gain in gains.items()
        if gain is not None
    ]


def measure_time(prompts: Sequence[hag.Prompt]) -> list[Figure]:
    """CPU time of filling each slot from a text of 1,000 characters, and over that of a policy's tokenizer on it."""
    tokenizer = Tokenizer.from_str(StaticEncoder().files()[TOKENIZER_FILE].decode("utf-8"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    joined = "\n".join(prompt.text for prompt in prompts) * 5
    texts = [joined[start : start + CHARACTERS] for start in range(0, len(joined) - CHARACTERS + 1, CHARACTERS)]
    calls = [tokenizer.encode, *(partial(_fill, slot) for slot in SLOTS)]
    rows = np.array([[_time_best(call, text) for call in calls] for text in texts[:40]])
    figures = []
    for column, slot in enumerate(SLOTS, 1):
        taken, ratio = bootstrap(rows[:, column] * 1e6), bootstrap(rows[:, column] / rows[:, 0])
        figures += [
            figure(f"{slot}: filled from {CHARACTERS:,} characters", *taken, unit="µs"),
            figure(f"{slot}: filled, over Tokenizer.encode", *ratio, unit="times"),
        ]
    return figures


def _fill(slot: str, text: str) -> str:
    return fill_slots(f"{{{slot}}}", text)


def _time_best(function: Callable[..., object], *given: str) -> float:
    """The least CPU time of a call, in seconds: what the machine's other work adds is not the function's."""
    return min(timeit.repeat(lambda: function(*given), timer=time.process_time, number=20, repeat=5)) / 20


def main() -> int:
    args = arguments(__doc__ or "")
    if args.data is None:
        return not_run(CLAIM, "it needs the prompts: --data DIR", args)
    prompts = make_study_prompts(args.data, QUICK if args.quick else EACH)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if args.quick else FOLDER
        table, swapped = sweep_all(prompts, folder)
        figures = [one for slot in SLOTS for one in compare_slot(table, swapped[slot], slot)]
        proven = [one.low for one in figures if one.name.endswith("another prompt's over the fixed hint")]
        failed = float(sum(low is not None and low > 0 for low in proven))
        figures.append(figure("controls proven over the fixed hint", failed, unit="of 3", at_most=0.0))
        if not args.quick:
            figures += describe_space(table.in_space(hag.DecodingSpace(PLAIN)), "space without slots")
            figures += describe_space(table, "space with slots")
    figures += measure_time(prompts)
    notes = (
        f"{len(prompts)} prompts of four tasks, greedy, {MAX_TOKENS} new tokens at most; choices in the script's head."
    )
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
