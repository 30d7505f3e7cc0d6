"""Every config field at every engine and in every dialect: it gets there, or the engine says that it cannot.

A field that is lost on the way makes a sweep that looks fine and compares nothing. So each field's value is changed
beside each way of decoding, and either the engine names the field as unsupported, or what it generates, or asks a
server for, has changed. What each engine lacks is written down here, so that a field that was handled is missed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hagpolicy import DecodingConfig, DecodingSpace, Prompt, Request, SimulatedEngine
from hagpolicy.config.constraints import Constraint
from hagpolicy.config.dialects import DIALECTS, OF_CHATS, Dialect
from hagpolicy.config.fields import ARTEFACT_FIELDS, FIELDS, NEUTRAL, SPECS, find_idle_fields
from hagpolicy.config.render import Receipt, render_as
from hagpolicy.config.servers import SERVERS, make_request_body
from hagpolicy.config.slots import fill_slots
from hagpolicy.data.store.cells import View
from hagpolicy.engines.ray.actor import EngineActor
from hagpolicy.engines.spec import EngineSpec
from hagpolicy.errors import UnsupportedSetting
from tests.support.bold_fields import BESIDE, BOLD
from tests.support.stub_server import StubProcess

# Settings of no request: a model in this process has those that it was given, a server adapters.
ARTEFACTS = {*ARTEFACT_FIELDS, "soft_tokens", "reference_weight"}
OF_GENERATE = {"no_repeat_ngram_size", "num_beams", "length_penalty", "prompt_lookup_num_tokens"}
BEYOND_ENGINES = {*OF_GENERATE, *ARTEFACTS}
BEYOND_OPENAI = {"top_k", "min_p", "typical_p", "repetition_penalty", *BEYOND_ENGINES}
THINKING = set(OF_CHATS)
SWITCH_AND_BUDGET = THINKING - {"reasoning_effort"}
DIALECTS_LACK: dict[str, set[str]] = {
    "transformers": ARTEFACTS,
    "vllm": {"typical_p", *BEYOND_ENGINES},
    "sglang": {"typical_p", "thinking_budget", *BEYOND_ENGINES},
    "openai": BEYOND_OPENAI | SWITCH_AND_BUDGET,
    "llama_cpp": BEYOND_ENGINES,
    "ollama": BEYOND_ENGINES | {"thinking_budget"},
}
SERVERS_LACK: dict[str, set[str]] = {
    "vllm": {"typical_p", *BEYOND_ENGINES},
    "sglang": {"typical_p", "thinking_budget", *BEYOND_ENGINES},
    "llama_cpp": BEYOND_ENGINES,
    "llama_cpp_python": {"typical_p", *BEYOND_ENGINES, *THINKING},
    "ollama": BEYOND_OPENAI | SWITCH_AND_BUDGET,
    "transformers_serve": {"presence_penalty", "frequency_penalty", *ARTEFACTS},
    "openai": BEYOND_OPENAI | SWITCH_AND_BUDGET,
    "compatible": BEYOND_OPENAI | THINKING,
}
ENGINES_LACK: dict[str, set[str]] = {
    "transformers": {"endpoint"},
    "vllm": DIALECTS_LACK["vllm"],
    "simulated": set(),
    "ray": {"top_k", "hint"},  # as the engine of its workers
    **{f"openai:{server}": lacks - {"adapter", "endpoint"} for server, lacks in SERVERS_LACK.items()},
}
CONSTRAINT = Constraint(choices=("red", "blue sky"))
PROMPTS = (
    Prompt("name three red colours . think step by step .", constraint=CONSTRAINT),
    Prompt("why is the sky blue ? say hello again", constraint=CONSTRAINT),
)
LIMIT = 12
# Of the simulated world, in which a config that differs moves a chance: it takes many draws to be seen.
WORLD = {"gap": 0.3, "config_effect": 0.2}
DRAWS, WORLD_DRAWS = 4, 200


@dataclass
class Tried:
    """An engine, and what shows what reached it.

    Attributes:
        handles, unsupported: see `Engine`.
        observe: what the engine makes of requests, as far as a field of that name can change it.
        draws: of each prompt, by which a field is seen.
    """

    handles: frozenset[str]
    unsupported: Callable[[DecodingConfig], list[str]]
    observe: Callable[[list[Request], str], Any]
    draws: int = DRAWS


def requests(config: DecodingConfig, draws: int) -> list[Request]:
    """Cells as a sweep makes them: the config's own limit takes the place of the sweep's."""
    view = View(PROMPTS, DecodingSpace([config]), 1, LIMIT, 0, None, ("none",) * len(PROMPTS))
    return [Request(prompt, config, seed, seed, view.limit(0)) for prompt in PROMPTS for seed in range(draws)]


def ask_for(config: DecodingConfig) -> set[str]:
    """Names of the fields that ask something of an engine."""
    fields = config.fields()
    return {name for name in FIELDS if fields[name] != NEUTRAL[name]} - find_idle_fields(fields)


def pairs(name: str) -> Iterator[tuple[DecodingConfig, DecodingConfig]]:
    """Configs without and with a value of a field, beside each way of decoding that the field says nothing of.

    A request without settings has no other way of decoding beside it; greedy decoding may be what it gets.
    """
    for beside in BESIDE.values():
        if name not in beside and not (name == "unset" and beside):
            plain = DecodingConfig.from_dict(beside)
            yield plain, plain.replace(**{name: BOLD[name]})


def try_transformers(folder: Path) -> Tried:
    from hagpolicy.engines.transformers.engine import TransformersEngine
    from tests.support.tiny_adapter import save_adapter
    from tests.support.tiny_artefacts import save_memory, save_references
    from tests.support.tiny_llama import thinking_tokenizer, tiny_model
    from tests.support.tiny_prefix import save_prefix

    model = tiny_model(seed=1, words=4)
    given = {
        "adapter": {BOLD["adapter"]: save_adapter(model, folder / "adapter", strength=1.0)},
        "soft_prefix": {BOLD["soft_prefix"]: save_prefix(folder / "prefix")},
        "reference": {BOLD["reference"]: save_references(model, folder / "reference")},
        "draft_source": {BOLD["draft_source"]: save_memory(folder / "memory")},
    }
    engine = TransformersEngine(model.double(), thinking_tokenizer(), name="tiny", artifacts=given)

    def observe(unit: list[Request], name: str) -> Any:
        completions = engine.generate(unit)
        assert not [completion.error for completion in completions if completion.error]
        if name in ("prompt_lookup_num_tokens", "draft_source"):  # the same greedy text, in other passes
            return [completion.passes for completion in completions]
        return [(completion.text, completion.reasoning, completion.tokens) for completion in completions]

    return Tried(engine.handles, engine.unsupported, observe)


def try_vllm() -> Tried:
    from hagpolicy.engines.vllm import VLLMEngine
    from tests.support.vllm_stand_in import StandIn

    llm = StandIn(said={"top_p": 0.9}, thinking=True)
    engine = VLLMEngine(llm)

    def observe(unit: list[Request], name: str) -> Any:
        completions = engine.generate(unit)
        assert not [completion.error for completion in completions if completion.error]
        return [(prompt, vars(row)) for prompt, row in llm.calls[-1]]

    return Tried(engine.handles, engine.unsupported, observe)


def try_simulated() -> Tried:
    engine = SimulatedEngine(3, **WORLD)
    return Tried(engine.handles, engine.unsupported, lambda unit, _: engine.generate(unit), WORLD_DRAWS)


def try_ray() -> Tried:
    """What a Ray worker holds, which is what `RayEngine` asks and sends requests to."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # the actor sets them for its process
            patch.setenv(name, os.environ.get(name, "1"))
        actor = EngineActor(EngineSpec.parse("simulated:3", lacks=sorted(ENGINES_LACK["ray"]), **WORLD), 1)

    def observe(unit: list[Request], name: str) -> Any:
        result = actor.generate(unit)
        assert result.failure is None
        return result.completions

    return Tried(actor.handles(), actor.unsupported, observe, WORLD_DRAWS)


