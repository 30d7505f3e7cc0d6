"""Answers: the part of a text that follows its reasoning, and codes of answers, equal where two say the same."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from hagpolicy._checks import is_integral
from hagpolicy._digest import DIGEST_BYTES, digest_bytes
from hagpolicy.data.prompts import normalise
from hagpolicy.errors import InvalidInput

NO_ANSWER = -1
_MAX_CODE = int(np.iinfo(np.int32).max)

# With thousands separators or without, as "1,000", "18.0", "-.5", "1e3".
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]*)?(?:e[+-]?[0-9]{1,9})?")
# What chat templates and prompts call the part before the answer: <think>, <seed:think>, [THINK], ◁think▷,
# <|begin_of_thought|>, <|START_THINKING|>, <|inner_prefix|>, <|channel>thought …, escaped as HTML too.
_REASONING = (
    r"(?:(?!end_)[a-z]{1,20}[:_])?(?:think(?:ing)?(?:_process)?|thoughts?(?:_process)?|reason(?:ing)?|reflection|scratchpad"
    r"|chain_of_thought|cot|(?:inner_)?monologue)"
)
_REASONING_TAG = re.compile(
    rf"(?i:(?P<open><{_REASONING}(?:\s[^<>\n]{{0,100}})?>|&lt;{_REASONING}&gt;|◁think▷|<[|｜](?:(?:begin|start)(?:_of)?_)?{_REASONING}"
    rf"(?:_start)?[|｜]>|<\|inner_prefix\|>|<\|channel>thought|<details type=\"reasoning\"[^<>\n]{{0,200}}>"
    rf"|(?-i:\[(?:THINK|THINKING|THOUGHT|REASONING)\]))"
    rf"|(?P<close></{_REASONING}\s?>|&lt;/{_REASONING}&gt;|◁/think▷|<[|｜](?:end(?:_of)?_|/){_REASONING}[|｜]>"
    rf"|<[|｜]{_REASONING}_end[|｜]>|<\|inner_suffix\|>|<channel\|>|(?-i:\[/(?:THINK|THINKING|THOUGHT|REASONING)\])"
    r"|(?<=\n)</details>))"
)
# The channels of gpt-oss, and what is left of them where special tokens were dropped from the text.
_CHANNEL = re.compile(r"(?:<\|channel\|>|\A\s{0,9})(\w{1,20})[^<\n]{0,60}(?:<\|constrain\|>[^<\n]{0,40})?<\|message\|>")
_BARE_CHANNEL = re.compile(r"assistant\s{0,2}final(?:\s{0,2}json)?")
_PLAIN_HEADINGS = ("Here is my thought process:", "Here is my response:")
_CODE = re.compile(r"(?ms)^[ \t]{0,12}```.*?^[ \t]{0,12}```[ \t]*$|`[^`\n]{1,300}`")
# The part that a text itself marks as its answer; wrappers of the whole text only where they do wrap it.
_ANSWER = re.compile(
    r"(?i)<(?P<tag>final_?answer|answer)>|<[|｜](?P<part>begin_of_box|begin_of_solution|start_response)[|｜]>"
    r"|\A\s{0,99}<(?P<whole>response|output|solution|final|result)>"
)
_ANSWER_END = re.compile(r"(?i)</(?:final_?answer|answer)>\s*\Z")
# A special token of a chat template: what follows it, after an answer has begun, is another turn.
_SPECIAL = re.compile(
    r"<[|｜]/?[A-Za-z][\w▁]{0,40}[|｜]>|</s>|<s>|<(?:eos|bos|pad)>|<(?:end|start)_of_turn>|<turn\|>|<\|turn>|\[/?INST\]|\[\|endofturn\|\]"
    r"|<eod>|<EOT>|\[EOS\]"
)
_ROLE = re.compile(r"\s*(?:assistant|model)\b[ \t]*\n?")
_QUOTES = "\"'“”‘’«»「」"
_EXPECTED = "strings, with None for no answer, or whole numbers from -1 (none): equal for equal answers"


def split_reasoning(text: str) -> tuple[str, str]:
    """The reasoning of a text and its answer: what stands in reasoning tags, and the rest.

    Known are the tags of today's reasoning models (`<think>`, `[THINK]`, `◁think▷`, `<|begin_of_thought|>`, the
    channels of gpt-oss, …). A closing tag alone ends reasoning that the prompt's template began; reasoning that
    does not end, as in a text cut short, leaves no answer. Tags in quotes or in code are words of the text. Of an
    answer that is marked itself (`<answer>`) only that part is given, and nothing behind the end of the turn
    (`<|im_end|>`, `</s>`, …), where a text goes on with special tokens. An answer has no reasoning of its own:
    splitting it again changes nothing.
    """
    if not any(sign in text for sign in "<[◁&") and not text.lstrip().startswith(("analysis", _PLAIN_HEADINGS[0])):
        return "", text
    reasoning, answer = _split_channels(text) or _split_tags(text)
    return reasoning, _read_marked(_end_turn(answer))


def opens_reasoning(text: str) -> bool:
    """Whether a text ends within reasoning that has just begun, as a prompt does whose template begins it."""
    text = text.rstrip()
    return any(tag.lastgroup == "open" and tag.end() == len(text) for tag in _REASONING_TAG.finditer(text))


def ends_reasoning(text: str) -> bool:
    """Whether reasoning that was begun before the text ends within it, by a closing tag that is not quoted."""
    return any(tag.lastgroup == "close" for tag in _find_tags(text))


def _split_channels(text: str) -> tuple[str, str] | None:
    """Reasoning and answer of a text in channels or under Granite's headings; None for any other."""
    if "<|message|>" in text and (found := list(_CHANNEL.finditer(text))):
        final = next((match for match in reversed(found) if match[1].startswith("final")), None)
        return (text, "") if final is None else (text[: final.start()], text[final.end() :])
    begun = text.lstrip()
    if begun.startswith("analysis") and (final := next(_BARE_CHANNEL.finditer(begun), None)) is not None:
        return begun[: final.start()], begun[final.end() :]
    if re.match(r"analysis[A-Z]", begun):
        return text, ""
    if begun.startswith(_PLAIN_HEADINGS[0]):
        thought, _, answer = begun.partition(_PLAIN_HEADINGS[1])
        return thought, answer
    return None


