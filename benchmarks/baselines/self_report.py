"""`SelfReport`: the LLM is asked for its own decoding settings, as in HAG (arXiv 2402.11251), before it answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hagpolicy._checks import is_whole
from hagpolicy._digest import digest
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.render import Message
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.completion import Request
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.table import SweepTable
from hagpolicy.data.tuning import SettingsText, best_labels
from hagpolicy.engines.base import Engine
from hagpolicy.errors import EngineError, InvalidInput
from hagpolicy.fitting.baselines.base import Baseline, BaselineChoices

GREEDY = DecodingConfig(temperature=0.0)
# An example shows what kind of prompt got which settings; the end of a long one adds little and costs tokens.
EXAMPLE_CHARACTERS = 300
MADE_UP = ("Write a poem about the sea.", "What is the capital of France?")


@dataclass(frozen=True)
class Answer:
    """What the LLM said about one prompt.

    Attributes:
        key: digest of the whole question.
        text: as generated.
        tokens: new tokens.
        prompt_tokens: tokens of the question.
        seconds: share of the time of its batch.
        engine: digest of the engine's fingerprint.
    """

    key: str
    text: str
    tokens: int
    prompt_tokens: int
    seconds: float
    engine: str


class SelfReport(Baseline):
    """Asks the LLM which settings of the space suit a prompt, and reads its answer strictly.

    The question lists the settings in which the space's configs differ, with their values; it is answered
    greedily. `SettingsText.read` says what counts as an answer; one that is none is -1, the fallback.

    Without examples two made-up ones show the form: a poem with the hottest config of the space, then a question
    of fact with the coolest. (Without any, a small LLM writes JSON of its own devising; and it tends to repeat
    what it was shown last, where a cool config does least harm.) With examples, the LLM sees prompts of the
    training part with their best settings (`best_labels`), chosen by the seed: each time the next prompt, in
    shuffled order, whose task and settings were shown least, of those for which the settings make a difference.

    Args:
        engine: the LLM, or what loads it, called when a question was not answered before; None: only stored
            answers are used.
        examples: how many examples of the training part are shown, at least 0.
        by_reward: label the examples by mean reward, whatever is maximised; then the answers stored for one
            objective serve all.
        tuned: the engine was tuned on `SweepTable.to_instruction_tuning`: it is asked in that file's short form.
        cache: a file to which answers are added and from which they are read; one engine a file.
        max_tokens: limit on new tokens.

    Raises:
        InvalidInput: a negative number of examples, or examples for a tuned engine.
    """

    def __init__(
        self,
        engine: Engine | Callable[[], Engine] | None,
        examples: int = 0,
        *,
        by_reward: bool = False,
        tuned: bool = False,
        cache: str | Path | None = None,
        max_tokens: int = 96,
    ) -> None:
        if not is_whole(examples, 0) or (tuned and examples):
            raise InvalidInput("examples", "a whole number, at least 0, and 0 for a tuned engine", examples)
        self.engine, self.examples, self.by_reward, self.tuned = engine, examples, by_reward, tuned
        self.max_tokens, self.learns = max_tokens, tuned or examples > 0
        self.name = "self_report_tuned" if tuned else f"self_report_{examples}_shot" if examples else "self_report"
        self.cache = None if cache is None else Path(cache)
        self._known = {} if self.cache is None else _read(self.cache)

    @classmethod
    def from_results(cls, folder: str | Path, examples: int = 0, *, by_reward: bool = True) -> SelfReport:
        """The baseline from answers that were stored in `folder` as NAME.jsonl, without an LLM.

        Raises:
            InvalidInput: there is no such file.
        """
        baseline = cls(None, examples)
        path = Path(folder) / f"{baseline.name}.jsonl"
        if not path.exists():
            raise InvalidInput(
                "folder", f"the file {path.name} in it", str(folder), "Run python -m benchmarks run self_report."
            )
        return cls(None, examples, by_reward=by_reward, cache=path)

    def choose(
        self, table: SweepTable, values: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
    ) -> BaselineChoices:
        """See `Baseline.choose`.

        Raises:
            InvalidInput: questions without a stored answer and no engine, or answers of another engine in the cache.
            EngineError: the engine failed as a whole.
        """
        answers = self.ask(self.questions(table, values, train, test, seed))
        text = SettingsText(table.space)
        found = [text.read(answer.text) for answer in answers]
        return BaselineChoices(
            np.array([-1 if reading is None else reading.index for reading in found], dtype=np.int64),
            np.array([answer.tokens + answer.prompt_tokens for answer in answers], dtype=np.float64),
            np.array([answer.seconds for answer in answers], dtype=np.float64),
        )

    def questions(
        self, table: SweepTable, values: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
    ) -> list[list[Message]]:
        """What the LLM is asked about each test prompt, as chat messages; arguments as of `choose`."""
        text = SettingsText(table.space)
        shown = [] if self.tuned else _turns(text, self.shown(table, values, train, seed) or _made_up(table.space))
        prompts = [table.prompts[row] for row in np.flatnonzero(test).tolist()]
        return [[*shown, {"role": "user", "content": text.write_question(prompt.text)}] for prompt in prompts]

    def shown(
        self, table: SweepTable, values: np.ndarray, train: np.ndarray, seed: int
    ) -> list[tuple[str, DecodingConfig]]:
        """The examples: a prompt's text and its best config; arguments as of `choose`."""
        values = table.means if self.by_reward else values
        labels = best_labels(values[train], table.counts[train], table.space.deterministic)
        rows = np.flatnonzero(train)
        usable = np.flatnonzero(labels.differs & (labels.index >= 0))
        order = np.random.default_rng(seed).permutation(usable).tolist()
        seen, found = Counter[object](), []
        for _ in range(min(self.examples, len(order))):
            # min is stable: the first of the shuffled order among equals.
            best = min(order, key=lambda i: seen["task", table.tasks[rows[i]]] + seen["config", labels.index[i]])
            order.remove(best)
            seen.update([("task", table.tasks[rows[best]]), ("config", labels.index[best])])
            found.append((table.prompts[int(rows[best])].text, table.space[int(labels.index[best])]))
        return found

    def ask(self, questions: Sequence[Sequence[Message]]) -> list[Answer]:
        """An answer for each question, from the cache or the engine, which answers many at a time.

        A question that the engine could not take (too long for it) has an empty answer, and is not stored.
        """
        keys = [digest([self.max_tokens, *map(dict, question)]) for question in questions]
        missing = {key: question for key, question in zip(keys, questions, strict=True) if key not in self._known}
        if missing:
            self._generate(missing)
        return [self._known.get(key) or Answer(key, "", 0, 0, 0.0, "") for key in keys]

    def _generate(self, questions: dict[str, Sequence[Message]]) -> None:
        if self.engine is None:
            do = "Give an engine, or the file that holds the answers to these prompts, space and examples."
            raise InvalidInput(
                "engine", "one, to answer what is not stored", f"None, with {len(questions)} to answer", do
            )
        engine = self.loaded()
        owner = digest(dict(engine.fingerprint))
        others = {answer.engine for answer in self._known.values()} - {owner}
        if others:
            do = "Give each engine a file of its own."
            raise InvalidInput("cache", "answers of this engine only", f"{self.cache} with another engine's", do)
        keys = list(questions)
        requests = [
            Request(Prompt(tuple(questions[key])), GREEDY, sample=0, seed=0, max_tokens=self.max_tokens) for key in keys
        ]
        size = engine.unit_cells
        starts = range(0, len(requests), size)
        for unit, outcome in engine.stream(requests[start : start + size] for start in starts):
            if isinstance(outcome, Exception):
                raise EngineError(f"{engine.name} could not say its settings: {outcome}") from outcome
            answers = [
                Answer(key, one.text, one.tokens, one.prompt_tokens, round(one.seconds, 4), owner)
                for key, one in zip(keys[unit * size :], outcome, strict=False)
                if one.finish != "error"
            ]
            self._known |= {answer.key: answer for answer in answers}
            self._store(answers)

    def loaded(self) -> Engine:
        """The LLM, loaded where it is not.

        Raises:
            InvalidInput: there is none.
        """
        if self.engine is None:
            raise InvalidInput("engine", "an engine, or what loads it", "None")
        if not isinstance(self.engine, Engine):
            self.engine = self.engine()
        return self.engine

    def _store(self, answers: Sequence[Answer]) -> None:
        if self.cache is not None and answers:
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            with self.cache.open("a", encoding="utf-8") as file:
                # Each line begins with the line break, so that one that a killed run left torn is ended.
                file.writelines("\n" + json.dumps(asdict(answer), ensure_ascii=False) for answer in answers)


