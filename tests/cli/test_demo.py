"""The demo's loop on the simulated engine: its folder, its second run, and what it says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

import hagpolicy as hag
from hagpolicy.cli.demo import CONFIGS, MAX_TOKENS, SCORERS, read_demo_prompts, run_demo
from hagpolicy.cli.demo_text import WIDTH
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.completion import Completion, Request
from hagpolicy.engines.base import Engine
from hagpolicy.scorers.registry import assign_scorers
from hagpolicy.simulated import SimulatedEngine

SPACE = DecodingSpace(DecodingConfig.from_dict(values) for values in CONFIGS)


class Counting(SimulatedEngine):
    """Counts what it generates."""

    generated = 0

    def generate(self, unit: Sequence[Request]) -> list[Completion]:
        self.generated += len(unit)
        return super().generate(unit)


def simulated(gap: float, n_prompts: int, out: Path, seed: int = 1) -> tuple[dict[str, object], str, Counting]:
    engine = Counting(seed=seed, gap=gap, space=SPACE)
    prompts = engine.prompts(n_prompts + 6, 0)
    said: list[str] = []
    outcome = run_demo(
        out,
        engine,
        prompts=prompts[:n_prompts],
        new_prompts=prompts[n_prompts:],
        space=SPACE,
        scorer=engine.scorer,
        samples=6,
        write=said.append,
        progress=False,
    )
    return outcome, "\n".join(said), engine


@pytest.fixture(scope="module")
def learnable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object], str]:
    out = tmp_path_factory.mktemp("learnable") / "demo"
    outcome, said, _ = simulated(0.15, 160, out)
    return out, outcome, said


def test_everything_lies_below_its_folder(learnable: tuple[Path, dict[str, object], str]) -> None:
    out, outcome, said = learnable
    assert sorted(path.name for path in out.iterdir()) == ["answers", "outcome.json", "policy", "report.html", "sweep"]
    assert json.loads((out / "outcome.json").read_text("utf-8")) == outcome
    import pyarrow.parquet as parquet

    cells = [parquet.read_table(path) for path in (out / "sweep").rglob("*.parquet")]
    texts = [text for cell in cells if "text" in cell.column_names for text in cell.column("text").to_pylist()]
    assert len(texts) == outcome["cells"]
    assert all(isinstance(text, str) and text for text in texts)
    for name in ("sweep", "report.html", "policy", "hagpolicy predict"):
        assert name in said


def test_a_world_that_can_be_learned_ships_a_policy_that_answers_new_prompts(
    learnable: tuple[Path, dict[str, object], str],
) -> None:
    out, outcome, said = learnable
    assert outcome["ships"] == "per_prompt"
    assert "Proven" in said
    assert "what it chooses" in said
    assert "Not proven" not in said
    assert "“not proven”" not in said
    policy = hag.load(out / "policy")
    answers = outcome["answers"]
    assert isinstance(answers, list)
    assert len(answers) == 6
    for row in answers:
        shown = {who: choice["config"] for choice in row["choices"] for who in choice["who"]}
        assert set(shown) == {"default", "single best", "policy"}
        assert shown["policy"] == policy.predict(row["prompt"]).to_dict()
        assert all(choice["text"] for choice in row["choices"])


def test_a_second_run_generates_nothing_and_says_the_same(tmp_path: Path) -> None:
    first, said, engine = simulated(0.12, 60, tmp_path / "demo")
    assert engine.generated > 0
    second, again, idle = simulated(0.12, 60, tmp_path / "demo")
    assert idle.generated == 0
    assert {**first, "seconds": None} == {**second, "seconds": None}
    assert [line for line in said.splitlines() if " s" not in line] == [
        line for line in again.splitlines() if " s" not in line
    ]


def test_what_is_not_proven_is_labelled_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A world with nothing to learn: where a candidate was found, it stands apart from the policy."""
    monkeypatch.chdir(tmp_path)
    outcome, said, _ = simulated(0.0, 60, Path("demo"))
    assert outcome["ships"] != "per_prompt"
    stands = "default" if outcome["ships"] == "default" else "single best"
    single = next(c["config"] for c in outcome["answers"][0]["choices"] if stands in c["who"])  # type: ignore[index]
    for row in outcome["answers"]:  # type: ignore[attr-defined]
        for choice in row["choices"]:
            assert choice["proven"] == (choice["who"] != ["not proven"])
            if "policy" in choice["who"]:
                assert choice["config"] == single
    candidate = outcome["evaluation"]["candidate"]  # type: ignore[index]
    assert ("not proven" in said) == (candidate["name"] != "sbs")
    assert "ships for every prompt" in said
    assert max(map(len, said.splitlines())) <= WIDTH


def test_its_own_prompts_fit_the_budget() -> None:
    prompts, fresh = read_demo_prompts("demo_prompts.jsonl"), read_demo_prompts("demo_new_prompts.jsonl")
    kinds = Counter(prompt.task for prompt in prompts)
    assert len(prompts) == 300
    assert len(kinds) == 5
    assert min(kinds.values()) == 40
    assert len(fresh) == 6
    assert not {prompt.text for prompt in prompts} & {prompt.text for prompt in fresh}
    assert SPACE.deterministic.all()
    assert 5 <= len(SPACE) <= 7
    assert len(prompts) * len(SPACE) * MAX_TOKENS <= 60_000
    for prompt, scorer in zip([*prompts, *fresh], assign_scorers(SCORERS, [*prompts, *fresh]), strict=True):
        assert scorer.check(prompt) is None


@pytest.mark.llm
def test_a_small_demo_on_the_real_llm(smollm: Engine, tmp_path: Path) -> None:
    prompts = read_demo_prompts("demo_prompts.jsonl")
    by_kind = {prompt.task: prompt for prompt in prompts}
    chosen = tuple(by_kind.values())[:5]
    said: list[str] = []
    outcome = run_demo(
        tmp_path / "demo",
        smollm,
        prompts=chosen,
        new_prompts=read_demo_prompts("demo_new_prompts.jsonl")[:2],
        space=DecodingSpace(SPACE[:2]),
        samples=1,
        max_tokens=14,
        write=said.append,
        progress=False,
    )
    assert outcome["failures"] == {}
    assert outcome["ships"] == "default"  # five prompts prove nothing
    assert outcome["new_tokens"] <= 5 * 2 * 14
    assert all(choice["text"] for row in outcome["answers"] for choice in row["choices"])


@pytest.mark.parametrize("name", ["report.html", "outcome.json", "policy"])
def test_what_is_not_the_demos_is_seen_before_anything_is_generated(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"files": "years of work"}', "utf-8")
    with pytest.raises(hag.HagError, match=name.replace(".", r"\.")):
        simulated(0.15, 60, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text("utf-8") == '{"files": "years of work"}'
