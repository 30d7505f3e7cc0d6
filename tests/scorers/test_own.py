"""Scorers of the user's own: what a function is given, which range it gives, and functions in files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import hagpolicy as hag
from hagpolicy.cli import main
from hagpolicy.cli.options import parse_map, parse_scorer
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.files import load_function_scorer

PROMPT = hag.Prompt("What is 2 + 2?", reference=4, task="math", metadata={"level": 3})
ANSWER = hag.Completion("It is 4.", tokens=5, finish="stop")


def reward(function, **options) -> hag.Score:
    return hag.FunctionScorer(function, **options).score([(PROMPT, ANSWER)])[0]


def test_a_function_gets_what_its_parameters_name() -> None:
    assert reward(lambda prompt: prompt.metadata["level"] / 3).value == 1.0
    assert reward(lambda reference, text: float(str(reference) in text)).value == 1.0
    assert reward(lambda text, prompt: float(prompt.task == "math" and text == "It is 4.")).value == 1.0
    assert reward(lambda completion: float(completion.tokens == 5)).value == 1.0
    assert reward(lambda anything: float(anything == "It is 4.")).value == 1.0
    with pytest.raises(InvalidInput, match="Name the others after what they get"):
        hag.FunctionScorer(lambda prompt, answer: 1.0)


@pytest.mark.parametrize(("given", "value"), [(1, 0.0), (10, 1.0), (5.5, 0.5)])
def test_another_range_is_brought_to_0_and_1(given: float, value: float) -> None:
    assert reward(lambda text: given, range=(1, 10)).value == value
    assert reward(lambda text: given, range=(10, 1)).value == 1.0 - value


def test_what_is_outside_the_range_is_unscored_and_the_range_is_part_of_the_version() -> None:
    found = reward(lambda text: 11, range=(1, 10))
    assert found.value != found.value
    assert found.reason == "a reward of 11, not in [1, 10]"
    assert reward(lambda text: hag.Score(0.25), range=(1, 10)).value == 0.25
    assert "[1, 10]" in hag.FunctionScorer(reward, range=(1, 10), batch=True).version
    for bad in (None, (1,), (1, 1), ("a", 2), (0, float("inf"))):
        with pytest.raises(InvalidInput, match="range: expected two different numbers"):
            hag.FunctionScorer(lambda text: 1, range=bad)


def test_a_function_in_a_file_is_run_and_versioned_by_the_whole_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "beside.py").write_text("WORD = 'It'", "utf-8")
    path = tmp_path / "mine.py"
    path.write_text("from beside import WORD\ndef good(text):\n    return float(WORD in text)\n", "utf-8")
    scorer = load_function_scorer(f"{path}:good")
    assert f"running {path} for its scorer good" in caplog.text
    assert scorer.score([(PROMPT, ANSWER)])[0].value == 1.0
    path.write_text(f"{path.read_text('utf-8')}\n# changed", "utf-8")
    assert load_function_scorer(f"{path}:good").version != scorer.version
    assert parse_scorer([f"math={path}:good"])["math"].name == "good"
    with pytest.raises(InvalidInput, match="Did you mean 'good'"):
        load_function_scorer(f"{path}:goood")
    with pytest.raises(InvalidInput, match=r"expected file\.py:name"):
        load_function_scorer(f"{tmp_path}/none.py:good")
    path.write_text("1 / 0", "utf-8")
    with pytest.raises(InvalidInput, match="ZeroDivisionError"):
        load_function_scorer(f"{path}:good")


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ('{"a": 1, "b": {"c": "x"}}', 1.0),
        ('```json\n{"b": {"c": " x "}, "a": 1.0}\n```', 1.0),
        ('Sure: {"a": 1, "b": {"c": "x"}} as asked', 1.0),
        ('{"a": 2, "b": {"c": "x"}}', 0.5),
        ('{"a": 1}', 0.5),
        ('{"a": 1, "b": {"c": "x"}, "d": 0}', 2 / 3),
        ('{"a": true, "b": {"c": "x"}}', 0.5),
        ("[]", 0.0),
        ("no JSON", 0.0),
    ],
)
def test_json_match_is_the_share_of_equal_leaves(answer: str, value: float) -> None:
    prompt = hag.Prompt("p", reference={"a": 1, "b": {"c": "x"}})
    scorer = hag.get_scorer("json_match")
    assert scorer.score([(prompt, hag.Completion(answer, tokens=9))])[0].value == pytest.approx(value)
    written = hag.Prompt("p", reference=json.dumps(prompt.reference))
    assert scorer.score([(written, hag.Completion(answer, tokens=9))])[0].value == pytest.approx(value)
    loose = hag.get_scorer({"name": "json_match", "tolerance": 0.1})
    assert loose.score([(hag.Prompt("p", reference=[10]), hag.Completion("[10.5]", tokens=9))])[0].value == 1.0


def test_files_with_other_keys_are_read_by_a_map(tmp_path: Path) -> None:
    rows = [{"question": f"What is {n} + {n}?", "answer": 2 * n, "level": n} for n in range(9)]
    path = tmp_path / "qa.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    table = tmp_path / "qa.csv"
    table.write_text('question,answer,level\n"What is 9, and 9?",18,\n', "utf-8")
    keys = {"prompt": "question", "reference": "answer"}
    found = hag.read_prompts(path, table, keys=keys)
    assert [len(found), found[3].reference, found[3].metadata] == [10, 6, {"level": 3}]
    assert (found[9].text, found[9].reference, found[9].metadata) == ("What is 9, and 9?", "18", {})
    assert len(hag.read_prompts(path, keys=keys, limit=4)) == 4
    with pytest.raises(InvalidInput, match=r"line 1: expected the key 'qestion', got .*Did you mean 'question'"):
        hag.read_prompts(path, keys={"prompt": "qestion"})
    with pytest.raises(InvalidInput, match="Did you mean 'reference'"):
        hag.read_prompts(path, keys={"refrence": "answer"})
    table.write_text("question,answer\na,b,c\n", "utf-8")
    with pytest.raises(InvalidInput, match=r"qa\.csv, line 2: expected 2 cells"):
        hag.read_prompts(table, keys=keys)
    assert parse_map("prompt=question, reference=answer") == keys
    with pytest.raises(InvalidInput, match="--map"):
        parse_map("prompt")


def test_the_command_line_sweeps_ones_own_file_with_ones_own_scorer(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("qa.csv").write_text("question\n" + "\n".join(f"Tell me about {n} ships." for n in range(9)), "utf-8")
    Path("mine.py").write_text("def right(text):\n    return float(text.startswith('right'))\n", "utf-8")
    words = (
        "sweep --engine simulated:0 --prompts qa.csv --map prompt=question --limit 5 --space deterministic --samples 1"
    )
    assert main([*words.split(), "--scorer", "mine.py:right", "--out", "s", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["prompts"] == 5
    assert "running mine.py for its scorer right" in caplog.text
