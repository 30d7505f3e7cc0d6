"""Outcomes that other evaluation tools logged: samples of lm-eval (`--log_samples`), logs of inspect.

The files are those whose prompts `formats` reads; the tools' packages are not needed. A file is one run, and the
settings it generated under are its config.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hagpolicy._checks import is_number
from hagpolicy._digest import canonical_json
from hagpolicy._names import suggest
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.fields import FIELDS
from hagpolicy.data.answers import AnswerCodes
from hagpolicy.data.formats import InspectSample, is_lm_eval, open_inspect, read_rows_of_every_filter, to_own_keys
from hagpolicy.data.outcomes import ImportedOutcomes, place_cells
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput

__all__ = ["LoggedRuns", "read_logs"]

# What says how long an answer may be, under the names that lm-eval and its models know.
_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
# Settings that change how a run goes, and not what is answered.
_OPERATION = frozenset(
    {"adaptive_connections", "attempt_timeout", "batch", "cache", "cache_prompt", "log_model_api", "max_connections"}
    | {"max_retries", "num_return_sequences", "pad_token_id", "parallel_tool_calls", "seed", "timeout", "use_cache"}
)
# What stands in a sample of lm-eval beside the values of its metrics.
_ABOUT = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "task"}
_SETTINGS = tuple(name for name in FIELDS if name not in ("hint", "unset", "max_tokens"))
# What inspect writes in place of a number.
_GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
_ONE_MODEL = "Make a table of each model's logs."


@dataclass(frozen=True)
class LoggedRuns:
    """Several runs as arrays.

    Attributes:
        outcomes: prompts, configs and cells; no default.
        max_tokens: the one limit of all; None where there is none or they differ.
        scorers: of each task.
        model: that answered; "" where the logs do not say.
    """

    outcomes: ImportedOutcomes
    max_tokens: int | None
    scorers: Mapping[str, str]
    model: str


@dataclass(frozen=True)
class LoggedOutcome:
    """One answer that a run logged.

    Attributes:
        prompt: what was asked.
        config: it was generated under, without its limit.
        limit: on new tokens; None where the log does not say.
        reward: in [0, 1]; NaN where it has none.
        tokens: new tokens; NaN where they were not counted.
        seconds: of the model's call; NaN where it was not measured.
        answer: what was extracted from the text; None where nothing was.
        scorer: what gave the reward.
        model: that answered; "" where the log does not say.
    """

    prompt: Prompt
    config: DecodingConfig
    limit: int | None
    reward: float
    tokens: float = math.nan
    seconds: float = math.nan
    answer: str | None = None
    scorer: str = ""
    model: str = ""


def read_logs(
    paths: Sequence[str | os.PathLike[str]], metric: str | None = None, filter: str | None = None
) -> LoggedRuns:
    """Outcomes of several logs, one run each.

    Configs are the runs' settings in the order of the files; runs of one config are its samples. Their limit is a part
    of a config only where runs of one task differ in it. Prompts of a task are told apart by their ids.

    Args:
        paths: samples of lm-eval, or logs of inspect (.eval, .json).
        metric: whose value is the reward; None: the only one there is. "scorer/part" for a part of inspect's score.
        filter: of lm-eval, whose extracted answers count; None: the only one there is.

    Raises:
        InvalidInput: a file that is neither, without generation settings, of another model than the others; runs of
            one task that differ in what no config says, or asked an id differently; a metric or filter that is not
            there, or is to be chosen; a reward outside [0, 1].
    """
    found: list[LoggedOutcome] = []
    others: dict[str, tuple[str, str]] = {}
    for path in paths:
        for place, outcome, rest in _read_log(path, metric, filter):
            text = canonical_json(rest)
            first, where = others.setdefault(outcome.prompt.task, (text, place))
            if first != text:
                got = f"{text} here and {first} at {where}"
                raise InvalidInput(place, "runs of a task that differ in nothing but a config's settings", got)
            if found and found[0].model != outcome.model:
                got = f"{outcome.model!r} beside {found[0].model!r}"
                raise InvalidInput(place, "runs of one model", got, _ONE_MODEL)
            found.append(outcome)
    if not found:
        raise InvalidInput("logs", "at least one answer", "none")
    return _arrange(found)


def _arrange(found: Sequence[LoggedOutcome]) -> LoggedRuns:
    limits: dict[str, set[int | None]] = {}
    for one in found:
        limits.setdefault(one.prompt.task, set()).add(one.limit)
    differ = any(len(known) > 1 for known in limits.values())
    all_limits = set().union(*limits.values())
    prompts: dict[Any, tuple[int, Prompt]] = {}
    configs: dict[DecodingConfig, int] = {}
    scorers: dict[str, dict[str, None]] = {}
    codes = AnswerCodes()
    cells = np.empty((len(found), 6))
    for row, one in enumerate(found):
        asked = one.prompt
        key = (asked.task, asked.id) if asked.id is not None else asked
        number, known = prompts.setdefault(key, (len(prompts), asked))
        if (known.content, known.reference) != (asked.content, asked.reference):
            got = f"{asked.text[:60]!r} and {known.text[:60]!r}, or other references"
            raise InvalidInput(f"id {asked.id!r} of task {asked.task!r}", "runs that asked the same", got)
        config = one.config.replace(max_tokens=one.limit) if differ and one.limit else one.config
        at = configs.setdefault(config, len(configs))
        cells[row] = number, at, one.reward, one.tokens, one.seconds, codes.code(one.answer)
        if one.scorer:
            scorers.setdefault(asked.task, {})[one.scorer] = None
    values, answers = place_cells(cells, len(prompts), len(configs))
    asked_all = tuple(prompt for _, prompt in prompts.values())
    return LoggedRuns(
        ImportedOutcomes(asked_all, tuple(configs), values, answers, None),
        None if differ or len(all_limits) > 1 else next(iter(all_limits)),
        {task: ", ".join(names) for task, names in scorers.items()},
        found[0].model,
    )


def _read_log(
    path: str | os.PathLike[str], metric: str | None, filter: str | None
) -> Iterator[tuple[str, LoggedOutcome, dict[str, Any]]]:
    """Places, outcomes, and the settings that no config says."""
    log = open_inspect(path)
    if log is not None:
        yield from _read_inspect(log.values, log.samples, metric)
        return
    rows = list(read_rows_of_every_filter(path))
    odd = next((place for place, row in rows if not (isinstance(row, Mapping) and is_lm_eval(row))), None)
    if odd is not None or not rows:
        raise InvalidInput(odd or str(path), "samples that lm-eval logged, or a log of inspect", "something else")
    filters = list(dict.fromkeys(str(row["filter"]) for _, row in rows if "filter" in row))
    chosen = _choose("filter", filter, filters, str(path)) if filters else None
    for place, row in rows:
        if chosen is None or str(row.get("filter")) == chosen:
            try:
                yield (place, *_read_lm_eval(row, metric, chosen))
            except InvalidInput as error:
                raise InvalidInput(f"{place}: {error.field}", error.expected, error.got, error.do) from error


def _read_lm_eval(
    row: Mapping[str, Any], metric: str | None, filter: str | None
) -> tuple[LoggedOutcome, dict[str, Any]]:
    """A sample of lm-eval. Raises InvalidInput."""
    prompt = Prompt.from_dict(to_own_keys(row))
    settings = _find_settings(row["arguments"])
    if settings is None:
        expected, got = "a task whose answers are generated", "one without generation settings, such as of likelihoods"
        raise InvalidInput("arguments", expected, got)
    config, limit, rest = _read_settings(_make_greedy(settings))
    listed = row.get("metrics") or [name for name in sorted(row.keys() - _ABOUT) if _is_value(row[name])]
    named = [name for name in listed if isinstance(name, str) and name in row]
    chosen = _choose("metric", metric, named, "the sample")
    extracted = _first_text(row.get("filtered_resps"))
    return LoggedOutcome(
        prompt,
        config,
        limit,
        _to_reward(row[chosen]),
        answer=None if filter in (None, "none") else extracted,
        scorer=_join_words(chosen, filter, "by lm-eval"),
    ), rest


def _is_value(value: Any) -> bool:
    return isinstance(value, bool) or is_number(value)


def _find_settings(arguments: Any) -> dict[str, Any] | None:
    """The generation settings of a request, its second argument; None where it has none."""
    first = next(iter(arguments.values())) if isinstance(arguments, Mapping) else arguments[0]
    if isinstance(first, Mapping):
        first = list(first.values())
    settings = first[1] if isinstance(first, (list, tuple)) and len(first) > 1 else None
    return dict(settings) if isinstance(settings, Mapping) else None


def _make_greedy(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of lm-eval, which is greedy unless it is told otherwise, with the temperature that this means."""
    samples = settings.pop("do_sample", None)
    if samples is False:
        return {**settings, "temperature": 0.0}
    return {"temperature": 1.0 if samples else 0.0, **settings}


