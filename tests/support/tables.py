"""Tables with everything a table can hold, and whether two are equal."""

import dataclasses

import numpy as np

from hagpolicy import DecodingSpace, Estimate, Look, Prompt, SweepTable

SPACE = DecodingSpace.grid(temperature=[0.0, 0.7], hint=["", 'A "{quoted}" hint.'])
PROMPTS = (
    Prompt("one", task="a", group="g", id="1", reference={"a": [1]}, metadata={"lang": "de", "none": None}),
    Prompt("two \u2028 lines\n", task="b", id="2"),
    Prompt([{"role": "system", "content": "short"}, {"role": "user", "content": "drei"}], group="g"),
    Prompt("  one"),  # the same text as the first: one group, another prompt
    Prompt("five"),
)


def make_full(seed=0, samples=3):
    """A table with gaps, costs, answers and all that a sweep says of itself."""
    draw = np.random.default_rng(seed)
    shape = (len(PROMPTS), len(SPACE), samples)
    rewards = np.where(draw.random(shape) < 0.3, np.nan, draw.random(shape))
    rewards[3], rewards[0, 1, 1:] = np.nan, np.nan
    tokens = np.where(draw.random(shape) < 0.2, np.nan, draw.integers(0, 99, shape))
    return SweepTable(
        PROMPTS,
        SPACE,
        rewards,
        tokens,
        draw.random(shape),
        default=1,
        fingerprint={"kind": "simulated", "model": "0"},
        max_tokens=64,
        scorers={"a": "exact_match@1", "b": "chrf@2"},
        failures={"cut": 2},
        common=2,
        answers=draw.integers(-1, 3, shape),
        stored=9,
        groups=np.array([4, 2, 4, 4, 2]),
        looks=(Look(2, 5, 0.01, 0.01, "open", Estimate(0.1, -0.1, 0.2), 0.4), Look(5, 5, 0.02, 0.03, "futile")),
    )


def assert_equal(one, other, but=()):
    """Every field of two tables is equal, to the bit and of one type."""
    for field in dataclasses.fields(SweepTable):
        if field.name not in but:
            a, b = getattr(one, field.name), getattr(other, field.name)
            if isinstance(a, np.ndarray):
                np.testing.assert_array_equal(a, b, err_msg=field.name)
                assert a.dtype == b.dtype
            else:
                assert a == b, field.name
