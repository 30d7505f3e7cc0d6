"""User functions as scorers: sync, async, or on a whole batch."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import tokenize
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hagpolicy._checks import is_number
from hagpolicy._digest import canonical_json, digest
from hagpolicy.data.completion import Completion
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Score, Scorer
from hagpolicy.scorers.checked import describe_error, join_reasoning, validate_score

_CONVENTION = (
    "f(text), f(text, reference), f with the names text, reference, prompt, completion, or batch=True f(items)"
)


# What a function's parameters may be called to get it.
_NAMES = ("text", "reference", "prompt", "completion")


class FunctionScorer(Scorer):
    """A scorer made of a function, plain or `async def`.

    Conventions:
        f(text): the reward of one completion's text.
        f(text, reference): the same, with the prompt's reference (None where it has none). A second
            parameter with a default gets the reference only if it is called `reference`.
        f(…) with parameters of these names alone, in any order: `text`, `reference`, `prompt` (a `Prompt`, with task
            and metadata) and `completion` (with finish and tokens).
        f(items), with batch=True: the rewards of a list of (Prompt, Completion), in its order.

    The text is the answer alone, without the reasoning that some models write before it in tags such as <think>;
    with reasoning=True it is the whole text as stored, with reasoning that came apart from it in such tags before it.

    A reward is a number in [0, 1], or in `range`, or a `Score`. What else comes back (None, NaN, 2.0, text), and an
    item on which the function raises, is unscored with the reason. Async functions run `concurrency`
    at a time, every batch in an event loop of its own.

    Args:
        function: as above.
        name: shown in tables; default: the function's own.
        version: to be changed whenever the same text could get another reward; default: a digest
            of the function's source, or its name where there is no source to be had. A change in
            what the function calls, or closes over, is not seen: give a version then.
        batch: True for f(items).
        needs_reference: True refuses prompts without a reference before a sweep.
        concurrency: async calls in flight at once, at least 1.
        reasoning: True shows the function whole texts, reasoning tags and all.
        range: (worst, best) of the numbers that the function gives, such as (1, 10), which become 0 and 1; a Score
            stays as it is.

    Raises:
        InvalidInput: no function, no range, or its parameters fit none of the conventions.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        version: str | None = None,
        batch: bool = False,
        needs_reference: bool = False,
        concurrency: int = 16,
        reasoning: bool = False,
        range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        if not callable(function):
            raise InvalidInput("scorer", f"a function {_CONVENTION}", function)
        if concurrency < 1:
            raise InvalidInput("scorer.concurrency", "a whole number of at least 1", concurrency)
        self.function = function
        self.name = name or _derive_name(function)
        self.version = version if version is not None else _derive_version(function)
        self.batch = batch
        self.needs_reference = needs_reference
        self.needs_reasoning = reasoning
        self.concurrency = concurrency
        self.range = _check_range(range)
        if self.range != (0.0, 1.0):
            self.version += f" in [{range[0]:g}, {range[1]:g}]"
        self._named = () if batch else _read_names(function)
        self._two = not self._named and _takes_reference(function, self.name, batch)

    def score(self, items: Sequence[tuple[Prompt, Completion]]) -> list[Score]:
        """Rewards in order. A batch function that raises, or returns another number of rewards, raises here."""
        if self.needs_reasoning:
            items = [join_reasoning(*item) for item in items]
        if self.batch:
            given = self.function(list(items))
            if inspect.isawaitable(given):
                (given,) = _await_all([given], 1)
                if isinstance(given, Exception):
                    raise given
            scores = [self._validate(value) for value in given]
            if len(scores) != len(items):
                raise InvalidInput(f"scorer {self.name}", f"one reward an item, {len(items)}", f"{len(scores)}")
            return scores
        given = [self._call(prompt, completion) for prompt, completion in items]
        pending = [index for index, value in enumerate(given) if inspect.isawaitable(value)]
        for index, value in zip(pending, _await_all([given[i] for i in pending], self.concurrency), strict=True):
            given[index] = value
        return [
            Score.unscored(describe_error(value)) if isinstance(value, Exception) else self._validate(value)
            for value in given
        ]

    def _call(self, prompt: Prompt, completion: Completion) -> Any:
        try:
            if self._named:
                known = {"text": completion.text, "reference": prompt.reference}
                known |= {"prompt": prompt, "completion": completion}
                return self.function(**{name: known[name] for name in self._named})
            return self.function(completion.text, *([prompt.reference] if self._two else []))
        except Exception as error:  # a user's function may raise anything; it costs this item only
            return error

    def _validate(self, value: Any) -> Score:
        """The score that a value means, brought from the function's range to [0, 1]."""
        worst, best = self.range
        if (worst, best) == (0.0, 1.0) or not is_number(value):
            return validate_score(value)
        if not min(worst, best) <= value <= max(worst, best):
            return Score.unscored(f"a reward of {value:g}, not in [{worst:g}, {best:g}]")
        return validate_score((float(value) - worst) / (best - worst))

    def __repr__(self) -> str:
        return f"FunctionScorer({self.name!r}, version={self.version!r})"


