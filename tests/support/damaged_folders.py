"""A small sweep folder, ways to damage what lies in it, and what reading it then comes to.

Every way takes a random generator and the files (name to bytes) and gives the files that it changes (None: removed).
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import random
import signal
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from hagpolicy import DecodingSpace, HagError, SimulatedEngine, SweepTable, load_table, rescore, sweep
from hagpolicy.data.parquet_digest import add_digest
from hagpolicy.data.store.digests import name_file
from hagpolicy.data.store.files import open_files
from hagpolicy.data.store.reader import Reader
from hagpolicy.data.store.segments import decode_segment, encode_segment, read_engine, read_name
from hagpolicy.scorers.functions import FunctionScorer
from hagpolicy.sweeping import drive

Contents = dict[str, bytes]
Change = dict[str, bytes | None]
Way = Callable[[random.Random, Contents], Change]

SECONDS = 20
HALF = FunctionScorer(lambda text: len(text) % 7 / 7.0, name="half", version="1")


def make_sweep(out: Path) -> SimulatedEngine:
    """A sweep of four prompts, in four segments: of cells, of failed cells that were tried again, of rewards."""
    engine = SimulatedEngine(seed=1, unit_cells=10, fail_rate=0.2)
    seconds, drive.FLUSH_SECONDS = drive.FLUSH_SECONDS, 0.0
    try:
        run_sweep(engine, out)
        engine.fail_rate = 0.0
        run_sweep(engine, out)
    finally:
        drive.FLUSH_SECONDS = seconds
    rescore(out, HALF)
    return engine


def run_sweep(engine: SimulatedEngine, out: Path) -> SweepTable:
    space = DecodingSpace.grid(temperature=[0.0, 0.7])
    options: dict[str, Any] = {"samples": 2, "max_tokens": 8, "progress": False}
    return sweep(engine, engine.prompts(4), space, engine.scorer, out=out, **options)


def contents(folder: Path) -> Contents:
    """Every file of a folder."""
    found = sorted(path for path in folder.rglob("*") if not path.is_symlink() and path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found if path.stat().st_size < 1 << 30}


def change(folder: Path, changed: Mapping[str, bytes | None]) -> None:
    for name, data in changed.items():
        if data is None:
            (folder / name).unlink(missing_ok=True)
        else:
            (folder / name).write_bytes(data)


@contextlib.contextmanager
def changed(folder: Path, files: Contents, made: Change) -> Iterator[None]:
    """The folder with some files changed, and as it was at the end."""
    change(folder, made)
    try:
        yield
    finally:
        change(folder, {name: files.get(name) for name in made})


def equal(a: SweepTable, b: SweepTable) -> bool:
    """Whether two tables are the same in everything that a sweep stores."""
    same = (a.prompts, a.space, a.default, a.fingerprint, a.max_tokens, a.scorers, a.failures, a.common) == (
        b.prompts, b.space, b.default, b.fingerprint, b.max_tokens, b.scorers, b.failures, b.common,
    )  # fmt: skip
    names = ("rewards", "tokens", "seconds", "answers")
    return same and all(
        np.array_equal(np.asarray(getattr(a, name)), np.asarray(getattr(b, name)), equal_nan=name != "answers")
        for name in names
    )


class Heard(logging.Handler):
    """The warnings of the library."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def _stop(*_: object) -> None:
    raise TimeoutError


def attempt(act: Callable[[], str]) -> str:
    """What an attempt comes to: what it says, "refused" for an error of ours, "raw exception: …" or "hang"."""
    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(SECONDS)
    try:
        return act()
    except HagError:
        return "refused"
    except TimeoutError:
        return "hang"
    except BaseException as error:
        return f"raw exception: {error!r}"
    finally:
        signal.alarm(0)


def _keep(tables: list[SweepTable], table: SweepTable) -> str:
    tables.append(table)
    return ""


