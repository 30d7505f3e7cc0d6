"""Explanations: neighbours, what moved the choice, what was achieved out of fold, and what of it is saved."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy._digest import digest, digest_bytes
from hagpolicy.errors import BundleError, InvalidInput
from hagpolicy.fitting.departures import Departures, summarise_departures
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder
from hagpolicy.fitting.graphs.builder import GraphBuilder
from hagpolicy.policy.bundle import MANIFEST
from hagpolicy.policy.explanation import MOST_PARTS, Explanation, split_parts
from hagpolicy.policy.graph.model import Graph
from hagpolicy.policy.policy import Policy
from hagpolicy.policy.training_prompts import FEATURES, TRAINING_FILES, TRAINING_HEAD, FeatureScale, TrainingPrompts
from tests.support import making
from tests.support.paths import FIXTURES

SPACE = hag.DecodingSpace.grid(temperature=[0.5, 0.7, 1.0])
THINGS = ["apple", "river", "tool", "bird", "city", "game", "stone", "cloud", "horse", "lamp"]
PLANTED = "xylophones"


def make_table(effect: float, default: int | None = None) -> hag.SweepTable:
    """Of 120 prompts, half of which hold a word that turns the order of the configs round by an effect."""
    chance = np.random.default_rng(0)
    prompts, rewards = [], []
    for number in range(120):
        first, second, third = chance.permutation(THINGS)[:3]
        words = ["Name", first, second, third, "here"]
        planted = number % 2 == 1
        if planted:
            words.insert(int(chance.integers(1, 5)), PLANTED)
        own = {} if number % 5 == 0 else {"id": f"prompt-{number}"}
        prompts.append(hag.Prompt(" ".join(words), task="odd" if planted else "even", **own))
        means = 0.5 + effect * np.array([0.5, 0.0, -0.5]) * (1.0 if planted else -1.0)
        rewards.append(np.clip(means[:, None] + chance.normal(0.0, 0.1, (3, 4)), 0.0, 1.0))
    return hag.SweepTable.from_arrays(prompts, SPACE, np.array(rewards), default=default)


@pytest.fixture(scope="module")
def table() -> hag.SweepTable:
    return make_table(0.5, default=1)


@pytest.fixture(scope="module")
def policy(table: hag.SweepTable) -> Policy:
    fitted = hag.fit(table, learner="ridge", margins=[0.0])
    assert fitted.ships == "per_prompt"
    return fitted


@pytest.fixture(scope="module")
def bundle(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return policy.save(tmp_path_factory.mktemp("explained") / "policy", explain=True)


def test_a_training_prompt_is_its_own_nearest_at_distance_zero(policy: Policy, table: hag.SweepTable) -> None:
    for number in (0, 1, 7, 119):
        near = policy.explain(table.prompts[number]).neighbours
        name = table.prompts[number].id or str(number)
        [nearest] = [one for one in near if one.id == name]  # another prompt may hold the same words in another order
        assert nearest.distance == near[0].distance == 0.0
        assert nearest.task == table.prompts[number].task
        np.testing.assert_allclose(nearest.values, table.means[number], atol=1e-6)
    far = policy.explain(table.prompts[3], neighbours=len(table.prompts) + 5).neighbours
    assert len(far) == len(table.prompts)
    distances = [one.distance for one in far]
    assert distances == sorted(distances)
    assert 0.5 < float(np.sqrt(np.mean(np.square(distances)))) < 2.0  # in units of two prompts at random
    assert policy.explain(table.prompts[3], neighbours=0).neighbours == ()


def test_the_word_that_decides_is_what_moved_the_choice(policy: Policy, table: hag.SweepTable) -> None:
    for number in (1, 3, 5, 7):
        prompt = table.prompts[number].text
        found = policy.explain(prompt)
        strongest = found.moved[0]
        assert strongest.part == PLANTED
        assert prompt[strongest.place :].startswith(PLANTED)
        assert abs(strongest.fall) > 2 * abs(found.moved[1].fall)
        # What is told is what the policy says of the prompt without the word.
        without = prompt[: strongest.place] + prompt[strongest.place + len(PLANTED) + 1 :]
        assert found.contender is not None
        assert found.advantage is not None
        values = policy.values([without])[0]
        left = float(values[found.contender] - values[found.reference])
        assert strongest.fall == pytest.approx(found.advantage - left, abs=1e-6)
        assert policy.decide(without).index == strongest.choice != policy.decide(prompt).index
        assert policy.explain(prompt) == found


def test_the_contender_is_what_departs_or_would(policy: Policy, table: hag.SweepTable) -> None:
    departing = 0
    for prompt in table.prompts[:20]:
        found, decision = policy.explain(prompt), policy.decide(prompt)
        assert found.decision == decision
        assert found.reference == policy.reference_index != found.contender
        assert found.margin == policy.margin
        assert found.ood_score == pytest.approx(float(policy.ood_scores([prompt])[0]))
        if decision.index != policy.reference_index:
            departing += 1
            assert found.contender == decision.index
            assert found.advantage == pytest.approx(decision.advantage)
            assert found.achieved is not None
            assert found.achieved.gain.low > 0.0
    assert departing >= 5


def test_what_was_achieved_adds_up_to_what_the_comparison_says(policy: Policy, table: hag.SweepTable) -> None:
    assert policy.training is not None
    assert policy.evaluation is not None
    assert policy.evaluation.per_prompt is not None
    [bands] = policy.training.achieved
    values = policy.evaluation.per_prompt.values["policy"]
    # SBS is proven here, and every draw may choose another: gains are compared over one config for all.
    reference = table.means[:, policy.reference_index]
    gained = sum(band.share * band.gain.value for band in bands)
    assert gained == pytest.approx(float((values - reference).mean()), abs=1e-9)
    assert all(low.high <= high.low for low, high in itertools.pairwise(bands))
    assert all(band.gain.low <= band.gain.value <= band.gain.high for band in bands)


def test_departures_are_counted_by_group() -> None:
    predicted = np.array([[0.3, 0.1, np.nan, 0.0], [0.2, 0.4, 0.1, np.nan]])
    achieved = np.array([[0.5, -0.1, 9.0, 0.0], [0.3, 0.1, 0.2, 9.0]])
    [band] = summarise_departures(Departures(predicted, achieved), np.array([0, 0, 1, 2]), seed=0)
    assert (band.low, band.high, band.n_prompts, band.n_groups, band.share) == (0.1, 0.4, 3, 2, 5 / 8)
    assert band.gain.value == pytest.approx(np.mean([0.5, -0.1, 0.3, 0.1, 0.2]))
    assert not band.gain.reliable
    nothing = Departures(np.zeros((2, 4)), np.zeros((2, 4)))
    assert summarise_departures(nothing, np.arange(4), seed=0) == ()


def test_where_nothing_per_prompt_is_proven_nothing_moves() -> None:
    policy = hag.fit(make_table(0.0), learner="ridge")
    assert policy.ships != "per_prompt"
    found = policy.explain(f"Name apple {PLANTED} here")
    assert found.moved == ()
    assert found.contender is None
    assert found.achieved is None
    assert found.proof == policy.reason
    assert len(found.neighbours) == 5
    said = str(found)
    assert "stands for every prompt alike" in said
    assert policy.reason in said
    assert "nothing in the prompt" in said
    if policy.candidate is not None:
        assert policy.candidate.explain(f"Name apple {PLANTED} here").contender is not None


def test_a_bundle_explains_alike_and_decides_alike(policy: Policy, bundle: Path, table: hag.SweepTable) -> None:
    loaded = hag.load(bundle)
    assert loaded.digest == policy.digest
    for prompt in (*table.prompts[:6], "北京到上海的距离", "word " * 300):
        ours, theirs = policy.explain(prompt).to_dict(), loaded.explain(prompt).to_dict()
        for one in ours["neighbours"]:
            del one["text"]
        assert json.loads(json.dumps(theirs, allow_nan=False)) == _rounded(ours, theirs)
    assert "distance" in str(loaded.explain("Name apple"))
    copied = pickle.loads(pickle.dumps(loaded))
    assert copied.explain("Name apple") == loaded.explain("Name apple")


def _rounded(ours: dict[str, object], theirs: dict[str, object]) -> dict[str, object]:
    """Our explanation with their neighbours' values, where these are equal but for rounding."""
    mine, other = ours["neighbours"], theirs["neighbours"]
    assert isinstance(mine, list)
    assert isinstance(other, list)
    for one, two in zip(mine, other, strict=True):
        np.testing.assert_allclose(one["values"], two["values"], atol=1e-6)
        one["values"] = two["values"]
    return ours


