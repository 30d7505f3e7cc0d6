"""What options mean: text from the command line to scorers, spaces, fixed fields and options of engines."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hagpolicy.config.space import PRESETS, DecodingSpace
from hagpolicy.errors import InvalidInput

SPACES = (*PRESETS, "hag")
"""Names of spaces that `--space` takes."""
# Names of options that carry secrets; key_env only names the variable that holds one.
_SECRET = re.compile(
    r"(^|[_-])(api)?(key|token|secret|password|credentials?|auth|authorization|headers?)$", re.IGNORECASE
)


def parse_scorer(given: Sequence[str] | None) -> Any:
    """What `--scorer` means: a name, {task: name}, the content of a JSON file, or None.

    Raises:
        InvalidInput: a file that is no JSON, a task named twice, or names with and without a task.
    """
    if not given:
        return None
    if len(given) == 1 and "=" not in given[0]:
        return _read_json(given[0]) if given[0].endswith(".json") else given[0]
    spec: dict[str, str] = {}
    for part in given:
        task, equals, name = part.partition("=")
        if not equals or not name or task in spec:
            raise InvalidInput("--scorer", "TASK=NAME once for each task", part)
        spec[task] = name
    return spec


def parse_fixed(given: Sequence[str]) -> dict[str, Any]:
    """What `--fixed FIELD=VALUE` means; values are JSON where they can be, else text.

    Raises:
        InvalidInput: no `=` in it.
    """
    return _parse_pairs("--fixed", given, "FIELD=VALUE, such as temperature=0.2")


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


def _parse_pairs(option: str, given: Sequence[str], form: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in given:
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise InvalidInput(option, form, part)
        try:
            found[name] = value if name == "hint" else json.loads(value)
        except ValueError:
            found[name] = value
    return found


def make_space(given: str, engine: Any) -> DecodingSpace:
    """What `--space` means: one of `SPACES`, without what the engine cannot run, or a JSON file's.

    Raises:
        InvalidInput: an unknown name, or a file that holds no space.
    """
    if given == "hag":
        return DecodingSpace.hag()
    if given.endswith(".json"):
        return DecodingSpace.from_json(given)
    return DecodingSpace.preset(given, engine)


def _read_json(name: str) -> Any:
    try:
        return json.loads(Path(name).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"scorer file {name}", "a readable JSON file", str(error)) from error
