"""Claim: whatever happens to the files of a sweep folder is noticed, and nothing that was generated is lost.

    python -m benchmarks run damaged_folders [--quick]

A small sweep, in segments of cells, of cells that were tried again and of rewards. Its segments are changed 51,000
times in eleven ways and read by the reader that every reading goes through; a part of them by `load_table`, and by
the same sweep once more. Segments made by hand bear right digests and wrong types, values or sizes. So are
`sweep.json`, prompts and plans changed, and FIFOs, devices, links and strange names put where files are expected.
What was noticed was left out with a warning or refused with one error; what was not is equal to what was written, or
counted as silently wrong. A file outside the folder, or a program, that is opened meanwhile is counted by an audit
hook. Seeds are the names of the ways and a number. Beside it: single bits of segments without digests, which earlier
versions wrote. `--quick` does a fiftieth.
"""

from __future__ import annotations

import logging
import random
import resource
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.tools.claim import Claim
from benchmarks.tools.record import Figure, arguments, figure, record
from hagpolicy import SimulatedEngine, SweepTable, load_table
from hagpolicy.data.store.segments import decode_segment
from tests.support import damaged_folders as damage
from tests.support.paths import FIXTURES

CLAIM = Claim(
    name="damaged_folders",
    states="Whatever happens to the files of a sweep folder is noticed, and nothing that was generated is lost",
    groups=("bench",),
    headline="silently wrong",
)
SEED = 12
# How often each way of changing a segment is tried: all by the reader, of these some by `load_table`, some by a sweep.
TRIES = {
    "one bit of a segment": 20_000,
    "one byte of a segment": 8_000,
    "2 to 64 bits of a segment": 4_000,
    "a bit of a segment's footer or digest": 5_000,
    "a segment cut": 3_000,
    "bytes put into a segment": 2_000,
    "bytes taken out of a segment": 2_000,
    "a range of a segment zeroed": 3_000,
    "a range of a segment from another": 2_000,
    "two segments swapped": 1_000,
    "a segment doubled": 1_000,
}
LOADED, SWEPT, SMALL = 250, 20, 800
NOTICED = ("left out", "refused")
SECRET = '{"prompt": "what is mine"}\n'


class Tally:
    """What became of the tries of each kind, and what was opened meanwhile."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.kinds: dict[str, Counter[str]] = {}
        self.opened = damage.watch_opened()
        self.outside: list[str] = []

    def add(self, kind: str, found: str) -> None:
        """Count one try."""
        self.kinds.setdefault(kind, Counter())[found] += 1
        self.outside += [name for name in self.opened if not name.startswith((str(self.work), "/dev/null"))]
        self.opened.clear()

    def total(self, *found: str) -> int:
        """How many tries of all kinds came to this."""
        return sum(count for kind in self.kinds.values() for what, count in kind.items() if what.startswith(found))


class Folder:
    """A sweep folder that is damaged and mended again and again."""

    def __init__(self, work: Path) -> None:
        self.out = work / "in" / "sweep"
        self.engine: SimulatedEngine = damage.make_sweep(self.out)
        self.true: SweepTable = damage.run_sweep(self.engine, self.out)
        self.files = damage.contents(self.out)
        self.segments = {name: decode_segment(self.files[name]) for name in damage.segment_names(self.files)}
        self.known = [load_table(self.out)]
        plans = damage.of_kind(self.files, "plans")
        names = list(self.segments)
        pairs = [[one, other] for one in names for other in names if one < other]
        for gone in [*([name] for name in names), *pairs, plans[-1:], plans[-2:]]:
            with damage.changed(self.out, self.files, dict.fromkeys(gone)):
                self.known.append(load_table(self.out))

    def changes(self, kind: str, way: damage.Way, tries: int) -> Iterator[damage.Change]:
        """Changes of a kind that change something."""
        draw = random.Random(f"{kind} {SEED}")
        for _ in range(tries):
            made = way(draw, self.files)
            while all(self.files.get(name) == data for name, data in made.items()):
                made = way(draw, self.files)
            yield made

    def mend(self) -> None:
        """Have the folder as it was before a writer went over it."""
        shutil.rmtree(self.out)
        for name, data in self.files.items():
            (self.out / name).parent.mkdir(parents=True, exist_ok=True)
            (self.out / name).write_bytes(data)


def attack_segments(folder: Folder, tally: Tally, share: float) -> None:
    """Change segments in every way; read each, load some, sweep on over a few."""
    for kind, tries in TRIES.items():
        for number, made in enumerate(folder.changes(kind, damage.FLIPS[kind], int(tries * share))):
            with damage.changed(folder.out, folder.files, made):
                tally.add(kind, damage.read_segments(folder.out, folder.files, made, folder.segments))
                if number < LOADED * share:
                    tally.add("changed segments, loaded", damage.load(folder.out, folder.known))
            if number < SWEPT * share:
                damage.change(folder.out, made)
                tally.add("changed segments, swept on", damage.go_on(folder.out, folder.engine, folder.true))
                folder.mend()
                tally.opened.clear()
        print(kind, dict(tally.kinds[kind]), flush=True)
    for kind in damage.CRAFTED:
        made = damage.craft(kind, folder.files)
        with damage.changed(folder.out, folder.files, made):
            tally.add("segments made by hand", damage.read_segments(folder.out, folder.files, made, folder.segments))


def attack_small_files(folder: Folder, tally: Tally, share: float) -> None:
    """Change `sweep.json`, prompts and plans; load each, sweep on over a few."""
    for kind, way in {**damage.SMALL, **damage.SIGNED}.items():
        for number, made in enumerate(folder.changes(kind, way, int(SMALL * share))):
            with damage.changed(folder.out, folder.files, made):
                found = damage.load(folder.out, folder.known)
            # What bears a right digest may say whatever a plan can say: it must be understood, or refused.
            tally.add(kind, "understood" if kind in damage.SIGNED and found in ("equal", "wrong") else found)
            if number < SWEPT * share:
                damage.change(folder.out, made)
                tally.opened.clear()
                tally.add("changed small files, swept on", damage.go_on(folder.out, folder.engine, folder.true))
                folder.mend()
                tally.opened.clear()
        print(kind, dict(tally.kinds[kind]), flush=True)


def attack_with_strangers(folder: Folder, tally: Tally) -> None:
    """Put what is no file of a sweep where one is expected; load, and sweep on."""
    secret = folder.out.parent / "secret.jsonl"
    secret.write_text(SECRET)
    for kind, put in damage.STRANGERS.items():
        put(folder.out)
        tally.opened.clear()
        # Cells that lie in what is no segment are missing, which is said.
        tally.add("what is no file of a sweep, loaded", damage.load(folder.out, folder.known))
        found = damage.go_on(folder.out, folder.engine, folder.true)
        tally.add("what is no file of a sweep, swept on", found)
        assert secret.read_text() == SECRET, kind
        folder.mend()
        tally.opened.clear()


def attack_old_segments(work: Path, tries: int) -> Counter[str]:
    """Single bits of segments that bear no digest, as earlier versions wrote them: what their pages' sums tell."""
    out = Path(shutil.copytree(FIXTURES / "sweep_v1", work / "old"))
    files = damage.contents(out)
    true = {name: decode_segment(files[name]) for name in damage.segment_names(files)}
    draw = random.Random(SEED)
    found: Counter[str] = Counter()
    for _ in range(tries):
        made = damage.FLIPS["one bit of a segment"](draw, files)
        with damage.changed(out, files, made):
            found[damage.read_segments(out, files, made, true)] += 1
    return found


