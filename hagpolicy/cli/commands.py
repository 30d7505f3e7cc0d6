"""What each verb does: read the arguments, call the library, print, return the exit code."""

from __future__ import annotations

import json
import math
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hagpolicy as hag
from hagpolicy._files import check_replaceable, format_json, write_text
from hagpolicy.cli import tuning
from hagpolicy.cli.evidence import export_log, export_trial, print_experiment, print_value
from hagpolicy.cli.exit_codes import DONE, INCONCLUSIVE, PARTLY, REJECT, UNPROVEN
from hagpolicy.cli.options import (
    make_space,
    parse_by_model,
    parse_contender,
    parse_default,
    parse_endpoint_options,
    parse_fixed,
    parse_plugins,
    parse_scorer,
    read_inputs,
    read_key,
    read_table,
)
from hagpolicy.cli.predictions import decision_to_json, predict_many
from hagpolicy.cli.streams import read_stdin, show_progress, write, write_error
from hagpolicy.policy.bundle import check_target
from hagpolicy.reporting.text import describe_config, format_signed

if TYPE_CHECKING:
    from hagpolicy.policy.session import Providers
    from hagpolicy.serving.handler import RequestHandler


def demo(arguments: Namespace) -> int:
    """The whole loop on a small LLM."""
    from hagpolicy.cli.demo import run_demo

    show = (lambda line="": None) if arguments.json else write
    if arguments.serve:
        return _serve_demo(arguments, show)
    outcome = run_demo(arguments.out, arguments.engine, write=show, progress=not arguments.quiet)
    if arguments.json:
        write(format_json(outcome))
    return PARTLY if outcome["failures"] else DONE


def _serve_demo(arguments: Namespace, show: Callable[[str], object]) -> int:
    """The demo's policy before a server; the demo itself runs first where it has left none."""
    from hagpolicy.cli.demo import run_demo
    from hagpolicy.cli.demo_serve import check_serving, serve_demo

    check_serving()
    if not (Path(arguments.out) / "policy").exists():
        run_demo(arguments.out, arguments.engine, write=show, progress=not arguments.quiet)
    served = serve_demo(arguments.out, arguments.engine, write=show)
    if arguments.json:
        write(format_json({"served": served}))
    return DONE


def sweep(arguments: Namespace) -> int:
    """Fill the cells of a sweep folder, or print what that would cost."""
    from hagpolicy.engines.loading import open_engine
    from hagpolicy.sweeping.forecast.preview import preview
    from hagpolicy.sweeping.forecast.progress import ProgressReporter

    prompts, spec, scorer = read_inputs(arguments)
    reporter = ProgressReporter(not arguments.quiet)
    with open_engine(spec, arguments.on, arguments.workers, arguments.threads) as engine:
        options: dict[str, Any] = {
            name: getattr(arguments, name) for name in ("samples", "max_tokens", "out", "seed", "strategy", "budget")
        }
        options |= {"default": parse_default(arguments.default), "stop": arguments.stop}
        inputs = engine, prompts, make_space(arguments.space, engine), scorer
        if arguments.dry_run:
            forecast = preview(*inputs, **options)
            write(format_json(forecast.to_json()) if arguments.json else f"{forecast}\nnothing was written: --dry-run")
            return PARTLY if forecast.to_generate and forecast.seconds is None else DONE
        until = hag.until_proven() if arguments.until else None
        table = hag.sweep(*inputs, **options, until=until, progress=reporter)
    following = f"hagpolicy headroom {shlex.quote(arguments.out)}"
    return _print_table(arguments, table, arguments.out, following, reporter.summary)


def space_suggest(arguments: Namespace) -> int:
    """The few configs of a large space that complement each other."""
    from hagpolicy.engines.loading import open_engine
    from hagpolicy.tuning.space import LARGE_PRESET

    if arguments.write is not None:  # before the work, not after it
        check_replaceable(arguments.write, lambda head: head.lstrip().startswith(b"[") and b"{" in head, "a space")
    prompts, spec, scorer = read_inputs(arguments)
    names = ("out", "most", "samples", "max_tokens", "seed", "stop")
    options: dict[str, Any] = {name: getattr(arguments, name) for name in names}
    options |= {"default": parse_default(arguments.default), "progress": not arguments.quiet}
    with open_engine(spec, arguments.on, arguments.workers, arguments.threads) as engine:
        # The preset's artefacts are those of the engine.
        given = arguments.space if arguments.space == LARGE_PRESET else make_space(arguments.space, engine)
        found = hag.suggest_space(engine, prompts, scorer, arguments.budget, space=given, **options)
    if arguments.write is not None:
        write_text(arguments.write, format_json(found.space.to_json()) + "\n")
    return _print_result(arguments, found)


