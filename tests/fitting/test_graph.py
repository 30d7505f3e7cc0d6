"""The one graph: parity with learners, decision rule, out-of-distribution scores, exactness over batch sizes."""

import base64

import numpy as np
import onnx
import pytest

from hagpolicy.data.prompts import as_prompts
from hagpolicy.errors import HagError, InvalidInput
from hagpolicy.fitting.encoders.features import compute_features
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder, with_vectors
from hagpolicy.fitting.encoders.static import StaticEncoder
from hagpolicy.fitting.graphs import builder
from hagpolicy.fitting.graphs.builder import FLOAT, GraphBuilder
from hagpolicy.fitting.graphs.ood import fit_ood
from hagpolicy.fitting.learners.linear import Affine
from hagpolicy.fitting.learners.registry import LEARNERS, get_learner
from hagpolicy.fitting.policy_graph import Rule, build_policy_graph, check_parity
from hagpolicy.policy.decision import choose_index
from hagpolicy.policy.dial import Dial, OperatingPoint
from hagpolicy.policy.inputs import make_inputs
from hagpolicy.policy.session import open_session
from tests.support import making

STATIC = StaticEncoder()
OUTPUTS = ["values", "novelty", "choice"]


def run(model, inputs, prompts):
    """values, ood_score, choice of all prompts at once."""
    session = open_session(model.SerializeToString())
    parts = [session.run(OUTPUTS, arrays) for arrays in inputs(prompts)]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


@pytest.fixture(scope="module")
def trained():
    """Features of the made prompts, rewards that depend on them, and groups."""
    prompts = as_prompts([*making.SUMS, *making.LISTS])
    features, unknown = compute_features(STATIC, prompts)
    rng = np.random.default_rng(0)
    leaning = (features - features.mean(axis=0)) @ rng.normal(0, 0.03, (features.shape[1], 4))
    return features, unknown, 0.5 + 0.3 * np.tanh(leaning), np.arange(len(prompts))


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_every_learner_has_one_graph_that_equals_it_on_real_prompts(name, trained):
    features, unknown, targets, groups = trained
    prompts = making.real_prompts(1000)
    fitted = get_learner(name).fit(features, targets, groups, 0)
    reference, margin = int(targets.mean(axis=0).argmax()), 0.02
    heads, rule = {"values": fitted}, Rule(reference, margin)
    model = build_policy_graph(STATIC, heads, rule, fit_ood(features, unknown, groups, 0, STATIC.length))
    real, _ = compute_features(STATIC, prompts)
    assert check_parity(model, STATIC, heads, prompts, real, rule) <= 1e-6
    expected = fitted.predict(real)
    values, ood_score, choice = run(model, STATIC.inputs, prompts)
    assert np.array_equal(choice, rule.decide(values[None], ood_score))
    # The learner's own decision in float64 differs only where float32 cannot tell the margin.
    gain = expected.max(axis=1) - expected[:, reference]
    own = np.where((ood_score <= 1) & (gain > margin), expected.argmax(axis=1), reference)
    top = np.sort(expected, axis=1)
    clear = (np.abs(gain - margin) > 1e-6) & (top[:, -1] - top[:, -2] > 1e-6)
    assert np.array_equal(choice[clear], own[clear])
    assert clear.mean() > 0.9 or name in ("constant", "knn")


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_outputs_are_equal_bit_for_bit_at_every_batch_size(name, trained):
    features, unknown, targets, groups = trained
    prompts = making.real_prompts(1100)
    fitted = get_learner(name).fit(features, targets, groups, 0)
    ood = fit_ood(features, unknown, groups, 0, STATIC.length)
    model = build_policy_graph(STATIC, {"values": fitted}, Rule(0, 0.02), ood)
    session = open_session(model.SerializeToString())
    inputs = make_inputs(STATIC.spec(), STATIC.files())
    alone = [session.run(OUTPUTS, inputs.one(prompt.text)) for prompt in prompts]
    for size in (2, 17, len(prompts)):
        for start in range(0, len(prompts), size):
            part = prompts[start : start + size]
            for numbers, arrays in inputs.many(part):
                for output, values in enumerate(session.run(OUTPUTS, arrays)):
                    single = np.concatenate([alone[start + number][output] for number in numbers])
                    assert np.array_equal(values, single), (OUTPUTS[output], size)


