"""Policy: the one decision rule, fixed fields, batches, and what loading imports."""

import json
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from hagpolicy import DecodingConfig, DecodingSpace, Prompt, load
from hagpolicy.data.prompts import prompt_text
from hagpolicy.errors import BundleError, InvalidInput
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder, with_vectors
from hagpolicy.policy.decision import choose_index, decide
from hagpolicy.policy.dial import Dial
from hagpolicy.policy.policy import Policy
from tests.support import making

SUM, LIST = making.SUMS[0], making.LISTS[0]
SPACE = making.SPACE


@pytest.fixture(scope="module")
def policy():
    return making.sums_against_lists()


@pytest.fixture(scope="module")
def vectors():
    return making.sums_against_lists(PrecomputedEncoder())


@pytest.fixture(scope="module")
def constant():
    return making.sums_against_lists(ships="single_best")


def test_each_kind_of_prompt_gets_its_config(policy):
    assert policy.sbs == SPACE[0]
    assert set(policy.predict_batch(making.SUMS)) == {SPACE[0]}
    assert set(policy.predict_batch(making.LISTS)) == {SPACE[4]}


def test_predict_decide_and_their_batches_agree(policy):
    prompts = [*making.SUMS, *making.LISTS, making.CHINESE, "word " * 4000]
    configs = [policy.predict(prompt) for prompt in prompts]
    decisions = [policy.decide(prompt) for prompt in prompts]
    assert configs == policy.predict_batch(prompts) == [decision.config for decision in decisions]
    assert policy.decide_batch(prompts) == decisions
    values = policy.values(prompts)
    assert values.shape == (len(prompts), len(SPACE))
    assert values.dtype == np.float32
    assert [decision.value for decision in decisions] == [
        float(row[decision.index]) for row, decision in zip(values, decisions, strict=True)
    ]


def test_reasons_say_what_happened(policy):
    assert policy.decide(LIST).reason == "best_by_margin"
    assert policy.decide(SUM).reason == "reference_best"
    assert making.sums_against_lists(margin=0.9).decide(LIST).reason == "within_margin"
    far = policy.decide(making.CHINESE)
    assert (far.reason, far.config, far.advantage) == ("unlike_training", policy.sbs, 0.0)
    assert "unlike everything seen" in str(far)
    assert policy.decide(LIST).advantage > policy.margin


def test_the_advantage_is_over_the_reference(policy):
    decision = policy.decide(LIST)
    values = policy.values([LIST])[0]
    assert decision.advantage == float(values[4] - values[policy.sbs_index])


def test_margin_is_compared_in_float32_as_in_the_graph(policy):
    gain = policy.decide(LIST).advantage
    # The second margin is smaller than the gain in float64, and equal to it in float32.
    for margin, index in ((gain, 0), (gain * (1 - 1e-9), 0), (gain * (1 - 1e-6), 4)):
        other = making.sums_against_lists(margin=margin)
        assert np.array_equal(other.values([LIST]), policy.values([LIST]))
        assert other.predict(LIST) == other.decide(LIST).config == SPACE[index]


def test_fixed_fields_restrict_to_configs_that_agree(policy):
    decision = policy.decide(LIST, fixed={"temperature": 0.0})
    allowed = [config for config in SPACE if config.temperature == 0.0]
    assert decision.config in allowed
    assert policy.predict(LIST, fixed={"temperature": 0.7}) == SPACE[4]
    assert policy.predict(LIST, fixed={"temperature": 0.7, "repetition_penalty": 1.2}) == SPACE[5]
    for prompt in (SUM, LIST):
        assert [policy.predict(prompt, fixed={"top_k": 3})] == policy.predict_batch([prompt], {"top_k": 3})


def test_the_reference_under_fixed_fields_is_the_best_that_agrees(policy):
    far = policy.decide(making.CHINESE, fixed={"temperature": 0.7})
    means = np.where([config.temperature == 0.7 for config in SPACE], policy.training_means, -1)
    assert (far.index, far.reason) == (int(means.argmax()), "unlike_training")


def test_a_field_equal_in_all_configs_is_replaced(policy):
    config = policy.predict(LIST, fixed={"max_tokens": 40, "top_p": 0.9})
    assert config == SPACE[4].replace(max_tokens=40, top_p=0.9)
    assert policy.decide(LIST, fixed={"max_tokens": 40}).reason == "best_by_margin"


def test_where_no_config_agrees_the_callers_fields_stand(policy):
    decision = policy.decide(LIST, fixed={"temperature": 0.3, "top_k": 5})
    assert decision.config == DecodingConfig(temperature=0.3, top_k=5)
    assert (decision.index, decision.value, decision.advantage) == (None, None, None)
    assert decision.reason == "no_config_agrees"
    assert "no config" in str(decision)


@pytest.mark.parametrize("fixed", [{"temprature": 0.0}, {"temperature": -1.0}, {"top_k": 1.5}])
def test_bad_fixed_fields_are_refused(policy, fixed):
    with pytest.raises(InvalidInput):
        policy.predict(LIST, fixed=fixed)


def test_no_fixed_field_is_the_same_as_none(policy):
    assert policy.decide(LIST, fixed={}) == policy.decide(LIST)