def _split_tags(text: str) -> tuple[str, str]:
    """Reasoning and answer of a text by its reasoning tags, from left to right."""
    details = '<details type="reasoning"' in text  # else these are a part of the answer that folds away
    tags = [tag for tag in _find_tags(text) if details or tag[0].lower() != "</details>"]
    if not tags:
        return "", text
    last_close = max((tag.start() for tag in tags if tag.lastgroup == "close"), default=-1)
    end = len(text.rstrip())
    kept: list[str] = []
    at: int | None = 0  # where the part that is kept begins; None within reasoning
    nested = before = 0
    closed = False
    for tag in tags:
        opens = tag.lastgroup == "open"
        if at is None and opens:
            nested += 1
        elif at is None:
            at, closed = tag.end(), True
        elif opens:
            # Words of a sentence ("use the <think> tag") unless the tag is closed or begins something.
            if tag.start() < last_close or re.search(
                r"(?:\A|[\n.!?:;)\]>…。！？：])\s?\Z", text[max(tag.start() - 9, 0) : tag.start()]
            ):
                kept.append(text[at : tag.start()])
                before, nested, at = len(kept), 0, None
        elif nested:  # the end of what held another block: what stood between is reasoning
            nested -= 1
            del kept[before:]
            at = tag.end()
        elif closed and tag.end() >= end:  # said once more, behind the answer
            kept.append(text[at : tag.start()])
            at = tag.end()
        else:
            kept.clear()
            before, at, closed = 0, tag.end(), True
    answer = "".join(kept) + ("" if at is None else text[at:])
    return text[: len(text) - len(answer)], answer