def test_texts_are_saved_on_request_alone(policy: Policy, table: hag.SweepTable, tmp_path: Path) -> None:
    plain, explained = policy.save(tmp_path / "plain"), policy.save(tmp_path / "explained", explain=True)
    told = policy.save(tmp_path / "told", include_prompts=True)
    held = {folder: b"".join(path.read_bytes() for path in folder.iterdir()) for folder in (plain, explained, told)}
    texts = [prompt.text.encode() for prompt in table.prompts]
    ids = [prompt.id.encode() for prompt in table.prompts if prompt.id]
    assert not any(text in held[plain] or text in held[explained] for text in texts)
    assert PLANTED.encode() not in held[explained]
    assert not any(name in held[plain] for name in ids if len(name) > len("prompt-1"))
    assert all(name in held[explained] for name in ids)
    assert all(text in held[told] for text in texts)
    assert not any(text in pickle.dumps(policy) for text in texts)
    assert {path.name for path in plain.iterdir()}.isdisjoint(TRAINING_FILES)
    [shown] = hag.load(told).explain(table.prompts[4], neighbours=1).neighbours
    assert shown.text in {prompt.text for prompt in table.prompts}
    assert shown.to_dict()["text"] == shown.text
    card = (explained / "README.md").read_text("utf-8")
    assert "no text of them" in card
    assert "its features" in card
    assert "What decisions rest on" in card
    assert "What decisions rest on" not in (plain / "README.md").read_text("utf-8")
    with pytest.raises(InvalidInput, match="include_prompts"):
        hag.load(explained).save(tmp_path / "again", include_prompts=True)
    with pytest.raises(InvalidInput, match="explain=True"):
        hag.load(plain).explain("Name apple")
    with pytest.raises(InvalidInput, match="expected a policy that holds its training prompts"):
        hag.load(plain).save(tmp_path / "again", explain=True)


