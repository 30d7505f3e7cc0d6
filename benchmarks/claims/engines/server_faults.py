"""A sweep at a real server loses nothing to faults on the way.

    python -m benchmarks run server_faults [--quick]

`transformers serve` holds the real LLM and generates 500 cells: once undisturbed, once behind a proxy
process that breaks answers in seven ways, each at about 5 % of the requests: late, reset in mid-answer,
lost, a storm of 429 with Retry-After, 500 or 503, half the JSON in a whole message, nothing listening.
Counted is what became of every cell, and whether greedy cells have the text they have without faults.
`--quick` takes a model of random weights and 105 cells.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, figure, not_run, record
from hagpolicy import load_engine
from tests.support.servers.fault_proxy import FAULTS
from tests.support.servers.faulty_sweep import CELLS_OF_A_PROMPT, PLAN, Swept, injected, questions, swept
from tests.support.servers.launching import faulty, transformers_serve
from tests.support.servers.model_folders import saved, tiny_folder

CLAIM = Claim(
    name="server_faults",
    states="With about 5 % of answers failing in each of seven ways, a sweep at a real server ends whole.",
    groups=("bench",),
    headline="cells missing",
    needs=("llm",),
)
CELLS, QUICK_CELLS, MAX_TOKENS = 500, 105, 6


def model_folder(work: Path, quick: bool) -> Path:
    """A folder that the server can load."""
    if quick:
        return tiny_folder(work / "model")
    engine = load_engine("smollm2", device="cpu")
    try:
        return saved(engine, work / "model")
    finally:
        engine.close()


def measured(work: Path, quick: bool) -> list[Figure]:
    """Sweep without faults and with them."""
    cells = QUICK_CELLS if quick else CELLS
    prompts = questions(cells)
    with transformers_serve(model_folder(work, quick), work) as served:
        clean = swept(served, prompts, work / "clean", max_tokens=MAX_TOKENS)
        with faulty(served, PLAN, work) as proxy:
            rough = swept(proxy, prompts, work / "rough", max_tokens=MAX_TOKENS)
    return figures(clean, rough, len(prompts) * CELLS_OF_A_PROMPT, work)


def figures(clean: Swept, rough: Swept, cells: int, work: Path) -> list[Figure]:
    """What the claim is made of."""
    done = injected(work)
    texts, others = clean.greedy_texts(), rough.greedy_texts()
    same = sum(others.get(cell) == text for cell, text in texts.items())
    lost = cells - len({row["cell"] for row in rough.cells})
    answered = len(rough.cells) - sum(rough.failed.values())
    listed = [
        figure("cells of the sweep", cells, unit="cells"),
        figure("cells missing", lost, unit="cells", at_most=0),
        figure("cells without a reward or a reason", rough.unfinished, unit="cells", at_most=0),
        figure("cells stored twice", rough.double, unit="cells", at_most=0),
        figure("cells with an answer in the end", 100.0 * answered / cells, unit="%"),
        figure("greedy cells with the undisturbed text", 100.0 * same / len(texts), unit="%", at_least=99),
        figure("greedy cells", len(texts), unit="cells"),
        figure("requests that reached the proxy", done.total(), unit="requests"),
        figure("time against undisturbed", rough.seconds / clean.seconds, unit="times"),
    ]
    return listed + [figure(f"requests hit: {name}", 100.0 * done[name] / done.total(), unit="%") for name in FAULTS]


def main() -> int:
    """Measure and record."""
    args = arguments(__doc__ or "")
    with tempfile.TemporaryDirectory() as work:
        try:
            found = measured(Path(work), args.quick)
        except ImportError as error:
            return not_run(CLAIM, f"this machine lacks a package: {error}", args)
    notes = "A connection that is refused while nothing listens does not reach the proxy and is not counted."
    return record(CLAIM, found, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
