"""The decision log: several processes write it, nothing of it fails a call, and it holds what was asked for alone."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import hagpolicy as hag
from hagpolicy.data import decision_log
from hagpolicy.data.decision_log import DecisionLog, LoggedCall, LoggedPolicy, add_reward, find_key
from hagpolicy.errors import InvalidInput, StoreError

SPACE = hag.DecodingSpace.grid(temperature=[0.0, 0.5, 1.0])
POLICY = LoggedPolicy("mine", "d" * 32, SPACE, today=2)
# Written by one of several processes: its number, how many rows.
WRITING = """
import sys
from hagpolicy.data.decision_log import DecisionLog, LoggedCall, LoggedPolicy
import hagpolicy as hag
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
policy = LoggedPolicy("mine", "d" * 32, hag.DecodingSpace.grid(temperature=[0.0, 0.5, 1.0]))
log = DecisionLog(path)
print("open", flush=True)
for at in range(count):
    log.add(LoggedCall(f"{name}-{at}", "best_by_margin", policy=policy, chosen=at % 3, prompt=f"prompt {at}"))
    if at % 500 == 499:
        log.flush()
        print(at + 1, flush=True)
log.close()
print(log.dropped, flush=True)
"""


def call(id, **fields):
    return LoggedCall(id, "best_by_margin", **{"policy": POLICY, "chosen": 1, "intended": 1, **fields})


def rows(path, query="SELECT * FROM calls ORDER BY number"):
    with sqlite3.connect(path) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


def start(path, name, count):
    command = [sys.executable, "-c", WRITING, str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_row_a_call_with_its_attempts_and_its_answer(tmp_path):
    path = tmp_path / "live" / "calls.db"
    log = DecisionLog(path)
    log.add(call("one", prompt="hello", fixed={"top_p": 0.9}, unit="u", by_request=False, arm="policy", share=0.5))
    log.add_answer("one", 503)
    log.add(call("one", prompt="hello"))
    log.add_answer("one", 200, 17, 1.5)
    log.add(call("two", chosen=None, intended=None, policy=None, prompt=None))
    log.close()
    first, second = rows(path)
    assert (first["attempts"], first["status"], first["tokens"], first["seconds"]) == (2, 200, 17, 1.5)
    assert (first["fixed"], first["unit"], first["arm"], first["share"]) == ('{"top_p":0.9}', "u", "policy", 0.5)
    assert (second["attempts"], second["policy"], second["config"], second["prompt"]) == (1, None, None, None)
    (config,) = rows(path, f"SELECT config FROM configs WHERE number = {first['config']}")
    assert config == {"config": '{"temperature":0.5}'}


def test_another_call_under_the_same_id_changes_nothing_and_is_counted(tmp_path, caplog):
    log = DecisionLog(tmp_path / "log.db")
    log.add(call("one", prompt="hello"))
    log.add(call("one", prompt="another"))
    log.add(call("one", prompt="hello", chosen=2))
    log.close()
    (row,) = rows(log.path)
    assert row["attempts"] == 1
    assert log.dropped == 2
    log.add(call("late"))
    assert caplog.text.count("another call bears the same id") == 1
    assert "it is closed" in caplog.text  # one reason does not hide the next


def test_the_key_is_the_owners_alone_and_makes_the_digests(tmp_path):
    log = DecisionLog(tmp_path / "log.db")
    assert stat.S_IMODE(find_key(log.path).stat().st_mode) == 0o600
    again, other = DecisionLog(log.path), DecisionLog(tmp_path / "other.db")
    assert log.digest("unit", "ada") == again.digest("unit", "ada") != other.digest("unit", "ada")
    assert log.digest("unit", "ada") != log.digest("draw", "ada")


def test_texts_stand_in_it_only_where_they_are_asked_for(tmp_path):
    secret = "the prompt \ud83d of ada"
    for text in (False, True):
        folder = tmp_path / str(text)
        log = DecisionLog(folder / "log.db", text=text)
        log.add(call("one", prompt=[{"role": "user", "content": secret}], size=100))
        log.flush()
        held = b"".join(path.read_bytes() for path in folder.iterdir())
        log.close()
        held += b"".join(path.read_bytes() for path in folder.iterdir())
        assert (b"of ada" in held) == text
        assert rows(log.path)[0]["prompt"] is not None


def test_eight_processes_write_at_once(tmp_path):
    path = tmp_path / "log.db"
    writers = [start(path, f"p{number}", 500) for number in range(8)]
    said = [writer.communicate(timeout=60) for writer in writers]
    assert [out.split()[-1] for out, _ in said] == ["0"] * 8, said
    found = rows(path, "SELECT id FROM calls")
    assert {row["id"] for row in found} == {f"p{number}-{at}" for number in range(8) for at in range(500)}
    assert len(rows(path, "SELECT * FROM configs")) == 3
    assert len(rows(path, "SELECT * FROM policies")) == 1


def test_a_kill_loses_at_most_what_waited(tmp_path):
    path = tmp_path / "log.db"
    writer = start(path, "p", 1_000_000)
    try:
        told = [int(line) for line in (writer.stdout.readline() for _ in range(5)) if line.strip().isdigit()]
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
    numbers = [int(row["id"].removeprefix("p-")) for row in rows(path, "SELECT id FROM calls ORDER BY number")]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= max(told)
    log = DecisionLog(path)  # it goes on
    log.add(call("after"))
    log.close()
    assert (log.dropped, rows(path)[-1]["id"]) == (0, "after")


def test_a_full_disk_costs_rows_and_no_call(tmp_path):
    script = """
        import resource, signal, sys
        from hagpolicy.data.decision_log import DecisionLog, LoggedCall
        log = DecisionLog(sys.argv[1], text=True)
        log.add(LoggedCall("before", "r", prompt="x"))
        assert log.flush()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        for at in range(300):
            log.add(LoggedCall(str(at), "r", prompt=f"secret {at}" * 200, size=2_000))
            if at % 50 == 49:
                assert log.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        log.add(LoggedCall("after", "r", prompt="x"))
        log.close()
        print(log.dropped)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "log.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    kept = [row["id"] for row in rows(tmp_path / "log.db", "SELECT id FROM calls")]
    dropped = int(done.stdout)
    assert dropped > 0
    assert len(kept) == 302 - dropped
    assert {"before", "after"} <= set(kept)
    assert done.stderr.count("decisions are not logged") == 1
    assert "secret" not in done.stderr


