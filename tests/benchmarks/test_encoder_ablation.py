"""The ablation of encoders: what its ways to read are made of, and what it says of them beside static."""

from __future__ import annotations

import numpy as np

import hagpolicy as hag
from benchmarks.claims.fitting.encoder_ablation import compare, list_static, make_tfidf, measure_times
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder

ENDS = ((3, "birds", ""), (40, "green birds", "?\n"), (5, "lakes", "\n\tand hills"), (6, "green lakes", "."))
TEXTS = [f"{verb} {number} {noun}{end}" for verb in ("Add", "List", "Why are") for number, noun, end in ENDS]


def vectors_of(encoder: object) -> np.ndarray:
    assert isinstance(encoder, PrecomputedEncoder)
    assert encoder.vectors is not None
    return encoder.vectors


def test_parts_of_the_static_embedding_make_it_up() -> None:
    found = {one.name: one for one in list_static([hag.Prompt(text) for text in TEXTS])}
    read = found["static"].read
    assert read is not None
    whole = np.concatenate([read(number)[0][0] for number in range(len(TEXTS))])
    bare, surface = (vectors_of(found[name].encoder) for name in ("static without surface", "surface features"))
    np.testing.assert_array_equal(np.hstack([bare, surface]), whole)
    np.testing.assert_array_equal(vectors_of(found["length"].encoder), whole[:, -1:])
    others = vectors_of(found["control"].encoder)
    assert sorted(map(tuple, others)) == sorted(map(tuple, whole))
    assert (others != whole).any()


def test_tf_idf_reads_one_text_as_it_reads_all() -> None:
    tfidf = make_tfidf(TEXTS)
    assert tfidf.read is not None
    one = np.concatenate([tfidf.read(number) for number in range(len(TEXTS))])
    np.testing.assert_allclose(one, vectors_of(tfidf.encoder), atol=1e-5)
    assert tfidf.beside > 4 * vectors_of(tfidf.encoder).shape[1]


def test_what_tells_the_best_config_gains_and_the_control_does_not() -> None:
    texts = [f"{'list' if number % 2 else 'why'} {number} things" for number in range(80)]
    rewards = np.zeros((80, 2))
    rewards[np.arange(80), np.arange(80) % 2] = 1.0
    space = [hag.DecodingConfig(temperature=0.0), hag.DecodingConfig(temperature=1.0)]
    table = hag.SweepTable.from_arrays(texts, space, rewards)
    readings = [one for one in list_static(table.prompts) if one.name in ("static", "control")]
    figures = {one.name: one for one in compare(table, readings, quick=True)}
    assert figures["static, ridge: over SBS"].value > 0.4
    assert figures["static, ridge: ships"].value == 1.0
    assert figures["control, ridge: minus static"].high < 0.0
    assert "static, ridge: minus static" not in figures
    (time, *ratios) = measure_times(readings, len(texts))
    assert time.unit == "ms"
    assert time.value > 0.0
    assert not ratios  # the control is not timed
