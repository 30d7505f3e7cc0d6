"""Results survive JSON, and say what the gate did."""

from __future__ import annotations

import json

import pytest

from hagpolicy.results import Candidate, Estimate, Evaluation, EvaluationRow, describe_candidate


def test_evaluation_survives_json() -> None:
    evaluation = Evaluation(
        (
            EvaluationRow("sbs", 0.5, 0.4, 0.6, 0.0, 0.0, 0.0, 0.0),
            EvaluationRow("policy", 0.6, 0.5, 0.7, 0.1, 0.05, 0.15, None),
        ),
        Candidate("ridge on static", Estimate(0.1, 0.05, 0.15), 0.03, 40, True),
        Estimate(0.2, 0.1, 0.3),
        n_prompts=100,
        n_groups=90,
        warnings=("careful",),
    )
    again = Evaluation.from_json(json.loads(json.dumps(evaluation.to_json())))
    assert again == evaluation
    assert "ridge on static" in str(again)
    assert again.row("policy").gain == 0.1
    with pytest.raises(KeyError):
        again.row("nothing")


def test_the_sentence_says_why_a_gain_above_zero_is_held_back() -> None:
    held = Candidate("ridge on static", Estimate(0.05, 0.01, 0.09), 0.03, departing_groups=6, shipped=False)
    assert describe_candidate(held).startswith(
        "nothing per prompt is proven, the single best config ships; held back: too few groups depart"
    )
    open_ = Candidate("ridge on static", Estimate(0.05, -0.01, 0.09), 0.03, departing_groups=60, shipped=False)
    assert describe_candidate(open_).endswith("departing in 60 groups")
