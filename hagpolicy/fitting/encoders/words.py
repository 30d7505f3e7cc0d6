"""Features that a reader can name: which words stand in a prompt, numbers, line breaks, and how long it is."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from hagpolicy.data.prompts import Prompt
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.static import read_asset, sum_rows, take_log
from hagpolicy.fitting.graphs.builder import FLOAT, INT64, UINT8, GraphBuilder
from hagpolicy.policy.inputs import TokenInputs
from hagpolicy.policy.schema import parse_bounded
from hagpolicy.policy.tokenizer import TOKENIZER_FILE

__all__ = ["WordsEncoder"]

MOST_WORDS = 512
# A word that is in fewer prompts can prove nothing; one that is in most of them tells no prompts apart.
LEAST_PROMPTS, MOST_SHARE = 4, 0.7
_NUMBER, _LINE_BREAK, _INDENTATION = "a number", "a line break", "an indentation"
_MARKS = {"\u21b5": _LINE_BREAK, "\u21e5": _INDENTATION}
_UNKNOWN, _CONTINUES = "[UNK]", "##"


class WordsEncoder(Encoder):
    """How often each of some words stands in a prompt, with numbers, line breaks, indentations and the length.

    Features, float32 (batch, n_words + 4): counts of the words, of tokens of digits, of line breaks and of
    indentations, and the natural logarithm of the number of tokens (0 for an empty text). A word is a token of the
    static encoder's vocabulary: lower-case, and none that longer words began with in the training prompts.

    Args:
        words: to be counted; `learn` finds those of training prompts, by how many they stand in.
    """

    name = "words"

    def __init__(self, words: Sequence[str] = ()) -> None:
        self.words = tuple(words)
        self.columns = (*self.words, _NUMBER, _LINE_BREAK, _INDENTATION, "its length")
        self.length = (len(self.columns) - 1, 1.0)

    def learn(self, prompts: Sequence[Prompt]) -> WordsEncoder:
        """See `Encoder.learn`. Rewards are not looked at."""
        names = {number: token for token, number in self._vocabulary.items()}
        counts: dict[int, int] = {}
        beginnings = set[int]()
        for arrays in self.inputs(prompts):
            for ids, mask in zip(arrays["ids"], arrays["mask"].astype(bool), strict=True):
                row = ids[mask].tolist()
                follows = itertools.pairwise(row)
                beginnings |= {first for first, second in follows if names[second].startswith(_CONTINUES)}
                for number in set(row):
                    counts[number] = counts.get(number, 0) + 1
        most = MOST_SHARE * len(prompts)
        kept = [
            (-count, names[number])
            for number, count in counts.items()
            if LEAST_PROMPTS <= count <= most and number not in beginnings and _is_word(names[number])
        ]
        return WordsEncoder([word for _, word in sorted(kept)[:MOST_WORDS]])

    def export(self, graph: GraphBuilder) -> tuple[str, str]:
        """Inputs `ids` int64 and `mask` uint8, both (batch, tokens); see `Encoder.export`. All sums are of integers."""
        ids = graph.input("ids", INT64, ["batch", "tokens"])
        mask = graph.input("mask", UINT8, ["batch", "tokens"])
        columns = [*self.columns[:-1], _UNKNOWN]
        # A token's row is its column's: one further row, of zeros, is for all tokens that are not counted.
        rows = np.vstack([np.eye(len(columns), dtype=np.int8), np.zeros((1, len(columns)), np.int8)])
        which = graph.node("Gather", [graph.constant(self._find_columns(columns), "columns"), ids])
        marks = graph.node("Gather", [graph.constant(rows, "marks"), which])
        sums, tokens = sum_rows(graph, marks, mask)
        counts = graph.cast(sums, FLOAT)
        known = graph.constant(np.arange(len(columns) - 1), "known")
        features = [graph.node("Gather", [counts, known], axis=1), take_log(graph, tokens, 1.0)]
        shares = graph.node("Div", [counts, graph.cast(tokens, FLOAT)])
        unknown = graph.node("Gather", [shares, graph.constant(np.array(len(columns) - 1))], axis=1)
        return graph.node("Concat", features, axis=1), unknown

    def inputs(self, prompts: Sequence[Prompt]) -> list[dict[str, np.ndarray]]:
        """`ids` and `mask`, in the prompts' order; see `Encoder.inputs`."""
        return self._inputs.ordered(prompts)

    def spec(self) -> dict[str, Any]:
        """Name and kind of inputs."""
        return {"name": self.name, "inputs": "tokens"}

    def files(self) -> dict[str, bytes]:
        """The tokenizer, the static encoder's."""
        return {TOKENIZER_FILE: read_asset(TOKENIZER_FILE)}

    def _find_columns(self, columns: Sequence[str]) -> np.ndarray:
        """int64 (n_tokens,): the column of each token, len(columns) for one that is not counted."""
        places = {name: place for place, name in enumerate(columns)}
        found = np.full(len(self._vocabulary), len(columns), dtype=np.int64)
        for token, number in self._vocabulary.items():
            bare = token.removeprefix(_CONTINUES)
            name = _MARKS.get(token, _NUMBER if bare.isdecimal() and token == bare else token)
            found[number] = places.get(name, len(columns))
        return found

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        """Every token's id."""
        vocabulary: dict[str, int] = parse_bounded(self.files()[TOKENIZER_FILE])["model"]["vocab"]
        return vocabulary

    @cached_property
    def _inputs(self) -> TokenInputs:
        return TokenInputs(self.files()[TOKENIZER_FILE])


def _is_word(token: str) -> bool:
    """Whether a token is a whole word, or a mark such as "?"; numbers and marks of lines are counted anyway."""
    return not token.startswith(_CONTINUES) and token not in (*_MARKS, _UNKNOWN) and not token.isdecimal()
