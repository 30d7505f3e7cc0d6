"""What is fitted and compared: each study is a stored sweep and an objective, with the baselines of its comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.baselines.asking import EXAMPLES
from benchmarks.baselines.self_report import SelfReport
from benchmarks.baselines.turn import BEST_OF, Turn
from benchmarks.sweeps import jhu
from benchmarks.sweeps.drafted import drafting_table
from benchmarks.sweeps.stronger import stronger_table
from benchmarks.sweeps.workload.tables import budgets_table, workload_table
from benchmarks.tools.record import RESULTS
from hagpolicy import SweepTable
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.baselines.base import Baseline

PRICES = "0,0.0005,0.001,0.002,0.004"
SECONDS = "price/second@1"
PLAIN = ("task_lookup", "nearest", "argmax")
TURN = RESULTS / "turn" / "smollm2.json"
SAID = RESULTS / "self_report"
BUDGET = "pass@k or best-of-n"


@dataclass(frozen=True)
class Study:
    """One sweep under one objective, which may be a dial of several.

    Attributes:
        name: of its result file.
        statement: what is asked, in a sentence.
        table: reads the sweep; takes the folder of public data.
        objective: as `get_objectives` reads it.
        baselines: makes those that need a stored measurement; those without are in every table.
        counts: one of the four kinds of objective of which three are to be won on the mixed workload.
    """

    name: str
    statement: str
    table: Callable[[Path], SweepTable]
    objective: str
    baselines: Callable[[SweepTable], Sequence[Baseline]] = lambda table: ()
    counts: str = ""


def on_smollm2(table: SweepTable) -> Sequence[Baseline]:
    """TURN's temperature and the model's own reports, as they were measured."""
    return [Turn.from_results(TURN), *reports()]


def of_seconds(table: SweepTable) -> Sequence[Baseline]:
    """The model's own reports, its examples the fastest configs: rewards hardly differ."""
    return reports(by_reward=False)


def reports(*, by_reward: bool = True) -> list[Baseline]:
    """The model's own reports that are stored; a kind that was not asked for yet is missing from it."""
    made: list[Baseline] = []
    for examples in (0, EXAMPLES):
        try:
            made.append(SelfReport.from_results(SAID, examples, by_reward=by_reward))
        except InvalidInput as error:
            print(f"without that line: {error}")
    return made


def of_several(table: SweepTable) -> Sequence[Baseline]:
    """The same, with what TURN adds to the temperature for the best of several answers."""
    return [Turn.from_results(TURN, shift=BEST_OF), *reports()]


STUDIES = (
    Study("workload", "Mean reward, mixed workload, SmolLM2-135M", workload_table, "reward", on_smollm2, "mean reward"),
    Study(
        "workload_price",
        "Reward minus a price per new token, mixed workload, SmolLM2-135M",
        workload_table,
        f"price/token@{PRICES}",
        on_smollm2,
        "reward minus token price",
    ),
    Study(
        "drafting",
        "Seconds of an answer with and without drafting by prompt lookup, greedy, batch 1, SmolLM2-135M; "
        "a second costs 1, so differences are seconds",
        drafting_table,
        SECONDS,
        of_seconds,
        counts="seconds with drafting",
    ),
    Study(
        "workload_best_of_n",
        "Best of n, mixed workload, SmolLM2-135M",
        workload_table,
        "best@1,2,4",
        of_several,
        BUDGET,
    ),
    Study(
        "workload_pass_at_k", "pass@k, mixed workload, SmolLM2-135M", workload_table, "pass@1,2,4", of_several, BUDGET
    ),
    Study("pass_at_k", "pass@k, SmolLM2-135M, the table for budgets", budgets_table, "pass@1,2,4", of_several, BUDGET),
    Study(
        "best_of_n", "Best of n, SmolLM2-135M, the table for budgets", budgets_table, "best@1,2,4", of_several, BUDGET
    ),
    Study("majority", "Majority of 3, SmolLM2-135M, the table for budgets", budgets_table, "majority@1,3", of_several),
    Study(
        "stronger_price",
        "Reward minus a price per new token, Qwen2.5-Coder-1.5B, wordings of the request",
        stronger_table,
        f"price/token@{PRICES}",
    ),
    Study("jhu_gpt35", "Mean reward over temperatures, ten exams, a hosted LLM", jhu.load, "reward"),
)
