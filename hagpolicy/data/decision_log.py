"""`DecisionLog`: what was decided for each call, in one SQLite file that several processes write at once.

A row a call, in the order of writing; rewards come later and stand in a table of their own, of which the newest of a
call counts and all are kept. Prompts and units stand there as digests under a random key, which lies beside the log in
a file that its owner alone can read; texts only where that is asked for. Calls hand their rows to a thread that writes
them in batches: a full disk or a slow one costs rows, which are counted, and no call.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
import sqlite3
import stat
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hagpolicy._checks import is_number
from hagpolicy._digest import DIGEST_BYTES, canonical_json
from hagpolicy._files import check_path
from hagpolicy.config.space import DecodingSpace
from hagpolicy.errors import InvalidInput, StoreError

__all__ = ["DecisionLog", "LoggedCall", "LoggedPolicy", "add_reward", "add_rewards", "open_log"]

logger = logging.getLogger(__name__)

FORMAT = 1
# In the file's header, where other programs and `file` look for it: "hagd".
APPLICATION = 0x68616764
KEY_BYTES = 32
BUSY_SECONDS = 10.0
# Rows wait so long for others to be written with them, and so many are written at once at most.
BATCH_SECONDS, BATCH_ROWS = 0.2, 1_000
MOST_WAITING, MOST_WAITING_BYTES = 10_000, 64 << 20
# Reasons for which rows were dropped, each of which is told once: one must not hide the next.
MOST_TOLD = 20

_SCHEMA = """
CREATE TABLE configs (number INTEGER PRIMARY KEY, config TEXT NOT NULL UNIQUE);
CREATE TABLE policies (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    space TEXT NOT NULL,
    today INTEGER REFERENCES configs,
    engine TEXT NOT NULL,
    max_tokens INTEGER,
    UNIQUE (name, digest)
);
CREATE TABLE calls (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    time REAL NOT NULL,
    policy INTEGER REFERENCES policies,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    task TEXT,
    reason TEXT NOT NULL,
    config INTEGER REFERENCES configs,
    intended INTEGER REFERENCES configs,
    propensity REAL NOT NULL,
    choices INTEGER NOT NULL,
    explored INTEGER NOT NULL,
    fixed TEXT NOT NULL,
    arm TEXT NOT NULL,
    share REAL,
    unit TEXT NOT NULL,
    by_request INTEGER NOT NULL,
    prompt TEXT,
    text TEXT,
    attempts INTEGER NOT NULL DEFAULT 1,
    status INTEGER,
    tokens INTEGER,
    seconds REAL
);
CREATE TABLE rewards (
    number INTEGER PRIMARY KEY,
    call TEXT NOT NULL REFERENCES calls (id),
    reward REAL NOT NULL CHECK (reward BETWEEN 0 AND 1),
    time REAL NOT NULL
);
CREATE INDEX rewards_by_call ON rewards (call, number);
"""

_HALVES = re.compile("[\ud800-\udfff]")

# A further attempt of a call is counted; another call that bears its id is none of it, and changes nothing.
_INSERT = """
INSERT INTO calls (id, time, policy, model, endpoint, task, reason, config, intended, propensity, choices, explored,
                   fixed, arm, share, unit, by_request, prompt, text)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET attempts = attempts + 1