def try_openai(server: str, stub: StubProcess) -> Tried:
    pytest.importorskip("openai")
    from hagpolicy.engines.openai.client import Client, Key
    from hagpolicy.engines.openai.engine import OpenAIEngine

    client = Client(stub.url, Key("HAG_NO_KEY", needed=False), timeout=20, connections=1)
    named = {BOLD["adapter"]: "0" if server == "llama_cpp" else "bold-lora"}
    there = OpenAIEngine(client, "there", server=server, adapters=named)
    engine = OpenAIEngine(client, "stub", server=server, adapters=named, endpoints={BOLD["endpoint"]: there})

    def observe(unit: list[Request], name: str) -> Any:
        stub.clear()
        [completion] = engine.generate(unit[:1])
        assert completion.error is None
        return [note["body"] for note in stub.record()]

    return Tried(engine.handles, engine.unsupported, observe)


@pytest.fixture(scope="module")
def stub() -> Iterator[StubProcess]:
    with StubProcess() as process:
        yield process


@pytest.fixture(scope="module", params=ENGINES_LACK)
def tried(
    request: pytest.FixtureRequest, stub: StubProcess, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Tried]:
    kind, _, server = request.param.partition(":")
    if kind in ("transformers", "vllm"):
        pytest.importorskip("torch")
    if kind == "transformers":
        return kind, try_transformers(tmp_path_factory.mktemp("artefacts"))
    makers = {"vllm": try_vllm, "simulated": try_simulated, "ray": try_ray}
    return request.param, try_openai(server, stub) if server else makers[kind]()


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_reaches_the_engine_or_is_reported(tried: tuple[str, Tried], name: str) -> None:
    lacks, engine = ENGINES_LACK[tried[0]], tried[1]
    assert (name in engine.handles) == (name not in lacks)
    reported = observed = 0
    for plain, changed in pairs(name):
        missing = ask_for(changed) & lacks
        assert set(engine.unsupported(changed)) == missing
        if name in missing:
            reported += 1
        elif not missing and name in ask_for(changed):
            observed += 1
            before, after = (engine.observe(requests(config, engine.draws), name) for config in (plain, changed))
            assert before != after, changed
    assert bool(reported) == (name in lacks)
    assert bool(observed) == (name not in lacks)


