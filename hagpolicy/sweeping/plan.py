"""Which cells are generated next, and which of them together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hagpolicy.config.constraints import Constraint
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.store.cells import Plan, View
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.engines.base import Engine
from hagpolicy.errors import InvalidInput, UnsupportedSetting
from hagpolicy.scorers.base import Scorer


@dataclass(frozen=True)
class Work:
    """The units that a sweep has to generate, old and new.

    Attributes:
        view: the cells that are wanted.
        new: the plan with the units packed now; its view is `view`.
        old: unfinished units of stored plans, as (plan, unit), to be run as they were packed.
        stored: how many wanted cells are stored and are not to be generated again.
        first: how many units of `new` come before all others: small ones, of a sweep that was killed before it could
            store anything.
    """

    view: View
    new: Plan
    old: tuple[tuple[Plan, int], ...]
    stored: int
    first: int = 0

    def units(self) -> Iterator[tuple[Plan, int]]:
        """All units to run, (plan, unit): after the `first` of the new ones, unfinished ones of stored plans."""
        yield from ((self.new, unit) for unit in range(self.first))
        yield from self.old
        yield from ((self.new, unit) for unit in range(self.first, len(self.new.units)))

    @property
    def n_units(self) -> int:
        """Number of units to run."""
        return len(self.old) + len(self.new.units)

    @cached_property
    def n_cells(self) -> int:
        """Number of cells to generate."""
        return sum(len(plan.patterns[pattern]) for plan, unit in self.units() for _, pattern in plan.units[unit])


def plan_work(
    store: SweepStore,
    view: View,
    unit_cells: int,
    mask: np.ndarray | None = None,
    tried: int | None = None,
    *,
    slow_start: bool = False,
) -> Work:
    """The units to be generated, decided before the first token.

    A cell that is stored is not generated again, unless the engine failed on it: then it is tried
    once more in every new call of `sweep`, after all others and with no other prompt beside it that
    its unit could take along. A unit of a stored plan of which nothing is stored, and of which
    everything is wanted, runs as it was packed: its texts are then those of an uninterrupted sweep,
    bit by bit. All other cells are packed into new units. With a slow start the first unit is cut into small ones that
    grow, of one cell, one, two, four: however soon the run is killed, it will have stored something.

    Args:
        store: the sweep folder.
        view: the cells that there are to want.
        unit_cells: how many cells the engine likes to generate together, at least 1.
        mask: bool (n_prompts, n_configs, n_samples), which of them are wanted; None: all.
        tried: how many records of cells the folder held when the call began: what failed since is
            not tried again. None: as many as it holds.
        slow_start: begin with small units.
    """
    rows = store.cells.rows
    failed = set(np.flatnonzero(store.cells.column("failed")[:tried] > 0).tolist())
    fresh: set[str] = set()
    again: set[str] = set()
    stored = 0
    for keys in view.select_keys(mask):
        for key in keys:
            row = rows.get(key)
            if row is None:
                fresh.add(key)
            elif row in failed:
                again.add(key)
            else:
                stored += 1
    old: list[tuple[Plan, int]] = []
    for plan in store.plans if fresh else ():
        keys_of = plan.view.keys
        for unit in range(len(plan.units)):
            if all(keys_of[prompt][slot] in fresh for prompt, slot in plan.cells(unit)):
                old.append((plan, unit))
                fresh.difference_update(plan.keys(unit))
    rest = pack(view, _select_slots(view, fresh), unit_cells, _select_slots(view, again))
    if not slow_start or not (old or rest.units):
        return Work(view, rest, tuple(old), stored)
    plan, unit = old.pop(0) if old else (rest, 0)
    cut = set(plan.keys(unit))
    start = _pack_growing(view, _select_slots(view, cut))
    rest = pack(view, _select_slots(view, fresh - cut), unit_cells, _select_slots(view, again - cut))
    return Work(view, _join_plans(start, rest), tuple(old), stored, len(start.units))


def _pack_growing(view: View, wanted: Sequence[Sequence[int]]) -> Plan:
    """The plan of cells packed into units of one cell, one, two, four, and so on."""
    cells = [(prompt, (slot,)) for prompt, slots in enumerate(wanted) for slot in slots]
    patterns = tuple(dict.fromkeys(pattern for _, pattern in cells))
    numbered = [(prompt, patterns.index(pattern)) for prompt, pattern in cells]
    units, taken = [], 0
    while taken < len(numbered):
        size = max(taken, 1)
        units.append(tuple(numbered[taken : taken + size]))
        taken += size
    return Plan(view, patterns, tuple(units))


def _join_plans(first: Plan, second: Plan) -> Plan:
    """One plan of two of the same view, with the units of the first before those of the second."""
    shift = len(first.patterns)
    moved = (tuple((prompt, pattern + shift) for prompt, pattern in unit) for unit in second.units)
    return Plan(first.view, first.patterns + second.patterns, (*first.units, *moved))


def _select_slots(view: View, chosen: set[str]) -> list[tuple[int, ...]]:
    """For each prompt, the slots of the cells whose keys are chosen."""
    if not chosen:
        return [()] * len(view.prompts)
    return [tuple(slot for slot, key in enumerate(keys) if key in chosen) for keys in view.keys]


def pack(view: View, wanted: Sequence[Sequence[int]], unit_cells: int, again: Sequence[Sequence[int]] = ()) -> Plan:
    """The plan of cells packed into units: those of one prompt together, several prompts where they fit.

    A prompt with more cells than a unit holds is split into equal parts.

    Args:
        view: the view.
        wanted: for each prompt, the slots to be generated.
        unit_cells: cells of a unit, at least 1.
        again: for each prompt, further slots, in units after the others that hold one prompt each.
    """
    patterns: dict[tuple[int, ...], int] = {}
    units: list[tuple[tuple[int, int], ...]] = []
    current: list[tuple[int, int]] = []
    size = 0
    parts_of: dict[tuple[int, ...], list[tuple[int, ...]]] = {}  # most prompts want the same
    for alone, rows in ((False, wanted), (True, again)):
        for prompt, slots in enumerate(map(tuple, rows)):
            if slots not in parts_of:
                parts_of[slots] = _split_slots(slots, max(unit_cells, 1))
            for pattern in parts_of[slots]:
                if current and (alone or size + len(pattern) > unit_cells):
                    units.append(tuple(current))
                    current, size = [], 0
                current.append((prompt, patterns.setdefault(pattern, len(patterns))))
                size += len(pattern)
    if current:
        units.append(tuple(current))
    return Plan(view, tuple(patterns), tuple(units))


def _split_slots(slots: tuple[int, ...], most: int) -> list[tuple[int, ...]]:
    """The slots in as few parts of about equal size as have at most so many; none where there are no slots."""
    n_parts = math.ceil(len(slots) / most)
    cuts = np.array_split(np.array(slots, dtype=np.int64), n_parts) if n_parts else []
    return [tuple(part.tolist()) for part in cuts]


def check_settings(engine: Engine, space: DecodingSpace) -> None:
    """Refuse, before a token is spent, a config that the engine cannot honour.

    Raises:
        UnsupportedSetting: naming the config and its fields.
    """
    for index, config in enumerate(space):
        if missing := engine.unsupported(config):
            raise UnsupportedSetting(
                f"space[{index}]",
                f"settings that {engine.name} can honour",
                f"{config!r}, of which it has no {', '.join(missing)}",
                "Leave the config out; DecodingSpace.preset(name, engine) does so by itself.",
            )


def check_constraints(engine: Engine, space: DecodingSpace, prompts: Sequence[Prompt]) -> None:
    """Refuse, before a token is spent, a prompt whose constraint the engine cannot meet as a config asks for.

    That a constraint needs more tokens than there are is known once the prompt is encoded: its cell is marked then.

    Raises:
        UnsupportedSetting: naming the prompt and the reason.
    """
    ways = list(dict.fromkeys(config.constrain for config in space))
    first: dict[Constraint, int] = {}
    for index, prompt in enumerate(prompts):
        if prompt.constraint is not None:
            first.setdefault(prompt.constraint, index)
    for constraint, index in first.items():
        for constrain in ways:
            if reason := engine.refuse_constraint(constraint, constrain):
                named = f"prompt {index}{'' if prompts[index].id is None else f' ({prompts[index].id!r})'}"
                expected = f"a constraint that {engine.name} can meet by constrain={constrain!r}"
                do = "Leave these configs out, or the constraint."
                raise UnsupportedSetting(f"{named}.constraint", expected, reason, do)


def check_references(prompts: Sequence[Prompt], scorers: Sequence[Scorer]) -> None:
    """Refuse, before a token is spent, a prompt whose reference its scorer cannot use.

    Raises:
        InvalidInput: naming the first such prompts and why.
    """
    problems = [
        f"prompt {index}{'' if prompt.id is None else f' ({prompt.id!r})'}: {why}"
        for index, (prompt, scorer) in enumerate(zip(prompts, scorers, strict=True))
        if (why := scorer.check(prompt)) is not None
    ]
    if problems:
        more = f" … and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise InvalidInput("prompts", "references that their scorers can use", "; ".join(problems[:3]) + more)
