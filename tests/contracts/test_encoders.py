"""Every encoder by name through one contract, and what `fit` says of one that breaks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder, with_vectors
from hagpolicy.fitting.encoders.registry import ENCODERS, get_encoder
from hagpolicy.fitting.graphs.builder import FLOAT, GraphBuilder
from hagpolicy.policy.inputs import make_inputs
from hagpolicy.policy.session import open_session
from tests.support.drawing import draw
from tests.support.making import LISTS, ODD, SUMS

TEXTS = [*ODD, *SUMS, *LISTS, "word " * 3000]
# Texts and vectors: each encoder reads its own part.
PROMPTS = with_vectors(TEXTS, np.random.default_rng(0).normal(size=(len(TEXTS), 7)))


@pytest.mark.parametrize("name", ENCODERS)
def test_features_are_finite_the_same_again_and_the_same_in_every_batch(name: str) -> None:
    encoder = get_encoder(name)
    features, unknown = compute_features(encoder, PROMPTS)
    assert features.dtype == unknown.dtype == np.float32
    assert features.shape == (len(PROMPTS), features.shape[1])
    assert unknown.shape == (len(PROMPTS),)
    assert np.isfinite(features).all()
    assert ((unknown >= 0.0) & (unknown <= 1.0)).all()
    for size in (1, 5, len(PROMPTS)):
        parts = [compute_features(get_encoder(name), PROMPTS[at : at + size]) for at in range(0, len(PROMPTS), size)]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), features)
        np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), unknown)
    with pytest.raises(InvalidInput, match="prompts: expected at least one"):
        compute_features(encoder, [])


@pytest.mark.parametrize("name", ENCODERS)
def test_a_bundle_makes_the_same_inputs_from_what_it_stores(name: str) -> None:
    encoder = get_encoder(name)
    features, _ = compute_features(encoder, PROMPTS)
    graph = GraphBuilder()
    graph.output(encoder.export(graph)[0], "features", FLOAT, ["batch", "n_features"])
    session = open_session(graph.model("encoder").SerializeToString())
    stored = np.empty_like(features)
    for rows, arrays in make_inputs(encoder.spec(), encoder.files()).many(PROMPTS):
        stored[rows] = session.run(["features"], arrays)[0]
    np.testing.assert_array_equal(stored, features)
    if name == "precomputed":
        none = {"vectors": np.zeros((0, 7), np.float32)}
        assert session.run(["features"], none)[0].shape == (0, 7)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_name_makes_an_encoder_of_that_name(name: str) -> None:
    encoder = get_encoder(name)
    assert (encoder.name, isinstance(encoder, Encoder)) == (name, True)
    assert get_encoder(encoder) is encoder


class Broken(PrecomputedEncoder):
    """Reads vectors, and spoils them in some way."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.name = fault, "" if fault == "no name" else "broken"

    def inputs(self, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
        parts = super().inputs(prompts)
        if self.fault == "rows":
            return [*parts[:-1], {name: array[:-1] for name, array in parts[-1].items()}]
        return [{name: array * np.nan for name, array in part.items()} for part in parts]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no name", r"Broken\.name: expected the encoder's name, a text"),
        ("rows", r"encoder broken: expected features of shape \(40, n_features\).*got shapes \(39, 3\)"),
        ("NaN", "features of encoder broken: expected finite numbers, got NaN"),
    ],
)
def test_an_encoder_that_breaks_the_contract_is_refused(fault: str, message: str) -> None:
    table = draw(hag.SimulatedEngine(0), 40, 2)
    prompts = with_vectors(table.prompts, np.random.default_rng(1).normal(size=(40, 3)))
    table = hag.SweepTable.from_arrays(prompts, table.space, table.rewards)
    with pytest.raises(InvalidInput, match=message):
        hag.fit(table, Broken(fault), "constant")
