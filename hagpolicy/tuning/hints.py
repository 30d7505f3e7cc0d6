"""`tune_hints`: the LLM proposes hints, a sweep scores them, and those that complement each other are kept.

After automatic prompt engineering (Zhou et al., "Large Language Models Are Human-Level Prompt Engineers",
arXiv 2211.01910): a model that is shown requests with good answers writes the instruction that leads from one to the
other. Here what it writes is added to each prompt as a hint and races against the others, and the frozen LLM that is
to answer may itself be the one that proposes.

A hint that was found on some prompts is worth less on others. So the result remembers by salted digests the prompts it
was made from, and a sweep of it, and whatever is fitted on that, leaves these out.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy._checks import is_whole
from hagpolicy._files import check_path, format_json, parse_json, read_regular, write_text
from hagpolicy._text import format_count, shorten
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.origins import Origin
from hagpolicy.data.prompts import Prompt, as_prompts
from hagpolicy.data.store.cells import Plan
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.engines.base import Engine
from hagpolicy.engines.loading import EngineSource, open_engine
from hagpolicy.errors import InvalidInput, StoreError
from hagpolicy.scorers.functions import FunctionScorer
from hagpolicy.sweeping.budget import Budget
from hagpolicy.sweeping.forecast.progress import Progress
from hagpolicy.sweeping.run import sweep
from hagpolicy.tuning.space import SpaceSuggestion, race, suggest_from_tables

__all__ = ["HINTS_FILE", "TunedHints", "tune_hints"]

logger = logging.getLogger(__name__)

HINTS_FILE = "hints.json"
FORMAT = 1
_LARGEST = 256 << 20
# Examples in a question to the LLM, answers that it gives to each question, tokens of one.
EXAMPLES, ANSWERS, PROPOSAL_TOKENS = 3, 4, 48
_REQUEST, _ANSWER = 400, 200  # characters of an example
_MOST_CHARACTERS, _LEAST_WORDS, _MOST_WORDS = 200, 2, 30
_LEAST_LEAK = 4  # characters of a reference that no hint may hold
_PROPOSING = DecodingConfig(temperature=0.8)
_MARKS = re.compile(r"^(?:[-*•#>]+|\d+[.)])\s+|^\**(?:instruction|hint|answer)\**\s*:\**\s*", re.IGNORECASE)


@dataclass(frozen=True)
class TunedHints:
    """Configs with the hints that were kept. `sweep` takes it as a space, and leaves out what it was made from.

    Attributes:
        space: the config without a hint, and with each of those kept.
        origins: the prompts that the hints were made from, as salted digests, one for each hint.
        suggestion: what the race of all hints told; None where it was read from a folder.
        proposed: answers that the LLM was asked for.
        usable: different hints among them.
    """

    space: DecodingSpace
    origins: tuple[Origin, ...]
    suggestion: SpaceSuggestion | None = field(default=None, compare=False)
    proposed: int = 0
    usable: int = 0

    @property
    def hints(self) -> tuple[str, ...]:
        """The hints that were kept, in the order in which each adds most."""
        return tuple(dict.fromkeys(config.hint for config in self.space if config.hint))

    def with_configs(self, more: Iterable[DecodingConfig]) -> TunedHints:
        """The same with further configs behind its own."""
        configs = dict.fromkeys((*self.space, *more))
        return replace(self, space=DecodingSpace(configs), suggestion=None)

    def __iter__(self) -> Iterator[DecodingConfig]:
        return iter(self.space)

    def __len__(self) -> int:
        return len(self.space)

    def __str__(self) -> str:
        found = f"{self.usable} of {format_count(self.proposed, 'answer')} were different, usable hints"
        kept = "\n".join(f"  {hint}" for hint in self.hints) or "  none"
        lines = [f"{found}; kept:", kept, *([] if self.suggestion is None else [str(self.suggestion)])]
        return "\n".join(lines)

    @classmethod
    def load(cls, folder: str | Path) -> TunedHints:
        """What `tune_hints` left in a folder.

        Raises:
            StoreError: no such result there, or one of a newer version.
        """
        path = Path(folder) / HINTS_FILE
        try:
            values = parse_json(read_regular(path, _LARGEST))
            if values["format_version"] != FORMAT:
                raise ValueError(f"format version {values['format_version']!r}, of which only {FORMAT} is known")
            space = DecodingSpace.from_json(values["space"])
            first = Origin.from_json({"field": "hint", "pin": "", **values["made_from"]})
            proposed, usable = int(values["proposed"]), int(values["usable"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{path} holds no tuned hints: {type(error).__name__}: {error}") from error
        return cls(space, _spread_origin(first, space), None, proposed, usable)


def tune_hints(
    engine: EngineSource,
    prompts: Any,
    scorer: Any,
    out: str | Path,
    *,
    proposer: EngineSource | None = None,
    proposals: int = 24,
    hints: Sequence[str] = (),
    keep: int = 4,
    base: DecodingConfig | None = None,
    budget: Budget | int | str | None = None,
    samples: int = 1,
    max_tokens: int = 256,
    seed: int = 0,
    progress: bool | Callable[[Progress], Any] = True,
) -> TunedHints:
    """Hints that an LLM proposes for these prompts, of which a race keeps those that complement each other.

    All that is spent is kept in two sweep folders below `out`, so that the same call goes on where a killed one
    stopped; `out/hints.json` holds the result, which `TunedHints.load` reads. Sweep it on other prompts:
    `sweep(engine, prompts, tuned, …)`; those that it was made from, and others of their groups, are left out there, and
    of the race's own table nothing can be proven.

    Args:
        engine: that the hints are for; see `sweep`.
        prompts: see `sweep`; at least two with a reference, which is what the LLM is shown as a good answer.
        scorer: see `sweep`.
        out: a folder on this machine.
        proposer: the engine that proposes; None: the same.
        proposals: answers that it is asked for, each of which proposes one hint, at least 1. Half of the prompts or
            fewer are shown to it, three at a time, of one task.
        hints: further hints that compete, such as ones with slots.
        keep: hints at most, [1, 15].
        base: the config to which hints are added; None: greedy decoding.
        budget: of the race, see `suggest_space`.
        samples: of each prompt and sampled config in the race.
        max_tokens: limit on new tokens in the race.
        seed: of both sweeps, and of the choice of examples.
        progress: see `sweep`; of both sweeps.

    Raises:
        InvalidInput: bad arguments, too few prompts with a reference, or no usable hint at all.
        what `sweep` raises.
    """
    for name, value, low, high in (("proposals", proposals, 1, 10_000), ("keep", keep, 1, 15)):
        if not is_whole(value, low, high):
            raise InvalidInput(name, f"a whole number in [{low}, {high}]", value)
    if isinstance(hints, str) or not all(isinstance(hint, str) and hint.strip() for hint in hints):
        raise InvalidInput("hints", "a list of texts", hints)
    known, folder = as_prompts(prompts), Path(check_path(out, "out"))
    plain = (base or DecodingConfig(temperature=0.0)).replace(hint="")
    with open_engine(engine, None, None) as made:
        with open_engine(made if proposer is None else proposer, None, None) as asked:
            found = _propose(asked, known, proposals, folder / "proposals", seed, progress)
        competing = list(dict.fromkeys([*(hint.strip() for hint in hints), *found]))
        if not competing:
            do = "Give hints=[…], or a stronger proposer=."
            raise InvalidInput("proposals", "at least one usable hint", f"none in {proposals} answers", do)
        large = DecodingSpace([plain, *(plain.replace(hint=hint) for hint in competing)])
        options = {"samples": samples, "max_tokens": max_tokens, "seed": seed, "budget": budget, "progress": progress}
        tables = race(made, known, large, scorer, folder / "scores", default=plain, **options)
    # What is chosen here may use all of these prompts; what is proven later may not.
    suggestion = suggest_from_tables(*(replace(table, origins=()) for table in tables), most=keep + 1, seed=seed)
    origin = _find_origin(folder, known)
    _seal(folder / "scores", _spread_origin(origin, large))
    order = [*suggestion.list_configs("suggested"), *suggestion.list_configs("next")]
    space = DecodingSpace([plain, *[config for config in order if config.hint][:keep]])
    tuned = TunedHints(space, _spread_origin(origin, space), suggestion, proposals, len(found))
    write_text(folder / HINTS_FILE, format_json(_to_json(tuned, origin)) + "\n")
    return tuned


def _find_origin(folder: Path, prompts: Sequence[Prompt]) -> Origin:
    """What says that something was made from the prompts: that of an earlier call, where it was of the same ones."""
    made = Origin.of("hint", "", prompts)
    if not (folder / HINTS_FILE).exists():
        return made
    earlier = next(iter(TunedHints.load(folder).origins), made)
    same = len(earlier.digests) == len(made.digests) and all(map(earlier.saw, prompts))
    return replace(earlier, pin="") if same else made


def _seal(folder: Path, origins: tuple[Origin, ...]) -> None:
    """Note in the folder of a race what its hints were made from, so that nothing is proven on its own prompts."""
    with SweepStore(folder, write=True) as store:
        latest = store.plans[-1].view
        store.add_plan(Plan(replace(latest, origins=origins)))


def _to_json(tuned: TunedHints, origin: Origin) -> dict[str, Any]:
    made_from = {"salt": origin.salt, "digests": sorted(origin.digests)}
    counts = {"proposed": tuned.proposed, "usable": tuned.usable}
    told = None if tuned.suggestion is None else tuned.suggestion.to_json()
    return {"format_version": FORMAT, "space": tuned.space.to_json(), **counts, "race": told, "made_from": made_from}


def _spread_origin(origin: Origin, space: DecodingSpace) -> tuple[Origin, ...]:
    """The origin of each hint of a space, which all were made from the same prompts."""
    return tuple(replace(origin, pin=hint) for hint in dict.fromkeys(c.hint for c in space) if hint)


def _propose(
    engine: Engine, prompts: Sequence[Prompt], proposals: int, folder: Path, seed: int, progress: Any
) -> list[str]:
    """The different usable hints that an LLM writes, in the order of its answers."""
    questions = make_questions(prompts, -(-proposals // ANSWERS), seed)
    table = sweep(
        engine,
        questions,
        [_PROPOSING],
        FunctionScorer(_score_hint, name="usable_hint", version="1"),
        samples=min(ANSWERS, proposals),
        max_tokens=PROPOSAL_TOKENS,
        out=folder,
        seed=seed,
        default=_PROPOSING,
        progress=progress,
    )
    assert table.texts is not None
    leaks = [str(one.reference).casefold() for one in prompts if isinstance(one.reference, str | int | float)]
    leaks = [one for one in leaks if len(one) >= _LEAST_LEAK]
    found: dict[str, str] = {}
    texts = [table.texts[row, 0, sample] for row in range(len(questions)) for sample in range(table.rewards.shape[2])]
    for text in texts[:proposals]:
        hint = parse_hint(text or "")
        if hint and not any(leak in hint.casefold() for leak in leaks):
            found.setdefault(hint.casefold(), hint)
    logger.info("%s: %d usable hints in %d answers", folder, len(found), proposals)
    return list(found.values())


def make_questions(prompts: Sequence[Prompt], count: int, seed: int) -> list[Prompt]:
    """Questions for instructions that lead from requests to good answers, each about prompts of one task.

    Raises:
        InvalidInput: fewer than two prompts with a reference.
    """
    tasks: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        if prompt.reference is not None:
            tasks.setdefault(prompt.task, []).append(prompt)
    if sum(map(len, tasks.values())) < 2:
        raise InvalidInput(
            "prompts", "at least two with a reference", f"{sum(map(len, tasks.values()))} of {len(prompts)}"
        )
    draw = np.random.default_rng([abs(seed), 4])
    names = list(tasks)
    made = []
    for number in range(count):
        known = tasks[names[number % len(names)]]
        # From one half alone, so that most of what scores a hint was not shown to the LLM that wrote it.
        pool = known[: max(len(known) // 2, 1)]
        some = [pool[at] for at in draw.permutation(len(pool))[:EXAMPLES]]
        made.append(Prompt(_ask(some), id=f"question-{number}"))
    return made


def _ask(examples: Sequence[Prompt]) -> str:
    shown = "\n\n".join(
        f"Request: {shorten(one.text.strip(), _REQUEST)}\nGood answer: {shorten(_say(one.reference), _ANSWER)}"
        for one in examples
    )
    return (
        f"Here are requests with good answers.\n\n{shown}\n\nWrite one short instruction that can be put after any "
        "such request, so that the answers are as good as these. It must hold for other requests of the same kind and "
        "must not give away an answer. Write the instruction alone, in one sentence."
    )


def _say(reference: Any) -> str:
    """A reference as text: itself, its parts with commas, or JSON."""
    if isinstance(reference, str):
        return reference.strip()
    if isinstance(reference, list) and all(isinstance(part, str | int | float) for part in reference):
        return ", ".join(map(str, reference))
    return json.dumps(reference, ensure_ascii=False)


def _score_hint(text: str) -> float:
    """1 for a text that holds a usable hint, else 0."""
    return float(bool(parse_hint(text)))


def parse_hint(text: str) -> str:
    """The hint that an LLM's answer proposes: its first line that announces nothing, without marks and quotes around
    it; "" where that is no sentence of 2 to 30 words."""
    lines = (_clean(line) for line in text.splitlines())
    hint = next((line for line in lines if line and not line.endswith(":")), "")
    usable = _LEAST_WORDS <= len(hint.split()) <= _MOST_WORDS and len(hint) <= _MOST_CHARACTERS
    return hint if usable and hint.isprintable() else ""


def _clean(line: str) -> str:
    previous, line = "", " ".join(line.split())
    while line != previous:
        previous, line = line, _MARKS.sub("", line).strip().strip("\"'“”‘’`*").strip()
    return line