WHERE prompt IS excluded.prompt AND config IS excluded.config AND reason = excluded.reason
"""

_INSERT_POLICY = """
INSERT OR IGNORE INTO policies (name, digest, space, today, engine, max_tokens) VALUES (?, ?, ?, ?, ?, ?)
"""


@dataclass(frozen=True, eq=False)
class LoggedPolicy:
    """The policy that decided.

    Attributes:
        name: of the policy, as it is configured.
        digest: of its bundle.
        space: the configs that it chooses among.
        today: index of what runs without it; None where unknown.
        engine: fingerprint of the engine that it was fitted for; empty where unknown.
        max_tokens: the limit on new tokens that it was fitted under; None where unknown.
    """

    name: str
    digest: str
    space: DecodingSpace
    today: int | None = None
    engine: Mapping[str, str] = field(default_factory=dict)
    max_tokens: int | None = None


@dataclass(frozen=True, eq=False)
class LoggedCall:
    """One call as it goes out.

    Attributes:
        id: of the call, the same in all its attempts.
        reason: of the decision, see `serving.rewrite.RequestReceipt`.
        endpoint: the path that its own ends with.
        model: its name as configured; "other" for any that is not.
        policy: that decided; None where none did.
        chosen: index of the config in the policy's space; None: none of it, such as where the call went out unchanged.
        intended: index of the policy's own choice, the same but for a draw; None: none of it.
        propensity: probability that `chosen` was drawn with, given prompt and arm, in (0, 1].
        choices: how many configs could be drawn; 0 where none was.
        explored: it is one of the calls that draw among them alike, whichever config they got.
        fixed: fields that were not the policy's to decide, with their values.
        task: that was told and that the policy knows.
        arm: of an experiment, "policy" or "default"; "" outside of one.
        share: the probability with which a unit is assigned to the policy; None outside of an experiment.
        unit: digest of whom the arm was drawn for.
        by_request: that is this request, since none was named.
        prompt: a string or chat messages; None where there is none.
        size: bytes of the request, for the bound on what waits.
        time: seconds since 1970.
    """

    id: str
    reason: str
    endpoint: str = ""
    model: str = "other"
    policy: LoggedPolicy | None = None
    chosen: int | None = None
    intended: int | None = None
    propensity: float = 1.0
    choices: int = 0
    explored: bool = False
    fixed: dict[str, Any] = field(default_factory=dict)
    task: str | None = None
    arm: str = ""
    share: float | None = None
    unit: str = ""
    by_request: bool = True
    prompt: Any = None
    size: int = 0
    time: float = field(default_factory=time.time)


@dataclass(frozen=True)
class _Answer:
    """What is known of a call's answer."""

    id: str
    status: int | None
    tokens: int | None
    seconds: float | None
    size: int = 0


class DecisionLog:
    """An append-only log of decisions; made where there is none, continued where there is one.

    Safe to be used by many threads, and by many processes with a log of their own on the same file. After a fork the
    child's rows go through a thread of its own.

    Args:
        path: of the file; its folder is made. It must lie on a local disk.
        text: prompts are kept as they are, beside their digests.

    Attributes:
        path: as given.
        key: random bytes that all digests are made under, from the file beside the log whose name ends in ".key".

    Raises:
        InvalidInput: no path.
        StoreError: something else lies there, a damaged log or one of another version; it or its key cannot be read or
            written; the key is missing, or others may read it.
    """

    def __init__(self, path: str | Path, *, text: bool = False) -> None:
        self.path, self.text = check_path(path, "log"), text
        self.key = _prepare(self.path)
        self._writer = _Writer(self.path, self.key, text)
        self._finalizer = weakref.finalize(self, _Writer.close, self._writer)

    def add(self, call: LoggedCall) -> None:
        """Hand over a call; returns at once, whatever becomes of it."""
        self._writer.put(call, call.size if self.text else 0)

    def add_answer(self, id: str, status: int | None, tokens: int | None = None, seconds: float | None = None) -> None:
        """Hand over what is known of a call's answer: HTTP status, new tokens, seconds; those of the last attempt."""
        self._writer.put(_Answer(id, status, tokens, seconds), 0)

    def digest(self, kind: str, text: str) -> bytes:
        """16 bytes that name a text within this log and nowhere else; other ones for each kind, of 16 characters."""
        return compute_keyed_digest(self.key, kind, text)

    def flush(self, seconds: float = BUSY_SECONDS) -> bool:
        """Wait until all that was handed over is written, or dropped; False where that takes longer."""
        return self._writer.flush(seconds)

    def close(self) -> None:
        """Write what waits, and end; what is handed over later is dropped."""
        self._finalizer()

    @property
    def dropped(self) -> int:
        """Calls and answers that were not written: the disk was full or failed, or too many waited."""
        return self._writer.dropped