def test_slots_of_a_hint_are_filled_before_any_engine(tried: tuple[str, Tried]) -> None:
    """What it is sent is what it is sent of the hint written out; where a prompt has nothing, of no hint."""
    if tried[0] in ("simulated", "ray"):
        pytest.skip("what it writes follows from the config's digest")
    made = []
    for slot in ("say {keywords} again", "say {numbers}"):
        slotted = DecodingConfig(temperature=0.0, hint=slot)
        unit = requests(slotted, 1)
        written = [
            dataclasses.replace(one, config=slotted.replace(hint=fill_slots(slot, one.prompt.text))) for one in unit
        ]
        made.append(tried[1].observe(unit, "hint"))
        assert made[-1] == tried[1].observe(written, "hint")
    assert made[0] != made[1]


def check_account(receipt: Receipt, config: DecodingConfig, lacks: set[str]) -> None:
    """A receipt names every field that is not neutral once, and says of it what is true."""
    asked = config.to_dict()
    applied = {name: value for name, value in receipt.applied.items() if name not in receipt.idle}  # else sent neutral
    parts = (applied, receipt.dropped, receipt.clamped, receipt.idle)
    for name, value in asked.items():
        assert sum(name in part for part in parts) == 1, name
        assert (name in receipt.idle) == (name in find_idle_fields(config.fields()))
        assert (name in receipt.dropped) == (name in ask_for(config) & lacks)
        assert value == next(part[name] for part in parts if name in part)


def refuse(lacking: set[str], title: str) -> contextlib.AbstractContextManager[Any]:
    """Expects an error that names one of the fields that are lacking; none where none is."""
    if not lacking:
        return contextlib.nullcontext()
    return pytest.raises(UnsupportedSetting, match=f"({'|'.join(lacking)}) on {re.escape(title)}")


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("engine", DIALECTS)
def test_a_dialect_says_a_field_or_what_became_of_it(engine: str, name: str) -> None:
    dialect = DIALECTS[engine]
    for plain, changed in pairs(name):
        before, after = (
            config.render(engine, "Hello", unsupported="drop", constraint=CONSTRAINT) for config in (plain, changed)
        )
        check_account(after.receipt, changed, DIALECTS_LACK[engine])
        with refuse(ask_for(changed) & DIALECTS_LACK[engine], engine):
            changed.render(engine)
        same = (before.kwargs, before.prompt, before.processor_settings, before.beside) == (
            after.kwargs, after.prompt, after.processor_settings, after.beside,
        )  # fmt: skip
        assert same == (name not in ask_for(changed) & dialect.handles)
        if not same and name in dialect.settings and name != "temperature":
            setting = dialect.settings[name]
            for path in setting.paths:
                found: Any = after.beside if setting.beside else after.kwargs
                for key in path:
                    found = found[key]
                assert found == BOLD[name]


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("chat", [True, False], ids=["chat", "completions"])
def test_a_servers_request_says_a_field_or_what_became_of_it(server: str, name: str, chat: bool) -> None:
    for plain, changed in pairs(name):
        before, after = (
            make_request_body(
                server, config.fields(), seed=1, max_tokens=config.max_tokens or LIMIT, chat=chat, unsupported="drop"
            )
            for config in (plain, changed)
        )
        lacks = SERVERS_LACK[server] | (set() if chat else THINKING)
        check_account(after.receipt, changed, lacks)
        with refuse(ask_for(changed) & lacks, SERVERS[server].title):
            make_request_body(server, changed.fields(), seed=1, max_tokens=LIMIT, chat=chat)
        if name not in ("hint", "constrain"):  # in the messages, which the engine writes
            same = (before.body, before.extra_body) == (after.body, after.extra_body)
            assert same == (name not in ask_for(changed) & SERVERS[server].get_dialect(chat=chat).handles)


