"""The reward model, on randomly initialised classifiers that are saved to a folder and loaded for real."""

from __future__ import annotations

import json
import math

import pytest

from hagpolicy import Prompt
from hagpolicy.data.completion import Completion
from hagpolicy.errors import EngineError, InvalidInput
from hagpolicy.scorers.registry import assign_scorers, get_scorer
from hagpolicy.scorers.reward_model import RewardModel, reward_quantiles
from tests.support.tiny_llama import save_classifier, tiny_model, tiny_tokenizer

torch = pytest.importorskip("torch")
ANSWERS = ["red green blue", "ten", "the sum of ten red colours is ten .", "hello " * 30, "sky why sky", "blue"]
ITEMS = [(Prompt("name three colours"), Completion(text)) for text in ANSWERS]
PAIRS = [("name three colours", text) for text in ANSWERS]


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("pad", [0, None])
def test_rewards_are_the_models_scores_between_the_stated_values(tmp_path, chat, pad):
    folder, model = save_classifier(tmp_path, chat=chat, pad=pad)
    tokenizer = tiny_tokenizer(chat=chat)
    scorer = RewardModel(folder, -1.0, 1.5, device="cpu")
    scores = scorer.score(ITEMS)
    assert len({score.value for score in scores}) > 3
    for text, score in zip(ANSWERS, scores, strict=True):
        if chat:
            said = [{"role": "user", "content": "name three colours"}, {"role": "assistant", "content": text}]
            encoded = tokenizer.apply_chat_template(said, return_tensors="pt", return_dict=True)
        else:
            encoded = tokenizer("name three colours", text, return_tensors="pt")
        with torch.inference_mode():
            raw = model(**encoded).logits.item()
        assert score.value == pytest.approx(min(max((raw + 1.0) / 2.5, 0.0), 1.0), abs=2e-5)
        assert float(score.answer) == pytest.approx(raw, rel=1e-3)
        (alone,) = scorer.score([(Prompt("name three colours"), Completion(text))])
        assert alone.value == pytest.approx(score.value, abs=1.1e-5)


def test_quantiles_of_given_texts_spread_the_rewards(tmp_path):
    folder, _ = save_classifier(tmp_path)
    low, high = reward_quantiles(folder, PAIRS, device="cpu", share=0.0)
    values = [score.value for score in RewardModel(folder, low, high, device="cpu").score(ITEMS)]
    assert min(values) == 0.0
    assert max(values) == 1.0
    inner = reward_quantiles(folder, PAIRS, device="cpu")
    assert low < inner[0] < inner[1] < high
    narrow = [score.value for score in RewardModel(folder, *inner, device="cpu").score(ITEMS)]
    assert (min(narrow), max(narrow)) == (0.0, 1.0)  # what lies beyond is held
    with pytest.raises(InvalidInput, match="at least two texts"):
        reward_quantiles(folder, PAIRS[:1], device="cpu")
    with pytest.raises(InvalidInput, match="share"):
        reward_quantiles(folder, PAIRS, device="cpu", share=0.5)


def test_chat_messages_keep_their_roles(tmp_path):
    folder, _ = save_classifier(tmp_path)
    scorer = RewardModel(folder, -3.0, 3.0, device="cpu")
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "count to ten"}]
    texts = [turns, turns[::-1], "be brief\n\ncount to ten"]
    values = {scorer.score([(Prompt(text), Completion("ten"))])[0].answer for text in texts}
    assert len(values) == 3


def test_what_does_not_fit_the_context_is_not_cut(tmp_path):
    folder, _ = save_classifier(tmp_path)
    scorer = RewardModel(folder, -3.0, 3.0, device="cpu")
    long, short = scorer.score([(Prompt("count"), Completion("ten " * 80)), ITEMS[0]])
    assert math.isnan(long.value)
    assert "the model's context 64" in long.reason
    assert short.reason is None


def test_another_model_or_other_values_are_another_version(tmp_path):
    first, _ = save_classifier(tmp_path / "first")
    second, _ = save_classifier(tmp_path / "second", seed=1)
    plain, _ = save_classifier(tmp_path / "plain", chat=False)
    copied, _ = save_classifier(tmp_path / "copied")
    version = RewardModel(first, -1, 1, device="cpu").version
    assert RewardModel(copied, -1.0, 1.0, device="cpu").version == version
    others = {
        RewardModel(second, -1, 1, device="cpu").version,
        RewardModel(plain, -1, 1, device="cpu").version,
        RewardModel(first, -1, 2, device="cpu").version,
        RewardModel(first, -2, 1, device="cpu").version,
    }
    assert len(others | {version}) == 5


def test_what_is_no_reward_model_is_refused(tmp_path):
    two, _ = save_classifier(tmp_path / "two", labels=2)
    with pytest.raises(InvalidInput, match="one output"):
        RewardModel(two, -1, 1, device="cpu")
    # A language model loads as a classifier with a random head, and would give every answer a random reward.
    tiny_model().save_pretrained(tmp_path / "llm")
    tiny_tokenizer().save_pretrained(tmp_path / "llm")
    config = json.loads((tmp_path / "llm" / "config.json").read_text("utf-8")) | {"num_labels": 1}
    (tmp_path / "llm" / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(EngineError, match=r"no trained classifier.*score\.weight"):
        RewardModel(tmp_path / "llm", -1, 1, device="cpu")
    with pytest.raises(EngineError, match="could not load"):
        RewardModel(tmp_path / "nothing", -1, 1, device="cpu")
    for low, high in ((1, 1), (2, 1), (math.nan, 1), (0, math.inf), ("0", 1), (True, 2)):
        with pytest.raises(InvalidInput, match=r"reward_model\.(low|high)"):
            RewardModel(two, low, high)
    with pytest.raises(InvalidInput, match="options low, high"):
        get_scorer({"name": "reward_model", "model": "x"})


def test_tasks_that_say_the_same_share_one_model(tmp_path):
    folder, _ = save_classifier(tmp_path)
    spec = {"name": "reward_model", "model": str(folder), "low": -1, "high": 1, "device": "cpu"}
    prompts = [Prompt("count", task=task) for task in ("a", "b", "c")]
    first, second, third = assign_scorers({"a": spec, "b": dict(spec), "c": {**spec, "high": 2}}, prompts)
    assert first is second
    assert first is not third
    assert first.check(prompts[0]) is None
