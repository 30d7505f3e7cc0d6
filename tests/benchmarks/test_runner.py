"""Claims are found without importing their scripts, run in order, and one that misses a target stops none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import list_claims, main, run_claims
from benchmarks.tools.claim import claim_of, find_claims, select_claims
from benchmarks.tools.record import RESULTS
from tests.support.paths import ROOT

SCRIPT = """
import pathlib, sys
Claim = dict
CLAIM = Claim(name={name!r}, states="It is so.", groups=("bench",), after={after!r}, runs={runs!r}, quick={quick})
with pathlib.Path("ran.txt").open("a") as file:
    print({name!r}, *sys.argv[1:], file=file)
sys.exit({code})
"""


def scripts(root: Path, **codes: int) -> Path:
    """A package of scripts that end with these codes; each reads what the next one stores."""
    folder = root / "little" / "claims"
    folder.mkdir(parents=True)
    names = list(codes)
    for at, (name, code) in enumerate(codes.items()):
        runs = ((),) if at else (("--first",), ("--second",))
        text = SCRIPT.format(name=name, after=tuple(names[at + 1 : at + 2]), runs=runs, quick=bool(at), code=code)
        (folder / f"{name}.py").write_text(text, "utf-8")
    return root / "little"


def test_a_missed_target_stops_nothing_and_is_named(tmp_path: Path) -> None:
    root = scripts(tmp_path, alpha=1, beta=0, gamma=1)
    chosen = select_claims(find_claims(root), ["claims"])
    assert [claim.name for claim in chosen] == ["gamma", "beta", "alpha"]
    assert run_claims(chosen, quick=False, data=tmp_path, root=root) == ["gamma", "alpha"]
    ran = (tmp_path / "ran.txt").read_text("utf-8").splitlines()
    data = f"--data {tmp_path}"
    assert ran == [f"gamma {data}", f"beta {data}", f"alpha {data} --first", f"alpha {data} --second"]


def test_quick_runs_leave_out_what_has_none_and_options_take_the_place_of_runs(tmp_path: Path) -> None:
    root = scripts(tmp_path, alpha=0, beta=0)
    claims = find_claims(root)
    assert run_claims(select_claims(claims, ["bench"]), quick=True, root=root) == []
    assert run_claims(select_claims(claims, ["alpha"]), quick=False, options=["--show"], root=root) == []
    assert (tmp_path / "ran.txt").read_text("utf-8").splitlines() == ["beta --quick", "alpha --show"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("'alpha'", "'omega'"), "calls itself omega"),
        (('("bench",)', '("best",)'), "groups are"),
        (("('beta',)", "('zeta',)"), "unknown"),
    ],
)
def test_a_claim_that_says_what_is_not_so_is_refused(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    root = scripts(tmp_path, alpha=0, beta=0)
    script = root / "claims" / "alpha.py"
    script.write_text(script.read_text("utf-8").replace(*change), "utf-8")
    with pytest.raises(AssertionError, match=words):
        find_claims(root)


def test_every_stored_result_belongs_to_a_claim() -> None:
    claims = find_claims()
    owners = {path.stem: claim_of(path.stem, claims).name for path in RESULTS.glob("*.json")}
    assert owners["quality_workload"] == "quality"
    assert owners["sweep_throughput_gpu"] == "sweep_throughput"
    with pytest.raises(KeyError):
        claim_of("unheard_of", claims)
    # What generates sweeps has no result; everything else was recorded, or says why not.
    assert {claim.name for claim in claims if claim.measures} <= set(owners.values())
    scripts = {path.stem for path in (ROOT / "benchmarks" / "claims").glob("*/*.py")} - {"__init__"}
    assert scripts <= {claim.name for claim in claims}
    assert len(list_claims(claims).splitlines()) > len(claims)


def test_an_unknown_name_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "no_such_claim", "--quick"])
    assert "no_such_claim" in capsys.readouterr().err


def test_listing_imports_nothing_heavy() -> None:
    code = "import sys; from benchmarks.tools.claim import find_claims; find_claims(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"torch", "numpy", "matplotlib", "hagpolicy"} & set(done.stdout.split())
