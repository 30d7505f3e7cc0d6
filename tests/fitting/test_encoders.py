"""Encoders: the shipped asset, tokenising, and features that are exact at every batch size."""

import json
from importlib.resources import files

import numpy as np
import pytest
from tokenizers import Tokenizer

from hagpolicy.data.prompts import Prompt, as_prompts
from hagpolicy.errors import BundleError, InvalidInput
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder, with_vectors
from hagpolicy.fitting.encoders.static import StaticEncoder
from hagpolicy.policy.inputs import HEAD_CHARS, TAIL_CHARS, TokenInputs, cut, make_inputs, split_by_length
from tests.support import making

STATIC = StaticEncoder()


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_buffer(STATIC.files()["tokenizer.json"])


def test_the_asset_fits_in_8_mib():
    sizes = [path.stat().st_size for path in (files("hagpolicy") / "assets" / "static").iterdir()]
    assert sum(sizes) <= 8 * 1024 * 1024
    assert STATIC.table.dtype == np.int8
    assert STATIC.table.shape[1] == 256


def test_line_breaks_and_indentation_are_words(tokenizer):
    assert tokenizer.encode("a\r\nb\n    c\n\td").tokens == ["a", "↵", "b", "↵", "⇥", "c", "↵", "⇥", "d"]
    assert tokenizer.encode("a ↵ b ⇥ c").tokens == ["a", "b", "c"]


def test_nothing_is_special_padded_or_cut(tokenizer):
    assert tokenizer.encode("[PAD][UNK]").tokens == ["[", "pad", "]", "[", "un", "##k", "]"]
    assert len(tokenizer.encode("word " * 1000).ids) == 1000
    assert tokenizer.get_added_tokens_decoder() == {}
    assert [len(encoded.ids) for encoded in tokenizer.encode_batch(["a", "a b c"])] == [1, 3]


def test_the_columns_of_shares_are_their_own(tokenizer):
    columns = STATIC.origin["columns"]
    for column, token in (("unknown", "[UNK]"), ("line_break", "↵"), ("indent", "⇥")):
        row = STATIC.table[tokenizer.token_to_id(token)]
        assert np.flatnonzero(row).tolist() == [columns[column]]
        assert np.count_nonzero(STATIC.table[:, columns[column]]) == 1


def test_features_are_the_exact_means_of_the_table(tokenizer):
    prompts = as_prompts([*making.SUMS, *making.LISTS, *making.ODD])
    features, unknown = compute_features(STATIC, prompts)
    assert features.shape == (len(prompts), 257)
    for row, prompt in enumerate(prompts):
        text = prompt.text.encode("utf-8", "replace").decode()
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        total = STATIC.table[ids].sum(axis=0, dtype=np.int64).astype(np.float32)
        assert np.array_equal(features[row, :256], total / np.float32(max(len(ids), 1)))
        assert features[row, 256] == np.float32(16 * np.log(max(len(ids), 1)))
        assert unknown[row] == np.float32(ids.count(0) / max(len(ids), 1))


def test_features_of_real_prompts_do_not_depend_on_the_batch():
    prompts = making.real_prompts(1200)
    whole, _ = compute_features(STATIC, prompts)
    inputs = make_inputs(STATIC.spec(), STATIC.files())
    sizes = {len(numbers) for numbers, _ in inputs.many(prompts)}
    assert max(sizes) > 64
    alone = np.concatenate([compute_features(STATIC, prompts[start : start + 1])[0] for start in range(0, 1200, 40)])
    assert np.array_equal(alone, whole[::40])


def test_a_prompt_without_a_token_reads_as_zeros():
    features, unknown = compute_features(STATIC, as_prompts(["\x00\x01", "a longer prompt beside it"]))
    assert not features[0].any()
    assert unknown[0] == 0.0


def test_long_prompts_are_cut_at_spaces_to_head_and_tail():
    text = " ".join(f"word{number}" for number in range(5000))
    short = cut(text)
    assert len(short) <= HEAD_CHARS + TAIL_CHARS + 1
    assert set(short.split()) <= set(text.split())
    assert short.startswith("word0 word1 ")
    assert short.endswith(" word4999")
    assert cut("x" * 9000) == "x" * HEAD_CHARS + " " + "x" * TAIL_CHARS
    assert cut("a b") == "a b"


def test_a_messages_prompt_reads_as_its_texts():
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    features, _ = compute_features(STATIC, [Prompt(messages), Prompt("Be brief.\n\nHello")])
    assert np.array_equal(features[0], features[1])


def test_chunks_hold_every_row_once_and_bounded():
    lengths = np.random.default_rng(0).integers(0, 3000, 500)
    parts = list(split_by_length(lengths))
    assert sorted(np.concatenate(parts).tolist()) == list(range(500))
    assert all(len(part) == 1 or len(part) * lengths[part].max() <= 8192 for part in parts)


@pytest.mark.parametrize("setting", ["padding", "truncation"])
def test_a_tokenizer_that_pads_or_truncates_is_refused(tokenizer, setting):
    changed = json.loads(tokenizer.to_str())
    other = Tokenizer.from_str(json.dumps(changed))
    _ = other.enable_padding() if setting == "padding" else other.enable_truncation(128)
    with pytest.raises(BundleError, match="no padding and no truncation"):
        TokenInputs(other.to_str().encode())


class _Changed(StaticEncoder):
    """The default encoder over a tokenizer that was changed."""

    def __init__(self, change):
        self.change = change

    def files(self):
        values = json.loads(super().files()["tokenizer.json"])
        self.change(values)
        return {"tokenizer.json": json.dumps(values).encode()}

    def inputs(self, prompts):
        return STATIC.inputs(prompts)


class _Unknown(StaticEncoder):
    def export(self, graph):
        features, unknown = super().export(graph)
        return graph.node("Sign", [features]), unknown


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (_Changed(lambda values: values["model"].update(type="WordLevel")), "model.type: expected one of"),
        (_Changed(lambda values: values["model"]["vocab"].update(more=29526)), "ids 0 to"),
        (_Changed(lambda values: values["model"]["vocab"].update({"[NONE]": 29526})), "out of data"),
        (_Unknown(), "operators that policies use"),
    ],
)
def test_an_encoder_that_no_bundle_may_hold_is_refused_before_anything_is_fitted(encoder, said):
    with pytest.raises(InvalidInput, match=f"that a bundle may hold, got .*{said}"):
        compute_features(encoder, as_prompts(["a"]))


def test_precomputed_features_are_the_vectors():
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    encoder = PrecomputedEncoder()
    features, unknown = compute_features(encoder, with_vectors(list("abcde"), vectors))
    assert np.array_equal(features, vectors)
    assert not unknown.any()
    assert encoder.spec() == {"name": "precomputed", "inputs": "vectors", "dim": 3}


@pytest.mark.parametrize("vector", [[1.0, float("nan")], [], [[1.0]], ["a"], [1.0], [10**400] * 2])
def test_bad_vectors_are_refused(vector):
    with pytest.raises(InvalidInput):
        compute_features(PrecomputedEncoder(2), [Prompt("a", metadata={"vector": vector})])


def test_a_prompt_without_a_vector_is_refused():
    with pytest.raises(InvalidInput, match="metadata"):
        compute_features(PrecomputedEncoder(2), [Prompt("a")])