def _read_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the parameters, where all of them are named after what they get and one of them is more than text and
    reference in that order; else none. Those with a default get it all the same."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return ()
    names = tuple(p.name for p in parameters)
    known = all(p.name in _NAMES and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters)
    return names if known and names not in {(), ("text",), ("text", "reference")} else ()


def _check_range(given: Any) -> tuple[float, float]:
    """The range as two numbers that differ."""
    pair = tuple(given) if isinstance(given, (tuple, list)) else ()
    if len(pair) != 2 or not all(is_number(end) and abs(end) < float("inf") for end in pair) or pair[0] == pair[1]:
        raise InvalidInput("range", "two different numbers, the worst and the best", given)
    return float(pair[0]), float(pair[1])


def _takes_reference(function: Callable[..., Any], name: str, batch: bool) -> bool:
    """True where the function is to be called with text and reference."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some functions written in C tell nothing
        return not batch
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    starred = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if named or len(required) > (1 if batch else 2) or not (positional or starred):
        raise InvalidInput(f"scorer {name}", f"a function {_CONVENTION}", f"{name}{inspect.signature(function)}")
    if not batch and positional and positional[0].name in ("prompt", "reference", "completion"):
        got = f"{name}{inspect.signature(function)}"
        raise InvalidInput(f"scorer {name}", f"a function {_CONVENTION}", got, "Name the others after what they get.")
    second = positional[1] if len(positional) > 1 else None
    return not batch and (len(required) == 2 or (second is not None and second.name == "reference") or not positional)


def _derive_name(function: Callable[..., Any]) -> str:
    if isinstance(function, functools.partial):
        return _derive_name(function.func)
    name = getattr(function, "__name__", None) or type(function).__name__
    return "lambda" if name == "<lambda>" else str(name)


def _derive_version(function: Callable[..., Any]) -> str:
    bound: Any = None
    inner: Any = function
    if isinstance(inner, functools.partial):
        bound, inner = [list(inner.args), inner.keywords], inner.func
    if not (inspect.isroutine(inner) or inspect.isclass(inner)):
        inner = type(inner)  # an object with __call__: its class says what it does
    try:
        return "source:" + digest([inspect.getsource(inner), canonical_json(bound)])[:12]
    # What stands in its file may be no longer what was run, and no Python at all.
    except (OSError, TypeError, ValueError, SyntaxError, tokenize.TokenError):
        return "name:" + _derive_name(function)


def _await_all(pending: Sequence[Awaitable[Any]], concurrency: int) -> list[Any]:
    """Results in order, or the exceptions raised. Works where an event loop is already running, as in a notebook."""
    if not pending:
        return []

    async def run() -> list[Any]:
        gate = asyncio.Semaphore(concurrency)

        async def one(awaitable: Awaitable[Any]) -> Any:
            async with gate:
                return await awaitable

        return await asyncio.gather(*map(one, pending), return_exceptions=True)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run())
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.extend(asyncio.run(run())), name="hagpolicy-scorer")
    thread.start()
    thread.join()
    return results
