"""Predicates that an LLM proposes: what is read of its answers, what it is shown, and what a policy of them needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hagpolicy as hag
from benchmarks.baselines.predicates import Predicate, PredicatesEncoder, parse_predicate
from benchmarks.baselines.proposed import ProposedPredicates
from hagpolicy.analysis.objectives import get_objectives
from hagpolicy.analysis.prepare import prepare
from hagpolicy.errors import EngineError
from hagpolicy.fitting.encoders.features import compute_features

N = 120
SPACE = hag.DecodingSpace([hag.DecodingConfig(temperature=value) for value in (0.0, 0.5, 1.0)])
KINDS = ("Cook a soup", "Plant the rose", "Judge this crime")
TEXTS = [f"{KINDS[row % 3]} in part {chr(97 + row % 26)}{chr(97 + row // 26)}." for row in range(N)]
GOOD = '1. contains "soup"\n- Contains "rose" or "plant".\nWhat a nice question!'


class Scripted:
    """An engine that gives one answer, and remembers the questions of each call."""

    name = "scripted"

    def __init__(self, answer: str = GOOD, finish: str = "stop") -> None:
        self.answer, self.finish, self.calls = answer, finish, list[list[str]]()

    @property
    def fingerprint(self) -> dict[str, str]:
        return {"kind": "scripted"}

    def generate(self, unit: list[hag.Request]) -> list[hag.Completion]:
        self.calls.append([request.prompt.text for request in unit])
        return [hag.Completion(self.answer, tokens=3, finish=self.finish, error="no room") for _ in unit]


@pytest.fixture(scope="module")
def table() -> hag.SweepTable:
    """Each kind of prompt has a best config of its own."""
    rewards = 0.3 + 0.4 * (np.arange(3) == np.arange(N)[:, None] % 3)
    rewards = rewards + np.random.default_rng(0).normal(0.0, 0.1, rewards.shape)
    return hag.SweepTable.from_arrays(TEXTS, SPACE, rewards.clip(0.0, 1.0), default=0)


@pytest.mark.parametrize(
    ("line", "clauses"),
    [
        ('contains "list"', [("list",)]),
        ("- Contains \u201cPig Latin\u201d or `pig`.", [("latin", "pig"), ("pig",)]),
        ('3) it contains "tense" and "past"', [("past", "tense")]),
        ('contains one of "a", "b", or "c"', [("a",), ("b",), ("c",)]),
        ("contains a Number", [("a number",)]),
        ("is longer than 60 words.", [(60,)]),
        ("is shorter than 60 tokens", [(59,)]),
        ('contains "a" and "b" or "c"', None),
        ('contains "12"', None),
        ('contains "\U0001f600"', None),
        ("contains list", None),
        ('contains "list" twice', None),
        ("is shorter than 0 words", None),
        ("Sure! Here are conditions:", None),
        (f'contains "{"a b c d e f g h i"}"', None),
        ("", None),
    ],
)
def test_a_line_is_read_in_known_forms_and_no_other(line: str, clauses: list[tuple[str | int, ...]] | None) -> None:
    assert parse_predicate(line) == (None if clauses is None else Predicate(tuple(clauses)))


def test_features_are_1_where_a_predicate_holds() -> None:
    lines = ['contains "a" or "pig latin"', 'contains "a" and "b"', "contains a line break", "is longer than 3 words"]
    found = [one for line in lines if (one := parse_predicate(line)) is not None]
    prompts = [hag.Prompt(text) for text in ("A b", "latin for a big pig", "latin x y", "latin\npig", "pig")]
    features, unknown = compute_features(PredicatesEncoder(found), prompts)
    assert features.T.tolist() == [[1, 1, 0, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 1, 0], [0, 1, 0, 0, 0]]
    assert not unknown.any()
    assert compute_features(PredicatesEncoder(), prompts)[0].tolist() == [[0.0]] * 5


def test_what_is_asked_in_a_fold_shows_nothing_of_it(table: hag.SweepTable) -> None:
    engine = Scripted()
    hag.fit(table, ProposedPredicates(engine), "rules")
    prepared = prepare(table, get_objectives("reward"), 0)
    held = [set(np.flatnonzero(folds == fold).tolist()) for folds in prepared.foldings for fold in np.unique(folds)]
    shown = [{row for row in range(N) if any(f"- {TEXTS[row]}\n" in text for text in call)} for call in engine.calls]
    assert len(shown) == len(held) + 1  # the last of all prompts, for what ships
    assert all(len(rows) >= 12 for rows in shown)
    assert not any(one & rows for one, rows in zip(held, shown, strict=False))


def test_a_policy_of_proposed_rules_needs_no_llm_and_holds_no_prompt(table: hag.SweepTable, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    encoders = [ProposedPredicates(Scripted(), seed, answers=answers) for seed in range(2)]
    policy = hag.fit(table, encoders, "rules")
    assert policy.ships == "per_prompt"
    rows = [policy.evaluation.row(f"rules on proposed-{seed}") for seed in range(2)]
    assert all(row.gain_low > 0.2 for row in rows)
    assert encoders[0].count_lines() == (3 * len(encoders[0].asked), 2 * len(encoders[0].asked))
    policy.save(tmp_path / "policy")
    held = b"".join(path.read_bytes() for path in (tmp_path / "policy").iterdir()) + answers.read_bytes()
    assert not any(text.encode() in held for text in TEXTS)
    code = f"""import sys
for name in ("torch", "transformers", "onnx", "sklearn", "benchmarks"): sys.modules[name] = None
import hagpolicy as hag
policy = hag.load({str(tmp_path / "policy")!r})
new = ["Stir this soup.", "Cut the rose.", "Solve a crime."]
print([policy.space.index(one) for one in policy.predict_batch(new)])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0, 1, 2]"
    again = Scripted()
    repeated = hag.fit(table, [ProposedPredicates(again, seed, answers=answers) for seed in range(2)], "rules")
    assert not again.calls
    np.testing.assert_array_equal(repeated.values(TEXTS), policy.values(TEXTS))


def test_answers_without_a_predicate_leave_the_reference(table: hag.SweepTable) -> None:
    encoder = ProposedPredicates(Scripted("I am sorry.\n\nAs a language model I cannot."))
    policy = hag.fit(table, encoder, "rules")
    assert policy.ships != "per_prompt"
    assert encoder.count_lines() == (2 * len(encoder.asked), 0)


def test_an_engine_that_fails_ends_the_fit(table: hag.SweepTable) -> None:
    with pytest.raises(EngineError, match="scripted could not be asked for predicates: no room"):
        hag.fit(table, ProposedPredicates(Scripted("", "error")), "rules")


def test_a_small_llm_is_asked_and_what_it_says_is_counted(smollm: hag.Engine, tmp_path: Path) -> None:
    encoder = ProposedPredicates(smollm, questions=2, max_tokens=24, answers=tmp_path / "answers.jsonl")
    prompts = [hag.Prompt(text) for text in TEXTS]
    targets = np.eye(3)[np.arange(N) % 3]
    tuned = encoder.tune(prompts, targets, np.arange(N), 0)
    lines, usable = encoder.count_lines()
    assert lines >= 1
    assert usable >= len(tuned.predicates)
    assert 2 <= sum(answer.tokens for answer in encoder.asked.values()) <= 48
    assert compute_features(tuned, prompts)[0].shape == (N, max(len(tuned.predicates), 1))
