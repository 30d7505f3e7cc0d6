"""What each verb does: read the arguments, call the library, print, return the exit code."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from typing import Any

import hagpolicy as hag
from hagpolicy._files import format_json
from hagpolicy.cli.exit_codes import DONE, PARTLY
from hagpolicy.cli.options import make_space, parse_engine_options, parse_fixed, parse_scorer
from hagpolicy.errors import InvalidInput
from hagpolicy.policy.bundle import check_target
from hagpolicy.reporting.text import describe_config, format_signed


def demo(arguments: Namespace) -> int:
    """The whole loop on a small LLM."""
    from hagpolicy.cli.demo import run_demo

    write = (lambda line="": None) if arguments.json else _write
    outcome = run_demo(arguments.out, arguments.engine, write=write, progress=not arguments.quiet)
    if arguments.json:
        _write(format_json(outcome))
    return PARTLY if outcome["failures"] else DONE


def sweep(arguments: Namespace) -> int:
    """Fill the cells of a sweep folder, or print what that would cost."""
    from hagpolicy.engines.loading import open_engine
    from hagpolicy.engines.spec import EngineSpec
    from hagpolicy.sweeping.forecast.preview import preview
    from hagpolicy.sweeping.forecast.progress import ProgressReporter

    prompts = hag.read_prompts(arguments.prompts)
    spec = EngineSpec.parse(arguments.engine, **parse_engine_options(arguments.engine_option))
    scorer = parse_scorer(arguments.scorer)
    if scorer is None and spec.kind.name == "simulated":  # its world has a scorer of its own
        from hagpolicy.simulated import SimulatedScorer

        scorer = SimulatedScorer()
    reporter = ProgressReporter(not arguments.quiet)
    with open_engine(spec, arguments.on, arguments.workers) as engine:
        options: dict[str, Any] = {
            name: getattr(arguments, name) for name in ("samples", "max_tokens", "out", "seed", "strategy", "budget")
        }
        inputs = engine, prompts, make_space(arguments.space, engine), scorer
        if arguments.dry_run:
            forecast = preview(*inputs, **options)
            _write(format_json(forecast.to_json()) if arguments.json else f"{forecast}\nnothing was written: --dry-run")
            return PARTLY if forecast.to_generate and forecast.tokens is None else DONE
        table = hag.sweep(*inputs, **options, progress=reporter)
    following = f"hagpolicy headroom {shlex.quote(arguments.out)}"
    return _print_table(arguments, table, arguments.out, following, reporter.summary)


def rescore(arguments: Namespace) -> int:
    """Score stored answers again."""
    table = hag.rescore(arguments.folder, parse_scorer(arguments.scorer))
    return _print_table(arguments, table, arguments.folder, f"hagpolicy headroom {shlex.quote(arguments.folder)}")


def headroom(arguments: Namespace) -> int:
    """What there is to win."""
    found = hag.headroom(hag.load_table(arguments.folder), objective=arguments.objective, seed=arguments.seed)
    return _print_result(arguments, found)


def portfolio(arguments: Namespace) -> int:
    """The best set of configs for several parallel answers."""
    found = hag.portfolio(hag.load_table(arguments.folder), arguments.n, seed=arguments.seed)
    return _print_result(arguments, found)


def fit(arguments: Namespace) -> int:
    """Fit and save a policy."""
    check_target(arguments.out)  # before the work, not after it
    if arguments.rivals is not None:
        sys.stderr.write("hagpolicy: --rivals is called --baselines now\n")
    learner: Any = (
        [name.strip() for name in arguments.learner.split(",")] if "," in arguments.learner else arguments.learner
    )
    policy = hag.fit(
        hag.load_table(arguments.folder),
        arguments.encoder,
        learner,
        objective=arguments.objective,
        baselines=arguments.rivals if arguments.baselines is None else arguments.baselines,
        near_duplicates=arguments.near_duplicates,
        seed=arguments.seed,
    )
    policy.save(arguments.out)
    if arguments.json:
        points = [{**point.to_json(), "unit": policy.dial.unit} for point in policy.dial.points]
        values = {"policy": arguments.out, "ships_sbs": policy.ships_sbs, "reason": policy.reason, "points": points}
        _write(format_json({**values, "evaluation": policy.evaluation and policy.evaluation.to_json()}))
    else:
        _write("\n\n".join(str(evaluation) for evaluation in policy.evaluations))
        _write(f'\nsaved: {arguments.out}\nnext:  hagpolicy predict {shlex.quote(arguments.out)} "your prompt"')
    return DONE


def evaluate(arguments: Namespace) -> int:
    """A policy on another table."""
    found = hag.evaluate(
        hag.load(arguments.policy), hag.load_table(arguments.folder), price=arguments.price, n=arguments.n
    )
    return _print_result(arguments, found)


def predict(arguments: Namespace) -> int:
    """Decide one prompt; imports nothing that only training needs."""
    text = _read_stdin() if arguments.prompt == "-" else arguments.prompt
    policy = hag.load(arguments.policy)
    decision = policy.decide(text, parse_fixed(arguments.fixed), price=arguments.price, n=arguments.n)
    rendering = None
    if arguments.engine:
        rendering = decision.render(arguments.engine, unsupported=arguments.unsupported)
    if arguments.json:
        _write(format_json(_decision_to_json(decision, rendering)))
    else:
        _write("\n".join([*_describe_decision(policy, decision), *_describe_rendering(decision, rendering)]))
    return PARTLY if decision.reason == "no_config_agrees" else DONE


def _describe_decision(policy: hag.Policy, decision: hag.Decision) -> list[str]:
    """The config, what it promises, and why it was chosen."""
    lines = [describe_config(decision.config)]
    if decision.value is not None and decision.advantage is not None:
        objectives = {"price": "reward minus price", "n": "value"}
        objective = objectives.get(policy.dial.argument, policy.dial.points[0].name)
        gain = f"{format_signed(decision.advantage)} over the best on average"
        lines.append(f"expected {objective} {decision.value:.3f}, {gain}")
        if decision.cost is not None:
            lines.append(f"expected {policy.dial.unit}s {decision.cost:.3g}")
    return [*lines, decision.explanation]


def _describe_rendering(decision: hag.Decision, rendering: hag.Rendering | None) -> list[str]:
    """The call that was asked for; nothing where none was."""
    if rendering is None:
        return []
    lines = [f"{name}={value!r}" for name, value in rendering.kwargs.items()]
    for name, value in rendering.processor_settings.items():
        lines.append(f"logits processor: {name}={value!r} (Decision.render(…).processors in Python)")
    return [*lines, f"prompt: {rendering.prompt!r}"] if decision.config.hint else lines


def _decision_to_json(decision: hag.Decision, rendering: hag.Rendering | None) -> dict[str, Any]:
    values: dict[str, Any] = {
        name: getattr(decision, name) for name in ("index", "value", "advantage", "cost", "reason", "explanation")
    }
    values["config"] = decision.config.to_dict()
    if rendering is not None:
        values |= {name: getattr(rendering, name) for name in ("engine", "prompt", "kwargs")}
        values["receipt"] = {name: getattr(rendering.receipt, name) for name in ("applied", "dropped", "clamped")}
        # Settings that no keyword expresses (a penalty in transformers) need these processors as well.
        values["processors"] = rendering.processor_settings
    return values


def report(arguments: Namespace) -> int:
    """Write the HTML report."""
    policy = hag.load(arguments.policy) if arguments.policy else None
    table = hag.load_table(arguments.folder, space=policy.space if policy else None)
    command = shlex.join(["hagpolicy", "report", arguments.folder])
    command += f" --policy {shlex.quote(arguments.policy)}" if arguments.policy else ""
    path = hag.write_report(arguments.out, table=table, policy=policy, title=arguments.title, command=command)
    _write(format_json({"report": str(path)}) if arguments.json else f"report: {path}")
    return DONE


def _print_result(arguments: Namespace, result: hag.Headroom | hag.Portfolio | hag.Evaluation) -> int:
    """Print a result, as JSON where that is asked for."""
    _write(format_json(result.to_json()) if arguments.json else str(result))
    return DONE


def _print_table(arguments: Namespace, table: hag.SweepTable, folder: str, following: str, summary: Any = None) -> int:
    """Print what a table holds and, of a sweep, what it did cost; 1 where cells failed."""
    if arguments.json:
        shape = dict(zip(("prompts", "configs", "samples"), table.rewards.shape, strict=True))
        values = {"folder": folder, **shape, "scored": int(table.counts.sum()), "failures": dict(table.failures)}
        _write(format_json(values if summary is None else {**values, "summary": summary.to_json()}))
    else:
        _write(repr(table))
        if summary is not None:
            _write(str(summary))
        for reason, count in sorted(table.failures.items()):
            _write(f"{count} cells failed: {reason}")
        if summary is not None and table.failures:
            following = f"the same command, which tries cells once more that the engine failed on, or {following}"
        _write(f"saved: {folder}\nnext:  {following}")
    return PARTLY if table.failures else DONE


def _read_stdin() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise InvalidInput("prompt on stdin", f"text in {sys.stdin.encoding}", str(error)) from error


def _write(line: str = "") -> None:
    sys.stdout.write(line + "\n")
