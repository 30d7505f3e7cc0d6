"""What counts as a number."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from hagpolicy._checks import is_integral, is_number, is_whole


@pytest.mark.parametrize(
    ("value", "whole", "integral", "number"),
    [
        (3, True, True, True),
        (np.int64(3), False, True, True),
        (3.0, False, False, True),
        (np.float32(3.0), False, False, True),
        (Fraction(1, 2), False, False, True),
        (math.nan, False, False, True),
        (True, False, False, False),
        (np.True_, False, False, False),
        ("3", False, False, False),
        (None, False, False, False),
        (3j, False, False, False),
    ],
)
def test_what_counts_as_a_number(value: Any, whole: bool, integral: bool, number: bool) -> None:
    assert (is_whole(value), is_integral(value), is_number(value)) == (whole, integral, number)


def test_bounds_belong_to_the_range() -> None:
    assert [is_whole(value, 1, 3) for value in range(5)] == [False, True, True, True, False]
    assert is_whole(10**400, 0)
