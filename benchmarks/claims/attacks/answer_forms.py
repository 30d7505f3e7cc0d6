"""Every form in which models write answers is scored right, or marked as one that cannot be scored.

    python -m benchmarks run answer_forms [--quick] [--others PYTHON] [--data DIR]

The table is `tests/support/answer_forms.py`: forms made for this project, with the reward that is right. Beside our
scorers stand `math-verify` and the filters of `lm-eval` on the forms with numbers and letters, in an interpreter that
has both (`--others`), else in a fresh environment; without a package index they are left out. With `--data`, the
stored rewards of the workload are compared with what the scorers say of its texts today.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow.parquet

from benchmarks.sweeps.workload import tables
from benchmarks.sweeps.workload.scoring import SCORERS
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, figure, record
from hagpolicy import Completion
from hagpolicy.scorers.registry import assign_scorers
from hagpolicy.scorers.text.base import ReferenceScorer
from tests.support.answer_forms import FORMS, Form
from tests.support.scoring import score

CLAIM = Claim(
    name="answer_forms",
    states="Answers in the forms of many models are scored right, or marked unscorable, never wrong silently.",
    groups=("bench",),
    headline="wrong silently",
)
PACKAGES = ("math-verify[antlr4_13_2]==0.9.0",)
# lm-eval's filters need nothing of what it installs for its models.
ALONE = ("lm-eval==0.4.13",)
# What runs beside: a line of JSON a form in, a line of verdicts out. The patterns are those of lm-eval's tasks
# gsm8k_cot and mmlu_flan_cot_zeroshot, read from the package.
OTHERS = """
import json, pathlib, re, sys
import lm_eval, math_verify
from lm_eval.filters.extraction import MultiChoiceRegexFilter, RegexFilter

def read_patterns(path):
    lines = (pathlib.Path(lm_eval.__file__).parent / "tasks" / path).read_text().splitlines()
    found = [line.split(":", 1)[1].strip() for line in lines if "regex_pattern:" in line]
    return [json.loads(one) if one.startswith('"') else one for one in found]

first, last = read_patterns("gsm8k/gsm8k-cot.yaml")
strict, flexible = RegexFilter(first), RegexFilter(last, group_select=-1)
choice = read_patterns("mmlu/flan_cot_zeroshot/_mmlu_flan_cot_zeroshot_template_yaml")[-1]
letters = MultiChoiceRegexFilter(choice, group_select=-1, ignore_case=True, ignore_punctuation=True)

def plain(text):
    return re.sub(r"[,$]|\\.$|(?s:.*#### )", "", text)

for line in sys.stdin:
    form = json.loads(line)
    text, wanted = form["text"], form["wanted"]
    verdict = {}
    if form["scorer"] == "numeric_match":
        try:
            gold = math_verify.parse(f"${wanted}$", parsing_timeout=None)
            got = math_verify.parse(text, parsing_timeout=None)
            verdict["math-verify"] = float(math_verify.verify(gold, got, timeout_seconds=None)) if got else 0.0
        except Exception:  # whatever another library raises over an answer is no verdict of it
            verdict["math-verify"] = None
        number = plain(flexible.apply([[text]], [{}])[0][0])
        stated = plain(strict.apply([[text]], [{}])[0][0])
        verdict["lm-eval flexible"], verdict["lm-eval strict"] = float(number == wanted), float(stated == wanted)
    else:
        doc = {"choices": form["choices"]}
        try:
            got = letters.apply([[text]], [doc])[0][0]
            verdict["lm-eval flexible"] = float(re.sub(r"[()]", "", str(got)).upper() == wanted)
        except Exception:  # as above
            verdict["lm-eval flexible"] = None
    print(json.dumps(verdict), flush=True)
