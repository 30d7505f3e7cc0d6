"""The config that stands for prompts in general, written where an engine reads its defaults."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hagpolicy import __version__
from hagpolicy._files import (
    check_path,
    check_replaceable,
    format_json,
    parse_json,
    read_regular,
    write_text,
)
from hagpolicy._text import format_count, replace_controls
from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.dialects import Dialect
from hagpolicy.config.render import Receipt, render_as
from hagpolicy.config.slots import find_slots
from hagpolicy.errors import InvalidInput
from hagpolicy.serving.default_formats import DEFAULT_FORMATS, DefaultFormat, server_dialect
from hagpolicy.serving.rewrite import find_server

if TYPE_CHECKING:
    from hagpolicy.policy.policy import Policy

__all__ = ["ExportedDefaults", "explain_unproven", "export_defaults"]

_NAME, _SIDECAR = "generation_config.json", "generation_config.hagpolicy.json"
_OURS = "Written by hagpolicy"
_LARGEST = 1 << 20  # bytes of a generation_config.json, of which the whole is looked at


@dataclass(frozen=True)
class ExportedDefaults:
    """What was written as an engine's default.

    Attributes:
        to: the format, a name in `DEFAULT_FORMATS`.
        path: the file; None where none was asked for.
        text: what the file holds.
        config: that stands for prompts in general.
        settings: the same under the engine's own names.
        proven: what was proven of it, in words.
        not_said: what the engine's defaults cannot say of it, in words; empty where they say all.
        notes: how the engine's meaning differs, in words.
    """

    to: str
    path: Path | None
    text: str
    config: DecodingConfig
    settings: dict[str, Any]
    proven: tuple[str, ...]
    not_said: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping."""
        path = None if self.path is None else str(self.path)
        return {**vars(self), "path": path, "config": self.config.to_dict()}


def explain_unproven(policy: Policy) -> str:
    """Why there is nothing to export, in one line; "" where there is a config that was proven, or none is known to run
    today."""
    if policy.reference_index == policy.default_index:
        beside = "only a choice per prompt is: use hagpolicy.wrap" if policy.ships == "per_prompt" else "it stands"
        return f"no single config is proven over what runs today ({policy.reference}); {beside}"
    if policy.reference.unset:
        return "the config that stands sends no setting at all: the engine's own defaults are what is proven"
    return ""


def export_defaults(
    policy: Policy,
    to: str,
    path: str | Path | None = None,
    *,
    model: str = "",
    server: str = "",
    command: str = "",
    replace: bool = False,
) -> ExportedDefaults:
    """Write `policy.reference`, the config that stands for prompts in general, where an engine reads its defaults.

    The file, or for a generation_config.json the file beside it, says what was proven, on what, and what could not be
    said. It is written whole or not at all. An older export is replaced; keys of a generation_config.json that are no
    settings of ours are kept.

    Args:
        policy: with a single config that is proven over what runs today.
        to: "generation_config", "modelfile", "llama-server", "vllm" or "litellm".
        path: the file; for a generation_config.json its folder, or the file itself. None: nothing is written.
        model: for a Modelfile what stands after FROM; for LiteLLM "PROVIDER/NAME".
        server: behind LiteLLM, a name in `config.servers.SERVERS`; "": the one that was swept.
        command: that is named in the file; "": none.
        replace: a regular file of another origin may be replaced.

    Raises:
        InvalidInput: nothing is proven, an unknown format, no model where one is needed, or a file that is not ours.
        OSError: it cannot be written; what was there is untouched.
    """
    form = DEFAULT_FORMATS[to]
    if why := explain_unproven(policy):
        raise InvalidInput("policy", "a single config that is proven over what runs today", f"none: {why}")
    _check_model(to, form, model)
    dialect = form.dialect or server_dialect(server or find_server(policy))
    made = _render(policy, to, form, dialect)
    where = None if path is None else check_path(path, "path")
    if form.write is None:
        return _write_generation_config(made, form, where, command, replace)
    header = [f"# {replace_controls(line)}" for line in _describe(made, form, where, command)]
    text = "\n".join([*header, *form.write(model, made.settings), ""])
    if where is not None:
        check_replaceable(where, lambda head: replace or head.startswith(b"# " + _OURS.encode()), "an older export")
        write_text(where, text)
    return ExportedDefaults(**{**vars(made), "path": where, "text": text})


def _check_model(to: str, form: DefaultFormat, model: str) -> None:
    """Refuse a missing model, and one that would end its line."""
    if form.needs_model and (not model.strip() or replace_controls(model) != model):
        raise InvalidInput("model", f"for {to} the name of {form.needs_model}", model or "none")


def _render(policy: Policy, to: str, form: DefaultFormat, dialect: Dialect) -> ExportedDefaults:
    """The config under the engine's names, with what is proven of it and what is lost; not written yet."""
    config = policy.reference
    rendering = render_as(dialect, config.fields(), form.title, unsupported="drop")
    said = {name for name, value in config.to_dict().items() if name in rendering.receipt.applied}
    notes = [f"{name}: {rendering.receipt.notes[name]}" for name in rendering.receipt.notes if name in said]
    notes += [form.note] * bool(form.note)
    if form.write is None:
        notes += _list_traps(config)
    losses = _list_losses(config, rendering.receipt, form)
    return ExportedDefaults(to, None, "", config, rendering.kwargs, _describe_proof(policy), losses, tuple(notes))


