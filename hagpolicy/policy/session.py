"""The one place that opens an ONNX session: one thread, no spinning, on the CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hagpolicy._extras import require
from hagpolicy.errors import BundleError
from hagpolicy.policy.graph.model import Graph

if TYPE_CHECKING:
    import onnxruntime

_GPU = "or 'hagpolicy[gpu]' where onnxruntime-gpu is used for other models"


def open_session(model: bytes | Graph, outputs: Sequence[str] | None = None) -> onnxruntime.InferenceSession:
    """A session for a model, which onnxruntime gets written anew from what was understood of it.

    Args:
        model: bytes of an ONNX file, or what was read from it.
        outputs: that will be asked for; None: all.

    One thread: a policy's graph takes microseconds, less than waking a second thread. No spinning:
    a waiting thread must not eat the processor that generates tokens.

    Raises:
        MissingExtra: no onnxruntime is installed; names both extras that bring one.
        BundleError: the model is no policy's graph, or onnxruntime cannot read it.
    """
    # From 1.32 on it keeps a device id and events below the user's home and reports them, unless told before it loads.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    onnxruntime = require("onnxruntime", "cpu", "running a policy", _GPU)
    graph = model if isinstance(model, Graph) else Graph(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised, and need not be printed too
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(graph.encode(outputs), options, providers=["CPUExecutionProvider"])
    # onnxruntime's own exception types are not exported under a stable name.
    except Exception as error:
        raise BundleError(f"policy.onnx: onnxruntime {onnxruntime.__version__} cannot load it: {error}") from error
