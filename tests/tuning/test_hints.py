"""Tuned hints: an engine of known truth proposes, the race keeps what helps, and proves nothing on its own prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

import hagpolicy as hag
from hagpolicy.cli import main
from hagpolicy.cli.exit_codes import BAD_INPUT, DONE
from hagpolicy.errors import InvalidInput, StoreError
from hagpolicy.tuning.hints import EXAMPLES, HINTS_FILE, make_questions, parse_hint

# What it proposes, in turn, with the task that each helps; the last gives an answer away.
PROPOSALS = {
    'Instruction: "Name the colour only."': "colours",
    "1. Count on your fingers first.": "sums",
    "Be nice and kind.": "",
    "Say no": "",
    "Hm": "",
    "The answer is always crimson red.": "colours",
}
HELPS = {parse_hint(text): task for text, task in PROPOSALS.items()}


class Scripted(hag.Engine):
    """Proposes the hints above, and answers right where the hint in its prompt helps the prompt's task."""

    name = "scripted"
    fingerprint: Mapping[str, str] = MappingProxyType({"kind": "scripted", "model": "scripted", "version": "1"})
    handles = frozenset({"temperature", "hint"})

    def __init__(self) -> None:
        self.asked = 0

    def default_config(self) -> hag.DecodingConfig:
        return hag.DecodingConfig()

    def generate(self, unit: Sequence[hag.Request]) -> list[hag.Completion]:
        self.asked += len(unit)
        return [hag.Completion(self.answer(request), 5, 5) for request in unit]

    def answer(self, request: hag.Request) -> str:
        if "Write one short instruction" in request.prompt.text:
            number = int((request.prompt.id or "").split("-")[1]) * 4 + request.sample
            return list(PROPOSALS)[number % len(PROPOSALS)]
        helps = HELPS.get(request.config.hint) == request.prompt.task
        return str(request.prompt.reference) if helps or hash_of(request) < 0.3 else "wrong"


def hash_of(request: hag.Request) -> float:
    return int(request.prompt.digest[:8], 16) / 2**32