def load(folder: Path, known: list[SweepTable], scorer: str | None = None) -> str:
    """What loading a folder comes to.

    Args:
        folder: the sweep folder.
        known: the whole table, then those that are true where something is said to be left out.
        scorer: see `load_table`.

    Returns:
        "left out" (a true table of the rest, and a warning), "equal" (the whole table), "wrong", or see `attempt`.
    """
    logger, heard = logging.getLogger("hagpolicy"), Heard()
    logger.addHandler(heard)
    logger.propagate = False
    tables: list[SweepTable] = []
    try:
        failure = attempt(lambda: _keep(tables, load_table(folder, scorer=scorer)))
    finally:
        logger.removeHandler(heard)
        logger.propagate = True
    if failure:
        return failure
    if equal(tables[0], known[0]):
        return "left out" if heard.said else "equal"
    return "left out" if heard.said and any(equal(tables[0], one) for one in known[1:]) else "wrong"


def read_segments(folder: Path, files: Contents, names: Iterable[str], true: Mapping[str, Any]) -> str:
    """What reading some segments comes to, by the reader that every reading of a folder goes through.

    Returns:
        "left out" (at least one), "equal" (all as they were), "wrong", or see `attempt`.
    """

    def act() -> str:
        fingerprint = json.loads(files["sweep.json"])["fingerprint"]
        reader = Reader(open_files(folder), fingerprint, may_rename=True)
        found = {name: reader.segment(name) for name in names}
        read = {name: table for name, table in found.items() if table is not None}
        if any(name not in true or not _hold_same(table, true[name]) for name, table in read.items()):
            return "wrong"
        return "left out" if reader.refused else "equal"

    return attempt(act)


def _hold_same(a: Any, b: Any) -> bool:
    """Whether two Arrow tables hold the same; NaN is NaN."""
    return a.schema.equals(b.schema) and repr(a.to_pylist()) == repr(b.to_pylist())


def go_on(folder: Path, engine: SimulatedEngine, true: SweepTable) -> str:
    """What the same sweep once more comes to.

    Returns:
        "whole" (the true table, and no byte that was there is lost), "lost", "wrong", or "refused" (and nothing was
        changed), or see `attempt`.
    """
    before = {name: data for name, data in contents(folder).items() if name != "lock"}
    tables: list[SweepTable] = []
    logging.getLogger("hagpolicy").propagate = False
    try:
        failure = attempt(lambda: _keep(tables, run_sweep(engine, folder)))
    finally:
        logging.getLogger("hagpolicy").propagate = True
    after = {name: data for name, data in contents(folder).items() if name != "lock"}
    if failure:
        return "changed" if failure == "refused" and before != after else failure
    if not set(before.values()) <= set(after.values()):
        return "lost"
    return "whole" if equal(tables[0], true) else "wrong"


def segment_names(files: Contents) -> list[str]:
    return [name for name in files if name.endswith(".parquet")]


def _with(data: bytes, begin: int, end: int, new: bytes) -> bytes:
    return data[:begin] + new + data[end:]


def _of_segments(way: Callable[[random.Random, bytes], bytes]) -> Way:
    def apply(draw: random.Random, files: Contents) -> Change:
        name = draw.choice(segment_names(files))
        return {name: way(draw, files[name])}

    return apply


def flip_bit(draw: random.Random, data: bytes) -> bytes:
    at = draw.randrange(len(data))
    return _with(data, at, at + 1, bytes([data[at] ^ (1 << draw.randrange(8))]))


def flip_bits(draw: random.Random, data: bytes) -> bytes:
    for _ in range(draw.randint(2, 64)):
        data = flip_bit(draw, data)
    return data


def change_byte(draw: random.Random, data: bytes) -> bytes:
    at = draw.randrange(len(data))
    return _with(data, at, at + 1, bytes([(data[at] + draw.randint(1, 255)) % 256]))


def cut(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randrange(len(data))]


def insert(draw: random.Random, data: bytes) -> bytes:
    at = draw.randint(0, len(data))
    return _with(data, at, at, draw.randbytes(draw.randint(1, 100)))


def drop(draw: random.Random, data: bytes) -> bytes:
    at = draw.randrange(len(data))
    return _with(data, at, at + draw.randint(1, 100), b"")


def blank(draw: random.Random, data: bytes) -> bytes:
    at = draw.randrange(len(data))
    end = min(at + draw.choice([8, 64, 512, 4096]), len(data))
    return _with(data, at, end, bytes(end - at))


def flip_in_footer(draw: random.Random, data: bytes) -> bytes:
    length = int.from_bytes(data[-8:-4], "little")
    at = len(data) - 8 - length - draw.randint(-length - 7, 48)
    return _with(data, at, at + 1, bytes([data[at] ^ (1 << draw.randrange(8))]))


