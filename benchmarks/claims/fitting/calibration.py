"""Do predictions come true? Out-of-fold expected against achieved reward, by decile, for every learner of `fit`.

Everything is predicted for prompts that the learner has not seen, as `fit` does when it compares candidates.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.tools.calibrating import Calibration, calibration
from benchmarks.tools.claim import Claim
from benchmarks.tools.plots import calibration_plot
from benchmarks.tools.record import RESULTS, Figure, arguments, figure, record
from hagpolicy import Estimate, SweepTable, load_table
from hagpolicy.analysis.bootstrap import GroupBootstrap
from hagpolicy.analysis.estimates import choose_configs, crossfit_sbs, take_chosen
from hagpolicy.analysis.objectives import get_objectives
from hagpolicy.analysis.prepare import prepare
from hagpolicy.errors import StoreError
from hagpolicy.fitting.crossfit import MARGINS
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.registry import get_encoder
from hagpolicy.fitting.learners.registry import get_learner
from hagpolicy.fitting.training import Training

CLAIM = Claim(
    name="calibration",
    states="What the learners expect of prompts they have not seen, against what was achieved, by decile.",
    groups=("stored",),
    headline="blend, reward, every config: error beyond chance",
    needs=("data",),
    after=("enlarged_demo", "workload_sweep"),
)
FOLDER = RESULTS / "calibration"
ENLARGED_DEMO = RESULTS / "sweeps" / "enlarged_demo"
# A table of a sweep that is still running may have prompts that lack a config.
ENOUGH = 0.9
FEW = 10
# The default first: its plot is shown.
LEARNERS = ("blend", "ridge", "lightgbm", "mlp", "knn")
EVERY, CHOSEN = "reward, every config", "reward, chosen config"
OVER_SBS, DEPARTING = "advantage over SBS, every config", "advantage over SBS, departures"


@dataclass(frozen=True)
class Studied:
    """One learner on one table, out of fold.

    Attributes:
        name: of the learner.
        margin: the one at which its choices gain most.
        gain: of these choices over SBS; not corrected for choosing learner and margin.
        views: by name, what was expected against what came out. SBS's own advantage, which is 0, counts in none;
            `DEPARTING` is missing where fewer than `FEW` groups depart.
    """

    name: str
    margin: float
    gain: Estimate
    views: dict[str, Calibration]


def study(table: SweepTable, learners: tuple[str, ...] = LEARNERS, seed: int = 0) -> list[Studied]:
    """The calibration of each learner on the static encoder, for mean reward."""
    prepared = prepare(table, get_objectives("reward"), seed)
    encoder = get_encoder("static")
    features = compute_features(encoder, prepared.table.prompts)
    training = Training(encoder, *features, prepared.targets, prepared.groups, prepared.folds, seed)
    with threadpool_limits(1):
        return [studied(name, training, prepared.table.common_means, prepared.boot) for name in learners]


def studied(name: str, training: Training, Y: np.ndarray, boot: GroupBootstrap) -> Studied:
    """One learner's views; `Y` is float64 (n_prompts, n_configs), what came out."""
    values = training.predict_out_of_fold(get_learner(name))[0].astype(np.float64)
    sbs = crossfit_sbs(Y, training.folds)
    choices = {
        margin: np.where(training.out_of_distribution, sbs, choose_configs(values, sbs, margin)) for margin in MARGINS
    }
    margin = max(choices, key=lambda margin: take_chosen(Y, choices[margin]).mean())
    chosen = choices[margin]
    over, came_over = (array - take_chosen(array, sbs)[:, None] for array in (values, Y))
    views = {
        EVERY: calibration(values, Y, boot),
        CHOSEN: calibration(take_chosen(values, chosen)[:, None], take_chosen(Y, chosen)[:, None], boot),
        OVER_SBS: calibration(over, came_over, boot, np.arange(Y.shape[1]) != sbs[:, None]),
    }
    departs = (chosen != sbs)[:, None]
    if len(np.unique(boot.index[departs[:, 0]])) >= FEW:
        views[DEPARTING] = calibration(
            take_chosen(over, chosen)[:, None], take_chosen(came_over, chosen)[:, None], boot, departs
        )
    return Studied(name, margin, boot.mean(take_chosen(came_over, chosen)), views)


def figures_of(found: list[Studied]) -> list[Figure]:
    """All views of the first learner; of the others those of every config."""
    figures = []
    for number, one in enumerate(found):
        for view, result in one.views.items():
            unit = "reward" if "reward" in view else "reward gain"
            named = {"error": (result.error, unit)} if not number else {}
            named |= {"error beyond chance": (result.beyond, unit), "slope": (result.slope, "achieved / expected")}
            if number and view not in (EVERY, OVER_SBS):
                continue
            for name, (value, of) in named.items():
                figures.append(figure(f"{one.name}, {view}: {name}", value.value, value.low, value.high, unit=of))
    return figures


def pick_table(args: argparse.Namespace) -> tuple[SweepTable, str]:
    """The workload's table where its sweep is stored and its prompts are there, else the enlarged demo's."""
    if args.data is None:
        return load_table(ENLARGED_DEMO), "the enlarged demo, as no --data was given"
    from benchmarks.sweeps.workload.tables import workload_table

    try:
        table = workload_table(args.data)
    except StoreError as error:
        return load_table(ENLARGED_DEMO), f"the enlarged demo, as the workload is not there: {error}"
    share = float(table.complete.mean())
    if share < ENOUGH:
        return load_table(ENLARGED_DEMO), f"the enlarged demo, as only {share:.0%} of the workload is swept"
    return table, "the workload"


def rounded(value: Any) -> Any:
    """Numbers of a JSON-able value to six digits after the point."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value


def main() -> int:
    args = arguments(CLAIM.states)
    table, words = (load_table(ENLARGED_DEMO), "the enlarged demo") if args.quick else pick_table(args)
    found = study(table, LEARNERS[:2] if args.quick else LEARNERS)
    best = found[0]
    for view, result in best.views.items():
        print(f"\n{best.name}, {view}: expected, achieved, cells")
        for part in result.bins:
            print(f"  {part.expected:+.3f}  {part.achieved:+}  {part.count}")
    notes = (
        f"Table: {words} ({len(table.prompts)} prompts × {len(table.space)} configs). Every prediction is of a prompt "
        f"outside the folds that were learned from. First the default learner ({best.name}, margin "
        f"{best.margin:g}, {best.gain:+} over the folds' SBS, not corrected for choosing "
        "the margin). The error is the mean distance over "
        "deciles, above 0 for any predictor as rewards are noisy; beyond chance: root mean square, the noise taken "
        "out. A slope below 1: differences are promised larger than they are. Plot and deciles: "
        "benchmarks/results/calibration/."
    )
    if not args.quick:
        FOLDER.mkdir(parents=True, exist_ok=True)
        views = {one.name: {view: rounded(result.to_json()) for view, result in one.views.items()} for one in found}
        text = json.dumps({"table": words, "learners": views}, indent=1, ensure_ascii=False, allow_nan=False)
        (FOLDER / "deciles.json").write_text(text + "\n", "utf-8")
        (FOLDER / "calibration.svg").write_text(calibration_plot(best.views), "utf-8")
    return record(CLAIM, figures_of(found), args, notes, plots=["calibration/calibration.svg"])


if __name__ == "__main__":
    raise SystemExit(main())
