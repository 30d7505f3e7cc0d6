"""The one place that opens an ONNX session: one thread, no spinning, on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hagpolicy.errors import BundleError, MissingExtra

if TYPE_CHECKING:
    import onnxruntime


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """A session for a serialized ONNX model.

    One thread: a policy's graph takes microseconds, less than waking a second thread. No spinning:
    a waiting thread must not eat the processor that generates tokens.

    Raises:
        MissingExtra: no onnxruntime is installed; names both extras that bring one.
        BundleError: onnxruntime cannot read the model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != "onnxruntime":
            raise
        raise MissingExtra(
            "running a policy needs an onnxruntime: pip install 'hagpolicy[cpu]', "
            "or 'hagpolicy[gpu]' where onnxruntime-gpu is used for other models"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    # onnxruntime's own exception types are not exported under a stable name.
    except Exception as error:
        raise BundleError(f"policy.onnx: onnxruntime {onnxruntime.__version__} cannot load it: {error}") from error
