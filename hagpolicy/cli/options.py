"""What options mean: text from the command line to scorers, spaces, fixed fields and options of engines."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import hagpolicy as hag
from hagpolicy._code_files import is_object_path, load_object
from hagpolicy._files import check_path, parse_json, read_regular
from hagpolicy._names import suggest
from hagpolicy.config.space import DEFAULT_PRESET, PRESETS, DecodingSpace
from hagpolicy.errors import InvalidInput

if TYPE_CHECKING:
    from hagpolicy.engines.spec import EngineSpec

SPACES = (*PRESETS, "hag")
"""Names of spaces that `--space` takes."""
DEFAULT_SPACE = DEFAULT_PRESET
_TEXTS = ("prompt", "fixed", "title", "default", "stop", "hint", "base")  # what is read as text alone
_LARGEST = 1 << 24  # bytes of a file of options
# Names of options that carry secrets; key_env only names the variable that holds one.
_SECRET = re.compile(
    r"(^|[_-])(api)?(key|token|secret|password|credentials?|auth|authorization|headers?)$", re.IGNORECASE
)


def check_arguments(arguments: Namespace) -> None:
    """Refuse a name that no file or server can have. Raises InvalidInput."""
    for option, value in vars(arguments).items():
        for part in value if isinstance(value, list) else [value]:
            if option in _TEXTS or not isinstance(part, str):
                continue
            check_path(part, option)


def parse_scorer(given: Sequence[str] | None) -> Any:
    """What `--scorer` means: a name, {task: name}, the content of a JSON file, or None.

    Raises:
        InvalidInput: a file that is no JSON, a task named twice, or names with and without a task.
    """
    if not given:
        return None
    if len(given) == 1 and "=" not in given[0]:
        return _parse_one_scorer(given[0])
    spec: dict[str, Any] = {}
    for part in given:
        task, equals, name = part.partition("=")
        if not equals or not name or task in spec:
            raise InvalidInput("--scorer", "TASK=NAME once for each task", part)
        spec[task] = _parse_one_scorer(name)
    return spec


def parse_map(given: str | None) -> dict[str, str] | None:
    """What `--map` means: the files' own keys by ours. Raises InvalidInput for what is no KEY=THEIRS."""
    if given is None:
        return None
    pairs = [part.partition("=") for part in given.split(",")]
    if not all(ours.strip() and theirs.strip() for ours, _, theirs in pairs):
        raise InvalidInput("--map", "KEY=THEIRS, with commas between them", given, "Such as prompt=question.")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def _parse_one_scorer(name: str) -> Any:
    """A name, the content of a JSON file, or the scorer of file.py:function."""
    from hagpolicy.scorers.files import load_function_scorer  # predicting needs no scorer

    if is_object_path(name):
        return load_function_scorer(name)
    return _read_json(name) if name.endswith(".json") else name


def parse_plugins(what: str, names: str | Sequence[str]) -> list[Any]:
    """What names of plug-ins mean, with commas or in a list: "file.py:NAME" is run for a class, which is made without
    arguments, or for an object; other names stay as they are.

    Args:
        what: they are, such as "learner".
        names: as they were given.

    Raises:
        InvalidInput: no such file or name, or the file raises.
    """
    given = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
    found = [load_object(what, name)[0] if is_object_path(name) else name for name in given]
    return [one() if isinstance(one, type) else one for one in found]


def read_prompts(arguments: Namespace) -> tuple[hag.Prompt, ...]:
    """The prompts of the files that are named."""
    return hag.read_prompts(*arguments.prompts, keys=parse_map(arguments.map), limit=arguments.limit)


def read_engine(arguments: Namespace) -> EngineSpec:
    """What makes the engine that is named."""
    from hagpolicy.engines.spec import EngineSpec

    return EngineSpec.parse(arguments.engine, **parse_engine_options(arguments.engine_option))


def read_inputs(arguments: Namespace) -> tuple[tuple[hag.Prompt, ...], EngineSpec, Any]:
    """The prompts, what makes the engine, and the scorer, of verbs that generate."""
    prompts, spec = read_prompts(arguments), read_engine(arguments)
    scorer = parse_scorer(arguments.scorer)
    if scorer is None and spec.kind.name == "simulated":  # its world has a scorer of its own
        from hagpolicy.simulated import SimulatedScorer

        scorer = SimulatedScorer()
    return prompts, spec, scorer


def parse_fixed(given: Sequence[str]) -> dict[str, Any]:
    """What `--fixed FIELD=VALUE` means; values are JSON where they can be, else text.

    Raises:
        InvalidInput: no `=` in it.
    """
    return _parse_pairs("--fixed", given, "FIELD=VALUE, such as temperature=0.2")