def copy_range(draw: random.Random, files: Contents) -> Change:
    """A range of one segment as another has it there: a block that a disk wrote to the wrong place."""
    name, other = draw.sample(segment_names(files), 2)
    at = draw.randrange(0, len(files[name]), 512)
    end = min(at + 512, len(files[name]))
    return {name: _with(files[name], at, end, (files[other] + bytes(len(files[name])))[at:end])}


def swap(draw: random.Random, files: Contents) -> Change:
    one, other = draw.sample(segment_names(files), 2)
    return {one: files[other], other: files[one]}


def duplicate(draw: random.Random, files: Contents) -> Change:
    """A segment once more, under a later name, under an earlier or in the other folder."""
    name = draw.choice(segment_names(files))
    folder = draw.choice(["cells", "rewards"])
    return {f"{folder}/{draw.choice([0, *range(20, 99)]):06d}.parquet": files[name]}


FLIPS: dict[str, Way] = {
    "one bit of a segment": _of_segments(flip_bit),
    "one byte of a segment": _of_segments(change_byte),
    "2 to 64 bits of a segment": _of_segments(flip_bits),
    "a bit of a segment's footer or digest": _of_segments(flip_in_footer),
    "a segment cut": _of_segments(cut),
    "bytes put into a segment": _of_segments(insert),
    "bytes taken out of a segment": _of_segments(drop),
    "a range of a segment zeroed": _of_segments(blank),
    "a range of a segment from another": copy_range,
    "two segments swapped": swap,
    "a segment doubled": duplicate,
}


def resealed(data: bytes, edit: Callable[[Any], Any], *, raw: bool = False) -> bytes:
    """A segment of which the Arrow table is edited, with a right digest again."""
    table = decode_segment(data)
    engine, name = read_engine(table), read_name(table)
    made = edit(table)
    if raw:
        buffer = io.BytesIO()
        kept = {b"hagpolicy.engine": str(engine).encode(), b"hagpolicy.name": str(name).encode()}
        made = made.replace_schema_metadata(kept)
        pyarrow.parquet.write_table(made, buffer, compression="zstd", store_schema=len(made) < 1000)
        return add_digest(buffer.getvalue())
    return encode_segment(made, str(engine), str(name))


def _column(name: str, of: Any, values: Callable[[int], list[Any]], *, nullable: bool = True) -> Callable[[Any], Any]:
    def edit(table: Any) -> Any:
        field = pyarrow.field(name, of, nullable=nullable)
        return table.set_column(table.column_names.index(name), field, pyarrow.array(values(len(table)), type=of))

    return edit


def _same(name: str, of: Any) -> Callable[[Any], Any]:
    return lambda table: table.set_column(table.column_names.index(name), name, table.column(name).cast(of))


def _often(rows: int, characters: int) -> Callable[[Any], Any]:
    """One row many times, with one text of so many characters: some kilobytes that unpack to gigabytes."""

    def edit(table: Any) -> Any:
        columns = {name: pyarrow.repeat(table.column(name)[0], rows) for name in table.column_names}
        indices = pyarrow.repeat(pyarrow.scalar(0, pyarrow.int32()), rows)
        columns["text"] = pyarrow.DictionaryArray.from_arrays(indices, ["a" * characters])
        return pyarrow.table(columns)

    return edit


