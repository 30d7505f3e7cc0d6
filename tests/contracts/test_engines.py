"""Every engine through one contract: what `Engine` promises, whichever kind it is."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest

from hagpolicy import DecodingConfig, DecodingSpace, Engine, Prompt, Request, load_engine
from hagpolicy.config.fields import NEUTRAL
from hagpolicy.data.completion import Completion
from hagpolicy.engines.spec import ENGINES
from hagpolicy.errors import EngineError, InvalidInput

GREEDY, WARM = DecodingConfig(temperature=0.0), DecodingConfig(temperature=0.7)
LIMIT = 8
TEXTS = ("what is red", "name three colours", "count to ten")


@dataclass(frozen=True)
class Case:
    """One kind of engine, ready to generate.

    Attributes:
        make: gives a new engine; each call's is equal.
        failing: a cell that fails, whatever is beside it.
        lacks: a config that the engine cannot honour, and the names of the fields that it lacks.
    """

    make: Callable[[], Engine]
    failing: Request
    lacks: tuple[DecodingConfig, list[str]]


def cells(configs: Iterable[DecodingConfig]) -> list[Request]:
    """A unit of cells whose seeds all differ."""
    asked = [(text, config, sample) for text in TEXTS for config in configs for sample in range(2)]
    return [Request(Prompt(text), config, s, 100 + n, LIMIT) for n, (text, config, s) in enumerate(asked)]


def make_simulated_case(_: ExitStack) -> Case:
    options: dict[str, Any] = {"lacks": ["top_k"], "fail_rate": 0.2}
    failing = _find_failing_seed(load_engine("simulated:3", **options))
    return Case(lambda: load_engine("simulated:3", **options), failing, (DecodingConfig(top_k=5), ["top_k"]))


def make_transformers_case(_: ExitStack) -> Case:
    pytest.importorskip("torch")
    from tests.support.tiny_llama import tiny_model, tiny_tokenizer

    def make() -> Engine:
        # In float64, so that what is beside a cell changes no token of it.
        model = tiny_model(seed=3).double()
        model._is_stateful = True  # as a recurrent one says of itself: it cannot go back, so it drafts nothing
        return load_engine(model, tokenizer=tiny_tokenizer())

    failing = Request(Prompt("red " * 300), WARM, 0, 1, LIMIT)
    return Case(make, failing, (DecodingConfig(prompt_lookup_num_tokens=4), ["prompt_lookup_num_tokens"]))


def make_openai_case(stack: ExitStack) -> Case:
    pytest.importorskip("openai")
    from tests.support.stub_server import StubProcess

    stub = stack.enter_context(StubProcess(service=0.005))
    failing = Request(Prompt("[[400]] no"), WARM, 0, 1, LIMIT)
    return Case(lambda: load_engine(f"openai:{stub.url}"), failing, (DecodingConfig(top_k=5), ["top_k"]))


def make_vllm_case(_: ExitStack) -> Case:
    from hagpolicy.engines.vllm import VLLMEngine
    from tests.support.vllm_stand_in import StandIn

    failing = Request(Prompt("red " * 300), WARM, 0, 1, LIMIT)
    return Case(lambda: VLLMEngine(StandIn()), failing, (DecodingConfig(num_beams=3), ["num_beams"]))


def make_ray_case(stack: ExitStack) -> Case:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'hagpolicy[cluster]'")
    from hagpolicy.engines.ray.engine import RayEngine
    from tests.support.ray_cluster import start_cluster

    cluster = stack.enter_context(start_cluster())
    options: dict[str, Any] = {"lacks": ["top_k"], "fail_rate": 0.2}
    failing = _find_failing_seed(load_engine("simulated:3", **options))

    def make() -> Engine:
        return RayEngine("simulated:3", address=cluster.address, **options)

    return Case(make, failing, (DecodingConfig(top_k=5), ["top_k"]))


def _find_failing_seed(engine: Engine) -> Request:
    asked = [Request(Prompt(TEXTS[0]), WARM, 0, seed, LIMIT) for seed in range(50)]
    return next(r for r, done in zip(asked, engine.generate(asked), strict=True) if done.finish == "error")


CASES = {
    "simulated": make_simulated_case,
    "transformers": make_transformers_case,
    "openai": make_openai_case,
    "vllm": make_vllm_case,
    "ray": make_ray_case,
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    with ExitStack() as stack:
        yield CASES[request.param](stack)


@pytest.fixture(scope="module")
def engine(case: Case) -> Iterator[Engine]:
    made = case.make()
    yield made
    made.close()


@pytest.fixture(scope="module")
def good(engine: Engine) -> list[Request]:
    """A unit of cells that all get an answer, under every config of the standard space that the engine can run."""
    unit = cells(DecodingSpace.preset("standard", engine=engine))
    kept = [request for request, one in zip(unit, engine.generate(unit), strict=True) if one.finish != "error"]
    assert len(kept) >= len(unit) // 2
    return kept


def seen(completions: Sequence[Completion]) -> list[tuple[Any, ...]]:
    """What a completion holds but its time, which no request decides."""
    return [(c.text, c.tokens, c.prompt_tokens, c.finish, c.error, c.receipt) for c in completions]


def test_every_kind_is_here() -> None:
    assert set(CASES) == {*ENGINES, "ray"}


def test_it_names_itself_and_what_its_cells_depend_on(engine: Engine) -> None:
    assert engine.name
    assert engine.unit_cells >= 1
    fingerprint = dict(engine.fingerprint)
    assert {"kind", "model"} <= fingerprint.keys()
    assert all(isinstance(text, str) for text in (*fingerprint, *fingerprint.values()))
    assert json.loads(json.dumps(fingerprint)) == fingerprint


def test_its_default_is_a_config_that_it_can_run(engine: Engine) -> None:
    default = engine.default_config()
    assert isinstance(default, DecodingConfig)
    assert default == default.canonical()
    assert engine.unsupported(default) == []
    assert engine.unsupported(GREEDY) == engine.unsupported(WARM) == []


def test_what_it_lacks_is_named_and_never_passed_over(case: Case, engine: Engine, good: list[Request]) -> None:
    config, names = case.lacks
    assert engine.unsupported(config) == names
    assert set(names) <= NEUTRAL.keys()
    try:
        [completion] = engine.generate([replace(good[0], config=config)])
    except (EngineError, InvalidInput) as error:
        reason = str(error)
    else:
        assert completion.finish == "error"
        reason = completion.error or ""
    assert names[0] in reason


def test_it_passes_its_own_check(engine: Engine) -> None:
    engine.check()


def test_cells_come_back_in_their_order_whatever_is_beside_them(engine: Engine, good: list[Request]) -> None:
    whole = seen(engine.generate(good))
    assert len(whole) == len(good)
    assert len({text for text, *_ in whole}) > 1  # else no order could be seen
    assert seen(engine.generate(good[::-1])) == whole[::-1]
    assert [seen(engine.generate([request]))[0] for request in good] == whole
    for request, completion in zip(good, engine.generate(good), strict=True):
        assert completion.finish in ("stop", "length")
        assert completion.error is None
        assert completion.tokens <= request.max_tokens
        assert completion.seconds >= 0.0


def test_a_cell_that_fails_is_marked_and_the_others_are_not_touched(
    case: Case, engine: Engine, good: list[Request]
) -> None:
    clean, middle = seen(engine.generate(good)), len(good) // 2
    done = engine.generate([*good[:middle], case.failing, *good[middle:]])
    assert seen(done[:middle] + done[middle + 1 :]) == clean
    assert (done[middle].text, done[middle].finish) == ("", "error")
    assert done[middle].error


def test_an_answer_ends_before_what_stops_it(engine: Engine, good: list[Request]) -> None:
    whole = engine.generate(good)
    # Of every answer with something in it, what stands in its middle; words, so that tokens can be counted.
    stops = [(one.text[len(one.text) // 2 :][:3],) if len(one.text) > 3 else ("\x00",) for one in whole]
    assert len(set(stops)) > 1
    done = engine.generate([replace(request, stop=stop) for request, stop in zip(good, stops, strict=True)])
    for before, after, (stop,) in zip(whole, done, stops, strict=True):
        cut, found, _ = before.text.partition(stop)
        assert after.text == cut
        assert after.finish == ("stop" if found else before.finish)
        assert after.tokens <= before.tokens


def test_an_empty_unit_gives_nothing(engine: Engine) -> None:
    assert engine.generate([]) == []


def test_units_of_a_stream_come_back_by_their_numbers(case: Case, engine: Engine, good: list[Request]) -> None:
    drawn: list[threading.Thread] = []
    lacking = [replace(good[0], config=case.lacks[0])]

    def units() -> Iterator[list[Request]]:
        for number in range(8):
            drawn.append(threading.current_thread())
            yield lacking if number == 2 else [good[number % len(good)], good[(number + 1) % len(good)]]

    outcomes = dict(engine.stream(units()))
    assert sorted(outcomes) == list(range(8))
    assert set(drawn) == {threading.current_thread()}
    # A unit that fails as a whole stops no other.
    failed = outcomes.pop(2)
    assert isinstance(failed, Exception) or [one.finish for one in failed] == ["error"]
    for number, outcome in outcomes.items():
        assert not isinstance(outcome, Exception)
        assert seen(outcome) == seen(engine.generate([good[number % len(good)], good[(number + 1) % len(good)]]))


def test_units_are_drawn_as_there_is_room_and_a_stream_may_be_closed(engine: Engine, good: list[Request]) -> None:
    drawn = 0

    def units() -> Iterator[list[Request]]:
        nonlocal drawn
        for _ in range(2000):
            drawn += 1
            yield good[:1]

    stream = engine.stream(units())
    next(iter(stream))
    assert drawn < 2000
    stream.close()  # type: ignore[attr-defined]  # every engine's stream is a generator
    before = drawn
    assert seen(engine.generate(good[:1])) == seen(engine.generate(good[:1]))
    assert drawn == before
    assert list(engine.stream([])) == []


def test_equal_engines_have_equal_fingerprints_and_close_twice(case: Case, engine: Engine) -> None:
    # A cluster of one core has room for one engine at a time.
    expected = dict(engine.fingerprint)
    engine.close()
    again = case.make()
    try:
        assert dict(again.fingerprint) == expected
        assert again.name == engine.name
    finally:
        again.close()
        again.close()
    engine.close()
