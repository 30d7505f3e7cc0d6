"""Whoever signs a manifest anew may have written anything into it: it is refused by name when it is loaded, or no
method of the policy ever fails because of it."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hagpolicy import Policy, load
from hagpolicy._digest import digest
from hagpolicy._text import replace_controls
from hagpolicy.errors import BundleError, InvalidInput
from hagpolicy.fitting.encoders.precomputed import PrecomputedEncoder
from hagpolicy.policy.card import format_card
from hagpolicy.policy.manifest import FORMAT_VERSION
from tests.support import making
from tests.support.paths import FIXTURES

HUGE = 10**400
MUTATED = 400
Change = tuple[tuple[Any, ...], Any]


def sign(folder: Path, changes: list[Change]) -> Path:
    """Change values of a bundle's manifest, and make its digest anew."""
    path = folder / "policy.json"
    manifest = json.loads(path.read_text("utf-8"))
    for place, value in changes:
        inner = manifest
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = value
    manifest.pop("digest", None)
    try:
        manifest["digest"] = digest(manifest)
    except ValueError:  # NaN: no reader gets that far
        manifest["digest"] = ""
    path.write_text(json.dumps(manifest), "utf-8")
    return folder


def use_everything(policy: Policy, folder: Path) -> None:
    """Call everything a policy can do. What is printed must not act on a terminal."""
    prompts = [making.vector(1.0), making.vector(-1.0), making.vector(99.0)]
    said = [repr(policy), policy.reason, format_card(policy.manifest), *map(str, policy.evaluations), str(policy.sbs)]
    said += [point.name + point.objective + point.reason for point in policy.dial.points]
    said += [text for found in policy.evaluations if found for row in found.format_rows() for text in (row.label,)]
    with np.errstate(all="ignore"):
        for turned in [{}, *({policy.dial.argument: p.at} for p in policy.dial.points if policy.dial.argument)]:
            policy.predict(prompts[0], **turned)
            policy.predict(prompts[0], {"temperature": 0.7}, **turned)
            policy.predict_batch(prompts, **turned)
            decisions = [policy.decide(prompts[0], **turned), *policy.decide_batch(prompts, **turned)]
            said += [str(decision) + decision.explanation for decision in decisions]
            assert policy.values(prompts, **turned).shape == (3, len(policy.space))
        if policy.dial.cost_head is None:
            with pytest.raises(InvalidInput):
                policy.costs(prompts)
        else:
            policy.costs(prompts)
    policy.ood_scores(prompts)
    policy.trained_on([making.SUMS[0], "never seen"])
    assert policy.default_index is None or policy.space[policy.default_index]
    assert all(policy.space[index] for best in policy.task_best for index in best.values())
    assert (policy.learner, policy.carries_vectors, policy.fingerprint, policy.max_tokens) is not None
    assert all(replace_controls(text, keep="\n") == text for text in said)
    assert load(policy.save(folder)).manifest.to_json() == policy.manifest.to_json()


