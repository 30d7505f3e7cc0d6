"""`hagpolicy log …`: what the decisions of live traffic tell, and the files that are made of them."""

from __future__ import annotations

import shlex
from argparse import Namespace

from hagpolicy._files import format_json
from hagpolicy.cli.exit_codes import DONE, INCONCLUSIVE, REJECT
from hagpolicy.cli.streams import write


def print_value(arguments: Namespace) -> int:
    """Print what a policy would have been worth on logged calls; returns the exit code."""
    from hagpolicy.analysis.logged.policies import estimate_policy

    found = estimate_policy(arguments.policy, arguments.log, decided_by=arguments.decided_by)
    write(format_json(found.to_json()) if arguments.json else str(found))
    return INCONCLUSIVE if found.reason else DONE


def print_experiment(arguments: Namespace) -> int:
    """Print which arm of an experiment is better so far; returns the exit code."""
    from hagpolicy.analysis.logged.experiment import DAY, judge_experiment
    from hagpolicy.data.traffic import read_traffic

    traffic = read_traffic(arguments.log, policy=arguments.decided_by, experiment=True)
    window = arguments.window
    if window is None:
        window = 0.0 if traffic.by_request.all() else DAY
    found = judge_experiment(traffic.decisions, window=window)
    write(format_json(found.to_json()) if arguments.json else str(found))
    return {"policy": DONE, "default": REJECT, "open": INCONCLUSIVE}[found.verdict]


def export_log(arguments: Namespace) -> int:
    """Write a log as one Parquet file; returns the exit code."""
    from hagpolicy.data.traffic import export_decisions

    count = export_decisions(arguments.log, arguments.file)
    written = {"file": arguments.file, "calls": count}
    write(format_json(written) if arguments.json else f"{count:,} calls: {arguments.file}")
    return DONE


def export_trial(arguments: Namespace) -> int:
    """Write the table of a log's calls that drew their config; returns the exit code."""
    from hagpolicy.data.traffic import read_traffic
    from hagpolicy.data.trial import build_trial

    trial = build_trial(read_traffic(arguments.log, policy=arguments.decided_by, experiment=False))
    path = trial.table.save(arguments.file)
    if arguments.json:
        values = {"file": str(path), "calls": trial.calls, "prompts": len(trial.table.prompts)}
        write(format_json({**values, "choices": trial.choices, "objective": trial.objective}))
        return DONE
    following = ["hagpolicy", "fit", str(path), "--objective", trial.objective, "--out", "policies/live"]
    write(
        f"{trial.calls:,} calls, of {len(trial.table.prompts):,} prompts, that drew one of {trial.choices} configs: "
        f"{path}\nThe objective turns what differs between cells, a share of it, into what differs in reward.\n"
        f"next:  {shlex.join(following)}"
    )
    return DONE
