"""300 prompts of a small shop's assistant, of four kinds, made from word lists: what a user brings to a first sweep.

None of them is of the kinds or about the subjects of the demo and its pilots (`benchmarks/tools/demo_prompts.py`).
Prompts about one thing are one group, such as two gifts for somebody with one hobby.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hagpolicy._files import format_jsonl

SCORERS = {"gifts": "distinct_items", "orders": "json_match", "replies": "contains_all", "totals": "numeric_match"}
_HOBBIES = """pottery|chess|sailing|cycling|knitting|astronomy|archery|baking|birdwatching|calligraphy|camping|
carpentry|climbing|cooking|cricket|diving|drawing|fencing|fishing|football|gardening|golf|hiking|horse riding|judo|
juggling|kayaking|kite flying|magic tricks|model trains|mountain biking|origami|painting|photography|poetry|puzzles|
quilting|reading|robotics|rowing|running|sewing|singing|skateboarding|skating|skiing|surfing|swimming|tennis|yoga"""
_ITEMS = """lamps|chairs|mugs|blankets|candles|pillows|baskets|bowls|clocks|curtains|drawers|frames|jars|kettles|knives|
ladders|mats|mirrors|plates|ropes|rugs|shelves|sofas|stools|tables|towels|trays|vases|wardrobes|buckets"""
_TOWNS = "Leeds|Bristol|York|Cardiff|Exeter|Derby|Oxford|Dover|Bath|Perth"
_THINGS = """bookcase|teapot|desk|suitcase|helmet|tent|backpack|raincoat|printer|keyboard|monitor|microphone|speaker|
toaster|blender|mixer|freezer|heater|bicycle pump|sleeping bag|drum|flute|trumpet|harp|easel|wallet|belt|scarf|sweater|
jacket"""
_GOODS = """apple|bagel|croissant|doughnut|eggplant|fig|grapefruit|honeycomb|ice cream|jam tart|kiwi|lemon|mango|
nectarine|orange|peach|quince|radish|scone|tomato|waffle|yam|zucchini|melon|pear|plum|muffin|pretzel|pumpkin|
coconut"""
_DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday"


def make_rows() -> list[dict[str, Any]]:
    """The rows of the user's file, in a random order that is the same each time: prompt, reference, task, group."""
    rows = [*_gifts(), *_orders(), *_replies(), *_totals()]
    random.Random(5).shuffle(rows)
    return rows


def _split(words: str) -> list[str]:
    return [word.strip() for word in words.split("|")]


def _row(task: str, group: str, prompt: str, reference: Any) -> dict[str, Any]:
    return {"prompt": prompt, "reference": reference, "task": task, "group": f"{task}: {group}"}


def _gifts() -> Iterator[dict[str, Any]]:
    """100: two people for each of 50 hobbies."""
    for hobby in _split(_HOBBIES):
        yield _row("gifts", hobby, f"Name 6 gifts for a friend who likes {hobby}.", 6)
        yield _row("gifts", hobby, f"My uncle loves {hobby}. Suggest 6 birthday gifts.", 6)


def _orders() -> Iterator[dict[str, Any]]:
    """80: two or three orders of each of 30 items."""
    chance, towns = random.Random(6), _split(_TOWNS)
    for at, item in enumerate(_split(_ITEMS)):
        for wording in (
            'Write this order as JSON with the keys "item", "count" and "town": {0} {1} to {2}.',
            'A customer in {2} orders {0} {1}. Answer with JSON: "item", "count", "town".',
            'Put this into JSON with the keys "item", "count" and "town": please send {0} {1} to {2}.',
        )[: 3 if at < 20 else 2]:
            count, town = chance.randint(2, 12), chance.choice(towns)
            wanted = {"item": item, "count": count, "town": town}
            yield _row("orders", item, wording.format(count, item, town), wanted)


def _replies() -> Iterator[dict[str, Any]]:
    """60: two messages about each of 30 things."""
    chance, days = random.Random(7), _split(_DAYS)
    for thing in _split(_THINGS):
        first, second = chance.sample(days, 2)
        asked = f"Tell a customer in one sentence that the {thing} will arrive on {first}."
        yield _row("replies", thing, asked, [thing, first])
        asked = f"Write one polite sentence: the {thing} is late and will come on {second}."
        yield _row("replies", thing, asked, [thing, second])


def _totals() -> Iterator[dict[str, Any]]:
    """60: two sums about each of 30 goods, no pair of numbers twice."""
    pairs = [(count, price) for count in range(2, 10) for price in range(2, 13)]
    random.Random(8).shuffle(pairs)
    for good in _split(_GOODS):
        (first, dear), (second, cheap) = pairs.pop(), pairs.pop()
        asked = f"One {good} costs {dear} euros. How much do {first} of them cost?"
        yield _row("totals", good, asked, first * dear)
        yield _row(
            "totals", good, f"What does a customer pay for {second} times {good} at {cheap} euros each?", second * cheap
        )


def write_file(path: Path, limit: int | None = None) -> None:
    """Write the rows, or the first of them, as JSON lines."""
    path.write_text(format_jsonl(make_rows()[:limit]), encoding="utf-8")