def test_ties_and_margins_are_decided_in_the_graph_as_in_numpy():
    # Values are read off the vector itself: every pattern of ties, advantages around the margin.
    margin = 0.1
    steps = np.array([0.0, 0.1, np.nextafter(np.float32(0.1), np.float32(1)), 0.2], np.float32)
    rows = np.array([[a, b, c] for a in steps for b in steps for c in steps], np.float32)
    encoder = PrecomputedEncoder(3)
    prompts = with_vectors([str(number) for number in range(len(rows))], rows)
    for reference in range(3):
        rule = Rule(reference, margin)
        model = build_policy_graph(encoder, {"values": Affine(np.eye(3), np.zeros(3))}, rule)
        values, ood_score, choice = run(model, encoder.inputs, prompts)
        assert np.array_equal(values, rows)
        assert np.array_equal(choice, rule.decide(values[None], ood_score))
        for row, index in zip(rows, choice, strict=True):
            departs = row.max() - row[reference] > np.float32(margin)
            assert index == (list(row).index(row.max()) if departs else reference)


@pytest.mark.parametrize("weights", [(1.0, -0.3), (0.0, 2.0), (0.7, 0.1), (1.0, 1e-60)])
def test_weighted_heads_are_decided_in_the_graph_as_in_python(weights):
    """At a price the sum of two heads is compared, in float32 and in one order, ties and margins included."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.integers(0, 4, (300, 6)) / 10, rng.random((700, 6))]).astype(np.float32)
    rows[300:600, 3:] = rows[300:600, 3:4]
    encoder, margin = PrecomputedEncoder(6), np.float32(0.1)
    halves = np.split(np.eye(6), 2, axis=1)
    heads = {name: Affine(half, np.zeros(3)) for name, half in zip(("values", "costs"), halves, strict=True)}
    points = (OperatingPoint(0.5, "", "", weights, float(margin), "per_prompt", 0),)
    dial = Dial("", "", tuple(heads), np.ones(2), rng.random((2, 3)), points)
    setting = dial.rule_at()
    model = build_policy_graph(encoder, heads, Rule(setting.reference, float(margin), weights))
    session = open_session(model.SerializeToString())
    values, costs, ood_score, choice = session.run(["values", "costs", "novelty", "choice"], {"vectors": rows})
    total = setting.values([values, costs])
    assert choice.tolist() == [choose_index(setting, total[i], ood_score[i])[0] for i in range(len(rows))]
    assert len(set(choice.tolist())) == 3


def test_a_new_prompt_falls_back_in_the_graph():
    encoder = PrecomputedEncoder(2)
    training = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    ood = fit_ood(training, np.zeros(200, np.float32), np.arange(200), 0)
    model = build_policy_graph(encoder, {"values": Affine(np.eye(2), np.zeros(2))}, Rule(1, 0.0), ood)
    near, far = np.array([[0.5, 0.0], [-0.5, 0.0]], np.float32), np.array([[90.0, 0.0], [50.0, -50.0]], np.float32)
    _, ood_score, choice = run(model, encoder.inputs, with_vectors("abcd", np.concatenate([near, far])))
    assert (ood_score > 1).tolist() == [False, False, True, True]
    assert choice.tolist() == [0, 1, 1, 1]


def test_the_out_of_distribution_score_is_the_same_in_the_graph_and_in_numpy(trained):
    features, unknown, _, groups = trained
    ood = fit_ood(features, unknown, groups, 0, STATIC.length)
    prompts = as_prompts([*making.SUMS, making.CHINESE, "x = [\n    1,\n]\n" * 20, "Hello", "\x00"])
    own, share = compute_features(STATIC, prompts)
    model = build_policy_graph(STATIC, {"values": Affine(np.zeros((257, 2)), np.zeros(2))}, Rule(0, 0.0), ood)
    _, ood_score, _ = run(model, STATIC.inputs, prompts)
    np.testing.assert_allclose(ood_score, ood.score(own, share), rtol=1e-5)


def strangers() -> dict[str, list[str]]:
    """Prompts that have nothing in common with English word problems."""
    rng = np.random.default_rng(0)
    code = "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n    return total\n"
    return {
        "chinese": [making.CHINESE, "请写一首关于春天的诗，并解释其中的意象。"],
        "base64": [base64.b64encode(rng.bytes(size)).decode() for size in (120, 300, 600)],
        "code": [code, code.replace("mean", "average") * 2],
        "random": ["".join(map(chr, rng.integers(33, 2000, size))) for size in (60, 200, 1000)],
    }


def test_strangers_are_new_and_prompts_of_the_kind_are_not():
    prompts = making.real_prompts(3000)
    training, held = prompts[:300], prompts[300:]
    features, unknown = compute_features(STATIC, training)
    ood = fit_ood(features, unknown, np.arange(len(training)), 0, STATIC.length)
    assert (ood.score(*compute_features(STATIC, held)) > 1).mean() <= 0.01
    for kind, texts in strangers().items():
        assert (ood.score(*compute_features(STATIC, as_prompts(texts))) > 1).all(), kind


def test_made_prompts_of_the_kind_are_not_new():
    prompts = as_prompts([*making.SUMS, *making.LISTS])
    rows = np.random.default_rng(0).permutation(len(prompts))
    features, unknown = compute_features(STATIC, prompts)
    ood = fit_ood(features[rows[:30]], unknown[rows[:30]], np.arange(30), 0, STATIC.length)
    assert (ood.score(features[rows[30:]], unknown[rows[30:]]) <= 1).all()
    assert (ood.score(*compute_features(STATIC, as_prompts(strangers()["chinese"]))) > 1).all()


def test_the_out_of_distribution_score_of_a_single_group_or_of_equal_prompts_is_finite():
    same = np.ones((25, 4), np.float32)
    ood = fit_ood(same, np.zeros(25, np.float32), np.zeros(25, np.int64), 0)
    scores = ood.score(np.array([[1, 1, 1, 1], [1, 1, 1, 99]], np.float32), np.zeros(2, np.float32))
    assert scores[0] <= 1 < scores[1]


def test_a_graph_that_differs_from_its_learner_is_refused(trained):
    features = trained[0]
    prompts = as_prompts([*making.SUMS, *making.LISTS])
    right, wrong = (Affine(np.zeros((257, 2)), np.array([0.5, 0.5 + shift])) for shift in (0.0, 1e-4))
    right, wrong = {"values": right}, {"values": wrong}
    model = build_policy_graph(STATIC, right, Rule(0, 0.0))
    assert check_parity(model, STATIC, right, prompts, features, Rule(0, 0.0)) == 0.0
    with pytest.raises(HagError, match="differs from the learner"):
        check_parity(model, STATIC, wrong, prompts, features, Rule(0, 0.0))
    with pytest.raises(HagError, match="decides otherwise"):
        check_parity(model, STATIC, right, prompts, features, Rule(1, 0.0))


@pytest.mark.parametrize(("reference", "margin"), [(-1, 0.0), (0, -0.1), (0, float("nan")), (0, float("inf"))])
def test_senseless_reference_or_margin_is_refused(reference, margin):
    with pytest.raises(InvalidInput):
        Rule(reference, margin)


def test_builder_names_outputs_without_losing_inputs_or_reuse():
    graph = GraphBuilder()
    x = graph.input("x", FLOAT, ["batch"])
    twice = graph.node("Add", [x, x])
    graph.output(x, "same", FLOAT, ["batch"])
    graph.output(twice, "twice", FLOAT, ["batch"])
    graph.output(twice, "again", FLOAT, ["batch"])
    graph.output(graph.node("Add", [twice, x]), "thrice", FLOAT, ["batch"])
    session = open_session(graph.model("sums").SerializeToString())
    outputs = session.run(["same", "twice", "again", "thrice"], {"x": np.ones(2, np.float32)})
    assert [part.tolist() for part in outputs] == [[1, 1], [2, 2], [2, 2], [3, 3]]


def test_types_have_the_numbers_of_onnx() -> None:
    for name in ("FLOAT", "UINT8", "INT32", "INT64", "DOUBLE"):
        assert getattr(builder, name) == getattr(onnx.TensorProto, name)
