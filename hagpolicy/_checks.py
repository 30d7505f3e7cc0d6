"""What counts as a number in an argument, the same everywhere: a bool is an int to Python, and no number here."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TypeGuard

__all__ = ["is_integral", "is_number", "is_whole"]


def is_whole(value: object, low: float = -math.inf, high: float = math.inf) -> TypeGuard[int]:
    """True for a Python int in [low, high], such as JSON can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_integral(value: object) -> bool:
    """True for a whole number of any kind, such as numpy's."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """True for a real number of any kind, such as numpy's; NaN and infinities are numbers too."""
    return isinstance(value, Real) and not isinstance(value, bool)