def figures(tally: Tally, old: Counter[str]) -> list[Figure]:
    """A row a kind, then the zeros."""
    rows = []
    for kind, found in tally.kinds.items():
        rows.append(figure(f"{kind}: tried", sum(found.values()), unit="tries"))
        rows.append(figure(f"{kind}: noticed", sum(found[what] for what in NOTICED), unit="tries"))
        rows += [
            figure(f"{kind}: {words}", found[what], unit="tries")
            for what, words in {
                "equal": "harmless",
                "understood": "understood",
                "whole": "mended, no byte lost",
            }.items()
            if found[what]
        ]
    flipped = sum(sum(tally.kinds[kind].values()) for kind in TRIES)
    rows.append(figure("changed segments", flipped, unit="tries", at_least=50_000))
    changed = tally.total("changed")
    for words, count in {
        "silently wrong": tally.total("wrong"),
        "bytes lost": tally.total("lost"),
        "refused by a writer that had changed something": changed,
        "raw exceptions": tally.total("raw"),
        "hangs": tally.total("hang"),
        "files opened outside the folder, and programs started": len(tally.outside),
    }.items():
        rows.append(figure(words, count, unit="tries", at_most=0))
    rows.append(figure("peak memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, unit="MiB"))
    n_old = sum(old.values())
    rows.append(figure("one bit of a segment without a digest: tried", n_old, unit="tries"))
    rows.append(figure("one bit of a segment without a digest: not noticed, equal", old["equal"], unit="tries"))
    rows.append(figure("one bit of a segment without a digest: silently wrong", old["wrong"], unit="tries"))
    return rows


def main() -> int:
    args = arguments(__doc__ or "")
    share = 0.02 if args.quick else 1.0
    logging.getLogger("hagpolicy").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        folder = Folder(work)
        tally = Tally(work)
        attack_segments(folder, tally, share)
        attack_small_files(folder, tally, share)
        attack_with_strangers(folder, tally)
        old = attack_old_segments(work, int(5000 * share))
        if tally.outside:
            print(Counter(tally.outside).most_common(10))
        print({kind: dict(found) for kind, found in tally.kinds.items()})
        notes = f"Seed {SEED}; each way draws from random.Random(its name and the seed)."
        return record(CLAIM, figures(tally, old), args, notes)


if __name__ == "__main__":
    raise SystemExit(main())