def test_told_tasks_and_prices_are_explained_where_they_stand() -> None:
    table = make_table(0.5, default=1)
    chance = np.random.default_rng(2)
    tokens = np.array([10.0, 20.0, 30.0])[None, :, None] + chance.integers(0, 3, table.rewards.shape)
    priced = hag.SweepTable.from_arrays(list(table.prompts), SPACE, table.rewards, default=1, tokens=tokens)
    policy = hag.fit(priced, learner="ridge", objective="price/token@0,0.002")
    prompt = table.prompts[1]
    for price, achieved in ((None, True), (0.002, True), (0.001, False), (0.5, False)):
        found = policy.explain(prompt, price=price)
        assert found.decision == policy.decide(prompt, price=price)
        assert (found.achieved is not None) is achieved
        paid = table.means[1] - (price or 0.0) * tokens[1].mean(axis=1)
        own = next(one for one in found.neighbours if one.id == prompt.id)
        np.testing.assert_allclose(own.values, paid, atol=1e-4)
    assert policy.explain(prompt, price=0.5).contender is None  # nothing was proven there
    told = hag.fit(make_told_table(), learner="ridge")
    assert told.dial.points[0].told_ships
    assert told.ships != "per_prompt"
    for task in ("even", "odd"):
        found = told.explain("Name apple river here", task=task)
        assert found.decision == told.decide("Name apple river here", task=task)
        assert found.ships == "per_prompt"
        assert (found.achieved, found.proof) == (None, "")
    assert told.explain("Name apple river here").moved == ()


def make_told_table() -> hag.SweepTable:
    """Of 120 prompts whose best config hangs on their task, which their texts do not tell."""
    table = make_table(0.5)
    kinds = [prompt.task for prompt in table.prompts]
    chance = np.random.default_rng(3)
    texts = [" ".join(["Name", *chance.permutation(THINGS)[:4]]) for _ in kinds]
    prompts = [hag.Prompt(text, task=kind) for text, kind in zip(texts, kinds, strict=True)]
    return hag.SweepTable.from_arrays(prompts, SPACE, table.rewards)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_old_bundles_load_and_say_that_they_cannot_explain(version: int) -> None:
    policy = hag.load(FIXTURES / f"bundle_v{version}")
    with pytest.raises(InvalidInput, match="explain=True"):
        policy.explain(making.vector(1.0))


