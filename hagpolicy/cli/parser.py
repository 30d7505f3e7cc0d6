"""What can be typed: verbs, options and their help.

A verb is a row of `VERBS`, a function here that adds its options, and a function of the same name in `commands`. Names
of plug-ins are listed from their registries, which are imported for the verb that is asked for and for no other.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, get_args

from hagpolicy import __version__
from hagpolicy.cli import commands
from hagpolicy.cli.options import SPACES
from hagpolicy.config.dialects import DIALECTS
from hagpolicy.config.render import Unsupported

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

exit codes:
  0    done
  1    done in part: cells failed, the engine or the disk gave up, nothing agrees with --fixed
  2    bad input or usage
  3    an optional package is missing (the message says how to install it)
  130  interrupted; what is stored stays, and the same command goes on from there"""


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
    parser = argparse.ArgumentParser("hagpolicy", description=_ABOUT, epilog=_END, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"hagpolicy {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=_VerbParser)
    for name, verb in VERBS.items():
        made = verbs.add_parser(
            name,
            help=verb.about,
            description=verb.about,
            epilog=f"example:\n  {verb.example}",
            formatter_class=raw,
            add_options=verb.add_options,
        )
        made.set_defaults(run=getattr(commands, name))
        made.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser


class _VerbParser(argparse.ArgumentParser):
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


def _parse_seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text}")
    return int(text)


def _parse_share(text: str) -> float:
    value = float(text)
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a share in (0, 1], got {text}")
    return value


