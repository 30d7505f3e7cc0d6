"""Claim: on a real public sweep with a known outcome, headroom and fit say what is known.

    python -m benchmarks run known_data --data DIR

Reads jhu-gpt35 (matthewrenze/jhu-llm-temperature, commit b00cfb6).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import hagpolicy as hag
from benchmarks.sweeps import jhu
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import arguments, figure, not_run, record
from hagpolicy.analysis.copies import find_copies
from hagpolicy.analysis.estimates import split_vbs

CLAIM = Claim(
    name="known_data",
    states="On jhu-gpt35 headroom is as known, and nothing per prompt is proven or ships",
    groups=("bench",),
    headline="SBS, on prompts it was not chosen on",
    needs=("data",),
)


def main() -> int:
    args = arguments(__doc__ or "")
    if args.data is None or not (args.data / "jhu-gpt35").exists():
        return not_run(CLAIM, "needs --data with the folder jhu-gpt35", args)
    table = jhu.load(args.data)
    h = hag.headroom(table)
    print(h, "\n")
    policy = hag.fit(table)
    print(policy.evaluation)
    assert h.split_vbs is not None
    assert h.split_vbs_sampled is not None
    in_sample = float(table.means.mean(axis=0).max())
    found = policy.evaluation.candidate
    known = [
        ("best static temperature, all samples (in sample)", in_sample, None, 0.58, 0.59),
        ("SBS, on prompts it was not chosen on", h.sbs, None, 0.57, 0.60),
        ("naive oracle (biased)", h.naive_vbs, None, 0.75, 0.76),
        ("split-sample oracle, ties at random", h.split_vbs, None, 0.65, 0.69),
        ("the same without deterministic T = 0", h.split_vbs_sampled, None, 0.59, 0.63),
    ]
    figures = []
    for name, value, _, low, high in known:
        if isinstance(value, float):
            figures.append(figure(name, value, unit="reward", at_least=low, at_most=high))
        else:
            assert isinstance(value, hag.Estimate)
            figures.append(figure(name, value.value, value.low, value.high, unit="reward", at_least=low, at_most=high))
    gain = found.gain
    figures.append(
        figure(f"held-back candidate ({found.name}) over SBS", gain.value, gain.low, gain.high, unit="reward")
    )
    figures.append(figure("nothing per prompt ships", float(policy.ships != "per_prompt"), unit="yes = 1", at_least=1))
    learners = [row for row in policy.evaluation.rows if row.name in ("blend", "best_per_task")]
    figures += [
        figure(f"{row.name} over SBS", row.gain, row.gain_low, row.gain_high, unit="reward") for row in learners
    ]
    figures += judge_copies(table, h)
    prompts, groups = len(table.prompts), len(np.unique(table.groups))
    notes = (
        f"{prompts} problems in {groups} groups (problems on one passage), 11 temperatures, 10 answers. {h.sentence}"
    )
    return record(CLAIM, figures, args, notes)


def judge_copies(table: hag.SweepTable, h: hag.Headroom) -> list[dict[str, Any]]:
    """Figures of the sweep as it is, and as a cache would have left it: each cell's first answer, ten times."""
    rewards = np.array(table.rewards)
    rewards[:, :, 1:] = rewards[:, :, :1]
    copies = replace(table, rewards=rewards, answers=None)
    sampled = ~table.space.deterministic
    believed = split_vbs(rewards[:, sampled], np.zeros(int(sampled.sum()), dtype=bool))
    copied = hag.headroom(copies)
    assert h.even_odd is not None
    assert copied.even_odd is not None
    assert believed is not None
    known, found = h.even_odd, copied.even_odd
    n_sampled = int(sampled.sum())
    return [
        figure("even temperatures choose, odd ones score: gain", known.value, known.low, known.high, unit="reward"),
        figure("configs called copies", len(find_copies(table)), unit="configs", at_most=0),
        figure("copies: configs called copies", len(find_copies(copies)), unit="configs", at_least=n_sampled),
        figure("copies: split-sample oracle without T = 0 believes", float(believed.mean()), unit="reward"),
        figure(
            "copies: even temperatures choose, odd ones score: gain", found.value, found.low, found.high, unit="reward"
        ),
        figure("copies: a lower end is stated", float(copied.could_win_low is not None), unit="yes = 1", at_most=0),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
