"""The LLM as its own adviser, with engines that say what they are told to."""

import json
from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.baselines.self_report import SelfReport
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.completion import Completion, Request
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.table import SweepTable
from hagpolicy.data.tuning import SettingsText
from hagpolicy.engines.base import Engine
from hagpolicy.errors import EngineError, InvalidInput

SPACE = DecodingSpace(
    [DecodingConfig(temperature=0.0), DecodingConfig(temperature=0.7), DecodingConfig(temperature=1.0, min_p=0.1)]
)
SAYS = {"maths": '{"temperature": 0}', "story": '{"temperature": 0.8}', "song": "It depends on the song."}


class Scripted(Engine):
    """Answers by the words of the last message; remembers what it was asked."""

    name = "scripted"
    unit_cells = 4

    def __init__(self, weights: str = "a", fails: bool = False) -> None:
        self.asked: list[Request] = []
        self.units: list[int] = []
        self.weights, self.fails = weights, fails

    @property
    def fingerprint(self) -> dict[str, str]:
        return {"kind": "scripted", "weights": self.weights}

    def default_config(self) -> DecodingConfig:
        return DecodingConfig()

    def unsupported(self, config: DecodingConfig) -> list[str]:
        return []

    def generate(self, unit: Sequence[Request]) -> list[Completion]:
        if self.fails:
            raise RuntimeError("no power")
        self.asked += unit
        self.units.append(len(unit))
        return [self._said(request.prompt.content[-1]["content"]) for request in unit]

    def _said(self, question: str) -> Completion:
        if "refused" in question:
            return Completion("", finish="error", error="too long")
        text = next(text for word, text in SAYS.items() if word in question)
        return Completion(text, tokens=10, prompt_tokens=100, seconds=0.5)


def table() -> SweepTable:
    """Twelve prompts of three tasks; each has another best config."""
    tasks = ("maths", "story", "song")
    prompts = [Prompt(f"a {task} number {n}", task=task) for n in range(4) for task in tasks]
    rewards = np.zeros((12, 3, 4))
    for row in range(12):
        rewards[row, row % 3] = 1.0
    return SweepTable.from_arrays(prompts, SPACE, rewards)


def masks(n_train: int = 6) -> tuple[np.ndarray, np.ndarray]:
    train = np.arange(12) < n_train
    return train, ~train


def chosen(baseline: SelfReport, seed: int = 0):
    one = table()
    return baseline.choose(one, one.means, *masks(), seed)


def test_answers_become_choices_and_what_is_no_answer_falls_back():
    engine = Scripted()
    found = chosen(SelfReport(engine))
    assert found.indices.tolist() == [0, 1, -1, 0, 1, -1]  # exact, snapped from 0.8, no settings at all
    assert found.tokens.tolist() == [110.0] * 6
    assert found.seconds.tolist() == [0.5] * 6
    assert engine.units == [4, 2]
    assert {request.config for request in engine.asked} == {DecodingConfig(temperature=0.0)}


def test_folds_share_what_was_answered():
    engine, one = Scripted(), table()
    baseline = SelfReport(engine)
    train, test = masks()
    first = baseline.choose(one, one.means, train, test, 0)
    again = baseline.choose(one, -one.means, train, test, 1)  # without examples neither rewards nor seed matter
    assert again.indices.tolist() == first.indices.tolist()
    assert len(engine.asked) == 6
    baseline.choose(one, one.means, test, train, 0)
    assert len(engine.asked) == 12


def test_without_examples_made_up_ones_show_the_form():
    one, engine = table(), Scripted()
    SelfReport(engine).choose(one, one.means, *masks(), 0)
    turns = [turn["content"] for turn in engine.asked[0].prompt.content]
    assert turns[1::2] == ['{"temperature": 1, "min_p": 0.1}', '{"temperature": 0}']
    assert "temperature: 0, 0.7, 1" in turns[0]
    assert not any(prompt.text in turn for prompt in one.prompts for turn in turns[:-1])
    assert one.prompts[6].text in turns[-1]


def test_examples_are_of_different_tasks_and_settings_and_of_the_training_part():
    one, engine = table(), Scripted()
    train, test = masks()
    baseline = SelfReport(engine, 3)
    shown = baseline.shown(one, one.means, train, 0)
    assert {config for _, config in shown} == set(SPACE)
    trained = [prompt.text for prompt, used in zip(one.prompts, train, strict=True) if used]
    assert {text for text, _ in shown} < set(trained)
    assert {text.split()[1] for text, _ in shown} == {"maths", "story", "song"}
    baseline.choose(one, one.means, train, test, 0)
    turns = [turn["content"] for turn in engine.asked[0].prompt.content]
    assert turns[1::2] == [SettingsText(SPACE).write(config) for _, config in shown]
    assert all(text in turn for (text, _), turn in zip(shown, turns[::2], strict=False))
    assert "temperature: 0, 0.7, 1" in turns[0]  # the first question says what there is to choose, and it alone
    assert "temperature: 0, 0.7, 1" not in turns[2]
    assert baseline.shown(one, one.means, train, 0) == shown
    assert any(baseline.shown(one, one.means, train, seed) != shown for seed in range(1, 5))
    assert len(SelfReport(engine, 50).shown(one, one.means, train, 0)) == train.sum()


