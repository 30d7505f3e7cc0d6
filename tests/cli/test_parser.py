"""What can be typed is listed from the registries, and a verb imports what it lists only when it is used."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable

import pytest

from hagpolicy.analysis.objectives.parse import FAMILIES
from hagpolicy.cli import commands
from hagpolicy.cli.entry import main
from hagpolicy.cli.parser import VERBS
from hagpolicy.config.dialects import DIALECTS
from hagpolicy.config.servers import SERVERS
from hagpolicy.config.space import PRESETS
from hagpolicy.engines.spec import ENGINES, SHORTHANDS
from hagpolicy.fitting.baselines.registry import BASELINES
from hagpolicy.fitting.encoders.registry import ENCODERS
from hagpolicy.fitting.learners.registry import LEARNERS
from hagpolicy.scorers.registry import SCORERS
from hagpolicy.sweeping.strategies.base import STRATEGIES

LISTED: dict[tuple[str, str], Iterable[str]] = {
    ("sweep", "engines"): [*SHORTHANDS, *(kind.form for kind in ENGINES.values())],
    ("sweep", "spaces"): [*PRESETS, "hag"],
    ("sweep", "scorers"): SCORERS,
    ("sweep", "strategies"): STRATEGIES.choices,
    ("rescore", "scorers"): SCORERS,
    ("headroom", "objectives"): ["reward", *FAMILIES],
    ("fit", "objectives"): ["reward", *FAMILIES],
    ("fit", "learners"): LEARNERS.choices,
    ("fit", "encoders"): ENCODERS,
    ("fit", "baselines"): BASELINES,
    ("predict", "engines"): DIALECTS,
    ("export", "servers"): SERVERS,
}


@pytest.mark.parametrize(("verb", "kind"), LISTED, ids=" ".join)
def test_help_names_every_plug_in(verb: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    # argparse breaks lines within names at hyphens and after slashes only; names hold neither but "price/token".
    text = " ".join(capsys.readouterr().out.split())
    assert not [name for name in LISTED[verb, kind] if name not in text]


def test_every_verb_does_something_and_shows_an_example() -> None:
    for name, verb in VERBS.items():
        assert callable(getattr(commands, name.replace(" ", "_")))
        assert f"hagpolicy {name}" in verb.example


def test_predict_does_not_import_what_other_verbs_list() -> None:
    code = """import sys, json
from hagpolicy.cli import main
main(["predict", "--help"])
sys.stderr.write(json.dumps(sorted(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: hagpolicy predict" in done.stdout
    rooms = {name.split(".")[1] for name in json.loads(done.stderr) if name.startswith("hagpolicy.")}
    assert not rooms & {"analysis", "engines", "scorers", "sweeping", "fitting", "simulated"}
