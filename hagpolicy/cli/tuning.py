"""The verbs `tune …`: what the frozen LLM may be given beside its weights, and the hints that it proposes.

The numbers of each builder, their defaults among them, are read from its signature.
"""

from __future__ import annotations

import argparse
import inspect
import json
import shlex
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hagpolicy as hag
from hagpolicy._code_files import is_object_path, load_object
from hagpolicy._files import format_json
from hagpolicy.artefacts.folder import check_new, open_artefact
from hagpolicy.cli.arguments import (
    add_budget,
    add_engine,
    add_prompts,
    add_reading,
    add_scorer,
    add_workers,
    parse_names,
)
from hagpolicy.cli.exit_codes import DONE
from hagpolicy.cli.options import parse_default, read_engine, read_inputs, read_prompts
from hagpolicy.cli.streams import write

__all__ = [
    "add_adapter",
    "add_drafts",
    "add_hints",
    "add_prefix",
    "add_references",
    "build_artefact",
    "build_drafts",
    "tune_hints",
]

_NUMBERS: Mapping[str, str] = {
    "rank": "of the adapter",
    "alpha": "what it is scaled by, over the rank",
    "tokens": "rows of the prefix; a configuration may take the first k of them",
    "epochs": "how often each prompt is seen",
    "batch": "prompts of a step",
    "rate": "of AdamW at its highest",
    "most_tokens": "prompts that have more, with their answers, are left out",
    "seed": "of all that is drawn",
    "proposals": "answers that the LLM is asked for, each of which proposes one hint",
    "keep": "hints at most",
    "samples": "of each prompt and sampled configuration in the race",
    "max_tokens": "new tokens an answer in the race",
}


def add_adapter(parser: argparse.ArgumentParser) -> None:
    """Of `tune adapter`."""
    _add_examples(parser)
    parser.add_argument(
        "--layers",
        type=_parse_layers,
        default="all-linear",
        metavar="NAMES",
        help="of the linear layers that are adapted, by commas (default %(default)s: all but the head)",
    )
    _add_numbers(parser, hag.tune_adapter)


def add_prefix(parser: argparse.ArgumentParser) -> None:
    """Of `tune prefix`."""
    _add_examples(parser)
    _add_numbers(parser, hag.tune_prefix)


def add_references(parser: argparse.ArgumentParser) -> None:
    """Of `tune references`."""
    _add_examples(parser)
    _add_numbers(parser, hag.build_references)


def add_drafts(parser: argparse.ArgumentParser) -> None:
    """Of `tune drafts`."""
    add_engine(parser)
    of = parser.add_mutually_exclusive_group(required=True)
    of.add_argument("--table", metavar="TABLE", help="folder of a sweep, whose stored answers are remembered")
    add_prompts(of, required=False)
    parser.add_argument("--all", action="store_true", help="all prompts of the table, not those of its latest sweep")
    add_reading(parser)
    _add_answers(parser)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="of the artefact, which must not be there yet")


def add_hints(parser: argparse.ArgumentParser) -> None:
    """Of `tune hints`."""
    add_engine(parser)
    add_workers(parser)
    add_prompts(parser)
    add_reading(parser)
    add_scorer(parser)
    parser.add_argument(
        "--proposer", metavar="ENGINE", help="that proposes, in the form of --engine (default: the same)"
    )
    parser.add_argument(
        "--hint", action="append", default=[], metavar="TEXT", help="a further hint that competes; repeatable"
    )
    parser.add_argument(
        "--base",
        metavar="SETTINGS",
        help="to which hints are added: temperature=0.7,top_p=0.9 or a JSON object (default: greedy decoding)",
    )
    add_budget(parser, "of the generations of all in the race")
    _add_numbers(parser, hag.tune_hints)
    parser.add_argument(
        "--threads", type=int, metavar="N", help="with which a model on a CPU computes (default: found by measuring)"
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="the same command goes on in it")
    parser.add_argument("--quiet", action="store_true", help="no bar on stderr, only warnings and errors")


def build_artefact(arguments: Namespace, build: Callable[..., Path], kind: str) -> int:
    """Make an artefact from prompts with answers.

    Args:
        arguments: of the command line.
        build: the builder, such as `hag.tune_adapter`.
        kind: the field of the configs that name what it makes.
    """
    check_new(arguments.out)  # before the model is loaded
    prompts, answers = read_prompts(arguments), _load_answers(arguments.answers)
    names = [name for name in inspect.signature(build).parameters if name in {*_NUMBERS, "layers"}]
    options = {name: getattr(arguments, name) for name in names}
    with _open(arguments) as engine:
        made = build(engine, prompts, arguments.out, answers=answers, progress=not arguments.quiet, **options)
    return _print_artefact(arguments, kind, made)


