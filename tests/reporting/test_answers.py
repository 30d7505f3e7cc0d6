"""Answers to look at: what is picked, what is shown of it, in the command line and in the report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import hagpolicy as hag
from hagpolicy.cli import main
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.errors import InvalidInput
from hagpolicy.reporting.answers import (
    find_configs,
    find_prompts,
    measure_disagreement,
    pick_prompts,
    show_answers,
    summarise_endings,
)
from tests.reporting.tables import Page

SPACE = hag.DecodingSpace.grid(temperature=[0.0, 0.7])


class Parrot(hag.Engine):
    """Answers with the prompt's own script: what follows "greedy:" or "sampled:"."""

    name, fingerprint, handles = "parrot", {"kind": "parrot"}, frozenset({"temperature"})

    def default_config(self) -> hag.DecodingConfig:
        return SPACE[0]

    def generate(self, unit):
        return [self.answer(request) for request in unit]

    def answer(self, request):
        greedy, sampled = request.prompt.text.split("|")
        text = greedy if request.config.deterministic else sampled
        if text == "fail":
            return hag.Completion("", finish="error", error="no room")
        return hag.Completion(text, tokens=1, finish="length" if text.startswith("long") else "stop")


def score(text: str, reference: object) -> float:
    if text == "unreadable":
        raise ValueError("no number")
    return float("good" in text)