def _read_inspect(
    values: Mapping[str, Any], samples: Iterator[InspectSample], metric: str | None
) -> Iterator[tuple[str, LoggedOutcome, dict[str, Any]]]:
    """Samples of a log of inspect, epoch by epoch. Raises InvalidInput."""
    about = values["eval"]
    settings: dict[str, Any] = {}
    # What the model was made with, over which the task's own settings count.
    for part in (about.get("model_generate_config"), (values.get("plan") or {}).get("config")):
        settings |= {name: value for name, value in (part or {}).items() if value is not None}
    config, limit, rest = _read_settings(settings)
    for place, row, sample in sorted(samples, key=lambda one: one.sample.get("epoch") or 0):
        try:
            output = sample.get("output") or {}
            usage = output.get("usage") or {}
            name, value, answer = _read_score(sample.get("scores") or {}, metric)
            outcome = LoggedOutcome(
                Prompt.from_dict(row),
                config,
                limit,
                _to_reward(value),
                _to_cost(usage.get("output_tokens")),
                _to_cost(output.get("time")),
                answer,
                _join_words(name, None, "by inspect") if name else "",
                str(about.get("model") or ""),
            )
        except (AttributeError, LookupError, TypeError) as error:
            raise InvalidInput(place, "a sample of inspect", f"{type(error).__name__}: {error}") from error
        except InvalidInput as error:
            raise InvalidInput(f"{place}: {error.field}", error.expected, error.got, error.do) from error
        yield place, outcome, rest


