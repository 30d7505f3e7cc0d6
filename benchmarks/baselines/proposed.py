"""An encoder whose features an LLM proposes in words, from training prompts with their rewards.

After Verbalized Machine Learning (Xiao et al., arXiv 2406.04344): the LLM is shown prompts for which one config was
better than the single best one, and prompts for which it was worse, and says in words what tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.baselines.predicates import FORMS, Predicate, PredicatesEncoder, parse_predicate
from hagpolicy import Completion, DecodingConfig, Prompt, Request
from hagpolicy._digest import digest
from hagpolicy._files import append_bytes, format_jsonl, read_jsonl
from hagpolicy._text import replace_surrogates, shorten
from hagpolicy.errors import EngineError

CONFIG = DecodingConfig(temperature=0.7, top_p=0.9)
CHARACTERS = 120  # of a prompt that is shown
LINES = 5  # that a question asks for


class Proposer(Protocol):
    """What is asked of an engine, see `hagpolicy.Engine`."""

    name: str

    @property
    def fingerprint(self) -> Mapping[str, str]:
        """What its answers depend on."""

    def generate(self, unit: Sequence[Request]) -> list[Completion]:
        """Its answers to some requests, in their order."""


@dataclass(frozen=True)
class Answer:
    """What was answered to one question, and its new tokens."""

    text: str
    tokens: float


class AnswerStore:
    """Answers by the digest of question, seed, limit and engine; each is asked for once.

    Args:
        path: of a JSONL file that keeps them, without the questions; None: they are kept in memory alone.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, Answer] = {}
        for _, row in read_jsonl(path, "answers") if path is not None and path.exists() else ():
            self._known[row["call"]] = Answer(row["reply"], row["tokens"])

    def ask(self, engine: Proposer, questions: Sequence[str], seed: int, max_tokens: int) -> dict[str, Answer]:
        """The answers by their digests, in the order of the questions; those that are known cost nothing.

        Raises:
            EngineError: the engine failed on a question; the answers to others are kept.
        """
        of = [digest(dict(engine.fingerprint)), CONFIG.to_dict(), max_tokens, seed]
        keys = {digest([*of, text]): text for text in questions}
        missing = [key for key in keys if key not in self._known]
        requests = [Request(Prompt(keys[key]), CONFIG, 0, int(key[:15], 16), max_tokens) for key in missing]
        found = dict(zip(missing, engine.generate(requests) if requests else [], strict=True))
        answered = {
            key: Answer(replace_surrogates(one.text), one.tokens) for key, one in found.items() if one.finish != "error"
        }
        self._known |= answered
        if self._path is not None and answered:
            rows = ({"call": key, "reply": one.text, "tokens": one.tokens} for key, one in answered.items())
            append_bytes(self._path, format_jsonl(rows).encode())
        failed = [one.error for one in found.values() if one.finish == "error"]
        if failed:
            raise EngineError(f"{engine.name} could not be asked for predicates: {failed[0]}")
        return {key: self._known[key] for key in keys}


