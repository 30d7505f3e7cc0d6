"""The claim on the latency of decisions: its texts, what is timed, and its figures."""

import json
import random

import numpy as np
import pytest
from tokenizers import Tokenizer

from benchmarks.claims.predicting import predict_latency as claim
from hagpolicy.fitting.encoders.registry import get_encoder


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_buffer(get_encoder("static").files()["tokenizer.json"])


@pytest.mark.parametrize("tokens", [10, 400])
def test_texts_have_the_tokens_that_are_said(tokenizer, tokens):
    texts = claim.make_texts(None, tokenizer, tokens, 5)
    assert [len(tokenizer.encode(text).ids) for text in texts] == [tokens] * 5
    assert len(set(texts)) == 5


def test_a_batch_is_timed_beside_the_batch_floor(tokenizer):
    asked = []
    for batch in (1, 3):
        taken = claim.time_pair(asked.append, tokenizer, ["red"] * batch, random.Random(0))
        assert min(taken) > 0.0
    assert asked == [["red"], ["red"] * 3]


def test_figures_are_ratios_of_medians_and_know_their_targets():
    taken = {"ridge": np.array([[2.0, 1.0], [3.0, 2.0], [2.8, 2.0]]), claim.ENCODERS[0]: np.array([[40.0, 2.0]] * 3)}
    floor, ours, theirs = claim.describe(taken, 40, 1)
    assert (floor.value, floor.unit) == (2e6, "µs")
    assert (round(ours.value, 6), ours.target, ours.met) == (1.4, "<= 1.35", False)
    assert (theirs.value, theirs.low, theirs.target) == (20.0, 20.0, None)


def test_no_system_is_asked_for_what_takes_minutes():
    cells = [(tokens, batch) for tokens in claim.LENGTHS for batch in claim.BATCHES]
    assert all(claim.is_measured(name, *cell) for name in claim.OURS for cell in cells)
    assert sum(claim.is_measured(claim.LLM, *cell) for cell in cells) == 4
    assert not claim.is_measured(claim.ENCODERS[0], 400, 1024)


def test_ours_are_read_from_their_bundles(null, tmp_path):
    null[1].save(tmp_path / "ridge")
    call = claim.make_call("ridge", tmp_path)
    assert json.dumps(call(["red"]).to_dict()) == json.dumps(call(["red", "blue"])[0].to_dict())
