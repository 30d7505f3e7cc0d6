"""`Explanation`: why a policy chose a config for a prompt: what moved the choice, how sure it is, and like prompts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from hagpolicy._text import TextTable, format_count, replace_controls, shorten
from hagpolicy.config.config import DecodingConfig
from hagpolicy.policy.decision import Decision, choose_index
from hagpolicy.policy.dial import DecisionRule
from hagpolicy.policy.inputs import cut
from hagpolicy.policy.training_prompts import AchievedAdvantage, TrainingPrompts
from hagpolicy.results import Ships

__all__ = ["Explanation", "MovedPart", "Neighbour", "explain_decision"]

# Parts of a prompt that are left out in turn, at most, and of which the strongest are told.
MOST_PARTS, MOST_TOLD = 64, 5
# Columns of a vector that are set to their medians in turn, at most: those that are furthest from them.
MOST_COLUMNS = 256
# A smaller difference of predicted advantages is rounding.
_ROUNDING = 1e-6
_WORDS, _LINES = re.compile(r"\S+[ \t]*"), re.compile(r"[^\n]*\S[^\n]*\n?")
# Characters of a part, and of a neighbour's text, that a line shows.
_SHOWN = 40

ComputeValues = Callable[[Sequence[Any]], tuple[np.ndarray, np.ndarray]]
"""From n texts or vectors to values, float32 (n, n_configs), and out-of-distribution scores, float32 (n,)."""


@dataclass(frozen=True)
class MovedPart:
    """A part of a prompt without which the policy would predict something else.

    Attributes:
        part: the text of it; of a vector "column" and its number.
        place: where it begins in the text that is read, in characters from 0; of a vector, the number of the column.
        fall: by how much the predicted advantage falls without it; below 0 where it rises.
        choice: the config that is chosen without it, by its number in the space.
    """

    part: str
    place: int
    fall: float
    choice: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        return dict(vars(self))


@dataclass(frozen=True)
class Neighbour:
    """A training prompt that is near to the one explained.

    Attributes:
        id: its own, or its number in the table that was fitted.
        task: its kind; "" where it has none.
        distance: 0: the policy reads the same; 1: about as far as two training prompts at random.
        values: of every config, in the space's order: its mean reward there, unless the policy was fitted for something
            else.
        text: None where the bundle holds no texts.
    """

    id: str
    task: str
    distance: float
    values: tuple[float, ...]
    text: str | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able mapping; `text` is in it where it is held."""
        plain = {"id": self.id, "task": self.task, "distance": self.distance, "values": list(self.values)}
        return plain if self.text is None else {**plain, "text": self.text}