_WRITERS: weakref.WeakSet[_Writer] = weakref.WeakSet()


def _begin_after_fork() -> None:
    for writer in list(_WRITERS):
        writer.begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_after_fork)


def compute_keyed_digest(key: bytes, kind: str, text: str) -> bytes:
    """BLAKE2b of a text under a key, 16 bytes."""
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES, key=key, person=kind.encode()).digest()


class _Writer:
    """The queue of one process and the thread that empties it, which starts with the first row."""

    def __init__(self, path: Path, key: bytes, text: bool) -> None:
        self._path, self._key, self._text = path, key, text
        self.begin()
        _WRITERS.add(self)

    def begin(self) -> None:
        """Stand as a new one: a fork takes neither the thread along nor the state of its lock."""
        self._changed = threading.Condition()
        self._waiting: deque[tuple[LoggedCall | _Answer, int]] = deque()
        self._bytes = self._taken = self._done = self.dropped = 0
        self._thread: threading.Thread | None = None
        self._closed = self._hurried = False
        self._told: set[str] = set()
        self._numbers: dict[tuple[str, str], tuple[int, list[int]]] = {}

    def put(self, item: LoggedCall | _Answer, size: int) -> None:
        """Let a row wait to be written; drop it where too many wait."""
        with self._changed:
            full = len(self._waiting) >= MOST_WAITING or self._bytes + size > MOST_WAITING_BYTES
            if not (full or self._closed):
                self._waiting.append((item, size))
                self._bytes += size
                self._taken += 1
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="hagpolicy-decisions", daemon=True)
                    self._thread.start()
                if len(self._waiting) in (1, BATCH_ROWS):
                    self._changed.notify_all()
                return
        self._drop(1, "too many wait to be written" if full else "it is closed")

    def flush(self, seconds: float) -> bool:
        """Wait until what was put is written or dropped; False where that takes longer."""
        with self._changed:
            wanted, self._hurried = self._taken, True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._done >= wanted, seconds)

    def close(self) -> None:
        """Write what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(2.0 * BUSY_SECONDS)

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        while batch := self._take():
            try:
                connection = connection or connect(self._path)
                self._write(connection, batch)
            except Exception as error:  # a thread that ended would lose all that comes
                self._numbers = {}
                self._drop(len(batch), str(error) if isinstance(error, sqlite3.Error) else type(error).__name__)
                with contextlib.suppress(Exception):
                    if connection is not None:
                        connection.close()
                connection = None
            with self._changed:
                self._done += len(batch)
                self._changed.notify_all()
        if connection is not None:
            connection.close()

    def _take(self) -> list[Any]:
        """The rows to be written next; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._changed.wait_for(
                lambda: len(self._waiting) >= BATCH_ROWS or self._closed or self._hurried, BATCH_SECONDS
            )
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_ROWS))]
            self._bytes -= sum(size for _, size in batch)
            self._hurried = self._hurried and bool(self._waiting)
            return [item for item, _ in batch]

    def _write(self, connection: sqlite3.Connection, batch: Sequence[LoggedCall | _Answer]) -> None:
        refused = 0
        with transaction(connection):
            for item in batch:
                if isinstance(item, _Answer):
                    given = (item.status, item.tokens, item.seconds, item.id)
                    connection.execute("UPDATE calls SET status = ?, tokens = ?, seconds = ? WHERE id = ?", given)
                else:
                    refused += connection.execute(_INSERT, self._make_row(connection, item)).rowcount == 0
        if refused:
            self._drop(refused, "another call bears the same id")

    def _make_row(self, connection: sqlite3.Connection, call: LoggedCall) -> tuple[Any, ...]:
        policy, configs = (None, []) if call.policy is None else self._find_policy(connection, call.policy)
        text = None if call.prompt is None else _write_prompt(call.prompt)
        return (
            call.id,
            call.time,
            policy,
            call.model,
            call.endpoint,
            call.task,
            call.reason,
            None if call.chosen is None else configs[call.chosen],
            None if call.intended is None else configs[call.intended],
            call.propensity,
            call.choices,
            call.explored,
            canonical_json(call.fixed),
            call.arm,
            call.share,
            call.unit,
            call.by_request,
            None if text is None else compute_keyed_digest(self._key, "prompt", text).hex(),
            text if self._text else None,
        )

    def _find_policy(self, connection: sqlite3.Connection, policy: LoggedPolicy) -> tuple[int, list[int]]:
        """Number of a policy and those of its configs, which are written where they are new."""
        key = (policy.name, policy.digest)
        if key not in self._numbers:
            configs = []
            for config in policy.space:
                text = canonical_json(config.to_dict())
                connection.execute("INSERT OR IGNORE INTO configs (config) VALUES (?)", (text,))
                configs.append(_find_number(connection, "SELECT number FROM configs WHERE config = ?", text))
            today = None if policy.today is None else configs[policy.today]
            row = (*key, canonical_json(configs), today, canonical_json(dict(policy.engine)), policy.max_tokens)
            connection.execute(_INSERT_POLICY, row)
            query = "SELECT number FROM policies WHERE name = ? AND digest = ?"
            self._numbers[key] = _find_number(connection, query, *key), configs
        return self._numbers[key]

    def _drop(self, count: int, why: str) -> None:
        with self._changed:
            self.dropped += count
            first = why not in self._told and len(self._told) < MOST_TOLD
            self._told |= {why} if first else set()
        if first:
            logger.error("%s: decisions are not logged, and calls go on without: %s", self._path, why)


