"""What a script says about itself, and how the scripts are found: by reading them, without importing them."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GROUPS = {
    "bench": "the claims about speed, size, safety and worlds of known truth, most of them with targets",
    "stored": "comparisons, plots and curves from the stored sweeps, without an LLM",
    "simulation": "worlds of known truth, and stored sweeps with rewards permuted against the prompts; resumable",
    "generate": "what the comparisons are made of: hours of real LLMs, resumable",
    "install": "every extra alone in a fresh environment; minutes each",
    "explore": "what was looked into without a promise",
}
NEEDS = {
    "data": "the folder of public data, `--data DIR`",
    "llm": "a small LLM, which comes as a package",
    "index": "a package index",
    "download": "a model of 1.1 GB",
    "hours": "hours of computing",
}


@dataclass(frozen=True)
class Claim:
    """What a script measures. The runner reads it from the source, so that every argument is a literal.

    Attributes:
        name: of the script, its result file and its page.
        states: the claim in one sentence.
        groups: of `GROUPS`.
        headline: the figure that stands in the index, as a pattern (`fnmatch`); where several match, the last one.
        needs: of `NEEDS`.
        after: names of claims whose stored results or sweeps it reads; those that run, run before it.
        runs: the arguments of each run of the script.
        quick: whether it takes `--quick`.
        measures: False where it only generates what others measure, and has no page.
        module: dotted name of the script; set when it is found.
    """

    name: str
    states: str
    groups: tuple[str, ...]
    headline: str = "*"
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    runs: tuple[tuple[str, ...], ...] = ((),)
    quick: bool = True
    measures: bool = True
    module: str = ""

    def __post_init__(self) -> None:
        assert set(self.groups) <= GROUPS.keys(), f"{self.name}: groups are {', '.join(GROUPS)}"
        assert set(self.needs) <= NEEDS.keys(), f"{self.name}: needs are {', '.join(NEEDS)}"

    def part(self, name: str, states: str) -> Claim:
        """The claim of one of several results of the script, called `<claim>_<name>`."""
        return replace(self, name=f"{self.name}_{name}", states=states)

    @property
    def topic(self) -> str:
        """The folder of the script, such as "fitting"."""
        return self.module.split(".")[-2]


def find_claims(root: Path = ROOT) -> list[Claim]:
    """The claims of all scripts below a folder, sorted by folder and name, without importing any.

    Raises:
        ValueError: an argument of a claim is no literal.
        AssertionError: a claim's name is not its script's, or names a group; or a claim that it reads is unknown.
    """
    found = [claim for path in sorted(root.rglob("*.py")) if (claim := _read_claim(path, root)) is not None]
    names = [claim.name for claim in found]
    for claim in found:
        assert claim.name == claim.module.split(".")[-1], f"{claim.module} calls itself {claim.name}"
        assert claim.name not in GROUPS, f"{claim.name} is a group and a claim"
        assert set(claim.after) <= set(names), f"{claim.name} reads unknown claims"
    assert len(set(names)) == len(names), "two claims have one name"
    return found


def _read_claim(path: Path, root: Path) -> Claim | None:
    """The claim that a file declares in `CLAIM = Claim(...)`; None without one."""
    source = path.read_text("utf-8")
    if "CLAIM = Claim(" not in source:
        return None
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CLAIM":
            assert isinstance(node.value, ast.Call)
            options = {word.arg: ast.literal_eval(word.value) for word in node.value.keywords}
            module = ".".join([root.name, *path.relative_to(root).with_suffix("").parts])
            return Claim(**options, module=module)
    return None


def select_claims(claims: Sequence[Claim], wanted: Sequence[str]) -> list[Claim]:
    """The claims of these names, groups and folders, each once, what others read before them.

    Raises:
        KeyError: a word names nothing.
    """
    chosen: dict[str, Claim] = {}
    for word in wanted:
        some = [claim for claim in claims if word in (claim.name, claim.topic, *claim.groups)]
        if not some:
            raise KeyError(word)
        chosen |= {claim.name: claim for claim in some}
    order = TopologicalSorter({name: [one for one in claim.after if one in chosen] for name, claim in chosen.items()})
    return [chosen[name] for name in order.static_order()]


def claim_of(result: str, claims: Sequence[Claim]) -> Claim:
    """The claim that a result belongs to, by its name: `quality_workload` is a part of `quality`.

    Raises:
        KeyError: no claim has it.
    """
    owners = [claim for claim in claims if claim.measures and f"{result}_".startswith(f"{claim.name}_")]
    if not owners:
        raise KeyError(result)
    return max(owners, key=lambda claim: len(claim.name))