def tune_adapter(arguments: Namespace) -> int:
    """Tune an adapter."""
    return tuning.build_artefact(arguments, hag.tune_adapter, "adapter")


def tune_prefix(arguments: Namespace) -> int:
    """Tune a soft prefix."""
    return tuning.build_artefact(arguments, hag.tune_prefix, "soft_prefix")


def tune_references(arguments: Namespace) -> int:
    """Build a store of reference answers."""
    return tuning.build_artefact(arguments, hag.build_references, "reference")


def tune_drafts(arguments: Namespace) -> int:
    """Build a memory of drafts."""
    return tuning.build_drafts(arguments)


def tune_hints(arguments: Namespace) -> int:
    """Let the LLM propose hints, and keep those that complement each other."""
    return tuning.tune_hints(arguments)


def rescore(arguments: Namespace) -> int:
    """Score stored answers again."""
    table = hag.rescore(arguments.folder, parse_scorer(arguments.scorer))
    return _print_table(arguments, table, arguments.folder, f"hagpolicy headroom {shlex.quote(arguments.folder)}")


def headroom(arguments: Namespace) -> int:
    """What there is to win."""
    from hagpolicy.analysis.objectives import get_objectives

    objective = get_objectives(arguments.objective)  # before the table is read, as all that can be refused
    found = hag.headroom(read_table(arguments), objective=objective, seed=arguments.seed)
    return _print_result(arguments, found)


def effects(arguments: Namespace) -> int:
    """What each setting does to each task's reward, tokens and loops."""
    found = hag.effects(read_table(arguments), seed=arguments.seed)
    return _print_result(arguments, found if arguments.task is None else found.of_task(arguments.task))


def portfolio(arguments: Namespace) -> int:
    """The best set of configs for several parallel answers."""
    from hagpolicy.analysis.portfolio import check_samples

    check_samples(arguments.n)
    found = hag.portfolio(read_table(arguments), arguments.n, seed=arguments.seed)
    return _print_result(arguments, found)


def fit(arguments: Namespace) -> int:
    """Fit and save a policy."""
    from hagpolicy.analysis.objectives import get_objectives
    from hagpolicy.fitting.baselines.registry import get_baselines
    from hagpolicy.fitting.encoders.features import check_encoder
    from hagpolicy.fitting.encoders.registry import get_encoder
    from hagpolicy.fitting.learners.registry import get_learners

    check_target(arguments.out)  # before the work, not after it
    encoder = get_encoder(arguments.encoder)
    check_encoder(encoder)
    given = parse_plugins("learner", arguments.learner)
    learner = given if len(given) > 1 else given[0]
    named = arguments.rivals if arguments.baselines is None else arguments.baselines
    baselines = None if named is None else parse_plugins("baseline", named)
    get_objectives(arguments.objective), get_learners(learner), get_baselines(baselines or [])
    table = read_table(arguments)
    with show_progress("hagpolicy.fitting"):
        policy = hag.fit(
            table,
            encoder,
            learner,
            objective=arguments.objective,
            baselines=baselines,
            near_duplicates=arguments.near_duplicates,
            reads=arguments.reads,
            seed=arguments.seed,
            time_limit=arguments.time_limit,
        )
    policy.save(arguments.out, explain=arguments.explain, include_prompts=arguments.include_prompts)
    if arguments.rivals is not None:
        write_error("--rivals is called --baselines now")
    if arguments.json:
        points = [{**point.to_json(), "unit": policy.dial.unit} for point in policy.dial.points]
        values = {"policy": arguments.out, "ships": policy.ships, "ships_sbs": policy.ships_sbs}
        values |= {"reference": policy.reference.to_dict(), "reason": policy.reason, "points": points}
        write(format_json({**values, "evaluation": policy.evaluation and policy.evaluation.to_json()}))
    else:
        write("\n\n".join(str(evaluation) for evaluation in policy.evaluations))
        write(f'\nsaved: {arguments.out}\nnext:  hagpolicy predict {shlex.quote(arguments.out)} "your prompt"')
    return DONE


def evaluate(arguments: Namespace) -> int:
    """A policy on another table."""
    policy = hag.load(arguments.policy)
    policy.dial.point(arguments.price, arguments.n)
    found = hag.evaluate(policy, read_table(arguments), price=arguments.price, n=arguments.n)
    return _print_result(arguments, found)