@dataclass(frozen=True)
class Explanation:
    """Why a policy chose as it did for one prompt.

    Attributes:
        decision: what it chose.
        configs: of the space, in order; configs below are told by their number in it.
        ships: "per_prompt", or what stands for every prompt alike.
        proof: the gate's reason for that; "" where a task was told, which has a gate of its own.
        reference: the config that stands unless another is predicted to be better by more than the margin.
        contender: the config that was weighed against it: the chosen one, or where the reference stands the best
            predicted of the others; None where one config stands for every prompt.
        advantage: predicted, of the contender over the reference; None without a contender.
        margin: what it has to exceed.
        ood_score: out-of-distribution score; above 1 the reference stands. None for a prompt that is not read.
        achieved: by departing from the reference where as much was predicted, out of fold; None where nothing can be
            told: no contender that is predicted to be better, a task that was told, or a position between the dial's
            points.
        moved: parts of the prompt without which that advantage would be another, the strongest first, at most 5; none
            where nothing moves it.
        neighbours: the nearest training prompts, the nearest first.
    """

    decision: Decision
    configs: tuple[DecodingConfig, ...] = field(repr=False)
    ships: Ships
    proof: str
    reference: int
    contender: int | None
    advantage: float | None
    margin: float
    ood_score: float | None
    achieved: AchievedAdvantage | None
    moved: tuple[MovedPart, ...] = field(repr=False)  # like the decision's prompt, no text for a log
    neighbours: tuple[Neighbour, ...]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able mapping. Of the prompt it holds the parts in `moved`, and no more."""
        return {
            "decision": self.decision.to_dict(),
            "ships": self.ships,
            "proof": self.proof,
            "reference": self.reference,
            "contender": self.contender,
            "advantage": self.advantage,
            "margin": self.margin,
            "ood_score": self.ood_score,
            "achieved": None if self.achieved is None else self.achieved.to_json(),
            "moved": [part.to_dict() for part in self.moved],
            "neighbours": [one.to_dict() for one in self.neighbours],
            "configs": [config.to_dict() for config in self.configs],
        }

    def __str__(self) -> str:
        lines = [str(self.decision), "", *self._tell_sureness(), "", *self._tell_moved()]
        return replace_controls("\n".join([*lines, "", *self._tell_neighbours()]), keep="\n")

    def _tell_sureness(self) -> list[str]:
        """The lines on how sure it is."""
        if self.ships != "per_prompt":
            stands = f"How sure: {self.configs[self.reference]} stands for every prompt alike"
            return [f"{stands}: {self.proof}" if self.proof else stands]
        lines = [f"How sure: the reference is {self.configs[self.reference]}"]
        if self.contender is not None and self.advantage is not None:
            lines.append(
                f"  {self.configs[self.contender]} is predicted {self.advantage:+.3f} over it; it takes more than "
                f"{self.margin:+.3f} to depart"
            )
        if self.ood_score is not None:
            lines.append(f"  unlike the training prompts: {self.ood_score:.2f}, above 1 the reference stands")
        if self.achieved is not None:
            band = self.achieved
            where = f"{format_count(band.n_prompts, 'prompt')} in {format_count(band.n_groups, 'group')}"
            lines.append(
                f"  predicted {band.low:+.3f} to {band.high:+.3f} out of fold ({where}), departing gained {band.gain:+}"
            )
        return lines

    def _tell_moved(self) -> list[str]:
        """The lines on what moved the choice."""
        if not self.moved:
            return ["What moved the choice: nothing in the prompt"]
        chosen = self.decision.index
        rows = [
            (
                shorten(" ".join(one.part.split()), _SHOWN),
                f"at {one.place}",
                f"{-one.fall:+.3f}",
                "" if one.choice == chosen else f"{self.configs[one.choice]} would be chosen",
            )
            for one in self.moved
        ]
        head = "What moved the choice: the predicted advantage without"
        return [head, TextTable(("", "", "", ""), rows, "<<><").to_text("  ")]

    def _tell_neighbours(self) -> list[str]:
        """The lines on the nearest training prompts."""
        if not self.neighbours:
            return ["Nearest training prompts: none"]
        chosen = self.reference if self.contender is None else self.contender
        shown = list(dict.fromkeys((chosen, self.reference)))
        rows = [
            (
                one.id,
                f"{one.distance:.3f}",
                *(f"{one.values[index]:.3f}" for index in shown),
                f"{max(one.values):.3f}",
                one.task,
                shorten(" ".join((one.text or "").split()), _SHOWN),
            )
            for one in self.neighbours
        ]
        names = ("the contender", "the reference") if len(shown) == 2 else ("the reference",)
        head = ("id", "distance", *names, "their best", "", "")
        table = TextTable(head, rows, "<" + ">" * (len(head) - 3) + "<<")
        return ["Nearest training prompts, with what these configurations achieved on them:", table.to_text("  ")]


class _Variant(NamedTuple):
    """A prompt without one of its parts."""

    part: str
    place: int
    item: Any


def explain_decision(
    decision: Decision,
    *,
    item: Any,
    features: np.ndarray | None,
    compute: ComputeValues,
    rule: DecisionRule,
    point: int | None,
    proof: str,
    configs: Sequence[DecodingConfig],
    training: TrainingPrompts,
    neighbours: int,
) -> Explanation:
    """Why a decision was made.

    Args:
        decision: of the policy.
        item: text or vector, as the policy reads it.
        features: float32 (n_features,), of the prompt; None for one that is not read.
        compute: the policy's graph.
        rule: at the dial's position.
        point: number of the dial's point there; None between points, and where a task was told.
        proof: the gate's reason there.
        configs: of the space.
        training: what it was fitted on.
        neighbours: how many are told.
    """
    near = () if features is None else _list_neighbours(training, rule, features, neighbours)
    contender = advantage = score = achieved = None
    moved: tuple[MovedPart, ...] = ()
    if rule.ships == "per_prompt" and features is not None:
        variants = [_Variant("", 0, item), *_leave_out(item, training)]
        values, scores = compute([variant.item for variant in variants])
        score = float(scores[0])
        contender = _find_contender(values[0], rule.reference)
    if contender is not None:
        advantages = values[:, contender] - values[:, rule.reference]
        choices = [choose_index(rule, *row)[0] for row in zip(values, scores.tolist(), strict=True)]
        advantage = float(advantages[0])
        moved = _rank(variants, advantages, choices)
    if point is not None and advantage is not None and advantage > 0.0:
        achieved = training.find_achieved(point, advantage)
    return Explanation(
        decision=decision,
        configs=tuple(configs),
        ships=rule.ships,
        proof=proof,
        reference=rule.reference,
        contender=contender,
        advantage=advantage,
        margin=rule.margin,
        ood_score=score,
        achieved=achieved,
        moved=moved,
        neighbours=near,
    )


def _find_contender(values: np.ndarray, reference: int) -> int | None:
    """The config with the highest value, float32 (n_configs,), beside the reference; None where there is none."""
    if len(values) < 2:
        return None
    others = values.copy()
    others[reference] = -np.inf
    return int(others.argmax())


def _rank(variants: Sequence[_Variant], advantages: np.ndarray, choices: Sequence[int]) -> tuple[MovedPart, ...]:
    """The parts that move the advantage or the choice most; the first variant is the whole prompt."""
    falls = (float(advantages[0]) - advantages.astype(np.float64)).tolist()
    parts = [
        MovedPart(variant.part, variant.place, fall, choice)
        for variant, fall, choice in zip(variants[1:], falls[1:], choices[1:], strict=True)
        if abs(fall) > _ROUNDING or choice != choices[0]
    ]
    return tuple(sorted(parts, key=lambda part: (-abs(part.fall), part.place))[:MOST_TOLD])


def _list_neighbours(
    training: TrainingPrompts, rule: DecisionRule, features: np.ndarray, count: int
) -> tuple[Neighbour, ...]:
    """The nearest training prompts with the value of every config at the dial's position."""
    found, distances = training.find_nearest(features, count)
    values = rule.values(training.heads[:, found])
    return tuple(
        Neighbour(
            training.ids[number],
            training.tasks[number],
            float(distance),
            tuple(map(float, row)),
            None if training.texts is None else training.texts[number],
        )
        for number, distance, row in zip(found.tolist(), distances, values, strict=True)
    )