def _find_number(connection: sqlite3.Connection, query: str, *values: str) -> int:
    return int(connection.execute(query, values).fetchone()[0])


def _write_prompt(prompt: Any) -> str:
    """The prompt as JSON, in which half a surrogate pair, which no database takes, is escaped."""
    return _HALVES.sub(lambda half: f"\\u{ord(half[0]):04x}", canonical_json(prompt))


def _prepare(path: Path) -> bytes:
    """The key of a log, which is made with its key where there is none. Raises StoreError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size and not find_key(path).exists():
            with open_log(path):  # what is no log has no key
                do = "Put it back, or begin a new log: without it units and prompts would have other names."
                raise StoreError(f"{path}: expected its key {find_key(path).name} beside it, found none. {do}")
        # The key first: whoever finds the log finds its key.
        key = _make_key(path)
    except OSError as error:
        raise StoreError(_explain(path, error.strerror or str(error))) from error
    with contextlib.closing(connect(path)) as connection:
        _make_tables(connection, path)
    return key


def find_key(path: Path) -> Path:
    """The file of a log's key."""
    return path.with_name(f"{path.name}.key")


def _make_key(path: Path) -> bytes:
    """A new key, or the one that another process made meanwhile. Raises OSError, StoreError."""
    place = find_key(path)
    if not place.exists():
        temporary = place.with_name(f"{place.name}.{secrets.token_hex(4)}.tmp")
        try:
            with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(temporary, place)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    """The key of a log. Raises OSError, StoreError."""
    place = find_key(path)
    with place.open("rb") as file:
        rights = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        key = file.read(KEY_BYTES + 1)
    if os.name == "posix" and rights & 0o077:
        raise StoreError(f"{place}: expected rights of its owner alone, found {rights:o}. Run chmod 600 on it.")
    if len(key) != KEY_BYTES:
        raise StoreError(f"{place}: expected a key of {KEY_BYTES} bytes, found {len(key)} or more. Put it back.")
    return key


