"""What can be typed: verbs, options and their help."""

from __future__ import annotations

import argparse

from hagpolicy import __version__
from hagpolicy.cli import commands
from hagpolicy.engines.spec import ENGINES, SHORTHANDS

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

_PROMPTS = "JSONL or Parquet: prompt (or messages), and optionally reference, task, group, id"
_ENGINE = (
    f"a folder, a GGUF file, {', '.join(kind.form for kind in ENGINES.values())} (openai: any server of the "
    f"OpenAI-compatible API) or {', '.join(SHORTHANDS)}"
)
_SCORER = (
    "a scorer's name, or TASK=NAME once for each task, or a JSON file with a name and its options or one scorer "
    "a task; left out: each prompt brings its own in the key `scorer`"
)


def build_parser() -> argparse.ArgumentParser:
    """The parser of `hagpolicy`; each verb sets `run`, a function from the arguments to the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("hagpolicy", description=_ABOUT, epilog=_END, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"hagpolicy {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, about: str, example: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(
            name, help=about, description=about, epilog=f"example:\n  {example}", formatter_class=raw
        )
        made.set_defaults(run=getattr(commands, name))
        made.add_argument("--json", action="store_true", help="print JSON instead of text")
        return made

    _add_demo(verb("demo", "the whole loop on a small real LLM, in a few minutes", "hagpolicy demo"))
    _add_sweep(
        verb(
            "sweep",
            "generate and score answers of prompts under every configuration; resumes",
            "hagpolicy sweep --engine ./my-model --prompts qa.jsonl --scorer exact_match --out sweeps/qa",
        )
    )
    headroom = verb("headroom", "what there is to win, before any training", "hagpolicy headroom sweeps/qa")
    headroom.add_argument("folder", help="of a sweep")
    headroom.add_argument("--objective", default="reward", metavar="OBJECTIVE", help=_OBJECTIVE)
    headroom.add_argument("--seed", type=_parse_seed, default=0, help="of folds, splits and bootstrap (default 0)")
    _add_fit(verb("fit", "fit a policy; ships the single best configuration unless more is proven", _FIT_EXAMPLE))
    evaluate = verb(
        "evaluate",
        "a policy on another sweep; prompts it was trained on are left out",
        "hagpolicy evaluate policies/qa sweeps/new",
    )
    evaluate.add_argument("policy", help="folder of a policy")
    evaluate.add_argument("folder", help="of a sweep over the same configurations")
    _add_dial(evaluate)
    _add_predict(verb("predict", "the decoding configuration of a prompt", _PREDICT_EXAMPLE))
    _add_report(
        verb("report", "one HTML file to look at", "hagpolicy report sweeps/qa --policy policies/qa --out report.html")
    )
    portfolio = verb(
        "portfolio",
        "for several parallel answers of which the best counts: the best set of configurations",
        "hagpolicy portfolio sweeps/qa --n 4",
    )
    portfolio.add_argument("folder", help="of a sweep")
    portfolio.add_argument("--n", type=int, required=True, help="answers of one prompt, 1 to 16")
    portfolio.add_argument("--seed", type=_parse_seed, default=0, help="of folds and bootstrap (default 0)")
    rescore = verb(
        "rescore",
        "score the stored answers again, without generating",
        "hagpolicy rescore sweeps/qa --scorer numeric_match",
    )
    rescore.add_argument("folder", help="of a sweep")
    rescore.add_argument("--scorer", action="append", metavar="SCORER", help=_SCORER)
    return parser


def _parse_seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text}")
    return int(text)


def _parse_share(text: str) -> float:
    value = float(text)
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a share in (0, 1], got {text}")
    return value


_OBJECTIVE = (
    "what is maximised: reward (default), price/token@0,0.001, price/second@0.05, pass@4, best@4, majority@3 or "
    "quantile@0.25"
)
_FIT_EXAMPLE = "hagpolicy fit sweeps/qa --out policies/qa --learner ridge,knn"
_PREDICT_EXAMPLE = """hagpolicy predict policies/qa "Name five rivers." --fixed temperature=0.2 --engine transformers
  hagpolicy predict policies/qa - --json < prompt.txt"""


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", default="hagpolicy-demo", metavar="FOLDER", help="for all it writes (default %(default)s)"
    )
    parser.add_argument("--engine", default="smollm2", help="the LLM (default %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_sweep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", required=True, help=_ENGINE)
    parser.add_argument(
        "--engine-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the engine, such as device=cuda, server=vllm, key_env=MY_KEY or, on Ray, num_gpus=1; repeatable. "
        "Never a key itself: keys come from the environment",
    )
    parser.add_argument("--prompts", required=True, metavar="FILE", help=_PROMPTS)
    parser.add_argument(
        "--space", default="standard", help="standard, hag, or a JSON file with a list of configurations"
    )
    parser.add_argument("--scorer", action="append", metavar="SCORER", help=_SCORER)
    parser.add_argument(
        "--samples", type=int, default=4, metavar="N", help="of each sampled configuration (default %(default)s)"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=256, metavar="N", help="new tokens an answer (default %(default)s)"
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="an existing sweep of the same engine goes on")
    parser.add_argument("--seed", type=int, default=0, help="of the random streams (default %(default)s)")
    parser.add_argument(
        "--strategy",
        choices=("full", "racing", "hag"),
        default="full",
        help="which cells are generated: all (default), those that matter (racing), or the HAG paper's search (hag)",
    )
    parser.add_argument(
        "--budget",
        metavar="LIMIT",
        help="most generations (5000), tokens ('2e6 tokens') or minutes ('30 min') to spend; left out: all of a full "
        "sweep, 35 %% of its generations for another strategy",
    )
    parser.add_argument("--on", choices=("ray",), help="generate on the workers of a Ray cluster")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="on Ray: how many (default: as many as there is room for)"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what it would cost, from what is stored or a probe of at most 16 cells, and write nothing",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="no forecast and no bar on stderr, only warnings and errors"
    )


def _parse_names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _add_fit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="of a sweep")
    parser.add_argument("--out", required=True, metavar="POLICY", help="folder for the policy")
    parser.add_argument("--encoder", default="static", help="static (default)")
    parser.add_argument(
        "--learner",
        default="auto",
        help="auto (default), blend, constant, knn, ridge, lightgbm, mlp, or several with commas",
    )
    parser.add_argument(
        "--objective",
        default="reward",
        metavar="OBJECTIVE",
        help=f"{_OBJECTIVE}; with several values it is a dial that predict turns",
    )
    compared = parser.add_mutually_exclusive_group()
    compared.add_argument(
        "--baselines",
        type=_parse_names,
        metavar="NAMES",
        help="other ways to choose, compared: task_lookup, nearest (the default), argmax",
    )
    compared.add_argument("--rivals", type=_parse_names, help=argparse.SUPPRESS)  # the earlier word, for one version
    parser.add_argument(
        "--near-duplicates",
        type=_parse_share,
        metavar="SHARE",
        help="keep prompts together that share this much of their text, (0, 1]",
    )
    parser.add_argument("--seed", type=_parse_seed, default=0, help="of folds, bootstrap and learners (default 0)")


def _add_dial(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--price", type=float, help="reward of a token or second, for a policy fitted with prices")
    parser.add_argument("--n", type=int, help="answers that will be drawn, for a policy fitted for several")


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
    parser.add_argument(
        "--engine", metavar="NAME", help="print the call for transformers, vllm, sglang, openai, llama_cpp or ollama"
    )
    parser.add_argument(
        "--unsupported",
        choices=("error", "warn", "drop"),
        default="error",
        help="a setting that the engine lacks: fail (default), warn or drop it",
    )


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="of a sweep")
    parser.add_argument("--policy", metavar="POLICY", help="folder of the policy fitted on it")
    parser.add_argument("--out", default="report.html", metavar="FILE", help="(default %(default)s)")
    parser.add_argument("--title", default="Decoding policy report", help="heading of the page")
