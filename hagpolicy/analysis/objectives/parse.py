"""Objectives as users write them: text, one `Objective`, or several of one family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from hagpolicy.analysis.objectives.base import Objective
from hagpolicy.analysis.objectives.families import BestOf, Drawn, Majority, PassAtK, Priced, Quantile, Reward
from hagpolicy.errors import InvalidInput

ObjectiveSpec = str | Objective | Sequence[Objective]
FAMILIES: Mapping[str, Callable[[Any], Objective]] = {
    "price/token": partial(Priced, per="token"),
    "price/second": partial(Priced, per="second"),
    "pass": PassAtK,
    "best": BestOf,
    "majority": Majority,
    "quantile": Quantile,
}
# Families whose name is followed by a number of their own: "pass:0.5@4".
_NUMBERED: Mapping[str, Callable[[Any, float], Objective]] = {
    "pass": PassAtK,
    "drawn": Drawn,
}
_WRITTEN = (
    "'reward', or FAMILY@VALUE[,VALUE…] with FAMILY one of "
    + ", ".join(FAMILIES)
    + ", pass:THRESHOLD, drawn:LEVEL (of live calls)"
)


def get_objectives(spec: ObjectiveSpec) -> tuple[Objective, ...]:
    """The points of a dial in rising order, or the one objective there is.

    Args:
        spec: an `Objective`, several of one family, or text such as "pass@1,2,4" (see the package).

    Raises:
        InvalidInput: an unknown family, a bad value, no objective, or objectives of several families.
    """
    if isinstance(spec, Objective):
        return (spec,)
    if isinstance(spec, str):
        return _parse(spec)
    found: tuple[Any, ...] = tuple(spec) if isinstance(spec, Sequence) else ()
    if not found or not all(isinstance(item, Objective) for item in found):
        raise InvalidInput("objective", _WRITTEN + ", an Objective, or several of one family", spec)
    if len(found) > 1 and (len({_family(item) for item in found}) > 1 or not found[0].dial):
        names = ", ".join(item.name for item in found)
        raise InvalidInput("objective", "objectives of one family that has a dial (price, pass, best, majority)", names)
    return tuple(sorted(dict.fromkeys(found), key=lambda item: item.at))


def _family(item: Objective) -> tuple[Any, ...]:
    """What objectives of one dial have in common."""
    return type(item), item.unit, getattr(item, "passing", None)


def _parse(text: str) -> tuple[Objective, ...]:
    """The objectives that a text names. Raises InvalidInput where it names none."""
    if text == "reward":
        return (Reward(),)
    family, at, values = text.partition("@")
    family, colon, number = family.partition(":")
    if family not in (_NUMBERED if colon else FAMILIES) or not at:
        raise InvalidInput("objective", _WRITTEN, text)
    try:
        places, own = [float(place) for place in values.split(",")], float(number or 0.0)
    except ValueError:
        raise InvalidInput("objective", _WRITTEN, text) from None
    return get_objectives([_NUMBERED[family](place, own) if colon else FAMILIES[family](place) for place in places])
