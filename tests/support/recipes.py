"""What stands in for the files, the server and the pipeline of the recipes, so that their blocks run in seconds."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from tests.support.answering_server import say
from tests.support.tiny_llama import tiny_model, tiny_tokenizer

URL = "http://127.0.0.1:8000/v1"
"""Where the recipes say that a server is."""
_ITEMS = """lamps chairs mugs blankets candles pillows baskets bowls clocks curtains frames jars kettles knives ladders
mats mirrors plates ropes rugs shelves sofas stools tables towels trays vases buckets brooms crates"""
_PLACES = """rivers lakes towns bays capes islands mountains valleys deserts forests bridges castles harbours markets
museums theatres stations gardens parks towers"""
ITEMS, PLACES, TOWNS = _ITEMS.split(), _PLACES.split(), ("Leeds", "York", "Derby", "Bath", "Perth")
SIGNS = {"orders": " as JSON.", "names": "Name five ", "totals": " euros each?"}
# How often the server's model is right: by task, of plain greedy, of greedy with a hint, with a penalty, of samples.
SKILL = {"orders": (0.9, 0.3, 0.8, 0.6), "names": (0.3, 0.3, 0.9, 0.5), "totals": (0.4, 0.9, 0.4, 0.3)}


def make_requests(start: int, count: int) -> list[dict[str, Any]]:
    """Requests to a shop, of three tasks in turn, from number `start` on; no two are alike."""
    rows = []
    for at in range(start, start + count):
        item, town, place = ITEMS[at % 30], TOWNS[at % 5], PLACES[at % 20]
        number, price = 2 + at // 3, 3 + at % 7
        order = {"prompt": f"{number} {item} to {town}, as JSON.", "reference": {"item": item, "count": number}}
        rows += [
            {**order, "task": "orders", "group": f"customer {at // 6}"},
            {"prompt": f"Name five {place} near {town} {at}.", "reference": 5, "task": "names"},
            {"prompt": f"{number} {item} at {price} euros each?", "reference": number * price, "task": "totals"},
        ][at % 3 : at % 3 + 1]
    return rows


def make_chats(start: int, count: int) -> list[dict[str, Any]]:
    """Chats of an assistant with three routes, from number `start` on; the last message is the request."""
    rows = []
    for at in range(start, start + count):
        item, place = ITEMS[at % 30], PLACES[at // 3 % 20]
        asked, task = (
            (f"Where is my order {100 + at} of {item}?", "support"),
            (f"Give me ideas for a trip to the {place}, number {at}.", "ideas"),
            (f"Tell a story about the {place} and the {item}, part {at}.", "story"),
        )[at % 3]
        rows.append({"messages": [{"role": "user", "content": asked}], "task": task})
    return rows


def to_jsonl(rows: list[dict[str, Any]]) -> str:
    """One JSON object a line."""
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


FILES: Mapping[str, str] = {
    "requests.jsonl": to_jsonl(make_requests(0, 120)),
    "new-requests.jsonl": to_jsonl(make_requests(120, 60)),
    "chats.jsonl": to_jsonl(make_chats(0, 90)),
    "new-chats.jsonl": to_jsonl(make_chats(90, 45)),
}
"""Files that a reader has already; the recipes show how they begin."""


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """What the server says: right or wrong by chance, which hangs on the prompt, the settings and the seed."""
    prompt, _, hint = body["messages"][-1]["content"].partition("\n\n")
    sampled, penalty = body.get("temperature", 1) > 0, body.get("frequency_penalty", 0) > 0
    task = next((task for task, sign in SIGNS.items() if sign in prompt), None)
    if task is None:  # the check of the server's settings before a sweep asks for other things
        said = f"{prompt} {hint} {penalty} {body.get('seed') if sampled else ''}"
        return say(said, tokens=len(said.split()))
    skill = SKILL[task][3 if sampled else 2 if penalty else 1 if hint else 0]
    drawn = f"{prompt}{bool(hint)}{penalty}{body.get('seed') if sampled else ''}"
    lot = zlib.crc32(drawn.encode()) % 1000
    text = ANSWERS[task](prompt.split(), lot < 1000 * skill)
    return say(f"{text}{f' ({lot})' if sampled else ''}", tokens=len(text.split()))


def _read_order(words: list[str], right: bool) -> str:
    return json.dumps({"item": words[1], "count": int(words[0])}) if right else f"{words[1]}, {words[0]} of them"


def _name_places(words: list[str], right: bool) -> str:
    names = [f"{end} {words[2][:-1]}" for end in ("North", "Old", "White", "Long", "Low")]
    return "\n".join(f"{at}. {name}" for at, name in enumerate(names if right else names[:2] * 2, 1))


def _add_up(words: list[str], right: bool) -> str:
    total = int(words[0]) * int(words[3])
    return f"The total is {total if right else total + 10} euros."


ANSWERS = {"orders": _read_order, "names": _name_places, "totals": _add_up}


def make_pipeline(task: str, name: str, **options: Any) -> Any:
    """A pipeline over a random Llama of a few thousand weights, in place of the named model's."""
    from transformers.pipelines import pipeline

    return pipeline(task, model=tiny_model(), tokenizer=tiny_tokenizer(), **options)
