"""The options of each verb, and those that verbs share.

A function adds the options of the verb of its name to the verb's parser. Names of plug-ins are listed from their
registries, which are imported for the verb that is asked for and for no other.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from typing import get_args

from hagpolicy._text import parse_duration
from hagpolicy.cli.options import DEFAULT_SPACE, SPACES
from hagpolicy.config.dialects import DIALECTS
from hagpolicy.config.render import Unsupported
from hagpolicy.config.servers import SERVERS
from hagpolicy.policy.reading import Reads


def _parse_seed(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"expected a whole number in [0, 4294967295], got {text:.40}")
    return int(text)


def _parse_share(text: str) -> float:
    value = float(text)
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a share in (0, 1], got {text}")
    return value


def _parse_time(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected a time above 0, such as 90s, 10m or 1h30m, got {text:.40}")
    return seconds


def parse_names(text: str) -> list[str]:
    """Names by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _list_names(names: Iterable[str]) -> str:
    """The names as "a, b or c"."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def add_table(parser: argparse.ArgumentParser, about: str = "of a sweep") -> None:
    """Which table, and which prompts of it."""
    files = "a table that was saved, or outcomes as JSON lines"
    parser.add_argument("folder", metavar="TABLE", help=f"folder {about}, or a file: {files}")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="all prompts of the folder, not those of its latest sweep")
    which.add_argument("--prompts", metavar="FILE", help="the prompts of this file, of those that the folder holds")
    parser.add_argument(
        "--default",
        metavar="SETTINGS",
        help="what you run today, of the table's configurations: temperature=0.7,top_p=0.9, a JSON object, or unset "
        "(default: what the sweep or the file says)",
    )


def add_objective(parser: argparse.ArgumentParser, more: str = "") -> None:
    """What is maximised."""
    from hagpolicy.analysis.objectives.parse import FAMILIES

    parser.add_argument(
        "--objective",
        default="reward",
        metavar="OBJECTIVE",
        help=f"what is maximised: reward (default), or FAMILY@VALUE, such as pass@4 or price/token@0,0.001, of the "
        f"families {_list_names(FAMILIES)}{more}",
    )


def add_scorer(parser: argparse.ArgumentParser) -> None:
    """How answers are scored."""
    from hagpolicy.scorers.registry import ONLY_IN_CALLS, list_prompt_scorers

    parser.add_argument(
        "--scorer",
        action="append",
        metavar="SCORER",
        help=f"a scorer's name ({_list_names(list_prompt_scorers())}), or TASK=NAME once for each task, or a JSON "
        f"file with a name and its options ({_list_names(ONLY_IN_CALLS)} too) or one scorer a task, or "
        "FILE.py:FUNCTION, which is run; left out: each prompt brings its own in the key `scorer`",
    )


def add_dial(parser: argparse.ArgumentParser) -> None:
    """Where a policy's dial stands."""
    parser.add_argument("--price", type=float, help="reward of a token or second, for a policy fitted with prices")
    parser.add_argument("--n", type=int, help="answers that will be drawn, for a policy fitted for several")


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Of `demo`."""
    parser.add_argument(
        "--out", default="hagpolicy-demo", metavar="FOLDER", help="for all it writes (default %(default)s)"
    )
    parser.add_argument("--engine", default="smollm2", help="the LLM (default %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument(
        "--serve",
        action="store_true",
        help="then put its policy before a real server (transformers serve), send six prompts and end (needs "
        "transformers[serving]); a demo that has run in the folder is not run again",
    )


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """Of `sweep`."""
    add_generation(
        parser,
        DEFAULT_SPACE,
        "which proves most for its tokens where one answer is given; diverse is for several answers, price for cheaper "
        "ones",
        samples=4,
    )
    add_plan(parser)


def add_space_suggest(parser: argparse.ArgumentParser) -> None:
    """Of `space suggest`."""
    add_generation(parser, "large", "everything that the engine can run", samples=1)
    add_budget(parser, "of the generations of all")
    parser.add_argument("--most", type=int, default=6, metavar="N", help="configurations at most (default %(default)s)")
    parser.add_argument(
        "--write", metavar="FILE", help="the suggested space as JSON, which `hagpolicy sweep --space FILE` takes"
    )


def add_generation(parser: argparse.ArgumentParser, space: str, why: str, *, samples: int) -> None:
    """Which answers are generated, with what, and where to; `space` and `samples` are the defaults."""
    add_engine(parser)
    add_workers(parser)
    add_prompts(parser)
    add_reading(parser)
    parser.add_argument(
        "--space",
        default=space,
        help=f"{', '.join(SPACES)}, a JSON file with a list of configurations, or a folder of tuned hints (default "
        f"%(default)s, {why})",
    )
    parser.add_argument(
        "--default",
        metavar="SETTINGS",
        help="what you run today, with which everything is compared: temperature=0.7,top_p=0.9 or a JSON object, or "
        "unset: requests without settings (default: what the engine says that it does, else unset)",
    )
    add_scorer(parser)
    parser.add_argument(
        "--samples", type=int, default=samples, metavar="N", help="of each sampled configuration (default %(default)s)"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=256, metavar="N", help="new tokens an answer (default %(default)s)"
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="with which a model on a CPU computes; without it they are chosen by measuring",
    )
    parser.add_argument(
        "--stop",
        action="append",
        metavar="TEXT",
        help="ends an answer, which is cut before it; repeatable (a line's end is $'\\n' in most shells)",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="an existing sweep of the same engine goes on")
    parser.add_argument("--seed", type=int, default=0, help="of the random streams (default %(default)s)")
    parser.add_argument(
        "--quiet", action="store_true", help="no forecast and no bar on stderr, only warnings and errors"
    )


def add_prompts(parser: argparse._ActionsContainer, *, required: bool = True) -> None:
    """Files of prompts."""
    parser.add_argument(
        "--prompts",
        required=required,
        nargs="+",
        metavar="FILE",
        help="JSONL, a JSON array, CSV, Parquet or text (a line a prompt): prompt (or messages), and optionally "
        "reference, task, group, id; or "
        "requests of OpenAI's batch format, samples of lm-eval, a log of inspect",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Which engine is used."""
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


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Where an engine generates."""
    parser.add_argument("--on", choices=("ray",), help="generate on the workers of a Ray cluster")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="on Ray: how many (default: as many as there is room for)"
    )


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Which cells of a sweep are generated, and when it ends."""
    from hagpolicy.sweeping.strategies.base import STRATEGIES

    parser.add_argument(
        "--strategy",
        choices=STRATEGIES.choices,
        default="full",
        help="which cells are generated: all (full, the default), or those that a strategy asks for",
    )
    add_budget(parser, "of the generations of a full sweep for another strategy, all for that")
    parser.add_argument(
        "--until",
        choices=("proven",),
        help="end as soon as the gate's answer is certain, by at most five looks, for which fit pays (needs the extra "
        "fit)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what it would cost, from what is stored or a probe of at most 16 cells, and write nothing",
    )