def test_when_sbs_ships_values_are_the_training_means(constant):
    assert constant.ships_sbs
    assert np.array_equal(constant.values([SUM, LIST]), np.tile(constant.training_means.astype(np.float32), (2, 1)))
    assert {constant.predict(LIST), constant.predict(SUM)} == {constant.sbs}
    decision = constant.decide(LIST, fixed={"temperature": 0.7})
    assert decision.reason == "sbs_shipped"
    assert decision.config == SPACE[3 + int(constant.training_means[3:].argmax())]


@pytest.fixture(scope="module")
def standing():
    return making.sums_against_lists(ships="default")


def test_when_nothing_is_proven_what_runs_today_stands(standing):
    assert (standing.ships, standing.ships_sbs, standing.reference) == ("default", False, SPACE[3])
    assert standing.sbs == SPACE[0]
    assert {standing.predict(LIST), standing.predict(SUM)} == {SPACE[3]}
    decision = standing.decide(LIST)
    assert (decision.index, decision.advantage, decision.reason) == (3, 0.0, "default_shipped")
    assert "ships the default" in repr(standing)
    fits = standing.decide(LIST, fixed={"temperature": 0.7, "top_p": 0.9})  # the default agrees, others would too
    assert (fits.config, fits.reason) == (SPACE[3].replace(top_p=0.9), "default_shipped")


@pytest.mark.parametrize("fixed", [{"temperature": 0.0}, {"temperature": 0.3}])
def test_what_runs_today_stands_with_the_callers_fields_whether_some_config_agrees_or_none(standing, fixed):
    decision = standing.decide(LIST, fixed=fixed)
    assert decision.config == SPACE[3].replace(**fixed)
    assert (decision.index, decision.value, decision.advantage) == (None, None, None)
    assert decision.reason == "default_changed"
    assert "with what is fixed in place" in str(decision)
    assert standing.predict(LIST, fixed=fixed) == decision.config


def test_a_default_without_settings_leaves_the_callers_alone(standing):
    space = DecodingSpace([*SPACE[:3], DecodingConfig(unset=True), *SPACE[4:]])
    rule = standing.dial.rule_at()
    decision = decide(space, rule, np.zeros((1, 6), np.float32), 0.0, {"temperature": 0.7}, LIST)
    assert (decision.config, decision.reason) == (DecodingConfig(temperature=0.7), "no_config_agrees")
    assert decide(space, rule, np.zeros((1, 6), np.float32), 0.0, {}, LIST).config == space[3]


def test_a_per_prompt_policy_departs_from_its_reference_and_falls_back_to_it(policy):
    far = [one for one in making.ODD if policy.decide(one).reason == "unlike_training"]
    assert far
    assert {policy.predict(one) for one in far} == {policy.reference}
    manifest = replace(policy.manifest, dial=Dial.from_json(_over(policy.manifest.dial.to_json(), 3), 3))
    rule = manifest.dial.rule_at()
    assert (rule.reference, rule.sbs) == (3, 0)
    values = np.array([0.5, 0.1, 0.1, 0.48, 0.2, 0.1], np.float32)
    assert choose_index(rule, values, 0.5) == (3, 3, "within_margin")
    assert choose_index(rule, values, 2.0) == (3, 3, "unlike_training")
    assert choose_index(rule, values + np.eye(6, dtype=np.float32)[4], 0.5) == (4, 3, "best_by_margin")
    others = np.array([True, False, True, False, True, False])
    assert choose_index(rule, values, 0.5, others) == (0, 0, "reference_best")  # the best mean of those allowed


def _over(dial, reference):
    return {**dial, "points": [{**point, "reference": reference} for point in dial["points"]]}


def test_chat_messages_read_as_their_text(policy):
    messages = [{"role": "user", "content": LIST}]
    assert policy.decide(messages).value == policy.decide(LIST).value == policy.decide(Prompt(LIST)).value
    assert policy.decide(messages).prompt == tuple(messages)
    longer = [{"role": "system", "content": "Answer in French."}, *messages]
    assert policy.decide(longer).value == policy.decide(messages).value


def test_a_decision_renders_the_prompt_for_an_engine(policy):
    rendering = policy.decide(LIST).render("vllm")
    assert rendering.prompt == LIST
    assert rendering.kwargs["temperature"] == 0.7


@pytest.mark.parametrize("prompt", [[], 3, None, b"x"])
def test_what_is_no_prompt_is_refused_alone_and_in_batches(policy, prompt):
    for call in (policy.predict, policy.decide, lambda value: policy.predict_batch([SUM, value])):
        with pytest.raises(InvalidInput):
            call(prompt)


def test_text_of_any_kind_gets_a_config(policy):
    odd = ["\x00", "half \ud83d", "x" * 20000, "\u200b", "🙂" * 50, "[PAD]", "a\n" * 9000]
    assert [policy.predict(prompt) for prompt in odd] == policy.predict_batch(odd)


def test_one_prompt_given_as_a_batch_is_refused(policy):
    with pytest.raises(InvalidInput, match="use predict"):
        policy.predict_batch(LIST)