_STRING, _FLOAT, _INT = pyarrow.string(), pyarrow.float64(), pyarrow.int32()
# Segments that were made by hand and bear a right digest. None of them is what a sweep stores.
CRAFTED: dict[str, Callable[[Any], Any]] = {
    "a reward above 1": _column("reward", _FLOAT, lambda n: [1.5] * n),
    "a reward below 0": _column("reward", _FLOAT, lambda n: [-0.5] * n),
    "an infinite reward": _column("reward", _FLOAT, lambda n: [float("inf")] * n),
    "a negative sample": _column("sample", _INT, lambda n: [-1] * n),
    "negative tokens": _column("tokens", _INT, lambda n: [-5] * n),
    "no sample": _column("sample", _INT, lambda n: [None] * n),
    "a limit of 0": _column("max_tokens", _INT, lambda n: [0] * n),
    "a short key": _column("cell", _STRING, lambda n: ["k"] * n),
    "no key": _column("cell", _STRING, lambda n: [None] * n),
    "a long digest": _column("prompt", _STRING, lambda n: ["0" * 33] * n),
    "a finish that is none": _column("finish", _STRING, lambda n: ["banana"] * n),
    "no text": _column("text", _STRING, lambda n: [None] * n),
    "rewards as texts": _same("reward", _STRING),
    "rewards as short floats": _same("reward", pyarrow.float32()),
    "rewards as decimals": _column("reward", pyarrow.decimal128(5, 2), lambda n: [None] * n),
    "tokens as long integers": _same("tokens", pyarrow.int64()),
    "samples unsigned": _same("sample", pyarrow.uint32()),
    "texts as bytes": _same("text", pyarrow.binary()),
    "large texts": _same("text", pyarrow.large_string()),
    "texts as a dictionary": lambda table: _same("text", pyarrow.dictionary(pyarrow.int32(), _STRING))(table),
    "texts as lists": _column("text", pyarrow.list_(_STRING), lambda n: [["a"]] * n),
    "texts in a structure": _column("text", pyarrow.struct([("a", _STRING)]), lambda n: [{"a": "b"}] * n),
    "seconds as times": _column("seconds", pyarrow.duration("s"), lambda n: [1] * n),
    "seconds as half floats": _column("seconds", pyarrow.float16(), lambda n: [np.float16(1)] * n),
    "a column of nulls": _column("answer", pyarrow.null(), lambda n: [None] * n),
    "a column that must be filled": _column("tokens", _INT, lambda n: [1] * n, nullable=False),
    "a column more": lambda table: table.append_column("more", pyarrow.array(["x"] * len(table))),
    "a column twice": lambda table: table.append_column("text", table.column("text")),
    "a column less": lambda table: table.drop_columns(["receipt"]),
    "no column": lambda table: table.select([]),
    "a text of 1 MB a thousand times": _often(1000, 1 << 20),
    "one row a hundred thousand times": _often(100_000, 1),
    "deep columns": _column("answer", pyarrow.list_(pyarrow.list_(pyarrow.list_(_INT))), lambda n: [[[[1]]]] * n),
}


def craft(kind: str, files: Contents) -> Change:
    """A segment of cells that was made by hand, with a right digest."""
    name = segment_names(files)[0]
    return {name: resealed(files[name], CRAFTED[kind], raw=True)}


def of_kind(files: Contents, kind: str) -> list[str]:
    return [name for name in files if name.partition("/")[0] == kind]


def flip_small(kind: str) -> Way:
    """A change of one of the small files: a bit, a byte, its end, a range."""

    def apply(draw: random.Random, files: Contents) -> Change:
        name = draw.choice(of_kind(files, kind))
        way = draw.choice([flip_bit, flip_bit, change_byte, cut, insert, drop, blank, flip_bits])
        return {name: way(draw, files[name])}

    return apply


_VALUES: list[Any] = [
    None, True, -1, 0, 10**30, 1.5, float("nan"), float("inf"), "", "x" * 9999, "\ud800", [], {}, [[]], [None],
]  # fmt: skip


def edit_small(kind: str, *, signed: bool) -> Way:
    """One value of a JSON file in place of another, or gone; with the digest of a file that a sweep wrote, or not."""

    def apply(draw: random.Random, files: Contents) -> Change:
        name = draw.choice(of_kind(files, kind))
        lines = files[name].decode().splitlines()
        values = json.loads(lines[0] if kind == "prompts" else files[name])
        key = draw.choice(list(values))
        chosen = draw.choice(["drop", "value", "deep", "long"])
        if chosen == "drop":
            del values[key]
        else:
            values[key] = draw.choice(_VALUES) if chosen == "value" else None
        data = json.dumps(values)
        data = data.replace(": null", f": {'[' * 99_999}", 1) if chosen == "deep" else data
        data = data.replace(": null", f": {'9' * 99_999}", 1) if chosen == "long" else data
        made = "\n".join([data, *lines[1:]]).encode() if kind == "prompts" else data.encode()
        if not signed or kind == "sweep.json":
            return {name: made}
        start, _, _ = name.rpartition("-")
        new = name_file(start, f".{name.rpartition('.')[2]}", made)
        return {name: None, new: made}

    return apply


