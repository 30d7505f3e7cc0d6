"""`judge`: an engine that grades answers, or compares them with the engine default's."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hagpolicy._digest import digest
from hagpolicy._files import write_text
from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.answers import split_reasoning
from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.engines.base import Engine
from hagpolicy.engines.loading import EngineSource, load_engine
from hagpolicy.errors import EngineError, StoreError, UnsupportedSetting
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.scorers.judge.agreement import Agreement, Labels, judge_agreement, read_labels
from hagpolicy.scorers.judge.calls import JudgeCalls
from hagpolicy.scorers.judge.prompts import RUBRIC, JudgeReply
from hagpolicy.scorers.judge.terms import BEHAVIOUR, Terms


@dataclass
class _Counts:
    """Counts of what a judge did, shared by all that are bound to some defaults."""

    scored: int = 0
    unscored: int = 0
    compared: int = 0
    flips: int = 0


class Judge(Scorer):
    """An LLM as scorer: any engine, by rubric or against the engine default's answer.

    By rubric the judge ends its reply with "Grade: N"; the ends of the scale are rewards 0 and 1.
    Pairwise it sees the answer and the default's in both orders and ends each reply with a
    verdict: the reward is the mean over the two orders of 1 (better), .5 (a tie) and 0. Where it
    prefers whichever answer comes first, or last, the two cancel to .5, and the flip is counted. An
    answer equal to the default's is .5 without a call, and one without text is the worst without one. A reply of
    another form, and one the engine failed on, gives no reward, with the reason.

    The texts that are judged stand between marker lines made from their own digest, and only the
    last line of the judge's own reply is read.

    Args:
        engine: the judge: an `Engine`, which the caller closes, or what `load_engine` takes, or a mapping
            {"engine": that, **its options}, such as the variable with the judge's own key.
        rubric: what makes an answer good, in words.
        pairwise: compare with the engine default's answers, instead of grading.
        scale: (worst, best) whole numbers that the judge grades with.
        config: the judge's decoding, a `DecodingConfig` or a mapping of its fields; None: greedy.
        max_tokens: limit on a reply's tokens; a reply that reaches it gives no reward.
        labels: labels of your own to compare with, see `read_labels`; None: none.

    Attributes:
        version: a digest of the judge's fingerprint and decoding, prompt, rubric, scale and mode.

    Raises:
        InvalidInput: an option that cannot be used; UnsupportedSetting: a config the judge lacks.
        EngineError: the judge cannot be loaded.
    """

    name = "judge"
    answers_agree = False

    def __init__(
        self,
        engine: EngineSource,
        *,
        rubric: str = RUBRIC,
        pairwise: bool = False,
        scale: Sequence[int] = (1, 10),
        config: DecodingConfig | Mapping[str, Any] | None = None,
        max_tokens: int = 512,
        labels: Labels | None = None,
    ) -> None:
        self.terms = Terms(rubric, pairwise, scale, config, max_tokens)  # type: ignore[arg-type]  # Terms reads them
        self.labels = None if labels is None else read_labels(labels)
        self.needs_default, self.calls = pairwise, 2 if pairwise else 1
        self._source = engine
        self._engine: Engine | None = load_engine(engine)
        self._engine_name = self._engine.name
        self.description = self.terms.describe(self._engine.fingerprint)
        self.version = f"{BEHAVIOUR}-{digest(self.description)[:16]}"
        self._calls = JudgeCalls(self.version, self.terms.config, max_tokens, self.terms.read)
        if lacks := self._engine.unsupported(self.terms.config):
            self.close()
            raise UnsupportedSetting("judge.config", f"settings that {self._engine_name} can honour", ", ".join(lacks))
        self._counts = _Counts()
        self._agreement: Agreement | None = None

    def score(self, items: Sequence[tuple[Prompt, Completion]]) -> list[Score]:
        """Rewards by rubric, in order; a pairwise judge scores through `against`."""
        if self.terms.pairwise:
            return [Score.unscored("a pairwise judge needs the engine default's answer") for _ in items]
        texts = [
            self.terms.write_grading(prompt, completion.text) if completion.text.strip() else None
            for prompt, completion in items
        ]
        asked = [text for text in texts if text is not None]
        replies = self._calls.ask(self._load_judge(), asked) if asked else {}
        # An answer without text, such as reasoning that was cut short, is the worst one: nobody need be asked.
        worst = JudgeReply(0.0)
        return [self._count_score(self._score_grade(worst if text is None else replies[text])) for text in texts]

    def against(self, defaults: Mapping[str, Completion]) -> Scorer:
        """A scorer that compares with these answers, by prompt digest; by rubric, this one."""
        return _DefaultComparison(self, defaults) if self.terms.pairwise else self

    def compare(self, items: Sequence[tuple[Prompt, Completion]], defaults: Mapping[str, Completion]) -> list[Score]:
        """Rewards of completions against the default's answers, in order."""
        asked: dict[int, tuple[str, str]] = {}
        scores: dict[int, Score] = {}
        for index, (prompt, completion) in enumerate(items):
            default = defaults.get(prompt.digest)  # which comes whole from the store
            if default is None or default.finish == "error":
                scores[index] = Score.unscored("there is no answer of the engine's default to compare with")
            elif (other := split_reasoning(default.text)[1]) == completion.text:
                scores[index] = Score(0.5, None, "equal")
            elif not completion.text.strip() or not other.strip():
                scores[index] = Score(1.0, None, "better") if completion.text.strip() else Score(0.0, None, "worse")
            else:
                asked[index] = self.terms.write_comparisons(prompt, completion.text, other)
        replies = (
            self._calls.ask(self._load_judge(), [text for pair in asked.values() for text in pair]) if asked else {}
        )
        for index, (first, second) in asked.items():
            scores[index] = self._score_verdict(replies[first], replies[second])
        return [self._count_score(scores[index]) for index in range(len(items))]

    def open(self, folder: Path | None) -> None:
        """Keep calls in `folder/judges`, beside a description of this judge; judge the labels.

        Raises:
            StoreError: nothing can be written there.
        """
        if folder is not None:
            place = Path(folder) / "judges"
            text = json.dumps({"name": self._engine_name, **self.description}, indent=1, ensure_ascii=False)
            try:
                write_text(place / f"{self.version}.json", text)
                self._calls.keep_in(place / f"{self.version}.calls.jsonl")
            except OSError as error:
                raise StoreError(f"cannot keep judge calls in {place}: {error}") from error
        self.agreement()

    def close(self) -> None:
        """Let go of the file of calls, and of an engine that was loaded by name; a later call loads it again."""
        self._calls.keep_in(None)
        if self._engine is not None and not isinstance(self._source, Engine):
            self._engine.close()
            self._engine = None

    def agreement(self) -> Agreement | None:
        """The agreement of this judge with `labels`, computed once; None without labels."""
        if self.labels is not None and self._agreement is None:
            counts = dataclasses.replace(self._counts)
            self._agreement = judge_agreement(self, self.labels)
            self._counts = counts  # the labelled answers are none of the sweep's
        return self._agreement

    def report(self) -> dict[str, Any]:
        """Figures about what this judge did since it was made, JSON-able.

        `asked` and `engine_failures` count calls, `tokens` their new tokens (None where they were not all counted),
        `calls_known` the distinct calls with a reply (those of earlier runs in the folder included) and
        `unreadable` those of them without a grade; `scored` and `unscored` count answers, `compared` those judged
        in both orders and `position_flips` those of them where the order decided; a share of nothing is None.
        """
        counts, calls = self._counts, self._calls
        agreement = self.agreement()
        return {
            "judge": self._engine_name,
            "version": self.version,
            "mode": self.description["mode"],
            "asked": calls.asked,
            "engine_failures": calls.failed,
            "tokens": None if calls.tokens != calls.tokens else calls.tokens,
            "calls_known": len(calls),
            "unreadable": calls.unreadable,
            "unreadable_share": _divide(calls.unreadable, len(calls)),
            "scored": counts.scored,
            "unscored": counts.unscored,
            "compared": counts.compared,
            "position_flips": counts.flips,
            "position_flip_share": _divide(counts.flips, counts.compared),
            "agreement": agreement and agreement.to_json(),
        }

    def _load_judge(self) -> Engine:
        if self._engine is None:
            engine = load_engine(self._source)
            if dict(engine.fingerprint) != self.description["fingerprint"]:
                engine.close()
                raise EngineError(f"{engine.name} is no longer the judge it was: its fingerprint has changed")
            self._engine = engine
        return self._engine

    def _score_grade(self, reply: JudgeReply) -> Score:
        if reply.value is None:
            return Score.unscored(reply.reason)
        low, high = self.terms.scale
        return Score(reply.value, None, f"{low + reply.value * (high - low):.0f}")

    def _score_verdict(self, first: JudgeReply, second: JudgeReply) -> Score:
        """The reward of an answer that was A in the first call and B in the second."""
        if first.value is None or second.value is None:
            return Score.unscored(first.reason or second.reason)
        self._counts.compared += 1
        value = (first.value + 1.0 - second.value) / 2.0
        if first.value == second.value != 0.5:
            self._counts.flips += 1
            return Score(value, None, "flip")
        return Score(value, None, "tie" if value == 0.5 else "better" if value > 0.5 else "worse")

    def _count_score(self, score: Score) -> Score:
        if score.reason is None:
            self._counts.scored += 1
        else:
            self._counts.unscored += 1
        return score

    def __repr__(self) -> str:
        return f"Judge({self._engine_name!r}, version={self.version!r})"


class _DefaultComparison(Scorer):
    """A pairwise judge that knows the default's answers."""

    def __init__(self, judge: Judge, defaults: Mapping[str, Completion]) -> None:
        self.name, self.version, self.calls, self.needs_default = judge.name, judge.version, judge.calls, True
        self.answers_agree = judge.answers_agree
        self._judge, self._defaults = judge, defaults

    def score(self, items: Sequence[tuple[Prompt, Completion]]) -> list[Score]:
        return self._judge.compare(items, self._defaults)

    def against(self, defaults: Mapping[str, Completion]) -> Scorer:
        return _DefaultComparison(self._judge, defaults)


def _divide(part: int, whole: int) -> float | None:
    return part / whole if whole else None