def _find_tags(text: str) -> Iterator[re.Match[str]]:
    """The reasoning tags of a text that are neither quoted nor, unless they stand alone on a line, in code."""
    code: list[tuple[int, int]] | None = None
    for tag in _REASONING_TAG.finditer(text):
        start, end = tag.span()
        if start and text[start - 1] in _QUOTES and text[end : end + 1] in tuple(_QUOTES):
            continue
        if code is None:
            code = [match.span() for match in _CODE.finditer(text)]
        place = bisect.bisect(code, (start, len(text))) - 1
        alone = text[start - 1 : start] in ("", "\n") and text[end : end + 1] in ("", "\n")
        if alone or place < 0 or code[place][1] < end:
            yield tag


def _end_turn(text: str) -> str:
    """The text up to the special token that ends its turn; those before it are dropped."""
    struck = False
    start = 0
    for token in _SPECIAL.finditer(text):
        if re.match(r"(?i)<[|｜](?:begin_of_box|end_of_box|begin_of_solution|start_response)", token[0]):
            continue
        if token.start() == start or not text[start : token.start()].strip():
            start = token.end()
            if role := _ROLE.match(text, start):
                start = role.end()
        elif token[0] == "<s>":
            struck = True  # <s>struck out</s>, as in HTML
        elif not (token[0] == "</s>" and struck):
            return text[start : token.start()]
    return text[start:]


def _read_marked(text: str) -> str:
    """The part that a text marks as its answer, else the text."""
    marks = list(_ANSWER.finditer(text))
    if not marks:
        ended = _ANSWER_END.search(text[-99:])
        return text[: len(text) - len(text[-99:]) + ended.start()] if ended else text
    mark = marks[-1]
    name = mark["tag"] or mark["whole"]
    end = f"</{name}>" if name else mark[0].replace("begin", "end").replace("START", "END").replace("start", "end")
    inside, closed, rest = text[mark.end() :].partition(end)
    if mark["whole"] and (not closed or rest.strip()):
        return text
    return inside


def compute_answer_key(answer: str) -> str:
    """A key that is equal for answers that say the same; "" for an answer without content.

    Equal are numbers of one value ("18", "18.0", "1.8e1"), and texts that differ in Unicode form (NFKC), case
    and white space only. A long answer is represented by its digest.
    """
    # Folding may undo the form: twice, as Unicode's own caseless matching does.
    text = normalise(normalise(answer).casefold())
    if _NUMBER.fullmatch(text):
        try:
            sign, digits, exponent = Decimal(text.replace(",", "")).as_tuple()
        except InvalidOperation:  # "." or "e5": no digits
            return text
        written = "".join(map(str, digits)).lstrip("0")
        short = written.rstrip("0")
        # A number itself, so no other text has this key.
        return f"{'-' * sign}{short}e{int(exponent) + len(written) - len(short)}" if short else "0"
    if len(text) <= 2 * DIGEST_BYTES:
        return text
    return f"\n{digest_bytes(text.encode('utf-8', 'surrogatepass'))}"