POINT, ROW = ("dial", "points", 0), ("dial", "points", 0, "evaluation", "rows", 0)
REFUSED: list[tuple[tuple[Any, ...], Any, str]] = [
    (("space",), "/etc/passwd", "space: expected a list"),
    (("space", 0, "temperature"), HUGE, r"space\[0\]\['temperature'\]: expected a finite number"),
    (("space", 0, "temperature"), True, r"space\[0\]"),
    (("space", 0), {"top_k": 1.5}, "top_k"),
    (("space", 0), {"evil": 1}, "unknown field 'evil'"),
    (("space", 1), {"temperature": 0.0}, "distinct configs"),
    (("dial", "heads"), ["values", "values"], "do not fit|different names"),
    (("dial", "heads"), [], "1 to 64 values"),
    (("dial", "argument"), "__class__", "dial.argument: expected one of"),
    (("dial", "argument"), "n", r"points in \[1, 1e\+06\]"),
    (("dial", "unit"), "\x1b[31m", "dial.unit"),
    (("dial", "scales", 0), 1e31, r"dial.scales\[0\]"),
    (("dial", "means", 0, 3), HUGE, r"dial.means\[0\]\[3\]"),
    (("dial", "means", 0, 3), "0.5", r"dial.means\[0\]\[3\]"),
    (("dial", "means", 0), [], "a config of the space"),
    ((*POINT, "at"), True, r"dial.points\[0\].at"),
    ((*POINT, "weights", 0), None, r"weights\[0\]"),
    ((*POINT, "margin"), HUGE, r"points\[0\].margin"),
    ((*POINT, "margin"), 1e999, "JSON can hold"),
    ((*POINT, "ships"), 1, "one of 'default'"),
    ((*POINT, "reference"), -1, r"points\[0\].reference"),
    ((*POINT, "reference"), 99, "a config of the space"),
    ((*POINT, "ships"), "default", "has it as reference"),
    ((*POINT, "name"), "a\x1b[2Jb", "name: expected a text without control characters"),
    ((*POINT, "name"), "half \ud83d", "name: expected a text without control"),
    ((*POINT, "reason"), "x" * 100_001, "reason: expected a text of 0 to 100000"),
    ((*POINT, "reason"), ["x"], "reason"),
    ((*POINT, "extra"), 1, "no keys but .*, got"),
    ((*POINT, "evaluation", "n_prompts"), -1, "evaluation.n_prompts"),
    ((*POINT, "evaluation", "fallbacks"), 2, "evaluation.fallbacks"),
    ((*POINT, "evaluation", "warnings"), ["a", 3], r"warnings\[1\]"),
    ((*POINT, "evaluation", "candidate"), False, "evaluation.candidate"),
    ((*POINT, "evaluation", "sbs_over_default", "low"), "x", "sbs_over_default.low"),
    ((*POINT, "evaluation", "rows"), {}, "evaluation.rows"),
    ((*ROW, "value"), None, r"rows\[0\].value"),
    ((*ROW, "gap_closed"), "x", "gap_closed"),
    ((*ROW, "note"), "\u202e", "note"),
    (("task_best",), [{"": True}], r"task_best\[0\]\[''\]"),
    (("task_best",), [{"": -1}], "task_best"),
    (("task_best",), [{"": HUGE}], "task_best"),
    (("task_best",), [], "fit neither"),
    (("encoder", "name"), 3, "encoder.name"),
    (("encoder", "inputs"), "files", "encoder.inputs"),
    (("encoder", "dim"), 0, "encoder.dim"),
    (("encoder", "dim"), 10**9, "encoder.dim"),
    (("learner",), {"a": 1}, "learner"),
    (("carries_vectors",), 1, "carries_vectors"),
    (("default",), -1, "default"),
    (("default",), 99, "the default is not in"),
    (("fingerprint",), {"name": 3}, "fingerprint"),
    (("fingerprint",), [], "fingerprint"),
    (("max_tokens",), 0, "max_tokens"),
    (("scorers",), {"": None}, "scorers"),
    (("trained_on", "salt"), "00 " * 11, "trained_on.salt"),
    (("trained_on", "salt"), "00" * 64, "trained_on.salt"),
    (("trained_on", "digests"), ["x"], "trained_on.digests"),
    (("trained_on", "groups"), "x", "trained_on.groups"),
    (("unknown",), 1, "no keys but .*'unknown'"),
    (("format_version",), True, "format_version"),
    (("format_version",), 0, "format_version"),
    (("format_version",), 2.0, "format_version"),
    (("format_version",), HUGE, "newer hagpolicy"),
    (("files",), None, "files"),
    (("files", "policy.onnx"), "x", "a digest"),
    (("files", ".."), "0" * 32, "plain names"),
    (("files", "policy.json"), "0" * 32, "plain names"),
    (("files", "a\nb"), "0" * 32, "plain names"),
    (("files",), {f"{number}": "0" * 32 for number in range(17)}, "at most 16 keys"),
]


