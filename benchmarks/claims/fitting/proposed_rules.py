"""Claim: what rules are worth whose conditions an LLM proposes, beside rules whose conditions are counted words.

    python -m benchmarks run proposed_rules --data DIR -- --answers DIR [--model-dir DIR]

Written before the first run:

- The table is the workload's, its objective the reward; margins, draws and gate are those of `fit`, with the first of
  its five foldings alone, since each fit asks the LLM: five fits a seed, three questions each. Three seeds an LLM. (Two
  foldings were begun; on a busy machine they would have taken hours, and were given up before any gain was looked at.)
- Every row is cross-fitted on the same folds: rules on what an LLM proposes, rules on counted words
  (`encoder="words"`), and the default policy of texts (the blend on the static encoder).
- "No rule" never departs from the reference, here the engine's default, over which no single config is proven. It has a
  gain all the same, since the single best config is chosen anew in each draw: what rules add begins there.
- The control proposes words drawn at random from the requests of group A that it is shown, so that what an LLM adds is
  more than the words that stand there.
- A seed's gain is over the single best config, before the gate, with the interval of the gate. The best seed is chosen
  inside the bootstrap as several encoders of `fit` are. Differences are paired by prompt, over groups as for learned
  choices, and not corrected for how many are looked at.
- The wording of the question was chosen on made-up requests: of four, the one that the LLMs answered in the form.
- Tokens are new tokens; those of the questions are some ten times as many.

The answers are kept in `--answers DIR`, by the digests of their questions; what is there is not asked again. The
stronger LLM is left out without `--model-dir DIR`, a folder for `benchmarks/sweeps/stronger/download.py` (1.1 GB).
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.baselines.proposed import LINES, ProposedPredicates
from benchmarks.sweeps.workload.tables import workload_table
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, figure, record, stored, take_complete
from hagpolicy import Completion, Engine, Request, SweepTable, load_engine
from hagpolicy.analysis.objectives import get_objectives
from hagpolicy.fitting.crossfit import CrossFittedLearner, cross_fit
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.static import StaticEncoder
from hagpolicy.fitting.encoders.words import WordsEncoder
from hagpolicy.fitting.gate import Gated, gate
from hagpolicy.fitting.learners.registry import get_learners
from hagpolicy.fitting.prepare import FitData, prepare_fit
from hagpolicy.fitting.training import TunedTraining

CLAIM = Claim(
    name="proposed_rules",
    states="What rules gain whose conditions an LLM proposes, over the single best config and over rules on words.",
    groups=("explore",),
    headline="Qwen2.5-Coder-1.5B, best of seeds: minus rules on words",
    needs=("data", "llm", "hours"),
    after=("workload_sweep",),
)
SEED, SEEDS, FOLDINGS, BATCH = 0, 3, 1, 15
ASKED = {"questions": 3, "examples": 6, "max_tokens": 48}
SMALL, STRONGER, CONTROL = "SmolLM2-135M", "Qwen2.5-Coder-1.5B", "random words"
CONSTANT, WORDS, DEFAULT = "no rule", "rules on words", "default policy"


@dataclass
class Later:
    """An LLM that is loaded when it is first asked what is not stored.

    Attributes:
        name: of the LLM, which stands for its fingerprint: the files are pinned by version and digest.
        load: makes the engine.
    """

    name: str
    load: Callable[[], Engine]

    @property
    def fingerprint(self) -> Mapping[str, str]:
        return {"llm": self.name}

    @cached_property
    def _engine(self) -> Engine:
        return self.load()

    def generate(self, unit: Sequence[Request]) -> list[Completion]:
        return self._engine.generate(unit)


class RandomWords:
    """Answers with words that stand in the requests of group A, drawn at random."""

    name = CONTROL
    fingerprint: Mapping[str, str] = {"llm": CONTROL}

    def generate(self, unit: Sequence[Request]) -> list[Completion]:
        return [Completion(self._answer(one)) for one in unit]

    def _answer(self, request: Request) -> str:
        shown = request.prompt.text.rpartition("Requests of group B:")[0].rpartition("Requests of group A:")[2]
        words = sorted(set(re.findall(r"[a-z]{3,}", shown.lower())))
        drawn = np.random.default_rng(request.seed).permutation(words)[:LINES]
        return "\n".join(f'contains "{word}"' for word in drawn)


def load_stronger(folder: Path) -> Engine:
    from benchmarks.sweeps.stronger_sweep import engine

    return engine(folder)


def list_proposers(model: Path | None, *, quick: bool) -> Iterator[Later | RandomWords]:
    """Who is asked."""
    yield RandomWords()
    if not quick:
        yield Later(SMALL, lambda: load_engine("smollm2"))
        if model is not None:
            yield Later(STRONGER, lambda: load_stronger(model))


def prepare(table: SweepTable, encoder: Encoder) -> FitData:
    """The table as `fit` prepares it, with fewer foldings."""
    data = prepare_fit(table, [encoder], get_objectives("reward"), SEED, None)
    return replace(data, prepared=replace(data.prepared, foldings=data.prepared.foldings[:FOLDINGS]))


def run(table: SweepTable, encoder: Encoder, learner: str) -> tuple[CrossFittedLearner, FitData]:
    """A learner on an encoder, cross-fitted."""
    data = prepare(table, encoder)
    if isinstance(encoder, ProposedPredicates):
        ask_ahead(encoder, data)
    (found,) = cross_fit(data, get_learners(learner), [], None).learners
    return found, data


def ask_ahead(encoder: ProposedPredicates, data: FitData) -> None:
    """Ask all that the encoder's fits will ask, many questions at a time, which costs an LLM less."""
    (training,) = data.trainings
    assert isinstance(training, TunedTraining)
    asked = []
    for folds in data.prepared.foldings:
        for rows, _ in training.refold(folds).split_folds():
            prompts, targets, groups = training.take_examples(rows)
            asked += encoder.make_questions([prompt.text for prompt in prompts], targets, groups, SEED)
    for at in range(0, len(asked), BATCH):
        encoder.ask(asked[at : at + BATCH])
        print(f"{encoder.engine.name}, seed {encoder.seed}: {min(at + BATCH, len(asked))} of {len(asked)}", flush=True)