def test_rows_carry_what_they_are_decoded_by_and_nothing_else() -> None:
    """Where a step is no longer named for its field, the field goes to the model's own `generate`: slow, not lost."""
    pytest.importorskip("torch")
    from hagpolicy.engines.transformers.rows import RowSettings
    from hagpolicy.engines.transformers.sampling import STEPS

    assert {spec.name for spec in dataclasses.fields(RowSettings)} == set(STEPS)


RANGES = [
    pytest.param(dialect, name, id=f"{title}-{name}")
    for title, dialect in [*DIALECTS.items(), *((entry.title, entry.dialect) for entry in SERVERS.values())]
    for name, setting in dialect.settings.items()
    if setting.low > SPECS[name].low or setting.high < SPECS[name].high
]


@pytest.mark.parametrize(("dialect", "name"), RANGES)
def test_a_value_beyond_the_range_of_an_engine_is_clamped_and_noted(dialect: Dialect, name: str) -> None:
    setting, spec = dialect.settings[name], SPECS[name]
    edges = [(low, setting.low) for low in [setting.low - 1.0] if low >= spec.low]
    edges += [(high, setting.high) for high in [setting.high + 1.0] if high <= spec.high]
    assert edges
    for value, edge in edges:
        rendering = render_as(dialect, {name: value}, "it", unsupported="drop")
        assert rendering.receipt.clamped == {name: (value, edge)}
        assert rendering.kwargs[setting.key] == edge


def test_a_field_that_nobody_knows_is_reported_by_every_engine() -> None:
    """The row of a field of tomorrow is put behind the others, and nothing else is written."""
    pytest.importorskip("torch")
    pytest.importorskip("openai")
    code = """
import importlib.util, pathlib, sys, types
path = pathlib.Path(importlib.util.find_spec("hagpolicy").origin).parent / "config" / "fields.py"
row = '    novel: float = _number(0.0, "nothing yet", 0.0)\\n\\n    def __post_init__'
source = path.read_text("utf-8").replace("    def __post_init__", row, 1)
module = sys.modules["hagpolicy.config.fields"] = types.ModuleType("hagpolicy.config.fields")
exec(compile(source, str(path), "exec"), module.__dict__)

from hagpolicy import DecodingConfig, DecodingSpace, Prompt, Request, SimulatedEngine
from hagpolicy.config.constraints import Constraint
from hagpolicy.config.dialects import DIALECTS
from hagpolicy.config.servers import SERVERS, list_lacking
from hagpolicy.engines.transformers.engine import TransformersEngine
from hagpolicy.engines.vllm import VLLMEngine
from tests.support.tiny_llama import tiny_model, tiny_tokenizer
from tests.support.vllm_stand_in import StandIn

config, greedy = DecodingConfig(novel=1.0), DecodingConfig(novel=1.0, temperature=0.0, num_beams=2)
assert DecodingConfig(novel=0.0).digest == DecodingConfig().digest != config.digest
assert DecodingSpace.grid(novel=[0, 1]).varying == ("novel",)
tiny = TransformersEngine(tiny_model(), tiny_tokenizer())
for engine in (tiny, VLLMEngine(StandIn())):
    assert "novel" not in engine.handles
    assert engine.unsupported(config) == ["novel"] and "novel" in engine.unsupported(greedy)
for one in (config, greedy):
    [completion] = tiny.generate([Request(Prompt("why ?"), one, 0, 0, 4)])
    assert (completion.finish, completion.text) == ("error", "") and "novel" in completion.error
for engine in DIALECTS:
    assert config.render(engine, unsupported="drop").receipt.dropped == {"novel": 1.0}
for server in SERVERS:
    assert list_lacking(server, config.fields()) == ["novel"]
world = SimulatedEngine(1)
assert world.unsupported(config) == []
assert world.truth(["a"], [config]) != world.truth(["a"], [DecodingConfig()])
print("all know nothing of it")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "all know nothing of it\n", done.stderr
