"""The one place that opens an ONNX session: one thread, no spinning, on the CPU unless something else is asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

from hagpolicy._extras import require
from hagpolicy.errors import BundleError, InvalidInput, MissingExtra
from hagpolicy.policy.graph.model import Graph

if TYPE_CHECKING:
    import onnxruntime

_GPU = "or 'hagpolicy[gpu]' where onnxruntime-gpu is used for other models"
CPU = "CPUExecutionProvider"
# What "auto" takes the first of. TensorRT is not among them: it compiles an engine for minutes.
_AUTO = ("CUDAExecutionProvider", "ROCMExecutionProvider", "DmlExecutionProvider")
# All of them write into the one folder `onnxruntime`.
_DISTRIBUTIONS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-rocm",
    "onnxruntime-migraphx",
    "onnxruntime-qnn",
)

Providers = Sequence[str | tuple[str, Mapping[str, Any]]] | Literal["auto"] | None
"""Of onnxruntime, in the order of preference: names, or names with their options; "auto": the GPU's where there is one,
else the CPU's; None: the CPU's."""


def parse_providers(names: Sequence[str]) -> Providers:
    """The providers of words, such as those of a command line: "auto" alone, names, or None where there are none."""
    given = [name.strip() for name in names if name.strip()]
    return "auto" if given == ["auto"] else given or None


def open_session(
    model: bytes | Graph, outputs: Sequence[str] | None = None, providers: Providers = None
) -> onnxruntime.InferenceSession:
    """A session for a model, which onnxruntime gets written anew from what was understood of it.

    Args:
        model: bytes of an ONNX file, or what was read from it.
        outputs: that will be asked for; None: all.
        providers: see `Providers`. What onnxruntime leaves out in silence is an error for those that are named, and a
            warning for "auto".

    One thread: a policy's graph takes microseconds, less than waking a second thread. No spinning:
    a waiting thread must not eat the processor that generates tokens.

    Raises:
        MissingExtra: no onnxruntime is installed, or remains of one; names both extras that bring one.
        InvalidInput: a provider that this onnxruntime does not have or cannot open.
        BundleError: the model is no policy's graph, or onnxruntime cannot read it.
    """
    # From 1.32 on it keeps a device id and events below the user's home and reports them, unless told before it loads.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    onnxruntime = _import_onnxruntime()
    wanted = _choose_providers(onnxruntime, providers)
    graph = model if isinstance(model, Graph) else Graph(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised, and need not be printed too
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(graph.encode(outputs), options, providers=wanted)
    # onnxruntime's own exception types are not exported under a stable name.
    except Exception as error:
        raise BundleError(f"policy.onnx: onnxruntime {onnxruntime.__version__} cannot load it: {error}") from error
    _check_providers(wanted, session.get_providers(), named=providers not in (None, "auto"))
    return session


def _import_onnxruntime() -> Any:
    """The module. Raises MissingExtra where there is none, or what is left of one after another was uninstalled."""
    try:
        found = require("onnxruntime", "cpu", "running a policy", _GPU)
        if not hasattr(found, "InferenceSession"):
            raise MissingExtra("the package 'onnxruntime' is there and has no InferenceSession")
    except MissingExtra as error:
        installed = list_onnxruntimes()
        if not installed:
            raise
        do = f"pip uninstall -y {' '.join(installed)}, then pip install the one that you need"
        raise MissingExtra(
            f"{error}; pip lists {' and '.join(installed)}, whose files are gone or another's: {do}"
        ) from error
    return found


def list_onnxruntimes() -> list[str]:
    """The installed distributions that bring the module `onnxruntime`; more than one share its folder, in which the
    last to be installed has overwritten the others."""
    found = []
    for name in _DISTRIBUTIONS:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        found.append(name)
    return found


def _choose_providers(onnxruntime: Any, providers: Providers) -> list[Any]:
    """The providers to open a session with. Raises InvalidInput for one that this onnxruntime does not have."""
    available = onnxruntime.get_available_providers()
    if providers is None:
        return [CPU]
    if isinstance(providers, str):
        if providers != "auto":
            raise InvalidInput("providers", f"'auto', or a list of {', '.join(available)}", providers)
        return [*[name for name in _AUTO if name in available][:1], CPU]
    wanted = [one if isinstance(one, str) else (one[0], dict(one[1])) for one in providers]
    for name in map(_name_of, wanted):
        if name not in available:
            raise InvalidInput("providers", f"some of {', '.join(available)}", name, _explain_missing(name))
    if not wanted:
        raise InvalidInput("providers", f"some of {', '.join(available)}", "none", "Leave it out for the CPU.")
    return wanted


def _check_providers(wanted: Sequence[Any], opened: Sequence[str], *, named: bool) -> None:
    """Raise, or for what nobody named warn, where onnxruntime went on without a provider that was wanted."""
    missing = [name for name in map(_name_of, wanted) if name not in opened]
    if not missing:
        return
    do = _explain_missing(missing[0])
    if named:
        raise InvalidInput("providers", f"{missing[0]}, which this onnxruntime lists", f"{', '.join(opened)} alone", do)
    warnings.warn(f"{missing[0]} could not be opened, the policy runs on {', '.join(opened)}: {do}", stacklevel=4)


def _name_of(provider: Any) -> str:
    return provider if isinstance(provider, str) else str(provider[0])


def _explain_missing(name: str) -> str:
    """What to do where a provider is not to be had."""
    installed = list_onnxruntimes()
    if len(installed) > 1:
        return (
            f"{' and '.join(installed)} are installed at once and share one folder, in which the last one overwrote "
            f"the others: pip uninstall -y {' '.join(installed)}, then pip install the one that you need."
        )
    if name == "CUDAExecutionProvider" and installed == ["onnxruntime-gpu"]:
        return "See that the driver, CUDA and cuDNN of this onnxruntime-gpu are installed: onnxruntime.preload_dlls()."
    return f"Install the onnxruntime that brings it ({', '.join(installed) or 'none'} is installed)."