# Of `transformers serve` when a request names no limit.
_SERVE_LIMIT = 1024


def _list_traps(config: DecodingConfig) -> list[str]:
    """Where a generation_config.json does other than it says, by transformers' and vLLM's sources."""
    traps = []
    if config.deterministic:
        traps.append("vLLM reads this file too, but not do_sample: there it is temperature 1; use --to vllm for it")
        traps.append("a temperature in a request does nothing in `transformers serve`, which leaves do_sample false")
    if config.max_tokens is not None and config.max_tokens < _SERVE_LIMIT:
        traps.append(f"`transformers serve` raises max_new_tokens to {_SERVE_LIMIT} where a request names no limit")
    return traps


def _list_losses(config: DecodingConfig, receipt: Receipt, form: DefaultFormat) -> tuple[str, ...]:
    """What the engine's defaults cannot say of a config, in words."""
    lost = [f"{name}={value!r}: {form.title} cannot say it" for name, value in receipt.dropped.items()]
    lost += [f"{name}={asked!r}: said as {sent!r}" for name, (asked, sent) in receipt.clamped.items()]
    if config.hint:
        slots = ", or fills its slots" if find_slots(config.hint) else ""
        lost.append(f"hint={config.hint!r}: it belongs to each prompt, and no default of an engine adds it{slots}")
    return tuple(lost)


def _describe_proof(policy: Policy) -> tuple[str, ...]:
    """What was proven of the config that stands: gain with its interval, over what, on what."""
    point, default = policy.dial.points[0], policy.default_index
    evaluation = point.evaluation
    gain = None if evaluation is None else evaluation.sbs_over_default
    lines = []
    if evaluation is None or gain is None or default is None:
        lines.append("the best config on average; what runs today is not known, so nothing is proven over it")
    else:
        lines.append(f"{point.name}: {gain:+} (95 % interval) over what runs today ({list(policy.space)[default]})")
    if evaluation is not None:
        groups = format_count(evaluation.n_groups, "independent group")
        lines.append(f"on {format_count(evaluation.n_prompts, 'prompt')} in {groups}")
        if policy.ships == "per_prompt" and evaluation.candidate is not None:
            beyond = f"{evaluation.candidate.gain:+} over this config"
            lines.append(f"a choice for each prompt is proven too, {beyond}: no file says it, hagpolicy.wrap does")
    engine = ", ".join(f"{name} {value}" for name, value in policy.fingerprint.items())
    limit = f", at most {policy.max_tokens} new tokens an answer" if policy.max_tokens else ""
    return (*lines, f"for the engine that was swept ({engine or 'not known'}){limit}")


def _describe(made: ExportedDefaults, form: DefaultFormat, path: Path | None, command: str) -> list[str]:
    """The lines of the comment at the head of a file."""
    return [
        f"{_OURS} {__version__}: defaults for prompts in general; what a request says itself stands.",
        f"config: {made.config}",
        *(f"proven: {line}" for line in made.proven),
        *(f"not said here: {line}" for line in made.not_said or ("nothing is left out",)),
        *(f"note: {line}" for line in made.notes),
        *([f"command: {command}"] if command else []),
        form.checked,
        f"use: {form.use.format(path='FILE' if path is None else shlex.quote(str(path)))}",
    ]


def _write_generation_config(
    made: ExportedDefaults, form: DefaultFormat, path: Path | None, command: str, replace: bool
) -> ExportedDefaults:
    """Update a generation_config.json, and write beside it what was proven and what the replaced keys were."""
    if path is None:
        return ExportedDefaults(**{**vars(made), "text": format_json(made.settings) + "\n"})
    path = path if path.name == _NAME else path / _NAME
    sidecar = path.with_name(_SIDECAR)
    check_replaceable(path, lambda head: replace or _parse_mapping(head) is not None, f"a {_NAME}")
    check_replaceable(sidecar, lambda head: replace or _is_our_sidecar(head), "an older export")
    before, earlier = _read_mapping(path), _read_mapping(sidecar)
    # It said that the file was made of config.json alone, from which transformers may then make it anew.
    before_of_ours = {key: before.get(key) for key in (*made.settings, "_from_model_config") if key in before}
    kept = {key: value for key, value in before.items() if key != "_from_model_config"}
    text = format_json({**kept, **made.settings}) + "\n"
    told = {
        "made_by": f"{_OURS} {__version__}: defaults for prompts in general; what a call says itself stands",
        "config": made.config.to_dict(),
        **{name: list(getattr(made, name)) for name in ("proven", "not_said", "notes")},
        "checked": form.checked,
        "command": command,
        "written": made.settings,
        # Those of the first export: what the model's makers set.
        "replaced": earlier.get("replaced", before_of_ours),
    }
    write_text(sidecar, format_json(told) + "\n")  # first: it holds what the other is about to lose
    write_text(path, text)
    return ExportedDefaults(**{**vars(made), "path": path, "text": text})


def _is_our_sidecar(head: bytes) -> bool:
    return str((_parse_mapping(head) or {}).get("made_by", "")).startswith(_OURS)


def _read_mapping(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no such file, or it holds none."""
    try:
        return _parse_mapping(read_regular(path, _LARGEST)) or {}
    except FileNotFoundError:
        return {}


def _parse_mapping(data: bytes) -> dict[str, Any] | None:
    """The object in a JSON text; None where it is none."""
    try:
        found = parse_json(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