"""


def main() -> int:
    """Measure and record."""
    args = arguments(
        __doc__ or "",
        more=lambda parser: parser.add_argument("--others", help="an interpreter with math-verify and lm-eval"),
    )
    begun = time.perf_counter()
    ours = [score(form.scorer, form.text, form.reference, content=form.prompt).value for form in FORMS]
    seconds = time.perf_counter() - begun
    figures = count_all(ours, seconds)
    if not args.quick:
        figures += compare_others(ours, args.others)
        figures += count_changed(args.data) if args.data else []
    return record(CLAIM, figures, args, "A verdict is right where it is the reward of the table; an exception, or a "
        "reward that is missing with a reason, is unscored.")  # fmt: skip


def count_all(ours: list[float], seconds: float) -> list[Figure]:
    """Figures of our scorers over all forms, by family."""
    judged = [judge(form, value) for form, value in zip(FORMS, ours, strict=True)]
    total = Counter(judged)
    figures = [
        figure("forms", len(FORMS), unit="forms", at_least=300),
        figure("wrong silently", total["wrong"], unit="forms", at_most=0),
        figure("right", total["right"], unit="forms"),
        figure("marked unscorable", total["unscored"], unit="forms"),
        figure("time for one form", 1000.0 * seconds / len(FORMS), unit="ms"),
    ]
    for scorer, family in dict.fromkeys((form.scorer, form.family) for form in FORMS):
        mine = [one for form, one in zip(FORMS, judged, strict=True) if (form.scorer, form.family) == (scorer, family)]
        name = f"{scorer}, {family}"
        figures.append(figure(f"{name}: forms", len(mine), unit="forms"))
        figures.append(figure(f"{name}: wrong", mine.count("wrong"), unit="forms", at_most=0))
    return figures


def judge(form: Form, value: float | None) -> str:
    """ "right", "wrong" or "unscored"."""
    if value is None or math.isnan(value):
        return "unscored"
    return "right" if math.isclose(value, form.value, abs_tol=1e-9) else "wrong"


def compare_others(ours: list[float], interpreter: str | None) -> list[Figure]:
    """Figures of the others on the forms with numbers and letters, and of ours on the same; none without them."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            python = interpreter or install_others(Path(folder) / "others")
            chosen = [at for at, form in enumerate(FORMS) if form.scorer in ("numeric_match", "multiple_choice")]
            rows = "\n".join(json.dumps(describe(FORMS[at])) for at in chosen)
            done = subprocess.run([python, "-c", OTHERS], input=rows, capture_output=True, text=True, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"the others are left out: {getattr(error, 'stderr', None) or error}", file=sys.stderr)
            return []
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    figures = []
    for scorer in ("numeric_match", "multiple_choice"):
        places = [
            (FORMS[at], ours[at], one) for at, one in zip(chosen, verdicts, strict=True) if FORMS[at].scorer == scorer
        ]
        for tool in ("ours", *dict.fromkeys(name for _, _, one in places for name in one)):
            counts = Counter(judge(form, value if tool == "ours" else one[tool]) for form, value, one in places)
            for verdict in ("right", "wrong", "unscored"):
                figures.append(
                    figure(f"{scorer}, {len(places)} forms, {tool}: {verdict}", counts[verdict], unit="forms")
                )
    return figures


def describe(form: Form) -> Mapping[str, object]:
    """A form as the others read it: the reference as they write it."""
    if form.scorer == "numeric_match":
        try:
            wanted = f"{float(form.reference):.12g}"
        except ValueError:  # a fraction, which both read as it is
            wanted = str(form.reference)
        return {"scorer": form.scorer, "text": form.text, "wanted": wanted}
    answer = form.reference["answer"] if isinstance(form.reference, Mapping) else form.reference
    choices = form.reference["choices"] if isinstance(form.reference, Mapping) else ["iron", "helium", "lead", "gold"]
    return {"scorer": form.scorer, "text": form.text, "wanted": answer, "choices": choices}


def install_others(folder: Path) -> str:
    """The interpreter of a fresh environment with math-verify and lm-eval's filters."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    for words in (PACKAGES, ("--no-deps", *ALONE)):
        subprocess.run([python, "-m", "pip", "install", "-q", *words], check=True, capture_output=True, text=True)
    return python


def count_changed(data: Path) -> list[Figure]:
    """How many stored rewards of the workload the text scorers would give otherwise today."""
    run = tables.runs(data)["final"]
    owner = {
        one.digest: (one, scorer) for one, scorer in zip(run.prompts, assign_scorers(SCORERS, run.prompts), strict=True)
    }
    read, changed = Counter[str](), Counter[str]()
    for row in _rows(run.folder / "cells"):
        prompt, scorer = owner.get(str(row["prompt"]), (None, None))
        if prompt is None or not isinstance(scorer, ReferenceScorer):
            continue
        (found,) = scorer.score([(prompt, Completion(str(row["text"]), tokens=1))])
        read[scorer.name] += 1
        changed[scorer.name] += found.value != row["reward"]
    figures = [figure("stored rewards of the workload read again", read.total(), unit="rewards")]
    return figures + [
        figure(f"of which {name} gives otherwise", changed[name], unit="rewards") for name in sorted(read)
    ]


def _rows(folder: Path) -> Iterable[Mapping[str, object]]:
    for path in sorted(folder.glob("*.parquet")):
        yield from pyarrow.parquet.read_table(path).to_pylist()


if __name__ == "__main__":
    raise SystemExit(main())
