"""Slots in hints: `{keywords}`, `{entities}` and `{numbers}`, filled from the words of the prompt, without an LLM.

A hint made for this very prompt steers a frozen LLM where one wording for all cannot (Directional Stimulus Prompting,
arXiv 2302.11520; there a small tuned LLM writes it, here a fixed procedure does, in microseconds). Only these three
names in braces are slots; every other brace stands for itself.

What a slot holds is part of what a config means: `VERSION` is in the digest of every config whose hint has one. Whoever
changes what is found here raises it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

__all__ = ["SLOTS", "VERSION", "describe_slots", "fill_slots", "find_slots"]

VERSION = 1
MOST = 8
"""Keywords and entities at most; of numbers twice as many."""
# Of a longer text the beginning and the end are read, as many characters as a policy reads of it.
_HEAD, _TAIL = 6000, 2000
_LONGEST_PHRASE = 4
_LONGEST_WORD = 30  # what is longer is no word: an address, or a language written without spaces

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_NUMBER = re.compile(r"(?<![\w.,])-?[$€£¥]?\d+(?:[.,:/]\d+)*%?")
_BLANKS = frozenset((" ", "  ", "\t"))
_ENDS_SENTENCE = re.compile(r"[.!?:\n\"“”]")

# The closed classes of English: articles, pronouns, prepositions, conjunctions, auxiliaries, words that ask.
_FUNCTION_WORDS = frozenset(
    """
    a about above across after again against all almost along already also although always am among an and another any
    anyone anything are aren't around as at away back be became because become been before behind being below beside
    besides between beyond both but by can can't cannot could couldn't did didn't do does doesn't doing don't done down
    during each either else enough even ever every everyone everything few first for from further get gets give given
    gives goes going gone got had hadn't has hasn't have haven't having he her here hers herself him himself his how
    however i i'm i've if in instead into is isn't it it's its itself just keep last least less let let's like made make
    makes many may maybe me might mine more most much must my myself need neither never no nobody none nor not nothing
    now of off often on once one ones only onto or other others our ours ourselves out over own per please put quite
    rather really same shall she should shouldn't since so some someone something sometimes soon still such take than
    that that's the their theirs them themselves then there there's therefore these they they're this those though
    through thus to together too toward towards two under unless until up upon us use used using very via want was
    wasn't way we we're well went were weren't what what's whatever when where whether which while who whom whose why
    will with within without won't would wouldn't yes yet you you're your yours yourself
    """.split()  # noqa: SIM905 - a column of words to a line could not be read
)


def find_slots(hint: str) -> tuple[str, ...]:
    """Names of the slots of a hint, each once, in their order."""
    return tuple(dict.fromkeys(_SLOT.findall(hint))) if "{" in hint else ()


def fill_slots(hint: str, text: str) -> str:
    """The hint with its slots filled from a text; "" where the text has nothing for one of them.

    Args:
        hint: with or without slots.
        text: what the user asks, such as the last message. Of more than 8,000 characters the first 6,000 and the last
            2,000 are read.
    """
    if not (names := find_slots(hint)):
        return hint
    read = text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]}\n{text[-_TAIL:]}"
    found = {name: ", ".join(SLOTS[name](read)) for name in names}
    return _SLOT.sub(lambda slot: found[slot[1]], hint) if all(found.values()) else ""


def describe_slots(hint: str, filled: str) -> str:
    """What a receipt says of a hint's slots, without words of the prompt; "" of a hint that has none.

    Args:
        hint: with its slots.
        filled: what `fill_slots` made of it.
    """
    if not (names := find_slots(hint)):
        return ""
    named = [f"{{{name}}}" for name in names]
    if filled:
        return f"{' and '.join(named)} filled from the prompt"
    return f"left out: the prompt has nothing for {' or '.join(named)}"


def extract_keywords(text: str) -> list[str]:
    """The phrases that say most, at most `MOST`, in the order in which they stand in the text.

    RAKE (Rose, Engel, Cramer and Cowley, "Automatic keyword extraction from individual documents", 2010): function
    words and marks cut the text into phrases; a word scores the ratio of its degree (the lengths of its phrases) to its
    frequency, a phrase the sum of its words. Runs of more than four words are taken word by word, since in a text that
    is not English hardly anything cuts them. There a third as many phrases are kept as there are words; prompts are
    short, and what they ask for stands beside how they ask, so here the number alone limits them.
    """
    phrases = _cut_phrases(text)
    degrees: dict[str, int] = {}
    counts: dict[str, int] = {}
    for phrase in phrases:
        for word in phrase:
            degrees[word] = degrees.get(word, 0) + len(phrase)
            counts[word] = counts.get(word, 0) + 1
    scores = {phrase: sum(degrees[word] / counts[word] for word in phrase) for phrase in phrases}
    places = {phrase: place for place, phrase in enumerate(scores)}
    best = sorted(scores, key=lambda phrase: (-scores[phrase], places[phrase]))[:MOST]
    return [phrases[phrase] for phrase in sorted(best, key=places.__getitem__)]


def _cut_phrases(text: str) -> dict[tuple[str, ...], str]:
    """The phrases of a text in small letters, each with its first spelling, in their order."""
    found: dict[tuple[str, ...], str] = {}
    run: list[str] = []
    end = 0

    def close() -> None:
        parts = [run] if len(run) <= _LONGEST_PHRASE else [[word] for word in run]
        for part in parts if run else ():
            found.setdefault(tuple(word.lower() for word in part), " ".join(part))
        run.clear()

    for match in _WORD.finditer(text):
        word = match[0]
        if run and text[end : match.start()] not in _BLANKS:
            close()
        end = match.end()
        if len(word) < 2 or len(word) > _LONGEST_WORD or word[0].isdigit() or _is_function_word(word):
            close()
        else:
            run.append(word)
    close()
    return found


def extract_entities(text: str) -> list[str]:
    """Names in the text, at most `MOST`, in their order: runs of words with a capital letter.

    At the start of a sentence any word has one: there it is a name where the same word has it elsewhere too, or holds
    another capital or a digit (Mikheev, "A knowledge-free method for capitalized word disambiguation", ACL 1999). In a
    language that capitalises its nouns, these are found.
    """
    words = list(_WORD.finditer(text))
    starts = [0, *(match.end() for match in words)]
    gaps = [text[start : match.start()] for start, match in zip(starts, words, strict=False)]
    begins = [not number or _ENDS_SENTENCE.search(gap) is not None for number, gap in enumerate(gaps)]
    capital = [match[0][0].isupper() and not _is_function_word(match[0]) for match in words]
    sure = {
        match[0] for match, is_capital, begin in zip(words, capital, begins, strict=True) if is_capital and not begin
    }
    runs: list[list[str]] = []
    joins = False
    for match, gap, begin, is_capital in zip(words, gaps, begins, capital, strict=True):
        word = match[0]
        if is_name := is_capital and (not begin or word in sure or not (word[1:].islower() or len(word) == 1)):
            if joins and gap in _BLANKS:
                runs[-1].append(word)
            else:
                runs.append([word])
        joins = is_name
    return list(dict.fromkeys(" ".join(run) for run in runs))[:MOST]


def extract_numbers(text: str) -> list[str]:
    """Numbers in digits, at most twice `MOST`, each once, in their order, as they are written, such as "1,250.50"."""
    return list(dict.fromkeys(_NUMBER.findall(text)))[: 2 * MOST]


def _is_function_word(word: str) -> bool:
    return word.lower().replace("’", "'") in _FUNCTION_WORDS


SLOTS: Mapping[str, Callable[[str], list[str]]] = MappingProxyType(
    {"keywords": extract_keywords, "entities": extract_entities, "numbers": extract_numbers}
)
"""What finds a slot's words in a text, by the slot's name."""

_SLOT = re.compile(rf"\{{({'|'.join(SLOTS)})\}}")