def test_of_vectors_the_column_that_decides_is_told(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    vectors = chance.normal(0.0, 1.0, (120, 6)).astype(np.float32)
    means = 0.5 + 0.3 * np.outer(np.sign(vectors[:, 4]), [0.5, 0.0, -0.5])
    rewards = np.clip(means[:, :, None] + chance.normal(0.0, 0.1, (120, 3, 4)), 0.0, 1.0)
    prompts = [hag.Prompt(f"prompt {number}", id=f"v{number}") for number in range(120)]
    fitted = hag.fit(hag.SweepTable.from_arrays(prompts, SPACE, rewards), vectors, learner="ridge")
    assert fitted.ships == "per_prompt"
    policy = hag.load(fitted.save(tmp_path / "policy", explain=True))
    row = vectors[int(np.abs(vectors[:, 4]).argmax())]
    found = policy.explain(row)
    assert found.moved[0].place == 4
    assert found.moved[0].part == "column 4"
    assert found.neighbours[0].distance == 0.0
    moved = row.copy()
    moved[4] = np.median(vectors[:, 4])
    values = policy.values([moved])[0]
    assert found.advantage is not None
    left = float(values[found.contender] - values[found.reference])
    assert found.moved[0].fall == pytest.approx(found.advantage - left, abs=1e-6)


def test_vectors_with_missing_values_are_explained(tmp_path: Path) -> None:
    chance = np.random.default_rng(2)
    vectors = chance.normal(0.0, 1.0, (120, 3)).astype(np.float32)
    vectors[::2, 1] = np.nan  # whether it is there says which config is best
    means = 0.5 + 0.3 * np.outer(np.where(np.isnan(vectors[:, 1]), 1.0, -1.0), [0.5, 0.0, -0.5])
    prompts = [hag.Prompt(f"prompt {number}", id=f"v{number}") for number in range(120)]
    fitted = hag.fit(hag.SweepTable.from_arrays(prompts, SPACE, means), vectors, learner="ridge")
    policy = hag.load(fitted.save(tmp_path / "policy", explain=True))
    assert policy.training is not None
    np.testing.assert_array_equal(policy.training.medians, np.nanmedian(vectors, axis=0))
    assert policy.explain(vectors[0]).moved[0].part == "column 1"
    for number in range(2):
        assert policy.explain(vectors[number]).neighbours[0].id == f"v{number}"


def test_a_prompt_that_is_not_read_has_no_neighbours(policy: Policy) -> None:
    found = policy.explain([{"role": "user", "content": ""}])
    assert found.decision.reason == "unreadable"
    assert found.neighbours == ()
    assert found.moved == ()
    assert found.ood_score is None
    assert "none" in str(found)


def test_decisions_do_not_pay_for_explanations(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """What onnxruntime runs for a decision is what it ran before the graph named its features."""

    def encode(made: Policy) -> bytes:
        return Graph(made._model).encode(made._outputs)

    named = making.sums_against_lists(PrecomputedEncoder())
    assert FEATURES in Graph(named._model).tensors
    monkeypatch.setattr(GraphBuilder, "rename", lambda self, tensor, name: None)
    plain = making.sums_against_lists(PrecomputedEncoder())
    assert FEATURES not in Graph(plain._model).tensors
    assert encode(named) == encode(plain)
    assert FEATURES not in {output.name for output in policy._session.get_outputs()}
    before = policy._features_session
    policy.predict("Name apple")
    assert policy._features_session is before


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("one  two\nthree ", ["one", "two", "three"]),
        ("a\n\nb " * 40, ["a", "b a"]),
        ("北京到", ["北", "京", "到"]),
        ("", []),
    ],
)
def test_parts_of_a_text(text: str, parts: list[str]) -> None:
    spans = split_parts(text)
    found = [" ".join(text[a:b].split()) for a, b in spans]
    assert found[: len(parts)] == parts or len(spans) == MOST_PARTS
    assert len(spans) <= MOST_PARTS
    assert all(a < b <= c for (a, b), (c, _) in itertools.pairwise(spans))


def test_long_texts_are_cut_into_few_parts() -> None:
    for text in ("word " * 1000, "x" * 5000, "\n".join(["some words in a line"] * 50)):
        spans = split_parts(text)
        assert 1 < len(spans) <= MOST_PARTS
        assert "".join(text[a:b] for a, b in spans).split() == text.split()


def test_distances_are_in_units_of_two_prompts_at_random() -> None:
    chance = np.random.default_rng(0)
    features = chance.normal(5.0, 3.0, (400, 20)).astype(np.float32)
    rows = FeatureScale.of(features).apply(features).astype(np.float64)
    pairs = rows[:200] - rows[200:]
    assert np.sqrt((pairs**2).sum(axis=1).mean()) == pytest.approx(1.0, rel=0.05)
    same = FeatureScale.of(np.ones((3, 2), dtype=np.float32))
    assert not same.apply(np.ones((3, 2), dtype=np.float32)).any()