def _read_score(scores: Mapping[str, Any], metric: str | None) -> tuple[str, Any, str | None]:
    """Name, value and extracted answer of the score that counts; no value where a sample was not scored."""
    if not scores:
        return metric or "", None, None
    parts: dict[str, tuple[Any, str | None]] = {}
    for name, score in scores.items():
        value, answer = score.get("value"), score.get("answer")
        answer = answer if isinstance(answer, str) else None
        if isinstance(value, Mapping):
            parts |= {f"{name}/{part}": (inner, answer) for part, inner in value.items()}
        else:
            parts[name] = value, answer
    chosen = _choose("metric", metric, list(parts), "the sample")
    return chosen, *parts[chosen]


def _read_settings(settings: Mapping[str, Any]) -> tuple[DecodingConfig, int | None, dict[str, Any]]:
    """Config, limit on new tokens, and what of the settings neither says.

    A setting that is not named stands at its neutral value; where none is named at all, all are unset: what the model's
    server did then, the log does not say. Raises InvalidInput for a value out of range.
    """
    left = {name: value for name, value in settings.items() if name not in _OPERATION and value is not None}
    limits = [left.pop(name) for name in _LIMITS if name in left]
    named = {name: left.pop(name) for name in _SETTINGS if name in left}
    if named.get("top_k") == -1:  # vLLM's word for all
        named["top_k"] = 0
    config = DecodingConfig.from_dict(named).canonical() if named else DecodingConfig(unset=True)
    return config, limits[0] if limits else None, left


def _to_reward(value: Any) -> float:
    """A reward; NaN for none. Raises InvalidInput for what is no number in [0, 1]."""
    if value is None:
        return math.nan
    number = _GRADES.get(value, value) if isinstance(value, str) else value
    if _is_value(number):
        reward = float(number)
        if math.isnan(reward) or 0.0 <= reward <= 1.0:
            return reward
    raise InvalidInput("metric", "one whose values are in [0, 1]", value, "Choose another by its name.")


def _to_cost(value: Any) -> float:
    return float(value) if is_number(value) and value >= 0 else math.nan


def _choose(kind: str, wanted: str | None, known: Sequence[str], where: str) -> str:
    """The wanted name, or the only one. Raises InvalidInput."""
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted in known and wanted is not None:
        return wanted
    expected = f"one that {where} has: {', '.join(known) or 'none'}"
    raise InvalidInput(kind, expected, wanted or "none chosen", suggest(wanted or "", known))


def _first_text(value: Any) -> str | None:
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return value if isinstance(value, str) else None


def _join_words(name: str, filter: str | None, tool: str) -> str:
    return " ".join(part for part in (name, f"({filter})" if filter not in (None, "none") else "", tool) if part)