def compare(arguments: Namespace) -> int:
    """Whether one policy or configuration is better than another."""
    from hagpolicy.analysis.objectives import get_objectives

    a, b = (parse_contender(given) for given in (arguments.a, arguments.b))
    get_objectives(arguments.objective)
    for name in {a, b} - {"default"}:
        if isinstance(name, str):
            hag.load(name)
    table = read_table(arguments)
    found = hag.compare(a, b, table, objective=arguments.objective, at_least=arguments.at_least)
    _print_result(arguments, found)
    return {"allow": DONE, "reject": REJECT, "inconclusive": INCONCLUSIVE}[found.verdict]


def predict(arguments: Namespace) -> int:
    """Decide one prompt, or those of files; imports nothing that only training needs."""
    if arguments.prompts is not None:
        if arguments.prompt is not None:
            raise hag.InvalidInput("prompt", "none beside --prompts", arguments.prompt)
        return predict_many(hag.load(arguments.policy), arguments)
    for option in ("map", "limit"):
        if getattr(arguments, option) is not None:
            raise hag.InvalidInput(f"--{option}", "--prompts beside it", "none")
    prompt = _read_prompt(arguments)
    policy = hag.load(arguments.policy)
    turned = {"price": arguments.price, "n": arguments.n, "task": arguments.task}
    decision = policy.decide(prompt, parse_fixed(arguments.fixed), **turned)
    rendering = None
    if arguments.engine:
        rendering = decision.render(arguments.engine, unsupported=arguments.unsupported)
    if arguments.json:
        write(format_json(decision_to_json(decision, rendering)))
    else:
        write("\n".join([*_describe_decision(policy, decision), *_describe_rendering(decision, rendering)]))
    return PARTLY if decision.reason == "no_config_agrees" else DONE


def rules(arguments: Namespace) -> int:
    """What a policy decides, in a few rules."""
    policy = hag.load(arguments.policy)
    found = hag.distill_rules(policy, read_table(arguments).prompts, lines=arguments.lines, seed=arguments.seed)
    return _print_result(arguments, found)


def explain(arguments: Namespace) -> int:
    """Why a policy decides as it does for one prompt."""
    prompt = _read_prompt(arguments)
    turned = {"price": arguments.price, "n": arguments.n, "task": arguments.task}
    found = hag.load(arguments.policy).explain(prompt, **turned, neighbours=arguments.neighbours)
    write(format_json(found.to_dict()) if arguments.json else str(found))
    return DONE


def serve(arguments: Namespace) -> int:
    """Put a proxy before a server, until a signal ends it."""
    from hagpolicy.policy.session import parse_providers
    from hagpolicy.serving.limits import ProxyLimits
    from hagpolicy.serving.metrics import find_metrics
    from hagpolicy.serving.own_paths import ANSWERS
    from hagpolicy.serving.proxy import listen, make_proxy, run_proxy
    from hagpolicy.serving.reload import BundleWatcher, stamp_folders

    if not 0.0 <= arguments.graceful_timeout < math.inf:
        raise hag.InvalidInput("--graceful-timeout", "seconds of at least 0", arguments.graceful_timeout)
    folders, upstream_key = parse_by_model("--policy", arguments.policy), read_key(arguments.upstream_key_env)
    seconds, seen = arguments.reload, stamp_folders(folders)
    providers = parse_providers(arguments.provider)
    handler = _make_handler(arguments, folders, upstream_key, providers)
    app = make_proxy(
        handler,
        arguments.upstream,
        limits=ProxyLimits(body_bytes=int(arguments.max_body * 2**20), requests=arguments.max_requests),
        answers=() if arguments.pass_paths else ANSWERS,
        key=read_key(arguments.key_env),
        upstream_key=upstream_key,
        read_seconds=arguments.timeout,
        explain=arguments.explain,
    )
    watching: AbstractContextManager[Any] = nullcontext()
    if seconds:
        watching = BundleWatcher(handler, folders, seconds, find_metrics(), seen, providers)
    listening = listen(arguments.host, arguments.port)
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    url = f"http://{host}:{listening.getsockname()[1]}"
    servers = sorted({one.server for one in handler.rules.values()})
    if arguments.json:
        digests = {model: policy.digest for model, policy in handler.policies.items()}
        write(format_json({"url": url, "upstream": arguments.upstream, "servers": servers, "policies": digests}))
    else:
        write(f"{url}/v1 is {arguments.upstream} ({', '.join(servers)}) with a policy before it; Ctrl-C ends it")
    sys.stdout.flush()
    with watching:
        try:
            run_proxy(app, listening, arguments.graceful_timeout)
        finally:
            handler.flush()
    return DONE