def add_budget(parser: argparse.ArgumentParser, of: str) -> None:
    """Most that may be spent."""
    from hagpolicy.sweeping.strategies.base import DEFAULT_SHARE

    parser.add_argument(
        "--budget",
        metavar="LIMIT",
        help="most generations (5000), new tokens ('2e6 tokens'), those of prompts too ('3e6 total tokens'), money "
        "('5 USD at 0.15/0.60': prices of a million prompt/new tokens) or minutes ('30 min'); left out: "
        f"{DEFAULT_SHARE:.0%}% {of}",
    )


def add_headroom(parser: argparse.ArgumentParser) -> None:
    """Of `headroom`."""
    add_table(parser)
    add_objective(parser)
    parser.add_argument("--seed", type=_parse_seed, default=0, help="of folds, splits and bootstrap (default 0)")


def add_show(parser: argparse.ArgumentParser) -> None:
    """Of `show`."""
    from hagpolicy.reporting.answers import KINDS

    about = {
        "worst": "prompts with the lowest mean reward",
        "best": "prompts with the highest mean reward",
        "disagreeing": "prompts whose configurations differ most, beyond the scatter of samples",
    }
    add_table(parser)
    parser.add_argument("--prompt", metavar="WHICH", help="an id, a number, or words of the prompt")
    parser.add_argument("--config", metavar="WHICH", help="a number, 'default', or words of the configuration")
    parser.add_argument("--task", metavar="TASK", help="only prompts of this task")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=int, metavar="N", help=f"N {about[kind]}")
    parser.add_argument("--samples", type=int, default=1, metavar="N", help="of each configuration (default 1)")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="prompts found by words (default 20)")


