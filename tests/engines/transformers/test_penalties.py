from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from hagpolicy import DecodingConfig
from hagpolicy.engines.transformers.penalties import AnswerPenalty
from hagpolicy.engines.transformers.rows import RowSettings, draw_uniforms
from hagpolicy.engines.transformers.sampling import LONGER_LIST, SHORTLIST, choose, penalise, truncate
from hagpolicy.errors import InvalidInput

EVERY_SETTING = [
    {"temperature": 0.0},
    {"temperature": 0.0, "repetition_penalty": 1.3},
    {"temperature": 0.0, "repetition_penalty": 0.8, "no_repeat_ngram_size": 2},
    {"temperature": 0.0, "no_repeat_ngram_size": 3},
    {"temperature": 0.0, "no_repeat_ngram_size": 1},
    {"temperature": 0.0, "presence_penalty": 1.5, "frequency_penalty": -0.5},
    {"temperature": 1.0},
    {"temperature": 0.3},
    {"temperature": 0.7, "top_k": 5},
    {"temperature": 2.0, "top_k": 290},
    {"temperature": 1.0, "top_p": 0.5},
    {"temperature": 3.0, "top_p": 0.95},
    {"temperature": 1.5, "min_p": 0.1},
    {"temperature": 1.0, "min_p": 1.0},
    {"temperature": 1.0, "typical_p": 0.6},
    {"temperature": 0.9, "top_k": 40, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.8},
    {"temperature": 1.1, "top_p": 0.8, "typical_p": 0.9, "repetition_penalty": 1.2, "frequency_penalty": 0.7},
]


def library_scores(config: DecodingConfig, ids: torch.Tensor, prompt: int, logits: torch.Tensor) -> torch.Tensor:
    """Scores (1, vocabulary) of one row by transformers' own classes, in the order of `generate`."""
    chain = transformers.LogitsProcessorList()
    if config.repetition_penalty != 1:
        chain.append(transformers.RepetitionPenaltyLogitsProcessor(config.repetition_penalty))
    if config.no_repeat_ngram_size:
        chain.append(transformers.NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size))
    chain.append(AnswerPenalty(config.presence_penalty, config.frequency_penalty, prompt))
    if config.temperature:
        chain.append(transformers.TemperatureLogitsWarper(config.temperature))
        if config.top_k:
            chain.append(transformers.TopKLogitsWarper(config.top_k))
        if config.top_p < 1:
            chain.append(transformers.TopPLogitsWarper(config.top_p))
        chain.append(transformers.MinPLogitsWarper(config.min_p))
        if config.typical_p < 1:
            chain.append(transformers.TypicalLogitsWarper(config.typical_p))
    return chain(ids, logits.clone())