class AnswerCodes:
    """A number for every answer, in order of first appearance; holds a short key of each, not its text."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def code(self, answer: str | None) -> int:
        """Number of an answer, at least 0; -1 for None and for an answer without content."""
        key = "" if answer is None else compute_answer_key(answer)
        return self._known.setdefault(key, len(self._known)) if key else NO_ANSWER

    def column(self, texts: Any) -> np.ndarray:
        """int64 (n,): numbers of an Arrow column of strings; every distinct one is looked at once a chunk."""
        parts = [np.empty(0, dtype=np.int64)]
        for chunk in texts.chunks:
            encoded = chunk.dictionary_encode()
            known = [self.code(text) for text in encoded.dictionary.to_pylist()]
            indices = encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
            parts.append(np.array([*known, NO_ANSWER], dtype=np.int64)[indices])
        return np.concatenate(parts)


def as_codes(values: Any) -> np.ndarray:
    """int64 array, of the shape of the values: codes of answers that are given as an array or nested lists.

    Raises:
        InvalidInput: they are neither strings (or None) nor whole numbers from -1.
    """
    try:
        array = values if isinstance(values, np.ndarray) else np.array(values, dtype=object)
    except ValueError as error:
        raise InvalidInput("answers", _EXPECTED, str(error)) from error
    if not array.ndim:
        raise InvalidInput("answers", "an array or nested lists, shaped like rewards", values)
    if array.dtype.kind in "iu":
        return _check_lowest(array.astype(np.int64))
    flat = array.astype(object).ravel().tolist()
    if any(isinstance(one, (list, tuple)) for one in flat):
        raise InvalidInput("answers", "lists of equal length at every level", "lists that differ in length")
    # A missing label is NaN where it went through pandas.
    missing = [one is None or (isinstance(one, float) and one != one) for one in flat]
    kinds = {int if is_integral(one) else type(one) for one, none in zip(flat, missing, strict=True) if not none}
    if kinds <= {int}:
        codes = [NO_ANSWER if none else int(one) for one, none in zip(flat, missing, strict=True)]
    elif all(issubclass(kind, str) for kind in kinds):
        numbers = AnswerCodes()
        codes = [NO_ANSWER if none else numbers.code(one) for one, none in zip(flat, missing, strict=True)]
    else:
        found = next(one for one, none in zip(flat, missing, strict=True) if not none and not isinstance(one, str))
        raise InvalidInput("answers", _EXPECTED, found)
    return _check_lowest(np.array(codes, dtype=np.int64).reshape(array.shape))


def check_codes(values: Any, rewards: np.ndarray) -> np.ndarray:
    """Codes of answers as a table holds them: int32, read-only, -1 where the reward is missing.

    Args:
        values: int, of the shape of rewards.
        rewards: float64, NaN = missing.

    Raises:
        InvalidInput: no whole numbers, one below -1 or beyond int32, or another shape.
    """
    codes = np.asarray(values)
    if codes.dtype.kind not in "iu" or (codes.size and not NO_ANSWER <= codes.min() <= codes.max() <= _MAX_CODE):
        got = f"{codes.min()} to {codes.max()}" if codes.dtype.kind in "iu" else f"an array of {codes.dtype}"
        raise InvalidInput("answers", f"whole numbers from {NO_ANSWER} (none) to {_MAX_CODE}", got)
    if codes.shape != rewards.shape:
        raise InvalidInput("answers", f"the shape of rewards, {rewards.shape}", f"shape {codes.shape}")
    codes = np.where(np.isnan(rewards), NO_ANSWER, codes).astype(np.int32)
    codes.flags.writeable = False
    return codes


def renumber(codes: np.ndarray) -> np.ndarray | None:
    """Codes counted anew within each prompt, in order of first appearance: equal tables have equal ones.

    Args:
        codes: int (n_prompts, …), negative for none.

    Returns:
        int32 of the same shape, 0, 1, … or -1 for none; None where there is no answer at all.
    """
    flat = codes.reshape(len(codes), int(np.prod(codes.shape[1:])))
    prompt, place = np.nonzero(flat >= 0)
    if not len(prompt):
        return None
    _, shared = np.unique(flat[prompt, place], return_inverse=True)
    _, first, answer = np.unique(prompt * (shared.max() + 1) + shared, return_index=True, return_inverse=True)
    owner = prompt[first]  # of each distinct answer, in order of prompts
    order = np.lexsort((first, owner))
    rank = np.empty(len(first), dtype=np.int64)
    rank[order] = np.arange(len(first)) - np.searchsorted(owner, owner)
    found = np.full(flat.shape, NO_ANSWER, dtype=np.int32)
    found[prompt, place] = rank[answer]
    return found.reshape(codes.shape)


def _check_lowest(codes: np.ndarray) -> np.ndarray:
    """The codes themselves. Raises InvalidInput for one below -1."""
    if codes.size and codes.min() < NO_ANSWER:
        raise InvalidInput("answers", _EXPECTED, int(codes.min()))
    return codes