def connect(path: Path, *, write: bool = True) -> sqlite3.Connection:
    """A connection to a log, whose format is not checked. Raises StoreError."""
    mode = "rwc" if write else "ro"
    try:
        found = sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=BUSY_SECONDS)
        found.isolation_level = None  # transactions are begun and ended here
        found.execute(f"PRAGMA busy_timeout = {round(1000 * BUSY_SECONDS)}")
        found.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error as error:
        raise StoreError(_explain(path, str(error))) from error
    return found


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of what is written inside, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _make_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Make a new log's tables, or check an old one's format. Raises StoreError."""
    try:
        if not _is_new(connection):
            check_format(connection, path)  # before anything of another program's file is changed
        _switch_to_wal(connection, path)
        with transaction(connection):
            if _is_new(connection):
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {FORMAT}")
            check_format(connection, path)
    except sqlite3.Error as error:
        raise StoreError(_explain(path, str(error))) from error


def _is_new(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _switch_to_wal(connection: sqlite3.Connection, path: Path) -> None:
    """Let several processes write at once. Raises StoreError, sqlite3.Error."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            # Those that make a log at once are not made to wait for each other here, whatever busy_timeout says.
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.02)
            continue
        if mode != "wal":
            raise StoreError(f"{path}: expected a local disk, on which several processes can write, found another.")
        return


def check_format(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse what is no log, or one of another version. Raises StoreError, sqlite3.Error."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION:
        raise StoreError(f"{path}: expected a decision log of hagpolicy, found another SQLite file. Give another path.")
    if version != FORMAT:
        do = "Read it with the version of hagpolicy that wrote it, and begin a new one."
        raise StoreError(f"{path}: expected a decision log of format {FORMAT}, found format {version}. {do}")


@contextlib.contextmanager
def open_log(path: str | Path, *, write: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection to a log that is there, closed at the end; errors of the database inside are told as of the log.

    Raises:
        InvalidInput: no path.
        StoreError: no log there, a damaged one or one of another version, or it cannot be read.
    """
    path = check_path(path, "log")
    if not path.is_file():
        do = "Begin one with `hagpolicy serve --log FILE`, or `wrap(client, policy, log=FILE)`."
        raise StoreError(f"{path}: expected a decision log, found no file. {do}")
    with contextlib.closing(connect(path, write=write)) as connection:
        try:
            check_format(connection, path)
            yield connection
        except sqlite3.Error as error:
            raise StoreError(_explain(path, str(error))) from error


def _explain(path: Path, why: str) -> str:
    return f"{path}: expected a decision log that can be read and written, found: {why}. Give another path, or a copy."


def add_reward(path: str | Path, id: str, reward: float) -> None:
    """Add a call's reward to a log; the newest counts, and all are kept.

    Args:
        path: of the log.
        id: of the call, as the header `x-hag-request-id` of its response names it.
        reward: in [0, 1].

    Raises:
        InvalidInput: no such reward, or an id that is not in the log.
        StoreError: no log there, or it cannot be written.
    """
    add_rewards(path, [(id, reward)])


def add_rewards(path: str | Path, rewards: Iterable[tuple[str, float]]) -> None:
    """Add rewards by the ids of their calls, all or none; see `add_reward`."""
    given = list(rewards)
    for _, reward in given:
        if not is_number(reward) or not 0.0 <= reward <= 1.0:
            raise InvalidInput("value", "a reward in [0, 1]", reward)
    with open_log(path, write=True) as connection, transaction(connection):
        for id, reward in given:
            # No id holds half a surrogate pair, which no database takes.
            known = not _HALVES.search(id) and connection.execute("SELECT 1 FROM calls WHERE id = ?", (id,)).fetchone()
            if not known:
                do = "The header x-hag-request-id of a response names it."
                raise InvalidInput("id", "the id of a call in the log", id, do)
            row = (id, float(reward), time.time())
            connection.execute("INSERT INTO rewards (call, reward, time) VALUES (?, ?, ?)", row)