def parse_default(given: str | None) -> Any:
    """What `--default` means: "unset", a JSON object, FIELD=VALUE pairs with commas or blanks between; or None.

    Raises:
        InvalidInput: another form.
    """
    if given is None or given == "unset":
        return given
    if given.lstrip().startswith("{"):
        try:
            return parse_json(given)
        except ValueError as error:
            raise InvalidInput("--default", "a JSON object of settings", given, str(error)) from error
    pairs = re.split(r"[,\s]+", given.strip())
    return _parse_pairs("--default", pairs, "'unset', a JSON object, or FIELD=VALUE pairs: temperature=0.7,top_p=0.9")


def parse_engine_options(given: Sequence[str]) -> dict[str, Any]:
    """What `--engine-option NAME=VALUE` means; values are JSON where they can be, else text.

    Raises:
        InvalidInput: no `=` in it, or a name that says its value is a secret.
    """
    options = _parse_pairs("--engine-option", given, "NAME=VALUE, such as device=cuda")
    for name in options:
        if _SECRET.search(name):
            # The value is not repeated: what is wrong with it is that it can be seen.
            raise InvalidInput(
                f"--engine-option {name}",
                "no secret on a command line, where others and the shell's history see it",
                "one",
                "Put it into the environment: OPENAI_API_KEY, or the variable that key_env=NAME names.",
            )
    return options


def parse_endpoint_options(given: Sequence[str], keys: Sequence[str]) -> dict[str, dict[str, str]]:
    """What `--endpoint NAME=URL` and `--endpoint-key-env NAME=VARIABLE` mean, for `RewriteRules`.

    Raises:
        InvalidInput: another form, a name twice, or a key of an endpoint that there is not. Values are not repeated.
    """
    found: dict[str, dict[str, str]] = {}
    for option, what, parts in (("--endpoint", "url", given), ("--endpoint-key-env", "key_env", keys)):
        for part in parts:
            name, _, value = part.partition("=")
            known = name not in found if what == "url" else name in found and what not in found[name]
            if not name or not value or not known:
                form = "NAME=URL, each name once" if what == "url" else "NAME=VARIABLE of an --endpoint, each once"
                raise InvalidInput(option, form, name if value else "another form")
            found.setdefault(name, {})[what] = value
    return found


def _parse_pairs(option: str, given: Sequence[str], form: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in given:
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise InvalidInput(option, form, part)
        try:
            found[name] = value if name == "hint" else parse_json(value)
        except ValueError:
            found[name] = value
    return found


def make_space(given: str, engine: Any) -> DecodingSpace | hag.TunedHints:
    """What `--space` means: one of `SPACES`, without what the engine cannot run, a JSON file's, or tuned hints.

    Raises:
        InvalidInput: an unknown name, or a file that holds no space.
        StoreError: a folder without tuned hints.
    """
    if given == "hag":
        return DecodingSpace.hag()
    if os.path.isdir(given):
        return hag.TunedHints.load(given)
    if given.endswith(".json"):
        return DecodingSpace.from_json(given)
    if given not in PRESETS:
        expected = f"{', '.join(SPACES)}, a .json file or a folder of tuned hints"
        raise InvalidInput("--space", expected, given, suggest(given, SPACES))
    return DecodingSpace.preset(given, engine)


def _read_json(name: str) -> Any:
    try:
        return parse_json(read_regular(name, _LARGEST))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"scorer file {name}", "a readable JSON file", str(error)) from error


def read_table(arguments: Namespace, **options: Any) -> hag.SweepTable:
    """The table that a verb names: folder or file, `--all`, `--prompts`, `--default`; `options` as for `load_table`."""
    options = {"default": parse_default(arguments.default), **options}
    given = None if arguments.prompts is None else hag.read_prompts(arguments.prompts)
    return hag.load_table(arguments.folder, prompts=given, all_prompts=arguments.all, **options)


def parse_contender(given: str) -> Any:
    """What `compare` takes: "default", the number of a config, a config as a JSON object, or a policy's folder."""
    if given.isascii() and given.isdigit():
        return int(given)
    if not given.startswith("{"):
        return given
    try:
        return hag.DecodingConfig.from_dict(parse_json(given))
    except ValueError as error:
        raise InvalidInput("configuration", "a JSON object of its fields", given, f"{error}.") from error


def parse_by_model(option: str, given: Sequence[str]) -> dict[str, str]:
    """What an option that can be repeated says by model, [MODEL=]WORDS; "*" for all models.

    Raises:
        InvalidInput: a model named twice.
    """
    found: dict[str, str] = {}
    for part in given:
        model, equals, words = part.rpartition("=")
        name = model if equals else "*"
        if name in found or (equals and not model):
            raise InvalidInput(option, "a value, or MODEL=VALUE, once for each model", part)
        found[name] = words
    return found


def read_key(name: str | None) -> str:
    """The key in an environment variable; "" where none was named.

    Raises:
        InvalidInput: the variable is not set.
    """
    if name and not os.environ.get(name):
        raise InvalidInput("the variable of a key", "one that is set", name, f"Set it: export {name}=…")
    return os.environ[name] if name else ""