def add_effects(parser: argparse.ArgumentParser) -> None:
    """Of `effects`."""
    add_table(parser)
    parser.add_argument("--task", metavar="TASK", help="only what is said of this task, in full")
    parser.add_argument("--seed", type=_parse_seed, default=0, help="of bootstrap and marks (default 0)")


def add_fit(parser: argparse.ArgumentParser) -> None:
    """Of `fit`."""
    from hagpolicy.fitting.baselines.registry import BASELINES
    from hagpolicy.fitting.encoders.registry import ENCODERS, TRANSFORMER_FORMS
    from hagpolicy.fitting.learners.registry import LEARNERS

    add_table(parser)
    parser.add_argument("--out", required=True, metavar="POLICY", help="folder for the policy")
    parser.add_argument(
        "--encoder",
        default="static",
        help=f"{_list_names([*ENCODERS, *TRANSFORMER_FORMS, 'an .onnx file with its tokenizer.json beside it'])} "
        "(default %(default)s)",
    )
    parser.add_argument(
        "--learner",
        default="auto",
        help=f"{_list_names(LEARNERS.choices)} (default %(default)s), or several with commas; one of your own is "
        "FILE.py:CLASS, which is run",
    )
    add_objective(parser, "; with several values it is a dial that predict turns")
    compared = parser.add_mutually_exclusive_group()
    compared.add_argument(
        "--baselines",
        type=parse_names,
        metavar="NAMES",
        help=f"other ways to choose, compared: {_list_names(BASELINES)}, several with commas (default nearest), "
        "or FILE.py:CLASS",
    )
    compared.add_argument("--rivals", type=parse_names, help=argparse.SUPPRESS)  # the earlier word, for one version
    parser.add_argument(
        "--near-duplicates",
        type=_parse_share,
        metavar="SHARE",
        help="keep prompts together that share this much of their text, (0, 1]",
    )
    parser.add_argument(
        "--reads",
        choices=get_args(Reads),
        default="last_user",
        help="what the policy reads of a chat (default %(default)s)",
    )
    parser.add_argument("--seed", type=_parse_seed, default=0, help="of folds, bootstrap and learners (default 0)")
    parser.add_argument(
        "--time-limit",
        type=_parse_time,
        metavar="TIME",
        help="such as 90s, 10m or 1h30m: learners whose forecast does not fit in are left out, and told of; the first "
        "that is named is always fitted (default no limit)",
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="keep ids, features and mean values of the training prompts in the policy, for `hagpolicy explain`",
    )
    parser.add_argument("--include-prompts", action="store_true", help="--explain, and keep their texts too")


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Of `evaluate`."""
    parser.add_argument("policy", help="folder of a policy")
    add_table(parser, "of a sweep over the same configurations")
    add_dial(parser)


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Of `compare`."""
    about = "folder of a policy, 'default', the number of a configuration, or one as a JSON object"
    parser.add_argument("a", help=about)
    parser.add_argument("b", help=about)
    add_table(parser, "of a sweep with every configuration that they choose")
    add_objective(parser)
    parser.add_argument(
        "--at-least", type=float, default=0.0, metavar="X", help="what A must gain over B (default 0; -0.01: not worse)"
    )