class ProposedPredicates(PredicatesEncoder):
    """Whether predicates hold that an LLM proposed, such as `contains "list"`, for `learner="rules"`.

    The LLM is asked anew in every fold of the comparison, of that fold's training prompts alone, and once of all for
    what ships. Lines in no known form are dropped and counted. Which predicates are worth a rule is learned from the
    rewards, and no LLM is needed to predict. Several seeds are several encoders that compete:

        fit(table, [ProposedPredicates(engine, seed) for seed in range(3)], "rules")

    Args:
        engine: that is asked; it sees beginnings of training prompts.
        seed: of the examples and of the answers.
        questions: asked in each fit; each is about one config.
        examples: prompts on each side of a question.
        max_tokens: limit on an answer.
        answers: file of an `AnswerStore`.

    Attributes:
        asked: the answers so far, by the digests of their questions.
    """

    tuned = True

    def __init__(
        self,
        engine: Proposer,
        seed: int = 0,
        *,
        questions: int = 3,
        examples: int = 6,
        max_tokens: int = 48,
        answers: Path | None = None,
    ) -> None:
        super().__init__((), f"proposed-{seed}")
        self.engine, self.seed, self.questions, self.examples = engine, seed, questions, examples
        self.max_tokens, self.store, self.asked = max_tokens, AnswerStore(answers), dict[str, Answer]()

    def count_lines(self) -> tuple[int, int]:
        """Lines of the answers so far, and how many of them are predicates."""
        lines = [line for one in self.asked.values() for line in one.text.splitlines() if line.strip()]
        return len(lines), sum(parse_predicate(line) is not None for line in lines)

    def tune(self, prompts: Sequence[Any], targets: np.ndarray, groups: np.ndarray, seed: int) -> PredicatesEncoder:
        """The encoder of what is proposed for some training prompts; see `Encoder.tune`.

        Raises:
            EngineError: the engine failed.
        """
        answers = self.ask(self.make_questions([prompt.text for prompt in prompts], targets, groups, seed))
        lines = [line for one in answers for line in one.text.splitlines()]
        found = dict.fromkeys(one for line in lines if (one := parse_predicate(line)) is not None)
        return PredicatesEncoder(tuple[Predicate, ...](found), self.name)

    def ask(self, questions: Sequence[str]) -> list[Answer]:
        """The answers to some questions. Raises EngineError."""
        answers = self.store.ask(self.engine, questions, self.seed, self.max_tokens)
        self.asked |= answers
        return list(answers.values())

    def make_questions(self, texts: Sequence[str], targets: np.ndarray, groups: np.ndarray, seed: int) -> list[str]:
        """Questions about some texts, each on another config; the more it wins where it wins, the more likely.

        Args:
            texts: n of them.
            targets: float64 (n, n_targets).
            groups: int64 (n,): one text of each is shown in a question.
            seed: beside the encoder's own.
        """
        draw = np.random.default_rng([self.seed, abs(seed)])
        over = targets - targets[:, [int(targets.mean(axis=0).argmax())]]
        wins = over.clip(0.0).sum(axis=0)
        able = np.flatnonzero((wins > 0.0) & (over < 0.0).any(axis=0))
        if not len(able):
            return []
        chosen = draw.choice(able, min(self.questions, len(able)), replace=False, p=wins[able] / wins[able].sum())
        asked = []
        for gains in over[:, chosen].T:
            better, worse = (self._draw(draw, one, groups) for one in (gains, -gains))
            asked.append(ask_what_differs([texts[row] for row in better], [texts[row] for row in worse], LINES))
        return asked

    def _draw(self, draw: np.random.Generator, gains: np.ndarray, groups: np.ndarray) -> list[int]:
        """Numbers of prompts, of one group each: the more one gains, the more likely it is among them."""
        able = np.flatnonzero(gains > 0.0)
        order = able[np.argsort(draw.exponential(size=len(able)) / gains[able], kind="stable")]
        firsts = np.sort(np.unique(groups[order], return_index=True)[1])
        return [int(row) for row in order[firsts[: self.examples]]]


def ask_what_differs(first: Sequence[str], second: Sequence[str], count: int) -> str:
    """A question for conditions that hold for the first texts and not for the second.

    Small LLMs answer in the form asked for only where they have seen it answered; without the example they went on with
    the requests.
    """
    forms = "\n".join(FORMS)
    return (
        "Conditions that hold for several requests of group A, and for none of group B. Each is a line in one of these "
        f"forms:\n{forms}\n\nExample:\n\n{_lay_out(*_EXAMPLE)}\n{_EXAMPLE_ANSWER}\n\n"
        f"Now give {count} conditions in this way, and nothing else.\n\n{_lay_out(first, second)}"
    )


_EXAMPLE = (
    ("Refund my order, please.", "Where is the parcel of order 4512?", "My order came late."),
    ("Thank you for the call on Friday, we shall write to you.", "The office in Bonn is closed."),
)
_EXAMPLE_ANSWER = 'contains "order"\ncontains "refund" or "parcel"\nis shorter than 9 words'


def _lay_out(first: Sequence[str], second: Sequence[str]) -> str:
    return f"Requests of group A:\n{_list(first)}\n\nRequests of group B:\n{_list(second)}\n\nConditions:"


def _list(texts: Sequence[str]) -> str:
    return "\n".join(f"- {shorten(' / '.join(text.split(chr(10))).strip(), CHARACTERS)}" for text in texts)
