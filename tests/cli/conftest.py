"""A folder with prompts, a sweep of them and a policy fitted on it, all made by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hagpolicy.cli import main
from hagpolicy.simulated import SimulatedEngine
from tests.cli.running import SPACE, sweep, write_prompts


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts and a space on disk, a sweep of them, and a policy fitted on it, all by the command line."""
    root = tmp_path_factory.mktemp("cli")
    prompts = SimulatedEngine(seed=3).prompts(140, 0)
    write_prompts(root / "prompts.jsonl", prompts[:100])
    write_prompts(root / "more.jsonl", prompts[80:])
    (root / "space.json").write_text(json.dumps(SPACE))
    assert sweep(root, "prompts.jsonl", "sweep") == 0
    assert main(["fit", str(root / "sweep"), "--out", str(root / "policy"), "--learner", "ridge"]) == 0
    return root