def test_too_many_that_wait_are_dropped_and_counted_at_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(decision_log, "MOST_WAITING", 10)
    log = DecisionLog(tmp_path / "log.db")
    with sqlite3.connect(log.path) as other, caplog.at_level(logging.ERROR):
        other.execute("BEGIN IMMEDIATE")  # another writer that takes its time
        begun = time.monotonic()
        for at in range(2_000):
            log.add(call(str(at)))
        assert time.monotonic() - begun < decision_log.BUSY_SECONDS / 2
        assert log.dropped >= 2_000 - 10 - decision_log.BATCH_ROWS
        other.rollback()
    log.close()
    assert len(rows(log.path)) == 2_000 - log.dropped
    assert [record.message.count("too many wait") for record in caplog.records] == [1]


def test_large_prompts_are_bounded_by_their_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(decision_log, "MOST_WAITING_BYTES", 1_000)
    log = DecisionLog(tmp_path / "log.db", text=True)
    log.add(call("large", size=1_001))
    log.add(call("small", size=10))
    log.close()
    assert [row["id"] for row in rows(log.path)] == ["small"]


def test_a_fork_has_a_thread_of_its_own(tmp_path):
    log = DecisionLog(tmp_path / "log.db")
    log.add(call("parent"))
    log.flush()
    child = os.fork()
    if not child:
        log.add(call("child"))
        os._exit(0 if log.flush() else 1)
    assert os.waitpid(child, 0)[1] == 0
    log.add(call("parent again"))
    log.close()
    assert {row["id"] for row in rows(log.path)} == {"parent", "child", "parent again"}


def test_a_log_that_nobody_closes_is_written_all_the_same(tmp_path):
    script = "import sys; from hagpolicy.data.decision_log import *; DecisionLog(sys.argv[1]).add(LoggedCall('a', 'r'))"
    script += "; kept = DecisionLog(sys.argv[1]); kept.add(LoggedCall('b', 'r'))"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "log.db")], check=True, timeout=60)
    assert [row["id"] for row in rows(tmp_path / "log.db")] == ["a", "b"]


def test_the_newest_reward_counts_and_all_are_kept(tmp_path):
    log = DecisionLog(tmp_path / "log.db")
    log.add(call("one"))
    log.close()
    add_reward(log.path, "one", 1)
    add_reward(log.path, "one", 0.25)
    assert [row["reward"] for row in rows(log.path, "SELECT reward FROM rewards ORDER BY number")] == [1.0, 0.25]
    with pytest.raises(InvalidInput, match=r"id: expected the id of a call in the log, got two"):
        add_reward(log.path, "two", 0.5)
    for bad in (-0.1, 1.1, float("nan"), "1", True, None):
        with pytest.raises(InvalidInput, match=r"value: expected a reward in \[0, 1\]"):
            add_reward(log.path, "one", bad)


def spoil_version(path):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 7")


def make_foreign(path):
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a)")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_version, "expected a decision log of format 1, found format 7"),
        (make_foreign, "found another SQLite file"),
        (lambda path: path.write_bytes(b"nothing of that kind" * 100), "file is not a database"),
        (lambda path: find_key(path).unlink(), "expected its key log.db.key beside it, found none"),
        (lambda path: find_key(path).chmod(0o644), "expected rights of its owner alone, found 644"),
        (lambda path: find_key(path).write_bytes(b"short"), "expected a key of 32 bytes, found 5"),
    ],
)
def test_what_is_no_log_is_told_and_left_as_it_is(tmp_path, spoil, words):
    path = tmp_path / "log.db"
    DecisionLog(path).close()
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=words):
        DecisionLog(path)
    assert path.read_bytes() == before


def test_a_damaged_log_is_told_where_it_is_read(tmp_path):
    log = DecisionLog(tmp_path / "log.db")
    for at in range(500):
        log.add(call(str(at), prompt=f"prompt {at}"))
    log.close()
    data = bytearray(log.path.read_bytes())
    data[8192:] = b"\x55" * (len(data) - 8192)
    log.path.write_bytes(bytes(data))
    with pytest.raises(StoreError, match="malformed"):
        add_reward(log.path, "400", 1.0)


def test_a_place_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match="Permission denied"):
        DecisionLog(tmp_path / "sub" / "log.db")
    with pytest.raises(StoreError, match="found no file"):
        add_reward(tmp_path / "none.db", "one", 1.0)