def test_examples_by_reward_are_the_same_under_every_objective(tmp_path):
    one, engine = table(), Scripted()
    train, test = masks()
    path = tmp_path / "self_report_3_shot.jsonl"
    by_reward = SelfReport(engine, 3, by_reward=True, cache=path)
    costly = one.means - np.arange(3.0)
    assert by_reward.shown(one, costly, train, 0) == by_reward.shown(one, one.means, train, 0)
    assert SelfReport(engine, 3).shown(one, costly, train, 0) != by_reward.shown(one, costly, train, 0)
    first = by_reward.choose(one, one.means, train, test, 0)
    stored = SelfReport.from_results(tmp_path, 3).choose(one, costly, train, test, 0)
    assert stored.indices.tolist() == first.indices.tolist()
    with pytest.raises(InvalidInput, match=r"self_report\.jsonl"):
        SelfReport.from_results(tmp_path)


def test_prompts_on_which_settings_make_no_difference_are_no_examples():
    one = table()
    values = one.means.copy()
    values[1:6] = 0.5
    shown = SelfReport(None, 2).shown(one, values, masks()[0], 0)
    assert shown == [(one.prompts[0].text, SPACE[0])]


def test_a_tuned_engine_is_asked_in_the_words_it_was_tuned_on(tmp_path):
    one, engine = table(), Scripted()
    one.to_instruction_tuning(tmp_path / "labels.jsonl")
    chosen(SelfReport(engine, tuned=True))
    written = [json.loads(line)["messages"][0] for line in (tmp_path / "labels.jsonl").read_text("utf-8").splitlines()]
    asked = [[dict(turn) for turn in request.prompt.content] for request in engine.asked]
    assert asked == [[turn] for turn in written[6:]]


def test_stored_answers_need_no_engine(tmp_path):
    cache = tmp_path / "answers" / "zero.jsonl"
    made: list[Engine] = []

    def load() -> Engine:
        made.append(Scripted())
        return made[-1]

    first = chosen(SelfReport(load, cache=cache))
    assert len(made) == 1
    stored = chosen(SelfReport(None, cache=cache))
    assert stored.indices.tolist() == first.indices.tolist()
    assert stored.tokens.tolist() == first.tokens.tolist()
    chosen(SelfReport(load, cache=cache))
    assert len(made) == 1
    with pytest.raises(InvalidInput, match="6 to answer"):
        SelfReport(None, 2, cache=cache).choose(table(), table().means, *masks(), 0)


def test_a_torn_line_is_asked_again_and_a_strange_one_refused(tmp_path):
    cache = tmp_path / "zero.jsonl"
    chosen(SelfReport(Scripted(), cache=cache))
    cache.write_text(cache.read_text("utf-8")[:-20], "utf-8")
    engine = Scripted()
    found = chosen(SelfReport(engine, cache=cache))
    assert len(engine.asked) == 1
    assert chosen(SelfReport(None, cache=cache)).indices.tolist() == found.indices.tolist()
    cache.write_text('{"prompt": "no answer"}\n', "utf-8")
    with pytest.raises(InvalidInput, match="line 1"):
        SelfReport(None, cache=cache)


def test_answers_of_two_engines_are_not_mixed(tmp_path):
    cache = tmp_path / "zero.jsonl"
    one = table()
    SelfReport(Scripted("a"), cache=cache).choose(one, one.means, *masks(10), 0)
    with pytest.raises(InvalidInput, match="another engine"):
        SelfReport(Scripted("b"), cache=cache).choose(one, one.means, *masks(8), 0)


def test_what_the_engine_cannot_take_falls_back_and_is_not_stored(tmp_path):
    cache = tmp_path / "zero.jsonl"
    prompts = ["a maths task", "a refused one"]
    one = SweepTable.from_arrays(prompts, SPACE, np.zeros((2, 3)))
    every = np.ones(2, dtype=bool)
    found = SelfReport(Scripted(), cache=cache).choose(one, one.means, every, every, 0)
    assert found.indices.tolist() == [0, -1]
    assert len(cache.read_text("utf-8").split()) > 0
    engine = Scripted()
    SelfReport(engine, cache=cache).choose(one, one.means, every, every, 0)
    assert len(engine.asked) == 1
    with pytest.raises(EngineError, match="no power"):
        SelfReport(Scripted(fails=True)).choose(one, one.means, every, every, 0)


