"""Constraints of prompts in sweeps: refused at planning where they cannot be met, kept, scored, and fitted on."""

from __future__ import annotations

from pathlib import Path

import pytest

from hagpolicy import (
    Constraint,
    DecodingConfig,
    DecodingSpace,
    Prompt,
    SimulatedEngine,
    UnsupportedSetting,
    load_table,
    sweep,
)
from hagpolicy.engines.constraints.check import meets

pytest.importorskip("torch")
pytest.importorskip("llguidance")
from hagpolicy.engines.transformers.engine import TransformersEngine
from tests.support.tiny_bytes import byte_model, byte_tokenizer
from tests.support.tiny_llama import tiny_model, tiny_tokenizer

SPACE = DecodingSpace(DecodingConfig(constrain=way) for way in ("", "ask", "mask", "retry"))
FORMS = (Constraint(choices=("yes", "no")), Constraint(regex=r"\d{3}"), Constraint(regex="x{30}"))


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine(byte_model(seed=2), byte_tokenizer(), name="bytes", threads=1)


def test_a_sweep_meets_scores_and_keeps_them(engine: TransformersEngine, tmp_path: Path) -> None:
    prompts = [Prompt(f"the dog {n}", constraint=FORMS[n % 2]) for n in range(6)]
    table = sweep(engine, prompts, SPACE, "constraint", samples=2, max_tokens=8, out=tmp_path, default=SPACE[0])
    again = load_table(tmp_path)
    assert again.prompts == table.prompts
    assert [prompt.constraint for prompt in again.prompts] == [prompt.constraint for prompt in prompts]
    mask = table.space.index(SPACE[2])
    assert (table.rewards[:, mask] == 1.0).all()
    for prompt, texts, rewards in zip(table.prompts, table.texts[:, :, 0], table.rewards[:, :, 0], strict=True):
        assert [float(meets(prompt.constraint, text)) for text in texts] == rewards.tolist()


def test_what_does_not_fit_marks_its_own_cells(engine: TransformersEngine, tmp_path: Path) -> None:
    prompts = [Prompt(f"the dog {n}", constraint=form) for n, form in enumerate(FORMS)]
    table = sweep(engine, prompts, [SPACE[2]], "constraint", samples=1, max_tokens=8, out=tmp_path, default=SPACE[2])
    assert table.rewards[:2, 0, 0].tolist() == [1.0, 1.0]
    assert table.rewards[2, 0, 0] != table.rewards[2, 0, 0]


def test_an_engine_that_cannot_mask_refuses_at_planning(tmp_path: Path) -> None:
    words = TransformersEngine(tiny_model(), tiny_tokenizer(), threads=1)
    prompt = Prompt("why ?", constraint=FORMS[0])
    with pytest.raises(UnsupportedSetting, match="constrain"):
        sweep(words, [prompt], [SPACE[2]], "constraint", samples=1, out=tmp_path / "a")
    made = sweep(words, [prompt], [SPACE[1]], "constraint", samples=1, max_tokens=3, out=tmp_path / "b")
    assert set(made.rewards[:, 0].reshape(-1)) <= {0.0, 1.0}


def test_a_constraint_of_a_kind_that_a_server_lacks_is_refused_at_planning(tmp_path: Path) -> None:
    pytest.importorskip("httpx2")
    from hagpolicy.engines.openai.client import Client, Key
    from hagpolicy.engines.openai.engine import OpenAIEngine

    client = Client("http://127.0.0.1:9/v1", Key("HAG_NO_KEY", needed=False), timeout=1, connections=1)
    server = OpenAIEngine(client, "stub", server="llama_cpp")
    formed = OpenAIEngine(client, "stub", server="llama_cpp", extras={"response_format": {"type": "json_object"}})
    prompts = [Prompt("free"), Prompt("why ?", constraint=FORMS[1], id="b")]
    with pytest.raises(UnsupportedSetting, match=r"prompt 1 \('b'\).*regex"):
        sweep(server, prompts, [SPACE[2]], "brevity", samples=1, out=tmp_path / "a")
    for way in ("", "ask"):
        assert server.refuse_constraint(FORMS[1], way) == ""
        assert "response_format" in formed.refuse_constraint(FORMS[1], way)
    server.close()


def test_the_simulated_world_takes_any_way(tmp_path: Path) -> None:
    world = SimulatedEngine(seed=0)
    prompts = [Prompt(f"p{n}", constraint=FORMS[0]) for n in range(3)]
    table = sweep(world, prompts, SPACE, world.scorer, samples=1, out=tmp_path)
    assert table.rewards.shape[:2] == (3, len(table.space))
