"""What the gate says of a table: the decision of `fit` without its policy, at any error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hagpolicy._extras import require
from hagpolicy.analysis.objectives import ObjectiveSpec, get_objectives
from hagpolicy.analysis.rule import GATE_ERROR
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.crossfit import cross_fit
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.registry import get_encoder
from hagpolicy.fitting.gate import Gated, gate
from hagpolicy.fitting.learners.base import Learner
from hagpolicy.fitting.learners.registry import get_learners
from hagpolicy.fitting.prepare import FitData, prepare_fit
from hagpolicy.policy.reading import Reads, check_reads
from hagpolicy.results import Candidate, Estimate, Ships


@dataclass(frozen=True, eq=False)
class Verdict:
    """What both steps of the gate decided, at each point of a dial of several objectives.

    Attributes:
        ships: "default", "single_best" or "per_prompt", at each point.
        over_default: what the single best config gains over what runs today, at each point; None where unknown.
        candidates: the best per-prompt policy before the gate, at each point.
        data: what was compared.
        gated: all that selection and gate came to.
    """

    ships: tuple[Ships, ...]
    over_default: tuple[Estimate | None, ...]
    candidates: tuple[Candidate, ...]
    data: FitData
    gated: Gated


def gate_table(
    table: SweepTable,
    encoder: str | Encoder = "static",
    learner: str | Learner | list[str | Learner] = "auto",
    *,
    objective: ObjectiveSpec = "reward",
    margins: Sequence[float] | None = None,
    near_duplicates: float | None = None,
    reads: Reads = "last_user",
    seed: int = 0,
    error: float = GATE_ERROR,
) -> Verdict:
    """What `fit` would ship of a table, decided at an error of one's own; no policy is fitted or exported.

    For looks at a sweep that is not finished: the table may hold some of its prompts and samples (prompts that lack a
    config are left out, as `fit` does), and each look spends a part of the error. The errors of all looks add up to
    at most what they sum to, whatever the looks have in common (Bonferroni's inequality).

    Args:
        table: a sweep, or a part of one.
        encoder: see `fit`.
        learner: see `fit`; a cheap one (ridge) looks often.
        objective: see `fit`.
        margins: see `fit`.
        near_duplicates: see `fit`.
        reads: see `fit`.
        seed: see `fit`; the same, so that the last look decides as `fit` does at the same error.
        error: probability, at most, that a step of the gate lets pass what gains nothing, in (0, 0.5]. The intervals of
            `over_default` and `candidates` are of the usual level whatever it is.

    Raises:
        InvalidInput: an error out of range, or as `fit`: fewer than two comparable prompts are no table.
    """
    if not 0.0 < error <= 0.5:
        raise InvalidInput("error", "a probability in (0, 0.5]", error)
    learners = get_learners(learner)
    with require("threadpoolctl", "fit", "fitting").threadpool_limits(1):
        data = prepare_fit(
            table, [get_encoder(encoder)], get_objectives(objective), seed, near_duplicates, check_reads(reads), error
        )
        gated = gate(cross_fit(data, learners, (), margins).learners, data.comparisons)
    firsts = tuple(comparison.single_best.over_default for comparison in data.comparisons)
    return Verdict(tuple(one.ships for one in gated.candidates), firsts, gated.candidates, data, gated)
