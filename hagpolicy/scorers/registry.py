"""Scorers: completion (and reference) to reward.

| name | reward | reference |
|---|---|---|
| exact_match | 1 where the whole answer equals it, normalised | text, number, or a list of accepted ones |
| numeric_match | 1 where the last number equals it | number, or text that is one |
| multiple_choice | 1 where the right option is chosen | letter, or {"answer": …, "choices": …} |
| contains_all | share of required words, inflections allowed | list of words, phrases, or alternatives |
| distinct_items | distinct items / items wanted, at most 1 | number of items wanted |
| chrf | likeness to it, sentence chrF / 100 | text or a list of texts |
| json_valid | 1 for JSON, or the share of required keys | none, or required keys |
| brevity | 1 − tokens / budget | none |

These read the text only, and their names alone are scorers. Three more are made with options, such as
{"name": "judge", "engine": "openai:MODEL"}; they spend tokens or run what was generated, so the caller
asks for them, and a prompt's own metadata cannot:

| name | reward | reference |
|---|---|---|
| judge | an LLM's grade, or its verdict against the engine default's answer | none, or a right answer to show it |
| reward_model | score of a sequence classifier between two stated values | none |
| python_tests | 1 where unit tests pass, run in a sandbox with "allow_code": true | source of the tests |
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hagpolicy._digest import canonical_json
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.scorers.checked import checked_scores
from hagpolicy.scorers.functions import FunctionScorer
from hagpolicy.scorers.text.choice import MultipleChoice
from hagpolicy.scorers.text.exact import ExactMatch
from hagpolicy.scorers.text.lists import DistinctItems
from hagpolicy.scorers.text.numeric import NumericMatch
from hagpolicy.scorers.text.shape import Brevity, Chrf, JsonValid
from hagpolicy.scorers.text.words import ContainsAll
from hagpolicy.scorers.weighted import Weighted

__all__ = [
    "MADE",
    "SCORERS",
    "Brevity",
    "Chrf",
    "ContainsAll",
    "DistinctItems",
    "ExactMatch",
    "FunctionScorer",
    "JsonValid",
    "MultipleChoice",
    "NumericMatch",
    "Score",
    "Scorer",
    "Weighted",
    "checked_scores",
    "get_scorer",
    "scorer_of",
]

ScorerSpec = str | Scorer | Callable[..., Any] | Mapping[str, Any]

SCORERS: dict[str, type[Scorer]] = {
    "exact_match": ExactMatch,
    "numeric_match": NumericMatch,
    "multiple_choice": MultipleChoice,
    "contains_all": ContainsAll,
    "distinct_items": DistinctItems,
    "chrf": Chrf,
    "json_valid": JsonValid,
    "brevity": Brevity,
}
# Made with options, each in a module of its own: loaded when asked for, since they need an engine, torch or a sandbox.
MADE: dict[str, tuple[str, str]] = {
    "judge": ("hagpolicy.scorers.judge.judge", "Judge"),
    "reward_model": ("hagpolicy.scorers.reward_model", "RewardModel"),
    "python_tests": ("hagpolicy.scorers.code.python_tests", "PythonTests"),
}


def get_scorer(spec: ScorerSpec) -> Scorer:
    """The scorer that `spec` means.

    Args:
        spec: one of
            a name of `SCORERS`: "numeric_match";
            a name of `MADE` with its options: {"name": "judge", "engine": "openai:MODEL"};
            a name with options: {"name": "numeric_match", "tolerance": 0.01};
            names with weights: {"numeric_match": 0.8, "brevity": 0.2};
            parts with options and weights: {"name": "weighted", "parts": [{"scorer": spec, "weight": 0.8}, …]};
            a function, see `FunctionScorer` (which takes a name, a version, or a batch function);
            a `Scorer`.

    Raises:
        InvalidInput: an unknown name (with suggestions), an unknown option or a value out of range.
    """
    if isinstance(spec, Scorer):
        return spec
    if isinstance(spec, str):
        return _with_options(spec, {})
    if isinstance(spec, Mapping):
        if isinstance(name := spec.get("name"), str):
            return _with_options(name, {key: value for key, value in spec.items() if key != "name"})
        if _is_weights(spec):
            return Weighted([(get_scorer(name), weight) for name, weight in spec.items()])
    elif isinstance(spec, type) and issubclass(spec, Scorer):
        return spec()
    elif callable(spec):
        return FunctionScorer(spec)
    expected = 'a name, {"name": …, options}, {name: weight, …}, a function or a Scorer'
    raise InvalidInput("scorer", expected, spec, f"Names: {', '.join(SCORERS)}.")


def scorer_of(spec: ScorerSpec | None, prompts: Sequence[Prompt]) -> list[Scorer]:
    """The scorer of each prompt, in their order; prompts of one task share one object.

    Args:
        spec: one scorer for all (anything `get_scorer` takes), or a mapping {task: scorer} that has
            every task of the prompts. A prompt whose metadata has `scorer` (a name of `SCORERS` or
            a mapping of them) brings its own, which goes before; None: every prompt does.
        prompts: the prompts.

    Raises:
        InvalidInput: a task without a scorer, or a bad scorer; a prompt that brings one of `MADE`: a
            file of prompts shall not call a server or run code.
    """
    own: dict[int, Scorer] = {}
    for index, prompt in enumerate(prompts):
        if isinstance(named := prompt.metadata.get("scorer"), (str, Mapping)):
            _refuse_made(named)
            own[index] = get_scorer(named)
    tasks = list(dict.fromkeys(prompt.task for index, prompt in enumerate(prompts) if index not in own))
    if not tasks:
        by_task: dict[str, Scorer] = {}
    elif spec is None:
        raise InvalidInput("scorer", "a scorer, or one in every prompt's metadata", "None")
    elif _is_by_task(spec):
        assert isinstance(spec, Mapping)
        missing = [task for task in tasks if task not in spec]
        if missing:
            near = [match for task in missing for match in difflib.get_close_matches(task, list(spec), n=1)]
            do = f"Did you mean {', '.join(map(repr, near))}?" if near else f"Scorers are given for {sorted(spec)}."
            raise InvalidInput("scorer", "a scorer for every task", f"none for {missing}", do)
        shared: dict[str, Scorer] = {}
        by_task = {task: _shared(spec[task], shared) for task in tasks}
    else:
        by_task = dict.fromkeys(tasks, get_scorer(spec))
    return [own[index] if index in own else by_task[prompt.task] for index, prompt in enumerate(prompts)]


def _shared(spec: ScorerSpec, made: dict[str, Scorer]) -> Scorer:
    """The scorer of `spec`; tasks that say the same in names share one, which may hold an engine."""
    try:
        key = canonical_json(spec)
    except (TypeError, ValueError):  # a function or a Scorer
        return get_scorer(spec)
    if key not in made:
        made[key] = get_scorer(spec)
    return made[key]


def _named(name: str) -> type[Scorer]:
    if name in MADE:
        module, made = MADE[name]
        found: type[Scorer] = getattr(importlib.import_module(module), made)
        return found
    if name not in SCORERS:
        near = difflib.get_close_matches(name, [*SCORERS, *MADE], n=2, cutoff=0.5)
        do = f"Did you mean {' or '.join(near)}?" if near else ""
        raise InvalidInput("scorer", f"one of {', '.join([*SCORERS, *MADE])}", name, do)
    return SCORERS[name]


def _with_options(name: str, options: dict[str, Any]) -> Scorer:
    if name == "weighted":
        return _weighted(options)
    made = _named(name)
    known = inspect.signature(made).parameters
    if unknown := [option for option in options if option not in known]:
        allowed = f"only the options {', '.join(known)}" if known else "no options"
        raise InvalidInput(f"scorer {name}", allowed, f"unknown option {unknown[0]!r}")
    needed = [key for key, option in known.items() if option.default is option.empty and key not in options]
    if needed:
        example = {"name": name, **dict.fromkeys(needed, "…")}
        raise InvalidInput(f"scorer {name}", f"the options {', '.join(needed)}", sorted(options), f"As in {example}.")
    return made(**options)


def _refuse_made(spec: Any) -> None:
    """Raise where any part of a prompt's own scorer is one of `MADE`."""
    if isinstance(spec, str) and spec in MADE:
        raise InvalidInput(
            "scorer in a prompt's metadata", f"one of {', '.join(SCORERS)}", spec, "Name it in the call."
        )
    if isinstance(spec, Mapping):
        for key, value in spec.items():
            _refuse_made(key)
            _refuse_made(value)
    elif isinstance(spec, Sequence) and not isinstance(spec, str):
        for value in spec:
            _refuse_made(value)


def _weighted(options: dict[str, Any]) -> Weighted:
    parts = options.get("parts")
    rows = parts if isinstance(parts, Sequence) and set(options) == {"parts"} else []
    if not rows or not all(isinstance(part, Mapping) and set(part) == {"scorer", "weight"} for part in rows):
        expected = '{"name": "weighted", "parts": [{"scorer": …, "weight": …}, …]}'
        raise InvalidInput("weighted scorer", expected, {"name": "weighted", **options})
    return Weighted([(get_scorer(part["scorer"]), part["weight"]) for part in rows])


def _is_weights(spec: Mapping[str, Any]) -> bool:
    return bool(spec) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in spec.values())


def _is_by_task(spec: ScorerSpec) -> bool:
    return isinstance(spec, Mapping) and not isinstance(spec.get("name"), str) and not _is_weights(spec)