def add_reading(parser: argparse.ArgumentParser) -> None:
    """How files of prompts are read."""
    parser.add_argument(
        "--map",
        metavar="KEY=THEIRS,…",
        help="what the files call prompt, reference, task, group and id: prompt=question,reference=answer",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the first N prompts only")


def _add_prompt(parser: argparse.ArgumentParser) -> None:
    """One prompt, and what a decision on it may be told."""
    parser.add_argument("prompt", nargs="?", help="text, or chat messages as JSON; - or left out: from stdin")
    add_dial(parser)
    parser.add_argument("--task", metavar="NAME", help="the kind of the prompt, where it is known")


def add_predict(parser: argparse.ArgumentParser) -> None:
    """Of `predict`."""
    parser.add_argument("policy", help="folder of a policy")
    _add_prompt(parser)
    parser.add_argument(
        "--prompts",
        nargs="+",
        metavar="FILE",
        help="in place of one prompt all of these files, as `sweep` reads them, with the tasks that the policy knows; "
        "-: JSON lines on stdin. --json prints a line for each",
    )
    add_reading(parser)
    parser.add_argument(
        "--fixed",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a setting that is decided already; repeatable",
    )
    parser.add_argument(
        "--engine",
        metavar="NAME",
        help=f"print the call for {_list_names(DIALECTS)}; openai:SERVER for a server, such as openai:vllm",
    )
    parser.add_argument(
        "--unsupported",
        choices=get_args(Unsupported),
        default="error",
        help="a setting that the engine lacks: fail (default), warn or drop it",
    )


def add_rules(parser: argparse.ArgumentParser) -> None:
    """Of `rules`."""
    from hagpolicy.fitting.learners.rules import LINES

    parser.add_argument("policy", help="folder of a policy that reads texts")
    add_table(parser, "whose prompts the policy decides, such as those that it was fitted on")
    parser.add_argument("--lines", type=int, default=LINES, help="rules at most, beside the last (default %(default)s)")
    parser.add_argument("--seed", type=_parse_seed, default=0, help="of the folds (default 0)")


def add_explain(parser: argparse.ArgumentParser) -> None:
    """Of `explain`."""
    parser.add_argument("policy", help="folder of a policy that was fitted with --explain")
    _add_prompt(parser)
    parser.add_argument(
        "--neighbours", type=int, default=5, metavar="N", help="training prompts that are told (default %(default)s)"
    )


def add_serve(parser: argparse.ArgumentParser) -> None:
    """Of `serve`."""
    parser.add_argument(
        "--policy",
        action="append",
        required=True,
        metavar="[MODEL=]FOLDER",
        help="a policy's folder, for all models or for the model that requests name; repeatable",
    )
    parser.add_argument("--upstream", required=True, metavar="URL", help="the server, such as http://127.0.0.1:8000")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="answer POST /hag/explain to whoever can send requests: why a prompt gets its configuration, with ids and "
        "mean values of like training prompts, without their texts",
    )
    parser.add_argument("--host", default="127.0.0.1", help="to listen on; default: this machine alone")
    parser.add_argument("--port", type=int, default=8080, help="default 8080; 0: a free one, which is told")
    parser.add_argument("--server", help=f"what the server is: {_list_names(SERVERS)}; default: what it says it is")
    for name, form, about in (
        ("--overrule", "FIELDS", "fields, by commas, that the policy decides whatever is sent; all: every one"),
        ("--lacks", "FIELDS", "fields, by commas, that the model refuses"),
        ("--not-together", "PAIRS", "that it refuses together, by commas, such as temperature+top_p"),
        ("--adapters", "PAIRS", "adapters with what the server calls each, by commas, such as sql:sql-lora"),
    ):
        of_model = "; repeatable, of one model in place of what is said of all" * (name == "--overrule")
        parser.add_argument(name, action="append", default=[], metavar=f"[MODEL=]{form}", help=about + of_model)
    parser.add_argument(
        "--endpoint",
        action="append",
        default=[],
        metavar="NAME=URL[#MODEL]",
        help="a server that configurations name as their endpoint; repeatable",
    )
    parser.add_argument(
        "--endpoint-key-env",
        action="append",
        default=[],
        metavar="NAME=VARIABLE",
        help="variable with an endpoint's own key; repeatable",
    )
    parser.add_argument("--no-hints", action="store_true", help="choose no configuration that adds to the prompt")
    parser.add_argument(
        "--provider",
        action="append",
        default=[],
        metavar="NAME",
        help="of onnxruntime, such as CUDAExecutionProvider, repeatable; auto: the GPU's where there is one",
    )
    parser.add_argument("--price", type=float, help="of a token or second, where a request does not say it")
    parser.add_argument("--task", metavar="NAME", help="the kind of the prompts, where a request does not say it")
    parser.add_argument("--log", metavar="FILE", help="a decision log, for the next three and for rewards")
    parser.add_argument("--log-text", action="store_true", help="keep prompts in it, which fitting from it needs")
    parser.add_argument(
        "--explore", type=float, metavar="SHARE", help="of calls that draw a configuration, such as 0.05"
    )
    parser.add_argument(
        "--experiment", type=float, metavar="SHARE", help="of users whose requests the policy decides; others' are left"
    )
    parser.add_argument(
        "--reload", type=float, default=5.0, metavar="SECONDS", help="look for changed bundles so often; 0: never"
    )
    parser.add_argument("--key-env", metavar="NAME", help="variable with a key that requests must carry")
    parser.add_argument("--upstream-key-env", metavar="NAME", help="variable with the key that the server asks for")
    parser.add_argument("--max-body", type=float, default=64.0, metavar="MIB", help="of a request; default 64")
    parser.add_argument("--max-requests", type=int, default=2000, metavar="N", help="under way at once; default 2000")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="longest silence of the server")
    parser.add_argument(
        "--graceful-timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="for answers to end after SIGTERM, before they are cut; default 30",
    )
    parser.add_argument(
        "--pass-paths", action="store_true", help="leave /health, /ready and /metrics to the server; ours are in /hag/"
    )


