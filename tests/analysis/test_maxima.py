"""Expected maxima against all choices of distinct samples."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hagpolicy.analysis.maxima import compute_maxima


@st.composite
def graded(draw):
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4)))
    levels = st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0.0, 1.0)
    rewards = np.array(draw(st.lists(levels, min_size=math.prod(shape), max_size=math.prod(shape)))).reshape(shape)
    hole = np.array(draw(st.lists(st.booleans(), min_size=math.prod(shape), max_size=math.prod(shape)))).reshape(shape)
    return np.where(hole & (np.arange(shape[2]) > 0), np.nan, rewards)


@settings(max_examples=80, deadline=None)
@given(graded(), st.data())
def test_an_expected_maximum_is_the_mean_over_all_choices_of_distinct_samples(rewards, data):
    limits = (~np.isnan(rewards)).sum(axis=2).min(axis=0)
    drawn = np.array([data.draw(st.integers(0, int(limit))) for limit in limits])
    if not drawn.any():
        drawn[0] = 1
    for row, value in zip(rewards, compute_maxima(rewards).values(drawn), strict=True):
        pools = [itertools.combinations(cell[~np.isnan(cell)], k) for cell, k in zip(row, drawn, strict=True)]
        maxima = [max(itertools.chain(*choice)) for choice in itertools.product(*pools)]
        assert value == pytest.approx(np.mean(maxima), abs=1e-9)
    more = compute_maxima(rewards).means_with_one_more(drawn)
    for j in np.flatnonzero(drawn < limits):
        assert more[j] == pytest.approx(compute_maxima(rewards).values(drawn + np.eye(len(drawn), dtype=int)[j]).mean())