def test_an_empty_batch_is_empty(policy, vectors):
    for each in (policy, vectors):
        assert each.predict_batch([]) == []
        assert each.decide_batch([]) == []
        assert each.values([]).shape == (0, len(SPACE))


def test_vectors_take_the_place_of_text(vectors):
    assert vectors.predict(making.vector(1.0)) == SPACE[0]
    assert vectors.predict([-1.0] * 8) == SPACE[4]
    prompts = with_vectors([SUM, LIST], [making.vector(1.0), making.vector(-1.0)])
    assert vectors.predict_batch(prompts) == [SPACE[0], SPACE[4]]
    assert vectors.decide(prompts[1]).render("vllm").prompt == LIST
    assert vectors.decide(making.vector(1.0)).prompt is None
    for bad in (SUM, Prompt(SUM), [1.0], [float("nan")] * 8):
        with pytest.raises(InvalidInput):
            vectors.predict(bad)


def test_saved_policies_decide_alike(policy, constant, vectors, tmp_path):
    for number, each in enumerate((policy, constant)):
        again = load(each.save(tmp_path / str(number)))
        assert again.decide_batch([SUM, LIST, making.CHINESE]) == each.decide_batch([SUM, LIST, making.CHINESE])
    assert load(vectors.save(tmp_path / "v")).predict(making.vector(1.0)) == SPACE[0]


def test_the_card_names_configs_and_evaluation(policy, tmp_path):
    card = (policy.save(tmp_path / "policy") / "README.md").read_text("utf-8")
    assert str(SPACE[4]) in card
    assert "the best single one" in card
    assert str(policy.evaluation) in card


def test_trained_on_knows_the_training_prompts_only(policy):
    assert policy.trained_on([SUM, f"  {LIST} ", "never seen"]).tolist() == [True, True, False]


def test_the_candidate_is_settable_and_not_saved(policy, constant, tmp_path):
    assert constant.candidate is None
    constant.candidate = policy
    assert load(constant.save(tmp_path / "policy")).candidate is None
    constant.candidate = None


def test_a_policy_can_be_sent_to_another_process(policy):
    again = pickle.loads(pickle.dumps(policy))
    assert again.decide(LIST) == policy.decide(LIST)


def test_a_graph_of_another_kind_is_refused(policy, vectors):
    with pytest.raises(BundleError):
        Policy(policy.manifest, b"junk", policy._files)
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        Policy(policy.manifest, policy._model, {})
    with pytest.raises(BundleError, match="do not fit"):
        replace(policy.manifest, space=policy.space[:2])
    with pytest.raises(BundleError, match="inputs"):
        Policy(policy.manifest, vectors._model, policy._files)


def run_python(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loading_and_predicting_import_nothing_heavy(policy, tmp_path):
    folder = policy.save(tmp_path / "policy")
    code = (
        "import sys, json, hagpolicy as hag; policy = hag.load(sys.argv[1]); policy.decide('What is 2?');"
        "policy.evaluation; policy.save(sys.argv[1] + '2');"
        "print(json.dumps([name for name in ('torch', 'transformers', 'onnx', 'sklearn', 'lightgbm', 'pyarrow',"
        " 'scipy', 'pandas') if name in sys.modules]))"
    )
    assert json.loads(run_python(code, str(folder))) == []


def test_without_an_onnxruntime_both_extras_are_named(policy, tmp_path):
    folder = policy.save(tmp_path / "policy")
    code = (
        "import sys, hagpolicy as hag; sys.modules['onnxruntime'] = None\n"
        "from hagpolicy.errors import MissingExtra\n"
        "try: hag.load(sys.argv[1])\n"
        "except MissingExtra as error: print(error)"
    )
    said = run_python(code, str(folder))
    assert "hagpolicy[cpu]" in said
    assert "hagpolicy[gpu]" in said


def test_batches_are_read_as_prompts_are(policy):
    wanted = policy.predict_batch(["What is 2 + 2?", "List 3 rivers."])
    texts = ["What is 2 + 2?", "List 3 rivers."]
    rows = [{"prompt": texts[0], "when": object()}, {"messages": [{"role": "user", "content": texts[1]}]}]
    for given in (iter(texts), np.array(texts), rows):
        assert policy.predict_batch(given) == wanted
    assert [decision.config for decision in policy.decide_batch(iter(rows))] == wanted
    assert policy.predict(rows[0]) == wanted[0]
    for refused in ({"prompt": ["a"]}, b"a", {"train": ["a"]}, Prompt("a")):
        with pytest.raises(InvalidInput, match="prompts"):
            policy.predict_batch(refused)


def test_half_a_surrogate_is_read_and_sent_as_a_question_mark(policy):
    half, clean = f"List 3 \ud83d rivers.{'x ' * 9000}", f"List 3 ? rivers.{'x ' * 9000}"
    for given in (half, [{"role": "user", "content": half}], Prompt(half), {"prompt": half}):
        decisions = [policy.decide(given), policy.decide_batch([given])[0]]
        assert policy.predict(given) == policy.predict(clean) == decisions[0].config
        for decision in decisions:
            assert prompt_text(decision.prompt) == clean
