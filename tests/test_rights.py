"""Every file and folder that the library makes has the rights that the process's umask leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import hagpolicy as hag
from hagpolicy.scorers.judge.judge import Judge
from hagpolicy.simulated import SimulatedEngine
from tests.scorers.judge.judging import Scripted, by_length
from tests.support import making


@pytest.mark.parametrize("umask", [0o027, 0o077, 0o002])
def test_the_umask_is_followed_by_all_that_writes(tmp_path: Path, umask: int) -> None:
    world = SimulatedEngine(seed=1)
    before = os.umask(umask)
    try:
        space = hag.DecodingSpace.grid(temperature=[0.0, 0.5])
        judge = Judge(Scripted(by_length))
        table = hag.sweep(world, world.prompts(6), space, judge, out=tmp_path / "s" / "sweep", progress=False)
        for _ in range(2):  # new, and in the place of an older one
            hag.write_report(tmp_path / "r" / "report.html", table=table)
            table.to_instruction_tuning(tmp_path / "t" / "labels.jsonl")
            making.sums_against_lists().save(tmp_path / "p" / "policy")
        hag.load_table(tmp_path / "s" / "sweep")
    finally:
        os.umask(before)
    made = [path for path in tmp_path.rglob("*") if not path.is_symlink()]
    assert {"judges", "lock", "report.html", "labels.jsonl", "policy.onnx"} <= {path.name for path in made}
    for path in made:
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path