def build_drafts(arguments: Namespace) -> int:
    """Make a memory of drafts from the answers of a sweep, or from prompts with answers."""
    from hagpolicy.tuning.examples import take_reference

    check_new(arguments.out)
    known: hag.SweepTable | list[str]
    if arguments.table is None:
        prompts, answer = read_prompts(arguments), _load_answers(arguments.answers) or take_reference
        known = [answer(one) for one in prompts]
    else:
        prompts, known = None, hag.load_table(arguments.table, all_prompts=arguments.all)
    with _open(arguments) as engine:
        made = hag.build_draft_memory(engine, known, arguments.out, prompts=prompts)
    return _print_artefact(arguments, "draft_source", made)


def tune_hints(arguments: Namespace) -> int:
    """Let the LLM propose hints, and keep those that complement each other."""
    from hagpolicy.engines.loading import open_engine

    prompts, spec, scorer = read_inputs(arguments)
    base = parse_default(arguments.base)
    if isinstance(base, str):
        raise hag.InvalidInput("--base", "settings to which a hint can be added", base)
    names = ("out", "proposer", "proposals", "keep", "budget", "samples", "max_tokens", "seed")
    options: dict[str, Any] = {name: getattr(arguments, name) for name in names}
    options |= {"hints": arguments.hint, "progress": not arguments.quiet}
    options["base"] = None if base is None else hag.DecodingConfig.from_dict(base)
    with open_engine(spec, arguments.on, arguments.workers, arguments.threads) as engine:
        tuned = hag.tune_hints(engine, prompts, scorer, **options)
    if arguments.json:
        counts = {"proposed": tuned.proposed, "usable": tuned.usable}
        write(format_json({"folder": arguments.out, "hints": list(tuned.hints), **counts}))
    else:
        write(f"{tuned}\nsaved: {arguments.out}\nnext:  hagpolicy sweep --space {shlex.quote(arguments.out)} …")
    return DONE


def _add_examples(parser: argparse.ArgumentParser) -> None:
    """Prompts with answers, the engine they are for, and where to."""
    add_engine(parser)
    add_prompts(parser)
    add_reading(parser)
    _add_answers(parser)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="of the artefact, which must not be there yet")
    parser.add_argument("--quiet", action="store_true", help="no bar on stderr, only warnings and errors")


def _add_answers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--answers",
        metavar="FILE.py:FUNCTION",
        help="what answers a prompt, which is run (default: its reference, or the first of several)",
    )


def _load_answers(given: str | None) -> Any:
    """The function that answers a prompt; None where none was named."""
    if given is None:
        return None
    found = load_object("answers", given)[0] if is_object_path(given) else None
    if not callable(found):
        raise hag.InvalidInput("--answers", "FILE.py:FUNCTION, a function from a prompt to its answer", given)
    return found


def _add_numbers(parser: argparse.ArgumentParser, build: Callable[..., Any]) -> None:
    """The numbers that a builder takes, with its own defaults."""
    for name, parameter in inspect.signature(build).parameters.items():
        if name in _NUMBERS:
            kind, about = type(parameter.default), f"{_NUMBERS[name]} (default %(default)s)"
            option = f"--{name.replace('_', '-')}"
            parser.add_argument(option, type=kind, default=parameter.default, metavar="N", help=about)


def _parse_layers(text: str) -> str | list[str]:
    return text if text == "all-linear" else parse_names(text)


def _open(arguments: Namespace) -> Any:
    """A context with the engine that is named."""
    from hagpolicy.engines.loading import open_engine

    return open_engine(read_engine(arguments))


def _print_artefact(arguments: Namespace, kind: str, folder: Path) -> int:
    """Print what was made, as its record has it, and how a sweep is given it."""
    found = open_artefact(kind, "made", folder)
    about = {name: value for name, value in found.about.items() if name != "engine"}
    if arguments.json:
        write(format_json({"folder": str(folder), "field": kind, "digest": found.digest, "about": about}))
        return DONE
    given = "artifacts=" + json.dumps({kind: {"NAME": str(folder)}})
    lines = [f"{name.replace('_', ' ')}: {value}" for name, value in about.items()]
    sweep = f"hagpolicy sweep --engine {shlex.quote(arguments.engine)} --engine-option {shlex.quote(given)} …"
    write("\n".join([*lines, f"saved: {folder}", f"next:  {sweep}"]))
    return DONE
