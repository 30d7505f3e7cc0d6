"""What `self_report.py` and `hag_tuning.py` share: the LLM that is asked, and what its answers are worth and cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.baselines.self_report import GREEDY, Answer, SelfReport
from benchmarks.tools.record import RESULTS, Figure, bootstrap, figure
from hagpolicy import Engine, Policy, Prompt, Request, SweepTable, load_engine
from hagpolicy._digest import digest
from hagpolicy.analysis.checks import keep_comparable
from hagpolicy.analysis.comparison import Comparison
from hagpolicy.config.render import Message
from hagpolicy.data.tuning import SettingsText
from hagpolicy.errors import HagError

FOLDER = RESULTS / "self_report"
COSTS = FOLDER / "costs.json"
# The baseline of the comparisons: the examples that a prompt is asked with.
EXAMPLES = 4
CALLS, PREDICTS, BATCH = 20, 200, 32


def smollm2() -> Engine:
    """The LLM as the workload is swept, on one thread."""
    import torch

    from benchmarks.sweeps.workload.configs import DTYPE

    torch.set_num_threads(1)
    return load_engine("smollm2", dtype=DTYPE)


def finished(read: Callable[[Path], SweepTable], data: Path) -> SweepTable | None:
    """A stored table, None where it is missing or lacks cells: other prompts would make other folds."""
    try:
        table = read(data)
    except (HagError, FileNotFoundError):
        return None
    return keep_comparable(table) if table.complete.all() else None


def file_of(baseline: SelfReport) -> Path:
    """Where a baseline's answers are stored, as `SelfReport.from_results` finds them."""
    return FOLDER / f"{baseline.name}.jsonl"


def worth(name: str, comparison: Comparison, choices: np.ndarray, *, learned: bool = False) -> list[Figure]:
    """Mean reward and paired gain over SBS of choices made for each prompt, int64 (n_prompts,), -1 falling back;
    `learned` on the other folds."""
    row = comparison.score_choices(choices, learned=learned)
    value, gain = row.value, row.gain
    return [
        figure(f"{name}: reward", value.value, value.low, value.high, unit="reward"),
        figure(f"{name}: over SBS", gain.value, gain.low, gain.high, unit="reward gain"),
    ]


def said(name: str, text: SettingsText, answers: Sequence[Answer]) -> list[Figure]:
    """How the answers could be read, how many configs they name, and what they cost in tokens."""
    readings = [text.read(answer.text) for answer in answers]
    found = [reading for reading in readings if reading is not None]
    exact = sum(reading.exact for reading in found)
    most = max(np.bincount([reading.index for reading in found])) if found else 0
    count = len(answers)
    return [
        figure(f"{name}: names a config", exact / count, unit="share"),
        figure(f"{name}: well formed, nearest config taken", (len(found) - exact) / count, unit="share"),
        figure(f"{name}: not well formed, falls back to SBS", 1 - len(found) / count, unit="share"),
        figure(f"{name}: different configs named", len({reading.index for reading in found}), unit="configs"),
        figure(f"{name}: the config named most", most / count, unit="share"),
        figure(f"{name}: tokens of the question", np.mean([one.prompt_tokens for one in answers]), unit="tokens"),
        figure(f"{name}: tokens of the answer", np.mean([one.tokens for one in answers]), unit="tokens"),
    ]


def cost(
    name: str,
    baseline: SelfReport,
    questions: Sequence[Sequence[Message]],
    texts: Sequence[str],
    policy: Callable[[], Policy],
) -> list[Figure]:
    """What stage one costs beside a policy's `predict`, in seconds of one processor core, which other work on the
    machine does not lengthen; stored, so measured once for the same questions."""
    stored = json.loads(COSTS.read_text("utf-8")) if COSTS.exists() else {}
    key = f"{name}, questions {digest([[dict(message) for message in question] for question in questions])[:12]}"
    if key not in stored:
        stored[key] = _measured(baseline, questions, texts, policy())
        COSTS.parent.mkdir(parents=True, exist_ok=True)
        COSTS.write_text(json.dumps(stored) + "\n", "utf-8")
    pairs = np.array(stored[key]["pairs"])
    asked, predicted = np.median(pairs, axis=0)
    ratio = bootstrap(pairs, lambda rows, axis: np.divide(*np.median(rows, axis=axis)))
    return [
        figure(f"{name}: stage one, batch 1, median", asked, unit="core seconds"),
        figure(f"{name}: stage one, in a batch of {BATCH}", stored[key]["batched"], unit="core seconds/prompt"),
        figure(f"{name}: predict, median", predicted * 1e6, unit="core µs"),
        figure(f"{name}: stage one, batch 1 / predict", *ratio, unit="times", at_least=1000),
    ]


def per_prompt(policy: Policy) -> Policy:
    """The policy that decides for each prompt, where the gate held one back: a constant would cost less."""
    return policy.candidate or policy


def _measured(
    baseline: SelfReport, questions: Sequence[Sequence[Message]], texts: Sequence[str], policy: Policy
) -> dict[str, Any]:
    """Core seconds of the LLM's answer and of `predict` for some of the prompts, in turn, and of a batch of answers."""
    engine = baseline.loaded()
    requests = [Request(Prompt(tuple(question)), GREEDY, 0, 0, baseline.max_tokens) for question in questions]
    pairs = []
    for row in np.linspace(0, len(texts) - 1, CALLS + 1).astype(int).tolist():
        asked = _core_seconds(lambda row=row: engine.generate([requests[row]]))
        predicted = _core_seconds(lambda row=row: policy.predict(texts[row]), PREDICTS)
        pairs.append([round(asked, 4), round(predicted, 8)])
    every = requests[:: max(1, len(requests) // BATCH)][:BATCH]
    batched = _core_seconds(lambda: engine.generate(every)) / len(every)
    return {"pairs": pairs[1:], "batched": round(batched, 4)}  # the first call warms both up


def _core_seconds(call: Callable[[], object], times: int = 1) -> float:
    """Processor time of one call, of so many in a row."""
    begun = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - begun) / times