@pytest.mark.parametrize("options", [{"examples": -1}, {"examples": True}, {"examples": 2, "tuned": True}])
def test_options_that_do_not_fit(options):
    with pytest.raises(InvalidInput, match="examples"):
        SelfReport(None, **options)


def test_names_tell_the_kinds_apart():
    names = [SelfReport(None).name, SelfReport(None, 4).name, SelfReport(None, tuned=True).name]
    assert names == ["self_report", "self_report_4_shot", "self_report_tuned"]
    # Asked plainly, the LLM knows nothing of the sweep: its choices do not err together.
    assert [one.learns for one in (SelfReport(None), SelfReport(None, 4), SelfReport(None, tuned=True))] == [
        False,
        True,
        True,
    ]


def test_it_stands_in_the_comparison_with_its_fallbacks():
    pytest.importorskip("sklearn")
    from hagpolicy import fit

    policy = fit(table(), learner="constant", baselines=[SelfReport(Scripted())])
    row, found = policy.evaluation.row("self_report"), table()
    songs = np.array([prompt.task == "song" for prompt in found.prompts])
    assert row.note == f"fell back for {songs.mean():.0%}"
    # What it names where it names something; elsewhere the single best config, which is judged on other prompts.
    named = np.array([{"maths": 0, "story": 1}.get(prompt.task, -1) for prompt in found.prompts])
    means = found.means[np.arange(len(named)), named]
    sbs = policy.evaluation.row("sbs").value
    assert row.value == pytest.approx((means[~songs].sum() + sbs * songs.sum()) / len(songs), abs=0.1)


@pytest.mark.llm
def test_the_real_llm_is_asked_and_its_answer_counted(smollm):
    one = SweepTable.from_arrays(["What is 3 + 4?"], SPACE, np.zeros((1, 3)))
    baseline = SelfReport(smollm, max_tokens=8)
    every = np.ones(1, dtype=bool)
    (answer,) = baseline.ask(baseline.questions(one, one.means, every, every, 0))
    assert 1 <= answer.tokens <= 8
    assert answer.prompt_tokens > 50
    assert answer.seconds > 0.0


def test_asking_is_paid_for_once_for_the_same_questions(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from benchmarks.baselines import asking

    measured = []
    monkeypatch.setattr(asking, "COSTS", tmp_path / "costs.json")
    outcome = {"pairs": [[2.0, 0.001], [3.0, 0.001]], "batched": 0.5}
    monkeypatch.setattr(asking, "_measured", lambda baseline, questions, *_: measured.append(questions) or outcome)
    questions = [[{"role": "user", "content": f"question {number}"}] for number in range(2)]
    for asked in (questions, questions, questions[:1]):
        figures = asking.cost("self_report", SelfReport(None), asked, ["a", "b"], lambda: None)
    assert measured == [questions, questions[:1]]
    ratio = next(item for item in figures if item.name.endswith("stage one, batch 1 / predict"))
    assert ratio.value == pytest.approx(2500.0)


def test_adapters_learn_labels_and_leave_the_model_as_it_was(tmp_path, monkeypatch):
    pytest.importorskip("peft")
    torch = pytest.importorskip("torch")
    from benchmarks.baselines import lora
    from hagpolicy.engines.transformers.engine import TransformersEngine
    from tests.support.tiny_llama import tiny_model, tiny_tokenizer

    monkeypatch.setattr(lora, "BATCH", 2)
    monkeypatch.setattr(lora, "RATE", 5e-3)
    labels = {"what is the sum": "red blue", "why sky": "green", "count to ten": "red blue", "name three": "green"}
    chats = [[{"role": "user", "content": ask}, {"role": "assistant", "content": say}] for ask, say in labels.items()]
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats), "utf-8")
    engine = TransformersEngine(tiny_model(), tiny_tokenizer())
    before = {name: weight.clone() for name, weight in engine.model.state_dict().items()}
    losses = lora.tune(engine, path, epochs=30)
    assert losses[-1] < 0.5 * losses[0]
    requests = [Request(Prompt((chat[0],)), DecodingConfig(temperature=0.0), 0, 0, 4) for chat in chats]
    assert [done.text for done in engine.generate(requests)] == list(labels.values())
    kept = {name.replace(".base_layer", ""): weight for name, weight in engine.model.state_dict().items()}
    assert all(torch.equal(weight, kept[name]) for name, weight in before.items())