def _parse_names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _list_names(names: Iterable[str]) -> str:
    """The names as "a, b or c"."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _add_objective(parser: argparse.ArgumentParser, more: str = "") -> None:
    from hagpolicy.analysis.objectives.parse import FAMILIES

    parser.add_argument(
        "--objective",
        default="reward",
        metavar="OBJECTIVE",
        help=f"what is maximised: reward (default), or FAMILY@VALUE, such as pass@4 or price/token@0,0.001, of the "
        f"families {_list_names(FAMILIES)}{more}",
    )


def _add_scorer(parser: argparse.ArgumentParser) -> None:
    from hagpolicy.scorers.registry import ONLY_IN_CALLS, list_prompt_scorers

    parser.add_argument(
        "--scorer",
        action="append",
        metavar="SCORER",
        help=f"a scorer's name ({_list_names(list_prompt_scorers())}), or TASK=NAME once for each task, or a JSON "
        f"file with a name and its options ({_list_names(ONLY_IN_CALLS)} too) or one scorer a task; left out: each "
        "prompt brings its own in the key `scorer`",
    )


def _add_dial(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--price", type=float, help="reward of a token or second, for a policy fitted with prices")
    parser.add_argument("--n", type=int, help="answers that will be drawn, for a policy fitted for several")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", default="hagpolicy-demo", metavar="FOLDER", help="for all it writes (default %(default)s)"
    )
    parser.add_argument("--engine", default="smollm2", help="the LLM (default %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_sweep(parser: argparse.ArgumentParser) -> None:
    _add_engine(parser)
    parser.add_argument(
        "--prompts",
        required=True,
        metavar="FILE",
        help="JSONL or Parquet: prompt (or messages), and optionally reference, task, group, id",
    )
    parser.add_argument(
        "--space",
        default="standard",
        help=f"{', '.join(SPACES)}, or a JSON file with a list of configurations (default %(default)s)",
    )
    _add_scorer(parser)
    parser.add_argument(
        "--samples", type=int, default=4, metavar="N", help="of each sampled configuration (default %(default)s)"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=256, metavar="N", help="new tokens an answer (default %(default)s)"
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="an existing sweep of the same engine goes on")
    parser.add_argument("--seed", type=int, default=0, help="of the random streams (default %(default)s)")
    _add_plan(parser)
    parser.add_argument(
        "--quiet", action="store_true", help="no forecast and no bar on stderr, only warnings and errors"
    )


def _add_engine(parser: argparse.ArgumentParser) -> None:
    from hagpolicy.engines.spec import ENGINES, SHORTHANDS

    forms = [kind.form for kind in ENGINES.values()]
    parser.add_argument(
        "--engine",
        required=True,
        help=f"{_list_names(['a folder', 'a GGUF file', *SHORTHANDS, *forms])}; openai: is any server of the "
        "OpenAI-compatible API",
    )
    parser.add_argument(
        "--engine-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the engine, such as device=cuda, server=vllm, key_env=MY_KEY or, on Ray, num_gpus=1; repeatable. "
        "Never a key itself: keys come from the environment",
    )
    parser.add_argument("--on", choices=("ray",), help="generate on the workers of a Ray cluster")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="on Ray: how many (default: as many as there is room for)"
    )


def _add_plan(parser: argparse.ArgumentParser) -> None:
    from hagpolicy.sweeping.strategies.base import DEFAULT_SHARE, STRATEGIES

    parser.add_argument(
        "--strategy",
        choices=STRATEGIES.choices,
        default="full",
        help="which cells are generated: all (full, the default), or those that a strategy asks for",
    )
    parser.add_argument(
        "--budget",
        metavar="LIMIT",
        help="most generations (5000), tokens ('2e6 tokens') or minutes ('30 min') to spend; left out: all of a full "
        f"sweep, {DEFAULT_SHARE:.0%}% of its generations for another strategy",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what it would cost, from what is stored or a probe of at most 16 cells, and write nothing",
    )


def _add_headroom(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="of a sweep")
    _add_objective(parser)
    parser.add_argument("--seed", type=_parse_seed, default=0, help="of folds, splits and bootstrap (default 0)")


def _add_fit(parser: argparse.ArgumentParser) -> None:
    from hagpolicy.fitting.baselines.registry import BASELINES
    from hagpolicy.fitting.encoders.registry import ENCODERS
    from hagpolicy.fitting.learners.registry import LEARNERS

    parser.add_argument("folder", help="of a sweep")
    parser.add_argument("--out", required=True, metavar="POLICY", help="folder for the policy")
    parser.add_argument("--encoder", default="static", help=f"{_list_names(ENCODERS)} (default %(default)s)")
    parser.add_argument(
        "--learner",
        default="auto",
        help=f"{_list_names(LEARNERS.choices)} (default %(default)s), or several with commas",
    )
    _add_objective(parser, "; with several values it is a dial that predict turns")
    compared = parser.add_mutually_exclusive_group()
    compared.add_argument(
        "--baselines",
        type=_parse_names,
        metavar="NAMES",
        help=f"other ways to choose, compared: {_list_names(BASELINES)}, several with commas (default nearest)",
    )
    compared.add_argument("--rivals", type=_parse_names, help=argparse.SUPPRESS)  # the earlier word, for one version
    parser.add_argument(
        "--near-duplicates",
        type=_parse_share,
        metavar="SHARE",
        help="keep prompts together that share this much of their text, (0, 1]",
    )
    parser.add_argument("--seed", type=_parse_seed, default=0, help="of folds, bootstrap and learners (default 0)")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", help="folder of a policy")
    parser.add_argument("folder", help="of a sweep over the same configurations")
    _add_dial(parser)


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", help="folder of a policy")
    parser.add_argument("prompt", nargs="?", default="-", help="the prompt's text; - or left out: read from stdin")
    parser.add_argument(
        "--fixed",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a setting that is decided already; repeatable",
    )
    _add_dial(parser)
    parser.add_argument("--engine", metavar="NAME", help=f"print the call for {_list_names(DIALECTS)}")
    parser.add_argument(
        "--unsupported",
        choices=get_args(Unsupported),
        default="error",
        help="a setting that the engine lacks: fail (default), warn or drop it",
    )


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="of a sweep")
    parser.add_argument("--policy", metavar="POLICY", help="folder of the policy fitted on it")
    parser.add_argument("--out", default="report.html", metavar="FILE", help="(default %(default)s)")
    parser.add_argument("--title", default="Decoding policy report", help="heading of the page")


def _add_portfolio(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="of a sweep")
    parser.add_argument("--n", type=int, required=True, help="answers of one prompt, 1 to 16")
    parser.add_argument("--seed", type=_parse_seed, default=0, help="of folds and bootstrap (default 0)")


def _add_rescore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="of a sweep")
    _add_scorer(parser)


VERBS = {
    "demo": Verb("the whole loop on a small real LLM, in a few minutes", "hagpolicy demo", _add_demo),
    "sweep": Verb(
        "generate and score answers of prompts under every configuration; resumes",
        "hagpolicy sweep --engine ./my-model --prompts qa.jsonl --scorer exact_match --out sweeps/qa",
        _add_sweep,
    ),
    "headroom": Verb("what there is to win, before any training", "hagpolicy headroom sweeps/qa", _add_headroom),
    "fit": Verb(
        "fit a policy; ships the single best configuration unless more is proven",
        "hagpolicy fit sweeps/qa --out policies/qa --learner ridge,knn",
        _add_fit,
    ),
    "evaluate": Verb(
        "a policy on another sweep; prompts it was trained on are left out",
        "hagpolicy evaluate policies/qa sweeps/new",
        _add_evaluate,
    ),
    "predict": Verb(
        "the decoding configuration of a prompt",
        """hagpolicy predict policies/qa "Name five rivers." --fixed temperature=0.2 --engine transformers
  hagpolicy predict policies/qa - --json < prompt.txt""",
        _add_predict,
    ),
    "report": Verb(
        "one HTML file to look at",
        "hagpolicy report sweeps/qa --policy policies/qa --out report.html",
        _add_report,
    ),
    "portfolio": Verb(
        "for several parallel answers of which the best counts: the best set of configurations",
        "hagpolicy portfolio sweeps/qa --n 4",
        _add_portfolio,
    ),
    "rescore": Verb(
        "score the stored answers again, without generating",
        "hagpolicy rescore sweeps/qa --scorer numeric_match",
        _add_rescore,
    ),
}
"""Verbs in the order in which they are listed."""
