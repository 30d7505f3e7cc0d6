"""Editing: the answer repeats most of the prompt. Makers of such prompts, and a reward that a copy does not get."""

from __future__ import annotations

import difflib
import random
import re
from collections.abc import Callable, Mapping, Sequence

from benchmarks.sweeps.workload import examples, words
from benchmarks.sweeps.workload.examples import after
from hagpolicy import Prompt
from hagpolicy.config.render import PromptLike
from hagpolicy.scorers import FunctionScorer, Score

MOST_FOR_UNFINISHED = 0.5
_EDGES = " \t\n\"'`*“”‘’"
_LABEL = re.compile(r"^(?:(?:the )?(?:\w+ ){0,2}(?:sentence|text|list|version|answer)[^:\n]{0,60}:)\s*", re.IGNORECASE)


def edited(text: str) -> str:
    """The edited text within an answer: its first paragraph without a line that announces it, without quotes around
    it, without a final stop, and in small letters."""
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]
    while len(paragraphs) > 1 and paragraphs[0].endswith(":"):
        paragraphs.pop(0)
    first = paragraphs[0] if paragraphs else ""
    lines = first.split("\n")
    if len(lines) > 1 and lines[0].rstrip().endswith(":"):
        first = "\n".join(lines[1:])
    first = _LABEL.sub("", first.strip())
    return " ".join(first.split()).strip(_EDGES).rstrip(".").strip(_EDGES).casefold()


def edit_score(text: str, reference: Mapping[str, str]) -> Score:
    """1 for exactly the wanted text (`edited`); else at most .5: how much of the way from the unchanged source to the
    wanted text the answer has gone, by likeness of characters. The unchanged copy gets 0, and so does anything that is
    no more like the wanted text than it.

    Args:
        text: the answer.
        reference: `answer`, the wanted text, and `source`, the text to be edited.
    """
    found, wanted, source = edited(text), edited(reference["answer"]), edited(reference["source"])
    if found == wanted:
        return Score(1.0, None, found)
    start = alike(source, wanted)
    gone = (alike(found, wanted) - start) / (1 - start)
    return Score(MOST_FOR_UNFINISHED * max(gone, 0.0), None, found)


def alike(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


EDIT = FunctionScorer(edit_score, name="edit", version="1", needs_reference=True)


def replacing(count: int) -> list[Prompt]:
    """Say one word instead of another in a short sentence: `count` prompts, after none, one or three examples."""
    draw, made = random.Random("replace"), []
    for number, (said, *_) in enumerate(_sentences(draw, count)):
        part = draw.randrange(3)
        others = [words.SUBJECTS, draw.choice(words.DEEDS)[2], words.PLACES][part]
        other = draw.choice([word for word in others if word != said[PARTS[part]]])
        new = {**said, PARTS[part]: other}
        content = draw.choice(words.REPLACING).format(old=said[PARTS[part]], new=other, text=_sentence(said))
        content = after(examples.REPLACING[: (0, 1, 3)[number % 3]], content)
        made.append(_prompt("replace", number, content, _sentence(said), _sentence(new)))
    return made


def past_tense(count: int) -> list[Prompt]:
    """A short sentence into the past tense; `count` prompts, half of them after examples."""
    draw, made = random.Random("past"), []
    for number, (said, then) in enumerate(_sentences(draw, count)):
        content = draw.choice(words.PAST).format(text=_sentence(said))
        content = after(examples.PAST[: (0, 2)[number % 2]], content)
        made.append(_prompt("past", number, content, _sentence(said), _sentence({**said, "does": then})))
    return made


def reformatting(count: int) -> list[Prompt]:
    """A list in another form; `count` prompts, half of them after examples."""
    draw, made = random.Random("reformat"), []
    for number in range(count):
        kind = draw.choice(list(words.SHELVES))
        items = draw.sample(words.SHELVES[kind], draw.randint(3, 5))
        old, new = draw.choice(TURNS)
        content = draw.choice(words.REFORMATTING).format(kind=kind, form=new, text=FORMS[old](items))
        content = after(examples.REFORMATTING[: (0, 3)[number % 2]], content)
        made.append(_prompt("reformat", number, content, FORMS[old](items), FORMS[new](items)))
    return made


PARTS = ("who", "what", "where")


def _sentences(draw: random.Random, count: int) -> list[tuple[dict[str, str], str]]:
    """Distinct short sentences in parts, each with its verb in the past tense."""
    found: dict[str, tuple[dict[str, str], str]] = {}
    while len(found) < count:
        does, then, objects = draw.choice(words.DEEDS)
        said = {"who": draw.choice(words.SUBJECTS), "does": does, "what": draw.choice(objects)}
        said["where"] = draw.choice(words.PLACES)
        found[_sentence(said)] = (said, then)
    return list(found.values())


def _sentence(said: Mapping[str, str]) -> str:
    text = " ".join(said[part] for part in ("who", "does", "what", "where"))
    return f"{text[0].upper()}{text[1:]}."


def _prompt(task: str, number: int, content: PromptLike, source: str, answer: str) -> Prompt:
    return Prompt(content, {"answer": answer, "source": source}, task, id=f"{task}-{number:03d}")


FORMS: dict[str, Callable[[Sequence[str]], str]] = {
    "on one line with commas": ", ".join,
    "as a numbered list": lambda items: "\n".join(f"{place}. {item}" for place, item in enumerate(items, 1)),
    "with a dash before each item": lambda items: "\n".join(f"- {item}" for item in items),
}
# From and to. A numbered source is copied by this model, and dashes are left out, so that neither would tell anything.
TURNS = (
    ("with a dash before each item", "on one line with commas"),
    ("on one line with commas", "as a numbered list"),
)
