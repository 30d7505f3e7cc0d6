"""The scorers by name, and the scorer that a caller, or a prompt, means."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hagpolicy._checks import is_number
from hagpolicy._digest import canonical_json
from hagpolicy._names import Registry
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Scorer
from hagpolicy.scorers.functions import FunctionScorer
from hagpolicy.scorers.weighted import Weighted

ScorerSpec = str | Scorer | Callable[..., Any] | Mapping[str, Any]

# Each is loaded when it is asked for: some need an engine, torch or a sandbox.
SCORERS: Registry[type[Scorer]] = Registry(
    "scorer",
    {
        "exact_match": "hagpolicy.scorers.text.exact:ExactMatch",
        "numeric_match": "hagpolicy.scorers.text.numeric:NumericMatch",
        "multiple_choice": "hagpolicy.scorers.text.choice:MultipleChoice",
        "contains_all": "hagpolicy.scorers.text.words:ContainsAll",
        "distinct_items": "hagpolicy.scorers.text.lists:DistinctItems",
        "chrf": "hagpolicy.scorers.text.shape:Chrf",
        "json_valid": "hagpolicy.scorers.text.shape:JsonValid",
        "json_match": "hagpolicy.scorers.text.json_match:JsonMatch",
        "brevity": "hagpolicy.scorers.text.shape:Brevity",
        "constraint": "hagpolicy.scorers.text.constraint:ConstraintMet",
        "judge": "hagpolicy.scorers.judge.judge:Judge",
        "reward_model": "hagpolicy.scorers.reward_model:RewardModel",
        "python_tests": "hagpolicy.scorers.code.python_tests:PythonTests",
    },
    most=2,
    cutoff=0.5,
)
# They spend tokens or run what was generated: a file of prompts shall not call a server or run code.
ONLY_IN_CALLS = ("judge", "reward_model", "python_tests")


def get_scorer(spec: ScorerSpec) -> Scorer:
    """The scorer that `spec` means.

    Args:
        spec: one of
            a name of `SCORERS`: "numeric_match";
            a name with options: {"name": "judge", "engine": "openai:MODEL"};
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
        return _make_named(spec, {})
    if isinstance(spec, Mapping):
        if isinstance(name := spec.get("name"), str):
            return _make_named(name, {key: value for key, value in spec.items() if key != "name"})
        if _is_weights(spec):
            return Weighted([(get_scorer(name), weight) for name, weight in spec.items()])
    elif isinstance(spec, type) and issubclass(spec, Scorer):
        return spec()
    elif callable(spec):
        return FunctionScorer(spec)
    expected = 'a name, {"name": …, options}, {name: weight, …}, a function or a Scorer'
    raise InvalidInput("scorer", expected, spec, f"Names: {', '.join(list_prompt_scorers())}.")


def assign_scorers(spec: ScorerSpec | None, prompts: Sequence[Prompt]) -> list[Scorer]:
    """The scorer of each prompt, in their order; prompts of one task share one object.

    Args:
        spec: one scorer for all (anything `get_scorer` takes), or a mapping {task: scorer} that has
            every task of the prompts. A prompt whose metadata has `scorer` (a name of `SCORERS` that is not in
            `ONLY_IN_CALLS`, or a mapping of such) brings its own, which goes before; None: every prompt does.
        prompts: the prompts.

    Raises:
        InvalidInput: a task without a scorer, or a bad scorer; a prompt that brings one of
            `ONLY_IN_CALLS`.
    """
    own: dict[int, Scorer] = {}
    for index, prompt in enumerate(prompts):
        if isinstance(named := prompt.metadata.get("scorer"), (str, Mapping)):
            _refuse_only_in_calls(named)
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
            if "" in missing:  # there is no name for it to be given under
                count = sum(not prompt.task for index, prompt in enumerate(prompts) if index not in own)
                do = "Give these prompts a task, or one scorer for all prompts."
                raise InvalidInput(
                    "scorer", "prompts with a task, where scorers go by task", f"{count} without one", do
                )
            raise InvalidInput("scorer", "a scorer for every task", f"none for {missing}", do)
        shared: dict[str, Scorer] = {}
        by_task = {task: _get_shared(spec[task], shared) for task in tasks}
    else:
        by_task = dict.fromkeys(tasks, get_scorer(spec))
    return [own[index] if index in own else by_task[prompt.task] for index, prompt in enumerate(prompts)]


def _get_shared(spec: ScorerSpec, made: dict[str, Scorer]) -> Scorer:
    """The scorer of `spec`; tasks that say the same in names share one, which may hold an engine."""
    try:
        key = canonical_json(spec)
    except (TypeError, ValueError):  # a function or a Scorer
        return get_scorer(spec)
    if key not in made:
        made[key] = get_scorer(spec)
    return made[key]


def _make_named(name: str, options: dict[str, Any]) -> Scorer:
    if name == "weighted":
        return _make_weighted(options)
    made = SCORERS[name]
    known = inspect.signature(made).parameters
    if unknown := [option for option in options if option not in known]:
        allowed = f"only the options {', '.join(known)}" if known else "no options"
        raise InvalidInput(f"scorer {name}", allowed, f"unknown option {unknown[0]!r}")
    needed = [key for key, option in known.items() if option.default is option.empty and key not in options]
    if needed:
        example = {"name": name, **dict.fromkeys(needed, "…")}
        raise InvalidInput(f"scorer {name}", f"the options {', '.join(needed)}", sorted(options), f"As in {example}.")
    return made(**options)


def list_prompt_scorers() -> list[str]:
    """Names of the scorers that a prompt's own metadata may ask for."""
    return [name for name in SCORERS if name not in ONLY_IN_CALLS]


def _refuse_only_in_calls(spec: Any) -> None:
    """Raise where any part of a prompt's own scorer is one of `ONLY_IN_CALLS`."""
    if isinstance(spec, str) and spec in ONLY_IN_CALLS:
        expected = f"one of {', '.join(list_prompt_scorers())}"
        raise InvalidInput("scorer in a prompt's metadata", expected, spec, "Name it in the call.")
    if isinstance(spec, Mapping):
        for key, value in spec.items():
            _refuse_only_in_calls(key)
            _refuse_only_in_calls(value)
    elif isinstance(spec, Sequence) and not isinstance(spec, str):
        for value in spec:
            _refuse_only_in_calls(value)


def _make_weighted(options: dict[str, Any]) -> Weighted:
    parts = options.get("parts")
    rows = parts if isinstance(parts, Sequence) and set(options) == {"parts"} else []
    if not rows or not all(isinstance(part, Mapping) and set(part) == {"scorer", "weight"} for part in rows):
        expected = '{"name": "weighted", "parts": [{"scorer": …, "weight": …}, …]}'
        raise InvalidInput("weighted scorer", expected, {"name": "weighted", **options})
    return Weighted([(get_scorer(part["scorer"]), part["weight"]) for part in rows])


def _is_weights(spec: Mapping[str, Any]) -> bool:
    return bool(spec) and all(map(is_number, spec.values()))


def _is_by_task(spec: ScorerSpec) -> bool:
    return isinstance(spec, Mapping) and not isinstance(spec.get("name"), str) and not _is_weights(spec)