def tell_gain(name: str, gated: Gated) -> list[Figure]:
    """The gain over the single best config before the gate, and whether it would ship."""
    row = next(row for key, row in gated.rows[0].items() if key != "policy").gain
    shipped = float(gated.candidates[0].shipped)
    return [
        figure(f"{name}: over SBS", row.value, row.low, row.high, unit="reward gain"),
        figure(f"{name}: ships", shipped, unit="yes = 1"),
    ]


def take_values(gated: Gated) -> np.ndarray:
    """float64 (n_prompts,): what the choices before the gate are worth."""
    values = next(row for key, row in gated.rows[0].items() if key != "policy").values
    assert values is not None
    return values


def tell_tally(name: str, encoders: Sequence[ProposedPredicates]) -> list[Figure]:
    """What was asked and could be used, of all seeds."""
    answers = [answer for one in encoders for answer in one.asked.values()]
    lines, usable = np.sum([one.count_lines() for one in encoders], axis=0)
    tokens = sum(answer.tokens for answer in answers)
    return [
        figure(f"{name}: questions", len(answers), unit="questions"),
        *([figure(f"{name}: new tokens", tokens, unit="tokens")] if name != CONTROL else []),
        figure(f"{name}: lines that are predicates", usable / max(lines, 1), unit="share"),
    ]


def compare(table: SweepTable, args: argparse.Namespace) -> Iterator[Figure]:
    """All rows, then the differences to rules on words."""
    values: dict[str, np.ndarray] = {}
    rows = (CONSTANT, WordsEncoder(), "constant"), (WORDS, WordsEncoder(), "rules"), (DEFAULT, StaticEncoder(), "auto")
    for name, encoder, learner in rows:
        found, data = run(table, encoder, learner)
        gated = gate([found], data.comparisons)
        values[name] = take_values(gated)
        yield from tell_gain(name, gated)
    for proposer in list_proposers(args.model_dir, quick=args.quick):
        path = None if args.answers is None else args.answers / f"{proposer.name.replace(' ', '-')}.jsonl"
        encoders = [ProposedPredicates(proposer, seed, answers=path, **ASKED) for seed in range(SEEDS)]
        several, gains = [], []
        for number, encoder in enumerate(encoders):
            found, data = run(table, encoder, "rules")
            several.append(found)
            own = tell_gain(f"{proposer.name}, seed {number}", gate([found], data.comparisons))
            gains.append(own[0].value)
            yield from own
        gated = gate(several, data.comparisons)
        values[proposer.name] = take_values(gated)
        yield from tell_gain(f"{proposer.name}, best of seeds", gated)
        deviation = float(np.round(np.std(gains, ddof=1), 9))
        yield figure(f"{proposer.name}: standard deviation over seeds", deviation, unit="reward gain")
        yield from tell_tally(proposer.name, encoders)
        for other in (CONSTANT, WORDS, DEFAULT, CONTROL):
            if other != proposer.name:
                more = data.prepared.boot.mean(values[proposer.name] - values[other], learned=True)
                label = f"{proposer.name}, best of seeds: minus {other}"
                yield figure(label, more.value, more.low, more.high, unit="reward gain")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--answers", type=Path, metavar="DIR", help="folder that keeps what the LLMs answer")
    parser.add_argument("--model-dir", type=Path, metavar="DIR", help="folder of the stronger LLM's file")


def main() -> int:
    args = arguments(CLAIM.states, more=add_options)
    table = stored(workload_table, CLAIM, args)
    if table is None:
        return 0
    table = take_complete(table, args.quick, 4)
    if args.answers is not None:
        args.answers.mkdir(parents=True, exist_ok=True)
    figures = []
    for one in compare(table, args):
        print(f"{one.name} {one.value:.4g} [{one.low}, {one.high}]", flush=True)
        figures.append(one)
    notes = (
        f"{len(table.prompts)} prompts, {len(table.space)} configs, objective reward, {FOLDINGS} folding. Gains over "
        "SBS are before the gate; differences are not corrected for how many are looked at."
    )
    notes += "" if args.model_dir else " The stronger LLM: not run, it needs --model-dir DIR."
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