def _change(folder: Path, **files: bytes) -> Path:
    """The bundle with other files, signed anew, as an attacker would."""
    for name, data in files.items():
        (folder / name.replace("_", ".")).write_bytes(data)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"] = {name: digest_bytes((folder / name).read_bytes()) for name in manifest["files"]}
    del manifest["digest"]
    manifest["digest"] = digest(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    return folder


def _write_array(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


BAD_ROWS = {
    "no array": b"",
    "objects": _write_array(np.array([{}], dtype=object)),
    "float32": _write_array(np.zeros((120, 4), dtype=np.float32)),
    "one axis": _write_array(np.zeros(120, dtype=np.float16)),
    "no rows": _write_array(np.zeros((0, 4), dtype=np.float16)),
    "short": _write_array(np.zeros((120, 4), dtype=np.float16))[:-2],
    "long": _write_array(np.zeros((120, 4), dtype=np.float16)) + b"\x00\x00",
    "other columns": _write_array(np.zeros((120, 4), dtype=np.float16)),
    "infinite": _write_array(np.full((120, 4), np.inf, dtype=np.float16)),
    "huge": _write_array(np.zeros((120, 4), dtype=np.float16)).replace(b"(120, 4)", b"(2**40, "),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_damaged_features_are_refused(case: str, bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    with pytest.raises(BundleError, match=r"training|features"):
        hag.load(_change(copy, training_npy=BAD_ROWS[case]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ids", ["one"]),
        ("ids", 3),
        ("texts", ["one"]),
        ("centre", [0.0]),
        ("factor", "1"),
        ("heads", [[[0.5]]]),
        ("heads", []),
        ("achieved", [[], []]),
        ("achieved", [[{"low": 0}]]),
        ("format_version", 2),
        ("more", 1),
    ],
)
def test_damaged_heads_are_refused(name: str, value: object, bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    values = json.loads((copy / TRAINING_HEAD).read_bytes())
    with pytest.raises(BundleError, match="training"):
        hag.load(_change(copy, training_json=json.dumps({**values, name: value}).encode()))


def test_a_value_that_is_not_there_is_refused(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    values = json.loads((copy / TRAINING_HEAD).read_bytes())
    values["heads"][0][3][0] = None
    with pytest.raises(BundleError, match="expected a finite number"):
        hag.load(_change(copy, training_json=json.dumps(values).encode()))


def test_mutated_files_are_refused_or_explain(bundle: Path) -> None:
    loaded = hag.load(bundle)
    shape = len(loaded.dial.heads), len(loaded.space), len(loaded.dial.points)
    files = {name: (bundle / name).read_bytes() for name in TRAINING_FILES}
    chance = np.random.default_rng(0)
    refused = 0
    for number in range(400):
        name = TRAINING_FILES[number % 2]
        data = bytearray(files[name])
        for at in chance.integers(0, 200 if number % 4 < 2 else len(data), 3):
            data[at] = chance.integers(0, 256)
        cut = int(chance.integers(1, len(data))) if number % 10 == 9 else len(data)
        try:
            training = TrainingPrompts.from_files({**files, name: bytes(data[:cut])}, *shape)
        except BundleError:
            refused += 1
            continue
        assert training is not None
        assert len(training.find_nearest(np.zeros(training.features.shape[1], dtype=np.float32), 3)[0]) == 3
    assert 100 < refused < 400


def test_one_file_of_two_is_refused(policy: Policy) -> None:
    assert policy.training is not None
    files = policy.training.to_files()
    with pytest.raises(BundleError, match=f"{TRAINING_HEAD} alone"):
        TrainingPrompts.from_files({TRAINING_HEAD: files[TRAINING_HEAD]}, 1, 3, 1)
    assert TrainingPrompts.from_files({}, 1, 3, 1) is None


def test_the_dial_and_bad_arguments(policy: Policy) -> None:
    for neighbours in (-1, 1.5, None):
        with pytest.raises(InvalidInput, match="neighbours"):
            policy.explain("Name apple", neighbours=neighbours)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="price"):
        policy.explain("Name apple", price=0.1)
    assert isinstance(policy.explain("Name apple"), Explanation)
    assert "Name" not in repr(policy.explain("Name apple"))
