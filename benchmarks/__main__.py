"""Run the benchmarks, and render what they found.

    python -m benchmarks list
    python -m benchmarks run [NAME|GROUP|FOLDER ...] [--quick] [--data DIR] [-- OPTIONS OF THE SCRIPT]
    python -m benchmarks render
    python -m benchmarks check

`run` without a name runs the group "bench". A claim that misses a target stops none after it; all that missed are
named at the end, with exit code 1. Each script runs in a process of its own, then the pages are rendered.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.tools.claim import GROUPS, ROOT, Claim, find_claims, select_claims
from benchmarks.tools.render import check, render
from hagpolicy._text import TextTable


def run_claims(
    claims: Sequence[Claim], *, quick: bool, data: Path | None = None, options: Sequence[str] = (), root: Path = ROOT
) -> list[str]:
    """Names of the claims that missed a target or failed; all of them ran.

    Args:
        claims: in the order in which they run.
        quick: whether to measure little and write nothing.
        data: folder of public data.
        options: the scripts' own options, in place of those that the claims name.
        root: folder of the package that the claims were found in.
    """
    missed = []
    for claim in claims:
        if quick and not claim.quick:
            print(f"== {claim.name}: has no quick run")
            continue
        for words in [options] if options else claim.runs:
            print(f"== {claim.name}", *words, flush=True)
            command = [sys.executable, "-m", claim.module, *(["--quick"] if quick else [])]
            command += [*([] if data is None else ["--data", str(data.resolve())]), *words]
            if subprocess.run(command, cwd=root.parent, check=False).returncode:
                missed.append(claim.name)
    return list(dict.fromkeys(missed))


def list_claims(claims: Sequence[Claim]) -> str:
    """One line a claim: name, folder, groups, needs, what it states."""
    rows = [(claim.name, claim.topic, ",".join(claim.groups), ",".join(claim.needs), claim.states) for claim in claims]
    groups = [f"{name}: {what}" for name, what in GROUPS.items()]
    return "\n".join([TextTable(("claim", "folder", "groups", "needs", "states"), rows).to_text(), "", *groups])


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    at = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="what there is")
    verbs.add_parser("render", help="write the pages from the results")
    verbs.add_parser("check", help="exit code 1 where a page is not what the results say")
    run = verbs.add_parser("run", help="measure")
    run.add_argument("names", nargs="*", metavar="NAME", help="claims, groups or folders; default: bench")
    run.add_argument("--quick", action="store_true", help="about a minute each, writes nothing")
    run.add_argument("--data", type=Path, metavar="DIR", help="folder of public data; see benchmarks/README.md")
    args = parser.parse_args(words[:at])
    claims = find_claims()
    if args.verb == "list":
        print(list_claims(claims))
    elif args.verb == "render":
        render()
    elif args.verb == "check":
        return check()
    else:
        try:
            chosen = select_claims(claims, args.names or ["bench"])
        except KeyError as error:
            parser.error(f"no claim, group or folder is called {error}")
        missed = run_claims(chosen, quick=args.quick, data=args.data, options=words[at + 1 :])
        if not args.quick:
            render()
        if missed:
            print(f"missed a target, or failed: {' '.join(missed)}")
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