def add_reward(parser: argparse.ArgumentParser) -> None:
    """Of `reward`."""
    parser.add_argument("id", metavar="ID", help="of the call: x-hag-request-id in the headers of its response")
    parser.add_argument(
        "value", metavar="VALUE", type=float, help="0 to 1; a later one of the same call counts instead"
    )
    parser.add_argument("--log", metavar="FILE", required=True, help="the decision log")


def add_log_export(parser: argparse.ArgumentParser) -> None:
    """Of `log export`."""
    parser.add_argument("log", metavar="LOG", help="decision log of live traffic")
    parser.add_argument("file", metavar="FILE", help="a Parquet file; an earlier one of its kind is replaced")


def add_log_table(parser: argparse.ArgumentParser) -> None:
    """Of `log table`."""
    add_log(parser)
    parser.add_argument("file", metavar="TABLE", help="file of the table; an earlier one is replaced")


def add_export(parser: argparse.ArgumentParser) -> None:
    """Of `export`."""
    from hagpolicy.serving.default_formats import DEFAULT_FORMATS

    parser.add_argument("policy", help="folder of a policy")
    parser.add_argument("--to", required=True, metavar="FORMAT", help=_list_names(DEFAULT_FORMATS))
    parser.add_argument(
        "--out",
        metavar="PATH",
        help="the file; for generation_config the model's folder, whose other keys are kept; left out: printed",
    )
    parser.add_argument(
        "--model", default="", help="for modelfile what stands after FROM; for litellm PROVIDER/NAME, as LiteLLM has it"
    )
    parser.add_argument(
        "--server", default="", help=f"behind litellm: {_list_names(SERVERS)} (default: the one that was swept)"
    )
    parser.add_argument("--replace", action="store_true", help="replace a file of another origin")


def add_report(parser: argparse.ArgumentParser) -> None:
    """Of `report`."""
    add_table(parser)
    parser.add_argument("--policy", metavar="POLICY", help="folder of the policy fitted on it")
    parser.add_argument("--out", default="report.html", metavar="FILE", help="(default %(default)s)")
    parser.add_argument("--title", default="Decoding policy report", help="heading of the page")


def add_portfolio(parser: argparse.ArgumentParser) -> None:
    """Of `portfolio`."""
    add_table(parser)
    parser.add_argument("--n", type=int, required=True, help="answers of one prompt, 1 to 16")
    parser.add_argument("--seed", type=_parse_seed, default=0, help="of folds and bootstrap (default 0)")


def add_rescore(parser: argparse.ArgumentParser) -> None:
    """Of `rescore`."""
    parser.add_argument("folder", help="of a sweep")
    add_scorer(parser)


def add_log(parser: argparse.ArgumentParser) -> None:
    """Which decision log, and which of its calls."""
    parser.add_argument("log", metavar="LOG", help="decision log of live traffic")
    parser.add_argument(
        "--decided-by", metavar="NAME", help="calls of the logged policy of this name (default: all, of one policy)"
    )


def add_log_value(parser: argparse.ArgumentParser) -> None:
    """Of `log value`."""
    add_log(parser)
    parser.add_argument("--policy", required=True, metavar="POLICY", help="folder of the policy to be estimated")


def add_log_experiment(parser: argparse.ArgumentParser) -> None:
    """Of `log experiment`."""
    add_log(parser)
    parser.add_argument(
        "--window",
        type=float,
        metavar="SECONDS",
        help="of a unit's calls that count, from its first one (default: a day; 0, its first call alone, where no call "
        "names a unit)",
    )
