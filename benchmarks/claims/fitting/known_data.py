"""Claim: on a real public sweep with a known outcome, headroom and fit say what is known.

    python -m benchmarks run known_data --data DIR

Reads jhu-gpt35 (matthewrenze/jhu-llm-temperature, commit b00cfb6).
"""

from __future__ import annotations

import numpy as np

import hagpolicy as hag
from benchmarks.sweeps import jhu
from benchmarks.tools.claim import Claim
from benchmarks.tools.record import arguments, figure, not_run, record

CLAIM = Claim(
    name="known_data",
    states="On jhu-gpt35 headroom is as known, nothing per prompt is proven, and the single best config ships",
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
    assert h.split_oracle is not None
    assert h.split_oracle_sampled is not None
    in_sample = float(table.means.mean(axis=0).max())
    found = policy.evaluation.candidate
    known = [
        ("best static temperature, all samples (in sample)", in_sample, None, 0.58, 0.59),
        ("SBS, on prompts it was not chosen on", h.sbs, None, 0.57, 0.60),
        ("naive oracle (biased)", h.naive_oracle, None, 0.75, 0.76),
        ("split-sample oracle, ties at random", h.split_oracle, None, 0.65, 0.69),
        ("the same without deterministic T = 0", h.split_oracle_sampled, None, 0.59, 0.63),
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
    figures.append(figure("SBS ships", float(policy.ships_sbs), unit="yes = 1", at_least=1))
    learners = [row for row in policy.evaluation.rows if row.name in ("blend", "best_per_task")]
    figures += [
        figure(f"{row.name} over SBS", row.gain, row.gain_low, row.gain_high, unit="reward") for row in learners
    ]
    prompts, groups = len(table.prompts), len(np.unique(table.groups))
    notes = (
        f"{prompts} problems in {groups} groups (problems on one passage), 11 temperatures, 10 answers. {h.sentence}"
    )
    return record(CLAIM, figures, args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