def settled(vectors: RowSettings, penalised: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Our own truncation over the whole vocabulary, once it keeps the scores that the library keeps."""
    scores = penalised / vectors.temperature[:, None]
    kept = truncate(vectors, scores, scores.logsumexp(1), whole=True)[0][0]
    torch.testing.assert_close(kept.sort().values, expected.sort().values)
    return kept


def check_rows(configs: list[DecodingConfig], vocabulary: int, seed: int, spread: float, grain: float) -> None:
    """All rows in one mixed, left-padded batch against one call of the library's classes a row."""
    maker = torch.Generator().manual_seed(seed)
    rows, prompt, answer = len(configs), 7, 6
    few = max(2, min(vocabulary, 12))  # few distinct tokens, so that n-grams and counts repeat
    ids = torch.randint(few, (rows, prompt + answer), generator=maker)
    padding = torch.randint(prompt, (rows,), generator=maker)
    for row, count in enumerate(padding.tolist()):
        ids[row, :count] = ids[row, count]
    logits = torch.randn((rows, vocabulary), generator=maker) * spread
    if grain:
        logits = (logits / grain).round() * grain  # ties, as half precision makes them
    uniform = torch.from_numpy(np.random.default_rng(seed).random(rows))
    vectors = RowSettings.of(configs)
    penalised = penalise(vectors, ids, padding, prompt, logits.clone())
    chosen = choose(vectors, penalised, uniform)
    for row, config in enumerate(configs):
        left = int(padding[row])
        expected = library_scores(config, ids[row : row + 1, left:], prompt - left, logits[row : row + 1])[0]
        token = int(chosen[row])
        if (expected == -torch.inf).all():
            assert token == -1
        elif config.temperature == 0:
            assert token == int(expected.argmax())
        else:
            if grain:
                # The library's unstable sort leaves open which of several tied tokens stay; how many is settled.
                expected = settled(vectors.take(torch.tensor([row])), penalised[row : row + 1], expected)
            # The token whose stretch of the cumulative distribution, in the order of ids, holds the number.
            ends = expected.double().softmax(0).cumsum(0).numpy()
            begin = ends[token - 1] if token else 0.0
            assert begin - 1e-5 <= float(uniform[row]) <= ends[token] + 1e-5, (config, token)
            assert expected[token] > -torch.inf, (config, token)


@pytest.mark.parametrize("vocabulary", [4, 60, SHORTLIST + 1, 3000])
@pytest.mark.parametrize("grain", [0.0, 0.5])
def test_every_row_is_processed_as_by_the_library(vocabulary: int, grain: float) -> None:
    configs = [DecodingConfig(**values) for values in EVERY_SETTING]
    for seed in range(6):
        check_rows(configs, vocabulary, seed, spread=3.0, grain=grain)


def test_a_flat_distribution_goes_beyond_the_shortlist() -> None:
    configs = [DecodingConfig(**values) for values in EVERY_SETTING]
    for seed in range(6):
        check_rows(configs, 2000, seed, spread=0.05, grain=0.0)
        check_rows(configs, LONGER_LIST + 900, seed, spread=0.05 + 0.5 * seed, grain=0.0)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_mixture_is_processed_as_by_the_library(data: st.DataObject) -> None:
    def one() -> DecodingConfig:
        return DecodingConfig(
            temperature=data.draw(st.sampled_from([0.0, 0.2, 1.0, 2.5])),
            top_k=data.draw(st.sampled_from([0, 1, 3, 50, 400])),
            top_p=data.draw(st.sampled_from([1.0, 0.33, 0.91])),
            min_p=data.draw(st.sampled_from([0.0, 0.07, 0.4])),
            typical_p=data.draw(st.sampled_from([1.0, 0.37, 0.93])),
            repetition_penalty=data.draw(st.sampled_from([1.0, 1.17, 0.9])),
            presence_penalty=data.draw(st.sampled_from([0.0, 0.6, -1.0])),
            frequency_penalty=data.draw(st.sampled_from([0.0, 0.3])),
            no_repeat_ngram_size=data.draw(st.sampled_from([0, 2, 3])),
        )

    configs = [one() for _ in range(data.draw(st.integers(1, 5)))]
    vocabulary = data.draw(st.sampled_from([3, 20, 300, 1000]))
    check_rows(configs, vocabulary, data.draw(st.integers(0, 10_000)), data.draw(st.sampled_from([0.3, 2.0, 6.0])), 0.0)


def test_a_tiny_temperature_takes_the_likeliest() -> None:
    logits = torch.tensor([[1e3, 2e3, -1e3, 1999.0]])
    vectors = RowSettings.of([DecodingConfig(temperature=1e-40, top_p=0.9)])
    assert choose(vectors, logits, torch.tensor([0.999], dtype=torch.float64)).tolist() == [1]


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([2.0, 0.0, 1.0, -1.0, 0.5])
    rows = 40_000
    vectors = RowSettings.of([DecodingConfig(temperature=0.8)] * rows)
    drawn = choose(vectors, logits.expand(rows, -1), torch.from_numpy(draw_uniforms(range(rows), 1)[:, 0]))
    expected = (logits / 0.8).softmax(0).numpy()
    shares = np.bincount(drawn.numpy(), minlength=5) / rows
    assert np.abs(shares - expected).max() < 4 * np.sqrt(0.25 / rows)


def test_streams_are_counter_based_and_unlike_each_other() -> None:
    numbers = draw_uniforms([1, 2, 2**63 - 1], 1000)
    assert ((numbers >= 0) & (numbers < 1)).all()
    np.testing.assert_array_equal(draw_uniforms([2], 10)[0], numbers[1, :10])
    together = np.corrcoef(np.concatenate([numbers[:, :-1], numbers[:, 1:]]))
    assert np.abs(together - np.eye(6)).max() < 0.15
    # Seeds apart by the counter's own increment would share a stream, were the seed not mixed first.
    shifted = draw_uniforms([5, 5 + 0x9E3779B97F4A7C15], 50)
    assert not np.isin(shifted[0], shifted[1]).any()


def test_penalties_by_hand() -> None:
    ids = torch.tensor([[3, 3, 0, 1, 1, 1], [3, 3, 0, 2, 1, 2]])
    logits = torch.zeros((2, 4))
    out = AnswerPenalty(torch.tensor([0.5, 0.0]), torch.tensor([1.0, -2.0]), prompt_length=2)(ids, logits)
    torch.testing.assert_close(out, torch.tensor([[-1.5, -3.5, 0.0, 0.0], [2.0, 2.0, 4.0, 0.0]]))
    assert not logits.any()  # the caller's scores are not written to


def test_the_processor_learns_the_prompt_at_its_first_call() -> None:
    processor = AnswerPenalty(presence_penalty=1.0)
    assert not processor(torch.tensor([[1, 2]]), torch.zeros((1, 4))).any()
    assert processor(torch.tensor([[1, 2, 3]]), torch.zeros((1, 4))).tolist() == [[0, 0, 0, -1]]


def test_penalties_a_row_reach_its_beams_and_must_fit() -> None:
    processor = AnswerPenalty(torch.tensor([1.0, 2.0]), prompt_length=0)
    out = processor(torch.ones((4, 1), dtype=torch.int64), torch.zeros((4, 2)))
    assert out[:, 1].tolist() == [-1, -1, -2, -2]
    with pytest.raises(InvalidInput, match="3 rows"):
        processor(torch.ones((3, 1), dtype=torch.int64), torch.zeros((3, 2)))
    with pytest.raises(InvalidInput, match="prompt_length"):
        AnswerPenalty(prompt_length=-1)
