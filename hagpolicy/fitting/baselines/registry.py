"""Baselines by name, loaded late."""

from __future__ import annotations

from collections.abc import Sequence

from hagpolicy._names import Registry
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.baselines.base import Baseline
from hagpolicy.fitting.plugins import get_plugin

BASELINES: Registry[type[Baseline]] = Registry(
    "baseline",
    {
        "generation_config": "hagpolicy.fitting.baselines.fixed:GenerationConfig",
        "task_lookup": "hagpolicy.fitting.baselines.tasks:TaskLookup",
        "nearest": "hagpolicy.fitting.baselines.neighbours:Nearest",
        "argmax": "hagpolicy.fitting.baselines.neighbours:Argmax",
    },
    expected="a Baseline, or a name of {names}",
)


def get_baseline(spec: str | Baseline) -> Baseline:
    """A baseline by its name, or the one given.

    Raises:
        InvalidInput: an unknown name, with the nearest known one; or a baseline without a name.
        MissingExtra: the baseline's package is not installed.
    """
    return get_plugin(BASELINES, Baseline, spec)  # type: ignore[type-abstract]


def get_baselines(specs: Sequence[str | Baseline]) -> list[Baseline]:
    """Baselines by their names or as they are, in their order.

    Raises:
        InvalidInput: see `get_baseline`; or two of one name, which one table could not tell apart.
    """
    if isinstance(specs, (str, Baseline)):
        raise InvalidInput("baselines", "a list of baselines", specs, "Put it in a list.")
    baselines = [get_baseline(spec) for spec in specs]
    names = [baseline.name for baseline in baselines]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InvalidInput("baselines", "names that differ", f"{twice[0]!r} {names.count(twice[0])} times")
    return baselines