PROMPTS = [
    hag.Prompt("good|bad", id="apart", task="a"),
    hag.Prompt("good|good", id="fine", task="a"),
    hag.Prompt("bad|bad", id="low", task="b", reference="good"),
    hag.Prompt(f"good|{'long good and so on and on ' * 20}", id="loop", task="b"),
    hag.Prompt("unreadable|fail", id="none", task="b"),
    hag.Prompt("\x1b[31mbad|good", id="colour", task="b"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shown") / "sweep"
    hag.sweep(Parrot(), PROMPTS, SPACE, score, samples=2, out=out, progress=False)
    return out


def test_texts_are_read_where_they_are_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    table = hag.load_table(folder.name)
    assert table.texts is not None
    monkeypatch.chdir("/")  # the folder is found from elsewhere too
    assert table.texts.shape == table.rewards.shape
    assert (table.texts[0, 0, 0], table.texts[0, 1, 1], table.texts[0, 0, 1]) == ("good", "bad", None)
    part = table.take(np.array([2, 0])).in_space(SPACE[1:])
    assert part.texts is not None
    assert part.texts[:, 0, 0].tolist() == ["bad", "bad"]
    answer = table.texts.read((3, 1, 0))
    assert (answer.finish, answer.tokens, answer.reason) == ("length", 1, "")
    assert table.texts.read((4, 0, 0)).reason == "ValueError: no number"
    assert table.texts.read((4, 1, 0)).reason == "engine error: no room"
    assert hag.SweepTable.from_arrays(["a", "b"], SPACE, [[0, 1], [1, 0]]).texts is None
    with pytest.raises(IndexError):
        table.texts[99, 0, 0]


def test_a_scan_comes_upon_every_answer_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a part with a prompt that stands twice too; and it opens the folder once, however many prompts there are."""
    table = hag.load_table(folder)
    part = table.take(np.array([4, 0, 2, 0])).in_space(SPACE[::-1])
    for one in (table, part):
        assert one.texts is not None
        found, finishes = np.full(one.texts.shape, None), np.full(one.texts.shape, None)
        for some in one.texts.scan():
            where = some.prompts, some.configs, some.samples
            assert all(text is None for text in found[where])
            found[where], finishes[where] = some.texts, some.finishes
        assert found.tolist() == one.texts[:].tolist()
        read = one.texts.read(slice(None))
        assert finishes.tolist() == [[[a and a.finish for a in row] for row in rows] for rows in read]
    opened = []
    real = SweepStore.__init__
    monkeypatch.setattr(
        SweepStore, "__init__", lambda self, *given, **more: (opened.append(1), real(self, *given, **more))[1]
    )
    summarise_endings(table)
    hag.effects(table)
    assert len(opened) == 2


def test_what_is_picked(folder: Path) -> None:
    table = hag.load_table(folder)
    assert pick_prompts(table, "worst", 1) == [(2, "worst")]
    assert [number for number, _ in pick_prompts(table, "best", 2)] == [1, 3]
    assert {number for number, _ in pick_prompts(table, "disagreeing", 2)} == {0, 5}
    assert [number for number, _ in pick_prompts(table, "worst", 9, table.tasks == "a")] == [0, 1]
    assert 4 not in [number for number, _ in pick_prompts(table, "worst", 9)]  # nothing of it is scored
    assert find_prompts(table, "loop") == [(3, "")]
    assert find_prompts(table, "1") == [(1, "")]
    assert [number for number, _ in find_prompts(table, "GOOD|bad")] == [0]
    assert find_configs(table, "default") == [0]
    assert find_configs(table, "temperature 0.7") == [1]
    for find in (find_prompts, find_configs):
        with pytest.raises(InvalidInput, match="got nothing of the kind"):
            find(table, "nothing of the kind")


def test_noise_within_cells_is_no_disagreement() -> None:
    space = hag.DecodingSpace.grid(temperature=[0.5, 0.7, 1.0])
    chance = np.random.default_rng(0)
    rewards = (chance.random((400, 3, 4)) < 0.5).astype(float)
    rewards[:40] = (chance.random((40, 3, 4)) < np.array([0.95, 0.5, 0.05])[:, None]).astype(float)
    found = measure_disagreement(hag.SweepTable.from_arrays([f"p{n}" for n in range(400)], space, rewards))
    assert abs(found[40:].mean()) < 0.01
    most = found >= np.sort(found)[-40]  # several are equal there
    assert most[:40].mean() > 0.7
    assert most[40:].mean() < 0.05


def test_what_is_shown_says_how_answers_end(folder: Path) -> None:
    table = hag.load_table(folder)
    (shown,) = show_answers(table, [(3, "")])
    assert str(shown).splitlines()[0] == "prompt 3 · id loop · b"
    assert "ends in a loop, cut at the limit" in str(shown)
    assert "greedy (the default)" in str(shown)
    assert len(show_answers(table, [(3, "")], samples=None)[0].answers) == 3
    endings = summarise_endings(table)
    assert [row["answers"] for row in endings] == [6, 10]
    assert [row["looping"] for row in endings] == [0.0, 0.2]
    assert [row["cut"] for row in endings] == [0.0, 0.2]
    with pytest.raises(InvalidInput, match="one made elsewhere"):
        show_answers(hag.SweepTable.from_arrays(["a", "b"], SPACE, [[0, 1], [1, 0]]), [(0, "")])


def test_the_command_line_shows_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(folder), "--prompt", "colour", "--config", "default"]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "0.00  greedy (the default)" in said
    assert main(["show", str(folder), "--worst", "1", "--task", "b", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["id"], found["answers"][0]["text"], found["answers"][0]["reward"]) == ("low", "bad", 0.0)
    assert main(["show", str(folder)]) == 0
    assert "· worst" in capsys.readouterr().out
    assert main(["show", str(folder), "--task", "c"]) == 2
    assert "--task: expected one of a, b" in capsys.readouterr().err


def test_the_report_shows_them_as_text(folder: Path, tmp_path: Path) -> None:
    table = hag.load_table(folder)
    page = Page(hag.write_report(tmp_path / "r.html", table=table).read_text("utf-8"))
    assert "disagreeing · b · " in page.words
    assert "ends in a loop, cut at the limit" in page.words
    plain = hag.SweepTable.from_arrays(["a", "b"] * 10, SPACE, np.eye(2)[np.arange(20) % 2])
    assert "How answers end" not in hag.write_report(tmp_path / "s.html", table=plain).read_text("utf-8")


@pytest.mark.parametrize(
    ("value", "said"), [(0.0, "is it the right scorer"), (1.0, "too easily"), (0.5, "does it read")]
)
def test_a_task_whose_rewards_are_all_equal_is_told(value: float, said: str) -> None:
    rewards = np.random.default_rng(0).random((40, 2, 2))
    rewards[:20] = value
    prompts = [hag.Prompt(f"prompt {number}", task="json" if number < 20 else "math") for number in range(40)]
    table = hag.SweepTable.from_arrays(prompts, SPACE, rewards)
    (warning,) = [warning for warning in hag.headroom(table).warnings if "task 'json'" in warning]
    assert f"are {value:g}" in warning
    assert said in warning


def test_a_scorer_that_never_reads_the_answer_is_told() -> None:
    by_prompt = np.random.default_rng(0).random((40, 1, 1)) * np.ones((40, 2, 2))
    (warning,) = hag.headroom(hag.SweepTable.from_arrays([f"p{n}" for n in range(40)], SPACE, by_prompt)).warnings[:1]
    assert "every prompt: its scorer rewards every configuration of a prompt alike" in warning
    by_prompt[0, 1] = 1.0 - by_prompt[0, 1]
    table = hag.SweepTable.from_arrays([f"p{n}" for n in range(40)], SPACE, by_prompt)
    assert not any("alike" in warning for warning in hag.headroom(table).warnings)


def test_tasks_without_rewards_are_told_with_an_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no reward was given at all, and where one config never gets one; a policy keeps no answer of them."""
    half = [hag.Prompt(f"good number {n}|unreadable", task="half") for n in range(12)]
    fine = [hag.Prompt(f"good {n}|{'good' if n % 3 else 'bad'} {n}", task="fine") for n in range(60)]
    none = [hag.Prompt("unreadable|unreadable", id=str(n), task="none") for n in range(12)]
    table = hag.sweep(Parrot(), [*fine, *none, *half], SPACE, score, samples=2, out=tmp_path / "s", progress=False)
    found = hag.headroom(table)
    (first,) = [warning for warning in found.warnings if "task 'none'" in warning]
    assert "no answer has a reward" in first
    assert first.endswith(", such as 'unreadable' (ValueError: no number)")
    (second,) = [warning for warning in found.warnings if "task 'half'" in warning]
    assert "most prompts lack a reward" in second
    assert second.endswith(", such as 'unreadable' (ValueError: no number)")
    policy = hag.fit(table, learner="ridge")
    kept = policy.evaluation.warnings
    assert any("task 'none'" in warning for warning in kept)
    assert not any("such as 'unreadable'" in warning for warning in kept)
    words = Page(hag.write_report(tmp_path / "r.html", table=table, policy=policy).read_text("utf-8")).words
    assert words.count("task 'none'") == 1
    assert main(["rescore", str(tmp_path / "s"), "--scorer", "json_valid"]) == 0
    assert "warning: tasks 'fine', 'none', 'half': " in capsys.readouterr().out


def test_a_folder_that_has_gone_costs_the_example_alone(tmp_path: Path) -> None:
    prompts = [hag.Prompt(f"bad|bad {n}") for n in range(30)]
    table = hag.sweep(Parrot(), prompts, SPACE, score, samples=1, out=tmp_path / "s", progress=False)
    assert ", such as 'bad" in hag.headroom(table).warnings[0]
    shutil.rmtree(tmp_path / "s")
    assert hag.headroom(table).warnings[0].endswith("`hagpolicy show` shows some")
