"""Contrasts of a space: weights over its configs that tell what one setting does, all else alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.fields import FIELDS, NEUTRAL, SPECS
from hagpolicy.config.space import DecodingSpace

__all__ = ["Contrast", "describe_value", "find_contrasts"]


@dataclass(frozen=True, eq=False)
class Contrast:
    """A difference between configs of a space.

    Attributes:
        fields: the field whose value changes; both fields of an interaction.
        name: in plain words, such as "temperature 0 → 0.7".
        weights: float64 (n_configs,), summing to 0; values times weights is the difference.
        basis: what it is made of: "3 pairs" of configs that differ in that field alone, "2 squares" of an interaction,
            or "additive fit", where no such pair was swept.
    """

    fields: tuple[str, ...]
    name: str
    weights: np.ndarray
    basis: str


@dataclass(frozen=True)
class Factor:
    """A field with several values in a space: the value that others are compared with, and those others."""

    field: str
    reference: Any
    others: tuple[Any, ...]


def find_contrasts(space: DecodingSpace, default: int | None = None) -> tuple[list[Contrast], list[str]]:
    """What the settings of a space do as contrasts, and in plain words what its configs cannot tell.

    Each value of a field is compared with the one of the engine's default, else the neutral one, else the first swept.
    Where the space holds pairs of configs that differ in that field alone, the contrast is the mean over these pairs,
    which assumes nothing. Else it is the least-squares one of all configs, under the assumption that effects of several
    fields add up; where even that leaves it open, because the field never changes without others, it is named as not
    told, and compared with an earlier value of the field that it has such pairs with. Interactions are of two fields
    each, from squares of four configs that differ in these two alone. Fields that do nothing beside others
    (`fields.find_idle_fields`) are taken as neutral there.

    Args:
        space: of the configs.
        default: index of the engine's default; None where unknown.
    """
    configs = [config.canonical() for config in space]
    factors = _find_factors(configs, None if default is None else configs[default])
    places: dict[tuple[Any, ...], list[int]] = {}
    for index, config in enumerate(configs):
        places.setdefault(_key(config), []).append(index)
    found, open_ones = [], []
    for factor in factors:
        for number, value in enumerate(factor.others):
            contrast = _match_pairs(configs, places, factor, value) or _fit_additive(configs, factors, factor, value)
            if contrast is None:
                change = _name_change(factor.field, factor.reference, value)
                open_ones.append(f"{change}: never swept without another change, so what it does alone is not told")
                # It may stand beside another value of the field all the same.
                beside = (replace(factor, reference=other) for other in factor.others[:number])
                contrast = next(filter(None, (_match_pairs(configs, places, one, value) for one in beside)), None)
            found += [] if contrast is None else [contrast]
    for number, first in enumerate(factors):
        for second in factors[number + 1 :]:
            for one in first.others:
                for other in second.others:
                    square = _match_squares(configs, places, (first, one), (second, other))
                    found += [] if square is None else [square]
    return found, open_ones


def describe_value(field: str, value: Any) -> str:
    """A field's value for people."""
    if field == "hint":
        return f"“{value}”" if value else "none"
    if SPECS[field].unsaid and value == NEUTRAL[field]:
        return "no limit" if SPECS[field].kind is int else "unsaid"
    return f"{value}" if isinstance(value, bool | str) else f"{value:g}"


def _name_change(field: str, reference: Any, value: Any) -> str:
    return f"{field} {describe_value(field, reference)} → {describe_value(field, value)}"


def _key(config: DecodingConfig, **changes: Any) -> tuple[Any, ...]:
    return tuple(changes.get(name, getattr(config, name)) for name in FIELDS)


def _find_factors(configs: list[DecodingConfig], default: DecodingConfig | None) -> list[Factor]:
    """The fields that take several values, in the order of the fields; values in rising order where they have one."""
    found = []
    for field in FIELDS:
        values = list(dict.fromkeys(getattr(config, field) for config in configs))
        if len(values) < 2:
            continue
        if all(isinstance(value, int | float) for value in values):
            values = sorted(values)
        neutral = NEUTRAL[field]
        reference = getattr(default, field) if default is not None else neutral if neutral in values else values[0]
        found.append(Factor(field, reference, tuple(value for value in values if value != reference)))
    return found


def _match_pairs(
    configs: list[DecodingConfig], places: dict[tuple[Any, ...], list[int]], factor: Factor, value: Any
) -> Contrast | None:
    """The mean over all pairs of configs that differ in that field alone; None without one."""
    weights, pairs = np.zeros(len(configs)), 0
    for index, config in enumerate(configs):
        if getattr(config, factor.field) != factor.reference:
            continue
        for other in places.get(_key(config, **{factor.field: value}), ()):
            weights[other] += 1.0
            weights[index] -= 1.0
            pairs += 1
    if not pairs:
        return None
    name = _name_change(factor.field, factor.reference, value)
    return Contrast((factor.field,), name, weights / pairs, f"{pairs} pair{'s' * (pairs > 1)}")


def _fit_additive(configs: list[DecodingConfig], factors: list[Factor], factor: Factor, value: Any) -> Contrast | None:
    """The least-squares contrast where effects of fields add up; None where the configs do not tell it."""
    levels = [(one.field, level) for one in factors for level in one.others]
    design = np.array([[1.0, *(getattr(config, name) == level for name, level in levels)] for config in configs])
    wanted = np.array([0.0, *(level == (factor.field, value) for level in levels)])
    inverse = np.linalg.pinv(design)
    if np.abs(wanted @ inverse @ design - wanted).max() > 1e-8:
        return None
    name = _name_change(factor.field, factor.reference, value)
    return Contrast((factor.field,), name, wanted @ inverse, "additive fit")


def _match_squares(
    configs: list[DecodingConfig],
    places: dict[tuple[Any, ...], list[int]],
    first: tuple[Factor, Any],
    second: tuple[Factor, Any],
) -> Contrast | None:
    """What both changes do together beyond what each does alone, over all squares of four configs; None without one."""
    (one, value), (other, level) = first, second
    weights, squares = np.zeros(len(configs)), 0
    for index, config in enumerate(configs):
        if getattr(config, one.field) != one.reference or getattr(config, other.field) != other.reference:
            continue
        corners = [
            places.get(_key(config, **changes), [])
            for changes in ({one.field: value}, {other.field: level}, {one.field: value, other.field: level})
        ]
        if all(corners):
            weights[[index, corners[2][0]]] += 1.0
            weights[[corners[0][0], corners[1][0]]] -= 1.0
            squares += 1
    if not squares:
        return None
    names = (_name_change(one.field, one.reference, value), _name_change(other.field, other.reference, level))
    basis = f"{squares} square{'s' * (squares > 1)}"
    return Contrast((one.field, other.field), " × ".join(names), weights / squares, basis)
