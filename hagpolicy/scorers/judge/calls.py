"""A judge's calls: each made once, by an engine in units, its reply kept in an append-only file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hagpolicy._digest import digest
from hagpolicy._files import append_bytes, format_jsonl, parse_json, read_regular
from hagpolicy._text import replace_surrogates
from hagpolicy.config.config import DecodingConfig
from hagpolicy.data.completion import Completion, Request, sum_tokens
from hagpolicy.data.prompts import Prompt
from hagpolicy.engines.base import Engine
from hagpolicy.scorers.judge.prompts import JudgeReply

logger = logging.getLogger(__name__)

Read = Callable[[str, str], JudgeReply]
# No file of calls is larger.
MOST_BYTES = 8 << 30


class JudgeCalls:
    """Replies to judge prompts, read once and remembered by the digest of the prompt.

    A call that the engine failed on is not remembered: asking again asks the engine again. A reply
    that cannot be read is: the same judge would say the same.

    Args:
        version: of the judge; part of every key.
        config: of the judge's decoding.
        max_tokens: limit on a reply's tokens.
        read: makes a `JudgeReply` of a reply's text and finish reason.

    Attributes:
        asked: calls that went to the engine.
        failed: those of them that the engine failed on.
        tokens: new tokens of the replies; NaN where they were not all counted.
        unreadable: distinct prompts whose reply could not be read, those from the file included.
    """

    def __init__(self, version: str, config: DecodingConfig, max_tokens: int, read: Read) -> None:
        self._version, self._config, self._max_tokens, self._read = version, config, max_tokens, read
        self._known: dict[str, JudgeReply] = {}
        self._path: Path | None = None
        self.asked = self.failed = self.unreadable = 0
        self.tokens: float = 0

    def __len__(self) -> int:
        return len(self._known)

    def keep_in(self, path: Path | None) -> None:
        """Take up the replies in a JSONL file, and append new ones to it; None: keep them in memory only.

        A line that a kill tore, or that a disk lost or changed, is left out: that call is made again.

        Raises:
            OSError: it cannot be read, or is no regular file.
        """
        self._path = path
        if path is None or not path.exists():
            return
        data = read_regular(path, MOST_BYTES)
        lost = 0
        for line in data.splitlines():
            try:
                row = parse_json(line)
                borne = row.pop("digest", None)
                # Lines of before bear none, and nothing else in its place.
                if row.keys() != {"call", "reply", "finish", "tokens"} or borne not in (None, digest(row)):
                    raise ValueError("not what was written")
                self._record(row["call"], row["reply"], row["finish"])
            except (ValueError, KeyError, TypeError, AttributeError):
                lost += 1
        if lost:
            logger.warning("%s: %d damaged lines left out; those calls are made again", path, lost)
        if data and not data.endswith(b"\n"):
            self._append_lines(b"\n")  # what is added must not join the torn line

    def ask(self, engine: Engine, prompts: Iterable[str]) -> dict[str, JudgeReply]:
        """The reply to each prompt; equal prompts, and those known from before, cost no call."""
        keys = {text: digest([self._version, text]) for text in prompts}
        open_texts = [text for text, key in keys.items() if key not in self._known]
        failures: dict[str, JudgeReply] = {}
        units = [open_texts[at : at + engine.unit_cells] for at in range(0, len(open_texts), max(engine.unit_cells, 1))]
        requests = ([self._request(text, keys[text]) for text in unit] for unit in units)
        for number, outcome in engine.stream(requests) if units else ():
            failures |= self._record_unit(units[number], keys, outcome)
        lost = JudgeReply(None, "judge engine: no reply came back")
        return {text: self._known.get(key) or failures.get(text, lost) for text, key in keys.items()}

    def _record_unit(
        self, unit: Sequence[str], keys: Mapping[str, str], outcome: list[Completion] | Exception
    ) -> dict[str, JudgeReply]:
        """Remember and store the replies of one unit; give back the failures."""
        self.asked += len(unit)
        if isinstance(outcome, Exception) or len(outcome) != len(unit):
            self.failed += len(unit)
            error = str(outcome) if isinstance(outcome, Exception) else f"{len(outcome)} replies for {len(unit)} calls"
            return dict.fromkeys(unit, JudgeReply(None, f"judge engine: {error}"))
        self.tokens += sum_tokens(outcome)
        failures: dict[str, JudgeReply] = {}
        rows: list[dict[str, Any]] = []
        for text, completion in zip(unit, outcome, strict=True):
            if completion.finish == "error":
                self.failed += 1
                failures[text] = JudgeReply(None, f"judge engine: {completion.error or 'unknown'}")
                continue
            reply = replace_surrogates(completion.text)
            self._record(keys[text], reply, completion.finish)
            tokens = None if completion.tokens != completion.tokens else completion.tokens
            rows.append({"call": keys[text], "reply": reply, "finish": completion.finish, "tokens": tokens})
        self._append_lines(format_jsonl({**row, "digest": digest(row)} for row in rows).encode())
        return failures

    def _request(self, text: str, key: str) -> Request:
        seed = int(key[:15], 16)
        return Request(Prompt(text), self._config, 0, seed, self._max_tokens)

    def _record(self, key: str, reply: str, finish: str) -> None:
        parsed = self._read(reply, finish)
        if key not in self._known:
            self.unreadable += parsed.value is None
        self._known[key] = parsed

    def _append_lines(self, data: bytes) -> None:
        """Add whole lines and sync them: a reply is paid for."""
        if self._path is None or not data:
            return
        try:
            append_bytes(self._path, data)
        except OSError as error:
            # The rewards themselves are stored by the sweep, which says what to do about its disk.
            logger.warning("judge calls are no longer kept: %s: %s", self._path, error)
            self._path = None
