"""What the tests of reports share: a table with a best config by task, and a reader of pages."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

import numpy as np

from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.space import DecodingSpace
from hagpolicy.data.table import SweepTable

SPACE = DecodingSpace(
    [
        DecodingConfig(temperature=0),
        DecodingConfig(temperature=0, repetition_penalty=1.2),
        DecodingConfig(temperature=0.7),
        DecodingConfig(temperature=0.3, hint="<b>Be brief</b> & exact, for $5 or $6"),
    ]
)
# Row: task. The best config differs by task; "lists" wants the repetition penalty.
MEANS = {
    "arithmetic": [0.6, 0.3, 0.4, 0.5],
    "lists": [0.1, 0.9, 0.5, 0.2],
    "sentences": [0.5, 0.4, 0.6, 0.3],
    "facts": [0.7, 0.6, 0.5, 0.4],
}
TEXTS = {
    "arithmetic": "What is {0} plus {1}? Give the sum of both numbers.",
    "lists": "List {0} different animals that live in forest number {1}.",
    "sentences": "Write one sentence with the words river, stone and bridge, variant {0} of {1}.",
    "facts": "Which city is the capital of the country in atlas {0}, page {1}?",
}
TASKS = [task for task in MEANS for _ in range(15)]


class Page(HTMLParser):
    """The tags, the text and every address of a page; refuses what is not well nested."""

    VOID = ("meta", "br", "path", "use", "rect", "link", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "!doctype"):
            self.open.append(tag)
        self.note(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.note(attrs)

    def note(self, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name.endswith("href") or name == "src"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words += data


def made_table(*, spread: float = 0.02, flat: bool = False, **changes: object) -> SweepTable:
    """Rewards near MEANS, or near one half for every config (`flat`)."""
    rng = np.random.default_rng(0)
    means = np.array([[0.5] * len(SPACE) if flat else MEANS[task] for task in TASKS])
    rewards = np.clip(means[:, :, None] + rng.normal(0, spread, (len(TASKS), len(SPACE), 2)), 0, 1)
    rewards[:, :2, 1] = np.nan
    prompts = [TEXTS[task].format(i, 3 * i) + f" <script>alert({i})</script> $x_1$" for i, task in enumerate(TASKS)]
    tokens = np.full(rewards.shape, 20.0)
    table = SweepTable.from_arrays(prompts, SPACE, rewards, tasks=TASKS, tokens=tokens, default=2)
    return dataclasses.replace(table, **changes)  # type: ignore[arg-type]
