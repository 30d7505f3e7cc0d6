"""Baselines: other ways to choose a config for each prompt, behind one interface and in one table."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from hagpolicy._names import suggest
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.baselines.base import Baseline, BaselineChoices, crossfit_baseline

__all__ = ["BASELINES", "Baseline", "BaselineChoices", "crossfit_baseline", "get_baseline", "get_baselines"]

BASELINES: dict[str, tuple[str, str]] = {
    "generation_config": ("hagpolicy.fitting.baselines.fixed", "GenerationConfig"),
    "task_lookup": ("hagpolicy.fitting.baselines.tasks", "TaskLookup"),
    "nearest": ("hagpolicy.fitting.baselines.neighbours", "Nearest"),
    "argmax": ("hagpolicy.fitting.baselines.neighbours", "Argmax"),
}


def get_baseline(spec: str | Baseline) -> Baseline:
    """A baseline by its name, or the one given.

    Raises:
        InvalidInput: an unknown name, with the nearest known one.
        MissingExtra: the baseline's package is not installed.
    """
    if isinstance(spec, Baseline):
        return spec
    if spec not in BASELINES:
        raise InvalidInput(
            "baseline", f"a Baseline, or a name of {', '.join(BASELINES)}", spec, suggest(spec, BASELINES)
        )
    module, name = BASELINES[spec]
    baseline: Baseline = getattr(importlib.import_module(module), name)()
    return baseline


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
