"""What a decision log holds: as arrays, as one Parquet file."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hagpolicy._digest import canonical_json
from hagpolicy._extras import require
from hagpolicy._files import check_path, check_replaceable, parse_json, sync
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.decision_log import open_log
from hagpolicy.data.decisions import UNCHANGED, LoggedDecisions
from hagpolicy.errors import InvalidInput, StoreError

__all__ = ["Traffic", "export_decisions", "list_policies", "read_traffic"]

# The newest reward of a call counts.
_CALLS = """
SELECT calls.*, policies.name AS policy_name, policies.digest AS policy_digest, newest.reward AS reward,
       coalesce(newest.rewards, 0) AS rewards
FROM calls
LEFT JOIN policies ON policies.number = calls.policy
LEFT JOIN (SELECT call, reward, max(number), count(*) AS rewards FROM rewards GROUP BY call) AS newest
    ON newest.call = calls.id
"""
_BATCH = 20_000
_MAGIC, _KEY = b"PAR1", b"hagpolicy.decisions"


@dataclass(frozen=True, eq=False)
class Traffic:
    """The calls of a log, in the order in which they were written.

    Attributes:
        decisions: n calls as arrays; its space has the configs of all policies that decided, in their order.
        ids: of the calls, (n,).
        intended: int64 (n,), index of the policy's own choice; -1: none of the space.
        explored: bool (n,): calls that draw among their configs alike, whichever they got.
        choices: int64 (n,): configs that could be drawn; 0 where none was.
        today: index of what runs without a policy, (n,); -1 where unknown.
        prompts: strings or chat messages, (n,); None where the log holds no text of them.
        tasks: that were told, (n,); None where none was.
        fixed: fields that were not the policy's to decide, with their values, (n,).
        by_request: bool (n,): calls that named no unit, and so are each a unit of its own.
        fingerprint: of the engine that the policies were fitted for; empty where unknown, or of several.
        max_tokens: the limit that they were fitted under; None where unknown, or of several.
    """

    decisions: LoggedDecisions
    ids: tuple[str, ...]
    intended: np.ndarray
    explored: np.ndarray
    choices: np.ndarray
    today: np.ndarray
    prompts: tuple[Any, ...]
    tasks: tuple[str | None, ...]
    fixed: tuple[Mapping[str, Any], ...]
    by_request: np.ndarray
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    max_tokens: int | None = None


def read_traffic(path: str | Path, *, policy: str | None = None, experiment: bool | None = None) -> Traffic:
    """The calls of a log; it may be written to meanwhile.

    Args:
        path: of the log.
        policy: of the calls that the policy of this name decided, or that were its to decide; None: of all.
        experiment: True: only calls of an experiment; False: only those that it left to the policy; None: all, and of
            an experiment only its own where there is one, since calls outside of it have no arm.

    Raises:
        InvalidInput: no such calls, or those of experiments of several shares.
        StoreError: no log there, a damaged one or one of another version.
    """
    where, values = ["1"], []
    if policy is not None:
        where.append("policies.name = ?")
        values.append(policy)
    with open_log(path) as connection:
        connection.row_factory = sqlite3.Row
        if experiment or (experiment is None and _has_arms(connection)):
            where.append("arm != ''")
        elif experiment is False:
            where.append("arm != 'default'")
        rows = connection.execute(f"{_CALLS} WHERE {' AND '.join(where)} ORDER BY calls.number", values).fetchall()
        configs = dict(connection.execute("SELECT number, config FROM configs").fetchall())
        policies = connection.execute("SELECT * FROM policies ORDER BY number").fetchall()
    if not rows:
        wanted = "a call of an experiment" if experiment else "a call"
        by = "" if policy is None else f" that the policy {policy} decided"
        do = "Serve with `--experiment 0.5`, wrap(…, experiment=0.5) or HAGPOLICY_EXPERIMENT=0.5." if experiment else ""
        raise InvalidInput("log", f"{wanted}{by} in {path}", "none", do)
    present = {row["policy"] for row in rows}
    return _arrange(rows, configs, [row for row in policies if row["number"] in present])


def list_policies(path: str | Path) -> tuple[str, ...]:
    """Names of the policies that decided calls of a log, sorted.

    Raises:
        StoreError: no log there, a damaged one or one of another version.
    """
    query = "SELECT DISTINCT name FROM policies WHERE number IN (SELECT policy FROM calls) ORDER BY name"
    with open_log(path) as connection:
        return tuple(name for (name,) in connection.execute(query))


def _has_arms(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM calls WHERE arm != '' LIMIT 1").fetchone() is not None


def _arrange(rows: list[Any], configs: Mapping[int, str], policies: list[Any]) -> Traffic:
    numbers = list(dict.fromkeys(number for row in policies for number in parse_json(row["space"])))
    if not numbers:
        raise InvalidInput("log", "calls of a policy", "none that a policy was asked for")
    at = {number: index for index, number in enumerate(numbers)} | {None: UNCHANGED}
    today = {row["number"]: at[row["today"]] for row in policies} | {None: UNCHANGED}
    engines, limits = ({row[name] for row in policies} for name in ("engine", "max_tokens"))
    times = np.array([row["time"] for row in rows])
    by_policy = np.array([row["arm"] != "default" for row in rows])
    decisions = LoggedDecisions(
        DecodingSpace([DecodingConfig.from_dict(parse_json(configs[number])) for number in numbers]),
        np.array([at[row["config"]] for row in rows]),
        np.array([row["propensity"] for row in rows]),
        np.array([np.nan if row["reward"] is None else row["reward"] for row in rows]),
        by_policy,
        np.unique([row["unit"] or row["id"] for row in rows], return_inverse=True)[1].ravel(),
        np.maximum(times - times[0], 0.0),
        _find_share(rows),
    )
    return Traffic(
        decisions,
        tuple(row["id"] for row in rows),
        np.array([at[row["intended"]] for row in rows]),
        np.array([bool(row["explored"]) for row in rows]),
        np.array([row["choices"] for row in rows]),
        np.array([today[row["policy"]] for row in rows]),
        tuple(None if row["text"] is None else parse_json(row["text"]) for row in rows),
        tuple(row["task"] for row in rows),
        tuple(parse_json(row["fixed"]) for row in rows),
        np.array([bool(row["by_request"]) for row in rows]),
        parse_json(next(iter(engines))) if len(engines) == 1 else {},
        next(iter(limits)) if len(limits) == 1 else None,
    )


def _find_share(rows: list[Any]) -> float | None:
    """The share of units that an experiment assigns to the policy. Raises InvalidInput for several."""
    shares = {row["share"] for row in rows if row["arm"]}
    if len(shares) > 1:
        do = "Begin a new log where the share changes: units then change their arm."
        raise InvalidInput("log", "an experiment of one share", ", ".join(f"{one:g}" for one in sorted(shares)), do)
    return next(iter(shares), None)


def export_decisions(log: str | Path, path: str | Path) -> int:
    """Write a log as one Parquet file, a row a call with its newest reward, whole or not at all; returns how many.

    Configs are JSON; `text` is a JSON string or list of messages, where the log holds it.

    Args:
        log: of the decisions; it may be written to meanwhile.
        path: a new file, or an earlier one of its kind, which is replaced.

    Raises:
        InvalidInput: something else lies at the path.
        StoreError: no log there, a damaged one or one of another version.
        OSError: the file cannot be written.
        MissingExtra: pyarrow is not installed.
    """
    arrow = require("pyarrow", "sweep", "a Parquet file")
    parquet = require("pyarrow.parquet", "sweep", "a Parquet file")
    path = check_path(path, "path")
    check_replaceable(path, lambda head: head.startswith(_MAGIC) and _is_export(path), "a log exported by hagpolicy")
    schema = _make_schema(arrow)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    count = 0
    try:
        with open_log(log) as connection, parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for rows in _read_batches(connection):
                writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
                count += len(rows)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    return count


def _make_schema(arrow: Any) -> Any:
    texts = ("id", "policy", "policy_digest", "model", "endpoint", "task", "reason", "config", "intended", "fixed")
    kinds = dict.fromkeys((*texts, "arm", "unit", "prompt", "text"), arrow.string())
    kinds |= dict.fromkeys(("time", "propensity", "share", "seconds", "reward"), arrow.float64())
    kinds |= dict.fromkeys(("choices", "attempts", "status", "tokens", "rewards"), arrow.int64())
    kinds |= dict.fromkeys(("explored", "by_request"), arrow.bool_())
    return arrow.schema(sorted(kinds.items()), metadata={_KEY: canonical_json({"format": 1}).encode()})


def _read_batches(connection: sqlite3.Connection) -> Iterator[list[dict[str, Any]]]:
    connection.row_factory = sqlite3.Row
    connection.execute("BEGIN")  # all batches are of one moment
    configs = dict(connection.execute("SELECT number, config FROM configs").fetchall()) | {None: None}
    found = connection.execute(f"{_CALLS} ORDER BY calls.number")
    while rows := found.fetchmany(_BATCH):
        yield [_flatten(dict(row), configs) for row in rows]
    connection.execute("COMMIT")


def _flatten(row: dict[str, Any], configs: Mapping[int | None, str | None]) -> dict[str, Any]:
    row |= {name: configs[row[name]] for name in ("config", "intended")}
    row |= {name: bool(row[name]) for name in ("explored", "by_request")}
    return {**row, "policy": row["policy_name"]}


def _is_export(path: Path) -> bool:
    parquet = require("pyarrow.parquet", "sweep", "a Parquet file")
    try:
        return _KEY in (parquet.read_schema(path).metadata or {})
    except (OSError, ValueError, StoreError):
        return False