def test_what_a_manifest_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    for number, (place, value, said) in enumerate(REFUSED):
        folder = Path(shutil.copytree(FIXTURES / f"bundle_v{FORMAT_VERSION}", tmp_path / str(number)))
        with pytest.raises(BundleError, match=said) as caught:
            load(sign(folder, [(place, value)]))
        assert "policy.json" in str(caught.value)
        assert len(str(caught.value)) < 1000


def test_any_name_that_a_user_gave_is_read_kept_and_never_acts_on_a_terminal(tmp_path: Path) -> None:
    names = {"a\x1b[31m\n": "b\x00\ud83d", "é 北": "\u202e"}
    folder = Path(shutil.copytree(FIXTURES / f"bundle_v{FORMAT_VERSION}", tmp_path / "copy"))
    changes: list[Change] = [
        (("fingerprint",), names),
        (("scorers",), names),
        (("task_best",), [dict.fromkeys(names, 1)]),
    ]
    changes.append((("space", 0, "hint"), "a\x1b[31m\n\ud83d"))
    policy = load(sign(folder, changes))
    use_everything(policy, tmp_path / "again")
    assert policy.fingerprint == names
    assert policy.space[0].hint == "a\x1b[31m\n\ud83d"


def test_a_text_for_people_is_saved_without_what_would_act_on_a_terminal(tmp_path: Path) -> None:
    policy = making.sums_against_lists(PrecomputedEncoder())
    manifest = replace(policy.manifest, learner="a\x1b[31mb")
    again = load(Policy(manifest, policy._model, policy._files).save(tmp_path / "policy"))
    assert again.learner == "a?[31mb"


def test_mutated_manifests_are_refused_or_can_be_used(tmp_path: Path) -> None:
    chance = random.Random(12)
    odd = [None, True, -1, 0, 0.5, 2, HUGE, -1e308, 1e30, "", "x", "\x1b[31m", "\ud800", [], {}, [[]], [0], {"x": 0}]
    read = 0
    folder = tmp_path / "copy"
    for number in range(MUTATED):
        shutil.copytree(FIXTURES / f"bundle_v{chance.randint(1, FORMAT_VERSION)}", folder)
        values = json.loads((folder / "policy.json").read_text("utf-8"))
        changes = [(choose_place(values, chance), chance.choice(odd)) for _ in range(chance.choice([1, 1, 1, 2]))]
        with contextlib.suppress(LookupError, TypeError):  # of two changes the second may have lost its place
            sign(folder, changes)
        try:
            policy = load(folder)
        except BundleError:
            policy = None
        if policy is not None:
            use_everything(policy, tmp_path / f"saved {number}")
            read += 1
        shutil.rmtree(folder)
    assert MUTATED / 40 < read < MUTATED / 1.5


def choose_place(values: Any, chance: random.Random) -> tuple[Any, ...]:
    place: tuple[Any, ...] = ()
    while isinstance(values, (dict, list)) and len(values):
        step = chance.choice(list(values) if isinstance(values, dict) else list(range(len(values))))
        place, values = (*place, step), values[step]
        if chance.random() < 0.25:
            break
    return place


# Bodies of about 32 MiB, at the limit of containers or of bytes; prints the growth of the peak memory in MiB.
# VmHWM, since the peak that getrusage gives is handed on to a started program by the process that starts it.
LARGE = """
import sys
from pathlib import Path
from hagpolicy.errors import BundleError
from hagpolicy.policy.manifest import MAX_MANIFEST_BYTES, read_manifest

part, times = sys.argv[1].encode(), int(sys.argv[2])
data = b'{"format_version":2,"encoder":[' + part * times + b"0]}"
assert len(data) <= MAX_MANIFEST_BYTES

def read_peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

before = read_peak()
try:
    read_manifest(Path("policy.json"), data)
except BundleError:
    print((read_peak() - before) // 1024)
"""


@pytest.mark.parametrize(("part", "times"), [("1,", 16_700_000), ('{"a":1},', 980_000)])
def test_the_largest_manifests_take_bounded_memory(part: str, times: int) -> None:
    command = [sys.executable, "-c", LARGE, part, str(times)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert 0 < int(done.stdout) < 1024