def _make_handler(
    arguments: Namespace, folders: dict[str, str], upstream_key: str, providers: Providers
) -> RequestHandler:
    """What rewrites by the policies in folders, for the server that is there."""
    from hagpolicy.serving.handler import RequestHandler
    from hagpolicy.serving.live import make_live
    from hagpolicy.serving.proxy import parse_upstream
    from hagpolicy.serving.settings import RULES, make_rules

    said = {name: parse_by_model(f"--{name.replace('_', '-')}", getattr(arguments, name)) for name in RULES}
    policies = {model: hag.load(folder, providers=providers) for model, folder in folders.items()}
    server = arguments.server or _probe_upstream(parse_upstream(arguments.upstream), upstream_key)
    endpoints = parse_endpoint_options(arguments.endpoint, arguments.endpoint_key_env)
    rules = make_rules(policies, said, server=server, hints=not arguments.no_hints, endpoints=endpoints)
    shares = {"explore": arguments.explore, "experiment": arguments.experiment}
    live = make_live(arguments.log, text=arguments.log_text, **shares)
    return RequestHandler(policies, rules, price=arguments.price, task=arguments.task, live=live)


def _probe_upstream(upstream: str, key: str) -> str | None:
    """What the server says that it is; None where it cannot be asked, which is said."""
    from hagpolicy.engines.openai.probe import probe

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        return probe(f"{upstream}/v1", headers).server
    except hag.EngineError as error:
        write_error(f"the server does not say what it is, and is taken for the one that was swept: {error}")
        return None


def reward(arguments: Namespace) -> int:
    """Add a call's reward to a decision log."""
    from hagpolicy.data.decision_log import add_reward

    add_reward(arguments.log, arguments.id, arguments.value)
    given = {"id": arguments.id, "value": arguments.value}
    write(format_json(given) if arguments.json else f"{arguments.id}: {arguments.value:g}")
    return DONE


def export(arguments: Namespace) -> int:
    """Write the config that stands for prompts in general where an engine reads its defaults."""
    from hagpolicy.serving.default_formats import DEFAULT_FORMATS
    from hagpolicy.serving.defaults import explain_unproven, export_defaults

    if arguments.to not in DEFAULT_FORMATS:
        raise DEFAULT_FORMATS.unknown(arguments.to)
    if arguments.to == "generation_config" and arguments.out is None:
        raise hag.InvalidInput("--out", "the folder of the model, or its generation_config.json", "none")
    policy = hag.load(arguments.policy)
    if why := explain_unproven(policy):
        write_error(f"nothing was written: {why}")
        if arguments.json:
            write(format_json({"to": arguments.to, "path": None, "config": None, "reason": why}))
        return UNPROVEN
    given = {"to": arguments.to, "out": arguments.out, "model": arguments.model, "server": arguments.server}
    options = [word for name, value in given.items() if value for word in (f"--{name}", value)]
    made = export_defaults(
        policy,
        arguments.to,
        arguments.out,
        model=arguments.model,
        server=arguments.server,
        command=shlex.join(["hagpolicy", "export", arguments.policy, *options]),
        replace=arguments.replace,
    )
    if arguments.json:
        write(format_json(made.to_json()))
    elif made.path is None:
        write(made.text.rstrip("\n"))
    else:
        lines = [f"proven: {line}" for line in made.proven] + [f"note: {line}" for line in made.notes]
        write("\n".join([describe_config(made.config), *lines, f"written: {made.path}"]))
    for line in made.not_said:
        write_error(f"not said there: {line}")
    return PARTLY if made.not_said else DONE


def log_export(arguments: Namespace) -> int:
    """Write a decision log as one Parquet file."""
    return export_log(arguments)


def log_table(arguments: Namespace) -> int:
    """Write the table of the calls that drew their config, which `fit` reads."""
    return export_trial(arguments)


def log_value(arguments: Namespace) -> int:
    """What a policy would have been worth on logged calls."""
    return print_value(arguments)


def log_experiment(arguments: Namespace) -> int:
    """Which arm of an experiment is better so far."""
    return print_experiment(arguments)


