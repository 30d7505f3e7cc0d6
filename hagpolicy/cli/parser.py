"""What can be typed: verbs, options and their help.

A verb is a row of `VERBS`, a function in `arguments` that adds its options, and a function of the same name in
`commands`. One of two words, such as "log value", stands in the group of the first.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from hagpolicy import __version__
from hagpolicy.cli import arguments, commands, tuning
from hagpolicy.cli.exit_codes import SUMMARY
from hagpolicy.errors import InvalidInput

__all__ = ["VERBS", "Verb", "build_parser"]

_ABOUT = """\
Finds out, for one frozen LLM and your own prompts and scorer, which decoding settings
each prompt should get, and says honestly how much of that is proven."""

_END = """\
the way from prompts to a policy:
  hagpolicy sweep --engine smollm2 --prompts prompts.jsonl --scorer math=numeric_match \\
                  --scorer lists=distinct_items --max-tokens 64 --out sweeps/smol
  hagpolicy headroom sweeps/smol                      is there anything to win?
  hagpolicy fit sweeps/smol --out policies/smol       ships only what is proven
  hagpolicy predict policies/smol "What is 17 * 23?" --engine vllm
  hagpolicy report sweeps/smol --policy policies/smol --out report.html

"""


@dataclass(frozen=True)
class Verb:
    """One verb of the command line; what it does is the function of its name in `commands`.

    Attributes:
        about: what it does, in one line.
        example: a command that uses it.
        add_options: adds its arguments to its parser; called when the verb is used.
    """

    about: str
    example: str
    add_options: Callable[[argparse.ArgumentParser], None]


def build_parser() -> argparse.ArgumentParser:
    """The parser of `hagpolicy`; each verb sets `run`, a function from the arguments to the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser("hagpolicy", description=_ABOUT, epilog=_END + SUMMARY, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"hagpolicy {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=_VerbParser)
    places = {"": verbs}
    for name, verb in VERBS.items():
        group, _, own = name.rpartition(" ")
        if group not in places:
            made = verbs.add_parser(
                group, help=GROUPS[group], description=GROUPS[group], add_options=lambda parser: None
            )
            places[group] = made.add_subparsers(metavar="VERB", required=True, parser_class=_VerbParser)
        made = places[group].add_parser(
            own,
            help=verb.about,
            description=verb.about,
            epilog=f"example:\n  {verb.example}",
            formatter_class=raw,
            add_options=verb.add_options,
        )
        made.set_defaults(run=getattr(commands, name.replace(" ", "_")))
        made.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are those of the library, for one line and one exit code."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments. Raises InvalidInput."""
        raise InvalidInput("usage", f"the arguments of `{self.prog}`", message, f"See {self.prog} --help.")


class _VerbParser(_Parser):
    """The parser of a verb, whose options are added when it is used: `predict` must not import what lists learners."""

    def __init__(self, *args: Any, add_options: Callable[[argparse.ArgumentParser], None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._add_options: Callable[[argparse.ArgumentParser], None] | None = add_options

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As of `ArgumentParser`, after the options were added."""
        if self._add_options is not None:
            self._add_options(self)
            self._add_options = None
        return super().parse_known_args(args, namespace)


GROUPS = {
    "log": "what the decisions of live traffic tell",
    "space": "which configurations compete",
    "tune": "what the frozen LLM is given beside its weights, and hints",
}
"""First words of verbs of two, in one line each."""
VERBS = {
    "demo": Verb("the whole loop on a small real LLM, in a few minutes", "hagpolicy demo", arguments.add_demo),
    "sweep": Verb(
        "generate and score answers of prompts under every configuration; resumes",
        "hagpolicy sweep --engine ./my-model --prompts qa.jsonl --scorer exact_match --out sweeps/qa",
        arguments.add_sweep,
    ),
    "space suggest": Verb(
        "from a short race over many configurations the few that complement each other",
        """hagpolicy space suggest --engine ./my-model --prompts pilot.jsonl --scorer exact_match --out races/qa \\
      --budget '30 min' --write qa.json""",
        arguments.add_space_suggest,
    ),
    "tune adapter": Verb(
        "a low-rank adapter, from prompts with answers; resumes",
        "hagpolicy tune adapter --engine smollm2 --prompts train.jsonl --out adapters/qa --rank 8 --epochs 3",
        tuning.add_adapter,
    ),
    "tune prefix": Verb(
        "a soft prefix, from prompts with answers; resumes",
        "hagpolicy tune prefix --engine smollm2 --prompts train.jsonl --out prefixes/qa --tokens 8",
        tuning.add_prefix,
    ),
    "tune references": Verb(
        "a store of reference answers, from prompts with answers; resumes",
        "hagpolicy tune references --engine smollm2 --prompts faq.jsonl --out stores/faq",
        tuning.add_references,
    ),
    "tune drafts": Verb(
        "a memory of earlier answers, for drafts, from a sweep or from prompts with answers",
        "hagpolicy tune drafts --engine smollm2 --table sweeps/qa --out drafts/qa",
        tuning.add_drafts,
    ),
    "tune hints": Verb(
        "hints that the LLM proposes, of which a race keeps those that complement each other; resumes",
        "hagpolicy tune hints --engine smollm2 --prompts train.jsonl --scorer exact_match --out hints/qa --keep 4",
        tuning.add_hints,
    ),
    "headroom": Verb(
        "what there is to win, before any training", "hagpolicy headroom sweeps/qa", arguments.add_headroom
    ),
    "show": Verb("answers to look at", "hagpolicy show sweeps/qa --worst 5 --task math", arguments.add_show),
    "effects": Verb(
        "what each setting does to each task's reward, tokens and loops",
        "hagpolicy effects sweeps/qa",
        arguments.add_effects,
    ),
    "fit": Verb(
        "fit a policy; ships what is proven: a choice per prompt, else the single best config, else what runs today",
        "hagpolicy fit sweeps/qa --out policies/qa --learner ridge,knn",
        arguments.add_fit,
    ),
    "evaluate": Verb(
        "a policy on another sweep; prompts it was trained on are left out",
        "hagpolicy evaluate policies/qa sweeps/new",
        arguments.add_evaluate,
    ),
    "compare": Verb(
        "whether one policy or configuration is better than another",
        "hagpolicy compare policies/new policies/old sweeps/new --at-least -0.01",
        arguments.add_compare,
    ),
    "predict": Verb(
        "the decoding configuration of a prompt",
        """hagpolicy predict policies/qa "Name five rivers." --fixed temperature=0.2 --engine transformers
  hagpolicy predict policies/qa - --json < prompt.txt
  hagpolicy predict policies/qa --prompts new.jsonl --map prompt=question --json > decisions.jsonl""",
        arguments.add_predict,
    ),
    "rules": Verb(
        "what a policy decides, in a few rules of words, and how much of it they reproduce",
        "hagpolicy rules policies/qa sweeps/qa",
        arguments.add_rules,
    ),
    "explain": Verb(
        "why a policy decides as it does for a prompt: what moved it, how sure it is, the nearest training prompts",
        'hagpolicy explain policies/qa "Name five rivers."',
        arguments.add_explain,
    ),
    "serve": Verb(
        "a proxy before a server of the OpenAI API that gives each request its configuration",
        "hagpolicy serve --policy policies/qa --upstream http://127.0.0.1:8000 --server vllm",
        arguments.add_serve,
    ),
    "reward": Verb(
        "what the answer of a logged call was worth",
        "hagpolicy reward 6f1c0ea2 1 --log decisions.db",
        arguments.add_reward,
    ),
    "export": Verb(
        "the proven single config, written where an engine reads its defaults",
        """hagpolicy export policies/qa --to generation_config --out ./my-model
  hagpolicy export policies/qa --to modelfile --model llama3.2 --out Modelfile
  hagpolicy export policies/qa --to vllm""",
        arguments.add_export,
    ),
    "log export": Verb(
        "the log as one Parquet file", "hagpolicy log export decisions.db decisions.parquet", arguments.add_log_export
    ),
    "log table": Verb(
        "the calls that drew their configuration, as a table that fit takes",
        "hagpolicy log table decisions.db live.parquet",
        arguments.add_log_table,
    ),
    "log value": Verb(
        "what a policy would have been worth on logged calls, where exploration drew what it would choose",
        "hagpolicy log value decisions.db --policy policies/new",
        arguments.add_log_value,
    ),
    "log experiment": Verb(
        "whether the policy beats the default in an experiment; may be looked at any day",
        "hagpolicy log experiment decisions.db",
        arguments.add_log_experiment,
    ),
    "report": Verb(
        "one HTML file to look at",
        "hagpolicy report sweeps/qa --policy policies/qa --out report.html",
        arguments.add_report,
    ),
    "portfolio": Verb(
        "for several parallel answers of which the best counts: the best set of configurations",
        "hagpolicy portfolio sweeps/qa --n 4",
        arguments.add_portfolio,
    ),
    "rescore": Verb(
        "score the stored answers again, without generating",
        "hagpolicy rescore sweeps/qa --scorer numeric_match",
        arguments.add_rescore,
    ),
}
"""Verbs in the order in which they are listed."""
