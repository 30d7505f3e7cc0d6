"""`log value` and `log experiment`: what the decisions of live traffic tell."""

from __future__ import annotations

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