def _made_up(space: DecodingSpace) -> list[tuple[str, DecodingConfig]]:
    """Two examples that show the form of an answer, of no sweep."""
    heat = [config.temperature for config in space]
    return list(zip(MADE_UP, (space[int(np.argmax(heat))], space[int(np.argmin(heat))]), strict=True))


def _turns(text: SettingsText, examples: Sequence[tuple[str, DecodingConfig]]) -> list[Message]:
    """Examples as chat messages. The first question says what there is to choose; the others need not repeat it."""
    turns: list[Message] = []
    for prompt, config in examples:
        ask = text.write_question if turns else text.write_question_with_choices
        turns.append({"role": "user", "content": ask(prompt, EXAMPLE_CHARACTERS)})
        turns.append({"role": "assistant", "content": text.write(config)})
    return turns


def _read(path: Path) -> dict[str, Answer]:
    """Stored answers by key. A torn line, of a run that was killed, is passed over: its question is asked again."""
    found: dict[str, Answer] = {}
    for number, line in enumerate(path.read_text("utf-8").split("\n") if path.exists() else [], start=1):
        try:
            answer = Answer(**json.loads(line))
        except ValueError:
            continue
        except TypeError as error:
            raise InvalidInput(f"{path}, line {number}", "a stored answer", f"{line[:80]} ({error})") from error
        found[answer.key] = answer
    return found
