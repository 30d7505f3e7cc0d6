"""The way to a first result: the shop's prompts, what a terminal keeps of bars, the page."""

from __future__ import annotations

import json
import shlex
from collections import Counter, defaultdict

import pytest

from benchmarks.claims.sweeping.first_result import COMMANDS, check_prompts, keep_last_states
from benchmarks.tools.shop_prompts import SCORERS, make_rows
from benchmarks.tools.transcript import ABOUT, first_result_page, fold_command
from hagpolicy import Completion, get_scorer
from hagpolicy.cli.parser import build_parser
from hagpolicy.data.prompts import as_prompts

RIGHT = {
    "gifts": lambda reference: "\n".join(f"{at}. gift number {'abcdefgh'[at]}" for at in range(reference)),
    "orders": json.dumps,
    "replies": lambda reference: f"Good news: your {reference[0]} comes on {reference[1]}.",
    "totals": lambda reference: f"That is {reference} euros.",
}


def test_the_prompts_are_a_users_own_and_can_be_answered() -> None:
    check_prompts()
    prompts = as_prompts(make_rows())
    for prompt in prompts:
        completion = Completion(RIGHT[prompt.task](prompt.reference), tokens=9)
        assert get_scorer(SCORERS[prompt.task]).score([(prompt, completion)])[0].value == 1.0, prompt


def test_prompts_about_one_thing_are_one_group_of_one_task() -> None:
    tasks = defaultdict(set)
    for row in make_rows():
        tasks[row["group"]].add(row["task"])
    assert all(len(found) == 1 for found in tasks.values())
    assert max(Counter(row["group"] for row in make_rows()).values()) <= 3


def test_of_a_bar_the_last_state_is_kept() -> None:
    drawn = "begin\n\r 0%\r 50%\r100% [00:09]\n\x1b[Asaved\n\n"
    assert keep_last_states(drawn) == "begin\n100% [00:09]\nsaved\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_typed_is_understood_and_folds_into_the_same_words(command: str) -> None:
    folded = fold_command(command)
    assert max(map(len, folded.splitlines())) <= 120
    assert shlex.split(folded.replace("\\\n", " ")) == shlex.split(command)
    build_parser().parse_args(shlex.split(command)[1:])


def test_the_page_has_every_command_with_its_answer_and_time() -> None:
    steps = [
        {"command": command, "printed": f"answer {at}\n", "code": 0, "seconds": 61.0 + at}
        for at, command in enumerate(COMMANDS)
    ]
    page = first_result_page(steps, {"hardware": "a machine, 2 cores"})
    for at, (command, about) in enumerate(zip(COMMANDS, ABOUT, strict=True)):
        shown = page.split(about)[1]
        assert (
            shown.index(fold_command(command)) < shown.index(f"answer {at}\n```") < shown.index(f"*1 min {at + 1} s.*")
        )
    assert "7 min 28 s on a machine, 2 cores" in page
    assert "Not run yet" in first_result_page(None, {})