def _read_prompt(arguments: Namespace) -> Any:
    """The prompt of the command line or of stdin. Raises InvalidInput for an empty one."""
    text = read_stdin() if arguments.prompt in (None, "-") else arguments.prompt
    if not text.strip():
        raise hag.InvalidInput("prompt", "text", "an empty prompt", "Remove it or give it text.")
    return _parse_messages(text)


def _parse_messages(text: str) -> Any:
    """Chat messages where the text is a JSON list of them, else the text itself."""
    if not text.lstrip().startswith("["):
        return text
    try:
        values = json.loads(text)
    except ValueError:
        return text
    chat = isinstance(values, list) and values and all(isinstance(one, dict) and "role" in one for one in values)
    return values if chat else text


def _describe_decision(policy: hag.Policy, decision: hag.Decision) -> list[str]:
    """The config, what it promises, and why it was chosen."""
    lines = [describe_config(decision.config)]
    if decision.value is not None and decision.advantage is not None:
        objectives = {"price": "reward minus price", "n": "value"}
        objective = objectives.get(policy.dial.argument, policy.dial.points[0].name)
        gain = f"{format_signed(decision.advantage)} over the reference"
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


def report(arguments: Namespace) -> int:
    """Write the HTML report."""
    from hagpolicy.reporting.page import check_report_path

    policy = hag.load(arguments.policy) if arguments.policy else None
    check_report_path(arguments.out)
    table = read_table(arguments, space=policy.space if policy else None)
    command = shlex.join(["hagpolicy", "report", arguments.folder])
    command += f" --policy {shlex.quote(arguments.policy)}" if arguments.policy else ""
    command += f" --default {shlex.quote(arguments.default)}" if arguments.default else ""
    command += f" --prompts {shlex.quote(arguments.prompts)}" if arguments.prompts else " --all" * arguments.all
    path = hag.write_report(arguments.out, table=table, policy=policy, title=arguments.title, command=command)
    write(format_json({"report": str(path)}) if arguments.json else f"report: {path}")
    return DONE


def _print_result(
    arguments: Namespace,
    result: hag.Headroom
    | hag.Effects
    | hag.Portfolio
    | hag.Evaluation
    | hag.PairedComparison
    | hag.SpaceSuggestion
    | hag.DistilledRules,
) -> int:
    """Print a result, as JSON where that is asked for."""
    write(format_json(result.to_json()) if arguments.json else str(result))
    return DONE


def _print_table(arguments: Namespace, table: hag.SweepTable, folder: str, following: str, summary: Any = None) -> int:
    """Print what a table holds and, of a sweep, what it did cost; 1 where cells failed."""
    from hagpolicy.analysis.checks import check_rewards

    warnings = check_rewards(table, examples=True)
    if arguments.json:
        shape = dict(zip(("prompts", "configs", "samples"), table.rewards.shape, strict=True))
        values = {"folder": folder, **shape, "scored": int(table.counts.sum()), "failures": dict(table.failures)}
        values["warnings"] = warnings
        write(format_json(values if summary is None else {**values, "summary": summary.to_json()}))
    else:
        write(repr(table))
        if summary is not None:
            write(str(summary))
        for reason, count in sorted(table.failures.items()):
            write(f"{count} cells failed: {reason}")
        for warning in warnings:
            write(f"warning: {warning}")
        if summary is not None and table.failures:
            following = f"the same command, which tries cells once more that the engine failed on, or {following}"
        write(f"saved: {folder}\nnext:  {following}")
    return PARTLY if table.failures else DONE


def show(arguments: Namespace) -> int:
    """Answers of a sweep to look at."""
    from hagpolicy.reporting.answers import KINDS, find_configs, find_prompts, pick_prompts, show_answers

    table = read_table(arguments)
    rows = None if arguments.task is None else table.tasks == arguments.task
    if rows is not None and not rows.any():
        raise hag.InvalidInput("--task", f"one of {', '.join(sorted(set(table.tasks.tolist())))}", arguments.task)
    picked = [] if arguments.prompt is None else find_prompts(table, arguments.prompt)[: arguments.limit]
    asked = {kind: getattr(arguments, kind) for kind in KINDS}
    if not picked and not any(asked.values()):
        asked = dict.fromkeys(("worst", "disagreeing"), 3)
    for kind, count in asked.items():
        picked += pick_prompts(table, kind, count or 0, rows)
    configs = None if arguments.config is None else find_configs(table, arguments.config)
    shown = show_answers(table, picked, configs, arguments.samples)
    write(format_json([one.to_json() for one in shown]) if arguments.json else "\n\n".join(map(str, shown)))
    return DONE