SMALL: dict[str, Way] = {
    "sweep.json, bits and bytes": flip_small("sweep.json"),
    "sweep.json, values": edit_small("sweep.json", signed=False),
    "prompts, bits and bytes": flip_small("prompts"),
    "prompts, values": edit_small("prompts", signed=False),
    "plans, bits and bytes": flip_small("plans"),
    "plans, values": edit_small("plans", signed=False),
}
# What bears a right digest was made by hand: it may say anything, but must be understood or refused.
SIGNED: dict[str, Way] = {
    "prompts with a right digest": edit_small("prompts", signed=True),
    "plans with a right digest": edit_small("plans", signed=True),
}


def _place(folder: Path, name: str) -> Path:
    path = folder / name
    path.unlink(missing_ok=True)
    return path


def _special(name: str, mode: int, device: int = 0) -> Callable[[Path], None]:
    return lambda folder: os.mknod(_place(folder, name), mode | 0o600, device)


def _link(name: str, target: str) -> Callable[[Path], None]:
    return lambda folder: _place(folder, name).symlink_to(target)


def _sparse(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        with _place(folder, name).open("wb") as file:
            file.truncate(1 << 40)

    return make


def _named(names: Callable[[], Iterable[bytes]]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name in names():
            (folder / "cells" / os.fsdecode(name)).write_bytes(b"not ours")

    return make


_STRANGE = [
    b"a\nb.parquet", b"\xff\xfe.parquet", b"\xc2\xb2.parquet", b"\xd9\xa3.parquet", b" .parquet", b"-1.parquet",
    b"9" * 200 + b".parquet", b"000001 (copy).parquet", b".000001.parquet", b"000001.PARQUET", b"%s%d.parquet",
    b"x" * 240 + b".parquet", b"000001.parquet.torn", b"\x1b[31m.parquet", b"notes.txt", b"2.5.parquet",
]  # fmt: skip
_CELLS, _LATER = "cells/000001.parquet", "cells/000077.parquet"
# What may lie where a file is expected, or beside them. Nothing outside the folder may be read through a link.
STRANGERS: dict[str, Callable[[Path], None]] = {
    **{
        f"{what} {where}": make(name)
        for where, name in (("for a segment", _CELLS), ("among segments", _LATER), ("for sweep.json", "sweep.json"))
        for what, make in {
            "a FIFO": lambda name: _special(name, stat.S_IFIFO),
            "a socket": lambda name: _special(name, stat.S_IFSOCK),
            "a folder": lambda name: lambda folder: _place(folder, name).mkdir(),
            "a file of a terabyte": _sparse,
            "an empty file": lambda name: lambda folder: _place(folder, name).write_bytes(b""),
            "a link to a device": lambda name: _link(name, "/dev/zero"),
            "a link to a file outside": lambda name: _link(
                name, "../../secret.jsonl" if "/" in name else "../secret.jsonl"
            ),
            "a link to itself": lambda name: _link(name, name.rpartition("/")[2]),
            "a link to nothing": lambda name: _link(name, "nothing"),
        }.items()
    },
    "a FIFO among plans": _special("plans/000077-x.json", stat.S_IFIFO),
    "a FIFO among prompts": _special("prompts/000077-x.jsonl", stat.S_IFIFO),
    "a FIFO for the lock": _special("lock", stat.S_IFIFO),
    "a link for the lock": _link("lock", "../secret.jsonl"),
    "a folder for the lock": lambda folder: _place(folder, "lock").mkdir(),
    "prompts of a file outside": _link("prompts/000002.jsonl", "../../secret.jsonl"),
    "names that are none of a sweep": _named(lambda: _STRANGE),
    "1,000 files of others": _named(lambda: (b"%d.note" % number for number in range(1000))),
    "1,000 small files among segments": _named(lambda: (b"note-%d.parquet" % number for number in range(1000))),
}


def watch_opened() -> list[str]:
    """A list that grows by the name of every file that this process opens, and every program that it starts."""
    opened: list[str] = []

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            opened.append(str(arguments[0]))
        elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "ctypes.dlopen"):
            opened.append(f"program {event}")

    sys.addaudithook(hear)
    return opened