def prompts(n: int, start: int = 0) -> list[hag.Prompt]:
    shown = {"colours": "What colour has thing {}?", "sums": "How much is {} and one?"}
    return [
        hag.Prompt(shown[task].format(number), f"{'crimson red' if task == 'colours' else 'seven'} {number}", task)
        for number in range(start, start + n // 2)
        for task in shown
    ]


def tune(engine: hag.Engine, out: Path, **options: object) -> hag.TunedHints:
    return hag.tune_hints(engine, prompts(80), "exact_match", out, **{"proposals": 8, "progress": False, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Answer with one word.", "Answer with one word."),
        ('\n  **Instruction:** "Answer  with one word."\nBecause …', "Answer with one word."),
        ("- Use `these` words", "Use `these` words"),
        ("2) Hint: List them.", "List them."),
        ("Here is a simple instruction:\n\n1. List them.", "List them."),
        ("Yes", ""),
        ("", ""),
        ("word " * 31, ""),
        ("Answer\x1b[0m with care", ""),
    ],
)
def test_what_is_taken_of_an_answer(text: str, hint: str) -> None:
    assert parse_hint(text) == hint


def test_questions_show_requests_of_one_task_with_their_answers() -> None:
    known = prompts(40)
    questions = make_questions([*known, hag.Prompt("no answer is known", task="open")], 4, seed=0)
    assert len({question.text for question in questions}) == 4
    for question, task in zip(questions, ("colours", "sums") * 2, strict=True):
        shown = [one for one in known if one.text in question.text]
        assert len(shown) == EXAMPLES
        assert {one.task for one in shown} == {task}
        assert all(f"Good answer: {one.reference}" in question.text for one in shown)
    half = [one.text for one in known[20:]]
    assert not [text for text in half for question in questions if text in question.text]
    for too_few in ([hag.Prompt("a"), hag.Prompt("b", "c")], [hag.Prompt("a")]):
        with pytest.raises(InvalidInput, match="prompts: expected at least two with a reference"):
            make_questions(too_few, 1, seed=0)


def test_the_hints_that_help_are_kept_and_those_that_give_answers_away_are_not(tmp_path: Path) -> None:
    # "crimson red" alone is no reference here, "crimson red 0" is: a part of one may be a word of the task.
    given = [prompt for prompt in prompts(80) if prompt.task == "sums"]
    given += [hag.Prompt(prompt.text, "crimson red", "colours") for prompt in prompts(80) if prompt.task == "colours"]
    engine = Scripted()
    tuned = hag.tune_hints(
        engine, given, "exact_match", tmp_path, proposals=8, hints=["Cover: {keywords}"], progress=False
    )
    assert (tuned.proposed, tuned.usable) == (8, 4)
    assert set(tuned.hints[:2]) == {"Name the colour only.", "Count on your fingers first."}
    assert not tuned.space[0].hint
    assert tuned.suggestion is not None
    raced = {row.config.hint for row in tuned.suggestion.configs}
    assert raced == {"", "Cover: {keywords}", *(hint for hint in HELPS if hint and "crimson" not in hint)}
    assert "4 of 8 answers" in str(tuned)


def test_the_same_call_generates_nothing_again_and_the_result_is_read_back(tmp_path: Path) -> None:
    engine = Scripted()
    first = tune(engine, tmp_path)
    asked = engine.asked
    assert tune(engine, tmp_path) == first == hag.TunedHints.load(tmp_path)
    assert engine.asked == asked
    assert "thing 1" not in (tmp_path / HINTS_FILE).read_text("utf-8")


def test_what_hints_were_made_from_is_left_out_of_sweeps_and_proofs(tmp_path: Path) -> None:
    tuned = tune(Scripted(), tmp_path / "tuned")
    with pytest.raises(InvalidInput, match="got 0, without 80 of 80 prompts"):
        hag.headroom(hag.load_table(tmp_path / "tuned" / "scores"))
    beside = hag.Prompt("new words", "x", "sums", group="g")
    known = [*prompts(40), *prompts(60, start=100), beside]
    options = {"samples": 1, "progress": False}
    table = hag.sweep(Scripted(), known, tuned, "exact_match", out=tmp_path / "sweep", **options)
    assert table.prompts == tuple(known[40:])
    whole = hag.sweep(Scripted(), known, list(tuned), "exact_match", out=tmp_path / "plain", **options)
    assert len(whole.prompts) == len(known)  # plain configs say nothing of their origin
    more = tuned.with_configs([hag.DecodingConfig(temperature=0.5)])
    assert (len(more), more.origins) == (len(tuned) + 1, tuned.origins)
    assert hag.load_table(tmp_path / "sweep").origins == table.origins != ()


def test_a_folder_of_tuned_hints_is_a_space_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = hag.SimulatedEngine(3)
    known = [hag.Prompt(prompt.text, "right", prompt.task) for prompt in world.prompts(60)]
    hag.tune_hints(world, known, world.scorer, tmp_path / "tuned", proposals=4, max_tokens=8, progress=False)
    rows = [{"prompt": prompt.text, "task": prompt.task} for prompt in (*known[:7], *world.prompts(30, seed=8))]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["sweep", "--engine", "simulated:3", "--prompts", str(tmp_path / "prompts.jsonl"), "--max-tokens", "8"]
    assert main([*words, "--space", str(tmp_path / "tuned"), "--out", str(tmp_path / "sweep"), "--quiet"]) == DONE
    assert len(hag.load_table(tmp_path / "sweep").prompts) == 30
    assert main([*words, "--space", str(tmp_path / "sweep"), "--out", str(tmp_path / "s"), "--quiet"]) == BAD_INPUT
    assert "holds no tuned hints" in capsys.readouterr().err


def test_bad_arguments_and_a_damaged_result_are_refused(tmp_path: Path) -> None:
    for options, match in (
        ({"proposals": 0}, "proposals: expected"),
        ({"keep": 16}, r"keep: expected a whole number in \[1, 15\]"),
        ({"hints": "one"}, "hints: expected a list of texts"),
        ({"hints": [""]}, "hints: expected a list of texts"),
    ):
        with pytest.raises(InvalidInput, match=match):
            tune(Scripted(), tmp_path / "none", **options)
    assert not (tmp_path / "none").exists()

    class Mute(Scripted):
        def answer(self, request: hag.Request) -> str:
            return "Hm"

    with pytest.raises(InvalidInput, match="at least one usable hint"):
        tune(Mute(), tmp_path / "mute")
    for content in ("{", '{"format_version": 2}', '{"format_version": 1, "space": []}'):
        (tmp_path / HINTS_FILE).write_text(content)
        with pytest.raises(StoreError, match="holds no tuned hints"):
            hag.TunedHints.load(tmp_path)