def _leave_out(item: Any, training: TrainingPrompts) -> list[_Variant]:
    """The prompt without each of its parts: words, or lines of a long text; of a vector the columns that are furthest
    from their medians, set to them; a missing value is further than any."""
    if isinstance(item, str):
        text = cut(item)
        spans = split_parts(text)
        made = (_Variant(text[a:b].strip(), a, text[:a] + text[b:]) for a, b in spans)
        return [variant for variant in made if variant.item.strip()]
    if training.medians is None:
        return []
    vector = np.asarray(item, dtype=np.float32)
    apart = np.abs(vector.astype(np.float64) - training.medians)
    # Sorting puts NaN, a missing value, last.
    columns = np.sort(apart.argsort(kind="stable")[::-1][:MOST_COLUMNS])
    rows = np.tile(vector, (len(columns), 1))
    rows[np.arange(len(columns)), columns] = training.medians[columns]
    return [_Variant(f"column {column}", column, row) for column, row in zip(columns.tolist(), rows, strict=True)]


def split_parts(text: str) -> list[tuple[int, int]]:
    """Begin and end of the parts of a text, at most 64: its words; of a text of more words its lines, or where these
    are too many or one, runs of words of one length; of a text without blanks its characters, or runs of them."""
    words = [found.span() for found in _WORDS.finditer(text)]
    if len(words) < 2:
        return _join([(at, at + 1) for at in range(len(text))])
    if len(words) <= MOST_PARTS:
        return words
    lines = [found.span() for found in _LINES.finditer(text)]
    return lines if 1 < len(lines) <= MOST_PARTS else _join(words)


def _join(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Runs of neighbouring spans, as many in each, at most 64 runs."""
    size = max(1, -(-len(spans) // MOST_PARTS))
    return [(run[0][0], run[-1][1]) for run in (spans[at : at + size] for at in range(0, len(spans), size))]
